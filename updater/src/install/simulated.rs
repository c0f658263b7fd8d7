//! A machine of the worst kind: a disk, an ESP and a state folder where what was not synced is
//! there after a power cut or not, in any order, torn between sectors.
//!
//! Every write, sync, rename and removal is a step, and power can be made to fail in any of them:
//! the step may have come to the disk, in part or not at all, and whoever asked for it is gone.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    rc::Rc,
};

use block::table::Disk;
use layout::Role;

use super::media::{File, Folder, Media};

pub(super) const SECTOR: usize = 512;

/// Chance, by seed (SplitMix64).
#[derive(Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// When power fails.
#[derive(Debug, Default)]
pub(super) struct Power {
    steps: Cell<u64>,
    fails_in: Cell<Option<u64>>,
}

impl Power {
    /// How many steps were taken.
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Lets it fail in the `n`th step from now, the first being 1.
    pub(super) fn fail_in(&self, n: Option<u64>) {
        self.fails_in.set(n);
    }

    /// Whether it has failed.
    pub(super) fn is_gone(&self) -> bool {
        self.fails_in.get() == Some(0)
    }

    /// Takes a step: whether it is the last one.
    fn step(&self) -> io::Result<bool> {
        if self.is_gone() {
            return Err(gone());
        }
        self.steps.set(self.steps.get() + 1);
        self.fails_in.set(self.fails_in.get().map(|n| n - 1));
        Ok(self.is_gone())
    }

    /// A step whose effect is in memory before power fails.
    fn after(&self, effect: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let last = self.step()?;
        effect()?;
        if last { Err(gone()) } else { Ok(()) }
    }

    /// A step that makes things durable, if power does not fail in it.
    fn unless_last(&self, effect: impl FnOnce()) -> io::Result<()> {
        if self.step()? {
            return Err(gone());
        }
        effect();
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("power failed")
}

/// What a part of the disk does to who writes or reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The next write is not what is read later.
    RotsOnce,
    /// No write is what is read later.
    RotsAlways,
    /// It cannot be read until it is written.
    Unreadable,
    /// It cannot be read.
    Dead,
}

/// The sectors of a disk.
#[derive(Clone, Default)]
struct Sectors {
    kept: Vec<u8>,
    /// What was written since the last sync, by the device that it was written through: each has a
    /// cache of its own.
    pending: BTreeMap<(u32, usize), Vec<Vec<u8>>>,
    faults: BTreeMap<usize, Fault>,
}

/// A window of the disk: all of it, or a partition.
pub(super) struct Window {
    sectors: Rc<RefCell<Sectors>>,
    power: Rc<Power>,
    number: u32,
    start: usize,
    length: usize,
}

impl Window {
    fn range(&self, offset: u64, length: usize) -> io::Result<usize> {
        let offset = offset as usize;
        let fits = offset + length <= self.length;
        fits.then_some(self.start + offset).ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

impl Disk for Window {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        if self.power.is_gone() {
            return Err(gone());
        }
        let start = self.range(offset, bytes.len())?;
        let sectors = self.sectors.borrow();
        let mut at = start;
        while at < start + bytes.len() {
            let (sector, inside) = (at / SECTOR, at % SECTOR);
            let length = (SECTOR - inside).min(start + bytes.len() - at);
            let fault = sectors.faults.get(&sector);
            if matches!(fault, Some(Fault::Unreadable | Fault::Dead)) {
                return Err(io::Error::from_raw_os_error(5));
            }
            let pending = sectors.pending.get(&(self.number, sector)).and_then(|p| p.last());
            let from = pending.map_or(&sectors.kept[sector * SECTOR..], |pending| &pending[..]);
            bytes[at - start..][..length].copy_from_slice(&from[inside..inside + length]);
            at += length;
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = self.range(offset, bytes.len())?;
        let whole = start.is_multiple_of(SECTOR) && bytes.len().is_multiple_of(SECTOR);
        assert!(whole, "whole sectors are written");
        self.power.after(|| {
            let mut sectors = self.sectors.borrow_mut();
            for (n, chunk) in bytes.chunks(SECTOR).enumerate() {
                let (sector, mut chunk) = (start / SECTOR + n, chunk.to_vec());
                match sectors.faults.get(&sector) {
                    Some(Fault::RotsOnce) => {
                        chunk[17] ^= 0x10;
                        sectors.faults.remove(&sector);
                    }
                    Some(Fault::RotsAlways) => chunk[17] ^= 0x10,
                    Some(Fault::Unreadable) => drop(sectors.faults.remove(&sector)),
                    Some(Fault::Dead) | None => {}
                }
                sectors.pending.entry((self.number, sector)).or_default().push(chunk);
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.power.unless_last(|| self.sectors.borrow_mut().keep(|number| number == self.number))
    }
}

impl Sectors {
    fn keep(&mut self, of: impl Fn(u32) -> bool) {
        let all = std::mem::take(&mut self.pending);
        for ((number, sector), mut history) in all {
            if of(number) {
                let last = history.pop().expect("a write");
                self.kept[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(&last);
            } else {
                self.pending.insert((number, sector), history);
            }
        }
    }

    fn cut(&mut self, chance: &mut Chance) {
        let pending = std::mem::take(&mut self.pending);
        // The sector that was being written may be neither old nor new.
        let torn = (chance.below(4) == 0).then(|| chance.below(pending.len().max(1)));
        for (n, ((_, sector), history)) in pending.into_iter().enumerate() {
            let kept = &mut self.kept[sector * SECTOR..(sector + 1) * SECTOR];
            if torn == Some(n) {
                kept.iter_mut().for_each(|byte| *byte = chance.below(256) as u8);
            } else if chance.below(2) == 0 {
                kept.copy_from_slice(chance.pick::<Vec<u8>>(&history));
            }
        }
    }
}

/// A folder.
pub(super) struct Files {
    power: Rc<Power>,
    inner: RefCell<Inner>,
}

#[derive(Clone, Default)]
struct Inner {
    /// Whether changes of names come to the disk in order, as on ext4, or each by itself, as on FAT.
    ordered: bool,
    capacity: u64,
    names: BTreeMap<String, usize>,
    kept_names: BTreeMap<String, usize>,
    /// Since the last sync: what names stood for after each change.
    changes: Vec<Vec<(String, Option<usize>)>>,
    nodes: Vec<Node>,
}

#[derive(Clone, Default)]
struct Node {
    now: Vec<u8>,
    kept: Vec<u8>,
    history: Vec<Vec<u8>>,
}

impl Inner {
    fn change(&mut self, change: Vec<(String, Option<usize>)>) {
        for (name, node) in change.clone() {
            set(&mut self.names, name, node);
        }
        self.changes.push(change);
    }

    fn node(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        let nodes: BTreeSet<usize> = self.names.values().copied().collect();
        nodes.iter().map(|&node| self.nodes[node].now.len() as u64).sum()
    }

    fn keep(&mut self) {
        self.kept_names = self.names.clone();
        self.changes.clear();
    }

    fn cut(&mut self, chance: &mut Chance) {
        let changes = std::mem::take(&mut self.changes);
        if self.ordered {
            let done = chance.below(changes.len() + 1);
            for (name, node) in changes.into_iter().take(done).flatten() {
                set(&mut self.kept_names, name, node);
            }
        } else {
            let mut states: BTreeMap<String, Vec<Option<usize>>> = BTreeMap::new();
            for (name, node) in changes.into_iter().flatten() {
                let before = || vec![self.kept_names.get(&name).copied()];
                states.entry(name.clone()).or_insert_with(before).push(node);
            }
            for (name, states) in states {
                set(&mut self.kept_names, name, *chance.pick(&states));
            }
        }
        self.names = self.kept_names.clone();
        for node in &mut self.nodes {
            if !node.history.is_empty() {
                let mut states = std::mem::take(&mut node.history);
                states.push(node.kept.clone());
                let mut bytes = vec![0; chance.pick(&states).len()];
                for (n, sector) in bytes.chunks_mut(SECTOR).enumerate() {
                    let state = chance.pick(&states);
                    let from = state.get(n * SECTOR..).unwrap_or_default();
                    let length = from.len().min(sector.len());
                    sector[..length].copy_from_slice(&from[..length]);
                }
                node.kept = bytes;
            }
            node.now.clone_from(&node.kept);
        }
    }
}

fn set(names: &mut BTreeMap<String, usize>, name: String, node: Option<usize>) {
    match node {
        Some(node) => names.insert(name, node),
        None => names.remove(&name),
    };
}

impl Folder for Files {
    fn list(&self) -> io::Result<Vec<File>> {
        let inner = self.inner.borrow();
        let file = |(name, &node): (&String, &usize)| File {
            name: name.clone(),
            size_bytes: inner.nodes[node].now.len() as u64,
        };
        Ok(inner.names.iter().map(file).collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let inner = self.inner.borrow();
        Ok(inner.capacity.saturating_sub(inner.used()))
    }

    fn read(&self, name: &str, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        if self.power.is_gone() {
            return Err(gone());
        }
        let inner = self.inner.borrow();
        let from = &inner.nodes[inner.node(name)?].now;
        let from = from.get(offset as usize..).unwrap_or_default();
        let length = from.len().min(bytes.len());
        bytes[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.power.after(|| {
            let mut inner = self.inner.borrow_mut();
            if inner.node(name).is_err() {
                assert_eq!(offset, 0, "{name} is not there");
                inner.nodes.push(Node::default());
                let node = inner.nodes.len() - 1;
                inner.change(vec![(name.to_owned(), Some(node))]);
            }
            let node = inner.node(name)?;
            let offset = offset as usize;
            assert!(offset <= inner.nodes[node].now.len(), "no holes in {name}");
            inner.nodes[node].now.truncate(offset);
            if inner.used() + bytes.len() as u64 > inner.capacity {
                return Err(io::Error::from_raw_os_error(28));
            }
            let node = &mut inner.nodes[node];
            node.now.extend_from_slice(bytes);
            node.history.push(node.now.clone());
            Ok(())
        })
    }

    fn sync_file(&self, name: &str) -> io::Result<()> {
        let node = self.inner.borrow().node(name)?;
        self.power.unless_last(|| {
            let mut inner = self.inner.borrow_mut();
            let node = &mut inner.nodes[node];
            node.kept.clone_from(&node.now);
            node.history.clear();
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let node = self.inner.borrow().node(from)?;
        self.power.after(|| {
            let change = vec![(to.to_owned(), Some(node)), (from.to_owned(), None)];
            self.inner.borrow_mut().change(change);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.borrow().node(name)?;
        self.power.after(|| {
            self.inner.borrow_mut().change(vec![(name.to_owned(), None)]);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.power.unless_last(|| self.inner.borrow_mut().keep())
    }
}

/// A machine.
pub(super) struct Machine {
    pub(super) power: Rc<Power>,
    sectors: Rc<RefCell<Sectors>>,
    disk: Window,
    partitions: BTreeMap<u32, Window>,
    esp: Files,
    state: Files,
}

impl Machine {
    /// With an empty disk, partitions (number, first byte, length) and an ESP.
    pub(super) fn new(bytes: usize, partitions: &[(u32, usize, usize)], esp_bytes: u64) -> Self {
        let sectors = Sectors { kept: vec![0; bytes], ..Sectors::default() };
        let files = |ordered, capacity| Inner { ordered, capacity, ..Inner::default() };
        Self::of(sectors, partitions, files(false, esp_bytes), files(true, 1 << 20))
    }

    fn of(sectors: Sectors, windows: &[(u32, usize, usize)], esp: Inner, state: Inner) -> Self {
        let (power, bytes) = (Rc::new(Power::default()), sectors.kept.len());
        let sectors = Rc::new(RefCell::new(sectors));
        let window = |&(number, start, length): &(u32, usize, usize)| {
            let (sectors, power) = (Rc::clone(&sectors), Rc::clone(&power));
            Window { sectors, power, number, start, length }
        };
        let files = |inner| Files { power: Rc::clone(&power), inner: RefCell::new(inner) };
        Self {
            disk: window(&(0, 0, bytes)),
            partitions: windows.iter().map(|of| (of.0, window(of))).collect(),
            esp: files(esp),
            state: files(state),
            power: Rc::clone(&power),
            sectors: Rc::clone(&sectors),
        }
    }

    /// Another machine that is the same, with power.
    pub(super) fn copy(&self) -> Self {
        let windows: Vec<_> =
            self.partitions.values().map(|w| (w.number, w.start, w.length)).collect();
        let (esp, state) = (self.esp.inner.borrow().clone(), self.state.inner.borrow().clone());
        Self::of(self.sectors.borrow().clone(), &windows, esp, state)
    }

    /// Power comes back: what was not synced is there or not, by chance.
    pub(super) fn cut(&self, seed: u64) {
        let mut chance = Chance::new(seed);
        self.sectors.borrow_mut().cut(&mut chance);
        self.esp.inner.borrow_mut().cut(&mut chance);
        self.state.inner.borrow_mut().cut(&mut chance);
        self.power.fail_in(None);
    }

    /// As the check of the ESP before it is mounted: of two names for the same clusters, which a
    /// rename leaves that was cut short, one keeps them and the other becomes empty.
    pub(super) fn fsck(&self, seed: u64) {
        let mut chance = Chance::new(seed);
        let mut inner = self.esp.inner.borrow_mut();
        let mut by_node: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (name, node) in inner.names.clone() {
            by_node.entry(node).or_default().push(name);
        }
        for mut names in by_node.into_values() {
            names.swap_remove(chance.below(names.len()));
            for name in names {
                inner.nodes.push(Node::default());
                let node = inner.nodes.len() - 1;
                inner.names.insert(name.clone(), node);
                inner.kept_names.insert(name, node);
            }
        }
    }

    /// As a shutdown does: all that was written is there.
    pub(super) fn settle(&self) {
        self.sectors.borrow_mut().keep(|_| true);
        for files in [&self.esp, &self.state] {
            let mut inner = files.inner.borrow_mut();
            inner.keep();
            for node in &mut inner.nodes {
                node.kept.clone_from(&node.now);
                node.history.clear();
            }
        }
    }

    /// Makes a sector of a partition misbehave.
    pub(super) fn fault(&self, role: Role, sector: usize, fault: Fault) {
        let sector = self.partitions[&role.number()].start / SECTOR + sector;
        self.sectors.borrow_mut().faults.insert(sector, fault);
    }

    /// The room of the ESP.
    pub(super) fn set_esp_bytes(&self, bytes: u64) {
        self.esp.inner.borrow_mut().capacity = bytes;
    }

    /// A file of the ESP.
    pub(super) fn esp_file(&self, name: &str) -> Vec<u8> {
        let inner = self.esp.inner.borrow();
        inner.nodes[inner.node(name).expect("the file is there")].now.clone()
    }
}

impl Media for Machine {
    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    fn disk_bytes(&self) -> u64 {
        self.disk.length as u64
    }

    fn sector_bytes(&self) -> u64 {
        SECTOR as u64
    }

    fn partition(&self, role: Role) -> io::Result<&dyn Disk> {
        let window = self.partitions.get(&role.number());
        window.map(|window| window as &dyn Disk).ok_or(io::ErrorKind::NotFound.into())
    }

    fn esp(&self) -> &dyn Folder {
        &self.esp
    }

    fn state(&self) -> &dyn Folder {
        &self.state
    }
}
