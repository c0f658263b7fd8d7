//! All that a document wants below a root directory: users and groups, directories, files, links,
//! units; and the arguments of the kernel, which are a file, too.
//!
//! ```text
//! facts of the root, and the Config --(plan)--> steps --(perform)--> the root
//! ```
//!
//! Units are planned when files are there: what enabling one means is said in its text, which may
//! have come from anywhere.

pub mod accounts;
mod apply;
pub mod kargs;
pub mod nodes;
pub mod perform;
pub mod result;
pub mod step;
pub mod tree;
pub mod units;

pub(crate) use apply::reads_fragments;
pub use apply::{ApplyError, Done, Facts, Options, apply, plan, read_units};

/// A place in a document, and why what it wants cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct Refused {
    /// The place, as `$.storage.files.3.path`.
    pub at: String,
    /// Why not.
    pub why: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
}

impl Refused {
    pub(crate) fn new(at: impl Into<String>, why: impl Into<String>) -> Self {
        Self { at: at.into(), why: why.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests;
