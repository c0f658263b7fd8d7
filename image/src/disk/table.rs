//! A GUID partition table, read without trust: every number is checked before it is used.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt};

use layout::disk::SECTOR_BYTES;
use uuid::Uuid;

use super::sparse;

const HEADER_BYTES: usize = 92;
/// More entries than that are garbage: tools write 128.
const ENTRIES_MAX: u32 = 1024;
const ENTRY_BYTES: u32 = 128;
const SIGNATURE: &[u8; 8] = b"EFI PART";

/// A table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// GUID of the disk.
    pub guid: Uuid,
    /// Size of the file that it is in.
    pub size_bytes: u64,
    /// The size of the disk that the table was written for.
    pub expected_bytes: u64,
    /// By number.
    pub entries: Vec<Entry>,
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// From 1.
    pub number: u32,
    /// Its name.
    pub label: String,
    /// Its type.
    pub type_guid: Uuid,
    /// Its PARTUUID.
    pub guid: Uuid,
    /// Its first byte.
    pub start_bytes: u64,
    /// Its length.
    pub size_bytes: u64,
    /// Its flags.
    pub attributes: u64,
}

/// One of the two copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copy {
    /// At the start of the disk.
    Primary,
    /// At its end.
    Backup,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Too short for any table.
    #[error(
        "it has {0} bytes, which is too short for a disk: a download or a copy that was cut short?"
    )]
    Short(u64),
    /// Something else.
    #[error("it is {0}, not a raw disk image: {1}")]
    Other(&'static str, &'static str),
    /// Neither copy can be used.
    #[error("it has no partition table: the primary one {primary}; the backup {backup}")]
    None {
        /// Why not the primary one.
        primary: Damage,
        /// Why not the backup.
        backup: Damage,
    },
}

/// What is wrong with one copy of the table.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// There is none.
    #[error("is missing (no `EFI PART` in sector {0})")]
    Missing(u64),
    /// Its header changed.
    #[error("has a damaged header (CRC {found:08x}, expected {expected:08x})")]
    Header {
        /// As computed.
        found: u32,
        /// As stored.
        expected: u32,
    },
    /// Its entries changed.
    #[error("has damaged entries (CRC {found:08x}, expected {expected:08x})")]
    Entries {
        /// As computed.
        found: u32,
        /// As stored.
        expected: u32,
    },
    /// It says what cannot be.
    #[error("is not one that tools write: {0}")]
    Odd(String),
    /// It is not where the primary one says.
    #[error(
        "is missing: it belongs to the end of a disk of {expected_bytes} bytes, and the file has \
         {found_bytes}"
    )]
    CutShort {
        /// Size of the disk that the table was written for.
        expected_bytes: u64,
        /// Size of the file.
        found_bytes: u64,
    },
    /// It says something else than the primary one.
    #[error("says something else than the primary one")]
    Differs,
}

/// Reads the table of a raw disk: the primary one, or the backup if that is damaged; and what is
/// wrong with either.
pub fn read(disk: &File) -> Result<(Table, Vec<(Copy, Damage)>), Error> {
    let size_bytes = sparse::size(disk)?;
    let mut head = [0; 512];
    let first = size_bytes.min(512) as usize;
    disk.read_exact_at(&mut head[..first], 0)?;
    if let Some((what, help)) = other_format(&head) {
        return Err(Error::Other(what, help));
    }
    if size_bytes < 3 * SECTOR_BYTES {
        return Err(Error::Short(size_bytes));
    }
    let primary = read_copy(disk, size_bytes, 1)?;
    let expected_bytes = match &primary {
        Ok(table) => table.expected_bytes,
        Err(_) => size_bytes,
    };
    let backup = match expected_bytes.checked_sub(SECTOR_BYTES) {
        Some(at) if expected_bytes <= size_bytes => read_copy(disk, size_bytes, at / SECTOR_BYTES)?,
        _ => Err(Damage::CutShort { expected_bytes, found_bytes: size_bytes }),
    };
    match (primary, backup) {
        (Ok(primary), Ok(backup)) => {
            let same = primary.entries == backup.entries && primary.guid == backup.guid;
            let damage = if same { vec![] } else { vec![(Copy::Backup, Damage::Differs)] };
            Ok((primary, damage))
        }
        (Ok(primary), Err(damage)) => Ok((primary, vec![(Copy::Backup, damage)])),
        (Err(damage), Ok(backup)) => Ok((backup, vec![(Copy::Primary, damage)])),
        (Err(primary), Err(backup)) => Err(Error::None { primary, backup }),
    }
}

/// What else an image may be in, with what to do about it.
fn other_format(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let known: [(&[u8], &str, &str); 6] = [
        (b"QFI\xfb", "a qcow2", "use the .raw beside it, or `qemu-img convert -O raw`"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first, `zstd -d`"),
        (b"\x1f\x8b", "compressed by gzip", "unpack it first, `gzip -d`"),
        (b"\xfd7zXZ\0", "compressed by xz", "unpack it first, `xz -d`"),
        (b"KDMV", "a VMDK", "use the .raw beside it"),
        (b"MZ", "an EFI program", "give the disk that it is on"),
    ];
    known.iter().find(|(magic, ..)| head.starts_with(magic)).map(|(_, what, help)| (*what, *help))
}

fn read_copy(disk: &File, size_bytes: u64, sector: u64) -> io::Result<Result<Table, Damage>> {
    let mut header = [0; SECTOR_BYTES as usize];
    disk.read_exact_at(&mut header, sector * SECTOR_BYTES)?;
    let header = match Header::parse(&header, sector, size_bytes) {
        Ok(header) => header,
        Err(damage) => return Ok(Err(damage)),
    };
    let mut entries = vec![0; (header.entries * ENTRY_BYTES) as usize];
    disk.read_exact_at(&mut entries, header.entries_at)?;
    Ok(header.table(&entries, size_bytes))
}

struct Header {
    guid: Uuid,
    expected_bytes: u64,
    first_usable: u64,
    last_usable: u64,
    entries_at: u64,
    entries: u32,
    entries_crc: u32,
}

impl Header {
    fn parse(bytes: &[u8], sector: u64, size_bytes: u64) -> Result<Self, Damage> {
        if !bytes.starts_with(SIGNATURE) {
            return Err(Damage::Missing(sector));
        }
        let length = u32_at(bytes, 12) as usize;
        if !(HEADER_BYTES..=bytes.len()).contains(&length) {
            return Err(Damage::Odd(format!("a header of {length} bytes")));
        }
        let mut summed = bytes[..length].to_vec();
        summed[16..20].fill(0);
        let (found, expected) = (crc32fast::hash(&summed), u32_at(bytes, 16));
        if found != expected {
            return Err(Damage::Header { found, expected });
        }
        let (own, other) = (u64_at(bytes, 24), u64_at(bytes, 32));
        if own != sector {
            return Err(Damage::Odd(format!("it is in sector {sector} and says {own}")));
        }
        let end = own.max(other).checked_add(1).and_then(|end| end.checked_mul(SECTOR_BYTES));
        let (entries, entry_bytes) = (u32_at(bytes, 80), u32_at(bytes, 84));
        if entry_bytes != ENTRY_BYTES || entries > ENTRIES_MAX {
            return Err(Damage::Odd(format!("{entries} entries of {entry_bytes} bytes")));
        }
        let entries_at = u64_at(bytes, 72).checked_mul(SECTOR_BYTES);
        let inside = |at: &u64| {
            at.checked_add(u64::from(entries * ENTRY_BYTES)).is_some_and(|end| end <= size_bytes)
        };
        Ok(Self {
            guid: guid_at(bytes, 56),
            expected_bytes: end
                .ok_or_else(|| Damage::Odd(format!("its other copy in sector {other}")))?,
            first_usable: u64_at(bytes, 40),
            last_usable: u64_at(bytes, 48),
            entries_at: entries_at
                .filter(inside)
                .ok_or_else(|| Damage::Odd("entries behind the end of the disk".to_owned()))?,
            entries,
            entries_crc: u32_at(bytes, 88),
        })
    }

    fn table(&self, bytes: &[u8], size_bytes: u64) -> Result<Table, Damage> {
        let found = crc32fast::hash(bytes);
        if found != self.entries_crc {
            return Err(Damage::Entries { found, expected: self.entries_crc });
        }
        let mut entries = BTreeMap::new();
        for (number, row) in (1..).zip(bytes.chunks_exact(ENTRY_BYTES as usize)) {
            if guid_at(row, 0).is_nil() {
                continue;
            }
            let (first, last) = (u64_at(row, 32), u64_at(row, 40));
            if first > last || first < self.first_usable || last > self.last_usable {
                let what = format!("partition {number} from sector {first} to {last}");
                return Err(Damage::Odd(what));
            }
            let outside = || Damage::Odd(format!("partition {number} ends in sector {last}"));
            let end = last.checked_add(1).and_then(|end| end.checked_mul(SECTOR_BYTES));
            let start_bytes = first * SECTOR_BYTES;
            let entry = Entry {
                number,
                label: label(&row[56..]),
                type_guid: guid_at(row, 0),
                guid: guid_at(row, 16),
                start_bytes,
                size_bytes: end.ok_or_else(outside)? - start_bytes,
                attributes: u64_at(row, 48),
            };
            entries.insert(number, entry);
        }
        Ok(Table {
            guid: self.guid,
            size_bytes,
            expected_bytes: self.expected_bytes,
            entries: entries.into_values().collect(),
        })
    }
}

fn label(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn guid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_bytes_le(bytes[at..at + 16].try_into().expect("16 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> String {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        read(&file).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_disk_is_called_by_its_name() {
        assert_eq!(
            said(b""),
            "it has 0 bytes, which is too short for a disk: a download or a copy that was cut \
             short?"
        );
        assert_eq!(
            said(b"QFI\xfb and so on"),
            "it is a qcow2, not a raw disk image: use the .raw beside it, or `qemu-img convert -O \
             raw`"
        );
        assert_eq!(
            said(&[7; 4096]),
            "it has no partition table: the primary one is missing (no `EFI PART` in sector 1); \
             the backup is missing (no `EFI PART` in sector 7)"
        );
    }
}
