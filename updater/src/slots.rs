//! Which version is in which slot, and what the boot loader makes of it: from the partition table,
//! the root hash of the kernel's command line and the names in `/EFI/Linux`. Pure.
//!
//! A version boots when three things agree: its UKI is on the ESP, the PARTUUIDs of a slot are the
//! halves of the root hash in that UKI, and what is in the slot has that root hash. The first is
//! what systemd-boot sees, so it is taken away first and put there last.

use std::{cmp::Ordering, fmt};

use block::table::{Entries, Entry};
use layout::{Role, RootHash, Slot, Version, disk::EMPTY_LABEL};

/// The folder of UKIs on the ESP.
pub const FOLDER: &str = "EFI/Linux";

/// A UKI of ours, as its name says it (Automatic Boot Assessment).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uki {
    /// What it boots.
    pub version: Version,
    /// Whether it has to prove itself.
    pub trial: Option<Trial>,
}

/// The boot counter of a version that is not proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trial {
    /// Boots that are left.
    pub left: u32,
    /// Boots that were tried.
    pub done: u32,
}

/// Of a version that was proven and is left behind. One that used its boots up has tried some.
const RETIRED: Trial = Trial { left: 0, done: 0 };

/// What is in a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nothing that could be booted.
    Empty,
    /// A version, as its table entries say.
    Version {
        /// Of both labels.
        version: Version,
        /// The PARTUUIDs, put together.
        root_hash: RootHash,
        /// Those of this version, in the order in which systemd-boot would take them.
        ukis: Vec<Uki>,
    },
    /// Its labels do not say a version.
    Foreign {
        /// Of the partition for `/usr`.
        usr: String,
        /// Of the partition for its hash tree.
        verity: String,
    },
}

/// Both slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slots {
    /// The one that runs.
    pub booted: Slot,
    /// What is in slot A.
    pub a: Content,
    /// What is in slot B.
    pub b: Content,
    /// UKIs of versions that no slot has: they cannot boot.
    pub stray: Vec<Uki>,
}

/// Why the slots of a disk cannot be told.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoSlots {
    /// An entry is not there, or is something else.
    #[error(
        "partition {number} of the disk is {found}, expected one of type {} ({})", role.type_guid(),
        say_role(*role)
    )]
    Missing {
        /// What was looked for.
        role: Role,
        /// Its number.
        number: u32,
        /// What is there.
        found: String,
    },
    /// Another disk, or one whose table was changed since the boot.
    #[error(
        "no slot of the disk has the PARTUUIDs of the running /usr, {} and {}: the partition table \
         was changed since the boot",
        root_hash.usr_partuuid(), root_hash.verity_partuuid()
    )]
    NotBooted {
        /// Of the command line.
        root_hash: RootHash,
    },
}

impl Uki {
    /// What a file name in [`FOLDER`] says; none if it is no UKI of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("pithos_")?.strip_suffix(".efi")?;
        let Some((version, counter)) = stem.split_once('+') else {
            return Some(Self { version: stem.parse().ok()?, trial: None });
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let (left, done) = match counter.split_once('-') {
            Some((left, done)) => (number(left)?, number(done)?),
            None => (number(counter)?, 0),
        };
        Some(Self { version: version.parse().ok()?, trial: Some(Trial { left, done }) })
    }

    /// Its file name.
    pub fn name(&self) -> String {
        let version = &self.version;
        match self.trial {
            None => version.uki_name(None),
            Some(Trial { left, done: 0 }) => format!("pithos_{version}+{left}.efi"),
            Some(Trial { left, done }) => format!("pithos_{version}+{left}-{done}.efi"),
        }
    }

    /// The same with no boots left: systemd-boot sorts it behind every other.
    pub fn spent(&self) -> Self {
        let Trial { left, done } = self.trial.unwrap_or(Trial { left: 0, done: 0 });
        let trial = Some(Trial { left: 0, done: done.saturating_add(left) });
        Self { version: self.version.clone(), trial }
    }

    /// The same as it is left behind for an older version: no boots left, and none tried.
    pub fn retired(&self) -> Self {
        Self { version: self.version.clone(), trial: Some(RETIRED) }
    }

    /// Whether it was left behind for an older version. The boot loader takes it when nothing else
    /// is left, and counts a boot then.
    pub fn is_retired(&self) -> bool {
        self.trial == Some(RETIRED)
    }

    /// Whether its boots are used up.
    pub fn is_spent(&self) -> bool {
        self.trial.is_some_and(|trial| trial.left == 0)
    }

    /// Whether systemd-boot takes this one or the other first (`boot_entry_compare`): what has no
    /// tries left comes last, then the newer version comes first, then the one with more tries.
    pub fn boot_order(&self, other: &Self) -> Ordering {
        let by_version = other.version.cmp(&self.version);
        let by_trial = || match (self.trial, other.trial) {
            (Some(a), Some(b)) => b.left.cmp(&a.left).then(a.done.cmp(&b.done)),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        self.is_spent().cmp(&other.is_spent()).then(by_version).then_with(by_trial)
    }
}

impl Slots {
    /// Reads them. `running` is `usrhash=` of the command line, `files` the names in [`FOLDER`].
    pub fn read<'a>(
        entries: &Entries,
        running: &RootHash,
        files: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, NoSlots> {
        let mut ukis: Vec<Uki> = files.into_iter().filter_map(Uki::parse).collect();
        ukis.sort_by(Uki::boot_order);
        let a = content(entries, Slot::A, &mut ukis)?;
        let b = content(entries, Slot::B, &mut ukis)?;
        let booted = [(Slot::A, &a), (Slot::B, &b)]
            .into_iter()
            .find(|(_, content)| matches!(content, Content::Version { root_hash, .. } if root_hash == running))
            .map(|(slot, _)| slot)
            .ok_or(NoSlots::NotBooted { root_hash: *running })?;
        Ok(Self { booted, a, b, stray: ukis })
    }

    /// The slot that an update goes to.
    pub fn passive(&self) -> Slot {
        self.booted.other()
    }

    /// What is in a slot.
    pub fn content(&self, slot: Slot) -> &Content {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }

    /// The version that runs.
    pub fn version(&self) -> &Version {
        match self.content(self.booted) {
            Content::Version { version, .. } => version,
            Content::Empty | Content::Foreign { .. } => {
                unreachable!("the booted slot was found by the version in it")
            }
        }
    }

    /// The UKI that systemd-boot takes next, of those whose slot is there.
    pub fn next_boot(&self) -> Option<&Uki> {
        let ukis = [&self.a, &self.b].into_iter().flat_map(Content::ukis);
        ukis.min_by(|a, b| a.boot_order(b))
    }
}

impl Content {
    /// The UKIs that boot it.
    pub fn ukis(&self) -> &[Uki] {
        match self {
            Self::Version { ukis, .. } => ukis,
            Self::Empty | Self::Foreign { .. } => &[],
        }
    }
}

/// The table entry of a slot's partition.
pub fn entry(entries: &Entries, role: Role) -> Result<&Entry, NoSlots> {
    let number = role.number();
    let missing = |found: String| NoSlots::Missing { role, number, found };
    let entry = entries.get(&number).ok_or_else(|| missing("not there".to_owned()))?;
    if entry.kind != role.type_guid() {
        return Err(missing(format!("`{}` of type {}", entry.name, entry.kind)));
    }
    Ok(entry)
}

/// What a slot holds. Takes its UKIs out of the list.
fn content(entries: &Entries, slot: Slot, ukis: &mut Vec<Uki>) -> Result<Content, NoSlots> {
    let (usr, verity) = (entry(entries, Role::Usr(slot))?, entry(entries, Role::Verity(slot))?);
    if usr.name == EMPTY_LABEL || verity.name == EMPTY_LABEL {
        return Ok(Content::Empty);
    }
    let version = Version::from_label(&usr.name)
        .filter(|v| v.usr_label() == usr.name && v.verity_label() == verity.name);
    let Some(version) = version else {
        return Ok(Content::Foreign { usr: usr.name.clone(), verity: verity.name.clone() });
    };
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(usr.guid.as_bytes());
    bytes[16..].copy_from_slice(verity.guid.as_bytes());
    let own = ukis.extract_if(.., |uki| uki.version == version).collect();
    Ok(Content::Version { version, root_hash: RootHash(bytes), ukis: own })
}

fn say_role(role: Role) -> &'static str {
    match role {
        Role::Esp => "the ESP",
        Role::Usr(Slot::A) => "/usr of slot A",
        Role::Usr(Slot::B) => "/usr of slot B",
        Role::Verity(Slot::A) => "the hash tree of slot A",
        Role::Verity(Slot::B) => "the hash tree of slot B",
        Role::Root => "root",
    }
}

impl fmt::Display for Uki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests;
