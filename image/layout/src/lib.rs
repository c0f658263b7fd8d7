//! The disk of PithOS, as numbers and names: what the image builder writes, what `/init` looks
//! for, and what the updater fills. Nothing here touches a disk.
//!
//! ```text
//! 1 MiB                                                                       8 GiB (shipped)
//! | esp 512M | usr-a 1G | usr-a-verity 16M | usr-b 1G | usr-b-verity 16M | gap | root: the rest |
//! ```
//!
//! Two rules tie a version to its slot: the two halves of the verity root hash are the PARTUUIDs
//! of its partitions (Discoverable Partitions Specification), and its label is its version.

pub mod cmdline;
pub mod disk;
pub mod hash;
pub mod seed;
pub mod types;
pub mod verity;
pub mod version;

pub use disk::{Partition, Role, Slot};
pub use hash::RootHash;
pub use version::Version;
