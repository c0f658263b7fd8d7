//! Marks as programs leave them, as blkid(8) reads them, and noise.

use std::{fs, process::Command};

use proptest::prelude::*;

use super::*;

fn with(size: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; size];
    for (at, part) in parts {
        bytes[*at..*at + part.len()].copy_from_slice(part);
    }
    bytes
}

fn found(bytes: &[u8]) -> String {
    let found = probe(&bytes).unwrap();
    found.iter().map(Signature::to_string).collect::<Vec<_>>().join(", ")
}

const ID: [u8; 16] = [7; 16];
const ID_TEXT: &str = "07070707-0707-0707-0707-070707070707";

#[test]
fn nothing_is_nothing() {
    assert_eq!(found(&[]), "");
    assert_eq!(found(&[0; 100]), "");
    assert_eq!(found(&vec![0; 1 << 20]), "");
}

#[test]
fn an_array_is_known_wherever_its_superblock_is() {
    let size = 1 << 20;
    for at in [0, 4096, (size / 512 - 16) / 8 * 8 * 512] {
        let mut sb = vec![0; 256];
        sb[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
        sb[16..32].copy_from_slice(&ID);
        sb[32..38].copy_from_slice(b"any:md");
        sb[72] = 1;
        sb[92] = 2;
        sb[144..152].copy_from_slice(&(at as u64 / 512).to_le_bytes());
        let bytes = with(size, &[(at, &sb)]);
        assert_eq!(found(&bytes), format!("linux_raid_member `any:md` ({ID_TEXT})"));
        assert_eq!(probe(&bytes.as_slice()).unwrap()[0].kind, Kind::Mdraid { level: 1, disks: 2 });
    }
    let mut old = vec![0xfc, 0x4e, 0x2b, 0xa9];
    old.resize(64, 0);
    old[20..24].fill(7);
    old[52..64].fill(7);
    assert_eq!(
        found(&with(size, &[(size - 65536, &old)])),
        format!("linux_raid_member ({ID_TEXT})")
    );
}

#[test]
fn a_locked_volume_says_how_it_is_opened_and_who_made_it() {
    let json = br#"{"config": {"json_size": "12288", "flags": ["allow-discards"]}}"#;
    let parts: &[(usize, &[u8])] = &[
        (0, b"LUKS\xba\xbe\0\x02\0\0\0\0\0\0\x40\0"),
        (24, b"data"),
        (168, ID_TEXT.as_bytes()),
        (208, b"us"),
        (4096, json),
    ];
    let bytes = with(1 << 20, parts);
    assert_eq!(found(&bytes), format!("crypto_LUKS `data` ({ID_TEXT})"));
    let (flags, subsystem) = (vec!["allow-discards".to_owned()], Some("us".to_owned()));
    assert_eq!(
        probe(&bytes.as_slice()).unwrap()[0].kind,
        Kind::Luks { version: 2, flags, subsystem }
    );
    let one = with(1 << 20, &[(0, b"LUKS\xba\xbe\0\x01"), (168, ID_TEXT.as_bytes())]);
    assert_eq!(found(&one), format!("crypto_LUKS ({ID_TEXT})"));
}

#[test]
fn file_systems_without_a_program_here_are_known_by_what_is_written_of_them() {
    let xfs: &[(usize, &[u8])] = &[(0, b"XFSB"), (32, &ID), (108, b"data")];
    assert_eq!(found(&with(1 << 20, xfs)), format!("xfs `data` ({ID_TEXT})"));
    let sb = 64 << 10;
    let btrfs: &[(usize, &[u8])] =
        &[(sb + 64, b"_BHRfS_M"), (sb + 0x20, &ID), (sb + 0x12b, b"data")];
    assert_eq!(found(&with(1 << 20, btrfs)), format!("btrfs `data` ({ID_TEXT})"));
    let erofs: &[(usize, &[u8])] =
        &[(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), (1024 + 48, &ID), (1024 + 64, b"usr")];
    assert_eq!(found(&with(1 << 20, erofs)), format!("erofs `usr` ({ID_TEXT})"));
    let iso: &[(usize, &[u8])] =
        &[(32768, b"\x01CD001"), (32768 + 40, b"CIDATA  "), (32768 + 813, b"2026010203040506")];
    assert_eq!(found(&with(1 << 20, iso)), "iso9660 `CIDATA` (2026-01-02-03-04-05-06)");
    assert_eq!(found(&with(1 << 20, &[(0, b"hsqs")])), "squashfs");
    let lvm: &[(usize, &[u8])] = &[(512, b"LABELONE"), (536, b"LVM2 001"), (544, &[b'x'; 32])];
    assert_eq!(found(&with(1 << 20, lvm)), format!("LVM2_member ({})", "x".repeat(32)));
}

#[test]
fn fat_has_its_label_in_its_root_directory() {
    let boot: &[(usize, &[u8])] = &[
        (11, &[0, 2, 4, 4, 0, 2, 0, 2, 0, 0, 0xf8, 8, 0]),
        (39, &[0x82, 0xec, 0x24, 0x2e]),
        (43, b"NO NAME    FAT16   "),
        (510, &[0x55, 0xaa]),
    ];
    let mut bytes = with(1 << 20, boot);
    assert_eq!(found(&bytes), "vfat (2E24-EC82)");
    let root = (4 + 2 * 8) * 512;
    bytes[root..root + 12].copy_from_slice(b"OEM        \x08");
    assert_eq!(found(&bytes), "vfat `OEM` (2E24-EC82)");
}

#[test]
fn a_table_is_a_mark_too_but_not_the_end_of_a_boot_sector() {
    let mbr: &[(usize, &[u8])] =
        &[(446, &[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]), (510, &[0x55, 0xaa])];
    assert_eq!(found(&with(1 << 20, mbr)), "dos");
    assert_eq!(found(&with(1 << 20, &[(510, &[0x55, 0xaa])])), "");
    assert_eq!(found(&with(1 << 20, &[(512, b"EFI PART")])), "gpt");
}

/// `mke2fs` and `mkswap` are on every Debian; what they make is read as blkid reads it.
#[test]
fn what_programs_make_is_read_as_blkid_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let path = image.to_str().unwrap();
    let id = ["-U", ID_TEXT];
    let makers: &[(&str, &[&str])] = &[
        ("/usr/sbin/mkfs.ext4", &["-q", "-F", "-L", "a label", id[0], id[1]]),
        ("/usr/sbin/mkfs.ext4", &["-q", "-F", "-O", "^has_journal"]),
        ("/usr/sbin/mkfs.ext3", &["-q", "-F"]),
        ("/usr/sbin/mkfs.ext2", &["-q", "-F", "-L", "old"]),
        ("/usr/sbin/mkswap", &["-q", "-L", "sw", id[0], id[1]]),
        ("/usr/sbin/mkfs.vfat", &["-n", "OEM", "-i", "2e24ec82"]),
        ("/usr/sbin/mkfs.vfat", &["-F", "32"]),
        ("/usr/sbin/mkfs.xfs", &["-q", "-f", "-L", "data"]),
        ("/usr/sbin/mkfs.btrfs", &["-q", "-f", "-L", "data"]),
    ];
    for (maker, args) in makers {
        fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
        let Ok(made) = Command::new(maker).args(*args).arg(path).output() else {
            println!("skipped: there is no {maker} here");
            continue;
        };
        assert!(made.status.success(), "{maker} {args:?}: {made:?}");
        let tag = |tag: &str| {
            let args = ["-p", "-s", tag, "-o", "value", path];
            let out = Command::new("/usr/sbin/blkid").args(args).output().unwrap().stdout;
            Some(String::from_utf8(out).unwrap().trim().to_owned()).filter(|text| !text.is_empty())
        };
        let bytes = fs::read(&image).unwrap();
        let ours = probe(&bytes.as_slice()).unwrap();
        assert_eq!(ours.len(), 1, "{maker} {args:?}: {ours:?}");
        assert_eq!(Some(ours[0].kind.name().to_owned()), tag("TYPE"), "{maker} {args:?}");
        assert_eq!(ours[0].label, tag("LABEL"), "{maker} {args:?}");
        assert_eq!(ours[0].uuid, tag("UUID"), "{maker} {args:?}");
    }
}

proptest! {
    /// Marks with anything around them, on a device of any length.
    #[test]
    fn no_bytes_make_it_panic(
        size in 0usize..200_000,
        parts in prop::collection::vec((0usize..140_000, prop::collection::vec(any::<u8>(), 1..64)), 0..12),
        magic in prop::sample::select(vec![
            (0usize, &b"LUKS\xba\xbe\0\x02\xff\xff\xff\xff\xff\xff\xff\xff"[..]), (0, b"XFSB"),
            (1080, &[0x53, 0xef]), (4096, &[0xfc, 0x4e, 0x2b, 0xa9, 1]), (510, &[0x55, 0xaa]),
            (32769, b"CD001"), (65600, b"_BHRfS_M"), (4086, b"SWAPSPACE2"),
        ]),
        fat in prop::collection::vec(any::<u8>(), 60),
    ) {
        let mut bytes = vec![0; size];
        for (at, part) in parts.iter().map(|(at, part)| (*at, &part[..])).chain([magic, (11, &fat)]) {
            if let Some(place) = bytes.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
        }
        probe(&bytes.as_slice()).unwrap();
    }
}
