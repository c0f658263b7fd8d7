//! From nothing to a fleet: the program, on small images, and what a machine then reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

mod place;

use place::Place;

#[test]
fn a_second_release_costs_a_machine_far_less_and_everything_is_in_order() {
    let place = Place::begun();
    place.image("1.0", "one");
    place.image("1.1", "two");
    place.publish(&["add", "repo", "1.0", "--channel", "alpha"]);
    let said = place.publish(&["add", "repo", "1.1", "--channel", "alpha", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let cost = |index: usize| said["costs"][index]["fetch_bytes"].as_u64().unwrap();
    assert_eq!(said["costs"][1]["from"], "1.0");
    assert!(cost(1) * 5 < cost(0), "{said}");
    let checked = place.good(&["check", "repo"]);
    assert!(checked.starts_with("root 1, channels alpha, 2 releases, "), "{checked}");
}

#[test]
fn a_bundle_has_what_one_release_takes_and_no_more() {
    let place = Place::begun();
    place.image("1.0", "one");
    place.image("1.1", "two");
    for version in ["1.0", "1.1"] {
        place.publish(&["add", "repo", version, "--channel", "alpha"]);
    }
    let bundle = |words: &[&str]| {
        let words = [&["bundle", "repo", "a.tar", "--channel", "alpha", "--json"], words].concat();
        let said: Value = serde_json::from_str(&place.good(&words)).unwrap();
        let file = fs::File::open(place.path("a.tar")).unwrap();
        let mut archive = tar::Archive::new(file);
        let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into());
        let names: Vec<PathBuf> = names.collect();
        assert_eq!(said["files"], names.len());
        let of = |folder| names.iter().filter(|name| name.starts_with(folder)).count();
        (said["version"].clone(), of("metadata"), of("targets"), of("objects"))
    };
    // Two segments of /usr and the UKI; root, timestamp, snapshot, targets; channel and release.
    assert_eq!(bundle(&[]), ("1.1".into(), 4, 2, 3));
    assert_eq!(bundle(&["--version", "1.0"]), ("1.0".into(), 4, 2, 3));
    let (_, _, _, objects) = bundle(&["--from", "1.0"]);
    assert!(objects > 3, "{objects} objects");
    let said = place.bad(&["bundle", "repo", "a.tar", "--channel", "alpha", "--from", "0.9"]);
    assert!(said.contains("--from 0.9: ") && said.contains("has no patches against it"), "{said}");
    let said = place.bad(&["bundle", "repo", "a.tar", "--channel", "beta"]);
    assert!(said.contains("the channel beta has no release"), "{said}");
}

#[test]
fn a_release_goes_its_way_through_channels_waves_and_trouble() {
    let place = Place::begun();
    place.image("1.0", "one");
    place.publish(&["add", "repo", "1.0", "--channel", "alpha"]);
    let first = "2026-12-01T08:00:00Z";
    place.publish(&[
        "promote",
        "repo",
        "1.0",
        "--from",
        "alpha",
        "--to",
        "stable",
        "--usual-from",
        first,
    ]);
    place.publish(&["pause", "repo", "alpha", "1.0", "--reason", "disks fill up"]);
    place.publish(&["barrier", "repo", "stable", "1.0"]);
    place.publish(&["dead-end", "repo", "stable", "0.9", "--reason", "install anew"]);
    expect_test::expect![[r"
        alpha:
          1.0 (cloud-x86_64): paused: disks fill up
        stable:
          1.0 (cloud-x86_64, barrier): open in waves from 2026-12-01T08:00:00Z to 2026-12-14T13:00:00Z"]]
    .assert_eq(&place.status());
    place.publish(&["resume", "repo", "alpha", "1.0"]);
    place.publish(&["withdraw", "repo", "stable", "1.0", "--reason", "eats disks"]);
    expect_test::expect![[r"
        alpha:
          1.0 (cloud-x86_64): open to all
        stable:
          1.0 (cloud-x86_64, barrier): withdrawn: eats disks"]]
    .assert_eq(&place.status());
    place.good(&["check", "repo"]);
}

#[test]
fn a_root_of_two_keys_waits_for_the_second_wherever_that_is() {
    let place = Place::begun();
    let timestamp = place.path("repo/metadata/timestamp.json");
    let before = fs::read(&timestamp).unwrap();
    let words = [
        "rotate",
        "repo",
        "--add",
        "root=root-2.pub",
        "--threshold",
        "root=2",
        "--key",
        "root-1",
        "--key",
        "online",
    ];
    let waiting = place.run(&words);
    assert_eq!(waiting.status.code(), Some(2));
    let said = String::from_utf8(waiting.stdout).unwrap();
    assert!(said.starts_with("staged/root.json has 1 of 2 signatures and is staged."), "{said}");
    // Nothing that a machine reads has changed.
    assert_eq!(fs::read(&timestamp).unwrap(), before);
    assert!(!place.path("repo/metadata/2.root.json").exists());
    fs::copy(place.path("repo/staged/root.json"), place.path("stick.json")).unwrap();
    place.good(&["sign", "stick.json", "--key", "root-2"]);
    place.good(&["add-signature", "repo", "stick.json", "--key", "online"]);
    assert!(place.good(&["check", "repo"]).starts_with("root 2, "));
    assert!(!place.path("repo/staged/root.json").exists());
}

#[test]
fn a_replaced_key_signs_no_more_and_its_files_are_signed_anew() {
    let place = Place::begun();
    place.good(&["keys", "new", "online-2"]);
    place.good(&[
        "rotate",
        "repo",
        "--add",
        "timestamp=online-2",
        "--remove",
        "timestamp=online.pub",
        "--add",
        "targets=root-2",
        "--remove",
        "targets=targets",
        "--key",
        "root-1",
        "--key",
        "root-2",
        "--key",
        "online",
        "--key",
        "online-2",
    ]);
    place.good(&["check", "repo"]);
    let said = place.bad(&["refresh", "repo", "--key", "online"]);
    assert!(said.contains("the timestamp needs 1 signatures, and 0 of the keys given"), "{said}");
    place.good(&["refresh", "repo", "--key", "online-2"]);
    let said = place.bad(&["rotate", "repo", "--threshold", "root=2", "--key", "root-1"]);
    assert!(said.contains("root would have 1 keys and need 2 signatures"), "{said}");
}

#[test]
fn what_a_rebuilder_signed_gets_into_the_channel() {
    let place = Place::begun();
    place.image("1.0", "one");
    let demand = ["--rebuilder", "rebuilder.pub", "--rebuilders", "1"];
    place.publish(&[&["add", "repo", "1.0", "--channel", "alpha"], &demand[..]].concat());
    let signed = place.good(&["countersign", "1.0", "--key", "rebuilder"]);
    fs::write(place.path("signed.json"), signed).unwrap();
    place.publish(&["add-countersignature", "repo", "alpha", "1.0", "signed.json"]);
    let status: Value = serde_json::from_str(&place.good(&["status", "repo", "--json"])).unwrap();
    let entry = &status["channels"][0]["releases"][0];
    assert_eq!(entry["countersignatures"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let place = Place::new();
    let said = |words: &[&str]| place.bad(words);
    assert_eq!(
        said(&["status", "repo"]),
        "update-publish: repo is no repository: expected metadata/1.root.json in it. \
         `update-publish init` makes one\n"
    );
    assert!(said(&["keys", "new", "online"]).contains("File exists"));
    assert!(said(&["sign", "online", "--key", "online"]).contains("online is not metadata"));
    assert!(
        said(&["keys", "show", "nothing"])
            .starts_with("update-publish: reading the key nothing: No such file or directory")
    );
    let place = Place::begun();
    place.image("1.0", "one");
    let erofs = place.path("1.0/pithos-1.0.usr.erofs");
    let mut bytes = fs::read(&erofs).unwrap();
    bytes[0] ^= 1;
    fs::write(&erofs, bytes).unwrap();
    let said = place.bad(&["add", "repo", "1.0", "--channel", "alpha"]);
    assert!(said.contains("1.0: /usr is not what the manifest says"), "{said}");
    let said = place.bad(&["pause", "repo", "alpha", "1.0", "--reason", "x"]);
    assert!(said.contains("1.0 is not in the channel alpha"), "{said}");
}

#[test]
fn a_damaged_repository_is_noticed() {
    let place = Place::begun();
    place.image("1.0", "one");
    place.publish(&["add", "repo", "1.0", "--channel", "alpha"]);
    let object = first_file(&place.path("repo/objects"));
    fs::write(&object, b"other").unwrap();
    assert!(place.bad(&["check", "repo"]).contains("is not what was signed"));
}

fn first_file(folder: &Path) -> PathBuf {
    let path = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    if path.is_dir() { first_file(&path) } else { path }
}
