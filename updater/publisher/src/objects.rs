//! Files of a repository, each written whole or not at all.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, bail};
use payload::{Digest, release::Object};
use tempfile::NamedTempFile;

/// The objects of a repository: files by their hash.
#[derive(Debug)]
pub(crate) struct Objects {
    repository: PathBuf,
    written_bytes: AtomicU64,
}

impl Objects {
    pub(crate) fn of(repository: &Path) -> Self {
        Self { repository: repository.to_owned(), written_bytes: AtomicU64::new(0) }
    }

    /// Puts an object there, unless it is there.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Object> {
        let object = Object { sha256: Digest::of(bytes), size_bytes: bytes.len() as u64 };
        let path = self.repository.join(object.path());
        if fs::metadata(&path).is_ok_and(|file| file.len() == object.size_bytes) {
            return Ok(object);
        }
        write(&path, bytes)?;
        self.written_bytes.fetch_add(object.size_bytes, Ordering::Relaxed);
        Ok(object)
    }

    /// Reads an object.
    pub(crate) fn get(&self, object: &Object) -> Result<Vec<u8>> {
        let path = self.repository.join(object.path());
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        payload::segment::verify(object, &bytes)
            .with_context(|| format!("{} is damaged", path.display()))?;
        Ok(bytes)
    }

    /// What was written so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }
}

/// Writes a file that everybody may read, whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().expect("a file of a repository is in a folder");
    let writing = || format!("writing {}", path.display());
    fs::create_dir_all(folder).with_context(writing)?;
    let mut file = NamedTempFile::with_prefix_in(".new-", folder).with_context(writing)?;
    file.write_all(bytes).with_context(writing)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).with_context(writing)?;
    file.as_file().sync_all().with_context(writing)?;
    file.persist(path).with_context(writing)?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(writing)
}

/// Writes a file whose content can never change: one that is there already has to be the same.
pub(crate) fn write_once(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::read(path) {
        Ok(there) if there == bytes => Ok(()),
        Ok(_) => bail!("{} is there already, with another content", path.display()),
        Err(_) => write(path, bytes),
    }
}
