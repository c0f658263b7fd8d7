//! Compressed files: their headers, and what is in them.

use std::{
    env,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
};

use flate2::read::MultiGzDecoder;

use super::{
    anatomy::{Field, field},
    kind::Kind,
    numbers::{Le, array, hex, part, text},
    source::{Broken, Source, broken},
};

/// What is bigger than that goes to a file with holes.
const MEMORY_MAX: u64 = 64 << 20;
/// What is bigger than that is not unpacked: no artefact is.
const SIZE_MAX: u64 = 256 << 30;
const BLOCK_BYTES: usize = 64 << 10;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

pub(super) fn is_zstd(head: &[u8]) -> bool {
    let magic = Le(head).u32(0);
    magic == 0xfd2f_b528 || (magic & 0xffff_fff0 == 0x184d_2a50 && head.len() >= 8)
}

/// The header's fields and the content of a `zstd` or gzip file.
pub(super) fn unpack(kind: Kind, source: &Source) -> Result<(Vec<Field>, Source), Broken> {
    let head = source.peek(0, 512)?;
    let packed = BufReader::with_capacity(1 << 20, source.reader());
    if kind == Kind::Gzip {
        Ok((gzip_fields(&head), content(MultiGzDecoder::new(packed))?))
    } else {
        let decoder = zstd::Decoder::with_buffer(packed)?;
        Ok((zstd_fields(&head), content(decoder)?))
    }
}

/// The header of the first frame (RFC 8878, 3.1.1.1).
fn zstd_fields(head: &[u8]) -> Vec<Field> {
    let magic = Le(head).u32(0);
    let descriptor = Le(head).u8(4);
    let single = descriptor & 0x20 != 0;
    let window = (!single).then(|| Le(head).u8(5));
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = match descriptor >> 6 {
        0 => usize::from(single),
        flag => 1 << flag,
    };
    let dictionary_at = 5 + usize::from(!single);
    let size_at = dictionary_at + dictionary_bytes;
    let number = |at, length| u64::from_le_bytes(array(part(head, at, length), 0));
    let size = match size_bytes {
        0 => "none".to_owned(),
        2 => (number(size_at, 2) + 256).to_string(),
        length => number(size_at, length).to_string(),
    };
    vec![
        field("magic", hex(magic)),
        field("frame header descriptor", hex(descriptor)),
        field("content checksum", descriptor & 4 != 0),
        field("window descriptor", window.map_or("none".to_owned(), hex)),
        field("dictionary id", number(dictionary_at, dictionary_bytes)),
        field("frame content size", size),
    ]
}

/// The header of the first member (RFC 1952).
fn gzip_fields(head: &[u8]) -> Vec<Field> {
    let le = Le(head);
    let flags = le.u8(3);
    let mut fields = vec![
        field("flags", hex(flags)),
        field("mtime", le.u32(4)),
        field("extra flags", le.u8(8)),
        field("operating system", le.u8(9)),
    ];
    if flags & 0b1100 == 0b1000 {
        fields.push(field("file name", text(part(head, 10, 256))));
    }
    fields
}

fn content(mut from: impl Read) -> Result<Source, Broken> {
    let mut bytes = Vec::new();
    if let Err(error) = from.by_ref().take(MEMORY_MAX + 1).read_to_end(&mut bytes) {
        return broken(format!("cannot be unpacked: {error}"));
    }
    if bytes.len() as u64 <= MEMORY_MAX {
        return Ok(Source::bytes(bytes));
    }
    // /var/tmp, for /tmp often lives in memory.
    let folder = env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into());
    let mut file = tempfile::tempfile_in(folder)?;
    let mut size = 0;
    let mut write = |block: &[u8]| -> io::Result<u64> {
        size += block.len() as u64;
        if *block == ZEROS[..block.len()] {
            file.seek(SeekFrom::Current(block.len() as i64))?;
        } else {
            file.write_all(block)?;
        }
        Ok(size)
    };
    for block in bytes.chunks(BLOCK_BYTES) {
        write(block)?;
    }
    bytes.resize(BLOCK_BYTES, 0);
    loop {
        let length = match from.read(&mut bytes[..BLOCK_BYTES]) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => return broken(format!("cannot be unpacked: {error}")),
        };
        if write(&bytes[..length])? > SIZE_MAX {
            return broken(format!("unpacks to more than {SIZE_MAX} bytes"));
        }
    }
    file.set_len(size)?;
    Ok(Source::file(file)?)
}
