//! Files with holes: a disk of 8 GiB costs what is in it.
//!
//! What is a hole in a file depends on who wrote it and where. What we make of it may not: a piece
//! on a fixed grid counts as zeros if its bytes are zeros. The system's holes ([`lseek`]) only
//! save reading them.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt,
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};
use sha2::{Digest, Sha256};

/// A part of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// So many zeros.
    Zeros(u64),
    /// Bytes that are not all zeros.
    Data(&'a [u8]),
}

impl Piece<'_> {
    /// How many bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Zeros(length) => *length,
            Self::Data(bytes) => bytes.len() as u64,
        }
    }
}

/// Gives `range` of `file` to `take`, in order, in pieces of `grid` bytes counted from its start
/// (the last may be shorter; zeros may be longer). A file that ends inside is an error.
pub fn pieces<E: From<io::Error>>(
    file: &File,
    range: Range<u64>,
    grid: usize,
    mut take: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let size = size(file)?;
    if range.end > size {
        let what = format!("it ends at byte {size}, expected {} bytes", range.end);
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into());
    }
    let mut buffer = vec![0; grid];
    let mut at = range.start;
    let mut data = at..at;
    while at < range.end {
        if at >= data.end {
            data = next_data(file, at, size)?.unwrap_or(range.end..range.end);
        }
        // Whole pieces in front of the data; all the rest if there is none.
        let hole = match data.start.min(range.end).saturating_sub(at) {
            rest if at + rest == range.end => rest,
            some => some / grid as u64 * grid as u64,
        };
        if hole > 0 {
            take(Piece::Zeros(hole))?;
            at += hole;
            continue;
        }
        let piece = &mut buffer[..grid.min((range.end - at) as usize)];
        file.read_exact_at(piece, at)?;
        take(if is_zero(piece) { Piece::Zeros(piece.len() as u64) } else { Piece::Data(piece) })?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// The size of a file or a block device, of which the metadata says none.
pub fn size(file: &File) -> io::Result<u64> {
    let mut file = file;
    file.seek(SeekFrom::End(0))
}

/// The next bytes at or behind `at` that are no hole, if there are any.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    match lseek(file, at as i64, Whence::SeekData) {
        Ok(start) => {
            let end = lseek(file, start, Whence::SeekHole)?;
            Ok(Some(start as u64..end as u64))
        }
        Err(Errno::ENXIO) => Ok(None),
        // A file system (or a device) that knows no holes.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok((at < size).then_some(at..size)),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether there are only zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Equal to itself one further on, and zero at the start: a memcmp, which is fast.
    bytes.is_empty() || bytes[0] == 0 && bytes[..bytes.len() - 1] == bytes[1..]
}

/// Copies all of `from` to `to` at `offset`, where `to` has holes; zeros are left out.
pub fn copy(from: &File, to: &File, mut offset: u64) -> io::Result<()> {
    pieces(from, 0..size(from)?, 64 << 10, |piece| {
        if let Piece::Data(bytes) = piece {
            to.write_all_at(bytes, offset)?;
        }
        offset += piece.length();
        Ok(())
    })
}

/// What [`hash`] finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashed {
    /// SHA-256, in hexadecimal.
    pub sha256: String,
    /// Bytes in mebibytes that are not all zeros.
    pub allocated_bytes: u64,
}

/// The hash of a range of a file. `done` is told the number of bytes so far.
pub fn hash(file: &File, range: Range<u64>, done: &dyn Fn(u64)) -> io::Result<Hashed> {
    let zeros = vec![0; 1 << 20];
    let (mut sha256, mut allocated_bytes, mut so_far) = (Sha256::new(), 0, 0);
    pieces(file, range, zeros.len(), |piece| -> io::Result<()> {
        match piece {
            Piece::Data(bytes) => {
                sha256.update(bytes);
                allocated_bytes += bytes.len() as u64;
            }
            Piece::Zeros(mut length) => {
                while length > 0 {
                    let some = length.min(zeros.len() as u64);
                    sha256.update(&zeros[..some as usize]);
                    length -= some;
                }
            }
        }
        so_far += piece.length();
        done(so_far);
        Ok(())
    })?;
    Ok(Hashed { sha256: hex::encode(sha256.finalize()), allocated_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, data: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in data {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    fn shown(file: &File, range: Range<u64>, grid: usize) -> Vec<String> {
        let mut shown: Vec<String> = Vec::new();
        let mut zeros = 0;
        pieces(file, range, grid, |piece| -> io::Result<()> {
            match piece {
                Piece::Zeros(length) => zeros += length,
                Piece::Data(bytes) => {
                    shown.push(format!("{zeros} zeros"));
                    zeros = 0;
                    shown.push(format!("{} bytes", bytes.len()));
                }
            }
            Ok(())
        })
        .unwrap();
        shown.push(format!("{zeros} zeros"));
        shown
    }

    #[test]
    fn written_zeros_and_holes_look_the_same() {
        let holes = file(1 << 20, &[(300_000, b"x")]);
        let written = file(1 << 20, &[(0, &vec![0; 1 << 20]), (300_000, b"x")]);
        let expected = ["262144 zeros", "65536 bytes", "720896 zeros"];
        assert_eq!(shown(&holes, 0..1 << 20, 1 << 16), expected);
        assert_eq!(shown(&written, 0..1 << 20, 1 << 16), expected);
        assert_eq!(
            hash(&holes, 0..1 << 20, &|_| ()).unwrap(),
            hash(&written, 0..1 << 20, &|_| ()).unwrap()
        );
    }

    #[test]
    fn a_piece_at_the_end_may_be_short() {
        let file = file(100, &[(99, b"x")]);
        assert_eq!(shown(&file, 0..100, 64), ["64 zeros", "36 bytes", "0 zeros"]);
        assert_eq!(shown(&file, 10..99, 64), ["89 zeros"]);
        let past = pieces(&file, 0..101, 64, |_| -> io::Result<()> { Ok(()) });
        assert_eq!(past.unwrap_err().to_string(), "it ends at byte 100, expected 101 bytes");
    }

    #[test]
    fn a_copy_has_the_bytes_and_the_holes() {
        let from = file(1 << 20, &[(70_000, b"hello"), (200_000, &[0; 4096])]);
        let to = file(2 << 20, &[]);
        copy(&from, &to, 1 << 20).unwrap();
        let mut bytes = [0; 5];
        to.read_exact_at(&mut bytes, (1 << 20) + 70_000).unwrap();
        assert_eq!(&bytes, b"hello");
        use std::os::unix::fs::MetadataExt;
        assert!(to.metadata().unwrap().blocks() <= 128, "{}", to.metadata().unwrap().blocks());
    }
}
