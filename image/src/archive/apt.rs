//! A private apt: its own sources, lists and state, so that the host's packages, pins and
//! repositories have no say in what is resolved. What the host's apt knows of the network (proxies,
//! credentials, how dates are checked) it keeps.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{Error, Mirrors};
use crate::lock::Package;

const RELEASE: &str = "trixie";
const ARCHITECTURE: &str = "amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with fresh lists of a mirror.
#[derive(Debug)]
pub struct Apt {
    root: PathBuf,
    mirrors: Mirrors,
}

impl Apt {
    /// Sets it up below `root` and fetches the lists, which Debian's keys must have signed.
    pub fn update(root: &Path, mirrors: Mirrors) -> Result<Self, Error> {
        if !Path::new(KEYRING).exists() {
            return Err(Error::NoKeyring(KEYRING.into()));
        }
        let apt = Self { root: root.to_owned(), mirrors };
        apt.set_up()?;
        let words =
            ["-qq", "-o", "Acquire::Retries=2", "-o", "APT::Update::Error-Mode=any", "update"];
        match apt.run("updating the list of packages", &words) {
            Ok(_) => Ok(apt),
            Err(Error::Apt { said, .. }) => Err(Error::NoList { mirror: apt.mirrors.debian, said }),
            Err(other) => Err(other),
        }
    }

    /// What installing `names` into an empty system brings, the essential packages included.
    pub fn resolve(&self, names: &[String]) -> Result<Vec<Package>, Error> {
        let mut words = vec!["install", "--print-uris", "-qq", "-y", "--no-install-recommends"];
        words.extend(["-o", "Acquire::ForceHash=SHA256", "?essential", "base-files"]);
        words.extend(names.iter().map(String::as_str));
        let said = self.run("resolving packages", &words)?;
        self.packages(&said)
    }

    /// One package alone, without what it depends on.
    pub fn single(&self, name: &str) -> Result<Package, Error> {
        let words = ["download", "--print-uris", "-qq", "-o", "Acquire::ForceHash=SHA256", name];
        let said = self.run("resolving packages", &words)?;
        let found = self.packages(&said)?.pop();
        found.ok_or_else(|| Error::Apt { doing: format!("looking for {name}"), said })
    }

    /// The date of the newest index, such as `20261121T081653Z`.
    pub fn date(&self) -> Result<String, Error> {
        let lists = self.root.join("lists");
        let mut newest = None;
        for entry in fs::read_dir(&lists).map_err(Error::io("reading", &lists))?.flatten() {
            if entry.file_name().to_string_lossy().ends_with("InRelease") {
                let path = entry.path();
                let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
                let date = text.lines().find_map(|line| compact(line.strip_prefix("Date: ")?));
                newest = newest.max(date);
            }
        }
        newest.ok_or_else(|| Error::Apt {
            doing: "looking for the date of the index".to_owned(),
            said: "no InRelease file has one".to_owned(),
        })
    }

    fn packages(&self, said: &str) -> Result<Vec<Package>, Error> {
        let lines = said.lines().filter(|line| line.starts_with('\''));
        lines
            .map(|line| {
                package(line, &self.mirrors).ok_or_else(|| Error::Apt {
                    doing: "reading apt's answer".to_owned(),
                    said: line.to_owned(),
                })
            })
            .collect()
    }

    fn set_up(&self) -> Result<(), Error> {
        for folder in [
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/sources.list.d",
            "etc/trusted.gpg.d",
            "lists/partial",
            "archives/partial",
            "state",
        ] {
            let folder = self.root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
        }
        let root = self.root.display();
        let config = format!(
            "Dir::Etc \"{root}/etc\";\n\
             Dir::Etc::netrc \"/etc/apt/auth.conf\";\n\
             Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n\
             Dir::State \"{root}/state\";\n\
             Dir::State::lists \"{root}/lists\";\n\
             Dir::State::status \"{root}/state/status\";\n\
             Dir::Cache \"{root}\";\n\
             Dir::Log \"{root}/state\";\n\
             APT::Architecture \"{ARCHITECTURE}\";\n\
             APT::Architectures {{ \"{ARCHITECTURE}\"; }};\n\
             APT::Sandbox::User \"root\";\n\
             APT::Get::Always-Include-Phased-Updates \"true\";\n\
             Acquire::Languages \"none\";\n\
             pkgCacheGen::ForceEssential \",\";\n\
             {}",
            network_of_host()
        );
        let sources = format!(
            "Types: deb\nURIs: {}\nSuites: {RELEASE} {RELEASE}-updates\nComponents: main\n\
             Signed-By: {KEYRING}\n\n\
             Types: deb\nURIs: {}\nSuites: {RELEASE}-security\nComponents: main\n\
             Signed-By: {KEYRING}\n",
            self.mirrors.debian, self.mirrors.security
        );
        for (file, text) in [
            ("apt.conf", config.as_str()),
            ("etc/sources.list.d/debian.sources", sources.as_str()),
            ("state/status", ""),
        ] {
            let path = self.root.join(file);
            fs::write(&path, text).map_err(Error::io("writing", &path))?;
        }
        Ok(())
    }

    fn run(&self, doing: &str, words: &[&str]) -> Result<String, Error> {
        let failed = |said: String| Error::Apt { doing: doing.to_owned(), said };
        let Output { status, stdout, stderr } = Command::new("apt-get")
            .args(words)
            .env("APT_CONFIG", self.root.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .map_err(|error| failed(format!("apt-get does not start: {error}")))?;
        let [stdout, stderr] = [stdout, stderr].map(|s| String::from_utf8_lossy(&s).into_owned());
        if status.success() { Ok(stdout) } else { Err(failed(last_words(&stdout, &stderr))) }
    }
}

/// What the host's apt is told about the network.
fn network_of_host() -> String {
    let dump = Command::new("apt-config").arg("dump").env("LC_ALL", "C.UTF-8").output();
    let text = dump.map(|dump| dump.stdout).unwrap_or_default();
    let kept = |line: &&str| {
        let about =
            ["http", "https", "ForceIPv", "Check-Valid-Until", "Check-Date", "Max-FutureTime"];
        let rest = line.strip_prefix("Acquire::");
        rest.is_some_and(|rest| about.iter().any(|start| rest.starts_with(start)))
    };
    String::from_utf8_lossy(&text).lines().filter(kept).map(|line| format!("{line}\n")).collect()
}

/// One line of `--print-uris`: `'URL' NAME_VERSION_ARCHITECTURE.deb BYTES SHA256:HASH`.
fn package(line: &str, mirrors: &Mirrors) -> Option<Package> {
    let mut words = line.split(' ');
    let url = unescape(words.next()?.trim_matches('\''));
    let file = unescape(words.next()?);
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        size_bytes: words.next()?.parse().ok()?,
        sha256: words.next()?.strip_prefix("SHA256:")?.to_owned(),
        file: mirrors.file(&url)?,
    })
}

/// Undoes `%2b`.
pub(super) fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[2..]);
            }
            None => {
                plain.push('%');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// `Sat, 21 Nov 2026 08:16:53 UTC` as `20261121T081653Z`.
fn compact(date: &str) -> Option<String> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = date.split_whitespace().collect();
    let [_, day, month, year, time, "UTC"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let day: u8 = day.parse().ok()?;
    Some(format!("{year}{month:02}{day:02}T{}Z", time.replace(':', "")))
}

/// The lines that say what went wrong, and no more than a few of them.
pub(super) fn last_words(stdout: &str, stderr: &str) -> String {
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("E:")).collect();
    let all: Vec<&str> = if errors.is_empty() {
        stdout.lines().chain(stderr.lines()).filter(|line| !line.is_empty()).collect()
    } else {
        // Unmet dependencies are said on standard output, and `E:` alone would hide them.
        stdout.lines().filter(|line| line.contains("Depends:")).chain(errors).collect()
    };
    all[all.len().saturating_sub(8)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_apt_is_a_package_of_its_archive() {
        let mirrors = Mirrors {
            debian: "http://m.example/debian".to_owned(),
            security: "http://m.example/debian-security".to_owned(),
        };
        let hash = "a".repeat(64);
        let line = format!(
            "'http://m.example/debian/pool/main/d/dbus/dbus_1.16%2bdeb13_amd64.deb' \
             dbus_1%3a1.16+deb13_amd64.deb 99 SHA256:{hash}"
        );
        let package = package(&line, &mirrors).unwrap();
        assert_eq!(package.to_string(), "dbus 1:1.16+deb13");
        assert_eq!(package.file, "debian/pool/main/d/dbus/dbus_1.16+deb13_amd64.deb");
        assert_eq!((package.size_bytes, package.sha256), (99, hash));
    }

    #[test]
    fn the_date_of_an_index_is_written_as_snapshots_write_it() {
        assert_eq!(compact("Sat, 21 Nov 2026 08:16:53 UTC").unwrap(), "20261121T081653Z");
        assert_eq!(compact("Tue,  3 Nov 2026 08:16:53 UTC").unwrap(), "20261103T081653Z");
        assert_eq!(compact("yesterday"), None);
    }

    #[test]
    fn escapes_are_undone_and_what_is_none_is_left() {
        assert_eq!(unescape("a%2bb%3ac"), "a+b:c");
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%zz"), "%zz");
    }
}
