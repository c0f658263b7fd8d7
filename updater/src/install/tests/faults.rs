//! Full, failing, foreign and contended media, and operators who change their minds.

use expect_test::{Expect, expect};

use super::{
    boot::{Booted, power_on},
    *,
};
use crate::{install::simulated::Fault, slots::Slots};

fn versions() -> [Made; 3] {
    ["1", "2", "3"].map(Made::new)
}

fn slots(machine: &Machine, running: &Made) -> Slots {
    let files = machine.esp().list().unwrap();
    let names = files.iter().map(|file| file.name.as_str());
    Slots::read(&machine.table().unwrap().entries(), running.root_hash(), names).unwrap()
}

fn boots(machine: &Machine, known: &[&Made]) -> Booted {
    machine.settle();
    power_on(machine, known).unwrap()
}

/// The pieces of /usr that were asked for, or why it failed; and what boots then.
fn check(machine: &Machine, old: &Made, new: &Made, picture: Expect) {
    let text = match install(machine, old.root_hash(), new) {
        Ok(asked) => {
            let usr = asked.iter().filter(|piece| piece.image == Image::Usr);
            let usr: Vec<usize> = usr.map(|piece| piece.index).collect();
            format!("fetched {usr:?} of /usr")
        }
        Err(why) => why.to_string(),
    };
    let version = boots(machine, &[old, new]).version;
    picture.assert_eq(&format!("{text}; {version} boots"));
}

#[test]
fn only_what_is_not_there_is_fetched() {
    let [older, old, new] = versions();
    // The last piece is one block of those that all versions share.
    let of_nothing = machine(&old, Holds::Nothing);
    check(&of_nothing, &old, &new, expect!["fetched [0, 1, 2, 3] of /usr; 3 boots"]);
    let of_older = machine(&old, Holds::Version(&older, ""));
    check(&of_older, &old, &new, expect!["fetched [0, 1, 2, 3] of /usr; 3 boots"]);
    let cut_short = machine(&old, Holds::Bytes(&new));
    check(&cut_short, &old, &new, expect!["fetched [] of /usr; 3 boots"]);
    cut_short.partition(Role::Usr(Slot::B)).unwrap();
}

#[test]
fn what_is_installed_is_not_installed_again() {
    let [_, old, new] = versions();
    let machine = machine(&old, Holds::Nothing);
    install(&machine, old.root_hash(), &new).unwrap();
    let steps = machine.power.steps();
    assert_eq!(install(&machine, old.root_hash(), &new).unwrap(), []);
    assert_eq!(machine.power.steps(), steps, "nothing is written");
    let said = install(&machine, old.root_hash(), &old).unwrap_err().to_string();
    assert_eq!(said, "version 2 is what runs");
}

#[test]
fn what_the_boot_loader_would_not_take_is_not_installed() {
    let [older, old, _] = versions();
    let machine = machine(&old, Holds::Nothing);
    let said = install(&machine, old.root_hash(), &older).unwrap_err().to_string();
    expect!["version 1 is not newer than version 2, which runs: the boot loader takes the newest version that it finds, and would go on taking that one"].assert_eq(&said);
}

#[test]
fn a_version_on_trial_does_not_overwrite_what_it_would_fall_back_to() {
    let [older, old, new] = versions();
    let machine = machine(&old, Holds::Version(&older, ""));
    machine.esp().rename("pithos_2.efi", "pithos_2+2-1.efi").unwrap();
    let said = install(&machine, old.root_hash(), &new).unwrap_err().to_string();
    expect!["version 2 has not proven itself yet, and version 1 in the other slot is what the machine goes back to: wait until it is healthy"].assert_eq(&said);
    // A shipped machine has nothing to fall back to: an update may be what heals it.
    let first = super::machine(&old, Holds::Nothing);
    first.esp().rename("pithos_2.efi", "pithos_2+0-4.efi").unwrap();
    install(&first, old.root_hash(), &new).unwrap();
}

#[test]
fn a_full_esp_is_said_before_anything_is_touched() {
    let [older, old, new] = versions();
    let machine = machine(&old, Holds::Version(&older, ""));
    machine.set_esp_bytes(3 * 2600 - 1);
    check(
        &machine,
        &old,
        &new,
        expect![[
            r#"the UKI of version 3 takes 1026 KiB, and the ESP has 5 KiB for it: remove what is not PithOS's from it; 2 boots"#
        ]],
    );
    assert_eq!(machine.power.steps(), machine_steps_of_a_boot());
    assert_eq!(
        slots(&machine, &old).b,
        slots(&super::machine(&old, Holds::Version(&older, "")), &old).b
    );
}

/// systemd-boot changes nothing where the version is proven.
fn machine_steps_of_a_boot() -> u64 {
    let [older, old, _] = versions();
    let machine = machine(&old, Holds::Version(&older, ""));
    let before = machine.power.steps();
    boots(&machine, &[&old, &older]);
    assert_eq!(machine.power.steps(), before);
    before
}

#[test]
fn an_esp_that_fills_up_while_the_uki_is_written_leaves_the_old_version() {
    let [_, old, new] = versions();
    let machine = machine(&old, Holds::Nothing);
    let wanted = new.wanted.clone();
    let mut installer =
        Installer::begin(&machine, old.root_hash(), wanted, BTreeSet::new()).unwrap();
    machine.set_esp_bytes(2600 + 2000);
    let failed = loop {
        match installer.advance().unwrap() {
            Need::Piece(piece) => match installer.give(new.piece(piece)) {
                Ok(()) => {}
                Err(why) => break why,
            },
            Need::Time => {}
            Need::Nothing => panic!("there was no room"),
        }
    };
    assert_eq!(failed.to_string(), "writing piece 2 of Uki");
    assert_eq!(boots(&machine, &[&old, &new]).version, "2");
    // With room again it goes on where it was.
    machine.set_esp_bytes(ESP_BYTES);
    let asked = install(&machine, old.root_hash(), &new).unwrap();
    assert_eq!(asked, [Piece { image: Image::Uki, index: 2 }]);
    assert_eq!(boots(&machine, &[&old, &new]).version, "3");
}

#[test]
fn an_image_larger_than_the_slot_is_refused() {
    let [_, old, mut new] = versions();
    new.wanted.usr.size_bytes = USR_BYTES as u64 + 4096;
    let machine = machine(&old, Holds::Nothing);
    check(
        &machine,
        &old,
        &new,
        expect![[
            r#"/usr of version 3 has 69632 bytes, and its partition has 65536: this disk was made for smaller images, and has to be written anew; 2 boots"#
        ]],
    );
}

#[test]
fn a_disk_that_loses_what_was_written_is_noticed_before_anything_boots_from_it() {
    let [_, old, new] = versions();
    let usr = Role::Usr(Slot::B);
    let with = |role, sector, fault| {
        let machine = machine(&old, Holds::Nothing);
        machine.fault(role, sector, fault);
        machine
    };
    // Piece 1 begins at sector 24. Once is mended by writing again.
    check(
        &with(usr, 30, Fault::RotsOnce),
        &old,
        &new,
        expect!["fetched [0, 1, 2, 3, 1] of /usr; 3 boots"],
    );
    check(
        &with(usr, 30, Fault::Unreadable),
        &old,
        &new,
        expect!["fetched [0, 1, 2, 3] of /usr; 3 boots"],
    );
    check(
        &with(usr, 30, Fault::RotsAlways),
        &old,
        &new,
        expect![
            "the disk does not keep what is written to slot B: pieces [1] of /usr read back wrong, 2 times; replace the disk; 2 boots"
        ],
    );
    check(
        &with(usr, 30, Fault::Dead),
        &old,
        &new,
        expect![
            "the disk does not keep what is written to slot B: pieces [1] of /usr read back wrong, 2 times; replace the disk; 2 boots"
        ],
    );
    let verity = Role::Verity(Slot::B);
    check(
        &with(verity, 9, Fault::RotsAlways),
        &old,
        &new,
        expect![[
            r#"the disk does not keep what is written to slot B: its hash tree read back wrong, 1 times; replace the disk; 2 boots"#
        ]],
    );
    check(
        &with(verity, 9, Fault::Dead),
        &old,
        &new,
        expect!["reading back the hash tree of slot B; 2 boots"],
    );
    // Behind the image nobody looks.
    check(
        &with(usr, 127, Fault::Dead),
        &old,
        &new,
        expect!["fetched [0, 1, 2, 3] of /usr; 3 boots"],
    );
}

#[test]
fn what_is_not_what_was_signed_is_never_written() {
    let [_, old, new] = versions();
    let machine = machine(&old, Holds::Nothing);
    let wanted = new.wanted.clone();
    let mut installer =
        Installer::begin(&machine, old.root_hash(), wanted, BTreeSet::new()).unwrap();
    let Need::Piece(piece) = installer.advance().unwrap() else { panic!("pieces are missing") };
    let right = new.piece(piece);
    let mut flipped = right.to_vec();
    flipped[100] ^= 1;
    let before = machine.power.steps();
    for wrong in [&[][..], &right[1..], &flipped, &[right, &[0]].concat()] {
        let said = installer.give(wrong).unwrap_err().to_string();
        assert!(said.contains("is not what was signed"), "{said}");
        assert_eq!(installer.advance().unwrap(), Need::Piece(piece), "it is still asked for");
    }
    assert_eq!(machine.power.steps(), before);
    installer.give(right).unwrap();
}

#[test]
fn a_release_whose_pieces_are_not_its_whole_never_boots() {
    let [_, old, mut new] = versions();
    new.wanted.superblock.salt = b"another".to_vec();
    let machine = machine(&old, Holds::Nothing);
    let said = install(&machine, old.root_hash(), &new).unwrap_err().to_string();
    assert!(said.starts_with("the release contradicts itself"), "{said}");
    assert_eq!(boots(&machine, &[&old]).version, "2");
}

#[test]
fn a_reset_at_any_piece_leaves_the_old_version_and_another_may_follow() {
    let [_, old, new] = versions();
    let other = Made::new("4");
    for stop_after in 0..=8 {
        let machine = machine(&old, Holds::Nothing);
        let wanted = new.wanted.clone();
        let mut installer =
            Installer::begin(&machine, old.root_hash(), wanted, BTreeSet::new()).unwrap();
        let mut pieces = 0;
        while pieces < stop_after {
            match installer.advance().unwrap() {
                Need::Piece(piece) => {
                    installer.give(new.piece(piece)).unwrap();
                    pieces += 1;
                }
                Need::Time => {}
                Need::Nothing => break,
            }
        }
        drop(installer);
        take_back(&machine, &slots(&machine, &old)).unwrap();
        assert_eq!(boots(&machine, &[&old, &new, &other]).version, "2", "after {pieces} pieces");
        install(&machine, old.root_hash(), &other).unwrap();
        let names: Vec<_> = machine.esp().list().unwrap().into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["pithos_2.efi", "pithos_4+3.efi"]);
        assert_eq!(boots(&machine, &[&old, &new, &other]).version, "4");
    }
}

#[test]
fn taking_back_leaves_a_version_that_was_proven() {
    let [older, old, _] = versions();
    let machine = machine(&old, Holds::Version(&older, ""));
    assert_eq!(take_back(&machine, &slots(&machine, &old)).unwrap(), Vec::<String>::new());
}

#[test]
fn what_others_have_on_the_disk_stays_as_it_is() {
    let [_, old, new] = versions();
    let machine = machine(&old, Holds::Nothing);
    let mut table = machine.table().unwrap();
    let foreign = Entry {
        kind: Uuid::from_u128(77),
        guid: Uuid::from_u128(78),
        start_bytes: (START + 2 * (USR_BYTES + VERITY_BYTES)) as u64,
        size_bytes: 4096,
        flags: 1 << 62,
        name: "Daten ä".to_owned(),
    };
    table.set(9, Some(&foreign)).unwrap();
    table.write(machine.disk()).unwrap();
    machine.esp().write("windows.efi", 0, b"UKI? no").unwrap();
    machine.esp().write("pithos_notes.txt", 0, b"mine").unwrap();
    install(&machine, old.root_hash(), &new).unwrap();
    assert_eq!(machine.table().unwrap().entries()[&9], foreign);
    let names: Vec<_> = machine.esp().list().unwrap().into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["pithos_2.efi", "pithos_3+3.efi", "pithos_notes.txt", "windows.efi"]);
}

#[test]
fn a_torn_table_is_mended_on_the_way() {
    let [_, old, new] = versions();
    let machine = machine(&old, Holds::Nothing);
    machine.disk().write_all_at(&[0xff; 512], 512).unwrap();
    assert!(machine.table().unwrap().wants_repair());
    install(&machine, old.root_hash(), &new).unwrap();
    assert!(!machine.table().unwrap().wants_repair());
    assert_eq!(boots(&machine, &[&old, &new]).version, "3");
}

#[test]
fn a_table_that_was_changed_since_the_boot_is_refused() {
    let [older, old, new] = versions();
    let machine = machine(&old, Holds::Nothing);
    let said = install(&machine, older.root_hash(), &new).unwrap_err().to_string();
    assert!(
        said.starts_with("no slot of the disk has the PARTUUIDs of the running /usr"),
        "{said}"
    );
}

#[test]
fn a_slot_proves_itself_by_every_byte() {
    let [_, old, _] = versions();
    let machine = machine(&old, Holds::Nothing);
    assert!(proves(&machine, Slot::A, old.root_hash()).unwrap());
    assert!(!proves(&machine, Slot::B, old.root_hash()).unwrap());
    let flip = |role, at: u64| {
        let partition = machine.partition(role).unwrap();
        let mut sector = [0; 512];
        partition.read_exact_at(&mut sector, at).unwrap();
        sector[5] ^= 1;
        partition.write_all_at(&sector, at).unwrap();
    };
    for (role, at) in
        [(Role::Usr(Slot::A), 10 * 4096), (Role::Verity(Slot::A), 4096), (Role::Verity(Slot::A), 0)]
    {
        flip(role, at);
        assert!(!proves(&machine, Slot::A, old.root_hash()).unwrap(), "{role:?} at {at}");
        flip(role, at);
    }
    assert!(proves(&machine, Slot::A, old.root_hash()).unwrap());
}
