//! The fleet at a glance: what is published beside what machines say. Pure.

use jiff::{SignedDuration, Timestamp};
use layout::Version;
use payload::{
    Channel,
    channel::{Entry, State},
    request::{Fate, Request},
};
use serde::Serialize;

use crate::{
    catalog::Catalog,
    fleet::{Family, Phase},
    store::{Failures, Group},
};

/// Releases of a channel that are shown: the newest ones.
const SHOWN: usize = 5;
/// Metadata that expires within that long is a matter for somebody.
const SOON: SignedDuration = SignedDuration::from_hours(48);

/// What the store knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Who runs what.
    pub groups: Vec<Group>,
    /// How many were not heard of lately.
    pub silent: u64,
    /// What failed.
    pub failures: Vec<Failures>,
    /// What operators asked for.
    pub requests: Vec<Request>,
}

/// The fleet at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// Which moment.
    pub at: Timestamp,
    /// Machines that were heard of lately.
    pub machines: u64,
    /// Machines that were not.
    pub silent: u64,
    /// The newest releases of each channel.
    pub rollouts: Vec<Rollout>,
    /// Who runs what.
    pub groups: Vec<Group>,
    /// What failed.
    pub failures: Vec<Failures>,
    /// What operators asked for.
    pub requests: Vec<Asked>,
    /// When the metadata expires that does so first.
    pub expires: Option<Timestamp>,
    /// What somebody should look at.
    pub notices: Vec<String>,
}

/// A release in a channel, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// The channel.
    pub channel: String,
    /// The release.
    pub version: String,
    /// `open`, `paused` or `withdrawn`.
    pub state: &'static str,
    /// Why, if it is not open.
    pub reason: Option<String>,
    /// To how many of a hundred machines it is open now.
    pub open_percent: u8,
    /// When that becomes more, and how many then.
    pub next: Option<(Timestamp, u8)>,
    /// Whether older machines have to go through it.
    pub barrier: bool,
    /// Machines of the channel.
    pub of: u64,
    /// Those that run it, or a newer one.
    pub through: u64,
    /// Those that wait for a reboot into it.
    pub installed: u64,
    /// Those that fetch or install it.
    pub under_way: u64,
    /// Those on which it failed.
    pub failed: u64,
}

/// A request, with the name that it is carried out by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// What is wanted, as a sentence.
    pub sentence: String,
    /// All of it.
    #[serde(flatten)]
    pub request: Request,
}

impl Asked {
    /// Whether the publisher has not looked at it yet.
    pub fn is_waiting(&self) -> bool {
        self.request.fate == Fate::Waiting
    }
}

impl From<Request> for Asked {
    fn from(request: Request) -> Self {
        Self { name: request.name(), sentence: request.wish.to_string(), request }
    }
}

impl Overview {
    /// Puts it together.
    pub fn of(catalog: &Catalog, known: Known, at: Timestamp) -> Self {
        let Known { groups, silent, failures, requests } = known;
        let mut notices: Vec<String> = catalog.problem.clone().into_iter().collect();
        if let Some((expires, role)) = catalog.expires {
            if expires <= at {
                notices.push(format!(
                    "the {role} expired at {expires}: machines take no update until it is refreshed"
                ));
            } else if expires - SOON <= at {
                notices.push(format!("the {role} expires at {expires}: it has to be refreshed"));
            }
        }
        let newest = |channel: &Channel| {
            let newest: Vec<_> = channel.releases.iter().rev().take(SHOWN).cloned().collect();
            newest
                .into_iter()
                .map(|entry| Rollout::of(&channel.name, &entry, &groups, at))
                .collect()
        };
        let rollouts = catalog.channels.iter().flat_map(|channel| -> Vec<_> { newest(channel) });
        Self {
            at,
            machines: groups.iter().map(|group| group.machines).sum(),
            silent,
            rollouts: rollouts.collect(),
            failures,
            requests: requests.into_iter().map(Asked::from).collect(),
            expires: catalog.expires.map(|(expires, _)| expires),
            notices,
            groups,
        }
    }
}

impl Rollout {
    fn of(channel: &str, entry: &Entry, groups: &[Group], at: Timestamp) -> Self {
        let version = entry.version.as_str();
        let ours = || {
            groups
                .iter()
                .filter(|group| group.channel == channel && group.family == Family::Pithos.as_str())
        };
        let count = |which: &dyn Fn(&Group) -> bool| {
            ours().filter(|group| which(group)).map(|group| group.machines).sum()
        };
        let runs_it =
            |group: &Group| group.version.parse().is_ok_and(|runs: Version| runs >= entry.version);
        let is_at = |phases: &'static [Phase]| {
            move |group: &Group| group.target == version && phases.contains(&group.phase)
        };
        let (state, reason) = match &entry.state {
            State::Open { .. } => ("open", None),
            State::Paused { reason, .. } => ("paused", Some(reason.clone())),
            State::Withdrawn { reason } => ("withdrawn", Some(reason.clone())),
        };
        let (open_percent, next) = open(&entry.state, at);
        Self {
            channel: channel.to_owned(),
            version: version.to_owned(),
            state,
            reason,
            open_percent,
            next,
            barrier: entry.barrier,
            of: count(&|_| true),
            through: count(&runs_it),
            installed: count(&is_at(&[Phase::Installed])),
            under_way: count(&is_at(&[Phase::Downloading, Phase::Installing])),
            failed: count(&is_at(&[Phase::Failed])),
        }
    }
}

/// To how many of a hundred it is open, and when to more.
fn open(state: &State, at: Timestamp) -> (u8, Option<(Timestamp, u8)>) {
    match state {
        State::Open { waves } if waves.is_empty() => (100, None),
        State::Open { waves } => {
            let now =
                waves.iter().rev().find(|wave| wave.from <= at).map_or(0, |wave| wave.percent);
            let next = waves.iter().find(|wave| wave.from > at);
            (now, next.map(|wave| (wave.from, wave.percent)))
        }
        State::Paused { .. } | State::Withdrawn { .. } => (0, None),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use payload::channel::{self, Wave};

    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn group(version: &str, phase: Phase, target: &str, machines: u64) -> Group {
        Group {
            family: "pithos".to_owned(),
            channel: "stable".to_owned(),
            version: version.to_owned(),
            phase,
            target: target.to_owned(),
            machines,
        }
    }

    fn catalog(state: State) -> Catalog {
        let entry = Entry {
            version: "1.1".parse().unwrap(),
            security_epoch: 0,
            variants: vec![],
            barrier: false,
            state,
            countersignatures: vec![],
        };
        let channel = Channel {
            format: channel::FORMAT,
            name: "stable".to_owned(),
            releases: vec![entry],
            downgrades: vec![],
            dead_ends: vec![],
        };
        Catalog { channels: vec![channel], expires: Some((at(60), "timestamp")), problem: None }
    }

    #[test]
    fn a_rollout_is_counted_by_what_machines_say() {
        let known = Known {
            groups: vec![
                group("1.0", Phase::Idle, "", 50),
                group("1.0", Phase::Downloading, "1.1", 7),
                group("1.0", Phase::Installed, "1.1", 3),
                group("1.0", Phase::Failed, "1.1", 2),
                group("1.1", Phase::Idle, "", 30),
                group("1.10", Phase::Idle, "", 8),
                Group { channel: "beta".to_owned(), ..group("1.1", Phase::Idle, "", 1000) },
                Group { family: "coreos".to_owned(), ..group("1.1", Phase::Idle, "", 1000) },
            ],
            ..Known::default()
        };
        let waves = vec![Wave { from: at(1), percent: 5 }, Wave { from: at(9), percent: 100 }];
        let overview = Overview::of(&catalog(State::Open { waves }), known, at(2));
        expect![[r#"
            [
                Rollout {
                    channel: "stable",
                    version: "1.1",
                    state: "open",
                    reason: None,
                    open_percent: 5,
                    next: Some(
                        (
                            1970-01-01T09:00:00Z,
                            100,
                        ),
                    ),
                    barrier: false,
                    of: 100,
                    through: 38,
                    installed: 3,
                    under_way: 7,
                    failed: 2,
                },
            ]
        "#]]
        .assert_debug_eq(&overview.rollouts);
        assert_eq!((overview.machines, overview.notices.len()), (2100, 0));
    }

    #[test]
    fn what_expires_is_said_before_it_does() {
        let notices = |hours| {
            let catalog = catalog(State::Open { waves: vec![] });
            Overview::of(&catalog, Known::default(), at(hours)).notices.join("\n")
        };
        assert_eq!(notices(10), "");
        expect!["the timestamp expires at 1970-01-03T12:00:00Z: it has to be refreshed"]
            .assert_eq(&notices(20));
        expect!["the timestamp expired at 1970-01-03T12:00:00Z: machines take no update until it is refreshed"].assert_eq(&notices(60));
    }

    #[test]
    fn what_is_not_open_is_open_to_nobody() {
        let waves = vec![Wave { from: at(0), percent: 5 }];
        let reason = "it hangs".to_owned();
        assert_eq!(open(&State::Paused { reason, waves: waves.clone() }, at(2)), (0, None));
        assert_eq!(open(&State::Open { waves: vec![] }, at(2)), (100, None));
        assert_eq!(open(&State::Open { waves }, at(-1)), (0, Some((at(0), 5))));
    }
}
