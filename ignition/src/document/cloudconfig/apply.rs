//! Does what was planned, on the system that runs. One thing that fails does not keep the others
//! from being done: a cloud-config never stops a boot.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Action, Addresses, Facts};
use crate::{
    causes::chain,
    document::{Config, Mark, Node, Report, butane::follows, finish},
    fetch::Fetcher,
    files::{self, tree::Root},
    journal::Journal,
};

/// A system that things are done to.
pub trait Machine {
    /// Gives it a name.
    fn hostname(&mut self, name: &str) -> Result<(), String>;
    /// Makes what a piece of a configuration says: users, files and links.
    fn provision(&mut self, piece: &Node) -> Result<(), String>;
    /// Removes a link to `/dev/null`, if it is one.
    fn unmask(&mut self, path: &str) -> Result<(), String>;
    /// Calls `systemctl`.
    fn systemctl(&mut self, arguments: &[String]) -> Result<(), String>;
    /// Runs a script, and does not wait for it.
    fn script(&mut self, name: &str, text: &str) -> Result<(), String>;
}

/// Does everything in order, and says each thing; how many of them failed.
pub fn apply(actions: &[Action], machine: &mut dyn Machine, journal: &dyn Journal) -> usize {
    let mut failures = 0;
    for action in actions {
        journal.say(&format!("cloud-config: {action}"));
        let done = match action {
            Action::Hostname(name) => machine.hostname(name),
            Action::Provision(piece) => machine.provision(piece),
            Action::Unmask { path } => machine.unmask(path),
            Action::Systemctl(arguments) => machine.systemctl(arguments),
            Action::Script { name, text } => machine.script(name, text),
        };
        if let Err(why) = done {
            failures += 1;
            journal.say(&format!("cloud-config: {action}: failed: {why}"));
        }
    }
    failures
}

impl Facts {
    /// Looks at a system below `root`. What cannot be read is not there.
    pub fn read(root: &Path, addresses: Addresses) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let passwd = text("etc/passwd").unwrap_or_default();
        let users = passwd.lines().filter_map(|line| line.split(':').next());
        let update = ["etc/coreos/update.conf", "usr/share/coreos/update.conf"];
        Self {
            addresses,
            hostname: None,
            keys: Vec::new(),
            current_hostname: text("proc/sys/kernel/hostname")
                .or_else(|| text("etc/hostname"))
                .map(|name| name.trim().to_owned())
                .unwrap_or_else(|| "localhost".to_owned()),
            users: users.map(str::to_owned).collect(),
            environment: text("etc/environment").unwrap_or_default(),
            update_conf: update.into_iter().find_map(text).unwrap_or_default(),
        }
    }
}

/// How long `systemctl` may take: a unit that never starts does not keep the boot waiting.
const PATIENCE: Duration = Duration::from_secs(120);

/// This system, or a tree of files that may become one: no service is started for a tree.
pub struct Running<'a> {
    root: PathBuf,
    /// Today, in days since 1970, for the age of passwords.
    day: u32,
    journal: &'a dyn Journal,
}

impl<'a> Running<'a> {
    /// The system below `root`.
    pub fn new(root: impl Into<PathBuf>, day: u32, journal: &'a dyn Journal) -> Self {
        Self { root: root.into(), day, journal }
    }

    fn runs(&self) -> bool {
        self.root == Path::new("/")
    }
}

impl Machine for Running<'_> {
    fn hostname(&mut self, name: &str) -> Result<(), String> {
        match self.runs() {
            true => fs::write("/proc/sys/kernel/hostname", name).map_err(|error| error.to_string()),
            false => Ok(()),
        }
    }

    fn provision(&mut self, piece: &Node) -> Result<(), String> {
        let mut report = Report::default();
        let node = finish(piece.clone(), &mut report).filter(|_| !report.has_errors());
        let Some(node) = node else {
            let findings = report.findings.into_iter();
            let said: Vec<String> = findings.map(|finding| finding.message).collect();
            return Err(said.join("; "));
        };
        let root = Root::open(&self.root).map_err(|error| error.to_string())?;
        let options = files::Options { day: self.day, ..files::Options::default() };
        // Everything is in the piece itself.
        let fetch = Fetcher::offline(self.journal);
        let done = files::apply(&root, &Config::from_node(&node), &fetch, &options, self.journal);
        done.map(drop).map_err(|error| chain(&error))
    }

    fn unmask(&mut self, path: &str) -> Result<(), String> {
        let path = self.root.join(path.trim_start_matches('/'));
        let failed = |error: io::Error| error.to_string();
        match fs::read_link(&path) {
            Ok(target) if target == Path::new("/dev/null") => fs::remove_file(path).map_err(failed),
            // No link, or nothing: it is not masked.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn systemctl(&mut self, arguments: &[String]) -> Result<(), String> {
        match arguments {
            _ if self.runs() => call(Command::new("systemctl").args(arguments), PATIENCE),
            [command, name] if command == "enable" => {
                let unit = json!({"name": name, "enabled": true});
                let piece = json!({
                    "ignition": {"version": "3.6.0"},
                    "systemd": {"units": [unit]},
                });
                self.provision(&follows(Mark::default(), piece))
            }
            _ => Ok(()),
        }
    }

    fn script(&mut self, name: &str, text: &str) -> Result<(), String> {
        let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        let name: String = letters.take(64).collect();
        let failed = |error: io::Error| error.to_string();
        let directory = self.root.join("run/cloud-config");
        fs::create_dir_all(&directory).map_err(failed)?;
        let path = directory.join(format!("script-{name}"));
        fs::write(&path, text).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        if !self.runs() {
            return Ok(());
        }
        let unit = format!("--unit=cloud-config-script-{name}.service");
        call(Command::new("systemd-run").arg("--no-block").arg(unit).arg(path), PATIENCE)
    }
}

fn call(command: &mut Command, patience: Duration) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let mut child = command.stdin(Stdio::null()).spawn().map_err(failed)?;
    let start = Instant::now();
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if start.elapsed() < patience => thread::sleep(Duration::from_millis(20)),
            None => {
                child.kill().map_err(failed)?;
                child.wait().map_err(failed)?;
                return Err(format!("it took more than {} s", patience.as_secs()));
            }
        }
    }
}
