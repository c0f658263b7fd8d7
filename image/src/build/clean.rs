//! `image clean`: away with what was built. Packages that were fetched stay, unless asked for.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Places, root};
use crate::{
    progress::{Progress, size},
    step::{allocated_bytes, lock, remove},
};

/// Removes the build folder, and with `packages` the cache of packages, too.
pub fn clean(places: &Places, packages: bool, progress: &Progress) -> Result<()> {
    let cache = places.build.join("cache");
    if cache.exists() {
        // Not under the hands of a build.
        let _lock = lock(&cache.join("lock"), progress)?;
        away(&places.build, progress)?;
    } else {
        progress.line(format!("nothing was built in {}", places.build.display()));
    }
    if packages && places.cache.join("debs").exists() {
        for name in ["debs", "apt", "repos", "partial", "lock"] {
            away(&places.cache.join(name), progress)?;
        }
    }
    Ok(())
}

fn away(folder: &std::path::Path, progress: &Progress) -> Result<()> {
    let taken = size(allocated_bytes(folder));
    if root::is_root() {
        remove(folder)?;
    } else if remove(folder).is_err() {
        // Trees have files of several owners, as a system has.
        progress.line(format!("{} has files of root's: using sudo", folder.display()));
        let status = Command::new("sudo").args(["rm", "-rf", "--"]).arg(folder).status();
        ensure!(status.context("starting sudo")?.success(), "sudo rm failed");
    }
    progress.line(format!("removed {}, {taken}", folder.display()));
    Ok(())
}
