//! Units, and systemd's own word for what enabling them means.

use std::{collections::BTreeSet, process::Command};

use serde_json::json;

use super::*;

const SERVICE: &str = "[Service]\nExecStart=/bin/true\n";

fn units(units: serde_json::Value) -> serde_json::Value {
    json!({"systemd": {"units": units}})
}

#[test]
fn units_drop_ins_and_masks_are_files_and_links() {
    let tree = Tree::new();
    tree.link("/etc/systemd/system/unmasked.service", "/dev/null")
        .link("/etc/systemd/system/alias.service", "other.service")
        .file("/etc/systemd/system/masked.service", SERVICE);
    tree.apply(units(json!([
        {"name": "a.service", "contents": SERVICE, "dropins": [{"name": "empty.conf", "contents": ""},
            {"name": "none.conf"}]},
        {"name": "empty.service", "contents": ""},
        {"name": "masked.service", "mask": true, "contents": SERVICE},
        {"name": "unmasked.service", "mask": false},
        {"name": "alias.service", "mask": false},
    ])))
    .unwrap();
    expect![[r#"
        /etc/ 755
        /etc/systemd/ 755
        /etc/systemd/system/ 755
        /etc/systemd/system/a.service 644 "[Service]\nExecStart=/bin/true\n"
        /etc/systemd/system/a.service.d/ 755
        /etc/systemd/system/a.service.d/empty.conf 644 ""
        /etc/systemd/system/alias.service -> other.service
        /etc/systemd/system/masked.service -> /dev/null
    "#]]
    .assert_eq(&tree.picture());
}

#[test]
fn presets_are_sorted_and_instances_of_a_template_share_a_line() {
    let tree = Tree::new();
    tree.file(
        "/etc/systemd/system-preset/20-ignition.preset",
        "enable old.service\nenable b.service\n",
    )
    .file("/usr/lib/systemd/system/off.service", SERVICE)
    .file("/usr/lib/systemd/system/echo@.service", SERVICE);
    let done = tree
        .apply(units(json!([
            {"name": "echo@two.service", "enabled": true},
            {"name": "b.service", "enabled": true},
            {"name": "echo@one.service", "enabled": true},
            {"name": "echo@.service", "enabled": false},
            {"name": "off.service", "enabled": false},
            {"name": "none.service", "enabled": false},
            {"name": "a.service", "enabled": true},
        ])))
        .unwrap();
    expect![[r#"
        enable a.service
        enable b.service
        enable echo@.service two one
        disable echo@.service
        disable off.service
        enable old.service
    "#]]
    .assert_eq(&tree.text("/etc/systemd/system-preset/20-ignition.preset"));
    expect![[r#"
        $.systemd.units.0: `echo@two.service` has nothing in [Install]: enabling it does nothing
        $.systemd.units.1: `b.service` is not there: only its preset says that it shall start
        $.systemd.units.2: `echo@one.service` has nothing in [Install]: enabling it does nothing
        $.systemd.units.6: `a.service` is not there: only its preset says that it shall start"#]]
    .assert_eq(&done.notes.join("\n"));
}

#[test]
fn a_disabled_unit_loses_all_its_links_and_no_other_does() {
    let tree = Tree::new();
    let etc = "/etc/systemd/system";
    tree.file("/usr/lib/systemd/system/a.service", SERVICE)
        .link(
            &format!("{etc}/multi-user.target.wants/a.service"),
            "/usr/lib/systemd/system/a.service",
        )
        .link(&format!("{etc}/x.target.requires/a.service"), "/usr/lib/systemd/system/a.service")
        .link(&format!("{etc}/alias.service"), "/usr/lib/systemd/system/a.service")
        .link(
            &format!("{etc}/multi-user.target.wants/b.service"),
            "/usr/lib/systemd/system/b.service",
        );
    tree.apply(units(json!([{"name": "a.service", "enabled": false}]))).unwrap();
    expect![[r#"
        /etc/ 755
        /etc/systemd/ 755
        /etc/systemd/system/ 755
        /etc/systemd/system/multi-user.target.wants/ 755
        /etc/systemd/system/multi-user.target.wants/b.service -> /usr/lib/systemd/system/b.service
        /etc/systemd/system/x.target.requires/ 755
        /etc/systemd/system-preset/ 755
        /etc/systemd/system-preset/20-ignition.preset 644 "disable a.service\n"
        /usr/ 755
        /usr/lib/ 755
        /usr/lib/systemd/ 755
        /usr/lib/systemd/system/ 755
        /usr/lib/systemd/system/a.service 644 "[Service]\nExecStart=/bin/true\n"
    "#]]
    .assert_eq(&tree.picture());
}

/// Names and texts of units.
type Files = &'static [(&'static str, &'static str)];

/// Units, and what of them is enabled.
const CASES: [(Files, &[&str]); 9] = [
    (
        &[("a.service", "[Install]\nWantedBy=multi-user.target x.target\nRequiredBy=y.target\n")],
        &["a.service"],
    ),
    (&[("a.service", "[Install]\nAlias=b.service c.service\n")], &["a.service"]),
    (
        &[
            ("a.service", "[Install]\nAlso=a.socket\nWantedBy=m.target\n"),
            ("a.socket", "[Install]\nWantedBy=sockets.target\nAlso=a.service\n"),
        ],
        &["a.service"],
    ),
    (&[("e@.service", "[Install]\nWantedBy=m.target\n")], &["e@one.service", "e@two.service"]),
    (&[("e@.service", "[Install]\nWantedBy=m.target\nDefaultInstance=three\n")], &["e@.service"]),
    (&[("e@.service", "[Install]\nWantedBy=%i.target\nAlias=d@.service\n")], &["e@one.service"]),
    (&[("a.service", "[Install]\nWantedBy=%p.target %N.target\n")], &["a.service"]),
    (&[("e@.service", "[Install]\nWantedBy=m@.target\n")], &["e@.service"]),
    (
        &[("a.service", SERVICE), ("a.service.d/x.conf", "[Install]\nWantedBy=m.target\n")],
        &["a.service"],
    ),
];

#[test]
fn enabling_makes_the_links_that_systemctl_makes() {
    if Command::new("systemctl").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: no systemctl to compare with");
        return;
    }
    for (files, names) in CASES {
        for directory in ["/usr/lib/systemd/system", "/etc/systemd/system"] {
            let (ours, theirs) = (Tree::new(), Tree::new());
            for (name, text) in files {
                ours.file(&format!("{directory}/{name}"), text);
                theirs.file(&format!("{directory}/{name}"), text);
            }
            let list: Vec<_> =
                names.iter().map(|name| json!({"name": name, "enabled": true})).collect();
            let done = ours.apply(units(json!(list))).unwrap();
            assert!(done.notes.is_empty(), "{:?}", done.notes);
            let root = theirs.0.path();
            let systemctl = Command::new("systemctl")
                .arg("--root")
                .arg(root)
                .arg("enable")
                .args(names)
                .output();
            let output = systemctl.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(links(&ours), links(&theirs), "{files:?}");

            let list: Vec<_> =
                names.iter().map(|name| json!({"name": name, "enabled": false})).collect();
            ours.apply(units(json!(list))).unwrap();
            assert_eq!(links(&ours), BTreeSet::new(), "{files:?}");
        }
    }
}

fn links(tree: &Tree) -> BTreeSet<String> {
    tree.picture().lines().filter(|line| line.contains(" -> ")).map(str::to_owned).collect()
}
