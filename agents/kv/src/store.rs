//! Keys and all their versions since the last compaction: etcd's multi-version store, in memory.
//!
//! ```text
//!   keys     key -> its versions, oldest first      what is there, now or at a revision
//!   history  revision -> the same records           what happened, in order
//! ```
//!
//! Both are trees that share what they have in common with their copies, so that a copy of the whole
//! store costs a few pointers: reads, watches and snapshots work on copies and stop nobody.
//!
//! A transaction that writes takes the next revision; its first write is (revision, 0), its second
//! (revision, 1). The deletion of a key is a record too, a tombstone, and has version 0.

mod compaction;
pub mod hash;
mod range;
#[cfg(test)]
mod tests;
mod versions;

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use imbl::OrdMap;

use crate::{api::KeyValue, refusal::Refusal};
use versions::Versions;

/// What a record counts beside its key and value.
pub const RECORD_BYTES: u64 = 256;

/// Which write: of which transaction, and which of those in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The transaction.
    pub main: i64,
    /// The write in it.
    pub sub: i64,
}

/// A version of a key, or its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision in which the key came to be.
    pub create_revision: i64,
    /// Its own.
    pub revision: Revision,
    /// How many times the key was put since it came to be; 0 is a tombstone.
    pub version: i64,
    /// The lease that it goes with, or 0.
    pub lease: i64,
}

impl Record {
    /// Of copies of a key and a value: one allocation for both, and nothing else is held on to.
    pub(crate) fn new(
        key: &[u8],
        value: &[u8],
        create_revision: i64,
        revision: Revision,
        version: i64,
        lease: i64,
    ) -> Self {
        let mut both = Bytes::from([key, value].concat());
        let value = both.split_off(key.len());
        Self { key: both, value, create_revision, revision, version, lease }
    }

    /// Whether it is the deletion of its key.
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// As clients see it.
    pub fn key_value(&self) -> KeyValue {
        KeyValue {
            key: self.key.clone(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.revision.main,
            version: self.version,
            lease: self.lease,
        }
    }

    fn size_bytes(&self) -> u64 {
        RECORD_BYTES + (self.key.len() + self.value.len()) as u64
    }
}

/// Which keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRange {
    /// One.
    One(Bytes),
    /// Those from one on, up to and without another.
    Span(Bytes, Bytes),
    /// All from one on.
    From(Bytes),
}

impl KeyRange {
    /// The range that a request means by its two fields.
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        match &range_end[..] {
            [] => Self::One(key),
            [0] => Self::From(key),
            _ => Self::Span(key, range_end),
        }
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Span(from, to) => from <= key && key < to,
            Self::From(from) => from <= key,
        }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Span(from, to) if from >= to)
    }
}

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    keys: OrdMap<Bytes, Versions>,
    history: OrdMap<Revision, Arc<Record>>,
    current: i64,
    compacted: i64,
    /// How far a compaction has swept, while one does.
    sweep: Option<Revision>,
    size_bytes: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            keys: OrdMap::new(),
            history: OrdMap::new(),
            current: 1,
            compacted: -1,
            sweep: None,
            size_bytes: 0,
        }
    }
}

impl Store {
    /// The revision of the last transaction that wrote. An empty store is at 1.
    pub fn revision(&self) -> i64 {
        self.current
    }

    /// The first revision that can be read, or -1 if nothing was ever compacted.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// What the records count, by the measure of the quota.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The key as it was at a revision, if it was there.
    pub fn get(&self, key: &[u8], revision: i64) -> Option<&Arc<Record>> {
        self.keys.get(key)?.live_at(revision)
    }

    /// The keys of a range that were there at a revision, in order.
    pub fn live<'a>(
        &'a self,
        range: &'a KeyRange,
        revision: i64,
    ) -> impl Iterator<Item = &'a Arc<Record>> + 'a {
        let one = match range {
            KeyRange::One(key) => self.keys.get(&key[..]),
            KeyRange::Span(..) | KeyRange::From(_) => None,
        };
        let bounds = match range {
            KeyRange::One(_) => None,
            KeyRange::Span(from, to) => {
                (from < to).then_some((Bound::Included(&from[..]), Bound::Excluded(&to[..])))
            }
            KeyRange::From(from) => Some((Bound::Included(&from[..]), Bound::Unbounded)),
        };
        let several = bounds.into_iter().flat_map(|bounds| self.keys.range::<_, [u8]>(bounds));
        let all = one.into_iter().chain(several.map(|(_, versions)| versions));
        all.filter_map(move |versions| versions.live_at(revision))
    }

    /// What happened from a write on, in order.
    pub fn history_from(&self, from: Revision) -> impl Iterator<Item = &Arc<Record>> {
        self.history.range(from..).map(|(_, record)| record)
    }

    /// A store at these revisions whose records are still to be added.
    pub(crate) fn rebuild(current: i64, compacted: i64) -> Self {
        // How far the sweeping was is not known; what is gone is passed over.
        let sweep = (compacted >= 0).then(Revision::default);
        Self { current, compacted, sweep, ..Self::default() }
    }

    /// Begins a transaction that may write.
    pub fn write(&mut self) -> Writer<'_> {
        Writer { next: Revision { main: self.current + 1, sub: 0 }, store: self }
    }

    /// The revision that a request means: its own, or what is current for 0 and less.
    fn readable(&self, asked: i64, current: i64) -> Result<i64, Refusal> {
        if asked > current {
            return Err(Refusal::FutureRevision);
        }
        let revision = if asked <= 0 { current } else { asked };
        if revision < self.compacted {
            return Err(Refusal::Compacted);
        }
        Ok(revision)
    }

    /// Adds a record, which comes after all others.
    pub(crate) fn add(&mut self, record: Record) {
        self.size_bytes += record.size_bytes();
        let record = Arc::new(record);
        match self.keys.get_mut(&record.key[..]) {
            Some(versions) => versions.push(Arc::clone(&record)),
            None => {
                self.keys.insert(record.key.clone(), Versions::One(Arc::clone(&record)));
            }
        }
        self.history.insert(record.revision, record);
    }
}

/// A transaction that writes. What it wrote is seen by its own reads at once, and by others when
/// they get at the store again.
#[derive(Debug)]
pub struct Writer<'a> {
    store: &'a mut Store,
    next: Revision,
}

impl Writer<'_> {
    /// The store as it is in the middle of the transaction.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// The revision that its reads are at.
    pub fn revision(&self) -> i64 {
        if self.next.sub > 0 { self.next.main } else { self.store.current }
    }

    /// The revision that its writes are at.
    pub fn write_revision(&self) -> i64 {
        self.next.main
    }

    /// Puts a key, and tells what it was before.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Option<Arc<Record>> {
        let before = self.store.get(key, self.next.main).cloned();
        let revision = self.take_next();
        let created = before.as_ref().map_or(revision.main, |is| is.create_revision);
        let version = before.as_ref().map_or(0, |is| is.version) + 1;
        self.store.add(Record::new(key, value, created, revision, version, lease));
        before
    }

    /// Deletes keys, and tells what they were.
    pub fn delete(&mut self, range: &KeyRange) -> Vec<Arc<Record>> {
        let before: Vec<_> = self.store.live(range, self.next.main).cloned().collect();
        for record in &before {
            let revision = self.take_next();
            self.store.add(Record {
                key: record.key.clone(),
                value: Bytes::new(),
                create_revision: 0,
                revision,
                version: 0,
                lease: 0,
            });
        }
        before
    }

    /// Ends it, and tells the revision that the store is at then.
    pub fn finish(self) -> i64 {
        self.store.current = self.revision();
        self.store.current
    }

    fn take_next(&mut self) -> Revision {
        let revision = self.next;
        self.next.sub += 1;
        revision
    }
}
