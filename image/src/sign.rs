//! `image sign`: an image whose programs for the firmware are signed, for Secure Boot.
//!
//! It is a step of its own behind the build: what is signed differs from one time to the next, and
//! the unsigned image is what two builders compare. Only the ESP, and what is made of it, differs.

pub mod enroll;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use layout::{
    Role, RootHash, Slot, Version,
    disk::{DISK_BYTES, ESP_BYTES, shipped},
    seed::Seed,
};

use crate::{
    disk::{self, table},
    esp, formats,
    inspect::open_esp,
    manifest::{self, Manifest},
    progress::Progress,
    sbom,
    step::{remove, sha256_of},
    uki::Pe,
};

/// More than any program on an ESP has.
const PROGRAM_BYTES_MAX: u64 = 256 << 20;
const LOADER: &str = "/EFI/systemd/systemd-bootx64.efi";

/// Whose signature.
#[derive(Clone, Debug)]
pub enum Signer {
    /// That of a key in a file.
    Key {
        /// The private key, PEM.
        key: PathBuf,
        /// Its certificate, PEM.
        certificate: PathBuf,
    },
    /// That of a program, which is called with a file to sign and one to write.
    Program(PathBuf),
}

/// What to sign.
#[derive(Clone, Debug)]
pub struct Order {
    /// The folder of the image.
    pub image: PathBuf,
    /// Where the signed one goes.
    pub to: PathBuf,
    /// Programs of the tools tree: `build/bin`.
    pub bin: PathBuf,
    /// Who signs.
    pub signer: Signer,
    /// Whether the ESP carries the certificate, for the loader to give it to a firmware that has no
    /// keys yet.
    pub enroll: bool,
    /// The raw disk alone.
    pub disk_only: bool,
}

/// Signs an image.
pub fn sign(order: &Order, progress: &Progress) -> Result<()> {
    let work = order.to.with_extension("tmp");
    remove(&work)?;
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let version = make(order, &work, progress).inspect_err(|_| drop(remove(&work)))?;
    remove(&order.to)?;
    fs::rename(&work, &order.to).with_context(|| format!("naming {}", order.to.display()))?;
    progress.line(format!("PithOS {version}, signed, is in {}", order.to.display()));
    Ok(())
}

/// Makes it in a folder to work in. Says its version.
fn make(order: &Order, work: &Path, progress: &Progress) -> Result<Version> {
    let from = |file: &str| order.image.join(file);
    let unsigned = Manifest::read(&from(manifest::FILE))?;
    let version: Version = unsigned.version.parse().context("reading the manifest")?;
    let signed = programs(order, &unsigned, &from(&version.artifact("raw")), work)?;
    let keys = match (&order.signer, order.enroll) {
        (_, false) => vec![],
        (Signer::Key { key, certificate }, true) => {
            enroll::files(&read(key)?, &read(certificate)?, unsigned.epoch)
                .with_context(|| format!("making keys of {}", certificate.display()))?
        }
        (Signer::Program(_), true) => bail!(
            "--enroll wants --key and --certificate: the lists of keys are signed with the key itself"
        ),
    };
    let more: Vec<(&str, &[u8])> =
        keys.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();

    progress.line("sign: writing the disk");
    let (esp, raw) = (work.join("esp.fat"), work.join(version.artifact("raw")));
    let seed = Seed::new(&unsigned.flavor, &version);
    esp::make(&esp::Request {
        loader: &signed.loader,
        uki: &signed.uki,
        uki_name: &unsigned.uki.file,
        loader_conf: esp::LOADER_CONF,
        more: &more,
        epoch: unsigned.epoch,
        volume_id: seed.id32("esp volume"),
        size_bytes: ESP_BYTES,
        out: &esp,
    })?;
    let root_hash: RootHash = unsigned.usr.root_hash.parse().context("reading the manifest")?;
    let partitions = shipped(&seed, &version, &root_hash);
    let (usr, verity) = (version.artifact("usr.erofs"), version.artifact("usr.verity"));
    disk::write(&disk::Request {
        guid: unsigned.disk.guid,
        size_bytes: DISK_BYTES,
        partitions: &partitions,
        contents: &[
            (Role::Esp, &esp),
            (Role::Usr(Slot::A), &from(&usr)),
            (Role::Verity(Slot::A), &from(&verity)),
        ],
        out: &raw,
    })?;

    let mut manifest = unsigned;
    let uki = version.artifact("efi");
    fs::rename(&signed.uki, work.join(&uki)).context("naming the UKI")?;
    manifest.uki.size_bytes = fs::metadata(work.join(&uki)).context("the UKI")?.len();
    manifest.uki.sha256 = sha256_of(&work.join(&uki))?;
    if order.disk_only {
        manifest.disk.partitions = disk::describe(&raw, &partitions)?;
        manifest.artifacts = vec![disk::artifact(&raw, &|_, _| ())?];
    } else {
        let compressing = progress.transfer("compressing the disk", DISK_BYTES);
        let (zst, qcow2) =
            (work.join(version.artifact("raw.zst")), work.join(version.artifact("qcow2")));
        let made = formats::write_all(
            &formats::Request {
                raw: &raw,
                partitions: &partitions,
                travelling: Some(formats::Travelling { zst: &zst, qcow2: &qcow2 }),
            },
            &|done, _| compressing.with(done),
        )?;
        manifest.disk.partitions = made.partitions;
        let mut artifacts = made.artifacts;
        artifacts.push(disk::artifact(&work.join(&uki), &|_, _| ())?);
        for file in [&usr, &verity] {
            fs::copy(from(file), work.join(file)).with_context(|| format!("copying {file}"))?;
            artifacts.extend(manifest.artifacts.iter().filter(|a| a.file == *file).cloned());
        }
        fs::copy(from(sbom::FILE), work.join(sbom::FILE))
            .with_context(|| format!("copying {}", sbom::FILE))?;
        artifacts.sort();
        manifest.artifacts = artifacts;
    }
    for left in [&esp, &signed.loader] {
        fs::remove_file(left).with_context(|| format!("removing {}", left.display()))?;
    }
    manifest.write(&work.join(manifest::FILE))?;
    checksums(&manifest, work)?;
    Ok(version)
}

fn checksums(manifest: &Manifest, folder: &Path) -> Result<()> {
    let mut beside = Vec::new();
    for file in [manifest::FILE, sbom::FILE] {
        if folder.join(file).exists() {
            beside.push((file, sha256_of(&folder.join(file))?));
        }
    }
    let mut sums: Vec<(&str, &str)> =
        manifest.artifacts.iter().map(|a| (a.file.as_str(), a.sha256.as_str())).collect();
    sums.extend(beside.iter().map(|(file, sum)| (*file, sum.as_str())));
    Ok(manifest::write_sha256sums(&folder.join("SHA256SUMS"), sums)?)
}

/// What the firmware starts, signed.
struct Signed {
    loader: PathBuf,
    uki: PathBuf,
}

/// Takes the loader and the UKI off the unsigned disk and has them signed.
fn programs(order: &Order, manifest: &Manifest, raw: &Path, work: &Path) -> Result<Signed> {
    let disk = File::open(raw).with_context(|| format!("opening {}", raw.display()))?;
    let reading = || format!("reading the ESP of {}", raw.display());
    let (table, _) = table::read(&disk).with_context(reading)?;
    let esp = table.entries.iter().find(|entry| entry.type_guid == layout::types::ESP);
    let esp = esp.context("there is no EFI System Partition").with_context(reading)?;
    let fat = open_esp(&disk, &table, esp).map_err(anyhow::Error::msg).with_context(reading)?;
    let all = fat.walk().with_context(reading)?;
    let signed = |path: &str, name: &str| -> Result<PathBuf> {
        let entry = all.iter().find(|entry| entry.path.eq_ignore_ascii_case(path));
        let entry =
            entry.with_context(|| format!("{path} is not on the ESP of {}", raw.display()))?;
        let (plain, out) = (work.join(format!("{name}.unsigned")), work.join(name));
        fs::write(&plain, fat.read(entry, PROGRAM_BYTES_MAX).with_context(reading)?)
            .with_context(|| format!("writing {}", plain.display()))?;
        run(order, &plain, &out).with_context(|| format!("signing {path}"))?;
        is_signed(&read(&plain)?, &read(&out)?).with_context(|| format!("signing {path}"))?;
        fs::remove_file(&plain).with_context(|| format!("removing {}", plain.display()))?;
        Ok(out)
    };
    Ok(Signed {
        loader: signed(LOADER, "loader.efi")?,
        uki: signed(&format!("/EFI/Linux/{}", manifest.uki.file), "uki.efi")?,
    })
}

fn run(order: &Order, from: &Path, to: &Path) -> Result<()> {
    let (mut command, name) = match &order.signer {
        Signer::Key { key, certificate } => {
            let mut command = Command::new(order.bin.join("systemd-sbsign"));
            command.arg("sign").arg("--private-key").arg(key).arg("--certificate").arg(certificate);
            command.arg("--output").arg(to).arg(from);
            (command, "systemd-sbsign".to_owned())
        }
        Signer::Program(program) => {
            let mut command = Command::new(program);
            command.arg(from).arg(to);
            (command, program.display().to_string())
        }
    };
    let output = command.output().with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} ended with {}: {}", output.status, said.trim_end());
    }
    Ok(())
}

/// Whether the second is the first with a signature, and else the same.
fn is_signed(plain: &[u8], signed: &[u8]) -> Result<()> {
    let (plain, signed) = (Pe::parse(plain)?, Pe::parse(signed)?);
    ensure!(plain.describe() == signed.describe(), "what came back is another program");
    ensure!(signed.signature_bytes > 0, "what came back has no signature");
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}
