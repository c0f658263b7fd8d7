//! The image in `build/image` before judges that we did not write: partitioning tools, file
//! system checkers, veritysetup, systemd's own tools, QEMU. They come from the tools tree, so
//! their versions are those of the lock.
//!
//! Without an image these tests fail, and say how to make one: a test that skips proves nothing.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use image::{disk::sparse, inspect, manifest::Manifest, progress::Progress, sbom, verify};
use layout::{types, verity::Superblock};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The newest image.
struct Image {
    build: PathBuf,
    manifest: Manifest,
}

impl Image {
    fn newest() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout");
        let build = root.join("build");
        let path = build.join("image/manifest.json");
        assert!(path.exists(), "there is no image at {}: run `./pith image`", path.display());
        Self { manifest: Manifest::read(&path).expect("the manifest is readable"), build }
    }

    fn file(&self, extension: &str) -> PathBuf {
        let name = format!("pithos-{}.{extension}", self.manifest.version);
        self.build.join("image").join(name)
    }

    /// A tool with these arguments: it succeeds, and this is what it said.
    fn tool<S: AsRef<std::ffi::OsStr>>(&self, name: &str, arguments: &[S]) -> String {
        let mut command = Command::new(self.build.join("bin").join(name));
        said(command.args(arguments))
    }

    /// A partition of the disk as a file of its own.
    fn partition(&self, label: &str, folder: &TempDir) -> PathBuf {
        let mut partitions = self.manifest.disk.partitions.iter();
        let partition = partitions.find(|partition| partition.label == label).expect(label);
        let out = folder.path().join(label);
        let (from, to) = (File::open(self.file("raw")).unwrap(), File::create(&out).unwrap());
        to.set_len(partition.size_bytes).unwrap();
        let start = partition.start_bytes;
        let mut at = 0;
        sparse::pieces(&from, start..start + partition.size_bytes, 1 << 20, |piece| {
            if let sparse::Piece::Data(bytes) = piece {
                to.write_all_at(bytes, at)?;
            }
            at += piece.length();
            io::Result::Ok(())
        })
        .unwrap();
        out
    }

    fn usr_label(&self) -> String {
        format!("pithos_{}", self.manifest.version)
    }
}

fn said(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C.UTF-8").output().expect("the tool starts");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

#[test]
fn ignition_keeps_to_its_size() {
    let programs = Image::newest().manifest.programs;
    let ignition = programs.iter().find(|program| program.name == "ignition").expect("ignition");
    let size_bytes = ignition.size_bytes;
    assert!(size_bytes <= 4_000_000, "ignition has {size_bytes} bytes, and may have 4 MB");
}

#[test]
fn sfdisk_and_sgdisk_find_nothing_wrong_with_the_table() {
    let image = Image::newest();
    let raw = image.file("raw");
    let said = image.tool("sfdisk", &[Path::new("--verify"), &raw]);
    assert!(said.contains("No errors detected"), "{said}");
    let said = image.tool("sgdisk", &[Path::new("-v"), &raw]);
    assert!(said.contains("No problems found"), "{said}");
}

#[test]
fn fsck_vfat_has_nothing_to_say_about_the_esp() {
    let (image, folder) = (Image::newest(), TempDir::new().unwrap());
    let esp = image.partition("esp", &folder);
    let said = image.tool("fsck.vfat", &[Path::new("-n"), &esp]);
    // Its name, and how full it is: a complaint would be a third line.
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn fsck_erofs_reads_every_file_of_usr_on_the_disk() {
    let (image, folder) = (Image::newest(), TempDir::new().unwrap());
    let usr = image.partition(&image.usr_label(), &folder);
    image.tool("fsck.erofs", &[Path::new("--extract"), &usr]);
}

#[test]
fn veritysetup_verifies_usr_on_the_disk() {
    let (image, folder) = (Image::newest(), TempDir::new().unwrap());
    let usr = image.partition(&image.usr_label(), &folder);
    let tree = image.partition(&format!("{}_verity", image.usr_label()), &folder);
    let root_hash = Path::new(&image.manifest.usr.root_hash);
    image.tool("veritysetup", &[Path::new("verify"), &usr, &tree, root_hash]);
    // And it is not content with anything else.
    File::options().write(true).open(&usr).unwrap().write_all_at(b"x", 1 << 20).unwrap();
    let mut again = Command::new(image.build.join("bin/veritysetup"));
    let again = again.arg("verify").args([&usr, &tree]).arg(root_hash);
    assert!(!again.output().unwrap().status.success());
}

#[test]
fn our_hash_tree_is_byte_for_byte_that_of_veritysetup() {
    let image = Image::newest();
    let same = |data: &Path, theirs: &Path| {
        let theirs = fs::read(theirs).unwrap();
        let superblock = Superblock::parse(theirs[..Superblock::BYTES].try_into().unwrap());
        let superblock = superblock.unwrap();
        let (hasher, mut hashes) = (superblock.hasher(), vec![]);
        hasher.hash(&fs::read(data).unwrap(), &mut hashes);
        let tree = hasher.tree(hashes).unwrap();
        let ours = [&superblock.to_block()[..], &tree.blocks].concat();
        assert!(ours == theirs, "the tree of {}", data.display());
        assert_eq!(superblock.size_bytes(), theirs.len() as u64);
        tree.root_hash.to_string()
    };
    let of_the_image = same(&image.file("usr.erofs"), &image.file("usr.verity"));
    assert_eq!(of_the_image, image.manifest.usr.root_hash);

    let folder = TempDir::new().unwrap();
    for blocks in [1usize, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
        let (data, tree) = (folder.path().join("data"), folder.path().join("tree"));
        fs::write(&data, (0..blocks * 4096).map(|n| (n / 100) as u8).collect::<Vec<_>>()).unwrap();
        let _ = fs::remove_file(&tree);
        let salt = format!("--salt={}", image.manifest.usr.salt);
        let format = [Path::new("format"), Path::new(&salt), &data, &tree];
        let said = image.tool("veritysetup", &format);
        let ours = same(&data, &tree);
        assert!(said.contains(&ours), "{blocks} blocks: {ours}\n{said}");
    }
}

#[test]
fn systemd_dissect_validates_the_disk() {
    let image = Image::newest();
    // 257 leaves out what says that it is not to be found automatically, as our slots do: it
    // judges the table and the ESP.
    let said = image.tool("systemd-dissect", &[Path::new("--validate"), &image.file("raw")]);
    assert_eq!(said.trim(), "OK");
}

#[test]
fn bootctl_would_boot_the_uki_with_three_tries_left() {
    let (image, folder) = (Image::newest(), TempDir::new().unwrap());
    let esp = image.partition("esp", &folder);
    let mounted = folder.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let all = ["-s", "-i"].map(Path::new);
    image.tool("mcopy", &[all[0], all[1], &esp, Path::new("::/"), &mounted]);
    let mut bootctl = Command::new(image.build.join("bin/bootctl"));
    bootctl.arg("status").arg("--no-pager").arg(format!("--esp-path={}", mounted.display()));
    // A copy in a folder is good enough for us.
    let said = said(bootctl.env("SYSTEMD_RELAX_ESP_CHECKS", "1"));
    let version = &image.manifest.version;
    for expected in [
        "/EFI/systemd/systemd-bootx64.efi (systemd-boot".to_owned(),
        "/EFI/BOOT/BOOTX64.EFI (systemd-boot".to_owned(),
        "Boot Loader Specification Type #2 (.efi)".to_owned(),
        format!("title: PithOS {version}"),
        format!("id: pithos_{version}.efi"),
        "tries: 3 left".to_owned(),
        format!("version: {version}"),
        format!("options: {}", image.manifest.uki.cmdline),
    ] {
        assert!(said.contains(&expected), "`{expected}` is not in\n{said}");
    }
    let kind = image.tool("bootctl", &[Path::new("kernel-identify"), &image.file("efi")]);
    assert_eq!(kind.trim(), "uki");
}

#[test]
fn ukify_sees_the_sections_of_the_manifest() {
    let image = Image::newest();
    let said = image.tool("ukify", &[Path::new("inspect"), &image.file("efi")]);
    let known = [".linux", ".initrd", ".cmdline", ".osrel", ".uname", ".sbat"];
    for name in known {
        let sections = &image.manifest.uki.sections;
        let section = sections.iter().find(|section| section.name == name).expect(name);
        let expected = format!(
            "{name}:\n  size: {} bytes\n  sha256: {}\n",
            section.size_bytes, section.sha256
        );
        assert!(said.contains(&expected), "`{expected}` is not in\n{said}");
    }
}

#[test]
fn qemu_finds_the_disk_in_the_qcow2() {
    let image = Image::newest();
    let (raw, qcow2) = (image.file("raw"), image.file("qcow2"));
    let said = image.tool("qemu-img", &[Path::new("check"), &qcow2]);
    assert!(said.contains("No errors were found"), "{said}");
    let words = ["compare", "-f", "raw", "-F", "qcow2"].map(Path::new);
    let said = image.tool("qemu-img", &[&words[..], &[raw.as_path(), qcow2.as_path()]].concat());
    assert_eq!(said.trim(), "Images are identical.");
}

#[test]
fn zstd_unpacks_the_disk() {
    let image = Image::newest();
    let mut zstd = Command::new(image.build.join("bin/zstd"));
    zstd.arg("-dc").arg(image.file("raw.zst")).stdout(Stdio::piped());
    let mut child = zstd.spawn().expect("zstd starts");
    let mut out = child.stdout.take().expect("it is piped");
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match out.read(&mut buffer).unwrap() {
            0 => break,
            some => sha256.update(&buffer[..some]),
        }
    }
    assert!(child.wait().unwrap().success());
    let raw = image.manifest.artifacts.iter().find(|file| file.file.ends_with(".raw")).unwrap();
    assert_eq!(hex::encode(sha256.finalize()), raw.sha256);
}

#[test]
fn sha256sum_agrees_with_every_checksum() {
    let (image, folder) = (Image::newest(), TempDir::new().unwrap());
    let sums = fs::read_to_string(image.build.join("image/SHA256SUMS")).unwrap();
    for artifact in &image.manifest.artifacts {
        let line = format!("{}  {}\n", artifact.sha256, artifact.file);
        assert!(sums.contains(&line), "{line}");
    }
    // The raw disk is looked at by the others; sha256sum takes a minute for its 8 GiB.
    let others: String = sums
        .lines()
        .filter(|line| !line.ends_with(".raw"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(folder.path().join("sums"), others).unwrap();
    let mut sha256sum = Command::new("sha256sum");
    sha256sum.args(["--check", "--strict"]).arg(folder.path().join("sums"));
    said(sha256sum.current_dir(image.build.join("image")));
}

#[test]
fn the_sbom_names_every_package_of_the_manifest() {
    let image = Image::newest();
    let path = image.build.join("image").join(sbom::FILE);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let sbom: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(sbom["spdxVersion"], "SPDX-2.3");
    let packages = sbom["packages"].as_array().unwrap();
    for package in &image.manifest.packages {
        let found = packages.iter().find(|found| {
            found["name"] == package.name.as_str()
                && found["versionInfo"] == package.version.as_str()
                && found["checksums"][0]["checksumValue"] == package.sha256.as_str()
        });
        assert!(found.is_some(), "{} {} is missing", package.name, package.version);
    }
}

#[test]
fn we_see_it_as_they_do() {
    let image = Image::newest();
    let report = inspect::inspect(&image.file("raw")).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.partitions[0].type_guid, types::ESP);
    assert_eq!(report.slots[0].version.as_deref(), Some(image.manifest.version.as_str()));
    assert_eq!(report.slots[1].version, None);
    assert_eq!(report.ukis[0].slot, Some("A"));
    let manifest = image.build.join("image/manifest.json");
    let verdict =
        verify::verify(&image.file("raw"), &manifest, &Progress::silent(), &mut |_| ()).unwrap();
    assert!(verdict.ok, "{verdict}");
}
