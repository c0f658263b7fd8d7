//! `image inspect`: what is on a disk, as it is, without a manifest to compare it with.
//!
//! It reads what others may have cut short, changed or half written: whatever is wrong becomes a
//! line under "problems", and the rest is shown all the same.

#[cfg(test)]
pub(crate) mod fixture;
mod slots;
mod text;
mod ukis;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use layout::types;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    disk::table::{self, Copy, Damage, Entry, Table},
    esp::fat::Fat,
};

pub use slots::{Content, SlotReport};
pub(crate) use slots::{erofs, root_hash};
pub use ukis::UkiReport;

/// The words of the command.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// A raw disk image, or a disk.
    file: PathBuf,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// What is on a disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// GUID of the disk.
    pub disk_guid: Uuid,
    /// By number.
    pub partitions: Vec<PartitionReport>,
    /// A, then B.
    pub slots: Vec<SlotReport>,
    /// On the ESP, by name.
    pub ukis: Vec<UkiReport>,
    /// What is wrong, in sentences. None on a good disk.
    pub problems: Vec<String>,
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PartitionReport {
    /// From 1.
    pub number: u32,
    /// Its name.
    pub label: String,
    /// What its type is called.
    pub type_name: &'static str,
    /// Its type.
    pub type_guid: Uuid,
    /// Its PARTUUID.
    pub guid: Uuid,
    /// Its first byte.
    pub start_bytes: u64,
    /// Its length.
    pub size_bytes: u64,
    /// What its content takes, if we know that kind of content.
    pub used_bytes: Option<u64>,
}

/// Runs the command: prints the report, and fails if there are problems.
pub fn run(args: &InspectArgs) -> Result<ExitCode> {
    let report = inspect(&args.file)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).context("writing JSON")?);
    } else {
        print!("{report}");
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks at a disk.
pub fn inspect(path: &Path) -> Result<Report> {
    let disk = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let (table, damage) =
        table::read(&disk).with_context(|| format!("inspecting {}", path.display()))?;
    let mut problems: Vec<String> = damage.into_iter().map(say_damage).collect();
    let mut slots = slots::look(&disk, &table, &mut problems);
    let esp = table.entries.iter().find(|entry| entry.type_guid == types::ESP);
    let (fat, ukis) = match esp.map(|esp| open_esp(&disk, &table, esp)) {
        None => {
            problems.push("there is no EFI System Partition: firmware finds no loader".to_owned());
            (None, Vec::new())
        }
        Some(Err(why)) => {
            problems.push(format!("the EFI System Partition cannot be read: {why}"));
            (None, Vec::new())
        }
        Some(Ok(fat)) => {
            let ukis = ukis::look(&fat, &slots, &mut problems);
            (Some(fat), ukis)
        }
    };
    if fat.is_some() {
        slots::judge(&mut slots, &ukis, &mut problems);
    }
    let used = |entry: &Entry| match &fat {
        Some(fat) if entry.type_guid == types::ESP => Some(fat.used_bytes()),
        _ => slots.iter().find_map(|slot| slot.used_bytes(entry.number)),
    };
    let partitions = table.entries.iter().map(|entry| PartitionReport {
        number: entry.number,
        label: entry.label.clone(),
        type_name: type_name(entry),
        type_guid: entry.type_guid,
        guid: entry.guid,
        start_bytes: entry.start_bytes,
        size_bytes: entry.size_bytes,
        used_bytes: used(entry),
    });
    Ok(Report {
        file: path.to_owned(),
        size_bytes: table.size_bytes,
        disk_guid: table.guid,
        partitions: partitions.collect(),
        slots,
        ukis,
        problems,
    })
}

/// The file system of the ESP, where all of that is in the file.
pub(crate) fn open_esp<'a>(disk: &'a File, table: &Table, esp: &Entry) -> Result<Fat<'a>, String> {
    inside(table, esp).map_err(|why| format!("partition {}: {why}", esp.number))?;
    Fat::open(disk, esp.start_bytes, esp.size_bytes).map_err(|error| error.to_string())
}

/// Whether all of a partition is in the file.
pub(crate) fn inside(table: &Table, entry: &Entry) -> Result<(), String> {
    let end = entry.start_bytes + entry.size_bytes;
    if end > table.size_bytes {
        return Err(format!(
            "it ends at byte {end}, and the file at byte {}: get the file again",
            table.size_bytes
        ));
    }
    Ok(())
}

pub(crate) fn say_damage((copy, damage): (Copy, Damage)) -> String {
    match (copy, damage) {
        (Copy::Backup, Damage::CutShort { expected_bytes, found_bytes }) => format!(
            "the file is cut short: its partition table is for a disk of {expected_bytes} bytes, \
             and it has {found_bytes}; get it again"
        ),
        (Copy::Primary, damage) => format!(
            "the primary partition table {damage}; the backup is good and is used here (to mend \
             it: `gdisk`, then r, b, w)"
        ),
        (Copy::Backup, damage) => format!("the backup partition table {damage}"),
    }
}

fn type_name(entry: &Entry) -> &'static str {
    match entry.type_guid {
        types::ESP => "ESP",
        types::USR => "usr",
        types::USR_VERITY => "usr-verity",
        types::ROOT => "root",
        types::UNFINISHED => "linux",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use expect_test::expect;
    use layout::disk::MIB;
    use proptest::prelude::*;

    use super::{
        fixture::{DISK_BYTES, Fixture, USR_AT, VERITY_AT},
        *,
    };

    #[test]
    fn a_shipped_disk_is_shown_whole() {
        let fixture = Fixture::new();
        let report = inspect(&fixture.raw).unwrap();
        let shown = report.to_string().replace(&fixture.raw.display().to_string(), "pithos.raw");
        expect![[r#"
            pithos.raw: 293.6 MB (293601280 bytes)
            disk 41a033a6-fbec-814b-ad44-1eb982fceca8

             #  label                type            start        size        used  guid
             1  esp                  ESP             1 MiB     260 MiB      48 KiB  0ec13c4e-ee08-85c5-aad4-71eb4e02ad78
             2  pithos_0.1.0         usr           261 MiB       4 MiB     1.2 MiB  0a4b8d91-dd01-0e25-15c1-711930905b12
             3  pithos_0.1.0_verity  usr-verity    265 MiB       1 MiB      20 KiB  061a56d6-2166-c998-a210-63c98336a462
             4  _empty               usr           266 MiB       4 MiB       0 MiB  b2e5aa66-eb29-8311-aa54-b5722fb2baff
             5  _empty               usr-verity    270 MiB       1 MiB       0 MiB  18f0b5c5-2717-8f50-ac88-64cecb7a94ff

            slot A: 0.1.0
              root hash  0a4b8d91dd010e2515c1711930905b12061a56d62166c998a21063c98336a462 (the hash tree agrees)
              /usr       erofs, 1.2 MB, 724774d0-fabd-8508-9b6e-116a49623139
              booted by  pithos_0.1.0+3.efi

            slot B: empty

            UKI pithos_0.1.0+3.efi: 7.2 kB, 3 boots left to prove itself
              version    0.1.0, kernel 6.12.1, boots slot A
              cmdline    usrhash=0a4b8d91dd010e2515c1711930905b12061a56d62166c998a21063c98336a462 rw
              .osrel            30 bytes  sha256 7c18c04968bc044ac8e15e7cbb998e8780bfa862b2aa106ff74f37f45ba08713
              .cmdline          75 bytes  sha256 28555ba5f0e9e9de02dbf259e1951f726b052096a7804c8c7a9bed536a0ab2e3
              .uname             6 bytes  sha256 c89abd013f91b72113c4182ad608dde3a81090b53066e0231c2f5617cad02d12
              .linux          3000 bytes  sha256 48c187767dddb44e5b7af78dabdec2b14f0f983e86e1fe695c65bc6a2a3cb42f
              .initrd         2000 bytes  sha256 869667a314e50dd0ab927d622651ffa2c42799d6e54b01d45fea9b9399f7983c

            no problems (`image verify` reads every byte)
        "#]].assert_eq(&shown);
    }

    fn problems(change: impl FnOnce(&File)) -> Vec<String> {
        let fixture = Fixture::new();
        change(&File::options().read(true).write(true).open(&fixture.raw).unwrap());
        inspect(&fixture.raw).unwrap().problems
    }

    #[test]
    fn a_file_cut_short_is_called_so_and_shown_as_far_as_it_goes() {
        let said = problems(|disk| disk.set_len(DISK_BYTES - 1).unwrap());
        expect!["the file is cut short: its partition table is for a disk of 293601280 bytes, and it has 293601279; get it again"].assert_eq(&said.join("\n"));
        let said = problems(|disk| disk.set_len(262 * MIB).unwrap());
        expect![[r#"
            the file is cut short: its partition table is for a disk of 293601280 bytes, and it has 274726912; get it again
            slot A: /usr cannot be read: it ends at byte 277872640, and the file at byte 274726912: get the file again
            slot A: the hash tree cannot be read: it ends at byte 278921216, and the file at byte 274726912: get the file again"#]].assert_eq(&said.join("\n"));
    }

    #[test]
    fn each_copy_of_the_table_is_judged_by_itself() {
        let said = problems(|disk| disk.write_all_at(b"x", 512 + 60).unwrap());
        expect!["the primary partition table has a damaged header (CRC 0de886d2, expected 8bf08559); the backup is good and is used here (to mend it: `gdisk`, then r, b, w)"].assert_eq(&said.join("\n"));
        let said = problems(|disk| disk.write_all_at(b"x", DISK_BYTES - 512 * 20).unwrap());
        expect!["the backup partition table has damaged entries (CRC 6d7aba53, expected 3d94d375)"]
            .assert_eq(&said.join("\n"));
    }

    #[test]
    fn a_root_hash_that_does_not_hold_is_a_problem() {
        let said = problems(|disk| {
            // The topmost block of the hash tree.
            disk.write_all_at(b"x", VERITY_AT + 4096).unwrap();
        });
        expect!["slot A: the PARTUUIDs say root hash 0a4b8d91dd010e2515c1711930905b12061a56d62166c998a21063c98336a462, and the hash tree has daafbd4365cbc0ec984000040df6933d8ae8d56908650f274122177b4db4b871: the kernel will refuse it"].assert_eq(&said.join("\n"));
    }

    #[test]
    fn an_esp_without_a_uki_boots_nothing() {
        let fixture = Fixture::without_uki();
        let said = inspect(&fixture.raw).unwrap().problems;
        expect![[r#"
            the ESP has no UKI in /EFI/Linux: the loader finds nothing
            slot A holds 0.1.0, and no UKI on the ESP boots it: it needs one with usrhash=0a4b8d91dd010e2515c1711930905b12061a56d62166c998a21063c98336a462 in /EFI/Linux"#]].assert_eq(&said.join("\n"));
    }

    #[test]
    fn no_disk_is_said_in_one_chain() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello").unwrap();
        let said = format!("{:#}", inspect(file.path()).unwrap_err());
        assert!(
            said.ends_with(
                "which is too short for a disk: a download or a copy that was cut short?"
            ),
            "{said}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_damage_makes_it_panic(
            flips in prop::collection::vec((0usize..6, 0u64..40_000, any::<u8>()), 0..40),
            cut in prop::option::of(0..DISK_BYTES),
        ) {
            thread_local!(static FIXTURE: Fixture = Fixture::new());
            FIXTURE.with(|fixture| {
                let copy = tempfile::NamedTempFile::new().unwrap();
                let (from, to) = (File::open(&fixture.raw).unwrap(), copy.as_file());
                to.set_len(DISK_BYTES).unwrap();
                crate::disk::sparse::copy(&from, to, 0).unwrap();
                // Tables, FAT, folders and programs, /usr, its tree: where content is.
                let places = [0, MIB, 2 * MIB, USR_AT, VERITY_AT, DISK_BYTES - 40_000];
                for (place, at, byte) in flips {
                    to.write_all_at(&[byte], places[place] + at).unwrap();
                }
                if let Some(length) = cut {
                    to.set_len(length).unwrap();
                }
                let _ = inspect(copy.path()).map(|report| report.to_string());
            });
        }
    }
}
