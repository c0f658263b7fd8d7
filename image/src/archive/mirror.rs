//! Which mirror. None is named in this repository: it is the one that was asked for, else the one
//! that the host's own apt uses (on a Debian host), else the default that mkosi comes with.

use std::{fs, path::Path, process::Command};

use super::Error;
use crate::lock::Package;

/// What was asked for by options.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The address of Debian's archive.
    pub debian: Option<String>,
    /// The address of its security archive.
    pub security: Option<String>,
}

/// The addresses of the archives, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrors {
    /// Debian's archive.
    pub debian: String,
    /// Its security archive.
    pub security: String,
}

/// A mirror that keeps old versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(String);

impl Mirrors {
    /// Where a file of the lock is on these mirrors.
    pub fn url(&self, file: &str) -> Option<String> {
        let (archive, rest) = file.split_once('/')?;
        match archive {
            "debian" => Some(format!("{}/{rest}", self.debian)),
            "debian-security" => Some(format!("{}/{rest}", self.security)),
            _ => None,
        }
    }

    /// The other way round: the place below its archive of something at `url`.
    pub fn file(&self, url: &str) -> Option<String> {
        let under = |base: &str| url.strip_prefix(base)?.strip_prefix('/').map(str::to_owned);
        // The longer address first: one may be the beginning of the other.
        under(&self.security)
            .map(|rest| format!("debian-security/{rest}"))
            .or_else(|| under(&self.debian).map(|rest| format!("debian/{rest}")))
    }
}

impl Snapshot {
    /// A template: `{archive}` stands for `debian` or `debian-security`, `{time}` for the date of
    /// the lock. Without `{archive}` both are folders below the address.
    pub fn new(template: &str) -> Result<Self, Error> {
        Ok(Self(address(template)?))
    }

    /// Where it has a package that was locked at `resolved`.
    pub fn url(&self, package: &Package, resolved: &str) -> Option<String> {
        let (archive, rest) = package.file.split_once('/')?;
        let base = self.0.replace("{time}", resolved);
        if base.contains("{archive}") {
            Some(format!("{}/{rest}", base.replace("{archive}", archive)))
        } else {
            Some(format!("{base}/{archive}/{rest}"))
        }
    }
}

impl Wanted {
    /// The mirrors to use.
    pub fn find(&self) -> Result<Mirrors, Error> {
        if let Some(debian) = &self.debian {
            let debian = address(debian)?;
            let security = match &self.security {
                Some(security) => address(security)?,
                None => sibling(&debian),
            };
            return Ok(Mirrors { debian, security });
        }
        let host = of_host();
        let found = match host {
            Partial { debian: Some(_), security: Some(_) } => host,
            some => some.or(of_mkosi()),
        };
        let debian = found.debian.ok_or(Error::NoMirror)?;
        let security = match &self.security {
            Some(security) => address(security)?,
            None => found.security.unwrap_or_else(|| sibling(&debian)),
        };
        Ok(Mirrors { debian, security })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Partial {
    debian: Option<String>,
    security: Option<String>,
}

impl Partial {
    fn or(self, other: Self) -> Self {
        Self { debian: self.debian.or(other.debian), security: self.security.or(other.security) }
    }
}

fn address(text: &str) -> Result<String, Error> {
    let known = ["http://", "https://", "file:/"].iter().any(|scheme| text.starts_with(scheme));
    let plain = text.chars().all(|c| c.is_ascii_graphic() && !"'\"<>\\".contains(c));
    if known && plain {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(Error::NotAMirror(text.to_owned()))
    }
}

/// A mirror of Debian has its security archive beside it, if it has it; below it, where it is all
/// that its host has.
fn sibling(debian: &str) -> String {
    let parent = debian.rsplit_once('/').map(|(parent, _)| parent);
    let parent = parent.filter(|parent| !parent.ends_with(":/")).unwrap_or(debian);
    format!("{parent}/debian-security")
}

/// The mirrors of the host's apt, if it is a Debian host.
fn of_host() -> Partial {
    let format = "$(REPO_URI) $(RELEASE) $(ORIGIN)";
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages"])
        .env("LC_ALL", "C.UTF-8")
        .output();
    let Ok(output) = output else { return Partial::default() };
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian = release.lines().any(|line| matches!(line, "ID=debian" | "ID=\"debian\""));
    let found = from_indextargets(&String::from_utf8_lossy(&output.stdout), debian);
    Partial {
        debian: found.debian.and_then(|url| first_of_list(&url)),
        security: found.security.and_then(|url| first_of_list(&url)),
    }
}

/// Takes the mirrors from lines of `ADDRESS RELEASE ORIGIN`. A host that never ran `apt update`
/// does not know the origin yet; on Debian it is Debian.
fn from_indextargets(text: &str, host_is_debian: bool) -> Partial {
    let mut found = Partial::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (url, release) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let ours = match words.next().unwrap_or("") {
            "Debian" => true,
            "" => host_is_debian,
            _ => false,
        };
        let Some((scheme, _)) = url.split_once(':') else { continue };
        if !ours || !matches!(scheme, "http" | "https" | "file" | "mirror+file") {
            continue;
        }
        let kind = if release.contains("-security") || release.contains("/updates") {
            &mut found.security
        } else {
            &mut found.debian
        };
        kind.get_or_insert_with(|| url.trim_end_matches('/').to_owned());
    }
    found
}

/// Cloud images keep their mirrors in a file that apt's source names: its first line will do.
fn first_of_list(url: &str) -> Option<String> {
    let Some(list) = url.strip_prefix("mirror+file:") else { return Some(url.to_owned()) };
    let text = fs::read_to_string(list).ok()?;
    let mut words = text.lines().filter_map(|line| line.split_whitespace().next());
    words.find(|word| word.starts_with("http")).map(|word| word.trim_end_matches('/').to_owned())
}

/// The default of mkosi: the installed one, else the one that the host's own archive has.
fn of_mkosi() -> Partial {
    let found = in_source(Path::new("/usr/lib/python3/dist-packages/mkosi"));
    if found != Partial::default() {
        return found;
    }
    let Ok(folder) = tempfile::tempdir() else { return found };
    let download = Command::new("apt-get")
        .args(["download", "-qq", "mkosi"])
        .args(["-o", "APT::Sandbox::User=root"])
        .current_dir(folder.path())
        .output();
    let deb = fs::read_dir(folder.path())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let (Ok(_), Some(deb)) = (download, deb) else { return found };
    let unpacked = folder.path().join("mkosi");
    let _ = Command::new("dpkg-deb").arg("-x").arg(deb).arg(&unpacked).output();
    in_source(&unpacked.join("usr/lib/python3/dist-packages/mkosi"))
}

/// Its description of Debian is in a file of its own; in old versions, with everything else.
fn in_source(mkosi: &Path) -> Partial {
    let files = ["distributions/debian.py", "distribution/debian.py", "__init__.py"];
    let source = files.iter().find_map(|file| fs::read_to_string(mkosi.join(file)).ok());
    source.map(|source| from_mkosi(&source)).unwrap_or_default()
}

/// The addresses in mkosi's description of Debian.
fn from_mkosi(source: &str) -> Partial {
    let quoted = || source.split('"').filter(|text| text.starts_with("http"));
    let ending = |end: &str| quoted().find(|url| url.ends_with(end)).map(str::to_owned);
    Partial { debian: ending("/debian"), security: ending("/debian-security") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(debian: &str, security: &str) -> Partial {
        Partial { debian: Some(debian.to_owned()), security: Some(security.to_owned()) }
    }

    #[test]
    fn a_debian_host_gives_its_mirrors() {
        let targets = "http://m.example/debian/ bookworm Debian\n\
                       http://m.example/debian/ bookworm-updates Debian\n\
                       http://s.example/debian-security/ bookworm-security Debian\n";
        let found = some("http://m.example/debian", "http://s.example/debian-security");
        assert_eq!(from_indextargets(targets, true), found);
    }

    #[test]
    fn a_host_of_another_distribution_gives_none() {
        let targets =
            "http://u.example/ubuntu/ noble Ubuntu\nhttp://d.example/linux/ noble Docker\n";
        assert_eq!(from_indextargets(targets, false), Partial::default());
    }

    #[test]
    fn a_debian_host_that_never_updated_still_gives_its_mirror() {
        let targets = "http://m.example/debian/ trixie \ncdrom:[Debian] trixie \n";
        let found = from_indextargets(targets, true);
        assert_eq!(found.debian.as_deref(), Some("http://m.example/debian"));
        assert_eq!(from_indextargets(targets, false), Partial::default());
    }

    #[test]
    fn the_default_of_mkosi_is_read_from_its_source() {
        let source = r#"mirror = context.config.mirror or "http://m.example/debian"
            url = "http://m.example/debian-debug"
            url="http://s.example/debian-security","#;
        let found = some("http://m.example/debian", "http://s.example/debian-security");
        assert_eq!(from_mkosi(source), found);
    }

    #[test]
    fn the_security_archive_is_beside_that_of_debian_on_the_same_host() {
        let pairs = [
            ("http://m.example/debian", "http://m.example/debian-security"),
            ("https://m.example/mirrors/debian", "https://m.example/mirrors/debian-security"),
            ("http://m.example:8080", "http://m.example:8080/debian-security"),
            ("file:/srv/debian", "file:/srv/debian-security"),
        ];
        for (debian, security) in pairs {
            assert_eq!(sibling(debian), security);
        }
    }

    #[test]
    fn a_file_is_found_below_its_archive() {
        let mirrors = Mirrors {
            debian: "http://m.example/debian".to_owned(),
            security: "http://m.example/debian-security".to_owned(),
        };
        let url = "http://m.example/debian-security/pool/updates/a.deb";
        assert_eq!(mirrors.file(url).unwrap(), "debian-security/pool/updates/a.deb");
        assert_eq!(mirrors.url("debian-security/pool/updates/a.deb").unwrap(), url);
        assert_eq!(mirrors.url("elsewhere/pool/a.deb"), None);
    }

    #[test]
    fn a_snapshot_mirror_is_asked_for_the_time_of_the_lock() {
        let package = Package {
            name: "a".to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            sha256: "0".repeat(64),
            size_bytes: 1,
            file: "debian/pool/a.deb".to_owned(),
        };
        let url = |template: &str| {
            Snapshot::new(template).unwrap().url(&package, "20261121T081653Z").unwrap()
        };
        assert_eq!(
            url("https://s.example/archive/{archive}/{time}/"),
            "https://s.example/archive/debian/20261121T081653Z/pool/a.deb"
        );
        assert_eq!(url("file:/srv/old"), "file:/srv/old/debian/pool/a.deb");
        assert!(Snapshot::new("s.example").is_err());
    }
}
