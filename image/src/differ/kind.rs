//! What something is, by its magic, and taking it apart.

use std::{fmt, io};

use super::{
    anatomy::{Anatomy, Part},
    cpio, elf, erofs, fat, gpt,
    numbers::Le,
    pe, qcow2,
    source::{Broken, Source},
    text, unpack, verity,
};

/// A format that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Empty,
    Gpt,
    Fat,
    Erofs,
    Verity,
    Qcow2,
    Pe,
    Elf,
    Cpio,
    Zstd,
    Gzip,
    Json,
    Text,
    Unknown,
}

impl Kind {
    pub(super) fn of(source: &Source) -> io::Result<Self> {
        let head = source.peek(0, 8192)?;
        let le = Le(&head);
        let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|b| b.starts_with(magic));
        Ok(if head.is_empty() {
            Self::Empty
        } else if has(512, gpt::MAGIC) || has(4096, gpt::MAGIC) {
            Self::Gpt
        } else if has(0, b"QFI\xfb") {
            Self::Qcow2
        } else if has(0, b"verity\0\0") {
            Self::Verity
        } else if has(0, b"\x7fELF") {
            Self::Elf
        } else if has(0, b"070701") || has(0, b"070702") {
            Self::Cpio
        } else if unpack::is_zstd(&head) {
            Self::Zstd
        } else if has(0, b"\x1f\x8b\x08") {
            Self::Gzip
        } else if has(0, b"MZ") && pe::has_header(source)? {
            Self::Pe
        } else if le.u32(1024) == erofs::MAGIC {
            Self::Erofs
        } else if fat::is_fat(&head) {
            Self::Fat
        } else if text::is_json(source)? {
            Self::Json
        } else if text::is_text(source)? {
            Self::Text
        } else {
            Self::Unknown
        })
    }

    /// Takes `source` apart, if this kind has parts.
    pub(super) fn anatomy(self, source: &Source) -> Result<Option<Anatomy>, Broken> {
        let anatomy = match self {
            Self::Gpt => gpt::anatomy(source)?,
            Self::Fat => fat::anatomy(source)?,
            Self::Erofs => erofs::anatomy(source)?,
            Self::Verity => verity::anatomy(source)?,
            Self::Qcow2 => qcow2::anatomy(source)?,
            Self::Pe => pe::anatomy(source)?,
            Self::Elf => elf::anatomy(source)?,
            Self::Cpio => cpio::anatomy(source)?,
            Self::Zstd | Self::Gzip => {
                let (fields, content) = unpack::unpack(self, source)?;
                let part = Part::new("content", Vec::new()).any(content);
                Anatomy { fields, parts: vec![part], ..Anatomy::default() }
            }
            Self::Empty | Self::Json | Self::Text | Self::Unknown => return Ok(None),
        };
        Ok(Some(anatomy.with_distinct_keys()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "nothing",
            Self::Gpt => "GPT disk",
            Self::Fat => "FAT file system",
            Self::Erofs => "erofs",
            Self::Verity => "verity hash tree",
            Self::Qcow2 => "qcow2 disk",
            Self::Pe => "PE program",
            Self::Elf => "ELF",
            Self::Cpio => "cpio archive",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Unknown => "bytes",
        })
    }
}
