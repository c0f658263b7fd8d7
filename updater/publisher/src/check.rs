//! A repository, read as a machine reads it: by the client of machines, from the first root on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp as Time;
use payload::{
    Channel, Release,
    release::{Form, Image, Object},
    tuf::{Answer, Client, Limits, Next, Start, Step, Target},
};
use serde::Serialize;

/// What was found in order.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    /// Version of the newest root.
    pub(crate) root: u64,
    /// Names.
    pub(crate) channels: Vec<String>,
    /// Descriptions.
    pub(crate) releases: usize,
    /// Objects that they name.
    pub(crate) objects: usize,
    /// Of those.
    pub(crate) objects_bytes: u64,
}

/// Reads everything.
pub(crate) fn run(repository: &Path, now: Time) -> Result<Checked> {
    let first = repository.join("metadata/1.root.json");
    let root = fs::read(&first).with_context(|| format!("reading {}", first.display()))?;
    let start = Start {
        root: Some(&root),
        stored: BTreeMap::new(),
        clock: now,
        built: Time::UNIX_EPOCH,
        limits: Limits::default(),
    };
    let (mut client, mut step) = Client::begin(start)?;
    let targets = loop {
        let Step { store, next } = step;
        let targets = store.into_iter().find_map(|change| match change {
            payload::tuf::Change::Put { name, bytes } if name == "targets.json" => Some(bytes),
            _ => None,
        });
        match next {
            Next::Fetch(fetch) => {
                let bytes = fs::read(repository.join("metadata").join(&fetch.location)).ok();
                step = client.answer(bytes.as_deref().map_or(Answer::Missing, Answer::Bytes))?;
            }
            other => {
                ensure!(other == Next::Ready, "expected current metadata, found {other:?}");
                break targets.context("the client did not read any targets")?;
            }
        }
    };
    let targets: payload::tuf::metadata::Signed<payload::tuf::metadata::Targets> =
        payload::tuf::metadata::Signed::parse(&targets)?;
    let (mut channels, mut releases) = (Vec::new(), 0);
    let mut objects = BTreeSet::new();
    for (path, target) in &targets.signed.targets {
        let bytes = read_target(repository, path, target)?;
        if let Some(name) = path.strip_prefix("channels/").and_then(|p| p.strip_suffix(".json")) {
            let channel = Channel::parse(name, &bytes)?;
            for entry in &channel.releases {
                for variant in &entry.variants {
                    let name = Release::target(&entry.version, variant);
                    ensure!(
                        targets.signed.targets.contains_key(&name),
                        "{path} lists {}, and there is no {name}",
                        entry.version
                    );
                }
            }
            channels.push(channel.name);
        } else {
            let release = Release::parse(&bytes).with_context(|| path.clone())?;
            ensure!(
                *path == Release::target(&release.version, &release.variant),
                "{path} describes {} for {}",
                release.version,
                release.variant
            );
            objects.extend(objects_of(&release.usr.image));
            objects.extend(objects_of(&release.uki.image));
            releases += 1;
        }
    }
    for object in &objects {
        let path = repository.join(object.path());
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        payload::segment::verify(object, &bytes)?;
    }
    Ok(Checked {
        root: client.root().version,
        channels,
        releases,
        objects: objects.len(),
        objects_bytes: objects.iter().map(|object| object.size_bytes).sum(),
    })
}

fn read_target(repository: &Path, name: &str, target: &Target) -> Result<Vec<u8>> {
    let path = repository.join("targets").join(target.location(name, true));
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(target.matches(&bytes), "{} is not what was signed", path.display());
    Ok(bytes)
}

fn objects_of(image: &Image) -> impl Iterator<Item = Object> {
    image.segments.iter().flat_map(|segment| &segment.forms).filter_map(|form| match form {
        Form::Full { object } | Form::Patch { object, .. } => Some(*object),
        Form::Copy { .. } | Form::Later => None,
    })
}
