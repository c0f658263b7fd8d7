//! Directory entries of FAT: short ones, and the long names in front of them.

use crate::differ::{
    anatomy::{Field, field, follows},
    numbers::{Le, hex, part},
};

const DELETED: u8 = 0xe5;
const LONG_NAME: u8 = 0x0f;
const LABEL: u8 = 0x08;
const FOLDER: u8 = 0x10;

/// A file, a folder, or the volume label.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    pub(super) cluster: u32,
    pub(super) size: u64,
    attributes: u8,
}

impl Entry {
    pub(super) fn is_label(&self) -> bool {
        self.attributes & LABEL != 0
    }

    pub(super) fn is_folder(&self) -> bool {
        self.attributes & FOLDER != 0
    }
}

/// The entries that a folder's bytes hold.
pub(super) fn entries(folder: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut long = Vec::new();
    for row in folder.chunks_exact(32) {
        match (row[0], row[11]) {
            (0, _) => break,
            (DELETED, _) => long.clear(),
            (_, attributes) if attributes & 0x3f == LONG_NAME => long.push(row),
            _ => {
                found.push(entry(row, &long));
                long.clear();
            }
        }
    }
    found
}

fn entry(row: &[u8], long: &[&[u8]]) -> Entry {
    let le = Le(row);
    let short = short_name(row);
    // Parts of a long name stand in front of the short one, the last part first.
    let units = long
        .iter()
        .rev()
        .flat_map(|row| [part(row, 1, 10), part(row, 14, 12), part(row, 28, 4)].concat());
    let units: Vec<u8> = units.collect();
    let units = units.chunks_exact(2).map(|two| Le(two).u16(0)).take_while(|&unit| unit != 0);
    let long: String =
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let name = if long.is_empty() { short.clone() } else { long.escape_debug().to_string() };
    let attributes = le.u8(11);
    let (size, cluster) = (le.u32(28), u32::from(le.u16(20)) << 16 | u32::from(le.u16(26)));
    let fields = vec![
        field("short name", &short),
        field("attributes", hex(attributes)),
        field("case", hex(le.u8(12))),
        field("created", format!("{} {}.{:02}", date(le.u16(16)), time(le.u16(14)), le.u8(13))),
        field("accessed", date(le.u16(18))),
        field("modified", format!("{} {}", date(le.u16(24)), time(le.u16(22)))),
        field("size", size),
        follows("first cluster", cluster),
    ];
    Entry { name, fields, cluster, size: size.into(), attributes }
}

fn short_name(row: &[u8]) -> String {
    let show = |bytes: &[u8]| bytes.trim_ascii_end().escape_ascii().to_string();
    if row[11] & LABEL != 0 {
        return show(&row[..11]);
    }
    let (stem, extension) = (show(&row[..8]), show(&row[8..11]));
    // Names in small letters are stored in capitals, with a bit that says so.
    let case = |text: String, bit: u8| if row[12] & bit != 0 { text.to_lowercase() } else { text };
    let (stem, extension) = (case(stem, 0x08), case(extension, 0x10));
    if extension.is_empty() { stem } else { format!("{stem}.{extension}") }
}

fn date(date: u16) -> String {
    format!("{:04}-{:02}-{:02}", 1980 + (date >> 9), date >> 5 & 15, date & 31)
}

fn time(time: u16) -> String {
    format!("{:02}:{:02}:{:02}", time >> 11, time >> 5 & 63, (time & 31) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_people_read() {
        assert_eq!(date(46 << 9 | 11 << 5 | 21), "2026-11-21");
        assert_eq!(time(9 << 11 | 30 << 5 | 29), "09:30:58");
    }
}
