//! A cpio archive (newc), as initramfs images are: its entries, and whatever follows it (another
//! archive, perhaps a compressed one: the kernel takes them one behind the other).

use super::{
    anatomy::{Anatomy, Part, field, follows},
    numbers::{hex, text},
    source::{Broken, Source, broken},
};

const HEADER_BYTES: usize = 110;
const NAME_MAX: u64 = 4096;
const TRAILER: &str = "TRAILER!!!";
/// Zeros behind an archive are looked through in pieces of so many bytes.
const PADDING_STEP: usize = 64 << 10;

pub(super) fn anatomy(source: &Source) -> Result<Anatomy, Broken> {
    let mut anatomy = Anatomy::default();
    let mut at = 0;
    loop {
        let entry = entry(source, at)?;
        let done = entry.name == TRAILER;
        let what =
            if done { "the trailer".to_owned() } else { format!("cpio entry {}", entry.name) };
        anatomy.places.push((at..entry.end, format!("header or padding of {what}")));
        at = entry.end;
        let part = Part::new(what, entry.fields);
        anatomy.parts.push(if done { part } else { part.any(entry.content) });
        if done {
            break;
        }
    }
    if let Some(next) = behind_padding(source, at)? {
        let rest = source.window(next, source.size() - next);
        anatomy.fields.push(follows("start of what is behind the archive", next));
        anatomy.parts.push(Part::new("behind the archive", Vec::new()).any(rest));
    }
    Ok(anatomy)
}

struct Entry {
    name: String,
    fields: Vec<super::anatomy::Field>,
    content: Source,
    /// Where the next one starts.
    end: u64,
}

fn entry(source: &Source, at: u64) -> Result<Entry, Broken> {
    let header = source.read(at, HEADER_BYTES)?;
    if !header.starts_with(b"07070") {
        return broken(format!("no cpio entry at {at}"));
    }
    let mut numbers = [0u64; 13];
    for (number, digits) in numbers.iter_mut().zip(header[6..].chunks_exact(8)) {
        let digits = str::from_utf8(digits).ok();
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(value) => *number = value.into(),
            None => return broken(format!("no number in the cpio header at {at}")),
        }
    }
    let [ino, mode, uid, gid, nlink, mtime, size, major, minor, rmajor, rminor, name, check] =
        numbers;
    if name > NAME_MAX {
        return broken(format!("a name of {name} bytes in the cpio header at {at}"));
    }
    let name_at = at + HEADER_BYTES as u64;
    let content_at = (name_at + name).next_multiple_of(4);
    let name = text(&source.read(name_at, name as usize)?);
    let content = source.pieces([super::source::Piece { at: Some(content_at), length: size }])?;
    let fields = vec![
        field("format", String::from_utf8_lossy(&header[..6])),
        field("mode", format!("{mode:06o}")),
        field("uid", uid),
        field("gid", gid),
        field("nlink", nlink),
        field("mtime", mtime),
        field("size", size),
        field("ino", ino),
        field("device", format!("{major}:{minor}")),
        field("rdev", format!("{rmajor}:{rminor}")),
        field("check", hex(check)),
    ];
    Ok(Entry { name, fields, content, end: (content_at + size).next_multiple_of(4) })
}

/// The first byte behind `at` that is not zero.
fn behind_padding(source: &Source, mut at: u64) -> Result<Option<u64>, Broken> {
    loop {
        let bytes = source.peek(at, PADDING_STEP)?;
        if let Some(first) = bytes.iter().position(|&byte| byte != 0) {
            return Ok(Some(at + first as u64));
        }
        if bytes.len() < PADDING_STEP {
            return Ok(None);
        }
        at += PADDING_STEP as u64;
    }
}
