//! The forms in which a disk travels: `.raw.zst` to download, `.qcow2` to run.
//!
//! Both are made from the raw disk in one pass each, with bounded memory. Neither depends on the
//! number of processors, on holes in the file, or on a program of the host: what is written is
//! decided on a fixed grid by the bytes alone.

pub mod qcow2;
pub mod zst;

use std::{
    io,
    path::{Path, PathBuf},
    thread,
};

use layout::Partition;

use crate::{disk, manifest};

/// Why a format could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading the disk.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// What to make of a raw disk.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The disk.
    pub raw: &'a Path,
    /// Its partitions, to be hashed.
    pub partitions: &'a [Partition],
    /// Where the other forms go, if there are to be any.
    pub travelling: Option<Travelling<'a>>,
}

/// The forms in which it travels.
#[derive(Clone, Copy, Debug)]
pub struct Travelling<'a> {
    /// Where the compressed form goes.
    pub zst: &'a Path,
    /// Where the qcow2 goes.
    pub qcow2: &'a Path,
}

/// What the manifest says about the disk and its forms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// The raw disk, the compressed one, the qcow2.
    pub artifacts: Vec<manifest::Artifact>,
    /// Of the disk.
    pub partitions: Vec<manifest::Partition>,
}

/// Writes every format and hashes everything, two things at a time. `progress` is told bytes of
/// the compressed form done, and bytes in all.
pub fn write_all(request: &Request<'_>, progress: &dyn Fn(u64, u64)) -> Result<Made, Error> {
    let Request { raw, partitions, travelling } = *request;
    let Some(Travelling { zst, qcow2 }) = travelling else {
        let artifacts = vec![disk::artifact(raw, &|_, _| ())?];
        return Ok(Made { artifacts, partitions: disk::describe(raw, partitions)? });
    };
    thread::scope(|scope| {
        let others = scope.spawn(|| -> Result<_, Error> {
            qcow2::write(raw, qcow2, qcow2::Compression::Zstd, &|_, _| ())?;
            Ok((disk::artifact(raw, &|_, _| ())?, disk::artifact(qcow2, &|_, _| ())?))
        });
        zst::write(raw, zst, progress)?;
        let (zst, partitions) =
            (disk::artifact(zst, &|_, _| ())?, disk::describe(raw, partitions)?);
        let (raw, qcow2) = others.join().expect("it does not panic")?;
        Ok(Made { artifacts: vec![raw, zst, qcow2], partitions })
    })
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}
