//! The file system of `/usr`, erofs, and the dm-verity tree over it whose root hash names the
//! version.
//!
//! Not compressed: the download gets smaller (what is outside compresses better), a delta
//! between versions halves, and a booting machine unpacks nothing.

pub mod verity;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use layout::{
    RootHash,
    disk::{USR_BYTES, VERITY_BYTES},
};
use uuid::Uuid;

use crate::tree::{self, megabytes};

/// What `/usr` may take as erofs.
pub const BUDGET_BYTES: u64 = 360_000_000;
/// Block of the file system and of the hash tree, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The tree: what is in `/usr`.
    pub usr: &'a Path,
    /// The time that every file gets, in seconds since 1970.
    pub epoch: u64,
    /// UUID of the file system.
    pub uuid: Uuid,
    /// Salt of the hash tree.
    pub verity_salt: [u8; 32],
    /// UUID of the hash tree.
    pub verity_uuid: Uuid,
    /// What the file system may take; [`BUDGET_BYTES`] for an image.
    pub budget_bytes: u64,
    /// Folder with the wrappers of the tools tree: `mkfs.erofs`, `veritysetup`.
    pub bin: &'a Path,
    /// Where the file system goes.
    pub out: &'a Path,
    /// Where the hash tree goes.
    pub verity_out: &'a Path,
}

/// A file system and its hash tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Made {
    /// The name of exactly these bytes.
    pub root_hash: RootHash,
    /// Of the file system: whole blocks.
    pub size_bytes: u64,
    /// Of the hash tree.
    pub verity_size_bytes: u64,
}

/// Why there is no file system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program of the tools tree failed.
    #[error(transparent)]
    Program(#[from] tree::Error),
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
    /// It got too big.
    #[error(
        "{what} has {:.1} MB, and may have {:.1} MB ({limit}): cut something (rootfs/cuts.list), \
         or take a package out",
        megabytes(*size_bytes), megabytes(*limit_bytes)
    )]
    TooBig {
        /// File system or hash tree.
        what: &'static str,
        /// Its size.
        size_bytes: u64,
        /// What it may have.
        limit_bytes: u64,
        /// Budget or slot.
        limit: &'static str,
    },
    /// veritysetup said something else than expected.
    #[error("veritysetup did not say a root hash of 64 hexadecimal digits; it said:\n{said}")]
    NoRootHash {
        /// Its output.
        said: String,
    },
}

/// Makes the file system and its hash tree.
pub fn make(request: &Request<'_>) -> Result<Made, Error> {
    let size_bytes = make_erofs(request)?;
    fits("/usr as erofs", size_bytes, request.budget_bytes, "the budget")?;
    fits("/usr as erofs", size_bytes, USR_BYTES, "a slot's partition")?;
    let root_hash = verity::format(request)?;
    let verity_size_bytes = size(request.verity_out)?;
    fits("the verity hash tree", verity_size_bytes, VERITY_BYTES, "a slot's partition")?;
    Ok(Made { root_hash, size_bytes, verity_size_bytes })
}

fn make_erofs(request: &Request<'_>) -> Result<u64, Error> {
    let Request { usr, epoch, uuid, bin, out, .. } = *request;
    remove_old(out)?;
    let mut mkfs = tree::program(bin, "mkfs.erofs");
    mkfs.arg("--quiet").arg("--all-root").arg(format!("-T{epoch}"));
    mkfs.arg(format!("-b{BLOCK_BYTES}")).arg("-U").arg(uuid.to_string());
    // No extended attributes: the tree has none that we want, and the host's have no place in it.
    mkfs.arg("-x-1").arg(out).arg(usr);
    tree::run(&mut mkfs)?;
    // dm-verity hashes whole blocks.
    let size_bytes = size(out)?.next_multiple_of(BLOCK_BYTES);
    let padded = File::options().write(true).open(out).and_then(|file| file.set_len(size_bytes));
    padded.map_err(|source| Error::Io { doing: "padding", path: out.into(), source })?;
    Ok(size_bytes)
}

/// mkfs.erofs and veritysetup write into what is there, and would leave the end of it.
fn remove_old(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { doing: "removing", path: path.into(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn size(path: &Path) -> Result<u64, Error> {
    let meta = path.metadata();
    meta.map(|meta| meta.len()).map_err(|source| Error::Io {
        doing: "looking at",
        path: path.into(),
        source,
    })
}

fn fits(
    what: &'static str,
    size_bytes: u64,
    limit_bytes: u64,
    limit: &'static str,
) -> Result<(), Error> {
    if size_bytes > limit_bytes {
        return Err(Error::TooBig { what, size_bytes, limit_bytes, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_big_says_how_big_and_what_to_do() {
        fits("x", 10, 10, "the budget").unwrap();
        let said = fits("/usr as erofs", 400_000_000, BUDGET_BYTES, "the budget").unwrap_err();
        assert_eq!(
            said.to_string(),
            "/usr as erofs has 400.0 MB, and may have 360.0 MB (the budget): cut something \
             (rootfs/cuts.list), or take a package out"
        );
    }
}
