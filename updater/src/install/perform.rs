//! Performs the steps of an installation, one call at a time: it asks for pieces, and whoever
//! fetches them decides when.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
};

use block::table::{Disk, TableError};
use layout::{
    Role, RootHash, Slot,
    disk::{EMPTY_LABEL, TRIES},
    verity::{BLOCK_BYTES, Hasher, Superblock, Tree},
};
use payload::Digest;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    Media,
    media::Folder,
    plan::{Facts, Image, Piece, Refused, Step, UNFINISHED, Wanted, plan},
};
use crate::{
    records::{Installed, RecordError},
    slots::{self, NoSlots, Slots, Uki},
};

/// What is read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// A slot that does not read back is written once more: a disk replaces bad sectors when they are
/// written.
const ATTEMPTS: u32 = 2;

/// An installation that is under way.
pub struct Installer<'m> {
    media: &'m dyn Media,
    wanted: Wanted,
    installed: Installed,
    slot: Slot,
    steps: VecDeque<Step>,
    proof: Option<Proof>,
    attempts: u32,
}

/// What an installation waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// A piece, by [`Installer::give`].
    Piece(Piece),
    /// Nothing: a long step has come further, and the caller may look after something else.
    Time,
    /// Nothing more: the version is installed and boots next.
    Nothing,
}

/// Reading back.
struct Proof {
    hasher: Hasher,
    hashes: Vec<u8>,
    at: u64,
    /// Whether all of it could be read.
    is_read: bool,
}

/// Why a version could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not belong on this machine, or there is no room.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The slots cannot be told.
    #[error(transparent)]
    Slots(#[from] NoSlots),
    /// The table cannot be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A record cannot be kept.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The disk failed.
    #[error("{doing}")]
    Io {
        /// What we were doing.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// What was given is not what was asked for.
    #[error("{piece:?} is not what was signed: {found_bytes} bytes with SHA-256 {found}")]
    Piece {
        /// Which one.
        piece: Piece,
        /// Length of what was given.
        found_bytes: usize,
        /// Its hash.
        found: Digest,
    },
    /// The disk does not give back what was written to it.
    #[error(
        "the disk does not keep what is written to slot {slot:?}: {what} read back wrong, {attempts} \
         times; replace the disk"
    )]
    Rots {
        /// Where.
        slot: Slot,
        /// What of it.
        what: String,
        /// How often it was written.
        attempts: u32,
    },
    /// Every piece is right, and the whole is not.
    #[error(
        "the release contradicts itself: its pieces of /usr have root hash {found}, and it says \
         {expected}"
    )]
    Contradiction {
        /// Of the release.
        expected: RootHash,
        /// Of its pieces.
        found: RootHash,
    },
}

pub(super) fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing: doing.into(), source }
}

impl<'m> Installer<'m> {
    /// Looks at what there is and plans what is left. `running` is the root hash of the running
    /// `/usr`; `failing` are the health checks that the running version fails, which a new one may
    /// fail, too. Nothing is written yet.
    pub fn begin(
        media: &'m dyn Media,
        running: &RootHash,
        wanted: Wanted,
        failing: BTreeSet<String>,
    ) -> Result<Self, Error> {
        let facts = look(media, running, &wanted)?;
        let steps = plan(&wanted, &facts)?.into();
        let installed = Installed {
            version: wanted.version.clone(),
            root_hash: wanted.root_hash,
            uki_sha256: wanted.uki_sha256,
            from: facts.slots.version().clone(),
            failing,
        };
        let slot = facts.slots.passive();
        Ok(Self { media, wanted, installed, slot, steps, proof: None, attempts: 1 })
    }

    /// The steps that are left.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    /// Goes on until something is needed.
    pub fn advance(&mut self) -> Result<Need, Error> {
        while let Some(step) = self.steps.front().cloned() {
            match step {
                Step::Write(piece) => return Ok(Need::Piece(piece)),
                Step::Prove => {
                    if !self.prove()? {
                        return Ok(Need::Time);
                    }
                    // What is wrong was put in front, to be written again.
                    if self.steps.front() != Some(&Step::Prove) {
                        continue;
                    }
                }
                Step::Remove(name) => {
                    let doing = || format!("removing {name} from the ESP");
                    self.media.esp().remove(&name).map_err(|e| io_error(doing())(e))?;
                }
                Step::SyncEsp => {
                    self.media.esp().sync().map_err(io_error("syncing the ESP"))?;
                }
                Step::Empty(slot) => self.empty(slot)?,
                Step::Name(slot) => self.name(slot)?,
                Step::Arm => self.arm()?,
                Step::Retire => self.retire()?,
            }
            self.steps.pop_front();
        }
        Ok(Need::Nothing)
    }

    /// Takes the piece that [`Self::advance`] asked for.
    ///
    /// # Panics
    /// When it did not ask for one.
    pub fn give(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(&Step::Write(piece)) = self.steps.front() else {
            panic!("a piece was given that nobody asked for")
        };
        let Piece { image, index } = piece;
        let pieces = self.wanted.pieces(image);
        let ((offset, length), found) = (pieces.place(index), Digest::of(bytes));
        if bytes.len() as u64 != length || found != pieces.sha256[index] {
            return Err(Error::Piece { piece, found_bytes: bytes.len(), found });
        }
        let written = match image {
            Image::Usr => self.usr().and_then(|usr| {
                usr.write_all_at(bytes, offset)?;
                // So that a power cut costs a piece, not all that the kernel still had in memory.
                usr.sync()
            }),
            Image::Uki => self.media.esp().write(&self.wanted.unfinished(), offset, bytes),
        };
        written.map_err(io_error(format!("writing piece {index} of {image:?}")))?;
        self.steps.pop_front();
        Ok(())
    }

    fn usr(&self) -> io::Result<&'m dyn Disk> {
        self.media.partition(Role::Usr(self.slot))
    }

    /// Whether there is nothing left to read back.
    fn prove(&mut self) -> Result<bool, Error> {
        let reading = || format!("reading back slot {:?}", self.slot);
        let size_bytes = self.wanted.usr.size_bytes;
        let usr = self.usr().map_err(io_error(reading()))?;
        let proof = match &mut self.proof {
            Some(proof) => proof,
            none => {
                usr.sync().map_err(io_error("syncing the slot"))?;
                let capacity = size_bytes.div_ceil(BLOCK_BYTES) as usize * 32;
                none.insert(Proof {
                    hasher: self.wanted.superblock.hasher(),
                    hashes: Vec::with_capacity(capacity),
                    at: 0,
                    is_read: true,
                })
            }
        };
        if proof.at < size_bytes {
            let mut chunk = vec![0; CHUNK_BYTES.min((size_bytes - proof.at) as usize)];
            proof.is_read &= usr.read_exact_at(&mut chunk, proof.at).is_ok();
            proof.hasher.hash(&chunk, &mut proof.hashes);
            proof.at += chunk.len() as u64;
            return Ok(false);
        }
        let Proof { hasher, hashes, is_read, .. } = self.proof.take().expect("it is under way");
        let tree = hasher.tree(hashes).expect("a release has a piece of /usr at least");
        if is_read && tree.root_hash == self.wanted.root_hash {
            self.write_tree(&tree)?;
            return Ok(true);
        }
        let is_wrong = |index: &usize| !piece_is_there(usr, &self.wanted, *index);
        let wrong: Vec<usize> = (0..self.wanted.usr.count()).filter(is_wrong).collect();
        if wrong.is_empty() && is_read {
            let expected = self.wanted.root_hash;
            return Err(Error::Contradiction { expected, found: tree.root_hash });
        }
        if self.attempts >= ATTEMPTS {
            return Err(self.rots(format!("pieces {wrong:?} of /usr")));
        }
        self.attempts += 1;
        if wrong.is_empty() {
            // It could not be read, and now it can.
            return Ok(false);
        }
        for index in wrong.into_iter().rev() {
            self.steps.push_front(Step::Write(Piece { image: Image::Usr, index }));
        }
        Ok(true)
    }

    fn rots(&self, what: impl Into<String>) -> Error {
        Error::Rots { slot: self.slot, what: what.into(), attempts: self.attempts }
    }

    fn write_tree(&self, tree: &Tree) -> Result<(), Error> {
        let doing = || format!("writing the hash tree of slot {:?}", self.slot);
        let partition = self.media.partition(Role::Verity(self.slot));
        let partition = partition.map_err(io_error(doing()))?;
        let superblock = self.wanted.superblock.to_block();
        partition
            .write_all_at(&superblock, 0)
            .and_then(|()| partition.write_all_at(&tree.blocks, BLOCK_BYTES))
            .and_then(|()| partition.sync())
            .map_err(io_error(doing()))?;
        match tree_is_there(partition, &superblock, tree) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.rots("its hash tree")),
            Err(source) => {
                let doing = format!("reading back the hash tree of slot {:?}", self.slot);
                Err(Error::Io { doing, source })
            }
        }
    }

    /// Takes its version from a slot, and its PARTUUIDs: no UKI starts it any more.
    fn empty(&self, slot: Slot) -> Result<(), Error> {
        self.relabel(slot, EMPTY_LABEL, EMPTY_LABEL, |_, old| {
            // Of what was there, so that it is another one.
            let digest = Sha256::new_with_prefix(b"empty").chain_update(old.as_bytes()).finalize();
            uuid::Builder::from_custom_bytes(digest[..16].try_into().expect("32 bytes")).into_uuid()
        })
    }

    fn name(&self, slot: Slot) -> Result<(), Error> {
        let Wanted { version, root_hash, .. } = &self.wanted;
        self.relabel(slot, &version.usr_label(), &version.verity_label(), |role, _| match role {
            Role::Usr(_) => root_hash.usr_partuuid(),
            Role::Verity(_) => root_hash.verity_partuuid(),
            Role::Esp | Role::Root => unreachable!("a slot has two partitions"),
        })
    }

    /// Changes both entries of a slot in one write of the table; none where they are so already.
    fn relabel(
        &self,
        slot: Slot,
        usr: &str,
        verity: &str,
        guid: impl Fn(Role, Uuid) -> Uuid,
    ) -> Result<(), Error> {
        let mut table = self.media.table()?;
        let entries = table.entries();
        let mut changes = table.wants_repair();
        for (role, label) in [(Role::Usr(slot), usr), (Role::Verity(slot), verity)] {
            let mut entry = slots::entry(&entries, role)?.clone();
            if entry.name != label || label != EMPTY_LABEL {
                entry.guid = guid(role, entry.guid);
                entry.name = label.to_owned();
            }
            changes |= entries.get(&role.number()) != Some(&entry);
            table.set(role.number(), Some(&entry))?;
        }
        if changes {
            table.write(self.media.disk())?;
        }
        Ok(())
    }

    /// Lets the boot loader find it.
    fn arm(&self) -> Result<(), Error> {
        let (esp, unfinished) = (self.media.esp(), self.wanted.unfinished());
        esp.sync_file(&unfinished).map_err(io_error("syncing the UKI"))?;
        // What the boot loader is going to read is read once before: it verifies nothing.
        let there = sha256_of(esp, &unfinished).map_err(io_error("reading back the UKI"))?;
        if there != (self.wanted.uki_sha256, self.wanted.uki.size_bytes) {
            esp.remove(&unfinished)
                .map_err(io_error("removing the UKI, which reads back wrong"))?;
            return Err(self.rots("its UKI on the ESP"));
        }
        // Before it can boot: whoever finds it spent must know that it was ours to install.
        self.installed.save(self.media.state())?;
        let name = self.wanted.version.uki_name(Some(TRIES));
        esp.rename(&unfinished, &name)
            .and_then(|()| esp.sync())
            .map_err(io_error(format!("naming {name} on the ESP")))
    }
    /// Leaves what runs behind, for an older version that is there to boot. FAT may lose a file
    /// whose name is being changed, and the boot loader is about to change the other's: so a copy
    /// gets the new name before the old one goes.
    fn retire(&self) -> Result<(), Error> {
        let esp = self.media.esp();
        // It may have been there to boot all the time: then this is what says that it is to be.
        self.installed.save(self.media.state())?;
        let files = esp.list().map_err(io_error("listing /EFI/Linux of the ESP"))?;
        let own = files.iter().filter_map(|file| Uki::parse(&file.name));
        let own = own.filter(|uki| uki.version == self.installed.from && !uki.is_retired());
        for uki in own {
            let (from, to) = (uki.name(), uki.retired().name());
            let doing = || format!("copying {from} to {to} on the ESP");
            copy(esp, &from, &to).map_err(|error| io_error(doing())(error))?;
            esp.remove(&from)
                .and_then(|()| esp.sync())
                .map_err(io_error(format!("removing {from} from the ESP")))?;
        }
        Ok(())
    }
}

/// Makes `to` what `from` is; all of it, or nothing.
fn copy(folder: &dyn Folder, from: &str, to: &str) -> io::Result<()> {
    let expected = sha256_of(folder, from)?;
    if sha256_of(folder, to).is_ok_and(|found| found == expected) {
        return Ok(());
    }
    let unfinished = format!("{}{UNFINISHED}", from.trim_end_matches(".efi"));
    let (mut chunk, mut at) = (vec![0; CHUNK_BYTES], 0);
    loop {
        let read = folder.read(from, at, &mut chunk)?;
        folder.write(&unfinished, at, &chunk[..read])?;
        at += read as u64;
        if read < chunk.len() {
            break;
        }
    }
    folder.sync_file(&unfinished)?;
    if sha256_of(folder, &unfinished)? != expected {
        return Err(io::Error::other("it reads back wrong"));
    }
    folder.rename(&unfinished, to)?;
    folder.sync()
}

/// Reads the facts that a plan is made from.
fn look(media: &dyn Media, running: &RootHash, wanted: &Wanted) -> Result<Facts, Error> {
    let esp = media.esp();
    let files = esp.list().map_err(io_error("listing /EFI/Linux of the ESP"))?;
    let free_bytes = esp.free_bytes().map_err(io_error("looking for room on the ESP"))?;
    let entries = media.table()?.entries();
    let slots = Slots::read(&entries, running, files.iter().map(|file| file.name.as_str()))?;
    let (usr, verity) = (Role::Usr(slots.passive()), Role::Verity(slots.passive()));
    let usr_bytes = slots::entry(&entries, usr)?.size_bytes;
    let verity_bytes = slots::entry(&entries, verity)?.size_bytes;
    let partition = media.partition(usr).map_err(io_error("opening the slot"))?;
    let fits = wanted.usr.size_bytes <= usr_bytes;
    let usr_pieces = (0..if fits { wanted.usr.count() } else { 0 })
        .filter(|&index| piece_is_there(partition, wanted, index))
        .collect();
    let expected = (wanted.uki_sha256, wanted.uki.size_bytes);
    let of_this = |name: &str| Uki::parse(name).is_some_and(|uki| uki.version == wanted.version);
    let whole = files
        .iter()
        .filter(|file| file.size_bytes == wanted.uki.size_bytes && of_this(&file.name))
        .filter(|file| sha256_of(esp, &file.name).is_ok_and(|found| found == expected))
        .map(|file| file.name.clone())
        .collect();
    let uki_pieces =
        (0..wanted.uki.count()).take_while(|&index| uki_piece_is_there(esp, wanted, index)).count();
    Ok(Facts { slots, files, whole, free_bytes, usr_bytes, verity_bytes, usr_pieces, uki_pieces })
}

/// Whether a slot holds a piece. One that cannot be read is written again.
fn piece_is_there(usr: &dyn Disk, wanted: &Wanted, index: usize) -> bool {
    let (mut at, length) = wanted.usr.place(index);
    let (end, mut sha256) = (at + length, Sha256::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    while at < end {
        let part = &mut chunk[..CHUNK_BYTES.min((end - at) as usize)];
        if usr.read_exact_at(part, at).is_err() {
            return false;
        }
        sha256.update(&*part);
        at += part.len() as u64;
    }
    sha256.finalize()[..] == wanted.usr.sha256[index].0
}

fn uki_piece_is_there(esp: &dyn Folder, wanted: &Wanted, index: usize) -> bool {
    let (offset, length) = wanted.uki.place(index);
    let mut bytes = vec![0; length as usize];
    let read = esp.read(&wanted.unfinished(), offset, &mut bytes);
    read.is_ok_and(|read| read == bytes.len()) && Digest::of(&bytes) == wanted.uki.sha256[index]
}

/// Hash and length of a file.
pub(crate) fn sha256_of(folder: &dyn Folder, name: &str) -> io::Result<(Digest, u64)> {
    let (mut sha256, mut at) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = folder.read(name, at, &mut chunk)?;
        sha256.update(&chunk[..read]);
        at += read as u64;
        if read < chunk.len() {
            return Ok((Digest(sha256.finalize().into()), at));
        }
    }
}

fn tree_is_there(partition: &dyn Disk, superblock: &[u8], tree: &Tree) -> io::Result<bool> {
    let mut stored = vec![0; superblock.len()];
    partition.read_exact_at(&mut stored, 0)?;
    let mut same = stored == superblock;
    let mut at = superblock.len() as u64;
    for expected in tree.blocks.chunks(CHUNK_BYTES) {
        stored.resize(expected.len(), 0);
        partition.read_exact_at(&mut stored, at)?;
        same &= stored == expected;
        at += expected.len() as u64;
    }
    Ok(same)
}

/// Whether all of a slot is what `root_hash` says: what `/init` and the kernel would find.
pub fn proves(media: &dyn Media, slot: Slot, root_hash: &RootHash) -> io::Result<bool> {
    let (usr, verity) = (media.partition(Role::Usr(slot))?, media.partition(Role::Verity(slot))?);
    let mut block = [0; Superblock::BYTES];
    verity.read_exact_at(&mut block, 0)?;
    let Ok(superblock) = Superblock::parse(&block) else { return Ok(false) };
    let (hasher, mut hashes) = (superblock.hasher(), vec![]);
    let (mut at, end) = (0, superblock.data_blocks.saturating_mul(BLOCK_BYTES));
    let mut chunk = vec![0; CHUNK_BYTES];
    while at < end {
        let part = &mut chunk[..CHUNK_BYTES.min((end - at) as usize)];
        if usr.read_exact_at(part, at).is_err() {
            return Ok(false);
        }
        hasher.hash(part, &mut hashes);
        at += part.len() as u64;
    }
    match hasher.tree(hashes) {
        Some(tree) if tree.root_hash == *root_hash => {
            let mut stored = vec![0; BLOCK_BYTES as usize];
            verity.read_exact_at(&mut stored, 0)?;
            tree_is_there(verity, &stored, &tree)
        }
        Some(_) | None => Ok(false),
    }
}
