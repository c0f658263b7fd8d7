//! The real media: the disk that the running `/usr` is read from, its ESP, and the state folder.

use std::{
    collections::BTreeMap,
    fs::{self, TryLockError},
    io,
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use block::table::{Disk, Table, TableError};
use layout::{Role, RootHash, Slot, cmdline};
use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    mount::{MsFlags, mount},
    sys::statvfs::statvfs,
};

use super::media::{File, Folder, Media};
use crate::slots;

/// Where the ESP may be mounted: by systemd-gpt-auto-generator, and by us where a boot does not get
/// so far.
const ESP_MOUNTS: [&str; 3] = ["/efi", "/boot", OWN_MOUNT];
const OWN_MOUNT: &str = "/run/update-engine/esp";
const LOCK: &str = "lock";

/// What of a machine an installation changes. While there is one, there is no other.
#[derive(Debug)]
pub struct Machine {
    disk: Device,
    sector_bytes: u64,
    partitions: BTreeMap<u32, Device>,
    esp: Directory,
    state: Directory,
    /// Let go when this is dropped, or whoever holds it dies.
    _lock: fs::File,
}

/// Why the media cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another one is at it.
    #[error("another installation is under way: {} is locked", lock.display())]
    Busy {
        /// Its lock.
        lock: PathBuf,
    },
    /// `/init` did not start this system.
    #[error("this is not a PithOS that was booted from a disk: {0}")]
    NotBooted(String),
    /// The table of the disk cannot be used.
    #[error("{}", disk.display())]
    Table {
        /// The disk.
        disk: PathBuf,
        /// Why not.
        source: TableError,
    },
    /// A partition is not there.
    #[error("{}", disk.display())]
    Slots {
        /// The disk.
        disk: PathBuf,
        /// Which one.
        source: slots::NoSlots,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { doing, path, source }
}

/// The root hash of the running `/usr`.
pub fn running() -> Result<RootHash, OpenError> {
    let path = Path::new("/proc/cmdline");
    let line = fs::read_to_string(path).map_err(failed("reading", path))?;
    let hashes = cmdline::values(&line, cmdline::USRHASH);
    let hash = hashes.last().and_then(|hash| hash.parse().ok());
    hash.ok_or_else(|| OpenError::NotBooted("its command line has no usrhash=".to_owned()))
}

impl Machine {
    /// The machine that this runs on, with its records in `state`.
    pub fn open(running: &RootHash, state: &Path) -> Result<Self, OpenError> {
        let disk = disk_of(running)?;
        let name = disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let esp = disk.with_file_name(block::partition_name(&name, Role::Esp.number()));
        let mount = esp_mount(&esp)?;
        Self::at(&disk, &mount.join(slots::FOLDER), state)
    }

    /// A disk, or a file that holds one, with the folder of UKIs of its ESP.
    pub fn at(disk: &Path, esp: &Path, state: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(state).map_err(failed("making", state))?;
        let lock = lock(&state.join(LOCK))?;
        let open = |path: &Path| {
            let file = fs::File::options().read(true).write(true).open(path);
            file.map_err(failed("opening", path))
        };
        let file = open(disk)?;
        let meta = file.metadata().map_err(failed("looking at", disk))?;
        let is_device = meta.file_type().is_block_device();
        let (length, sector_bytes) = match is_device {
            true => {
                let length = block::size_bytes(&file).map_err(failed("measuring", disk))?;
                (length, block::sector_bytes(&file).map_err(failed("measuring", disk))?)
            }
            false => (meta.len(), 512),
        };
        let table = Table::read(&file, length, sector_bytes)
            .map_err(|source| OpenError::Table { disk: disk.to_owned(), source })?;
        let entries = table.entries();
        let mut partitions = BTreeMap::new();
        for slot in [Slot::A, Slot::B] {
            for role in [Role::Usr(slot), Role::Verity(slot)] {
                let entry = slots::entry(&entries, role)
                    .map_err(|source| OpenError::Slots { disk: disk.to_owned(), source })?;
                let number = role.number();
                let device = match is_device {
                    true => {
                        let name = disk.to_string_lossy();
                        let path = PathBuf::from(block::partition_name(&name, number));
                        Device { file: open(&path)?, start: 0, length: entry.size_bytes }
                    }
                    false => {
                        let (start, length) = (entry.start_bytes, entry.size_bytes);
                        Device { file: open(disk)?, start, length }
                    }
                };
                partitions.insert(number, device);
            }
        }
        Ok(Self {
            disk: Device { file, start: 0, length },
            sector_bytes,
            partitions,
            esp: Directory(esp.to_owned()),
            state: Directory(state.to_owned()),
            _lock: lock,
        })
    }
}

impl Media for Machine {
    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    fn disk_bytes(&self) -> u64 {
        self.disk.length
    }

    fn sector_bytes(&self) -> u64 {
        self.sector_bytes
    }

    fn partition(&self, role: Role) -> io::Result<&dyn Disk> {
        let device = self.partitions.get(&role.number());
        device.map(|device| device as &dyn Disk).ok_or(io::ErrorKind::NotFound.into())
    }

    fn esp(&self) -> &dyn Folder {
        &self.esp
    }

    fn state(&self) -> &dyn Folder {
        &self.state
    }
}

/// The disk that the running `/usr` is read from, whatever other disks are copies of it: `/init`
/// named the verified device after the root hash.
fn disk_of(running: &RootHash) -> Result<PathBuf, OpenError> {
    let list = |path: &Path| {
        let entries = fs::read_dir(path).map_err(failed("listing", path))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
    };
    let uuid = format!("CRYPT-VERITY-{running}-usr");
    let is_usr = |path: &PathBuf| {
        fs::read_to_string(path.join("dm/uuid")).is_ok_and(|found| found.trim() == uuid)
    };
    let mapped = list(Path::new("/sys/block"))?.into_iter().find(is_usr);
    let missing = |what: String| OpenError::NotBooted(what);
    let mapped = mapped.ok_or_else(|| missing(format!("there is no device {uuid}")))?;
    let part = list(&mapped.join("slaves"))?.into_iter().next();
    let part = part.ok_or_else(|| missing(format!("{uuid} is on no partition")))?;
    // .../block/vda/vda2
    let real = part.canonicalize().map_err(failed("looking at", &part))?;
    let disk = real.parent().and_then(Path::file_name).filter(|_| real.join("partition").exists());
    let disk = disk.ok_or_else(|| missing(format!("{} is no partition", real.display())))?;
    Ok(Path::new("/dev").join(disk))
}

/// Where the ESP of this device is mounted. Looking there mounts it, where systemd does so when
/// somebody looks; an ESP of another disk, which may be there, is none.
fn esp_mount(device: &Path) -> Result<PathBuf, OpenError> {
    let number = fs::metadata(device).map_err(failed("looking at", device))?.rdev();
    let is_mounted = |path: &&str| {
        let looked = fs::read_dir(path).is_ok();
        looked && fs::metadata(path).is_ok_and(|meta| meta.dev() == number)
    };
    if let Some(path) = ESP_MOUNTS.into_iter().find(is_mounted) {
        return Ok(path.into());
    }
    let own = Path::new(OWN_MOUNT);
    fs::create_dir_all(own).map_err(failed("making", own))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(device), own, Some("vfat"), flags, Some("umask=0077"))
        .map_err(|errno| failed("mounting the ESP", device)(errno.into()))?;
    Ok(own.to_owned())
}

fn lock(path: &Path) -> Result<fs::File, OpenError> {
    let file = fs::File::options().create(true).append(true).open(path);
    let file = file.map_err(failed("opening", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Busy { lock: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("locking", path)(source)),
    }
}

/// A block device, or a part of a file. What is read is not what the kernel remembers of a write.
#[derive(Debug)]
struct Device {
    file: fs::File,
    start: u64,
    length: u64,
}

impl Device {
    fn place(&self, offset: u64, bytes: &[u8]) -> io::Result<u64> {
        let fits = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.length);
        fits.then_some(self.start + offset).ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

impl Disk for Device {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.place(offset, bytes)?;
        forget(&self.file, at, bytes.len())?;
        FileExt::read_exact_at(&self.file, bytes, at)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.file, bytes, self.place(offset, bytes)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Has the kernel drop what it remembers of a part of a file, so that it is read from the disk.
/// What was not synced stays.
fn forget(file: &fs::File, offset: u64, length: usize) -> io::Result<()> {
    let (offset, length) = (offset.try_into(), length.try_into());
    let (offset, length) = (offset.map_err(io::Error::other)?, length.map_err(io::Error::other)?);
    posix_fadvise(file, offset, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    Ok(())
}

/// A folder of a mounted file system.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Folder for Directory {
    fn list(&self) -> io::Result<Vec<File>> {
        let mut files = vec![];
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            // What is not text is not ours.
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                files.push(File { name, size_bytes: meta.len() });
            }
        }
        files.sort();
        Ok(files)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = statvfs(&self.0)?;
        Ok(found.blocks_available().saturating_mul(found.fragment_size()))
    }

    fn read(&self, name: &str, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let file = fs::File::open(self.0.join(name))?;
        forget(&file, offset, bytes.len())?;
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut options = fs::File::options();
        let file = options.write(true).create(offset == 0).open(self.0.join(name))?;
        file.set_len(offset)?;
        FileExt::write_all_at(&file, bytes, offset)
    }

    fn sync_file(&self, name: &str) -> io::Result<()> {
        fs::File::options().write(true).open(self.0.join(name))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}
