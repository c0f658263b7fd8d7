//! Which disk to boot from: the one that carries both partitions of the root hash.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use block::table::{Entry, Table};
use layout::RootHash;
use uuid::Uuid;

use crate::report::chain;

/// A disk and its table, as seen.
pub(crate) struct Disk {
    /// Such as `vda`.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The table, or why there is none.
    pub(crate) table: Result<Table, String>,
}

/// What the disks say about a root hash.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The disk at this position, and the numbers of its two partitions.
    One { disk: usize, usr: u32, verity: u32 },
    /// No disk carries both.
    None,
    /// More than one: nothing says which is meant.
    Several(Vec<String>),
}

impl Disk {
    /// Path of the disk's device.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/dev").join(&self.name)
    }

    /// Path of a partition's device.
    pub(crate) fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from("/dev").join(block::partition_name(&self.name, number))
    }

    /// A line for the failure report.
    pub(crate) fn describe(&self) -> String {
        let mib = self.bytes >> 20;
        match &self.table {
            Ok(table) => {
                let entries = table.entries();
                let line = |(n, entry): (&u32, &Entry)| {
                    format!("\n{n} `{}` {} MiB, {}", entry.name, entry.size_bytes >> 20, entry.guid)
                };
                let lines: String = entries.iter().map(line).collect();
                format!("{} ({mib} MiB), {} partitions{lines}", self.name, entries.len())
            }
            Err(why) => format!("{} ({mib} MiB): {why}", self.name),
        }
    }
}

/// The disks that there are now, their tables read.
pub(crate) fn scan() -> Vec<Disk> {
    let Ok(list) = fs::read_dir("/sys/block") else { return vec![] };
    let mut names: Vec<String> =
        list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let foreign = ["loop", "ram", "zram", "dm-", "sr", "fd", "md"];
    names.retain(|name| !foreign.iter().any(|prefix| name.starts_with(prefix)));
    names.into_iter().filter_map(look).collect()
}

/// A disk as it is now.
pub(crate) fn look(name: String) -> Option<Disk> {
    let device = File::open(PathBuf::from("/dev").join(&name)).ok()?;
    let bytes = block::size_bytes(&device).ok()?;
    let sector = block::sector_bytes(&device).ok()?;
    // An empty card reader.
    if bytes == 0 {
        return None;
    }
    let table = Table::read(&device, bytes, sector).map_err(|error| chain(&error));
    Some(Disk { name, bytes, table })
}

/// Chooses among disks. `loader` says which EFI system partition this boot came from; it is only
/// asked where that matters.
pub(crate) fn choose(
    disks: &[Disk],
    hash: &RootHash,
    loader: impl FnOnce() -> Option<Uuid>,
) -> Choice {
    let mut found = vec![];
    for (disk, facts) in disks.iter().enumerate() {
        let Ok(table) = &facts.table else { continue };
        let entries = table.entries();
        let with = |guid: Uuid| entries.iter().find(|(_, e)| e.guid == guid).map(|(n, _)| *n);
        let (usr, verity) = (with(hash.usr_partuuid()), with(hash.verity_partuuid()));
        if let (Some(usr), Some(verity)) = (usr, verity) {
            found.push(Found {
                disk,
                usr,
                verity,
                guids: entries.values().map(|e| e.guid).collect(),
            });
        }
    }
    if found.len() > 1
        && let Some(guid) = loader()
        && let [one] = found.iter().filter(|f| f.guids.contains(&guid)).collect::<Vec<_>>()[..]
    {
        return Choice::One { disk: one.disk, usr: one.usr, verity: one.verity };
    }
    match &found[..] {
        [] => Choice::None,
        [one] => Choice::One { disk: one.disk, usr: one.usr, verity: one.verity },
        _ => Choice::Several(found.iter().map(|f| disks[f.disk].name.clone()).collect()),
    }
}

/// A disk with both partitions, and every PARTUUID of it.
struct Found {
    disk: usize,
    usr: u32,
    verity: u32,
    guids: Vec<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: RootHash = {
        let mut bytes = [7; 32];
        bytes[0] = 1;
        RootHash(bytes)
    };
    const NO_LOADER: fn() -> Option<Uuid> = || None;

    fn disk(name: &str, guids: &[Uuid]) -> Disk {
        let mut table = Table::new(8 << 20, 512, Uuid::nil()).unwrap();
        for (number, guid) in (1..).zip(guids) {
            let (name, start_bytes) = (String::new(), u64::from(number) << 20);
            let (kind, guid, size_bytes, flags) = (*guid, *guid, 512, 0);
            let entry = Entry { kind, guid, start_bytes, size_bytes, flags, name };
            table.set(number, Some(&entry)).unwrap();
        }
        Disk { name: name.to_owned(), bytes: 8 << 20, table: Ok(table) }
    }

    fn whole(name: &str, esp: u128) -> Disk {
        disk(name, &[Uuid::from_u128(esp), HASH.usr_partuuid(), HASH.verity_partuuid()])
    }

    #[test]
    fn the_disk_with_both_halves_of_the_root_hash_is_chosen() {
        let half = disk("vda", &[HASH.usr_partuuid()]);
        assert_eq!(
            choose(&[half, whole("vdb", 1)], &HASH, || panic!("nothing to ask")),
            Choice::One { disk: 1, usr: 2, verity: 3 }
        );
    }

    #[test]
    fn no_disk_is_chosen_by_half() {
        let half = disk("vda", &[HASH.usr_partuuid()]);
        assert_eq!(choose(&[half], &HASH, NO_LOADER), Choice::None);
    }

    #[test]
    fn of_two_the_one_that_the_loader_came_from_is_chosen() {
        let disks = [whole("sda", 1), whole("sdb", 2)];
        let chosen = choose(&disks, &HASH, || Some(Uuid::from_u128(2)));
        assert_eq!(chosen, Choice::One { disk: 1, usr: 2, verity: 3 });
    }

    #[test]
    fn two_copies_of_one_disk_are_ambiguous_by_name() {
        let names = || Choice::Several(vec!["sda".to_owned(), "sdb".to_owned()]);
        let disks = [whole("sda", 1), whole("sdb", 1)];
        assert_eq!(choose(&disks, &HASH, NO_LOADER), names());
        assert_eq!(choose(&disks, &HASH, || Some(Uuid::from_u128(1))), names());
        assert_eq!(choose(&disks, &HASH, || Some(Uuid::from_u128(9))), names());
    }

    #[test]
    fn partitions_of_numbered_disks_have_a_p() {
        assert_eq!(whole("nvme0n1", 1).partition(2), PathBuf::from("/dev/nvme0n1p2"));
        assert_eq!(whole("vda", 1).partition(2), PathBuf::from("/dev/vda2"));
    }

    #[test]
    fn a_disk_is_described_by_what_is_on_it() {
        assert_eq!(
            disk("vda", &[Uuid::nil(), Uuid::from_u128(1)]).describe(),
            "vda (8 MiB), 1 partitions\n2 `` 0 MiB, 00000000-0000-0000-0000-000000000001"
        );
    }
}
