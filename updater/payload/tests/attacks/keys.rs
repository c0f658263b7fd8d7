//! Keys that were lost, stolen, replaced or never there.

use payload::tuf::{Client, Error, Limits, Start};

use crate::repository::{Machine, Repository, at, key, sign};

#[test]
fn without_a_root_nothing_is_believed() {
    let start = Start {
        root: None,
        stored: Default::default(),
        clock: at("21T12"),
        built: at("01T00"),
        limits: Limits::default(),
    };
    assert!(matches!(Client::begin(start), Err(Error::NoRoot)));
}

#[test]
fn a_root_that_lacks_keys_of_a_role_is_refused() {
    let mut repository = Repository::new();
    repository.root.roles.remove("timestamp");
    repository.new_root(&[]);
    let mut machine = Machine::new(&repository);
    assert_eq!(machine.said(&repository.served), "2.root.json is not valid");
}

#[test]
fn a_threshold_of_none_is_never_met() {
    let mut repository = Repository::new();
    repository.speaks("timestamp", &[4], 0);
    repository.new_root(&[]);
    let mut machine = Machine::new(&repository);
    assert_eq!(
        machine.said(&repository.served),
        "timestamp.json is signed by 1 of the keys that may sign it, and needs 0"
    );
}

#[test]
fn three_rotations_are_followed_by_a_machine_that_slept_through_them() {
    let mut repository = Repository::new();
    let mut machine = Machine::new(&repository);
    machine.refresh(&repository.served).unwrap();
    for (old, new) in [(1, 11), (11, 12), (12, 13)] {
        repository.speaks("root", &[new], 1);
        repository.speaks("targets", &[new + 10], 1);
        repository.new_root(&[old]);
    }
    repository.publish();
    assert_eq!(machine.refresh(&repository.served).unwrap().root().version, 4);
    // A version in between that is missing ends the chain, and what is behind is not believed.
    let mut broken = repository.served.clone();
    broken.remove("3.root.json");
    assert!(Machine::new(&repository).refresh(&broken).is_err());
}

#[test]
fn a_root_that_only_its_own_keys_signed_is_refused() {
    let mut repository = Repository::new();
    repository.speaks("root", &[66], 1);
    repository.new_root(&[]);
    let mut machine = Machine::new(&repository);
    assert_eq!(
        machine.said(&repository.served),
        "2.root.json is signed by 0 of the keys that may sign it, and needs 1"
    );
}

#[test]
fn a_root_that_its_own_keys_did_not_sign_is_refused() {
    let mut repository = Repository::new();
    repository.root.version += 1;
    repository.speaks("root", &[11], 1);
    repository.served.insert("2.root.json".into(), sign(&repository.root, &[1]));
    assert!(matches!(
        Machine::new(&repository).refresh(&repository.served),
        Err(Error::Signatures { valid: 0, .. })
    ));
}

#[test]
fn a_revoked_key_signs_nothing_any_more() {
    let mut repository = Repository::new();
    let mut machine = Machine::new(&repository);
    machine.refresh(&repository.served).unwrap();
    repository.speaks("timestamp", &[14], 1);
    repository.new_root(&[]);
    repository.signers.insert("timestamp".into(), vec![4]);
    repository.publish();
    assert_eq!(
        machine.said(&repository.served),
        "timestamp.json is signed by 0 of the keys that may sign it, and needs 1"
    );
}

#[test]
fn one_of_two_lost_keys_is_made_up_for_by_the_third() {
    let mut repository = Repository::new();
    repository.speaks("root", &[1, 11, 12], 2);
    repository.new_root(&[]);
    let mut machine = Machine::new(&repository);
    machine.refresh(&repository.served).unwrap();
    // The first is lost: the other two replace it.
    repository.speaks("root", &[11, 12, 13], 2);
    repository.signers.insert("root".into(), vec![11, 12]);
    repository.new_root(&[]);
    assert_eq!(machine.refresh(&repository.served).unwrap().root().version, 3);
    // One alone does not.
    repository.signers.insert("root".into(), vec![11]);
    repository.new_root(&[]);
    assert!(matches!(
        machine.refresh(&repository.served),
        Err(Error::Signatures { valid: 1, threshold: 2, .. })
    ));
}

#[test]
fn a_key_under_two_names_counts_once() {
    let mut repository = Repository::new();
    let again = payload::tuf::Key::ed25519(&key(3).verifying_key());
    repository.root.keys.insert("another name".into(), again);
    let role = repository.root.roles.get_mut("snapshot").unwrap();
    role.keyids.push("another name".into());
    role.threshold = 2;
    repository.new_root(&[]);
    repository.publish();
    // The same signature under both names.
    let file = repository.served.get_mut("2.snapshot.json").unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(file).unwrap();
    let mut twice = value["signatures"][0].clone();
    twice["keyid"] = "another name".into();
    value["signatures"].as_array_mut().unwrap().push(twice);
    *file = serde_json::to_vec(&value).unwrap();
    let meta = payload::tuf::metadata::Meta::of(2, file);
    repository.timestamp.meta.insert("snapshot.json".into(), meta);
    repository.touch();
    assert!(matches!(
        Machine::new(&repository).refresh(&repository.served),
        Err(Error::Signatures { valid: 1, threshold: 2, .. })
    ));
}

#[test]
fn versions_that_a_thief_set_too_high_are_forgotten_with_his_key() {
    let mut repository = Repository::new();
    let good = repository.clone();
    repository.timestamp.version = u64::MAX - 1;
    repository.timestamp.issued = Some(at("29T00"));
    repository.touch();
    let mut machine = Machine::new(&repository);
    machine.refresh(&repository.served).unwrap();
    let mut repository = good;
    assert!(matches!(machine.refresh(&repository.served), Err(Error::Rollback { .. })));
    repository.speaks("timestamp", &[14], 1);
    repository.new_root(&[]);
    repository.timestamp.expires = at("22T00");
    repository.touch();
    // The time that the thief said is forgotten, too: by it, this would have expired.
    assert_eq!(machine.said(&repository.served), "current");
}

#[test]
fn an_endless_chain_of_roots_is_given_up() {
    let mut repository = Repository::new();
    (0..300).for_each(|_| repository.new_root(&[]));
    let mut machine = Machine::new(&repository);
    assert!(matches!(machine.refresh(&repository.served), Err(Error::Roots(256))));
    // What was followed so far stays, so that a machine that really slept so long gets there.
    assert_eq!(machine.refresh(&repository.served).unwrap().root().version, 301);
}

#[test]
fn an_image_with_a_newer_root_counts_more_than_what_was_stored() {
    let mut repository = Repository::new();
    let mut machine = Machine::new(&repository);
    machine.refresh(&repository.served).unwrap();
    repository.new_root(&[]);
    repository.new_root(&[]);
    machine.root = repository.served["3.root.json"].clone();
    let mut served = repository.served.clone();
    served.remove("2.root.json");
    assert_eq!(machine.refresh(&served).unwrap().root().version, 3);
    // And an older image does not take it back.
    machine.stored.insert("root.json".into(), repository.served["3.root.json"].clone());
    machine.root = repository.served["1.root.json"].clone();
    assert_eq!(machine.refresh(&served).unwrap().root().version, 3);
}
