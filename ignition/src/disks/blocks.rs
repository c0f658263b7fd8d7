//! The block devices of this machine, as /sys, their tables and their first bytes describe them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use block::table::{Table, TableError};

use super::{
    facts::{self, Place},
    machine::node_name,
    names::Block,
    room::Room,
    signature::{self, Signature, Source},
};

const SYS: &str = "/sys/class/block";

/// The attributes that names are made of.
const ATTRIBUTES: &[&str] = &[
    "serial",
    "wwid",
    "nsid",
    "dm/name",
    "dm/uuid",
    "device/model",
    "device/vendor",
    "device/serial",
    "device/wwid",
];

/// A part of a file or of a device, to be read.
pub(super) struct Part<'a> {
    pub(super) file: &'a File,
    pub(super) start_bytes: u64,
    pub(super) size_bytes: u64,
}

impl Source for Part<'_> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.start_bytes + offset)
    }
}

/// The marks that are on a place.
///
/// A partition is read through its own node, once it has one: the kernel keeps what was read of the
/// whole disk apart, and would show what was there before.
pub(super) fn look_into(place: &Place) -> io::Result<Vec<Signature>> {
    let own = own_node(place);
    let file = File::open(own.as_ref().unwrap_or(&place.path))?;
    let start_bytes = if own.is_some() { 0 } else { place.start_bytes };
    let size_bytes = place.size_bytes;
    signature::probe(&Part { file: &file, start_bytes, size_bytes })
}

/// The node of a partition that is there, where it is meant to be.
fn own_node(place: &Place) -> Option<PathBuf> {
    let name = place.partition.and_then(|_| node_name(place))?;
    let number = |key| attribute(&Path::new(SYS).join(&name), key)?.parse::<u64>().ok();
    // Both count in 512 bytes, whatever the sectors are.
    let is_same =
        number("start")? * 512 == place.start_bytes && number("size")? * 512 == place.size_bytes;
    (is_same && place.path.starts_with("/dev")).then(|| Path::new("/dev").join(name))
}

/// Length and sector length of a device or of an image file.
pub(super) fn measure(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((metadata.len(), 512)),
        false => Ok((block::size_bytes(file)?, block::sector_bytes(file)?)),
    }
}

/// The table of a disk, in the words of the plan.
pub(super) fn read_table(file: &File) -> io::Result<(u64, u64, facts::Table)> {
    let (size_bytes, sector_bytes) = measure(file)?;
    let table = match Table::read(file, size_bytes, sector_bytes) {
        Ok(table) => {
            let room = Room { usable: table.usable(), numbers: table.numbers() };
            facts::Table::Gpt { room, entries: table.entries() }
        }
        Err(TableError::Read(error)) => return Err(error),
        Err(TableError::NoGpt) => {
            let found = signature::probe(&Part { file, start_bytes: 0, size_bytes })?;
            match found.first() {
                None => facts::Table::None,
                Some(found) => facts::Table::Foreign(match found.kind.name() {
                    "gpt" => "a damaged one (GPT)".to_owned(),
                    "dos" => "one of MBR".to_owned(),
                    _ => found.to_string(),
                }),
            }
        }
        Err(other) => facts::Table::Foreign(format!("one that is no use: {other}")),
    };
    Ok((size_bytes, sector_bytes, table))
}

/// All block devices that there are now.
pub(super) fn scan() -> Vec<Block> {
    let Ok(list) = fs::read_dir(SYS) else { return vec![] };
    let mut names: Vec<String> =
        list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // A floppy disk that is not there takes its time to say so.
    names.retain(|name| !name.starts_with("fd"));
    names.sort();
    let mut blocks: Vec<Block> = names.into_iter().filter_map(look).collect();
    let disks: Vec<String> =
        blocks.iter().filter(|b| b.disk.is_none()).map(|b| b.name.clone()).collect();
    for disk in disks {
        mark_partitions(&disk, &mut blocks);
    }
    blocks
}

fn look(name: String) -> Option<Block> {
    let folder = Path::new(SYS).join(&name);
    let whole = fs::canonicalize(&folder).ok()?;
    let number = attribute(&folder, "partition").and_then(|text| text.parse().ok());
    let disk = whole.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    let mut attributes = BTreeMap::new();
    for key in ATTRIBUTES {
        if let Some(text) = attribute(&folder, key) {
            attributes.insert((*key).to_owned(), text);
        }
    }
    // The page has a header of four bytes, the last two its length.
    if let Ok(page) = fs::read(folder.join("device/vpd_pg80"))
        && let Some(serial) = page.get(4..)
    {
        let serial = String::from_utf8_lossy(serial).trim().to_owned();
        attributes.insert("device/vpd_pg80".to_owned(), serial);
    }
    let place = place_of(&name).ok()?;
    let mut marks = BTreeMap::new();
    // An empty card reader, or a device that somebody else has: it has its other names.
    if let Ok(found) = look_into(&place)
        && let Some(first) = found.first()
    {
        marks.extend(first.label.clone().map(|label| ("label".to_owned(), label)));
        marks.extend(first.uuid.clone().map(|uuid| ("uuid".to_owned(), uuid)));
    }
    let path = whole.strip_prefix("/sys/devices").unwrap_or(&whole).display().to_string();
    let disk = disk.filter(|_| number.is_some());
    Some(Block { name, disk, number, path, attributes, marks })
}

fn mark_partitions(disk: &str, blocks: &mut [Block]) {
    let has = |block: &Block| block.disk.as_deref() == Some(disk);
    if !blocks.iter().any(has) {
        return;
    }
    let table = File::open(Path::new("/dev").join(disk)).and_then(|file| read_table(&file));
    let Ok((.., facts::Table::Gpt { entries, .. })) = table else { return };
    for block in blocks.iter_mut().filter(|block| has(block)) {
        let Some(entry) = block.number.and_then(|number| entries.get(&number)) else { continue };
        block.marks.insert("partuuid".to_owned(), entry.guid.to_string());
        if !entry.name.is_empty() {
            block.marks.insert("partlabel".to_owned(), entry.name.clone());
        }
    }
}

fn attribute(folder: &Path, key: &str) -> Option<String> {
    fs::read_to_string(folder.join(key)).ok().map(|text| text.trim_end().to_owned())
}

/// The whole of a device as a place.
pub(super) fn place_of(name: &str) -> io::Result<Place> {
    let path = PathBuf::from("/dev").join(name);
    let size = attribute(&Path::new(SYS).join(name), "size").unwrap_or_default();
    let sectors: u64 = size.parse().map_err(io::Error::other)?;
    Ok(Place { path, partition: None, start_bytes: 0, size_bytes: sectors.saturating_mul(512) })
}

/// The partitions of a disk that the kernel knows: number and name.
pub(super) fn known_partitions(disk: &str) -> Vec<(u32, String)> {
    let Ok(list) = fs::read_dir(Path::new(SYS).join(disk)) else { return vec![] };
    let names = list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let number = |name: String| {
        let number = attribute(&Path::new(SYS).join(disk).join(&name), "partition")?;
        number.parse().ok().map(|number| (number, name))
    };
    let mut all: Vec<_> = names.filter_map(number).collect();
    all.sort();
    all
}

/// By what a device is in use: what is made on it, where it is mounted, or as swap.
pub(super) fn user_of(name: &str) -> Option<String> {
    let holders = fs::read_dir(Path::new(SYS).join(name).join("holders")).ok()?;
    if let Some(holder) = holders.flatten().next() {
        return Some(holder.file_name().to_string_lossy().into_owned());
    }
    let device = attribute(&Path::new(SYS).join(name), "dev")?;
    let node = format!("/dev/{name}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let source =
            fields.iter().position(|field| *field == "-").and_then(|at| fields.get(at + 2));
        // A file system of several devices has a number of its own.
        if fields.get(2) == Some(&device.as_str()) || source == Some(&node.as_str()) {
            let at = fields.get(4).copied().unwrap_or_default();
            return Some(format!("the file system that is mounted on {at}"));
        }
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let is_swap = swaps.lines().any(|line| line.split_whitespace().next() == Some(&node));
    is_swap.then(|| "swap".to_owned())
}
