//! The disk as a file: a sparse raw image with a GUID partition table.
//!
//! The `gpt` crate writes the table; [`table`] reads it back, strictly and without trust, and is
//! what `inspect` and `verify` use on disks that others had their hands on.

pub mod sparse;
pub mod table;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use gpt::{
    GptConfig, disk::LogicalBlockSize, mbr::ProtectiveMBR, partition_types::OperatingSystem,
};
use layout::{
    Partition, Role,
    disk::{MIB, SECTOR_BYTES},
};
use uuid::Uuid;

use crate::manifest;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// GUID of the disk.
    pub guid: Uuid,
    /// Its size: whole mebibytes.
    pub size_bytes: u64,
    /// Its partitions, [`layout::disk::shipped`].
    pub partitions: &'a [Partition],
    /// What is in them; the others are empty.
    pub contents: &'a [(Role, &'a Path)],
    /// Where it goes.
    pub out: &'a Path,
}

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something is bigger than its partition.
    #[error(
        "{} has {size_bytes} bytes, and its partition {label} has {limit_bytes}",
        path.display()
    )]
    TooBig {
        /// The content.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// The partition.
        label: String,
        /// The partition's size.
        limit_bytes: u64,
    },
    /// The table could not be written.
    #[error("writing the partition table of {}: {problem}", path.display())]
    Table {
        /// The disk.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

/// Writes the disk.
pub fn write(request: &Request<'_>) -> Result<(), Error> {
    let Request { size_bytes, partitions, contents, out, .. } = *request;
    assert!(size_bytes.is_multiple_of(MIB), "a disk of whole mebibytes");
    for (role, _) in contents {
        assert!(partitions.iter().any(|p| p.role == *role), "content for no partition: {role:?}");
    }
    let io = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    };
    // A file that is there could have other bytes where we write none.
    match fs::remove_file(out) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io("removing", out)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let disk = File::options().read(true).write(true).create_new(true).open(out);
    let disk = disk.map_err(io("making", out))?;
    disk.set_len(size_bytes).map_err(io("making room in", out))?;
    write_table(request, disk.try_clone().map_err(io("opening", out))?)?;
    for partition in partitions {
        let content = contents.iter().find(|(role, _)| *role == partition.role);
        let Some((_, path)) = content else { continue };
        let file = File::open(path).map_err(io("opening", path))?;
        let size_bytes = file.metadata().map_err(io("looking at", path))?.len();
        if size_bytes > partition.size_bytes {
            return Err(Error::TooBig {
                path: path.to_path_buf(),
                size_bytes,
                label: partition.label.clone(),
                limit_bytes: partition.size_bytes,
            });
        }
        sparse::copy(&file, &disk, partition.start_bytes)
            .map_err(io("copying onto the disk", path))?;
    }
    Ok(())
}

fn write_table(request: &Request<'_>, mut disk: File) -> Result<(), Error> {
    let failed = |problem: String| Error::Table { path: request.out.to_owned(), problem };
    let sectors = request.size_bytes / SECTOR_BYTES;
    // A disk too big for the field says the biggest number.
    let protective = ProtectiveMBR::with_lb_size(u32::try_from(sectors - 1).unwrap_or(u32::MAX));
    protective.overwrite_lba0(&mut disk).map_err(|error| failed(error.to_string()))?;
    let rows = request.partitions.iter().map(|partition| {
        let end_bytes = partition.start_bytes + partition.size_bytes;
        let row = gpt::partition::Partition {
            part_type_guid: gpt::partition_types::Type {
                guid: partition.role.type_guid(),
                os: OperatingSystem::None,
            },
            part_guid: partition.guid,
            first_lba: partition.start_bytes / SECTOR_BYTES,
            last_lba: end_bytes / SECTOR_BYTES - 1,
            flags: partition.attributes,
            name: partition.label.clone(),
        };
        (partition.role.number(), row)
    });
    let rows: BTreeMap<_, _> = rows.collect();
    // The crate writes entries one after the other, whatever their numbers.
    assert!(rows.keys().copied().eq(1..=rows.len() as u32), "partitions without a gap");
    let write = || -> Result<(), gpt::GptError> {
        let config = GptConfig::new().writable(true).change_partition_count(true);
        let config = config.logical_block_size(LogicalBlockSize::Lb512);
        let mut table = config.create_from_device(disk, Some(request.guid))?;
        table.update_partitions(rows)?;
        table.write()?;
        Ok(())
    };
    write().map_err(|error| failed(error.to_string()))
}

/// The partitions of a written disk as the manifest says them, each with its hash.
pub fn describe(disk: &Path, partitions: &[Partition]) -> Result<Vec<manifest::Partition>, Error> {
    let failed = |source| Error::Io { doing: "reading", path: disk.to_owned(), source };
    let file = File::open(disk).map_err(failed)?;
    partitions
        .iter()
        .map(|partition| {
            let range = partition.start_bytes..partition.start_bytes + partition.size_bytes;
            Ok(manifest::Partition {
                number: partition.role.number(),
                label: partition.label.clone(),
                type_guid: partition.role.type_guid(),
                guid: partition.guid,
                start_bytes: partition.start_bytes,
                size_bytes: partition.size_bytes,
                sha256: sparse::hash(&file, range, &|_| ()).map_err(failed)?.sha256,
            })
        })
        .collect()
}

/// A file of the image as the manifest says it. `progress` is told bytes done and bytes in all.
pub fn artifact(path: &Path, progress: &dyn Fn(u64, u64)) -> Result<manifest::Artifact, Error> {
    let failed = |source| Error::Io { doing: "reading", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let size_bytes = sparse::size(&file).map_err(failed)?;
    let done = |done| progress(done, size_bytes);
    let hashed = sparse::hash(&file, 0..size_bytes, &done).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(manifest::Artifact {
        file: name,
        size_bytes,
        allocated_bytes: hashed.allocated_bytes,
        sha256: hashed.sha256,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use layout::{
        RootHash, Slot,
        disk::{DISK_BYTES, shipped},
        seed::Seed,
    };

    use super::*;

    fn write_one(folder: &Path, name: &str) -> PathBuf {
        let version = "1.2.3".parse().unwrap();
        let seed = Seed::new("cloud", &version);
        let partitions = shipped(&seed, &version, &RootHash([0xab; 32]));
        let usr = folder.join("usr");
        fs::write(&usr, vec![7; 200_000]).unwrap();
        let out = folder.join(name);
        write(&Request {
            guid: seed.uuid("disk"),
            size_bytes: DISK_BYTES,
            partitions: &partitions,
            contents: &[(Role::Usr(Slot::A), &usr)],
            out: &out,
        })
        .unwrap();
        out
    }

    #[test]
    fn the_same_input_gives_the_same_disk_and_it_is_sparse() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (write_one(folder.path(), "a"), write_one(folder.path(), "b"));
        let blocks = fs::metadata(&a).unwrap().blocks() * 512;
        assert!(blocks < 1 << 20, "{blocks} bytes are allocated");
        // What is not a hole in one of them is what may differ.
        let (a, b) = (File::open(a).unwrap(), File::open(b).unwrap());
        let hash = |file| {
            let ends = [0..2 << 20, (512 << 20)..(514 << 20), DISK_BYTES - (1 << 20)..DISK_BYTES];
            ends.map(|range| sparse::hash(file, range, &|_| ()).unwrap())
        };
        assert_eq!(hash(&a), hash(&b));
    }

    #[test]
    fn the_table_is_read_back_as_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let disk = File::open(write_one(folder.path(), "a")).unwrap();
        let (table, damage) = table::read(&disk).unwrap();
        assert_eq!(damage, vec![]);
        assert_eq!(table.size_bytes, DISK_BYTES);
        let version = "1.2.3".parse().unwrap();
        let wanted = shipped(&Seed::new("cloud", &version), &version, &RootHash([0xab; 32]));
        let found: Vec<_> = table.entries.iter().map(|e| (e.number, &e.label, e.guid)).collect();
        let asked: Vec<_> = wanted.iter().map(|p| (p.role.number(), &p.label, p.guid)).collect();
        assert_eq!(found, asked);
        assert_eq!(table.entries[1].attributes, wanted[1].attributes);
        assert_eq!(table.entries[4].size_bytes, wanted[4].size_bytes);
    }

    #[test]
    fn content_that_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let version = "1".parse().unwrap();
        let seed = Seed::new("cloud", &version);
        let partitions = shipped(&seed, &version, &RootHash([1; 32]));
        let tree = folder.path().join("tree");
        File::create(&tree).unwrap().set_len((16 << 20) + 1).unwrap();
        let said = write(&Request {
            guid: seed.uuid("disk"),
            size_bytes: DISK_BYTES,
            partitions: &partitions,
            contents: &[(Role::Verity(Slot::A), &tree)],
            out: &folder.path().join("out"),
        });
        let said = said.unwrap_err().to_string();
        assert!(
            said.ends_with("16777217 bytes, and its partition pithos_1_verity has 16777216"),
            "{said}"
        );
    }
}
