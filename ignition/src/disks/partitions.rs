//! Partitions: what of a table is kept, changed, or refused.
//!
//! | is there | shall be | `wipePartitionEntry` | then |
//! | --- | --- | --- | --- |
//! | no | no | | nothing |
//! | no | yes | | create |
//! | yes | no | yes / no | delete / refuse |
//! | yes, as described | yes | | nothing |
//! | yes, but not so | yes | yes | create anew |
//! | yes, of another size, `resize` | yes | no | resize |
//! | yes, but not so | yes | no | refuse |
//!
//! An entry with number 0 means the partition of its label; where there is none, the next number
//! that is free.

#[cfg(test)]
pub(super) mod tests;
mod wanted;

use std::collections::BTreeSet;

use block::table::{Entries, Entry};
use layout::disk::MIB;
use uuid::Uuid;

use super::{
    Refused,
    facts::{Disk, Facts, Table},
    room::{Room, alignment, amount},
    steps::{Change, Step},
};
use crate::document::{Config, config};
use wanted::{Difference, Wanted, bytes};

/// The steps for `storage.disks`.
pub fn plan(config: &Config, facts: &Facts) -> Result<Vec<Step>, Refused> {
    let mut steps = vec![];
    for (index, wanted) in config.storage.disks.iter().enumerate() {
        let at = format!("$.storage.disks.{index}");
        let Some(disk) = facts.disks.get(&wanted.device) else {
            return Err(Refused::new(
                format!("{at}.device"),
                format!("there is no disk {}", wanted.device),
                "correct the name, or attach the disk",
            ));
        };
        let Some((wipe, changes)) = Planner { at: &at, wanted, disk }.plan()? else { continue };
        let device = wanted.device.clone();
        steps.push(Step::Table { at, device, wipe, changes });
    }
    Ok(steps)
}

struct Planner<'a> {
    at: &'a str,
    wanted: &'a config::Disk,
    disk: &'a Disk,
}

impl Planner<'_> {
    /// Whether the table is wiped, and the changes; nothing where there is nothing to do.
    fn plan(&self) -> Result<Option<(bool, Vec<Change>)>, Refused> {
        let there = self.disk.entries();
        let has_table = matches!(self.disk.table, Table::Gpt { .. });
        if self.wanted.wipe_table == Some(true) {
            let anew = self.changes(&Entries::new(), &self.room(true))?;
            let is_there = anew.len() == there.len() && anew.iter().all(|c| is_done(c, &there));
            let nothing_to_wipe = match self.disk.table {
                Table::None => anew.is_empty(),
                // A table without partitions is made when partitions are taken out of it.
                Table::Gpt { .. } => is_there && !anew.is_empty(),
                Table::Foreign(_) => false,
            };
            if nothing_to_wipe {
                return Ok(None);
            }
            self.refuse_if_used()?;
            return Ok(Some((self.disk.table != Table::None, anew)));
        }
        let changes = self.changes(&there, &self.room(false))?;
        if changes.is_empty() {
            return Ok(None);
        }
        if let Table::Foreign(what) = &self.disk.table {
            return Err(self.refused(
                format!("{} has no partition table, but {what}", self.wanted.device),
                "set wipeTable: true to replace it, or choose another disk",
            ));
        }
        if let Some(user) = &self.disk.used_by {
            return Err(self.is_used(user));
        }
        debug_assert!(has_table || there.is_empty());
        Ok(Some((false, changes)))
    }

    fn room(&self, anew: bool) -> Room {
        match &self.disk.table {
            Table::Gpt { room, .. } if !anew => room.clone(),
            _ => Room::of_new_table(self.disk.size_bytes, self.disk.sector_bytes),
        }
    }

    fn refused(&self, message: String, hint: &str) -> Refused {
        Refused::new(self.at, message, hint)
    }

    fn is_used(&self, user: &str) -> Refused {
        self.refused(
            format!("{} is in use by {user}", self.wanted.device),
            "choose another disk; this one cannot be partitioned now",
        )
    }

    fn refuse_if_used(&self) -> Result<(), Refused> {
        if let Some(user) = &self.disk.used_by {
            return Err(self.is_used(user));
        }
        match self.disk.used_partitions.iter().next() {
            None => Ok(()),
            Some((number, user)) => Err(self.refused(
                format!(
                    "wipeTable, but partition {number} of {} is in use by {user}",
                    self.wanted.device
                ),
                "leave wipeTable out and list the partitions to add, or choose another disk",
            )),
        }
    }

    /// The changes that make a table of `there` what the document says.
    fn changes(&self, there: &Entries, room: &Room) -> Result<Vec<Change>, Refused> {
        let wanted = self.resolve(there, room)?;
        let (mut gone, mut come) = (vec![], vec![]);
        for wanted in &wanted {
            let shall = wanted.entry.should_exist != Some(false);
            let wipe = wanted.entry.wipe_partition_entry == Some(true);
            let number = wanted.number;
            let Some(found) = there.get(&number) else {
                if shall {
                    come.push(wanted.create()?);
                }
                continue;
            };
            if !shall && !wipe {
                return Err(Refused::new(
                    &wanted.at,
                    format!(
                        "partition {number} of {} shall not exist, but does: {}",
                        self.wanted.device,
                        describe(found)
                    ),
                    "set wipePartitionEntry: true to delete it",
                ));
            }
            let differs = if shall { wanted.differs(found)? } else { vec![] };
            if shall && differs.is_empty() {
                continue;
            }
            let resize = wanted.entry.resize == Some(true)
                && differs.iter().all(|difference| difference.is_size);
            if shall && !wipe && !resize {
                return Err(self.mismatch(wanted, &differs));
            }
            if let Some(user) = self.disk.used_partitions.get(&number) {
                return Err(Refused::new(
                    &wanted.at,
                    format!("partition {number} of {} is in use by {user}", self.wanted.device),
                    "describe it as it is, or leave it out",
                ));
            }
            match shall && !wipe {
                true => {
                    let (start_bytes, size_bytes) = (found.start_bytes, wanted.size_bytes);
                    come.push(Change::Resize { number, start_bytes, size_bytes });
                }
                false => {
                    gone.push(Change::Delete { number });
                    if shall {
                        come.push(wanted.create()?);
                    }
                }
            }
        }
        gone.extend(come);
        self.refuse_overlaps(there, &gone, &wanted, room)?;
        Ok(gone)
    }

    /// The entries with their numbers, starts and sizes: those that they would get if all that are
    /// listed were removed and made again, in this order.
    fn resolve(&self, there: &Entries, room: &Room) -> Result<Vec<Wanted<'_>>, Refused> {
        let mut numbers = self.numbers(there, room)?;
        // Those without a number come last.
        numbers.sort_by_key(|(index, _)| self.wanted.partitions[*index].number == 0);
        let mut table = there.clone();
        numbers.iter().for_each(|(_, number)| drop(table.remove(number)));
        let alignment = alignment(there);
        let mut all = vec![];
        for (index, number) in numbers {
            let entry = &self.wanted.partitions[index];
            let at = format!("{}.partitions.{index}", self.at);
            let mut wanted = Wanted { at, entry, number, start_bytes: 0, size_bytes: 0 };
            if entry.should_exist != Some(false) {
                // What is not said stays as it is, unless it may be wiped.
                let found = there.get(&number);
                let keeps = found.filter(|_| entry.wipe_partition_entry != Some(true));
                let start = bytes(&wanted.at, "startMiB", entry.start_mib)?
                    .or(keeps.map(|found| found.start_bytes));
                let size = bytes(&wanted.at, "sizeMiB", entry.size_mib)?
                    .or(keeps.map(|found| found.size_bytes));
                let placed = self.place(&table, room, alignment, start, size);
                let (start_bytes, size_bytes) = placed.map_err(|no_room| {
                    let device = &self.wanted.device;
                    let size = room.usable.end / MIB;
                    Refused::new(
                        &wanted.at,
                        format!("partition {number} does not fit on {device}: {no_room}"),
                        format!(
                            "the disk has {size} MiB; change startMiB or sizeMiB, or remove \
                             partitions that are in the way"
                        ),
                    )
                })?;
                let placed = Entry {
                    kind: Uuid::nil(),
                    guid: Uuid::nil(),
                    start_bytes,
                    size_bytes,
                    flags: 0,
                    name: String::new(),
                };
                table.insert(number, placed);
                (wanted.start_bytes, wanted.size_bytes) = (start_bytes, size_bytes);
            }
            all.push(wanted);
        }
        Ok(all)
    }

    fn place(
        &self,
        table: &Entries,
        room: &Room,
        alignment: u64,
        start: Option<u64>,
        size: Option<u64>,
    ) -> Result<(u64, u64), super::room::NoRoom> {
        room.place(table, alignment, start.unwrap_or(0), size.unwrap_or(0))
    }

    /// The number of each entry of the document.
    fn numbers(&self, there: &Entries, room: &Room) -> Result<Vec<(usize, u32)>, Refused> {
        let listed = self.wanted.partitions.iter().filter_map(|p| u32::try_from(p.number).ok());
        let listed: BTreeSet<u32> = listed.filter(|number| *number != 0).collect();
        let mut taken: BTreeSet<u32> = there.keys().copied().collect();
        for entry in &self.wanted.partitions {
            let Ok(number) = u32::try_from(entry.number) else { continue };
            match entry.should_exist {
                Some(false) => taken.remove(&number),
                _ => taken.insert(number),
            };
        }
        let mut numbers = vec![];
        for (index, entry) in self.wanted.partitions.iter().enumerate() {
            let refused = |message: String, hint: &str| {
                Err(Refused::new(format!("{}.partitions.{index}.number", self.at), message, hint))
            };
            let number = match u32::try_from(entry.number) {
                Ok(0) => {
                    let label = entry.label.as_deref().unwrap_or_default();
                    let same = there
                        .iter()
                        .filter(|(number, found)| found.name == label && !listed.contains(number));
                    match same.map(|(number, _)| *number).collect::<Vec<_>>()[..] {
                        [] => {
                            let free = (1..).find(|number| !taken.contains(number));
                            free.expect("a table is finite")
                        }
                        [one] => one,
                        ref several => {
                            return refused(
                                format!(
                                    "{} has several partitions `{label}`: numbers {several:?}",
                                    self.wanted.device
                                ),
                                "say which by its number",
                            );
                        }
                    }
                }
                Ok(number) => number,
                Err(_) => {
                    let hint = "numbers count from 1; 0 is the partition of the label";
                    return refused(format!("there is no partition {}", entry.number), hint);
                }
            };
            if number > room.numbers && entry.should_exist != Some(false) {
                let hint = "choose a lower number, or 0 for the next that is free";
                return refused(format!("the table ends with number {}", room.numbers), hint);
            }
            taken.insert(number);
            numbers.push((index, number));
        }
        Ok(numbers)
    }

    fn mismatch(&self, wanted: &Wanted<'_>, differs: &[Difference]) -> Refused {
        let all: Vec<_> = differs.iter().map(|difference| difference.words.as_str()).collect();
        let hint = match differs.iter().all(|difference| difference.is_size) {
            true => {
                "set resize: true to change its size, or wipePartitionEntry: true to make it \
                     anew (what is on it is lost)"
            }
            false => {
                "describe it as it is, or set wipePartitionEntry: true to make it anew (what \
                      is on it is lost)"
            }
        };
        Refused::new(
            &wanted.at,
            format!(
                "partition {} of {} is not as described: {}",
                wanted.number,
                self.wanted.device,
                all.join("; ")
            ),
            hint,
        )
    }

    /// What is kept was not moved out of the way of what is made.
    fn refuse_overlaps(
        &self,
        there: &Entries,
        changes: &[Change],
        wanted: &[Wanted<'_>],
        room: &Room,
    ) -> Result<(), Refused> {
        let mut places: Vec<(u32, u64, u64)> =
            there.iter().map(|(n, e)| (*n, e.start_bytes, e.end_bytes())).collect();
        let mut made = vec![];
        for change in changes {
            let number = match change {
                Change::Delete { number } => number,
                Change::Create { number, start_bytes, size_bytes, .. }
                | Change::Resize { number, start_bytes, size_bytes } => {
                    made.push((*number, *start_bytes, start_bytes + size_bytes));
                    number
                }
            };
            places.retain(|(other, ..)| other != number);
        }
        for (number, start, end) in made {
            let other = places.iter().find(|(_, s, e)| *s < end && start < *e);
            let at = wanted.iter().find(|w| w.number == number).map_or(self.at, |w| &w.at);
            if let Some((other, ..)) = other {
                return Err(Refused::new(
                    at,
                    format!("partition {number} would lie on partition {other}"),
                    "change startMiB or sizeMiB, or list the other partition too",
                ));
            }
            if start < room.usable.start || end > room.usable.end {
                return Err(Refused::new(
                    at,
                    format!(
                        "partition {number} would end at {}, but the disk ends at {}",
                        amount(end),
                        amount(room.usable.end)
                    ),
                    "change startMiB or sizeMiB",
                ));
            }
            places.push((number, start, end));
        }
        Ok(())
    }
}

/// Whether a change would find its result.
fn is_done(change: &Change, there: &Entries) -> bool {
    match change {
        Change::Delete { number } => !there.contains_key(number),
        Change::Resize { number, size_bytes, .. } => {
            there.get(number).is_some_and(|entry| entry.size_bytes == *size_bytes)
        }
        Change::Create { number, kind, guid, label, start_bytes, size_bytes } => {
            there.get(number).is_some_and(|entry| {
                entry.kind == *kind
                    && guid.is_none_or(|guid| guid == entry.guid)
                    && entry.name == *label
                    && (entry.start_bytes, entry.size_bytes) == (*start_bytes, *size_bytes)
            })
        }
    }
}

fn describe(entry: &Entry) -> String {
    format!("`{}`, {} at {}", entry.name, amount(entry.size_bytes), amount(entry.start_bytes))
}
