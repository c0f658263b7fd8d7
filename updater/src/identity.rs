//! What this machine is, as far as updates want to know: what it runs, which wave it is in, and whom
//! it believes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use layout::{RootHash, Version, cmdline};
use payload::Variant;
use sha2::{Digest, Sha256};

/// Of the image: whom it believes, and what it does not go back behind.
const FOLDER: &str = "usr/share/pithos/update";

/// What this machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The version that it runs.
    pub version: Version,
    /// What that was made for.
    pub variant: Variant,
    /// Of its `/usr`.
    pub root_hash: RootHash,
    /// Its place in waves follows from it.
    pub seed: [u8; 16],
    /// Of the image: never behind that.
    pub security_epoch: u32,
    /// When the image was built: it is not earlier than that.
    pub built: Timestamp,
    /// Who may say what is new. Without it, nobody.
    pub root: Option<Vec<u8>>,
}

/// Why a machine is not known.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// A file.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in it.
    #[error("{}: {problem}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Identity {
    /// Reads what the files below `root` say: `/`, but in tests.
    pub fn read(root: &Path) -> Result<Self, Unknown> {
        let at = |path: &str| root.join(path);
        let os_release = at("usr/lib/os-release");
        let text = read(&os_release)?;
        let built = fs::metadata(&os_release).and_then(|file| file.modified());
        let built = built.map_err(|source| Unknown::Read { path: os_release.clone(), source })?;
        let value = |key: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            found.map(|value| value.trim_matches('"').to_owned()).ok_or_else(|| Unknown::Wrong {
                path: os_release.clone(),
                problem: format!("{key} is missing"),
            })
        };
        let wrong = |path: &Path, problem: String| Unknown::Wrong { path: path.into(), problem };
        let version = value("IMAGE_VERSION")?;
        let version = version
            .parse()
            .map_err(|error: layout::version::NotAVersion| wrong(&os_release, error.to_string()))?;
        let command_line = at("proc/cmdline");
        let words = read(&command_line)?;
        let usrhash = cmdline::values(&words, cmdline::USRHASH).first().map(|hash| hash.parse());
        let root_hash = usrhash.and_then(Result::ok).ok_or_else(|| {
            wrong(&command_line, "no usrhash= in it: the machine does not run an image".to_owned())
        })?;
        let machine_id = read(&at("etc/machine-id"))?;
        // Not the id itself: that is nobody's business.
        let digest = Sha256::digest(format!("pithos update wave {}", machine_id.trim()));
        let epoch = at(FOLDER).join("security-epoch");
        let security_epoch = match optional(&epoch)? {
            None => 0,
            Some(bytes) => String::from_utf8_lossy(&bytes)
                .trim()
                .parse()
                .map_err(|_| wrong(&epoch, "expected a number".to_owned()))?,
        };
        Ok(Self {
            version,
            variant: Variant {
                flavor: value("VARIANT_ID")?,
                architecture: std::env::consts::ARCH.to_owned(),
            },
            root_hash,
            seed: digest[..16].try_into().expect("32 bytes have 16"),
            security_epoch,
            built: Timestamp::try_from(built).unwrap_or(Timestamp::UNIX_EPOCH),
            root: optional(&at(FOLDER).join("root.json"))?,
        })
    }
}

fn read(path: &Path) -> Result<String, Unknown> {
    fs::read_to_string(path).map_err(|source| Unknown::Read { path: path.into(), source })
}

fn optional(path: &Path) -> Result<Option<Vec<u8>>, Unknown> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Unknown::Read { path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cmdline: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("usr/lib/os-release", "ID=pithos\nVARIANT_ID=cloud\nIMAGE_VERSION=0.1.0-2026\n"),
            ("proc/cmdline", cmdline),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("usr/share/pithos/update/security-epoch", "3\n"),
        ];
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_machine_is_what_its_files_say() {
        let root = machine(&format!("quiet usrhash={}", "ab".repeat(32)));
        let identity = Identity::read(root.path()).unwrap();
        assert_eq!(identity.version.as_str(), "0.1.0-2026");
        assert_eq!(identity.variant.flavor, "cloud");
        assert_eq!((identity.security_epoch, identity.root), (3, None));
    }

    #[test]
    fn a_machine_without_an_image_is_told_so() {
        let error = Identity::read(machine("quiet").path()).unwrap_err().to_string();
        assert!(error.ends_with("no usrhash= in it: the machine does not run an image"), "{error}");
    }
}
