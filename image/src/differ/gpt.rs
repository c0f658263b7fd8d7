//! A GPT disk: protective MBR, header, entries, partitions, and the backup at the end.

use uuid::Uuid;

use super::{
    anatomy::{Anatomy, Content, Field, Part, field, follows},
    numbers::{Le, array, hex, part},
    source::{Broken, Source, broken},
};

pub(super) const MAGIC: &[u8] = b"EFI PART";

const ENTRIES_MAX: u64 = 1024;

pub(super) fn anatomy(source: &Source) -> Result<Anatomy, Broken> {
    let sector: u64 = if source.peek(512, 8)? == MAGIC { 512 } else { 4096 };
    let mbr = source.read(0, 512)?;
    let header = source.read(sector, 512)?;
    let le = Le(&header);
    let (entries_at, count, size) = (le.u64(72), u64::from(le.u32(80)), u64::from(le.u32(84)));
    if !(128..=4096).contains(&size) || count > ENTRIES_MAX {
        return broken(format!("{count} GPT entries of {size} bytes"));
    }
    let entries_at = entries_at.saturating_mul(sector);
    let entries = source.read(entries_at, (count * size) as usize)?;

    let mut anatomy = Anatomy::default();
    anatomy.fields.push(field("sector size", sector));
    anatomy.fields.extend(mbr_fields(&mbr));
    anatomy.fields.extend(header_fields(&header, "GPT header"));
    anatomy.places.extend([
        (0..512, "MBR".to_owned()),
        (512..sector, "behind the MBR".to_owned()),
        (sector..2 * sector, "GPT header".to_owned()),
        (entries_at..entries_at + count * size, "GPT entries".to_owned()),
    ]);
    for (number, entry) in (1..).zip(entries.chunks_exact(size as usize)) {
        if entry.iter().all(|&byte| byte == 0) {
            continue;
        }
        let le = Le(entry);
        let (first, last) = (le.u64(32), le.u64(40));
        let label = label(part(entry, 56, 72));
        let start = first.saturating_mul(sector);
        let length = last.saturating_add(1).saturating_sub(first).saturating_mul(sector);
        let fields = vec![
            field("type GUID", guid(entry, 0)),
            field("partition GUID", guid(entry, 16)),
            field("label", &label),
            field("start", start),
            field("size", length),
            field("attributes", hex(le.u64(48))),
            field("entry past its label", hex::encode(part(entry, 128, size as usize))),
        ];
        let title = format!("partition {number} ({label})");
        let content = source.window(start, length);
        anatomy.parts.push(Part::new(title, fields).key(number.to_string()).any(content));
        anatomy.places.push((start..start.saturating_add(length), format!("partition {number}")));
    }
    backup(source, &mut anatomy, le.u64(32).saturating_mul(sector), sector, count * size)?;
    Ok(anatomy)
}

/// The second header, and the entries that it points to. Both follow from the first ones.
fn backup(
    source: &Source,
    anatomy: &mut Anatomy,
    at: u64,
    sector: u64,
    entries_bytes: u64,
) -> Result<(), Broken> {
    let header = source.peek(at, 512)?;
    if !header.starts_with(MAGIC) {
        anatomy.fields.push(field("backup GPT header", "none"));
        return Ok(());
    }
    let fields = header_fields(&header, "backup GPT header").into_iter();
    anatomy.fields.extend(fields.map(|field| Field { follows: true, ..field }));
    let entries_at = Le(&header).u64(72).saturating_mul(sector);
    let entries = Content::Blocks(source.window(entries_at, entries_bytes), 128, "entry from 0:");
    anatomy.parts.push(Part::new("backup GPT entries", Vec::new()).content(entries).follows());
    anatomy.places.extend([
        (at..at.saturating_add(sector), "backup GPT header".to_owned()),
        (entries_at..entries_at.saturating_add(entries_bytes), "backup GPT entries".to_owned()),
    ]);
    Ok(())
}

fn mbr_fields(mbr: &[u8]) -> Vec<Field> {
    let mut fields = vec![
        field("MBR boot code", hex::encode(part(mbr, 0, 440).trim_ascii_end())),
        field("MBR disk signature", hex(Le(mbr).u32(440))),
        field("MBR signature", hex(Le(mbr).u16(510))),
    ];
    for (number, record) in (1..=4).zip(part(mbr, 446, 64).chunks_exact(16)) {
        let le = Le(record);
        let name = |what: &str| format!("MBR partition {number} {what}");
        fields.extend([
            field(name("boot flag"), hex(le.u8(0))),
            field(name("type"), hex(le.u8(4))),
            field(name("first sector"), le.u32(8)),
            field(name("sectors"), le.u32(12)),
            field(name("CHS"), hex::encode([part(record, 1, 3), part(record, 5, 3)].concat())),
        ]);
    }
    fields
}

fn header_fields(header: &[u8], whose: &str) -> Vec<Field> {
    let le = Le(header);
    let name = |what: &str| format!("{whose} {what}");
    vec![
        field(name("revision"), hex(le.u32(8))),
        field(name("size"), le.u32(12)),
        field(name("disk GUID"), guid(header, 56)),
        field(name("own sector"), le.u64(24)),
        field(name("other header's sector"), le.u64(32)),
        field(name("first usable sector"), le.u64(40)),
        field(name("last usable sector"), le.u64(48)),
        field(name("entries' sector"), le.u64(72)),
        field(name("number of entries"), le.u32(80)),
        field(name("size of an entry"), le.u32(84)),
        follows(name("checksum"), hex(le.u32(16))),
        follows(name("entries' checksum"), hex(le.u32(88))),
    ]
}

fn guid(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_bytes_le(array(bytes, at))
}

fn label(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|two| Le(two).u16(0)).take_while(|&unit| unit != 0);
    let text: String =
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.escape_debug().to_string()
}
