//! A release in one file, for machines without a network: a tar archive of the part of a repository
//! that it takes.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use layout::Version;
use payload::{
    Channel, Release,
    release::{Form, Image},
};
use serde::Serialize;

use crate::{
    channels,
    repository::{Current, Repository},
};

/// What is wanted in it.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) channel: &'a str,
    /// The newest, if none is named.
    pub(crate) version: Option<&'a Version>,
    /// Machines that run one of these find patches in it.
    pub(crate) from: &'a [Version],
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Bundled {
    pub(crate) version: String,
    pub(crate) files: usize,
    pub(crate) size_bytes: u64,
}

/// Writes the bundle to `out`, whole or not at all.
pub(crate) fn write(
    repository: &Repository,
    current: &Current,
    wish: &Wish<'_>,
    out: &Path,
) -> Result<Bundled> {
    let (version, files) = files(repository, current, wish)?;
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let writing = || format!("writing {}", out.display());
    let mut unfinished = tempfile::NamedTempFile::new_in(folder).with_context(writing)?;
    archive(repository.path(), &files, unfinished.as_file_mut()).with_context(writing)?;
    unfinished.as_file().sync_all().with_context(writing)?;
    let size_bytes = unfinished.as_file().metadata().with_context(writing)?.len();
    unfinished.persist(out).with_context(writing)?;
    Ok(Bundled { version: version.to_string(), files: files.len(), size_bytes })
}

/// What belongs into it, as paths of the repository.
fn files(
    repository: &Repository,
    current: &Current,
    wish: &Wish<'_>,
) -> Result<(Version, BTreeSet<String>)> {
    let (Some(targets), Some(snapshot)) = (&current.targets, &current.snapshot) else {
        bail!("{} has nothing in force yet: sign it first", repository.path().display());
    };
    let targets = &targets.signed;
    let mut files: BTreeSet<String> =
        (1..=current.root.version).map(|version| format!("metadata/{version}.root.json")).collect();
    files.insert("metadata/timestamp.json".to_owned());
    files.insert(format!("metadata/{}.snapshot.json", snapshot.signed.version));
    files.insert(format!("metadata/{}.targets.json", targets.version));

    let channel = channels::read(repository, targets, wish.channel)?;
    let entry = match wish.version {
        Some(version) => channel.releases.iter().find(|entry| entry.version == *version),
        None => channel.releases.iter().max_by(|one, other| one.version.cmp(&other.version)),
    };
    let entry = entry.with_context(|| match wish.version {
        Some(version) => format!("{version} is not in the channel {}", wish.channel),
        None => format!("the channel {} has no release", wish.channel),
    })?;
    let mut add = |name: &str| -> Result<()> {
        let target = targets.targets.get(name).with_context(|| format!("no target {name}"))?;
        files.insert(format!("targets/{}", target.location(name, true)));
        Ok(())
    };
    add(&Channel::target(wish.channel))?;
    let names = entry.variants.iter().map(|variant| Release::target(&entry.version, variant));
    let names: Vec<String> = names.collect();
    names.iter().try_for_each(|name| add(name))?;
    for name in &names {
        let text = repository.target(targets, name)?.with_context(|| name.clone())?;
        let release = Release::parse(&text).with_context(|| name.clone())?;
        for version in wish.from {
            ensure!(
                release.sources.iter().any(|source| source.version == *version),
                "--from {version}: {name} has no patches against it"
            );
        }
        let wanted: Vec<usize> = (0..release.sources.len())
            .filter(|source| wish.from.contains(&release.sources[*source].version))
            .collect();
        for image in [&release.usr.image, &release.uki.image] {
            files.extend(objects(image, &wanted));
        }
    }
    Ok((entry.version.clone(), files))
}

/// Whole segments, and patches against the images of `sources`.
fn objects(image: &Image, sources: &[usize]) -> impl Iterator<Item = String> {
    let forms = image.segments.iter().flat_map(|segment| &segment.forms);
    forms.filter_map(|form| match form {
        Form::Full { object } => Some(object.path()),
        Form::Patch { range, object } if sources.contains(&range.source) => Some(object.path()),
        Form::Patch { .. } | Form::Copy { .. } | Form::Later => None,
    })
}

/// The same files give the same bytes: no times, no owners.
fn archive(repository: &Path, files: &BTreeSet<String>, out: &mut File) -> Result<()> {
    let mut archive = tar::Builder::new(BufWriter::new(out));
    for name in files {
        let path = repository.join(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}
