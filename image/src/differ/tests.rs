//! Each difference of each kind, injected and named; and garbage, which is never an answer.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::LazyLock,
};

use fixtures::{
    Disk, Entry, bump, cpio, disk, erofs, fat, gzip, inode, pe, place, qcow2, verity, zst,
};
use proptest::prelude::*;
use report::Report;

use super::*;

mod fixtures;

/// What is said of two artefacts, a line for each difference.
fn named(a: &[u8], b: &[u8]) -> String {
    let mut report = Report::new(MAX);
    let (a, b) = (Source::bytes(a), Source::bytes(b));
    walk::sources(&mut report, &a, &b).expect("memory can be read");
    report.into_found().iter().map(|found| format!("{found}\n")).collect()
}

#[track_caller]
fn check(a: &[u8], b: &[u8], expected: &str) {
    assert_eq!(named(a, a), "", "an artefact is equal to itself");
    assert_eq!(named(a, b).trim_end(), expected);
}

/// `bytes` with one byte behind the first `needle` changed.
fn changed(bytes: &[u8], needle: &[u8], behind: usize) -> Vec<u8> {
    bump(bytes, place(bytes, needle) + behind)
}

#[test]
fn a_partition_is_named_by_its_number_and_its_label() {
    let base = || Disk { content: b"content\n".to_vec(), ..Disk::default() };
    let a = disk(&base());
    let other = "00000000-0000-0000-0000-0000000000ff".parse().unwrap();
    check(
        &a,
        &disk(&Disk { guid: other, ..base() }),
        "partition 1 (esp): field partition GUID: \
         00000000-0000-0000-0000-000000000002 != 00000000-0000-0000-0000-0000000000ff",
    );
    check(
        &a,
        &disk(&Disk { label: "ESP", ..base() }),
        "partition 1 (esp): field label: esp != ESP",
    );
    check(
        &a,
        &disk(&Disk { flags: 1 << 60, ..base() }),
        "partition 1 (esp): field attributes: 0x0 != 0x1000000000000000",
    );
    check(
        &a,
        &disk(&Disk { content: b"Content\n".to_vec(), ..base() }),
        "partition 1 (esp): byte 0: [63]6f6e74656e740a0000000000000000 |content.........| != \
         [43]6f6e74656e740a0000000000000000 |Content.........|",
    );
}

#[test]
fn the_header_of_a_disk_is_named_by_its_fields() {
    let a = disk(&Disk::default());
    let other = "00000000-0000-0000-0000-0000000000ff".parse().unwrap();
    check(
        &a,
        &disk(&Disk { disk_guid: other, ..Disk::default() }),
        "field GPT header disk GUID: \
         00000000-0000-0000-0000-000000000001 != 00000000-0000-0000-0000-0000000000ff",
    );
    check(&a, &bump(&a, 440), "field MBR disk signature: 0x0 != 0x1");
    check(&a, &bump(&a, 450), "field MBR partition 1 type: 0xee != 0xef");
    // Nothing but a checksum, nothing but the backup: said when there is nothing else.
    assert!(named(&a, &bump(&a, 512 + 16)).starts_with("field GPT header checksum: "));
    let backup = a.len() - 512;
    assert!(named(&a, &bump(&a, backup + 56)).starts_with("field backup GPT header disk GUID: "));
    assert!(named(&a, &bump(&a, backup - 128 * 128)).starts_with("backup GPT entries: entry from"));
    // And what belongs to nothing.
    assert!(named(&a, &bump(&a, 45 * 512)).starts_with("byte 23040: [00]00"));
}

#[test]
fn a_fat_is_named_by_volume_path_and_time() {
    let a = fat(7, &[("NOTE.TXT", b"one\ntwo\n"), ("long name of a file.efi", b"data\xff")]);
    check(
        &a,
        &fat(8, &[("NOTE.TXT", b"one\ntwo\n"), ("long name of a file.efi", b"data\xff")]),
        "field volume id: 00000007 != 00000008",
    );
    check(
        &a,
        &changed(&a, b"NOTE    TXT", 22),
        "/NOTE.TXT: field modified: 2026-11-21 09:30:00 != 2026-11-21 09:30:02",
    );
    check(
        &a,
        &changed(&a, b"NOTE    TXT", 13),
        "/NOTE.TXT: field created: 2026-11-21 09:30:00.00 != 2026-11-21 09:30:00.01",
    );
    check(&a, &changed(&a, b"NOTE    TXT", 11), "/NOTE.TXT: field attributes: 0x0 != 0x1");
    check(&a, &changed(&a, b"two\n", 0), "/NOTE.TXT: line 2: \"two\" != \"uwo\"");
    check(
        &a,
        &changed(&a, b"data\xff", 3),
        "/long name of a file.efi: byte 3: 646174[61]ff |data.| != 646174[62]ff |datb.|",
    );
}

#[test]
fn what_a_fat_does_not_use_is_named_too() {
    let a = fat(7, &[("NOTE.TXT", b"one\ntwo\n")]);
    let slack = named(&a, &changed(&a, b"two\n", 9));
    assert!(slack.starts_with("slack of /NOTE.TXT: byte "), "{slack}");
    let free = named(&a, &bump(&a, a.len() - 5000));
    assert!(free.starts_with("free space: byte "), "{free}");
    let code = named(&a, &bump(&a, 300));
    assert!(code.starts_with("boot code: byte "), "{code}");
}

#[test]
fn a_file_that_only_one_side_has_is_named() {
    let a = fat(7, &[("NOTE.TXT", b"one\n")]);
    let b = fat(7, &[("NOTE.TXT", b"one\n"), ("MORE.TXT", b"more\n")]);
    check(&a, &b, "only in B: /MORE.TXT");
    check(&b, &a, "only in A: /MORE.TXT");
    let b = fat(7, &[("MORE.TXT", b"more\n"), ("NOTE.TXT", b"one\n")]);
    let a = fat(7, &[("NOTE.TXT", b"one\n"), ("MORE.TXT", b"more\n")]);
    check(&a, &b, "order: /NOTE.TXT != /MORE.TXT at 3");
}

#[test]
fn a_uki_is_named_by_field_and_section() {
    let a = pe(0, &[(".cmdline", b"quiet rw"), (".linux", b"\0kernel")]);
    check(
        &a,
        &pe(99, &[(".cmdline", b"quiet rw"), (".linux", b"\0kernel")]),
        "field TimeDateStamp: 0 != 99",
    );
    check(
        &a,
        &pe(0, &[(".cmdline", b"quiet ro"), (".linux", b"\0kernel")]),
        "section .cmdline: line 1: \"quiet rw\" != \"quiet ro\"",
    );
    check(
        &a,
        &pe(0, &[(".cmdline", b"quiet rw"), (".linux", b"\0kernal")]),
        "section .linux: byte 5: 006b65726e[65]6c |.kernel| != 006b65726e[61]6c |.kernal|",
    );
    check(
        &a,
        &pe(0, &[(".cmdline", b"quiet rw"), (".initrd", b"\0kernel")]),
        "only in A: section .linux\nonly in B: section .initrd",
    );
    check(
        &a,
        &pe(0, &[(".linux", b"\0kernel"), (".cmdline", b"quiet rw")]),
        "order: section .cmdline != section .linux at 1",
    );
    // CheckSum follows from all the rest: named when there is nothing else.
    check(&a, &bump(&a, 64 + 24 + 64), "field CheckSum: 0x0 != 0x1");
    assert!(named(&a, &changed(&a, b"quiet rw", 9)).starts_with("padding of .cmdline: byte "));
}

#[test]
fn an_initramfs_is_named_by_path_and_field() {
    let init = Entry { name: "init", mode: 0o100755, mtime: 12, content: b"\x01program" };
    let a = cpio(&[init, Entry { name: "dev", mode: 0o040755, mtime: 12, content: b"" }]);
    let with = |init| cpio(&[init, Entry { name: "dev", mode: 0o040755, mtime: 12, content: b"" }]);
    check(
        &a,
        &with(Entry { mode: 0o100700, ..init }),
        "cpio entry init: field mode: 100755 != 100700",
    );
    check(&a, &with(Entry { mtime: 13, ..init }), "cpio entry init: field mtime: 12 != 13");
    check(
        &a,
        &with(Entry { content: b"\x01Program", ..init }),
        "cpio entry init: byte 1: 01[70]726f6772616d |.program| != 01[50]726f6772616d |.Program|",
    );
    check(
        &zst(&a),
        &zst(&with(Entry { mtime: 13, ..init })),
        "content: cpio entry init: field mtime: 12 != 13",
    );
    // Microcode in front of it, as kernels take it.
    let early = |mtime| [a.clone(), vec![0; 512], zst(&with(Entry { mtime, ..init }))].concat();
    check(
        &early(12),
        &early(13),
        "behind the archive: content: cpio entry init: field mtime: 12 != 13",
    );
}

#[test]
fn an_erofs_is_named_by_path_and_inode() {
    let a = erofs();
    let at = |path: &str, field: usize| bump(&a, inode(path) + field);
    check(&a, &at("/conf", 32), "/conf: field mtime: 1000.000000000 != 1001.000000000");
    check(&a, &at("/conf", 4), "/conf: field mode: 100644 != 100645");
    check(&a, &at("/conf", 24), "/conf: field uid: 0 != 1");
    check(&a, &at("/conf", 44), "/conf: field nlink: 1 != 2");
    check(&a, &at("/conf", 64 + 12 + 4 + 4), "/conf: field xattr user.note: hello != iello");
    check(&a, &at("/", 28), "/: field gid: 0 != 1");
    check(&a, &at("/sub/short", 26), "/sub/short: field gid: 0 != 1");
    check(&a, &at("/device", 16), "/device: field rdev: 0x103 != 0x104");
    check(&a, &changed(&a, b"plain", 0), "/conf: line 1: \"plain content\" != \"qlain content\"");
    check(&a, &changed(&a, b"tail", 0), "/sub/short: line 1: \"tail\" != \"uail\"");
    check(&a, &changed(&a, b"../conf", 6), "/link: field target: ../conf != ../cong");
    let chunk = named(&a, &changed(&a, b"second chunk", 0));
    assert!(chunk.starts_with("/chunks: byte 8192: "), "{chunk}");
    check(
        &a,
        &bump(&a, 1024 + 48),
        "field uuid: 00000000-0000-0000-0000-000000000000 != 01000000-0000-0000-0000-000000000000",
    );
    let time = named(&a, &bump(&a, 1024 + 24));
    assert!(time.starts_with("field build_time: 500.000000000 != 501.000000000\n"), "{time}");
    check(&a, &bump(&a, 1024 + 4), "field checksum: 0x0 != 0x1");
    assert!(named(&a, &bump(&a, 10)).starts_with("in front of the superblock: byte 10: "));
}

#[test]
fn a_hash_tree_is_named_by_superblock_then_level_and_block() {
    let a = verity(b"salt", 200);
    check(&a, &verity(b"Salt", 200), "field salt: 73616c74 != 53616c74");
    assert!(named(&a, &verity(b"salt", 201)).starts_with("field data blocks: 200 != 201"));
    check(
        &a,
        &bump(&a, 16),
        "field uuid: 00000000-0000-0000-0000-000000000000 != 01000000-0000-0000-0000-000000000000",
    );
    let top = named(&a, &bump(&a, 4096 + 100));
    assert!(top.starts_with("hash tree level 1: block 0: byte 100: "), "{top}");
    let bottom = named(&a, &bump(&a, 3 * 4096 + 7));
    assert!(bottom.starts_with("hash tree level 0: block 1: byte 7: "), "{bottom}");
}

#[test]
fn a_qcow2_is_named_by_its_header_and_by_what_a_guest_sees() {
    for zstd in [false, true] {
        let guest = |what: &[u8]| disk(&Disk { content: what.to_vec(), ..Disk::default() });
        let a = qcow2(zstd, &guest(b"guest\n"));
        let content = named(&a, &qcow2(zstd, &guest(b"Guest\n")));
        let expected = "guest disk: partition 1 (esp): byte 0: [67]756573740a";
        assert!(content.starts_with(expected), "{content}");
        check(&a, &bump(&a, 87), "field compatible features: 0x0 != 0x1");
        check(&a, &bump(&a, 99), "field refcount order: 4 != 5");
    }
    // The same disk, stored differently: what a guest sees is equal.
    let guest = disk(&Disk::default());
    let mapping = named(&qcow2(false, &guest), &fixtures::qcow2_plain(&guest));
    assert!(mapping.starts_with("L2 entry: of guest cluster 0: byte 0: "), "{mapping}");
    // A cluster that cannot be unpacked is a difference, not the end.
    let a = qcow2(false, &guest);
    let torn = named(&a, &bump(&a, 3 * 4096));
    assert!(torn.contains("guest cluster 0 at 12288 cannot be unpacked"), "{torn}");
}

#[test]
fn compressed_files_are_named_by_header_or_by_content() {
    let text = b"one\ntwo\n";
    check(&zst(text), &zst(b"one\nTwo\n"), "content: line 2: \"two\" != \"Two\"");
    check(&gzip(5, text), &gzip(6, text), "field mtime: 5 != 6");
    check(&gzip(5, text), &gzip(5, b"one\nTwo\n"), "content: line 2: \"two\" != \"Two\"");
    let checked = zst(text);
    let stored = zstd::encode_all(&text[..], 3).unwrap();
    assert!(named(&checked, &stored).contains("field content checksum: true != false"));
}

#[test]
fn json_is_named_by_path_and_text_by_line() {
    check(
        br#"{"usr":{"salt":"aa"},"list":[1,2]}"#,
        br#"{"usr":{"salt":"ab"},"list":[1,3]}"#,
        "field list[1]: 2 != 3\nfield usr.salt: \"aa\" != \"ab\"",
    );
    check(
        br#"{"packages":[{"name":"a","v":1},{"name":"c","v":1}]}"#,
        br#"{"packages":[{"name":"a","v":1},{"name":"b","v":1},{"name":"c","v":2}]}"#,
        "field packages[c].v: 1 != 2\nonly in B: packages[b]",
    );
    check(b"{\"a\":1}", b"{\"a\": 1}", "line 1: \"{\\\"a\\\":1}\" != \"{\\\"a\\\": 1}\"");
    check(b"00 a\n11 b\n", b"00 a\n12 b\n", "line 2: \"11 b\" != \"12 b\"");
    check(b"a\nb\n", b"a\n", "line 2: \"b\" != \"\"");
}

#[test]
fn what_is_not_known_is_named_by_its_first_byte() {
    let a = [&[0xff; 40][..], b"same"].concat();
    check(
        &a,
        &bump(&a, 20),
        "byte 20: ffffffff[ff]ffffffffffffffffffffff |................| != \
         ffffffff[00]ffffffffffffffffffffff |................|",
    );
    check(&a, &a[..32], "byte 32: [ff]ffffffffffffff73616d65 |........same| != end at 32");
    check(
        b"text",
        &a,
        "field kind: text != bytes\n\
         byte 0: [74]657874 |text| != [ff]ffffffffffffffffffffffffffffff |................|",
    );
}

#[test]
fn a_difference_is_named_through_every_layer() {
    let image = |mtime| {
        let init = Entry { name: "usr/x", mode: 0o100644, mtime, content: b"x" };
        let uki = pe(0, &[(".initrd", &zst(&cpio(&[init])))]);
        zst(&disk(&Disk { content: fat(7, &[("a.efi", &uki)]), ..Disk::default() }))
    };
    check(
        &image(12),
        &image(13),
        "content: partition 1 (esp): /a.efi: section .initrd: content: \
         cpio entry usr/x: field mtime: 12 != 13",
    );
}

#[test]
fn a_sparse_disk_costs_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, byte: u8| {
        let path = folder.path().join(name);
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(&[1, 2, byte], 1 << 39).unwrap();
        path
    };
    let found = compare(&file("a.raw", 3), &file("b.raw", 4)).unwrap();
    let text = found[0].to_string();
    assert!(text.starts_with("a.raw: byte 549755813890: 0102[03]"), "{text}");
    assert_eq!(compare(&file("a.raw", 3), &file("b.raw", 3)).unwrap(), []);
}

#[test]
fn folders_are_compared_by_name_and_every_file_has_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let lines = |text: &str| format!("{text}\n").repeat(100);
    for (side, text) in [(&a, "one"), (&b, "two")] {
        fs::create_dir_all(side.join("sub")).unwrap();
        fs::write(side.join("same"), "same").unwrap();
        fs::write(side.join("1"), lines(text)).unwrap();
        fs::write(side.join("sub/2"), lines(text)).unwrap();
    }
    fs::write(a.join("extra"), "").unwrap();
    let found = compare_up_to(&a, &b, 5).unwrap();
    let text: String = found.iter().map(|found| format!("{found}\n")).collect();
    assert_eq!(
        text,
        "only in A: extra\n\
         1: line 1: \"one\" != \"two\"\n\
         1: line 2: \"one\" != \"two\"\n\
         sub/2: line 1: \"one\" != \"two\"\n\
         sub/2: line 2: \"one\" != \"two\"\n"
    );
    let wrong = compare(&a, &a.join("1")).unwrap_err();
    assert!(wrong.to_string().ends_with("compare two of a kind"), "{wrong}");
    assert!(compare(&a, &a.join("none")).unwrap_err().to_string().starts_with("reading "));
}

#[test]
fn differences_are_data_too() {
    let mut report = Report::new(1);
    report.within("a.raw", |report| report.field("uuid", "1", "2"));
    let json = serde_json::to_string(&report.into_found()).unwrap();
    let expected = r#"[{"path":["a.raw"],"what":"field","name":"uuid","a":"1","b":"2"}]"#;
    assert_eq!(json, expected);
}

/// One of everything.
static ZOO: LazyLock<Vec<Vec<u8>>> = LazyLock::new(zoo);

fn zoo() -> Vec<Vec<u8>> {
    let init = Entry { name: "usr/x", mode: 0o100644, mtime: 1, content: b"x" };
    let archive = cpio(&[init]);
    let uki = pe(0, &[(".initrd", &zst(&archive)), (".cmdline", b"quiet")]);
    let esp = fat(7, &[("a.efi", &uki)]);
    let whole = disk(&Disk { content: esp.clone(), ..Disk::default() });
    let qcow2s = [qcow2(false, &whole), qcow2(true, &whole)];
    let program = fs::read("/proc/self/exe").unwrap();
    [archive.clone(), zst(&archive), gzip(1, &archive), uki, esp, whole, erofs(), verity(b"s", 200)]
        .into_iter()
        .chain(qcow2s)
        .chain([program[..program.len().min(1 << 16)].to_vec(), br#"{"a":[1,{"b":2}]}"#.to_vec()])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damage_is_a_difference_and_never_a_panic(
        which in 0usize..12,
        at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let a = &ZOO[which];
        let mut b = a.clone();
        for (index, byte, early) in at {
            // Half of the damage is where headers are.
            let reach = if early { b.len().min(2048) } else { b.len() };
            let at = index.index(reach);
            b[at] = byte;
        }
        if let Some(cut) = cut {
            b.truncate(cut.index(b.len()));
        }
        prop_assert_eq!(named(a, &b).is_empty(), *a == b);
        prop_assert_eq!(named(&b, a).is_empty(), *a == b);
    }

    #[test]
    fn garbage_behind_a_magic_is_taken_for_garbage(
        magic in 0usize..10,
        garbage in prop::collection::vec(any::<u8>(), 2048..6000),
        other in prop::collection::vec(any::<u8>(), 2048..6000),
    ) {
        let disguised = |mut bytes: Vec<u8>| {
            let (at, magic): (usize, &[u8]) = [
                (512, b"EFI PART".as_slice()), (0, b"QFI\xfb\0\0\0\x03"), (0, b"verity\0\0"),
                (0, b"\x7fELF\x02\x01"), (0, b"070701"), (0, b"\x28\xb5\x2f\xfd"),
                (0, b"\x1f\x8b\x08"), (1024, b"\xe2\xe1\xf5\xe0"), (0, b"{"), (0, b""),
            ][magic];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            bytes
        };
        let (a, b) = (disguised(garbage), disguised(other));
        prop_assert_eq!(named(&a, &b).is_empty(), a == b);
    }
}
