//! A small image to damage: real table, FAT, UKI headers and hash tree around a little content.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use layout::{
    Partition, Role, RootHash, Slot, Version,
    disk::{MIB, shipped},
    seed::Seed,
    verity::Superblock,
};
use tempfile::TempDir;

use crate::{
    disk, esp,
    manifest::{self, Manifest},
    uki::{Pe, pe::tests::program},
    verify::tree_hash,
};

/// An image in a folder of its own, with its manifest.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) raw: PathBuf,
    pub(crate) version: Version,
    pub(crate) root_hash: RootHash,
    pub(crate) partitions: Vec<Partition>,
}

/// Size of its disk: as small as FAT32 lets it be.
pub(crate) const DISK_BYTES: u64 = 280 * MIB;
/// Where slot A begins.
pub(crate) const USR_AT: u64 = 261 * MIB;
/// Where its hash tree begins.
pub(crate) const VERITY_AT: u64 = 265 * MIB;

const BLOCKS: u64 = 300;
const SALT: [u8; 32] = [0x5a; 32];

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::make("0.1.0", true)
    }

    pub(crate) fn of(version: &str) -> Self {
        Self::make(version, true)
    }

    pub(crate) fn without_uki() -> Self {
        Self::make("0.1.0", false)
    }

    fn make(version: &str, with_uki: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let version: Version = version.parse().unwrap();
        let seed = Seed::new("cloud", &version);

        let mut usr: Vec<u8> = (0..BLOCKS * 4096).map(|n| (n / 4096) as u8).collect();
        usr[1024..1152].fill(0);
        usr[1024..1028].copy_from_slice(&0xe0f5_e1e2u32.to_le_bytes());
        usr[1036] = 12;
        usr[1060..1064].copy_from_slice(&(BLOCKS as u32).to_le_bytes());
        usr[1072..1088].copy_from_slice(seed.uuid("usr").as_bytes());
        fs::write(path("usr"), &usr).unwrap();
        let file = File::open(path("usr")).unwrap();
        let tree = tree_hash::compute(&file, 0, BLOCKS, &SALT, &|_| ()).unwrap();
        let uuid = seed.uuid("verity");
        let superblock = Superblock { uuid, data_blocks: BLOCKS, salt: SALT.to_vec() };
        let mut verity = superblock.to_block().to_vec();
        verity.extend_from_slice(&tree.blocks);
        fs::write(path("verity"), &verity).unwrap();

        let cmdline = format!("usrhash={} rw", tree.root_hash);
        let os_release = format!("ID=pithos\nIMAGE_VERSION={version}\n");
        let uki = program(&[
            (".osrel", os_release.as_bytes()),
            (".cmdline", cmdline.as_bytes()),
            (".uname", b"6.12.1"),
            (".linux", &[7; 3000]),
            (".initrd", &[8; 2000]),
        ]);
        fs::write(path(&version.artifact("efi")), &uki).unwrap();
        fs::write(path("loader"), program(&[(".text", &[9; 500])])).unwrap();
        let name = version.uki_name(Some(3));
        esp::make(&esp::Request {
            loader: &path("loader"),
            uki: &path(&version.artifact("efi")),
            uki_name: if with_uki { &name } else { "readme.txt" },
            loader_conf: esp::LOADER_CONF,
            more: &[],
            epoch: 1_795_253_400,
            volume_id: seed.id32("esp"),
            size_bytes: 260 * MIB,
            out: &path("esp"),
        })
        .unwrap();
        let mut partitions = shipped(&seed, &version, &tree.root_hash);
        let mut next = MIB;
        for partition in &mut partitions {
            partition.start_bytes = next;
            partition.size_bytes = match partition.role {
                Role::Esp => 260 * MIB,
                Role::Usr(_) => 4 * MIB,
                Role::Verity(_) | Role::Root => MIB,
            };
            next += partition.size_bytes;
        }
        let raw = path(&version.artifact("raw"));
        disk::write(&disk::Request {
            guid: seed.uuid("disk"),
            size_bytes: DISK_BYTES,
            partitions: &partitions,
            contents: &[
                (Role::Esp, &path("esp")),
                (Role::Usr(Slot::A), &path("usr")),
                (Role::Verity(Slot::A), &path("verity")),
            ],
            out: &raw,
        })
        .unwrap();

        Self { raw, folder, version, root_hash: tree.root_hash, partitions }
    }

    /// Its manifest, as a build would write it, beside it.
    pub(crate) fn write_manifest(&self) -> Manifest {
        let path = |name: &str| self.folder.path().join(name);
        let seed = Seed::new("cloud", &self.version);
        let uki = path(&self.version.artifact("efi"));
        let bytes = fs::read(&uki).unwrap();
        let pe = Pe::parse(&bytes).unwrap();
        let initrd = pe.describe().into_iter().find(|s| s.name == ".initrd").unwrap();
        let artifact = |path: &Path| disk::artifact(path, &|_, _| ()).unwrap();
        let mut manifest = Manifest {
            version: self.version.to_string(),
            usr: manifest::Usr {
                root_hash: self.root_hash.to_string(),
                size_bytes: fs::metadata(path("usr")).unwrap().len(),
                verity_size_bytes: fs::metadata(path("verity")).unwrap().len(),
                salt: hex::encode(SALT),
                uuid: seed.uuid("usr"),
            },
            uki: manifest::Uki {
                file: self.version.uki_name(Some(3)),
                size_bytes: bytes.len() as u64,
                sha256: artifact(&uki).sha256,
                cmdline: pe.text(".cmdline").unwrap(),
                kernel: "6.12.1".into(),
                sections: pe.describe(),
            },
            initramfs: manifest::Blob { size_bytes: initrd.size_bytes, sha256: initrd.sha256 },
            disk: manifest::Disk {
                guid: seed.uuid("disk"),
                size_bytes: DISK_BYTES,
                partitions: disk::describe(&self.raw, &self.partitions).unwrap(),
            },
            ..manifest::tests::example()
        };
        manifest.artifacts = vec![artifact(&uki), artifact(&self.raw)];
        manifest.write(&path(manifest::FILE)).unwrap();
        manifest
    }
}
