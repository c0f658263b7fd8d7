//! Users and groups, and what useradd and its sisters make of the same wishes.

use std::process::Command;

use serde_json::json;

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# a note\ncore:x:500:500:Operator:/home/core:/bin/bash\n\
    daemon:x:1:1::/:/sbin/nologin\n+::::::\nlast:x:1003:1003::/home/last:/bin/sh\n";
const SHADOW: &str = "root:*:15887:0:::::\ncore:*:15887:0:::::\nlast:!:15887:0:99999:7:::\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:root,core\nsudo:x:27:core\nusers:x:100:\ncore:x:500:\n\
    last:x:1003:\nsystem:x:998:\n";
const GSHADOW: &str = "root:*::\nwheel:*::root,core\nsudo:*::core\nusers:*::\ncore:!::\nlast:!::\n";
const LOGIN_DEFS: &str = "# comment\nUID_MIN 1000\nUID_MAX 60000\nSYS_UID_MIN 100\nGID_MIN 1000\nGID_MAX 60000\n\
    PASS_MAX_DAYS 99999\nPASS_MIN_DAYS 0\nPASS_WARN_AGE 7\nUSERGROUPS_ENAB yes\nHOME_MODE 0700\n\
    SUB_UID_MIN 100000\nSUB_UID_MAX 600100000\nSUB_UID_COUNT 65536\n\
    SUB_GID_MIN 100000\nSUB_GID_MAX 600100000\nSUB_GID_COUNT 65536\n";

fn machine() -> Tree {
    let tree = Tree::new();
    tree.file("/etc/passwd", PASSWD)
        .file("/etc/shadow", SHADOW)
        .file("/etc/group", GROUP)
        .file("/etc/gshadow", GSHADOW)
        .file("/etc/subuid", "core:524288:65536\n")
        .file("/etc/subgid", "core:524288:65536\n")
        .file("/etc/login.defs", LOGIN_DEFS)
        .file("/etc/default/useradd", "SHELL=/bin/sh\nGROUP=100\nHOME=/home\n")
        .file("/etc/skel/.profile", "hello\n")
        .file("/home/last/x", "");
    tree
}

fn passwd(passwd: serde_json::Value) -> serde_json::Value {
    json!({ "passwd": passwd })
}

/// The lines that are other than they were.
fn changes(tree: &Tree) -> String {
    let mut changes = String::new();
    let files = [("passwd", PASSWD), ("shadow", SHADOW), ("group", GROUP), ("gshadow", GSHADOW)];
    let subs = [("subuid", "core:524288:65536\n"), ("subgid", "core:524288:65536\n")];
    for (name, old) in files.into_iter().chain(subs) {
        let new = tree.text(&format!("/etc/{name}"));
        for line in old.lines().filter(|line| !new.lines().any(|new| new == *line)) {
            changes.push_str(&format!("{name} - {line}\n"));
        }
        for line in new.lines().filter(|line| !old.lines().any(|old| old == *line)) {
            changes.push_str(&format!("{name} + {line}\n"));
        }
    }
    changes
}

#[test]
fn a_user_is_made_with_a_group_a_home_and_keys() {
    if !is_root() {
        return;
    }
    let tree = machine();
    tree.apply(passwd(json!({"users": [
        {"name": "ada", "gecos": "Ada", "groups": ["wheel", "27"], "sshAuthorizedKeys": ["one", "two"],
         "passwordHash": "zJW/EKqqIk44o"},
        {"name": "robot", "system": true, "noCreateHome": true, "shell": "/sbin/nologin"},
    ]})))
    .unwrap();
    expect![[r#"
        passwd + ada:x:1004:1004:Ada:/home/ada:/bin/sh
        passwd + robot:x:499:499::/home/robot:/sbin/nologin
        shadow + ada:zJW/EKqqIk44o:20000:0:99999:7:::
        shadow + robot:*:20000::::::
        group - wheel:x:10:root,core
        group - sudo:x:27:core
        group + wheel:x:10:root,core,ada
        group + sudo:x:27:core,ada
        group + ada:x:1004:
        group + robot:x:499:
        gshadow - wheel:*::root,core
        gshadow - sudo:*::core
        gshadow + wheel:*::root,core,ada
        gshadow + sudo:*::core,ada
        gshadow + ada:!::
        gshadow + robot:!::
        subuid + ada:100000:65536
        subgid + ada:100000:65536
    "#]]
    .assert_eq(&changes(&tree));
    let home = tree.path("/home/ada").metadata().unwrap();
    assert_eq!((home.uid(), home.gid(), home.mode() & 0o7777), (1004, 1004, 0o700));
    assert_eq!(tree.text("/home/ada/.profile"), "hello\n");
    assert_eq!(tree.text("/home/ada/.ssh/authorized_keys"), "one\ntwo\n");
    let keys = tree.path("/home/ada/.ssh/authorized_keys").metadata().unwrap();
    assert_eq!((keys.uid(), keys.gid(), keys.mode() & 0o7777), (1004, 1004, 0o600));
}

#[test]
fn a_user_of_the_image_is_changed() {
    if !is_root() {
        return;
    }
    let tree = machine();
    tree.file(
        "/etc/ssh/sshd_config.d/10-a.conf",
        "AuthorizedKeysFile .ssh/authorized_keys.d/ignition\n",
    );
    tree.apply(passwd(json!({
        "groups": [{"name": "wheel", "passwordHash": "*"}, {"name": "last", "gid": 2000}],
        "users": [{"name": "core", "uid": 501, "groups": ["users"], "passwordHash": "", "gecos": "C",
            "shell": "/bin/zsh", "sshAuthorizedKeys": ["key"]},
            {"name": "last", "homeDir": "/var/last"}],
    })))
    .unwrap();
    expect![[r#"
        passwd - core:x:500:500:Operator:/home/core:/bin/bash
        passwd - last:x:1003:1003::/home/last:/bin/sh
        passwd + core:x:501:500:C:/home/core:/bin/zsh
        passwd + last:x:1003:2000::/var/last:/bin/sh
        group - wheel:x:10:root,core
        group - sudo:x:27:core
        group - users:x:100:
        group - last:x:1003:
        group + wheel:x:10:root
        group + sudo:x:27:
        group + users:x:100:core
        group + last:x:2000:
        gshadow - wheel:*::root,core
        gshadow - sudo:*::core
        gshadow - users:*::
        gshadow + wheel:*::root
        gshadow + sudo:*::
        gshadow + users:*::core
    "#]]
    .assert_eq(&changes(&tree));
    assert_eq!(tree.path("/var/last/x").metadata().unwrap().uid(), 1003);
    assert!(!tree.path("/home/last").exists());
    assert_eq!(tree.text("/home/core/.ssh/authorized_keys.d/ignition"), "key\n");
}

#[test]
fn a_user_is_removed_with_group_membership_and_home() {
    if !is_root() {
        return;
    }
    let tree = machine();
    std::os::unix::fs::chown(tree.path("/home/last"), Some(1003), None).unwrap();
    tree.apply(passwd(json!({"users": [
        {"name": "core", "shouldExist": false}, {"name": "last", "shouldExist": false},
        {"name": "nobody-here", "shouldExist": false},
    ]})))
    .unwrap();
    expect![[r#"
        passwd - core:x:500:500:Operator:/home/core:/bin/bash
        passwd - last:x:1003:1003::/home/last:/bin/sh
        shadow - core:*:15887:0:::::
        shadow - last:!:15887:0:99999:7:::
        group - wheel:x:10:root,core
        group - sudo:x:27:core
        group - core:x:500:
        group - last:x:1003:
        group + wheel:x:10:root
        group + sudo:x:27:
        gshadow - wheel:*::root,core
        gshadow - sudo:*::core
        gshadow - core:!::
        gshadow - last:!::
        gshadow + wheel:*::root
        gshadow + sudo:*::
        subuid - core:524288:65536
        subgid - core:524288:65536
    "#]]
    .assert_eq(&changes(&tree));
    assert!(!tree.path("/home/last").exists());
}

#[test]
fn what_useradd_would_refuse_is_refused_with_its_place() {
    let tree = machine();
    for (wish, expected) in [
        (
            json!({"users": [{"name": "a:b"}]}),
            expect![[r#"
            $.passwd.users.0.name: `a:b` cannot be the name of a user or group
              letters, digits, `_`, `.` and, not at the start, `-`; at most 32, not all digits
        "#]],
        ),
        (
            json!({"users": [{"name": "wheel"}]}),
            expect![[r#"
            $.passwd.users.0: there is a group `wheel` already, and the user would get one
              say "primaryGroup": "wheel" to put the user into it
        "#]],
        ),
        (
            json!({"users": [{"name": "a", "uid": 500}]}),
            expect![[r#"
            $.passwd.users.0.uid: the user `core` has the number 500 already
        "#]],
        ),
        (
            json!({"users": [{"name": "a", "groups": ["none"]}]}),
            expect![[r#"
            $.passwd.users.0.groups: there is no group `none`
              let passwd.groups of the document make it
        "#]],
        ),
        (
            json!({"users": [{"name": "a", "passwordHash": "secret"}]}),
            expect![[r#"
            $.passwd.users.0.passwordHash: this is not the hash of a password
              make one with `mkpasswd` or `openssl passwd -6`; `*` is no password at all
        "#]],
        ),
        (
            json!({"users": [{"name": "a", "homeDir": "a"}]}),
            expect![[r#"
            $.passwd.users.0.homeDir: `a` is not an absolute path
        "#]],
        ),
        (
            json!({"users": [{"name": "a", "gecos": "a\nroot::0:0:::"}]}),
            expect![[r#"
            $.passwd.users.0.gecos: a `:` or a line break cannot be in it
        "#]],
        ),
        (
            json!({"groups": [{"name": "a", "gid": 10}]}),
            expect![[r#"
            $.passwd.groups.0.gid: the group `wheel` has the number 10 already
        "#]],
        ),
        (
            json!({"groups": [{"name": "core", "shouldExist": false}]}),
            expect![[r#"
            $.passwd.groups.0: `core` is the first group of the user `core`
              give the user another primaryGroup first
        "#]],
        ),
    ] {
        check_refused(&tree, passwd(wish), expected);
    }
    assert_eq!(changes(&tree), "");
}

#[test]
fn who_shall_not_be_does_not_come_back_with_the_image() {
    if !is_root() {
        return;
    }
    let tree = machine();
    tree.file("/usr/lib/sysusers.d/core.conf", "u core 500\n")
        .file("/usr/lib/sysusers.d/last.conf", "u last 1003\n")
        .file("/usr/lib/tmpfiles.d/core.conf", "d /home/core\n");
    let wish = || passwd(json!({"users": [{"name": "core", "shouldExist": false}]}));
    tree.apply(wish()).unwrap();
    for hidden in ["/etc/sysusers.d/core.conf", "/etc/tmpfiles.d/core.conf"] {
        assert_eq!(fs::read_link(tree.path(hidden)).unwrap(), Path::new("/dev/null"));
    }
    assert!(!tree.path("/etc/sysusers.d/last.conf").exists());
    let again = tree.apply(wish()).unwrap();
    assert!(again.steps.iter().all(|(_, outcome)| *outcome == Outcome::AsItWas), "{again:?}");
}

#[test]
fn the_same_lines_come_out_of_useradd() {
    if !is_root() || Command::new("useradd").arg("--help").output().is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: no useradd to compare with");
        return;
    }
    // The day comes from the clock of the machine there: it is not compared.
    let without_day = |text: String| text.replace(&format!(":{}:", today()), ":20000:");
    for (wish, command, arguments) in [
        (json!({"users": [{"name": "a"}]}), "useradd", "--create-home --password * a"),
        (
            json!({"users": [{"name": "a", "uid": 1020}]}),
            "useradd",
            "--create-home --password * --uid 1020 a",
        ),
        (
            json!({"users": [{"name": "a", "uid": 700}]}),
            "useradd",
            "--create-home --password * --uid 700 a",
        ),
        (
            json!({"users": [{"name": "a", "system": true}]}),
            "useradd",
            "--create-home --password * --system a",
        ),
        (
            json!({"users": [{"name": "a", "noUserGroup": true, "homeDir": "/srv/a"}]}),
            "useradd",
            "--home-dir /srv/a --create-home --no-user-group --password * a",
        ),
        (
            json!({"users": [{"name": "a", "primaryGroup": "wheel", "groups": ["sudo", "users"], "shell": "/bin/x"}]}),
            "useradd",
            "--create-home --password * --gid wheel --groups sudo,users --shell /bin/x a",
        ),
        (
            json!({"users": [{"name": "core", "groups": ["users"], "passwordHash": "!", "gecos": "x"}]}),
            "usermod",
            "--password ! --comment x --groups users core",
        ),
        (json!({"users": [{"name": "core", "shouldExist": false}]}), "userdel", "--remove core"),
        (json!({"groups": [{"name": "g"}]}), "groupadd", "g"),
        (json!({"groups": [{"name": "g", "system": true}]}), "groupadd", "--system g"),
        (
            json!({"groups": [{"name": "g", "gid": 1234, "passwordHash": "*"}]}),
            "groupadd",
            "--gid 1234 --password * g",
        ),
        (json!({"groups": [{"name": "last", "gid": 1234}]}), "groupmod", "--gid 1234 last"),
        (json!({"groups": [{"name": "system", "shouldExist": false}]}), "groupdel", "system"),
    ] {
        let (ours, theirs) = (machine(), machine());
        ours.apply(passwd(wish)).unwrap();
        let mut program = Command::new(command);
        program.arg("--prefix").arg(theirs.0.path()).args(arguments.split(' '));
        let output = program.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || command == "userdel", "{command} {arguments}: {said}");
        assert_eq!(changes(&ours), without_day(changes(&theirs)), "{command} {arguments}");
    }
}

fn today() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs() / 86_400
}

#[test]
fn directories_made_for_mounts_in_a_home_belong_to_who_lives_there() {
    if !is_root() {
        return;
    }
    let tree = machine();
    tree.file("/home/ada/data/lost", "").file("/home/adam/x", "");
    let made = ["/home/ada", "/home/ada/data", "/home/adam"];
    let options = Options {
        day: 20_000,
        made_for_mounts: made.into_iter().map(Into::into).collect(),
        ..Options::default()
    };
    tree.apply_with(passwd(json!({"users": [{"name": "ada"}]})), &options).unwrap();
    let is = |path: &str| {
        let metadata = tree.path(path).metadata().unwrap();
        (metadata.uid(), metadata.mode() & 0o777)
    };
    assert_eq!(is("/home/ada"), (1004, 0o700));
    assert_eq!(is("/home/ada/data"), (1004, 0o700));
    assert_eq!(is("/home/adam"), (0, 0o755));
}
