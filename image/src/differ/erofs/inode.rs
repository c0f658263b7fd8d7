//! Inodes of erofs: short and long ones, their extended attributes, and where their content lies.

use std::ops::Range;

use super::Image;
use crate::differ::{
    anatomy::{Field, field, follows},
    numbers::{Le, hex, part, text},
    source::{Broken, Piece, Source, broken},
};

const SLOT_BYTES: u64 = 32;
/// Says "no block": zeros.
const NO_BLOCK: u32 = u32::MAX;
const CHUNK_INDEXES: u16 = 0x20;
const XATTR_HEADER_BYTES: usize = 12;

/// What an inode is, as far as reading it goes.
pub(super) enum Kind {
    File,
    Folder,
    Symlink,
    Special,
}

pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) fields: Vec<Field>,
    /// What it holds, or why that cannot be read.
    pub(super) content: Result<Source, String>,
    /// The bytes of the inode itself.
    pub(super) range: Range<u64>,
}

impl Inode {
    pub(super) fn read(image: &Image, nid: u64) -> Result<Self, Broken> {
        let at = nid.checked_mul(SLOT_BYTES).and_then(|at| at.checked_add(image.meta_at));
        let at = at.unwrap_or(u64::MAX);
        let format = Le(&image.source.read(at, 2)?).u16(0);
        let long = format & 1 != 0;
        let bytes = image.source.read(at, if long { 64 } else { 32 })?;
        let le = Le(&bytes);
        let (mode, xattr_count, data) = (le.u16(4), le.u16(2), le.u32(16));
        let size = if long { le.u64(8) } else { le.u32(8).into() };
        let layout = match format >> 1 & 7 {
            0 => Layout::Plain,
            2 => Layout::Inline,
            4 => Layout::Chunks,
            other => Layout::NotRead(other),
        };
        let xattr_bytes = match xattr_count {
            0 => 0,
            count => XATTR_HEADER_BYTES + (usize::from(count) - 1) * 4,
        };
        let xattr_at = at + bytes.len() as u64;
        let end = xattr_at + xattr_bytes as u64;
        let kind = match mode >> 12 {
            0o10 => Kind::File,
            0o04 => Kind::Folder,
            0o12 => Kind::Symlink,
            _ => Kind::Special,
        };
        let special = matches!(kind, Kind::Special);
        let mut fields = vec![field("mode", format!("{mode:06o}"))];
        let length = if long { "long" } else { "short" };
        let mtime = format!("{}.{:09}", le.u64(32), le.u32(40));
        let (uid, gid, nlink) = if long {
            (le.u32(24), le.u32(28), le.u32(44))
        } else {
            (le.u16(24).into(), le.u16(26).into(), le.u16(6).into())
        };
        fields.extend([
            field("uid", uid),
            field("gid", gid),
            // Short inodes have none of their own, and the superblock has said its own already.
            field("mtime", if long { &mtime } else { "build_time" }),
            field("nlink", nlink),
            // A folder is as big as the names in it, which are compared themselves.
            Field { follows: matches!(kind, Kind::Folder), ..field("size", size) },
            field("layout", format!("{length}, {}", layout.name())),
            follows("ino", le.u32(20)),
            follows("nid", nid),
        ]);
        fields.push(if special {
            field("rdev", hex(data))
        } else if matches!(layout, Layout::Chunks) {
            field("chunk format", hex(le.u16(16)))
        } else {
            follows("block", data as i32)
        });
        fields.extend(xattrs(image, xattr_at, xattr_bytes)?);
        let content = match layout.pieces(image, size, end, data) {
            Ok(pieces) => image.source.pieces(pieces),
            Err(why) => Err(why),
        };
        let content = match content {
            Ok(content) => Ok(content),
            Err(Broken::Format(why)) => Err(why),
            Err(error) => return Err(error),
        };
        Ok(Self { kind, fields, content, range: at..end })
    }
}

enum Layout {
    Plain,
    Inline,
    Chunks,
    /// Compressed.
    NotRead(u16),
}

impl Layout {
    fn name(&self) -> String {
        match self {
            Self::Plain => "plain".into(),
            Self::Inline => "inline".into(),
            Self::Chunks => "chunks".into(),
            Self::NotRead(number) => format!("number {number}"),
        }
    }

    /// Where the content lies. The inode and its attributes stop at `end`.
    fn pieces(&self, image: &Image, size: u64, end: u64, data: u32) -> Result<Vec<Piece>, Broken> {
        let block =
            |number: u32| (number != NO_BLOCK).then_some(u64::from(number) << image.block_bits);
        match self {
            Self::Plain => Ok(vec![Piece { at: block(data), length: size }]),
            Self::Inline => {
                let tail_from = size.saturating_sub(1) >> image.block_bits << image.block_bits;
                Ok(vec![
                    Piece { at: block(data), length: tail_from },
                    Piece { at: Some(end), length: size - tail_from },
                ])
            }
            Self::Chunks => chunks(image, size, end, data as u16),
            Self::NotRead(number) => broken(format!("layout {number} is not read")),
        }
    }
}

/// Files in chunks of equal size, each with its place in a table behind the inode.
fn chunks(image: &Image, size: u64, end: u64, format: u16) -> Result<Vec<Piece>, Broken> {
    let chunk = 1u64 << (u64::from(image.block_bits) + u64::from(format & 0x1f));
    let count = size.div_ceil(chunk);
    // An index has the upper half of the block's number and a device in front of the lower half.
    let (entry_bytes, number_at) = if format & CHUNK_INDEXES != 0 { (8, 4) } else { (4, 0) };
    let table_bytes = count.saturating_mul(entry_bytes);
    if table_bytes > image.source.size() {
        return broken(format!("{count} chunks do not fit into the image"));
    }
    let table = image.source.read(end.next_multiple_of(entry_bytes), table_bytes as usize)?;
    let pieces = table.chunks_exact(entry_bytes as usize).zip(0..).map(|(entry, index)| {
        let number = Le(entry).u32(number_at);
        let at = (number != NO_BLOCK).then_some(u64::from(number) << image.block_bits);
        Piece { at, length: chunk.min(size - index * chunk) }
    });
    Ok(pieces.collect())
}

/// Extended attributes: those that files share, then the inode's own.
fn xattrs(image: &Image, at: u64, length: usize) -> Result<Vec<Field>, Broken> {
    if length == 0 {
        return Ok(Vec::new());
    }
    let bytes = image.source.read(at, length)?;
    let shared = usize::from(Le(&bytes).u8(4));
    let mut fields = vec![follows("xattr name filter", hex(Le(&bytes).u32(0)))];
    for index in 0..shared {
        let id = Le(&bytes).u32(XATTR_HEADER_BYTES + index * 4);
        let at = image.xattr_at + u64::from(id) * 4;
        let head = image.source.read(at, 4)?;
        let entry = image.source.read(at, xattr_size(&head))?;
        fields.push(xattr(&entry));
    }
    let mut rest = part(&bytes, XATTR_HEADER_BYTES + shared * 4, length);
    while rest.len() >= 4 {
        let size = xattr_size(rest);
        if size > rest.len() {
            return broken(format!("an extended attribute at {at} ends behind its inode"));
        }
        fields.push(xattr(&rest[..size]));
        rest = part(rest, size.next_multiple_of(4), rest.len());
    }
    Ok(fields)
}

fn xattr_size(head: &[u8]) -> usize {
    4 + usize::from(Le(head).u8(0)) + usize::from(Le(head).u16(2))
}

fn xattr(entry: &[u8]) -> Field {
    let name_length = usize::from(Le(entry).u8(0));
    let prefix = match Le(entry).u8(1) {
        1 => "user.".into(),
        2 => "system.posix_acl_access".into(),
        3 => "system.posix_acl_default".into(),
        4 => "trusted.".into(),
        6 => "security.".into(),
        other => format!("({other})."),
    };
    let name = text(part(entry, 4, name_length));
    field(format!("xattr {prefix}{name}"), part(entry, 4 + name_length, entry.len()).escape_ascii())
}
