//! The checks, one group a function. A group that cannot go on says so as a failed check.

use std::{fmt::Display, fs::File, os::unix::fs::FileExt};

use layout::{
    Role, Slot, cmdline, types,
    verity::{BLOCK_BYTES, Superblock},
};

use super::{Check, Outcome, tree_hash};
use crate::{
    disk::{
        self, sparse,
        table::{Copy, Damage, Entry, Table},
    },
    esp::fat,
    inspect::{erofs, inside, open_esp, root_hash, say_damage},
    manifest::{Artifact, Manifest, Section},
    uki::Pe,
};

/// More than any UKI has.
const UKI_BYTES_MAX: u64 = 256 << 20;

/// Checks so far.
pub(super) struct Checks<'a> {
    all: Vec<Check>,
    say: &'a mut dyn FnMut(&Check),
}

impl<'a> Checks<'a> {
    pub(super) fn new(say: &'a mut dyn FnMut(&Check)) -> Self {
        Self { all: Vec::new(), say }
    }

    pub(super) fn done(self) -> Vec<Check> {
        self.all
    }

    fn add(&mut self, what: impl Into<String>, outcome: Outcome) {
        let check = Check { what: what.into(), outcome };
        (self.say)(&check);
        self.all.push(check);
    }

    fn failed(&mut self, what: impl Into<String>, why: impl Display) {
        self.add(what, Outcome::Failed { why: why.to_string() });
    }

    pub(super) fn absent(&mut self, what: &str, why: &str) {
        self.add(what, Outcome::Absent { why: why.to_owned() });
    }

    fn same<T: PartialEq + Display>(&mut self, what: impl Into<String>, expected: T, found: T) {
        let outcome = if expected == found {
            Outcome::Ok
        } else {
            Outcome::Failed { why: format!("expected {expected}, found {found}") }
        };
        self.add(what, outcome);
    }

    pub(super) fn damage(&mut self, damage: Vec<(Copy, Damage)>) {
        if damage.is_empty() {
            self.add("partition table: both copies", Outcome::Ok);
        }
        for damage in damage {
            self.failed("partition table", say_damage(damage));
        }
    }

    pub(super) fn table(&mut self, table: &Table, manifest: &Manifest) {
        self.same("disk: size in bytes", manifest.disk.size_bytes, table.size_bytes);
        self.same("disk: GUID", manifest.disk.guid, table.guid);
        let listed = |number: u32| manifest.disk.partitions.iter().any(|p| p.number == number);
        for entry in table.entries.iter().filter(|entry| !listed(entry.number)) {
            let why = format!("`{}` is not of the image: was the disk booted?", entry.label);
            self.failed(format!("partition {}", entry.number), why);
        }
    }

    pub(super) fn partitions(&mut self, disk: &File, table: &Table, manifest: &Manifest) {
        for expected in &manifest.disk.partitions {
            let number = expected.number;
            let Some(found) = table.entries.iter().find(|entry| entry.number == number) else {
                self.failed(format!("partition {number}"), "there is none");
                continue;
            };
            let say = |label: &str, kind, guid, start, size| {
                format!("`{label}` {guid} of type {kind}, {size} bytes from {start}")
            };
            let what = |part: &str| format!("partition {number} ({}): {part}", expected.label);
            let e = expected;
            self.same(
                what("name and place"),
                say(&e.label, e.type_guid, e.guid, e.start_bytes, e.size_bytes),
                say(&found.label, found.type_guid, found.guid, found.start_bytes, found.size_bytes),
            );
            let range = found.start_bytes..found.start_bytes + found.size_bytes;
            match sparse::hash(disk, range, &|_| ()) {
                Ok(hashed) => self.same(what("sha256"), e.sha256.clone(), hashed.sha256),
                Err(why) => self.failed(what("sha256"), why),
            }
        }
    }

    pub(super) fn usr(&mut self, disk: &File, table: &Table, manifest: &Manifest) {
        let of = |number: u32| table.entries.iter().find(|entry| entry.number == number);
        let slots = [Slot::A, Slot::B]
            .map(|slot| (of(Role::Usr(slot).number()), of(Role::Verity(slot).number())));
        let of_version = slots.into_iter().find_map(|slot| match slot {
            (Some(usr), Some(verity)) if usr.label == format!("pithos_{}", manifest.version) => {
                Some((usr, verity))
            }
            _ => None,
        });
        let Some((usr, verity)) = of_version else {
            self.failed("/usr", format!("no slot holds version {}", manifest.version));
            return;
        };
        let expected = &manifest.usr;
        let partuuids = root_hash(usr, verity).to_string();
        self.same("/usr: root hash in the PARTUUIDs", expected.root_hash.clone(), partuuids);
        match erofs(disk, table, usr) {
            Ok((_, uuid)) => self.same("/usr: UUID of the file system", expected.uuid, uuid),
            Err(why) => self.failed("/usr: UUID of the file system", why),
        }
        match superblock(disk, table, verity) {
            Err(why) => self.failed("/usr: superblock of the hash tree", why),
            Ok(superblock) => {
                self.same(
                    "/usr: salt of the hash tree",
                    expected.salt.clone(),
                    hex::encode(&superblock.salt),
                );
                let data_bytes = superblock.data_blocks.saturating_mul(BLOCK_BYTES);
                self.same("/usr: size in bytes", expected.size_bytes, data_bytes);
                let tree_bytes = superblock.size_bytes();
                self.same("/usr: size of its hash tree", expected.verity_size_bytes, tree_bytes);
                if data_bytes <= usr.size_bytes && tree_bytes <= verity.size_bytes {
                    self.tree(disk, (usr, verity), &superblock, &expected.root_hash);
                }
            }
        }
    }

    /// Data and tree, each against what the other says they should be.
    fn tree(
        &mut self,
        disk: &File,
        (usr, verity): (&Entry, &Entry),
        superblock: &Superblock,
        expected: &str,
    ) {
        let Superblock { data_blocks, salt, .. } = superblock;
        let computed = tree_hash::compute(disk, usr.start_bytes, *data_blocks, salt, &|_| ());
        let tree = match computed {
            Ok(tree) => tree,
            Err(why) => return self.failed("/usr: root hash of the data", why),
        };
        let what = "/usr: root hash of the data";
        self.same(what, expected.to_owned(), tree.root_hash.to_string());
        let mut stored = vec![0; tree.blocks.len()];
        let what = "/usr: the hash tree is that of the data";
        match disk.read_exact_at(&mut stored, verity.start_bytes + BLOCK_BYTES) {
            Err(why) => self.failed(what, why),
            Ok(()) => match tree_hash::first_difference(&stored, &tree, *data_blocks) {
                None => self.add(what, Outcome::Ok),
                Some(place) => self.failed(what, format!("the first difference is {place}")),
            },
        }
    }

    pub(super) fn uki(&mut self, disk: &File, table: &Table, manifest: &Manifest) {
        let expected = &manifest.uki;
        let what = |part: &str| format!("UKI {}: {part}", expected.file);
        let bytes = match read_uki(disk, table, &expected.file) {
            Ok(bytes) => bytes,
            Err(why) => return self.failed(what("reading it from the ESP"), why),
        };
        self.same(what("size in bytes"), expected.size_bytes, bytes.len() as u64);
        let found = sha256(&bytes);
        self.same(what("sha256"), expected.sha256.clone(), found);
        let pe = match Pe::parse(&bytes) {
            Ok(pe) => pe,
            Err(why) => return self.failed(what("sections"), why),
        };
        let found = pe.describe();
        let names = |sections: &[Section]| {
            sections.iter().map(|section| section.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        self.same(what("sections"), names(&expected.sections), names(&found));
        let say = |s: &Section| format!("{} bytes, sha256 {}", s.size_bytes, s.sha256);
        for (expected, found) in expected.sections.iter().zip(&found) {
            self.same(what(&expected.name), say(expected), say(found));
        }
        let line = pe.text(".cmdline").unwrap_or_default();
        self.same(what("command line"), expected.cmdline.clone(), line.clone());
        let usrhash = cmdline::values(&line, cmdline::USRHASH).join(" ");
        self.same(what("usrhash="), manifest.usr.root_hash.clone(), usrhash);
        // ukify may have padded it.
        let initrd = pe.section(".initrd").unwrap_or_default();
        let initrd = &initrd[..initrd.len().min(manifest.initramfs.size_bytes as usize)];
        self.same(what("initramfs"), manifest.initramfs.sha256.clone(), sha256(initrd));
    }

    pub(super) fn artifact(&mut self, expected: &Artifact, found: Result<Artifact, disk::Error>) {
        let what = format!("file {}", expected.file);
        match found {
            Ok(found) => {
                let say = |a: &Artifact| format!("{} bytes, sha256 {}", a.size_bytes, a.sha256);
                self.same(what, say(expected), say(&found));
            }
            Err(why) => self.failed(what, why),
        }
    }
}

fn superblock(disk: &File, table: &Table, verity: &Entry) -> Result<Superblock, String> {
    inside(table, verity)?;
    let mut bytes = [0; Superblock::BYTES];
    disk.read_exact_at(&mut bytes, verity.start_bytes).map_err(|error| error.to_string())?;
    Superblock::parse(&bytes).map_err(|why| why.to_string())
}

fn read_uki(disk: &File, table: &Table, file: &str) -> Result<Vec<u8>, String> {
    let esp = table.entries.iter().find(|entry| entry.type_guid == types::ESP);
    let esp = esp.ok_or("there is no EFI System Partition")?;
    let fat = open_esp(disk, table, esp)?;
    let unread = |error: fat::Error| format!("the ESP (partition {}): {error}", esp.number);
    let all = fat.walk().map_err(unread)?;
    let path = format!("/EFI/Linux/{file}");
    let entry = all.iter().find(|entry| entry.path.eq_ignore_ascii_case(&path));
    let bytes = entry.map(|entry| fat.read(entry, UKI_BYTES_MAX)).transpose().map_err(unread)?;
    bytes.ok_or_else(|| "it is not there: was the disk booted?".to_owned())
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes))
}
