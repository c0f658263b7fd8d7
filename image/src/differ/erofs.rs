//! An uncompressed erofs: superblock, then every path with its inode and content. Plain, inline
//! and chunk-based files are read, as mkfs.erofs 1.8 writes them; a compressed file has its inode
//! compared, and its bytes only as bytes of the image.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    anatomy::{Anatomy, Part, field, follows},
    numbers::{Le, array, hex, part, text},
    source::{Broken, Source, broken},
};

mod inode;

use inode::{Inode, Kind};

pub(super) const MAGIC: u32 = 0xe0f5_e1e2;

const SUPERBLOCK_AT: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 128;
/// More files than that are garbage.
const FILES_MAX: usize = 1 << 20;
const FOLDER_BYTES_MAX: u64 = 64 << 20;
const FOLDERS_DEEP_MAX: usize = 256;
const DIRENT_BYTES: usize = 12;

pub(super) fn anatomy(source: &Source) -> Result<Anatomy, Broken> {
    let bytes = source.read(SUPERBLOCK_AT, SUPERBLOCK_BYTES)?;
    let le = Le(&bytes);
    let block_bits = le.u8(12);
    let built = format!("{}.{:09}", le.u64(24), le.u32(32));
    let mut anatomy = Anatomy::of(vec![
        field("uuid", Uuid::from_bytes(array(&bytes, 48))),
        field("build_time", built),
        field("volume_name", text(part(&bytes, 64, 16))),
        field("feature_compat", hex(le.u32(8))),
        field("feature_incompat", hex(le.u32(80))),
        field("blkszbits", block_bits),
        field("sb_extslots", le.u8(13)),
        field("compression", hex(le.u16(84))),
        field("extra_devices", le.u16(86)),
        field("dirblkbits", le.u8(90)),
        field("xattr_prefix_count", le.u8(91)),
        field("xattr_filter_reserved", le.u8(104)),
        field("reserved", hex::encode(part(&bytes, 105, 23))),
        follows("inos", le.u64(16)),
        follows("blocks", le.u32(36)),
        follows("root_nid", le.u16(14)),
        follows("meta_blkaddr", le.u32(40)),
        follows("xattr_blkaddr", le.u32(44)),
        follows("xattr_prefix_start", le.u32(92)),
        follows("packed_nid", le.u64(96)),
        follows("devt_slotoff", le.u16(88)),
        follows("checksum", hex(le.u32(4))),
    ]);
    anatomy.places.push((0..SUPERBLOCK_AT, "in front of the superblock".into()));
    anatomy.places.push((SUPERBLOCK_AT..SUPERBLOCK_AT + 128, "superblock".into()));
    if !(9..=16).contains(&block_bits) {
        return broken(format!("blocks of 2^{block_bits} bytes"));
    }
    let image = Image {
        source: source.clone(),
        block_bits,
        meta_at: u64::from(le.u32(40)) << block_bits,
        xattr_at: u64::from(le.u32(44)) << block_bits,
    };
    let root = le.u16(14).into();
    let (folders, files) = (HashSet::new(), HashMap::new());
    Walk { image, anatomy: &mut anatomy, folders, files }.path("", root, 0)?;
    Ok(anatomy)
}

/// What every inode needs to know of its image.
struct Image {
    source: Source,
    block_bits: u8,
    meta_at: u64,
    xattr_at: u64,
}

struct Walk<'a> {
    image: Image,
    anatomy: &'a mut Anatomy,
    /// Folders that were entered.
    folders: HashSet<u64>,
    /// The first path of each file.
    files: HashMap<u64, String>,
}

impl Walk<'_> {
    /// Adds the file at `path`, and those below it.
    fn path(&mut self, path: &str, nid: u64, depth: usize) -> Result<(), Broken> {
        if self.anatomy.parts.len() > FILES_MAX {
            return broken(format!("more than {FILES_MAX} files"));
        }
        let title = if path.is_empty() { "/" } else { path };
        let inode = match Inode::read(&self.image, nid) {
            Ok(inode) => inode,
            Err(Broken::Format(why)) => {
                self.anatomy.parts.push(Part::new(title, vec![field("unreadable inode", why)]));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.anatomy.places.push((inode.range.clone(), format!("inode of {title}")));
        let Inode { kind, content, mut fields, .. } = inode;
        match (kind, content) {
            (Kind::Folder, Ok(content)) => {
                self.anatomy.parts.push(Part::new(title, fields));
                if depth < FOLDERS_DEEP_MAX && self.folders.insert(nid) {
                    self.folder(path, &content, depth)?;
                }
            }
            (Kind::Symlink, Ok(content)) => {
                fields.push(field("target", text(&content.peek(0, 4096)?)));
                self.anatomy.parts.push(Part::new(title, fields));
            }
            (Kind::File, Ok(content)) => {
                // What differs in a file of several names is said once.
                let part = match self.files.get(&nid) {
                    Some(first) => Part::new(title, vec![field("hard link to", first)]),
                    None => Part::new(title, fields).any(content),
                };
                self.files.entry(nid).or_insert_with(|| title.to_owned());
                self.anatomy.parts.push(part);
            }
            (Kind::Special, _) => self.anatomy.parts.push(Part::new(title, fields)),
            (_, Err(why)) => {
                fields.push(field("unreadable content", why));
                self.anatomy.parts.push(Part::new(title, fields));
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: &str, content: &Source, depth: usize) -> Result<(), Broken> {
        let Some(bytes) = content.all(FOLDER_BYTES_MAX)? else {
            return broken(format!("folder {path}/ has {} bytes", content.size()));
        };
        for block in bytes.chunks(1 << self.image.block_bits) {
            for (name, nid) in dirents(block) {
                if name != "." && name != ".." {
                    self.path(&format!("{path}/{name}"), nid, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

/// Names and inode numbers of a block of a folder: entries first, their names behind them.
fn dirents(block: &[u8]) -> Vec<(String, u64)> {
    let name_at = |index: usize| usize::from(Le(block).u16(index * DIRENT_BYTES + 8));
    let count = name_at(0).min(block.len()) / DIRENT_BYTES;
    let entry = |index: usize| {
        let start = name_at(index);
        let end = if index + 1 < count { name_at(index + 1) } else { block.len() };
        let name = text(part(block, start, end.saturating_sub(start)));
        (name, Le(block).u64(index * DIRENT_BYTES))
    };
    (0..count).map(entry).collect()
}
