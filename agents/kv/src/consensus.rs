//! Where commands become agreed on: the narrow place between what members say to each other and what
//! a member keeps.
//!
//! Commands go in as bytes and come out, when they can no longer be lost, in one order for all, each
//! with its index. What is in between knows nothing of keys, and nobody outside knows of elections
//! and logs.

mod alone;

use bytes::Bytes;

pub use alone::{Alone, Options};

use crate::{log, snapshot::Place};

/// A command that is agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place among all; the first is 1.
    pub index: u64,
    /// The term of the leader that it came from.
    pub term: u64,
    /// What it says.
    pub command: Bytes,
}

/// How far the members are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The leader, or 0.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// The last command that is agreed on.
    pub index: u64,
}

/// What makes commands agreed on.
pub trait Consensus {
    /// Takes a command to be agreed on.
    fn propose(&mut self, command: Bytes);

    /// Does what is to be done for all that was proposed, and tells what is agreed on since it was
    /// asked last. After an error the member is to stop.
    fn advance(&mut self) -> Result<Vec<Committed>, log::Error>;

    /// How far the members are.
    fn standing(&self) -> Standing;

    /// Whether the log has become long beside what is kept, in bytes, so that a snapshot is worth it.
    fn is_long(&self, kept_bytes: u64) -> bool;

    /// Where the log stands.
    fn mark(&self) -> Mark;

    /// A snapshot of what was at a mark is on the disk: the log before it can go.
    fn forget(&mut self, mark: Mark) -> Result<(), log::Error>;
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What was agreed on up to it.
    pub place: Place,
    /// The segment that was being written.
    segment: u64,
}
