//! A release of an image: what `image build` made, cut, compressed and described.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use image::{
    manifest::{self, Manifest},
    progress::Progress,
};
use jiff::Timestamp as Time;
use layout::{RootHash, Version, verity::Superblock};
use payload::{
    Digest, Release, Variant,
    countersign::Built,
    release::{self, Form, Image, Rebuilders, Source, Uki, Usr, Verity},
    tuf::metadata::Targets,
};
use serde::Serialize;

use crate::{
    delta::{self, Before, Known, Levels},
    objects::Objects,
    repository::Repository,
};

/// An image in memory.
pub(crate) struct Finished {
    pub(crate) version: Version,
    pub(crate) variant: Variant,
    built: Time,
    root_hash: RootHash,
    verity: Verity,
    usr: Vec<u8>,
    uki: Vec<u8>,
}

/// How a release is to be made.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) security_epoch: u32,
    pub(crate) rebuilders: Option<Rebuilders>,
    /// Deltas against so many releases.
    pub(crate) deltas: usize,
    pub(crate) levels: Levels,
}

/// What it costs a machine to get there.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    /// The version that it runs; none if that is not among the sources.
    pub(crate) from: Option<String>,
    /// What it fetches.
    pub(crate) fetch_bytes: u64,
    /// Of that, for the UKI.
    pub(crate) uki_bytes: u64,
}

impl Finished {
    /// Reads what `image build` left in `folder`, and checks that it is what its manifest says.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(&folder.join(manifest::FILE))?;
        let version: Version = manifest.version.parse().context("the manifest's version")?;
        let usr = read(&folder.join(version.artifact("usr.erofs")))?;
        let uki = read(&folder.join(version.artifact("efi")))?;
        let root_hash: RootHash =
            manifest.usr.root_hash.parse().context("the manifest's root hash")?;
        let tree = folder.join(version.artifact("usr.verity"));
        let mut superblock = [0; Superblock::BYTES];
        let opened = File::open(&tree).and_then(|mut file| file.read_exact(&mut superblock));
        opened.with_context(|| format!("reading {}", tree.display()))?;
        let superblock = Superblock::parse(&superblock)
            .with_context(|| format!("{} is not a hash tree", tree.display()))?;
        let (hasher, mut hashes) = (superblock.hasher(), Vec::new());
        hasher.hash(&usr, &mut hashes);
        let found = hasher.tree(hashes).map(|tree| tree.root_hash);
        ensure!(
            found == Some(root_hash),
            "{}: /usr is not what the manifest says (root hash {root_hash}): build it again",
            folder.display()
        );
        ensure!(
            Digest::of(&uki).to_string() == manifest.uki.sha256,
            "{}: the UKI is not what the manifest says: build it again",
            folder.display()
        );
        let salt = superblock.salt.clone().try_into();
        let Ok(salt) = salt else { bail!("{}: a salt that is not 32 bytes", tree.display()) };
        Ok(Self {
            version,
            variant: Variant { flavor: manifest.flavor, architecture: manifest.architecture },
            built: Time::from_second(i64::try_from(manifest.epoch).context("the epoch")?)?,
            root_hash,
            verity: Verity { salt, uuid: superblock.uuid, size_bytes: superblock.size_bytes() },
            usr,
            uki,
        })
    }

    /// What a rebuilder signs.
    pub(crate) fn built(&self) -> Built<'_> {
        Built {
            version: &self.version,
            variant: &self.variant,
            usr: (self.root_hash, self.usr.len() as u64),
            uki: (Digest::of(&self.uki), self.uki.len() as u64),
        }
    }

    /// Makes the release: objects are written, its description is not.
    pub(crate) fn release(
        &self,
        repository: &Repository,
        targets: &Targets,
        wish: &Wish,
        progress: &Progress,
    ) -> Result<Release> {
        let earlier = earlier(repository, targets, &self.variant, &self.version)?;
        let objects = Objects::of(repository.path());
        let mut known = Known::new();
        let images = earlier.iter().flat_map(|release| [&release.usr.image, &release.uki.image]);
        for segment in images.flat_map(|image| &image.segments) {
            for form in &segment.forms {
                if let Form::Full { object } = form {
                    known.insert(segment.sha256, *object);
                }
            }
        }
        let sources: Vec<&Release> = earlier.iter().rev().take(wish.deltas).collect();
        for source in &sources {
            progress.line(format!("delta against {}", source.version));
        }
        let make = |what: &str, bytes: &[u8], of: &dyn Fn(&Release) -> &Image| {
            let mut before = Vec::new();
            for (source, release) in sources.iter().enumerate() {
                let doing = || format!("putting {what} of {} together", release.version);
                before.push(Before {
                    source,
                    bytes: whole(of(release), &objects).with_context(doing)?,
                });
            }
            let task = progress.transfer(&format!("segments of {what}"), bytes.len() as u64);
            delta::make(bytes, &before, &known, wish.levels, &objects, &task)
        };
        let usr = make("/usr", &self.usr, &|release| &release.usr.image)?;
        let uki = make("the UKI", &self.uki, &|release| &release.uki.image)?;
        let release = Release {
            format: release::FORMAT,
            id: "pithos".into(),
            version: self.version.clone(),
            variant: self.variant.clone(),
            security_epoch: wish.security_epoch,
            built: self.built,
            usr: Usr { root_hash: self.root_hash, verity: self.verity.clone(), image: usr },
            uki: Uki { sha256: Digest::of(&self.uki), image: uki },
            sources: sources.iter().map(|release| source(release)).collect(),
            rebuilders: wish.rebuilders.clone(),
        };
        release.check().context("the release that was made is wrong")?;
        progress
            .line(format!("{} of objects are new", image::progress::size(objects.written_bytes())));
        Ok(release)
    }
}

/// What `release` costs machines: without a source, and from each.
pub(crate) fn costs(release: &Release) -> Vec<Cost> {
    let cost = |from: Option<&Source>| {
        let running = release::Running {
            usr: from.map(|source| source.usr_root_hash),
            uki: from.map(|source| source.uki_sha256),
        };
        let without_uki = release::Running { uki: Some(release.uki.sha256), ..running };
        let fetch_bytes = release.fetch_bytes(&running);
        let uki_bytes = fetch_bytes - release.fetch_bytes(&without_uki);
        Cost { from: from.map(|source| source.version.to_string()), fetch_bytes, uki_bytes }
    };
    std::iter::once(None).chain(release.sources.iter().map(Some)).map(cost).collect()
}

/// The releases of `variant` before `version`, the oldest first.
fn earlier(
    repository: &Repository,
    targets: &Targets,
    variant: &Variant,
    version: &Version,
) -> Result<Vec<Release>> {
    let mut found = Vec::new();
    let name = format!("{variant}.json");
    for path in targets.targets.keys() {
        let mut parts = path.split('/');
        if (parts.next(), parts.next_back()) != (Some("releases"), Some(&name)) {
            continue;
        }
        let text = repository.target(targets, path)?.expect("it is listed");
        let release = Release::parse(&text).with_context(|| path.clone())?;
        if release.version < *version {
            found.push(release);
        }
    }
    found.sort_by(|one, other| one.version.cmp(&other.version));
    Ok(found)
}

fn source(release: &Release) -> Source {
    Source {
        version: release.version.clone(),
        usr_root_hash: release.usr.root_hash,
        usr_size_bytes: release.usr.image.size_bytes,
        uki_sha256: release.uki.sha256,
        uki_size_bytes: release.uki.image.size_bytes,
    }
}

/// An image, put together from the whole forms of its segments.
fn whole(image: &Image, objects: &Objects) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for index in 0..image.segments.len() {
        let choices = image.choices(index, None);
        let choice = choices.last().context("a segment without a whole form")?;
        let object = objects.get(&choice.object.context("a whole form without an object")?)?;
        bytes.extend(payload::segment::make(image, index, choice, &object, &[])?);
    }
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}
