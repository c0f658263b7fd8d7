//! The browser that pages are tested in: locked as all else is, unpacked without root, and fetched
//! only by who runs those tests.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{Network, Places, packages, trees::of_packages};
use crate::{progress::Progress, step::Steps, tools::wrappers};

/// Makes `build/browser`, whose `browser` runs it.
pub fn browser(places: &Places, network: &Network, progress: &Progress) -> Result<()> {
    let archive = places.archive(network, progress)?;
    let packages = packages::browser(places, &archive, progress)?;
    ensure!(!packages.is_empty(), "the lock has no set `browser`: run `./pith lock`");
    let steps = Steps::open(&places.build.join("browser"), progress)?;
    let done = steps.run("browser", of_packages(&packages), |folder| {
        for package in &packages {
            archive.unpack(package, &folder.join(wrappers::TREE))?;
        }
        wrappers::write_browser(folder)
    })?;
    // A name that stays, for tests to find.
    let link = places.build.join("browser").join("current");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&done.path, &link)
        .with_context(|| format!("making {}", link.display()))?;
    progress.line(format!("the browser is {}", link.join(wrappers::BROWSER_SCRIPT).display()));
    Ok(())
}
