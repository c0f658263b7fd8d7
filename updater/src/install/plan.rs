//! What is left to do until a version is installed: pure.

use std::collections::BTreeSet;

use layout::{RootHash, Slot, Version, verity::Superblock};
use payload::{Digest, Release, release};

use super::media::File;
use crate::slots::{Content, Slots, Uki};

/// What a file on the ESP may take beside its bytes: clusters and the names in the folder.
const ESP_SPARE_BYTES: u64 = 1 << 20;

/// A version that is to be installed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its version.
    pub version: Version,
    /// The name of its `/usr`.
    pub root_hash: RootHash,
    /// What is in front of the hash tree.
    pub superblock: Superblock,
    /// `/usr`.
    pub usr: Pieces,
    /// The UKI.
    pub uki: Pieces,
    /// Of the whole UKI.
    pub uki_sha256: Digest,
    /// Whether it may be older than what runs: somebody signed that.
    pub goes_back: bool,
}

/// Bytes that come in pieces, each of which can be verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pieces {
    /// All of them.
    pub size_bytes: u64,
    /// Each, but for the last, which is the rest.
    pub piece_bytes: u64,
    /// Of each.
    pub sha256: Vec<Digest>,
}

/// Which of the two images a piece is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Image {
    /// The file system of `/usr`.
    Usr,
    /// The UKI.
    Uki,
}

/// A piece of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Of what.
    pub image: Image,
    /// Which one.
    pub index: usize,
}

/// What the media hold already.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The slots.
    pub slots: Slots,
    /// The files of `/EFI/Linux`.
    pub files: Vec<File>,
    /// Those of them that are the wanted UKI, byte for byte.
    pub whole: BTreeSet<String>,
    /// Room on the ESP.
    pub free_bytes: u64,
    /// Of the partition that `/usr` goes to.
    pub usr_bytes: u64,
    /// Of the partition that its hash tree goes to.
    pub verity_bytes: u64,
    /// Pieces of `/usr` that are in the slot as they should be.
    pub usr_pieces: BTreeSet<usize>,
    /// How many pieces of the UKI an earlier attempt has left, from the first.
    pub uki_pieces: usize,
}

/// A step of an installation. After each of them the machine still boots what it runs now, and
/// after the last one the new version first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A file goes from the ESP.
    Remove(String),
    /// What went is gone for good: only now may its slot be touched.
    SyncEsp,
    /// The table calls the slot empty.
    Empty(Slot),
    /// A piece comes from outside, is verified and written.
    Write(Piece),
    /// The slot is read back from the disk, its hash tree computed and compared with what was
    /// signed, written and read back, too.
    Prove,
    /// The table gives the slot its version and root hash.
    Name(Slot),
    /// The UKI gets the name by which the boot loader finds it.
    Arm,
    /// The UKI of what runs, which is newer, gets a name by which the boot loader takes it last.
    Retire,
}

/// Why a version is not installed on this machine.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// It is this one.
    #[error("version {0} is what runs")]
    Runs(Version),
    /// It would not be booted.
    #[error(
        "version {version} is not newer than version {runs}, which runs: the boot loader takes the \
         newest version that it finds, and would go on taking that one"
    )]
    Older {
        /// Which one.
        version: Version,
        /// The version that runs.
        runs: Version,
    },
    /// The other slot is what it would fall back to.
    #[error(
        "version {runs} has not proven itself yet, and version {other} in the other slot is what \
         the machine goes back to: wait until it is healthy"
    )]
    OnTrial {
        /// The version that runs.
        runs: Version,
        /// The one before.
        other: Version,
    },
    /// The slot is too small.
    #[error(
        "{what} of version {version} has {size_bytes} bytes, and its partition has {room_bytes}: \
         this disk was made for smaller images, and has to be written anew"
    )]
    TooBig {
        /// `/usr` or its hash tree.
        what: &'static str,
        /// Of which version.
        version: Version,
        /// What it takes.
        size_bytes: u64,
        /// What there is.
        room_bytes: u64,
    },
    /// The ESP is too full.
    #[error(
        "the UKI of version {version} takes {} KiB, and the ESP has {} KiB for it: remove what is \
         not PithOS's from it", needed_bytes >> 10, room_bytes >> 10
    )]
    EspFull {
        /// Of which version.
        version: Version,
        /// What it takes.
        needed_bytes: u64,
        /// What there is, with what would be removed.
        room_bytes: u64,
    },
}

impl From<&Release> for Wanted {
    fn from(release: &Release) -> Self {
        Self {
            version: release.version.clone(),
            root_hash: release.usr.root_hash,
            superblock: release.usr.superblock(),
            usr: (&release.usr.image).into(),
            uki: (&release.uki.image).into(),
            uki_sha256: release.uki.sha256,
            goes_back: false,
        }
    }
}

impl From<&release::Image> for Pieces {
    fn from(image: &release::Image) -> Self {
        Self {
            size_bytes: image.size_bytes,
            piece_bytes: release::SEGMENT_BYTES,
            sha256: image.segments.iter().map(|segment| segment.sha256).collect(),
        }
    }
}

impl Pieces {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.sha256.len()
    }

    /// Where a piece lies: offset and length.
    pub fn place(&self, index: usize) -> (u64, u64) {
        let offset = index as u64 * self.piece_bytes;
        (offset, self.piece_bytes.min(self.size_bytes.saturating_sub(offset)))
    }
}

impl Wanted {
    /// The pieces of an image.
    pub fn pieces(&self, image: Image) -> &Pieces {
        match image {
            Image::Usr => &self.usr,
            Image::Uki => &self.uki,
        }
    }

    /// What the UKI is called until it is whole: systemd-boot takes names in `.efi` only.
    pub fn unfinished(&self) -> String {
        format!("pithos_{}{UNFINISHED}", self.version)
    }
}

/// What the name of a file on the ESP ends with until it is whole.
pub(super) const UNFINISHED: &str = ".new";

/// Whether a file of the ESP is a UKI of ours that was not finished.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with("pithos_") && name.ends_with(UNFINISHED)
}

/// The steps from what there is to `wanted`, which is installed if there are none.
pub fn plan(wanted: &Wanted, facts: &Facts) -> Result<Vec<Step>, Refused> {
    let slots = &facts.slots;
    let (version, slot) = (&wanted.version, slots.passive());
    if slots.version() == version {
        return Err(Refused::Runs(version.clone()));
    }
    let is_older = version < slots.version();
    if is_older && !wanted.goes_back {
        let (version, runs) = (version.clone(), slots.version().clone());
        return Err(Refused::Older { version, runs });
    }
    let own = slots.content(slots.booted).ukis();
    if own.first().is_some_and(|uki| uki.trial.is_some() && !uki.is_retired())
        && let Content::Version { version: other, ukis, .. } = slots.content(slot)
        && ukis.iter().any(|uki| !uki.is_spent())
    {
        return Err(Refused::OnTrial { runs: slots.version().clone(), other: other.clone() });
    }
    let fits = |what, size_bytes, room_bytes| {
        let version = version.clone();
        let too_big = Refused::TooBig { what, version, size_bytes, room_bytes };
        (size_bytes <= room_bytes).then_some(()).ok_or(too_big)
    };
    fits("/usr", wanted.usr.size_bytes, facts.usr_bytes)?;
    fits("the hash tree of /usr", wanted.superblock.size_bytes(), facts.verity_bytes)?;

    // A slot gets its name when all of it is proven, and loses it before any of it is changed.
    let is_proven = matches!(
        slots.content(slot),
        Content::Version { version: named, root_hash, .. }
            if named == version && *root_hash == wanted.root_hash
    );
    let (unfinished, mut armed) = (wanted.unfinished(), false);
    let mut steps = vec![];
    let mut room_bytes = facts.free_bytes;
    for file in &facts.files {
        let is_armed = |uki: &Uki| {
            is_proven
                && uki.version == *version
                && !uki.is_spent()
                && !armed
                && facts.whole.contains(&file.name)
        };
        let goes = match Uki::parse(&file.name) {
            Some(uki) if uki.version == *slots.version() => false,
            Some(uki) if is_armed(&uki) => {
                armed = true;
                false
            }
            Some(_) => true,
            None if file.name == unfinished => {
                room_bytes += file.size_bytes;
                false
            }
            None => is_unfinished(&file.name),
        };
        if goes {
            room_bytes += file.size_bytes;
            steps.push(Step::Remove(file.name.clone()));
        }
    }
    let retires = is_older && own.iter().any(|uki| !uki.is_retired());
    let retire = retires.then_some(Step::Retire);
    let is_own =
        |file: &&File| Uki::parse(&file.name).is_some_and(|uki| uki.version == *slots.version());
    let copy_bytes = facts.files.iter().filter(is_own).map(|file| file.size_bytes).max();
    let copy_bytes = if retires { copy_bytes.unwrap_or(0) } else { 0 };
    if armed {
        let left = facts.files.iter().any(|file| file.name == unfinished);
        steps.extend(left.then_some(Step::Remove(unfinished)));
    }
    if !steps.is_empty() {
        steps.push(Step::SyncEsp);
    }
    if armed {
        steps.extend(retire);
        return Ok(steps);
    }
    let needed_bytes = wanted.uki.size_bytes + copy_bytes + ESP_SPARE_BYTES;
    if needed_bytes > room_bytes {
        return Err(Refused::EspFull { version: version.clone(), needed_bytes, room_bytes });
    }
    let write = |image, index| Step::Write(Piece { image, index });
    if !is_proven {
        let missing = (0..wanted.usr.count()).filter(|index| !facts.usr_pieces.contains(index));
        steps.push(Step::Empty(slot));
        steps.extend(missing.map(|index| write(Image::Usr, index)));
        steps.extend([Step::Prove, Step::Name(slot)]);
    }
    let missing = facts.uki_pieces..wanted.uki.count();
    steps.extend(missing.map(|index| write(Image::Uki, index)));
    steps.push(Step::Arm);
    steps.extend(retire);
    Ok(steps)
}
