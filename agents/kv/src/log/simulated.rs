//! A disk of the worst kind: what was not synced is there after a power cut or not, sector by sector,
//! in any order; and it fails when it is told to.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};

use super::disk::Disk;

const SECTOR: usize = 512;

/// What the disk does in one of its steps, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Power fails in it.
    Power,
    /// It says that it failed, and nothing was done.
    Error,
    /// It says that it failed, and lost what was not synced without another word: as Linux may.
    LosesUnsynced,
}

#[derive(Clone, Default)]
struct Node {
    now: Vec<u8>,
    kept: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

/// The names of files, and which they are.
type Names = BTreeMap<String, usize>;

#[derive(Clone, Default)]
struct Inner {
    nodes: Vec<Node>,
    names: Names,
    kept_names: Names,
    /// What names there were after each change since the last sync.
    changes: Vec<Names>,
    steps: u64,
    fault: Option<(u64, Fault)>,
    is_off: bool,
    free_bytes: u64,
    lies: bool,
}

/// The disk. A clone is the same disk.
#[derive(Clone)]
pub(crate) struct Simulated(Rc<RefCell<Inner>>);

impl Simulated {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Inner { free_bytes: 1 << 30, ..Inner::default() })))
    }

    /// Another disk with the same on it.
    pub(crate) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// Lets something go wrong in a step, the next one being 1.
    pub(crate) fn fail_in(&self, step: u64, fault: Fault) {
        let mut inner = self.0.borrow_mut();
        inner.fault = Some((inner.steps + step, fault));
    }

    /// How many steps were taken.
    pub(crate) fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    /// How much room there is for new files.
    pub(crate) fn set_free(&self, bytes: u64) {
        self.0.borrow_mut().free_bytes = bytes;
    }

    /// From now on it says that it synced and does not.
    pub(crate) fn lie(&self) {
        self.0.borrow_mut().lies = true;
    }

    /// Power goes and comes back.
    pub(crate) fn cut(&self, seed: u64) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut chance = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut inner = self.0.borrow_mut();
        for node in &mut inner.nodes {
            // A share of the sectors, from none to all.
            let share = chance.next_u32() % 5;
            for (offset, bytes) in std::mem::take(&mut node.pending) {
                for (at, sector) in sectors(offset, &bytes) {
                    if chance.next_u32() % 4 < share {
                        node.kept[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            node.now.clone_from(&node.kept);
        }
        let changes = std::mem::take(&mut inner.changes);
        // Changes of names come in order: the journal of a file system sees to it.
        let done = chance.next_u32() as usize % (changes.len() + 1);
        if let Some(names) = changes.into_iter().take(done).next_back() {
            inner.kept_names = names;
        }
        inner.names = inner.kept_names.clone();
        inner.is_off = false;
        inner.fault = None;
    }

    /// Changes a byte of a file for good.
    pub(crate) fn rot(&self, name: &str, at: usize) {
        let mut inner = self.0.borrow_mut();
        let node = inner.names[name];
        let node = &mut inner.nodes[node];
        node.now[at] ^= 0x40;
        node.kept.clone_from(&node.now);
    }
}

/// What a write writes, sector by sector.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let rest = rest.chunks(SECTOR).enumerate();
    std::iter::once((offset, head))
        .chain(rest.map(move |(n, is)| (offset + first + n * SECTOR, is)))
}

impl Inner {
    /// Takes a step, in which something may go wrong.
    fn step(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("power failed"));
        }
        self.steps += 1;
        let Some((_, fault)) = self.fault.filter(|(step, _)| *step == self.steps) else {
            return Ok(());
        };
        match fault {
            Fault::Power => self.is_off = true,
            Fault::Error => {}
            Fault::LosesUnsynced => {
                for node in &mut self.nodes {
                    node.pending.clear();
                    node.now.clone_from(&node.kept);
                }
            }
        }
        Err(io::Error::from_raw_os_error(5))
    }

    fn change(&mut self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names);
        self.changes.push(self.names.clone());
    }
}

impl Disk for Simulated {
    type File = usize;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let inner = self.0.borrow();
        let node = inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(inner.nodes[*node].now.clone())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<usize> {
        let mut inner = self.0.borrow_mut();
        inner.step()?;
        let left = inner.free_bytes.checked_sub(bytes);
        inner.free_bytes = left.ok_or(io::Error::from_raw_os_error(28))?;
        let zeros = vec![0; bytes as usize];
        let node = Node { now: zeros.clone(), kept: zeros, pending: Vec::new() };
        inner.nodes.push(node);
        let node = inner.nodes.len() - 1;
        inner.change(|names| {
            names.insert(name.to_owned(), node);
        });
        Ok(node)
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.0.borrow().names.get(name).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn write_at(&self, file: &usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        let done = inner.step();
        let is_cut = done.is_err() && inner.is_off;
        if done.is_ok() || is_cut {
            let (node, offset) = (&mut inner.nodes[*file], offset as usize);
            let length = node.now.len().max(offset + bytes.len());
            node.now.resize(length, 0);
            node.kept.resize(length, 0);
            node.now[offset..offset + bytes.len()].copy_from_slice(bytes);
            node.pending.push((offset, bytes.to_vec()));
        }
        done
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        inner.step()?;
        if inner.lies {
            return Ok(());
        }
        let node = &mut inner.nodes[*file];
        node.pending.clear();
        node.kept.clone_from(&node.now);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        inner.step()?;
        let node = *inner.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        inner.change(|names| {
            names.remove(from);
            names.insert(to.to_owned(), node);
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        inner.step()?;
        let node = *inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        inner.free_bytes += inner.nodes[node].now.len() as u64;
        inner.change(|names| {
            names.remove(name);
        });
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        inner.step()?;
        inner.kept_names = inner.names.clone();
        inner.changes.clear();
        Ok(())
    }
}
