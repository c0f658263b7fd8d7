//! What a machine's report means for what is known of the machine: pure.

use jiff::Timestamp;
use omaha::{App, Event, Kind, Outcome};
use serde::Serialize;

/// What one machine said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When it came.
    pub at: Timestamp,
    /// Its application: a machine id is only one machine's within it.
    pub family: Family,
    /// Which machine.
    pub machine: String,
    /// What the operator calls it.
    pub alias: String,
    /// What it runs.
    pub version: String,
    /// What it was made for.
    pub board: String,
    /// Its channel.
    pub channel: String,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// What kind of system a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Ours.
    Pithos,
    /// Container Linux or Flatcar.
    Coreos,
}

/// How far a machine is with an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing is under way.
    #[default]
    Idle,
    /// It fetches.
    Downloading,
    /// It has all of it, and checks and installs it.
    Installing,
    /// It waits for a reboot.
    Installed,
    /// The last update failed.
    Failed,
}

/// What is known of a machine's update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// How far it is.
    pub phase: Phase,
    /// The version that it goes to, if it said so.
    pub target: String,
    /// Why it failed, by number; 0 if it did not.
    pub code: u32,
    /// And in words.
    pub cause: String,
}

impl Report {
    /// What an application's part of a request says; nothing, if it does not say which machine.
    pub fn of(app: &App, at: Timestamp) -> Option<Self> {
        let family = Family::of(app)?;
        let or = |text: &str, other: &str| {
            if text.is_empty() { other.to_owned() } else { text.to_owned() }
        };
        Some(Self {
            at,
            family,
            machine: app.machine.clone()?,
            alias: app.alias.clone().unwrap_or_default(),
            version: or(&app.version, "0.0.0"),
            board: or(&app.board, "unknown"),
            channel: or(&app.channel, "stable"),
            events: app.events.clone(),
        })
    }
}

impl Family {
    /// Whose application it is, if it is one that is known here.
    pub fn of(app: &App) -> Option<Self> {
        let all = [(omaha::PITHOS, Self::Pithos), (omaha::COREOS, Self::Coreos)];
        all.into_iter().find(|(id, _)| app.is(id)).map(|(_, family)| family)
    }

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pithos => "pithos",
            Self::Coreos => "coreos",
        }
    }
}

impl Phase {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Downloading => "downloading",
            Self::Installing => "installing",
            Self::Installed => "installed",
            Self::Failed => "failed",
        }
    }

    /// What was stored.
    pub fn read(text: &str) -> Self {
        match text {
            "downloading" => Self::Downloading,
            "installing" => Self::Installing,
            "installed" => Self::Installed,
            "failed" => Self::Failed,
            _ => Self::Idle,
        }
    }
}

impl Progress {
    /// What is known after a report. `ran` is what ran before it, if the machine is known.
    pub fn after(self, ran: Option<&str>, report: &Report) -> Self {
        // A machine that runs another version than before is through with it, whatever it forgot to
        // say; and one that asks again without having begun anew is still where it was.
        let moved = ran.is_some_and(|ran| ran != report.version);
        let start = if moved { Self::default() } else { self };
        report.events.iter().fold(start, |progress, event| progress.step(event))
    }

    fn step(self, event: &Event) -> Self {
        let target = event.next.clone().unwrap_or(self.target);
        let at = |phase| Self { phase, target: target.clone(), code: 0, cause: String::new() };
        match (event.kind, event.result) {
            (Kind::Unknown | Kind::Other(_), _) => Self { target, ..self },
            (
                Kind::DownloadComplete
                | Kind::InstallComplete
                | Kind::UpdateComplete
                | Kind::DownloadStarted
                | Kind::DownloadFinished,
                Outcome::Failed,
            ) => Self {
                phase: Phase::Failed,
                target,
                code: event.code,
                cause: event.cause.clone().unwrap_or_default(),
            },
            (Kind::UpdateComplete, Outcome::Rebooted) => Self::default(),
            (Kind::DownloadStarted, Outcome::Success | Outcome::Rebooted) => at(Phase::Downloading),
            (
                Kind::DownloadFinished | Kind::DownloadComplete,
                Outcome::Success | Outcome::Rebooted,
            ) => at(Phase::Installing),
            (Kind::InstallComplete, Outcome::Success | Outcome::Rebooted)
            | (Kind::UpdateComplete, Outcome::Success) => at(Phase::Installed),
            (
                Kind::DownloadComplete
                | Kind::InstallComplete
                | Kind::UpdateComplete
                | Kind::DownloadStarted
                | Kind::DownloadFinished,
                Outcome::Other(_),
            ) => Self { target, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn event(kind: u32, result: u32) -> Event {
        Event { kind: kind.into(), result: result.into(), ..Event::default() }
    }

    fn check(reports: &[(&str, Vec<Event>)], expect: Expect) {
        let (mut progress, mut ran) = (Progress::default(), None);
        let mut text = String::new();
        for (version, events) in reports {
            let report = Report {
                at: Timestamp::UNIX_EPOCH,
                family: Family::Pithos,
                machine: "m".to_owned(),
                alias: String::new(),
                version: (*version).to_owned(),
                board: String::new(),
                channel: "stable".to_owned(),
                events: events.clone(),
            };
            progress = progress.after(ran, &report);
            ran = Some(*version);
            let Progress { phase, target, code, cause } = &progress;
            text += &format!("{version}: {} `{target}` {code} `{cause}`\n", phase.as_str());
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn an_update_goes_through_its_phases() {
        let begun = Event { next: Some("1.1".to_owned()), ..event(13, 1) };
        check(
            &[
                ("1.0", vec![]),
                ("1.0", vec![begun]),
                ("1.0", vec![event(14, 1)]),
                ("1.0", vec![event(3, 1)]),
                ("1.0", vec![]),
                ("1.1", vec![event(3, 2)]),
            ],
            expect![[r#"
                1.0: idle `` 0 ``
                1.0: downloading `1.1` 0 ``
                1.0: installing `1.1` 0 ``
                1.0: installed `1.1` 0 ``
                1.0: installed `1.1` 0 ``
                1.1: idle `` 0 ``
            "#]],
        );
    }

    #[test]
    fn a_failure_stays_until_something_else_begins() {
        let failed = Event {
            code: 44,
            next: Some("1.1".to_owned()),
            cause: Some("it hung".to_owned()),
            ..event(3, 0)
        };
        check(
            &[("1.0", vec![failed]), ("1.0", vec![]), ("1.0", vec![event(13, 1)])],
            expect![[r#"
            1.0: failed `1.1` 44 `it hung`
            1.0: failed `1.1` 44 `it hung`
            1.0: downloading `1.1` 0 ``
        "#]],
        );
    }

    #[test]
    fn a_machine_that_was_installed_anew_begins_anew() {
        check(
            &[("1.0", vec![event(13, 1)]), ("1.2", vec![])],
            expect![[r#"
            1.0: downloading `` 0 ``
            1.2: idle `` 0 ``
        "#]],
        );
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        check(
            &[("1.0", vec![event(13, 1), event(99, 1), event(14, 9)])],
            expect![[r#"
            1.0: downloading `` 0 ``
        "#]],
        );
    }

    #[test]
    fn a_request_without_a_machine_is_nobodys() {
        let app = App { id: omaha::PITHOS.to_owned(), ..App::default() };
        assert_eq!(Report::of(&app, Timestamp::UNIX_EPOCH), None);
        let app = App { id: "x".to_owned(), machine: Some("m".to_owned()), ..App::default() };
        assert_eq!(Report::of(&app, Timestamp::UNIX_EPOCH), None);
    }
}
