//! A workplace with keys, images and a repository, for the tests of the program.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use image::manifest::{Blob, Disk, FORMAT, Manifest, Uki, Usr};
use layout::{Version, verity::Superblock};
use payload::Digest;
use tempfile::TempDir;
use uuid::Uuid;

/// A workplace with keys and a repository.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        for key in ["root-1", "root-2", "targets", "online", "rebuilder"] {
            place.good(&["keys", "new", key]);
        }
        place
    }

    /// And with a repository.
    pub(crate) fn begun() -> Self {
        let place = Self::new();
        place.good(&[
            "init",
            "repo",
            "--root",
            "root-1",
            "--targets",
            "targets",
            "--snapshot",
            "online",
            "--timestamp",
            "online",
        ]);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_update-publish"));
        command.args(words).current_dir(self.0.path()).output().unwrap()
    }

    /// Runs it, and expects success.
    pub(crate) fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it with the keys of targets and online roles.
    pub(crate) fn publish(&self, words: &[&str]) -> String {
        self.good(&[words, &["--key", "targets", "--key", "online"]].concat())
    }

    /// Runs it, and expects that it refuses.
    pub(crate) fn bad(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Makes the image of a version whose `/usr` says `usr` in one of its blocks.
    pub(crate) fn image(&self, version: &str, usr: &str) {
        let folder = self.path(version);
        fs::create_dir(&folder).unwrap();
        let version: Version = version.parse().unwrap();
        let mut data: Vec<u8> =
            (0..1200u32).flat_map(|block| block.to_le_bytes().repeat(1024)).collect();
        data[8192..8192 + usr.len()].copy_from_slice(usr.as_bytes());
        let superblock = Superblock {
            uuid: Uuid::from_u128(1),
            data_blocks: data.len() as u64 / 4096,
            salt: vec![7; 32],
        };
        let (hasher, mut hashes) = (superblock.hasher(), Vec::new());
        hasher.hash(&data, &mut hashes);
        let root_hash = hasher.tree(hashes).unwrap().root_hash;
        let uki = format!("a kernel with usrhash={root_hash}").into_bytes();
        let sha256 = Digest::of(&uki).to_string();
        let manifest = Manifest {
            format: FORMAT,
            id: "pithos".into(),
            version: version.to_string(),
            build_id: "0123abc".into(),
            architecture: "x86_64".into(),
            flavor: "cloud".into(),
            epoch: 1_795_253_400,
            as_locked: true,
            differences: vec![],
            usr: Usr {
                root_hash: root_hash.to_string(),
                size_bytes: data.len() as u64,
                verity_size_bytes: superblock.size_bytes(),
                salt: hex::encode([7; 32]),
                uuid: Uuid::from_u128(2),
            },
            uki: Uki {
                file: version.uki_name(Some(3)),
                size_bytes: uki.len() as u64,
                sha256: sha256.clone(),
                cmdline: String::new(),
                kernel: "6.12".into(),
                sections: vec![],
            },
            initramfs: Blob { size_bytes: 0, sha256 },
            disk: Disk { guid: Uuid::from_u128(3), size_bytes: 0, partitions: vec![] },
            artifacts: vec![],
            packages: vec![],
            tools: vec![],
            programs: vec![],
        };
        manifest.write(&folder.join("manifest.json")).unwrap();
        fs::write(folder.join(version.artifact("usr.erofs")), data).unwrap();
        fs::write(folder.join(version.artifact("usr.verity")), superblock.to_block()).unwrap();
        fs::write(folder.join(version.artifact("efi")), uki).unwrap();
    }

    pub(crate) fn status(&self) -> String {
        let text = self.good(&["status", "repo"]);
        text.lines().filter(|line| !line.contains("until 20")).collect::<Vec<_>>().join("\n")
    }
}
