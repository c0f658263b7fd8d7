//! The files beside a document that it takes things from: a trait, so that all that uses them can
//! be tested without a disk, and the directory that `--files-dir` names.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

/// Trees that are deeper are taken for a loop.
const MAX_DEPTH: usize = 64;

/// Somebody who has the files that a document names. Paths are relative, without `.` and `..`.
pub trait Files {
    /// What is in a file.
    fn read(&self, path: &str) -> Result<Vec<u8>, NoFile>;
    /// A directory and all that is in it, each directory before what is in it, sorted by name.
    fn tree(&self, path: &str) -> Result<Vec<Found>, NoFile>;
}

/// Something in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where, from the directory that was asked for: empty for itself.
    pub path: String,
    /// What it is.
    pub what: What,
}

/// What something in a tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A file, and whether anybody may execute it.
    File {
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// To where.
        target: String,
    },
    /// A device, a socket, something else that no tree may have.
    Other,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum NoFile {
    /// There are no files beside this document.
    #[error("there is no directory to take local files from")]
    Nowhere,
    /// The path leads out of the directory.
    #[error("`{0}` leads out of the directory that local files are taken from")]
    Outside(String),
    /// It cannot be read.
    #[error("reading `{path}`: {source}")]
    Read {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// No files, for documents that a machine boots with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Files for Nowhere {
    fn read(&self, _: &str) -> Result<Vec<u8>, NoFile> {
        Err(NoFile::Nowhere)
    }

    fn tree(&self, _: &str) -> Result<Vec<Found>, NoFile> {
        Err(NoFile::Nowhere)
    }
}

/// A directory of this machine. Nothing outside of it is read, not by a link either.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    fn find(&self, path: &str) -> Result<PathBuf, NoFile> {
        let failed = |source| NoFile::Read { path: path.to_owned(), source };
        let root = self.0.canonicalize().map_err(failed)?;
        let found = root.join(path).canonicalize().map_err(failed)?;
        match found.starts_with(&root) {
            true => Ok(found),
            false => Err(NoFile::Outside(path.to_owned())),
        }
    }
}

impl Files for Directory {
    fn read(&self, path: &str) -> Result<Vec<u8>, NoFile> {
        let found = self.find(path)?;
        fs::read(found).map_err(|source| NoFile::Read { path: path.to_owned(), source })
    }

    fn tree(&self, path: &str) -> Result<Vec<Found>, NoFile> {
        let mut all = Vec::new();
        let failed = |source| NoFile::Read { path: path.to_owned(), source };
        walk(&self.find(path)?, "", 0, &mut all).map_err(failed)?;
        Ok(all)
    }
}

fn walk(at: &Path, path: &str, depth: usize, all: &mut Vec<Found>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(at)?;
    let text = |path: PathBuf| {
        let not_text = |path| io::Error::other(format!("{path:?} is not UTF-8"));
        path.into_os_string().into_string().map_err(not_text)
    };
    let what = if metadata.is_dir() {
        What::Directory
    } else if metadata.is_file() {
        What::File { executable: metadata.permissions().mode() & 0o111 != 0 }
    } else if metadata.is_symlink() {
        What::Link { target: text(fs::read_link(at)?)? }
    } else {
        What::Other
    };
    all.push(Found { path: path.to_owned(), what });
    if !metadata.is_dir() {
        return Ok(());
    }
    if depth >= MAX_DEPTH {
        return Err(io::Error::other(format!("{path} is more than {MAX_DEPTH} directories deep")));
    }
    let mut names: Vec<String> = fs::read_dir(at)?
        .map(|entry| text(PathBuf::from(entry?.file_name())))
        .collect::<io::Result<_>>()?;
    names.sort_unstable();
    for name in names {
        let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        walk(&at.join(&name), &below, depth + 1, all)?;
    }
    Ok(())
}

/// A path of a document, relative and without `.` and `..`.
pub(super) fn inside(path: &str) -> Result<String, NoFile> {
    let mut parts = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().unwrap_or_default()),
            Component::ParentDir if parts.pop().is_none() => {
                return Err(NoFile::Outside(path.to_owned()));
            }
            Component::ParentDir
            | Component::CurDir
            | Component::RootDir
            | Component::Prefix(_) => {}
        }
    }
    Ok(parts.join("/"))
}
