//! What was signed once, shown again: old repositories, old parts of repositories, nothing new.

use payload::tuf::Error;

use crate::repository::{Machine, Repository, at};

#[test]
fn yesterday_s_whole_repository_is_refused() {
    let mut repository = Repository::new();
    let yesterday = repository.served.clone();
    let mut machine = Machine::new(&repository);
    machine.refresh(&yesterday).unwrap();
    repository.publish();
    machine.refresh(&repository.served).unwrap();
    assert_eq!(
        machine.said(&yesterday),
        "timestamp.json goes back: it says 1 of timestamp.json, and 2 was seen before"
    );
    // And it goes on with the new one.
    assert_eq!(machine.said(&repository.served), "current");
}

#[test]
fn a_new_timestamp_over_an_old_snapshot_is_refused() {
    let mut repository = Repository::new();
    let old = repository.clone();
    let mut machine = Machine::new(&repository);
    repository.publish();
    machine.refresh(&repository.served).unwrap();
    // Whoever has the timestamp's key, and no other.
    let mut thief = old;
    thief.timestamp.version = 8;
    thief.touch();
    assert_eq!(
        machine.said(&thief.served),
        "timestamp.json goes back: it says 1 of snapshot.json, and 2 was seen before"
    );
}

#[test]
fn a_new_snapshot_over_old_targets_is_refused() {
    let mut repository = Repository::new();
    let old = repository.clone();
    repository.publish();
    let mut machine = Machine::new(&repository);
    machine.refresh(&repository.served).unwrap();
    // Whoever has the keys of snapshot and timestamp.
    let mut thief = old;
    (thief.snapshot.version, thief.timestamp.version) = (8, 8);
    thief.targets.version = 0;
    thief.publish();
    assert_eq!(
        machine.said(&thief.served),
        "snapshot.json goes back: it says 1 of targets.json, and 2 was seen before"
    );
}

#[test]
fn targets_that_vanish_from_the_snapshot_are_missed() {
    let mut repository = Repository::new();
    let meta = repository.snapshot.meta["targets.json"].clone();
    repository.snapshot.meta.insert("extra.json".into(), meta);
    repository.publish();
    let mut machine = Machine::new(&repository);
    machine.refresh(&repository.served).unwrap();
    repository.snapshot.meta.remove("extra.json");
    repository.publish();
    assert_eq!(machine.said(&repository.served), "the snapshot does not list extra.json");
}

#[test]
fn a_server_that_shows_nothing_new_is_noticed_when_the_last_word_expires() {
    let mut repository = Repository::new();
    repository.timestamp.expires = at("23T00");
    repository.touch();
    let mut machine = Machine::new(&repository);
    machine.clock = at("22T23");
    assert_eq!(machine.said(&repository.served), "current");
    machine.clock = at("23T00");
    assert_eq!(
        machine.said(&repository.served),
        "timestamp.json expired at 2026-11-23T00:00:00Z, and it is 2026-11-23T00:00:00Z"
    );
}

#[test]
fn parts_of_two_repositories_do_not_mix() {
    let mut repository = Repository::new();
    let one = repository.served.clone();
    repository.publish();
    let mut mixed = repository.served.clone();
    // Both are signed, and neither is what the other names.
    mixed.insert("2.targets.json".into(), one["1.targets.json"].clone());
    let mut machine = Machine::new(&repository);
    let refused = machine.refresh(&mixed);
    assert!(matches!(refused, Err(Error::Other { file }) if file == "targets.json"));
    mixed.insert("2.snapshot.json".into(), one["1.snapshot.json"].clone());
    let refused = Machine::new(&repository).refresh(&mixed);
    assert!(matches!(refused, Err(Error::Other { file }) if file == "snapshot.json"));
}

#[test]
fn what_was_seen_survives_a_refresh_that_ended_badly() {
    let mut repository = Repository::new();
    let old = repository.served.clone();
    let mut machine = Machine::new(&repository);
    repository.publish();
    let mut broken = repository.served.clone();
    broken.remove("2.snapshot.json");
    assert_eq!(machine.said(&broken), "the server has no snapshot.json");
    // The timestamp was seen, so the old repository is too old already.
    assert!(matches!(machine.refresh(&old), Err(Error::Rollback { .. })));
}
