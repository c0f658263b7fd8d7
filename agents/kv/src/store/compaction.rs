//! Forgetting what was before a revision.
//!
//! A compaction is true at once: what was before can no longer be read. Its records go in slices, in
//! the order of history, so that nobody waits for a long one.
//!
//! Of each key the last version up to the revision stays, since it is what the key was then. The
//! deletion of a key stays only where it happened in that very revision: a watch may still begin
//! there, and is to hear of it.

use std::sync::Arc;

use super::{Record, Revision, Store};
use crate::refusal::Refusal;

impl Store {
    /// Makes a revision the first that can be read.
    pub fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.current {
            return Err(Refusal::FutureRevision);
        }
        self.compacted = revision;
        self.sweep = Some(Revision::default());
        Ok(())
    }

    /// Whether records of before the compaction are still there.
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// Looks at up to so many records for the compaction that is on, and tells whether it goes on.
    pub fn sweep(&mut self, records: usize) -> bool {
        let Some(from) = self.sweep else { return false };
        let end = Revision { main: self.compacted + 1, sub: 0 };
        let slice: Vec<Arc<Record>> =
            self.history.range(from..end).take(records).map(|(_, is)| Arc::clone(is)).collect();
        for record in &slice {
            if !self.survives(record) {
                self.forget(record);
            }
        }
        self.sweep = slice
            .last()
            .filter(|_| slice.len() == records)
            .map(|last| Revision { sub: last.revision.sub + 1, ..last.revision });
        self.sweep.is_some()
    }

    /// Whether a record up to the compaction is what stays of its key.
    pub(super) fn survives(&self, record: &Record) -> bool {
        let last = self.keys.get(&record.key[..]).and_then(|is| is.last_at(self.compacted));
        last.is_some_and(|last| last.revision == record.revision)
            && (!record.is_tombstone() || record.revision.main == self.compacted)
    }

    /// Takes a record away whose key has no older ones.
    fn forget(&mut self, record: &Record) {
        self.size_bytes -= record.size_bytes();
        self.history.remove(&record.revision);
        let left = self.keys.get_mut(&record.key[..]).is_some_and(|versions| versions.pop());
        if !left {
            self.keys.remove(&record.key[..]);
        }
    }
}
