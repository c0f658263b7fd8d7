//! The versions of one key, oldest first.

use std::sync::Arc;

use imbl::Vector;

use super::{Record, Revision};

/// Most keys have one version most of the time.
#[derive(Clone, Debug)]
pub(super) enum Versions {
    One(Arc<Record>),
    Several(Box<Vector<Arc<Record>>>),
}

impl Versions {
    pub(super) fn push(&mut self, record: Arc<Record>) {
        match self {
            Self::One(one) => {
                *self = Self::Several(Box::new([Arc::clone(one), record].into_iter().collect()));
            }
            Self::Several(several) => several.push_back(record),
        }
    }

    /// The last version up to and with a revision, if it was not a deletion.
    pub(super) fn live_at(&self, revision: i64) -> Option<&Arc<Record>> {
        self.last_at(revision).filter(|record| !record.is_tombstone())
    }

    /// The last version up to and with a revision.
    pub(super) fn last_at(&self, revision: i64) -> Option<&Arc<Record>> {
        match self {
            Self::One(one) => (one.revision.main <= revision).then_some(one),
            Self::Several(several) => {
                let last = several.back()?;
                if last.revision.main <= revision {
                    return Some(last);
                }
                let end = Revision { main: revision, sub: i64::MAX };
                // No record has the revision that is looked for, so that it ends in front of the next.
                let next = several.binary_search_by_key(&end, |record| record.revision);
                several.get(next.unwrap_or_else(|next| next).checked_sub(1)?)
            }
        }
    }

    /// Takes the oldest version away, and tells whether any is left.
    pub(super) fn pop(&mut self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Several(several) => {
                several.pop_front();
                if let (Some(one), 1) = (several.front(), several.len()) {
                    *self = Self::One(Arc::clone(one));
                }
                true
            }
        }
    }
}
