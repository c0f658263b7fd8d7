//! The part of the build that needs root, for a user who is not.

use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::{Places, Source, programs::Programs};
use crate::progress::Progress;

/// What the user owns of `build` in the end. The trees and steps stay root's: their files have
/// several owners.
const RESULTS: [&str; 5] = ["bin", "firmware", "log", "tools", "stock"];

pub(super) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Starts this command again under sudo, with more words.
pub(super) fn again(places: &Places, more: &[OsString], progress: &Progress) -> Result<()> {
    progress.line("assembling the system needs root, for files of several owners: using sudo");
    let this = std::env::current_exe().context("finding this program")?;
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = Command::new("sudo");
    // sudo drops the environment; these few are ours.
    command.arg("env").arg(format!("PITHOS_CACHE={}", places.cache.display()));
    for name in ["PITHOS_MIRROR", "PITHOS_SECURITY_MIRROR", "PITHOS_SNAPSHOT_MIRROR"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    let status = command
        .arg(this)
        .args(words)
        .args(more)
        .status()
        .context("starting sudo (is it installed? otherwise run this as root)")?;
    match status.code() {
        Some(0) => Ok(()),
        // The other one has said why.
        Some(code) => std::process::exit(code),
        None => bail!("the build under sudo was ended by signal {}", status.signal().unwrap_or(0)),
    }
}

/// What the build under sudo is told, because only the user can find it out: git does not work in
/// a checkout of somebody else's, and cargo is the user's.
pub(super) fn found(source: &Source, programs: &Programs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["--as-built".into(), programs.folder().into()];
    words.extend(["--version".into(), source.version.to_string().into()]);
    words.extend(["--epoch".into(), source.epoch.to_string().into()]);
    words.extend(["--build-id".into(), source.build_id.clone().into()]);
    words
}

/// Gives the results, and new files in the cache of packages, to the user who called sudo.
pub(super) fn hand_back(places: &Places, image: &str) -> Result<()> {
    let id = |name: &str| std::env::var(name).ok().and_then(|id| id.parse::<u32>().ok());
    let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) else { return Ok(()) };
    let owner = fs::metadata(&places.repo).context("looking at the checkout")?.uid();
    if user == 0 || owner == 0 {
        return Ok(());
    }
    for name in RESULTS.into_iter().chain([image]) {
        give(&places.build.join(name), user, group)?;
    }
    give(&places.cache, user, group)
}

fn give(path: &Path, user: u32, group: u32) -> Result<()> {
    let Ok(data) = fs::symlink_metadata(path) else { return Ok(()) };
    if data.uid() != user {
        std::os::unix::fs::lchown(path, Some(user), Some(group))
            .with_context(|| format!("giving {} back", path.display()))?;
    }
    if data.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
            give(&entry.context("reading a folder")?.path(), user, group)?;
        }
    }
    ensure!(path.exists() || data.is_symlink(), "{} vanished", path.display());
    Ok(())
}
