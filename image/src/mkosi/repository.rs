//! A flat apt repository that holds exactly the given packages, as links into the cache.

use std::{
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, Result, ensure};

use crate::{archive::Archive, lock::Package, step::remove};

/// Held in a repository by the build that uses it. Without a holder it is a leftover. (Age would
/// not tell: a build may run under another date.)
const IN_USE: &str = ".in-use";

/// The repository; it is removed with this.
#[derive(Debug)]
pub(super) struct Repository {
    folder: tempfile::TempDir,
    _in_use: File,
}

impl Repository {
    /// Makes it, in the cache's own file system so that its files can be links.
    pub(super) fn of(archive: &Archive, packages: &[Package]) -> Result<Self> {
        let all = archive.cache().join("repos");
        fs::create_dir_all(&all).with_context(|| format!("making {}", all.display()))?;
        let (folder, in_use) = take(&all).context("making a folder for the repository")?;
        let mut index = String::new();
        for (package, stanza) in packages.iter().zip(stanzas(archive, packages)?) {
            let deb = package.deb();
            let (cached, link) = (archive.path(package), folder.path().join(&deb));
            fs::hard_link(&cached, &link)
                .or_else(|_| fs::copy(&cached, &link).map(drop))
                .with_context(|| format!("putting {deb} into the repository"))?;
            let Package { size_bytes, sha256, .. } = package;
            write!(
                index,
                "{}\nFilename: ./{deb}\nSize: {size_bytes}\nSHA256: {sha256}\n\n",
                stanza.trim_end()
            )
            .expect("writing to a string does not fail");
        }
        fs::write(folder.path().join("Packages"), index)
            .context("writing the repository's index")?;
        Ok(Self { folder, _in_use: in_use })
    }

    /// Its address.
    pub(super) fn url(&self) -> String {
        format!("file://{}", self.folder.path().display())
    }

    /// Its source for apt. It needs no signature: every file of it was checked by its hash.
    pub(super) fn sources(&self) -> String {
        format!("Types: deb\nURIs: {}\nSuites: ./\nTrusted: yes\n", self.url())
    }
}

/// The control fields of each package; they are kept beside the cached file.
fn stanzas(archive: &Archive, packages: &[Package]) -> Result<Vec<String>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(package) = packages.get(at) else { return Ok::<_, anyhow::Error>(found) };
            found.push((at, stanza(&archive.path(package), package)?));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().expect("reading a package does not panic")?);
        }
        Ok::<_, anyhow::Error>(all)
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, stanza)| stanza).collect())
}

fn stanza(deb: &Path, package: &Package) -> Result<String> {
    let kept = deb.with_extension("control");
    if let Ok(stanza) = fs::read_to_string(&kept)
        && stanza.contains(&format!("Version: {}\n", package.version))
    {
        return Ok(stanza);
    }
    let output =
        Command::new("dpkg-deb").arg("-f").arg(deb).output().context("starting dpkg-deb")?;
    ensure!(output.status.success(), "dpkg-deb could not read {}", deb.display());
    let stanza = String::from_utf8_lossy(&output.stdout).into_owned();
    let unfinished: PathBuf = deb.with_extension(format!("control-{}", std::process::id()));
    fs::write(&unfinished, &stanza)
        .and_then(|()| fs::rename(&unfinished, &kept))
        .with_context(|| format!("keeping {}", kept.display()))?;
    Ok(stanza)
}

/// A new folder that is in use from its first moment; leftovers of interrupted builds go.
fn take(all: &Path) -> Result<(tempfile::TempDir, File)> {
    let one_at_a_time = File::create(all.join(".lock"))?;
    one_at_a_time.lock()?;
    for entry in fs::read_dir(all)?.flatten() {
        let path = entry.path();
        let left = File::open(path.join(IN_USE)).is_ok_and(|file| file.try_lock().is_ok());
        if left {
            remove(&path)?;
        }
    }
    let folder = tempfile::tempdir_in(all)?;
    let in_use = File::create(folder.path().join(IN_USE))?;
    in_use.lock()?;
    Ok((folder, in_use))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_stays_and_a_leftover_goes() {
        let all = tempfile::tempdir().unwrap();
        let (one, in_use) = take(all.path()).unwrap();
        let left = tempfile::tempdir_in(all.path()).unwrap().keep();
        File::create(left.join(IN_USE)).unwrap();
        let (two, _in_use) = take(all.path()).unwrap();
        assert!(one.path().exists() && two.path().exists() && !left.exists());
        drop(in_use);
    }
}
