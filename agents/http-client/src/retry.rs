//! When to try again: after 200 ms, then twice as long each time, at most 5 s; and when to stop.

use std::time::{Duration, Instant, SystemTime};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// Somebody who knows the time and can wait. Tests have one of their own.
pub trait Clock: Sync {
    /// What time it is.
    fn now(&self) -> Instant;
    /// Waits.
    fn sleep(&self, duration: Duration);
    /// What date it is, for signatures.
    fn date(&self) -> SystemTime;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wall;

impl Clock for Wall {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The tries of one thing.
#[derive(Clone, Debug)]
pub struct Tries {
    start: Instant,
    end: Instant,
    next: Duration,
    count: u32,
}

impl Tries {
    /// Begins now, and has until `patience` is over.
    pub fn new(now: Instant, patience: Duration) -> Self {
        Self { start: now, end: now + patience, next: FIRST, count: 0 }
    }

    /// A try failed: how long to wait before the next, or nothing if there is no time for one.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.count += 1;
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        (now + wait < self.end).then_some(wait)
    }

    /// When the time is over.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// How many failed.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How long it has been.
    pub fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_end() {
        let start = Instant::now();
        let mut tries = Tries::new(start, Duration::from_secs(20));
        let mut now = start;
        let mut waits = Vec::new();
        while let Some(wait) = tries.failed(now) {
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!((tries.count(), tries.seconds(now)), (8, 16));
    }
}
