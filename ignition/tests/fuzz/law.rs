//! What holds for every document, whatever its bytes: nobody panics; a document that was understood
//! is understood again as it was written out; and what is planned is planned once.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use block::table::{Entries, Entry};
use ignition::{
    boot::{BOOT_DISK, take_wish},
    disks::{
        self, Contents, Device, Disk, Place, Table,
        room::Room,
        signature::{Kind, Signature},
    },
    document::{self, Config, Node, Nowhere, Report, Sources, cloudconfig, config::Ignition},
    fetch::{Fetch, FetchError, Fetcher},
    files::{self, kargs, tree::Root},
    journal::Silent,
    render::{Access, render},
};

/// Only what is in the document itself can be had.
struct Offline;

impl Access for Offline {
    fn of(&self, ignition: &Ignition) -> Result<Box<dyn Fetch + '_>, FetchError> {
        Ok(Box::new(Fetcher::offline(&Silent).for_document(ignition)?))
    }
}

/// Holds bytes to it, as a machine whose root is `root` would meet them. `luck` decides what the
/// machine is like.
pub(crate) fn holds(bytes: &[u8], luck: u64, root: &Root) {
    let mut sources = Sources::default();
    let read = document::read("fuzzed", bytes, &Nowhere, &mut sources);
    let mut report = read.report;
    let _ = (report.display(&sources).to_string(), report.to_json(&sources).to_string());
    at_every_boot(bytes);
    let Some(node) = read.node else {
        assert!(report.has_errors(), "neither a document nor an error");
        return;
    };
    let Ok(mut node) = render(node, &Offline, &mut sources, &mut report) else {
        let _ = report.display(&sources).to_string();
        return;
    };
    is_read_again(&node);
    let _ = take_wish(&mut node, Path::new(BOOT_DISK));
    let config = Config::from_node(&node);
    disks_are_planned_once(&config, luck);
    arguments_are_planned_once(&config);
    if let Ok(facts) = files::Facts::read(root, &config, &files::Options::default()) {
        let _ = files::plan(&config, &facts);
    }
}

/// What was understood is written as JSON, and understood in the same way.
fn is_read_again(node: &Node) {
    let json = node.to_json();
    let mut sources = Sources::default();
    let again = document::read("again", json.to_string().as_bytes(), &Nowhere, &mut sources);
    let Some(again_node) = again.node else {
        panic!("{json}\nis not understood again: {}", again.report.display(&sources));
    };
    assert_eq!(again_node.to_json(), json);
}

/// As a cloud-config, which is applied to a system that runs.
fn at_every_boot(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (mut sources, mut report) = (Sources::default(), Report::default());
    let facts = cloudconfig::Facts::default();
    let actions = cloudconfig::plan("fuzzed", text, &facts, &mut sources, &mut report);
    actions.iter().for_each(|action| drop(action.to_string()));
}

fn disks_are_planned_once(config: &Config, luck: u64) {
    let mut facts = machine(config, luck);
    let Ok(steps) = disks::plan(config, &facts) else { return };
    steps.iter().for_each(|step| {
        let _ = step.to_string();
        facts.take_in(step);
    });
    let again = disks::plan(config, &facts);
    // What is to be wiped is made as often as it is asked for, with all that is on it.
    let wipes = config.storage.filesystems.iter().any(|entry| entry.wipe_filesystem == Some(true))
        || config.storage.luks.iter().any(|entry| entry.wipe_volume == Some(true));
    match again {
        Ok(steps) if steps.is_empty() || wipes => {}
        Err(_) if wipes => {}
        other => panic!("planned {steps:?}\nand then {other:?}"),
    }
}

fn arguments_are_planned_once(config: &Config) {
    let mut facts = kargs::Facts { running: "root=tmpfs quiet".to_owned(), ..Default::default() };
    if let Ok(kargs::Plan::Restart { addon }) = kargs::plan(&config.kernel_arguments, &facts) {
        facts.running = format!("{} {addon}", facts.running);
        facts.addon = Some(addon);
        assert_eq!(kargs::plan(&config.kernel_arguments, &facts), Ok(kargs::Plan::Nothing));
    }
}

/// A machine that has every device that the document names, with something on it or nothing.
fn machine(config: &Config, luck: u64) -> disks::Facts {
    let storage = &config.storage;
    let mut facts = disks::Facts::default();
    for disk in &storage.disks {
        facts.disks.insert(disk.device.clone(), disk_of(&disk.device, luck));
    }
    let below = storage.raid.iter().flat_map(|array| array.devices.clone());
    let below = below.chain(storage.luks.iter().filter_map(|volume| volume.device.clone()));
    for name in below.chain(storage.filesystems.iter().map(|entry| entry.device.clone())) {
        // What the document makes is not there yet.
        if !name.starts_with("/dev/md") && !name.starts_with("/dev/mapper") {
            facts.devices.insert(name.clone(), device(&name, luck));
        }
    }
    facts
}

/// A number below `limit` that is always the same for a name.
fn chance(name: &str, what: &str, luck: u64, limit: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, what, luck).hash(&mut hasher);
    hasher.finish() % limit
}

fn disk_of(name: &str, luck: u64) -> Disk {
    let chance = |what: &str, limit| chance(name, what, luck, limit);
    let sector_bytes = [512, 4096][chance("sector", 2) as usize];
    let size_bytes = (1 + chance("size", 4096)) << 20;
    let room = Room::of_new_table(size_bytes, sector_bytes);
    let mut entries = Entries::new();
    for number in 1..=chance("partitions", 5) as u32 {
        let mib = |what: &str| chance(&format!("{what}{number}"), size_bytes >> 20) << 20;
        let entry = Entry {
            kind: Default::default(),
            guid: Default::default(),
            start_bytes: room.usable.start.next_multiple_of(1 << 20) + mib("start"),
            size_bytes: mib("size").max(sector_bytes),
            flags: 0,
            name: ["", "root", "var", "data", "swap", "one"][number as usize].to_owned(),
        };
        let is_free = |free: &std::ops::Range<u64>| {
            free.start <= entry.start_bytes && entry.end_bytes() <= free.end
        };
        if room.free(&entries).iter().any(is_free) {
            entries.insert(number, entry);
        }
    }
    let table = match chance("table", 4) {
        0 => Table::None,
        1 => Table::Foreign("ext4 `old`".to_owned()),
        _ => Table::Gpt { room, entries },
    };
    let (used_by, used_partitions) = (None, BTreeMap::new());
    Disk { path: name.into(), sector_bytes, size_bytes, table, used_by, used_partitions }
}

fn device(name: &str, luck: u64) -> Device {
    let chance = |what: &str, limit| chance(name, what, luck, limit);
    let kind = match chance("kind", 12) {
        0 => Some(Kind::Ext(4)),
        1 => Some(Kind::Xfs),
        2 => Some(Kind::Vfat),
        3 => Some(Kind::Swap),
        4 => Some(Kind::Mdraid { level: 1, disks: 2 }),
        5 => Some(Kind::Luks { version: 2, flags: vec![], subsystem: None }),
        _ => None,
    };
    let text = |what| ["", "data", "root"][chance(what, 3) as usize].to_owned();
    let found = kind.map(|kind| Signature { kind, label: Some(text("label")), uuid: None });
    let place = Place { path: name.into(), partition: None, start_bytes: 0, size_bytes: 1 << 30 };
    let contents = Contents::Known(found.into_iter().collect());
    Device { place: Some(place), contents, used_by: None, is_disk: false }
}
