//! The real media, on a plain file with a partition table and a folder for the ESP.

use std::{fs, os::unix::fs::FileExt};

use tempfile::TempDir;

use super::*;
use crate::install::machine::{self, OpenError};

struct Disk(TempDir);

impl Disk {
    fn new(running: &Made, other: Holds<'_>) -> Self {
        let folder = TempDir::new().unwrap();
        let disk = fs::File::create(folder.path().join("disk")).unwrap();
        disk.set_len(DISK_BYTES as u64).unwrap();
        table(running, other).write(&disk).unwrap();
        fs::create_dir(folder.path().join("esp")).unwrap();
        let new = Self(folder);
        fill(&new.open().unwrap(), running, other);
        new
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Result<machine::Machine, OpenError> {
        machine::Machine::at(&self.path("disk"), &self.path("esp"), &self.path("state"))
    }

    fn ukis(&self) -> Vec<String> {
        let machine = self.open().unwrap();
        machine.esp().list().unwrap().into_iter().map(|file| file.name).collect()
    }
}

#[test]
fn a_version_is_installed_into_a_file() {
    let [old, new] = ["1", "2"].map(Made::new);
    let disk = Disk::new(&old, Holds::Nothing);
    let before = fs::read(disk.path("disk")).unwrap();
    install(&disk.open().unwrap(), old.root_hash(), &new).unwrap();
    assert_eq!(disk.ukis(), ["pithos_1.efi", "pithos_2+3.efi"]);
    assert_eq!(fs::read(disk.path("esp/pithos_2+3.efi")).unwrap(), new.uki);
    let media = disk.open().unwrap();
    assert!(proves(&media, Slot::B, new.root_hash()).unwrap());
    let entries = media.table().unwrap().entries();
    assert_eq!(entries[&4].name, "pithos_2");
    assert_eq!(entries[&5].guid, new.root_hash().verity_partuuid());
    // The slot that runs, and what is behind the other one, are as they were.
    let after = fs::read(disk.path("disk")).unwrap();
    let b = windows()[2].1;
    assert!(before[START..b] == after[START..b]);
    let used = b + new.usr.len();
    assert!(after[used..b + USR_BYTES].iter().all(|byte| *byte == 0));
}

#[test]
fn an_attempt_that_was_dropped_goes_on_where_it_was() {
    let [old, new] = ["1", "2"].map(Made::new);
    let disk = Disk::new(&old, Holds::Nothing);
    {
        let media = disk.open().unwrap();
        let wanted = new.wanted.clone();
        let mut installer =
            Installer::begin(&media, old.root_hash(), wanted, BTreeSet::new()).unwrap();
        for _ in 0..2 {
            let Need::Piece(piece) = installer.advance().unwrap() else { panic!("pieces first") };
            installer.give(new.piece(piece)).unwrap();
        }
    }
    let asked = install(&disk.open().unwrap(), old.root_hash(), &new).unwrap();
    assert_eq!(asked[0], Piece { image: Image::Usr, index: 2 });
}

#[test]
fn two_installations_at_once_are_one_too_many() {
    let [old, new] = ["1", "2"].map(Made::new);
    let disk = Disk::new(&old, Holds::Nothing);
    let first = disk.open().unwrap();
    let said = disk.open().unwrap_err().to_string();
    assert!(said.starts_with("another installation is under way: "), "{said}");
    drop(first);
    install(&disk.open().unwrap(), old.root_hash(), &new).unwrap();
}

#[test]
fn a_disk_that_cannot_be_used_is_named_with_what_it_lacks() {
    let old = Made::new("1");
    let disk = Disk::new(&old, Holds::Nothing);
    let said = |disk: &Disk| {
        let error = disk.open().unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let text = format!("{error}: {}", source.unwrap_or_default());
        text.replace(&disk.0.path().display().to_string(), "HERE")
    };
    let mut changed = table(&old, Holds::Nothing);
    changed.set(4, None).unwrap();
    let file = fs::File::options().write(true).read(true).open(disk.path("disk")).unwrap();
    changed.write(&file).unwrap();
    assert!(said(&disk).starts_with("HERE/disk: partition 4 of the disk is not there"));
    file.write_all_at(&vec![0; DISK_BYTES], 0).unwrap();
    assert_eq!(said(&disk), "HERE/disk: no valid partition table (GPT)");
    fs::remove_file(disk.path("disk")).unwrap();
    assert_eq!(said(&disk), "opening HERE/disk: No such file or directory (os error 2)");
}
