//! A PE program's headers and sections. A UKI is one: each of its sections is a file for the boot.
//! Pure: bytes in, facts out, and no byte is trusted.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::manifest::Section;

/// Machine of x86-64.
pub const MACHINE_X86_64: u16 = 0x8664;
const SECTION_BYTES: usize = 40;

/// A program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pe<'a> {
    bytes: &'a [u8],
    /// The processor that it is for.
    pub machine: u16,
    /// When it was linked, or so it says.
    pub time_date_stamp: u32,
    /// Of the file; zero in a UKI.
    pub checksum: u32,
    /// Of the signatures behind all else; zero if there is none.
    pub signature_bytes: u32,
    /// Its sections: name and place in the file, without padding.
    pub sections: Vec<(String, Range<usize>)>,
}

/// Why bytes are no program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Something else.
    #[error("not an EFI program: {0}")]
    Other(&'static str),
    /// It ends too early.
    #[error("cut short: {what} ends at byte {end}, and there are {size}")]
    Short {
        /// What is not all there.
        what: String,
        /// Where it ends.
        end: u64,
        /// Bytes that there are.
        size: usize,
    },
}

impl<'a> Pe<'a> {
    /// Reads the headers.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if !bytes.starts_with(b"MZ") {
            return Err(Error::Other("it does not start with `MZ`"));
        }
        let header = u32_at(bytes, 60, "the DOS header")? as usize;
        if part(bytes, header, 4, "the PE header")? != b"PE\0\0" {
            return Err(Error::Other("it has no `PE` header"));
        }
        let coff = part(bytes, header + 4, 20, "the PE header")?;
        let sections = usize::from(u16::from_le_bytes([coff[2], coff[3]]));
        let optional = usize::from(u16::from_le_bytes([coff[16], coff[17]]));
        let table_at = header + 24 + optional;
        let table = part(bytes, table_at, sections * SECTION_BYTES, "the section table")?;
        let sections = table.chunks_exact(SECTION_BYTES).map(|row| section(bytes, row));
        Ok(Self {
            bytes,
            machine: u16::from_le_bytes([coff[0], coff[1]]),
            time_date_stamp: u32_at(coff, 4, "the PE header")?,
            checksum: u32_at(bytes, header + 24 + 64, "the PE header")?,
            signature_bytes: signature_bytes(part(bytes, header + 24, optional, "the PE header")?),
            sections: sections.collect::<Result<_, _>>()?,
        })
    }

    /// What is in the first section of that name.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        let (_, range) = self.sections.iter().find(|(own, _)| own == name)?;
        Some(&self.bytes[range.clone()])
    }

    /// The same as text: such sections may end in NUL and newline.
    pub fn text(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(self.section(name)?);
        Some(text.trim_end_matches(['\0', '\n']).to_owned())
    }

    /// All of them as the manifest says them.
    pub fn describe(&self) -> Vec<Section> {
        let describe = |(name, range): &(String, Range<usize>)| Section {
            name: name.clone(),
            size_bytes: range.len() as u64,
            sha256: hex::encode(Sha256::digest(&self.bytes[range.clone()])),
        };
        self.sections.iter().map(describe).collect()
    }
}

/// Size of the fifth entry of the data directory, where the optional header (PE32+) goes so far.
fn signature_bytes(optional: &[u8]) -> u32 {
    let field = |at: usize| {
        let bytes = optional.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("4 bytes")))
    };
    let entries = field(108).unwrap_or(0);
    field(112 + 4 * 8 + 4).filter(|_| entries > 4).unwrap_or(0)
}

fn section(bytes: &[u8], row: &[u8]) -> Result<(String, Range<usize>), Error> {
    let name: Vec<u8> = row[..8].iter().copied().take_while(|byte| *byte != 0).collect();
    let name = String::from_utf8_lossy(&name).into_owned();
    let field = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("4")) as usize;
    let (used, stored, at) = (field(8), field(16), field(20));
    // What is stored is padded to the file's alignment; what is used may be more, of zeros.
    let length = used.min(stored);
    if length == 0 {
        return Ok((name, 0..0));
    }
    part(bytes, at, length, &format!("section {name}"))?;
    Ok((name, at..at + length))
}

fn part<'a>(bytes: &'a [u8], at: usize, length: usize, what: &str) -> Result<&'a [u8], Error> {
    let end = at.saturating_add(length);
    bytes.get(at..end).ok_or_else(|| Error::Short {
        what: what.to_owned(),
        end: end as u64,
        size: bytes.len(),
    })
}

fn u32_at(bytes: &[u8], at: usize, what: &str) -> Result<u32, Error> {
    let bytes = part(bytes, at, 4, what)?;
    Ok(u32::from_le_bytes(bytes.try_into().expect("4 bytes")))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small program with these sections.
    pub(crate) fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let (header, optional) = (64usize, 112usize);
        let mut bytes = vec![0; header + 24 + optional + SECTION_BYTES * sections.len()];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[60..64].copy_from_slice(&(header as u32).to_le_bytes());
        bytes[header..header + 4].copy_from_slice(b"PE\0\0");
        bytes[header + 4..header + 6].copy_from_slice(&MACHINE_X86_64.to_le_bytes());
        bytes[header + 6..header + 8].copy_from_slice(&(sections.len() as u16).to_le_bytes());
        bytes[header + 8..header + 12].copy_from_slice(&1234u32.to_le_bytes());
        bytes[header + 20..header + 22].copy_from_slice(&(optional as u16).to_le_bytes());
        for (index, (name, content)) in sections.iter().enumerate() {
            let row = header + 24 + optional + SECTION_BYTES * index;
            let stored = content.len().next_multiple_of(512);
            let at = bytes.len().next_multiple_of(512);
            bytes[row..row + name.len()].copy_from_slice(name.as_bytes());
            for (field, number) in [(8, content.len()), (16, stored), (20, at)] {
                let field = row + field;
                bytes[field..field + 4].copy_from_slice(&(number as u32).to_le_bytes());
            }
            bytes.resize(at, 0);
            bytes.extend_from_slice(content);
            bytes.resize(at + stored, 0);
        }
        bytes
    }

    #[test]
    fn sections_are_said_without_their_padding() {
        let bytes = program(&[(".cmdline", b"rw\0"), (".linux", &[7; 600])]);
        let pe = Pe::parse(&bytes).unwrap();
        assert_eq!((pe.machine, pe.time_date_stamp, pe.checksum), (MACHINE_X86_64, 1234, 0));
        assert_eq!(pe.text(".cmdline").as_deref(), Some("rw"));
        assert_eq!(pe.section(".linux"), Some(&[7; 600][..]));
        assert_eq!(pe.section(".initrd"), None);
        let sizes: Vec<_> = pe.describe().into_iter().map(|s| (s.name, s.size_bytes)).collect();
        assert_eq!(sizes, [(".cmdline".to_owned(), 3), (".linux".to_owned(), 600)]);
    }

    #[test]
    fn a_program_cut_short_says_where() {
        let bytes = program(&[(".linux", &[7; 600])]);
        let said = Pe::parse(&bytes[..700]).unwrap_err().to_string();
        assert_eq!(said, "cut short: section .linux ends at byte 1112, and there are 700");
        assert!(Pe::parse(b"#!/bin/sh").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(cut in 0usize..1600, at in 0usize..400, byte: u8) {
            let mut bytes = program(&[(".cmdline", b"rw"), (".linux", &[7; 600])]);
            bytes[at] = byte;
            bytes.truncate(cut);
            if let Ok(pe) = Pe::parse(&bytes) {
                pe.describe();
            }
        }
    }
}
