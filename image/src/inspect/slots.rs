//! The two slots of a disk: which version is in each, and whether its parts belong together.

use std::{fs::File, os::unix::fs::FileExt};

use layout::{
    Role, RootHash, Slot, Version,
    disk::EMPTY_LABEL,
    types,
    verity::{BLOCK_BYTES, Superblock},
};
use serde::Serialize;
use uuid::Uuid;

use super::{inside, ukis::UkiReport};
use crate::disk::table::{Entry, Table};

/// A slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SlotReport {
    /// `A` or `B`.
    pub slot: &'static str,
    /// The version of its label; none if it is empty.
    pub version: Option<String>,
    /// What is in it, if it says a version.
    pub content: Option<Content>,
    /// The UKIs that boot it.
    pub ukis: Vec<String>,
    #[serde(skip)]
    which: Slot,
}

/// What is in a slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Content {
    /// The PARTUUIDs, put together.
    pub root_hash: String,
    /// Whether the hash tree's topmost block has that hash. (`verify` reads all of it.)
    pub tree_agrees: bool,
    /// Size of the file system.
    pub usr_bytes: Option<u64>,
    /// UUID of the file system.
    pub usr_uuid: Option<Uuid>,
    /// Size of the hash tree.
    pub verity_bytes: Option<u64>,
    /// Salt of the hash tree.
    pub salt: Option<String>,
}

impl SlotReport {
    /// What the content of partition `number` takes, if that is one of this slot.
    pub(super) fn used_bytes(&self, number: u32) -> Option<u64> {
        if number == Role::Usr(self.which).number() {
            self.content.as_ref().map_or(Some(0), |content| content.usr_bytes)
        } else if number == Role::Verity(self.which).number() {
            self.content.as_ref().map_or(Some(0), |content| content.verity_bytes)
        } else {
            None
        }
    }
}

/// Looks at both slots.
pub(super) fn look(disk: &File, table: &Table, problems: &mut Vec<String>) -> Vec<SlotReport> {
    [(Slot::A, "A"), (Slot::B, "B")]
        .into_iter()
        .filter_map(|(which, name)| {
            let find = |role: Role| {
                let mut entries = table.entries.iter();
                entries.find(|e| e.number == role.number() && e.type_guid == role.type_guid())
            };
            let (usr, verity) = (find(Role::Usr(which)), find(Role::Verity(which)));
            let (Some(usr), Some(verity)) = (usr, verity) else {
                problems.push(format!(
                    "there is no slot {name}: expected partitions {} and {} of the types {} and {}",
                    Role::Usr(which).number(),
                    Role::Verity(which).number(),
                    types::USR,
                    types::USR_VERITY
                ));
                return None;
            };
            let mut slot =
                SlotReport { slot: name, version: None, content: None, ukis: vec![], which };
            if usr.label == EMPTY_LABEL && verity.label == EMPTY_LABEL {
                return Some(slot);
            }
            let version = Version::from_label(&usr.label)
                .filter(|v| v.usr_label() == usr.label && v.verity_label() == verity.label);
            match version {
                Some(version) => slot.version = Some(version.to_string()),
                None => problems.push(format!(
                    "the labels of slot {name} do not say one version: `{}` and `{}`",
                    usr.label, verity.label
                )),
            }
            slot.content = Some(content(disk, table, usr, verity, name, problems));
            Some(slot)
        })
        .collect()
}

fn content(
    disk: &File,
    table: &Table,
    usr: &Entry,
    verity: &Entry,
    name: &str,
    problems: &mut Vec<String>,
) -> Content {
    let root_hash = root_hash(usr, verity);
    let file_system = erofs(disk, table, usr);
    let tree = hash_tree(disk, table, verity);
    for what in [file_system.as_ref().err(), tree.as_ref().err()].into_iter().flatten() {
        problems.push(format!("slot {name}: {what}"));
    }
    let tree_agrees = tree.as_ref().is_ok_and(|(_, hash)| *hash == root_hash);
    if let Ok((_, hash)) = &tree
        && !tree_agrees
    {
        problems.push(format!(
            "slot {name}: the PARTUUIDs say root hash {root_hash}, and the hash tree has {hash}: \
             the kernel will refuse it"
        ));
    }
    let file_system = file_system.ok();
    let superblock = tree.ok().map(|(superblock, _)| superblock);
    Content {
        root_hash: root_hash.to_string(),
        tree_agrees,
        usr_bytes: file_system.map(|(bytes, _)| bytes),
        usr_uuid: file_system.map(|(_, uuid)| uuid),
        verity_bytes: superblock.as_ref().map(Superblock::size_bytes),
        salt: superblock.map(|superblock| hex::encode(superblock.salt)),
    }
}

/// The root hash that a slot's PARTUUIDs are the halves of.
pub(crate) fn root_hash(usr: &Entry, verity: &Entry) -> RootHash {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(usr.guid.as_bytes());
    hash[16..].copy_from_slice(verity.guid.as_bytes());
    RootHash(hash)
}

/// Size and UUID of the erofs in a partition.
pub(crate) fn erofs(disk: &File, table: &Table, usr: &Entry) -> Result<(u64, Uuid), String> {
    let read = || -> Result<[u8; 128], String> {
        inside(table, usr)?;
        let mut superblock = [0; 128];
        disk.read_exact_at(&mut superblock, usr.start_bytes + 1024)
            .map_err(|error| error.to_string())?;
        Ok(superblock)
    };
    let superblock = read().map_err(|why| format!("/usr cannot be read: {why}"))?;
    if superblock[..4] != 0xe0f5_e1e2u32.to_le_bytes() {
        return Err(format!("there is no erofs on partition {}", usr.number));
    }
    let blocks = u32::from_le_bytes(superblock[36..40].try_into().expect("4 bytes"));
    let size = 1u64.checked_shl(superblock[12].into()).unwrap_or(0).saturating_mul(blocks.into());
    if size == 0 || size > usr.size_bytes {
        return Err(format!("the erofs on partition {} says {size} bytes", usr.number));
    }
    let uuid = superblock[48..64].try_into().expect("16 bytes");
    Ok((size, Uuid::from_bytes(uuid)))
}

/// The superblock of the hash tree in a partition, and the root hash of its topmost block.
fn hash_tree(disk: &File, table: &Table, verity: &Entry) -> Result<(Superblock, RootHash), String> {
    let read = |at: u64, bytes: &mut [u8]| {
        inside(table, verity)?;
        disk.read_exact_at(bytes, verity.start_bytes + at).map_err(|error| error.to_string())
    };
    let said = |why: String| format!("the hash tree cannot be read: {why}");
    let mut superblock = [0; Superblock::BYTES];
    read(0, &mut superblock).map_err(said)?;
    let superblock = Superblock::parse(&superblock).map_err(|why| said(why.to_string()))?;
    if superblock.size_bytes() > verity.size_bytes {
        return Err(said(format!("it would have {} bytes", superblock.size_bytes())));
    }
    let mut top = vec![0; BLOCK_BYTES as usize];
    read(BLOCK_BYTES, &mut top).map_err(said)?;
    let hash = superblock.root_hash(&top);
    Ok((superblock, hash))
}

/// Ties UKIs to slots, and says what is left over.
pub(super) fn judge(slots: &mut [SlotReport], ukis: &[UkiReport], problems: &mut Vec<String>) {
    for slot in slots {
        let own = ukis.iter().filter(|uki| uki.slot == Some(slot.slot));
        slot.ukis = own.map(|uki| uki.file.clone()).collect();
        if let Some(version) = &slot.version
            && slot.ukis.is_empty()
        {
            problems.push(format!(
                "slot {} holds {version}, and no UKI on the ESP boots it: it needs one with \
                 usrhash={} in /EFI/Linux",
                slot.slot,
                slot.content.as_ref().map_or("", |content| &content.root_hash)
            ));
        }
    }
}
