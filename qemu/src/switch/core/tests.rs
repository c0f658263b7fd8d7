//! The laws of the switch, as pictures and as properties.

use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{super::cable::Loss, *};

const MS: Duration = Duration::from_millis(1);

/// A frame of a few words: `a>b hello`. Machines are letters, `*` is everybody.
fn frame(text: &str) -> Vec<u8> {
    let (addresses, payload) = text.split_once(' ').unwrap_or((text, ""));
    let (source, destination) = addresses.split_once('>').expect("from>to");
    let mac = |name: &str| match name {
        "*" => [0xff; 6],
        _ => [0x52, 0x54, 0, 0, 0, name.as_bytes()[0]],
    };
    [&mac(destination), &mac(source), &[0x88, 0xb5][..], payload.as_bytes()].concat()
}

fn words(frame: &[u8]) -> String {
    let name = |mac: &[u8]| if mac[0] == 0xff { '*' } else { char::from(mac[5]) };
    let payload = String::from_utf8_lossy(&frame[14..]);
    format!("{}>{} {payload}", name(&frame[6..12]), name(&frame[..6])).trim_end().to_owned()
}

/// Plays a script on a switch of three ports and draws what comes out. A line is a time in ms and
/// `PORT: frame`, `PORT = cable`, or nothing (a tick).
fn check(script: &str, expected: Expect) {
    let mut switch = Switch::new(7);
    for _ in 0..3 {
        switch.plug();
    }
    let mut picture = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (time, what) = line.split_once(' ').unwrap_or((line, ""));
        let event = if let Some((port, text)) = what.split_once(": ") {
            Event::Frame { from: port.parse().expect("port"), frame: frame(text) }
        } else if let Some((port, text)) = what.split_once(" = ") {
            Event::Cable { port: port.parse().expect("port"), cable: cable(text) }
        } else {
            Event::Tick
        };
        for effect in switch.step(event, MS * time.parse().expect("ms")) {
            picture += &match effect {
                Effect::Deliver { to, frame } => format!("{time}: {to} gets {}\n", words(&frame)),
                Effect::WakeAt(at) => format!("{time}: wake at {at:?}\n"),
            };
        }
    }
    expected.assert_eq(&picture);
}

fn cable(text: &str) -> Cable {
    let whole = Cable::default();
    match text.split_once(' ') {
        None if text == "cut" => Cable { cut: true, ..whole },
        Some(("slow", ms)) => Cable { delay: MS * ms.parse().expect("ms"), ..whole },
        Some(("lossy", share)) => Cable { loss: share.parse().expect("share"), ..whole },
        Some(("rate", bytes)) => {
            Cable { bytes_per_second: Some(bytes.parse().expect("bytes")), ..whole }
        }
        Some(_) | None => whole,
    }
}

#[test]
fn what_is_for_everybody_reaches_everybody_but_its_sender() {
    check(
        "0 0: a>* who",
        expect![[r#"
            0: 1 gets a>* who
            0: 2 gets a>* who
        "#]],
    );
}

#[test]
fn a_machine_that_has_spoken_is_found_and_a_silent_one_is_searched_for() {
    check(
        "0 0: a>b first
         1 1: b>a answer
         2 0: a>b second",
        expect![[r#"
            0: 1 gets a>b first
            0: 2 gets a>b first
            1: 0 gets b>a answer
            2: 1 gets a>b second
        "#]],
    );
}

#[test]
fn a_machine_that_moved_is_found_at_its_new_port() {
    check(
        "0 1: b>* here
         1 2: b>* moved
         2 0: a>b found",
        expect![[r#"
            0: 0 gets b>* here
            0: 2 gets b>* here
            1: 0 gets b>* moved
            1: 1 gets b>* moved
            2: 2 gets a>b found
        "#]],
    );
}

#[test]
fn a_machine_that_was_silent_for_five_minutes_is_searched_for_again() {
    check(
        "0 1: b>* here
         299999 0: a>b known
         300000 0: a>b forgotten",
        expect![[r#"
            0: 0 gets b>* here
            0: 2 gets b>* here
            299999: 1 gets a>b known
            300000: 1 gets a>b forgotten
            300000: 2 gets a>b forgotten
        "#]],
    );
}

#[test]
fn a_frame_for_its_own_port_goes_nowhere() {
    check(
        "0 0: a>* one
         1 0: b>a two",
        expect![[r#"
            0: 1 gets a>* one
            0: 2 gets a>* one
        "#]],
    );
}

#[test]
fn a_frame_that_claims_to_come_from_everybody_is_dropped() {
    check("0 0: *>b hostile", expect![[""]]);
}

#[test]
fn nothing_crosses_a_cut_cable_in_either_direction_and_all_does_once_it_is_mended() {
    check(
        "0 1 = cut
         1 0: a>* lost
         2 1: b>* lost
         3 1 = whole
         4 0: a>* back",
        expect![[r#"
            1: 2 gets a>* lost
            4: 1 gets a>* back
            4: 2 gets a>* back
        "#]],
    );
}

#[test]
fn what_is_on_a_cable_that_is_cut_is_lost_with_it() {
    check(
        "0 1 = slow 50
         1 1: b>* doomed
         20 1 = cut
         30 1 = whole
         60
         61 1: b>* fine",
        expect![[r#"
            1: wake at 51ms
            61: 0 gets b>* fine
            61: 2 gets b>* fine
        "#]],
    );
}

#[test]
fn a_slow_cable_holds_every_frame_for_its_delay() {
    check(
        "0 1 = slow 50
         10 0: a>* ping
         60
         61 1: b>a pong
         111",
        expect![[r#"
            10: 2 gets a>* ping
            10: wake at 60ms
            60: 1 gets a>* ping
            61: wake at 111ms
            111: 0 gets b>a pong
        "#]],
    );
}

#[test]
fn two_slow_cables_add_up() {
    check(
        "0 0 = slow 10
         0 1 = slow 20
         0 0: a>* ping
         10
         30",
        expect![[r#"
            0: wake at 10ms
            10: 2 gets a>* ping
            10: wake at 30ms
            30: 1 gets a>* ping
        "#]],
    );
}

#[test]
fn a_cable_that_got_faster_does_not_let_frames_overtake() {
    check(
        "0 1 = slow 50
         1 1: b>* first
         2 1 = whole
         3 1: b>* second
         51",
        expect![[r#"
            1: wake at 51ms
            2: wake at 51ms
            3: wake at 51ms
            51: 0 gets b>* first
            51: 2 gets b>* first
            51: 0 gets b>* second
            51: 2 gets b>* second
        "#]],
    );
}

#[test]
fn a_narrow_cable_takes_one_frame_after_the_other() {
    // A frame of 20 bytes at 1000 bytes/s takes 20 ms.
    check(
        "0 0 = rate 1000
         0 0: a>* 123456
         0 0: a>* 234567
         20
         40",
        expect![[r#"
            0: wake at 20ms
            0: wake at 20ms
            20: 1 gets a>* 123456
            20: 2 gets a>* 123456
            20: wake at 40ms
            40: 1 gets a>* 234567
            40: 2 gets a>* 234567
        "#]],
    );
}

#[test]
fn a_late_wake_up_delivers_all_that_was_due() {
    check(
        "0 0 = slow 10
         0 1 = slow 10
         0 0: a>* one
         1000",
        expect![[r#"
            0: wake at 10ms
            1000: 2 gets a>* one
            1000: 1 gets a>* one
        "#]],
    );
}

#[test]
fn a_full_cable_drops_instead_of_growing_for_ever() {
    let mut switch = Switch::new(0);
    switch.plug();
    switch.plug();
    switch.step(Event::Cable { port: 1, cable: cable("slow 1000") }, MS);
    for _ in 0..2 * QUEUE {
        switch.step(Event::Frame { from: 0, frame: frame("a>b") }, MS);
    }
    let out = switch.step(Event::Tick, Duration::from_secs(5));
    assert_eq!(out.len(), QUEUE);
    // And it is usable again afterwards.
    switch.step(Event::Frame { from: 0, frame: frame("a>b") }, Duration::from_secs(6));
    assert_eq!(switch.step(Event::Tick, Duration::from_secs(8)).len(), 1);
}

#[test]
fn a_frame_that_is_too_short_for_ethernet_is_dropped() {
    let mut switch = Switch::new(0);
    switch.plug();
    switch.plug();
    for length in 0..HEADER {
        assert!(switch.step(Event::Frame { from: 0, frame: vec![0; length] }, MS).is_empty());
    }
}

/// How many of 1000 frames get across a cable that loses `share`.
fn survivors(seed: u64, share: f64) -> Vec<usize> {
    let mut switch = Switch::new(seed);
    switch.plug();
    switch.plug();
    let loss = Loss::percent(share).expect("share");
    switch.step(Event::Cable { port: 1, cable: Cable { loss, ..Cable::default() } }, MS);
    (0..1000)
        .filter(|_| !switch.step(Event::Frame { from: 0, frame: frame("a>b") }, MS).is_empty())
        .collect()
}

#[test]
fn a_lossy_cable_loses_about_what_it_says_and_the_same_frames_by_the_same_seed() {
    for (share, least, most) in [(0.0, 1000, 1000), (10.0, 860, 940), (100.0, 0, 0)] {
        let got = survivors(42, share).len();
        assert!((least..=most).contains(&got), "{share}%: {got} of 1000 arrive");
    }
    assert_eq!(survivors(1, 30.0), survivors(1, 30.0));
    assert_ne!(survivors(1, 30.0), survivors(2, 30.0));
}

#[derive(Clone, Debug)]
enum Act {
    Say { port: Port, to: char, after: u64 },
    Change { port: Port, cable: Cable },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let say = (0..4usize, prop::sample::select(vec!['a', 'b', 'c', 'd', '*', 'x']), 0..40u64)
        .prop_map(|(port, to, after)| Act::Say { port, to, after });
    let cable = (any::<bool>(), 0..30u32, 0..3u8).prop_map(|(cut, delay, loss)| Cable {
        cut,
        delay: MS * delay,
        loss: Loss::percent(f64::from(loss) * 30.0).expect("share"),
        bytes_per_second: (delay % 2 == 0).then_some(2000),
    });
    let change = (0..4usize, cable).prop_map(|(port, cable)| Act::Change { port, cable });
    prop::collection::vec(prop_oneof![4 => say, 1 => change], 1..60)
}

proptest! {
    #[test]
    fn nobody_hears_himself_or_a_frame_twice_or_out_of_order(acts in acts(), seed: u64) {
        let mut switch = Switch::new(seed);
        for _ in 0..4 {
            switch.plug();
        }
        let mut now = Duration::ZERO;
        let mut heard: Vec<(Port, Vec<u8>)> = Vec::new();
        let mut hear = |effects: Vec<Effect>, now: Duration| {
            for effect in effects {
                match effect {
                    Effect::Deliver { to, frame } => heard.push((to, frame)),
                    Effect::WakeAt(at) => assert!(at > now, "a wake-up in the past"),
                }
            }
        };
        for (number, act) in acts.iter().enumerate() {
            match *act {
                Act::Say { port, to, after } => {
                    now += MS * after as u32;
                    let name = char::from(b'a' + port as u8);
                    let frame = frame(&format!("{name}>{to} {number:04}"));
                    hear(switch.step(Event::Frame { from: port, frame }, now), now);
                }
                Act::Change { port, cable } => {
                    hear(switch.step(Event::Cable { port, cable }, now), now);
                }
            }
        }
        hear(switch.step(Event::Tick, now + Duration::from_secs(3600)), now);
        prop_assert!(switch.flying.is_empty());
        for from in b'a'..=b'd' {
            for to in 0..4 {
                let numbers: Vec<&[u8]> = heard
                    .iter()
                    .filter(|(port, frame)| *port == to && frame[11] == from)
                    .map(|(_, frame)| &frame[14..])
                    .collect();
                prop_assert!(numbers.is_sorted_by(|a, b| a < b), "twice or out of order");
                prop_assert!(to != usize::from(from - b'a') || numbers.is_empty(), "an echo");
            }
        }
    }

    #[test]
    fn a_cut_cable_is_silent(acts in acts(), seed: u64, cut in 0..4usize) {
        let mut switch = Switch::new(seed);
        for _ in 0..4 {
            switch.plug();
        }
        switch.step(Event::Cable { port: cut, cable: cable("cut") }, Duration::ZERO);
        let mut now = Duration::ZERO;
        for act in acts {
            let Act::Say { port, to, after } = act else { continue };
            now += MS * after as u32;
            let name = char::from(b'a' + port as u8);
            let frame = frame(&format!("{name}>{to}"));
            for effect in switch.step(Event::Frame { from: port, frame }, now) {
                if let Effect::Deliver { to, .. } = effect {
                    prop_assert!(to != cut && port != cut);
                }
            }
        }
    }
}
