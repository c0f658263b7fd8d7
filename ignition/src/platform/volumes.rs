//! Reads files of small volumes, by mounting them for a moment.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Found, Volume, label};

/// Somebody who reads small volumes.
pub trait Volumes {
    /// The first file of a volume that is there and not empty.
    fn find(&self, volume: &Volume) -> io::Result<Option<Found>>;
}

/// Reads the volumes of this machine.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// Where the kernel lists block devices.
    pub list: PathBuf,
    /// Where their nodes are.
    pub devices: PathBuf,
    /// Where to mount; made, if it is not there.
    pub at: PathBuf,
}

impl Volumes for Mounted {
    fn find(&self, volume: &Volume) -> io::Result<Option<Found>> {
        let mut names: Vec<_> =
            fs::read_dir(&self.list)?.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            let device = self.devices.join(&name);
            // A drive without a disc, or a device that went away, is not a volume.
            let Ok(Some(found)) = File::open(&device).and_then(|file| label::probe(&file)) else {
                continue;
            };
            if !found.label.eq_ignore_ascii_case(volume.label) {
                continue;
            }
            if let Some((file, bytes)) = self.read(&device, found.kind, volume.files)? {
                let (label, device) = (volume.label, device.display());
                let from = format!("{file} of the volume {label} ({device})");
                return Ok(Some(Found { from, bytes }));
            }
        }
        Ok(None)
    }
}

impl Mounted {
    fn read(
        &self,
        device: &Path,
        kind: &str,
        files: &[&str],
    ) -> io::Result<Option<(String, Vec<u8>)>> {
        fs::create_dir_all(&self.at)?;
        let flags =
            MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID;
        let none: Option<&str> = None;
        mount(Some(device), &self.at, Some(kind), flags, none).map_err(|errno| {
            io::Error::other(format!("mounting {} as {kind}: {errno}", device.display()))
        })?;
        let found = first(&self.at, files);
        // Nothing of it is open any more, and it was mounted for reading: at worst it stays.
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        found
    }
}

fn first(folder: &Path, files: &[&str]) -> io::Result<Option<(String, Vec<u8>)>> {
    for file in files {
        match fs::read(folder.join(file)) {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => return Ok(Some(((*file).to_owned(), bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
