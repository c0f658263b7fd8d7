//! `build/image`: the artefacts under their names, the manifest, the checksums. The folder changes
//! as a whole: whoever looks sees the old image or the new one.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{
    boot::{FORMS_NOTE, Forms, UKI_NOTE, read_note},
    programs,
    system::System,
};
use crate::{
    archive::Settled,
    disk::artifact,
    lock::Package,
    manifest::{self, Manifest},
    progress::size,
    sbom,
    step::{Done, remove, sha256_of},
};

/// The image's folder in `build`, if no other name was given.
pub(super) const IMAGE: &str = "image";

/// The results of the steps that an image consists of.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) initramfs: Done,
    pub(super) erofs: Done,
    pub(super) uki: Done,
    pub(super) disk: Done,
    pub(super) forms: Done,
}

impl System<'_> {
    /// Puts the image into `build/image`. `tree` is the tree of the packages, nothing cut.
    pub(super) fn publish(
        &self,
        packages: &Settled,
        tree: &Path,
        results: &Results,
    ) -> Result<Manifest> {
        let image = self.places.build.join(&self.output.name);
        let manifest = self.manifest(packages, results)?;
        if Manifest::read(&image.join(manifest::FILE)).is_ok_and(|present| present == manifest)
            && manifest.artifacts.iter().all(|artifact| is_there(&image, artifact))
            && image.join(sbom::FILE).exists()
        {
            self.progress.line("image: unchanged");
            return Ok(manifest);
        }

        self.steps.may_work("image")?;
        let unfinished = image.with_extension("tmp");
        remove(&unfinished)?;
        fs::create_dir(&unfinished).with_context(|| format!("making {}", unfinished.display()))?;
        for (name, from) in self.files(results) {
            let to = unfinished.join(name);
            fs::hard_link(&from, &to).with_context(|| format!("linking {}", to.display()))?;
            // It is the step's result, too: nobody is to write to it by accident.
            fs::set_permissions(&to, fs::Permissions::from_mode(0o444))
                .with_context(|| format!("protecting {}", to.display()))?;
        }
        manifest.write(&unfinished.join(manifest::FILE))?;
        let bill = unfinished.join(sbom::FILE);
        fs::write(&bill, self.sbom(&manifest, tree)?)
            .with_context(|| format!("writing {}", bill.display()))?;
        let beside = [manifest::FILE, sbom::FILE]
            .map(|file| Ok((file, sha256_of(&unfinished.join(file))?)))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let mut sums: Vec<(&str, &str)> =
            manifest.artifacts.iter().map(|a| (a.file.as_str(), a.sha256.as_str())).collect();
        sums.extend(beside.iter().map(|(file, sum)| (*file, sum.as_str())));
        manifest::write_sha256sums(&unfinished.join("SHA256SUMS"), sums)?;
        exchange(&unfinished, &image)?;
        Ok(manifest)
    }

    /// The bill of materials: Debian's packages, our programs and their crates.
    fn sbom(&self, manifest: &Manifest, tree: &Path) -> Result<String> {
        let read = |path: PathBuf| {
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let repo = &self.places.repo;
        let mut cargo_tomls = BTreeMap::new();
        for (member, folder) in programs::MEMBERS {
            let text = read(repo.join(folder).join("Cargo.toml"))?;
            cargo_tomls.insert((*member).to_owned(), text);
        }
        let programs: Vec<_> = manifest
            .programs
            .iter()
            .filter_map(|program| {
                let package = programs::package(&program.name)?;
                Some(sbom::Program { program, package })
            })
            .collect();
        Ok(sbom::make(&sbom::Request {
            version: &self.source.version,
            flavor: self.flavor.name(),
            epoch: self.source.epoch,
            namespace: self.seed().uuid("sbom"),
            packages: &manifest.packages,
            docs: &tree.join("usr/share/doc"),
            programs: &programs,
            cargo_lock: &read(repo.join("Cargo.lock"))?,
            cargo_tomls: &cargo_tomls,
        })?)
    }

    /// The files of the image by name, and where the steps have them.
    fn files(&self, results: &Results) -> Vec<(String, PathBuf)> {
        let Results { erofs, uki, disk, forms, .. } = results;
        let name = |extension: &str| self.source.version.artifact(extension);
        let mut files = vec![
            (name("efi"), uki.file("uki.efi")),
            (name("raw"), disk.file("disk.raw")),
            (name("usr.erofs"), erofs.file("usr.erofs")),
            (name("usr.verity"), erofs.file("usr.verity")),
        ];
        if !self.output.is_local {
            files.push((name("qcow2"), forms.file("disk.qcow2")));
            files.push((name("raw.zst"), forms.file("disk.raw.zst")));
        }
        files
    }

    fn manifest(&self, packages: &Settled, results: &Results) -> Result<Manifest> {
        let uki = read_note(&results.uki.file(UKI_NOTE))?;
        let forms: Forms = read_note(&results.forms.file(FORMS_NOTE))?;
        let initramfs = results.initramfs.file("initramfs");
        let (seed, source) = (self.seed(), self.source);
        let mut artifacts = Vec::new();
        for (name, path) in self.files(results) {
            let step_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = forms.artifacts.iter().find(|artifact| artifact.file == step_name);
            let described = match known {
                Some(known) => known.clone(),
                None => artifact(&path, &|_, _| ())?,
            };
            artifacts.push(manifest::Artifact { file: name, ..described });
        }
        artifacts.sort();
        let size_of = |path: &Path| -> Result<u64> {
            Ok(fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?.len())
        };
        Ok(Manifest {
            format: manifest::FORMAT,
            id: "pithos".to_owned(),
            version: source.version.to_string(),
            build_id: source.build_id.clone(),
            architecture: "x86_64".to_owned(),
            flavor: self.flavor.to_string(),
            epoch: source.epoch,
            as_locked: packages.differences.is_empty(),
            differences: packages
                .differences
                .iter()
                .map(|difference| manifest::Difference {
                    name: difference.name.clone(),
                    architecture: difference.architecture.clone(),
                    locked: difference.locked.clone(),
                    used: difference.used.clone(),
                })
                .collect(),
            usr: manifest::Usr {
                root_hash: self.root_hash(&results.erofs)?.to_string(),
                size_bytes: size_of(&results.erofs.file("usr.erofs"))?,
                verity_size_bytes: size_of(&results.erofs.file("usr.verity"))?,
                salt: hex::encode(self.verity_salt()),
                uuid: self.usr_uuid(),
            },
            uki,
            initramfs: manifest::Blob {
                size_bytes: size_of(&initramfs)?,
                sha256: sha256_of(&initramfs)?,
            },
            disk: manifest::Disk {
                guid: seed.uuid("disk"),
                size_bytes: layout::disk::DISK_BYTES,
                partitions: forms.partitions,
            },
            artifacts,
            packages: listed(&packages.image),
            tools: listed(&packages.of_tools()),
            programs: self
                .programs
                .all()
                .into_iter()
                .map(|(name, path)| {
                    let (sha256, size_bytes) = (sha256_of(&path)?, size_of(&path)?);
                    Ok(manifest::Program { name, sha256, size_bytes })
                })
                .collect::<Result<_>>()?,
        })
    }
}

/// What the build says in the end.
pub(super) fn summary(manifest: &Manifest, image: &Path) -> String {
    let of = |end: &str| manifest.artifacts.iter().find(|artifact| artifact.file.ends_with(end));
    let compressed = of(".raw.zst").map_or_else(String::new, |artifact| {
        format!(" ({} compressed)", size(artifact.size_bytes))
    });
    let raw = of(".raw").map_or(0, |artifact| artifact.allocated_bytes);
    let locked = if manifest.as_locked { "" } else { ", NOT as locked" };
    format!(
        "PithOS {} ({}{locked}) is in {}\n  \
         disk {}{compressed}, /usr {}, UKI {} of which initramfs {}\n  \
         root hash {}",
        manifest.version,
        manifest.flavor,
        image.display(),
        size(raw),
        size(manifest.usr.size_bytes),
        size(manifest.uki.size_bytes),
        size(manifest.initramfs.size_bytes),
        manifest.usr.root_hash
    )
}

fn listed(packages: &[Package]) -> Vec<manifest::Package> {
    let mut listed: Vec<_> = packages
        .iter()
        .map(|package| manifest::Package {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: package.sha256.clone(),
        })
        .collect();
    listed.sort();
    listed
}

fn is_there(image: &Path, artifact: &manifest::Artifact) -> bool {
    let data = fs::metadata(image.join(&artifact.file));
    data.is_ok_and(|data| data.len() == artifact.size_bytes)
}

/// Puts the new folder in the place of the old one, in one step.
fn exchange(new: &Path, place: &Path) -> Result<()> {
    let naming = || format!("naming {}", place.display());
    if place.exists() {
        renameat2(AT_FDCWD, new, AT_FDCWD, place, RenameFlags::RENAME_EXCHANGE)
            .with_context(naming)?;
        remove(new)
    } else {
        fs::rename(new, place).with_context(naming)
    }
}
