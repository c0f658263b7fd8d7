//! What can go wrong with packages, and what a person can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::lock::Package;

/// Why packages are not at hand.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No network may be used, and the cache does not have everything.
    #[error(
        "{} missing in the package cache, and --offline forbids fetching: {}\n\
         what to do: run once without --offline, or give a filled cache by PITHOS_CACHE",
        count(missing),
        some(missing)
    )]
    Offline {
        /// What is not in the cache.
        missing: Vec<Package>,
    },
    /// The mirror could not be asked.
    #[error(
        "{} missing and could not be fetched: {}\n{why}\n\
         what to do: check the network, or name another mirror with --mirror (PITHOS_MIRROR); \
         what was fetched is kept, so the next run goes on from here",
        count(missing),
        some(missing)
    )]
    Unreachable {
        /// What is still missing.
        missing: Vec<Package>,
        /// What the first failure said.
        why: String,
    },
    /// The mirror has other versions by now.
    #[error("{} on the mirror no more: {}", count(packages), some(packages))]
    Gone {
        /// What it does not have.
        packages: Vec<Package>,
    },
    /// The mirror sent other bytes than the lock says.
    #[error(
        "{package} from {url} has the wrong SHA-256:\n  expected {}\n  received {found}\n\
         Nothing of it was kept. Either something between here and the mirror changes files, or \
         the archive replaced a file under an old name.\n\
         what to do: try another mirror with --mirror; if it says the same, run `./pith lock` and \
         look at what changed", package.sha256
    )]
    WrongHash {
        /// Which package.
        package: Box<Package>,
        /// From where.
        url: String,
        /// What came.
        found: String,
    },
    /// The cache's disk is full.
    #[error(
        "no space left for packages in {}: {needed} needed, {free} free\n\
         what to do: free some, or give another folder by PITHOS_CACHE", path.display()
    )]
    NoSpace {
        /// The cache.
        path: PathBuf,
        /// What the packages take.
        needed: String,
        /// What there is.
        free: String,
    },
    /// No mirror is known.
    #[error(
        "no Debian mirror is known: none was given, this host's apt has none, and no mkosi is here \
         to take its default from\n\
         what to do: name one with --mirror URL (PITHOS_MIRROR)"
    )]
    NoMirror,
    /// The option for a mirror is not an address.
    #[error("`{0}` is no mirror: expected an address such as http://HOST/debian")]
    NotAMirror(String),
    /// The archive's keys are not here.
    #[error(
        "{} is missing, which tells Debian's packages from others\n\
         what to do: install the package debian-archive-keyring", .0.display()
    )]
    NoKeyring(PathBuf),
    /// apt could not get the list of packages.
    #[error(
        "the list of packages could not be fetched from {mirror}: apt said:\n{said}\n\
         what to do: check the network, or name another mirror with --mirror (PITHOS_MIRROR)"
    )]
    NoList {
        /// From where.
        mirror: String,
        /// Its last words.
        said: String,
    },
    /// apt failed.
    #[error("{doing}: apt said:\n{said}")]
    Apt {
        /// What it was to do.
        doing: String,
        /// Its last words.
        said: String,
    },
    /// The lock does not fit itself.
    #[error("the archive's answer makes no lock: {0}")]
    Lock(#[from] crate::lock::Problem),
    /// Releases are built as locked.
    #[error(
        "--locked: the mirror does not have these packages as they are locked:\n{}\n\
         what to do: either `./pith lock` to lock the versions of today, or name a mirror that \
         keeps old versions with --snapshot-mirror (PITHOS_SNAPSHOT_MIRROR)",
        .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    )]
    NotAsLocked(Vec<String>),
    /// A file or folder.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

fn count(packages: &[Package]) -> String {
    match packages.len() {
        1 => "1 package is".to_owned(),
        n => format!("{n} packages are"),
    }
}

/// The first few names, and how many more.
fn some(packages: &[Package]) -> String {
    let shown: Vec<_> = packages.iter().take(8).map(Package::to_string).collect();
    match packages.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}
