//! What is to be done about root, decided from the table of the boot disk alone.

use block::table::{Entries, Entry};
use layout::{Role, disk as numbers, types};

/// What is to be done about root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Make it: first remove the entries of unfinished tries.
    Make { forget: Vec<u32>, number: u32, start_bytes: u64, size_bytes: u64 },
    /// It is there; `grow_to` is its new length where the disk has more room.
    Use { number: u32, start_bytes: u64, grow_to: Option<u64> },
}

/// Why there can be no root.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "the disk has {disk_mib} MiB, of which {free_mib} MiB are free for root; it needs {}",
        numbers::ROOT_MIN_BYTES >> 20
    )]
    NoRoom { disk_mib: u64, free_mib: u64 },
    #[error("the disk has several root partitions: numbers {0:?}")]
    Several(Vec<u32>),
    #[error(
        "root, partition {number}, ends at {end_mib} MiB, but the disk has {disk_mib} MiB: \
         it was cut short"
    )]
    CutShort { number: u32, end_mib: u64, disk_mib: u64 },
}

impl Plan {
    /// The same with a root of at most `size_mib`.
    pub(crate) fn of_at_most(self, size_mib: Option<u64>) -> Self {
        match (self, size_mib.and_then(|mib| mib.checked_mul(numbers::MIB))) {
            (Self::Make { forget, number, start_bytes, size_bytes }, Some(most)) => {
                Self::Make { forget, number, start_bytes, size_bytes: size_bytes.min(most) }
            }
            (plan, _) => plan,
        }
    }
}

/// Decides from the table of the boot disk.
pub(crate) fn plan(disk_bytes: u64, entries: &Entries) -> Result<Plan, Refused> {
    let of = |wanted: &dyn Fn(&Entry) -> bool| -> Vec<u32> {
        entries.iter().filter(|(_, entry)| wanted(entry)).map(|(number, _)| *number).collect()
    };
    let whole = of(&|entry| entry.kind == types::ROOT);
    let unfinished = of(&|entry| {
        entry.kind == types::UNFINISHED && entry.name == numbers::ROOT_UNFINISHED_LABEL
    });
    match whole[..] {
        [] => make(disk_bytes, entries, unfinished),
        [number] => {
            let entry = &entries[&number];
            let start_bytes = entry.start_bytes;
            if entry.end_bytes() > disk_bytes {
                let (end_mib, disk_mib) = (entry.end_bytes() >> 20, disk_bytes >> 20);
                return Err(Refused::CutShort { number, end_mib, disk_mib });
            }
            let end = end_of_room(disk_bytes, entries, number, start_bytes);
            let room = end.saturating_sub(start_bytes);
            // Without the flag somebody wanted it to be as long as it is.
            let grows = entry.flags & types::FLAG_GROW != 0;
            let grow_to = (grows && room > entry.size_bytes).then_some(room);
            Ok(Plan::Use { number, start_bytes, grow_to })
        }
        _ => Err(Refused::Several(whole)),
    }
}

fn make(disk_bytes: u64, entries: &Entries, forget: Vec<u32>) -> Result<Plan, Refused> {
    let mut kept = entries.clone();
    kept.retain(|number, _| !forget.contains(number));
    // Somebody's partition may have the number of root, but none behind it is renumbered for that.
    let number = (Role::Root.number()..).find(|number| !kept.contains_key(number));
    let number = number.expect("a table is finite");
    let start_bytes = numbers::root_start_bytes();
    let end = end_of_room(disk_bytes, &kept, number, start_bytes);
    let size_bytes = end.saturating_sub(start_bytes);
    if size_bytes < numbers::ROOT_MIN_BYTES {
        let (disk_mib, free_mib) = (disk_bytes >> 20, size_bytes >> 20);
        return Err(Refused::NoRoom { disk_mib, free_mib });
    }
    Ok(Plan::Make { forget, number, start_bytes, size_bytes })
}

/// Where the free space behind `start_bytes` ends: at the next partition, or a mebibyte before
/// the end of the disk (the backup table is there).
fn end_of_room(disk: u64, entries: &Entries, own: u32, start_bytes: u64) -> u64 {
    let others = entries.iter().filter(|(number, _)| **number != own).map(|(_, entry)| entry);
    let behind = others.filter(|entry| entry.end_bytes() > start_bytes);
    let end = disk.saturating_sub(numbers::MIB);
    let next = behind.map(|entry| entry.start_bytes).min();
    next.map_or(end, |next| next.min(end)) / numbers::MIB * numbers::MIB
}

#[cfg(test)]
mod tests {
    use layout::{RootHash, Version, seed::Seed};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const DISK: u64 = 8 << 30;

    fn entry(kind: Uuid, name: &str, start_bytes: u64, size_bytes: u64) -> Entry {
        let name = name.to_owned();
        Entry { kind, guid: Uuid::nil(), start_bytes, size_bytes, flags: 0, name }
    }

    fn shipped() -> Entries {
        let version: Version = "1".parse().unwrap();
        let rows = numbers::shipped(&Seed::new("cloud", &version), &version, &RootHash([1; 32]));
        rows.iter()
            .map(|p| {
                let row = entry(p.role.type_guid(), &p.label, p.start_bytes, p.size_bytes);
                (p.role.number(), row)
            })
            .collect()
    }

    fn with_root(size: u64) -> Entries {
        let mut entries = shipped();
        let root = entry(types::ROOT, "root", numbers::root_start_bytes(), size);
        entries.insert(6, Entry { flags: types::FLAG_GROW, ..root });
        entries
    }

    #[test]
    fn a_disk_without_root_gets_one_behind_the_slots() {
        let size_bytes = numbers::root_size_bytes(DISK).unwrap();
        let start_bytes = numbers::root_start_bytes();
        assert_eq!(
            plan(DISK, &shipped()),
            Ok(Plan::Make { forget: vec![], number: 6, start_bytes, size_bytes })
        );
    }

    #[test]
    fn an_unfinished_root_is_made_anew_in_its_place() {
        let mut entries = shipped();
        let start = numbers::root_start_bytes();
        let name = numbers::ROOT_UNFINISHED_LABEL;
        entries.insert(6, entry(types::UNFINISHED, name, start, 1 << 30));
        let Ok(Plan::Make { forget, number, .. }) = plan(DISK, &entries) else { panic!() };
        assert_eq!((forget, number), (vec![6], 6));
    }

    #[test]
    fn somebodys_linux_partition_is_not_taken_for_an_unfinished_root() {
        let mut entries = shipped();
        let start = numbers::root_start_bytes() + (1 << 30);
        entries.insert(6, entry(types::UNFINISHED, "data", start, 1 << 30));
        assert_eq!(
            plan(DISK, &entries),
            Ok(Plan::Make {
                forget: vec![],
                number: 7,
                start_bytes: numbers::root_start_bytes(),
                size_bytes: 1 << 30
            })
        );
    }

    #[test]
    fn a_root_grows_to_the_end_of_the_disk_once() {
        let size = numbers::root_size_bytes(DISK).unwrap();
        let start_bytes = numbers::root_start_bytes();
        let grown = numbers::root_size_bytes(2 * DISK).unwrap();
        assert_eq!(
            plan(DISK, &with_root(size)),
            Ok(Plan::Use { number: 6, start_bytes, grow_to: None })
        );
        assert_eq!(
            plan(2 * DISK, &with_root(size)),
            Ok(Plan::Use { number: 6, start_bytes, grow_to: Some(grown) })
        );
        assert_eq!(
            plan(2 * DISK, &with_root(grown)),
            Ok(Plan::Use { number: 6, start_bytes, grow_to: None })
        );
    }

    #[test]
    fn a_root_of_a_length_that_was_asked_for_keeps_it() {
        let start_bytes = numbers::root_start_bytes();
        let made = plan(DISK, &shipped()).unwrap().of_at_most(Some(1024));
        let size_bytes = 1 << 30;
        assert_eq!(made, Plan::Make { forget: vec![], number: 6, start_bytes, size_bytes });
        let mut entries = with_root(size_bytes);
        entries.get_mut(&6).unwrap().flags = 0;
        let kept = Plan::Use { number: 6, start_bytes, grow_to: None };
        assert_eq!(plan(DISK, &entries), Ok(kept));
    }

    #[test]
    fn a_root_does_not_grow_over_the_partition_behind_it() {
        let mut entries = with_root(1 << 30);
        let behind = numbers::root_start_bytes() + (2 << 30);
        entries.insert(7, entry(types::UNFINISHED, "data", behind, 1 << 30));
        let Ok(Plan::Use { grow_to, .. }) = plan(DISK, &entries) else { panic!() };
        assert_eq!(grow_to, Some(2 << 30));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_numbers() {
        let small = numbers::root_start_bytes() + (10 << 20);
        assert_eq!(
            plan(small, &shipped()),
            Err(Refused::NoRoom { disk_mib: small >> 20, free_mib: 9 })
        );
        let mut two = with_root(1 << 30);
        two.insert(7, entry(types::ROOT, "root", 7 << 30, 1 << 29));
        assert_eq!(plan(DISK, &two), Err(Refused::Several(vec![6, 7])));
        let cut_short = Refused::CutShort { number: 6, end_mib: 8191, disk_mib: 4096 };
        let size = numbers::root_size_bytes(DISK).unwrap();
        assert_eq!(plan(DISK / 2, &with_root(size)), Err(cut_short));
    }

    proptest! {
        /// Whatever lies around: root gets free space only, whole mebibytes, clear of the backup.
        #[test]
        fn root_never_touches_what_is_not_its_own(
            disk_mib in 100u64..12_000,
            root in prop::option::of((2000u64..9000, 1u64..3000)),
            others in prop::collection::vec((6u32..12, 2000u64..12_000, 1u64..4000), 0..4),
        ) {
            let (disk, mib) = (disk_mib << 20, numbers::MIB);
            let mut entries = shipped();
            for (number, start, size) in others {
                entries.insert(number, entry(types::UNFINISHED, "data", start * mib, size * mib));
            }
            if let Some((start, size)) = root {
                entries.insert(20, entry(types::ROOT, "root", start * mib, size * mib));
            }
            let (own, start, end) = match plan(disk, &entries) {
                Ok(Plan::Make { number, start_bytes, size_bytes, .. }) => {
                    prop_assert!(!entries.contains_key(&number));
                    (number, start_bytes, start_bytes + size_bytes)
                }
                Ok(Plan::Use { number, start_bytes, grow_to: Some(size) }) => {
                    (number, start_bytes, start_bytes + size)
                }
                Ok(Plan::Use { .. }) | Err(_) => return Ok(()),
            };
            prop_assert!(end % mib == 0 && end + 34 * 4096 <= disk);
            let own_end = entries.get(&own).map_or(start, Entry::end_bytes);
            for (number, other) in entries.iter().filter(|(number, _)| **number != own) {
                let touches = other.start_bytes < end && other.end_bytes() > own_end;
                prop_assert!(!touches, "{number}: {other:?}");
            }
        }
    }
}
