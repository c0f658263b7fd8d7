//! The partition table: which partitions there are, how big, where.

use uuid::Uuid;

use crate::{RootHash, Version, seed::Seed, types};

/// One mebibyte: the alignment of everything.
pub const MIB: u64 = 1 << 20;
/// Logical sector of the shipped image.
pub const SECTOR_BYTES: u64 = 512;
/// Size of the shipped (sparse) disk.
pub const DISK_BYTES: u64 = 8 << 30;
/// Size of the EFI System Partition.
pub const ESP_BYTES: u64 = 512 * MIB;
/// Size of a slot's data partition.
pub const USR_BYTES: u64 = 1 << 30;
/// Size of a slot's hash-tree partition: a tree takes 1/127 of its data, and some.
pub const VERITY_BYTES: u64 = 16 * MIB;
/// Space between the slots and root, for two verity signatures of 64 KiB later.
pub const SIGNATURES_BYTES: u64 = 2 * MIB;
/// The least space that root must get.
pub const ROOT_MIN_BYTES: u64 = 256 * MIB;

/// Label of a slot without a version.
pub const EMPTY_LABEL: &str = "_empty";
/// Label of the root partition once it is whole.
pub const ROOT_LABEL: &str = "root";
/// Label of a root that is being made. Found at boot, it means that the first boot was cut short.
pub const ROOT_UNFINISHED_LABEL: &str = "root-unfinished";
/// Boots that a new version has to prove itself.
pub const TRIES: u8 = 3;

/// One of the two places for a version of `/usr`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Slot {
    /// Partitions 2 and 3.
    A,
    /// Partitions 4 and 5.
    B,
}

impl Slot {
    /// The slot that this one is not.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What a partition is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// EFI System Partition: systemd-boot and UKIs.
    Esp,
    /// The erofs of a slot.
    Usr(Slot),
    /// The hash tree of a slot.
    Verity(Slot),
    /// The machine's own file system: not in the shipped table, made on first boot.
    Root,
}

impl Role {
    /// Number of the partition's entry in the table, from 1.
    pub fn number(self) -> u32 {
        match self {
            Self::Esp => 1,
            Self::Usr(Slot::A) => 2,
            Self::Verity(Slot::A) => 3,
            Self::Usr(Slot::B) => 4,
            Self::Verity(Slot::B) => 5,
            Self::Root => 6,
        }
    }

    /// Partition type GUID.
    pub fn type_guid(self) -> Uuid {
        match self {
            Self::Esp => types::ESP,
            Self::Usr(_) => types::USR,
            Self::Verity(_) => types::USR_VERITY,
            Self::Root => types::ROOT,
        }
    }
}

/// One entry of the partition table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// GPT name.
    pub label: String,
    /// PARTUUID.
    pub guid: Uuid,
    /// First byte, a multiple of [`MIB`].
    pub start_bytes: u64,
    /// Length, a multiple of [`MIB`].
    pub size_bytes: u64,
    /// GPT attribute bits.
    pub attributes: u64,
}

/// The table of a shipped image: slot A holds `version`, slot B is empty, there is no root.
pub fn shipped(seed: &Seed, version: &Version, root_hash: &RootHash) -> Vec<Partition> {
    let slot_flags = types::FLAG_READ_ONLY | types::FLAG_NO_AUTO;
    let rows = [
        (Role::Esp, "esp".to_owned(), seed.uuid("esp"), ESP_BYTES, 0),
        (Role::Usr(Slot::A), version.usr_label(), root_hash.usr_partuuid(), USR_BYTES, slot_flags),
        (
            Role::Verity(Slot::A),
            version.verity_label(),
            root_hash.verity_partuuid(),
            VERITY_BYTES,
            slot_flags,
        ),
        (Role::Usr(Slot::B), EMPTY_LABEL.to_owned(), seed.uuid("usr-b"), USR_BYTES, slot_flags),
        (
            Role::Verity(Slot::B),
            EMPTY_LABEL.to_owned(),
            seed.uuid("usr-b-verity"),
            VERITY_BYTES,
            slot_flags,
        ),
    ];
    let mut next = MIB;
    rows.into_iter()
        .map(|(role, label, guid, size_bytes, attributes)| {
            let start_bytes = next;
            next += size_bytes;
            Partition { role, label, guid, start_bytes, size_bytes, attributes }
        })
        .collect()
}

/// First byte of root, behind the slots and the room for signatures.
pub const fn root_start_bytes() -> u64 {
    MIB + ESP_BYTES + 2 * (USR_BYTES + VERITY_BYTES) + SIGNATURES_BYTES
}

/// Length of root on a disk of `disk_bytes`, whole mebibytes, the backup table left free;
/// none when there is no room for a root of [`ROOT_MIN_BYTES`].
pub fn root_size_bytes(disk_bytes: u64) -> Option<u64> {
    let end = disk_bytes.checked_sub(MIB)? / MIB * MIB;
    let size = end.checked_sub(root_start_bytes())?;
    (size >= ROOT_MIN_BYTES).then_some(size)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shipped_table_is_the_one_of_the_architecture() {
        let version: Version = "1.2.3".parse().unwrap();
        let seed = Seed::new("cloud", &version);
        let table: String = shipped(&seed, &version, &RootHash([0xab; 32]))
            .iter()
            .map(|p| {
                let (start, size) = (p.start_bytes / MIB, p.size_bytes / MIB);
                format!("{} {start:>5}M +{size:>4}M {}\n", p.role.number(), p.label)
            })
            .collect();
        expect![[r#"
            1     1M + 512M esp
            2   513M +1024M pithos_1.2.3
            3  1537M +  16M pithos_1.2.3_verity
            4  1553M +1024M _empty
            5  2577M +  16M _empty
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn a_disk_without_room_for_root_is_refused() {
        assert_eq!(root_size_bytes(0), None);
        assert_eq!(root_size_bytes(root_start_bytes() + ROOT_MIN_BYTES), None);
        assert_eq!(
            root_size_bytes(root_start_bytes() + ROOT_MIN_BYTES + MIB),
            Some(ROOT_MIN_BYTES)
        );
    }

    proptest! {
        #[test]
        fn root_stays_aligned_and_clear_of_the_backup_table(disk in 0u64..1 << 50) {
            if let Some(size) = root_size_bytes(disk) {
                prop_assert_eq!(size % MIB, 0);
                prop_assert!(root_start_bytes() + size + 34 * SECTOR_BYTES <= disk);
            }
        }
    }
}
