//! A cable between a machine and the switch, and what may be wrong with it.

use std::{fmt, str::FromStr, time::Duration};

/// How a cable treats the frames on it, in both directions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cable {
    /// Nothing gets through.
    pub cut: bool,
    /// How long a frame is on its way, one way.
    pub delay: Duration,
    /// How many frames get lost, one way.
    pub loss: Loss,
    /// How much gets through, one way. None: all there is.
    pub bytes_per_second: Option<u64>,
}

impl Cable {
    /// How long the end of the cable is busy with so many bytes.
    pub(super) fn time_to_send(&self, bytes: usize) -> Duration {
        match self.bytes_per_second {
            None => Duration::ZERO,
            Some(rate) => {
                Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate.max(1))
            }
        }
    }
}

impl fmt::Display for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cut {
            return write!(f, "cut");
        }
        if *self == Self::default() {
            return write!(f, "whole");
        }
        let mut words = Vec::new();
        if !self.delay.is_zero() {
            words.push(format!("slow by {:?}", self.delay));
        }
        if self.loss != Loss::default() {
            words.push(format!("losing {}", self.loss));
        }
        if let Some(rate) = self.bytes_per_second {
            words.push(format!("at most {rate} bytes/s"));
        }
        write!(f, "{}", words.join(", "))
    }
}

/// A share of frames that get lost, in tenths of a percent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Loss {
    permille: u16,
}

impl Loss {
    /// So many of a hundred frames.
    pub fn percent(percent: f64) -> Option<Self> {
        let permille = (percent * 10.0).round();
        (0.0..=1000.0).contains(&permille).then_some(Self { permille: permille as u16 })
    }

    pub(super) fn strikes(self, dice: &mut Dice) -> bool {
        // A cable that loses nothing does not use up the dice: a lossy one elsewhere loses the same
        // frames, whatever else is plugged in.
        self.permille > 0 && dice.roll() % 1000 < u64::from(self.permille)
    }
}

impl FromStr for Loss {
    type Err = String;

    /// `10%` or `0.5%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim().parse();
        number
            .ok()
            .and_then(Self::percent)
            .ok_or_else(|| format!("`{text}` is not a share of frames like 10%"))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.permille) / 10.0)
    }
}

/// Chance that can be had again by its seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_frames_is_read_as_it_is_written() {
        for text in ["0%", "0.1%", "10%", "100%"] {
            assert_eq!(text.parse::<Loss>().expect(text).to_string(), text);
        }
        assert_eq!("10".parse::<Loss>(), "10%".parse::<Loss>());
        for text in ["101%", "-1%", "much", "", "%", "NaN"] {
            assert!(text.parse::<Loss>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cable_says_what_is_wrong_with_it() {
        let cable = Cable { delay: Duration::from_millis(50), ..Cable::default() };
        let lossy = Cable { loss: Loss { permille: 5 }, ..cable };
        let cut = Cable { cut: true, ..lossy };
        assert_eq!(Cable::default().to_string(), "whole");
        assert_eq!(lossy.to_string(), "slow by 50ms, losing 0.5%");
        assert_eq!(cut.to_string(), "cut");
    }
}
