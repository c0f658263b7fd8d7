//! What time it is, as the machines of this crate are told.

use std::time::Duration;

use jiff::Timestamp;

/// Two clocks. What is waited for is counted by the one that nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since some moment before; never goes back.
    pub up: Duration,
    /// The clock on the wall, which may be wrong and may jump.
    pub wall: Timestamp,
}

#[cfg(test)]
impl Now {
    /// So many seconds after a moment of no meaning.
    pub(crate) fn after(seconds: u64) -> Self {
        let wall = Timestamp::from_second(1_795_046_400 + seconds as i64).expect("in this century");
        Self { up: Duration::from_secs(seconds), wall }
    }
}
