//! Making staged changes true: signing them with the keys that are here, and if those are enough,
//! writing everything that depends on them, `timestamp.json` last.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use jiff::Timestamp as Time;
use payload::tuf::{
    Key,
    metadata::{Envelope, Meta, Role, RoleKeys, Root, Signed, Snapshot, Targets, Timestamp},
};
use serde::Serialize;

use crate::{
    objects::{write, write_once},
    repository::{Current, Lifetimes, Repository, after, seconds},
};

/// What became of a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It is in force.
    Published {
        /// By role.
        versions: BTreeMap<&'static str, u64>,
    },
    /// It waits for signatures.
    Waiting {
        /// The file in `staged/` that lacks them.
        file: String,
        /// Keys that signed it.
        signed: u64,
        /// Keys that have to.
        threshold: u64,
        /// Keys that may, and did not.
        missing: Vec<String>,
    },
}

/// What to publish with.
#[derive(Clone, Copy)]
pub(crate) struct With<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) keys: &'a [SigningKey],
    pub(crate) lifetimes: &'a Lifetimes,
    pub(crate) now: Time,
}

/// Signs what is staged with those keys that may, and publishes it if that is enough. Nothing that a
/// client reads changes before everything is signed.
pub(crate) fn publish(with: With<'_>) -> Result<Outcome> {
    let first = with.repository.root_version()?.is_none();
    let old = if first { None } else { Some(with.repository.current()?) };
    let root = match with.root(old.as_ref())? {
        Ok(root) => root,
        Err(waiting) => return Ok(waiting),
    };
    let mut next = Next { with, old: old.as_ref(), root: root.signed, files: BTreeMap::new() };
    next.files.insert(Root::TYPE, File { version: next.root.version, text: root.text });
    if let Err(waiting) = next.targets()? {
        return Ok(waiting);
    }
    next.snapshot()?;
    next.timestamp()?;
    next.write()
}

/// What will be in force.
struct Next<'a> {
    with: With<'a>,
    old: Option<&'a Current>,
    root: Root,
    /// By role.
    files: BTreeMap<&'static str, File>,
}

/// A file of metadata: what is there already, or a text that is new.
struct File {
    version: u64,
    text: Option<String>,
}

/// A file that has signatures enough.
struct Ready<T> {
    signed: T,
    text: Option<String>,
}

/// Keys by name, and which of them count.
struct Authority {
    keys: BTreeMap<String, Key>,
    role: RoleKeys,
}

impl With<'_> {
    /// The root: signed by those who were trusted so far, and by those who will be.
    fn root(&self, old: Option<&Current>) -> Result<Result<Ready<Root>, Outcome>> {
        let staged = self.staged::<Root>(|staged| {
            let new = Authority::of(staged, Root::TYPE);
            let old = old.map(|old| Authority::of(&old.root, Root::TYPE));
            [Some(new), old].into_iter().flatten().collect()
        })?;
        let Some(staged) = staged else {
            let old = old.context("there is no root: begin with `init`")?;
            return Ok(Ok(Ready { signed: old.root.clone(), text: None }));
        };
        let expected = old.map_or(1, |old| old.root.version + 1);
        Ok(match staged {
            Ok(ready) => {
                let found = ready.signed.version;
                ensure!(
                    found == expected,
                    "the staged root has the version {found}, expected {expected}: remove \
                     staged/root.json and begin again"
                );
                Ok(ready)
            }
            Err(waiting) => Err(waiting),
        })
    }

    /// Signs a staged file with those keys that may sign it. It is ready when it has the signatures
    /// that each of `authorities` asks for.
    fn staged<T: Role>(
        &self,
        authorities: impl FnOnce(&T) -> Result<Vec<Authority>>,
    ) -> Result<Option<Result<Ready<T>, Outcome>>> {
        let Some(mut envelope) = self.repository.staged(T::TYPE)? else { return Ok(None) };
        let name = format!("{}.json", T::TYPE);
        let read = |envelope: &Envelope| -> Result<Signed<T>> {
            let text = envelope.text();
            Signed::parse(text.as_bytes()).with_context(|| format!("staged/{name} is not valid"))
        };
        let authorities = authorities(&read(&envelope)?.signed)?;
        authorities.iter().for_each(|authority| authority.sign(&mut envelope, self.keys));
        let text = envelope.text();
        write(&self.repository.staged_path(&name), text.as_bytes())?;
        let signed = read(&envelope)?;
        for Authority { keys, role } in &authorities {
            let valid = signed.valid(keys, role);
            if valid < role.threshold {
                let by: BTreeSet<&String> =
                    envelope.signatures.iter().map(|by| &by.keyid).collect();
                return Ok(Some(Err(Outcome::Waiting {
                    file: format!("staged/{name}"),
                    signed: valid,
                    threshold: role.threshold,
                    missing: role.keyids.iter().filter(|id| !by.contains(id)).cloned().collect(),
                })));
            }
        }
        Ok(Some(Ok(Ready { signed: signed.signed, text: Some(text) })))
    }
}

impl Next<'_> {
    /// What is staged; or what is there, signed anew if its keys changed or it would expire soon.
    fn targets(&mut self) -> Result<Result<(), Outcome>> {
        let with = self.with;
        let old = self.old.and_then(|old| old.targets.as_ref());
        let days = with.lifetimes.targets_days;
        if with.repository.staged(Targets::TYPE)?.is_none() {
            if let Some(old) = old.filter(|old| self.lasts(old, old.signed.expires, days)) {
                let file = File { version: old.signed.version, text: None };
                self.files.insert(Targets::TYPE, file);
                return Ok(Ok(()));
            }
            let targets = old.map(|old| old.signed.targets.clone()).unwrap_or_default();
            with.repository.stage(&Targets {
                version: old.map_or(0, |old| old.signed.version) + 1,
                expires: after(with.now, days),
                targets,
                delegations: old.and_then(|old| old.signed.delegations.clone()),
            })?;
        }
        let authority = Authority::of(&self.root, Targets::TYPE)?;
        let staged = with.staged::<Targets>(|_| Ok(vec![authority]))?;
        Ok(staged.context("it was staged above")?.map(|ready| {
            let file = File { version: ready.signed.version, text: ready.text };
            self.files.insert(Targets::TYPE, file);
        }))
    }

    /// A new one, unless the old one is still right.
    fn snapshot(&mut self) -> Result<()> {
        let meta = self.meta(Targets::TYPE)?;
        let old = self.old.and_then(|old| old.snapshot.as_ref());
        let days = self.with.lifetimes.snapshot_days;
        let right =
            old.filter(|old| old.signed.meta == meta && self.lasts(old, old.signed.expires, days));
        let file = match right {
            Some(old) => File { version: old.signed.version, text: None },
            None => {
                let version = old.map_or(0, |old| old.signed.version) + 1;
                let expires = after(self.with.now, days);
                File { version, text: Some(self.sign(&Snapshot { version, expires, meta })?) }
            }
        };
        self.files.insert(Snapshot::TYPE, file);
        Ok(())
    }

    /// A new one in any case.
    fn timestamp(&mut self) -> Result<()> {
        let old = self.old.and_then(|old| old.timestamp.as_ref());
        let version = old.map_or(0, |old| old.signed.version) + 1;
        let timestamp = Timestamp {
            version,
            expires: after(self.with.now, self.with.lifetimes.timestamp_days),
            issued: Some(seconds(self.with.now)),
            meta: self.meta(Snapshot::TYPE)?,
        };
        let text = Some(self.sign(&timestamp)?);
        self.files.insert(Timestamp::TYPE, File { version, text });
        Ok(())
    }

    /// Writes what is new, what others name first.
    fn write(self) -> Result<Outcome> {
        let repository = self.with.repository;
        for role in [Root::TYPE, Targets::TYPE, Snapshot::TYPE] {
            let File { version, text } = &self.files[role];
            if let Some(text) = text {
                let path = repository.metadata_path(&format!("{version}.{role}.json"));
                write_once(&path, text.as_bytes())?;
            }
        }
        let timestamp = self.files[Timestamp::TYPE].text.as_deref().unwrap_or_default();
        write(&repository.metadata_path("timestamp.json"), timestamp.as_bytes())?;
        for role in [Root::TYPE, Targets::TYPE] {
            let path = repository.staged_path(&format!("{role}.json"));
            if path.exists() {
                fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        let versions = self.files.iter().map(|(role, file)| (*role, file.version)).collect();
        Ok(Outcome::Published { versions })
    }

    /// What another file says of the one of `role`.
    fn meta(&self, role: &str) -> Result<BTreeMap<String, Meta>> {
        let File { version, text } = &self.files[role];
        let bytes = match text {
            Some(text) => text.as_bytes().to_vec(),
            None => self.with.repository.bytes(&format!("{version}.{role}.json"))?,
        };
        Ok(BTreeMap::from([(format!("{role}.json"), Meta::of(*version, &bytes))]))
    }

    /// Whether a file's signatures still count, and it has a third of its life left.
    fn lasts<T: Role>(&self, file: &Signed<T>, expires: Time, days: u16) -> bool {
        Authority::of(&self.root, T::TYPE)
            .is_ok_and(|Authority { keys, role }| file.valid(&keys, &role) >= role.threshold)
            && expires > after(self.with.now, days / 3)
    }

    /// Signs a file of an online role, whose keys have to be here.
    fn sign<T: Role + Serialize>(&self, signed: &T) -> Result<String> {
        let authority = Authority::of(&self.root, T::TYPE)?;
        let mut envelope = Envelope::of(signed);
        authority.sign(&mut envelope, self.with.keys);
        let (found, needed) = (envelope.signatures.len() as u64, authority.role.threshold);
        ensure!(
            found >= needed,
            "the {} needs {needed} signatures, and {found} of the keys given may sign it: give \
             --key FILE for {}",
            T::TYPE,
            authority.role.keyids.join(" or ")
        );
        Ok(envelope.text())
    }
}

impl Authority {
    fn of(root: &Root, role: &str) -> Result<Self> {
        let role = root.role(role).context("the root is not valid")?.clone();
        Ok(Self { keys: root.keys.clone(), role })
    }

    fn sign(&self, envelope: &mut Envelope, keys: &[SigningKey]) {
        for key in keys {
            let id = Key::ed25519(&key.verifying_key()).id();
            if self.role.keyids.contains(&id) {
                envelope.sign(key);
            }
        }
    }
}
