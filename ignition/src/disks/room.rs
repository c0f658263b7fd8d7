//! Room between partitions, and where a new one goes: as sgdisk(8) decides it, whose decisions
//! documents have been written for.
//!
//! - The alignment is 1 MiB, or the largest power of two below that all partitions keep to.
//! - Start 0 is the first aligned byte of the largest free block, not of the first that is large
//!   enough; size 0 is to the end of the block.

use std::ops::Range;

use block::table::Entries;
use layout::disk::MIB;

/// Where partitions of a disk can be, and how many there can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub usable: Range<u64>,
    /// The highest number.
    pub numbers: u32,
}

/// Why a partition has no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Nothing is free.
    #[error("nothing is free on the disk")]
    Nothing,
    /// It would start on another partition, or outside.
    #[error("{start_mib} MiB is not free; free are {free}")]
    Taken {
        /// Where it would start.
        start_mib: u64,
        /// What is free, in words.
        free: String,
    },
    /// It would end on another partition, or outside.
    #[error("from {start_mib} MiB on only {} are free, not {}", amount(*.free_bytes), amount(*.wanted_bytes))]
    Short {
        /// Where it would start.
        start_mib: u64,
        /// How much is free there.
        free_bytes: u64,
        /// How much is wanted.
        wanted_bytes: u64,
    },
}

impl Room {
    /// That of a table that is made anew.
    pub fn of_new_table(disk_bytes: u64, sector_bytes: u64) -> Self {
        let array = 128 * 128;
        let start = 2 * sector_bytes + array;
        let end = (disk_bytes / sector_bytes * sector_bytes).saturating_sub(sector_bytes + array);
        Self { usable: start..end.max(start), numbers: 128 }
    }

    /// The free blocks, in order.
    pub fn free(&self, entries: &Entries) -> Vec<Range<u64>> {
        let mut taken: Vec<_> =
            entries.values().map(|entry| entry.start_bytes..entry.end_bytes()).collect();
        taken.sort_by_key(|range| range.start);
        let mut free = vec![];
        let mut at = self.usable.start;
        for range in taken {
            let end = range.start.min(self.usable.end);
            if at < end {
                free.push(at..end);
            }
            at = at.max(range.end);
        }
        if at < self.usable.end {
            free.push(at..self.usable.end);
        }
        free
    }

    /// Start and size of a new partition; 0 as the documents mean it.
    pub fn place(
        &self,
        entries: &Entries,
        alignment: u64,
        start_bytes: u64,
        size_bytes: u64,
    ) -> Result<(u64, u64), NoRoom> {
        let free = self.free(entries);
        let aligned = |block: &Range<u64>| block.start.next_multiple_of(alignment);
        // Before the first MiB there is a little left where nothing can start.
        let starts = free.iter().rev().filter(|block| aligned(block) < block.end);
        let block = match start_bytes {
            // Of several as large as each other, the first.
            0 => starts.max_by_key(|block| block.end - block.start).cloned(),
            _ => free.iter().find(|block| block.contains(&start_bytes)).cloned(),
        };
        let Some(block) = block else {
            return Err(match start_bytes {
                0 => NoRoom::Nothing,
                _ => NoRoom::Taken { start_mib: start_bytes / MIB, free: describe(&free) },
            });
        };
        let start = if start_bytes == 0 { aligned(&block) } else { start_bytes };
        let free_bytes = block.end - start;
        match size_bytes {
            0 => Ok((start, free_bytes)),
            wanted_bytes if wanted_bytes <= free_bytes => Ok((start, wanted_bytes)),
            wanted_bytes => Err(NoRoom::Short { start_mib: start / MIB, free_bytes, wanted_bytes }),
        }
    }
}

/// The alignment that partitions keep to.
pub fn alignment(entries: &Entries) -> u64 {
    let start = |entry: &block::table::Entry| entry.start_bytes.trailing_zeros();
    let exponent = entries.values().map(start).min().unwrap_or(u32::MAX);
    MIB.min(1u64.checked_shl(exponent).unwrap_or(MIB))
}

fn describe(free: &[Range<u64>]) -> String {
    if free.is_empty() {
        return "none".to_owned();
    }
    let block = |block: &Range<u64>| {
        format!("{} at {} MiB", amount(block.end - block.start), block.start / MIB)
    };
    free.iter().map(block).collect::<Vec<_>>().join(", ")
}

/// An amount in words: whole MiB, or bytes where it is not whole.
pub(crate) fn amount(bytes: u64) -> String {
    if bytes.is_multiple_of(MIB) {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{:.1} MiB ({bytes} bytes)", bytes as f64 / MIB as f64)
    }
}

#[cfg(test)]
mod tests {
    use block::table::Entry;
    use uuid::Uuid;

    use super::*;

    fn entries(of: &[(u64, u64)]) -> Entries {
        let entry = |&(start_bytes, size_bytes): &(u64, u64)| Entry {
            kind: Uuid::nil(),
            guid: Uuid::nil(),
            start_bytes,
            size_bytes,
            flags: 0,
            name: String::new(),
        };
        (1..).zip(of.iter().map(entry)).collect()
    }

    #[test]
    fn zero_is_the_largest_block_not_the_first() {
        let room = Room::of_new_table(100 * MIB, 512);
        let three = entries(&[(10 * MIB, 10 * MIB), (60 * MIB, 10 * MIB)]);
        assert_eq!(room.place(&three, MIB, 0, 0), Ok((20 * MIB, 40 * MIB)));
        assert_eq!(room.place(&three, MIB, 0, 5 * MIB), Ok((20 * MIB, 5 * MIB)));
        let empty = entries(&[]);
        assert_eq!(room.place(&empty, MIB, 0, 0), Ok((MIB, 99 * MIB - 33 * 512)));
    }

    #[test]
    fn a_start_that_is_said_is_kept_and_size_zero_ends_with_its_block() {
        let room = Room::of_new_table(100 * MIB, 512);
        let one = entries(&[(10 * MIB, 10 * MIB)]);
        assert_eq!(room.place(&one, MIB, 5 * MIB, 0), Ok((5 * MIB, 5 * MIB)));
        let said = |start, size| room.place(&one, MIB, start, size).unwrap_err().to_string();
        assert_eq!(said(5 * MIB, 6 * MIB), "from 5 MiB on only 5 MiB are free, not 6 MiB");
        assert_eq!(
            said(12 * MIB, 0),
            "12 MiB is not free; free are 10.0 MiB (10468352 bytes) at 0 MiB, 80.0 MiB (83869184 \
             bytes) at 20 MiB"
        );
    }

    #[test]
    fn the_alignment_is_what_all_partitions_keep_to() {
        assert_eq!(alignment(&entries(&[])), MIB);
        assert_eq!(alignment(&entries(&[(8 * MIB, 1), (3 * MIB, 1)])), MIB);
        assert_eq!(alignment(&entries(&[(8 * MIB, 1), (34 * 512, 1)])), 1024);
    }
}
