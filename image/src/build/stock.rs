//! The image that benchmarks compare ours with: what mkosi makes by itself of the same packages
//! and the same kernel, with its own default initrd.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Network, Order, Places, packages, publish, root, trees};
use crate::{
    lock::Package,
    mkosi::{Job, Output},
    progress::Progress,
    step::{Steps, remove},
};

/// Answers to what a first boot would ask, and the console that a measurement listens on.
const OPTIONS: [&str; 16] = [
    "--distribution",
    "debian",
    "--release",
    "trixie",
    "--bootloader",
    "systemd-boot",
    "--locale",
    "C.UTF-8",
    "--timezone",
    "UTC",
    "--hostname",
    "stock",
    "--root-password",
    "hashed:*",
    "--kernel-command-line",
    "console=tty0 console=ttyS0,115200n8 panic=30 loglevel=4",
];

/// Debian's own program for first-boot documents: measured beside ours, and in no image.
const IGNITION: &str = "ignition";

/// Makes `build/stock`: `stock.raw`, the initrd and kernel of it beside, and `ignition.deb`.
pub fn stock(places: &Places, network: &Network, order: &Order, progress: &Progress) -> Result<()> {
    if !root::is_root() {
        return root::again(places, &[], progress);
    }
    let made = make(places, network, order, progress);
    root::hand_back(places, publish::IMAGE)?;
    made
}

fn make(places: &Places, network: &Network, order: &Order, progress: &Progress) -> Result<()> {
    let archive = places.archive(network, progress)?;
    let packages = packages::settle(places, &archive, order)?;
    archive.fetch(&packages.stock, &packages.resolved)?;
    ensure!(!packages.stock.is_empty(), "the lock has no set `stock`: run `./pith lock`");
    let steps = Steps::open(&places.build.join("cache"), progress)?;
    let trees = trees::Trees { places, archive: &archive, steps: &steps, progress };
    let tools = trees.tools(&packages)?;

    let mut all: Vec<Package> = [&packages.image[..], &packages.stock].concat();
    all.sort();
    all.dedup();
    let inputs = trees::with_packages(&all, &packages.mkosi)
        .value("tools", &tools.1.key)
        .value("options", OPTIONS.join(" "));
    let install: Vec<String> = packages.image.iter().map(|package| package.name.clone()).collect();
    let done = steps.run("stock", inputs, |folder| {
        let job = Job {
            name: "stock",
            config: &trees::no_config(folder)?,
            packages: &all,
            install: &install,
            tools: Some(tools.0.tree()),
            output: Output::Disk,
            epoch: trees::EPOCH,
            options: &OPTIONS,
        };
        trees.assemble(&packages, &job, folder)
    })?;

    let folder = places.build.join("stock");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut results: Vec<(PathBuf, PathBuf)> = ["raw", "initrd", "vmlinuz"]
        .map(|end| (done.file(&format!("disk.{end}")), folder.join(format!("stock.{end}"))))
        .into();
    let theirs = packages.stock.iter().find(|package| package.name == IGNITION);
    let theirs = theirs.with_context(|| format!("`{IGNITION}` is not in stock.list"))?;
    let deb = done.file("ignition.deb");
    fs::copy(archive.path(theirs), &deb).with_context(|| format!("copying {}", deb.display()))?;
    results.push((deb, folder.join("ignition.deb")));
    for (from, to) in results {
        remove(&to)?;
        fs::hard_link(&from, &to).with_context(|| format!("linking {}", to.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o444))
            .with_context(|| format!("protecting {}", to.display()))?;
    }
    progress.line(format!("the stock image is in {}", folder.display()));
    Ok(())
}
