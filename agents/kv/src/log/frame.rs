//! The form of a segment: what is where, and what can be believed of it.
//!
//! ```text
//!   block 0   header   magic 8  cluster 8  member 8  sequence 8  salt 8  previous 4  zero 16  crc 4
//!   block 1   batch    record record record      zeros up to the end of a block
//!   block n   batch    record ...
//!
//!   record    length 4  crc 4  previous 4  batch 4  before 4  zero 4  payload
//! ```
//!
//! Numbers are little-endian, and a record has zeros behind it up to a multiple of 8. It has the
//! checksum (CRC-32C) of itself, seeded by the salt of its segment, the checksum of the record before
//! it, where its batch begins, and the checksum of the last record before that batch. So a record can
//! be told for one wherever it stands, and a value that looks like one cannot pass for it, since
//! nobody but the member knows the salt.
//!
//! A batch is written when the one before it is on the disk. Where a record is missing and a later
//! batch is there, something was lost that had been acknowledged: damage. Where nothing but pieces of
//! the same batch are behind it, power failed while that batch was written, and nobody was told that
//! it is safe: a torn end, which is cut. A last batch that was damaged after it was written cannot be
//! told from one that was torn.

use std::ops::Range;

use super::Owner;

/// What a batch begins at a multiple of: nothing that a disk writes at once is larger.
pub const BLOCK: u64 = 4096;
/// Where the first batch begins.
pub const HEADER_BLOCK: u64 = BLOCK;

const MAGIC: &[u8; 8] = b"PithKV\0\x01";
const HEADER_BYTES: usize = 64;
const RECORD_HEADER: usize = 24;
const ALIGN: usize = 8;

/// What is wrong with a segment, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first byte that is not believed.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// What is known of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose it is.
    pub owner: Owner,
    /// Its place among all.
    pub sequence: u64,
    /// What makes its checksums its own.
    pub salt: u64,
    /// The checksum of the last record of the segment before.
    pub previous: u32,
}

impl Header {
    /// As it is in the segment.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [self.owner.cluster, self.owner.member, self.sequence, self.salt] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.previous.to_le_bytes());
        bytes.resize(HEADER_BYTES - 4, 0);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// The header of a segment.
    pub fn read(segment: &[u8]) -> Result<Self, Damage> {
        let damage = |what| Damage { offset: 0, what };
        let bytes = segment.get(..HEADER_BYTES).ok_or(damage("it is too short"))?;
        if &bytes[..8] != MAGIC {
            return Err(damage("it is no segment of a log, or of a later version of it"));
        }
        if crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) != u32_at(bytes, HEADER_BYTES - 4) {
            return Err(damage("its header has not the checksum that it had"));
        }
        Ok(Self {
            owner: Owner { cluster: u64_at(bytes, 8), member: u64_at(bytes, 16) },
            sequence: u64_at(bytes, 24),
            salt: u64_at(bytes, 32),
            previous: u32_at(bytes, 40),
        })
    }
}

/// What a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where its records have what they say.
    pub payloads: Vec<Range<usize>>,
    /// Where the last of them ends.
    pub end: u64,
    /// The checksum of that one.
    pub chain: u32,
}

/// Reads a segment as far as each record says that it follows the one before.
pub fn read(segment: &[u8], header: &Header) -> Read {
    let mut read = Read { payloads: Vec::new(), end: HEADER_BLOCK, chain: header.previous };
    let follows = |at: u64, chain: u32| {
        Record::at(segment, at, header.salt).filter(|record| record.previous == chain)
    };
    loop {
        // The next one is beside it in the same batch, or in the next block.
        let beside = follows(read.end, read.chain);
        let Some(record) = beside.or_else(|| follows(next_block(read.end), read.chain)) else {
            return read;
        };
        read.end = record.end;
        read.chain = record.crc;
        read.payloads.push(record.payload);
    }
}

/// Whether nothing but what was torn is behind the end of the last segment.
pub fn check_tail(segment: &[u8], header: &Header, read: &Read) -> Result<(), Damage> {
    let mut at = read.end;
    while let Some(word) = segment.get(at as usize..at as usize + ALIGN) {
        // Most of it is zeros.
        let record = (word != [0; ALIGN]).then(|| Record::at(segment, at, header.salt)).flatten();
        let is_torn = |record: Record| {
            let is_of_last = record.batch <= read.end;
            let is_next = record.batch == next_block(read.end) && record.before == read.chain;
            is_of_last || is_next
        };
        if !record.is_none_or(is_torn) {
            let what = "a record is not whole that later ones follow";
            return Err(Damage { offset: read.end, what });
        }
        at += ALIGN as u64;
    }
    Ok(())
}

/// How many bytes a batch has.
pub fn batch_bytes<R: AsRef<[u8]>>(records: &[R]) -> u64 {
    let bytes = records.iter().map(|is| aligned(RECORD_HEADER + is.as_ref().len())).sum::<usize>();
    next_block(bytes as u64)
}

/// A batch as it is in a segment at `start`, and the checksum of its last record.
pub fn batch<R: AsRef<[u8]>>(
    records: &[R],
    start: u64,
    salt: u64,
    mut chain: u32,
) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(batch_bytes(records) as usize);
    let before = chain;
    for payload in records.iter().map(AsRef::as_ref) {
        assert!(!payload.is_empty(), "a record says something");
        let length = (payload.len() as u32).to_le_bytes();
        let place = [chain, start as u32, before, 0].map(u32::to_le_bytes).concat();
        chain = checksum(salt, &length, &place, payload);
        bytes.extend(length);
        bytes.extend(chain.to_le_bytes());
        bytes.extend(place);
        bytes.extend(payload);
        bytes.resize(aligned(bytes.len()), 0);
    }
    bytes.resize(next_block(bytes.len() as u64) as usize, 0);
    (bytes, chain)
}

/// The beginning of the block that begins at a place, or behind it.
pub fn next_block(at: u64) -> u64 {
    at.next_multiple_of(BLOCK)
}

/// A record that has its checksum.
struct Record {
    payload: Range<usize>,
    end: u64,
    crc: u32,
    previous: u32,
    batch: u64,
    before: u32,
}

impl Record {
    fn at(segment: &[u8], at: u64, salt: u64) -> Option<Self> {
        let at = at as usize;
        let header = segment.get(at..at.checked_add(RECORD_HEADER)?)?;
        let length = u32_at(header, 0) as usize;
        let payload = at + RECORD_HEADER..(at + RECORD_HEADER).checked_add(length)?;
        let content = segment.get(payload.clone()).filter(|content| !content.is_empty())?;
        let crc = u32_at(header, 4);
        if checksum(salt, &header[..4], &header[8..], content) != crc {
            return None;
        }
        let end = aligned(payload.end) as u64;
        Some(Self {
            payload,
            end,
            crc,
            previous: u32_at(header, 8),
            batch: u32_at(header, 12).into(),
            before: u32_at(header, 16),
        })
    }
}

fn checksum(salt: u64, length: &[u8], place: &[u8], payload: &[u8]) -> u32 {
    let seeded = crc32c::crc32c(&salt.to_le_bytes());
    [length, place, payload].into_iter().fold(seeded, crc32c::crc32c_append)
}

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
