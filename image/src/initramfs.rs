//! The initramfs: `/init`, the kernel modules that it may load, and nothing else.
//!
//! One cpio archive in one zstd frame. Every byte follows from `/init` and the modules: no time,
//! no owner, no order of a directory has a say.

mod cpio;
mod modules;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cpio::Cpio;
pub use modules::ModuleList;
use modules::{Chosen, Index, IndexTexts, choose, filter};
use serde::{Deserialize, Serialize};
use zstd::zstd_safe::CParameter;

use crate::tree::{Findings, megabytes};

/// What an initramfs may take, compressed.
pub const BUDGET_BYTES: u64 = 6_000_000;

/// What it is made of.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The program that becomes `/init`: static, for it is alone.
    pub init: &'a Path,
    /// The kernel's modules: a `/usr/lib/modules/RELEASE` with unpacked modules and text indexes.
    pub modules: &'a Path,
    /// `rootfs/initramfs.modules`.
    pub list: &'a ModuleList,
    /// `cloud` or `generic`.
    pub flavor: &'a str,
    /// What it may take, compressed; [`BUDGET_BYTES`] for an image.
    pub budget_bytes: u64,
}

/// An initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initramfs {
    /// What the boot loader hands to the kernel.
    pub bytes: Vec<u8>,
    /// What the kernel unpacks it to.
    pub unpacked_bytes: u64,
    /// Its modules, by name.
    pub modules: Vec<Module>,
}

/// A kernel module of an initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Such as `nvme_core`.
    pub name: String,
    /// Path in the archive.
    pub path: String,
    /// Not compressed.
    pub size_bytes: u64,
    /// The reason of the list, or the module that needs it.
    pub why: String,
}

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Entries of the list match nothing.
    #[error("choosing the modules of the initramfs: {} problem(s)\n{findings}", findings.0.len())]
    Modules {
        /// One line each.
        findings: Findings,
    },
    /// `/init` would ask for a loader, and the initramfs has none.
    #[error(
        "{} is not a static program: /init is alone in the initramfs; build it for \
         x86_64-unknown-linux-musl",
        path.display()
    )]
    NotStatic {
        /// The program.
        path: PathBuf,
    },
    /// It does not compress.
    #[error("compressing the initramfs")]
    Compress(#[source] io::Error),
    /// It got too big.
    #[error(
        "the initramfs has {:.2} MB, {:.2} MB more than its budget; the biggest of what is in it \
         (not compressed):\n{biggest}take modules out of rootfs/initramfs.modules",
        megabytes(*size_bytes), megabytes(size_bytes - budget_bytes)
    )]
    TooBig {
        /// Its size.
        size_bytes: u64,
        /// What it may have.
        budget_bytes: u64,
        /// Lines of sizes, paths and reasons.
        biggest: String,
    },
}

/// Empty directories, for `/init` to mount on.
const DIRS: [&str; 6] = ["dev", "proc", "run", "sys", "sysroot", "usr"];
/// So that programs of the verified /usr, once it is mounted, find each other, their loader and
/// their configuration (mkfs.ext4 has other defaults without its own).
const LINKS: [(&str, &str); 5] = [
    ("bin", "usr/bin"),
    ("etc", "usr/share/pithos/etc"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
];

/// Makes an initramfs.
pub fn build(request: &Request<'_>) -> Result<Initramfs, Error> {
    let texts = read_index(request.modules)?;
    let chosen = choose(request.list, &Index::parse(&texts), request.flavor)
        .map_err(|wrong| Error::Modules { findings: Findings(wrong) })?;
    let mut cpio = Cpio::default();
    DIRS.iter().for_each(|dir| cpio.dir(dir));
    LINKS.iter().for_each(|(link, target)| cpio.link(link, target));
    cpio.file("init", read_init(request.init)?, 0o755);
    let mut modules = vec![];
    for (name, (path, why)) in &chosen {
        let bytes = read(&request.modules.join(path))?;
        let (size_bytes, archived) = (bytes.len() as u64, format!("modules/{path}"));
        cpio.file(&archived, bytes, 0o644);
        modules.push(Module { name: name.clone(), path: archived, size_bytes, why: why.clone() });
    }
    put_index(&mut cpio, &texts, &chosen);

    let archive = cpio.bytes();
    let bytes = compress(&archive).map_err(Error::Compress)?;
    let (size_bytes, budget_bytes) = (bytes.len() as u64, request.budget_bytes);
    if size_bytes > budget_bytes {
        let biggest = biggest(&cpio, &modules);
        return Err(Error::TooBig { size_bytes, budget_bytes, biggest });
    }
    Ok(Initramfs { bytes, unpacked_bytes: archive.len() as u64, modules })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

fn read_init(path: &Path) -> Result<Vec<u8>, Error> {
    let needs =
        crate::tree::needs(path).map_err(|source| Error::Read { path: path.into(), source })?;
    if needs.is_some_and(|needs| !needs.interpreters.is_empty()) {
        return Err(Error::NotStatic { path: path.into() });
    }
    read(path)
}

fn read_index(modules: &Path) -> Result<IndexTexts, Error> {
    let text = |name: &str| -> Result<String, Error> {
        let bytes = read(&modules.join(name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(IndexTexts {
        dep: text("modules.dep")?,
        softdep: text("modules.softdep")?,
        alias: text("modules.alias")?,
        builtin: text("modules.builtin")?,
    })
}

fn put_index(cpio: &mut Cpio, texts: &IndexTexts, chosen: &Chosen) {
    let IndexTexts { dep, softdep, alias, builtin } = filter(texts, chosen);
    for (name, text) in [("dep", dep), ("softdep", softdep), ("alias", alias), ("builtin", builtin)]
    {
        cpio.file(&format!("modules/modules.{name}"), text.into_bytes(), 0o644);
    }
}

/// Level 19 would save a twentieth and take ten times as long, at every change of `/init`.
const LEVEL: i32 = 12;

/// One zstd frame by one thread: with several, the bytes depend on how many there are. The
/// kernel unpacks a window of up to 128 MiB, but needs that much memory for it; 8 MiB leave a
/// machine of 512 MiB alone.
fn compress(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::WindowLog(23))?;
    compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
    // The kernel checks it: a damaged initramfs is said to be one, not run.
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    compressor.compress(archive)
}

fn biggest(cpio: &Cpio, modules: &[Module]) -> String {
    let mut sizes: Vec<(&str, usize)> = cpio.sizes().collect();
    sizes.sort_by_key(|(path, size)| (std::cmp::Reverse(*size), *path));
    let why = |path: &str| modules.iter().find(|module| module.path == path);
    let lines = sizes.iter().take(20).map(|(path, size)| {
        let why = why(path).map_or("", |module| &module.why);
        format!("{:>7.2} MB /{path} ({why})\n", megabytes(*size as u64))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay_out(dir: &Path) -> ModuleList {
        let modules = dir.join("modules");
        fs::create_dir_all(modules.join("kernel")).unwrap();
        fs::write(dir.join("init"), "static").unwrap();
        fs::write(modules.join("kernel/a.ko"), vec![b'a'; 5000]).unwrap();
        fs::write(modules.join("modules.dep"), "kernel/a.ko:\n").unwrap();
        for name in ["softdep", "alias", "builtin"] {
            fs::write(modules.join(format!("modules.{name}")), "").unwrap();
        }
        fs::write(dir.join("list"), "a disks\n").unwrap();
        ModuleList::load(&dir.join("list")).unwrap()
    }

    fn request<'a>(dir: &'a Path, paths: &'a [PathBuf; 2], list: &'a ModuleList) -> Request<'a> {
        let _ = dir;
        Request { init: &paths[0], modules: &paths[1], list, flavor: "cloud", budget_bytes: 6000 }
    }

    #[test]
    fn it_unpacks_to_init_and_the_modules() {
        let dir = tempfile::tempdir().unwrap();
        let (list, paths) =
            (lay_out(dir.path()), [dir.path().join("init"), dir.path().join("modules")]);
        let made = build(&request(dir.path(), &paths, &list)).unwrap();
        let archive = zstd::decode_all(&made.bytes[..]).unwrap();
        assert_eq!(archive.len() as u64, made.unpacked_bytes);
        let text = String::from_utf8_lossy(&archive);
        for path in ["\0init\0", "modules/kernel/a.ko\0", "modules/modules.softdep\0", "sysroot\0"]
        {
            let path = path.trim_start_matches('\0');
            assert!(text.contains(path), "{path}");
        }
        assert_eq!(made.modules[0].why, "disks");
        assert_eq!(made, build(&request(dir.path(), &paths, &list)).unwrap());
    }

    #[test]
    fn one_that_is_too_big_says_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (list, paths) =
            (lay_out(dir.path()), [dir.path().join("init"), dir.path().join("modules")]);
        let request = Request { budget_bytes: 10, ..request(dir.path(), &paths, &list) };
        let said = build(&request).unwrap_err().to_string();
        assert!(said.contains("   0.01 MB /modules/kernel/a.ko (disks)\n"), "{said}");
    }

    #[test]
    fn an_init_that_needs_a_loader_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let list = lay_out(dir.path());
        let paths = [std::env::current_exe().unwrap(), dir.path().join("modules")];
        let said = build(&request(dir.path(), &paths, &list)).unwrap_err().to_string();
        assert!(said.contains("not a static program"), "{said}");
    }
}
