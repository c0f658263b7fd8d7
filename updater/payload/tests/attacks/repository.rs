//! A repository in memory, and a machine that keeps what its client tells it to.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use jiff::Timestamp as Time;
use payload::tuf::{
    Answer, Change, Client, Error, Key, Limits, Next, Start, Step, Target,
    metadata::{Envelope, Meta, Role, RoleKeys, Root, Snapshot, Targets, Timestamp},
};
use serde::Serialize;

/// Files by location.
pub(crate) type Served = BTreeMap<String, Vec<u8>>;

/// A repository, and its keys.
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) root: Root,
    pub(crate) timestamp: Timestamp,
    pub(crate) snapshot: Snapshot,
    pub(crate) targets: Targets,
    /// Seeds of the keys that sign for each role.
    pub(crate) signers: BTreeMap<String, Vec<u8>>,
    pub(crate) served: Served,
}

/// A machine.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) root: Vec<u8>,
    pub(crate) stored: BTreeMap<String, Vec<u8>>,
    pub(crate) clock: Time,
    pub(crate) built: Time,
}

/// A time in November 2026.
pub(crate) fn at(day_and_hour: &str) -> Time {
    format!("2026-11-{day_and_hour}:00:00Z").parse().unwrap()
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

impl Repository {
    /// Root, targets, snapshot and timestamp are signed by the keys 1, 2, 3 and 4.
    pub(crate) fn new() -> Self {
        let expires = at("30T00");
        let meta = BTreeMap::new();
        let mut repository = Self {
            root: Root {
                version: 0,
                expires,
                consistent_snapshot: true,
                keys: BTreeMap::new(),
                roles: BTreeMap::new(),
            },
            timestamp: Timestamp { version: 0, expires, issued: None, meta: meta.clone() },
            snapshot: Snapshot { version: 0, expires, meta },
            targets: Targets { version: 0, expires, targets: BTreeMap::new(), delegations: None },
            signers: BTreeMap::new(),
            served: Served::new(),
        };
        for (role, seed) in [("root", 1), ("targets", 2), ("snapshot", 3), ("timestamp", 4)] {
            repository.speaks(role, &[seed], 1);
        }
        repository.new_root(&[]);
        repository.publish();
        repository
    }

    /// From the next root on, these keys speak for `role`.
    pub(crate) fn speaks(&mut self, role: &str, seeds: &[u8], threshold: u64) {
        let keys = seeds.iter().map(|seed| Key::ed25519(&key(*seed).verifying_key()));
        let keyids = keys
            .map(|key| {
                let id = key.id();
                self.root.keys.insert(id.clone(), key);
                id
            })
            .collect();
        self.root.roles.insert(role.into(), RoleKeys { keyids, threshold });
        self.signers.insert(role.into(), seeds.to_vec());
    }

    /// A new root, signed by its keys and by `others`.
    pub(crate) fn new_root(&mut self, others: &[u8]) {
        self.root.version += 1;
        let mut seeds = self.signers["root"].clone();
        seeds.extend(others);
        let text = sign(&self.root, &seeds);
        self.served.insert(format!("{}.root.json", self.root.version), text);
    }

    /// New versions of the other three.
    pub(crate) fn publish(&mut self) {
        self.targets.version += 1;
        let text = sign(&self.targets, &self.signers["targets"]);
        let meta = Meta::of(self.targets.version, &text);
        self.served.insert(format!("{}.targets.json", self.targets.version), text);
        self.snapshot.version += 1;
        self.snapshot.meta.insert("targets.json".into(), meta);
        let text = sign(&self.snapshot, &self.signers["snapshot"]);
        let meta = Meta::of(self.snapshot.version, &text);
        self.served.insert(format!("{}.snapshot.json", self.snapshot.version), text);
        self.timestamp.meta.insert("snapshot.json".into(), meta);
        self.touch();
    }

    /// A new timestamp.
    pub(crate) fn touch(&mut self) {
        self.timestamp.version += 1;
        let text = sign(&self.timestamp, &self.signers["timestamp"]);
        self.served.insert("timestamp.json".into(), text);
    }

    pub(crate) fn add(&mut self, path: &str, bytes: &[u8]) {
        self.targets.targets.insert(path.into(), Target::of(bytes));
    }
}

pub(crate) fn sign<T: Role + Serialize>(signed: &T, seeds: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::of(signed);
    seeds.iter().for_each(|seed| envelope.sign(&key(*seed)));
    envelope.text().into_bytes()
}

impl Machine {
    /// One that was installed with the repository's first root.
    pub(crate) fn new(repository: &Repository) -> Self {
        Self {
            root: repository.served["1.root.json"].clone(),
            stored: BTreeMap::new(),
            clock: at("21T12"),
            built: at("01T00"),
        }
    }

    /// Brings what is known up to date. What is to be stored is, even if it ends badly.
    pub(crate) fn refresh(&mut self, served: &Served) -> Result<Client, Error> {
        let start = Start {
            root: Some(&self.root),
            stored: self.stored.clone(),
            clock: self.clock,
            built: self.built,
            limits: Limits::default(),
        };
        let (mut client, step) = Client::begin(start)?;
        assert_eq!(self.follow(&mut client, step, served)?, Next::Ready);
        Ok(client)
    }

    pub(crate) fn find(&mut self, served: &Served, path: &str) -> Result<Next, Error> {
        let mut client = self.refresh(served)?;
        let step = client.find(path)?;
        self.follow(&mut client, step, served)
    }

    fn follow(
        &mut self,
        client: &mut Client,
        mut step: Step,
        served: &Served,
    ) -> Result<Next, Error> {
        loop {
            for change in step.store {
                match change {
                    Change::Put { name, bytes } => {
                        assert!(!name.contains('/') && name != "..", "{name}");
                        self.stored.insert(name, bytes);
                    }
                    Change::Remove { name } => drop(self.stored.remove(&name)),
                }
            }
            let Next::Fetch(fetch) = step.next else { return Ok(step.next) };
            let bytes = served.get(&fetch.location);
            step = client.answer(bytes.map_or(Answer::Missing, |bytes| Answer::Bytes(bytes)))?;
        }
    }

    /// What is said when it refreshes.
    pub(crate) fn said(&mut self, served: &Served) -> String {
        match self.refresh(served) {
            Ok(_) => "current".into(),
            Err(error) => error.to_string(),
        }
    }
}
