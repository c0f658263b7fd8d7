//! `image verify`: that a disk is the one of a manifest, byte for byte, and if not, where not.
//!
//! It trusts neither: the table is read strictly, the hash tree is computed again from the data,
//! and the UKI is read off the ESP as firmware would. Every check is printed with its result, so
//! that a person sees what was looked at; the command fails if one of them does.

mod checks;
pub mod tree_hash;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use anyhow::{Context, Result, bail};
use layout::{Version, disk::EMPTY_LABEL};
use serde::Serialize;

use crate::{
    disk::{
        self,
        table::{self, Table},
    },
    manifest::{self, Manifest},
    progress::Progress,
};

/// The words of the command.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A raw disk image; or another file of the image, of which the checksum is checked.
    file: PathBuf,
    /// The manifest; otherwise manifest.json beside the file.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// `partition 2: sha256`.
    pub what: String,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a check went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Outcome {
    /// As the manifest says.
    Ok,
    /// Not as the manifest says.
    Failed {
        /// What is different.
        why: String,
    },
    /// Not there to be looked at, and not needed for the disk to be right.
    Absent {
        /// What is missing.
        why: String,
    },
}

/// Every check of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verdict {
    /// The file.
    pub file: PathBuf,
    /// What it was compared with.
    pub manifest: PathBuf,
    /// The version in the manifest.
    pub version: String,
    /// Whether none failed.
    pub ok: bool,
    /// In the order of the disk.
    pub checks: Vec<Check>,
}

/// Runs the command: prints each check, and fails if one did.
pub fn run(args: &VerifyArgs, progress: &Progress) -> Result<ExitCode> {
    let beside = || args.file.parent().unwrap_or(Path::new("")).join(manifest::FILE);
    let manifest = args.manifest.clone().unwrap_or_else(beside);
    let json = args.json;
    let verdict = verify(&args.file, &manifest, progress, &mut |check| {
        if !json {
            println!("{check}");
        }
    })?;
    if json {
        println!("{}", serde_json::to_string_pretty(&verdict).context("writing JSON")?);
    } else {
        println!("\n{verdict}");
    }
    Ok(if verdict.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks a file against a manifest. `say` is told each check when it is done.
pub fn verify(
    file: &Path,
    manifest_path: &Path,
    progress: &Progress,
    say: &mut dyn FnMut(&Check),
) -> Result<Verdict> {
    let manifest = read_manifest(manifest_path)?;
    let disk = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut checks = checks::Checks::new(say);
    let listed = manifest.artifacts.iter().find(|artifact| artifact.file == name);
    match (table::read(&disk), listed) {
        (Err(table::Error::Other(..)), Some(artifact)) => {
            checks.artifact(artifact, disk::artifact(file, &|_, _| ()));
        }
        (Err(error), _) => {
            return Err(error).with_context(|| format!("verifying {}", file.display()));
        }
        (Ok((table, damage)), _) => {
            same_version(file, &table, &manifest, manifest_path)?;
            checks.damage(damage);
            disk_and_artifacts(
                file,
                &disk,
                &table,
                &manifest,
                manifest_path,
                progress,
                &mut checks,
            )?;
        }
    }
    let checks = checks.done();
    Ok(Verdict {
        file: file.to_owned(),
        manifest: manifest_path.to_owned(),
        version: manifest.version,
        ok: !checks.iter().any(|check| matches!(check.outcome, Outcome::Failed { .. })),
        checks,
    })
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    if !path.exists() {
        bail!(
            "there is no manifest at {}: it comes with the image, beside the disk; or name it with \
             --manifest",
            path.display()
        );
    }
    Ok(Manifest::read(path)?)
}

/// An image and a manifest that have nothing to do with each other are one mistake, not hundreds.
fn same_version(
    file: &Path,
    table: &Table,
    manifest: &Manifest,
    manifest_path: &Path,
) -> Result<()> {
    let labels = table.entries.iter().map(|entry| entry.label.as_str());
    let mut versions: Vec<String> =
        labels.filter_map(Version::from_label).map(|version| version.to_string()).collect();
    versions.dedup();
    if versions.contains(&manifest.version) {
        return Ok(());
    }
    let holds = match versions.as_slice() {
        [] if table.entries.iter().any(|entry| entry.label == EMPTY_LABEL) => {
            "has empty slots".to_owned()
        }
        [] => "is no disk of PithOS".to_owned(),
        some => format!("holds version {}", some.join(" and ")),
    };
    bail!(
        "{} {holds}, and {} is of version {}: give the manifest that belongs to it with --manifest",
        file.display(),
        manifest_path.display(),
        manifest.version
    )
}

fn disk_and_artifacts(
    file: &Path,
    disk: &File,
    table: &Table,
    manifest: &Manifest,
    manifest_path: &Path,
    progress: &Progress,
    checks: &mut checks::Checks<'_>,
) -> Result<()> {
    thread::scope(|scope| {
        // The hash of the whole takes as long as all the rest.
        let whole = scope.spawn(|| {
            let task = progress.transfer("reading the disk", table.size_bytes);
            disk::artifact(file, &|done, _| task.with(done))
        });
        checks.table(table, manifest);
        checks.partitions(disk, table, manifest);
        checks.usr(disk, table, manifest);
        checks.uki(disk, table, manifest);
        let folder = manifest_path.parent().unwrap_or(Path::new(""));
        let whole = whole.join().expect("it does not panic");
        for artifact in &manifest.artifacts {
            let path = folder.join(&artifact.file);
            if artifact.file.ends_with(".raw") {
                // This very file, whatever it is called now.
                match &whole {
                    Ok(whole) => checks.artifact(artifact, Ok(whole.clone())),
                    Err(error) => bail!("{error:#}"),
                }
            } else if fs::exists(&path).unwrap_or(false) {
                checks.artifact(artifact, disk::artifact(&path, &|_, _| ()));
            } else {
                checks.absent(&artifact.file, "not beside the manifest");
            }
        }
        Ok(())
    })
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.outcome {
            Outcome::Ok => write!(f, "ok      {}", self.what),
            Outcome::Failed { why } => write!(f, "FAILED  {}: {why}", self.what),
            Outcome::Absent { why } => write!(f, "absent  {}: {why}", self.what),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (file, version) = (self.file.display(), &self.version);
        let failed = |check: &&Check| matches!(check.outcome, Outcome::Failed { .. });
        let failed: Vec<&Check> = self.checks.iter().filter(failed).collect();
        if failed.is_empty() {
            let count = self.checks.iter().filter(|check| check.outcome == Outcome::Ok).count();
            return write!(f, "{file} is version {version}, {count} checks");
        }
        write!(f, "{file} is NOT as the manifest of {version} says, {} failed:", failed.len())?;
        failed.iter().try_for_each(|check| write!(f, "\n  - {}", check.what))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use expect_test::{Expect, expect};
    use layout::disk::MIB;

    use super::*;
    use crate::inspect::fixture::{DISK_BYTES, Fixture, USR_AT, VERITY_AT};

    fn verdict(file: &Path, manifest: &Path) -> Result<Verdict> {
        verify(file, manifest, &Progress::silent(), &mut |_| ())
    }

    /// What fails after a change of the disk.
    fn failures(change: impl FnOnce(&File), expected: Expect) {
        let fixture = Fixture::new();
        fixture.write_manifest();
        change(&File::options().read(true).write(true).open(&fixture.raw).unwrap());
        let verdict = verdict(&fixture.raw, &fixture.folder.path().join(manifest::FILE)).unwrap();
        let failed = |check: &&Check| matches!(check.outcome, Outcome::Failed { .. });
        let failed: Vec<String> =
            verdict.checks.iter().filter(failed).map(|check| check.to_string()).collect();
        assert_eq!(verdict.ok, failed.is_empty());
        expected.assert_eq(&failed.join("\n"));
    }

    #[test]
    fn a_good_disk_passes_every_check_and_they_are_named() {
        let fixture = Fixture::new();
        fixture.write_manifest();
        let verdict = verdict(&fixture.raw, &fixture.folder.path().join(manifest::FILE)).unwrap();
        assert!(verdict.ok);
        let shown: Vec<String> = verdict.checks.iter().map(Check::to_string).collect();
        expect![[r#"
            ok      partition table: both copies
            ok      disk: size in bytes
            ok      disk: GUID
            ok      partition 1 (esp): name and place
            ok      partition 1 (esp): sha256
            ok      partition 2 (pithos_0.1.0): name and place
            ok      partition 2 (pithos_0.1.0): sha256
            ok      partition 3 (pithos_0.1.0_verity): name and place
            ok      partition 3 (pithos_0.1.0_verity): sha256
            ok      partition 4 (_empty): name and place
            ok      partition 4 (_empty): sha256
            ok      partition 5 (_empty): name and place
            ok      partition 5 (_empty): sha256
            ok      /usr: root hash in the PARTUUIDs
            ok      /usr: UUID of the file system
            ok      /usr: salt of the hash tree
            ok      /usr: size in bytes
            ok      /usr: size of its hash tree
            ok      /usr: root hash of the data
            ok      /usr: the hash tree is that of the data
            ok      UKI pithos_0.1.0+3.efi: size in bytes
            ok      UKI pithos_0.1.0+3.efi: sha256
            ok      UKI pithos_0.1.0+3.efi: sections
            ok      UKI pithos_0.1.0+3.efi: .osrel
            ok      UKI pithos_0.1.0+3.efi: .cmdline
            ok      UKI pithos_0.1.0+3.efi: .uname
            ok      UKI pithos_0.1.0+3.efi: .linux
            ok      UKI pithos_0.1.0+3.efi: .initrd
            ok      UKI pithos_0.1.0+3.efi: command line
            ok      UKI pithos_0.1.0+3.efi: usrhash=
            ok      UKI pithos_0.1.0+3.efi: initramfs
            ok      file pithos-0.1.0.efi
            ok      file pithos-0.1.0.raw"#]]
        .assert_eq(&shown.join("\n"));
    }

    #[test]
    fn a_changed_byte_of_data_is_found_and_placed() {
        failures(
            |disk| disk.write_all_at(b"x", USR_AT + 4096 * 200 + 7).unwrap(),
            expect![[r#"
                FAILED  partition 2 (pithos_0.1.0): sha256: expected 4546dad46036e914f6a2fa2bad07aaa713a8b8626872c2c570831c76c31314b4, found ea69daa1c940d7733c16b9377f36729f8510a7b86362dfa369bb959d92b35a8e
                FAILED  /usr: root hash of the data: expected 0a4b8d91dd010e2515c1711930905b12061a56d62166c998a21063c98336a462, found b1f8d91979fab9301c4d47c1a8b25927ba1a990afa0d13a551f52ff07824737a
                FAILED  /usr: the hash tree is that of the data: the first difference is the hash of data block 200 (byte 819200 of /usr)
                FAILED  file pithos-0.1.0.raw: expected 293601280 bytes, sha256 1457a34ca986138c24100fd8b4b83b84c5b08230f0ead4e0ffbcc0949d19e3fa, found 293601280 bytes, sha256 714b64c9c4cb2d044ec5f2486426da421f983442b5683a09c1d18a8d53c01d45"#]],
        );
    }

    #[test]
    fn a_changed_byte_of_the_tree_is_found_and_placed() {
        failures(
            |disk| disk.write_all_at(b"x", VERITY_AT + 4096 * 3 + 70).unwrap(),
            expect![[r#"
                FAILED  partition 3 (pithos_0.1.0_verity): sha256: expected 1ea3bae250646c457cc2635d1d72dc7d8fdd77d06e5d3f45d8520b9fe05d4a9b, found db7d1c967ac8eaa675672972b635d2a35fe0e4d05ecd6d4f0ea7d122b3610f79
                FAILED  /usr: the hash tree is that of the data: the first difference is the hash of data block 130 (byte 532480 of /usr)
                FAILED  file pithos-0.1.0.raw: expected 293601280 bytes, sha256 1457a34ca986138c24100fd8b4b83b84c5b08230f0ead4e0ffbcc0949d19e3fa, found 293601280 bytes, sha256 ce63f466a4df8c59976872bf2598eaa58f51ccd4de3c5b32de246aa0650c3f99"#]],
        );
    }

    #[test]
    fn a_changed_superblock_of_the_tree_is_found() {
        failures(
            |disk| disk.write_all_at(b"x", VERITY_AT + 90).unwrap(),
            expect![[r#"
                FAILED  partition 3 (pithos_0.1.0_verity): sha256: expected 1ea3bae250646c457cc2635d1d72dc7d8fdd77d06e5d3f45d8520b9fe05d4a9b, found cd63fe5bccf208f63cb3869fa5c3340bb42d50ccc2ce1ee57e04b4138bd9d8e2
                FAILED  /usr: salt of the hash tree: expected 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a, found 5a5a785a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a
                FAILED  /usr: root hash of the data: expected 0a4b8d91dd010e2515c1711930905b12061a56d62166c998a21063c98336a462, found 3bb8d26ffde8185a41b1340ff490b3454949e5d83d58819f2985168d311f1fb3
                FAILED  /usr: the hash tree is that of the data: the first difference is the hash of data block 0 (byte 0 of /usr)
                FAILED  file pithos-0.1.0.raw: expected 293601280 bytes, sha256 1457a34ca986138c24100fd8b4b83b84c5b08230f0ead4e0ffbcc0949d19e3fa, found 293601280 bytes, sha256 472fa6e859c59a0ef2b106684a40c0ea48bfdeabaf6e6a01965ce039e2a76e73"#]],
        );
    }

    #[test]
    fn a_byte_behind_the_last_partition_is_found() {
        failures(
            |disk| disk.write_all_at(b"x", DISK_BYTES - 2 * MIB).unwrap(),
            expect![
                "FAILED  file pithos-0.1.0.raw: expected 293601280 bytes, sha256 1457a34ca986138c24100fd8b4b83b84c5b08230f0ead4e0ffbcc0949d19e3fa, found 293601280 bytes, sha256 24639efc7c7094c2d36f17648141a0c4a254c2f8e3ea8842bde303f00f625e56"
            ],
        );
    }

    #[test]
    fn a_changed_uki_is_found_by_section() {
        failures(
            |disk| {
                // The first bytes of .linux, wherever FAT put them.
                let mut bytes = vec![0; 4 << 20];
                disk.read_exact_at(&mut bytes, MIB).unwrap();
                let at = bytes.windows(100).position(|window| window == [7; 100]).unwrap();
                disk.write_all_at(b"x", MIB + at as u64).unwrap();
            },
            expect![[r#"
                FAILED  partition 1 (esp): sha256: expected d19b8f10b38f914d92920b90fc8743cb3c6418166266047b249aabd0f10f3500, found 0cac7b2a3a72d1c300724975404ff5e19b502dbed1ea956ee909a0b7b535ebb8
                FAILED  UKI pithos_0.1.0+3.efi: sha256: expected c5087bd95c1979bbeea046cbfb40d407c9d60562bed22a13c2d0c349b567b4b7, found 6659d7cc20b313059dbfa7336942bca15c439c9942b383eed319ca0fe7ee3bfa
                FAILED  UKI pithos_0.1.0+3.efi: .linux: expected 3000 bytes, sha256 48c187767dddb44e5b7af78dabdec2b14f0f983e86e1fe695c65bc6a2a3cb42f, found 3000 bytes, sha256 a149de6923ecc8519d27ff7827e6b110a235dae51112006eded356f310da715f
                FAILED  file pithos-0.1.0.raw: expected 293601280 bytes, sha256 1457a34ca986138c24100fd8b4b83b84c5b08230f0ead4e0ffbcc0949d19e3fa, found 293601280 bytes, sha256 1b0ecdc01664268a12724a0214b023b966feee830935b21e47831c15edc5d73e"#]],
        );
    }

    #[test]
    fn a_file_cut_short_fails_with_what_is_missing() {
        failures(
            |disk| disk.set_len(VERITY_AT).unwrap(),
            expect![[r#"
                FAILED  partition table: the file is cut short: its partition table is for a disk of 293601280 bytes, and it has 277872640; get it again
                FAILED  disk: size in bytes: expected 293601280, found 277872640
                FAILED  partition 3 (pithos_0.1.0_verity): sha256: it ends at byte 277872640, expected 278921216 bytes
                FAILED  partition 4 (_empty): sha256: it ends at byte 277872640, expected 283115520 bytes
                FAILED  partition 5 (_empty): sha256: it ends at byte 277872640, expected 284164096 bytes
                FAILED  /usr: superblock of the hash tree: it ends at byte 278921216, and the file at byte 277872640: get the file again
                FAILED  file pithos-0.1.0.raw: expected 293601280 bytes, sha256 1457a34ca986138c24100fd8b4b83b84c5b08230f0ead4e0ffbcc0949d19e3fa, found 277872640 bytes, sha256 e257f5b72087ddc66b146d95e11297f7291bb6bcdb84a4e7472a7171fc45e8b2"#]],
        );
    }

    #[test]
    fn a_file_that_ends_inside_the_esp_says_so_of_the_uki() {
        let fixture = Fixture::new();
        fixture.write_manifest();
        File::options().write(true).open(&fixture.raw).unwrap().set_len(100 * MIB).unwrap();
        let verdict = verdict(&fixture.raw, &fixture.folder.path().join(manifest::FILE)).unwrap();
        let uki = verdict.checks.iter().find(|check| check.what.starts_with("UKI")).unwrap();
        expect![
            "FAILED  UKI pithos_0.1.0+3.efi: reading it from the ESP: partition 1: it ends at byte 273678336, and the file at byte 104857600: get the file again"
        ]
        .assert_eq(&uki.to_string());
    }

    #[test]
    fn a_manifest_of_another_version_is_one_mistake() {
        let (one, other) = (Fixture::of("0.1.0"), Fixture::of("0.2.0"));
        other.write_manifest();
        let manifest = other.folder.path().join(manifest::FILE);
        let said = verdict(&one.raw, &manifest).unwrap_err().to_string();
        let said = said.replace(&one.folder.path().display().to_string(), "one");
        let said = said.replace(&other.folder.path().display().to_string(), "other");
        expect!["one/pithos-0.1.0.raw holds version 0.1.0, and other/manifest.json is of version 0.2.0: give the manifest that belongs to it with --manifest"].assert_eq(&said);
    }

    #[test]
    fn another_file_of_the_image_is_checked_by_its_checksum() {
        let fixture = Fixture::new();
        fixture.write_manifest();
        let manifest = fixture.folder.path().join(manifest::FILE);
        let uki = fixture.folder.path().join("pithos-0.1.0.efi");
        let good = verdict(&uki, &manifest).unwrap();
        assert_eq!((good.ok, good.checks.len()), (true, 1));
        File::options().write(true).open(&uki).unwrap().write_all_at(b"x", 1000).unwrap();
        let bad = verdict(&uki, &manifest).unwrap();
        assert!(!bad.ok);
        // A disk beside which such a file lies is not good either.
        assert!(!verdict(&fixture.raw, &manifest).unwrap().ok);
    }

    #[test]
    fn a_missing_manifest_says_where_it_should_be() {
        let fixture = Fixture::new();
        let said = verdict(&fixture.raw, Path::new("nowhere/manifest.json")).unwrap_err();
        assert_eq!(
            said.to_string(),
            "there is no manifest at nowhere/manifest.json: it comes with the image, beside the \
             disk; or name it with --manifest"
        );
    }
}
