//! Where the build puts what a machine is made of.
//!
//! ```text
//! build/bin/       qemu-system-x86_64, qemu-img, ...   programs of the tools tree
//! build/firmware/  OVMF_CODE*.fd, OVMF_VARS.fd         UEFI
//! build/image/     manifest.json, pithos-VERSION.raw   the newest image
//! build/run/NAME/  everything of the machine NAME
//! ```

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{Doing, Error},
    manifest::Manifest,
};

/// The build folder.
#[derive(Clone, Debug)]
pub struct Artifacts {
    root: PathBuf,
}

impl Artifacts {
    /// The build folder at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `$PITHOS_BUILD`, else `build` of the repository that we are in.
    pub fn find() -> Result<Self, Error> {
        if let Some(root) = env::var_os("PITHOS_BUILD") {
            return Ok(Self::at(root));
        }
        let here = env::current_dir().doing(|| "finding the current folder".into())?;
        let found = here.ancestors().find(|folder| {
            folder.join("pith").is_file() && folder.join("rust-toolchain.toml").is_file()
        });
        match found {
            Some(repository) => Ok(Self::at(repository.join("build"))),
            None => Err(Error::Missing {
                what: "repository of PithOS",
                path: here,
                remedy: "go into it, or name its build folder in PITHOS_BUILD".into(),
            }),
        }
    }

    /// A program of the tools tree.
    pub fn program(&self, name: &str) -> Result<PathBuf, Error> {
        present("program", self.root.join("bin").join(name))
    }

    /// The firmware itself, which is only read.
    pub fn firmware_code(&self) -> Result<PathBuf, Error> {
        present("UEFI firmware", self.root.join("firmware/OVMF_CODE.fd"))
    }

    /// The same with Secure Boot, which wants a processor with system management mode.
    pub fn firmware_code_secure(&self) -> Result<PathBuf, Error> {
        present("UEFI firmware", self.root.join("firmware/OVMF_CODE.secboot.fd"))
    }

    /// Empty firmware variables, to be copied for each machine.
    pub fn firmware_variables(&self) -> Result<PathBuf, Error> {
        present("UEFI variables", self.root.join("firmware/OVMF_VARS.fd"))
    }

    /// The folder of a machine.
    pub fn machine(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// An image that was built under a name of its own: `image build --name`.
    pub fn image_named(&self, name: &str) -> Result<Image, Error> {
        Image::open(&self.root.join(name))
    }

    /// The build folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The newest image.
    pub fn image(&self) -> Result<Image, Error> {
        Image::open(&self.root.join("image"))
    }
}

/// A disk image to boot.
#[derive(Clone, Debug)]
pub struct Image {
    /// The raw file.
    pub raw: PathBuf,
    /// What the build says about it. None: a file from elsewhere.
    pub manifest: Option<Manifest>,
}

impl Image {
    /// A folder with a manifest, or a raw file (with a manifest beside it, if it is of that).
    pub fn open(path: &Path) -> Result<Self, Error> {
        // The newest image is a link that the next build points elsewhere: resolved once.
        let real = fs::canonicalize(path).map_err(|_| missing("image", path.to_owned()))?;
        let (folder, file) = match real.is_dir() {
            true => (real.clone(), None),
            false => (real.parent().unwrap_or(&real).to_owned(), Some(real.clone())),
        };
        let manifest = match folder.join("manifest.json") {
            path if path.exists() => Some(Manifest::read(&path)?),
            path if file.is_none() => return Err(missing("manifest", path)),
            _ => None,
        };
        match (file, manifest) {
            (None, Some(manifest)) => {
                let raw = folder.join(manifest.raw_file()?);
                Ok(Self { raw: present("disk image", raw)?, manifest: Some(manifest) })
            }
            (Some(raw), manifest) => {
                let of_this = |manifest: &Manifest| {
                    manifest.raw_file().is_ok_and(|name| raw.file_name() == Some(name.as_ref()))
                };
                Ok(Self { manifest: manifest.filter(of_this), raw })
            }
            (None, None) => Err(missing("manifest", folder.join("manifest.json"))),
        }
    }

    /// How many bytes the disk has.
    pub fn size_bytes(&self) -> Result<u64, Error> {
        let file = fs::metadata(&self.raw).doing(|| format!("opening {}", self.raw.display()))?;
        Ok(file.len())
    }
}

fn present(what: &'static str, path: PathBuf) -> Result<PathBuf, Error> {
    if path.exists() { Ok(path) } else { Err(missing(what, path)) }
}

fn missing(what: &'static str, path: PathBuf) -> Error {
    Error::Missing { what, path, remedy: "`./pith image` makes it".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    const MANIFEST: &str = include_str!("../tests/manifest-format-1.json");

    #[test]
    fn the_image_is_the_raw_file_that_the_manifest_names() {
        let build = tempfile::tempdir().expect("a folder");
        let folder = build.path().join("image");
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("manifest.json"), MANIFEST).expect("a file");
        let raw = folder.join("pithos-0.1.0-202611210930.raw");
        let artifacts = Artifacts::at(build.path());

        let error = chain(&artifacts.image().expect_err("no raw file yet"));
        assert!(error.contains("pithos-0.1.0-202611210930.raw"), "{error}");
        fs::write(&raw, "disk").expect("a file");
        let image = artifacts.image().expect("an image");
        assert_eq!(image.raw, fs::canonicalize(&raw).expect("a path"));
        assert_eq!(image.manifest.expect("a manifest").version, "0.1.0-202611210930");

        let by_name = Image::open(&raw).expect("an image");
        assert!(by_name.manifest.is_some());
        let other = folder.join("other.raw");
        fs::write(&other, "disk").expect("a file");
        assert!(Image::open(&other).expect("an image").manifest.is_none());
    }

    #[test]
    fn what_is_not_built_yet_says_how_to_build_it() {
        let artifacts = Artifacts::at("/nowhere");
        for error in [
            artifacts.image().map(|_| ()).expect_err("nothing there"),
            artifacts.program("qemu-img").map(|_| ()).expect_err("nothing there"),
            artifacts.firmware_code().map(|_| ()).expect_err("nothing there"),
        ] {
            assert!(error.to_string().contains("./pith image"), "{error}");
        }
    }
}
