//! The disk of a machine as seen from the host: the GUID partition table and ext4's own idea of its
//! state, read by ourselves, so that what wrote them has no say in it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use anyhow::{Context, Result, ensure};

/// An entry of the table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) label: String,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// What is at `start`.
pub(crate) fn read(disk: &Path, start: u64, bytes: usize) -> Result<Vec<u8>> {
    let mut file = File::open(disk).with_context(|| format!("opening {}", disk.display()))?;
    let mut buffer = vec![0; bytes];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// The partition table of a raw disk with sectors of 512 bytes.
pub(crate) fn table(disk: &Path) -> Result<Vec<Entry>> {
    let sectors = read(disk, 512, 512 + 128 * 128)?;
    ensure!(sectors.starts_with(b"EFI PART"), "no GUID partition table on {}", disk.display());
    let entries = sectors[512..].chunks(128).filter(|entry| entry[..16] != [0; 16]);
    Ok(entries.map(entry).collect())
}

fn entry(bytes: &[u8]) -> Entry {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let label: Vec<u16> = bytes[56..128]
        .chunks(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    let (first, last) = (number(32), number(40));
    Entry {
        label: String::from_utf16_lossy(&label),
        start: first * 512,
        bytes: (last + 1 - first) * 512,
    }
}

/// The state of an ext4 file system.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Ext4 {
    /// Unmounted in order.
    pub(crate) clean: bool,
    /// The journal has to be replayed.
    pub(crate) needs_recovery: bool,
}

/// Reads an ext4 superblock.
pub(crate) fn ext4(disk: &Path, partition: &Entry) -> Result<Ext4> {
    let superblock = read(disk, partition.start + 1024, 1024)?;
    let short = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
    ensure!(short(0x38) == 0xef53, "no ext4 in partition {}", partition.label);
    Ok(Ext4 { clean: short(0x3a) == 1, needs_recovery: short(0x60) & 0x4 != 0 })
}
