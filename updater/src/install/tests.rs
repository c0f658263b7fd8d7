//! Installations on a simulated machine, cut off at every step, and the boots after them.
//!
//! What boots is decided here by the rules of firmware, systemd-boot, `/init` and dm-verity, and
//! not by the code under test: a UKI and a slot are whole, byte for byte, or the machine is lost.

mod boot;
mod cuts;
mod fallback;
mod faults;
mod files;

use std::collections::BTreeSet;

use block::table::{Entry, Table};
use layout::{
    Role, RootHash, Slot, Version,
    disk::EMPTY_LABEL,
    types,
    verity::{BLOCK_BYTES, Superblock},
};
use payload::Digest;
use uuid::Uuid;

use super::{media::Media as _, plan::Image, simulated::Machine, *};

const USR_BYTES: usize = 64 << 10;
const VERITY_BYTES: usize = 16 << 10;
const ESP_BYTES: u64 = 2 << 20;
/// Where partitions begin. The table's copies are at the ends of the disk.
const START: usize = 64 << 10;
const DISK_BYTES: usize = START + 2 * (USR_BYTES + VERITY_BYTES) + (64 << 10);

/// A version, with its bytes.
#[derive(Clone)]
struct Made {
    wanted: Wanted,
    usr: Vec<u8>,
    verity: Vec<u8>,
    uki: Vec<u8>,
}

impl Made {
    /// `blocks` of it are the same in every version.
    fn new(version: &str) -> Self {
        let version: Version = version.parse().unwrap();
        let block = |n: u8| -> Vec<u8> {
            let text = if n.is_multiple_of(3) {
                format!("common {n} ")
            } else {
                format!("{version} {n} ")
            };
            text.bytes().cycle().take(BLOCK_BYTES as usize).collect()
        };
        let usr: Vec<u8> = (0..11).flat_map(block).collect();
        let (uuid, data_blocks) = (Uuid::from_u128(5), (usr.len() as u64) / BLOCK_BYTES);
        let superblock = Superblock { uuid, data_blocks, salt: version.as_str().into() };
        let (hasher, mut hashes) = (superblock.hasher(), vec![]);
        hasher.hash(&usr, &mut hashes);
        let tree = hasher.tree(hashes).unwrap();
        let root_hash = tree.root_hash;
        let verity = [&superblock.to_block()[..], &tree.blocks].concat();
        let mut uki = format!("UKI of {version}, usrhash={root_hash} ").into_bytes();
        uki.resize(2600, b'.');
        let pieces = |bytes: &[u8], piece_bytes: usize| Pieces {
            size_bytes: bytes.len() as u64,
            piece_bytes: piece_bytes as u64,
            sha256: bytes.chunks(piece_bytes).map(Digest::of).collect(),
        };
        let wanted = Wanted {
            version,
            root_hash,
            superblock,
            usr: pieces(&usr, 3 * BLOCK_BYTES as usize),
            uki: pieces(&uki, 1000),
            uki_sha256: Digest::of(&uki),
            goes_back: false,
        };
        Self { wanted, usr, verity, uki }
    }

    fn version(&self) -> &str {
        self.wanted.version.as_str()
    }

    fn root_hash(&self) -> &RootHash {
        &self.wanted.root_hash
    }

    fn piece(&self, piece: Piece) -> &[u8] {
        let bytes = match piece.image {
            Image::Usr => &self.usr,
            Image::Uki => &self.uki,
        };
        let (offset, length) = self.wanted.pieces(piece.image).place(piece.index);
        &bytes[offset as usize..(offset + length) as usize]
    }
}

/// What is in a slot when a test begins.
#[derive(Clone, Copy, Debug)]
enum Holds<'a> {
    Nothing,
    /// With the UKI of this name's ending: "", "+3", "+0-3".
    Version(&'a Made, &'a str),
    /// What an attempt has left that was cut short under an older engine: bytes without a name.
    Bytes(&'a Made),
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.version())
    }
}

/// Partitions of the simulated disk: number, first byte, length.
fn windows() -> Vec<(u32, usize, usize)> {
    let roles = [
        (Role::Usr(Slot::A), USR_BYTES),
        (Role::Verity(Slot::A), VERITY_BYTES),
        (Role::Usr(Slot::B), USR_BYTES),
        (Role::Verity(Slot::B), VERITY_BYTES),
    ];
    let mut next = START;
    roles
        .into_iter()
        .map(|(role, bytes)| {
            next += bytes;
            (role.number(), next - bytes, bytes)
        })
        .collect()
}

/// A machine that runs `running` from slot A, and has `other` in slot B.
fn machine(running: &Made, other: Holds<'_>) -> Machine {
    let machine = Machine::new(DISK_BYTES, &windows(), ESP_BYTES);
    table(running, other).write(machine.disk()).unwrap();
    fill(&machine, running, other);
    machine.settle();
    machine
}

/// The table of such a machine.
fn table(running: &Made, other: Holds<'_>) -> Table {
    let mut table = Table::new(DISK_BYTES as u64, 512, Uuid::from_u128(1)).unwrap();
    for (number, start, length) in windows() {
        let (holds, is_usr) =
            (if number < 4 { Holds::Version(running, "") } else { other }, number % 2 == 0);
        let kind = if is_usr { types::USR } else { types::USR_VERITY };
        let (guid, name) = match holds {
            Holds::Nothing | Holds::Bytes(_) => {
                (Uuid::from_u128(number.into()), EMPTY_LABEL.to_owned())
            }
            Holds::Version(made, _) if is_usr => {
                (made.root_hash().usr_partuuid(), made.wanted.version.usr_label())
            }
            Holds::Version(made, _) => {
                (made.root_hash().verity_partuuid(), made.wanted.version.verity_label())
            }
        };
        let (start_bytes, size_bytes) = (start as u64, length as u64);
        let entry = Entry { kind, guid, start_bytes, size_bytes, flags: 0, name };
        table.set(number, Some(&entry)).unwrap();
    }
    table
}

/// What is in its slots, and on its ESP.
fn fill(media: &dyn Media, running: &Made, other: Holds<'_>) {
    for (slot, holds) in [(Slot::A, Holds::Version(running, "")), (Slot::B, other)] {
        if let Holds::Version(made, ending) = holds {
            let name = format!("pithos_{}{ending}.efi", made.version());
            media.esp().write(&name, 0, &made.uki).unwrap();
        }
        if let Holds::Version(made, _) | Holds::Bytes(made) = holds {
            let write = |role, bytes| media.partition(role).unwrap().write_all_at(bytes, 0);
            write(Role::Usr(slot), &made.usr).unwrap();
            write(Role::Verity(slot), &made.verity).unwrap();
        }
    }
}

/// Installs it; says how many pieces were asked for.
fn install(machine: &dyn Media, running: &RootHash, made: &Made) -> Result<Vec<Piece>, Error> {
    let wanted = made.wanted.clone();
    let mut installer = Installer::begin(machine, running, wanted, BTreeSet::new())?;
    let mut asked = vec![];
    loop {
        match installer.advance()? {
            Need::Piece(piece) => {
                asked.push(piece);
                installer.give(made.piece(piece))?;
            }
            Need::Time => {}
            Need::Nothing => return Ok(asked),
        }
    }
}
