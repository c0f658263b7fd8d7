//! How fast is fast enough: pure.

use std::time::{Duration, Instant};

/// So many bytes in a second, on average.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    bytes: Option<u64>,
    /// When what was taken so far is paid for.
    paid: Option<Instant>,
}

impl Rate {
    pub(super) fn unlimited() -> Self {
        Self { bytes: None, paid: None }
    }

    pub(super) fn new(bytes: u64) -> Self {
        Self { bytes: Some(bytes), paid: None }
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Takes what came, and says how long to wait before more is read.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.bytes else { return Duration::ZERO };
        // What was not taken while nobody read is not made up for.
        let from = self.paid.map_or(now, |paid| paid.max(now));
        let paid = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.paid = Some(paid);
        paid - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_as_told_takes_so_many_bytes_in_a_second() {
        let start = Instant::now();
        let (mut rate, mut now) = (Rate::new(1_000_000), start);
        for _ in 0..100 {
            now += rate.take(65_536, now);
        }
        let took = now - start;
        assert!((6.5..6.6).contains(&took.as_secs_f64()), "{took:?}");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let start = Instant::now();
        let mut rate = Rate::new(1000);
        rate.take(1000, start);
        let later = start + Duration::from_secs(100);
        assert_eq!(rate.take(1000, later), Duration::from_secs(1));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        assert_eq!(Rate::unlimited().take(u64::MAX, Instant::now()), Duration::ZERO);
    }
}
