//! Clocks that are wrong, by themselves or because somebody turns them.

use payload::tuf::Error;

use crate::repository::{Machine, Repository, at};

#[test]
fn a_clock_that_is_turned_back_does_not_revive_what_expired() {
    let mut repository = Repository::new();
    repository.timestamp.expires = at("23T00");
    repository.touch();
    let old = repository.served.clone();
    repository.timestamp.expires = at("29T00");
    repository.touch();
    let mut machine = Machine::new(&repository);
    machine.clock = at("25T00");
    machine.refresh(&repository.served).unwrap();
    // Nothing but the saved time is left to tell.
    machine.stored.retain(|name, _| name == "time");
    machine.clock = at("22T00");
    assert!(matches!(machine.refresh(&old), Err(Error::Expired { .. })));
}

#[test]
fn it_is_never_earlier_than_the_image_was_built() {
    let repository = Repository::new();
    let mut machine = Machine::new(&repository);
    machine.clock = at("01T00");
    machine.built = at("30T01");
    assert!(matches!(machine.refresh(&repository.served), Err(Error::Expired { .. })));
}

#[test]
fn a_clock_that_was_far_ahead_once_does_no_harm_when_it_is_right_again() {
    let repository = Repository::new();
    let mut machine = Machine::new(&repository);
    machine.clock = "2126-01-01T00:00:00Z".parse().unwrap();
    assert!(matches!(machine.refresh(&repository.served), Err(Error::Expired { .. })));
    machine.clock = at("21T12");
    assert_eq!(machine.said(&repository.served), "current");
}

#[test]
fn a_clock_that_is_behind_is_corrected_by_what_was_signed() {
    let mut repository = Repository::new();
    repository.timestamp.issued = Some(at("24T00"));
    repository.touch();
    let mut machine = Machine::new(&repository);
    machine.refresh(&repository.served).unwrap();
    let client = machine.refresh(&repository.served).unwrap();
    assert_eq!(client.now(), at("24T00"));
    // What says that it was signed after it expired is believed up to there.
    repository.timestamp.issued = Some("2126-01-01T00:00:00Z".parse().unwrap());
    repository.timestamp.expires = at("26T00");
    repository.touch();
    machine.refresh(&repository.served).unwrap();
    repository.timestamp.issued = None;
    repository.timestamp.expires = at("29T00");
    repository.touch();
    assert_eq!(machine.refresh(&repository.served).unwrap().now(), at("26T00"));
}
