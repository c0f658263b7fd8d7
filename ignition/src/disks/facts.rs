//! What a machine is, as far as a document about its disks needs to know: plain data, gathered by
//! the shell, or written down by a test.

use std::{collections::BTreeMap, path::PathBuf};

use block::table::{Entries, Entry};
use uuid::Uuid;

use super::{
    room::Room,
    signature::{Kind, Signature},
    steps::{Change, Step},
};

/// What a machine is. Disks and devices have the names that the document calls them by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Those of `storage.disks`.
    pub disks: BTreeMap<String, Disk>,
    /// Those that arrays, volumes and file systems are made on.
    pub devices: BTreeMap<String, Device>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Its device, or its image file.
    pub path: PathBuf,
    /// Length of its logical sectors.
    pub sector_bytes: u64,
    /// Its length.
    pub size_bytes: u64,
    /// The table on it.
    pub table: Table,
    /// By what the disk as a whole is in use.
    pub used_by: Option<String>,
    /// By what its partitions are in use.
    pub used_partitions: BTreeMap<u32, String>,
}

/// What is where a partition table would be.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// Nothing.
    None,
    /// A table (GPT).
    Gpt {
        /// Where partitions can be, and how many.
        room: Room,
        /// Those that there are.
        entries: Entries,
    },
    /// Something else: what, in words.
    Foreign(String),
}

/// A device to put something on.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Where it is; `None` if a step makes it, or nobody knows.
    pub place: Option<Place>,
    /// What is on it.
    pub contents: Contents,
    /// By what it is in use.
    pub used_by: Option<String>,
    /// Whether partitions are on it, and so it is no place for anything else.
    pub is_disk: bool,
}

/// A place on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The device or image file.
    pub path: PathBuf,
    /// The partition of it that is meant.
    pub partition: Option<u32>,
    /// The first byte, from the start of `path`.
    pub start_bytes: u64,
    /// The length.
    pub size_bytes: u64,
}

/// What is on a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Contents {
    /// There is no such device.
    Missing,
    /// It is behind something that is opened first.
    Unknown,
    /// These, the one that counts first.
    Known(Vec<Signature>),
}

impl Contents {
    /// The signature that counts, if there is one that is known.
    pub fn first(&self) -> Option<&Signature> {
        match self {
            Self::Known(found) => found.first(),
            Self::Missing | Self::Unknown => None,
        }
    }
}

impl Disk {
    /// Its partitions; none where there is no table.
    pub fn entries(&self) -> Entries {
        match &self.table {
            Table::Gpt { entries, .. } => entries.clone(),
            Table::None | Table::Foreign(_) => Entries::new(),
        }
    }

    /// The disk after a change of its table. What is random then is nil here.
    fn change(&mut self, wipe: bool, changes: &[Change]) {
        if wipe {
            self.table = Table::None;
        }
        if changes.is_empty() {
            return;
        }
        if !matches!(self.table, Table::Gpt { .. }) {
            let room = Room::of_new_table(self.size_bytes, self.sector_bytes);
            self.table = Table::Gpt { room, entries: Entries::new() };
        }
        let Table::Gpt { entries, .. } = &mut self.table else { return };
        for change in changes {
            match change {
                Change::Delete { number } => drop(entries.remove(number)),
                Change::Create { number, kind, guid, label, start_bytes, size_bytes } => {
                    let entry = Entry {
                        kind: *kind,
                        guid: guid.unwrap_or(Uuid::nil()),
                        start_bytes: *start_bytes,
                        size_bytes: *size_bytes,
                        flags: 0,
                        name: label.clone(),
                    };
                    entries.insert(*number, entry);
                }
                Change::Resize { number, size_bytes, .. } => {
                    if let Some(entry) = entries.get_mut(number) {
                        entry.size_bytes = *size_bytes;
                    }
                }
            }
        }
    }
}

impl Device {
    /// One that is not there.
    fn missing() -> Self {
        Self { place: None, contents: Contents::Missing, used_by: None, is_disk: false }
    }
}

impl Facts {
    /// A device that the document names.
    pub fn device(&self, name: &str) -> Device {
        self.devices.get(name).cloned().unwrap_or_else(Device::missing)
    }

    /// The machine after a step.
    pub fn take_in(&mut self, step: &Step) {
        match step {
            Step::Table { device, wipe, changes, .. } => {
                if let Some(disk) = self.disks.get_mut(device) {
                    disk.change(*wipe, changes);
                }
            }
            Step::MakeArray { name, members, level, disks, .. } => {
                for member in members {
                    let kind = Kind::Mdraid { level: *level, disks: *disks };
                    let uuid = Some(format!("array of {name}"));
                    let label = Some(name.clone());
                    self.now_holds(member, Signature { kind, label, uuid });
                }
                self.appears(&[array_node(name)]);
            }
            Step::AssembleArray { name, .. } => self.appears(&[array_node(name)]),
            Step::MakeVolume { name, device, label, uuid, programs, .. } => {
                let (label, uuid) = (label.clone(), uuid.clone());
                let options = programs.iter().flat_map(|program| &program.args);
                let is_flag = |option: &&String| *option == "--allow-discards";
                let flags = options.filter(is_flag).map(|flag| flag[2..].to_owned()).collect();
                let kind = Kind::Luks { version: 2, flags, subsystem: None };
                self.now_holds(device, Signature { kind, label, uuid });
                self.appears(&volume_names(name));
            }
            Step::OpenVolume { name, .. } => self.appears(&volume_names(name)),
            Step::MakeFilesystem { device, format, label, uuid, .. } => {
                let (label, uuid) = (label.clone(), uuid.clone());
                match Kind::of_format(format) {
                    Some(kind) => self.now_holds(device, Signature { kind, label, uuid }),
                    None => self.now_holds_nothing(device),
                }
            }
        }
    }

    fn now_holds(&mut self, device: &str, signature: Signature) {
        if let Some(device) = self.devices.get_mut(device) {
            device.contents = Contents::Known(vec![signature]);
        }
    }

    fn now_holds_nothing(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.contents = Contents::Known(vec![]);
        }
    }

    fn appears(&mut self, names: &[String]) {
        for name in names {
            let device = self.devices.entry(name.clone()).or_insert_with(Device::missing);
            if device.contents == Contents::Missing {
                device.contents = Contents::Unknown;
            }
        }
    }
}

/// The node of an array.
pub(crate) fn array_node(name: &str) -> String {
    match name.starts_with("/dev") {
        true => name.to_owned(),
        false => format!("/dev/md/{name}"),
    }
}

/// The names of an open volume.
pub(crate) fn volume_names(name: &str) -> [String; 2] {
    [format!("/dev/mapper/{name}"), format!("/dev/disk/by-id/dm-name-{name}")]
}
