//! The folder of a machine: `build/run/NAME`.
//!
//! It belongs to one machine at a time (a lock says so). Logs stay after the machine is gone, the
//! disk does not, unless it is kept.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    artifacts::Image,
    error::{Doing, Error},
    host, process,
    spec::{DISK_COPY, DISK_OVERLAY, Disk, Spec, VARIABLES},
};

const LOCK: &str = "lock";

/// A folder that is ours.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keep: bool,
    /// Unlocked by the kernel when it is closed, however we end.
    _lock: File,
}

impl Folder {
    /// Takes the folder of a machine; empties it, unless it is a kept one.
    pub(crate) fn take(spec: &Spec) -> Result<Self, Error> {
        if !is_name(&spec.name) {
            return Err(Error::Refused(format!(
                "`{}` cannot be the name of a machine\n  it names a folder, a process and a host: \
                 letters, digits and dashes, at most 40",
                spec.name
            )));
        }
        let path = spec.folder();
        fs::create_dir_all(&path).doing(|| format!("making {}", path.display()))?;
        let lock = path.join(LOCK);
        let lock = File::create(&lock).doing(|| format!("making {}", lock.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Refused(format!(
                    "a machine named {} is running already (in {})\n  choose another name",
                    spec.name(),
                    path.display()
                )));
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::Io { doing: format!("locking {}", path.display()), source });
            }
        }
        let folder = Self { path, keep: spec.keep, _lock: lock };
        if !spec.keep {
            folder.empty()?;
        }
        host::ensure_disk(&folder.path)?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the firmware's variables and the disk, where they are not there yet. Returns the file
    /// that is the disk.
    pub(crate) fn furnish(&self, spec: &Spec) -> Result<PathBuf, Error> {
        let variables = self.path.join(VARIABLES);
        if !variables.exists() {
            let empty = spec.artifacts.firmware_variables()?;
            fs::copy(&empty, &variables)
                .doing(|| format!("copying {} to {}", empty.display(), variables.display()))?;
            make_writable(&variables)?;
        }
        // Looked for late: a kept copy needs no image any more.
        let image = || match &spec.image {
            Some(image) => Ok(image.clone()),
            None => spec.artifacts.image(),
        };
        match spec.disk {
            Disk::ReadOnly | Disk::Direct => Ok(image()?.raw),
            Disk::Overlay => self.made(DISK_OVERLAY, |file| overlay(spec, &image()?, file)),
            Disk::Copy => self.made(DISK_COPY, |file| copy(spec, &image()?, file)),
        }
    }

    /// A file that is whole when it is there: made under another name first.
    fn made(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let file = self.path.join(name);
        if !file.exists() {
            let unfinished = self.path.join(format!("{name}.unfinished"));
            make(&unfinished)?;
            fs::rename(&unfinished, &file).doing(|| format!("renaming to {}", file.display()))?;
        }
        Ok(file)
    }

    fn empty(&self) -> Result<(), Error> {
        let doing = || format!("emptying {}", self.path.display());
        for entry in fs::read_dir(&self.path).doing(doing)? {
            let path = entry.doing(doing)?.path();
            if path.file_name() != Some(LOCK.as_ref()) {
                fs::remove_file(&path).doing(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            for name in [DISK_OVERLAY, DISK_COPY, BASE, VARIABLES] {
                let _ = fs::remove_file(self.path.join(name));
                let _ = fs::remove_file(self.path.join(format!("{name}.unfinished")));
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && !name.starts_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// The image that an overlay lies over, held by a link: a later build takes it away from under its
/// name, and a machine that is kept goes on with what it was made of.
const BASE: &str = "base.raw";

fn overlay(spec: &Spec, image: &Image, file: &Path) -> Result<(), Error> {
    let size = size(spec, image)?;
    let base = file.with_file_name(BASE);
    let _ = fs::remove_file(&base);
    let base = match fs::hard_link(&image.raw, &base) {
        Ok(()) => PathBuf::from(BASE),
        // On another file system there are no links between them; the image itself must do.
        Err(_) => {
            fs::canonicalize(&image.raw).doing(|| format!("finding {}", image.raw.display()))?
        }
    };
    let mut command = Command::new(spec.artifacts.program("qemu-img")?);
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    command.arg(base).arg(file).arg(size.to_string());
    process::run(&mut command).map(|_| ())
}

fn copy(spec: &Spec, image: &Image, file: &Path) -> Result<(), Error> {
    let size = size(spec, image)?;
    let mut command = Command::new("cp");
    command.args(["--sparse=always", "--reflink=auto", "--"]).arg(&image.raw).arg(file);
    process::run(&mut command)?;
    make_writable(file)?;
    let doing = || format!("growing {}", file.display());
    File::options().write(true).open(file).doing(doing)?.set_len(size).doing(doing)
}

fn make_writable(file: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
        .doing(|| format!("making {} writable", file.display()))
}

fn size(spec: &Spec, image: &Image) -> Result<u64, Error> {
    let least = image.size_bytes()?;
    match spec.disk_bytes {
        Some(size) if size < least => Err(Error::Refused(format!(
            "a disk of {size} bytes is smaller than the image's {least} bytes\n  ask for more with \
             --disk-size, or leave it out"
        ))),
        Some(size) => Ok(size),
        None => Ok(least),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::Artifacts;

    fn spec(build: &Path) -> Spec {
        let raw = build.join("some.raw");
        fs::create_dir_all(build.join("firmware")).expect("a folder");
        fs::write(build.join("firmware/OVMF_VARS.fd"), "vars").expect("a file");
        fs::write(&raw, vec![7; 4096]).expect("a file");
        let image = Image { raw, manifest: None };
        Spec::in_build("one", Artifacts::at(build)).image(image).disk(Disk::Copy)
    }

    #[test]
    fn a_throw_away_machine_leaves_its_logs_and_not_its_disk() {
        let build = tempfile::tempdir().expect("a folder");
        let spec = spec(build.path());
        let folder = Folder::take(&spec).expect("a folder");
        let disk = folder.furnish(&spec).expect("a disk");
        fs::write(folder.path().join("serial.log"), "hello").expect("a file");
        assert_eq!(fs::read(&disk).expect("a disk"), vec![7; 4096]);
        drop(folder);
        assert!(!disk.exists());
        assert!(spec.folder().join("serial.log").exists());
        drop(Folder::take(&spec).expect("a folder"));
        assert!(!spec.folder().join("serial.log").exists(), "the next one starts empty");
    }

    #[test]
    fn a_kept_machine_finds_what_it_left_even_when_the_image_is_gone() {
        let build = tempfile::tempdir().expect("a folder");
        let spec = spec(build.path()).kept();
        let folder = Folder::take(&spec).expect("a folder");
        let disk = folder.furnish(&spec).expect("a disk");
        fs::write(&disk, "changed").expect("a file");
        drop(folder);
        fs::remove_file(build.path().join("some.raw")).expect("the image");
        let folder = Folder::take(&spec).expect("a folder");
        assert_eq!(fs::read(folder.furnish(&spec).expect("a disk")).expect("a disk"), b"changed");
    }

    #[test]
    fn a_name_is_for_one_machine_at_a_time() {
        let build = tempfile::tempdir().expect("a folder");
        let spec = spec(build.path());
        let folder = Folder::take(&spec).expect("a folder");
        let error = Folder::take(&spec).expect_err("taken").to_string();
        assert!(error.contains("named one is running already"), "{error}");
        drop(folder);
        Folder::take(&spec).expect("free again");
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        let build = tempfile::tempdir().expect("a folder");
        for name in ["", "../one", "a b", "-rf", "a,b", "."] {
            let spec = Spec { name: name.into(), ..spec(build.path()) };
            assert!(Folder::take(&spec).is_err(), "{name}");
        }
    }

    #[test]
    fn a_disk_grows_and_never_shrinks() {
        let build = tempfile::tempdir().expect("a folder");
        let larger = spec(build.path()).disk_bytes(8192);
        let folder = Folder::take(&larger).expect("a folder");
        let disk = folder.furnish(&larger).expect("a disk");
        assert_eq!(fs::metadata(disk).expect("a disk").len(), 8192);
        drop(folder);
        let smaller = spec(build.path()).disk_bytes(512);
        let folder = Folder::take(&smaller).expect("a folder");
        let error = folder.furnish(&smaller).expect_err("too small").to_string();
        assert!(error.contains("512 bytes") && error.contains("4096 bytes"), "{error}");
    }
}
