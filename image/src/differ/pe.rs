//! A PE program, which a UKI is too: headers, and sections with their content.

use std::io;

use super::{
    anatomy::{Anatomy, Content, Part, field, follows},
    numbers::{Le, hex, part, text},
    source::{Broken, Source, broken},
};

/// Directories of the optional header, in its order.
const DIRECTORIES: [&str; 16] = [
    "export",
    "import",
    "resource",
    "exception",
    "security",
    "relocation",
    "debug",
    "architecture",
    "global pointer",
    "TLS",
    "load config",
    "bound import",
    "IAT",
    "delay import",
    "CLR",
    "reserved",
];
const SECURITY: usize = 4;

/// Whether the PE header is where the DOS header says.
pub(super) fn has_header(source: &Source) -> io::Result<bool> {
    let dos = source.peek(0, 64)?;
    Ok(dos.len() == 64 && source.peek(Le(&dos).u32(60).into(), 4)? == b"PE\0\0")
}

pub(super) fn anatomy(source: &Source) -> Result<Anatomy, Broken> {
    let dos = source.read(0, 64)?;
    let coff_at = u64::from(Le(&dos).u32(60)) + 4;
    let coff = source.read(coff_at, 20)?;
    let le = Le(&coff);
    let (sections, optional_size) = (usize::from(le.u16(2)), usize::from(le.u16(16)));
    let mut anatomy = Anatomy::of(vec![
        field("Machine", hex(le.u16(0))),
        field("NumberOfSections", sections),
        field("TimeDateStamp", le.u32(4)),
        field("PointerToSymbolTable", le.u32(8)),
        field("NumberOfSymbols", le.u32(12)),
        field("Characteristics", hex(le.u16(18))),
    ]);
    let optional_at = coff_at + 20;
    let optional = source.read(optional_at, optional_size)?;
    optional_header(source, &optional, &mut anatomy);
    anatomy.places.push((0..coff_at, "DOS header and stub".into()));
    anatomy.places.push((coff_at..optional_at + optional_size as u64, "PE header".into()));

    let table_at = optional_at + optional_size as u64;
    let table = source.read(table_at, 40 * sections)?;
    anatomy.places.push((table_at..table_at + table.len() as u64, "section table".into()));
    for row in table.chunks_exact(40) {
        let le = Le(row);
        let name = text(part(row, 0, 8));
        let (used, raw_size, raw_at) = (le.u32(8), le.u32(16), u64::from(le.u32(20)));
        if raw_at + u64::from(raw_size) > source.size() {
            return broken(format!("section {name} ends behind the file"));
        }
        // What is behind the used part is padding, and not of the section's text.
        let content = source.window(raw_at, raw_size.min(used).into());
        let fields = vec![
            field("Characteristics", hex(le.u32(36))),
            field("VirtualSize", used),
            follows("VirtualAddress", hex(le.u32(12))),
            follows("SizeOfRawData", raw_size),
            follows("PointerToRawData", raw_at),
            follows("relocations and line numbers", hex::encode(part(row, 24, 12))),
        ];
        anatomy.places.push((raw_at..raw_at + u64::from(raw_size), format!("padding of {name}")));
        anatomy.parts.push(Part::new(format!("section {name}"), fields).any(content));
    }
    Ok(anatomy)
}

fn optional_header(source: &Source, optional: &[u8], anatomy: &mut Anatomy) {
    if optional.is_empty() {
        return;
    }
    let le = Le(optional);
    let wide = le.u16(0) == 0x20b;
    let base = if wide { le.u64(24) } else { le.u32(28).into() };
    anatomy.fields.extend([
        field("Magic", hex(le.u16(0))),
        field("LinkerVersion", format!("{}.{}", le.u8(2), le.u8(3))),
        field("AddressOfEntryPoint", hex(le.u32(16))),
        field("ImageBase", hex(base)),
        field("SectionAlignment", le.u32(32)),
        field("FileAlignment", le.u32(36)),
        field("OperatingSystemVersion", format!("{}.{}", le.u16(40), le.u16(42))),
        field("ImageVersion", format!("{}.{}", le.u16(44), le.u16(46))),
        field("SubsystemVersion", format!("{}.{}", le.u16(48), le.u16(50))),
        field("Win32VersionValue", le.u32(52)),
        field("Subsystem", le.u16(68)),
        field("DllCharacteristics", hex(le.u16(70))),
        follows("SizeOfCode", le.u32(4)),
        follows("SizeOfInitializedData", le.u32(8)),
        follows("SizeOfUninitializedData", le.u32(12)),
        follows("BaseOfCode", hex(le.u32(20))),
        follows("SizeOfImage", le.u32(56)),
        follows("SizeOfHeaders", le.u32(60)),
        follows("CheckSum", hex(le.u32(64))),
    ]);
    let (stack, at) = if wide { (72..104, 112) } else { (72..88, 96) };
    let sizes = hex::encode(part(optional, stack.start, stack.len()));
    anatomy.fields.push(field("stack and heap sizes", sizes));
    for (number, name) in DIRECTORIES.iter().enumerate() {
        let (address, size) = (le.u32(at + number * 8), le.u32(at + number * 8 + 4));
        let value = format!("{size} bytes at {address:#x}");
        anatomy.fields.push(follows(format!("{name} directory"), value));
        if number == SECURITY && size > 0 {
            let signature = Content::Bytes(source.window(address.into(), size.into()));
            anatomy.parts.push(Part::new("signature", Vec::new()).content(signature));
        }
    }
}
