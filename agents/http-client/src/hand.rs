//! A clock that is moved by hand, for tests: it goes on only when somebody sleeps.

use std::{
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use crate::Clock;

/// The clock. It is the 24th of May 2013, midnight, for ever.
#[derive(Debug)]
pub struct Hand(Mutex<(Instant, Vec<u128>)>);

impl Hand {
    /// Nobody has slept yet.
    #[expect(clippy::new_without_default, reason = "two clocks are not the same")]
    pub fn new() -> Self {
        Self(Mutex::new((Instant::now(), Vec::new())))
    }

    /// How long was slept each time, in milliseconds.
    ///
    /// # Panics
    /// When a test did while it held the clock.
    pub fn slept(&self) -> Vec<u128> {
        self.0.lock().expect("nobody panics with it").1.clone()
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        self.0.lock().expect("nobody panics with it").0
    }

    fn sleep(&self, duration: Duration) {
        let mut state = self.0.lock().expect("nobody panics with it");
        state.0 += duration;
        state.1.push(duration.as_millis());
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600)
    }
}
