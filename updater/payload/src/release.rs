//! A release: one version of one variant, as segments that a machine fetches and puts together.
//!
//! The description is JSON, a target of the signed metadata. It is immutable: what may change after
//! it was published (for whom, when, whether at all) is in the [channel](crate::channel).

mod check;

use std::fmt;

use jiff::Timestamp;
use layout::{
    RootHash, Version,
    verity::{BLOCK_BYTES, Superblock},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Digest, text};

pub use check::Wrong;

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// Every segment of an image but its last has this length.
pub const SEGMENT_BYTES: u64 = 4 << 20;
/// The longest range of a source that a patch may refer to. With a segment it bounds what a machine
/// needs to apply one: 12 MiB, and the patch itself.
pub const SOURCE_MAX_BYTES: u64 = 8 << 20;
/// The longest object: a segment that cannot be compressed, and zstd's frame around it.
pub const OBJECT_MAX_BYTES: u64 = SEGMENT_BYTES + (64 << 10);
/// The longest description.
pub const MAX_BYTES: u64 = 4 << 20;

/// One version of one variant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Release {
    /// [`FORMAT`].
    pub format: u32,
    /// `pithos`.
    pub id: String,
    /// The version that this makes of a machine.
    #[serde(with = "text")]
    pub version: Version,
    /// What machines it is for.
    pub variant: Variant,
    /// The security epoch. A machine never goes back behind the highest that it has run, unless the
    /// channel permits it.
    pub security_epoch: u32,
    /// The time that everything in the image has: the commit's.
    pub built: Timestamp,
    /// The file system of `/usr`.
    pub usr: Usr,
    /// The kernel with initramfs and command line.
    pub uki: Uki,
    /// The releases that patches and copies refer to, by their place in this list.
    pub sources: Vec<Source>,
    /// Who, besides the publisher, has to have built the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilders: Option<Rebuilders>,
}

/// What an image is made for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Variant {
    /// `cloud` or `generic`.
    pub flavor: String,
    /// `x86_64`.
    pub architecture: String,
}

/// The file system of `/usr`. What it has to be is its root hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Usr {
    /// dm-verity's root hash: the name of exactly these bytes.
    #[serde(with = "text")]
    pub root_hash: RootHash,
    /// Of the hash tree, which each machine computes.
    pub verity: Verity,
    /// The file system's bytes.
    #[serde(flatten)]
    pub image: Image,
}

/// What the hash tree depends on besides the bytes under it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verity {
    /// Hexadecimal.
    #[serde(with = "hex::serde")]
    pub salt: [u8; 32],
    /// In its superblock.
    pub uuid: Uuid,
    /// With its superblock.
    pub size_bytes: u64,
}

/// The kernel with initramfs and command line, one file on the ESP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Uki {
    /// Of the whole file. A machine that has this file already fetches nothing.
    pub sha256: Digest,
    /// The file's bytes.
    #[serde(flatten)]
    pub image: Image,
}

/// Bytes in segments.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The sum of its segments.
    pub size_bytes: u64,
    /// In order, [`SEGMENT_BYTES`] each, the last one the rest.
    pub segments: Vec<Segment>,
}

/// A part of an image, and the forms in which it can be had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// Of its bytes, once it is put together.
    pub sha256: Digest,
    /// One of them is [`Form::Full`].
    pub forms: Vec<Form>,
}

/// How a segment comes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case")]
pub enum Form {
    /// A zstd frame of it.
    Full {
        /// The frame.
        object: Object,
    },
    /// A zstd frame that has the bytes of a range of a source as its prefix.
    Patch {
        /// Which bytes.
        range: Range,
        /// The frame.
        object: Object,
    },
    /// It is in a source as it is: its first byte is there.
    Copy {
        /// In [`Release::sources`].
        source: usize,
        /// From the start of the same image of that release.
        offset_bytes: u64,
    },
    /// A form that a later version knows. It is passed over.
    #[serde(other)]
    Later,
}

/// Bytes of the same image (`/usr`, or the UKI) of an earlier release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Range {
    /// In [`Release::sources`].
    pub source: usize,
    /// From the start of the image.
    pub offset_bytes: u64,
    /// At most [`SOURCE_MAX_BYTES`].
    pub length_bytes: u64,
}

/// A file of the repository, named by its hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Object {
    /// Of the file, compressed as it is.
    pub sha256: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// An earlier release that a machine may run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Source {
    /// Its version.
    #[serde(with = "text")]
    pub version: Version,
    /// Its `/usr`.
    #[serde(with = "text")]
    pub usr_root_hash: RootHash,
    /// Length of its `/usr`.
    pub usr_size_bytes: u64,
    /// Its UKI.
    pub uki_sha256: Digest,
    /// Length of its UKI.
    pub uki_size_bytes: u64,
}

/// Independent builders, of whom some have to have signed the same hashes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rebuilders {
    /// How many of them.
    pub threshold: u32,
    /// Their ed25519 keys, hexadecimal.
    pub keys: Vec<String>,
}

/// What a machine has of the images that patches refer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Running {
    /// Root hash of the `/usr` that it runs.
    pub usr: Option<RootHash>,
    /// The UKI that it was booted from.
    pub uki: Option<Digest>,
}

/// One way to get a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice<'a> {
    /// The form.
    pub form: &'a Form,
    /// What has to be fetched; nothing for a copy.
    pub object: Option<Object>,
    /// What has to be read of the running image: offset and length.
    pub source: Option<(u64, u64)>,
}

/// Why a text is no release.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a description at all.
    #[error("the release description is not valid")]
    Parse(#[source] serde_json::Error),
    /// It is of another format.
    #[error(
        "the release description is of format {0}, and this version reads format {FORMAT}: \
         install the releases in between first"
    )]
    Format(u64),
    /// It contradicts itself.
    #[error("the release description of {version} is wrong")]
    Wrong {
        /// The version that it says.
        version: Version,
        /// What is wrong.
        source: Wrong,
    },
}

impl Release {
    /// Reads a description and checks that it is consistent.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        /// What every format has; said first, because another format fails elsewhere, too.
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let head: Head = serde_json::from_slice(text).map_err(Error::Parse)?;
        if head.format != u64::from(FORMAT) {
            return Err(Error::Format(head.format));
        }
        let release: Self = serde_json::from_slice(text).map_err(Error::Parse)?;
        match release.check() {
            Ok(()) => Ok(release),
            Err(source) => Err(Error::Wrong { version: release.version, source }),
        }
    }

    /// Its text: the same for the same release.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("it has no maps and no floats");
        text.push('\n');
        text
    }

    /// The target that describes `version` for `variant`.
    pub fn target(version: &Version, variant: &Variant) -> String {
        format!("releases/{version}/{variant}.json")
    }

    /// The source whose `/usr` is `running`.
    pub fn usr_source(&self, running: &Running) -> Option<usize> {
        let running = running.usr?;
        self.sources.iter().position(|source| source.usr_root_hash == running)
    }

    /// The source whose UKI is `running`.
    pub fn uki_source(&self, running: &Running) -> Option<usize> {
        let running = running.uki?;
        self.sources.iter().position(|source| source.uki_sha256 == running)
    }

    /// What a machine fetches that has `running`, and if all goes well.
    pub fn fetch_bytes(&self, running: &Running) -> u64 {
        let uki = if running.uki == Some(self.uki.sha256) {
            0
        } else {
            self.uki.image.fetch_bytes(self.uki_source(running))
        };
        self.usr.image.fetch_bytes(self.usr_source(running)) + uki
    }
}

impl Usr {
    /// What is in front of its hash tree.
    pub fn superblock(&self) -> Superblock {
        let Verity { salt, uuid, .. } = self.verity;
        let data_blocks = self.image.size_bytes.div_ceil(BLOCK_BYTES);
        Superblock { uuid, data_blocks, salt: salt.to_vec() }
    }
}

impl Image {
    /// Where segment `index` lies: offset and length.
    ///
    /// # Panics
    /// When there is no such segment.
    pub fn place(&self, index: usize) -> (u64, u64) {
        assert!(index < self.segments.len(), "segment {index} of {}", self.segments.len());
        let offset = index as u64 * SEGMENT_BYTES;
        (offset, SEGMENT_BYTES.min(self.size_bytes - offset))
    }

    /// The ways to get segment `index` on a machine that runs `source`, the cheapest first. The last
    /// one is the full segment, which needs nothing of the machine: whichever fails, the next is
    /// tried.
    pub fn choices(&self, index: usize, source: Option<usize>) -> Vec<Choice<'_>> {
        let (_, length) = self.place(index);
        let mut choices: Vec<Choice<'_>> = self.segments[index]
            .forms
            .iter()
            .filter_map(|form| match *form {
                Form::Full { object } => Some(Choice { form, object: Some(object), source: None }),
                Form::Patch { range, object } if Some(range.source) == source => Some(Choice {
                    form,
                    object: Some(object),
                    source: Some((range.offset_bytes, range.length_bytes)),
                }),
                Form::Copy { source: of, offset_bytes } if Some(of) == source => {
                    Some(Choice { form, object: None, source: Some((offset_bytes, length)) })
                }
                Form::Patch { .. } | Form::Copy { .. } | Form::Later => None,
            })
            .collect();
        choices.sort_by_key(Choice::fetch_bytes);
        // What is dearer than the full segment is of no use to anybody.
        let full = choices.iter().position(|choice| matches!(choice.form, Form::Full { .. }));
        choices.truncate(full.map_or(0, |full| full + 1));
        choices
    }

    fn fetch_bytes(&self, source: Option<usize>) -> u64 {
        let cheapest = |index| self.choices(index, source).first().map_or(0, Choice::fetch_bytes);
        (0..self.segments.len()).map(cheapest).sum()
    }
}

impl Choice<'_> {
    /// What it costs.
    pub fn fetch_bytes(&self) -> u64 {
        self.object.map_or(0, |object| object.size_bytes)
    }
}

impl Object {
    /// Where it is in a repository.
    pub fn path(&self) -> String {
        let name = self.sha256.to_string();
        format!("objects/{}/{name}", &name[..2])
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.flavor, self.architecture)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::example;
