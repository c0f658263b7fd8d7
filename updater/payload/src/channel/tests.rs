use proptest::prelude::*;

use super::*;
use crate::release::example;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}:00Z").parse().unwrap()
}

fn entry(text: &str) -> Entry {
    Entry {
        version: version(text),
        security_epoch: 1,
        variants: vec![example().variant],
        barrier: false,
        state: State::Open { waves: vec![] },
        countersignatures: vec![],
    }
}

fn channel(releases: Vec<Entry>) -> Channel {
    let name = "stable".into();
    Channel { format: FORMAT, name, releases, downgrades: vec![], dead_ends: vec![] }
}

fn machine(text: &str) -> Machine {
    Machine {
        version: version(text),
        variant: example().variant,
        security_epoch: 1,
        seed: [7; 16],
        bad: vec![],
    }
}

/// The version that is to be taken, or why none is.
fn said(channel: &Channel, machine: &Machine) -> String {
    match channel.offer(machine, at("21T12:00")) {
        Offer::UpToDate => "up to date".into(),
        Offer::Take(entry) => format!("take {}", entry.version),
        Offer::Later { entry, from: Some(from) } => format!("{} from {from}", entry.version),
        Offer::Later { entry, from: None } => format!("{} later", entry.version),
        Offer::KnownBad(entry) => format!("{} is bad", entry.version),
        Offer::DeadEnd(end) => end.reason.clone(),
    }
}

#[test]
fn the_newest_is_taken_and_a_barrier_is_not_jumped_over() {
    let mut channel = channel(vec![entry("1"), entry("2"), entry("10")]);
    assert_eq!(said(&channel, &machine("1")), "take 10");
    assert_eq!(said(&channel, &machine("10")), "up to date");
    channel.releases[1].barrier = true;
    assert_eq!(said(&channel, &machine("1")), "take 2");
    assert_eq!(said(&channel, &machine("2")), "take 10");
    // A barrier that is not open stops everybody before it.
    channel.releases[1].state = State::Paused { reason: "wait".into(), waves: vec![] };
    assert_eq!(said(&channel, &machine("1")), "2 later");
    assert_eq!(said(&channel, &machine("1.5")), "2 later");
    assert_eq!(said(&channel, &machine("3")), "take 10");
}

#[test]
fn what_is_withdrawn_or_paused_or_bad_or_for_others_is_passed_over() {
    let mut channel = channel(vec![entry("1"), entry("2"), entry("3")]);
    channel.releases[2].state = State::Withdrawn { reason: "eats disks".into() };
    assert_eq!(said(&channel, &machine("1")), "take 2");
    assert_eq!(said(&channel, &machine("3")), "up to date");
    channel.releases[2].state = State::Paused { reason: "look".into(), waves: vec![] };
    assert_eq!(said(&channel, &machine("1")), "take 2");
    assert_eq!(said(&channel, &machine("2")), "3 later");
    channel.releases[2].state = State::Open { waves: vec![] };
    channel.releases[2].variants.clear();
    assert_eq!(said(&channel, &machine("2")), "up to date");
    let bad = Machine { bad: vec![version("2")], ..machine("1") };
    assert_eq!(said(&channel, &bad), "2 is bad");
}

#[test]
fn a_dead_end_is_said() {
    let mut channel = channel(vec![entry("2")]);
    let reason = "its disk is too small: install anew".to_owned();
    channel.dead_ends.push(DeadEnd { version: version("1"), reason: reason.clone() });
    assert_eq!(said(&channel, &machine("1")), reason);
}

#[test]
fn the_security_epoch_never_falls_but_by_permission() {
    let mut channel = channel(vec![entry("1"), entry("2"), entry("3")]);
    channel.releases[1].security_epoch = 2;
    let newer = Machine { security_epoch: 2, ..machine("1") };
    assert_eq!(said(&channel, &newer), "take 2");
    assert_eq!(said(&channel, &Machine { security_epoch: 2, ..machine("2") }), "up to date");
    channel.downgrades.push(Downgrade { from: version("2"), to: version("1") });
    assert_eq!(said(&channel, &Machine { security_epoch: 2, ..machine("2") }), "take 1");
}

#[test]
fn what_machines_are_sent_back_from_is_for_nobody() {
    let mut channel = channel(vec![entry("1"), entry("2"), entry("3")]);
    channel.downgrades.push(Downgrade { from: version("3"), to: version("2") });
    assert_eq!(said(&channel, &machine("3")), "take 2");
    assert_eq!(said(&channel, &machine("2")), "up to date");
    assert_eq!(said(&channel, &machine("1")), "take 2");
    channel.releases.push(entry("4"));
    assert_eq!(said(&channel, &machine("2")), "take 4");
}

#[test]
fn a_wave_opens_to_its_share_at_its_time() {
    let mut channel = channel(vec![entry("2")]);
    let wave = |from: &str, percent| Wave { from: at(from), percent };
    channel.releases[0].state =
        State::Open { waves: vec![wave("20T00:00", 10), wave("22T00:00", 50)] };
    let mut count = [0; 3];
    for seed in 0..1000u128 {
        let machine = Machine { seed: seed.to_le_bytes(), ..machine("1") };
        match channel.offer(&machine, at("21T12:00")) {
            Offer::Take(_) => count[0] += 1,
            Offer::Later { from: Some(from), .. } => {
                assert_eq!(from, at("22T00:00"));
                count[1] += 1;
            }
            Offer::Later { from: None, .. } => count[2] += 1,
            other => panic!("{other:?}"),
        }
    }
    // 10 %, 40 % and 50 %, by seeds that are always the same.
    expect_test::expect!["[74, 424, 502]"].assert_eq(&format!("{count:?}"));
}

proptest! {
    #[test]
    fn a_release_that_was_open_to_a_machine_stays_open(
        seed: [u8; 16], percents in prop::collection::vec(0u8..=100, 0..5), hour in 0usize..24,
    ) {
        let mut percents = percents;
        percents.sort_unstable();
        let waves = percents
            .iter()
            .enumerate()
            .map(|(day, &percent)| Wave { from: at(&format!("{:02}T00:00", day + 1)), percent })
            .collect();
        let mut channel = channel(vec![entry("2")]);
        channel.releases[0].state = State::Open { waves };
        let machine = Machine { seed, ..machine("1") };
        let mut open = false;
        for day in 1..9 {
            let offer = channel.offer(&machine, at(&format!("{day:02}T{hour:02}:00")));
            let taken = matches!(offer, Offer::Take(_));
            prop_assert!(taken || !open);
            open = taken;
        }
        prop_assert!(open || percents.last().is_some_and(|last| *last < 100));
    }
}

#[test]
fn another_channel_is_not_taken_for_the_one_that_was_asked_for() {
    let text = channel(vec![entry("1")]).text();
    assert!(Channel::parse("stable", text.as_bytes()).is_ok());
    assert_eq!(
        Channel::parse("alpha", text.as_bytes()).unwrap_err().to_string(),
        "asked for the channel `alpha`, and got `stable`"
    );
}

#[test]
fn an_order_that_contradicts_itself_is_refused() {
    let said = |channel: Channel| {
        Channel::parse("stable", channel.text().as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        said(channel(vec![entry("2"), entry("1")])),
        "the channel `stable` is wrong: 2 comes before 1"
    );
    let mut back = channel(vec![entry("1")]);
    let wave = |percent| Wave { from: at("21T00:00"), percent };
    back.releases[0].state = State::Open { waves: vec![wave(50), wave(10)] };
    assert_eq!(said(back), "the channel `stable` is wrong: the waves of 1 go back");
}

#[test]
fn an_entry_and_its_description_have_to_agree() {
    let mut entry = entry("0.2.0");
    let channel = channel(vec![entry.clone()]);
    let release = example();
    let check = |machine: &Machine, entry: &Entry| {
        channel.permits(machine, entry, &release).map_err(|error| error.to_string())
    };
    assert_eq!(check(&machine("0.1.0"), &entry), Ok(()));
    assert_eq!(
        check(&Machine { security_epoch: 2, ..machine("0.1.0") }, &entry).unwrap_err(),
        "the channel `stable` is wrong: 0.2.0 has the security epoch 1, and this machine has run 2"
    );
    entry.version = version("0.3.0");
    assert_eq!(
        check(&machine("0.1.0"), &entry).unwrap_err(),
        "the channel `stable` is wrong: 0.3.0 for cloud-x86_64 is described as 0.2.0 for \
         cloud-x86_64"
    );
}
