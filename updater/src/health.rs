//! Whether the version that runs is healthy, and what follows from it: pure.
//!
//! ```text
//! multi-user.target -> update-engine health -> boot-complete.target -> the counter goes
//!                            |
//!                            | bad at the deadline, on trial, and the other slot is whole
//!                            v
//!             remembered as bad -> counter spent -> reboot into the other version
//! ```
//!
//! A check that the version before failed, too, says nothing about this one. A machine that has
//! nothing to fall back to is never rebooted: it says what is wrong and why it stays.

mod checks;
pub(crate) mod perform;

use std::collections::{BTreeMap, BTreeSet};

use layout::{RootHash, Version};
use serde::{Deserialize, Serialize};

use crate::slots::Trial;

pub use checks::{Check, Folders, choose};
pub use perform::{Error, Options, failing, run};

/// What checks say, by name.
pub type Results = BTreeMap<String, Outcome>;

/// What a check says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether a version without it is not healthy.
    pub is_required: bool,
    /// Nothing if it passed.
    pub failure: Option<String>,
}

/// The boot that is judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Boot {
    /// What runs.
    pub version: Version,
    /// Its `/usr`.
    pub root_hash: RootHash,
    /// Its counter; none if it is proven.
    pub trial: Option<Trial>,
    /// Checks that the version which installed this one failed.
    pub failing: BTreeSet<String>,
}

/// A judgement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "health", rename_all = "kebab-case")]
pub enum Verdict {
    /// It stays.
    Healthy {
        /// Checks that failed and do not count: wanted ones, and those that failed before.
        warnings: Vec<String>,
    },
    /// It is not, or not yet.
    Unhealthy {
        /// What failed.
        reasons: Vec<String>,
    },
}

/// What to do about an unhealthy version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Then {
    /// Boot the version in the other slot.
    FallBack {
        /// Which one.
        to: Version,
    },
    /// Nothing.
    Stay {
        /// Why.
        why: String,
    },
}

/// Judges a boot by what the checks say.
pub fn judge(boot: &Boot, results: &Results) -> Verdict {
    let (mut warnings, mut reasons) = (vec![], vec![]);
    for (name, outcome) in results {
        let Some(failure) = &outcome.failure else { continue };
        if !outcome.is_required {
            warnings.push(format!("{name}: {failure}"));
        } else if boot.failing.contains(name) {
            warnings.push(format!("{name}: {failure} (as before the update)"));
        } else {
            reasons.push(format!("{name}: {failure}"));
        }
    }
    match reasons.is_empty() {
        true => Verdict::Healthy { warnings },
        false => Verdict::Unhealthy { reasons },
    }
}

/// What to do with a version that is not healthy at the deadline. `other` is the version of the
/// other slot if all of it is whole, or why not.
pub fn then(boot: &Boot, other: Result<Version, String>) -> Then {
    match (boot.trial, other) {
        (None, _) => Then::Stay {
            why: format!(
                "version {} has proven itself before: it is not what changed",
                boot.version
            ),
        },
        (Some(_), Ok(to)) => Then::FallBack { to },
        (Some(_), Err(why)) => {
            Then::Stay { why: format!("there is nothing to fall back to: {why}") }
        }
    }
}

#[cfg(test)]
mod tests;
