//! What we read of an image's manifest.json (format 1): what it takes to boot it and to check from
//! inside what was booted.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::error::{Doing, Error};

/// The part of manifest.json that matters to a machine.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The version of the image, `0.1.0-202611210930`.
    pub version: String,
    /// Whether exactly the locked packages are in it.
    pub as_locked: bool,
    /// The file system of /usr.
    pub usr: Usr,
    /// The partitions as shipped.
    pub disk: Disk,
    artifacts: Vec<Artifact>,
}

/// The file system of /usr.
#[derive(Clone, Debug, Deserialize)]
pub struct Usr {
    /// The root of its hash tree, 64 hexadecimal digits.
    pub root_hash: String,
}

/// The disk as shipped.
#[derive(Clone, Debug, Deserialize)]
pub struct Disk {
    /// Its size.
    pub size_bytes: u64,
    /// Its partition table.
    pub partitions: Vec<Partition>,
}

/// A partition as shipped.
#[derive(Clone, Debug, Deserialize)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u32,
    /// Its name.
    pub label: String,
    /// What identifies it.
    pub guid: String,
    /// Where it starts on the disk.
    pub start_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Artifact {
    file: String,
}

impl Manifest {
    /// Reads a manifest.json.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).doing(|| format!("opening {}", path.display()))?;
        let malformed = |source| Error::Malformed { path: path.to_owned(), source };
        serde_json::from_str(&text).map_err(malformed)
    }

    /// The name of the raw disk image.
    pub fn raw_file(&self) -> Result<&str, Error> {
        let mut files = self.artifacts.iter().map(|artifact| artifact.file.as_str());
        let raw = files.find(|file| file.ends_with(".raw"));
        raw.ok_or_else(|| Error::Refused("the manifest names no .raw file: nothing to boot".into()))
    }

    /// The partition that carries /usr, and the one with its hash tree: their GUIDs are the halves
    /// of the root hash.
    pub fn usr_partitions(&self) -> Option<(&Partition, &Partition)> {
        let half = |digits: &str| {
            self.disk
                .partitions
                .iter()
                .find(|partition| partition.guid.replace('-', "").eq_ignore_ascii_case(digits))
        };
        let (data, tree) = self.usr.root_hash.split_at_checked(32)?;
        Some((half(data)?, half(tree)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_1_is_read_for_ever() {
        let manifest: Manifest =
            serde_json::from_str(include_str!("../tests/manifest-format-1.json"))
                .expect("format 1");
        assert_eq!(manifest.raw_file().expect("a raw file"), "pithos-0.1.0-202611210930.raw");
        let (data, tree) = manifest.usr_partitions().expect("two partitions");
        assert_eq!((data.number, tree.number), (2, 3));
    }
}
