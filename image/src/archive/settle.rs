//! Which packages a build uses: those of the lock, or, where the mirror has dropped some and the
//! build may go on without them, those of today.
//!
//! Debian's mirrors keep one version of a package. A lock that is a few weeks old names files that
//! they have no more, and nobody's first build may fail for that. So a plain build resolves the
//! lists anew, says what is different, and remembers the answer beside the cache, so that building
//! again needs no network.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{Archive, Error};
use crate::lock::{Change, Flavor, Lock, Package, Set, changes};

/// What a build may do about locked packages that are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Take the present version, and say so.
    Plain,
    /// Refuse: releases are built as locked.
    Locked,
}

/// A package that is not the locked one. A side is empty where a package came or went.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// The version in the lock.
    pub locked: String,
    /// The version that is used.
    pub used: String,
}

/// The packages of one build; all of them but `stock` are in the cache.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The packages of the image.
    pub image: Vec<Package>,
    /// The packages of the tools tree.
    pub tools: Vec<Package>,
    /// Packages of the image that benchmarks compare with.
    pub stock: Vec<Package>,
    /// mkosi.
    pub mkosi: Package,
    /// The compiler of what our programs have in C.
    pub compiler: Vec<Package>,
    /// The date of the lock that they are from.
    pub resolved: String,
    /// What is not as locked.
    pub differences: Vec<Difference>,
}

impl Settled {
    /// All files that a build needs.
    pub fn all(&self) -> Vec<Package> {
        let mut all =
            [&self.image, &self.tools, &self.compiler, std::slice::from_ref(&self.mkosi)].concat();
        all.sort();
        all.dedup();
        all
    }

    /// What made the image and is not in it.
    pub fn of_tools(&self) -> Vec<Package> {
        let mut all = [&self.tools[..], &self.compiler].concat();
        all.sort();
        all.dedup();
        all
    }
}

/// Decides, and fetches. `present` resolves the lists against what the mirror has now.
pub fn settle(
    archive: &Archive,
    lock: &Lock,
    flavor: Flavor,
    policy: Policy,
    present: impl FnOnce() -> Result<Lock, anyhow::Error>,
) -> Result<Settled, anyhow::Error> {
    let locked = select(lock, flavor)?;
    let remembered = remembered(archive, lock);
    // An answer that was found before spares asking the mirror for what it does not have. With a
    // snapshot mirror there is hope for the locked ones.
    if policy == Policy::Plain
        && !archive.has_snapshot()
        && !locked.all().iter().all(|package| archive.has(package))
        && let Some(present) = read(&remembered)
    {
        let present = select(&present, flavor)?;
        if present.all().iter().all(|package| archive.has(package)) {
            return Ok(instead(archive, locked, present));
        }
    }

    let gone = match archive.fetch(&locked.all(), &locked.resolved) {
        Ok(()) => return Ok(locked),
        Err(Error::Gone { packages }) => packages,
        Err(other) => return Err(other.into()),
    };
    let present = present()?;
    match policy {
        Policy::Locked => Err(Error::NotAsLocked(said(&gone, lock, &present)).into()),
        Policy::Plain => {
            let used = select(&present, flavor)?;
            archive.fetch(&used.all(), &used.resolved)?;
            fs::write(&remembered, present.to_string())
                .map_err(Error::io("writing", &remembered))?;
            Ok(instead(archive, locked, used))
        }
    }
}

fn select(lock: &Lock, flavor: Flavor) -> Result<Settled, anyhow::Error> {
    let (mkosi, compiler): (Vec<_>, Vec<_>) =
        lock.set(Set::Build).into_iter().partition(|package| package.name == "mkosi");
    Ok(Settled {
        image: lock.image(flavor),
        tools: lock.set(Set::Tools),
        stock: lock.set(Set::Stock),
        mkosi: mkosi
            .into_iter()
            .next()
            .ok_or_else(|| anyhow::anyhow!("the lock has no mkosi: run `./pith lock`"))?,
        compiler,
        resolved: lock.resolved().to_owned(),
        differences: Vec::new(),
    })
}

/// The packages of today in place of the locked ones, said loudly.
fn instead(archive: &Archive, locked: Settled, used: Settled) -> Settled {
    let differences = differences(&locked, &used);
    let say = |text: &str| archive.progress.line(text);
    say("");
    say("NOT AS LOCKED: the mirror has dropped packages of rootfs/packages.lock.");
    say("This build uses the versions of today, signed by the archive, in their place:");
    for difference in &differences {
        let Difference { name, locked, used, .. } = difference;
        let or_none = |version: &str| if version.is_empty() { "none" } else { version }.to_owned();
        say(&format!("  {name}: locked {}, used {}", or_none(locked), or_none(used)));
    }
    say("The manifest lists them. To build as locked: `./pith lock` and commit, or give a mirror");
    say("that keeps old versions with --snapshot-mirror.");
    say("");
    Settled { differences, ..used }
}

fn differences(locked: &Settled, used: &Settled) -> Vec<Difference> {
    let mut all = Vec::new();
    let mkosi = |settled: &Settled| vec![settled.mkosi.clone()];
    for (locked, used) in [
        (locked.image.clone(), used.image.clone()),
        (locked.tools.clone(), used.tools.clone()),
        (locked.compiler.clone(), used.compiler.clone()),
        (mkosi(locked), mkosi(used)),
    ] {
        for package in &used {
            let same = locked.iter().find(|other| other.name == package.name);
            if same != Some(package) {
                all.push(Difference {
                    name: package.name.clone(),
                    architecture: package.architecture.clone(),
                    locked: same.map(|same| same.version.clone()).unwrap_or_default(),
                    used: package.version.clone(),
                });
            }
        }
        for package in &locked {
            if !used.iter().any(|other| other.name == package.name) {
                all.push(Difference {
                    name: package.name.clone(),
                    architecture: package.architecture.clone(),
                    locked: package.version.clone(),
                    used: String::new(),
                });
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The gone packages with both versions: `bash: locked 5.2-1, the archive has 5.2-2`.
fn said(gone: &[Package], lock: &Lock, present: &Lock) -> Vec<String> {
    let changes = changes(lock, present);
    let now = |package: &Package| {
        changes.iter().find_map(|change| match change {
            Change::Changed { from, to, .. } if from == package => Some(to.version.clone()),
            _ => None,
        })
    };
    gone.iter()
        .map(|package| match now(package) {
            Some(version) => {
                format!("{}: locked {}, the archive has {version}", package.name, package.version)
            }
            None => format!("{}: locked {}, gone", package.name, package.version),
        })
        .collect()
}

/// Where the answer for this lock is kept.
fn remembered(archive: &Archive, lock: &Lock) -> PathBuf {
    let key = hex::encode(Sha256::digest(lock.to_string()));
    archive.cache().join(format!("instead-of-{}.lock", &key[..16]))
}

fn read(path: &Path) -> Option<Lock> {
    fs::read_to_string(path).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: hex::encode(Sha256::digest(format!("{name}{version}"))),
            size_bytes: 1,
            file: format!("debian/pool/{name}_{version}.deb"),
        }
    }

    fn settled(image: &[(&str, &str)]) -> Settled {
        Settled {
            image: image.iter().map(|(name, version)| package(name, version)).collect(),
            tools: Vec::new(),
            stock: Vec::new(),
            mkosi: package("mkosi", "25"),
            compiler: Vec::new(),
            resolved: "20261121T081653Z".to_owned(),
            differences: Vec::new(),
        }
    }

    #[test]
    fn each_package_that_is_not_the_locked_one_is_listed_with_both_versions() {
        let found = differences(
            &settled(&[("a", "1"), ("b", "1"), ("c", "1")]),
            &settled(&[("a", "1"), ("b", "2"), ("d", "1")]),
        );
        let lines: Vec<_> =
            found.iter().map(|d| format!("{} {:?} {:?}", d.name, d.locked, d.used)).collect();
        assert_eq!(lines, [r#"b "1" "2""#, r#"c "1" """#, r#"d "" "1""#]);
    }
}
