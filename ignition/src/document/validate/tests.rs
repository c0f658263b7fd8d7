//! The rules as tables: parts of documents, and what is said of each.

use std::fmt::Write;

use expect_test::{Expect, expect};

use crate::document::{Nowhere, Sources, read, report::Severity};

/// Reads each part as all that a document of specification 3.`minor`.0 says, and shows its path and
/// message for each complaint.
fn check(minor: u8, parts: &[&str], expected: Expect) {
    let mut said = String::new();
    for part in parts {
        let text = format!(r#"{{"ignition": {{"version": "3.{minor}.0"}}, {part}}}"#);
        let report = read("a.ign", text.as_bytes(), &Nowhere, &mut Sources::default()).report;
        if report.findings.is_empty() {
            writeln!(said, "fine: {part}").unwrap();
        }
        for found in report.findings {
            let word = match found.severity {
                Severity::Warning => "warning, ",
                Severity::Error => "",
            };
            writeln!(said, "{word}{}: {}", found.path, found.message).unwrap();
        }
    }
    expected.assert_eq(&said);
}

/// The same of what is below `storage`.
fn check_storage(minor: u8, parts: &[&str], expected: Expect) {
    let parts: Vec<String> = parts.iter().map(|part| format!(r#""storage": {{{part}}}"#)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    check(minor, &parts, expected);
}

#[test]
fn a_path_is_absolute_and_clean() {
    check_storage(
        6,
        &[
            r#""files": [{"path": "/etc/a"}]"#,
            r#""files": [{"path": ""}]"#,
            r#""files": [{"path": "etc/a"}]"#,
            r#""files": [{"path": "/etc//a"}]"#,
            r#""directories": [{"path": "/etc/../a"}]"#,
            r#""links": [{"path": "/etc/a/", "target": "b"}]"#,
            r#""filesystems": [{"device": "/dev/./a"}]"#,
            r#""files": [{"path": "/etc/\u0000"}]"#,
        ],
        expect![[r#"
            fine: "storage": {"files": [{"path": "/etc/a"}]}
            $.storage.files.0.path: a path is missing here
            $.storage.files.0.path: expected an absolute path: one that starts with `/`
            $.storage.files.0.path: expected a clean path: without `//`, `.`, `..` and `/` at its end
            $.storage.directories.0.path: expected a clean path: without `//`, `.`, `..` and `/` at its end
            $.storage.links.0.path: expected a clean path: without `//`, `.`, `..` and `/` at its end
            $.storage.filesystems.0.device: expected a clean path: without `//`, `.`, `..` and `/` at its end
            $.storage.files.0.path: a path with a zero byte in it
        "#]],
    );
}

#[test]
fn a_file_says_what_becomes_of_what_is_there() {
    check_storage(
        6,
        &[
            r#""files": [{"path": "/a", "overwrite": true}]"#,
            r#""files": [{"path": "/a", "overwrite": true, "contents": {"source": ""}}]"#,
            r#""files": [{"path": "/a", "mode": 4096}]"#,
            r#""files": [{"path": "/a", "mode": -1}]"#,
            r#""files": [{"path": "/a", "mode": 2541}]"#,
            r#""files": [{"path": "/a", "user": {"id": 1, "name": "ada"}}]"#,
            r#""files": [{"path": "/a", "group": {"id": -1}}]"#,
            r#""files": [{"path": "/a"}], "directories": [{"path": "/a"}]"#,
        ],
        expect![[r#"
            $.storage.files.0.overwrite: it would remove what is there, and there is no source to put in its place
            fine: "storage": {"files": [{"path": "/a", "overwrite": true, "contents": {"source": ""}}]}
            $.storage.files.0.mode: not permissions: expected 0 to 4095 (octal 0 to 7777)
            $.storage.files.0.mode: not permissions: expected 0 to 4095 (octal 0 to 7777)
            fine: "storage": {"files": [{"path": "/a", "mode": 2541}]}
            $.storage.files.0.user: an owner is given by id or by name, not by both
            $.storage.files.0.group.id: -1 is less than 0
            $.storage.directories.0: a duplicate entry `/a`: the first is $.storage.files.0
        "#]],
    );
    check_storage(
        5,
        &[r#""files": [{"path": "/a", "mode": 2541}]"#],
        expect![[r#"
        warning, $.storage.files.0.mode: setuid, setgid and sticky have no effect before specification 3.6.0
    "#]],
    );
}

#[test]
fn a_link_leads_somewhere_and_nothing_goes_through_it() {
    check_storage(
        6,
        &[
            r#""links": [{"path": "/a"}]"#,
            r#""links": [{"path": "/a", "target": ""}]"#,
            r#""links": [{"path": "/a", "target": "/b", "hard": true}], "directories": [{"path": "/b"}]"#,
            r#""links": [{"path": "/a", "target": "/b", "hard": true, "user": {"name": "ada"}}]"#,
            r#""links": [{"path": "/a", "target": "/b"}], "files": [{"path": "/a/c"}]"#,
            r#""links": [{"path": "/a", "target": "/b"}], "files": [{"path": "/ab/c"}]"#,
        ],
        expect![[r#"
            $.storage.links.0.target: a link has a target
            $.storage.links.0.target: a link has a target
            $.storage.links.0: a hard link cannot lead to a directory
            warning, $.storage.links.0.user.name: a hard link has the owner of its target; this has no effect
            $.storage.files.0: the path leads through /a, which this document makes a link
            fine: "storage": {"links": [{"path": "/a", "target": "/b"}], "files": [{"path": "/ab/c"}]}
        "#]],
    );
    check_storage(
        0,
        &[r#""links": [{"path": "/a", "target": ""}]"#],
        expect![[r#"
        $.storage.links.0.target: a link has a target
    "#]],
    );
}

#[test]
fn partitions_are_told_apart_and_do_not_overlap() {
    let disk = |partitions: &str| {
        format!(r#""disks": [{{"device": "/dev/vda", "partitions": [{partitions}]}}]"#)
    };
    let parts = [
        r#"{"number": 1}, {"number": 1}"#,
        r#"{"label": "a", "number": 1}, {"label": "a", "number": 2}"#,
        r#"{"number": 1, "startMiB": 1, "sizeMiB": 2}, {"number": 2, "startMiB": 2, "sizeMiB": 1}"#,
        r#"{"number": 1, "startMiB": 1, "sizeMiB": 1}, {"number": 2, "startMiB": 2, "sizeMiB": 1}"#,
        r#"{"sizeMiB": 1}"#,
        r#"{"number": -1, "label": "a"}"#,
        r#"{"number": 1, "sizeMiB": -1}"#,
        r#"{"number": 1, "sizeMiB": 9223372036854775807}"#,
        r#"{"number": 1, "shouldExist": false, "sizeMiB": 0}"#,
        r#"{"number": 1, "shouldExist": false}, {"label": "a"}"#,
        r#"{"number": 1, "label": "a:b"}"#,
        r#"{"number": 1, "label": "1234567890123456789012345678901234567"}"#,
        r#"{"number": 1, "guid": "1"}"#,
        r#"{"number": 1, "typeGuid": ""}"#,
    ]
    .map(disk);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    check_storage(
        6,
        &parts,
        expect![[r#"
        $.storage.disks.0.partitions.1: a duplicate entry `1`: the first is $.storage.disks.0.partitions.0
        $.storage.disks.0.partitions.1: another partition of this disk has the same number
        $.storage.disks.0.partitions.1: another partition of this disk has the same label
        $.storage.disks.0.partitions.1: this partition and another one of this disk overlap
        fine: "storage": {"disks": [{"device": "/dev/vda", "partitions": [{"number": 1, "startMiB": 1, "sizeMiB": 1}, {"number": 2, "startMiB": 2, "sizeMiB": 1}]}]}
        $.storage.disks.0.partitions.0: a partition has a number from 1 on, or a label
        $.storage.disks.0.partitions.0.number: -1 is less than 0
        $.storage.disks.0.partitions.0.sizeMiB: -1 is less than 0
        $.storage.disks.0.partitions.0.sizeMiB: more bytes than a number can hold
        $.storage.disks.0.partitions.0: a partition that shall not exist is given by its number alone
        $.storage.disks.0.partitions.0: a partition cannot be removed beside one with the number 0: which numbers are free is not known before
        $.storage.disks.0.partitions.0.label: a label of a partition cannot hold `:`
        $.storage.disks.0.partitions.0.label: a label of a partition has at most 36 characters
        $.storage.disks.0.partitions.0.guid: expected a GUID as 01234567-89AB-CDEF-EDCB-A98765432101
        fine: "storage": {"disks": [{"device": "/dev/vda", "partitions": [{"number": 1, "typeGuid": ""}]}]}
    "#]],
    );
}

#[test]
fn an_array_has_a_level_that_is_known_and_devices() {
    check_storage(
        6,
        &[
            r#""raid": [{"name": "a", "level": "raid1", "devices": ["/dev/vda"], "spares": 1}]"#,
            r#""raid": [{"name": "a", "level": "stripe", "devices": ["/dev/vda"], "spares": 1}]"#,
            r#""raid": [{"name": "a", "level": "raid7", "devices": ["vda"]}]"#,
            r#""raid": [{"name": "a", "level": "raid1"}]"#,
            r#""raid": [{"name": "a", "devices": ["/dev/vda"]}]"#,
            r#""raid": [{"name": "../a", "level": "raid1", "devices": ["/dev/vda"], "spares": -1}]"#,
        ],
        expect![[r#"
            fine: "storage": {"raid": [{"name": "a", "level": "raid1", "devices": ["/dev/vda"], "spares": 1}]}
            $.storage.raid.0.level: this level cannot make use of spares
            $.storage.raid.0.level: expected linear, raid0, raid1, raid4, raid5, raid6 or raid10
            $.storage.raid.0.devices.0: expected an absolute path: one that starts with `/`
            $.storage.raid.0.devices: the devices of the array are missing
            $.storage.raid.0.level: a level is missing here
            $.storage.raid.0.name: expected a name: a word without `/`
            $.storage.raid.0.spares: -1 is less than 0
        "#]],
    );
}

#[test]
fn a_volume_says_who_opens_it() {
    let volume = |rest: &str| format!(r#""luks": [{{"name": "a", "device": "/dev/vda", {rest}}}]"#);
    let parts = [
        r#""keyFile": {"source": "data:,key"}"#,
        r#""keyFile": {"source": "ftp://a/key"}"#,
        r#""label": "123456789012345678901234567890123456789012345678""#,
        r#""clevis": {"tpm2": true, "threshold": 1}"#,
        r#""clevis": {"threshold": -1}"#,
        r#""clevis": {"custom": {"pin": "yubikey", "config": "{}"}}"#,
        r#""clevis": {"custom": {"pin": "tang", "config": "{}"}, "tpm2": true}"#,
        r#""clevis": {"custom": {"needsNetwork": true}}"#,
        r#""clevis": {"tang": [{"url": "http://a", "thumbprint": "x"}]}"#,
        r#""clevis": {"tang": [{"url": "ftp://a", "advertisement": "{"}]}"#,
        r#""cex": {"enabled": true}, "clevis": {"tpm2": true}"#,
        r#""cex": {"enabled": true}, "keyFile": {"source": "data:,key"}"#,
    ]
    .map(volume);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    check_storage(
        6,
        &parts,
        expect![[r#"
        fine: "storage": {"luks": [{"name": "a", "device": "/dev/vda", "keyFile": {"source": "data:,key"}}]}
        $.storage.luks.0.keyFile.source: expected a URL of one of data:, http:, https:, tftp:, s3:, gs:, arn:
        $.storage.luks.0.label: a label of LUKS2 has at most 47 bytes
        fine: "storage": {"luks": [{"name": "a", "device": "/dev/vda", "clevis": {"tpm2": true, "threshold": 1}}]}
        $.storage.luks.0.clevis.threshold: -1 is less than 0
        fine: "storage": {"luks": [{"name": "a", "device": "/dev/vda", "clevis": {"custom": {"pin": "yubikey", "config": "{}"}}}]}
        $.storage.luks.0.clevis: a custom pin excludes tang, tpm2 and threshold
        $.storage.luks.0.clevis.custom.pin: the name of the pin is missing
        $.storage.luks.0.clevis.custom.config: the configuration of the pin is missing
        fine: "storage": {"luks": [{"name": "a", "device": "/dev/vda", "clevis": {"tang": [{"url": "http://a", "thumbprint": "x"}]}}]}
        $.storage.luks.0.clevis.tang.0.url: expected an address of http: or https:
        $.storage.luks.0.clevis.tang.0.thumbprint: a thumbprint is missing here: without it, anybody could answer
        $.storage.luks.0.clevis.tang.0.advertisement: an advertisement is JSON
        $.storage.luks.0.cex: a Crypto Express card and clevis exclude each other
        $.storage.luks.0.cex: a Crypto Express card and a key file exclude each other
    "#]],
    );
    let custom = volume(r#""clevis": {"custom": {"pin": "yubikey", "config": "{}"}}"#);
    check_storage(
        5,
        &[&custom],
        expect![[r#"
        $.storage.luks.0.clevis.custom.pin: before specification 3.6.0: tpm2, tang or sss
    "#]],
    );
    check_storage(
        6,
        &[r#""luks": [{"name": "a/b", "device": "vda"}]"#, r#""luks": [{"name": "a b"}]"#],
        expect![[r#"
            $.storage.luks.0.name: the name of a volume cannot hold `/`
            $.storage.luks.0.device: expected an absolute path: one that starts with `/`
            $.storage.luks.0.name: expected a name: a word without blanks
            $.storage.luks.0.device: a device is missing here
        "#]],
    );
}

#[test]
fn a_file_system_has_a_format_and_a_label_that_fits() {
    let on = |rest: &str| format!(r#""filesystems": [{{"device": "/dev/vda", {rest}}}]"#);
    let parts = [
        r#""format": "ext4", "label": "1234567890123456""#,
        r#""format": "ext4", "label": "12345678901234567""#,
        r#""format": "xfs", "label": "1234567890123""#,
        r#""format": "vfat", "label": "123456789012""#,
        r#""format": "swap", "label": "1234567890123456""#,
        r#""format": "ext3""#,
        r#""format": "none""#,
        r#""path": "/var""#,
        r#""label": "a""#,
        r#""path": """#,
    ]
    .map(on);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    check_storage(
        6,
        &parts,
        expect![[r#"
        fine: "storage": {"filesystems": [{"device": "/dev/vda", "format": "ext4", "label": "1234567890123456"}]}
        $.storage.filesystems.0.label: a label of this format has at most 16 bytes
        $.storage.filesystems.0.label: a label of this format has at most 12 bytes
        $.storage.filesystems.0.label: a label of this format has at most 11 bytes
        $.storage.filesystems.0.label: a label of this format has at most 15 bytes
        $.storage.filesystems.0.format: expected one of ext4, btrfs, xfs, swap, vfat, none
        fine: "storage": {"filesystems": [{"device": "/dev/vda", "format": "none"}]}
        $.storage.filesystems.0.format: a format is missing: what else is said here needs one
        $.storage.filesystems.0.format: a format is missing: what else is said here needs one
        $.storage.filesystems.0.label: a label needs a format
        fine: "storage": {"filesystems": [{"device": "/dev/vda", "path": ""}]}
    "#]],
    );
    check_storage(
        2,
        &[&on(r#""format": "none""#)],
        expect![[r#"
        $.storage.filesystems.0.format: expected one of ext4, btrfs, xfs, swap, vfat
    "#]],
    );
    check_storage(
        6,
        &[
            r#""filesystems": [{"device": "/dev/vda", "format": "xfs", "path": "/a"},
                {"device": "/dev/vdb", "format": "xfs", "path": "/a"}]"#,
            r#""disks": [{"device": "/dev/vda", "partitions": [{"number": 1}]}],
                "filesystems": [{"device": "/dev/vda", "format": "xfs"}]"#,
            r#""disks": [{"device": "/dev/vda", "wipeTable": true}],
                "filesystems": [{"device": "/dev/vda", "format": "xfs"}]"#,
        ],
        expect![[r#"
            $.storage.filesystems.1.path: $.storage.filesystems.0 is mounted here already
            warning, $.storage.filesystems.0.device: a file system on a whole disk whose partitions this document describes
            warning, $.storage.filesystems.0.device: `wipeTable` of this disk removes the file system, too
        "#]],
    );
}

#[test]
fn a_resource_is_had_by_a_scheme_of_its_specification_and_has_its_hash() {
    let of = |rest: &str| format!(r#""files": [{{"path": "/a", "contents": {{{rest}}}}}]"#);
    let parts = [
        r#""source": "https://a/b""#,
        r#""source": "oem:///b""#,
        r#""source": "http://a:70000/""#,
        r#""source": "data:;base64,!""#,
        r#""source": "s3://a/b?versionId=""#,
        r#""source": "arn:aws:s3:::a""#,
        r#""source": "http://a", "compression": "xz""#,
        r#""verification": {"hash": "sha512-00"}"#,
        r#""source": "http://a", "verification": {"hash": "00"}"#,
        r#""source": "http://a", "verification": {"hash": "md5-00"}"#,
        r#""source": "http://a", "verification": {"hash": "sha256-00"}"#,
        r#""source": "http://a", "httpHeaders": [{"name": "a b", "value": "c"}]"#,
        r#""source": "http://a", "httpHeaders": [{"name": "a", "value": ""}]"#,
        r#""source": "tftp://a/b", "httpHeaders": [{"name": "a", "value": "c"}]"#,
        r#""source": "http://a", "httpHeaders": [{"name": "a", "value": "c\r\nd: e"}]"#,
    ]
    .map(of);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    check_storage(
        6,
        &parts,
        expect![[r#"
        fine: "storage": {"files": [{"path": "/a", "contents": {"source": "https://a/b"}}]}
        $.storage.files.0.contents.source: expected a URL of one of data:, http:, https:, tftp:, s3:, gs:, arn:
        $.storage.files.0.contents.source: not a URL: the port is not a number up to 65535
        $.storage.files.0.contents.source: invalid data character at byte 0 of the data
        $.storage.files.0.contents.source: `versionId` names no version; leave it out for the newest
        $.storage.files.0.contents.source: expected `arn:PARTITION:s3:::BUCKET/KEY` or `arn:PARTITION:s3:REGION:ACCOUNT:accesspoint/NAME/object/KEY`
        $.storage.files.0.contents.compression: expected `gzip`, `zstd` or nothing
        $.storage.files.0.contents.verification.hash: there is no source whose hash this could be
        $.storage.files.0.contents.verification.hash: a sha512 has 128 hexadecimal digits; this has 2
        $.storage.files.0.contents.verification.hash: expected a hash as `sha512-HEX`
        $.storage.files.0.contents.verification.hash: unknown hash function `md5`; `sha512` and `sha256` are known
        $.storage.files.0.contents.verification.hash: a sha256 has 64 hexadecimal digits; this has 2
        $.storage.files.0.contents.httpHeaders.0.name: not a name that a header of HTTP can have
        $.storage.files.0.contents.httpHeaders.0.value: a header has a value; leave it out to remove a parent's header
        $.storage.files.0.contents.httpHeaders: headers are for sources of http: and https: only
        $.storage.files.0.contents.httpHeaders.0.value: a header cannot hold the end of a line
    "#]],
    );
    let hash = format!(r#""source": "http://a", "verification": {{"hash": "sha256-{:064}"}}"#, 0);
    check_storage(
        6,
        &[&of(&hash)],
        expect![[r#"
        fine: "storage": {"files": [{"path": "/a", "contents": {"source": "http://a", "verification": {"hash": "sha256-0000000000000000000000000000000000000000000000000000000000000000"}}}]}
    "#]],
    );
    check_storage(
        0,
        &[&of(&hash), &of(r#""source": "gs://a/b""#)],
        expect![[r#"
        $.storage.files.0.contents.verification.hash: unknown hash function `sha256`; `sha512` are known
        $.storage.files.0.contents.source: expected a URL of one of data:, http:, https:, tftp:, s3:
    "#]],
    );
}

#[test]
fn a_unit_has_a_name_that_systemd_knows_and_a_text_that_it_reads() {
    let unit = |rest: &str| format!(r#""systemd": {{"units": [{{{rest}}}]}}"#);
    let parts = [
        r#""name": "a.service", "contents": "[Service]\nExecStart=/a\n""#,
        r#""name": "a""#,
        r#""name": "a.conf""#,
        r#""name": "../a.service""#,
        r#""name": "a.service", "contents": "[Service""#,
        r#""name": "a.service", "enabled": true, "contents": "[Service]\nExecStart=/a\n""#,
        r#""name": "a.service", "enabled": true, "mask": true, "contents": "[Service]\n""#,
        r#""name": "a.service", "dropins": [{"name": "b"}, {"name": "../b.conf"}]"#,
    ]
    .map(unit);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    check(
        6,
        &parts,
        expect![[r#"
        fine: "systemd": {"units": [{"name": "a.service", "contents": "[Service]\nExecStart=/a\n"}]}
        $.systemd.units.0.name: the name of a unit ends with one of .service .socket .device .mount .automount .swap .target .path .timer .snapshot .slice .scope
        $.systemd.units.0.name: the name of a unit ends with one of .service .socket .device .mount .automount .swap .target .path .timer .snapshot .slice .scope
        $.systemd.units.0.name: the name of a unit, not a path
        $.systemd.units.0.contents: unable to find end of section
        warning, $.systemd.units.0.contents: `a.service` is enabled, but has no [Install] section: enabling it has no effect
        fine: "systemd": {"units": [{"name": "a.service", "enabled": true, "mask": true, "contents": "[Service]\n"}]}
        $.systemd.units.0.dropins.0.name: the name of a drop-in ends with `.conf`
        $.systemd.units.0.dropins.1.name: the name of a file, not a path
    "#]],
    );
    check(
        6,
        &[
            r#""systemd": {"units": [{"name": "a@.service", "contents": "[Service]\n"},
                {"name": "a@b.service", "enabled": true}]}"#,
            r#""systemd": {"units": [{"name": "a.service", "contents": "[Unit]\n"}]},
                "storage": {"files": [{"path": "/etc/systemd/system/a.service"}]}"#,
        ],
        expect![[r#"
            warning, $.systemd.units.1.contents: `a@b.service` is enabled, but its template `a@.service` has no [Install] section: enabling it has no effect
            $.storage.files.0.path: a unit of this document is at this path
        "#]],
    );
}

#[test]
fn a_user_is_one_that_passwd_can_hold() {
    let user = |rest: &str| format!(r#""passwd": {{"users": [{{{rest}}}]}}"#);
    let parts = [
        r#""name": """#,
        r#""name": "-a""#,
        r#""name": "a:b""#,
        r#""name": "17""#,
        r#""name": "host$""#,
        r#""name": "a23456789012345678901234567890123""#,
        r#""name": "a", "uid": 4294967295"#,
        r#""name": "a", "homeDir": "home""#,
        r#""name": "a", "shell": "/bin/a:b""#,
        r#""name": "a", "gecos": "a\nb""#,
        r#""name": "a", "groups": ["b c"]"#,
        r#""name": "a", "sshAuthorizedKeys": ["not a key", "a\nb"]"#,
    ]
    .map(user);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    check(
        6,
        &parts,
        expect![[r#"
        $.passwd.users.0.name: a name is missing here
        $.passwd.users.0.name: expected a name of letters, digits, `_`, `-` and `.`, not of digits alone
        $.passwd.users.0.name: expected a name of letters, digits, `_`, `-` and `.`, not of digits alone
        $.passwd.users.0.name: expected a name of letters, digits, `_`, `-` and `.`, not of digits alone
        fine: "passwd": {"users": [{"name": "host$"}]}
        $.passwd.users.0.name: a name has at most 32 characters
        $.passwd.users.0.uid: 4294967295 is no id: expected 0 to 4294967294
        $.passwd.users.0.homeDir: expected an absolute path
        $.passwd.users.0.shell: a field of /etc/passwd cannot hold `:` or the end of a line
        $.passwd.users.0.gecos: a field of /etc/passwd cannot hold `:` or the end of a line
        $.passwd.users.0.groups.0: expected a name of letters, digits, `_`, `-` and `.`, not of digits alone
        warning, $.passwd.users.0.sshAuthorizedKeys.0: this is not a public key of SSH: nobody can log in with it
        $.passwd.users.0.sshAuthorizedKeys.1: several lines in one key; write an entry each
    "#]],
    );
}

#[test]
fn waits_proxies_and_arguments_are_what_they_say() {
    let ignition = |rest: &str| {
        let text = format!(r#"{{"ignition": {{"version": "3.6.0", {rest}}}}}"#);
        let report = read("a.ign", text.as_bytes(), &Nowhere, &mut Sources::default()).report;
        let lines =
            report.findings.iter().map(|found| format!("{}: {}\n", found.path, found.message));
        lines.collect::<String>()
    };
    let said: String = [
        r#""timeouts": {"httpTotal": -1}"#,
        r#""proxy": {"httpProxy": "socks://a"}"#,
        r#""proxy": {"httpsProxy": "http://a"}"#,
        r#""config": {"merge": [{}]}"#,
        r#""security": {"tls": {"certificateAuthorities": [{"source": ""}]}}"#,
    ]
    .map(ignition)
    .concat();
    expect![[r#"
        $.ignition.timeouts.httpTotal: -1 is less than 0
        $.ignition.proxy.httpProxy: expected a proxy of http: or https:
        $.ignition.proxy.httpsProxy: what is fetched by https: goes to this proxy by plain http:
        $.ignition.config.merge.0: a source is required here
        $.ignition.security.tls.certificateAuthorities.0: a source is required here
    "#]]
    .assert_eq(&said);
    check(
        6,
        &[
            r#""kernelArguments": {"shouldExist": ["a\nb"]}"#,
            r#""kernelArguments": {"shouldExist": ["a"], "shouldNotExist": ["a"]}"#,
        ],
        expect![[r#"
            $.kernelArguments.shouldExist.0: a kernel argument with a control character
            $.kernelArguments.shouldNotExist.0: a duplicate entry `a`: the first is $.kernelArguments.shouldExist.0
        "#]],
    );
}
