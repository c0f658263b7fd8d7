//! When leases run out, by the clock of the leader.
//!
//! The times are those of a clock that never goes back and that stands in no relation to anybody
//! else's, counted from any beginning. A lease never runs out early: a new leader gives each the time
//! that it has left by what the last one noted, or all of it, and a grace for how long there was no
//! leader.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::{
    api::LeaseCheckpoint,
    lease::{Lease, Leases},
};

/// How often it is noted how long a lease has left.
const CHECKPOINT: Duration = Duration::from_secs(5 * 60);
/// When a lease that ran out is named again, if it was not revoked.
const RETRY: Duration = Duration::from_secs(3);

/// What came of renewing a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It lasts so many seconds from now.
    Renewed {
        /// How many.
        ttl: i64,
        /// Whether members have noted less, and are to forget that.
        noted: bool,
    },
    /// It ran out, and will be revoked.
    Expired,
    /// There is none.
    Unknown,
}

#[derive(Debug)]
struct Clock {
    expires: Duration,
    /// When it is due: to be revoked, or to be noted.
    due: Duration,
}

/// The clock of all leases.
#[derive(Debug, Default)]
pub struct Lessor {
    clocks: HashMap<i64, Clock>,
    due: BTreeSet<(Duration, i64)>,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// To be revoked.
    pub expired: Vec<i64>,
    /// To be noted.
    pub checkpoints: Vec<LeaseCheckpoint>,
}

impl Lessor {
    /// Begins to count, as a new leader.
    pub fn begin(leases: &Leases, grace: Duration, now: Duration) -> Self {
        let mut lessor = Self::default();
        for (id, lease) in leases.iter() {
            let left = if lease.remaining_ttl > 0 { lease.remaining_ttl } else { lease.ttl };
            lessor.start(id, now.saturating_add(seconds(left)).saturating_add(grace), now);
        }
        lessor
    }

    /// A lease was granted.
    pub fn granted(&mut self, id: i64, ttl: i64, now: Duration) {
        self.start(id, now.saturating_add(seconds(ttl)), now);
    }

    /// A lease was revoked.
    pub fn revoked(&mut self, id: i64) {
        if let Some(clock) = self.clocks.remove(&id) {
            self.due.remove(&(clock.due, id));
        }
    }

    /// A client says that it is still there.
    pub fn renew(&mut self, id: i64, lease: Option<&Lease>, now: Duration) -> Renewal {
        let (Some(lease), Some(clock)) = (lease, self.clocks.get(&id)) else {
            return Renewal::Unknown;
        };
        if clock.expires <= now {
            return Renewal::Expired;
        }
        self.granted(id, lease.ttl, now);
        Renewal::Renewed { ttl: lease.ttl, noted: lease.remaining_ttl > 0 }
    }

    /// How long a lease has left.
    pub fn remaining(&self, id: i64, now: Duration) -> Option<Duration> {
        self.clocks.get(&id).map(|clock| clock.expires.saturating_sub(now))
    }

    /// What is due, of so many leases at the most.
    pub fn due(&mut self, now: Duration, most: usize) -> Due {
        let mut all = Due::default();
        for _ in 0..most {
            let Some((_, id)) = self.due.first().copied().filter(|(due, _)| *due <= now) else {
                break;
            };
            let expires = self.clocks[&id].expires;
            let left = expires.saturating_sub(now);
            if left.is_zero() {
                all.expired.push(id);
                self.set_due(id, now + RETRY);
            } else {
                let remaining_ttl = left.as_millis().div_ceil(1000) as i64;
                all.checkpoints.push(LeaseCheckpoint { id, remaining_ttl });
                self.set_due(id, next_due(expires, now));
            }
        }
        all
    }

    fn start(&mut self, id: i64, expires: Duration, now: Duration) {
        self.revoked(id);
        let due = next_due(expires, now);
        self.clocks.insert(id, Clock { expires, due });
        self.due.insert((due, id));
    }

    fn set_due(&mut self, id: i64, due: Duration) {
        let clock = self.clocks.get_mut(&id).expect("what is due has a clock");
        self.due.remove(&(clock.due, id));
        clock.due = due;
        self.due.insert((due, id));
    }
}

fn next_due(expires: Duration, now: Duration) -> Duration {
    expires.min(now.saturating_add(CHECKPOINT))
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn leases(of: &[(i64, i64)]) -> Leases {
        let mut leases = Leases::default();
        for (id, ttl) in of {
            leases.grant(*id, *ttl).expect("it is granted");
        }
        leases
    }

    fn due(lessor: &mut Lessor, now: Duration) -> (Vec<i64>, Vec<(i64, i64)>) {
        let due = lessor.due(now, 100);
        let notes = due.checkpoints.into_iter().map(|note| (note.id, note.remaining_ttl));
        (due.expired, notes.collect())
    }

    #[test]
    fn a_lease_runs_out_when_its_time_is_over_and_not_before() {
        let mut lessor = Lessor::default();
        lessor.granted(1, 10, SECOND);
        assert!(due(&mut lessor, SECOND * 11 - Duration::from_nanos(1)).0.is_empty());
        assert_eq!(due(&mut lessor, SECOND * 11).0, [1]);
    }

    #[test]
    fn a_lease_that_is_renewed_has_all_of_its_time_again() {
        let leases = leases(&[(1, 10)]);
        let mut lessor = Lessor::begin(&leases, Duration::ZERO, Duration::ZERO);
        let renewed = lessor.renew(1, leases.get(1), SECOND * 9);
        assert_eq!(renewed, Renewal::Renewed { ttl: 10, noted: false });
        assert_eq!(lessor.remaining(1, SECOND * 9), Some(SECOND * 10));
        assert!(due(&mut lessor, SECOND * 18).0.is_empty());
        assert_eq!(due(&mut lessor, SECOND * 19).0, [1]);
    }

    #[test]
    fn a_lease_that_ran_out_is_not_renewed_and_named_until_it_is_revoked() {
        let leases = leases(&[(1, 10)]);
        let mut lessor = Lessor::begin(&leases, Duration::ZERO, Duration::ZERO);
        assert_eq!(lessor.renew(1, leases.get(1), SECOND * 10), Renewal::Expired);
        assert_eq!(due(&mut lessor, SECOND * 10).0, [1]);
        assert!(due(&mut lessor, SECOND * 11).0.is_empty());
        assert_eq!(due(&mut lessor, SECOND * 13).0, [1]);
        lessor.revoked(1);
        assert!(due(&mut lessor, SECOND * 99).0.is_empty());
        assert_eq!(lessor.renew(1, None, SECOND * 99), Renewal::Unknown);
    }

    #[test]
    fn a_new_leader_gives_what_was_left_and_a_grace() {
        let mut leases = leases(&[(1, 1000), (2, 1000)]);
        leases.checkpoint(2, 30);
        let mut lessor = Lessor::begin(&leases, SECOND, SECOND * 5);
        assert_eq!(lessor.remaining(1, SECOND * 5), Some(SECOND * 1001));
        assert_eq!(lessor.remaining(2, SECOND * 5), Some(SECOND * 31));
        let renewed = lessor.renew(2, leases.get(2), SECOND * 5);
        assert_eq!(renewed, Renewal::Renewed { ttl: 1000, noted: true });
    }

    #[test]
    fn what_a_long_lease_has_left_is_noted_now_and_then() {
        let mut lessor = Lessor::default();
        lessor.granted(1, 700, Duration::ZERO);
        assert_eq!(due(&mut lessor, SECOND * 299), (vec![], vec![]));
        assert_eq!(due(&mut lessor, SECOND * 300), (vec![], vec![(1, 400)]));
        assert_eq!(due(&mut lessor, SECOND * 601), (vec![], vec![(1, 99)]));
        assert_eq!(due(&mut lessor, SECOND * 700), (vec![1], vec![]));
    }

    #[test]
    fn no_more_are_named_at_once_than_asked_for() {
        let mut lessor = Lessor::default();
        for id in 1..=5 {
            lessor.granted(id, 1, Duration::ZERO);
        }
        assert_eq!(lessor.due(SECOND, 2).expired, [1, 2]);
        assert_eq!(lessor.due(SECOND, 9).expired, [3, 4, 5]);
    }
}
