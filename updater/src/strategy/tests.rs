use expect_test::{Expect, expect};
use jiff::tz::TimeZone;
use proptest::{
    prelude::{Just, any, prop},
    prop_assert, prop_oneof, proptest,
    strategy::Strategy as Choose,
};

use super::*;

fn policy(strategy: Strategy, windows: &str) -> Policy {
    let windows = window::parse(windows, &TimeZone::UTC, &|_| None).unwrap();
    Policy { strategy, windows, login_delay: Duration::from_secs(300) }
}

/// Tells the rebooter what happens, one a line: `SECONDS EVENT`. The picture is what it does.
fn play(rebooter: &mut Rebooter, script: &[(u64, Event)]) -> String {
    let mut picture = String::new();
    for (seconds, event) in script {
        let said = match event {
            Event::Configured(policy) => format!("Configured({:?})", policy.strategy),
            event => format!("{event:?}"),
        };
        let effects = rebooter.step(event.clone(), Now::after(*seconds));
        let waits = rebooter.waiting().unwrap_or_else(|| "nothing".to_owned());
        picture.push_str(&format!("{seconds} {said}\n    {effects:?}, waits for {waits}\n"));
    }
    picture
}

fn check(policy: Policy, script: &[(u64, Event)], expect: Expect) {
    expect.assert_eq(&play(&mut Rebooter::new(policy, false), script));
}

fn clear() -> Event {
    Event::Looked(Facts::default())
}

fn people(names: &[&str]) -> Event {
    let sessions = Sessions::Some(names.iter().map(|name| (*name).to_owned()).collect());
    Event::Looked(Facts { sessions, ..Facts::default() })
}

#[test]
fn reboot_reboots_as_soon_as_nothing_is_in_the_way() {
    check(
        policy(Strategy::Reboot, ""),
        &[(0, Event::Needed), (0, clear()), (900, Event::Tick)],
        expect![[r#"
            0 Needed
                [Look], waits for a look at what may be in the way
            0 Looked(Facts { inhibited: None, sessions: None })
                [Reboot], waits for the machine to go down
            900 Tick
                [Reboot], waits for the machine to go down
        "#]],
    );
}

#[test]
fn off_waits_for_an_operator_until_the_strategy_is_another() {
    check(
        policy(Strategy::Off, ""),
        &[
            (0, Event::Needed),
            (600, Event::Tick),
            (601, Event::Configured(policy(Strategy::Reboot, ""))),
            (601, clear()),
        ],
        expect![[r#"
            0 Needed
                [], waits for somebody to reboot it (REBOOT_STRATEGY=off)
            600 Tick
                [], waits for somebody to reboot it (REBOOT_STRATEGY=off)
            601 Configured(Reboot)
                [Look], waits for a look at what may be in the way
            601 Looked(Facts { inhibited: None, sessions: None })
                [Reboot], waits for the machine to go down
        "#]],
    );
}

#[test]
fn an_inhibit_file_is_in_the_way_until_it_is_gone() {
    let inhibited = Some("/run/pithos/update/inhibit".to_owned());
    check(
        policy(Strategy::Reboot, ""),
        &[
            (0, Event::Needed),
            (0, Event::Looked(Facts { inhibited, ..Facts::default() })),
            (30, Event::Tick),
            (30, clear()),
        ],
        expect![[r#"
            0 Needed
                [Look], waits for a look at what may be in the way
            0 Looked(Facts { inhibited: Some("/run/pithos/update/inhibit"), sessions: None })
                [], waits for /run/pithos/update/inhibit to go away
            30 Tick
                [Look], waits for a look at what may be in the way
            30 Looked(Facts { inhibited: None, sessions: None })
                [Reboot], waits for the machine to go down
        "#]],
    );
}

#[test]
fn who_is_logged_in_is_warned_once_and_waited_for_with_an_end() {
    check(
        policy(Strategy::Reboot, ""),
        &[
            (0, Event::Needed),
            (0, people(&["core"])),
            (30, Event::Tick),
            (30, people(&["core", "eve"])),
            (300, Event::Tick),
            (300, people(&["core"])),
        ],
        expect![[r#"
            0 Needed
                [Look], waits for a look at what may be in the way
            0 Looked(Facts { inhibited: None, sessions: Some(["core"]) })
                [Warn { text: "This machine reboots into a new version in 5 min. To keep it from that: touch /run/pithos/update/inhibit" }], waits for at most 300 s more: core logged in
            30 Tick
                [Look], waits for a look at what may be in the way
            30 Looked(Facts { inhibited: None, sessions: Some(["core", "eve"]) })
                [], waits for at most 270 s more: core, eve logged in
            300 Tick
                [Look], waits for a look at what may be in the way
            300 Looked(Facts { inhibited: None, sessions: Some(["core"]) })
                [Reboot], waits for the machine to go down
        "#]],
    );
}

#[test]
fn if_nobody_can_say_who_is_logged_in_somebody_may_be() {
    let sessions = Sessions::Unknown("no logind".to_owned());
    let unknown = Event::Looked(Facts { sessions, ..Facts::default() });
    let mut rebooter = Rebooter::new(policy(Strategy::Reboot, ""), false);
    rebooter.step(Event::Needed, Now::after(0));
    assert!(!rebooter.step(unknown.clone(), Now::after(0)).contains(&Effect::Reboot));
    rebooter.step(Event::Tick, Now::after(300));
    assert_eq!(rebooter.step(unknown, Now::after(300)), [Effect::Reboot]);
}

#[test]
fn a_lock_is_asked_for_again_and_again_with_longer_waits() {
    let refused = || Event::LockRefused { why: "taken by two".to_owned(), keeper: true };
    let mut rebooter = Rebooter::new(policy(Strategy::Fleetlock, ""), false);
    rebooter.step(Event::Needed, Now::after(0));
    let (mut seconds, mut waits) = (0, Vec::new());
    for _ in 0..8 {
        assert_eq!(rebooter.step(clear(), Now::after(seconds)), [Effect::Lock]);
        assert_eq!(rebooter.step(refused(), Now::after(seconds)), []);
        let wake = rebooter.wake().unwrap().as_secs();
        waits.push(wake - seconds);
        seconds = wake;
        assert_eq!(rebooter.step(Event::Tick, Now::after(seconds)), [Effect::Look]);
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(rebooter.step(clear(), Now::after(seconds)), [Effect::Lock]);
    assert_eq!(rebooter.step(Event::LockHad, Now::after(seconds)), [Effect::Look]);
    assert_eq!(rebooter.step(clear(), Now::after(seconds)), [Effect::Reboot]);
}

#[test]
fn a_lock_that_came_too_late_for_the_window_goes_back() {
    // The test's time begins on a Thursday at 00:00.
    check(
        policy(Strategy::EtcdLock, "00:00 10m"),
        &[(0, Event::Needed), (0, clear()), (600, Event::LockHad), (600, clear())],
        expect![[r#"
            0 Needed
                [Look], waits for a look at what may be in the way
            0 Looked(Facts { inhibited: None, sessions: None })
                [Lock], waits for the reboot lock
            600 LockHad
                [Look], waits for the reboot lock
            600 Looked(Facts { inhibited: None, sessions: None })
                [Unlock], waits for its reboot window, from 2026-11-20T00:00:00Z
        "#]],
    );
}

#[test]
fn a_login_after_the_lock_was_had_gives_it_back() {
    let mut rebooter = Rebooter::new(policy(Strategy::EtcdLock, ""), false);
    rebooter.step(Event::Needed, Now::after(0));
    rebooter.step(clear(), Now::after(0));
    rebooter.step(Event::LockHad, Now::after(9));
    let effects = rebooter.step(people(&["core"]), Now::after(9));
    assert!(effects.contains(&Effect::Unlock) && !effects.contains(&Effect::Reboot));
}

#[test]
fn best_effort_reboots_without_a_lock_only_where_nobody_keeps_locks() {
    for (strategy, keeper, reboots) in [
        (Strategy::BestEffort, false, true),
        (Strategy::BestEffort, true, false),
        (Strategy::EtcdLock, false, false),
    ] {
        let mut rebooter = Rebooter::new(policy(strategy, ""), false);
        rebooter.step(Event::Needed, Now::after(0));
        rebooter.step(clear(), Now::after(0));
        let refused = Event::LockRefused { why: "no such program".to_owned(), keeper };
        let effects = rebooter.step(refused, Now::after(0));
        assert_eq!(effects == [Effect::Reboot], reboots, "{strategy:?} {keeper}");
    }
}

#[test]
fn after_the_reboot_a_lock_goes_back_when_the_version_is_proven() {
    let mut rebooter = Rebooter::new(policy(Strategy::Fleetlock, ""), true);
    assert_eq!(rebooter.step(Event::Tick, Now::after(0)), []);
    assert_eq!(rebooter.step(Event::NotNeeded, Now::after(1)), []);
    assert_eq!(rebooter.step(Event::Healthy, Now::after(60)), [Effect::Unlock]);
    // Who did not hear it is told again.
    let lost = Event::NotReleased("no answer".to_owned());
    assert_eq!(rebooter.step(lost, Now::after(61)), []);
    assert_eq!(rebooter.wake(), Some(Duration::from_secs(361)));
    assert_eq!(rebooter.step(Event::Tick, Now::after(361)), [Effect::Unlock]);
    assert_eq!(rebooter.step(Event::Released, Now::after(361)), []);
    assert_eq!(rebooter.wake(), None);
}

#[test]
fn an_update_that_is_withdrawn_is_not_rebooted_for() {
    let mut rebooter = Rebooter::new(policy(Strategy::Fleetlock, ""), false);
    rebooter.step(Event::Needed, Now::after(0));
    rebooter.step(clear(), Now::after(0));
    assert_eq!(rebooter.step(Event::NotNeeded, Now::after(1)), []);
    // The answer to what was asked before.
    assert_eq!(rebooter.step(Event::LockHad, Now::after(2)), [Effect::Unlock]);
    assert_eq!(rebooter.waiting(), None);
}

#[test]
fn strategies_are_written_as_operators_know_them() {
    for word in ["reboot", "off", "best-effort", "etcd-lock", "fleetlock", "fleet_lock"] {
        assert!(word.parse::<Strategy>().is_ok(), "{word}");
    }
    expect!["`maybe` as REBOOT_STRATEGY; write reboot, off, best-effort, etcd-lock or fleetlock"]
        .assert_eq(&"maybe".parse::<Strategy>().unwrap_err().to_string());
}

fn any_event() -> impl Choose<Value = Event> {
    let facts = (any::<bool>(), 0..3u8).prop_map(|(inhibited, sessions)| {
        Event::Looked(Facts {
            inhibited: inhibited.then(|| "/etc/pithos/update/inhibit".to_owned()),
            sessions: match sessions {
                0 => Sessions::None,
                1 => Sessions::Some(vec!["core".to_owned()]),
                _ => Sessions::Unknown("no logind".to_owned()),
            },
        })
    });
    let strategy = prop::sample::select(vec![
        Strategy::Reboot,
        Strategy::Off,
        Strategy::BestEffort,
        Strategy::EtcdLock,
        Strategy::Fleetlock,
    ]);
    prop_oneof![
        Just(Event::Needed),
        Just(Event::NotNeeded),
        Just(Event::Healthy),
        facts,
        Just(Event::LockHad),
        any::<bool>().prop_map(|keeper| Event::LockRefused { why: "taken".to_owned(), keeper }),
        Just(Event::Released),
        Just(Event::NotReleased("no answer".to_owned())),
        Just(Event::Tick),
        (strategy, any::<bool>()).prop_map(|(strategy, window)| {
            Event::Configured(policy(strategy, if window { "00:00 1h" } else { "" }))
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_goes_on_and_never_reboots_with_something_in_the_way(
        events in prop::collection::vec((any_event(), 0..4000u64), 0..60),
        holds: bool,
    ) {
        let mut rebooter = Rebooter::new(policy(Strategy::Reboot, ""), holds);
        let mut seconds = 0;
        for (event, later) in events {
            seconds += later;
            let blocked = matches!(&event, Event::Looked(facts) if facts.inhibited.is_some());
            let now = Now::after(seconds);
            let before = rebooter.clone();
            let effects = rebooter.step(event.clone(), now);
            let reboots = effects.contains(&Effect::Reboot);
            let said = format!("{before:?} {event:?} {effects:?}");
            let again = matches!(before.state, State::Rebooting { .. });
            prop_assert!(!(reboots && blocked), "{said}");
            if reboots && !again {
                prop_assert!(window::is_open(&rebooter.policy.windows, now.wall)
                    || matches!(event, Event::LockRefused { .. }), "{said}");
                prop_assert!(rebooter.policy.strategy != Strategy::Off, "{said}");
            }
            // Who waits is woken, or is answered.
            let answered = matches!(rebooter.state, State::Calm | State::Locking | State::Locked);
            prop_assert!(answered || rebooter.wake().is_some(), "{said}");
            // Nobody else waits for a lock that waits here.
            let goes = matches!(rebooter.state, State::Locked | State::Rebooting { .. });
            prop_assert!(rebooter.lock != Lock::Held || goes, "{said}");
        }
    }
}
