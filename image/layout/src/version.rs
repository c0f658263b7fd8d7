//! Versions, and the names of files and partitions that carry them.

use std::{cmp::Ordering, fmt, str::FromStr};

/// The longest version: a GPT name holds 36 characters, and `pithos_VERSION_verity` is one.
pub const MAX_LEN: usize = 36 - "pithos_".len() - "_verity".len();

/// The version of an image, such as `0.1.0` or `0.1.0-202611210930`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Version(String);

/// Why a text is not a version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a version: expected 1 to {MAX_LEN} characters of a-z 0-9 . -, \
     starting with a digit"
)]
pub struct NotAVersion(String);

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Label of the slot's data partition.
    pub fn usr_label(&self) -> String {
        format!("pithos_{self}")
    }

    /// Label of the slot's hash-tree partition.
    pub fn verity_label(&self) -> String {
        format!("pithos_{self}_verity")
    }

    /// The version that a slot's label names; none for an empty slot or a foreign label.
    pub fn from_label(label: &str) -> Option<Self> {
        let version = label.strip_prefix("pithos_")?;
        version.strip_suffix("_verity").unwrap_or(version).parse().ok()
    }

    /// File name of the UKI on the ESP while it has `tries` boots left to prove itself
    /// (Automatic Boot Assessment), or once it is proven.
    pub fn uki_name(&self, tries: Option<u8>) -> String {
        match tries {
            Some(tries) => format!("pithos_{self}+{tries}.efi"),
            None => format!("pithos_{self}.efi"),
        }
    }

    /// File name of an artefact of this version, `pithos-VERSION.EXTENSION`.
    pub fn artifact(&self, extension: &str) -> String {
        format!("pithos-{self}.{extension}")
    }
}

/// The order of the UAPI group's version format, by which the boot loader sorts entries, too: the
/// end of a text sorts below everything, then `-`, `.`, letters, and numbers by their value.
impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut left, mut right) = (self.0.as_str(), other.0.as_str());
        loop {
            match (left.is_empty(), right.is_empty()) {
                (true, true) => return Ordering::Equal,
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (false, false) => {}
            }
            for separator in ['-', '.'] {
                match (left.strip_prefix(separator), right.strip_prefix(separator)) {
                    (Some(after), Some(other)) => (left, right) = (after, other),
                    (Some(_), None) => return Ordering::Less,
                    (None, Some(_)) => return Ordering::Greater,
                    (None, None) => {}
                }
            }
            let numeric = [left, right].iter().any(|text| text.starts_with(DIGIT));
            let order = if numeric {
                let (number, other) = (run(&mut left, DIGIT), run(&mut right, DIGIT));
                let (number, other) =
                    (number.trim_start_matches('0'), other.trim_start_matches('0'));
                // A longer number is a larger one, now that nothing leads it.
                number.len().cmp(&other.len()).then(number.cmp(other))
            } else {
                run(&mut left, LETTER).cmp(run(&mut right, LETTER))
            };
            if order.is_ne() {
                return order;
            }
        }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

const DIGIT: fn(char) -> bool = |c| c.is_ascii_digit();
const LETTER: fn(char) -> bool = |c| c.is_ascii_lowercase();

/// Takes what matches off the front of `text`.
fn run<'a>(text: &mut &'a str, matches: fn(char) -> bool) -> &'a str {
    let end = text.find(|c| !matches(c)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
        let good = text.len() <= MAX_LEN
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(allowed);
        if good { Ok(Self(text.to_owned())) } else { Err(NotAVersion(text.to_owned())) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_version_still_fits_a_gpt_name() {
        let longest: Version = "1".repeat(MAX_LEN).parse().unwrap();
        assert_eq!(longest.verity_label().len(), 36);
        assert!("1".repeat(MAX_LEN + 1).parse::<Version>().is_err());
    }

    #[test]
    fn a_label_gives_its_version_back() {
        let version: Version = "0.1.0-202611210930".parse().unwrap();
        assert_eq!(Version::from_label(&version.usr_label()), Some(version.clone()));
        assert_eq!(Version::from_label(&version.verity_label()), Some(version));
        assert_eq!(Version::from_label("_empty"), None);
    }

    #[test]
    fn versions_sort_as_the_boot_loader_sorts_them() {
        // Each is older than the next.
        let sorted =
            ["0.1.0", "0.1.0-202611210930", "0.1.0-202611211459", "0.2", "0.2.1", "0.2a", "0.10"];
        for (index, older) in sorted.iter().enumerate() {
            for newer in &sorted[index + 1..] {
                let [older, newer]: [Version; 2] = [older, newer].map(|text| text.parse().unwrap());
                assert_eq!(older.cmp(&newer), Ordering::Less, "{older} {newer}");
                assert_eq!(newer.cmp(&older), Ordering::Greater, "{newer} {older}");
            }
        }
    }

    #[test]
    fn what_would_confuse_a_boot_counter_or_a_path_is_refused() {
        for bad in ["", "v1", "1+3", "1/2", "1 2", "1_2", "../1"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
