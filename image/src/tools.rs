//! The programs that make an image, out of a tools tree of locked packages.
//!
//! The tools tree is a Debian root directory. Its programs run on the host without a chroot, each
//! by the tree's own dynamic loader, through a small script in `build/bin` ([`wrappers`]): so the
//! host's libraries and versions have no say in what an image looks like, and a person can run the
//! very same tools by hand.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub mod wrappers;

/// The programs of the tools tree.
#[derive(Clone, Debug)]
pub struct Tools {
    bin: PathBuf,
    tree: PathBuf,
}

impl Tools {
    /// The tools of a build folder: its `bin` and `tools`.
    pub fn of(build: &Path) -> Self {
        Self { bin: build.join("bin"), tree: build.join("tools") }
    }

    /// A command that runs `name` of the tools tree, with nothing of the caller's environment that
    /// could show in what it writes.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env_remove("LANGUAGE");
        command
    }

    /// The script that runs `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The tools tree itself, for files in it (firmware, the loader's EFI program).
    pub fn tree(&self) -> &Path {
        &self.tree
    }
}
