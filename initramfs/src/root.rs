//! The machine's own root file system: made on first boot, grown at every boot.
//!
//! ```text
//!   no root, or an unfinished one --> Make: entry `root-unfinished`, mkfs, directories, then
//!                                     the entry's real type and name: only now it is a root
//!   a root                        --> Use: grow the entry if the disk has more, check it if it
//!                                     noted errors, mount, grow
//! ```
//!
//! A first-boot document gets its turn between the making of root and its last step.

mod filesystem;
mod plan;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use block::table::{Entry, Table, TableError};
use filesystem::FileSystem;
pub(crate) use filesystem::Kind;
use layout::{disk as numbers, types};
use nix::errno::Errno;
pub(crate) use plan::{Plan, plan};
use uuid::Uuid;

use crate::{
    disks::Disk,
    provision::RootWish,
    switch::{UPPER, WORK},
};

/// Where root is mounted until it is the root.
pub(crate) const TREE: &str = "/sysroot";

/// What went wrong while a plan was performed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error("{doing}")]
    Io { doing: String, source: io::Error },
    #[error("the partition table")]
    Table(#[from] TableError),
    #[error("{command} ended with {status}:\n{output}")]
    Program { command: String, status: String, output: String },
    #[error("{0} has no file system that PithOS knows (ext4, xfs, btrfs)")]
    Unknown(String),
    #[error("{0}")]
    Provisioning(String),
}

pub(crate) fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> RootError {
    let doing = what.into();
    move |source| RootError::Io { doing, source }
}

/// Performs the plan: afterwards root is mounted on [`TREE`]. Says what it did. `fill` gets a new
/// root, mounted, before it counts as one; what it returns comes back when it does.
pub(crate) fn perform<T>(
    plan: &Plan,
    disk: &Disk,
    table: &Table,
    wish: &RootWish,
    fill: impl FnOnce() -> Result<T, RootError>,
) -> Result<(String, Option<T>), RootError> {
    let path = disk.path();
    let device = OpenOptions::new().read(true).write(true).open(&path);
    let device = device.map_err(doing(format!("opening {}", path.display())))?;
    let mut table = Changing { table: table.clone(), device };
    match plan {
        Plan::Make { forget, number, start_bytes, size_bytes } => {
            let entry = Entry {
                kind: types::UNFINISHED,
                guid: random_uuid().map_err(doing("reading /dev/random"))?,
                start_bytes: *start_bytes,
                size_bytes: *size_bytes,
                flags: 0,
                name: numbers::ROOT_UNFINISHED_LABEL.to_owned(),
            };
            table.add(forget, *number, &entry)?;
            let kind = wish.kind.unwrap_or(Kind::Ext4);
            make(kind, &disk.partition(*number).display().to_string(), wish)?;
            let filled = fill()?;
            sync()?;
            // The last step: it is whole.
            let name = numbers::ROOT_LABEL.to_owned();
            let flags = if wish.size_mib.is_some() { 0 } else { types::FLAG_GROW };
            let entry = Entry { kind: types::ROOT, flags, name, ..entry };
            table.table.set(*number, Some(&entry))?;
            table.write()?;
            let what =
                format!("made partition {number}: {}, {} MiB", kind.name(), size_bytes >> 20);
            Ok((what, Some(filled)))
        }
        Plan::Use { number, start_bytes, grow_to } => {
            if let Some(size_bytes) = grow_to {
                table.grow(*number, *start_bytes, *size_bytes)?;
            } else if table.table.wants_repair() {
                table.write()?;
            }
            let device = disk.partition(*number).display().to_string();
            Ok((use_whole(&device)?, None))
        }
    }
}

/// The table, and the disk that it is on.
struct Changing {
    table: Table,
    device: File,
}

impl Changing {
    fn write(&self) -> Result<(), TableError> {
        self.table.write(&self.device)
    }

    fn add(&mut self, forget: &[u32], number: u32, entry: &Entry) -> Result<(), RootError> {
        for old in forget {
            self.table.set(*old, None)?;
        }
        self.table.set(number, Some(entry))?;
        self.write()?;
        for old in forget {
            match block::partition::delete(&self.device, *old) {
                // The kernel knew as little of it as we want it to.
                Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {}
                other => {
                    other
                        .map_err(doing(format!("telling the kernel to forget partition {old}")))?;
                }
            }
        }
        block::partition::add(&self.device, number, entry.start_bytes, entry.size_bytes)
            .map_err(doing(format!("telling the kernel of partition {number}")))
    }

    fn grow(&mut self, number: u32, start_bytes: u64, size_bytes: u64) -> Result<(), RootError> {
        let entries = self.table.entries();
        let old = entries.get(&number).expect("the plan names an entry of this table");
        self.table.set(number, Some(&Entry { size_bytes, ..old.clone() }))?;
        self.write()?;
        block::partition::resize(&self.device, number, start_bytes, size_bytes)
            .map_err(doing(format!("telling the kernel that partition {number} grew")))
    }
}

fn make(kind: Kind, device: &str, wish: &RootWish) -> Result<(), RootError> {
    let label = wish.label.as_deref().unwrap_or(numbers::ROOT_LABEL);
    kind.make(device, label, &wish.options)?;
    kind.mount(device)?;
    populate().map_err(doing("making the first directories of root"))
}

fn sync() -> Result<(), RootError> {
    let tree = File::open(TREE).map_err(doing("opening root"))?;
    // Not for the directory alone: this syncs the whole file system, and says so if it failed.
    nix::unistd::syncfs(tree).map_err(|errno| doing("syncing root")(errno.into()))
}

fn use_whole(device: &str) -> Result<String, RootError> {
    let (found, device_bytes) = FileSystem::of(device)?;
    if found.has_errors {
        found.check(device)?;
    }
    found.kind.mount(device)?;
    populate().map_err(doing("the first directories of root"))?;
    let mut what = format!("{device}, {}", found.kind.name());
    if found.has_errors {
        what.push_str(", repaired");
    }
    if found.is_smaller_than(device_bytes) {
        found.kind.grow(device)?;
        what.push_str(&format!(", grown to {} MiB", device_bytes >> 20));
    }
    Ok(what)
}

/// Waits until the kernel has randomness: a machine's first minute is when it has the least.
fn random_uuid() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    File::open("/dev/random")?.read_exact(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// Runs a program of the verified /usr; what it printed is for the report.
fn run(program: &str, args: &[&str], good: &[i32]) -> Result<(), RootError> {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .env("MKE2FS_CONFIG", "/usr/share/pithos/etc/mke2fs.conf")
        .stdin(Stdio::null());
    let output = command.output().map_err(doing(format!("starting {program}")))?;
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let tail: Vec<&str> = text.lines().rev().take(8).collect();
    Err(RootError::Program {
        command: format!("{program} {}", args.join(" ")),
        status: output.status.to_string(),
        output: tail.into_iter().rev().collect::<Vec<_>>().join("\n"),
    })
}

/// The top level of root: mount points, links into /usr, and where the changes of /etc go.
fn populate() -> io::Result<()> {
    let tree = Path::new(TREE);
    let directories = [
        ("usr", 0o755),
        ("etc", 0o755),
        ("var", 0o755),
        ("home", 0o755),
        ("root", 0o700),
        ("proc", 0o555),
        ("sys", 0o555),
        ("dev", 0o755),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("mnt", 0o755),
        ("media", 0o755),
        ("opt", 0o755),
        ("srv", 0o755),
        ("boot", 0o755),
        ("efi", 0o700),
        (".pithos", 0o700),
        (".pithos/etc", 0o755),
        (UPPER, 0o755),
        (WORK, 0o755),
    ];
    for (name, mode) in directories {
        let path = tree.join(name);
        // What is there is the operator's to change, a link that leads nowhere from here included.
        if path.symlink_metadata().is_err() {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let path = tree.join(name);
        if path.symlink_metadata().is_err() {
            symlink(format!("usr/{name}"), &path)?;
        }
    }
    Ok(())
}
