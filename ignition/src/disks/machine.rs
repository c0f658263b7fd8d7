//! The shell of the plan: gathers the facts of this machine, or of image files that stand for its
//! disks. What performs the steps is in `perform`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Refused, Stage, blocks,
    facts::{Contents, Device, Disk, Facts, Place, Table, array_node, volume_names},
    names::{self, Block, encoded},
};
use crate::{document::Config, journal::Journal};

/// How often to look for a device that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How often to say what is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Where the disks of a document are.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// What stands for a device, by the name that the document calls it by: an image file, or a
    /// device that has another name here.
    pub images: BTreeMap<String, PathBuf>,
    /// How long to wait for a device that is not there.
    pub patience: Duration,
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It cannot be had.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The machine did not do as it was told.
    #[error("{doing} (for {at})")]
    Io {
        /// The path of the entry.
        at: String,
        /// What we were doing.
        doing: String,
        /// What came of it.
        source: io::Error,
    },
    /// A table could not be written.
    #[error("{device} (for {at})")]
    Table {
        /// The path of the entry.
        at: String,
        /// The disk.
        device: String,
        /// What came of it.
        source: block::table::TableError,
    },
    /// A program failed.
    #[error("{command} ended with {status} (for {at}):\n{output}")]
    Program {
        /// The path of the entry.
        at: String,
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// The last of what it said.
        output: String,
    },
}

impl Trouble {
    /// The path of the entry that it is about.
    pub fn at(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.path,
            Self::Io { at, .. } | Self::Table { at, .. } | Self::Program { at, .. } => at,
        }
    }

    /// What to do, if that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => Some(&refused.hint),
            Self::Io { .. } | Self::Table { .. } | Self::Program { .. } => None,
        }
    }
}

pub(crate) fn doing(at: &str, what: impl Into<String>) -> impl FnOnce(io::Error) -> Trouble {
    let (at, doing) = (at.to_owned(), what.into());
    move |source| Trouble::Io { at, doing, source }
}

impl Machine {
    /// What the machine is, as far as the document asks. Waits for devices that it names and that
    /// no entry makes, at most as long as there is patience.
    pub fn facts(&self, config: &Config, journal: &dyn Journal) -> Result<Facts, Trouble> {
        let (start, mut remarks) = (Instant::now(), Remarks::default());
        loop {
            let look = self.look(config)?;
            let waited = start.elapsed();
            if look.missing.is_empty() || waited >= self.patience {
                return Ok(look.facts);
            }
            if remarks.is_due(waited) {
                let (seconds, limit) = (waited.as_secs(), self.patience.as_secs());
                let missing = look.missing.join(", ");
                journal.delay(&format!("disks: waiting for {missing} ({seconds} s of {limit})"));
            }
            sleep(LOOK_AGAIN);
        }
    }

    fn look(&self, config: &Config) -> Result<Look<'_>, Trouble> {
        let mut look = Look {
            machine: self,
            blocks: blocks::scan(),
            facts: Facts::default(),
            missing: vec![],
        };
        for (index, disk) in config.storage.disks.iter().enumerate() {
            let at = format!("$.storage.disks.{index}.device");
            look.disk(&at, &disk.device)?;
        }
        // A partition is looked into where it will be. What is refused is so when it is planned.
        let mut after = look.facts.clone();
        for step in Stage::Tables.plan(config, &look.facts).unwrap_or_default() {
            after.take_in(&step);
        }
        let storage = &config.storage;
        let mut wanted: Vec<(String, &str)> = vec![];
        for (index, array) in storage.raid.iter().enumerate() {
            let devices = array.devices.iter().enumerate();
            wanted.extend(devices.map(|(device, name)| {
                (format!("$.storage.raid.{index}.devices.{device}"), name.as_str())
            }));
        }
        for (index, volume) in storage.luks.iter().enumerate() {
            let at = format!("$.storage.luks.{index}.device");
            wanted.extend(volume.device.as_deref().map(|name| (at, name)));
        }
        for (index, entry) in storage.filesystems.iter().enumerate() {
            wanted.push((format!("$.storage.filesystems.{index}.device"), &entry.device));
        }
        let arrays: Vec<String> =
            storage.raid.iter().map(|array| array_node(&array.name)).collect();
        let volumes: Vec<String> =
            storage.luks.iter().flat_map(|volume| volume_names(&volume.name)).collect();
        let to_come: Vec<&String> = arrays.iter().chain(&volumes).collect();
        let made: Vec<String> = to_come.iter().map(|name| (*name).clone()).collect();
        for (at, name) in wanted {
            look.device(&at, name, &after)?;
        }
        for name in &made {
            look.device("$.storage", name, &after)?;
        }
        look.missing.retain(|name| !made.contains(name));
        Ok(look)
    }
}

/// What is said of a wait: a word at once, and then one each ten seconds.
#[derive(Debug, Default)]
struct Remarks(u32);

impl Remarks {
    fn is_due(&mut self, waited: Duration) -> bool {
        let due = waited >= SAY_AGAIN * self.0;
        self.0 += u32::from(due);
        due
    }
}

/// One look at the machine.
struct Look<'a> {
    machine: &'a Machine,
    blocks: Vec<Block>,
    facts: Facts,
    missing: Vec<String>,
}

impl Look<'_> {
    fn disk(&mut self, at: &str, name: &str) -> Result<(), Trouble> {
        let Some(path) = self.find(at, name)? else {
            self.missing.push(name.to_owned());
            return Ok(());
        };
        let read = File::open(&path).and_then(|file| blocks::read_table(&file));
        let (size_bytes, sector_bytes, table) =
            read.map_err(doing(at, format!("reading the table of {}", path.display())))?;
        let (mut used_by, mut used_partitions) = (None, BTreeMap::new());
        let own = path.file_name().filter(|_| !path.is_file());
        if let Some(own) = own.map(|name| name.to_string_lossy().into_owned()) {
            used_by = blocks::user_of(&own);
            for (number, partition) in blocks::known_partitions(&own) {
                if let Some(user) = blocks::user_of(&partition) {
                    used_partitions.insert(number, user);
                }
            }
        }
        let disk = Disk { path, sector_bytes, size_bytes, table, used_by, used_partitions };
        self.facts.disks.insert(name.to_owned(), disk);
        Ok(())
    }

    fn device(&mut self, at: &str, name: &str, after: &Facts) -> Result<(), Trouble> {
        if self.facts.devices.contains_key(name) {
            return Ok(());
        }
        let place = match planned(name, after) {
            Some(place) => Some(place),
            None => self.place(at, name)?,
        };
        let Some(place) = place else {
            self.missing.push(name.to_owned());
            return Ok(());
        };
        let found = blocks::look_into(&place);
        let found = found.map_err(doing(at, format!("looking into {}", place.path.display())))?;
        let node = node_name(&place).filter(|_| !place.path.is_file());
        let used_by = node.and_then(|name| blocks::user_of(&name));
        let is_disk = self.facts.disks.values().any(|disk| {
            disk.path == place.path && place.partition.is_none() && disk.table != Table::None
        });
        let contents = Contents::Known(found);
        let device = Device { place: Some(place), contents, used_by, is_disk };
        self.facts.devices.insert(name.to_owned(), device);
        Ok(())
    }

    fn place(&self, at: &str, name: &str) -> Result<Option<Place>, Trouble> {
        let Some(path) = self.find(at, name)? else { return Ok(None) };
        let measured = File::open(&path).and_then(|file| blocks::measure(&file));
        let (size_bytes, _) = measured.map_err(doing(at, format!("opening {}", path.display())))?;
        Ok(Some(Place { path, partition: None, start_bytes: 0, size_bytes }))
    }

    /// The node or the image that a name means.
    fn find(&self, at: &str, name: &str) -> Result<Option<PathBuf>, Trouble> {
        if let Some(image) = self.machine.images.get(name) {
            return Ok(Some(image.clone()));
        }
        match names::resolve(name, &self.blocks)[..] {
            // Links that somebody made: mdadm does, and udev where there is one.
            [] => Ok(fs::canonicalize(name).ok()),
            [one] => Ok(Some(Path::new("/dev").join(&one.name))),
            ref several => {
                let names: Vec<&str> = several.iter().map(|block| block.name.as_str()).collect();
                Err(Trouble::Refused(Refused::new(
                    at,
                    format!("{name} may be any of {}", names.join(", ")),
                    "name the device by something that only one has",
                )))
            }
        }
    }
}

/// The kernel's name of a place.
pub(super) fn node_name(place: &Place) -> Option<String> {
    let disk = place.path.file_name()?.to_string_lossy().into_owned();
    let Some(number) = place.partition else { return Some(disk) };
    Some(block::partition_name(&disk, number))
}

/// The place of a partition of one of the document's disks, as they will be.
fn planned(name: &str, after: &Facts) -> Option<Place> {
    let place = |disk: &Disk, number: u32| {
        let entry = disk.entries().get(&number).cloned()?;
        let (path, partition) = (disk.path.clone(), Some(number));
        let (start_bytes, size_bytes) = (entry.start_bytes, entry.size_bytes);
        Some(Place { path, partition, start_bytes, size_bytes })
    };
    for (disk, number) in names::of_partition(name) {
        // By the name that the document has for the disk, or by the kernel's.
        let found = after
            .disks
            .iter()
            .find(|(named, facts)| **named == disk || facts.path == Path::new(&disk));
        if let Some((_, disk)) = found {
            return place(disk, number);
        }
    }
    let label = name.strip_prefix("/dev/disk/by-partlabel/");
    let guid = name.strip_prefix("/dev/disk/by-partuuid/");
    for disk in after.disks.values() {
        for (number, entry) in disk.entries() {
            let is_label =
                label.is_some_and(|label| !entry.name.is_empty() && encoded(&entry.name) == label);
            let is_guid =
                guid.is_some_and(|guid| entry.guid.to_string().eq_ignore_ascii_case(guid));
            if is_label || is_guid {
                return place(disk, number);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_at_once_and_every_ten_seconds() {
        let mut remarks = Remarks::default();
        let due = (0..300).map(|tick| Duration::from_millis(200 * tick));
        let due: Vec<u64> =
            due.filter(|waited| remarks.is_due(*waited)).map(|at| at.as_secs()).collect();
        assert_eq!(due, [0, 10, 20, 30, 40, 50]);
    }
}
