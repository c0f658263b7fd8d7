//! One small script per program of the tools tree, in `build/bin`.
//!
//! A script finds the tree relative to itself, so the build folder can be moved, and hands over to
//! the tree's dynamic loader with the tree's libraries. The libraries are given as an option, not
//! in the environment: a program of the host that the tool starts must not see them. The folder of
//! the scripts goes first in PATH, so that a tool which starts another gets ours.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::step::remove;

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A program.
    Plain,
    /// Converts file names by tables that libc loads.
    Mtools,
    /// A script in Python.
    Python,
    /// Starts programs of its own, and knows where headers are by itself.
    Gcc,
}

struct Program {
    name: &'static str,
    kind: Kind,
    /// Shows that it starts; not all have `--version`.
    check: &'static str,
}

const fn program(name: &'static str, kind: Kind, check: &'static str) -> Program {
    Program { name, kind, check }
}

const PROGRAMS: &[Program] = {
    use Kind::{Mtools, Plain, Python};
    &[
        program("bootctl", Plain, "--version"),
        program("cpio", Plain, "--version"),
        program("debugfs", Plain, "-V"),
        program("depmod", Plain, "--version"),
        program("dump.erofs", Plain, "--version"),
        program("e2fsck", Plain, "-V"),
        program("fsck.erofs", Plain, "--version"),
        program("fsck.vfat", Plain, "--help"),
        program("mcopy", Mtools, "--version"),
        program("mdir", Mtools, "--version"),
        program("minfo", Mtools, "--version"),
        program("mke2fs", Plain, "-V"),
        program("mkfs.erofs", Plain, "--version"),
        program("mkfs.vfat", Plain, "--help"),
        program("mmd", Mtools, "--version"),
        program("mtype", Mtools, "--version"),
        program("qemu-img", Plain, "--version"),
        program("qemu-system-x86_64", Plain, "--version"),
        program("sfdisk", Plain, "--version"),
        program("sgdisk", Plain, "--version"),
        program("systemctl", Plain, "--version"),
        program("systemd-dissect", Plain, "--version"),
        program("systemd-repart", Plain, "--version"),
        program("systemd-sbsign", Plain, "--version"),
        program("systemd-sysusers", Plain, "--version"),
        program("ukify", Python, "--version"),
        program("veritysetup", Plain, "--version"),
        program("zstd", Plain, "--version"),
    ]
};

/// Made if its package is in tools.list: only an image that keeps udev's hardware database needs it.
const OPTIONAL: &[Program] = &[program("systemd-hwdb", Kind::Plain, "--version")];

/// What gcc starts is found by the name that gcc has for it.
const COMPILERS: &[Program] = &[
    program("as", Kind::Plain, "--version"),
    program("cc1", Kind::Plain, "--version"),
    program("gcc", Kind::Gcc, "--version"),
];

/// Where the tree is, beside the folder of the scripts.
pub const TREE: &str = "tools";
/// The compiler's script.
pub const COMPILER: &str = "bin/gcc";

/// The browser's own script.
pub const BROWSER_SCRIPT: &str = "browser";
const BROWSER: &str = "usr/lib/chromium/chromium-headless-shell";
/// What programs of Debian ask for.
const INTERPRETER: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";

const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/systemd"];
const FOLDERS: [&str; 4] =
    ["usr/bin", "usr/sbin", "usr/lib/systemd", "usr/libexec/gcc/x86_64-linux-gnu/14"];
/// Headers that gcc brings, and those of the libc that our programs are linked with.
const HEADERS: [&str; 2] =
    ["usr/lib/gcc/x86_64-linux-gnu/14/include", "usr/include/x86_64-linux-musl"];
/// Firmware for virtual machines, by our name and by Debian's.
const FIRMWARE: [(&str, &str); 3] = [
    ("OVMF_CODE.fd", "OVMF_CODE_4M.fd"),
    ("OVMF_CODE.secboot.fd", "OVMF_CODE_4M.secboot.fd"),
    ("OVMF_VARS.fd", "OVMF_VARS_4M.fd"),
];

/// Makes the tree's QEMU find its modules and firmware in the tree, and never the host's: it looks
/// for this link beside the program that runs, which here is the dynamic loader.
pub fn bundle(tree: &Path) -> Result<()> {
    let link = tree.join(LIBRARIES[0]).join("qemu-bundle");
    symlink("../../..", &link).with_context(|| format!("making {}", link.display()))
}

/// Another word when [`write`] writes something else of the same tree.
pub fn kinds() -> String {
    let programs = PROGRAMS.iter().map(|program| (program.name, program.kind as u8));
    let text = format!("{:?} {FIRMWARE:?}", programs.collect::<Vec<_>>());
    hex::encode(&Sha256::digest(text)[..8])
}

/// Writes the scripts into `build/bin` and the firmware into `build/firmware`, for the tree at
/// `build/tools`, and tries every script once.
pub fn write(build: &Path) -> Result<()> {
    let tree = build.join(TREE);
    ensure!(tree.join(LOADER).exists(), "{} is no tools tree: it has no {LOADER}", tree.display());
    let optional = OPTIONAL.iter().filter(|program| find(&tree, program.name).is_some());
    let programs: Vec<&Program> = PROGRAMS.iter().chain(optional).collect();
    replace(&build.join("bin"), |bin| {
        programs.iter().try_for_each(|program| write_script(&tree, bin, program))
    })?;
    replace(&build.join("firmware"), |firmware| {
        for (ours, debians) in FIRMWARE {
            let from = tree.join("usr/share/OVMF").join(debians);
            fs::copy(&from, firmware.join(ours))
                .with_context(|| format!("copying {}: is ovmf in tools.list?", from.display()))?;
        }
        Ok(())
    })?;
    programs.into_iter().try_for_each(|program| try_out(&build.join("bin"), program))
}

/// Writes the script of the browser that was unpacked into [`TREE`] of `folder`, and tries it. It
/// starts itself again for each page, by the name that the kernel has for it, so that it cannot be
/// started by the loader of the tree as others are: its copy asks for that loader by a place that
/// begins where it is started, instead.
pub fn write_browser(folder: &Path) -> Result<()> {
    let tree = folder.join(TREE);
    let path = tree.join(BROWSER);
    let mut bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let at = bytes.windows(INTERPRETER.len()).position(|some| some == INTERPRETER);
    let at = at.with_context(|| format!("{} asks for no loader", path.display()))?;
    bytes.copy_within(at + 1..at + INTERPRETER.len(), at);
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    if !tree.join("lib64").exists() {
        symlink("usr/lib64", tree.join("lib64")).context("linking lib64")?;
    }
    let fonts = "<fontconfig><dir prefix=\"cwd\">usr/share/fonts</dir></fontconfig>\n";
    fs::write(tree.join("fonts.conf"), fonts).context("writing fonts.conf")?;
    let libraries = LIBRARIES[0];
    let libraries = format!("$PWD/{libraries}:$PWD/{libraries}/pulseaudio");
    let script = format!(
        "#!/bin/sh\n\
         # Runs the browser. Written by `image browser`.\n\
         cd \"${{0%/*}}/{TREE}\" || exit\n\
         export FONTCONFIG_FILE=\"$PWD/fonts.conf\" LD_LIBRARY_PATH=\"{libraries}\"\n\
         exec \"./{BROWSER}\" \"$@\"\n"
    );
    let program = program(BROWSER_SCRIPT, Kind::Plain, "--version");
    let path = folder.join(program.name);
    fs::write(&path, script)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("writing {}", path.display()))?;
    try_out(folder, &program)
}

/// Writes the scripts of a compiler that was unpacked into [`TREE`] of `folder`, and tries them.
pub fn write_compiler(folder: &Path) -> Result<()> {
    let bin = folder.join("bin");
    fs::create_dir(&bin).context("making the folder of the scripts")?;
    COMPILERS.iter().try_for_each(|program| write_script(&folder.join(TREE), &bin, program))?;
    COMPILERS.iter().try_for_each(|program| try_out(&bin, program))
}

/// Writes the script of one program of `tree`.
fn write_script(tree: &Path, bin: &Path, program: &Program) -> Result<()> {
    let place = find(tree, program.name).with_context(|| {
        format!("no package of rootfs/packages has {}: {} lacks it", program.name, tree.display())
    })?;
    let path = bin.join(program.name);
    fs::write(&path, script(program, &place))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("writing {}", path.display()))
}

/// Fills a new folder and puts it in the place of the old one.
fn replace(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = folder.with_extension("tmp");
    remove(&unfinished)?;
    fs::create_dir_all(&unfinished).with_context(|| format!("making {}", unfinished.display()))?;
    fill(&unfinished).with_context(|| format!("filling {}", folder.display()))?;
    remove(folder)?;
    fs::rename(&unfinished, folder).with_context(|| format!("naming {}", folder.display()))
}

/// The place of a program in the tree.
fn find(tree: &Path, name: &str) -> Option<String> {
    let places = FOLDERS.map(|folder| format!("{folder}/{name}"));
    places.into_iter().find(|place| tree.join(place).exists())
}

fn script(program: &Program, place: &str) -> String {
    let libraries = LIBRARIES.map(|folder| format!("$tools/{folder}")).join(":");
    let start = format!(
        "#!/bin/sh\n\
         # Runs {name} of the tools tree. Written by `image build`.\n\
         bin=${{0%/*}}\n\
         case $bin in /*) ;; *) bin=$PWD/$bin ;; esac\n\
         tools=${{bin%/*}}/tools\n\
         export PATH=\"$bin:$PATH\"\n",
        name = program.name
    );
    let run = |argv0: &str, program: &str, more: &str| {
        format!(
            "exec \"$tools/{LOADER}\" --library-path \"{libraries}\" --argv0 \"{argv0}\" \
             \"$tools/{program}\" {more}\"$@\"\n"
        )
    };
    let python = || run("$tools/usr/bin/python3", "usr/bin/python3", "\"$tools/PLACE\" ");
    let rest = match program.kind {
        Kind::Plain => run("$0", place, ""),
        Kind::Mtools => {
            let tables = "export GCONV_PATH=\"$tools/usr/lib/x86_64-linux-gnu/gconv\"\n";
            format!("{tables}{}", run("$0", place, ""))
        }
        Kind::Gcc => {
            let headers = HEADERS.map(|folder| format!("-isystem \"$tools/{folder}\" ")).concat();
            run("$0", place, &format!("-B\"$bin/\" -nostdinc {headers}"))
        }
        Kind::Python => format!(
            "export PYTHONHOME=\"$tools/usr\" PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1\n\
             unset PYTHONPATH\n{}",
            python().replace("PLACE", place)
        ),
    };
    format!("{start}{rest}")
}

/// Starts it once: a missing library shows now, not in the middle of a build.
fn try_out(bin: &Path, program: &Program) -> Result<()> {
    let path: PathBuf = bin.join(program.name);
    let output = Command::new(&path)
        .arg(program.check)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .with_context(|| format!("starting {}", path.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let broken = output.status.code().is_none_or(|code| code >= 126)
        || said.contains("error while loading shared libraries")
        || said.contains("Traceback");
    if broken {
        bail!("{} {} does not run: {said}", path.display(), program.check);
    }
    Ok(())
}
