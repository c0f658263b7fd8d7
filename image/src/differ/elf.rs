//! An ELF program, library or kernel module: its sections.

use super::{
    anatomy::{Anatomy, Content, Part, field, follows},
    numbers::{Le, hex, part, text},
    source::{Broken, Source, broken},
};

/// Takes no room in the file.
const NOBITS: u32 = 8;

pub(super) fn anatomy(source: &Source) -> Result<Anatomy, Broken> {
    let header = source.read(0, 64)?;
    let le = Le(&header);
    if header[4] != 2 || header[5] != 1 {
        return broken("not a 64-bit little-endian ELF");
    }
    let mut anatomy = Anatomy::of(vec![
        field("OS ABI", le.u8(7)),
        field("type", le.u16(16)),
        field("machine", le.u16(18)),
        field("flags", hex(le.u32(48))),
        follows("entry point", hex(le.u64(24))),
    ]);
    anatomy.places.push((0..64, "ELF header".into()));
    let (at, size) = (le.u64(40), usize::from(le.u16(58)));
    let (count, names) = (usize::from(le.u16(60)), usize::from(le.u16(62)));
    if count == 0 || size != 64 {
        return Ok(anatomy);
    }
    let table = source.read(at, count * size)?;
    anatomy.places.push((at..at + table.len() as u64, "section headers".into()));
    let rows: Vec<Le<'_>> = table.chunks_exact(size).map(Le).collect();
    let names = match rows.get(names) {
        Some(row) => source.window(row.u64(24), row.u64(32)).peek(0, 1 << 20)?,
        None => Vec::new(),
    };
    for row in rows {
        let (kind, at, length) = (row.u32(4), row.u64(24), row.u64(32));
        if kind == 0 {
            continue;
        }
        let name = text(part(&names, row.u32(0) as usize, 256));
        let fields = vec![
            field("type", kind),
            field("flags", hex(row.u64(8))),
            follows("address", hex(row.u64(16))),
            follows("size", length),
        ];
        let section = Part::new(format!("section {name}"), fields);
        anatomy.parts.push(if kind == NOBITS {
            section
        } else {
            section.content(Content::Bytes(source.window(at, length)))
        });
    }
    Ok(anatomy)
}
