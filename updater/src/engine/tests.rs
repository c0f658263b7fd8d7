use expect_test::{Expect, expect};
use proptest::{collection::vec, prelude::*};

use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn engine() -> Engine {
    Engine::new(Means::All, None, 1, Now::after(0))
}

fn failed() -> Event {
    let failure = Failure { code: Code::Transfer, cause: "no answer".to_owned() };
    Event::Ended(End::Failed(failure))
}

fn offered() -> Event {
    Event::Offered { version: version("1.1"), size_bytes: 1000 }
}

fn installed() -> Event {
    Event::Ended(End::Installed { version: version("1.1") })
}

/// An engine after these events, at time 0.
fn after(events: &[Event]) -> Engine {
    let mut engine = engine();
    for event in events {
        engine.step(event.clone(), Now::after(0));
    }
    engine
}

fn operator() -> Event {
    Event::Attempt(Asked::Operator)
}

fn check(mut engine: Engine, events: &[Event], expect: Expect) {
    let mut picture = String::new();
    for event in events {
        let effects = engine.step(event.clone(), Now::after(0));
        let state = engine.state().operation().trim_start_matches("UPDATE_STATUS_");
        picture.push_str(&format!("{event:?}\n    {state} {effects:?}\n"));
    }
    expect.assert_eq(&picture);
}

#[test]
fn an_update_goes_from_a_check_to_the_need_of_a_reboot() {
    check(
        engine(),
        &[
            operator(),
            offered(),
            Event::Fetched { bytes: 500 },
            Event::Fetched { bytes: 501 },
            Event::Fetched { bytes: 2000 },
            Event::Verifying,
            Event::Finalizing,
            installed(),
        ],
        expect![[r#"
            Attempt(Operator)
                CHECKING_FOR_UPDATE [Work(Update(Operator)), Publish]
            Offered { version: Version("1.1"), size_bytes: 1000 }
                UPDATE_AVAILABLE [Publish]
            Fetched { bytes: 500 }
                DOWNLOADING [Publish]
            Fetched { bytes: 501 }
                DOWNLOADING []
            Fetched { bytes: 2000 }
                DOWNLOADING [Publish]
            Verifying
                VERIFYING [Publish]
            Finalizing
                FINALIZING [Publish]
            Ended(Installed { version: Version("1.1") })
                UPDATED_NEED_REBOOT [Record(Installed { version: Version("1.1") }), NeedReboot(Version("1.1")), Publish]
        "#]],
    );
}

#[test]
fn a_failure_is_written_down_before_the_engine_is_idle_again() {
    check(
        after(&[operator(), offered()]),
        &[failed(), Event::Tick, Event::Recorded],
        expect![[r#"
            Ended(Failed(Failure { code: Transfer, cause: "no answer" }))
                REPORTING_ERROR_EVENT [Record(Failed(Failure { code: Transfer, cause: "no answer" })), Publish]
            Tick
                REPORTING_ERROR_EVENT []
            Recorded
                IDLE [Publish]
        "#]],
    );
}

#[test]
fn a_reset_stops_what_is_under_way_and_an_attempt_waits_for_that() {
    check(
        after(&[operator(), offered()]),
        &[Event::Reset, Event::Fetched { bytes: 5 }, operator(), Event::Ended(End::Stopped)],
        expect![[r#"
            Reset
                IDLE [Stop, Publish]
            Fetched { bytes: 5 }
                IDLE []
            Attempt(Operator)
                IDLE []
            Ended(Stopped)
                CHECKING_FOR_UPDATE [Record(Stopped), Work(Update(Operator)), Publish]
        "#]],
    );
}

#[test]
fn a_reset_that_comes_too_late_finds_the_update_installed() {
    check(
        after(&[operator(), offered()]),
        &[Event::Reset, installed()],
        expect![[r#"
            Reset
                IDLE [Stop, Publish]
            Ended(Installed { version: Version("1.1") })
                UPDATED_NEED_REBOOT [Record(Installed { version: Version("1.1") }), NeedReboot(Version("1.1")), Publish]
        "#]],
    );
}

#[test]
fn a_reset_takes_back_what_waits_for_a_reboot() {
    check(
        after(&[operator(), offered(), installed()]),
        &[Event::Reset, Event::Ended(End::Discarded)],
        expect![[r#"
            Reset
                IDLE [NoReboot, Work(Discard), Publish]
            Ended(Discarded)
                IDLE [Publish]
        "#]],
    );
    // If that fails, it still boots next.
    check(
        after(&[operator(), offered(), installed()]),
        &[Event::Reset, failed()],
        expect![[r#"
            Reset
                IDLE [NoReboot, Work(Discard), Publish]
            Ended(Failed(Failure { code: Transfer, cause: "no answer" }))
                UPDATED_NEED_REBOOT [Record(Failed(Failure { code: Transfer, cause: "no answer" })), NeedReboot(Version("1.1")), Publish]
        "#]],
    );
}

#[test]
fn without_a_server_nothing_is_asked_and_files_are_good() {
    let means = Means::Files { why: "no SERVER is configured".to_owned() };
    let mut engine = Engine::new(means, None, 1, Now::after(0));
    assert_eq!(engine.wake(), None);
    assert_eq!(engine.step(Event::Tick, Now::after(100_000)), []);
    check(
        engine,
        &[operator(), Event::Attempt(Asked::File("/run/usb/update".into()))],
        expect![[r#"
            Attempt(Operator)
                IDLE [Refuse("no SERVER is configured")]
            Attempt(File("/run/usb/update"))
                CHECKING_FOR_UPDATE [Work(Update(File("/run/usb/update"))), Publish]
        "#]],
    );
}

#[test]
fn without_a_key_nothing_is_installed_at_all() {
    let means = Means::Nothing { why: "no trusted root key".to_owned() };
    check(
        Engine::new(means, None, 1, Now::after(0)),
        &[operator(), Event::Attempt(Asked::File("/run/usb/update".into()))],
        expect![[r#"
            Attempt(Operator)
                IDLE [Refuse("no trusted root key")]
            Attempt(File("/run/usb/update"))
                IDLE [Refuse("no trusted root key")]
        "#]],
    );
}

#[test]
fn a_server_that_is_taken_away_stops_what_came_from_it() {
    let means = Means::Files { why: "no SERVER is configured".to_owned() };
    check(
        after(&[operator(), offered()]),
        &[Event::Configured(means), Event::Ended(End::Stopped), Event::Configured(Means::All)],
        expect![[r#"
            Configured(Files { why: "no SERVER is configured" })
                IDLE [Stop, Publish]
            Ended(Stopped)
                IDLE [Record(Stopped), Publish]
            Configured(All)
                IDLE [Publish]
        "#]],
    );
}

#[test]
fn a_version_that_is_installed_waits_for_its_reboot_after_a_restart_of_the_engine() {
    let engine = Engine::new(Means::All, Some(version("1.1")), 1, Now::after(0));
    check(
        engine,
        &[Event::Tick, operator()],
        expect![[r#"
        Tick
            UPDATED_NEED_REBOOT []
        Attempt(Operator)
            UPDATED_NEED_REBOOT []
    "#]],
    );
}

/// Minutes until the next check.
fn wait(engine: &Engine, seconds: u64) -> u64 {
    (engine.wake().unwrap().as_secs() - seconds) / 60
}

#[test]
fn checks_come_after_7_and_then_45_minutes_and_up_to_four_hours_while_they_fail() {
    for seed in 0..100 {
        let mut engine = Engine::new(Means::All, None, seed, Now::after(0));
        assert!((2..12).contains(&wait(&engine, 0)), "{engine:?}");
        let mut seconds = 0;
        for around in [45, 90, 180, 240, 240] {
            seconds = engine.wake().unwrap().as_secs();
            engine.step(Event::Tick, Now::after(seconds));
            engine.step(failed(), Now::after(seconds));
            engine.step(Event::Recorded, Now::after(seconds));
            let wait = wait(&engine, seconds);
            assert!((around - 5..around + 5).contains(&wait), "{wait} {engine:?}");
        }
        engine.step(operator(), Now::after(seconds));
        engine.step(Event::Ended(End::Nothing(Found::UpToDate)), Now::after(seconds));
        assert!((40..50).contains(&wait(&engine, seconds)), "{engine:?}");
    }
}

#[test]
fn two_machines_do_not_check_at_the_same_time() {
    let wake = |seed| Engine::new(Means::All, None, seed, Now::after(0)).wake();
    assert_ne!(wake(1), wake(2));
}

#[test]
fn a_release_that_opens_soon_is_looked_for_then() {
    let now = Now::after(0);
    let from = Some(now.wall + jiff::SignedDuration::from_mins(5));
    let mut engine = after(&[operator()]);
    let later = Found::Later { version: "1.1".to_owned(), from };
    engine.step(Event::Ended(End::Nothing(later)), now);
    assert!((5..20).contains(&wait(&engine, 0)), "{engine:?}");
}

#[test]
fn what_was_written_down_is_read_again() {
    for end in [
        End::Nothing(Found::KnownBad { version: "1.1".to_owned(), reason: "hangs".to_owned() }),
        End::Installed { version: version("1.1") },
        End::Failed(Failure { code: Code::Hash, cause: "segment 3".to_owned() }),
        End::Stopped,
        End::Discarded,
    ] {
        let text = serde_json::to_string(&end).unwrap();
        assert_eq!(serde_json::from_str::<End>(&text).unwrap(), end, "{text}");
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let later = Found::Later { version: "1.2".to_owned(), from: None };
    prop::sample::select(vec![
        Event::Tick,
        operator(),
        Event::Attempt(Asked::File("/run/usb/update".into())),
        Event::Reset,
        offered(),
        Event::Fetched { bytes: 10 },
        Event::Verifying,
        Event::Finalizing,
        Event::Ended(End::Nothing(Found::UpToDate)),
        Event::Ended(End::Nothing(later)),
        installed(),
        failed(),
        Event::Ended(End::Stopped),
        Event::Ended(End::Discarded),
        Event::Recorded,
        Event::Configured(Means::All),
        Event::Configured(Means::Files { why: "no SERVER is configured".to_owned() }),
        Event::Configured(Means::Nothing { why: "no key".to_owned() }),
    ])
}

proptest! {
    /// Every event in every state that can be reached: nobody works twice, whoever works is heard,
    /// and from wherever it is a reset and the end of what is under way lead to `Idle`.
    #[test]
    fn there_is_a_way_out_of_every_state(events in vec((any_event(), 0..20_000u64), 0..50)) {
        let (mut engine, mut seconds, mut working) = (engine(), 0, false);
        for (event, later) in events {
            seconds += later;
            let ended = matches!(event, Event::Ended(_));
            if ended && !working {
                // Nobody is there to say so.
                continue;
            }
            let before = engine.clone();
            let effects = engine.step(event.clone(), Now::after(seconds));
            let said = format!("{before:?} {event:?} {effects:?}");
            working &= !ended;
            let begins = effects.iter().filter(|effect| matches!(effect, Effect::Work(_))).count();
            prop_assert!(begins <= usize::from(!working), "{said}");
            working |= begins > 0;
            prop_assert!(!effects.contains(&Effect::Stop) || working, "{said}");
            let waits = matches!(engine.state,
                State::Working { .. } | State::Stopping { .. } | State::Discarding { .. });
            prop_assert_eq!(working, waits, "{}", said);
            let idle = matches!(engine.state, State::Idle { .. });
            prop_assert_eq!(idle && engine.means == Means::All, engine.wake().is_some(), "{}", said);
        }
        for event in [
            Event::Ended(End::Stopped),
            Event::Recorded,
            Event::Reset,
            Event::Ended(End::Discarded),
            Event::Reset,
            Event::Ended(End::Stopped),
        ] {
            engine.step(event, Now::after(seconds));
        }
        prop_assert!(matches!(engine.state, State::Idle { .. }), "{engine:?}");
    }
}
