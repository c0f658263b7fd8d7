//! Our own programs of the image, built by cargo for a machine without a libc of ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::Places;
use crate::{
    progress::{Progress, took},
    step::{lock, remove},
    tree::Extra,
};

const TARGET: &str = "x86_64-unknown-linux-musl";
/// Package and program.
const PROGRAMS: [(&str, &str); 3] =
    [("ignition", "ignition"), ("initramfs", "init"), ("updater", "update-engine")];

/// The one of the initramfs; all others are in /usr/bin.
const INIT: &str = "init";

/// The members of the workspace that programs are built from, and their folders.
pub(super) const MEMBERS: &[(&str, &str)] = &[
    ("block", "agents/block"),
    ("http-client", "agents/http-client"),
    ("ignition", "ignition"),
    ("initramfs", "initramfs"),
    ("layout", "image/layout"),
    ("payload", "updater/payload"),
    ("updater", "updater"),
];

/// The package that a program is built from.
pub(super) fn package(program: &str) -> Option<&'static str> {
    PROGRAMS.iter().find(|(_, name)| *name == program).map(|(package, _)| *package)
}

/// The built programs, in one folder.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Programs that were built before.
    pub(super) fn at(folder: &Path) -> Result<Self> {
        for (_, program) in PROGRAMS {
            let path = folder.join(program);
            ensure!(
                path.is_file(),
                "{} is missing: --programs names no such folder",
                path.display()
            );
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Name and place of each.
    pub(super) fn all(&self) -> Vec<(String, PathBuf)> {
        let mut all: Vec<_> = PROGRAMS
            .iter()
            .map(|(_, program)| ((*program).to_owned(), self.folder.join(program)))
            .collect();
        all.sort();
        all
    }

    /// `/init` of the initramfs.
    pub(super) fn init(&self) -> PathBuf {
        self.folder.join(INIT)
    }

    /// The others: where they are in the image.
    pub(super) fn of_usr(&self) -> Vec<Extra> {
        let others = PROGRAMS.iter().filter(|(_, program)| *program != INIT);
        let extra = |(_, program): &(&str, &str)| Extra {
            from: self.folder.join(program),
            to: format!("/usr/bin/{program}"),
            executable: true,
        };
        others.map(extra).collect()
    }
}

/// Flags for what crates have in C.
fn c_flags(repo: &Path, home: &Path) -> String {
    format!(
        "-ffile-prefix-map={}=/pithos -ffile-prefix-map={}=/cargo",
        repo.display(),
        home.display()
    )
}

/// Builds them into `build/programs`. What cargo has to do it decides itself.
///
/// Their bytes must not depend on where they are built: paths are remapped, the linker is the one
/// that comes with Rust, and what crates have in C is for our `compiler`, not the host's.
pub(super) fn build(places: &Places, compiler: &Path, progress: &Progress) -> Result<Programs> {
    let begun = std::time::Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("no folder of cargo's: set CARGO_HOME or HOME")?;
    let flags = [
        format!("--remap-path-prefix={}=/pithos", places.repo.display()),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        "-Clinker=rust-lld".to_owned(),
        "-Clinker-flavor=ld.lld".to_owned(),
        "-Clink-self-contained=yes".to_owned(),
        // They abort where they panic: nobody looks a frame up.
        "-Clink-arg=--no-eh-frame-hdr".to_owned(),
        // A bit for each word that is to be relocated, not 24 bytes.
        "-Clink-arg=--pack-dyn-relocs=relr".to_owned(),
    ];
    let target = places.build.join("target");
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target)
        .current_dir(&places.repo)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CC_x86_64_unknown_linux_musl", compiler)
        .env("CFLAGS_x86_64_unknown_linux_musl", c_flags(&places.repo, &home))
        .env("SOURCE_DATE_EPOCH", "0")
        .env_remove("CARGO_BUILD_TARGET");
    for (package, _) in PROGRAMS {
        command.args(["--package", package]);
    }
    let _lock = lock(&places.build.join("programs.lock"), progress)?;
    let waiting = progress.wait("cargo: programs of the image");
    let output = command.output().context("starting cargo")?;
    drop(waiting);
    if !output.status.success() {
        bail!(
            "cargo could not build the programs of the image:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }

    let folder = places.build.join("programs");
    let unfinished = places.build.join("programs.tmp");
    remove(&unfinished)?;
    fs::create_dir_all(&unfinished).with_context(|| format!("making {}", unfinished.display()))?;
    for (_, program) in PROGRAMS {
        let built = target.join(TARGET).join("release").join(program);
        fs::copy(&built, unfinished.join(program))
            .with_context(|| format!("copying {}", built.display()))?;
    }
    remove(&folder)?;
    fs::rename(&unfinished, &folder).with_context(|| format!("naming {}", folder.display()))?;
    progress.line(format!("programs: built in {}", took(begun.elapsed())));
    Programs::at(&folder)
}
