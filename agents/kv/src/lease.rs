//! Leases: what all members know of them.
//!
//! When one runs out is not known here, since members have no time in common: the leader counts it
//! ([`crate::lessor`]), and what all members are told is that a lease was revoked.

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};

use crate::refusal::Refusal;

/// The longest a lease may last, in seconds.
pub const MAX_TTL: i64 = 9_000_000_000;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long it lasts from when it was last renewed, in seconds.
    pub ttl: i64,
    /// How long a leader saw that it had left, in seconds, or 0 for all of its time.
    pub remaining_ttl: i64,
    /// What goes with it.
    pub keys: OrdSet<Bytes>,
}

/// All leases.
#[derive(Clone, Debug, Default)]
pub struct Leases(OrdMap<i64, Lease>);

impl Leases {
    /// Makes one.
    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<(), Refusal> {
        if id == 0 {
            return Err(Refusal::LeaseNotFound);
        }
        if ttl > MAX_TTL {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.0.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        self.0.insert(id, Lease { ttl, remaining_ttl: 0, keys: OrdSet::new() });
        Ok(())
    }

    /// Takes one away, and tells what went with it, in order.
    pub fn revoke(&mut self, id: i64) -> Result<OrdSet<Bytes>, Refusal> {
        self.0.remove(&id).map(|lease| lease.keys).ok_or(Refusal::LeaseNotFound)
    }

    /// Notes how long one has left. One that is gone by now is none to note anything of.
    pub fn checkpoint(&mut self, id: i64, remaining_ttl: i64) {
        if let Some(lease) = self.0.get_mut(&id) {
            lease.remaining_ttl = remaining_ttl;
        }
    }

    /// Takes a key from one lease to another, 0 being none.
    pub fn attach(&mut self, key: &[u8], before: i64, after: i64) {
        if before == after {
            return;
        }
        if let Some(lease) = self.0.get_mut(&before) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.0.get_mut(&after) {
            // A copy: what the key is a slice of may be large.
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    /// One of them.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.0.get(&id)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.0.iter().map(|(id, lease)| (*id, lease))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
