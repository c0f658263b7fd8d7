//! Bytes to compare, wherever they lie: a file with holes, memory, scattered pieces of another
//! source. Cheap to clone, read only where asked, and aware of holes: a sparse disk of 8 GiB costs
//! what is in it.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path, sync::Arc};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

const BLOCK_BYTES: usize = 1 << 20;

/// Why a parser gave up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The bytes are not what the format says.
    #[error("{0}")]
    Format(String),
    /// The bytes could not be had.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The bytes are not what the format says.
pub(super) fn broken<T>(why: impl Into<String>) -> Result<T, Broken> {
    Err(Broken::Format(why.into()))
}

/// A place to read from.
pub(super) trait ReadAt: Send + Sync {
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`; all of it lies inside.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The first range at or behind `offset` that may hold anything but zeros.
    fn data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let size = self.size();
        Ok((offset < size).then_some(offset..size))
    }
}

/// Bytes of known length.
#[derive(Clone)]
pub(super) struct Source(Arc<dyn ReadAt>);

/// A run of bytes that a source is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it lies in the source below; nowhere, if it is a hole.
    pub(super) at: Option<u64>,
    pub(super) length: u64,
}

impl Source {
    pub(super) fn new(of: impl ReadAt + 'static) -> Self {
        Self(Arc::new(of))
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::file(File::open(path)?)
    }

    pub(super) fn file(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self::new(SparseFile { file, size }))
    }

    pub(super) fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Memory(bytes.into()))
    }

    /// The part of it from `start`, `length` bytes or what there is of them.
    pub(super) fn window(&self, start: u64, length: u64) -> Self {
        let start = start.min(self.size());
        let length = length.min(self.size() - start);
        self.pieces([Piece { at: Some(start), length }]).expect("cut to what is there")
    }

    /// Runs of it, in this order. All of them have to lie inside.
    pub(super) fn pieces(&self, pieces: impl IntoIterator<Item = Piece>) -> Result<Self, Broken> {
        let mut starts = Vec::new();
        let mut size = 0u64;
        for piece in pieces.into_iter().filter(|piece| piece.length > 0) {
            let inside = piece.at.is_none_or(|at| {
                at.checked_add(piece.length).is_some_and(|end| end <= self.size())
            });
            if !inside {
                let at = piece.at.unwrap_or_default();
                return broken(format!("{} bytes at {at} lie outside", piece.length));
            }
            starts.push((size, piece));
            size = match size.checked_add(piece.length) {
                Some(size) => size,
                None => return broken("more bytes than there can be"),
            };
        }
        Ok(Self::new(Pieces { of: self.clone(), starts, size }))
    }

    pub(super) fn size(&self) -> u64 {
        self.0.size()
    }

    /// `length` bytes at `offset`, which have to be there.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Broken> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > self.size()) {
            return broken(format!("{length} bytes at {offset} lie outside"));
        }
        let mut buffer = vec![0; length];
        self.0.read_at(offset, &mut buffer)?;
        Ok(buffer)
    }

    /// As many of `length` bytes at `offset` as there are.
    pub(super) fn peek(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let there = self.size().saturating_sub(offset).min(length as u64);
        let mut buffer = vec![0; there as usize];
        if there > 0 {
            self.0.read_at(offset, &mut buffer)?;
        }
        Ok(buffer)
    }

    /// All of it, if that is at most `limit` bytes.
    pub(super) fn all(&self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        if self.size() > limit {
            return Ok(None);
        }
        self.peek(0, self.size() as usize).map(Some)
    }

    pub(super) fn data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.0.data(offset)
    }

    /// It, read from its start.
    pub(super) fn reader(&self) -> impl io::Read + use<> {
        Reader { of: self.clone(), at: 0 }
    }
}

/// The first offset at which two sources differ, which may be the end of the shorter one.
pub(super) fn first_difference(a: &Source, b: &Source) -> io::Result<Option<u64>> {
    let end = a.size().min(b.size());
    let mut at = 0;
    while at < end {
        let starts = |of: &Source| of.data(at).map(|data| data.map_or(end, |data| data.start));
        at = starts(a)?.min(starts(b)?);
        if at >= end {
            break;
        }
        let (x, y) = (a.peek(at, BLOCK_BYTES)?, b.peek(at, BLOCK_BYTES)?);
        if x != y
            && let Some(first) = x.iter().zip(&y).position(|(x, y)| x != y)
        {
            return Ok(Some(at + first as u64));
        }
        at += BLOCK_BYTES as u64;
    }
    Ok((a.size() != b.size()).then_some(end))
}

struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        let from = self.0.get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

struct SparseFile {
    file: File,
    size: u64,
}

impl ReadAt for SparseFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let seek = |from: u64, whence| lseek(&self.file, from as i64, whence);
        match seek(offset, Whence::SeekData) {
            Ok(start) => {
                let end = seek(start as u64, Whence::SeekHole)?;
                Ok(Some(start as u64..end as u64))
            }
            Err(Errno::ENXIO) => Ok(None),
            // A file system that knows no holes.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => {
                Ok((offset < self.size).then_some(offset..self.size))
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

struct Pieces {
    of: Source,
    /// Each piece behind the offset at which it starts here.
    starts: Vec<(u64, Piece)>,
    size: u64,
}

impl Pieces {
    /// The pieces from the one that holds `offset`.
    fn from(&self, offset: u64) -> &[(u64, Piece)] {
        &self.starts[self.starts.partition_point(|(start, piece)| start + piece.length <= offset)..]
    }
}

impl ReadAt for Pieces {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        for (start, piece) in self.from(offset) {
            if done == buffer.len() {
                break;
            }
            let skip = offset + done as u64 - start;
            let length = (piece.length - skip).min((buffer.len() - done) as u64) as usize;
            let to = &mut buffer[done..done + length];
            match piece.at {
                Some(at) => self.of.0.read_at(at + skip, to)?,
                None => to.fill(0),
            }
            done += length;
        }
        if done < buffer.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        for (start, piece) in self.from(offset) {
            let Some(at) = piece.at else { continue };
            let skip = offset.saturating_sub(*start);
            if let Some(data) = self.of.data(at + skip)?
                && data.start < at + piece.length
            {
                let end = data.end.min(at + piece.length);
                return Ok(Some(start + (data.start - at)..start + (end - at)));
            }
        }
        Ok(None)
    }
}

struct Reader {
    of: Source,
    at: u64,
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.of.size().saturating_sub(self.at).min(buffer.len() as u64) as usize;
        if length > 0 {
            self.of.0.read_at(self.at, &mut buffer[..length])?;
            self.at += length as u64;
        }
        Ok(length)
    }
}
