//! Files of the repository: opened below its folder and nowhere else, sent piece by piece.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};
use tokio::task::JoinHandle;

use super::Facts;

/// What is read at once, for each client that gets a file.
const PIECE_BYTES: u64 = 128 << 10;

/// The folder of a repository.
#[derive(Debug)]
pub struct Tree(OwnedFd);

/// A file that is open.
#[derive(Debug)]
pub struct Open {
    file: File,
    /// What is known of it.
    pub facts: Facts,
}

/// Some bytes of a file, or of memory.
pub enum Content {
    /// These.
    Bytes(Bytes),
    /// Those of a file.
    File(Pieces),
}

/// Bytes of a file that are yet to be sent.
pub struct Pieces {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Tree {
    /// Opens the folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        File::open(folder).map(|file| Self(file.into()))
    }

    /// Opens a file in it. None: there is no such file.
    pub fn file(&self, path: &str) -> io::Result<Option<Open>> {
        // The kernel refuses links that lead out, whoever makes them and whenever.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).mode(Mode::empty()).resolve(resolve);
        let file: File = match openat2(&self.0, path, how) {
            Ok(file) => file.into(),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EXDEV | Errno::ELOOP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let facts = file.metadata()?;
        let modified = facts.modified()?;
        let facts = facts.is_file().then_some(Facts { size_bytes: facts.len(), modified });
        Ok(facts.map(|facts| Open { file, facts }))
    }
}

impl Open {
    /// What is sent of it. A short part is read at once.
    pub fn content(self, from: u64, length: u64) -> io::Result<Content> {
        if length <= PIECE_BYTES {
            return read(&self.file, from, length).map(Content::Bytes);
        }
        let file = Arc::new(self.file);
        Ok(Content::File(Pieces { file, at: from, left: length, reading: None }))
    }
}

fn read(file: &File, from: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.into())
}

impl Content {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bytes(text.into().into())
    }

    /// Nothing.
    pub fn none() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::File(pieces) => pieces.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

impl Content {
    fn left(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(pieces) => pieces.left,
        }
    }
}

impl Pieces {
    /// A thread of the pool is needed while it reads, and not while a slow client takes its time.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (at, length) = (self.at, self.left.min(PIECE_BYTES));
        let file = &self.file;
        let reading = self.reading.get_or_insert_with(|| {
            let file = file.clone();
            tokio::task::spawn_blocking(move || read(&file, at, length))
        });
        let piece = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(Some(piece.map_err(io::Error::other).flatten().map(|bytes| {
            self.at += length;
            self.left -= length;
            Frame::data(bytes)
        })))
    }
}
