//! The hash of all that there is up to a revision, as etcd computes it over the file that it keeps:
//! two members, ours or etcd's, that agree on it have the same keys.
//!
//! It depends on what was compacted, but not on how far the sweeping is.

use prost::Message;

use super::{KeyRange, Record, Store};
use crate::{api::KeyValue, refusal::Refusal};

/// A hash, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    /// CRC-32C.
    pub hash: u32,
    /// The compaction that it was taken after.
    pub compact_revision: i64,
    /// The last revision in it.
    pub revision: i64,
}

impl Store {
    /// The hash up to a revision; 0 is the current one.
    pub fn hash(&self, revision: i64) -> Result<Hash, Refusal> {
        if revision > 0 && revision < self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.current {
            return Err(Refusal::FutureRevision);
        }
        let revision = if revision <= 0 { self.current } else { revision };
        let everything = KeyRange::From(bytes::Bytes::new());
        let none_live = self.live(&everything, revision).next().is_none();
        let mut hash = crc32c::crc32c(b"key");
        for record in self.history.values().take_while(|is| is.revision.main <= revision) {
            if self.is_hashed(record, revision, none_live) {
                hash = crc32c::crc32c_append(hash, &name(record));
                hash = crc32c::crc32c_append(hash, &content(record).encode_to_vec());
            }
        }
        Ok(Hash { hash, compact_revision: self.compacted, revision })
    }

    /// Of what is older than the compaction, only what is still there at `revision` counts. Where
    /// nothing is, etcd leaves nothing out, and so hashes what its compaction has left.
    fn is_hashed(&self, record: &Record, revision: i64, none_live: bool) -> bool {
        if record.revision.main == self.compacted && record.is_tombstone() {
            return false;
        }
        if record.revision.main > self.compacted {
            return true;
        }
        if none_live {
            return self.survives(record);
        }
        self.get(&record.key, revision).is_some_and(|live| live.revision == record.revision)
    }
}

/// The name that etcd stores a record under.
fn name(record: &Record) -> Vec<u8> {
    let mut name = record.revision.main.to_be_bytes().to_vec();
    name.push(b'_');
    name.extend(record.revision.sub.to_be_bytes());
    if record.is_tombstone() {
        name.push(b't');
    }
    name
}

/// What etcd stores there.
fn content(record: &Record) -> KeyValue {
    if record.is_tombstone() {
        return KeyValue { key: record.key.clone(), ..KeyValue::default() };
    }
    record.key_value()
}
