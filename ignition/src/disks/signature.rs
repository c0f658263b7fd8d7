//! What is on a device, told by the marks that formats leave: type, label and UUID. What blkid(8)
//! does, for the formats that a first boot meets; names and UUIDs are written as it writes them.
//!
//! Reading only. A device with several marks has them all in the list, the one that counts first:
//! members of something bigger before file systems, file systems before partition tables.

mod filesystems;
mod members;
#[cfg(test)]
mod tests;

use std::{fmt, io};

/// A mark of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Of which.
    pub kind: Kind,
    /// Its label; the name, where it is a member of an array.
    pub label: Option<String>,
    /// Its UUID, or what the format has in its place.
    pub uuid: Option<String>,
}

/// A format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A member of an array of Linux.
    Mdraid {
        /// As in the superblock: 0, 1, 4, 5, 6, 10, or -1 for linear.
        level: i32,
        /// How many devices work in it, spare ones not counted.
        disks: u32,
    },
    /// An encrypted volume.
    Luks {
        /// 1 or 2.
        version: u16,
        /// How it is opened, if nothing else is said (version 2).
        flags: Vec<String>,
        /// What its maker wrote there (version 2).
        subsystem: Option<String>,
    },
    /// ext2, ext3 or ext4.
    Ext(u8),
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// FAT of 12, 16 or 32 bits.
    Vfat,
    /// Swap space.
    Swap,
    /// Anything else, by the name that blkid has for it.
    Other(&'static str),
}

impl Kind {
    /// What a format of the document leaves; `None` for `none`.
    pub fn of_format(format: &str) -> Option<Self> {
        match format {
            "ext4" => Some(Self::Ext(4)),
            "xfs" => Some(Self::Xfs),
            "btrfs" => Some(Self::Btrfs),
            "vfat" => Some(Self::Vfat),
            "swap" => Some(Self::Swap),
            _ => None,
        }
    }

    /// The name that blkid has for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mdraid { .. } => "linux_raid_member",
            Self::Luks { .. } => "crypto_LUKS",
            Self::Ext(2) => "ext2",
            Self::Ext(3) => "ext3",
            Self::Ext(_) => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Swap => "swap",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(label) = &self.label {
            write!(f, " `{label}`")?;
        }
        self.uuid.iter().try_for_each(|uuid| write!(f, " ({uuid})"))
    }
}

/// A device, or a part of one, to read from.
pub trait Source {
    /// Its length.
    fn size_bytes(&self) -> u64;
    /// Reads all of `bytes` from there.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
}

impl Source for &[u8] {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let from = self.get(offset as usize..offset as usize + bytes.len());
        bytes.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// All marks on a device.
pub fn probe(source: &dyn Source) -> io::Result<Vec<Signature>> {
    let view = View(source);
    let mut found = vec![];
    for known in [
        members::mdraid,
        members::luks,
        members::lvm,
        members::other,
        filesystems::vfat,
        filesystems::xfs,
        filesystems::ext,
        filesystems::swap,
        filesystems::iso9660,
        filesystems::other,
        members::zfs,
        filesystems::btrfs,
    ] {
        found.extend(known(&view)?);
    }
    // FAT and others end their first sector as an MBR does.
    if let Some(table) = members::partition_table(&view, found.is_empty())? {
        found.push(table);
    }
    Ok(found)
}

/// Bytes by offset; what is not there is nothing.
struct View<'a>(&'a dyn Source);

impl View<'_> {
    fn at<const N: usize>(&self, offset: u64) -> io::Result<Option<[u8; N]>> {
        if offset.checked_add(N as u64).is_none_or(|end| end > self.0.size_bytes()) {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.0.read_at(offset, &mut bytes)?;
        Ok(Some(bytes))
    }

    fn some(&self, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.0.size_bytes()) {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        self.0.read_at(offset, &mut bytes)?;
        Ok(Some(bytes))
    }

    fn has(&self, offset: u64, magic: &[u8]) -> io::Result<bool> {
        Ok(self.some(offset, magic.len())?.is_some_and(|bytes| bytes == magic))
    }

    fn size(&self) -> u64 {
        self.0.size_bytes()
    }
}

impl Signature {
    fn new(kind: Kind, label: Option<String>, uuid: Option<String>) -> Self {
        Self { kind, label, uuid }
    }

    fn other(name: &'static str) -> Self {
        Self::new(Kind::Other(name), None, None)
    }
}

/// A text that ends with a NUL or its field; an empty one is none.
fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = String::from_utf8_lossy(&field[..end]).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// A UUID of 16 bytes; one that is nothing but zeros is none.
fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    (bytes != [0; 16]).then(|| uuid::Uuid::from_bytes(bytes).to_string())
}

fn le16(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
