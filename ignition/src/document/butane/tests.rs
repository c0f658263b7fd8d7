mod sugar;

use std::{collections::BTreeMap, io};

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// Files in memory; a path that ends in `*` may be executed, a content that starts with `->` is a
/// link.
struct Memory(BTreeMap<&'static str, &'static str>);

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Vec<u8>, NoFile> {
        let found = self.0.get(path).or_else(|| self.0.get(format!("{path}*").as_str()));
        let source = || io::ErrorKind::NotFound.into();
        let missing = || NoFile::Read { path: path.to_owned(), source: source() };
        found.map(|text| text.as_bytes().to_vec()).ok_or_else(missing)
    }

    fn tree(&self, path: &str) -> Result<Vec<Found>, NoFile> {
        let mut all = vec![Found { path: String::new(), what: What::Directory }];
        for (name, content) in &self.0 {
            let Some(below) = name.strip_prefix(&format!("{path}/")) else { continue };
            let (below, executable) = match below.strip_suffix('*') {
                Some(below) => (below, true),
                None => (below, false),
            };
            let what = match content.strip_prefix("->") {
                Some(target) => What::Link { target: target.to_owned() },
                None if *content == "socket" => What::Other,
                None => What::File { executable },
            };
            for (at, _) in below.match_indices('/') {
                let directory = Found { path: below[..at].to_owned(), what: What::Directory };
                if !all.contains(&directory) {
                    all.push(directory);
                }
            }
            all.push(Found { path: below.to_owned(), what });
        }
        Ok(all)
    }
}

fn files() -> Memory {
    Memory(BTreeMap::from([
        ("hello", "hello\n"),
        ("keys", "ssh-ed25519 A a\r\n\nssh-ed25519 B b\n"),
        ("unit", "[Install]\nWantedBy=a.target\n"),
        ("tree/a/run*", "#!/bin/sh\n"),
        ("tree/a/text", "text"),
        ("tree/link", "->a/text"),
        ("odd/socket", "socket"),
    ]))
}

fn read(text: &str, files: &dyn Files) -> (Option<Node>, String) {
    let mut sources = Sources::default();
    let source = sources.add("a.bu", text);
    let mut report = Report::default();
    let ignition = super::read(source, &sources, files, &mut report);
    (ignition.filter(|_| !report.has_errors()), report.display(&sources).to_string())
}

/// The configuration that a document means, with what is said of it.
fn means(text: &str, expected: Expect) {
    let (ignition, said) = read(text, &files());
    let mut picture = said;
    if let Some(node) = ignition {
        leaves(&node.to_json(), "", &mut picture);
    }
    expected.assert_eq(&picture);
}

/// A line for each value of a configuration.
fn leaves(json: &serde_json::Value, path: &str, picture: &mut String) {
    match json {
        serde_json::Value::Object(map) => {
            map.iter().for_each(|(key, json)| leaves(json, &format!("{path} {key}"), picture));
        }
        serde_json::Value::Array(list) => {
            let mut entry = |(index, json)| leaves(json, &format!("{path} {index}"), picture);
            list.iter().enumerate().for_each(&mut entry);
        }
        value => picture.push_str(&format!("{} = {value}\n", path.trim_start())),
    }
}

fn says(text: &str, expected: Expect) {
    expected.assert_eq(&read(text, &files()).1);
}

fn fcos(rest: &str) -> String {
    format!("variant: fcos\nversion: 1.7.0\n{rest}")
}

#[test]
fn names_are_those_of_the_specification_and_values_of_the_type_that_is_wanted() {
    means(
        &fcos(
            "passwd:\n  users:\n    - name: core\n      no_create_home: yes\n      gecos: 0644\n\
             storage:\n  files:\n    - path: /a\n      mode: 0644\n      contents: {inline: 1.50}\n\
             \x20 disks:\n    - device: /dev/a\n      partitions: [{number: 1, size_mib: 0o17, type_guid: \"\"}]\n",
        ),
        expect![[r#"
            ignition version = "3.6.0"
            passwd users 0 gecos = "0644"
            passwd users 0 name = "core"
            passwd users 0 noCreateHome = true
            storage disks 0 device = "/dev/a"
            storage disks 0 partitions 0 number = 1
            storage disks 0 partitions 0 sizeMiB = 15
            storage disks 0 partitions 0 typeGuid = ""
            storage files 0 contents compression = ""
            storage files 0 contents source = "data:,1.50"
            storage files 0 mode = 420
            storage files 0 path = "/a"
        "#]],
    );
}

#[test]
fn what_is_not_known_is_warned_of_with_what_was_probably_meant() {
    says(
        "variant: fcos\nversion: 1.3.0\nignition: {version: 3.2.0}\nstorage:\n  flies: []\n  luks:\n    - name: a\n      device: /dev/a\n      discard: true\n      wipe-volume: true\nkernel_arguments: {}\n",
        expect![[r#"
            warning: unused key `version`: it is not known here and has no effect
              at a.bu:3:12, $.ignition.version
                3 | ignition: {version: 3.2.0}
                  |            ^
              the version of the whole document, on top, says it
            warning: unused key `flies`: it is not known here and has no effect
              at a.bu:5:3, $.storage.flies
                5 |   flies: []
                  |   ^
              did you mean `files`?
            warning: unused key `discard`: it is not known here and has no effect
              at a.bu:9:7, $.storage.luks.0.discard
                9 |       discard: true
                  |       ^
              fcos 1.5.0 has it
            warning: unused key `wipe-volume`: it is not known here and has no effect
              at a.bu:10:7, $.storage.luks.0.wipe-volume
               10 |       wipe-volume: true
                  |       ^
              did you mean `wipe_volume`?
            warning: unused key `kernel_arguments`: it is not known here and has no effect
              at a.bu:11:1, $.kernel_arguments
               11 | kernel_arguments: {}
                  | ^
              fcos 1.4.0 has it
        "#]],
    );
}

#[test]
fn a_value_of_another_type_is_an_error_in_the_yaml() {
    says(
        &fcos("storage:\n  files: {path: /a}\n  links:\n    - path: [1]\n      hard: 1\n    - 7\n"),
        expect![[r#"
            error: expected a list, found a map
              at a.bu:4:10, $.storage.files
                4 |   files: {path: /a}
                  |          ^
              each entry of a list begins with `- `
            error: expected a text, found a list
              at a.bu:6:13, $.storage.links.0.path
                6 |     - path: [1]
                  |             ^
            error: expected true or false, found a whole number
              at a.bu:7:13, $.storage.links.0.hard
                7 |       hard: 1
                  |             ^
            error: expected a map, found a whole number
              at a.bu:8:7, $.storage.links.1
                8 |     - 7
                  |       ^
        "#]],
    );
}

#[test]
fn complaints_about_the_configuration_point_into_the_yaml() {
    says(
        &fcos(
            "storage:\n  files:\n    - path: a\n    - path: /b\n      contents: {source: ftp://a, inline: null}\n    - mode: 420\n\
             systemd:\n  units:\n    - name: a\n      contents: |\n        [Unit\n",
        ),
        expect![[r#"
            error: expected an absolute path: one that starts with `/`
              at a.bu:5:13, $.storage.files.0.path
                5 |     - path: a
                  |             ^
            error: expected a URL of one of data:, http:, https:, tftp:, s3:, gs:, arn:
              at a.bu:7:26, $.storage.files.1.contents.source
                7 |       contents: {source: ftp://a, inline: null}
                  |                          ^
            error: a path is missing here
              at a.bu:8:7, $.storage.files.2.path
                8 |     - mode: 420
                  |       ^
            error: the name of a unit ends with one of .service .socket .device .mount .automount .swap .target .path .timer .snapshot .slice .scope
              at a.bu:11:13, $.systemd.units.0.name
               11 |     - name: a
                  |             ^
            error: unable to find end of section
              at a.bu:12:17, $.systemd.units.0.contents
               12 |       contents: |
                  |                 ^
        "#]],
    );
}

#[test]
fn a_document_says_for_which_system_it_is() {
    says(
        "storage: {}\n",
        expect![[r#"
        error: expected a text as the variant: for which system this is written
          at a.bu:1:1, $.variant
            1 | storage: {}
              | ^
          one of fcos, flatcar, pithos
    "#]],
    );
    says(
        "variant: rhcos\nversion: 0.1.0\n",
        expect![[r#"
        error: the variant `rhcos` is not known here
          at a.bu:1:10, $.variant
            1 | variant: rhcos
              |          ^
          one of fcos, flatcar, pithos
    "#]],
    );
    says(
        "variant: fcos\nversion: 1.8.0-experimental\n",
        expect![[r#"
        error: fcos 1.8.0-experimental is not stable: what it means may change any day
          at a.bu:2:10, $.version
            2 | version: 1.8.0-experimental
              |          ^
          1.0.0 to 1.7.0 are known
    "#]],
    );
    says(
        "variant: flatcar\nversion: 1.2.0\n",
        expect![[r#"
        error: there is no version 1.2.0 of flatcar here
          at a.bu:2:10, $.version
            2 | version: 1.2.0
              |          ^
          1.0.0 to 1.1.0 are known
    "#]],
    );
    says(
        "variant: fcos\n",
        expect![[r#"
        error: expected the version of fcos as a text
          at a.bu:1:1, $.version
            1 | variant: fcos
              | ^
          the newest is 1.7.0
    "#]],
    );
}

#[test]
fn every_version_maps_to_a_specification() {
    let minor = |variant, version: u8| {
        let text = format!("variant: {variant}\nversion: 1.{version}.0\n");
        let node = yaml::parse(&text, 0).unwrap();
        let ignition = convert(&node, &text, &Nowhere, &mut Report::default())?;
        let version = ignition.get("ignition")?.get("version")?.text()?.to_owned();
        Some(version)
    };
    let all = |variant| (0..9).map_while(|version| minor(variant, version)).collect::<Vec<_>>();
    let fcos = ["3.0.0", "3.1.0", "3.2.0", "3.2.0", "3.3.0", "3.4.0", "3.5.0", "3.6.0"];
    assert_eq!(all("fcos"), fcos);
    assert_eq!(all("flatcar"), ["3.3.0", "3.4.0"]);
    assert_eq!(all("pithos"), ["3.6.0"]);
}

#[test]
fn content_comes_from_the_document_or_from_beside_it() {
    means(
        &fcos(
            "storage:\n  files:\n    - {path: /a, contents: {local: hello}}\n    - {path: /b, contents: {inline: \"a b/c\"}}\n\
             \x20   - {path: /c, append: [{inline: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}]}\n\
             \x20   - {path: /d, contents: {inline: \"H4s\", compression: gzip}}\n\
             passwd:\n  users:\n    - {name: core, ssh_authorized_keys: [x], ssh_authorized_keys_local: [keys]}\n\
             systemd:\n  units:\n    - {name: a.service, contents_local: unit, dropins: [{name: a.conf, contents_local: unit}]}\n",
        ),
        expect![[r#"
            warning: this is not a public key of SSH: nobody can log in with it
              at a.bu:11:42, $.passwd.users.0.ssh_authorized_keys.0
               11 |     - {name: core, ssh_authorized_keys: [x], ssh_authorized_keys_local: [keys]}
                  |                                          ^
              expected the line of a file `*.pub`: `ssh-ed25519 AAAA... comment`
            warning: this is not a public key of SSH: nobody can log in with it
              at a.bu:11:74, $.passwd.users.0.ssh_authorized_keys_local.0
               11 | ore, ssh_authorized_keys: [x], ssh_authorized_keys_local: [keys]}
                  |                                                            ^
              expected the line of a file `*.pub`: `ssh-ed25519 AAAA... comment`
            warning: this is not a public key of SSH: nobody can log in with it
              at a.bu:11:74, $.passwd.users.0.ssh_authorized_keys_local.0
               11 | ore, ssh_authorized_keys: [x], ssh_authorized_keys_local: [keys]}
                  |                                                            ^
              expected the line of a file `*.pub`: `ssh-ed25519 AAAA... comment`
            ignition version = "3.6.0"
            passwd users 0 name = "core"
            passwd users 0 sshAuthorizedKeys 0 = "x"
            passwd users 0 sshAuthorizedKeys 1 = "ssh-ed25519 A a"
            passwd users 0 sshAuthorizedKeys 2 = "ssh-ed25519 B b"
            storage files 0 contents compression = ""
            storage files 0 contents source = "data:,hello%0A"
            storage files 0 path = "/a"
            storage files 1 contents compression = ""
            storage files 1 contents source = "data:,a%20b%2Fc"
            storage files 1 path = "/b"
            storage files 2 append 0 compression = "gzip"
            storage files 2 append 0 source = "data:;base64,H4sIAAAAAAAC/7XAgQAAAACAINb8JaY4RgFEJUHAXQAAAA=="
            storage files 2 path = "/c"
            storage files 3 contents compression = "gzip"
            storage files 3 contents source = "data:,H4s"
            storage files 3 path = "/d"
            systemd units 0 contents = "[Install]\nWantedBy=a.target\n"
            systemd units 0 dropins 0 contents = "[Install]\nWantedBy=a.target\n"
            systemd units 0 dropins 0 name = "a.conf"
            systemd units 0 name = "a.service"
        "#]],
    );
}

#[test]
fn content_from_nowhere_or_from_outside_is_refused() {
    says(
        &fcos(
            "storage:\n  files:\n    - {path: /a, contents: {local: ../../etc/shadow}}\n    - {path: /b, contents: {local: missing}}\n\
             \x20   - {path: /c, contents: {local: a, inline: b}}\n",
        ),
        expect![[r#"
            error: only one of these can be set: inline, local, source
              at a.bu:7:47, $.storage.files.2.contents.inline
                7 |     - {path: /c, contents: {local: a, inline: b}}
                  |                                               ^
        "#]],
    );
    says(
        &fcos(
            "storage:\n  files:\n    - {path: /a, contents: {local: ../../etc/shadow}}\n    - {path: /b, contents: {local: missing}}\n",
        ),
        expect![[r#"
            error: `../../etc/shadow` leads out of the directory that local files are taken from
              at a.bu:5:36, $.storage.files.0.contents.local
                5 |     - {path: /a, contents: {local: ../../etc/shadow}}
                  |                                    ^
            error: reading `missing`: entity not found
              at a.bu:6:36, $.storage.files.1.contents.local
                6 |     - {path: /b, contents: {local: missing}}
                  |                                    ^
        "#]],
    );
    let text = fcos("storage:\n  trees: [{local: tree}]\n");
    expect![[r#"
        error: there is no directory to take local files from
          at a.bu:4:19, $.storage.trees.0.local
            4 |   trees: [{local: tree}]
              |                   ^
          `ignition convert --files-dir DIR` puts local files into a document
    "#]]
    .assert_eq(&read(&text, &Nowhere).1);
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    says(
        &fcos(
            "storage:\n  files: [{path: /a, mode: 644}, {path: /b, mode: 420}]\n  directories: [{path: /c, mode: 755}]\n\
             \x20 disks:\n    - device: /dev/a\n      partitions: [{label: data}]\n\
             \x20   - device: /dev/disk/by-id/coreos-boot-disk\n      partitions: [{label: root, number: 3, size_mib: 4096}]\n\
             \x20   - device: /dev/c\n      wipe_table: true\n      partitions: [{label: root}, {label: var}]\n\
             systemd: {units: [{name: a.service, enabled: true, contents: \"[Service]\\n\"}]}\n",
        ),
        expect![[r#"
            warning: the mode 644 is 0o1204 in octal, which is unusual
              at a.bu:4:28, $.storage.files.0.mode
                4 |   files: [{path: /a, mode: 644}, {path: /b, mode: 420}]
                  |                            ^
              did you mean 0644?
            warning: the mode 755 is 0o1363 in octal, which is unusual
              at a.bu:5:34, $.storage.directories.0.mode
                5 |   directories: [{path: /c, mode: 755}]
                  |                                  ^
              did you mean 0755?
            warning: a partition is not found again by its label: every time that this is applied, another one is made
              at a.bu:8:20, $.storage.disks.0.partitions.0.number
                8 |       partitions: [{label: data}]
                  |                    ^
              give it a number, or the disk `wipe_table: true`
            warning: root has less than 8 GiB: updates will run out of space
              at a.bu:10:55, $.storage.disks.1.partitions.0.size_mib
               10 |       partitions: [{label: root, number: 3, size_mib: 4096}]
                  |                                                       ^
            warning: the partition `root` of the system has the number 4: this makes another one of the same label
              at a.bu:10:28, $.storage.disks.1.partitions.0.label
               10 |       partitions: [{label: root, number: 3, size_mib: 4096}]
                  |                            ^
            warning: root is to fill the disk, but another partition is put behind it: root cannot grow
              at a.bu:13:28, $.storage.disks.2.partitions.0.label
               13 |       partitions: [{label: root}, {label: var}]
                  |                            ^
            warning: `a.service` is enabled, but has no [Install] section: enabling it has no effect
              at a.bu:14:62, $.systemd.units.0.contents
               14 | stemd: {units: [{name: a.service, enabled: true, contents: "[Service]\n"}]}
                  |                                                            ^
        "#]],
    );
}

#[test]
fn a_directory_gives_what_is_in_it_and_nothing_else() {
    let root = std::env::temp_dir().join(format!("butane-files-{}", std::process::id()));
    let beside = root.join("files");
    std::fs::create_dir_all(beside.join("tree/b")).unwrap();
    std::fs::write(root.join("secret"), "secret").unwrap();
    std::fs::write(beside.join("tree/b/c"), "c").unwrap();
    std::os::unix::fs::symlink("../secret", beside.join("out")).unwrap();
    std::os::unix::fs::symlink("b/c", beside.join("tree/a")).unwrap();
    let files = Directory(beside);
    assert_eq!(files.read("tree/b/c").unwrap(), b"c");
    assert!(matches!(files.read("out"), Err(NoFile::Outside(_))));
    assert!(matches!(files.read("tree/missing"), Err(NoFile::Read { .. })));
    let tree: Vec<String> = files
        .tree("tree")
        .unwrap()
        .into_iter()
        .map(|found| format!("{}: {:?}", found.path, found.what))
        .collect();
    std::fs::remove_dir_all(root).unwrap();
    expect![[r#"
        : Directory
        a: Link { target: "b/c" }
        b: Directory
        b/c: File { executable: false }"#]]
    .assert_eq(&tree.join("\n"));
}

#[test]
fn a_url_is_the_shortest_that_there_is() {
    assert_eq!(data_url(b"", false), ("data:,".to_owned(), false));
    assert_eq!(data_url(b"a b\n", false), ("data:,a%20b%0A".to_owned(), false));
    assert_eq!(data_url(&[0, 1, 2, 0, 1, 2], false).0, "data:;base64,AAECAAEC");
    let (url, packed) = data_url(&[b'a'; 1000], false);
    assert!(packed && url.len() < 80);
    assert_eq!(data_url(&[0; 1000], true).0.len(), "data:;base64,".len() + 1336);
}

proptest! {
    #[test]
    fn no_content_is_lost(content: Vec<u8>) {
        let (url, packed) = data_url(&content, false);
        let found = crate::fetch::data::DataUrl::parse(&url).unwrap().decode();
        let found = if packed { crate::document::unpack(&found).unwrap() } else { found };
        prop_assert_eq!(found, content);
    }

    #[test]
    fn no_document_is_too_strange(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "storage", "files", "trees", "boot_device", "luks", "mirror", "devices", "grub",
                "users", "filesystems", "with_mount_unit", "path", "local", "systemd", "units",
                "quadlets", "disks", "partitions", "name", "contents", "ignition", "config",
                "merge", "inline", "mode",
            ]),
            1..6,
        ),
        scalar in prop::sample::select(vec!["~", "1", "-1", "true", "a", "[]", "{}", "[~]", "[{}]", "..", "/"]),
        list in prop::collection::vec(any::<bool>(), 6),
    ) {
        let mut text = scalar.to_owned();
        for (word, list) in words.iter().rev().zip(list) {
            text = if list { format!("{{{word}: [{text}]}}") } else { format!("{{{word}: {text}}}") };
        }
        let inner = &text[1..];
        let _ = read(&format!("{{variant: fcos, version: 1.7.0, {inner}"), &files());
        let _ = read(&format!("{{variant: pithos, version: 1.0.0, {inner}"), &files());
    }
}
