//! What the repository says, for operators to look at: which release is in which channel, and until
//! when the metadata is good. Nothing is verified here, because nothing is decided here: machines
//! verify for themselves, and `update-publish check` reads all of it as they do.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use jiff::Timestamp as Time;
use payload::{
    Channel,
    tuf::metadata::{Meta, Role, Signed, Snapshot, Targets, Timestamp},
};

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// By name.
    pub channels: Vec<Channel>,
    /// When the first of the files that machines need expires, and which it is.
    pub expires: Option<(Time, &'static str)>,
    /// Why it could not be read.
    pub problem: Option<String>,
}

impl Catalog {
    /// Reads it. What is wrong with the repository is a part of it.
    pub fn read(repository: &Path) -> Self {
        Self::try_read(repository)
            .unwrap_or_else(|error| Self { problem: Some(format!("{error:#}")), ..Self::default() })
    }

    fn try_read(repository: &Path) -> Result<Self> {
        let metadata = repository.join("metadata");
        let timestamp: Signed<Timestamp> = read(&metadata, "timestamp.json")?;
        let snapshot: Signed<Snapshot> =
            read(&metadata, &listed::<Snapshot>(&timestamp.signed.meta)?)?;
        let targets: Signed<Targets> = read(&metadata, &listed::<Targets>(&snapshot.signed.meta)?)?;
        let mut channels = Vec::new();
        for (path, target) in &targets.signed.targets {
            let name = path.strip_prefix("channels/").and_then(|path| path.strip_suffix(".json"));
            let Some(name) = name else { continue };
            let path = repository.join("targets").join(target.location(path, true));
            let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            channels.push(Channel::parse(name, &text)?);
        }
        let expires = [
            (timestamp.signed.expires, Timestamp::TYPE),
            (snapshot.signed.expires, Snapshot::TYPE),
            (targets.signed.expires, Targets::TYPE),
        ];
        Ok(Self { channels, expires: expires.into_iter().min(), problem: None })
    }
}

fn read<T: Role>(metadata: &Path, file: &str) -> Result<Signed<T>> {
    let path = metadata.join(file);
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Signed::parse(&bytes).with_context(|| format!("{} is not valid", path.display()))
}

/// The name of the version that another file lists.
fn listed<T: Role>(meta: &BTreeMap<String, Meta>) -> Result<String> {
    let file = format!("{}.json", T::TYPE);
    let found = meta.get(&file).with_context(|| format!("{file} is not listed"))?;
    Ok(format!("{}.{file}", found.version))
}
