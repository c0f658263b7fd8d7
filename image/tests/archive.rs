//! Packages from mirrors that have them, had them, or lie. A mirror here is a folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::{
    archive::{Archive, Error, Policy, Snapshot, Wanted, settle},
    lock::{Flavor, Lock, Package, Set},
    progress::Progress,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const DATE: &str = "20261121T081653Z";
const ASKED: &str = "5e884898da280471";

/// A mirror, a mirror that keeps the past, and a cache.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["mirror/debian/pool", "old/debian/pool", "cache"] {
            fs::create_dir_all(world.path(folder)).unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn archive(&self, snapshot: bool, offline: bool) -> Archive {
        let wanted = Wanted {
            debian: Some(format!("file:{}", self.path("mirror/debian").display())),
            security: None,
        };
        let old = format!("file:{}", self.path("old").display());
        let snapshot = snapshot.then(|| Snapshot::new(&old).unwrap());
        let (cache, progress) = (self.path("cache"), Progress::silent());
        Archive::open(&cache, wanted, snapshot, offline, &progress).unwrap()
    }

    /// A package that `place` has: `mirror`, `old` or neither.
    fn package(&self, name: &str, version: &str, place: Option<&str>) -> Package {
        let bytes = format!("{name} {version}");
        let file = format!("debian/pool/{name}_{version}_all.deb");
        if let Some(place) = place {
            fs::write(self.path(place).join(&file), &bytes).unwrap();
        }
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "all".to_owned(),
            sha256: hex::encode(Sha256::digest(&bytes)),
            size_bytes: bytes.len() as u64,
            file,
        }
    }
}

fn lock(image: &[&Package]) -> Lock {
    let packages = image.iter().map(|package| (Set::Image, (*package).clone()));
    Lock::new(DATE.to_owned(), ASKED.to_owned(), packages).unwrap()
}

fn contents(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn what_is_fetched_once_needs_no_network_again() {
    let world = World::new();
    let packages =
        [world.package("a", "1", Some("mirror")), world.package("b", "1", Some("mirror"))];
    world.archive(false, false).fetch(&packages, DATE).unwrap();
    let offline = world.archive(false, true);
    offline.fetch(&packages, DATE).unwrap();
    offline.verify(&packages, DATE).unwrap();
    assert_eq!(fs::read_to_string(offline.path(&packages[0])).unwrap(), "a 1");
}

#[test]
fn offline_names_what_is_not_in_the_cache() {
    let world = World::new();
    let packages = [world.package("a", "1", Some("mirror"))];
    let error = world.archive(false, true).fetch(&packages, DATE).unwrap_err().to_string();
    assert!(error.contains("1 package is missing in the package cache"), "{error}");
    assert!(error.contains("a 1"), "{error}");
}

#[test]
fn a_mirror_that_sends_other_bytes_is_found_out_and_nothing_is_kept() {
    let world = World::new();
    let package = world.package("a", "1", Some("mirror"));
    fs::write(world.path("mirror").join(&package.file), "b 1").unwrap();
    let archive = world.archive(false, false);
    let error = archive.fetch(&[package], DATE).unwrap_err();
    assert!(matches!(&error, Error::WrongHash { package, .. } if package.name == "a"), "{error}");
    assert_eq!(contents(&world.path("cache/debs")), 0);
}

#[test]
fn a_corrupt_cache_entry_is_fetched_again() {
    let world = World::new();
    let package = world.package("a", "1", Some("mirror"));
    let archive = world.archive(false, false);
    archive.fetch(std::slice::from_ref(&package), DATE).unwrap();
    fs::write(archive.path(&package), "a X").unwrap();
    archive.verify(std::slice::from_ref(&package), DATE).unwrap();
    assert_eq!(fs::read_to_string(archive.path(&package)).unwrap(), "a 1");
}

#[test]
fn a_package_that_the_mirror_dropped_comes_from_the_snapshot() {
    let world = World::new();
    let packages = [world.package("a", "1", Some("old")), world.package("b", "1", Some("mirror"))];
    let gone = world.archive(false, false).fetch(&packages, DATE).unwrap_err();
    assert!(matches!(&gone, Error::Gone { packages } if packages[0].name == "a"), "{gone}");
    world.archive(true, false).fetch(&packages, DATE).unwrap();
}

/// A lock whose `a` is gone, and what the archive has today.
fn dropped(world: &World) -> (Lock, Lock) {
    let mkosi = world.package("mkosi", "25", Some("mirror"));
    let with = |a: &Package| {
        Lock::new(
            DATE.to_owned(),
            ASKED.to_owned(),
            [(Set::Image, a.clone()), (Set::Build, mkosi.clone())],
        )
        .unwrap()
    };
    let (old, new) = (world.package("a", "1", None), world.package("a", "2", Some("mirror")));
    (with(&old), with(&new))
}

#[test]
fn a_plain_build_takes_the_present_version_and_lists_it() {
    let world = World::new();
    let (locked, present) = dropped(&world);
    let archive = world.archive(false, false);
    let settled =
        settle(&archive, &locked, Flavor::Cloud, Policy::Plain, || Ok(present.clone())).unwrap();
    assert_eq!(settled.image[0].version, "2");
    let difference = &settled.differences[..];
    assert_eq!(difference.len(), 1);
    assert_eq!((&*difference[0].locked, &*difference[0].used), ("1", "2"));

    // The second build has the answer and the packages, and asks nobody.
    let offline = world.archive(false, true);
    let ask = || panic!("it asked again");
    let again = settle(&offline, &locked, Flavor::Cloud, Policy::Plain, ask).unwrap();
    assert_eq!(again.image, settled.image);
    assert_eq!(again.differences, settled.differences);
}

#[test]
fn a_locked_build_refuses_and_names_both_versions() {
    let world = World::new();
    let (locked, present) = dropped(&world);
    let archive = world.archive(false, false);
    let error = settle(&archive, &locked, Flavor::Cloud, Policy::Locked, || Ok(present))
        .unwrap_err()
        .to_string();
    assert!(error.contains("a: locked 1, the archive has 2"), "{error}");
    assert!(error.contains("./pith lock") && error.contains("--snapshot-mirror"), "{error}");
}

#[test]
fn a_lock_without_mkosi_says_what_to_do() {
    let world = World::new();
    let a = world.package("a", "1", Some("mirror"));
    let archive = world.archive(false, false);
    let ask = || panic!("nothing is gone");
    let error =
        settle(&archive, &lock(&[&a]), Flavor::Cloud, Policy::Plain, ask).unwrap_err().to_string();
    assert!(error.contains("./pith lock"), "{error}");
}
