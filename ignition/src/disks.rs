//! Disks: partitions, arrays, encrypted volumes and file systems become what a document says.
//!
//! ```text
//! Config + Facts --(plan)--> steps, or why not --(perform)--> the machine
//!
//! stages:  tables -> arrays -> volumes -> filesystems        each sees what the one before made
//! ```
//!
//! What can be refused is refused before anything is written: [`plan`] goes over all the stages
//! with a model of the machine, in which the steps are done as they are planned. What is behind a
//! lock is not known then ([`Contents::Unknown`]); it is looked at when it is open.
//!
//! What is there as the document says is left alone, so that planning again after all was done
//! gives no step, and a first boot that was cut short can start over.

pub mod arrays;
mod blocks;
pub mod facts;
pub mod filesystems;
pub mod machine;
pub mod names;
pub mod partitions;
pub mod perform;
pub(crate) mod programs;
pub mod room;
pub mod signature;
pub mod steps;
#[cfg(test)]
mod tests;
pub mod volumes;

pub use facts::{Contents, Device, Disk, Facts, Place, Table};
pub use machine::{Machine, Trouble};
pub use perform::{Handover, Supplies, apply, close, finish};
pub use steps::{Change, Program, Step};

use std::{collections::BTreeMap, path::PathBuf};

use crate::document::Config;

/// Why a document cannot be had on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at {path})")]
pub struct Refused {
    /// The path of the entry, as in `$.storage.disks.0.partitions.1`.
    pub path: String,
    /// What was wanted, and what is there.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Refused {
    pub(crate) fn new(
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), message: message.into(), hint: hint.into() }
    }
}

/// A part of the work; the facts are gathered anew between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `storage.disks`.
    Tables,
    /// `storage.raid`.
    Arrays,
    /// `storage.luks`.
    Volumes,
    /// `storage.filesystems`.
    Filesystems,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Tables, Self::Arrays, Self::Volumes, Self::Filesystems];

    /// The steps of this part, if the facts are as the parts before leave them.
    pub fn plan(self, config: &Config, facts: &Facts) -> Result<Vec<Step>, Refused> {
        match self {
            Self::Tables => partitions::plan(config, facts),
            Self::Arrays => arrays::plan(config, facts),
            Self::Volumes => volumes::plan(config, facts),
            Self::Filesystems => filesystems::plan(config, facts),
        }
    }
}

/// All the steps, as far as they can be known before the first is done.
pub fn plan(config: &Config, facts: &Facts) -> Result<Vec<Step>, Refused> {
    each_holds_one_thing(config, facts)?;
    let mut facts = facts.clone();
    let mut all = vec![];
    for stage in Stage::ALL {
        let steps = stage.plan(config, &facts)?;
        steps.iter().for_each(|step| facts.take_in(step));
        all.extend(steps);
    }
    Ok(all)
}

/// Refuses a device, by whatever names, on which two things are to be made: the second would
/// destroy the first.
fn each_holds_one_thing(config: &Config, facts: &Facts) -> Result<(), Refused> {
    let storage = &config.storage;
    let members = storage.raid.iter().enumerate().flat_map(|(index, array)| {
        let at = move |device| format!("$.storage.raid.{index}.devices.{device}");
        array.devices.iter().enumerate().map(move |(device, name)| (at(device), name.as_str()))
    });
    let volumes = storage.luks.iter().enumerate().filter_map(|(index, volume)| {
        Some((format!("$.storage.luks.{index}.device"), volume.device.as_deref()?))
    });
    let filesystems = storage.filesystems.iter().enumerate().filter_map(|(index, entry)| {
        entry.format.as_deref().filter(|format| !format.is_empty())?;
        Some((format!("$.storage.filesystems.{index}.device"), entry.device.as_str()))
    });
    let mut taken: BTreeMap<(PathBuf, u64), String> = BTreeMap::new();
    for (at, name) in members.chain(volumes).chain(filesystems) {
        let place = facts.device(name).place.map(|place| (place.path, place.start_bytes));
        let place = place.unwrap_or_else(|| (name.into(), 0));
        if let Some(other) = taken.get(&place) {
            let hint = "name another device, or what is made on it: /dev/md/NAME, /dev/mapper/NAME";
            return Err(Refused::new(at, format!("{name} is what {other} takes"), hint));
        }
        taken.insert(place, at);
    }
    Ok(())
}
