//! The build, from a checkout to `build/image`: the order of things and what each one reads.
//!
//! ```text
//! git ──> version, epoch          packages.lock ──> packages ──> tools tree ──> root tree
//!              C compiler <────────────────────────────┘   (mkosi, as root)        │
//!                  v                                                               v
//!         programs (cargo) ─────> initramfs, /usr tree ──> erofs, verity ──> UKI ──> disk ──>
//!                                                                     formats, manifest, SBOM
//! ```
//!
//! Only the trees and what follows need root. A user's build makes the programs first, as that
//! user, and then starts itself again under sudo ([`root`]).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    archive::{Archive, Policy, Settled, Snapshot, Wanted, default_cache},
    lock::Flavor,
    manifest::Manifest,
    mkosi::TREE,
    progress::{Progress, took},
    step::{Steps, WorkToDo},
};

pub use clean::clean;
pub use packages::lock;
pub use source::{Given, Source};
pub use stock::stock;

use programs::Programs;

mod boot;
mod clean;
mod compiler;
mod packages;
mod programs;
mod publish;
mod root;
mod source;
mod stock;
mod system;
mod trees;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Places {
    /// The checkout.
    pub repo: PathBuf,
    /// What is made: `build`.
    pub build: PathBuf,
    /// Packages that were fetched.
    pub cache: PathBuf,
}

/// Where packages may come from.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// The mirrors that were named.
    pub wanted: Wanted,
    /// A mirror with old versions, as it was named.
    pub snapshot: Option<String>,
    /// None at all.
    pub offline: bool,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which kernel.
    pub flavor: Flavor,
    /// Whether today's packages may stand in for locked ones that are gone.
    pub policy: Policy,
    /// Version, epoch and build id, where git is not to say.
    pub source: source::Given,
    /// Our programs, where they are built already.
    pub programs: Option<PathBuf>,
}

impl Places {
    /// The checkout around the working directory, or the given one.
    pub fn find(repo: Option<PathBuf>, build: Option<PathBuf>) -> Result<Self> {
        let repo = match repo {
            Some(repo) => repo,
            None => around(&std::env::current_dir().context("finding the working directory")?)
                .context(
                    "no checkout of PithOS here: no folder above this one has \
                     rootfs/packages/image.list\nwhat to do: go into it, or name it with --repo",
                )?,
        };
        let repo =
            fs::canonicalize(&repo).with_context(|| format!("finding {}", repo.display()))?;
        let build = build.unwrap_or_else(|| repo.join("build"));
        fs::create_dir_all(&build).with_context(|| format!("making {}", build.display()))?;
        let build =
            fs::canonicalize(&build).with_context(|| format!("finding {}", build.display()))?;
        let cache = default_cache()
            .context("no folder for the cache of packages: set PITHOS_CACHE or HOME")?;
        Ok(Self { repo, build, cache })
    }

    /// Files that describe the image.
    pub fn rootfs(&self) -> PathBuf {
        self.repo.join("rootfs")
    }

    fn archive(&self, network: &Network, progress: &Progress) -> Result<Archive> {
        let snapshot = network.snapshot.as_deref().map(Snapshot::new).transpose()?;
        let wanted = network.wanted.clone();
        Ok(Archive::open(&self.cache, wanted, snapshot, network.offline, progress)?)
    }
}

fn around(start: &Path) -> Option<PathBuf> {
    let has = |folder: &&Path| folder.join("rootfs/packages/image.list").exists();
    start.ancestors().find(has).map(Path::to_owned)
}

/// Builds an image.
pub fn build(places: &Places, network: &Network, order: &Order, progress: &Progress) -> Result<()> {
    let begun = Instant::now();
    let source = source::find(&places.repo, &order.source)?;
    let archive = places.archive(network, progress)?;
    let packages = packages::settle(places, &archive, order)?;
    let programs = match &order.programs {
        Some(folder) => Programs::at(folder)?,
        None => {
            let compiler = compiler::unpack(places, &archive, &packages, progress)?;
            programs::build(places, &compiler, progress)?
        }
    };
    let all = Making {
        places,
        order,
        archive: &archive,
        packages: &packages,
        source: &source,
        programs: &programs,
        progress,
    };
    let cache = places.build.join("cache");
    let built = if root::is_root() {
        Steps::open(&cache, progress).and_then(|steps| all.assemble(&steps))
    } else {
        // Nobody is asked for a password to be told that nothing changed.
        match Steps::look(&cache, progress).and_then(|steps| all.assemble(&steps)) {
            Err(error) if error.is::<WorkToDo>() => {
                return root::again(places, &root::found(&source, &programs), progress);
            }
            other => other,
        }
    };
    // What there is belongs to the user, whether or not it is all.
    root::hand_back(places)?;
    let manifest = built?;
    progress.line(publish::summary(&manifest, &places.build.join("image")));
    progress.line(format!("  built in {}", took(begun.elapsed())));
    Ok(())
}

/// One build.
struct Making<'a> {
    places: &'a Places,
    order: &'a Order,
    archive: &'a Archive,
    packages: &'a Settled,
    source: &'a Source,
    programs: &'a Programs,
    progress: &'a Progress,
}

impl Making<'_> {
    fn assemble(&self, steps: &Steps) -> Result<Manifest> {
        let Self { places, order, archive, packages, source, programs, progress } = *self;
        progress.line(format!("PithOS {} ({}), {}", source.version, order.flavor, source.build_id));
        let trees = trees::Trees { places, archive, steps, progress };
        let tools = trees.tools(packages)?;
        let tree = trees.root(packages, &tools)?;
        let system = system::System {
            places,
            source,
            flavor: order.flavor,
            policy: order.policy,
            programs,
            steps,
            progress,
            tools: &tools.1,
            builder: system::builder()?,
        };
        let base = system.base(&tree)?;
        let usr = system.usr(&base)?;
        let initramfs = system.initramfs(&base)?;
        let erofs = system.erofs(&usr)?;
        let uki = system.uki(&base, &initramfs, &erofs)?;
        let disk = system.disk(&uki, &erofs)?;
        let forms = system.forms(&disk, &erofs)?;
        let results = publish::Results { initramfs, erofs, uki, disk, forms };
        system.publish(packages, &tree.path.join(TREE), &results)
    }
}
