//! The partition table of a disk (GPT, UEFI 2.10 chapter 5), changed so that a power cut at any
//! write leaves a table that firmware and kernel accept. `/init` changes that of the boot disk with
//! it, and a first-boot document any other.
//!
//! ```text
//! LBA 0        1        2...                                         ...        last
//! | PMBR | header | entries | partitions ...                  | entries | header |
//!          primary                                              backup
//! ```
//!
//! The backup is written first, at the end of the disk, and synced; then the primary. A primary
//! that is torn has a wrong checksum, and the backup is new and whole; before that the primary is
//! whole and old. Where only the backup is whole, it is the other way round.
//!
//! The crate `gpt` is what the tests read the result with. It does not write it: it renumbers the
//! partitions behind a free number, interleaves the two copies, and does not take the backup where
//! only the entries of the primary are damaged.

use std::{collections::BTreeMap, fs::File, io, ops::Range, os::unix::fs::FileExt};

use uuid::Uuid;

/// No table that anybody writes has more; one that says so is damaged.
const MAX_ENTRIES_BYTES: u64 = 1 << 20;
const ENTRY_BYTES: u64 = 128;
const NAME_UNITS: usize = 36;

/// The entries of the table, by number.
pub type Entries = BTreeMap<u32, Entry>;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The GUID of its type.
    pub kind: Uuid,
    /// Its own GUID.
    pub guid: Uuid,
    /// First byte.
    pub start_bytes: u64,
    /// Length.
    pub size_bytes: u64,
    /// Attribute bits.
    pub flags: u64,
    /// Its label.
    pub name: String,
}

impl Entry {
    /// The first byte behind it.
    pub fn end_bytes(&self) -> u64 {
        self.start_bytes + self.size_bytes
    }
}

/// A table as it was read, and as it was changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    sector: u64,
    last_lba: u64,
    /// Of the copy that is whole.
    header: Header,
    /// The whole array, so that what we do not know of a foreign entry stays as it is.
    array: Vec<u8>,
    /// Boot sector: its length of the disk follows.
    mbr: Vec<u8>,
    primary_is_whole: bool,
    both_are_current: bool,
}

/// What of a header is not the same in every table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    /// The sector, as it was read.
    bytes: Vec<u8>,
    alternate_lba: u64,
    array_lba: u64,
    entry_bytes: u64,
    entry_count: u64,
    array_crc: u32,
}

/// One write of a change of the table.
#[derive(Debug, PartialEq, Eq)]
pub enum Write {
    /// These bytes go there.
    Bytes {
        /// Where, from the start of the disk.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// What was written before is on the disk before anything that comes behind.
    Sync,
}

/// Why a table cannot be read, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Nobody makes others.
    #[error("sectors of {0} bytes are not supported, only of 512 and 4096")]
    Sectors(u64),
    /// Neither copy is whole, or there is none.
    #[error("no valid partition table (GPT)")]
    NoGpt,
    /// There would be no room between the two copies.
    #[error("a disk of {0} bytes is too small for a partition table")]
    TooSmall(u64),
    /// An entry makes no sense.
    #[error("partition {0} of the table is damaged: it ends before it starts, or nowhere")]
    Entry(u32),
    /// The disk was longer when the entry was written.
    #[error("partition {number} ends at {end} MiB, but the disk has {disk} MiB")]
    Beyond {
        /// Of the entry.
        number: u32,
        /// Where it ends, in MiB.
        end: u64,
        /// The length of the disk, in MiB.
        disk: u64,
    },
    /// The array of entries ends before.
    #[error("the table has no number {0}")]
    Full(u32),
    /// The disk did not give its bytes.
    #[error("reading the partition table")]
    Read(#[source] io::Error),
    /// The disk did not take its bytes.
    #[error("writing the partition table")]
    Write(#[source] io::Error),
}

/// What is read and written: a disk, or a test's memory.
pub trait Disk {
    /// Reads all of `bytes` from there.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` there.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when all that was written will be there after a power cut.
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Table {
    /// An empty table for a disk, whatever is on it now.
    pub fn new(disk_bytes: u64, sector: u64, disk_guid: Uuid) -> Result<Self, TableError> {
        if !matches!(sector, 512 | 4096) {
            return Err(TableError::Sectors(sector));
        }
        let (entry_count, array_lba, sectors) = (128u64, 2, (128 * ENTRY_BYTES).div_ceil(sector));
        let first_usable = array_lba + sectors;
        let last_lba = (disk_bytes / sector).saturating_sub(1);
        if last_lba < 2 * first_usable {
            return Err(TableError::TooSmall(disk_bytes));
        }
        let mut bytes = vec![0; sector as usize];
        bytes[..8].copy_from_slice(b"EFI PART");
        bytes[8..12].copy_from_slice(&0x1_0000u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&92u32.to_le_bytes());
        bytes[40..48].copy_from_slice(&first_usable.to_le_bytes());
        bytes[56..72].copy_from_slice(&disk_guid.to_bytes_le());
        bytes[80..84].copy_from_slice(&(entry_count as u32).to_le_bytes());
        bytes[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
        let header = Header {
            bytes,
            alternate_lba: last_lba,
            array_lba,
            entry_bytes: ENTRY_BYTES,
            entry_count,
            array_crc: 0,
        };
        let mut mbr = vec![0; sector as usize];
        // One partition of the type that protects, from sector 1; `mbr_of_this_disk` says how long.
        mbr[447..451].copy_from_slice(&[0, 2, 0, 0xee]);
        mbr[451..454].fill(0xff);
        mbr[454] = 1;
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        let array = vec![0; (entry_count * ENTRY_BYTES) as usize];
        let (primary_is_whole, both_are_current) = (false, false);
        Ok(Self { sector, last_lba, header, array, mbr, primary_is_whole, both_are_current })
    }

    /// Reads the table of a disk: the primary one, or the backup where that is not whole.
    pub fn read(
        disk: &(impl Disk + ?Sized),
        disk_bytes: u64,
        sector: u64,
    ) -> Result<Self, TableError> {
        if !matches!(sector, 512 | 4096) {
            return Err(TableError::Sectors(sector));
        }
        let last_lba = (disk_bytes / sector).checked_sub(1).ok_or(TableError::NoGpt)?;
        let at = |lba: u64, length: u64| {
            let mut bytes = vec![0; length as usize];
            disk.read_exact_at(&mut bytes, lba * sector).map(|()| bytes).map_err(TableError::Read)
        };
        let copy_at = |lba: u64| -> Result<Option<(Header, Vec<u8>)>, TableError> {
            if !(1..=last_lba).contains(&lba) {
                return Ok(None);
            }
            let Some(header) = Header::parse(at(lba, sector)?, lba) else { return Ok(None) };
            let (length, sectors) = (header.array_bytes(), header.array_sectors(sector));
            if header.array_lba.checked_add(sectors).is_none_or(|end| end > last_lba + 1) {
                return Ok(None);
            }
            let array = at(header.array_lba, length)?;
            Ok((crc32fast::hash(&array) == header.array_crc).then_some((header, array)))
        };
        let primary = copy_at(1)?;
        let backup_lba = primary.as_ref().map_or(last_lba, |(header, _)| header.alternate_lba);
        // Unreadable sectors at the end must not hide a good table at the start.
        let backup = match copy_at(backup_lba) {
            Err(_) if primary.is_some() => None,
            other => other?,
        };
        let primary_is_whole = primary.is_some();
        let both_are_current = backup_lba == last_lba
            && primary.as_ref().map(|(_, array)| array) == backup.as_ref().map(|(_, array)| array);
        let (header, array) = primary.or(backup).ok_or(TableError::NoGpt)?;
        let mbr = at(0, sector)?;
        let table =
            Self { sector, last_lba, header, array, mbr, primary_is_whole, both_are_current };
        table.parse_entries().map(|_| table)
    }

    /// Whether a copy is torn, stale, or not at the end of the disk.
    pub fn wants_repair(&self) -> bool {
        !self.both_are_current
    }

    /// Where partitions may be, in bytes: behind the primary copy, before the backup, which may be
    /// further on than the table says, as the disk may have grown.
    pub fn usable(&self) -> Range<u64> {
        let first = u64_at(&self.header.bytes, 40).max(2);
        let end = self.last_lba - self.header.array_sectors(self.sector);
        first.min(end) * self.sector..end * self.sector
    }

    /// How many entries it has room for.
    pub fn numbers(&self) -> u32 {
        u32::try_from(self.header.entry_count).unwrap_or(u32::MAX)
    }

    /// The partitions.
    pub fn entries(&self) -> Entries {
        self.parse_entries().expect("they were parsed when the table was read")
    }

    fn parse_entries(&self) -> Result<Entries, TableError> {
        let chunks = (1..).zip(self.array.chunks_exact(self.header.entry_bytes as usize));
        let used = chunks.filter(|(_, bytes)| bytes[..16] != [0; 16]);
        used.map(|(number, bytes)| {
            let (first, last) = (u64_at(bytes, 32), u64_at(bytes, 40));
            let start_bytes = first.checked_mul(self.sector);
            let end_bytes = last.checked_add(1).and_then(|end| end.checked_mul(self.sector));
            let (Some(start_bytes), Some(end_bytes)) = (start_bytes, end_bytes) else {
                return Err(TableError::Entry(number));
            };
            let size_bytes = end_bytes.checked_sub(start_bytes).ok_or(TableError::Entry(number))?;
            let units: Vec<u16> = bytes[56..128]
                .chunks_exact(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .take_while(|&unit| unit != 0)
                .collect();
            let entry = Entry {
                kind: guid_at(bytes, 0),
                guid: guid_at(bytes, 16),
                start_bytes,
                size_bytes,
                flags: u64_at(bytes, 48),
                name: String::from_utf16_lossy(&units),
            };
            Ok((number, entry))
        })
        .collect()
    }

    /// Sets or clears an entry. Every other one stays as it is, to the byte.
    pub fn set(&mut self, number: u32, entry: Option<&Entry>) -> Result<(), TableError> {
        let length = self.header.entry_bytes as usize;
        let slot = (number as usize).checked_sub(1).map(|index| index * length);
        let bytes = slot.and_then(|at| self.array.get_mut(at..at + length));
        let bytes = bytes.ok_or(TableError::Full(number))?;
        bytes.fill(0);
        if let Some(entry) = entry {
            bytes[..16].copy_from_slice(&entry.kind.to_bytes_le());
            bytes[16..32].copy_from_slice(&entry.guid.to_bytes_le());
            bytes[32..40].copy_from_slice(&(entry.start_bytes / self.sector).to_le_bytes());
            bytes[40..48].copy_from_slice(&(entry.end_bytes() / self.sector - 1).to_le_bytes());
            bytes[48..56].copy_from_slice(&entry.flags.to_le_bytes());
            let units = entry.name.encode_utf16().take(NAME_UNITS);
            for (unit, at) in units.zip(bytes[56..128].chunks_exact_mut(2)) {
                at.copy_from_slice(&unit.to_le_bytes());
            }
        }
        Ok(())
    }

    /// The writes that put this table on the disk, its backup at the disk's end.
    pub fn writes(&self) -> Result<Vec<Write>, TableError> {
        let sectors = self.header.array_sectors(self.sector);
        let backup_array = self.last_lba - sectors;
        let disk_mib = ((self.last_lba + 1) * self.sector) >> 20;
        for (number, entry) in self.entries() {
            if entry.end_bytes() > backup_array * self.sector {
                let end = entry.end_bytes() >> 20;
                return Err(TableError::Beyond { number, end, disk: disk_mib });
            }
        }
        let bytes = |lba: u64, bytes: Vec<u8>| Write::Bytes { offset: lba * self.sector, bytes };
        let mut array = self.array.clone();
        array.resize((sectors * self.sector) as usize, 0);
        // Behind the backup's header nothing says where the primary's entries are: at 2, always.
        let primary_array = if self.primary_is_whole { self.header.array_lba } else { 2 };
        let primary = [
            bytes(primary_array, array.clone()),
            bytes(1, self.header_at(1, primary_array, self.last_lba)),
            bytes(0, self.mbr_of_this_disk()),
            Write::Sync,
        ];
        let backup = [
            bytes(backup_array, array),
            bytes(self.last_lba, self.header_at(self.last_lba, backup_array, 1)),
            Write::Sync,
        ];
        let (primary, backup) = (primary.into_iter(), backup.into_iter());
        Ok(match self.primary_is_whole {
            true => backup.chain(primary).collect(),
            false => primary.chain(backup).collect(),
        })
    }

    /// Puts this table on the disk.
    pub fn write(&self, disk: &(impl Disk + ?Sized)) -> Result<(), TableError> {
        write(self.writes()?, disk)
    }

    fn header_at(&self, own_lba: u64, array_lba: u64, alternate_lba: u64) -> Vec<u8> {
        let mut bytes = self.header.bytes.clone();
        let last_usable = self.last_lba - self.header.array_sectors(self.sector) - 1;
        bytes[24..32].copy_from_slice(&own_lba.to_le_bytes());
        bytes[32..40].copy_from_slice(&alternate_lba.to_le_bytes());
        bytes[48..56].copy_from_slice(&last_usable.to_le_bytes());
        bytes[72..80].copy_from_slice(&array_lba.to_le_bytes());
        bytes[88..92].copy_from_slice(&crc32fast::hash(&self.array).to_le_bytes());
        let crc = header_crc(&bytes, u32_at(&bytes, 12) as usize);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The protective MBR says how long the disk is. One that is not just protective is left.
    fn mbr_of_this_disk(&self) -> Vec<u8> {
        let mut bytes = self.mbr.clone();
        if bytes[510..512] == [0x55, 0xaa] && bytes[450] == 0xee && u32_at(&bytes, 454) == 1 {
            let sectors = u32::try_from(self.last_lba).unwrap_or(u32::MAX);
            bytes[458..462].copy_from_slice(&sectors.to_le_bytes());
        }
        bytes
    }
}

impl Header {
    fn parse(bytes: Vec<u8>, lba: u64) -> Option<Self> {
        let length = u32_at(&bytes, 12) as usize;
        let good = bytes.starts_with(b"EFI PART")
            && (92..=bytes.len()).contains(&length)
            && header_crc(&bytes, length) == u32_at(&bytes, 16)
            && u64_at(&bytes, 24) == lba;
        let header = Self {
            alternate_lba: u64_at(&bytes, 32),
            array_lba: u64_at(&bytes, 72),
            entry_count: u32_at(&bytes, 80).into(),
            entry_bytes: u32_at(&bytes, 84).into(),
            array_crc: u32_at(&bytes, 88),
            bytes,
        };
        let sane = header.entry_bytes >= ENTRY_BYTES
            && header.entry_bytes.is_power_of_two()
            && (1..=MAX_ENTRIES_BYTES).contains(&header.array_bytes())
            && header.array_lba >= 2;
        (good && sane).then_some(header)
    }

    fn array_bytes(&self) -> u64 {
        self.entry_count * self.entry_bytes
    }

    fn array_sectors(&self, sector: u64) -> u64 {
        self.array_bytes().div_ceil(sector)
    }
}

/// The writes that leave a disk without any table: nothing to find in the MBR, no copy of a GPT at
/// its start or end. The boot code of the MBR stays.
pub fn erasure(disk_bytes: u64, sector: u64) -> Vec<Write> {
    let array = (128 * ENTRY_BYTES).div_ceil(sector) * sector;
    let zeros = |offset: u64, end: u64| {
        let end = end.min(disk_bytes);
        let bytes = vec![0; end.saturating_sub(offset) as usize];
        Write::Bytes { offset, bytes }
    };
    let end = disk_bytes / sector * sector;
    let backup = end.saturating_sub(sector + array).max(sector);
    vec![
        zeros(backup, end),
        Write::Sync,
        zeros(446, 512),
        zeros(sector, 2 * sector + array),
        Write::Sync,
    ]
}

/// Performs writes, in order.
pub fn write(writes: Vec<Write>, disk: &(impl Disk + ?Sized)) -> Result<(), TableError> {
    for write in writes {
        match write {
            Write::Bytes { offset, bytes } => disk.write_all_at(&bytes, offset),
            Write::Sync => disk.sync(),
        }
        .map_err(TableError::Write)?;
    }
    Ok(())
}

/// The checksum of a header, its own field taken as zero.
fn header_crc(header: &[u8], length: usize) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..16]);
    crc.update(&[0; 4]);
    crc.update(&header[20..length]);
    crc.finalize()
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
mod tests;
