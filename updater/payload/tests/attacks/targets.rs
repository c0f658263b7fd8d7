//! Targets that lead elsewhere: out of their folder, into another channel, to another's word.

use std::collections::BTreeMap;

use payload::{
    Channel,
    tuf::{
        Error, Key, Next,
        metadata::{Delegation, Delegations, Meta, RoleKeys, Targets},
    },
};

use crate::repository::{Machine, Repository, at, key, sign};

#[test]
fn a_path_that_leads_out_is_not_asked_for_even_if_it_is_signed() {
    let mut repository = Repository::new();
    let tricks =
        ["../x", "/etc/passwd", "a/../../x", "a//b", ".", "a/", "a\\..\\x", "a\nb", "", "a\0"];
    tricks.iter().for_each(|path| repository.add(path, b"x"));
    repository.publish();
    for path in tricks {
        let found = Machine::new(&repository).find(&repository.served, path);
        assert!(matches!(found, Err(Error::Path(_))), "{path:?}");
    }
}

#[test]
fn what_a_path_contains_does_not_change_the_url() {
    let mut repository = Repository::new();
    repository.add("releases/a b?c#d%2e.json", b"x");
    repository.publish();
    let mut machine = Machine::new(&repository);
    let client = machine.refresh(&repository.served).unwrap();
    let Next::Found(target) = machine.find(&repository.served, "releases/a b?c#d%2e.json").unwrap()
    else {
        panic!("it is there")
    };
    assert_eq!(
        client.location("releases/a b?c#d%2e.json", &target),
        "releases/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881.\
         a%20b%3Fc%23d%252e.json"
    );
}

#[test]
fn another_channel_under_the_name_of_the_wanted_one_is_refused() {
    let alpha = r#"{"format": 1, "name": "alpha", "releases": []}"#;
    let mut repository = Repository::new();
    // A mistake of the publisher, or a thief of the targets' key who found an old file.
    repository.add("channels/stable.json", alpha.as_bytes());
    repository.publish();
    let found = Machine::new(&repository).find(&repository.served, "channels/stable.json").unwrap();
    let Next::Found(target) = found else { panic!("it is there") };
    assert!(target.matches(alpha.as_bytes()));
    assert!(Channel::parse("stable", alpha.as_bytes()).is_err());
}

/// A repository whose targets let `name` speak about `path`, signed by the key 5; it knows `knows`.
fn delegating(name: &str, path: &str, knows: &str) -> Repository {
    let mut repository = Repository::new();
    let delegate = Key::ed25519(&key(5).verifying_key());
    repository.targets.delegations = Some(Delegations {
        roles: vec![Delegation {
            name: name.into(),
            keys: RoleKeys { keyids: vec![delegate.id()], threshold: 1 },
            terminating: false,
            paths: vec![path.into()],
            path_hash_prefixes: vec![],
        }],
        keys: BTreeMap::from([(delegate.id(), delegate)]),
    });
    let mut role =
        Targets { version: 9, expires: at("30T00"), targets: BTreeMap::new(), delegations: None };
    role.targets.insert(knows.into(), payload::tuf::Target::of(b"x"));
    let text = sign(&role, &[5]);
    repository.snapshot.meta.insert(format!("{name}.json"), Meta::of(9, &text));
    repository.served.insert(format!("9.{}.json", payload::tuf::quote(name)), text);
    repository.publish();
    repository
}

#[test]
fn a_delegate_speaks_about_its_own_paths_only() {
    let repository = delegating("debug", "debug/*", "releases/x");
    let mut machine = Machine::new(&repository);
    assert_eq!(machine.find(&repository.served, "releases/x").unwrap(), Next::NotFound);
    let repository = delegating("debug", "debug/*", "debug/x");
    let mut machine = Machine::new(&repository);
    let found = machine.find(&repository.served, "debug/x").unwrap();
    assert!(matches!(found, Next::Found(_)));
}

#[test]
fn a_delegate_that_is_called_like_a_role_is_not_stored_in_its_place() {
    for name in ["root", "timestamp", "snapshot"] {
        let repository = delegating(name, "*", "x");
        let mut machine = Machine::new(&repository);
        machine.refresh(&repository.served).unwrap();
        let before = machine.stored.clone();
        assert!(machine.find(&repository.served, "x").is_err(), "{name}");
        assert_eq!(machine.stored, before, "{name}");
    }
}

#[test]
fn a_delegate_s_name_is_no_path() {
    let repository = delegating("../../etc/x", "*", "x");
    let mut machine = Machine::new(&repository);
    assert!(matches!(machine.find(&repository.served, "x"), Ok(Next::Found(_))));
    assert!(machine.stored.contains_key("..%2F..%2Fetc%2Fx.json"));
}
