//! Power cuts, damage and foreign readers.

use std::cell::RefCell;

use gpt::{GptConfig, disk::LogicalBlockSize, partition::Partition, partition_types};
use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const ROOT: Uuid = Uuid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);

struct Memory(RefCell<Vec<u8>>);

impl Disk for Memory {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let disk = self.0.borrow();
        let at = offset as usize;
        let from = disk.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(from);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = offset as usize;
        self.0.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn lb(sector: u64) -> LogicalBlockSize {
    if sector == 512 { LogicalBlockSize::Lb512 } else { LogicalBlockSize::Lb4096 }
}

/// A disk as another program makes it, with partitions of 1 MiB.
fn disk(mib: u64, sector: u64, partitions: &[(u32, &str, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; (mib * MIB) as usize];
    gpt::mbr::ProtectiveMBR::with_lb_size((mib * MIB / sector - 1) as u32)
        .overwrite_lba0(&mut io::Cursor::new(&mut bytes))
        .unwrap();
    let config = GptConfig::new().writable(true).logical_block_size(lb(sector));
    let mut table = config.create_from_device(io::Cursor::new(bytes), Some(Uuid::nil())).unwrap();
    let entries = partitions.iter().map(|&(number, name, first_mib)| {
        let partition = Partition {
            part_type_guid: partition_types::LINUX_FS,
            part_guid: Uuid::from_u128(first_mib.into()),
            first_lba: first_mib * MIB / sector,
            last_lba: (first_mib + 1) * MIB / sector - 1,
            flags: 5,
            name: name.to_owned(),
        };
        (number, partition)
    });
    table.update_partitions(entries.collect()).unwrap();
    table.write().unwrap().into_inner()
}

fn read(bytes: &[u8], sector: u64) -> Result<Table, TableError> {
    Table::read(&Memory(RefCell::new(bytes.to_vec())), bytes.len() as u64, sector)
}

fn apply(bytes: &mut [u8], offset: u64, what: &[u8]) {
    bytes[offset as usize..offset as usize + what.len()].copy_from_slice(what);
}

fn write(bytes: &mut Vec<u8>, table: &Table) {
    let memory = Memory(RefCell::new(std::mem::take(bytes)));
    table.write(&memory).unwrap();
    *bytes = memory.0.into_inner();
}

fn root(name: &str, size_bytes: u64) -> Entry {
    let (kind, guid) = (ROOT, Uuid::from_u128(7));
    Entry { kind, guid, start_bytes: 3 * MIB, size_bytes, flags: 9, name: name.to_owned() }
}

/// The writes of a change, sector by sector, in the phases between syncs.
fn phases(table: &Table) -> Vec<Vec<(u64, Vec<u8>)>> {
    let mut phases = vec![vec![]];
    for write in table.writes().unwrap() {
        match write {
            Write::Sync => phases.push(vec![]),
            Write::Bytes { offset, bytes } => {
                let sectors = (0..).zip(bytes.chunks(table.sector as usize));
                let sectors = sectors.map(|(n, b)| (offset + n * table.sector, b.to_vec()));
                phases.last_mut().unwrap().extend(sectors);
            }
        }
    }
    phases.retain(|phase| !phase.is_empty());
    phases
}

/// What may happen to a disk before a change: nothing, it grew, or a copy of its table is torn.
#[derive(Debug, Clone, Copy)]
enum Before {
    Plain,
    Grown,
    PrimaryHeaderTorn,
    PrimaryEntriesTorn,
    BackupTorn,
}

fn before(what: Before, sector: u64) -> Vec<u8> {
    let mut bytes = disk(8, sector, &[(1, "esp", 1), (2, "usr", 2)]);
    let (sector, length) = (sector as usize, bytes.len());
    match what {
        Before::Plain => {}
        Before::Grown => bytes.resize(16 << 20, 0),
        Before::PrimaryHeaderTorn => bytes[sector + 40] ^= 1,
        Before::PrimaryEntriesTorn => bytes[2 * sector + 70] ^= 1,
        Before::BackupTorn => bytes[length - sector + 40] ^= 1,
    }
    bytes
}

fn changed(table: &Table) -> Table {
    let mut new = table.clone();
    new.set(6, Some(&root("root-unfinished", 2 * MIB))).unwrap();
    new
}

const ALL: [Before; 5] = [
    Before::Plain,
    Before::Grown,
    Before::PrimaryHeaderTorn,
    Before::PrimaryEntriesTorn,
    Before::BackupTorn,
];

#[test]
fn a_power_cut_after_any_sector_leaves_the_old_table_or_the_new_one() {
    for (what, sector) in ALL.into_iter().flat_map(|what| [(what, 512), (what, 4096)]) {
        let mut bytes = before(what, sector);
        let old = read(&bytes, sector).unwrap();
        let new = changed(&old);
        assert_ne!(old.entries(), new.entries());
        for (offset, data) in phases(&new).concat() {
            apply(&mut bytes, offset, &data);
            let found = read(&bytes, sector).expect("a table is left").entries();
            assert!(found == old.entries() || found == new.entries(), "{what:?} at {offset}");
        }
        let last = read(&bytes, sector).unwrap();
        assert_eq!(last.entries(), new.entries(), "{what:?}");
        assert!(!last.wants_repair(), "{what:?}");
    }
}

proptest! {
    // Each case makes a disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Between two syncs a disk may write sectors in any order, and forget any of them.
    #[test]
    fn so_does_one_on_a_disk_that_reorders(
        what in prop::sample::select(&ALL),
        phase in 0usize..2,
        kept in prop::collection::vec(any::<bool>(), 80),
    ) {
        let mut bytes = before(what, 512);
        let old = read(&bytes, 512).unwrap();
        let new = changed(&old);
        let phases = phases(&new);
        prop_assert_eq!(phases.len(), 2);
        for (offset, data) in phases[..phase].concat() {
            apply(&mut bytes, offset, &data);
        }
        for ((offset, data), _) in phases[phase].iter().zip(&kept).filter(|(_, kept)| **kept) {
            apply(&mut bytes, *offset, data);
        }
        let found = read(&bytes, 512).expect("a table is left").entries();
        prop_assert!(found == old.entries() || found == new.entries());
    }

    #[test]
    fn no_bytes_make_it_panic(
        at in 0usize..3 * 512,
        noise in prop::collection::vec(any::<u8>(), 1..64),
        checksums in any::<bool>(),
    ) {
        let mut bytes = before(Before::Plain, 512);
        apply(&mut bytes, at as u64, &noise);
        if checksums {
            let array = crc32fast::hash(&bytes[1024..1024 + 128 * 128]);
            apply(&mut bytes, 512 + 88, &array.to_le_bytes());
            let header = header_crc(&bytes[512..1024], 92);
            apply(&mut bytes, 512 + 16, &header.to_le_bytes());
        }
        if let Ok(table) = read(&bytes, 512) {
            let _ = table.writes();
        }
    }
}

#[test]
fn another_program_reads_what_was_written() {
    for sector in [512, 4096] {
        let mut bytes = disk(8, sector, &[(1, "esp", 1), (2, "usr", 2)]);
        bytes.resize(16 << 20, 0);
        let mut table = read(&bytes, sector).unwrap();
        assert!(table.wants_repair());
        table.set(3, Some(&root("root", 12 * MIB))).unwrap();
        write(&mut bytes, &table);

        let mbr =
            gpt::mbr::ProtectiveMBR::from_disk(&mut io::Cursor::new(bytes.clone()), lb(sector));
        let sectors = mbr.unwrap().partition(0).unwrap().lb_size;
        assert_eq!(u64::from(sectors), 16 * MIB / sector - 1);
        let config = GptConfig::new().logical_block_size(lb(sector)).only_valid_headers(true);
        let found = config.open_from_device(io::Cursor::new(bytes)).unwrap();
        let backup = found.backup_header().unwrap();
        assert_eq!(backup.current_lba, 16 * MIB / sector - 1);
        assert_eq!(found.primary_header().unwrap().last_usable, backup.last_usable);
        let root = &found.partitions()[&3];
        assert_eq!((root.name.as_str(), root.flags), ("root", 9));
        assert_eq!(root.part_type_guid.guid, ROOT);
        assert_eq!((root.last_lba + 1) * sector, 15 * MIB);
        assert_eq!(found.partitions()[&2].flags, 5);
    }
}

#[test]
fn the_numbers_of_others_stay_and_so_does_every_byte_of_their_entries() {
    let mut bytes = disk(8, 512, &[(1, "esp", 1), (2, "data", 2)]);
    let mut table = read(&bytes, 512).unwrap();
    let data = table.entries()[&2].clone();
    table.set(2, None).unwrap();
    table.set(9, Some(&data)).unwrap();
    table.set(4, Some(&root("root", MIB))).unwrap();
    let ninth = table.array[8 * 128..9 * 128].to_vec();
    write(&mut bytes, &table);
    let mut table = read(&bytes, 512).unwrap();
    table.set(4, Some(&root("root", 2 * MIB))).unwrap();
    write(&mut bytes, &table);
    let table = read(&bytes, 512).unwrap();
    assert_eq!(table.entries().keys().copied().collect::<Vec<_>>(), [1, 4, 9]);
    assert_eq!(table.array[8 * 128..9 * 128], ninth);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let bytes = disk(8, 512, &[(1, "esp", 6)]);
    fn said<T>(result: Result<T, TableError>) -> String {
        result.map(drop).unwrap_err().to_string()
    }
    assert_eq!(said(read(&[0; 1 << 20], 512)), "no valid partition table (GPT)");
    assert_eq!(said(read(&[], 512)), "no valid partition table (GPT)");
    let mut table = read(&bytes, 512).unwrap();
    assert_eq!(said(table.set(129, None)), "the table has no number 129");
    assert_eq!(said(table.set(0, None)), "the table has no number 0");
    let shrunk = read(&bytes[..7 << 20], 512).unwrap();
    let said = shrunk.writes().unwrap_err().to_string();
    assert_eq!(said, "partition 1 ends at 7 MiB, but the disk has 7 MiB");
}

#[test]
fn a_new_table_is_one_that_another_program_makes_too() {
    for sector in [512, 4096] {
        let table = Table::new(8 * MIB, sector, Uuid::nil()).unwrap();
        let mut bytes = vec![0; 8 << 20];
        write(&mut bytes, &table);
        let theirs = disk(8, sector, &[]);
        let same = |range: std::ops::Range<u64>| {
            bytes[range.start as usize..range.end as usize]
                == theirs[range.start as usize..range.end as usize]
        };
        assert!(same(sector..8 * MIB), "{sector}");
        let found = read(&bytes, sector).unwrap();
        assert!(found.entries().is_empty() && !found.wants_repair());
        assert_eq!(found.usable().start, if sector == 512 { 34 * 512 } else { 6 * 4096 });
        assert_eq!(found.usable().end, 8 * MIB - found.usable().start + sector);
        assert_eq!(found.numbers(), 128);
    }
    assert!(Table::new(30 << 10, 512, Uuid::nil()).is_err());
}

#[test]
fn an_erased_disk_has_no_table_at_either_end() {
    for sector in [512, 4096] {
        let memory = Memory(RefCell::new(disk(8, sector, &[(1, "esp", 1)])));
        super::write(erasure(8 * MIB, sector), &memory).unwrap();
        let bytes = memory.0.into_inner();
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}
