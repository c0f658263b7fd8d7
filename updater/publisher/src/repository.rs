//! A repository: a folder of static files that any HTTP server serves, and how it changes.
//!
//! ```text
//! metadata/  N.root.json  N.targets.json  N.snapshot.json  timestamp.json
//! targets/   channels/HASH.stable.json  releases/VERSION/HASH.cloud-x86_64.json
//! objects/   ab/abcdef...
//! staged/    root.json  targets.json       waiting for signatures
//! ```
//!
//! Everything but `timestamp.json` has a name that it never shares with another content. So a change
//! is written beside what is there, and becomes true when `timestamp.json` is replaced, which is
//! last. What lacks signatures waits in `staged/`, which no client reads.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp as Time};
use payload::tuf::{
    Target,
    metadata::{Envelope, Meta, Role, Root, Signed, Snapshot, Targets, Timestamp},
};
use serde::Serialize;

use crate::objects::{write, write_once};

/// The roles whose keys the root names.
pub(crate) const ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// For how long each role's files are valid, in days.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Lifetimes {
    /// Days after which the root has to be signed anew.
    #[arg(long, value_name = "DAYS", default_value_t = 400)]
    pub(crate) root_days: u16,
    /// Days after which channels and releases have to be signed anew.
    #[arg(long, value_name = "DAYS", default_value_t = 180)]
    pub(crate) targets_days: u16,
    /// Days after which the snapshot has to be signed anew.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub(crate) snapshot_days: u16,
    /// Days after which the timestamp has to be signed anew: machines notice after so long that
    /// somebody holds updates back.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(crate) timestamp_days: u16,
}

/// A repository's folder.
#[derive(Debug)]
pub(crate) struct Repository {
    path: PathBuf,
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) root: Root,
    pub(crate) targets: Option<Signed<Targets>>,
    pub(crate) snapshot: Option<Signed<Snapshot>>,
    pub(crate) timestamp: Option<Signed<Timestamp>>,
}

impl Repository {
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in force; an error if there is no repository.
    pub(crate) fn current(&self) -> Result<Current> {
        let version = self.root_version()?.with_context(|| {
            format!(
                "{} is no repository: expected metadata/1.root.json in it. \
                 `update-publish init` makes one",
                self.path.display()
            )
        })?;
        let root: Signed<Root> = self.metadata(&format!("{version}.root.json"))?;
        let timestamp: Option<Signed<Timestamp>> = if self.metadata_path("timestamp.json").exists()
        {
            Some(self.metadata("timestamp.json")?)
        } else {
            None
        };
        let listed = |meta: &BTreeMap<String, Meta>, role: &str| {
            let file = format!("{role}.json");
            let meta = meta.get(&file).with_context(|| format!("{file} is not listed"))?;
            anyhow::Ok(format!("{}.{file}", meta.version))
        };
        let snapshot: Option<Signed<Snapshot>> = match &timestamp {
            Some(found) => Some(self.metadata(&listed(&found.signed.meta, Snapshot::TYPE)?)?),
            None => None,
        };
        let targets: Option<Signed<Targets>> = match &snapshot {
            Some(found) => Some(self.metadata(&listed(&found.signed.meta, Targets::TYPE)?)?),
            None => None,
        };
        Ok(Current { root: root.signed, targets, snapshot, timestamp })
    }

    pub(crate) fn root_version(&self) -> Result<Option<u64>> {
        let Ok(entries) = fs::read_dir(self.path.join("metadata")) else { return Ok(None) };
        let mut newest = None;
        for entry in entries {
            let name = entry.context("reading metadata/")?.file_name();
            let version = name.to_str().and_then(|name| name.strip_suffix(".root.json"));
            newest = newest.max(version.and_then(|version| version.parse().ok()));
        }
        Ok(newest)
    }

    pub(crate) fn metadata_path(&self, file: &str) -> PathBuf {
        self.path.join("metadata").join(file)
    }

    fn metadata<T: Role>(&self, file: &str) -> Result<Signed<T>> {
        let bytes = self.bytes(file)?;
        Signed::parse(&bytes).with_context(|| format!("metadata/{file} is not valid"))
    }

    pub(crate) fn bytes(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.metadata_path(file);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// The text of a target.
    pub(crate) fn target(&self, targets: &Targets, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(target) = targets.targets.get(name) else { return Ok(None) };
        let path = self.path.join("targets").join(target.location(name, true));
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(target.matches(&bytes), "{} is not what was signed", path.display());
        Ok(Some(bytes))
    }

    /// Puts a target there, and into `targets`.
    pub(crate) fn put_target(&self, targets: &mut Targets, name: &str, text: &str) -> Result<()> {
        let target = Target::of(text.as_bytes());
        let path = self.path.join("targets").join(target.location(name, true));
        write_once(&path, text.as_bytes())?;
        targets.targets.insert(name.to_owned(), target);
        Ok(())
    }

    pub(crate) fn staged_path(&self, file: &str) -> PathBuf {
        self.path.join("staged").join(file)
    }

    /// What waits for signatures.
    pub(crate) fn staged(&self, role: &str) -> Result<Option<Envelope>> {
        let path = self.staged_path(&format!("{role}.json"));
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let envelope = Envelope::parse(&bytes);
        envelope.map(Some).with_context(|| format!("{} is not valid", path.display()))
    }

    /// What `role` will say once it is signed: what is staged, or else what is in force.
    pub(crate) fn next_targets(&self, current: &Current) -> Result<Targets> {
        if let Some(staged) = self.staged(Targets::TYPE)? {
            return Ok(serde_json::from_value(staged.signed)?);
        }
        match &current.targets {
            Some(found) => Ok(found.signed.clone()),
            None => bail!("{} has no targets yet: sign its root first", self.path.display()),
        }
    }

    /// Stages a file, unsigned, in the place of one that is staged already.
    pub(crate) fn stage<T: Role + Serialize>(&self, signed: &T) -> Result<()> {
        let path = self.staged_path(&format!("{}.json", T::TYPE));
        write(&path, Envelope::of(signed).text().as_bytes())
    }

    /// Stages new targets.
    pub(crate) fn stage_targets(
        &self,
        current: &Current,
        mut targets: Targets,
        lifetimes: &Lifetimes,
        now: Time,
    ) -> Result<()> {
        let in_force = current.targets.as_ref().map_or(0, |found| found.signed.version);
        targets.version = in_force + 1;
        targets.expires = after(now, lifetimes.targets_days);
        self.stage(&targets)
    }

    /// Takes over the signatures of a file that was signed elsewhere.
    pub(crate) fn merge(&self, signed: &Envelope) -> Result<String> {
        let role = signed.role();
        ensure!(ROLES.contains(&role), "expected metadata of a role, found `{role}`");
        let mut staged =
            self.staged(role)?.with_context(|| format!("nothing is staged for {role}"))?;
        ensure!(
            staged.signed == signed.signed,
            "it is not the {role} that is staged: sign staged/{role}.json as it is"
        );
        let before = staged.signatures.len();
        for by in &signed.signatures {
            staged.signatures.retain(|old| old.keyid != by.keyid);
            staged.signatures.push(by.clone());
        }
        write(&self.staged_path(&format!("{role}.json")), staged.text().as_bytes())?;
        Ok(format!("{role}: {} more signatures", staged.signatures.len() - before))
    }
}

/// `days` after `now`, in whole seconds: the specification knows no others.
pub(crate) fn after(now: Time, days: u16) -> Time {
    seconds(now + SignedDuration::from_hours(24 * i64::from(days)))
}

pub(crate) fn seconds(time: Time) -> Time {
    Time::from_second(time.as_second()).expect("it was a time before")
}
