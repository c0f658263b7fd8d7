//! The unified kernel image: kernel, initramfs, command line and os-release in one EFI program.
//!
//! ukify (257) puts sections behind systemd's stub. It writes no time of its own: TimeDateStamp is
//! the stub's, CheckSum is zero, sections are in a fixed order, so equal input gives equal bytes.
//! What it wrote is read back and compared with what it was given.

pub mod pe;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::manifest::Section;

pub use pe::Pe;

/// What a UKI may have.
pub const BUDGET_BYTES: u64 = 20_000_000;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The program: `build/bin/ukify`.
    pub ukify: &'a Path,
    /// systemd's stub, `linuxx64.efi.stub` of the tools tree.
    pub stub: &'a Path,
    /// The kernel.
    pub linux: &'a Path,
    /// The kernel's release.
    pub uname: &'a str,
    /// The initramfs.
    pub initrd: &'a Path,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// `os-release` of the image.
    pub os_release: &'a Path,
    /// The one time of the build, in seconds since 1970.
    pub epoch: u64,
    /// What it may have: [`BUDGET_BYTES`] for an image.
    pub budget_bytes: u64,
    /// Where it goes.
    pub out: &'a Path,
}

/// A UKI.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// Its size.
    pub size_bytes: u64,
    /// Its hash.
    pub sha256: String,
    /// What is in it.
    pub sections: Vec<Section>,
}

/// Why there is no UKI.
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
    /// ukify did not.
    #[error("{} build {how}: {said}", program.display())]
    Ukify {
        /// The program.
        program: PathBuf,
        /// How it ended.
        how: String,
        /// What it said.
        said: String,
    },
    /// ukify made something that is no program.
    #[error("ukify made {}, which is no UKI", path.display())]
    Broken {
        /// What it made.
        path: PathBuf,
        /// Why not.
        source: pe::Error,
    },
    /// ukify put in something else than it was given.
    #[error(
        "the UKI's section {section} is not what ukify was given ({} bytes): this ukify treats it \
         in a way that we do not know",
        expected_bytes
    )]
    Changed {
        /// The section.
        section: &'static str,
        /// Size of what it was given.
        expected_bytes: usize,
    },
    /// It got too big.
    #[error(
        "the UKI has {:.1} MB, and may have {:.1} MB: kernel {:.1} MB, initramfs {:.1} MB. Take \
         modules out of the initramfs (rootfs/initramfs.modules)",
        *size_bytes as f64 / 1e6, *budget_bytes as f64 / 1e6, *linux_bytes as f64 / 1e6,
        *initrd_bytes as f64 / 1e6
    )]
    TooBig {
        /// Its size.
        size_bytes: u64,
        /// What it may have.
        budget_bytes: u64,
        /// The kernel's part.
        linux_bytes: u64,
        /// The initramfs's part.
        initrd_bytes: u64,
    },
}

/// Makes a UKI.
pub fn make(request: &Request<'_>) -> Result<Made, Error> {
    let given = Given::read(request)?;
    run(request)?;
    let made = read("reading", request.out)?;
    let pe = Pe::parse(&made)
        .map_err(|source| Error::Broken { path: request.out.to_owned(), source })?;
    given.is_in(&pe, request)?;
    let size_bytes = made.len() as u64;
    if size_bytes > request.budget_bytes {
        return Err(Error::TooBig {
            size_bytes,
            budget_bytes: request.budget_bytes,
            linux_bytes: given.linux.len() as u64,
            initrd_bytes: given.initrd.len() as u64,
        });
    }
    Ok(Made { size_bytes, sha256: hex::encode(Sha256::digest(&made)), sections: pe.describe() })
}

fn run(request: &Request<'_>) -> Result<(), Error> {
    let option = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        let mut option = std::ffi::OsString::from(name);
        option.push(value.as_ref());
        option
    };
    let mut ukify = Command::new(request.ukify);
    ukify.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    ukify.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("HOME", "/nonexistent");
    // 257 does not read it; a later one may.
    ukify.env("SOURCE_DATE_EPOCH", request.epoch.to_string());
    ukify.arg("build");
    ukify.arg(option("--linux=", &request.linux)).arg(option("--initrd=", &request.initrd));
    ukify.arg(option("--stub=", &request.stub)).arg(option("--output=", &request.out));
    ukify.arg(option("--os-release=@", &request.os_release));
    // Text, not a file: what is in the UKI is what the manifest says, without a newline.
    ukify.arg(format!("--cmdline={}", request.cmdline));
    // Else it is guessed from the kernel.
    ukify.arg(format!("--uname={}", request.uname)).arg("--efi-arch=x64");
    let failed = |how: String, said: &[u8]| Error::Ukify {
        program: request.ukify.to_owned(),
        how,
        said: last_words(&String::from_utf8_lossy(said)),
    };
    match ukify.output() {
        Err(error) => Err(failed(format!("cannot be started: {error}"), b"")),
        Ok(output) if !output.status.success() => {
            Err(failed(format!("failed ({})", output.status), &output.stderr))
        }
        Ok(_) => Ok(()),
    }
}

/// What a Python program died of: the end of its traceback, or all that it said.
fn last_words(said: &str) -> String {
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if said.contains("Traceback") { last } else { said.trim_end() }.to_owned()
}

/// What ukify gets, to be found again in what it makes.
struct Given {
    linux: Vec<u8>,
    initrd: Vec<u8>,
    os_release: Vec<u8>,
}

impl Given {
    fn read(request: &Request<'_>) -> Result<Self, Error> {
        Ok(Self {
            linux: read("reading the kernel", request.linux)?,
            initrd: read("reading the initramfs", request.initrd)?,
            os_release: read("reading", request.os_release)?,
        })
    }

    fn is_in(&self, pe: &Pe<'_>, request: &Request<'_>) -> Result<(), Error> {
        let sections: [(&'static str, &[u8]); 5] = [
            (".linux", &self.linux),
            (".initrd", &self.initrd),
            (".osrel", &self.os_release),
            (".cmdline", request.cmdline.as_bytes()),
            (".uname", request.uname.as_bytes()),
        ];
        for (section, expected) in sections {
            let found = pe.section(section).unwrap_or_default();
            // ukify rounds the size of some sections up, with zeros.
            let same = found.starts_with(expected)
                && found[expected.len()..].iter().all(|byte| *byte == 0);
            if !same {
                return Err(Error::Changed { section, expected_bytes: expected.len() });
            }
        }
        Ok(())
    }
}

fn read(doing: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Io { doing, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{pe::tests::program, *};

    /// Runs `make` with a ukify that copies a ready program.
    fn made(program: &[u8], budget_bytes: u64) -> Result<Made, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, content) in
            [("linux", &b"LINUX"[..]), ("initrd", b"INITRD"), ("osrel", b"ID=x\n"), ("it", program)]
        {
            fs::write(path(name), content).unwrap();
        }
        let script = format!("#!/bin/sh\ncp {0}/it {0}/out\n", folder.path().display());
        fs::write(path("ukify"), script).unwrap();
        fs::set_permissions(path("ukify"), fs::Permissions::from_mode(0o755)).unwrap();
        make(&Request {
            ukify: &path("ukify"),
            stub: &path("stub"),
            linux: &path("linux"),
            uname: "6.12",
            initrd: &path("initrd"),
            cmdline: "rw",
            os_release: &path("osrel"),
            epoch: 1,
            budget_bytes,
            out: &path("out"),
        })
    }

    fn good() -> Vec<u8> {
        program(&[
            (".osrel", b"ID=x\n"),
            (".cmdline", b"rw"),
            (".uname", b"6.12"),
            (".linux", b"LINUX\0\0\0"),
            (".initrd", b"INITRD"),
        ])
    }

    #[test]
    fn what_was_asked_for_is_in_it() {
        let made = made(&good(), BUDGET_BYTES).unwrap();
        assert_eq!(made.sections.len(), 5);
        assert_eq!(made.size_bytes, good().len() as u64);
    }

    #[test]
    fn a_ukify_that_changes_a_section_is_caught() {
        let other = program(&[(".osrel", b"ID=x\n"), (".linux", b"LINUX"), (".initrd", b"OTHER")]);
        let said = made(&other, BUDGET_BYTES).unwrap_err().to_string();
        assert!(said.starts_with("the UKI's section .initrd is not what"), "{said}");
    }

    #[test]
    fn a_ukify_that_dies_says_what_of_and_not_where_in_its_code() {
        let said =
            "Traceback (most recent call last):\n  File \"ukify\", line 1\nOSError: full\n\n";
        assert_eq!(last_words(said), "OSError: full");
        assert_eq!(last_words("ukify: error: no such option\n"), "ukify: error: no such option");
    }

    #[test]
    fn a_uki_over_its_budget_says_what_takes_the_room() {
        let said = made(&good(), 100).unwrap_err().to_string();
        assert_eq!(
            said,
            "the UKI has 0.0 MB, and may have 0.0 MB: kernel 0.0 MB, initramfs 0.0 MB. Take \
             modules out of the initramfs (rootfs/initramfs.modules)"
        );
    }
}
