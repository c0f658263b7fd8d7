//! The root: who may sign what.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp as Time;
use payload::tuf::{
    Key,
    metadata::{RoleKeys, Root},
};

use crate::{
    cli::{Init, Of, Rotate},
    keys,
    repository::{ROLES, after},
};

/// The first one.
pub(crate) fn first(wish: &Init, now: Time) -> Result<Root> {
    let mut root = Root {
        version: 1,
        expires: after(now, wish.signing.lifetimes.root_days),
        consistent_snapshot: true,
        keys: BTreeMap::new(),
        roles: BTreeMap::new(),
    };
    let files: [&[PathBuf]; 4] = [&wish.root, &wish.targets, &wish.snapshot, &wish.timestamp];
    for (role, files) in ROLES.into_iter().zip(files) {
        root.roles.insert(role.into(), RoleKeys { keyids: vec![], threshold: 1 });
        for file in files {
            add(&mut root, role, file)?;
        }
    }
    thresholds(&mut root, &wish.threshold)?;
    Ok(root)
}

/// The next one.
pub(crate) fn next(old: &Root, wish: &Rotate, now: Time) -> Result<Root> {
    let mut root = old.clone();
    root.version += 1;
    root.expires = after(now, wish.signing.lifetimes.root_days);
    for Of { role, value } in &wish.add {
        add(&mut root, role, value)?;
    }
    for Of { role, value } in &wish.remove {
        let id = match value.to_str() {
            Some(id) if root.keys.contains_key(id) => id.to_owned(),
            _ => Key::ed25519(&keys::read_public(value)?).id(),
        };
        let keyids = &mut root.roles.get_mut(role).context("the root lacks a role")?.keyids;
        ensure!(keyids.contains(&id), "the key {id} is none of {role}'s");
        keyids.retain(|other| *other != id);
    }
    thresholds(&mut root, &wish.threshold)?;
    let used: Vec<String> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
    root.keys.retain(|id, _| used.contains(id));
    Ok(root)
}

fn add(root: &mut Root, role: &str, file: &Path) -> Result<()> {
    let key = Key::ed25519(&keys::read_public(file)?);
    let id = key.id();
    root.keys.insert(id.clone(), key);
    let keyids = &mut root.roles.get_mut(role).context("the root lacks a role")?.keyids;
    if !keyids.contains(&id) {
        keyids.push(id);
    }
    Ok(())
}

/// Nobody locks everybody out by a number.
fn thresholds(root: &mut Root, wanted: &[Of<NonZeroU64>]) -> Result<()> {
    for Of { role, value } in wanted {
        root.roles.get_mut(role).context("the root lacks a role")?.threshold = value.get();
    }
    for (name, role) in &root.roles {
        let (keys, threshold) = (role.keyids.len() as u64, role.threshold);
        ensure!(
            keys >= threshold,
            "{name} would have {keys} keys and need {threshold} signatures, which nobody could make"
        );
    }
    Ok(())
}
