//! The two trees that mkosi assembles, as steps.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::Places;
use crate::{
    archive::{Archive, Settled},
    lock::Package,
    mkosi::{Job, Mkosi, Output, TREE, point},
    progress::Progress,
    step::{Done, Inputs, Steps, remove},
    tools::{Tools, wrappers},
};

/// Grows when a change of this code has to make the trees anew.
const GENERATION: u32 = 2;
/// The trees' own times are of no consequence: what goes into an image gets its epoch later. A
/// fixed one spares a new tree per commit.
pub(super) const EPOCH: u64 = 1_704_067_200;

/// What the trees are made with.
#[derive(Debug)]
pub(super) struct Trees<'a> {
    pub(super) places: &'a Places,
    pub(super) archive: &'a Archive,
    pub(super) steps: &'a Steps,
    pub(super) progress: &'a Progress,
}

impl Trees<'_> {
    /// The tools tree, with `build/tools`, `build/bin` and `build/firmware`.
    pub(super) fn tools(&self, packages: &Settled) -> Result<(Tools, Done)> {
        let inputs = with_packages(&packages.tools, &packages.mkosi);
        let done = self.steps.run("tools", inputs, |folder| {
            let config = no_config(folder)?;
            self.assemble(
                packages,
                &Job {
                    name: "tools",
                    config: &config,
                    packages: &packages.tools,
                    install: &names(&packages.tools),
                    tools: None,
                    output: Output::Tree,
                    epoch: EPOCH,
                    options: &["--distribution", "debian", "--release", "trixie"],
                },
                folder,
            )?;
            wrappers::bundle(&folder.join(TREE))?;
            remove(&config)
        })?;
        let build = &self.places.build;
        point(&build.join("tools"), &done.path.join(TREE))?;
        let written = build.join("bin").join(format!(".of-{}-{}", done.key, wrappers::kinds()));
        if !written.exists() {
            wrappers::write(build)?;
            fs::write(&written, "").with_context(|| format!("writing {}", written.display()))?;
        }
        Ok((Tools::of(build), done))
    }

    /// The root tree of the image, as Debian's packages make it.
    pub(super) fn root(&self, packages: &Settled, tools: &(Tools, Done)) -> Result<Done> {
        let rootfs = self.places.rootfs();
        let mut inputs = with_packages(&packages.image, &packages.mkosi);
        inputs = inputs.value("tools", &tools.1.key);
        // Only what mkosi itself reads: the files of rootfs/usr are added to its result later.
        let mut files: Vec<_> = fs::read_dir(&rootfs)
            .with_context(|| format!("reading {}", rootfs.display()))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("mkosi."))
            .collect();
        files.sort();
        for name in files {
            let (path, shown) = (rootfs.join(&name), format!("rootfs/{name}"));
            inputs = if path.is_dir() {
                inputs.tree(&shown, &path)?
            } else {
                inputs.file(&shown, &path)?
            };
        }
        self.steps.run("tree", inputs, |folder| {
            let job = Job {
                name: "tree",
                config: &rootfs,
                packages: &packages.image,
                install: &names(&packages.image),
                tools: Some(tools.0.tree()),
                output: Output::Tree,
                epoch: EPOCH,
                options: &[],
            };
            self.assemble(packages, &job, folder)
        })
    }

    /// Runs mkosi on packages whose bytes were looked at.
    pub(super) fn assemble(&self, packages: &Settled, job: &Job<'_>, folder: &Path) -> Result<()> {
        let mut used = job.packages.to_vec();
        used.push(packages.mkosi.clone());
        self.archive.verify(&used, &packages.resolved)?;
        let mkosi = Mkosi {
            archive: self.archive,
            package: &packages.mkosi,
            logs: &self.places.build.join("log"),
            progress: self.progress,
        };
        mkosi.assemble(job, folder)
    }
}

/// A folder for mkosi to find no mkosi.conf in.
pub(super) fn no_config(folder: &Path) -> Result<PathBuf> {
    let config = folder.join("config");
    fs::create_dir(&config).context("making the folder of mkosi's options")?;
    Ok(config)
}

fn names(packages: &[Package]) -> Vec<String> {
    packages.iter().map(|package| package.name.clone()).collect()
}

/// What a tree is made of, and with.
pub(super) fn with_packages(packages: &[Package], mkosi: &Package) -> Inputs {
    of_packages(packages)
        .value("generation", GENERATION)
        .value("mkosi", format!("{} {}", mkosi.version, &mkosi.sha256[..12]))
}

/// The packages as inputs: one each, so that the reason for doing a step again names the package.
pub(super) fn of_packages(packages: &[Package]) -> Inputs {
    packages.iter().fold(Inputs::new(), |inputs, package| {
        let Package { name, version, sha256, .. } = package;
        inputs.value(&format!("package {name}"), format!("{version} {}", &sha256[..12]))
    })
}
