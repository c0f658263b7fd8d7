//! The image that was built last, with one difference of each kind put into it: `image compare`
//! says which.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard},
};

use image::differ::compare;

const MIB: usize = 1 << 20;
/// Where the ESP starts, and the partitions behind it; see `layout`.
const ESP: u64 = 1 << 20;
const USR: u64 = ESP + layout::disk::ESP_BYTES;
const VERITY: u64 = USR + layout::disk::USR_BYTES;
const EMPTY: u64 = VERITY + layout::disk::VERITY_BYTES;

/// The image in build/image, or of another build folder.
fn image() -> PathBuf {
    let build = std::env::var_os("PITHOS_BUILD").map(PathBuf::from);
    let build = build.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../build"));
    let image = build.join("image");
    assert!(
        image.join("manifest.json").exists(),
        "there is no image in {}: `./pith image` builds one",
        image.display()
    );
    image
}

/// The artefact that ends so.
fn artefact(suffix: &str) -> PathBuf {
    let named = |path: &PathBuf| path.to_string_lossy().ends_with(suffix);
    let mut found = fs::read_dir(image()).unwrap().map(|entry| entry.unwrap().path()).filter(named);
    found.next().unwrap_or_else(|| panic!("build/image has no *{suffix}"))
}

/// A copy of the disk to change, one test at a time: it has gigabytes.
fn disk() -> (MutexGuard<'static, ()>, Disk) {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let original = artefact(".raw");
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("injected.raw");
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto", "--no-preserve=mode"])
        .args([&original, &copy])
        .status()
        .unwrap();
    assert!(status.success(), "copying {} to {}", original.display(), copy.display());
    let file = File::options().read(true).write(true).open(&copy).unwrap();
    (guard, Disk { original, copy, file })
}

struct Disk {
    original: PathBuf,
    copy: PathBuf,
    file: File,
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.copy);
    }
}

impl Disk {
    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// Where `what` first is in the `length` bytes from `start`.
    fn find(&self, what: &[u8], start: u64, length: u64) -> u64 {
        let step = 16 * MIB;
        for at in (start..start + length).step_by(step) {
            let bytes = self.read(at, step + what.len());
            if let Some(found) = find(&bytes, what) {
                return at + found as u64;
            }
        }
        panic!("{:?} is not on the disk", String::from_utf8_lossy(what));
    }

    /// Changes the byte at `at`, asks for the differences, and puts the byte back.
    fn named(&self, at: u64) -> String {
        let byte = self.read(at, 1);
        self.file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let found = compare(&self.original, &self.copy).unwrap();
        self.file.write_all_at(&byte, at).unwrap();
        let name = format!("{}: ", self.original.file_name().unwrap().to_string_lossy());
        found.iter().map(|found| format!("{found}\n").replacen(&name, "", 1)).collect()
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    // By the first byte first: these are megabytes.
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == what[0]) {
        at += next;
        if bytes[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[track_caller]
fn says(found: &str, parts: &[&str]) {
    let first = found.lines().next().unwrap_or("nothing differs");
    assert!(parts.iter().all(|part| first.contains(part)), "{parts:?} not in: {found}");
}

#[test]
fn the_disk_is_equal_to_its_copy_and_a_change_of_its_table_is_named() {
    let (_one, disk) = disk();
    assert_eq!(compare(&disk.original, &disk.copy).unwrap(), []);
    says(&disk.named(512 + 56), &["field GPT header disk GUID: "]);
    says(&disk.named(1024 + 16), &["partition 1 (esp): field partition GUID: "]);
    says(&disk.named(1024 + 128), &["partition 2 (", "field type GUID: "]);
    says(&disk.named(1024 + 2 * 128 + 48), &["partition 3 (", "field attributes: "]);
    says(&disk.named(1024 + 3 * 128 + 56), &["partition 4 (", "field label: _empty != "]);
    says(&disk.named(512 + 16), &["field GPT header checksum: "]);
    says(&disk.named(440), &["field MBR disk signature: "]);
    says(&disk.named(ESP - 1000), &["byte 1047576: "]);
    says(&disk.named(EMPTY + 100), &["partition 4 (_empty): "]);
}

#[test]
fn a_change_in_the_system_partition_is_named() {
    let (_one, disk) = disk();
    says(&disk.named(ESP + 67), &["partition 1 (esp): field volume id: "]);
    let efi = disk.find(b"EFI        \x10", ESP, 64 << 20);
    says(&disk.named(efi + 22), &["partition 1 (esp): /EFI: field modified: "]);
    let uki = "/EFI/Linux/pithos_";
    let cmdline = disk.find(b"usrhash=", ESP, 512 << 20);
    says(&disk.named(cmdline + 9), &[uki, ".efi: section .cmdline: line 1: \"usrhash="]);

    let head = File::open(artefact(".efi")).unwrap();
    let mut bytes = vec![0; 512];
    head.read_exact_at(&mut bytes, 0).unwrap();
    let pe = u64::from(u32::from_le_bytes(bytes[60..64].try_into().unwrap()));
    let start = disk.find(&bytes, ESP, 512 << 20);
    says(&disk.named(start + pe + 8), &[uki, ".efi: field TimeDateStamp: "]);
}

#[test]
fn a_change_in_usr_is_named() {
    let (_one, disk) = disk();
    let partition = "partition 2 (pithos_";
    says(&disk.named(USR + 1024 + 48), &[partition, "field uuid: "]);
    let superblock = disk.read(USR + 1024, 128);
    let number = |at: usize, length: usize| {
        superblock[at..at + length].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    // The inode of /: a long one has a time of its own, a short one the superblock's.
    let root = USR + number(40, 4) * 4096 + number(14, 2) * 32;
    says(&disk.named(root + 4), &[partition, "/: field mode: "]);
    if disk.read(root, 1)[0] & 1 == 1 {
        says(&disk.named(root + 32), &[partition, "/: field mtime: "]);
        says(&disk.named(root + 24), &[partition, "/: field uid: 0 != 1"]);
    } else {
        says(&disk.named(USR + 1024 + 24), &[partition, "field build_time: "]);
        says(&disk.named(root + 24), &[partition, "/: field uid: 0 != 1"]);
    }
    let release = disk.find(b"\nID=pithos\n", USR, 1 << 30);
    says(&disk.named(release + 5), &[partition, "os-release: line ", "\"ID=pithos\" != "]);
    says(&disk.named(VERITY + 88), &["partition 3 (", "field salt: "]);
    says(&disk.named(VERITY + 16), &["partition 3 (", "field uuid: "]);
    says(
        &disk.named(VERITY + 4096 + 5),
        &["partition 3 (", "hash tree level ", ": block 0: byte 5:"],
    );
}

/// A copy of an artefact, changed by `change`, compared with it.
fn changed(suffix: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let original = artefact(suffix);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copy = folder.path().join("copy");
    let mut bytes = fs::read(&original).unwrap();
    change(&mut bytes);
    fs::write(&copy, bytes).unwrap();
    let found = compare(&original, &copy).unwrap();
    found.iter().map(|found| format!("{found}\n")).collect()
}

#[test]
fn a_change_in_the_initramfs_is_named_by_its_path_and_field() {
    let found = changed(".efi", |uki| {
        let (row, at, size) = section(uki, b".initrd\0");
        let mut cpio = zstd::decode_all(&uki[at..at + size]).unwrap();
        let init = find(&cpio, b"init\0").expect("/init is in it");
        // The mode is the second number of the header, which ends where the name starts.
        cpio[init - 110 + 6 + 8 + 7] ^= 1;
        let packed = zstd::encode_all(&cpio[..], 3).unwrap();
        let room = u32::from_le_bytes(uki[row + 16..row + 20].try_into().unwrap()) as usize;
        // Where it does not fit, the file grows: the section moves to its end.
        let at = if packed.len() <= room { at } else { uki.len() };
        uki.resize(uki.len().max(at + packed.len()), 0);
        uki[at..at + packed.len()].copy_from_slice(&packed);
        let numbers = [(8, packed.len()), (16, packed.len().max(room)), (20, at)];
        for (field, value) in numbers {
            uki[row + field..row + field + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        uki.resize(uki.len().max(at + packed.len().max(room)), 0);
    });
    let line = found.lines().find(|line| line.contains(": section .initrd: content: cpio entry "));
    let line = line.unwrap_or_else(|| panic!("no path in: {found}"));
    assert!(line.contains("init: field mode: 1"), "{line}");
}

/// Where the row of a section of a PE program is, its content, and how much of it there is.
fn section(pe: &[u8], name: &[u8; 8]) -> (usize, usize, usize) {
    let number = |at: usize| u32::from_le_bytes(pe[at..at + 4].try_into().unwrap()) as usize;
    let header = number(60);
    let count = number(header + 6) & 0xffff;
    let table = header + 24 + (number(header + 20) & 0xffff);
    let mut rows = (0..count).map(|index| table + index * 40);
    let row = rows.find(|row| pe[*row..].starts_with(name)).expect("the section is there");
    (row, number(row + 20), number(row + 8).min(number(row + 16)))
}

#[test]
fn a_change_in_what_is_beside_the_disk_is_named() {
    let hash = |bytes: &mut Vec<u8>| {
        let at = find(bytes, b"\"root_hash\"").unwrap() + 14;
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    };
    says(&changed("manifest.json", hash), &["manifest.json: field usr.root_hash: "]);
    says(&changed("SHA256SUMS", |bytes| bytes[0] ^= 1), &["SHA256SUMS: line 1: "]);
    says(&changed(".usr.erofs", |bytes| bytes[1024 + 48] ^= 1), &[".usr.erofs: field uuid: "]);
    says(&changed(".verity", |bytes| bytes[88] ^= 1), &[".verity: field salt: "]);
    let header = |bytes: &mut Vec<u8>| bytes[87] ^= 1;
    says(&changed(".qcow2", header), &[".qcow2: field compatible features: "]);
    let middle = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    };
    says(&changed(".raw.zst", middle), &[".raw.zst: "]);
}
