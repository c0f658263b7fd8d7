use proptest::prelude::*;

use super::{
    simulated::{Fault, Simulated},
    *,
};

const OWNER: Owner = Owner { cluster: 0xc, member: 0xa };
const SMALL: u64 = 5 * frame::BLOCK;

fn open(disk: &Simulated) -> Result<(Log<Simulated>, Opened, Vec<String>), Error> {
    let mut records = Vec::new();
    let record = |is: &[u8]| records.push(String::from_utf8(is.to_vec()).expect("text"));
    let (log, opened) = Log::open(disk.clone(), OWNER, SMALL, 0x5a17, record)?;
    Ok((log, opened, records))
}

/// A disk with one batch after another in its log.
fn written(batches: &[&[&str]]) -> Simulated {
    let disk = Simulated::new();
    let (mut log, ..) = open(&disk).expect("a new log");
    for batch in batches {
        log.append(batch).expect("it is written");
    }
    disk
}

/// A disk with the same batch again and again.
fn repeated(batch: &[&str], times: usize) -> Simulated {
    written(&vec![batch; times])
}

fn long(letter: &str) -> String {
    letter.repeat(3000)
}

#[test]
fn what_was_written_is_read_in_order() {
    let long = long("x");
    let disk = written(&[&["one", "two"], &[&long, &long, "three"], &["four"]]);
    let (_, opened, records) = open(&disk).expect("the log");
    assert_eq!(records, ["one", "two", &long, &long, "three", "four"]);
    assert_eq!(opened, Opened { records: 6, torn: None });
}

#[test]
fn a_log_goes_on_in_the_next_segment() {
    let long = long("x");
    let disk = repeated(&[&long], 11);
    let names = disk.list().expect("names");
    assert_eq!(names, ["0000000000000001.log", "0000000000000002.log", "0000000000000003.log"]);
    assert_eq!(open(&disk).expect("the log").2.len(), 11);
}

#[test]
fn a_batch_that_is_larger_than_a_segment_gets_a_larger_one() {
    let huge = "y".repeat(9 * SMALL as usize);
    let disk = written(&[&["one"], &[&huge], &["two"]]);
    assert_eq!(open(&disk).expect("the log").2, ["one", &huge, "two"]);
}

#[test]
fn segments_that_nobody_needs_are_taken_away() {
    let long = long("x");
    let disk = repeated(&[&long], 11);
    let (mut log, ..) = open(&disk).expect("the log");
    log.forget_before(3).expect("they are removed");
    assert_eq!(open(&disk).expect("the log").2.len(), 3);
}

#[test]
fn damage_is_told_with_its_place() {
    let long = long("x");
    for (name, at, expected) in [
        ("0000000000000001.log", 9, "0000000000000001.log is damaged at byte 0"),
        ("0000000000000001.log", 2, "it is no segment of a log"),
        ("0000000000000001.log", 2 * 4096 + 100, "0000000000000001.log is damaged at byte 7120"),
        ("0000000000000001.log", 4 * 4096 + 100, "its last records are not whole"),
        ("0000000000000002.log", 4096 + 100, "0000000000000002.log is damaged at byte 4096"),
    ] {
        let disk = repeated(&[&long], 6);
        disk.rot(name, at);
        let error = open(&disk).err().expect("it is damaged").to_string();
        assert!(error.contains(expected), "{name} {at}: {error}");
    }
}

#[test]
fn the_end_of_the_last_batch_is_cut_where_it_is_not_whole() {
    let long = long("x");
    let disk = written(&[&["one"], &["two", &long, &long]]);
    disk.rot("0000000000000001.log", 2 * 4096 + 5000);
    let (mut log, opened, records) = open(&disk).expect("the log");
    assert_eq!(records, ["one", "two", &long]);
    assert!(opened.torn.is_some());
    log.append(&["three"]).expect("it goes on");
    assert_eq!(open(&disk).expect("the log").2, ["one", "two", &long, "three"]);
}

#[test]
fn a_value_that_looks_like_a_record_is_none() {
    // What a client could have taken from another member's log.
    let (batch, _) = frame::batch(&["false"], 1 << 20, 0x0bad, 0);
    let mut file = Header { owner: OWNER, sequence: 1, salt: 0x5a17, previous: 0 }.write();
    file.resize(3 * 4096, 0);
    file[2 * 4096..2 * 4096 + 40].copy_from_slice(&batch[..40]);
    let header = Header::read(&file).expect("a header");
    let read = frame::read(&file, &header);
    assert_eq!(frame::check_tail(&file, &header, &read), Ok(()));
}

#[test]
fn a_segment_that_is_missing_is_told() {
    let long = long("x");
    let disk = repeated(&[&long], 11);
    disk.remove("0000000000000002.log").expect("it is removed");
    let error = open(&disk).err().expect("one is missing").to_string();
    assert!(error.starts_with("0000000000000002.log is missing"), "{error}");
}

#[test]
fn the_log_of_another_member_is_not_taken() {
    let disk = written(&[&["one"]]);
    let owner = Owner { member: 0xb, ..OWNER };
    let error = Log::open(disk, owner, SMALL, 1, |_| ()).err().expect("it is another's");
    assert!(error.to_string().contains("of member a of cluster c, not of member b"), "{error}");
}

#[test]
fn after_an_error_nothing_is_written_ever_again() {
    for fault in [Fault::Error, Fault::LosesUnsynced] {
        for step in [1, 2] {
            let disk = written(&[&["one"]]);
            let (mut log, ..) = open(&disk).expect("the log");
            disk.fail_in(step, fault);
            assert!(matches!(log.append(&["two"]), Err(Error::Disk { .. })));
            assert!(matches!(log.append(&["three"]), Err(Error::Failed)));
        }
    }
}

#[test]
fn a_disk_that_is_full_stops_the_log_before_anything_is_lost() {
    let long = long("x");
    let disk = written(&[&["one"]]);
    disk.set_free(SMALL / 2);
    let (mut log, ..) = open(&disk).expect("the log");
    let mut kept = 1;
    while log.append(&[&long]).is_ok() {
        kept += 1;
    }
    disk.set_free(SMALL);
    assert_eq!(open(&disk).expect("the log").2.len(), kept);
}

#[test]
fn a_folder_of_this_machine_keeps_a_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = disk::Folder::at(&folder.path().join("log")).expect("a folder in it");
    let (mut log, _) = Log::open(disk.clone(), OWNER, SMALL, 7, |_| ()).expect("a new log");
    for _ in 0..9 {
        log.append(&[long("x"), "y".to_owned()]).expect("it is written");
    }
    log.forget_before(2).expect("it is removed");
    drop(log);
    let mut records = 0;
    Log::open(disk, OWNER, SMALL, 8, |_| records += 1).expect("the log");
    assert_eq!(records, 10);
}

proptest! {
    /// Whenever power fails, and however often, what was acknowledged is there, in order and once;
    /// what was not is there in the order of its writing, or not.
    #[test]
    fn what_was_acknowledged_survives_every_power_cut(
        lives in proptest::collection::vec(
            (proptest::collection::vec(proptest::collection::vec(1_usize..6000, 1..4), 0..8), 1_u64..40, any::<u64>()),
            1..6,
        ),
    ) {
        let disk = Simulated::new();
        let mut known: Vec<String> = Vec::new();
        let mut maybe: Vec<String> = Vec::new();
        let mut number = 0;
        for (batches, step, seed) in lives {
            disk.fail_in(step, Fault::Power);
            let opened = open(&disk);
            if let Ok((mut log, _, records)) = opened {
                let all: Vec<String> = known.iter().chain(&maybe).cloned().collect();
                prop_assert!(records.starts_with(&known), "acknowledged records are missing");
                prop_assert!(all.starts_with(&records), "records from nowhere");
                (known, maybe) = (records, Vec::new());
                for batch in batches {
                    let records: Vec<String> = batch.into_iter().map(|length| {
                        number += 1;
                        format!("{number} {}", "z".repeat(length))
                    }).collect();
                    match log.append(&records) {
                        Ok(()) => known.extend(records),
                        Err(_) => {
                            maybe = records;
                            break;
                        }
                    }
                }
            } else {
                let by_power = matches!(opened, Err(Error::Disk { .. }));
                prop_assert!(by_power, "{:?}", opened.err());
            }
            disk.cut(seed);
        }
        let (_, _, records) = open(&disk).expect("the disk is whole");
        prop_assert!(records.starts_with(&known));
    }

    /// A byte that goes bad is found, or was in the last batch, which is cut: never another record.
    #[test]
    fn a_byte_that_goes_bad_is_never_read(at in 0_usize..SMALL as usize, segment in 0_usize..3) {
        let long = long("x");
        let disk = repeated(&["one", &long], 11);
        let (_, _, before) = open(&disk).expect("the log");
        let names = disk.list().expect("names");
        let name = &names[segment.min(names.len() - 1)];
        disk.rot(name, at);
        if let Ok((_, _, records)) = open(&disk) {
            prop_assert!(before.starts_with(&records));
            prop_assert!(records.len() >= before.len() - 2, "more than the last batch is gone");
        }
    }
}

#[test]
fn power_may_fail_in_every_step_of_making_a_log() {
    let disk = Simulated::new();
    open(&disk).expect("a new log");
    for step in 1..=disk.steps() {
        for seed in 0..20 {
            let disk = Simulated::new().copy();
            disk.fail_in(step, Fault::Power);
            assert!(open(&disk).is_err(), "power failed in step {step}");
            disk.cut(seed);
            let (mut log, opened, _) = open(&disk).expect("it can be made again");
            assert_eq!(opened.records, 0);
            log.append(&["one"]).expect("it works");
        }
    }
}

/// The disk loses what it should: without syncs, what was acknowledged is gone now and then.
#[test]
fn a_disk_that_lies_is_found_out() {
    let is_lost = |seed| {
        let disk = written(&[&["one"]]);
        let (mut log, ..) = open(&disk).expect("the log");
        disk.lie();
        log.append(&["two"]).expect("it says that it is written");
        disk.cut(seed);
        open(&disk).expect("the log").2.len() == 1
    };
    assert!((0..40).any(is_lost));
}
