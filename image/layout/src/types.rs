//! Partition type GUIDs of the UAPI Discoverable Partitions Specification (x86-64).

use uuid::{Uuid, uuid};

/// EFI System Partition.
pub const ESP: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
/// `/usr`, x86-64.
pub const USR: Uuid = uuid!("8484680c-9521-48c6-9c11-b0720656f69e");
/// The verity hash tree of `/usr`, x86-64.
pub const USR_VERITY: Uuid = uuid!("77ff5f63-e7b6-4633-acf4-1565b864c0e6");
/// The root file system, x86-64.
pub const ROOT: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
/// Generic Linux data: the type of a root that is still being made.
pub const UNFINISHED: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

/// GPT attribute bit 60: mount read-only.
pub const FLAG_READ_ONLY: u64 = 1 << 60;
/// GPT attribute bit 63: do not mount by discovery. Set on slots, which `/init` opens by hash.
pub const FLAG_NO_AUTO: u64 = 1 << 63;
/// GPT attribute bit 59: the file system grows to the partition.
pub const FLAG_GROW: u64 = 1 << 59;
