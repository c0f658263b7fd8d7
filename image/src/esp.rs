//! The EFI System Partition: systemd-boot and one UKI, on FAT32.
//!
//! ```text
//! /EFI/BOOT/BOOTX64.EFI               what firmware starts on a disk that it does not know
//! /EFI/Linux/pithos_VERSION+3.efi     the UKI, with three boots to prove itself
//! /EFI/systemd/systemd-bootx64.efi    the same loader, where bootctl looks for it
//! /loader/entries.srel                says that UKIs and entries are of the Boot Loader Specification
//! /loader/loader.conf
//! /loader/keys/auto/*.auth            keys for a firmware that has none, if the image is signed so
//! ```
//!
//! No random seed: it would be the same on every machine. The bytes depend on the input only:
//! entries are made in the order above, with one time, and a fixed volume id.

pub mod date;
pub mod fat;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time};

/// What systemd-boot reads: start the newest version at once. A key held down shows the menu, in
/// which nobody edits a command line that decides which `/usr` is trusted.
pub const LOADER_CONF: &str = "timeout 0\neditor no\n";
/// Name of the volume.
pub const LABEL: [u8; 11] = *b"PITHOS-ESP ";
/// The least size at which clusters of this size make it a FAT32, and what mkfs.fat uses too.
const CLUSTER_BYTES: u32 = 4096;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// systemd-boot, `systemd-bootx64.efi` of the tools tree.
    pub loader: &'a Path,
    /// The UKI.
    pub uki: &'a Path,
    /// Its name, with the boot counter: [`layout::Version::uki_name`].
    pub uki_name: &'a str,
    /// `loader.conf`, [`LOADER_CONF`].
    pub loader_conf: &'a str,
    /// More files, by their paths from the root.
    pub more: &'a [(&'a str, &'a [u8])],
    /// The time that every file gets, in seconds since 1970.
    pub epoch: u64,
    /// Of the file system.
    pub volume_id: u32,
    /// Size of the partition: [`layout::disk::ESP_BYTES`].
    pub size_bytes: u64,
    /// Where it goes.
    pub out: &'a Path,
}

/// Why there is no ESP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system of the host refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has no room for another version.
    #[error(
        "the ESP has {size_bytes} bytes: an update needs room for a second UKI beside this one of \
         {uki_bytes} bytes, and a third while it is written"
    )]
    TooSmall {
        /// Its size.
        size_bytes: u64,
        /// Size of the UKI.
        uki_bytes: u64,
    },
}

/// Makes the file system.
pub fn make(request: &Request<'_>) -> Result<(), Error> {
    let Request { loader, uki, size_bytes, out, .. } = *request;
    let read = |path: &Path| {
        fs::read(path).map_err(|source| Error::Io { doing: "reading", path: path.into(), source })
    };
    let (loader, uki) = (read(loader)?, read(uki)?);
    let uki_bytes = uki.len() as u64;
    if 3 * uki_bytes + 2 * loader.len() as u64 > size_bytes {
        return Err(Error::TooSmall { size_bytes, uki_bytes });
    }
    let mut files = vec![
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), loader.as_slice()),
        (format!("EFI/Linux/{}", request.uki_name), &uki),
        ("EFI/systemd/systemd-bootx64.efi".to_owned(), &loader),
        ("loader/entries.srel".to_owned(), b"type1\n"),
        ("loader/loader.conf".to_owned(), request.loader_conf.as_bytes()),
    ];
    files.extend(request.more.iter().map(|(path, content)| ((*path).to_owned(), *content)));
    let write = || -> io::Result<()> {
        match fs::remove_file(out) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let disk = File::options().read(true).write(true).create_new(true).open(out)?;
        disk.set_len(size_bytes)?;
        fill(&disk, request, &files)?;
        plain_dots(&disk, size_bytes)
    };
    write().map_err(|source| Error::Io { doing: "writing", path: out.into(), source })
}

fn fill(disk: &File, request: &Request<'_>, files: &[(String, &[u8])]) -> io::Result<()> {
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(CLUSTER_BYTES)
        .volume_id(request.volume_id)
        .volume_label(LABEL);
    fatfs::format_volume(disk, options)?;
    // fatfs wants a clock that lives for ever; one image leaks a dozen bytes.
    let clock: &'static Clock = Box::leak(Box::new(Clock(fat_time(request.epoch))));
    let fat = FileSystem::new(disk, FsOptions::new().time_provider(clock))?;
    // Counted once, it is kept, and written at the end: fsck.vfat wants it.
    fat.stats()?;
    for (path, _) in files {
        for (end, _) in path.match_indices('/') {
            // One that is there already is opened.
            fat.root_dir().create_dir(&path[..end])?;
        }
    }
    for (path, content) in files {
        let mut file = fat.root_dir().create_file(path)?;
        file.write_all(content)?;
        file.flush()?;
    }
    fat.unmount()
}

/// fatfs (0.3) gives `.` and `..` of every folder long names, too, and says the root's cluster
/// where a parent that is the root has none. Firmware does not mind; fsck.vfat refuses both.
fn plain_dots(disk: &File, size_bytes: u64) -> io::Result<()> {
    let fat = fat::Fat::open(disk, 0, size_bytes).map_err(io::Error::other)?;
    for places in fat.folders().map_err(io::Error::other)? {
        let Some(first) = places.first() else { continue };
        let mut folder = vec![0; fat.cluster_bytes() as usize];
        disk.read_exact_at(&mut folder, *first)?;
        if let Some(plain) = fat::with_plain_dots(&folder, fat.root()) {
            assert_eq!(places.len(), 1, "our folders have one cluster");
            disk.write_all_at(&plain, *first)?;
        }
    }
    Ok(())
}

/// One time for everything.
#[derive(Debug)]
struct Clock(DateTime);

impl fatfs::TimeProvider for Clock {
    fn get_current_date(&self) -> Date {
        self.0.date
    }

    fn get_current_date_time(&self) -> DateTime {
        self.0
    }
}

/// The time as FAT knows it: from 1980 to 2107, in UTC.
fn fat_time(epoch: u64) -> DateTime {
    const FIRST: u64 = 315_532_800;
    const LAST: u64 = 4_354_819_198;
    let date = date::Date::of(epoch.clamp(FIRST, LAST));
    let number = |number: u64| u16::try_from(number).expect("a date of our time");
    DateTime {
        date: Date { year: number(date.year), month: number(date.month), day: number(date.day) },
        time: Time {
            hour: number(date.hour),
            min: number(date.minute),
            // FAT has no odd seconds, except where fatfs would put them into another field.
            sec: number(date.second / 2 * 2),
            millis: 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::MetadataExt};

    use layout::disk::ESP_BYTES;

    use super::*;
    use crate::disk::sparse::{self, Piece};

    fn made(folder: &Path, name: &str) -> PathBuf {
        let path = |name: &str| folder.join(name);
        fs::write(path("loader"), vec![1; 120_000]).unwrap();
        fs::write(path("uki"), vec![2; 5_000_000]).unwrap();
        make(&Request {
            loader: &path("loader"),
            uki: &path("uki"),
            uki_name: "pithos_0.1.0-202611210930+3.efi",
            loader_conf: LOADER_CONF,
            more: &[],
            epoch: 1_795_253_401,
            volume_id: 0x1234_abcd,
            size_bytes: ESP_BYTES,
            out: &path(name),
        })
        .unwrap();
        path(name)
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_with_holes() {
        let folder = tempfile::tempdir().unwrap();
        let data = |name| {
            let path = made(folder.path(), name);
            assert!(fs::metadata(&path).unwrap().blocks() * 512 < 10_000_000);
            let file = File::open(path).unwrap();
            let mut data = Vec::new();
            sparse::pieces(&file, 0..ESP_BYTES, 4096, |piece| -> io::Result<()> {
                match piece {
                    Piece::Zeros(length) => data.extend(length.to_le_bytes()),
                    Piece::Data(bytes) => data.extend_from_slice(bytes),
                }
                Ok(())
            })
            .unwrap();
            data
        };
        assert!(data("a") == data("b"));
    }

    #[test]
    fn long_names_and_the_time_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let disk = File::options().read(true).write(true).open(made(folder.path(), "a")).unwrap();
        let fat = FileSystem::new(disk, FsOptions::new()).unwrap();
        assert_eq!(fat.volume_id(), 0x1234_abcd);
        let names = |path: &str| -> Vec<String> {
            let folder = fat.root_dir().open_dir(path).unwrap();
            folder.iter().map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(names("EFI"), [".", "..", "BOOT", "Linux", "systemd"]);
        assert_eq!(names("EFI/Linux"), [".", "..", "pithos_0.1.0-202611210930+3.efi"]);
        assert_eq!(names("EFI/systemd"), [".", "..", "systemd-bootx64.efi"]);
        let mut text = String::new();
        let mut file = fat.root_dir().open_file("loader/loader.conf").unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, LOADER_CONF);
        let folder = fat.root_dir().open_dir("EFI/Linux").unwrap();
        let uki = folder.iter().last().unwrap().unwrap();
        let modified = uki.modified();
        assert_eq!((modified.date.year, modified.date.month, modified.date.day), (2026, 11, 21));
        assert_eq!((modified.time.hour, modified.time.min, modified.time.sec), (9, 30, 0));
    }

    #[test]
    fn our_own_reader_sees_the_same_and_no_folder_has_a_long_dot() {
        let folder = tempfile::tempdir().unwrap();
        let disk = File::open(made(folder.path(), "a")).unwrap();
        let fat = fat::Fat::open(&disk, 0, ESP_BYTES).unwrap();
        let all = fat.walk().unwrap();
        let paths: Vec<_> = all.iter().map(|entry| entry.path.as_str()).collect();
        expect_test::expect![[r#"
            /EFI
            /EFI/BOOT
            /EFI/BOOT/BOOTX64.EFI
            /EFI/Linux
            /EFI/Linux/pithos_0.1.0-202611210930+3.efi
            /EFI/systemd
            /EFI/systemd/systemd-bootx64.efi
            /loader
            /loader/entries.srel
            /loader/loader.conf"#]]
        .assert_eq(&paths.join("\n"));
        assert!(fat.read(&all[4], 1 << 30).unwrap() == vec![2; 5_000_000]);
        assert_eq!((fat.volume_id, fat.label.as_str()), (0x1234_abcd, "PITHOS-ESP"));
        for places in fat.folders().unwrap() {
            let mut folder = vec![0; 4096];
            disk.read_exact_at(&mut folder, places[0]).unwrap();
            assert_eq!(fat::with_plain_dots(&folder, fat.root()), None);
        }
    }

    #[test]
    fn times_that_fat_does_not_know_are_the_nearest_that_it_does() {
        let date = |epoch| {
            let time = fat_time(epoch);
            format!(
                "{}-{:02}-{:02} {:02}:{:02}:{:02}",
                time.date.year,
                time.date.month,
                time.date.day,
                time.time.hour,
                time.time.min,
                time.time.sec
            )
        };
        assert_eq!(date(0), "1980-01-01 00:00:00");
        assert_eq!(date(1_709_164_799), "2024-02-28 23:59:58");
        assert_eq!(date(1_709_164_800), "2024-02-29 00:00:00");
        assert_eq!(date(u64::MAX), "2107-12-31 23:59:58");
    }
}
