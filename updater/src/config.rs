//! What an operator says of updates, in files of `KEY=VALUE` lines.
//!
//! Each key counts from the first file that has it, so that a file in `/etc` may say one thing and
//! leave the rest to the image. The names of CoreOS and Flatcar, of files and of keys, are good too.

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf, time::Duration};

use http_client::{Proxies, Url};
use jiff::{SignedDuration, tz::TimeZone};

use crate::strategy::{
    Policy, Strategy,
    window::{self, Zones},
};

/// Where files may be; the first one counts most.
pub const PLACES: [&str; 4] = [
    "/etc/pithos/update.conf",
    "/etc/flatcar/update.conf",
    "/etc/coreos/update.conf",
    "/usr/share/pithos/update.conf",
];

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// What the files say.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The channel: `GROUP`.
    pub channel: String,
    /// Where releases are: `SERVER`, one or more. None: updates are off.
    pub servers: Vec<Url>,
    /// Who downloads: `DOWNLOAD_USER` and `DOWNLOAD_PASSWORD`.
    pub account: Option<(String, String)>,
    /// At most so much in a second: `DOWNLOAD_LIMIT`.
    pub limit_bytes: Option<u64>,
    /// Whom to go through: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`.
    pub proxies: Proxies,
    /// Whom to tell how updates go: `REPORT_SERVER`. Nobody, if it is not said.
    pub report: Option<Url>,
    /// When to reboot.
    pub reboot: Policy,
    /// With which lock: `FLEET_LOCK_BASE_URL` and `LOCKSMITHD_GROUP`.
    pub lock: LockPlace,
    /// Keys that mean nothing here, with where they are.
    pub unknown: Vec<String>,
}

/// Who keeps the reboot lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockPlace {
    /// The server of the protocol FleetLock.
    pub url: Option<Url>,
    /// The group of machines.
    pub group: String,
}

/// What is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {problem}", path.display())]
pub struct Wrong {
    /// The file.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What, and what was expected.
    pub problem: String,
}

/// Keys that others read, or that say what the image says itself.
const OF_OTHERS: [&str; 12] = [
    "MACHINE_ALIAS",
    "PCR_POLICY_SERVER",
    "FLATCAR_RELEASE_VERSION",
    "FLATCAR_RELEASE_BOARD",
    "FLATCAR_RELEASE_APPID",
    "COREOS_RELEASE_VERSION",
    "LOCKSMITHD_ENDPOINT",
    "LOCKSMITHD_ETCD_CAFILE",
    "LOCKSMITHD_ETCD_CERTFILE",
    "LOCKSMITHD_ETCD_KEYFILE",
    "LOCKSMITHD_ETCD_USERNAME",
    "LOCKSMITHD_ETCD_PASSWORD",
];

const KEYS: [&str; 20] = [
    "GROUP",
    "SERVER",
    "DOWNLOAD_USER",
    "DOWNLOAD_PASSWORD",
    "DOWNLOAD_LIMIT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "REPORT_SERVER",
    "REBOOT_STRATEGY",
    "REBOOT_WINDOWS",
    "REBOOT_WINDOW_START",
    "REBOOT_WINDOW_LENGTH",
    "LOCKSMITHD_REBOOT_WINDOW_START",
    "LOCKSMITHD_REBOOT_WINDOW_LENGTH",
    "REBOOT_WINDOW_ZONE",
    "LOGIN_DELAY",
    "FLEET_LOCK_BASE_URL",
    "FLEET_LOCK_GROUP",
    "LOCKSMITHD_GROUP",
];

/// Reads the files that are there.
pub fn read(places: &[&str]) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for place in places {
        let path = PathBuf::from(place);
        match fs::read_to_string(&path) {
            Ok(text) => files.push(File { path, text }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("{place}: {error}")));
            }
        }
    }
    Ok(files)
}

/// What the files say. A window without a zone is in `zone`.
pub fn parse(files: &[File], zone: &TimeZone, zones: Zones<'_>) -> Result<Config, Wrong> {
    let mut settings = Settings::default();
    for file in files {
        settings.add(file)?;
    }
    let zone = match settings.get("REBOOT_WINDOW_ZONE") {
        None => zone.clone(),
        Some(place) => zones(&place.value)
            .ok_or_else(|| place.wrong(format!("the time zone `{}` is not known", place.value)))?,
    };
    let user = settings.text("DOWNLOAD_USER");
    Ok(Config {
        channel: settings.channel()?,
        servers: settings.servers()?,
        account: user.map(|user| {
            (user.to_owned(), settings.text("DOWNLOAD_PASSWORD").unwrap_or_default().to_owned())
        }),
        limit_bytes: settings.read("DOWNLOAD_LIMIT", parse_rate)?,
        proxies: settings.proxies()?,
        report: settings.report()?,
        reboot: Policy {
            strategy: settings
                .read("REBOOT_STRATEGY", |text| text.parse().map_err(as_text))?
                .unwrap_or(Strategy::Reboot),
            windows: settings.windows(&zone, zones)?,
            login_delay: settings
                .read("LOGIN_DELAY", parse_delay)?
                .unwrap_or(Duration::from_secs(10 * 60)),
        },
        lock: LockPlace {
            url: settings.read("FLEET_LOCK_BASE_URL", parse_url)?,
            group: settings
                .read("FLEET_LOCK_GROUP", parse_group)?
                .or(settings.read("LOCKSMITHD_GROUP", parse_group)?)
                .unwrap_or_else(|| "default".to_owned()),
        },
        unknown: settings.unknown,
    })
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
struct Setting {
    value: String,
    path: PathBuf,
    line: usize,
}

impl Setting {
    fn wrong(&self, problem: String) -> Wrong {
        Wrong { path: self.path.clone(), line: self.line, problem }
    }
}

#[derive(Default)]
struct Settings {
    settings: BTreeMap<&'static str, Setting>,
    unknown: Vec<String>,
}

impl Settings {
    fn add(&mut self, file: &File) -> Result<(), Wrong> {
        let mut here = BTreeMap::new();
        for (index, line) in file.text.lines().enumerate() {
            let (path, line_number) = (file.path.clone(), index + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let problem = || format!("`{line}` is not a line of the form KEY=VALUE");
            let Some((key, value)) = line.split_once('=') else {
                return Err(Wrong { path, line: line_number, problem: problem() });
            };
            let key = key.trim();
            let setting = Setting { value: unquote(value.trim()), path, line: line_number };
            match KEYS.iter().find(|known| **known == key) {
                // As in a shell: within a file, the last one counts.
                Some(known) => drop(here.insert(*known, setting)),
                None if OF_OTHERS.contains(&key) => {}
                None => {
                    let (path, line) = (setting.path.display(), setting.line);
                    self.unknown.push(format!("{path}:{line}: {key}"));
                }
            }
        }
        for (key, setting) in here {
            self.settings.entry(key).or_insert(setting);
        }
        Ok(())
    }

    /// A setting with a value.
    fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key).filter(|setting| !setting.value.is_empty())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).map(|setting| setting.value.as_str())
    }

    fn read<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Wrong> {
        let Some(setting) = self.get(key) else { return Ok(None) };
        parse(&setting.value).map(Some).map_err(|problem| setting.wrong(problem))
    }

    fn channel(&self) -> Result<String, Wrong> {
        let channel = self.read("GROUP", |text| {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            match text.chars().all(good) && !text.starts_with('.') && text.len() <= 64 {
                true => Ok(text.to_owned()),
                false => Err(format!("`{text}` as GROUP; write a channel such as `stable`")),
            }
        })?;
        Ok(channel.unwrap_or_else(|| "stable".to_owned()))
    }

    fn servers(&self) -> Result<Vec<Url>, Wrong> {
        let servers = self.read("SERVER", |text| match text {
            "disabled" | "off" | "none" => Ok(Vec::new()),
            text => text.split_whitespace().map(parse_url).collect(),
        })?;
        Ok(servers.unwrap_or_default())
    }

    fn report(&self) -> Result<Option<Url>, Wrong> {
        let server = self.read("REPORT_SERVER", |text| match text {
            "disabled" | "off" | "none" => Ok(None),
            text => parse_url(text).map(Some),
        })?;
        Ok(server.flatten())
    }

    fn proxies(&self) -> Result<Proxies, Wrong> {
        let exceptions = self.text("NO_PROXY").unwrap_or_default();
        let exceptions: Vec<String> = exceptions.split([',', ' ']).map(str::to_owned).collect();
        Proxies::new(self.text("HTTP_PROXY"), self.text("HTTPS_PROXY"), &exceptions).map_err(
            |(text, error)| {
                let key = if self.text("HTTP_PROXY") == Some(&text) { "HTTP" } else { "HTTPS" };
                let setting = &self.settings[format!("{key}_PROXY").as_str()];
                setting.wrong(format!("`{text}` as a proxy: {error}"))
            },
        )
    }

    fn windows(&self, zone: &TimeZone, zones: Zones<'_>) -> Result<Vec<window::Window>, Wrong> {
        let read = |text: &str| window::parse(text, zone, zones).map_err(as_text);
        let mut windows = self.read("REBOOT_WINDOWS", read)?.unwrap_or_default();
        for prefix in ["", "LOCKSMITHD_"] {
            let start = self.get(&format!("{prefix}REBOOT_WINDOW_START"));
            let length = self.get(&format!("{prefix}REBOOT_WINDOW_LENGTH"));
            match (start, length) {
                (None, None) => {}
                (Some(start), Some(length)) => {
                    let window = window::of_locksmith(&start.value, &length.value, zone);
                    windows.push(window.map_err(|error| start.wrong(as_text(error)))?);
                }
                (Some(one), None) | (None, Some(one)) => {
                    let problem = "REBOOT_WINDOW_START and REBOOT_WINDOW_LENGTH need each other";
                    return Err(one.wrong(problem.to_owned()));
                }
            }
        }
        Ok(windows)
    }
}

fn unquote(value: &str) -> String {
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|value| value.strip_suffix(*quote)));
    quoted.unwrap_or(value).to_owned()
}

fn as_text(error: impl fmt::Display) -> String {
    error.to_string()
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is not an address: {error}"))?;
    match url.scheme.as_str() {
        "http" | "https" => Ok(url),
        scheme => Err(format!("`{scheme}` in `{text}`; write http://... or https://...")),
    }
}

fn parse_group(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    match text.chars().all(good) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` as a group of machines; write a-z A-Z 0-9 . -")),
    }
}

/// `500K`, `2M`, `1G`, or bytes.
fn parse_rate(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" => Some(1),
        "K" | "k" => Some(1000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| format!("`{text}` as DOWNLOAD_LIMIT; write bytes in a second, such as 2M"))
}

fn parse_delay(text: &str) -> Result<Duration, String> {
    let length = text.parse::<SignedDuration>().ok();
    length
        .filter(|length| *length <= SignedDuration::from_hours(24))
        .and_then(|length| Duration::try_from(length).ok())
        .ok_or_else(|| format!("`{text}` as LOGIN_DELAY; write 0s to 24h, such as `10m`"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::proptest;

    use super::*;

    fn read(texts: &[&str]) -> Result<Config, Wrong> {
        let files: Vec<File> = texts
            .iter()
            .zip(PLACES)
            .map(|(text, path)| File { path: path.into(), text: (*text).to_owned() })
            .collect();
        parse(&files, &TimeZone::UTC, &|name| (name == "UTC").then_some(TimeZone::UTC))
    }

    fn wrong(text: &str, expect: Expect) {
        expect.assert_eq(&read(&[text]).unwrap_err().to_string());
    }

    #[test]
    fn nothing_said_is_the_stable_channel_of_no_server() {
        let config = read(&[]).unwrap();
        assert_eq!((config.channel.as_str(), config.servers.len()), ("stable", 0));
        assert_eq!(config.reboot.strategy, Strategy::Reboot);
        assert_eq!(config.lock.group, "default");
    }

    #[test]
    fn nobody_is_told_but_whom_an_operator_names() {
        let report = |text: &str| read(&[text]).unwrap().report.map(|url| url.to_string());
        assert_eq!(report("SERVER=http://one.example/\n"), None);
        assert_eq!(report("REPORT_SERVER=off\n"), None);
        let url = "http://one.example/v1/update/";
        assert_eq!(report(&format!("REPORT_SERVER={url}\n")).as_deref(), Some(url));
    }

    #[test]
    fn each_key_counts_from_the_first_file_that_has_it() {
        let config = read(&[
            "GROUP=beta\n",
            "GROUP=alpha\nSERVER=http://one.example/a/ https://two.example\n",
        ]);
        let config = config.unwrap();
        assert_eq!(config.channel, "beta");
        let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["http://one.example/a/", "https://two.example/"]);
        // Nothing can be said, too.
        let config = read(&["SERVER=\n", "SERVER=http://one.example\n"]).unwrap();
        assert_eq!(config.servers, []);
    }

    #[test]
    fn a_file_of_flatcar_is_understood() {
        let config = read(&["\
# a comment
GROUP=\"stable\"
SERVER=disabled
REBOOT_STRATEGY='etcd-lock'
LOCKSMITHD_REBOOT_WINDOW_START=\"Thu 23:00\"
LOCKSMITHD_REBOOT_WINDOW_LENGTH=1h30m
LOCKSMITHD_GROUP=west
LOCKSMITHD_ENDPOINT=http://127.0.0.1:2379
MACHINE_ALIAS=one
"])
        .unwrap();
        assert_eq!(config.servers, []);
        assert_eq!(config.reboot.strategy, Strategy::EtcdLock);
        assert_eq!(config.reboot.windows.len(), 1);
        assert_eq!(config.lock.group, "west");
        assert_eq!(config.unknown, [""; 0]);
    }

    #[test]
    fn a_key_that_means_nothing_is_said_and_does_no_harm() {
        let config = read(&["GRUOP=beta\nGROUP=beta"]).unwrap();
        assert_eq!(config.unknown, ["/etc/pithos/update.conf:1: GRUOP"]);
        assert_eq!(config.channel, "beta");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        wrong(
            "\nhello",
            expect!["/etc/pithos/update.conf:2: `hello` is not a line of the form KEY=VALUE"],
        );
        wrong(
            "GROUP=../x",
            expect!["/etc/pithos/update.conf:1: `../x` as GROUP; write a channel such as `stable`"],
        );
        wrong(
            "SERVER=ftp://a",
            expect![
                "/etc/pithos/update.conf:1: `ftp` in `ftp://a`; write http://... or https://..."
            ],
        );
        wrong(
            "SERVER=example.org",
            expect![
                "/etc/pithos/update.conf:1: `example.org` is not an address: it has no scheme; write http://..., https://... or another that is known"
            ],
        );
        wrong(
            "REBOOT_STRATEGY=never",
            expect![
                "/etc/pithos/update.conf:1: `never` as REBOOT_STRATEGY; write reboot, off, best-effort, etcd-lock or fleetlock"
            ],
        );
        wrong(
            "REBOOT_WINDOW_START=23:00",
            expect![
                "/etc/pithos/update.conf:1: REBOOT_WINDOW_START and REBOOT_WINDOW_LENGTH need each other"
            ],
        );
        wrong(
            "REBOOT_WINDOW_ZONE=Moon",
            expect!["/etc/pithos/update.conf:1: the time zone `Moon` is not known"],
        );
        wrong(
            "DOWNLOAD_LIMIT=fast",
            expect![
                "/etc/pithos/update.conf:1: `fast` as DOWNLOAD_LIMIT; write bytes in a second, such as 2M"
            ],
        );
        wrong(
            "LOGIN_DELAY=-1s",
            expect![
                "/etc/pithos/update.conf:1: `-1s` as LOGIN_DELAY; write 0s to 24h, such as `10m`"
            ],
        );
        wrong(
            "HTTPS_PROXY=proxy:3128",
            expect![
                "/etc/pithos/update.conf:1: `proxy:3128` as a proxy: it has no scheme; write http://..., https://... or another that is known"
            ],
        );
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(lines in "([A-Z_]{0,12}=?[ -~]{0,20}\n){0,6}", index in 0usize..20) {
            let _ = read(&[&lines, &format!("{}={lines}", KEYS[index])]);
        }
    }
}
