//! `manifest.json`: what an image is made of, by name, size and SHA-256, and `SHA256SUMS`.
//!
//! It is the one file that another program needs to know an image: the virtual machines read the
//! root hash from it, `verify` checks a disk against it, a second builder compares with it. The
//! same image gives the same bytes: fields in the order below, lists in the order of the disk or
//! sorted by name, no time but the epoch.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// Its name in the folder of an image.
pub const FILE: &str = "manifest.json";

/// Everything about one image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// `pithos`.
    pub id: String,
    /// `0.1.0-202611210930`.
    pub version: String,
    /// The commit, with `-dirty` behind it if the checkout was changed.
    pub build_id: String,
    /// `x86_64`.
    pub architecture: String,
    /// `cloud` or `generic`.
    pub flavor: String,
    /// The time that everything in the image has, in seconds since 1970.
    pub epoch: u64,
    /// Whether every package is the locked one.
    pub as_locked: bool,
    /// The packages that are not.
    pub differences: Vec<Difference>,
    /// The file system of `/usr`.
    pub usr: Usr,
    /// The kernel with its initramfs and command line.
    pub uki: Uki,
    /// The initramfs in the UKI.
    pub initramfs: Blob,
    /// The disk.
    pub disk: Disk,
    /// The files that belong to the image, sorted by name.
    pub artifacts: Vec<Artifact>,
    /// Debian packages in the image, sorted by name.
    pub packages: Vec<Package>,
    /// Debian packages of the tools that made it, sorted by name.
    pub tools: Vec<Package>,
    /// Our programs in it, sorted by name.
    pub programs: Vec<Program>,
}

/// A package whose locked version was not to be had.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// The version in the lock.
    pub locked: String,
    /// The version in the image.
    pub used: String,
}

/// The file system of `/usr` and its hash tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Usr {
    /// dm-verity's root hash: 64 hexadecimal digits.
    pub root_hash: String,
    /// Of the file system.
    pub size_bytes: u64,
    /// Of the hash tree.
    pub verity_size_bytes: u64,
    /// Of the hash tree, hexadecimal.
    pub salt: String,
    /// Of the file system.
    pub uuid: Uuid,
}

/// The unified kernel image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Uki {
    /// Its name on the ESP, with the boot counter.
    pub file: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its hash.
    pub sha256: String,
    /// The kernel's command line.
    pub cmdline: String,
    /// The kernel's release.
    pub kernel: String,
    /// What it consists of, in its order.
    pub sections: Vec<Section>,
}

/// One section of a UKI.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Section {
    /// `.linux`.
    pub name: String,
    /// Without padding.
    pub size_bytes: u64,
    /// Of that many bytes.
    pub sha256: String,
}

/// Bytes that are not a file of their own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Blob {
    /// How many.
    pub size_bytes: u64,
    /// Their hash.
    pub sha256: String,
}

/// The partition table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disk {
    /// GUID of the disk.
    pub guid: Uuid,
    /// Its size.
    pub size_bytes: u64,
    /// By number.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Partition {
    /// From 1.
    pub number: u32,
    /// Its GPT name.
    pub label: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_guid: Uuid,
    /// Its PARTUUID.
    pub guid: Uuid,
    /// Its first byte.
    pub start_bytes: u64,
    /// Its length.
    pub size_bytes: u64,
    /// Of all its bytes, the unused ones too.
    pub sha256: String,
}

/// A file of the image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub file: String,
    /// Its length.
    pub size_bytes: u64,
    /// Without holes: 1 MiB pieces that are not all zeros.
    pub allocated_bytes: u64,
    /// Its hash.
    pub sha256: String,
}

/// A Debian package.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Of its `.deb`.
    pub sha256: String,
}

/// One of our programs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Program {
    /// `init`.
    pub name: String,
    /// Its hash.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("reading the manifest {}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no manifest.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// It is of another format.
    #[error(
        "{}: the manifest is of format {found}, and this version reads format {FORMAT}: use the \
         `image` of the version that made it", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it says.
        found: u64,
    },
    /// It cannot be written.
    #[error("writing {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Manifest {
    /// Reads one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads one from the text of `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        /// What every format has; said first, because another format fails elsewhere, too.
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let parse = |error: serde_json::Error| Error::Parse {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            problem: without_place(&error),
        };
        let head: Head = serde_json::from_str(text).map_err(parse)?;
        if head.format != u64::from(FORMAT) {
            return Err(Error::Format { path: path.to_owned(), found: head.format });
        }
        serde_json::from_str(text).map_err(parse)
    }

    /// Its text: the same for the same manifest.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it has no maps and no floats");
        text.push('\n');
        text
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        write(path, &self.text())
    }
}

/// The text of `SHA256SUMS`, as `sha256sum --check` reads it.
pub fn sha256sums<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable();
    files.iter().map(|(file, sha256)| format!("{sha256}  {file}\n")).collect()
}

/// Writes `SHA256SUMS` of `(file, sha256)`.
pub fn write_sha256sums<'a>(
    path: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), Error> {
    write(path, &sha256sums(files))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// serde_json says the place at the end; we say it at the front.
fn without_place(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    said.strip_suffix(&place).map_or(said.clone(), str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Manifest {
        let sha256 = "ab".repeat(32);
        let package = Package {
            name: "bash".into(),
            version: "5.2.37-2".into(),
            architecture: "amd64".into(),
            sha256: sha256.clone(),
        };
        Manifest {
            format: FORMAT,
            id: "pithos".into(),
            version: "0.1.0-202611210930".into(),
            build_id: "0123abc-dirty".into(),
            architecture: "x86_64".into(),
            flavor: "cloud".into(),
            epoch: 1_795_253_400,
            as_locked: false,
            differences: vec![Difference {
                name: "bash".into(),
                architecture: "amd64".into(),
                locked: "5.2.37-1".into(),
                used: "5.2.37-2".into(),
            }],
            usr: Usr {
                root_hash: sha256.clone(),
                size_bytes: 4096,
                verity_size_bytes: 8192,
                salt: "5a".repeat(32),
                uuid: Uuid::from_u128(1),
            },
            uki: Uki {
                file: "pithos_0.1.0-202611210930+3.efi".into(),
                size_bytes: 10,
                sha256: sha256.clone(),
                cmdline: "rw".into(),
                kernel: "6.12.1".into(),
                sections: vec![Section {
                    name: ".linux".into(),
                    size_bytes: 5,
                    sha256: sha256.clone(),
                }],
            },
            initramfs: Blob { size_bytes: 3, sha256: sha256.clone() },
            disk: Disk {
                guid: Uuid::from_u128(2),
                size_bytes: 8 << 30,
                partitions: vec![Partition {
                    number: 1,
                    label: "esp".into(),
                    type_guid: layout::types::ESP,
                    guid: Uuid::from_u128(3),
                    start_bytes: 1 << 20,
                    size_bytes: 512 << 20,
                    sha256: sha256.clone(),
                }],
            },
            artifacts: vec![Artifact {
                file: "pithos-0.1.0-202611210930.raw".into(),
                size_bytes: 8 << 30,
                allocated_bytes: 1 << 20,
                sha256: sha256.clone(),
            }],
            packages: vec![package.clone()],
            tools: vec![package],
            programs: vec![Program { name: "init".into(), sha256, size_bytes: 9 }],
        }
    }

    #[test]
    fn what_is_written_is_read_and_format_1_stays_as_it_is() {
        let manifest = example();
        let text = manifest.text();
        assert_eq!(Manifest::parse(&text, Path::new("m")).unwrap(), manifest);
        expect_test::expect_file!["../tests/formats/manifest-1.json"].assert_eq(&text);
    }

    fn said(text: &str) -> String {
        Manifest::parse(text, Path::new("build/manifest.json")).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_named_by_line_and_column() {
        let text = example().text().replace("\"as_locked\": false", "\"as_locked\": 7");
        assert_eq!(
            said(&text),
            "build/manifest.json:9:16: invalid type: integer `7`, expected a boolean"
        );
        assert!(said("").starts_with("build/manifest.json:1:0: EOF"), "{}", said(""));
        assert!(said("{\"format\":1}").contains("missing field `id`"));
    }

    #[test]
    fn another_format_is_refused_before_its_fields() {
        assert_eq!(
            said("{\"format\": 2, \"new\": true}"),
            "build/manifest.json: the manifest is of format 2, and this version reads format 1: \
             use the `image` of the version that made it"
        );
    }

    #[test]
    fn checksums_are_sorted_by_name() {
        assert_eq!(sha256sums([("b", "22"), ("a", "11")]), "11  a\n22  b\n");
    }
}
