//! Version, epoch and build id: what the commit says, unless it was said by options.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use layout::Version;

/// What an image is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The version of the image.
    pub version: Version,
    /// The time of everything in it, in seconds since 1970: that of the commit.
    pub epoch: u64,
    /// The commit; `-dirty` behind it if the checkout has changes.
    pub build_id: String,
}

/// What was said by options.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The version.
    pub version: Option<Version>,
    /// The epoch.
    pub epoch: Option<u64>,
    /// The build id.
    pub build_id: Option<String>,
}

/// What git knows of a checkout.
#[derive(Clone, Debug)]
struct Commit {
    hash: String,
    time: u64,
    tags: Vec<String>,
    dirty: bool,
}

/// The source of a build.
pub(super) fn find(repo: &Path, given: &Given) -> Result<Source> {
    if let Given { version: Some(version), epoch: Some(epoch), build_id } = given {
        let build_id = build_id.clone().unwrap_or_else(|| "unknown".to_owned());
        return Ok(Source { version: version.clone(), epoch: *epoch, build_id });
    }
    let commit = commit(repo).with_context(|| {
        format!(
            "finding version and date of {}\nwhat to do: build from a git checkout, or say both \
             with --version X.Y.Z --epoch SECONDS",
            repo.display()
        )
    })?;
    describe(&commit, given, env!("CARGO_PKG_VERSION"))
}

/// A tag `vX.Y.Z` on the commit is a release; any other state is named after the version that is
/// being worked on and the minute of the commit.
fn describe(commit: &Commit, given: &Given, workspace: &str) -> Result<Source> {
    let released = commit.tags.iter().filter(|_| !commit.dirty).find_map(|tag| {
        let version = tag.strip_prefix('v')?;
        let numbers: Vec<_> = version.split('.').collect();
        let plain =
            numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok());
        plain.then(|| version.to_owned())
    });
    let version = match &given.version {
        Some(version) => version.clone(),
        None => released
            .unwrap_or_else(|| format!("{workspace}-{}", minute(commit.time)))
            .parse()
            .context("naming this version")?,
    };
    let dirty = if commit.dirty { "-dirty" } else { "" };
    Ok(Source {
        version,
        epoch: given.epoch.unwrap_or(commit.time),
        build_id: given.build_id.clone().unwrap_or_else(|| format!("{}{dirty}", commit.hash)),
    })
}

fn commit(repo: &Path) -> Result<Commit> {
    let said = git(repo, &["show", "--no-patch", "--format=%H %ct", "HEAD"])?;
    let (hash, time) = said.trim().split_once(' ').context("git names no commit")?;
    Ok(Commit {
        hash: hash.to_owned(),
        time: time.parse().context("git says no time")?,
        tags: git(repo, &["tag", "--points-at", "HEAD"])?.lines().map(str::to_owned).collect(),
        dirty: !git(repo, &["status", "--porcelain"])?.is_empty(),
    })
}

fn git(repo: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(words)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .context("starting git")?;
    if !output.status.success() {
        bail!("git: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `202611210930` in UTC.
fn minute(epoch: u64) -> String {
    // Days to a date by the Gregorian calendar's 400-year cycle, counted from 0000-03-01.
    let (days, seconds) = (epoch / 86_400 + 719_468, epoch % 86_400);
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = cycle * 400 + year + u64::from(month <= 2);
    let day = day - (153 * shifted + 2) / 5 + 1;
    format!("{year:04}{month:02}{day:02}{:02}{:02}", seconds / 3_600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(tags: &[&str], dirty: bool) -> String {
        let commit = Commit {
            hash: "abc".to_owned(),
            time: 1_795_253_400, // 2026-11-21 09:30 UTC
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            dirty,
        };
        let source = describe(&commit, &Given::default(), "0.1.0").unwrap();
        format!("{} {}", source.version, source.build_id)
    }

    #[test]
    fn a_clean_commit_with_a_version_tag_is_that_release() {
        assert_eq!(named(&["latest", "v1.2.3"], false), "1.2.3 abc");
    }

    #[test]
    fn any_other_state_is_named_after_the_minute_of_its_commit() {
        assert_eq!(named(&[], false), "0.1.0-202611210930 abc");
        assert_eq!(named(&["v1.2.3-rc1", "nightly"], false), "0.1.0-202611210930 abc");
        assert_eq!(named(&["v1.2.3"], true), "0.1.0-202611210930 abc-dirty");
    }

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        for (epoch, expected) in [
            (0, "197001010000"),
            (951_782_399, "200002282359"),
            (951_782_400, "200002290000"),
            (951_868_800, "200003010000"),
            (4_107_542_400, "210003010000"),
        ] {
            assert_eq!(minute(epoch), expected);
        }
    }
}
