//! What is in a partition, told by its superblock, and what each file system needs of us: to be
//! checked, mounted and grown.

use std::{fs::File, os::unix::fs::FileExt};

use layout::disk::MIB;
use nix::mount::{MsFlags, mount};

use super::{RootError, TREE, doing, run};

/// Enough for the superblock of each: that of btrfs is at 64 KiB.
const HEAD_BYTES: usize = (64 << 10) + 512;

/// A file system that root may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

/// What a superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    pub(super) kind: Kind,
    /// The kernel noted errors in it when it was mounted before.
    pub(super) has_errors: bool,
    pub(super) size_bytes: u64,
}

impl Kind {
    /// As mount(2) and the kernel's module have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The one of that name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Xfs, Self::Btrfs].into_iter().find(|kind| kind.name() == name)
    }

    /// Makes it on `device`, whatever was there before.
    pub(super) fn make(
        self,
        device: &str,
        label: &str,
        options: &[String],
    ) -> Result<(), RootError> {
        let (program, ours): (_, &[&str]) = match self {
            Self::Ext4 => ("/usr/sbin/mkfs.ext4", &["-q", "-F", "-m", "1"]),
            Self::Xfs => ("/usr/sbin/mkfs.xfs", &["-q", "-f"]),
            Self::Btrfs => ("/usr/sbin/mkfs.btrfs", &["-q", "-f"]),
        };
        let options = options.iter().map(String::as_str);
        let args: Vec<&str> = ours.iter().copied().chain(["-L", label]).chain(options).collect();
        run(program, &[&args[..], &[device]].concat(), &[0])
    }

    /// Mounts `device` as root.
    pub(super) fn mount(self, device: &str) -> Result<(), RootError> {
        // Nothing more is written over a structure that is known to be wrong; the note that the
        // kernel leaves makes the next boot repair it.
        let options = match self {
            Self::Ext4 => Some("errors=remount-ro"),
            Self::Xfs | Self::Btrfs => None,
        };
        mount(Some(device), TREE, Some(self.name()), MsFlags::empty(), options)
            .map_err(|errno| doing(format!("mounting {device} ({})", self.name()))(errno.into()))
    }

    /// Grows it to its partition; it is mounted.
    pub(super) fn grow(self, device: &str) -> Result<(), RootError> {
        match self {
            Self::Ext4 => run("/usr/sbin/resize2fs", &[device], &[0]),
            Self::Xfs => run("/usr/sbin/xfs_growfs", &["-d", TREE], &[0]),
            Self::Btrfs => run("/usr/bin/btrfs", &["filesystem", "resize", "max", TREE], &[0]),
        }
    }
}

impl FileSystem {
    /// Reads the superblock of `device`. Gives the length of the device too.
    pub(super) fn of(device: &str) -> Result<(Self, u64), RootError> {
        let file = File::open(device).map_err(doing(format!("opening {device}")))?;
        let size = block::size_bytes(&file).map_err(doing(format!("the size of {device}")))?;
        let mut bytes = vec![0; HEAD_BYTES];
        let what = format!("reading the superblock of {device}");
        file.read_exact_at(&mut bytes, 0).map_err(doing(what))?;
        let found = Self::identify(&bytes).ok_or_else(|| RootError::Unknown(device.to_owned()))?;
        Ok((found, size))
    }

    /// Repairs what can be repaired without a question; it is not mounted.
    pub(super) fn check(self, device: &str) -> Result<(), RootError> {
        match self.kind {
            // Below 4 it is good now (e2fsck(8)).
            Kind::Ext4 => run("/usr/sbin/e2fsck", &["-p", device], &[0, 1, 2, 3]),
            // They do it as they are mounted.
            Kind::Xfs | Kind::Btrfs => Ok(()),
        }
    }

    /// Whether it leaves more of its device than its own rounding explains.
    pub(super) fn is_smaller_than(self, device_bytes: u64) -> bool {
        let slack = match self.kind {
            // What does not make a group of blocks that can hold its own tables is left.
            Kind::Ext4 => 4 * MIB,
            // Less than a least allocation group.
            Kind::Xfs => 16 * MIB,
            Kind::Btrfs => MIB,
        };
        self.size_bytes.saturating_add(slack) < device_bytes
    }

    fn identify(bytes: &[u8]) -> Option<Self> {
        let (ext4, btrfs) = (&bytes[1024..], &bytes[64 << 10..]);
        let le32 = |at: usize| u64::from(u32::from_le_bytes(array(&ext4[at..])));
        let found = |kind, size_bytes| Self { kind, has_errors: false, size_bytes };
        if bytes.starts_with(b"XFSB") {
            let block_bytes = u64::from(u32::from_be_bytes(array(&bytes[4..])));
            let blocks = u64::from_be_bytes(array(&bytes[8..]));
            return Some(found(Kind::Xfs, blocks.saturating_mul(block_bytes)));
        }
        if btrfs[64..].starts_with(b"_BHRfS_M") {
            // total_bytes of the device itself (dev_item), not of all devices.
            return Some(found(Kind::Btrfs, u64::from_le_bytes(array(&btrfs[0xd1..]))));
        }
        if ext4[56..].starts_with(&[0x53, 0xef]) {
            let high = if le32(96) & 0x80 != 0 { le32(0x150) << 32 } else { 0 };
            let block_bytes = 1024u64 << le32(24).min(6);
            let size_bytes = (le32(4) | high).saturating_mul(block_bytes);
            // Bit 1 of s_state.
            return Some(Self { has_errors: ext4[58] & 2 != 0, ..found(Kind::Ext4, size_bytes) });
        }
        None
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("the head of a partition has room for every field")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(parts: &[(usize, &[u8])]) -> Option<FileSystem> {
        let mut bytes = vec![0; HEAD_BYTES];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        FileSystem::identify(&bytes)
    }

    #[test]
    fn file_systems_are_known_by_their_superblocks() {
        let found = |kind, size_bytes| Some(FileSystem { kind, has_errors: false, size_bytes });
        let magic = (1024 + 56, &[0x53, 0xef][..]);
        let blocks = (1024 + 4, &262_144u32.to_le_bytes()[..]);
        let of_4k = (1024 + 24, &[2u8][..]);
        assert_eq!(head(&[magic, blocks, of_4k]), found(Kind::Ext4, 1 << 30));
        let with_64_bits = [magic, blocks, of_4k, (1024 + 96, &[0x80]), (1024 + 0x150, &[1])];
        assert_eq!(head(&with_64_bits), found(Kind::Ext4, (1 << 30) + (1 << 44)));
        assert_eq!(head(&with_64_bits[..3]), head(&[magic, blocks, of_4k, (1024 + 0x150, &[1])]));
        let xfs = [(0, &b"XFSB\0\0\x10\0"[..]), (8, &262_144u64.to_be_bytes())];
        assert_eq!(head(&xfs), found(Kind::Xfs, 1 << 30));
        let btrfs = [(65536 + 64, &b"_BHRfS_M"[..]), (65536 + 0xd1, &(1u64 << 30).to_le_bytes())];
        assert_eq!(head(&btrfs), found(Kind::Btrfs, 1 << 30));
        assert_eq!(head(&[]), None);
    }

    #[test]
    fn an_ext4_that_noted_errors_is_checked() {
        let magic = (1024 + 56, &[0x53, 0xef][..]);
        assert!(!head(&[magic, (1024 + 58, &[1])]).unwrap().has_errors);
        assert!(head(&[magic, (1024 + 58, &[3])]).unwrap().has_errors);
    }

    #[test]
    fn rounding_is_not_taken_for_room() {
        let ext4 = FileSystem { kind: Kind::Ext4, has_errors: false, size_bytes: 1 << 30 };
        assert!(!ext4.is_smaller_than(1 << 30));
        assert!(!ext4.is_smaller_than((1 << 30) + 4 * MIB));
        assert!(ext4.is_smaller_than((1 << 30) + 5 * MIB));
    }
}
