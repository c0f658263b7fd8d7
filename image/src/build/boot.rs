//! From kernel, initramfs and file system to a disk in all its forms, as steps.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use layout::{
    Partition, Role, RootHash, Slot,
    cmdline::USRHASH,
    disk::{DISK_BYTES, ESP_BYTES, TRIES, shipped},
};
use serde::{Deserialize, Serialize};

use super::system::System;
use crate::{
    disk, esp, formats, manifest,
    step::Done,
    tree::{self, Base},
    uki,
};

/// What every machine is told beside the root hash: the screen and the first serial line are
/// consoles (the last one is where programs write), and a kernel or a systemd that cannot go on
/// reboots, so that the boot counter can fall back.
const CMDLINE: &str =
    "rw console=tty0 console=ttyS0,115200n8 panic=30 systemd.crash_reboot=yes loglevel=4";
/// Of the tools tree.
const EFI: &str = "usr/lib/systemd/boot/efi";

/// Written down beside the forms of a disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Forms {
    pub(super) artifacts: Vec<manifest::Artifact>,
    pub(super) partitions: Vec<manifest::Partition>,
}

pub(super) const UKI_NOTE: &str = "uki.json";
pub(super) const FORMS_NOTE: &str = "forms.json";

impl System<'_> {
    /// The root hash that the erofs step wrote down.
    pub(super) fn root_hash(&self, erofs: &Done) -> Result<RootHash> {
        let path = erofs.file("roothash");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.trim().parse().with_context(|| format!("reading {}", path.display()))
    }

    /// The kernel, its command line and the initramfs in one EFI program.
    pub(super) fn uki(&self, base: &Done, initramfs: &Done, erofs: &Done) -> Result<Done> {
        let cmdline = format!("{USRHASH}={} {CMDLINE}", self.root_hash(erofs)?);
        let release = self.release();
        let inputs = self
            .inputs()
            .value("kernel (base)", &base.key)
            .value("initramfs", &initramfs.key)
            .value("command line", &cmdline)
            .value("os-release", release.os_release())
            .value("epoch", self.source.epoch);
        self.steps.run("uki", inputs, |folder| {
            let _working = self.progress.wait("putting the UKI together");
            let out = base.path.join("out");
            let kernel = Base::load(&out)?.kernel_release;
            let (os_release, uki) = (folder.join("os-release"), folder.join("uki.efi"));
            fs::write(&os_release, release.os_release()).context("writing os-release")?;
            let made = uki::make(&uki::Request {
                ukify: &self.bin().join("ukify"),
                stub: &self.efi("linuxx64.efi.stub"),
                linux: &tree::vmlinuz(&out),
                uname: &kernel,
                initrd: &initramfs.file("initramfs"),
                cmdline: &cmdline,
                os_release: &os_release,
                epoch: self.source.epoch,
                budget_bytes: uki::BUDGET_BYTES,
                out: &uki,
            })?;
            let made = manifest::Uki {
                file: self.source.version.uki_name(Some(TRIES)),
                size_bytes: made.size_bytes,
                sha256: made.sha256,
                cmdline,
                kernel,
                sections: made.sections,
            };
            note(&folder.join(UKI_NOTE), &made)
        })
    }

    /// The raw disk.
    pub(super) fn disk(&self, uki: &Done, erofs: &Done) -> Result<Done> {
        let inputs = self
            .inputs()
            .value("uki", &uki.key)
            .value("erofs", &erofs.key)
            .value("version", &self.source.version)
            .value("epoch", self.source.epoch);
        let seed = self.seed();
        self.steps.run("disk", inputs, |folder| {
            let _working = self.progress.wait("writing the disk");
            let esp = folder.join("esp.fat");
            esp::make(&esp::Request {
                loader: &self.efi("systemd-bootx64.efi"),
                uki: &uki.file("uki.efi"),
                uki_name: &self.source.version.uki_name(Some(TRIES)),
                loader_conf: esp::LOADER_CONF,
                more: &[],
                epoch: self.source.epoch,
                volume_id: seed.id32("esp volume"),
                size_bytes: ESP_BYTES,
                out: &esp,
            })?;
            disk::write(&disk::Request {
                guid: seed.uuid("disk"),
                size_bytes: DISK_BYTES,
                partitions: &self.partitions(erofs)?,
                contents: &[
                    (Role::Esp, &esp),
                    (Role::Usr(Slot::A), &erofs.file("usr.erofs")),
                    (Role::Verity(Slot::A), &erofs.file("usr.verity")),
                ],
                out: &folder.join("disk.raw"),
            })?;
            fs::remove_file(&esp).context("removing the ESP, which is on the disk now")
        })
    }

    /// The disk's forms to download and to run, and the hashes of everything.
    pub(super) fn forms(&self, disk: &Done, erofs: &Done) -> Result<Done> {
        let mut inputs = self.inputs().value("disk", &disk.key);
        let is_local = self.output.is_local;
        if is_local {
            inputs = inputs.value("only for here", is_local);
        }
        self.steps.run("forms", inputs, |folder| {
            let raw = disk.file("disk.raw");
            let (zst, qcow2) = (folder.join("disk.raw.zst"), folder.join("disk.qcow2"));
            let travelling = formats::Travelling { zst: &zst, qcow2: &qcow2 };
            let compressing = self.progress.transfer("compressing the disk", DISK_BYTES);
            let made = formats::write_all(
                &formats::Request {
                    raw: &raw,
                    partitions: &self.partitions(erofs)?,
                    travelling: (!is_local).then_some(travelling),
                },
                &|done, _| compressing.with(done),
            )?;
            let forms = Forms { artifacts: made.artifacts, partitions: made.partitions };
            note(&folder.join(FORMS_NOTE), &forms)
        })
    }

    pub(super) fn partitions(&self, erofs: &Done) -> Result<Vec<Partition>> {
        Ok(shipped(&self.seed(), &self.source.version, &self.root_hash(erofs)?))
    }

    fn efi(&self, name: &str) -> PathBuf {
        self.places.build.join("tools").join(EFI).join(name)
    }
}

/// Writes down what a step found out, for builds that take its result as it is.
fn note(path: &Path, what: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(what).context("names and numbers become JSON")?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Reads it again.
pub(super) fn read_note<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
}
