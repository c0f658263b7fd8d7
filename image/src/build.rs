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

pub use browser::browser;
pub use clean::clean;
pub use packages::lock;
pub use source::{Given, Source};
pub use stock::stock;

use programs::Programs;

mod boot;
mod browser;
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
    /// What is not in the repository.
    pub additions: Additions,
    /// What to make of it.
    pub output: Output,
}

/// What an image builder adds to the image.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// A folder with `usr/`, laid over ours.
    pub overlay: Option<PathBuf>,
    /// The root of trust of updates, as the publisher's repository has it: `N.root.json`.
    pub update_root: Option<PathBuf>,
    /// A machine that has run the image takes no update of a lower one.
    pub security_epoch: Option<u32>,
}

/// What is made, and where.
#[derive(Clone, Debug)]
pub struct Output {
    /// A folder in `build`: other images than `image` have steps of their own.
    pub name: String,
    /// Without the forms that travel: what boots here, and what updates are made of.
    pub is_local: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self { name: publish::IMAGE.to_owned(), is_local: false }
    }
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
    let own_cache = match order.output.name.as_str() {
        publish::IMAGE => None,
        name => Some(cache.join("images").join(name)),
    };
    let open = |steps: fn(&Path, &Progress) -> Result<Steps>| -> Result<Manifest> {
        let all_images = steps(&cache, progress)?;
        let own = own_cache.as_deref().map(|folder| steps(folder, progress)).transpose()?;
        all.assemble(&all_images, own.as_ref().unwrap_or(&all_images))
    };
    let built = if root::is_root() {
        open(Steps::open)
    } else {
        // Nobody is asked for a password to be told that nothing changed.
        match open(Steps::look) {
            Err(error) if error.is::<WorkToDo>() => {
                return root::again(places, &root::found(&source, &programs), progress);
            }
            other => other,
        }
    };
    // What there is belongs to the user, whether or not it is all.
    root::hand_back(places, &order.output.name)?;
    let manifest = built?;
    progress.line(publish::summary(&manifest, &places.build.join(&order.output.name)));
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
    /// `steps` of all images, and `own` ones of this.
    fn assemble(&self, steps: &Steps, own: &Steps) -> Result<Manifest> {
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
            additions: &order.additions,
            output: &order.output,
            steps,
            progress,
            tools: &tools.1,
            builder: system::builder()?,
        };
        let base = system.base(&tree)?;
        let system = system::System { steps: own, ..system };
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
