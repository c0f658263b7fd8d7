//! From the root tree to what a machine boots: `/usr`, the initramfs, the file system, as steps.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use layout::seed::Seed;
use payload::tuf::trusted_root;
use uuid::Uuid;

use super::{Additions, Output, Places, Source, programs::Programs};
use crate::{
    archive::Policy,
    erofs,
    initramfs::{self, ModuleList},
    lock::Flavor,
    mkosi::TREE,
    progress::Progress,
    step::{Done, Inputs, Steps, sha256_of},
    tree::{self, Base, BaseRequest, Extra, OverlayRequest, Release, Rules},
};

/// Whom a machine believes about updates.
const UPDATE_ROOT: &str = "/usr/share/pithos/update/root.json";

/// What the system is made with.
#[derive(Debug)]
pub(super) struct System<'a> {
    pub(super) places: &'a Places,
    pub(super) source: &'a Source,
    pub(super) flavor: Flavor,
    /// A release's lists have no entry that matches nothing.
    pub(super) policy: Policy,
    pub(super) programs: &'a Programs,
    pub(super) additions: &'a Additions,
    pub(super) output: &'a Output,
    pub(super) steps: &'a Steps,
    pub(super) progress: &'a Progress,
    /// The tools that make it.
    pub(super) tools: &'a Done,
    /// Hash of this very program: what it makes may change with it.
    pub(super) builder: String,
}

/// The hash of the running program.
pub(super) fn builder() -> Result<String> {
    sha256_of(&std::env::current_exe().context("finding this program")?)
}

impl System<'_> {
    /// What every step reads.
    pub(super) fn inputs(&self) -> Inputs {
        Inputs::new()
            .value("tools", &self.tools.key)
            .value("the program `image`", format!("sha256:{}", &self.builder[..32]))
    }

    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.flavor.name(), &self.source.version)
    }

    pub(super) fn verity_salt(&self) -> [u8; 32] {
        self.seed().bytes("usr verity salt")
    }

    /// Of the file system of `/usr`.
    pub(super) fn usr_uuid(&self) -> Uuid {
        self.seed().uuid("usr")
    }

    pub(super) fn release(&self) -> Release {
        Release {
            version: self.source.version.clone(),
            build_id: self.source.build_id.clone(),
            flavor: self.flavor.name().to_owned(),
        }
    }

    pub(super) fn bin(&self) -> PathBuf {
        self.places.build.join("bin")
    }

    fn rules(&self) -> Result<Rules> {
        Ok(Rules::load(&self.places.rootfs(), self.flavor.name())?)
    }

    /// The lists of `rootfs` as inputs.
    fn with_lists(&self, mut inputs: Inputs, names: &[&str]) -> Result<Inputs> {
        for name in names {
            let path = self.places.rootfs().join(name);
            if path.exists() {
                inputs = inputs.file(&format!("rootfs/{name}"), &path)?;
            }
        }
        Ok(inputs)
    }

    /// `/usr` of the packages: cut, normalised, indexed.
    pub(super) fn base(&self, root: &Done) -> Result<Done> {
        let of_flavor = format!("cuts.{}.list", self.flavor);
        let inputs = self.with_lists(
            self.inputs().value("tree", &root.key),
            &["cuts.list", &of_flavor, "setuid.list", "missing.list"],
        )?;
        self.steps.run("base", inputs, |folder| {
            let rules = self.rules()?;
            let _working = self.progress.wait("cutting and normalising /usr");
            tree::base(&BaseRequest {
                root: &root.path.join(TREE),
                rules: &rules,
                bin: &self.bin(),
                out: &folder.join("out"),
                refuse_stale: self.policy == Policy::Locked,
            })?;
            Ok(())
        })
    }

    /// `/usr` of the image: our files and programs over the packages'.
    pub(super) fn usr(&self, base: &Done) -> Result<Done> {
        let release = self.release();
        let mut extra = self.programs.of_usr();
        if let Some(root) = &self.additions.update_root {
            let text = fs::read(root).with_context(|| format!("reading {}", root.display()))?;
            trusted_root(&text).with_context(|| {
                format!(
                    "--update-root {}: expected metadata/N.root.json of a repository that \
                     update-publish made",
                    root.display()
                )
            })?;
            extra.push(Extra { from: root.clone(), to: UPDATE_ROOT.into(), executable: false });
        }
        let mut inputs = self
            .with_lists(self.inputs(), &["missing.list"])?
            .value("base", &base.key)
            .value("version", &release.version)
            .value("build id", &release.build_id)
            .value("flavor", &release.flavor)
            .tree("rootfs/usr", &self.places.rootfs().join("usr"))?;
        for Extra { from, to, .. } in &extra {
            inputs = inputs.file(to, from)?;
        }
        let overlay = self.additions.overlay.as_deref().map(overlay_usr).transpose()?;
        if let Some(usr) = &overlay {
            inputs = inputs.tree("--overlay", usr)?;
        }
        let security_epoch = self.additions.security_epoch;
        if let Some(epoch) = security_epoch {
            inputs = inputs.value("security epoch", epoch);
        }
        self.steps.run("usr", inputs, |folder| {
            let rules = self.rules()?;
            let _working = self.progress.wait("laying our files over /usr, and checking it");
            let made = tree::overlay(&OverlayRequest {
                base: &base.path.join("out"),
                rootfs: &self.places.rootfs(),
                rules: &rules,
                extra: &extra,
                overlay: overlay.as_deref(),
                security_epoch,
                release: &release,
                bin: &self.bin(),
                out: &folder.join("out"),
                refuse_stale: self.policy == Policy::Locked,
            })?;
            for note in &made.notes {
                self.progress.line(format!("  {note}"));
            }
            let text = serde_json::to_vec_pretty(&made).context("writing down sizes")?;
            fs::write(folder.join("usr.json"), text).context("writing down sizes")
        })
    }

    /// `/init` and the modules it may load.
    pub(super) fn initramfs(&self, base: &Done) -> Result<Done> {
        let list = self.places.rootfs().join("initramfs.modules");
        let inputs = self
            .inputs()
            .value("base", &base.key)
            .value("flavor", self.flavor)
            .file("rootfs/initramfs.modules", &list)?
            .file("/init", &self.programs.init())?;
        self.steps.run("initramfs", inputs, |folder| {
            let out = base.path.join("out");
            let _working = self.progress.wait("packing the initramfs");
            let made = initramfs::build(&initramfs::Request {
                init: &self.programs.init(),
                modules: &tree::modules(&out, &Base::load(&out)?.kernel_release),
                list: &ModuleList::load(&list)?,
                flavor: self.flavor.name(),
                budget_bytes: initramfs::BUDGET_BYTES,
            })?;
            let modules = serde_json::to_vec_pretty(&made.modules).context("listing modules")?;
            fs::write(folder.join("modules.json"), modules).context("listing modules")?;
            fs::write(folder.join("initramfs"), made.bytes).context("writing the initramfs")
        })
    }

    /// The file system of `/usr` and its hash tree.
    pub(super) fn erofs(&self, usr: &Done) -> Result<Done> {
        let seed = self.seed();
        let inputs = self
            .inputs()
            .value("usr", &usr.key)
            .value("epoch", self.source.epoch)
            .value("seed", hex::encode(seed.bytes("key of the step")));
        self.steps.run("erofs", inputs, |folder| {
            let _working = self.progress.wait("making the file system of /usr");
            let made = erofs::make(&erofs::Request {
                usr: &tree::usr(&usr.path.join("out")),
                epoch: self.source.epoch,
                uuid: self.usr_uuid(),
                verity_salt: self.verity_salt(),
                verity_uuid: seed.uuid("usr verity"),
                budget_bytes: erofs::BUDGET_BYTES,
                bin: &self.bin(),
                out: &folder.join("usr.erofs"),
                verity_out: &folder.join("usr.verity"),
            })?;
            fs::write(folder.join("roothash"), format!("{}\n", made.root_hash))
                .context("writing down the root hash")
        })
    }
}

/// What is laid over `/usr` of a folder that an image builder named.
fn overlay_usr(folder: &Path) -> Result<PathBuf> {
    let reading = || format!("--overlay {}", folder.display());
    let usr = folder.join("usr");
    for entry in fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        ensure!(
            path == usr && path.is_dir(),
            "--overlay {}: {} cannot be part of an image, expected a folder usr/ and nothing else \
             (defaults of /etc belong into usr/share/pithos/etc)",
            folder.display(),
            path.display()
        );
    }
    ensure!(usr.is_dir(), "--overlay {}: no folder usr/ in it", folder.display());
    Ok(usr)
}
