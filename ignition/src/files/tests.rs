//! Whole documents on whole trees.

mod accounts;
mod hostile;
mod nodes;
mod units;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use expect_test::{Expect, expect};
use tempfile::TempDir;

use super::{ApplyError, Done, Options, apply, perform::Outcome, result::Run, tree::Root};
use crate::{
    document::{Config, config::Resource},
    fetch::{Fetch, FetchError, Shown, data::DataUrl},
    journal::Silent,
};

/// Gets `data:` URLs, and fails for everything else.
struct Data;

impl Fetch for Data {
    fn fetch(&self, resource: &Resource, to: &mut dyn std::io::Write) -> Result<(), FetchError> {
        let source = resource.source.as_deref().unwrap_or_default();
        if source.is_empty() {
            return Ok(());
        }
        let refused = |why: String| FetchError::Refused { url: Shown::new(source), why };
        let url = DataUrl::parse(source).map_err(|error| refused(error.to_string()))?;
        url.write(to).map_err(|error| refused(error.to_string()))
    }
}

/// A directory to be taken for a root.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
        self
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn apply(&self, config: serde_json::Value) -> Result<Done, ApplyError> {
        self.apply_with(config, &Options { day: 20_000, ..Options::default() })
    }

    fn apply_with(&self, config: serde_json::Value, options: &Options) -> Result<Done, ApplyError> {
        let config: Config = serde_json::from_value(config).unwrap();
        apply(&Root::open(self.0.path()).unwrap(), &config, &Data, options, &Silent)
    }

    /// All that is in it: permissions, names, contents and targets.
    fn picture(&self) -> String {
        let mut lines = Vec::new();
        draw(self.0.path(), "", &mut lines);
        lines.concat()
    }
}

fn draw(directory: &Path, above: &str, lines: &mut Vec<String>) {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = directory.join(&name);
        let shown = format!("{above}/{}", name.to_string_lossy());
        let metadata = path.symlink_metadata().unwrap();
        let mode = metadata.mode() & 0o7777;
        if metadata.is_symlink() {
            lines.push(format!("{shown} -> {}\n", fs::read_link(&path).unwrap().display()));
        } else if metadata.is_dir() {
            lines.push(format!("{shown}/ {mode:o}\n"));
            draw(&path, &shown, lines);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            lines.push(format!("{shown} {mode:o} {text:?}\n"));
        }
    }
}

/// An error with its place, its chain and its hint.
fn story(error: &ApplyError) -> String {
    let mut story = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        story.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    if let Some(hint) = error.hint() {
        story.push_str(&format!("\n  {hint}"));
    }
    story + "\n"
}

fn check_refused(tree: &Tree, config: serde_json::Value, expected: Expect) {
    expected.assert_eq(&story(&tree.apply(config).unwrap_err()));
}

/// Whether the test may give files to others; says so where it may not.
fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        let _ = writeln!(std::io::stderr(), "skipped: only root can give files to others");
    }
    is_root
}

#[test]
fn the_result_of_a_run_is_written_down_and_remembers_the_one_before() {
    let tree = Tree::new();
    let run = |date: &str| Run {
        boot_id: "an id".to_owned(),
        date: date.to_owned(),
        user_config_provided: true,
    };
    for date in ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"] {
        let options = Options { run: Some(run(date)), ..Options::default() };
        tree.apply_with(serde_json::json!({}), &options).unwrap();
    }
    expect![[r#"
        {
          "previousReport": {
            "provisioningBootID": "an id",
            "provisioningDate": "2026-01-01T00:00:00Z",
            "userConfigProvided": true
          },
          "provisioningBootID": "an id",
          "provisioningDate": "2026-01-02T00:00:00Z",
          "userConfigProvided": true
        }
    "#]]
    .assert_eq(&tree.text("/etc/.ignition-result.json"));
}

/// A document with one of each.
fn everything() -> serde_json::Value {
    serde_json::json!({
        "passwd": {
            "groups": [{"name": "crew", "gid": 1500}],
            "users": [
                {"name": "ada", "groups": ["crew"], "sshAuthorizedKeys": ["ssh-ed25519 AAAA ada"],
                 "passwordHash": "$6$salt$0123456789abcdef"},
                {"name": "daemonic", "system": true, "noCreateHome": true}
            ]
        },
        "storage": {
            "directories": [{"path": "/srv/a/b", "mode": 448}],
            "files": [
                {"path": "/srv/a/b/c", "contents": {"source": "data:,hello"}, "mode": 384},
                {"path": "/srv/kept", "overwrite": true, "contents": {"source": "data:,new"},
                 "append": [{"source": "data:,er"}]},
                {"path": "/srv/empty"}
            ],
            "links": [
                {"path": "/srv/soft", "target": "../etc/hostname"},
                {"path": "/hard", "target": "/srv/a/b/c", "hard": true}
            ]
        },
        "systemd": {"units": [
            {"name": "a.service", "enabled": true,
             "contents": "[Service]\nType=oneshot\n[Install]\nWantedBy=multi-user.target\n",
             "dropins": [{"name": "10-b.conf", "contents": "[Unit]\n"}]},
            {"name": "masked.service", "mask": true}
        ]}
    })
}

#[test]
fn a_document_makes_what_it_says_and_a_second_time_nothing() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    tree.file("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
        .file("/etc/shadow", "root:*:19000:0:99999:7:::\n")
        .file("/etc/group", "root:x:0:\n")
        .file("/etc/gshadow", "root:*::\n")
        .file("/etc/skel/.profile", "hello\n")
        .file("/srv/kept", "old");
    let done = tree.apply(everything()).unwrap();
    assert!(done.steps.iter().all(|(_, outcome)| *outcome == Outcome::Done), "{done:?}");
    let picture = tree.picture();
    expect![[r#"
        /etc/ 755
        /etc/group 644 "root:x:0:\ncrew:x:1500:ada\nada:x:1000:\ndaemonic:x:999:\n"
        /etc/gshadow 644 "root:*::\ncrew:!::ada\nada:!::\ndaemonic:!::\n"
        /etc/passwd 644 "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\ndaemonic:x:999:999::/home/daemonic:/bin/bash\n"
        /etc/shadow 644 "root:*:19000:0:99999:7:::\nada:$6$salt$0123456789abcdef:20000:0:99999:7:::\ndaemonic:*:20000::::::\n"
        /etc/skel/ 755
        /etc/skel/.profile 644 "hello\n"
        /etc/systemd/ 755
        /etc/systemd/system/ 755
        /etc/systemd/system/a.service 644 "[Service]\nType=oneshot\n[Install]\nWantedBy=multi-user.target\n"
        /etc/systemd/system/a.service.d/ 755
        /etc/systemd/system/a.service.d/10-b.conf 644 "[Unit]\n"
        /etc/systemd/system/masked.service -> /dev/null
        /etc/systemd/system/multi-user.target.wants/ 755
        /etc/systemd/system/multi-user.target.wants/a.service -> /etc/systemd/system/a.service
        /etc/systemd/system-preset/ 755
        /etc/systemd/system-preset/20-ignition.preset 644 "enable a.service\n"
        /hard 600 "hello"
        /home/ 755
        /home/ada/ 700
        /home/ada/.profile 644 "hello\n"
        /home/ada/.ssh/ 700
        /home/ada/.ssh/authorized_keys 600 "ssh-ed25519 AAAA ada\n"
        /srv/ 755
        /srv/a/ 755
        /srv/a/b/ 700
        /srv/a/b/c 600 "hello"
        /srv/empty 644 ""
        /srv/kept 644 "newer"
        /srv/soft -> ../etc/hostname
    "#]].assert_eq(&picture);
    let again = tree.apply(everything()).unwrap();
    assert!(again.steps.iter().all(|(_, outcome)| *outcome == Outcome::AsItWas), "{again:?}");
    assert_eq!(tree.picture(), picture);
}

#[test]
fn a_document_makes_users_where_there_were_none() {
    if !is_root() {
        return;
    }
    let tree = Tree::new();
    tree.apply(serde_json::json!({"passwd": {"users": [{"name": "ada"}]}})).unwrap();
    expect![[r#"
        /etc/ 755
        /etc/group 644 "ada:x:1000:\n"
        /etc/gshadow 600 "ada:!::\n"
        /etc/passwd 644 "ada:x:1000:1000::/home/ada:/bin/bash\n"
        /etc/shadow 600 "ada:*:20000:0:99999:7:::\n"
        /home/ 755
        /home/ada/ 700
    "#]]
    .assert_eq(&tree.picture());
}
