//! What a machine tells a server about its updates, if an operator names one with `REPORT_SERVER`:
//! pure but for [`send`]. Nothing waits for it, and nothing fails because of it.
//!
//! What is told: a name of the machine that stands for nothing else, version, channel, variant, how
//! an update goes, and why it failed. Not told: addresses, names of hosts, the machine id.

use std::{
    io,
    time::{Duration, Instant},
};

use http_client::{Client, Clock, Request, Tries, Url};
use layout::Version;
use omaha::{App, Kind, Outcome};

use crate::{
    engine::{Code, End, Event, Failure, State},
    identity::Identity,
};

/// One report is tried for so long: a network may come up late.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// One try.
const TRY: Duration = Duration::from_secs(20);
/// Longer causes are cut.
const CAUSE_CHARS: usize = 200;

/// What is told when something happened to an engine that was at `state`. An empty report says that
/// the machine is there.
pub fn of(state: &State, event: &Event) -> Option<Vec<omaha::Event>> {
    let phase = match state {
        State::Working { phase, .. } => phase,
        State::Idle { .. }
        | State::NeedReboot { .. }
        | State::Reporting { .. }
        | State::Stopping { .. }
        | State::Discarding { .. } => return None,
    };
    let target = phase.target().map(|target| &target.version);
    match event {
        Event::Offered { version, .. } => Some(vec![good(Kind::DownloadStarted, Some(version))]),
        Event::Verifying => Some(vec![good(Kind::DownloadFinished, target)]),
        Event::Ended(End::Installed { version }) => {
            Some(vec![good(Kind::UpdateComplete, Some(version))])
        }
        Event::Ended(End::Failed(failure)) => Some(vec![bad(failure, target)]),
        Event::Ended(End::Nothing(_)) => Some(vec![]),
        Event::Ended(End::Stopped | End::Discarded)
        | Event::Tick
        | Event::Attempt(_)
        | Event::Reset
        | Event::Fetched { .. }
        | Event::Finalizing
        | Event::Recorded
        | Event::Configured(_) => None,
    }
}

/// The machine was updated, and what it runs now has proven itself.
pub fn updated(from: &Version) -> omaha::Event {
    omaha::Event {
        kind: Kind::UpdateComplete,
        result: Outcome::Rebooted,
        previous: Some(from.to_string()),
        ..omaha::Event::default()
    }
}

/// The machine came back from a version that was bad.
pub fn went_back(version: &Version, reason: &str) -> omaha::Event {
    let failure = Failure { code: Code::Rollback, cause: reason.to_owned() };
    bad(&failure, Some(version))
}

fn good(kind: Kind, to: Option<&Version>) -> omaha::Event {
    let next = to.map(ToString::to_string);
    omaha::Event { kind, result: Outcome::Success, next, ..omaha::Event::default() }
}

fn bad(failure: &Failure, to: Option<&Version>) -> omaha::Event {
    omaha::Event {
        kind: Kind::UpdateComplete,
        result: Outcome::Failed,
        code: failure.code as u32,
        next: to.map(ToString::to_string),
        cause: Some(failure.cause.chars().take(CAUSE_CHARS).collect()),
        ..omaha::Event::default()
    }
}

/// The text of a report of the machine that goes by `id`.
pub fn text(identity: &Identity, channel: &str, id: &str, events: Vec<omaha::Event>) -> String {
    let app = App {
        id: omaha::PITHOS.to_owned(),
        version: identity.version.to_string(),
        channel: channel.to_owned(),
        board: identity.variant.to_string(),
        machine: Some(id.to_owned()),
        ping: true,
        events,
        ..App::default()
    };
    let agent = concat!("update-engine-", env!("CARGO_PKG_VERSION"));
    omaha::Request { apps: vec![app] }.text(agent)
}

/// Sends a report; tries again while the server cannot be reached or has no time.
pub fn send(client: &Client, url: &Url, text: &str, clock: &dyn Clock) -> io::Result<()> {
    let mut request = Request::get(url.clone()).with("Content-Type", "text/xml");
    request.method = "POST";
    request.content = text.as_bytes().to_vec();
    let mut tries = Tries::new(clock.now(), PATIENCE);
    loop {
        let error = match client.ask(&request, Instant::now() + TRY) {
            Ok(answer) if (200..300).contains(&answer.status) => return Ok(()),
            Ok(answer) => {
                let why = format!("the server says {} {}", answer.status, answer.reason);
                let error = io::Error::other(why);
                if (400..500).contains(&answer.status) {
                    return Err(error);
                }
                error
            }
            Err(error) => error,
        };
        match tries.failed(clock.now()) {
            Some(wait) => clock.sleep(wait),
            None => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        clock::Now,
        engine::{Asked, Engine, Found, Means},
    };

    /// What an engine tells to which all of that happens.
    fn check(events: &[Event], expect: Expect) {
        let mut engine = Engine::new(Means::All, None, 1, Now::after(0));
        let mut text = String::new();
        for event in events {
            let told = of(engine.state(), event);
            engine.step(event.clone(), Now::after(0));
            for event in told.iter().flatten() {
                let next = event.next.as_deref().unwrap_or("?");
                let cause = event.cause.as_deref().unwrap_or_default();
                text += &format!("{event} -> {next} {cause}\n");
            }
            if told.is_some_and(|told| told.is_empty()) {
                text += "here\n";
            }
        }
        expect.assert_eq(&text);
    }

    fn offered() -> Event {
        Event::Offered { version: "1.2".parse().unwrap(), size_bytes: 1 }
    }

    fn failed(cause: &str) -> Event {
        let failure = Failure { code: Code::Transfer, cause: cause.to_owned() };
        Event::Ended(End::Failed(failure))
    }

    #[test]
    fn an_update_is_told_as_it_goes() {
        let installed = Event::Ended(End::Installed { version: "1.2".parse().unwrap() });
        check(
            &[
                Event::Attempt(Asked::Operator),
                offered(),
                Event::Fetched { bytes: 1 },
                Event::Verifying,
                Event::Finalizing,
                installed,
                Event::Recorded,
            ],
            expect![[r#"
                download started -> 1.2 
                download finished -> 1.2 
                update complete -> 1.2 
            "#]],
        );
    }

    #[test]
    fn a_failure_is_told_with_its_cause() {
        check(
            &[Event::Attempt(Asked::Operator), offered(), failed("no route")],
            expect![[r#"
            download started -> 1.2 
            update complete: error 9 -> 1.2 no route
        "#]],
        );
        check(
            &[Event::Attempt(Asked::Operator), failed(&"x".repeat(300))],
            expect![[r#"
            update complete: error 9 -> ? xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        "#]],
        );
    }

    #[test]
    fn a_check_without_an_update_says_that_the_machine_is_there() {
        let nothing = Event::Ended(End::Nothing(Found::UpToDate));
        check(
            &[Event::Attempt(Asked::Operator), nothing],
            expect![[r#"
            here
        "#]],
        );
    }

    #[test]
    fn what_comes_too_late_or_an_operator_stopped_is_not_told() {
        check(&[offered(), Event::Verifying, failed("late")], expect![""]);
        check(
            &[Event::Attempt(Asked::Operator), Event::Reset, failed("because it was stopped")],
            expect![""],
        );
    }
}
