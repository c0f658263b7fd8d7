//! The EFI system partition of the disk that the machine boots from: a document may lie there, and
//! what went wrong is written there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use block::table::Table;
use layout::types;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::drivers;

/// What went wrong at the last first boot, on the ESP.
pub(super) const REPORT: &str = "pithos/first-boot-failed.json";

/// The ESP, mounted until this is dropped.
#[derive(Debug)]
pub struct Esp {
    at: PathBuf,
}

impl Esp {
    /// Mounts the ESP of a disk below `memory`.
    pub fn mount(disk: &Path, memory: &Path) -> io::Result<Self> {
        let device = partition(disk)?;
        let at = memory.join("esp");
        fs::create_dir_all(&at)?;
        drivers::load("vfat");
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        // Our names are ASCII: the table of names that the kernel has built in will do.
        let options = Some("umask=0077,shortname=winnt,iocharset=default");
        mount(Some(&device), &at, Some("vfat"), flags, options)
            .map_err(|errno| io::Error::other(format!("mounting {}: {errno}", device.display())))?;
        Ok(Self { at })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Writes the report of a failure, or removes that of an earlier one.
    pub fn report(&self, text: Option<&str>) -> io::Result<()> {
        let path = self.at.join(REPORT);
        let Some(text) = text else {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        let folder = path.parent().expect("it has a folder");
        fs::create_dir_all(folder)?;
        let unfinished = path.with_extension("tmp");
        let mut file = File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(folder)?.sync_all()
    }
}

impl Drop for Esp {
    fn drop(&mut self) {
        if let Ok(folder) = File::open(&self.at) {
            let _ = nix::unistd::syncfs(folder);
        }
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// The device of the ESP of a disk.
fn partition(disk: &Path) -> io::Result<PathBuf> {
    let file = File::open(disk)?;
    let (bytes, sector) = (block::size_bytes(&file)?, block::sector_bytes(&file)?);
    let table = Table::read(&file, bytes, sector).map_err(io::Error::other)?;
    let entries = table.entries();
    let esp = entries.iter().find(|(_, entry)| entry.kind == types::ESP);
    let (number, _) =
        esp.ok_or_else(|| io::Error::other("the disk has no EFI system partition"))?;
    Ok(block::partition_name(&disk.display().to_string(), *number).into())
}
