//! What a build must not depend on, and how the second build differs from the first in it.
//!
//! What can be varied depends on the machine: [`Facts`] is what was found out about it, [`vary`]
//! decides, and a [`Circumstances`] starts a program accordingly.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;

const OTHER_UMASK: &str = "077";
const OTHER_ZONE: &str = "Pacific/Kiritimati";
const OTHER_HOST: &str = "another-host.pithos.invalid";
/// Into another month.
const LATER: &str = "+40d";
/// A host name holds for a UTS namespace, which the build gets of its own.
const SET_HOST: &str = "echo \"$0\" >/proc/sys/kernel/hostname || hostname \"$0\"; exec \"$@\"";
/// In the second build's home: cargo without the later date.
pub(super) const CARGO_OF_TODAY: &str = "cargo-of-today";
const SET_UMASK: &str = "umask \"$0\"; exec \"$@\"";

/// How a program is started.
#[derive(Clone, Debug, Default)]
pub(super) struct Circumstances {
    pub(super) varied: Vec<Varied>,
    pub(super) not_varied: Vec<NotVaried>,
    environment: Vec<(&'static str, OsString)>,
    /// Programs that start the program, with their words.
    before: Vec<OsString>,
}

/// One thing that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Varied {
    what: &'static str,
    a: String,
    b: String,
}

/// One thing that should have been different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct NotVaried {
    what: &'static str,
    why: String,
}

/// What this machine allows, and how the first build is started.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    repo: PathBuf,
    umask: String,
    zone: String,
    locale: String,
    locales: Vec<String>,
    home: String,
    host: String,
    /// The host name inside a namespace of its own, if that can be had.
    host_can_change: bool,
    processors: usize,
    /// The first processor that may be used, if programs can be bound to it.
    processor: Option<String>,
    /// A library that tells programs another date, and works.
    faketime: Result<PathBuf, String>,
    cargo_home: Option<PathBuf>,
    rustup_home: Option<PathBuf>,
}

impl Facts {
    /// Looks around. If the first build was not as locked, the second one has to ask the mirror,
    /// and a mirror's signatures expire: no later date then.
    pub(super) fn find(repo: &Path, tools: &Path, scratch: &Path, as_locked: bool) -> Self {
        let from = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let status = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        let first = status("Cpus_allowed_list")
            .map(|list| list.chars().take_while(char::is_ascii_digit).collect::<String>());
        let first = first.filter(|cpu| said("taskset", &["-c", cpu, "true"]).is_some());
        let renamed = ["--uts", "sh", "-c", SET_HOST, OTHER_HOST, "uname", "-n"];
        let locales = said("locale", &["-a"]).unwrap_or_default();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(from);
        Self {
            repo: repo.to_owned(),
            umask: status("Umask").unwrap_or_else(|| "unknown".into()),
            zone: from("TZ").unwrap_or_else(|| "the host's".into()),
            locale: locale.unwrap_or_else(|| "none".into()),
            locales: locales.lines().map(str::to_owned).collect(),
            home: from("HOME").unwrap_or_else(|| "none".into()),
            host: said("uname", &["-n"]).unwrap_or_default(),
            host_can_change: said("unshare", &renamed).as_deref() == Some(OTHER_HOST),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            processor: first,
            faketime: if as_locked {
                faketime(tools, &scratch.join("faketime"))
            } else {
                Err("the first build was not as locked: the second one asks the mirror, whose \
                     signatures expire"
                    .into())
            },
            cargo_home: cargo_home(),
            rustup_home: from("RUSTUP_HOME").map(PathBuf::from).or_else(|| home(".rustup")),
        }
    }
}

/// How the second build is started, in `repo` and with `home`.
pub(super) fn vary(facts: &Facts, repo: &Path, home: &Path) -> Circumstances {
    let mut it = Circumstances::default();
    let show = |path: &Path| path.display().to_string();
    it.different("checkout", show(&facts.repo), show(repo));
    it.different("order of the checkout's files", "as git wrote them", "reversed");
    it.different("umask", &facts.umask, OTHER_UMASK);
    it.before(["sh", "-c", SET_UMASK, OTHER_UMASK]);
    it.different("time zone", &facts.zone, OTHER_ZONE);
    it.environment.push(("TZ", OTHER_ZONE.into()));
    it.different("home", &facts.home, show(home));
    it.environment.push(("HOME", home.into()));
    it.environment.push(("XDG_CACHE_HOME", home.join("cache").into()));
    it.environment.push(("CARGO_HOME", home.join(".cargo").into()));
    if let Some(path) = &facts.cargo_home {
        it.different("home of cargo", show(path), show(&home.join(".cargo")));
    }
    if let Some(path) = &facts.rustup_home {
        it.environment.push(("RUSTUP_HOME", path.into()));
    }
    let plain = |name: &str| ["C", "POSIX"].contains(&name) || name.starts_with("C.");
    match facts.locales.iter().find(|name| !plain(name) && **name != facts.locale) {
        Some(locale) => {
            it.different("locale", &facts.locale, locale);
            it.environment.extend([("LC_ALL", locale.into()), ("LANG", locale.into())]);
        }
        None => {
            let other = if facts.locale == "C" { "C.UTF-8" } else { "C" };
            it.different("locale", &facts.locale, other);
            it.environment.extend([("LC_ALL", other.into()), ("LANG", other.into())]);
            it.same("language", "this host has no locale but C");
        }
    }
    if facts.host_can_change {
        it.different("host name", &facts.host, OTHER_HOST);
        it.before(["unshare", "--uts", "sh", "-c", SET_HOST, OTHER_HOST]);
    } else {
        it.same("host name", "needs root, and a namespace for it");
    }
    match (&facts.processor, facts.processors) {
        (_, 0 | 1) => it.same("processors", "there is only one"),
        (None, _) => it.same("processors", "taskset does not work here"),
        (Some(first), count) => {
            it.different("processors", count.to_string(), "1");
            it.before(["taskset", "-c", first.as_str()]);
        }
    }
    match &facts.faketime {
        Ok(library) => {
            it.different("date", "today", format!("{LATER}, but for mkosi and cargo"));
            // mkosi has a clean environment, and rustc's allocator waits for itself when it asks
            // for the time. Only the clock is moved: times of files stay what they are.
            it.environment.extend([
                ("CARGO", home.join(CARGO_OF_TODAY).into()),
                ("LD_PRELOAD", library.into()),
                ("FAKETIME", LATER.into()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
                ("DONT_FAKE_MONOTONIC", "1".into()),
                ("NO_FAKE_STAT", "1".into()),
            ]);
        }
        Err(why) => it.same("date", format!("{why}; it is only later by a build")),
    }
    it.same("user", "both builds need the same rights");
    it.same("kernel and file system", "one machine");
    it
}

impl Circumstances {
    /// `program` with `words`, started so.
    pub(super) fn command<'a>(
        &self,
        program: &Path,
        words: impl IntoIterator<Item = &'a OsString>,
    ) -> Command {
        let mut line = self.before.iter().map(OsString::as_os_str).chain([program.as_os_str()]);
        let mut command = Command::new(line.next().expect("at least the program"));
        command.args(line).args(words);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What was varied and what was not, for people.
    pub(super) fn table(&self) -> String {
        let mut text = String::from("\nvaried:\n");
        for Varied { what, a, b } in &self.varied {
            text += &format!("  {what}: {a} / {b}\n");
        }
        text += "not varied:\n";
        for NotVaried { what, why } in &self.not_varied {
            text += &format!("  {what}: {why}\n");
        }
        text
    }

    fn different(&mut self, what: &'static str, a: impl Into<String>, b: impl Into<String>) {
        let (a, b) = (a.into(), b.into());
        if a == b {
            self.not_varied.push(NotVaried { what, why: format!("it is {a} anyway") });
        } else {
            self.varied.push(Varied { what, a, b });
        }
    }

    fn same(&mut self, what: &'static str, why: impl Into<String>) {
        self.not_varied.push(NotVaried { what, why: why.into() });
    }

    fn before<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.before.extend(words.into_iter().map(OsString::from));
    }
}

/// What a program prints, if it succeeds.
pub(super) fn said(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

/// Where cargo keeps its crates.
pub(super) fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| home(".cargo"))
}

fn home(name: &str) -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(name)).filter(|folder| folder.is_dir())
}

/// A libfaketime with which `date` says another day: of the host, of the tools tree, or fetched by
/// the host's apt, which needs no rights for that.
fn faketime(tools: &Path, scratch: &Path) -> Result<PathBuf, String> {
    const IN: &str = "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    let there = [Path::new("/").join(IN), tools.join(IN)];
    if let Some(library) = there.into_iter().find(|library| makes_it_later(library)) {
        return Ok(library);
    }
    let fetched = "mkdir -p \"$0\" && cd \"$0\" && apt-get download -qq libfaketime && \
                   dpkg-deb -x libfaketime_*.deb .";
    let done = Command::new("sh").args(["-c", fetched]).arg(scratch).output();
    if !done.is_ok_and(|done| done.status.success()) {
        return Err("libfaketime is not installed, and apt has none".into());
    }
    let library = scratch.join(IN);
    if makes_it_later(&library) {
        Ok(library)
    } else {
        Err("libfaketime does not work here".into())
    }
}

fn makes_it_later(library: &Path) -> bool {
    const DAY: u64 = 86_400;
    let date = |faked: bool| {
        let mut date = Command::new("date");
        date.arg("+%s");
        if faked {
            date.env("LD_PRELOAD", library).env("FAKETIME", LATER);
        }
        String::from_utf8(date.output().ok()?.stdout).ok()?.trim().parse::<u64>().ok()
    };
    library.exists() && date(false).zip(date(true)).is_some_and(|(now, later)| later > now + DAY)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn facts() -> Facts {
        Facts {
            repo: "/src".into(),
            umask: "0022".into(),
            zone: "UTC".into(),
            locale: "C.UTF-8".into(),
            locales: ["C", "C.utf8", "de_DE.utf8"].map(str::to_owned).into(),
            home: "/root".into(),
            host: "here".into(),
            host_can_change: true,
            processors: 2,
            processor: Some("0".into()),
            faketime: Ok("/lib/faketime.so".into()),
            cargo_home: Some("/root/.cargo".into()),
            rustup_home: Some("/root/.rustup".into()),
        }
    }

    fn names(it: &Circumstances) -> (Vec<&'static str>, Vec<&'static str>) {
        let varied = it.varied.iter().map(|varied| varied.what).collect();
        (varied, it.not_varied.iter().map(|not| not.what).collect())
    }

    #[test]
    fn everything_is_varied_that_a_machine_allows() {
        let it = vary(&facts(), Path::new("/b"), Path::new("/home"));
        let (varied, not) = names(&it);
        assert_eq!(
            varied.join(", "),
            "checkout, order of the checkout's files, umask, time zone, home, home of cargo, \
             locale, host name, processors, date"
        );
        assert_eq!(not, ["user", "kernel and file system"]);
        assert!(it.environment.contains(&("LC_ALL", "de_DE.utf8".into())));
        let command = it.command(Path::new("/image"), &["build".into()]);
        let words: Vec<&OsStr> = command.get_args().skip(2).collect();
        assert_eq!(command.get_program(), "sh");
        assert_eq!(words[0], "077");
        assert_eq!(words[1..5], ["unshare", "--uts", "sh", "-c"]);
        assert_eq!(words[6..], [OTHER_HOST, "taskset", "-c", "0", "/image", "build"]);
    }

    #[test]
    fn what_a_machine_does_not_allow_is_said() {
        let poor = Facts {
            zone: OTHER_ZONE.into(),
            locales: vec!["C".into()],
            host_can_change: false,
            processors: 1,
            faketime: Err("none".into()),
            ..facts()
        };
        let it = vary(&poor, Path::new("/b"), Path::new("/home"));
        assert_eq!(
            names(&it).1.join(", "),
            "time zone, language, host name, processors, date, user, kernel and file system"
        );
        assert!(it.table().contains("  date: none; it is only later by a build\n"));
    }

    #[test]
    fn the_first_build_is_started_as_it_is() {
        let it = Circumstances::default();
        let command = it.command(Path::new("/image"), &["build".into()]);
        assert_eq!(command.get_program(), "/image");
        assert_eq!(command.get_envs().count(), 0);
    }
}
