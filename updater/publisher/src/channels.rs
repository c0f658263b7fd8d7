//! Changes to channels, each of which says in a line what it does before it is done.

use anyhow::{Context, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp as Time};
use layout::Version;
use payload::{
    Channel, Release,
    channel::{self, DeadEnd, Downgrade, Entry, State, Wave},
    countersign::Countersignature,
    tuf::metadata::Targets,
};

use crate::repository::Repository;

/// The waves that are usual, from a first one: hours after it, and the share of machines by then.
const USUAL: [(i64, u8); 7] = [(0, 1), (1, 5), (5, 15), (29, 40), (77, 60), (173, 90), (317, 100)];

/// A change to a channel.
#[derive(Debug)]
pub(crate) enum Change {
    /// A release comes in.
    Add(Entry),
    /// It is open to shares of machines by time; to all if there are none.
    Waves(Version, Vec<Wave>),
    /// It is open to nobody for now.
    Pause(Version, String),
    /// It is open again as it was.
    Resume(Version),
    /// It is open to nobody any more.
    Withdraw(Version, String),
    /// Older machines have to go through it, or need not.
    Barrier(Version, bool),
    /// There is no way on from it.
    DeadEnd(Version, String),
    /// Machines go back.
    Downgrade { from: Version, to: Version },
    /// Somebody else built the same.
    Countersign(Version, Vec<Countersignature>),
}

/// The channel `name`, or a new one.
pub(crate) fn read(repository: &Repository, targets: &Targets, name: &str) -> Result<Channel> {
    match repository.target(targets, &Channel::target(name))? {
        Some(text) => Ok(Channel::parse(name, &text)?),
        None => {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            ensure!(
                !name.is_empty() && name.chars().all(good),
                "`{name}` is no name for a channel: expected a-z 0-9 -"
            );
            Ok(Channel {
                format: channel::FORMAT,
                name: name.to_owned(),
                releases: vec![],
                downgrades: vec![],
                dead_ends: vec![],
            })
        }
    }
}

/// The entry that a release has at first.
pub(crate) fn entry(release: &Release) -> Entry {
    Entry {
        version: release.version.clone(),
        security_epoch: release.security_epoch,
        variants: vec![release.variant.clone()],
        barrier: false,
        state: State::Open { waves: vec![] },
        countersignatures: vec![],
    }
}

/// The usual waves from `first` on, spread over `times` as long.
pub(crate) fn usual(first: Time, times: u32) -> Vec<Wave> {
    let wave = |(hours, percent)| Wave {
        from: first + SignedDuration::from_hours(hours * i64::from(times)),
        percent,
    };
    USUAL.into_iter().map(wave).collect()
}

/// Makes a change, and says what it is.
pub(crate) fn change(channel: &mut Channel, change: Change) -> Result<String> {
    let name = channel.name.clone();
    let said = match change {
        Change::Add(new) => {
            let said = format!("{name}: {} comes in", new.version);
            add(channel, new)?;
            said
        }
        Change::Waves(version, waves) => {
            let entry = find(channel, &version)?;
            let said = match (waves.first(), waves.last()) {
                (Some(first), Some(last)) => format!(
                    "{name}: {version} opens to {} % of machines at {}, to {} % at {}",
                    first.percent, first.from, last.percent, last.from
                ),
                _ => format!("{name}: {version} opens to all machines"),
            };
            entry.state = match &entry.state {
                State::Open { .. } => State::Open { waves },
                State::Paused { reason, .. } => State::Paused { reason: reason.clone(), waves },
                State::Withdrawn { .. } => bail!("{version} is withdrawn from {name}"),
            };
            said
        }
        Change::Pause(version, reason) => {
            let entry = find(channel, &version)?;
            let said = format!("{name}: {version} is paused: {reason}");
            let State::Open { waves } = &entry.state else {
                bail!("{version} is not open in {name}")
            };
            entry.state = State::Paused { reason, waves: waves.clone() };
            said
        }
        Change::Resume(version) => {
            let entry = find(channel, &version)?;
            let State::Paused { waves, .. } = &entry.state else {
                bail!("{version} is not paused in {name}");
            };
            entry.state = State::Open { waves: waves.clone() };
            format!("{name}: {version} is open again")
        }
        Change::Withdraw(version, reason) => {
            let said = format!("{name}: {version} is withdrawn: {reason}");
            find(channel, &version)?.state = State::Withdrawn { reason };
            said
        }
        Change::Barrier(version, barrier) => {
            find(channel, &version)?.barrier = barrier;
            let what = if barrier { "have to" } else { "need not" };
            format!("{name}: machines older than {version} {what} go through it")
        }
        Change::DeadEnd(version, reason) => {
            let said = format!("{name}: {version} is a dead end: {reason}");
            channel.dead_ends.retain(|end| end.version != version);
            channel.dead_ends.push(DeadEnd { version, reason });
            said
        }
        Change::Downgrade { from, to } => {
            find(channel, &to)?;
            let said =
                format!("{name}: machines with {from} go back to {to}, and no other takes it");
            channel.downgrades.retain(|back| back.from != from);
            channel.downgrades.push(Downgrade { from, to });
            said
        }
        Change::Countersign(version, new) => {
            let entry = find(channel, &version)?;
            let said = format!("{name}: {} more countersignatures of {version}", new.len());
            for by in new {
                entry.countersignatures.retain(|old| old.key != by.key);
                entry.countersignatures.push(by);
            }
            said
        }
    };
    channel.check()?;
    Ok(said)
}

/// A release that is there already gets the variant, too.
fn add(channel: &mut Channel, new: Entry) -> Result<()> {
    let at = channel.releases.binary_search_by(|entry| entry.version.cmp(&new.version));
    match at {
        Err(at) => channel.releases.insert(at, new),
        Ok(at) => {
            let entry = &mut channel.releases[at];
            ensure!(
                entry.security_epoch == new.security_epoch,
                "{} is in the channel with the security epoch {}, and comes with {}",
                entry.version,
                entry.security_epoch,
                new.security_epoch
            );
            for variant in new.variants {
                if !entry.variants.contains(&variant) {
                    entry.variants.push(variant);
                }
            }
        }
    }
    Ok(())
}

fn find<'a>(channel: &'a mut Channel, version: &Version) -> Result<&'a mut Entry> {
    let name = channel.name.clone();
    let all: Vec<String> = channel.releases.iter().map(|entry| entry.version.to_string()).collect();
    let found = channel.releases.iter_mut().find(|entry| entry.version == *version);
    found.with_context(|| {
        format!("{version} is not in the channel {name}, which has: {}", all.join(" "))
    })
}
