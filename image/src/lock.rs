//! The package lock: every Debian package of the image and of the tools that build it, by name,
//! version, architecture and SHA-256. Pure: it is read from text and written as text.
//!
//! One package a line, sorted, so that a change of the lock reads as what changed:
//!
//! ```text
//! format 1
//! resolved 20261121T081653Z
//! asked 5e884898da280471
//! image bash 5.2.37-2+b8 amd64 4fb2… 1504116 debian/pool/main/b/bash/bash_5.2.37-2+b8_amd64.deb
//! image.cloud linux-image-cloud-amd64 6.12.90-1 amd64 …
//! ```
//!
//! The columns are: set, name, version, architecture, SHA-256, bytes, and the place below an
//! archive, whose first folder names the archive (`debian` or `debian-security`). No mirror is
//! named. `resolved` is the date of the archive's own index, so it too is a function of the input;
//! `asked` is the hash of the lists that were resolved, so that a list which was changed afterwards
//! is noticed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display},
    str::FromStr,
};

pub use changes::{Change, changes};
pub use lists::{List, ListError};
pub use parse::{ParseError, Problem};

mod changes;
mod lists;
mod parse;

/// What a package is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Set {
    /// The browser that the pages of our servers are tested in. It is unpacked, not installed.
    Browser,
    /// mkosi, which assembles the trees, and the compiler of what our programs have in C. They are
    /// unpacked, not installed.
    Build,
    /// In every image.
    Image,
    /// In images of one flavor only.
    ImageOf(Flavor),
    /// For the image that benchmarks compare with.
    Stock,
    /// In the tools tree.
    Tools,
}

/// Kinds of images: they differ in their kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Flavor {
    /// For virtual machines and clouds.
    Cloud,
    /// For bare metal, too.
    Generic,
}

/// One package, exactly.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, with epoch and revision.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// SHA-256 of the `.deb`, 64 hex digits.
    pub sha256: String,
    /// Size of the `.deb`.
    pub size_bytes: u64,
    /// Where archives have it: `debian/pool/main/b/bash/bash_5.2_amd64.deb`.
    pub file: String,
}

/// All packages, by set and name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    resolved: String,
    asked: String,
    packages: BTreeMap<Set, BTreeMap<String, Package>>,
}

impl Lock {
    /// A lock of packages, resolved from an index of this date (`20261121T081653Z`) for lists of
    /// this hash.
    pub fn new(
        resolved: String,
        asked: String,
        packages: impl IntoIterator<Item = (Set, Package)>,
    ) -> Result<Self, Problem> {
        let mut lock = Self { resolved, asked, packages: BTreeMap::new() };
        for (set, package) in packages {
            lock.insert(set, package)?;
        }
        Ok(lock)
    }

    /// The date of the archive's index, for a mirror that keeps the past.
    pub fn resolved(&self) -> &str {
        &self.resolved
    }

    /// The hash of the lists that it answers.
    pub fn asked(&self) -> &str {
        &self.asked
    }

    /// The packages of an image.
    pub fn image(&self, flavor: Flavor) -> Vec<Package> {
        let mut packages = self.set(Set::Image);
        packages.extend(self.set(Set::ImageOf(flavor)));
        packages.sort();
        packages
    }

    /// The packages of one set, sorted by name.
    pub fn set(&self, set: Set) -> Vec<Package> {
        self.packages.get(&set).into_iter().flat_map(|set| set.values().cloned()).collect()
    }

    /// Every package with its set, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (Set, &Package)> {
        self.packages
            .iter()
            .flat_map(|(set, packages)| packages.values().map(move |package| (*set, package)))
    }

    /// Adds one package, if it fits what is there.
    fn insert(&mut self, set: Set, package: Package) -> Result<(), Problem> {
        package.check()?;
        let name = package.name.clone();
        if let Set::ImageOf(_) = set
            && self.packages.get(&Set::Image).is_some_and(|common| common.contains_key(&name))
        {
            return Err(Problem::Twice { name, set: Set::Image });
        }
        // The same version of a package is the same file, whatever it is for.
        let same = |other: &&Package| {
            other.name == package.name
                && other.version == package.version
                && other.architecture == package.architecture
        };
        let other = self.packages.values().filter_map(|packages| packages.get(&name)).find(same);
        if let Some(other) = other
            && other.sha256 != package.sha256
        {
            return Err(Problem::TwoHashes { name });
        }
        match self.packages.entry(set).or_default().insert(name.clone(), package) {
            Some(_) => Err(Problem::Twice { name, set }),
            None => Ok(()),
        }
    }

    /// A lock where what both flavors have is in the common set.
    pub fn of_flavors(
        resolved: String,
        asked: String,
        flavors: BTreeMap<Flavor, Vec<Package>>,
        others: impl IntoIterator<Item = (Set, Package)>,
    ) -> Result<Self, Problem> {
        let sets: Vec<BTreeSet<&Package>> =
            flavors.values().map(|packages| packages.iter().collect()).collect();
        let common = |package: &Package| sets.iter().all(|set| set.contains(package));
        let mut all = BTreeSet::new();
        for (flavor, packages) in &flavors {
            for package in packages {
                let set = if common(package) { Set::Image } else { Set::ImageOf(*flavor) };
                all.insert((set, package.clone()));
            }
        }
        all.extend(others);
        Self::new(resolved, asked, all)
    }
}

impl Package {
    /// The name that tools expect of its file: `bash_5.2.37-2+b8_amd64.deb`.
    pub fn deb(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// As people say it: `bash 5.2.37-2+b8`.
impl Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Flavor {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Cloud, Self::Generic];

    /// Its name, in options, in the lock and in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        }
    }
}

impl Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Flavor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|flavor| flavor.name() == text);
        known.ok_or_else(|| format!("`{text}` is no flavor: expected `cloud` or `generic`"))
    }
}

impl Set {
    const ALL: [Self; 7] = [
        Self::Browser,
        Self::Build,
        Self::Image,
        Self::ImageOf(Flavor::Cloud),
        Self::ImageOf(Flavor::Generic),
        Self::Stock,
        Self::Tools,
    ];
}

impl Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Browser => f.write_str("browser"),
            Self::Build => f.write_str("build"),
            Self::Image => f.write_str("image"),
            Self::ImageOf(flavor) => write!(f, "image.{flavor}"),
            Self::Stock => f.write_str("stock"),
            Self::Tools => f.write_str("tools"),
        }
    }
}

impl FromStr for Set {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let known = Self::ALL.into_iter().find(|set| set.to_string() == text);
        known.ok_or_else(|| Problem::Set(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        let hash = sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            format!("{name} {version}"),
        ));
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: hex::encode(hash),
            size_bytes: 1000,
            file: format!("debian/pool/main/{name}_{version}_amd64.deb"),
        }
    }

    #[test]
    fn what_both_flavors_have_is_locked_once() {
        let lock = Lock::of_flavors(
            "20261121T081653Z".to_owned(),
            "5e884898da280471".to_owned(),
            BTreeMap::from([
                (Flavor::Cloud, vec![package("bash", "5"), package("linux-cloud", "6")]),
                (Flavor::Generic, vec![package("bash", "5"), package("linux", "6")]),
            ]),
            [(Set::Tools, package("bash", "5"))],
        )
        .unwrap();
        let lines: Vec<_> = lock.iter().map(|(set, package)| format!("{set}: {package}")).collect();
        assert_eq!(
            lines,
            [
                "image: bash 5",
                "image.cloud: linux-cloud 6",
                "image.generic: linux 6",
                "tools: bash 5"
            ]
        );
        let cloud: Vec<_> = lock.image(Flavor::Cloud).iter().map(Package::to_string).collect();
        assert_eq!(cloud, ["bash 5", "linux-cloud 6"]);
    }

    #[test]
    fn one_version_of_a_package_has_one_hash() {
        let other = Package { sha256: "0".repeat(64), ..package("bash", "5") };
        let lock = Lock::new(
            "20261121T081653Z".to_owned(),
            "5e884898da280471".to_owned(),
            [(Set::Image, package("bash", "5")), (Set::Tools, other)],
        );
        assert_eq!(lock.unwrap_err(), Problem::TwoHashes { name: "bash".to_owned() });
    }

    #[test]
    fn a_file_is_named_as_apt_names_it() {
        assert_eq!(package("dbus", "1:1.2").deb(), "dbus_1%3a1.2_amd64.deb");
    }
}
