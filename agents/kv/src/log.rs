//! The write-ahead log: records that are on the disk when they are acknowledged, in order.
//!
//! What is in a record is not the log's business. Records are written in batches, each with one write
//! and one sync, whoever waits for them; a batch begins at a block of its own, so that what was synced
//! is never written again. [`frame`] has the form of it all, and says what is torn and what is
//! damaged; this is what reads and writes.
//!
//! An error while writing stops the log for ever: after a sync that failed, nobody knows what is on
//! the disk, and one that succeeds later says nothing about it.

pub mod disk;
pub mod frame;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

use std::io;

use thiserror::Error;

use disk::Disk;
use frame::{Damage, Header};

/// How large a segment is made, if one batch does not need more.
pub const SEGMENT_BYTES: u64 = 64 << 20;

const ENDING: &str = ".log";
const UNFINISHED: &str = ".new";

/// Why a log cannot be opened or written.
#[derive(Debug, Error)]
pub enum Error {
    /// The disk says no.
    #[error("{doing} {name}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        name: String,
        /// What it says.
        source: io::Error,
    },
    /// A segment is not what was written.
    #[error(
        "{name} is damaged at byte {}: {}; what it said was acknowledged, so nothing behind it is \
         believed: let the member join again with an empty folder, or restore a backup",
        .damage.offset, .damage.what
    )]
    Damaged {
        /// The segment.
        name: String,
        /// What is wrong with it.
        damage: Damage,
    },
    /// A segment is not there.
    #[error(
        "{name} is missing, while there are later ones: let the member join again with an empty \
             folder, or restore a backup"
    )]
    Missing {
        /// The segment.
        name: String,
    },
    /// The log is somebody else's.
    #[error(
        "{name} is of member {} of cluster {:x}, not of member {:x} of cluster {:x}: the folder \
         belongs to another member",
        format_args!("{:x}", .found.member), .found.cluster, .owner.member, .owner.cluster
    )]
    Foreign {
        /// The segment.
        name: String,
        /// Whose it is.
        found: Owner,
        /// Whose it should be.
        owner: Owner,
    },
    /// The log begins behind the end of what is known.
    #[error(
        "the log begins with entry {first}, and what was written down ends with {last}: a snapshot \
         is missing: put it back, or let the member join again with an empty folder"
    )]
    Gap {
        /// The first entry.
        first: u64,
        /// The last that is known.
        last: u64,
    },
    /// A record says what this version does not know.
    #[error("what the log says after entry {after} is not understood: it is of a later version")]
    Unknown {
        /// The last one that is.
        after: u64,
        /// What is wrong with it.
        #[source]
        error: prost::DecodeError,
    },
    /// It failed before.
    #[error("the log has failed before, and is not written until the member is started again")]
    Failed,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: u64,
    /// The member.
    pub member: u64,
}

/// A log that is open.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    header: Header,
    file: D::File,
    segment_bytes: u64,
    /// The size of the segment that is being written.
    room: u64,
    offset: u64,
    chain: u32,
    first: u64,
    has_failed: bool,
}

/// What was found when a log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// How many records it has.
    pub records: u64,
    /// From where on the last segment was cut, because its end was torn.
    pub torn: Option<u64>,
}

fn name(sequence: u64) -> String {
    format!("{sequence:016x}{ENDING}")
}

/// Says what was being done with which file when the disk said no.
pub(crate) fn at<T>(doing: &'static str, name: &str, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Disk { doing, name: name.to_owned(), source })
}

impl<D: Disk> Log<D> {
    /// Opens a log, or makes one where there is none, and tells each record that is in it. `salt` is
    /// a random number.
    pub fn open(
        disk: D,
        owner: Owner,
        segment_bytes: u64,
        salt: u64,
        mut record: impl FnMut(&[u8]),
    ) -> Result<(Self, Opened), Error> {
        let mut sequences = sequences(&disk)?;
        if sequences.is_empty() {
            let header = Header { owner, sequence: 1, salt, previous: 0 };
            make(&disk, &header, segment_bytes)?;
            sequences.push(1);
        }
        let (first, last) = (sequences[0], sequences[sequences.len() - 1]);
        let mut opened = Opened::default();
        let mut before: Option<(String, frame::Read)> = None;
        for sequence in first..=last {
            let name = name(sequence);
            if !sequences.contains(&sequence) {
                return Err(Error::Missing { name });
            }
            let bytes = at("reading", &name, disk.read(&name))?;
            let damaged = |damage| Error::Damaged { name: name.clone(), damage };
            let header = Header::read(&bytes).map_err(damaged)?;
            if header.owner != owner {
                return Err(Error::Foreign { name, found: header.owner, owner });
            }
            if let Some((name, read)) = before.filter(|(_, read)| read.chain != header.previous) {
                let damage = Damage { offset: read.end, what: "its last records are not whole" };
                return Err(Error::Damaged { name, damage });
            }
            let read = frame::read(&bytes, &header);
            for payload in &read.payloads {
                record(&bytes[payload.clone()]);
            }
            opened.records += read.payloads.len() as u64;
            if sequence < last {
                before = Some((name, read));
                continue;
            }
            frame::check_tail(&bytes, &header, &read).map_err(damaged)?;
            let file = at("opening", &name, disk.open(&name))?;
            let offset = frame::next_block(read.end);
            // What was begun there is taken away, so that nothing of it is ever read as new.
            if let Some(nonzero) = last_nonzero(&bytes, offset) {
                opened.torn = Some(read.end);
                let zeros = vec![0; (nonzero - offset) as usize];
                at("clearing the end of", &name, disk.write_at(&file, &zeros, offset))?;
            }
            // What was read may not have come to the disk yet, and will be acted upon.
            at("syncing", &name, disk.sync(&file))?;
            let (room, chain) = (bytes.len() as u64, read.chain);
            let has_failed = false;
            let log =
                Self { disk, header, file, segment_bytes, room, offset, chain, first, has_failed };
            return Ok((log, opened));
        }
        unreachable!("there is a last segment")
    }

    /// Whose log there is, if there is one.
    pub fn owner(disk: &D) -> Result<Option<Owner>, Error> {
        let Some(first) = sequences(disk)?.first().copied() else { return Ok(None) };
        let name = name(first);
        let bytes = at("reading", &name, disk.read(&name))?;
        let header = Header::read(&bytes).map_err(|damage| Error::Damaged { name, damage })?;
        Ok(Some(header.owner))
    }

    /// Writes records, and comes back when they are on the disk.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), Error> {
        if self.has_failed {
            return Err(Error::Failed);
        }
        let done = self.try_append(records);
        self.has_failed = done.is_err();
        done
    }

    /// The segment that is being written.
    pub fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// How many segments there are.
    pub fn segments(&self) -> u64 {
        self.header.sequence - self.first + 1
    }

    /// Takes away the segments before one.
    pub fn forget_before(&mut self, sequence: u64) -> Result<(), Error> {
        let end = sequence.min(self.header.sequence);
        // The oldest first: what is left has no gap.
        while self.first < end {
            let name = name(self.first);
            at("removing", &name, self.disk.remove(&name))?;
            self.first += 1;
        }
        at("syncing", "the folder of the log", self.disk.sync_names())
    }

    fn try_append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let size = frame::batch_bytes(records);
        if self.offset + size > self.room {
            self.next_segment(size)?;
        }
        let (bytes, chain) = frame::batch(records, self.offset, self.header.salt, self.chain);
        let name = name(self.header.sequence);
        at("writing", &name, self.disk.write_at(&self.file, &bytes, self.offset))?;
        at("syncing", &name, self.disk.sync(&self.file))?;
        self.offset += size;
        self.chain = chain;
        Ok(())
    }

    fn next_segment(&mut self, batch_bytes: u64) -> Result<(), Error> {
        let (sequence, previous) = (self.header.sequence + 1, self.chain);
        // Another salt than before, as hard to guess.
        let salt = self.header.salt.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let header = Header { sequence, previous, salt, ..self.header };
        self.room = self.segment_bytes.max(frame::HEADER_BLOCK + batch_bytes);
        self.file = make(&self.disk, &header, self.room)?;
        self.header = header;
        self.offset = frame::HEADER_BLOCK;
        Ok(())
    }
}

/// Makes a segment, which has its name only when it is one.
fn make<D: Disk>(disk: &D, header: &Header, bytes: u64) -> Result<D::File, Error> {
    let name = name(header.sequence);
    let unfinished = format!("{name}{UNFINISHED}");
    let file = at("making", &unfinished, disk.create(&unfinished, bytes))?;
    at("writing", &unfinished, disk.write_at(&file, &header.write(), 0))?;
    at("syncing", &unfinished, disk.sync(&file))?;
    at("renaming", &unfinished, disk.rename(&unfinished, &name))?;
    at("syncing", "the folder of the log", disk.sync_names())?;
    Ok(file)
}

/// The segments that there are. One that was not finished goes.
fn sequences<D: Disk>(disk: &D) -> Result<Vec<u64>, Error> {
    let mut sequences = Vec::new();
    for name in at("listing", "the folder of the log", disk.list())? {
        if name.ends_with(UNFINISHED) {
            at("removing", &name, disk.remove(&name))?;
        } else if let Some(number) = name.strip_suffix(ENDING) {
            sequences.extend(u64::from_str_radix(number, 16));
        }
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// Where the bytes that are not zero end, if there are any from `from` on.
fn last_nonzero(bytes: &[u8], from: u64) -> Option<u64> {
    let tail = bytes.get(from as usize..)?;
    tail.iter().rposition(|byte| *byte != 0).map(|at| from + at as u64 + 1)
}
