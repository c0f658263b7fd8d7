//! Files that were damaged, cut, lengthened or exchanged on their way.

use payload::tuf::{Error, metadata::Signed};
use proptest::prelude::*;

use crate::repository::{Machine, Repository, Served};

/// The files that a refresh reads.
const FILES: [&str; 4] = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];

fn repository() -> Repository {
    let mut repository = Repository::new();
    repository.new_root(&[]);
    repository
}

/// What a machine trusts after it read `served`, or that it refused.
fn trusted(served: &Served) -> Option<(u64, Vec<Vec<u8>>)> {
    let mut machine = Machine::new(&repository());
    let client = machine.refresh(served).ok()?;
    let meaning = ["timestamp.json", "snapshot.json", "targets.json"];
    let meaning = meaning.map(|name| meaning_of(&machine.stored[name]));
    Some((client.root().version, meaning.into()))
}

/// What a file says, without how it is written.
fn meaning_of(bytes: &[u8]) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    payload::tuf::json::canonical(&value["signed"])
}

#[test]
fn every_byte_of_every_file_may_be_flipped_without_anything_else_being_believed() {
    let served = repository().served;
    let good = trusted(&served).unwrap();
    for file in FILES {
        for at in 0..served[file].len() {
            // The case of a letter, and any bit.
            for flip in [0x20, 1 << (at % 8)] {
                let mut flipped = served.clone();
                flipped.get_mut(file).unwrap()[at] ^= flip;
                let found = trusted(&flipped);
                assert!(
                    found.is_none_or(|found| found == good),
                    "{file}, byte {at} with {flip:#x}"
                );
            }
        }
    }
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let served = repository().served;
    for file in FILES {
        // Without its last newline it says the same; whoever lists it says another length, though.
        for end in 0..served[file].len() - 1 {
            let mut cut = served.clone();
            cut.get_mut(file).unwrap().truncate(end);
            assert!(trusted(&cut).is_none(), "{file} of {end} bytes");
        }
    }
}

#[test]
fn a_file_without_end_is_refused_by_its_length() {
    for file in FILES {
        let mut served = repository().served;
        served.get_mut(file).unwrap().resize(1 << 20, b' ');
        let refused = Machine::new(&repository()).refresh(&served);
        assert!(matches!(refused, Err(Error::Endless { .. })), "{file}");
    }
}

#[test]
fn a_file_is_not_taken_for_another_role_s() {
    for (one, other) in [(0, 1), (1, 2), (2, 3), (3, 1), (1, 0)] {
        let mut served = repository().served;
        served.insert(FILES[one].into(), served[FILES[other]].clone());
        assert!(Machine::new(&repository()).refresh(&served).is_err(), "{one} {other}");
    }
}

proptest! {
    #[test]
    fn what_is_no_metadata_is_refused_and_nothing_breaks(bytes: Vec<u8>, file in 0usize..4) {
        let mut served = repository().served;
        served.insert(FILES[file].into(), bytes);
        prop_assert!(Machine::new(&repository()).refresh(&served).is_err());
    }

    #[test]
    fn json_of_any_kind_is_refused_and_nothing_breaks(text in r#"[\[\]{}",:a-z0-9 ]{0,60}"#) {
        let parsed = Signed::<payload::tuf::metadata::Root>::parse(text.as_bytes());
        prop_assert!(parsed.is_err());
    }
}
