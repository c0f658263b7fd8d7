//! Firmware, systemd-boot, `/init`, dm-verity and systemd-bless-boot, as rules.

use std::{cmp::Ordering, io};

use super::*;

/// What a boot came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Booted {
    pub(super) version: String,
    pub(super) root_hash: RootHash,
    /// The file that it was booted from.
    pub(super) uki: String,
    pub(super) on_trial: bool,
}

/// Why no system came up.
#[derive(Debug)]
pub(super) enum NoBoot {
    /// Power failed.
    Gone,
    /// The machine is lost, or falls from one version to the next.
    Lost(String),
}

/// An entry of the boot loader.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    version: String,
    left: Option<u32>,
    done: u32,
}

impl Entry {
    fn parse(name: &str) -> Option<Self> {
        let stem = name.to_ascii_lowercase().strip_suffix(".efi")?.to_owned();
        let (id, counter) = match stem.rsplit_once('+') {
            Some((id, counter)) => (id.to_owned(), Some(counter.to_owned())),
            None => (stem, None),
        };
        let version = id.strip_prefix("pithos_")?.to_owned();
        let (left, done) = match counter {
            None => (None, 0),
            Some(counter) => {
                let (left, done) = counter.split_once('-').unwrap_or((&counter, "0"));
                (Some(left.parse().ok()?), done.parse().ok()?)
            }
        };
        Some(Self { name: name.to_owned(), version, left, done })
    }

    /// The one of which this is `Less` is booted. Versions here are single numbers.
    fn order(&self, other: &Self) -> Ordering {
        let number = |entry: &Self| entry.version.parse::<u32>().expect("a number");
        let spent = |entry: &Self| entry.left == Some(0);
        spent(self).cmp(&spent(other)).then(number(other).cmp(&number(self))).then(
            match (self.left, other.left) {
                (Some(a), Some(b)) => b.cmp(&a).then(self.done.cmp(&other.done)),
                (a, b) => a.is_some().cmp(&b.is_some()),
            },
        )
    }
}

fn gone(_: io::Error) -> NoBoot {
    NoBoot::Gone
}

/// Boots what is on the disk. It has to be whole: what the boot loader takes first must come up.
pub(super) fn power_on(machine: &Machine, known: &[&Made]) -> Result<Booted, NoBoot> {
    let esp = machine.esp();
    // A file that does not begin as a program is none of systemd-boot's.
    let is_program = |name: &str| machine.esp_file(name).starts_with(b"UKI");
    let files = esp.list().map_err(gone)?;
    let entries = files.iter().filter_map(|file| Entry::parse(&file.name));
    let entries: Vec<Entry> = entries.filter(|entry| is_program(&entry.name)).collect();
    let lost = |why: String| NoBoot::Lost(format!("{why}; the ESP has {files:?}"));
    let first = entries.iter().min_by(|a, b| a.order(b));
    let Some(entry) = first else { return Err(lost("there is nothing to boot".to_owned())) };
    let mut uki = entry.name.clone();
    if let Some(left) = entry.left {
        let (left, done) = (left.saturating_sub(1), entry.done + 1);
        uki = format!("pithos_{}+{left}-{done}.efi", entry.version);
        esp.rename(&entry.name, &uki).map_err(gone)?;
        esp.sync().map_err(gone)?;
    }
    let bytes = machine.esp_file(&uki);
    let Some(made) = known.iter().find(|made| made.uki == bytes) else {
        return Err(lost(format!("{uki} is not whole")));
    };
    let root_hash = *made.root_hash();

    // `/init`: both PARTUUIDs, and everything in them.
    let table = machine.table().map_err(|why| lost(format!("the table: {why}")))?;
    let entries = table.entries();
    let with = |guid: Uuid| {
        let mut found = entries.iter().filter(|(_, entry)| entry.guid == guid);
        let first = found.next().map(|(number, _)| *number);
        (found.next().is_none()).then_some(first).flatten()
    };
    let (usr, verity) = (with(root_hash.usr_partuuid()), with(root_hash.verity_partuuid()));
    let slot = match (usr, verity) {
        (Some(2), Some(3)) => Slot::A,
        (Some(4), Some(5)) => Slot::B,
        other => return Err(lost(format!("{uki} finds its slot at {other:?}"))),
    };
    let mut data = vec![0; made.usr.len()];
    let mut tree = vec![0; made.verity.len()];
    let read = |role, bytes: &mut [u8]| machine.partition(role)?.read_exact_at(bytes, 0);
    read(Role::Usr(slot), &mut data).map_err(gone)?;
    read(Role::Verity(slot), &mut tree).map_err(gone)?;
    if data != made.usr || tree != made.verity {
        return Err(lost(format!("{uki} finds slot {slot:?} damaged")));
    }
    let version = made.version().to_owned();
    Ok(Booted { version, root_hash, uki, on_trial: entry.left.is_some() })
}

/// systemd-bless-boot: the counter goes.
pub(super) fn bless(machine: &Machine, booted: &Booted) -> Result<(), NoBoot> {
    let name = format!("pithos_{}.efi", booted.version);
    machine.esp().rename(&booted.uki, &name).map_err(gone)?;
    machine.esp().sync().map_err(gone)
}
