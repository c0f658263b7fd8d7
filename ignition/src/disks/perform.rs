//! Performs the steps of a plan.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use block::table::{self, Entry, Table};
use uuid::Uuid;

use super::{
    Change, Facts, Machine, Place, Program, Refused, Stage, Step, Trouble, blocks,
    facts::{Contents, array_node},
    filesystems,
    machine::{doing, node_name},
    programs,
    signature::Signature,
    steps::{DEVICE, KEY},
    volumes,
};
use crate::{document::Config, journal::Journal};

/// What is gone of both ends of a device when all traces of what was there are removed.
const END_BYTES: u64 = 1 << 20;

/// What the stages before brought.
#[derive(Clone, Debug, Default)]
pub struct Supplies {
    /// The keys of volumes that the document gives, by the name of the volume.
    pub keys: BTreeMap<String, Vec<u8>>,
    /// A folder in memory, for keys while they are used.
    pub memory: PathBuf,
}

/// What the files stage writes for the volumes, and what is to be done when the machine is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// The lines of /etc/crypttab, mode 0600.
    pub crypttab: Vec<String>,
    /// Files of /etc/luks (mode 0700) by name, mode 0600.
    pub keys: BTreeMap<String, Vec<u8>>,
    /// Nodes and labels of volumes whose only key is in the file above: [`finish`] tells them when it
    /// is safe.
    pub unkept: Vec<(PathBuf, Option<String>)>,
}

/// Makes the disks what the document says. The journal hears of each step before it is done.
pub fn apply(
    config: &Config,
    machine: &Machine,
    supplies: &Supplies,
    journal: &dyn Journal,
) -> Result<Handover, Trouble> {
    // Nothing is touched where it is known by now that it cannot be had.
    programs::are_there(&super::plan(config, &machine.facts(config, journal)?)?)?;
    for stage in Stage::ALL {
        let facts = machine.facts(config, journal)?;
        for step in stage.plan(config, &facts)? {
            journal.say(&format!("disks: {step}"));
            Performer { config, facts: &facts, supplies }.perform(&step)?;
        }
    }
    handover(config, &machine.facts(config, journal)?, supplies)
}

/// Takes the mark of volumes away whose keys are kept now. To be called when root has its name.
pub fn finish(handover: &Handover) -> Result<(), Trouble> {
    for (node, label) in &handover.unkept {
        let unmarked = volumes::mark("", label.as_deref());
        programs::run("$.storage.luks", &unmarked, &[(DEVICE, node)], &[])?;
    }
    Ok(())
}

/// Closes what was opened, the last first: the system that starts now opens it in its own way, and
/// its udev knows only what it saw come.
pub fn close(config: &Config) -> Result<(), Trouble> {
    for (index, luks) in config.storage.luks.iter().enumerate().rev() {
        let at = format!("$.storage.luks.{index}");
        let program = Program::new("/usr/sbin/cryptsetup", &["close", &luks.name]);
        programs::run(&at, &program, &[], &[])?;
    }
    for (index, array) in config.storage.raid.iter().enumerate().rev() {
        let at = format!("$.storage.raid.{index}");
        let node = array_node(&array.name);
        programs::run(&at, &Program::new("/usr/sbin/mdadm", &["--stop", &node]), &[], &[])?;
    }
    Ok(())
}

struct Performer<'a> {
    config: &'a Config,
    facts: &'a Facts,
    supplies: &'a Supplies,
}

impl Performer<'_> {
    fn perform(&self, step: &Step) -> Result<(), Trouble> {
        match step {
            Step::Table { at, device, wipe, changes } => {
                let disk = &self.facts.disks[device];
                change_table(at, &disk.path, *wipe, changes)
            }
            Step::MakeArray { at, name, members, program, .. }
            | Step::AssembleArray { at, name, members, program } => {
                let nodes: Result<Vec<Node>, Trouble> =
                    members.iter().map(|name| self.node(at, name)).collect();
                let nodes = nodes?;
                let paths: Vec<&Path> = nodes.iter().map(|node| node.path.as_path()).collect();
                programs::run(at, program, &[], &paths)?;
                let named = name_array(name, &nodes);
                named.map_err(doing(at, format!("finding the array {name}")))
            }
            Step::MakeVolume { at, name, device, label, generate_key, programs, .. } => {
                let node = self.node(at, device)?;
                erase(&node.path).map_err(doing(at, format!("wiping {device}")))?;
                let key = self.key(at, name, *generate_key)?;
                for program in programs {
                    let stand_ins = [(DEVICE, node.path.as_path()), (KEY, key.path.as_path())];
                    programs::run(at, program, &stand_ins, &[])?;
                }
                let stand_ins = [(DEVICE, node.path.as_path())];
                let mark = |mark| volumes::mark(mark, label.as_deref());
                if *generate_key && programs.len() == 2 {
                    programs::run(at, &mark(volumes::UNKEPT), &stand_ins, &[])?;
                    let kept = self.supplies.memory.join(format!("kept-{name}"));
                    return fs::rename(&key.path, kept).map_err(doing(at, "keeping the key"));
                }
                programs::run(at, &mark(""), &stand_ins, &[])
            }
            Step::OpenVolume { at, name, device, program } => {
                let node = self.node(at, device)?;
                let key = self.key(at, name, false)?;
                let stand_ins = [(DEVICE, node.path.as_path()), (KEY, key.path.as_path())];
                programs::run(at, program, &stand_ins, &[])
            }
            Step::MakeFilesystem { at, device, format, program, if_not_there, .. } => {
                let node = self.node(at, device)?;
                if *if_not_there && !self.is_needed(at, device)? {
                    return Ok(());
                }
                erase(&node.path).map_err(doing(at, format!("wiping {device}")))?;
                let Some(program) = program else { return Ok(()) };
                programs::run(at, program, &[(DEVICE, &node.path)], &[])?;
                let made = self.place(at, device).and_then(|place| {
                    blocks::look_into(place).map_err(doing(at, format!("looking into {device}")))
                })?;
                was_made(at, device, format, &made)
            }
        }
    }

    /// Whether what could not be looked into before is to be made.
    fn is_needed(&self, at: &str, device: &str) -> Result<bool, Trouble> {
        let Contents::Known(found) = self.facts.device(device).contents else { return Ok(true) };
        let entries = &self.config.storage.filesystems;
        match entries.iter().find(|entry| entry.device == device) {
            Some(entry) => Ok(filesystems::look_again(at, entry, &found)?),
            None => Ok(true),
        }
    }

    fn place(&self, at: &str, device: &str) -> Result<&Place, Trouble> {
        let found = self.facts.devices.get(device).and_then(|device| device.place.as_ref());
        found.ok_or_else(|| {
            Trouble::Refused(Refused::new(
                at,
                format!("{device} did not come"),
                "see what the kernel and the steps before say",
            ))
        })
    }

    fn node(&self, at: &str, device: &str) -> Result<Node, Trouble> {
        let place = self.place(at, device)?;
        Node::of(place).map_err(doing(at, format!("opening {device}")))
    }

    /// The key of a volume as a file, which is gone when it is dropped.
    fn key(&self, at: &str, name: &str, generate: bool) -> Result<Key, Trouble> {
        let path = self.supplies.memory.join(format!("key-{name}"));
        let bytes = match self.supplies.keys.get(name) {
            Some(bytes) => bytes.clone(),
            None if generate => random_key().map_err(doing(at, "reading /dev/random"))?,
            None => {
                let what = format!("the key of {name} was not fetched");
                return Err(doing(at, "looking for the key")(io::Error::other(what)));
            }
        };
        let write = || {
            let _ = fs::remove_file(&path);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path);
            file.and_then(|mut file| file.write_all(&bytes))
        };
        write().map_err(doing(at, format!("writing {}", path.display())))?;
        Ok(Key { path })
    }
}

/// A program may say that it was well and have done nothing.
fn was_made(at: &str, device: &str, format: &str, found: &[Signature]) -> Result<(), Trouble> {
    let wanted = super::signature::Kind::of_format(format);
    // Options of the entry may make an older ext of it.
    let same = |found: &Signature| {
        use super::signature::Kind::Ext;
        matches!((&found.kind, &wanted), (Ext(_), Some(Ext(_))))
            || Some(&found.kind) == wanted.as_ref()
    };
    if found.first().is_some_and(same) {
        return Ok(());
    }
    let what = format!("{device} is no {format} after it was made");
    Err(doing(at, "looking at what was made")(io::Error::other(what)))
}

struct Key {
    path: PathBuf,
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// 2,048 random bytes as text: some who keep keys take nothing else.
fn random_key() -> io::Result<Vec<u8>> {
    let mut bytes = [0; 2048];
    File::open("/dev/random")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect())
}

fn random_guid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    File::open("/dev/random")?.read_exact(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// Gives an array its name below `/dev/md`: there is no udev that would, and mdadm may not.
fn name_array(name: &str, members: &[Node]) -> io::Result<()> {
    let link = PathBuf::from(array_node(name));
    if link.exists() {
        return Ok(());
    }
    let absent = || io::Error::new(io::ErrorKind::NotFound, "the kernel does not show it");
    let member = members.first().and_then(|node| node.path.file_name()).ok_or_else(absent)?;
    let holders = fs::read_dir(Path::new("/sys/class/block").join(member).join("holders"))?;
    let mut names = holders.flatten().map(|holder| holder.file_name());
    let own = names.find(|name| name.to_string_lossy().starts_with("md")).ok_or_else(absent)?;
    fs::create_dir_all(link.parent().expect("it is below /dev/md"))?;
    // What is left of one that is gone leads nowhere.
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(Path::new("/dev").join(own), &link)
}

/// The node of a place. An image file, or a part of one, is given a loop device for the time.
pub(crate) struct Node {
    pub(crate) path: PathBuf,
    is_loop: bool,
}

impl Node {
    pub(crate) fn of(place: &Place) -> io::Result<Self> {
        let is_file = fs::metadata(&place.path)?.is_file();
        if !is_file {
            let name = node_name(place).ok_or(io::ErrorKind::NotFound)?;
            return Ok(Self { path: Path::new("/dev").join(name), is_loop: false });
        }
        let (offset, size) = (place.start_bytes.to_string(), place.size_bytes.to_string());
        let path = place.path.display().to_string();
        let args = ["--find", "--show", "--offset", &offset, "--sizelimit", &size, &path];
        let said = programs::output("/usr/sbin/losetup", &args)?;
        Ok(Self { path: PathBuf::from(said.trim()), is_loop: true })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.is_loop {
            let _ =
                programs::output("/usr/sbin/losetup", &["-d", &self.path.display().to_string()]);
        }
    }
}

/// Removes all traces of what was on a device, at either end and where copies are kept.
fn erase(node: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(node)?;
    let (size, _) = blocks::measure(&file)?;
    let zeros = vec![0; END_BYTES.min(size) as usize];
    file.write_all_at(&zeros, 0)?;
    file.write_all_at(&zeros, size - zeros.len() as u64)?;
    // The copies of btrfs, and the second header of LUKS2 where the first one is large.
    let copies = [64u64 << 20, 256 << 30].map(|at| (at + 64, &b"_BHRfS_M"[..]));
    let headers = [1u64 << 20, 2 << 20, 4 << 20].map(|at| (at, &b"SKUL\xba\xbe"[..]));
    for (at, magic) in copies.into_iter().chain(headers) {
        let mut found = vec![0; magic.len()];
        if at + 8 <= size && file.read_exact_at(&mut found, at).is_ok() && found == magic {
            file.write_all_at(&vec![0; magic.len()], at)?;
        }
    }
    file.sync_all()
}

/// Writes a changed table, and tells the kernel of each partition that changed.
pub(super) fn change_table(
    at: &str,
    path: &Path,
    wipe: bool,
    changes: &[Change],
) -> Result<(), Trouble> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let file = opened.map_err(doing(at, format!("opening {}", path.display())))?;
    let measured = blocks::measure(&file);
    let (size, sector) = measured.map_err(doing(at, format!("measuring {}", path.display())))?;
    let failed =
        |source| Trouble::Table { at: at.to_owned(), device: path.display().to_string(), source };
    if wipe && changes.is_empty() {
        table::write(table::erasure(size, sector), &file).map_err(failed)?;
    } else {
        let guid = || random_guid().map_err(doing(at, "reading /dev/random"));
        let there = if wipe { None } else { Table::read(&file, size, sector).ok() };
        let mut table = match there {
            Some(table) => table,
            None => Table::new(size, sector, guid()?).map_err(failed)?,
        };
        for change in changes {
            match change {
                Change::Delete { number } => table.set(*number, None),
                Change::Create { number, kind, guid: own, label, start_bytes, size_bytes } => {
                    let own = match own {
                        Some(own) => *own,
                        None => guid()?,
                    };
                    let entry = Entry {
                        kind: *kind,
                        guid: own,
                        start_bytes: *start_bytes,
                        size_bytes: *size_bytes,
                        flags: 0,
                        name: label.clone(),
                    };
                    table.set(*number, Some(&entry))
                }
                Change::Resize { number, size_bytes, .. } => match table.entries().get(number) {
                    Some(entry) => {
                        let entry = Entry { size_bytes: *size_bytes, ..entry.clone() };
                        table.set(*number, Some(&entry))
                    }
                    None => Ok(()),
                },
            }
            .map_err(failed)?;
        }
        table.write(&file).map_err(failed)?;
    }
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if is_file { Ok(()) } else { tell_the_kernel(at, path, &file, wipe, changes) }
}

fn tell_the_kernel(
    at: &str,
    path: &Path,
    file: &File,
    wipe: bool,
    changes: &[Change],
) -> Result<(), Trouble> {
    let disk = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let known = blocks::known_partitions(&disk);
    let is_known = |number: u32| known.iter().any(|(other, _)| *other == number);
    let forget = |number: u32| {
        let what = format!("telling the kernel to forget partition {number} of {disk}");
        block::partition::delete(file, number).map_err(doing(at, what))
    };
    if wipe {
        known.iter().try_for_each(|(number, _)| forget(*number))?;
    }
    for change in changes {
        match change {
            Change::Delete { number } => {
                if is_known(*number) && !wipe {
                    forget(*number)?;
                }
            }
            Change::Create { number, start_bytes, size_bytes, .. } => {
                let what = format!("telling the kernel of partition {number} of {disk}");
                let added = block::partition::add(file, *number, *start_bytes, *size_bytes);
                added.map_err(doing(at, what))?;
            }
            Change::Resize { number, start_bytes, size_bytes } => {
                let what =
                    format!("telling the kernel of the size of partition {number} of {disk}");
                let resized = block::partition::resize(file, *number, *start_bytes, *size_bytes);
                resized.map_err(doing(at, what))?;
            }
        }
    }
    Ok(())
}

/// What the files stage writes so that the volumes are opened at every boot.
fn handover(config: &Config, facts: &Facts, supplies: &Supplies) -> Result<Handover, Trouble> {
    let mut handover = Handover::default();
    for (index, volume) in config.storage.luks.iter().enumerate() {
        let at = format!("$.storage.luks.{index}");
        let device = volume.device.as_deref().unwrap_or_default();
        let found = facts.device(device);
        let uuid = found.contents.first().and_then(|found| found.uuid.clone()).unwrap_or_default();
        if let Some(header) = found.contents.first()
            && volumes::mark_of(header) == Some(volumes::UNKEPT)
            && let Some(name) = found.place.as_ref().and_then(node_name)
        {
            handover.unkept.push((Path::new("/dev").join(name), header.label.clone()));
        }
        let clevis = volumes::has_clevis(&volume.clevis);
        let custom = &volume.clevis.custom;
        let network = !volume.clevis.tang.is_empty()
            || (custom.pin.is_some() && custom.needs_network == Some(true));
        let key = match clevis {
            true => "none".to_owned(),
            false => format!("/etc/luks/{}", volume.name),
        };
        let options = if network { "luks,_netdev" } else { "luks" };
        handover.crypttab.push(format!("{} UUID={uuid} {key} {options}", volume.name));
        if clevis {
            continue;
        }
        let kept = supplies.memory.join(format!("kept-{}", volume.name));
        let bytes = match supplies.keys.get(&volume.name) {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes = fs::read(&kept).map_err(doing(&at, "reading the key"))?;
                let _ = fs::remove_file(&kept);
                bytes
            }
        };
        handover.keys.insert(volume.name.clone(), bytes);
    }
    Ok(handover)
}
