//! Debian packages: fetched once, kept by what is in them.
//!
//! ```text
//! ~/.cache/pithos ($PITHOS_CACHE)
//!   debs/SHA256.deb      every package that was ever fetched; checked again whenever it is used
//!   partial/             downloads under way; emptied by the next build that fetches
//!   apt/                 a private apt, to resolve names into versions
//!   lock                 held while fetching
//! ```
//!
//! The lock names a file by its hash, so it does not matter where it comes from: the mirror, a
//! snapshot mirror, or this cache.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, ensure};

use crate::{
    lock::Package,
    progress::{Progress, size},
    step::sha256_of,
};

pub use apt::Apt;
pub use error::Error;
pub use mirror::{Mirrors, Snapshot, Wanted};
pub use settle::{Difference, Policy, Settled, settle};

mod apt;
mod download;
mod error;
mod mirror;
mod resolve;
mod settle;

pub use resolve::{Lists, resolve};

/// Where packages come from.
#[derive(Debug)]
pub struct Archive {
    cache: PathBuf,
    wanted: Wanted,
    snapshot: Option<Snapshot>,
    offline: bool,
    progress: Progress,
}

/// The cache of packages: `$PITHOS_CACHE`, or the user's cache folder.
pub fn default_cache() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    from("PITHOS_CACHE")
        .map(PathBuf::from)
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("pithos")))
        .or_else(|| from("HOME").map(|home| Path::new(&home).join(".cache/pithos")))
}

impl Archive {
    /// The archive behind a cache.
    pub fn open(
        cache: &Path,
        wanted: Wanted,
        snapshot: Option<Snapshot>,
        offline: bool,
        progress: &Progress,
    ) -> Result<Self, Error> {
        for folder in ["debs", "apt"] {
            let folder = cache.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
        }
        // Absolute, because mkosi and apt are told of it and have their own working directory.
        let cache = fs::canonicalize(cache).map_err(Error::io("finding", cache))?;
        Ok(Self { cache, wanted, snapshot, offline, progress: progress.clone() })
    }

    /// The folder that it fills.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Whether no network may be used.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Whether a mirror that keeps old versions is at hand.
    pub fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// The mirrors, looked up now.
    pub fn mirrors(&self) -> Result<Mirrors, Error> {
        self.wanted.find()
    }

    /// Where a package is, once it was fetched.
    pub fn path(&self, package: &Package) -> PathBuf {
        self.cache.join("debs").join(format!("{}.deb", package.sha256))
    }

    /// Whether a package is in the cache, by its name and size alone.
    pub fn has(&self, package: &Package) -> bool {
        fs::metadata(self.path(package)).is_ok_and(|data| data.len() == package.size_bytes)
    }

    /// Fetches what is missing. `resolved` is the date of the lock, for the snapshot mirror.
    pub fn fetch(&self, packages: &[Package], resolved: &str) -> Result<(), Error> {
        let missing = self.missing(packages);
        if missing.is_empty() {
            return Ok(());
        }
        if self.offline {
            return Err(Error::Offline { missing });
        }
        let _lock = self.lock()?;
        let missing = self.missing(packages); // another build may have fetched some meanwhile
        self.room_for(&missing)?;
        download::fetch(self, missing, resolved)
    }

    /// Checks the bytes of packages that are about to be used. A corrupt one is named, removed and
    /// fetched again.
    pub fn verify(&self, packages: &[Package], resolved: &str) -> Result<(), Error> {
        let corrupt = self.corrupt(packages)?;
        for (package, found) in &corrupt {
            let path = self.path(package);
            self.progress.line(format!(
                "the cached file of {package} is corrupt (SHA-256 {found}, expected {}): \
                 removed, fetching it again: {}",
                package.sha256,
                path.display()
            ));
            fs::remove_file(&path).map_err(Error::io("removing", &path))?;
        }
        let again: Vec<Package> = corrupt.into_iter().map(|(package, _)| package).collect();
        self.fetch(&again, resolved)
    }

    /// Puts the files of a package into `folder`, and runs nothing of it.
    pub fn unpack(&self, package: &Package, folder: &Path) -> anyhow::Result<()> {
        let deb = self.path(package);
        let mut command = Command::new("dpkg-deb");
        let status = command.arg("-x").arg(&deb).arg(folder).status();
        ensure!(
            status.context("starting dpkg-deb")?.success(),
            "dpkg-deb could not unpack {package}, {}",
            deb.display()
        );
        Ok(())
    }

    fn missing(&self, packages: &[Package]) -> Vec<Package> {
        let mut missing: Vec<Package> =
            packages.iter().filter(|package| !self.has(package)).cloned().collect();
        missing.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        missing.dedup_by(|a, b| a.sha256 == b.sha256);
        missing.sort();
        missing
    }

    /// Packages whose file has other bytes than its name says, with the hash that was found.
    fn corrupt(&self, packages: &[Package]) -> Result<Vec<(Package, String)>, Error> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut corrupt = Vec::new();
            while let Some(package) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                let path = self.path(package);
                let found = sha256_of(&path)
                    .map_err(|error| Error::io("reading", &path)(io::Error::other(error)))?;
                if found != package.sha256 {
                    corrupt.push((package.clone(), found));
                }
            }
            Ok::<_, Error>(corrupt)
        };
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut corrupt = Vec::new();
            for worker in workers {
                corrupt.extend(worker.join().expect("hashing a file does not panic")?);
            }
            Ok(corrupt)
        })
    }

    /// Refuses before a download fills the disk to the brim.
    fn room_for(&self, packages: &[Package]) -> Result<(), Error> {
        let needed: u64 = packages.iter().map(|package| package.size_bytes).sum();
        let stat = nix::sys::statvfs::statvfs(&self.cache)
            .map_err(|error| Error::io("looking at", &self.cache)(error.into()))?;
        let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
        if free < needed {
            let needed = size(needed);
            return Err(Error::NoSpace { path: self.cache.clone(), needed, free: size(free) });
        }
        Ok(())
    }

    /// One build fetches at a time: the other one then finds what it needs in the cache.
    fn lock(&self) -> Result<File, Error> {
        let path = self.cache.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("opening", &path))?;
        if file.try_lock().is_err() {
            let _waiting = self.progress.wait("another build is fetching packages: waiting for it");
            file.lock().map_err(Error::io("locking", &path))?;
        }
        Ok(file)
    }
}
