//! The normalised `/usr`: from the root directory that mkosi assembled to the tree that becomes
//! the image's one file system.
//!
//! ```text
//! root of mkosi --base--> usr without what is cut, links and modes normal, modules unpacked
//!               --overlay--> + rootfs/usr + our programs + accounts + os-release, all checked
//! ```
//!
//! Two phases, so that a change of one file in `rootfs/usr` does not unpack the kernel modules
//! again: each makes a directory that the caller may cache by the hash of what went in. Both
//! work by hard links and never write through one.
//!
//! This is not where packages are chosen (see `mkosi`) nor where the file system is made (see
//! `erofs`).

mod accounts;
mod base;
mod check;
mod elf;
pub(crate) mod glob;
pub(crate) mod list;
mod names;
mod overlay;
mod perform;
mod plan;
mod plugins;
mod release;
mod rules;
mod scan;
mod size;
mod sysusers;
#[cfg(test)]
mod tests;
mod units;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::Command,
};

pub use base::{Base, BaseRequest, base, modules, usr, vmlinuz};
pub(crate) use elf::needs;
pub use list::ListError;
pub use overlay::{Extra, Overlaid, OverlayRequest, overlay};
pub use release::Release;
pub use rules::Rules;
pub use size::Sizes;
pub(crate) use size::megabytes;

/// Why there is no tree.
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
    /// A list cannot be used.
    #[error(transparent)]
    List(#[from] ListError),
    /// The tree has no kernel, or several.
    #[error(
        "{} has {} kernels in /usr/lib/modules ({}): expected one; install exactly one \
         linux-image package",
        root.display(), releases.len(), releases.join(", ")
    )]
    Kernels {
        /// The tree.
        root: PathBuf,
        /// What is in /usr/lib/modules.
        releases: Vec<String>,
    },
    /// The modules are there, the kernel is not.
    #[error("there is no kernel image at {}", looked_at.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoKernel {
        /// Where it could have been.
        looked_at: Vec<PathBuf>,
    },
    /// A program of the tools tree failed.
    #[error("`{command}` {what}{}", if said.is_empty() { String::new() } else { format!(":\n{said}") })]
    Program {
        /// The command line.
        command: String,
        /// How it ended.
        what: String,
        /// Its standard error.
        said: String,
    },
    /// The tree would not work on a machine.
    #[error("{doing}: {} problem(s)\n{findings}", findings.0.len())]
    Findings {
        /// Which check.
        doing: &'static str,
        /// What is wrong, one line each.
        findings: Findings,
    },
}

/// Everything that a check found, so that one build shows all of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings(pub Vec<String>);

impl Findings {
    fn none(mut self, doing: &'static str) -> Result<(), Error> {
        self.0.sort();
        self.0.dedup();
        if self.0.is_empty() { Ok(()) } else { Err(Error::Findings { doing, findings: self }) }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(|line| format!("  - {line}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// A program of the tools tree, in the environment that every step gets: nothing of the host's
/// language, time zone or settings.
pub(crate) fn program(bin: &Path, name: &str) -> Command {
    let mut command = Command::new(bin.join(name));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("HOME", "/nonexistent");
    command
}

/// Runs a program to its end; its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let failed = |command: &Command, what: String, said: &[u8]| Error::Program {
        command: command_line(command),
        what,
        said: String::from_utf8_lossy(said).trim_end().to_owned(),
    };
    match command.output() {
        Err(error) => Err(failed(command, format!("cannot be started: {error}"), b"")),
        Ok(output) if !output.status.success() => {
            Err(failed(command, format!("failed ({})", output.status), &output.stderr))
        }
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
