//! Health checks: programs in folders, ours and the operator's, and how they are run.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{
        fs::{FileExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::Outcome;

/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What is kept of what a check says.
const SAID_BYTES: u64 = 500;

/// Where checks are. Each folder has `required.d` and `wanted.d`.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The image's.
    pub image: PathBuf,
    /// The operator's, which count where both have a check of the same name.
    pub operator: PathBuf,
}

impl Default for Folders {
    fn default() -> Self {
        Self { image: "/usr/lib/pithos/health.d".into(), operator: "/etc/pithos/health.d".into() }
    }
}

/// A program that says by its exit status whether something is as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// `required.d/10-ssh`.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Whether a version is not healthy without it.
    pub is_required: bool,
}

/// The checks of this machine. An operator's file takes the place of ours of the same name; one
/// that cannot be executed, such as a link to `/dev/null`, switches it off.
pub fn choose(folders: &Folders) -> io::Result<Vec<Check>> {
    let mut checks = BTreeMap::new();
    for (kind, is_required) in [("required.d", true), ("wanted.d", false)] {
        for folder in [&folders.image, &folders.operator] {
            let entries = match fs::read_dir(folder.join(kind)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                let path = entry?.path();
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if file.starts_with('.') || file.ends_with('~') {
                    continue;
                }
                let name = format!("{kind}/{file}");
                let runs = fs::metadata(&path)
                    .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
                match runs {
                    true => drop(checks.insert(name.clone(), Check { name, path, is_required })),
                    false => drop(checks.remove(&name)),
                }
            }
        }
    }
    Ok(checks.into_values().collect())
}

impl Check {
    /// Runs it.
    pub fn run(&self) -> Outcome {
        let failure = run(&self.path, LIMIT).err();
        Outcome { is_required: self.is_required, failure }
    }
}

/// Why a program did not succeed in time, with its last words.
fn run(program: &Path, limit: Duration) -> Result<(), String> {
    let said = tempfile::tempfile().map_err(|error| format!("making a file: {error}"))?;
    let streams = said.try_clone().and_then(|out| Ok((out, said.try_clone()?)));
    let (out, err) = streams.map_err(|error| format!("sharing a file: {error}"))?;
    let child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        // What it starts goes with it.
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| format!("cannot be started: {error}"))?;
    let group = i32::try_from(child.id()).map(Pid::from_raw).expect("a process id");
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let said = last_words(&said);
                return Err(if said.is_empty() { status.to_string() } else { said });
            }
            Ok(None) if start.elapsed() < limit => std::thread::sleep(LOOK_AGAIN),
            Ok(None) => {
                // It may end just now.
                let _ = killpg(group, Signal::SIGKILL);
                let _ = child.wait();
                return Err(format!("no answer in {} s; {}", limit.as_secs(), last_words(&said)));
            }
            Err(error) => return Err(format!("waiting for it: {error}")),
        }
    }
}

fn last_words(said: &fs::File) -> String {
    let length = said.metadata().map_or(0, |meta| meta.len());
    let kept = length.min(SAID_BYTES);
    let mut bytes = vec![0; kept as usize];
    match said.read_exact_at(&mut bytes, length - kept) {
        Ok(()) => String::from_utf8_lossy(&bytes).trim().replace('\n', "; "),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn script(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn an_operators_check_takes_the_place_of_ours_and_a_link_to_nothing_switches_it_off() {
        let folder = TempDir::new().unwrap();
        let (image, operator) = (folder.path().join("usr"), folder.path().join("etc"));
        script(&image, "required.d/ssh", "exit 1");
        script(&image, "required.d/network", "exit 1");
        script(&image, "wanted.d/time", "true");
        script(&operator, "required.d/ssh", "true");
        script(&operator, "wanted.d/mine", "true");
        fs::write(operator.join("wanted.d/notes"), "not a program").unwrap();
        symlink("/dev/null", operator.join("required.d/network")).unwrap();
        let checks = choose(&Folders { image, operator: operator.clone() }).unwrap();
        let names: Vec<(&str, bool)> =
            checks.iter().map(|check| (&*check.name, check.is_required)).collect();
        let expected =
            [("required.d/ssh", true), ("wanted.d/mine", false), ("wanted.d/time", false)];
        assert_eq!(names, expected);
        assert!(checks[0].path.starts_with(operator));
        let nowhere = folder.path().join("nowhere");
        assert!(choose(&Folders { image: nowhere.clone(), operator: nowhere }).unwrap().is_empty());
    }

    #[test]
    fn a_check_fails_with_its_last_words() {
        let folder = TempDir::new().unwrap();
        script(folder.path(), "good", "echo fine");
        script(folder.path(), "bad", "echo one; echo two >&2; exit 3");
        script(folder.path(), "mute", "exit 3");
        script(folder.path(), "hangs", "echo waiting; sleep 1000");
        let run = |name: &str, limit| run(&folder.path().join(name), Duration::from_millis(limit));
        assert_eq!(run("good", 10_000), Ok(()));
        assert_eq!(run("bad", 10_000), Err("one; two".to_owned()));
        assert_eq!(run("mute", 10_000), Err("exit status: 3".to_owned()));
        assert!(run("hangs", 1000).unwrap_err().starts_with("no answer in 1 s"));
        assert!(run("missing", 1000).unwrap_err().starts_with("cannot be started: "));
    }
}
