//! From package lists to a lock: apt decides, each set on its own.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{Archive, Error, apt::Apt};
use crate::lock::{Flavor, List, Lock, Set};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Lists {
    /// In every image.
    pub image: List,
    /// In images of a flavor.
    pub flavors: BTreeMap<Flavor, List>,
    /// In the tools tree.
    pub tools: List,
    /// What makes a C compiler, each by name: what they depend on is not added.
    pub compiler: List,
    /// A browser, for tests of pages, each by name.
    pub browser: List,
    /// For the image that benchmarks compare with.
    pub stock: List,
}

impl Lists {
    /// A hash of what they ask for, whatever they say about it.
    pub fn digest(&self) -> String {
        let Self { image, flavors, tools, compiler, browser, stock } = self;
        let mut hash = Sha256::new();
        let mut add = |name: &str, list: &List| {
            hash.update(format!("{name}: {}\n", list.names().join(" ")));
        };
        add("image", image);
        flavors.iter().for_each(|(flavor, list)| add(flavor.name(), list));
        add("tools", tools);
        add("compiler", compiler);
        add("browser", browser);
        add("stock", stock);
        hex::encode(hash.finalize())[..16].to_owned()
    }
}

/// Resolves the lists against what the mirror has now.
pub fn resolve(archive: &Archive, lists: &Lists) -> Result<Lock, Error> {
    if archive.is_offline() {
        return Err(Error::Offline { missing: Vec::new() });
    }
    let mirrors = archive.mirrors()?;
    archive.progress.line(format!("asking {} what it has", mirrors.debian));
    let _lock = archive.lock()?;
    let waiting = archive.progress.wait("updating the list of packages");
    let apt = Apt::update(&archive.cache.join("apt"), mirrors)?;
    waiting.doing("resolving");

    let mut flavors = BTreeMap::new();
    for (flavor, list) in &lists.flavors {
        flavors.insert(*flavor, apt.resolve(lists.image.and(list).names())?);
    }
    let mut others = vec![(Set::Build, apt.single("mkosi")?)];
    for name in lists.compiler.names() {
        others.push((Set::Build, apt.single(name)?));
    }
    for name in lists.browser.names() {
        others.push((Set::Browser, apt.single(name)?));
    }
    for (set, list) in [(Set::Tools, &lists.tools), (Set::Stock, &lists.stock)] {
        others.extend(apt.resolve(list.names())?.into_iter().map(|package| (set, package)));
    }
    Ok(Lock::of_flavors(apt.date()?, lists.digest(), flavors, others)?)
}
