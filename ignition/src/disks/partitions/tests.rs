//! Tables before, documents, and what is planned; and that a plan is done when it is done.

use std::{fs::OpenOptions, process::Command};

use expect_test::{Expect, expect};
use layout::types;
use proptest::prelude::*;

use super::*;
use crate::disks::{blocks, perform::change_table};

const DISK: u64 = 1 << 30;
const LINUX: Uuid = types::UNFINISHED;

fn entry(label: &str, start_mib: u64, size_mib: u64) -> Entry {
    Entry {
        kind: LINUX,
        guid: Uuid::from_u128(u128::from(start_mib)),
        start_bytes: start_mib * MIB,
        size_bytes: size_mib * MIB,
        flags: 0,
        name: label.to_owned(),
    }
}

fn disk(table: Table) -> Disk {
    Disk {
        path: "/dev/vdb".into(),
        sector_bytes: 512,
        size_bytes: DISK,
        table,
        used_by: None,
        used_partitions: Default::default(),
    }
}

fn with(entries: &[(u32, &str, u64, u64)]) -> Disk {
    let entries = entries.iter().map(|(n, label, start, size)| (*n, entry(label, *start, *size)));
    disk(Table::Gpt { room: Room::of_new_table(DISK, 512), entries: entries.collect() })
}

fn document(disk: &str) -> Config {
    let text = format!(r#"{{"storage": {{"disks": [{{"device": "/dev/vdb", {disk}}}]}}}}"#);
    serde_json::from_str(&text).unwrap()
}

pub(in crate::disks) fn facts(disk: Disk) -> Facts {
    Facts { disks: [("/dev/vdb".to_owned(), disk)].into(), ..Facts::default() }
}

fn check(before: Disk, wanted: &str, expected: Expect) {
    let (config, mut facts) = (document(wanted), facts(before));
    let said = match plan(&config, &facts) {
        Err(refused) => {
            format!("{}\n  {}\n  {}\n", refused.path, refused.message, refused.hint)
        }
        Ok(steps) => {
            steps.iter().for_each(|step| facts.take_in(step));
            assert_eq!(plan(&config, &facts), Ok(vec![]), "again");
            steps.iter().map(|step| format!("{step}\n")).collect()
        }
    };
    expected.assert_eq(&said);
}

#[test]
fn partitions_are_made_one_after_the_other() {
    check(
        disk(Table::None),
        r#""partitions": [
            {"number": 1, "sizeMiB": 32, "label": "one"},
            {"label": "rest", "sizeMiB": 0},
            {"number": 3, "startMiB": 500, "sizeMiB": 100}]"#,
        expect![[r#"
            /dev/vdb: create partition 1 `one`, 32 MiB at 1 MiB
            /dev/vdb: create partition 3 ``, 100 MiB at 500 MiB
            /dev/vdb: create partition 2 `rest`, 467 MiB at 33 MiB
        "#]],
    );
}

#[test]
fn zero_fills_the_largest_block() {
    check(
        with(&[(1, "a", 1, 100), (2, "b", 600, 100)]),
        r#""partitions": [{"number": 7, "startMiB": 0, "sizeMiB": 0, "label": "data"}]"#,
        expect![[r#"
            /dev/vdb: create partition 7 `data`, 499 MiB at 101 MiB
        "#]],
    );
}

#[test]
fn what_is_as_described_is_left_alone() {
    check(
        with(&[(1, "a", 1, 32), (2, "b", 33, 64)]),
        r#""partitions": [
            {"number": 1, "label": "a", "startMiB": 1, "sizeMiB": 32,
             "typeGuid": "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "guid": ""},
            {"number": 2}, {"number": 9, "shouldExist": false}]"#,
        expect![""],
    );
}

#[test]
fn an_entry_without_a_number_is_the_partition_of_its_label() {
    check(
        with(&[(1, "a", 1, 32), (5, "data", 33, 64)]),
        r#""partitions": [{"label": "data", "sizeMiB": 64}, {"label": "more", "sizeMiB": 8}]"#,
        expect![[r#"
            /dev/vdb: create partition 2 `more`, 8 MiB at 97 MiB
        "#]],
    );
    check(
        with(&[(1, "data", 1, 32), (5, "data", 33, 64)]),
        r#""partitions": [{"label": "data"}]"#,
        expect![[r#"
            $.storage.disks.0.partitions.0.number
              /dev/vdb has several partitions `data`: numbers [1, 5]
              say which by its number
        "#]],
    );
}

#[test]
fn a_difference_is_refused_with_what_is_there_and_what_was_wanted() {
    check(
        with(&[(1, "a", 1, 32)]),
        r#""partitions": [{"number": 1, "label": "b", "startMiB": 2, "sizeMiB": 32}]"#,
        expect![[r#"
            $.storage.disks.0.partitions.0
              partition 1 of /dev/vdb is not as described: its start is 1 MiB, not 2 MiB; its label is `a`, not `b`
              describe it as it is, or set wipePartitionEntry: true to make it anew (what is on it is lost)
        "#]],
    );
    check(
        with(&[(1, "a", 1, 32)]),
        r#""partitions": [{"number": 1, "sizeMiB": 64}]"#,
        expect![[r#"
            $.storage.disks.0.partitions.0
              partition 1 of /dev/vdb is not as described: its size is 32 MiB, not 64 MiB
              set resize: true to change its size, or wipePartitionEntry: true to make it anew (what is on it is lost)
        "#]],
    );
    check(
        with(&[(1, "a", 1, 32)]),
        r#""partitions": [{"number": 1, "shouldExist": false}]"#,
        expect![[r#"
            $.storage.disks.0.partitions.0
              partition 1 of /dev/vdb shall not exist, but does: `a`, 32 MiB at 1 MiB
              set wipePartitionEntry: true to delete it
        "#]],
    );
}

#[test]
fn a_size_may_change_where_the_entry_says_so() {
    check(
        with(&[(1, "a", 1, 32)]),
        r#""partitions": [{"number": 1, "sizeMiB": 0, "resize": true}]"#,
        expect![[r#"
            /dev/vdb: resize partition 1 to 1023.0 MiB (1072676352 bytes)
        "#]],
    );
    check(
        with(&[(1, "a", 1, 32), (2, "b", 33, 32)]),
        r#""partitions": [{"number": 1, "sizeMiB": 40, "resize": true}]"#,
        expect![[r#"
            $.storage.disks.0.partitions.0
              partition 1 does not fit on /dev/vdb: from 1 MiB on only 32 MiB are free, not 40 MiB
              the disk has 1023 MiB; change startMiB or sizeMiB, or remove partitions that are in the way
        "#]],
    );
}

#[test]
fn what_may_be_wiped_is_made_anew() {
    check(
        with(&[(1, "a", 1, 32), (2, "b", 33, 32), (3, "junk", 65, 64)]),
        r#""partitions": [
            {"number": 1, "label": "a", "startMiB": 1, "sizeMiB": 32},
            {"number": 2, "label": "b", "startMiB": 33, "sizeMiB": 64, "wipePartitionEntry": true},
            {"number": 3, "shouldExist": false, "wipePartitionEntry": true},
            {"number": 4, "label": "more", "startMiB": 97, "sizeMiB": 32}]"#,
        expect![[r#"
            /dev/vdb: delete partition 2
            /dev/vdb: delete partition 3
            /dev/vdb: create partition 2 `b`, 64 MiB at 33 MiB
            /dev/vdb: create partition 4 `more`, 32 MiB at 97 MiB
        "#]],
    );
}

#[test]
fn a_table_is_wiped_once() {
    let wanted = r#""wipeTable": true, "partitions": [{"number": 1, "sizeMiB": 32}]"#;
    let made = || {
        expect![[r#"
        /dev/vdb: forget the partition table
        /dev/vdb: create partition 1 ``, 32 MiB at 1 MiB
    "#]]
    };
    check(with(&[(2, "b", 33, 32)]), wanted, made());
    check(disk(Table::Foreign("one of MBR".to_owned())), wanted, made());
    check(with(&[(1, "", 1, 32)]), wanted, expect![""]);
    check(disk(Table::None), r#""wipeTable": true"#, expect![""]);
}

#[test]
fn what_is_no_table_is_not_written_over_without_a_word() {
    check(
        disk(Table::Foreign("ext4 `data`".to_owned())),
        r#""partitions": [{"number": 1}]"#,
        expect![[r#"
            $.storage.disks.0
              /dev/vdb has no partition table, but ext4 `data`
              set wipeTable: true to replace it, or choose another disk
        "#]],
    );
}

#[test]
fn what_is_in_use_is_not_changed() {
    let mut used = with(&[(1, "a", 1, 32), (2, "b", 33, 32)]);
    used.used_partitions.insert(1, "the file system that is mounted on /usr".to_owned());
    check(
        used.clone(),
        r#""partitions": [{"number": 1, "sizeMiB": 16, "resize": true}]"#,
        expect![[r#"
            $.storage.disks.0.partitions.0
              partition 1 of /dev/vdb is in use by the file system that is mounted on /usr
              describe it as it is, or leave it out
        "#]],
    );
    check(
        used.clone(),
        r#""wipeTable": true"#,
        expect![[r#"
            $.storage.disks.0
              wipeTable, but partition 1 of /dev/vdb is in use by the file system that is mounted on /usr
              leave wipeTable out and list the partitions to add, or choose another disk
        "#]],
    );
    let add = r#""partitions": [{"number": 3, "sizeMiB": 16}]"#;
    check(
        used.clone(),
        add,
        expect![[r#"
            /dev/vdb: create partition 3 ``, 16 MiB at 65 MiB
        "#]],
    );
    used.used_by = Some("md0".to_owned());
    check(
        used,
        add,
        expect![[r#"
            $.storage.disks.0
              /dev/vdb is in use by md0
              choose another disk; this one cannot be partitioned now
        "#]],
    );
}

#[test]
fn figures_that_cannot_be_are_refused_by_name() {
    let said = |wanted: &str| {
        let refused = plan(&document(wanted), &facts(disk(Table::None))).unwrap_err();
        format!("{}: {}", refused.path, refused.message)
    };
    let of = |field: &str| said(&format!(r#""partitions": [{{"number": 1, {field}}}]"#));
    let path = "$.storage.disks.0.partitions.0";
    assert_eq!(of(r#""sizeMiB": -1"#), format!("{path}.sizeMiB: -1 MiB is nowhere on a disk"));
    assert_eq!(
        of(r#""startMiB": 9223372036854775807"#),
        format!("{path}.startMiB: 9223372036854775807 MiB is nowhere on a disk")
    );
    assert_eq!(of(r#""guid": "x""#), format!("{path}.guid: `x` is not a GUID"));
    assert_eq!(
        said(r#""partitions": [{"number": 129}]"#),
        format!("{path}.number: the table ends with number 128")
    );
    assert_eq!(
        said(r#""partitions": [{"number": -1}]"#),
        format!("{path}.number: there is no partition -1")
    );
}

#[derive(Clone, Debug)]
pub(in crate::disks) struct Row {
    number: i64,
    start: Option<i64>,
    size: Option<i64>,
    exists: bool,
    wipe: bool,
    resize: bool,
}

pub(in crate::disks) fn rows() -> impl Strategy<Value = Vec<Row>> {
    let mib = |max: i64| prop::option::weighted(0.7, prop_oneof![Just(0i64), 1..max]);
    let row = (0i64..7, mib(64), mib(40), prop::bool::weighted(0.8), any::<bool>(), any::<bool>());
    prop::collection::vec(row, 0..6).prop_map(|rows| {
        let row = |(number, start, size, exists, wipe, resize)| Row {
            number,
            start,
            size,
            exists,
            wipe,
            resize,
        };
        let mut rows: Vec<Row> = rows.into_iter().map(row).collect();
        let mut seen = BTreeSet::new();
        rows.retain(|row| row.number == 0 || seen.insert(row.number));
        // A list with one that shall not exist has no zeros.
        if rows.iter().any(|row| !row.exists) {
            rows.retain(|row| row.number != 0);
        }
        rows
    })
}

pub(in crate::disks) fn written(rows: &[Row], wipe_table: bool) -> Config {
    let mut config = document(&format!(r#""wipeTable": {wipe_table}"#));
    let partition = |(index, row): (usize, &Row)| config::Partition {
        number: row.number,
        label: row.exists.then(|| format!("p{index}")),
        start_mib: row.start.filter(|_| row.exists),
        size_mib: row.size.filter(|_| row.exists),
        should_exist: (!row.exists).then_some(false),
        wipe_partition_entry: Some(row.wipe),
        resize: Some(row.resize),
        ..config::Partition::default()
    };
    config.storage.disks[0].partitions = rows.iter().enumerate().map(partition).collect();
    config
}

/// Any table, also of those who align to nothing.
pub(in crate::disks) fn before(
    parts: &[(u32, u64, u64, u8)],
    sector_bytes: u64,
    size_bytes: u64,
) -> Disk {
    let room = Room::of_new_table(size_bytes, sector_bytes);
    let mut entries = Entries::new();
    for (number, start, size, label) in parts {
        let (start, size) = (start * sector_bytes * 100, size * sector_bytes * 100);
        let mut entry = entry(&format!("p{label}"), 0, 0);
        (entry.start_bytes, entry.size_bytes) = (room.usable.start + start, size);
        let is_free = room
            .free(&entries)
            .iter()
            .any(|free| free.start <= entry.start_bytes && entry.end_bytes() <= free.end);
        if is_free {
            entries.insert(*number, entry);
        }
    }
    let table = if parts.is_empty() { Table::None } else { Table::Gpt { room, entries } };
    Disk { sector_bytes, size_bytes, ..disk(table) }
}

pub(in crate::disks) fn parts() -> impl Strategy<Value = Vec<(u32, u64, u64, u8)>> {
    prop::collection::vec((1u32..9, 0u64..1200, 1u64..400, 0u8..8), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_is_planned_is_done_when_it_is_done(
        parts in parts(), rows in rows(), wipe in prop::bool::weighted(0.2),
    ) {
        let (config, mut facts) = (written(&rows, wipe), facts(before(&parts, 512, 64 << 20)));
        let kept = facts.disks["/dev/vdb"].entries();
        let Ok(steps) = plan(&config, &facts) else { return Ok(()) };
        steps.iter().for_each(|step| facts.take_in(step));
        prop_assert_eq!(plan(&config, &facts), Ok(vec![]));
        // What is not listed is not touched, and nothing lies on anything else.
        let after = facts.disks["/dev/vdb"].entries();
        let room = Room::of_new_table(64 << 20, 512);
        let used: u64 = after.values().map(|entry| entry.size_bytes).sum();
        let free: u64 = room.free(&after).iter().map(|free| free.end - free.start).sum();
        prop_assert_eq!(used + free, room.usable.end - room.usable.start);
        for (number, entry) in kept {
            let listed = |row: &Row| row.number == i64::from(number) || row.number == 0;
            if !wipe && !rows.iter().any(listed) {
                prop_assert_eq!(after.get(&number), Some(&entry));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same through bytes on a disk; what others say of these is asked, where they are there.
    #[test]
    fn so_it_is_on_a_disk(
        parts in parts(), rows in rows(), wipe in prop::bool::weighted(0.2),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        let config = written(&rows, wipe);
        let look = || {
            let (size_bytes, sector_bytes, table) = blocks::read_table(&file).unwrap();
            facts(Disk { path: path.clone(), size_bytes, sector_bytes, ..disk(table) })
        };
        let made: Vec<Change> = before(&parts, 512, 64 << 20).entries().into_iter().map(|(number, e)| {
            Change::Create {
                number,
                kind: e.kind,
                guid: None,
                label: e.name,
                start_bytes: e.start_bytes,
                size_bytes: e.size_bytes,
            }
        }).collect();
        change_table("$", &path, false, &made).unwrap();
        let Ok(steps) = plan(&config, &look()) else { return Ok(()) };
        for step in &steps {
            let Step::Table { at, wipe, changes, .. } = step else { unreachable!() };
            change_table(at, &path, *wipe, changes).unwrap();
        }
        prop_assert_eq!(plan(&config, &look()), Ok(vec![]));
        let has_table = matches!(look().disks["/dev/vdb"].table, Table::Gpt { .. });
        for (judge, args) in [("sfdisk", &["--verify"][..]), ("sgdisk", &["-v"])] {
            if !has_table {
                break;
            }
            let Ok(said) = Command::new(judge).args(args).arg(&path).output() else { continue };
            let text = String::from_utf8_lossy(&said.stdout);
            prop_assert!(said.status.success(), "{judge}: {text}");
            prop_assert!(judge != "sgdisk" || text.contains("No problems found"), "{text}");
        }
    }
}
