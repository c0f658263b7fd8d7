//! A channel: which releases there are, for whom, and from when. It is the part of what is signed
//! that changes after a release was published; each machine reads it alone and decides alone, so
//! that a fleet needs no server that knows its machines.
//!
//! ```text
//! 1.0 ---- 1.1 (barrier) ---- 1.2 (withdrawn) ---- 1.3 (waves: 1 % now, 10 % tomorrow, ...)
//! ```
//!
//! A machine takes the newest release that is open to it, but never jumps over a barrier: what is
//! behind one may rely on what the barrier's release did.

use jiff::Timestamp;
use layout::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Release, Variant, countersign::Countersignature, text};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// The longest channel.
pub const MAX_BYTES: u64 = 1 << 20;

/// A channel, such as `stable`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Channel {
    /// [`FORMAT`].
    pub format: u32,
    /// Its own name: it is no other channel's, whatever it is called on a server.
    pub name: String,
    /// Its releases, the oldest first.
    pub releases: Vec<Entry>,
    /// Ways back that are permitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downgrades: Vec<Downgrade>,
    /// Versions from which there is no way on: their machines have to be installed anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_ends: Vec<DeadEnd>,
}

/// A release in a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its version.
    #[serde(with = "text")]
    pub version: Version,
    /// As in its [`Release`]; here too, so that a machine knows before it fetches that.
    pub security_epoch: u32,
    /// The variants that it has.
    pub variants: Vec<Variant>,
    /// Machines older than this have to go through it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub barrier: bool,
    /// Whether it is open, and to whom.
    #[serde(flatten)]
    pub state: State,
    /// Who else built the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countersignatures: Vec<Countersignature>,
}

/// Whether a release is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// To the machines of its waves; to all if it has none.
    Open {
        /// By time.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waves: Vec<Wave>,
    },
    /// To nobody for now. Waves go on where they would be when it is opened again.
    Paused {
        /// For operators.
        reason: String,
        /// What was in force before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waves: Vec<Wave>,
    },
    /// To nobody any more.
    Withdrawn {
        /// For operators.
        reason: String,
    },
}

/// From a time on, a release is open to a share of all machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wave {
    /// From when on.
    pub from: Timestamp,
    /// To how many of a hundred machines, those of earlier waves included.
    pub percent: u8,
}

/// A permission to go back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Downgrade {
    /// The version that a machine runs.
    #[serde(with = "text")]
    pub from: Version,
    /// The version that it may go back to, whatever its security epoch is.
    #[serde(with = "text")]
    pub to: Version,
}

/// A version that cannot be updated.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeadEnd {
    /// Which.
    #[serde(with = "text")]
    pub version: Version,
    /// Why, and what to do.
    pub reason: String,
}

/// What a machine knows of itself when it reads a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// The version that it runs.
    pub version: Version,
    /// What it is.
    pub variant: Variant,
    /// The highest security epoch that it has run.
    pub security_epoch: u32,
    /// Its own random bytes, from which its wave follows.
    pub seed: [u8; 16],
    /// Versions that were tried and were bad: they are not tried again.
    pub bad: Vec<Version>,
}

/// What a channel means for a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Offer<'a> {
    /// There is nothing newer.
    UpToDate,
    /// This one is for it, now.
    Take(&'a Entry),
    /// This one will be, from then on.
    Later {
        /// The release.
        entry: &'a Entry,
        /// The start of the machine's wave, or none while it is not known: it is paused, or its
        /// waves do not reach every machine yet.
        from: Option<Timestamp>,
    },
    /// It was tried and was bad; the machine waits for a newer one.
    KnownBad(&'a Entry),
    /// There is no way on from the running version.
    DeadEnd(&'a DeadEnd),
}

/// Why a text is no channel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a channel at all.
    #[error("the channel `{name}` is not valid")]
    Parse {
        /// The name that was asked for.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It is of another format.
    #[error("the channel `{name}` is of format {found}, and this version reads format {FORMAT}")]
    Format {
        /// The name that was asked for.
        name: String,
        /// The format it says.
        found: u64,
    },
    /// It is another one.
    #[error("asked for the channel `{asked}`, and got `{found}`")]
    Other {
        /// The name that was asked for.
        asked: String,
        /// The name that it says.
        found: String,
    },
    /// It contradicts itself.
    #[error("the channel `{name}` is wrong: {problem}")]
    Wrong {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl Channel {
    /// Reads the channel `name`.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, Error> {
        /// What every format has; said first, because another format fails elsewhere, too.
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let parse = |source| Error::Parse { name: name.to_owned(), source };
        let head: Head = serde_json::from_slice(text).map_err(parse)?;
        if head.format != u64::from(FORMAT) {
            return Err(Error::Format { name: name.to_owned(), found: head.format });
        }
        let channel: Self = serde_json::from_slice(text).map_err(parse)?;
        if channel.name != name {
            return Err(Error::Other { asked: name.to_owned(), found: channel.name });
        }
        channel.check()?;
        Ok(channel)
    }

    /// Its text: the same for the same channel.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it has no maps and no floats");
        text.push('\n');
        text
    }

    /// The target that holds the channel `name`.
    pub fn target(name: &str) -> String {
        format!("channels/{name}.json")
    }

    /// Whether it is consistent.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |problem| Err(Error::Wrong { name: self.name.clone(), problem });
        for pair in self.releases.windows(2) {
            let [older, newer] = pair else { unreachable!("windows of two") };
            if older.version >= newer.version {
                return wrong(format!("{} comes before {}", older.version, newer.version));
            }
        }
        for entry in &self.releases {
            for pair in entry.state.waves().windows(2) {
                if pair[0].from > pair[1].from || pair[0].percent > pair[1].percent {
                    return wrong(format!("the waves of {} go back", entry.version));
                }
            }
            if let Some(wave) = entry.state.waves().iter().find(|wave| wave.percent > 100) {
                return wrong(format!("a wave of {} is {} %", entry.version, wave.percent));
            }
        }
        Ok(())
    }

    /// What the channel means for `machine` at `now`.
    pub fn offer(&self, machine: &Machine, now: Timestamp) -> Offer<'_> {
        if let Some(end) = self.dead_ends.iter().find(|end| end.version == machine.version) {
            return Offer::DeadEnd(end);
        }
        if let Some(back) = self.downgrade(machine) {
            return if machine.bad.contains(&back.version) {
                Offer::KnownBad(back)
            } else {
                back.open_to(machine, now)
            };
        }
        let newer: Vec<&Entry> = self
            .releases
            .iter()
            .filter(|entry| entry.version > machine.version && entry.is_for(machine))
            // Whoever is sent back from it would be there again tomorrow.
            .filter(|entry| self.downgrades.iter().all(|back| back.from != entry.version))
            .collect();
        let reach = newer.iter().position(|entry| entry.barrier).unwrap_or(newer.len());
        // The newest that is open is taken. If none is, the newest says why.
        let mut closed = None;
        for entry in newer.into_iter().take(reach + 1).rev() {
            if machine.bad.contains(&entry.version) {
                closed.get_or_insert(Offer::KnownBad(entry));
                continue;
            }
            match entry.open_to(machine, now) {
                take @ Offer::Take(_) => return take,
                later => closed.get_or_insert(later),
            };
        }
        closed.unwrap_or(Offer::UpToDate)
    }

    /// The release that a machine has to go back to.
    fn downgrade(&self, machine: &Machine) -> Option<&Entry> {
        let back = self.downgrades.iter().find(|back| back.from == machine.version)?;
        self.releases
            .iter()
            .find(|entry| entry.version == back.to && entry.variants.contains(&machine.variant))
    }

    /// Whether `entry` is what `machine` has to go back to: a permission that was signed.
    pub fn sends_back(&self, machine: &Machine, entry: &Entry) -> bool {
        self.downgrade(machine).is_some_and(|back| back.version == entry.version)
    }

    /// Whether `machine` may take the release `found`, which is what `entry` stands for. To be asked
    /// again after the description was fetched: an entry and its description have to agree.
    pub fn permits(&self, machine: &Machine, entry: &Entry, found: &Release) -> Result<(), Error> {
        let wrong = |problem| Err(Error::Wrong { name: self.name.clone(), problem });
        if found.version != entry.version || found.variant != machine.variant {
            return wrong(format!(
                "{} for {} is described as {} for {}",
                entry.version, machine.variant, found.version, found.variant
            ));
        }
        if found.security_epoch != entry.security_epoch {
            return wrong(format!(
                "{} has the security epoch {} in the channel and {} in its description",
                entry.version, entry.security_epoch, found.security_epoch
            ));
        }
        let back = self.sends_back(machine, entry);
        if !back && found.security_epoch < machine.security_epoch {
            return wrong(format!(
                "{} has the security epoch {}, and this machine has run {}",
                entry.version, found.security_epoch, machine.security_epoch
            ));
        }
        Ok(())
    }
}

impl Entry {
    fn is_for(&self, machine: &Machine) -> bool {
        let withdrawn = matches!(self.state, State::Withdrawn { .. });
        !withdrawn
            && self.variants.contains(&machine.variant)
            && self.security_epoch >= machine.security_epoch
    }

    fn open_to(&self, machine: &Machine, now: Timestamp) -> Offer<'_> {
        let waves = match &self.state {
            State::Open { waves } => waves,
            State::Paused { .. } | State::Withdrawn { .. } => {
                return Offer::Later { entry: self, from: None };
            }
        };
        let place = place(&machine.seed, &self.version);
        let reaches = |wave: &&Wave| place < u64::from(wave.percent) * (u64::MAX / 100);
        match waves.iter().find(reaches) {
            _ if waves.is_empty() => Offer::Take(self),
            Some(wave) if wave.from <= now => Offer::Take(self),
            Some(wave) => Offer::Later { entry: self, from: Some(wave.from) },
            None if waves.last().is_some_and(|wave| wave.percent >= 100 && wave.from <= now) => {
                Offer::Take(self)
            }
            None => Offer::Later { entry: self, from: None },
        }
    }
}

impl State {
    /// Its waves; none if it is withdrawn.
    pub fn waves(&self) -> &[Wave] {
        match self {
            Self::Open { waves } | Self::Paused { waves, .. } => waves,
            Self::Withdrawn { .. } => &[],
        }
    }
}

/// Where a machine stands among all of them, evenly. It is another place for each version, so that
/// the first wave does not always hit the same machines.
fn place(seed: &[u8; 16], version: &Version) -> u64 {
    let hash = Sha256::new().chain_update(seed).chain_update(version.as_str()).finalize();
    let first = hash[..8].try_into().expect("32 bytes have 8");
    u64::from_be_bytes(first)
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;
