//! Pictures of disks.

use std::fmt::Write;

use expect_test::{Expect, expect};
use layout::{disk::shipped, seed::Seed};
use uuid::Uuid;

use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// A shipped table of version 1, with `second` in slot B.
fn table(second: Option<(&str, RootHash)>) -> Entries {
    let first = version("1");
    let rows = shipped(&Seed::new("cloud", &first), &first, &RootHash([1; 32]));
    let mut entries: Entries = rows
        .into_iter()
        .map(|row| {
            let entry = Entry {
                kind: row.role.type_guid(),
                guid: row.guid,
                start_bytes: row.start_bytes,
                size_bytes: row.size_bytes,
                flags: row.attributes,
                name: row.label,
            };
            (row.role.number(), entry)
        })
        .collect();
    if let Some((text, hash)) = second {
        let usr = entries.get_mut(&4).unwrap();
        (usr.name, usr.guid) = (version(text).usr_label(), hash.usr_partuuid());
        let verity = entries.get_mut(&5).unwrap();
        (verity.name, verity.guid) = (version(text).verity_label(), hash.verity_partuuid());
    }
    entries
}

fn check(entries: &Entries, running: [u8; 32], files: &[&str], picture: Expect) {
    let mut text = String::new();
    match Slots::read(entries, &RootHash(running), files.iter().copied()) {
        Err(why) => writeln!(text, "{why}").unwrap(),
        Ok(slots) => {
            for slot in [Slot::A, Slot::B] {
                let mark = if slot == slots.booted { "*" } else { " " };
                let what = match slots.content(slot) {
                    Content::Empty => "empty".to_owned(),
                    Content::Foreign { usr, verity } => format!("`{usr}` and `{verity}`"),
                    Content::Version { version, root_hash, ukis } => {
                        let names: Vec<String> = ukis.iter().map(Uki::name).collect();
                        let hash = &root_hash.to_string()[..4];
                        format!("{version} {hash}.. {}", names.join(" "))
                    }
                };
                writeln!(text, "{mark}{slot:?} {what}").unwrap();
            }
            let names: Vec<String> = slots.stray.iter().map(Uki::name).collect();
            writeln!(text, "stray {}", names.join(" ")).unwrap();
            let next = slots.next_boot().map(Uki::name);
            writeln!(text, "next  {}", next.unwrap_or_else(|| "nothing".to_owned())).unwrap();
        }
    }
    picture.assert_eq(&text);
}

#[test]
fn a_new_machine_runs_from_slot_a_and_has_room_in_b() {
    check(
        &table(None),
        [1; 32],
        &["pithos_1+2-1.efi", "readme.txt"],
        expect![[r#"
        *A 1 0101.. pithos_1+2-1.efi
         B empty
        stray 
        next  pithos_1+2-1.efi
    "#]],
    );
}

#[test]
fn an_armed_update_is_next() {
    let entries = table(Some(("2", RootHash([2; 32]))));
    check(
        &entries,
        [1; 32],
        &["pithos_1.efi", "pithos_2+3.efi"],
        expect![[r#"
        *A 1 0101.. pithos_1.efi
         B 2 0202.. pithos_2+3.efi
        stray 
        next  pithos_2+3.efi
    "#]],
    );
}

#[test]
fn one_that_used_up_its_tries_is_behind_the_one_that_runs() {
    let entries = table(Some(("2", RootHash([2; 32]))));
    check(
        &entries,
        [1; 32],
        &["pithos_2+0-3.efi", "pithos_1.efi"],
        expect![[r#"
        *A 1 0101.. pithos_1.efi
         B 2 0202.. pithos_2+0-3.efi
        stray 
        next  pithos_1.efi
    "#]],
    );
}

#[test]
fn a_uki_whose_slot_is_gone_is_never_next() {
    check(
        &table(None),
        [1; 32],
        &["pithos_9.efi", "pithos_1.efi"],
        expect![[r#"
        *A 1 0101.. pithos_1.efi
         B empty
        stray pithos_9.efi
        next  pithos_1.efi
    "#]],
    );
}

#[test]
fn a_slot_that_is_half_named_or_named_by_somebody_else_holds_no_version() {
    let mut entries = table(Some(("2", RootHash([2; 32]))));
    entries.get_mut(&5).unwrap().name = "mine".to_owned();
    check(
        &entries,
        [1; 32],
        &["pithos_2+3.efi"],
        expect![[r#"
        *A 1 0101.. 
         B `pithos_2` and `mine`
        stray pithos_2+3.efi
        next  nothing
    "#]],
    );
    entries.get_mut(&5).unwrap().name = EMPTY_LABEL.to_owned();
    check(
        &entries,
        [1; 32],
        &[],
        expect![[r#"
        *A 1 0101.. 
         B empty
        stray 
        next  nothing
    "#]],
    );
}

#[test]
fn what_is_not_our_disk_is_refused_by_name() {
    check(
        &table(None),
        [7; 32],
        &[],
        expect![[r#"
        no slot of the disk has the PARTUUIDs of the running /usr, 07070707-0707-0707-0707-070707070707 and 07070707-0707-0707-0707-070707070707: the partition table was changed since the boot
    "#]],
    );
    let mut entries = table(None);
    entries.get_mut(&4).unwrap().kind = Uuid::nil();
    check(
        &entries,
        [1; 32],
        &[],
        expect![[r#"
        partition 4 of the disk is `_empty` of type 00000000-0000-0000-0000-000000000000, expected one of type 8484680c-9521-48c6-9c11-b0720656f69e (/usr of slot B)
    "#]],
    );
    entries.remove(&2);
    check(
        &entries,
        [1; 32],
        &[],
        expect![[r#"
        partition 2 of the disk is not there, expected one of type 8484680c-9521-48c6-9c11-b0720656f69e (/usr of slot A)
    "#]],
    );
}

#[test]
fn the_boot_loader_takes_the_newest_with_tries_left() {
    let mut ukis: Vec<Uki> = ["1+0-3", "1", "2+0-3", "2+1-2", "2+3", "10+0", "2"]
        .iter()
        .map(|stem| Uki::parse(&format!("pithos_{stem}.efi")).unwrap())
        .collect();
    ukis.sort_by(Uki::boot_order);
    let names: Vec<String> = ukis.iter().map(Uki::name).collect();
    expect!["pithos_2.efi pithos_2+3.efi pithos_2+1-2.efi pithos_1.efi pithos_10+0.efi pithos_2+0-3.efi pithos_1+0-3.efi"]
        .assert_eq(&names.join(" "));
}

#[test]
fn names_are_read_as_they_are_written_and_others_are_not_ours() {
    for name in ["pithos_1.2.efi", "pithos_1+3.efi", "pithos_1+2-1.efi", "pithos_1+0-4.efi"] {
        assert_eq!(Uki::parse(name).unwrap().name(), name);
    }
    let foreign = [
        "pithos_1",
        "other_1.efi",
        "pithos_1+.efi",
        "pithos_1+a.efi",
        "pithos_1+2-.efi",
        "pithos_1+2-1-1.efi",
        "pithos_.efi",
        "pithos_1.new",
        "pithos_1+99999999999.efi",
    ];
    for name in foreign {
        assert_eq!(Uki::parse(name), None, "{name}");
    }
    let spent = |name: &str| Uki::parse(name).unwrap().spent().name();
    assert_eq!(spent("pithos_1+2-1.efi"), "pithos_1+0-3.efi");
    assert_eq!(spent("pithos_1+3.efi"), "pithos_1+0-3.efi");
}
