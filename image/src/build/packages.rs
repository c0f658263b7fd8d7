//! The lists and the lock of `rootfs`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Network, Order, Places};
use crate::{
    archive::{self, Archive, Lists, Settled},
    lock::{Flavor, List, Lock, Package, Set, changes},
    progress::{Progress, size},
};

fn lock_file(places: &Places) -> PathBuf {
    places.rootfs().join("packages.lock")
}

/// The packages of this build, fetched.
pub(super) fn settle(places: &Places, archive: &Archive, order: &Order) -> Result<Settled> {
    let lock = locked(places)?;
    archive::settle(archive, &lock, order.flavor, order.policy, || {
        Ok(archive::resolve(archive, &lists(places)?)?)
    })
}

/// The lock, which is of the lists.
fn locked(places: &Places) -> Result<Lock> {
    let path = lock_file(places);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("reading {}\nwhat to do: `./pith lock` writes it", path.display())
    })?;
    let lock: Lock = text.parse().map_err(|error| anyhow!("{}:{error}", path.display())).context(
        "reading the package lock\nwhat to do: `./pith lock` writes it anew, or take it \
             back from git",
    )?;
    let lists = lists(places)?;
    ensure!(
        lock.asked() == lists.digest(),
        "rootfs/packages/*.list ask for other packages than {} was resolved for\n\
         what to do: `./pith lock` resolves them",
        path.display()
    );
    Ok(lock)
}

/// The packages of the browser, fetched. Debian replaces it every few weeks, and its archive keeps
/// the newest alone: what the lock names is taken while it is there.
pub(super) fn browser(
    places: &Places,
    archive: &Archive,
    progress: &Progress,
) -> Result<Vec<Package>> {
    let lock = locked(places)?;
    let packages = lock.set(Set::Browser);
    match archive.fetch(&packages, lock.resolved()) {
        Ok(()) => return Ok(packages),
        Err(archive::Error::Gone { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    progress.line("the mirror has another browser than rootfs/packages.lock: taking it");
    let present = archive::resolve(archive, &lists(places)?)?;
    let packages = present.set(Set::Browser);
    archive.fetch(&packages, present.resolved())?;
    Ok(packages)
}

/// Resolves the lists, writes the lock, and prints what is different.
pub fn lock(places: &Places, network: &Network, progress: &Progress) -> Result<()> {
    let path = lock_file(places);
    let before = fs::read_to_string(&path).ok().map(|text| text.parse::<Lock>());
    let archive = places.archive(network, progress)?;
    let after = archive::resolve(&archive, &lists(places)?)?;
    let (count, bytes) = after
        .iter()
        .fold((0, 0), |(count, bytes), (_, package)| (count + 1, bytes + package.size_bytes));
    let total = format!("{count} packages, {}", size(bytes));

    let changes = match &before {
        Some(Ok(before)) => changes(before, &after),
        Some(Err(error)) => {
            progress.line(format!("the present lock is not readable ({error}): written anew"));
            Vec::new()
        }
        None => Vec::new(),
    };
    if let Some(Ok(before)) = &before
        && changes.is_empty()
        && before.asked() == after.asked()
    {
        // A newer date alone is no reason for a commit.
        println!("nothing changed: {total}");
        return Ok(());
    }
    write(&path, &after.to_string())?;
    for change in &changes {
        println!("{change}");
    }
    println!("{}: {total}, {} changes", path.display(), changes.len());
    Ok(())
}

fn lists(places: &Places) -> Result<Lists> {
    let folder = places.rootfs().join("packages");
    let list = |name: &str| -> Result<List> {
        let path = folder.join(format!("{name}.list"));
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.parse().map_err(|error| anyhow!("{}:{error}", path.display()))
    };
    let mut flavors = BTreeMap::new();
    for flavor in Flavor::ALL {
        flavors.insert(flavor, list(flavor.name())?);
    }
    Ok(Lists {
        image: list("image")?,
        flavors,
        tools: list("tools")?,
        compiler: list("compiler")?,
        browser: list("browser")?,
        stock: list("stock")?,
    })
}

/// Replaces a file as a whole.
fn write(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("lock.tmp");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("writing {}", path.display()))
}
