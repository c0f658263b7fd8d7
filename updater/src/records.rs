//! What a machine remembers of its updates, in files of `/var/lib/update-engine`: which version was
//! installed last, and which ones are bad. What a boot says about the first is decided here.

use std::{collections::BTreeSet, io};

use layout::{RootHash, Version};
use payload::{Digest, text};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    install::media::Folder,
    slots::{Slots, Trial, Uki},
};

/// No record has more.
const MAX_BYTES: usize = 1 << 20;

/// The version that was installed last. It is written before its UKI can boot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Installed {
    /// Which one.
    #[serde(with = "text")]
    pub version: Version,
    /// Its `/usr`.
    #[serde(with = "text")]
    pub root_hash: RootHash,
    /// Its UKI.
    pub uki_sha256: Digest,
    /// The version that installed it.
    #[serde(with = "text")]
    pub from: Version,
    /// Health checks that failed before already: the new version need not pass them.
    pub failing: BTreeSet<String>,
}

/// Versions that failed on this machine.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Bad {
    /// The newest is the last.
    pub versions: Vec<BadVersion>,
}

/// A version that failed on this machine, which is not installed again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BadVersion {
    /// Which one.
    #[serde(with = "text")]
    pub version: Version,
    /// Of its `/usr`: a release that was built anew under the same version is another one.
    #[serde(with = "text")]
    pub root_hash: RootHash,
    /// What went wrong.
    pub reason: String,
}

/// What a boot says about the version that was installed last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing was installed, or what was is of no concern any more.
    Nothing,
    /// It runs and has to prove itself.
    OnTrial(Trial),
    /// It runs and is proven.
    Proven,
    /// It waits for a reboot.
    Waiting,
    /// It was taken back, or its installation was cut short: it may be installed again.
    Unfinished,
    /// It did not come up. This is to be remembered.
    Failed(BadVersion),
}

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("{doing} the record {name} of /var/lib/update-engine")]
    Io {
        /// Reading or writing.
        doing: &'static str,
        /// Its name.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is none.
    #[error(
        "the record {name} of /var/lib/update-engine is damaged: remove it, and the engine starts \
         without it"
    )]
    Damaged {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Installed {
    const NAME: &'static str = "installed.json";

    /// Reads it, if there is one.
    pub fn load(state: &dyn Folder) -> Result<Option<Self>, RecordError> {
        load(state, Self::NAME)
    }

    /// Keeps it: once this returns, it is there after a power cut.
    pub fn save(&self, state: &dyn Folder) -> Result<(), RecordError> {
        save(state, Self::NAME, self)
    }

    /// What the slots and the boot counters say about it.
    pub fn outcome(&self, slots: &Slots, bad: &Bad) -> Outcome {
        let ukis = [&slots.a, &slots.b].into_iter().flat_map(|content| content.ukis());
        let mut own = ukis.chain(&slots.stray).filter(|uki| uki.version == self.version);
        let uki = own.next();
        if *slots.version() == self.version {
            return match uki.and_then(|uki| uki.trial) {
                Some(trial) => Outcome::OnTrial(trial),
                None => Outcome::Proven,
            };
        }
        if bad.reason(&self.version, &self.root_hash).is_some() {
            return Outcome::Nothing;
        }
        let Some(uki) = uki else { return Outcome::Unfinished };
        match uki.trial {
            Some(Trial { left: 0, done }) => Outcome::Failed(BadVersion {
                version: self.version.clone(),
                root_hash: self.root_hash,
                reason: format!("it was started {done} times and never came up healthy"),
            }),
            Some(_) => Outcome::Waiting,
            // It was proven once. Either this machine is sent back to it, and has left behind what
            // runs, or an operator went back to this one.
            None if slots.content(slots.booted).ukis().iter().any(Uki::is_retired) => {
                Outcome::Waiting
            }
            None => Outcome::Nothing,
        }
    }
}

impl Bad {
    const NAME: &'static str = "bad.json";

    /// Reads them.
    pub fn load(state: &dyn Folder) -> Result<Self, RecordError> {
        load(state, Self::NAME).map(Option::unwrap_or_default)
    }

    /// Adds one. Once this returns, it is there after a power cut.
    pub fn remember(&mut self, version: BadVersion, state: &dyn Folder) -> Result<(), RecordError> {
        self.versions.retain(|bad| bad.version != version.version);
        self.versions.push(version);
        save(state, Self::NAME, self)
    }

    /// Why a version is not installed, if it is not.
    pub fn reason(&self, version: &Version, root_hash: &RootHash) -> Option<&str> {
        let bad = |bad: &&BadVersion| bad.version == *version && bad.root_hash == *root_hash;
        self.versions.iter().find(bad).map(|bad| bad.reason.as_str())
    }
}

fn load<T: DeserializeOwned>(
    state: &dyn Folder,
    name: &'static str,
) -> Result<Option<T>, RecordError> {
    let failed = |source| RecordError::Io { doing: "reading", name, source };
    let Some(bytes) = state.load(name, MAX_BYTES).map_err(failed)? else { return Ok(None) };
    let damaged = |source| RecordError::Damaged { name, source };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn save(
    state: &dyn Folder,
    name: &'static str,
    record: &impl Serialize,
) -> Result<(), RecordError> {
    let bytes = serde_json::to_vec_pretty(record).expect("names and numbers become JSON");
    let failed = |source| RecordError::Io { doing: "writing", name, source };
    state.replace(name, &bytes).map_err(failed)
}
