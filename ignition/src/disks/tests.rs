//! Whole plans: from the table of a disk to what is on its partitions.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{
    partitions::tests::{before, facts, parts, rows, written},
    signature::{Kind, Signature},
    *,
};
use crate::journal::{Lines, Silent};

fn storage(text: &str) -> Config {
    serde_json::from_str(&format!(r#"{{"storage": {{{text}}}}}"#)).unwrap()
}

fn holds(found: Vec<Signature>) -> Device {
    Device { place: None, contents: Contents::Known(found), used_by: None, is_disk: false }
}

fn to_come() -> Device {
    Device { place: None, contents: Contents::Missing, used_by: None, is_disk: false }
}

fn mark(kind: Kind, label: &str, uuid: &str) -> Signature {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Signature { kind, label: text(label), uuid: text(uuid) }
}

fn check(wanted: &str, devices: &[(&str, Device)], expected: Expect) {
    let devices = devices.iter().map(|(name, device)| ((*name).to_owned(), device.clone()));
    let facts = Facts { devices: devices.collect(), ..Facts::default() };
    let said = match plan(&storage(wanted), &facts) {
        Err(refused) => format!("{}\n  {}\n  {}\n", refused.path, refused.message, refused.hint),
        Ok(steps) => steps.iter().map(|step| format!("{step}\n")).collect(),
    };
    expected.assert_eq(&said);
}

const ARRAY: &str =
    r#""raid": [{"name": "data", "level": "raid1", "devices": ["/dev/a", "/dev/b"]}]"#;
const MD: &str = "/dev/md/data";

#[test]
fn an_array_is_made_and_what_is_on_it_is_seen_to_when_it_is_there() {
    let wanted = format!(
        r#"{ARRAY}, "filesystems": [{{"device": "{MD}", "format": "ext4", "label": "d"}}]"#
    );
    let devices = [("/dev/a", holds(vec![])), ("/dev/b", holds(vec![])), (MD, to_come())];
    check(
        &wanted,
        &devices,
        expect![[r#"
        array data: make it on /dev/a, /dev/b (mdadm --create /dev/md/data --force --run --homehost any --level raid1 --raid-devices 2)
        /dev/md/data: make ext4, unless it is there (mkfs.ext4 -F -L d {device})
    "#]],
    );
}

#[test]
fn an_array_that_is_as_described_is_started_and_one_that_is_not_is_made() {
    let member =
        |level, id: &str| holds(vec![mark(Kind::Mdraid { level, disks: 2 }, "h:data", id)]);
    let two = |a, b| [("/dev/a", a), ("/dev/b", b), (MD, to_come())];
    check(
        ARRAY,
        &two(member(1, "x"), member(1, "x")),
        expect![[r#"
        array data: start it from /dev/a, /dev/b
    "#]],
    );
    let made = || {
        expect![[r#"
        array data: make it on /dev/a, /dev/b (mdadm --create /dev/md/data --force --run --homehost any --level raid1 --raid-devices 2)
    "#]]
    };
    check(ARRAY, &two(member(1, "x"), member(1, "y")), made());
    check(ARRAY, &two(member(0, "x"), member(0, "x")), made());
    check(ARRAY, &two(member(1, "x"), holds(vec![])), made());
}

#[test]
fn an_array_needs_its_members_and_one_that_works() {
    check(
        ARRAY,
        &[("/dev/a", holds(vec![]))],
        expect![[r#"
        $.storage.raid.0.devices.1
          there is no device /dev/b
          correct the name, attach the disk, or make the partition in storage.disks
    "#]],
    );
    let spare = r#""raid": [{"name": "d", "level": "raid1", "devices": ["/dev/a"], "spares": 1}]"#;
    check(
        spare,
        &[("/dev/a", holds(vec![]))],
        expect![[r#"
        $.storage.raid.0.spares
          1 of 1 devices cannot be spare
          at least one device must work
    "#]],
    );
}

#[test]
fn what_an_earlier_entry_makes_is_there_for_a_later_one() {
    check(
        r#""raid": [{"name": "d", "level": "raid1", "devices": ["/dev/a", "/dev/b"]}],
           "luks": [{"name": "data", "device": "/dev/md/d"}],
           "filesystems": [{"device": "/dev/mapper/data", "format": "ext4"}]"#,
        &[("/dev/a", holds(vec![])), ("/dev/b", holds(vec![]))],
        expect![[r#"
            array d: make it on /dev/a, /dev/b (mdadm --create /dev/md/d --force --run --homehost any --level raid1 --raid-devices 2)
            volume data: make it on /dev/md/d
              cryptsetup luksFormat --batch-mode --type luks2 --key-file {key} --subsystem pithos-unfinished {device}
              cryptsetup luksOpen {device} data --key-file {key} --persistent
            /dev/mapper/data: make ext4, unless it is there (mkfs.ext4 -F {device})
        "#]],
    );
}

const VOLUME: &str = r#""name": "data", "device": "/dev/a", "label": "l""#;

#[test]
fn a_volume_is_made_opened_and_given_to_what_keeps_its_key() {
    let wanted = format!(
        r#""luks": [{{{VOLUME}, "discard": true, "clevis": {{"tpm2": true, "threshold": 2, "tang":
            [{{"url": "http://t", "thumbprint": "x"}}]}}}}]"#
    );
    check(
        &wanted,
        &[("/dev/a", holds(vec![]))],
        expect![[r#"
        volume data: make it on /dev/a
          cryptsetup luksFormat --batch-mode --type luks2 --key-file {key} --subsystem pithos-unfinished --label l {device}
          cryptsetup luksOpen {device} data --key-file {key} --persistent --allow-discards
          clevis luks bind -f -k {key} -d {device} sss {"pins":{"tang":[{"thp":"x","url":"http://t"}],"tpm2":{}},"t":2}
          cryptsetup luksClose data
          clevis luks unlock -d {device} -n data
          cryptsetup luksRemoveKey {device} {key}
    "#]],
    );
}

#[test]
fn a_volume_is_kept_if_its_key_is_known_and_it_is_as_described() {
    let luks = |version, flags: &[&str], subsystem: &str| {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let subsystem = (!subsystem.is_empty()).then(|| subsystem.to_owned());
        holds(vec![mark(Kind::Luks { version, flags, subsystem }, "l", "id")])
    };
    let with_key = format!(r#""luks": [{{{VOLUME}, "keyFile": {{"source": "data:,x"}}}}]"#);
    check(
        &with_key,
        &[("/dev/a", luks(2, &[], ""))],
        expect![[r#"
        volume data: open it on /dev/a
    "#]],
    );
    check(
        &with_key,
        &[("/dev/a", luks(2, &["allow-discards"], ""))],
        expect![[r#"
        $.storage.luks.0
          /dev/a cannot be kept: discards are passed on, not kept back
          set wipeVolume: true to make it anew (what is on it is lost), or correct the entry
    "#]],
    );
    check(
        &with_key,
        &[("/dev/a", luks(1, &[], ""))],
        expect![[r#"
        $.storage.luks.0
          /dev/a cannot be kept: it is LUKS1, not LUKS2
          set wipeVolume: true to make it anew (what is on it is lost), or correct the entry
    "#]],
    );
    let made_up = format!(r#""luks": [{{{VOLUME}}}]"#);
    check(
        &made_up,
        &[("/dev/a", luks(2, &[], ""))],
        expect![[r#"
        $.storage.luks.0
          /dev/a cannot be kept: its key is not in the document (keyFile)
          set wipeVolume: true to make it anew (what is on it is lost), or correct the entry
    "#]],
    );
    // A power cut left it before it was whole, or with a key on a root that never was one.
    for lost in [volumes::UNFINISHED, volumes::UNKEPT] {
        check(
            &made_up,
            &[("/dev/a", luks(2, &[], lost))],
            expect![[r#"
        volume data: make it on /dev/a
          cryptsetup luksFormat --batch-mode --type luks2 --key-file {key} --subsystem pithos-unfinished --label l {device}
          cryptsetup luksOpen {device} data --key-file {key} --persistent
    "#]],
        );
    }
    // Its key was kept elsewhere, too.
    check(
        &with_key,
        &[("/dev/a", luks(2, &[], volumes::UNKEPT))],
        expect![[r#"
        volume data: open it on /dev/a
    "#]],
    );
}

#[test]
fn a_file_system_is_kept_made_or_refused() {
    let ext4 = || holds(vec![mark(Kind::Ext(4), "data", "8c5a")]);
    let of = |rest: &str| format!(r#""filesystems": [{{"device": "/dev/a", {rest}}}]"#);
    let kept = r#""format": "ext4", "label": "data", "uuid": "8C5A""#;
    check(&of(kept), &[("/dev/a", ext4())], expect![""]);
    check(
        &of(kept),
        &[("/dev/a", holds(vec![]))],
        expect![[r#"
        /dev/a: make ext4 (mkfs.ext4 -F -U 8c5a -L data {device})
    "#]],
    );
    check(
        &of(r#""format": "xfs", "label": "x""#),
        &[("/dev/a", ext4())],
        expect![[r#"
        $.storage.filesystems.0
          /dev/a holds ext4 `data` (8c5a), but xfs label `x` was wanted
          set wipeFilesystem: true to replace it (what is on it is lost), or describe it as it is
    "#]],
    );
    let wipe =
        r#""format": "vfat", "uuid": "2E24-EC82", "wipeFilesystem": true, "options": ["-F", "32"]"#;
    check(
        &of(wipe),
        &[("/dev/a", ext4())],
        expect![[r#"
        /dev/a: remove all traces of what is there, make vfat (mkfs.vfat -F 32 -i 2e24ec82 {device})
    "#]],
    );
    check(
        &of(r#""format": "none""#),
        &[("/dev/a", ext4())],
        expect![[r#"
        $.storage.filesystems.0
          /dev/a holds ext4 `data` (8c5a), but nothing was wanted
          set wipeFilesystem: true to replace it (what is on it is lost), or describe it as it is
    "#]],
    );
    check(&of(r#""format": "none""#), &[("/dev/a", holds(vec![]))], expect![""]);
    check(&of(r#""path": "/x""#), &[], expect![""]);
    let table = holds(vec![Signature { kind: Kind::Other("gpt"), label: None, uuid: None }]);
    check(
        &of(r#""format": "ext4""#),
        &[("/dev/a", table)],
        expect![[r#"
        $.storage.filesystems.0
          /dev/a holds gpt, but ext4 was wanted
          set wipeFilesystem: true to replace it (what is on it is lost), or describe it as it is
    "#]],
    );
}

#[test]
fn a_device_holds_one_thing_by_whatever_names_it_is_called() {
    let place = |path: &str| Device {
        place: Some(Place { path: path.into(), partition: None, start_bytes: 0, size_bytes: 1 }),
        ..holds(vec![])
    };
    let wanted = format!(r#"{ARRAY}, "filesystems": [{{"device": "/dev/one", "format": "ext4"}}]"#);
    check(
        &wanted,
        &[
            ("/dev/a", place("/dev/vda")),
            ("/dev/b", place("/dev/vdb")),
            ("/dev/one", place("/dev/vdb")),
        ],
        expect![[r#"
            $.storage.filesystems.0.device
              /dev/one is what $.storage.raid.0.devices.1 takes
              name another device, or what is made on it: /dev/md/NAME, /dev/mapper/NAME
        "#]],
    );
}

#[test]
fn what_is_in_use_is_not_made_anew() {
    let used = Device { used_by: Some("swap".to_owned()), ..holds(vec![]) };
    let wanted =
        r#""filesystems": [{"device": "/dev/a", "format": "swap", "wipeFilesystem": true}]"#;
    check(
        wanted,
        &[("/dev/a", used)],
        expect![[r#"
        $.storage.filesystems.0.device
          /dev/a is in use by swap
          choose another device
    "#]],
    );
}

proptest! {
    /// Entries that say `wipeFilesystem` are made every time that they are asked for; no other.
    #[test]
    fn whatever_is_planned_on_whatever_is_there_is_done_when_it_is_done(
        there in prop::collection::vec(prop::option::of((0usize..6, 0u8..2)), 4),
        wanted in prop::collection::vec((0usize..6, prop::option::of(0u8..2)), 4),
    ) {
        let formats = ["ext4", "xfs", "btrfs", "vfat", "swap", "none"];
        let mut facts = Facts::default();
        let mut config = Config::default();
        for (index, (there, (format, label))) in there.iter().zip(&wanted).enumerate() {
            let device = format!("/dev/vd{index}");
            let found = there.and_then(|(kind, label)| {
                Kind::of_format(formats[kind]).map(|kind| mark(kind, &label.to_string(), "id"))
            });
            facts.devices.insert(device.clone(), holds(found.into_iter().collect()));
            config.storage.filesystems.push(crate::document::config::Filesystem {
                device,
                format: Some(formats[*format].to_owned()),
                label: label.map(|label| label.to_string()),
                ..Default::default()
            });
        }
        let Ok(steps) = plan(&config, &facts) else { return Ok(()) };
        steps.iter().for_each(|step| facts.take_in(step));
        prop_assert_eq!(plan(&config, &facts), Ok(vec![]));
    }
}

/// What may be on a device, and what a document may want there.
const FORMATS: [&str; 6] = ["ext4", "xfs", "btrfs", "vfat", "swap", "none"];

fn on_devices() -> impl Strategy<Value = Vec<Option<Signature>>> {
    let luks = |flag: bool, ours: bool| Kind::Luks {
        version: 2,
        flags: flag.then(|| "allow-discards".to_owned()).into_iter().collect(),
        subsystem: ours.then(|| volumes::UNFINISHED.to_owned()),
    };
    let kind = prop_oneof![
        4 => (0..5usize).prop_map(|format| Kind::of_format(FORMATS[format]).unwrap()),
        2 => (any::<bool>(), any::<bool>()).prop_map(move |(flag, ours)| luks(flag, ours)),
        2 => Just(Kind::Mdraid { level: 1, disks: 2 }),
        1 => Just(Kind::Other("gpt")),
    ];
    let found = (kind, prop_oneof![Just("safe"), Just("")], prop_oneof![Just("a"), Just("b")]);
    let found = found.prop_map(|(kind, label, uuid)| mark(kind, label, uuid));
    prop::collection::vec(prop::option::of(found), 5)
}

fn volume() -> impl Strategy<Value = crate::document::config::Luks> {
    let device = prop_oneof![Just("/dev/md/safe"), Just("/dev/disk/by-partlabel/p2")];
    let label = prop::option::of(prop_oneof![Just("safe"), Just("")]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    (device, label, flags).prop_map(|(device, label, (discard, has_key, tpm2, wipe))| {
        let mut volume = crate::document::config::Luks {
            name: "safe".to_owned(),
            device: Some(device.to_owned()),
            label: label.map(str::to_owned),
            discard: Some(discard),
            wipe_volume: Some(wipe),
            ..Default::default()
        };
        volume.key_file.source = has_key.then(|| "data:,key".to_owned());
        volume.clevis.tpm2 = Some(tpm2);
        volume
    })
}

proptest! {
    /// Partitions, on these an array, on that or on another partition a volume, and file systems on
    /// all of them, whatever was on the disk before.
    #[test]
    fn a_whole_machine_that_was_made_needs_nothing_more(
        parts in parts(), rows in rows(), wipe in prop::bool::weighted(0.3),
        there in on_devices(), has_array: bool, volume in prop::option::of(volume()),
        wanted in prop::collection::vec(
            (0..6usize, prop::option::of(0u8..2), prop::bool::weighted(0.2)), 7),
    ) {
        let mut config = written(&rows, wipe);
        let mut facts = facts(before(&parts, 512, 64 << 20));
        let names = (0..5).map(|number| format!("/dev/disk/by-partlabel/p{number}"));
        for (name, found) in names.clone().zip(there) {
            facts.devices.insert(name, holds(found.into_iter().collect()));
        }
        if has_array {
            let array = ARRAY.replace("/dev/a", "/dev/disk/by-partlabel/p0");
            let array = array.replace("/dev/b", "/dev/disk/by-partlabel/p1");
            config.storage.raid = storage(&array.replace("data", "safe")).storage.raid;
        }
        config.storage.luks.extend(volume);
        let above = ["/dev/md/safe".to_owned(), "/dev/mapper/safe".to_owned()];
        for (device, (format, label, wipe)) in names.chain(above).zip(wanted) {
            // What is below something else is not for a file system.
            let luks = config.storage.luks.first().and_then(|volume| volume.device.as_deref());
            let is_member = has_array && ["p0", "p1"].iter().any(|part| device.ends_with(part));
            let is_there = facts.devices.contains_key(&device)
                || if device.starts_with("/dev/md") { has_array } else { luks.is_some() };
            if luks == Some(&device) || is_member || !is_there {
                continue;
            }
            config.storage.filesystems.push(crate::document::config::Filesystem {
                device,
                format: Some(FORMATS[format].to_owned()),
                label: label.map(|label| label.to_string()),
                wipe_filesystem: Some(wipe),
                ..Default::default()
            });
        }
        let Ok(steps) = plan(&config, &facts) else { return Ok(()) };
        steps.iter().for_each(|step| facts.take_in(step));
        let again = plan(&config, &facts);
        // What is to be wiped is so every time that it is asked for.
        let is_wiped = |step: &Step| match step {
            Step::MakeFilesystem { wipe, .. } => *wipe,
            Step::MakeVolume { .. } => config.storage.luks[0].wipe_volume == Some(true),
            _ => false,
        };
        prop_assert!(again.as_ref().is_ok_and(|steps| steps.iter().all(is_wiped)), "{again:?}");
    }
}

/// An image file stands for the disk. Loop devices are for root only.
#[test]
fn an_image_becomes_what_a_document_says_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk");
    fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    let config = storage(
        r#""disks": [{"device": "/dev/disk/by-id/virtio-data", "partitions": [
                {"label": "one", "sizeMiB": 64}, {"label": "swap", "sizeMiB": 0}]}],
            "filesystems": [
                {"device": "/dev/disk/by-partlabel/one", "format": "ext4", "label": "one"},
                {"device": "/dev/disk/by-id/virtio-data-part2", "format": "swap"}]"#,
    );
    let images = BTreeMap::from([("/dev/disk/by-id/virtio-data".to_owned(), image)]);
    let machine = Machine { images, patience: Duration::ZERO };
    let facts = machine.facts(&config, &Silent).unwrap();
    let words: String =
        plan(&config, &facts).unwrap().iter().map(|step| format!("{step}\n")).collect();
    expect![[r#"
        /dev/disk/by-id/virtio-data: create partition 1 `one`, 64 MiB at 1 MiB
        /dev/disk/by-id/virtio-data: create partition 2 `swap`, 191.0 MiB (200261120 bytes) at 65 MiB
        /dev/disk/by-partlabel/one: make ext4 (mkfs.ext4 -F -L one {device})
        /dev/disk/by-id/virtio-data-part2: make swap (mkswap -f {device})
    "#]]
    .assert_eq(&words);
    let can_loop = Command::new("/usr/sbin/losetup").arg("--find").output();
    if !can_loop.is_ok_and(|said| said.status.success()) {
        return println!("skipped: no loop device can be had here");
    }
    let supplies = Supplies { keys: BTreeMap::new(), memory: PathBuf::from(folder.path()) };
    let lines = Lines::default();
    let handover = apply(&config, &machine, &supplies, &lines).unwrap();
    assert_eq!((lines.take().len(), handover), (3, Handover::default()));
    assert_eq!(plan(&config, &machine.facts(&config, &Silent).unwrap()), Ok(vec![]));
}

#[test]
fn a_device_that_does_not_come_is_missed_by_name() {
    let config = storage(r#""disks": [{"device": "/dev/disk/by-id/virtio-gone"}]"#);
    let machine = Machine { images: BTreeMap::new(), patience: Duration::ZERO };
    let refused = plan(&config, &machine.facts(&config, &Silent).unwrap()).unwrap_err();
    assert_eq!(refused.path, "$.storage.disks.0.device");
    assert_eq!(refused.message, "there is no disk /dev/disk/by-id/virtio-gone");
}

#[test]
fn the_label_of_a_volume_outlives_its_mark() {
    let args = |label| volumes::mark("", label).args.join(" ");
    assert_eq!(args(None), "config {device} --subsystem ");
    assert_eq!(args(Some("safe")), "config {device} --subsystem  --label safe");
}
