//! Small artefacts of every kind, made by hand or by the crates that make ours.

use std::io::{Cursor, Write};

use flate2::{Compression, GzBuilder, write::DeflateEncoder};
use uuid::{Uuid, uuid};

const SECTOR: u64 = 512;

/// Where `needle` first is.
pub(crate) fn place(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).expect("it is there")
}

/// `bytes` with the one at `at` counted up.
pub(crate) fn bump(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = bytes[at].wrapping_add(1);
    bytes
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// A disk with one partition.
pub(crate) struct Disk {
    pub(crate) disk_guid: Uuid,
    pub(crate) label: &'static str,
    pub(crate) guid: Uuid,
    pub(crate) flags: u64,
    pub(crate) content: Vec<u8>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            disk_guid: uuid!("00000000-0000-0000-0000-000000000001"),
            label: "esp",
            guid: uuid!("00000000-0000-0000-0000-000000000002"),
            flags: 0,
            content: Vec::new(),
        }
    }
}

pub(crate) fn disk(disk: &Disk) -> Vec<u8> {
    let sectors = (disk.content.len() as u64).div_ceil(SECTOR).max(8);
    let mut device = Cursor::new(vec![0; ((sectors + 80) * SECTOR) as usize]);
    gpt::mbr::ProtectiveMBR::with_lb_size((sectors + 79) as u32)
        .overwrite_lba0(&mut device)
        .unwrap();
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(gpt::disk::LogicalBlockSize::Lb512)
        .create_from_device(device, Some(disk.disk_guid))
        .unwrap();
    let kind = gpt::partition_types::EFI;
    let bytes = sectors * SECTOR;
    table.add_partition(disk.label, bytes, kind, disk.flags, None).unwrap();
    let mut entries = table.take_partitions();
    let entry = entries.get_mut(&1).unwrap();
    entry.part_guid = disk.guid;
    let start = (entry.first_lba * SECTOR) as usize;
    table.update_partitions(entries).unwrap();
    let mut bytes = table.write().unwrap().into_inner();
    put(&mut bytes, start, &disk.content);
    bytes
}

#[derive(Debug)]
struct Noon;

impl fatfs::TimeProvider for Noon {
    fn get_current_date(&self) -> fatfs::Date {
        fatfs::Date { year: 2026, month: 11, day: 21 }
    }

    fn get_current_date_time(&self) -> fatfs::DateTime {
        let time = fatfs::Time { hour: 9, min: 30, sec: 0, millis: 0 };
        fatfs::DateTime { date: self.get_current_date(), time }
    }
}

pub(crate) fn fat(volume_id: u32, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut device = Cursor::new(vec![0; 256 << 10]);
    let options =
        fatfs::FormatVolumeOptions::new().volume_id(volume_id).volume_label(*b"ESP        ");
    fatfs::format_volume(&mut device, options).unwrap();
    {
        let options = fatfs::FsOptions::new().time_provider(&Noon).update_accessed_date(false);
        let system = fatfs::FileSystem::new(&mut device, options).unwrap();
        for (name, content) in files {
            system.root_dir().create_file(name).unwrap().write_all(content).unwrap();
        }
    }
    device.into_inner()
}

pub(crate) fn pe(stamp: u32, sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    put(&mut bytes, 0, b"MZ");
    put(&mut bytes, 60, &64u32.to_le_bytes());
    put(&mut bytes, 64, b"PE\0\0\x64\x86");
    put(&mut bytes, 70, &(sections.len() as u16).to_le_bytes());
    put(&mut bytes, 72, &stamp.to_le_bytes());
    put(&mut bytes, 84, &240u16.to_le_bytes());
    put(&mut bytes, 88, &0x20bu16.to_le_bytes());
    for (number, (name, content)) in sections.iter().enumerate() {
        let row = 88 + 240 + 40 * number;
        let at = bytes.len() as u32;
        let raw = content.len().next_multiple_of(512);
        put(&mut bytes, row, name.as_bytes());
        put(&mut bytes, row + 8, &(content.len() as u32).to_le_bytes());
        put(&mut bytes, row + 16, &(raw as u32).to_le_bytes());
        put(&mut bytes, row + 20, &at.to_le_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(at as usize + raw, 0);
    }
    bytes
}

#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) mode: u32,
    pub(crate) mtime: u32,
    pub(crate) content: &'static [u8],
}

pub(crate) fn cpio(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let trailer = Entry { name: "TRAILER!!!", mode: 0, mtime: 0, content: b"" };
    for (ino, entry) in entries.iter().chain([&trailer]).enumerate() {
        let (size, name) = (entry.content.len() as u32, entry.name.len() as u32 + 1);
        bytes.extend_from_slice(b"070701");
        for number in [ino as u32, entry.mode, 0, 0, 1, entry.mtime, size, 0, 0, 0, 0, name, 0] {
            write!(bytes, "{number:08x}").unwrap();
        }
        bytes.extend_from_slice(entry.name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(entry.content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

pub(crate) fn zst(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn gzip(mtime: u32, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().mtime(mtime).write(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn verity(salt: &[u8], data_blocks: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    put(&mut bytes, 0, b"verity\0\0\x01\0\0\0\x01\0\0\0");
    put(&mut bytes, 32, b"sha256");
    put(&mut bytes, 64, &4096u32.to_le_bytes());
    put(&mut bytes, 68, &4096u32.to_le_bytes());
    put(&mut bytes, 72, &data_blocks.to_le_bytes());
    put(&mut bytes, 80, &(salt.len() as u16).to_le_bytes());
    put(&mut bytes, 88, salt);
    // 200 blocks: one hash block on top, two below it.
    bytes.resize(4 * 4096, 0x5a);
    bytes
}

const CLUSTER: usize = 4096;

/// Every cluster of the guest that is not empty, compressed.
pub(crate) fn qcow2(zstd: bool, guest: &[u8]) -> Vec<u8> {
    qcow2_of(guest, zstd.into(), |cluster, at| {
        let packed = if zstd {
            zst(cluster)
        } else {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(cluster).unwrap();
            encoder.finish().unwrap()
        };
        let sectors = (at % 512 + packed.len()).div_ceil(512) as u64 - 1;
        (packed, 1 << 62 | sectors << 58 | at as u64)
    })
}

/// Every cluster of the guest that is not empty, as it is.
pub(crate) fn qcow2_plain(guest: &[u8]) -> Vec<u8> {
    qcow2_of(guest, 0, |cluster, at| {
        let start = at.next_multiple_of(CLUSTER);
        let mut bytes = vec![0; start - at];
        bytes.extend_from_slice(cluster);
        (bytes, start as u64)
    })
}

fn qcow2_of(
    guest: &[u8],
    compression: u8,
    store: impl Fn(&[u8], usize) -> (Vec<u8>, u64),
) -> Vec<u8> {
    let mut bytes = vec![0; 3 * CLUSTER];
    put(&mut bytes, 0, b"QFI\xfb\0\0\0\x03");
    put(&mut bytes, 20, &12u32.to_be_bytes());
    put(&mut bytes, 24, &(guest.len() as u64).to_be_bytes());
    put(&mut bytes, 36, &1u32.to_be_bytes());
    put(&mut bytes, 40, &(CLUSTER as u64).to_be_bytes());
    put(&mut bytes, 72, &(u64::from(compression) << 3).to_be_bytes());
    put(&mut bytes, 96, &4u32.to_be_bytes());
    put(&mut bytes, 100, &112u32.to_be_bytes());
    bytes[104] = compression;
    put(&mut bytes, CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    assert!(guest.len() <= CLUSTER * CLUSTER / 8, "one L2 table");
    for (number, cluster) in guest.chunks(CLUSTER).enumerate() {
        if cluster.iter().all(|&byte| byte == 0) {
            continue;
        }
        let mut whole = cluster.to_vec();
        whole.resize(CLUSTER, 0);
        let (stored, entry) = store(&whole, bytes.len());
        bytes.extend_from_slice(&stored);
        put(&mut bytes, 2 * CLUSTER + number * 8, &entry.to_be_bytes());
    }
    bytes
}

const BLOCK: usize = 4096;
/// Files of [`erofs`]; each inode has 256 bytes of block 1.
const FILES: [&str; 7] = ["/", "/conf", "/link", "/sub", "/sub/short", "/chunks", "/device"];

/// Where an inode of [`erofs`] is.
pub(crate) fn inode(path: &str) -> usize {
    BLOCK + 256 * FILES.iter().position(|file| *file == path).expect("a file of it")
}

/// A file system with every kind of inode that mkfs.erofs makes.
pub(crate) fn erofs() -> Vec<u8> {
    let mut bytes = vec![0; 8 * BLOCK];
    put(&mut bytes, 1024, &super::super::erofs::MAGIC.to_le_bytes());
    bytes[1024 + 12] = 12;
    put(&mut bytes, 1024 + 24, &500u64.to_le_bytes());
    put(&mut bytes, 1024 + 36, &8u32.to_le_bytes());
    put(&mut bytes, 1024 + 40, &1u32.to_le_bytes());

    let root = folder(&[("chunks", 5), ("conf", 1), ("device", 6), ("link", 2), ("sub", 3)]);
    long_inode(&mut bytes, "/", 0o040755, PLAIN, root.len(), 2);
    put(&mut bytes, 2 * BLOCK, &root);
    let sub = folder(&[("short", 4)]);
    long_inode(&mut bytes, "/sub", 0o040755, PLAIN, sub.len(), 3);
    put(&mut bytes, 3 * BLOCK, &sub);

    long_inode(&mut bytes, "/conf", 0o100644, PLAIN, 14, 4);
    put(&mut bytes, 4 * BLOCK, b"plain content\n");
    // One attribute: 12 bytes of header, then 4 + 4 + 5, up to a multiple of 4.
    let conf = inode("/conf");
    put(&mut bytes, conf + 2, &5u16.to_le_bytes());
    put(&mut bytes, conf + 64 + 12, b"\x04\x01\x05\0notehello");

    long_inode(&mut bytes, "/link", 0o120777, INLINE, 7, 0);
    put(&mut bytes, inode("/link") + 64, b"../conf");
    long_inode(&mut bytes, "/device", 0o020600, PLAIN, 0, 0x103);

    let short = inode("/sub/short");
    put(&mut bytes, short, &(INLINE << 1).to_le_bytes());
    put(&mut bytes, short + 4, &0o100644u16.to_le_bytes());
    put(&mut bytes, short + 6, &1u16.to_le_bytes());
    put(&mut bytes, short + 8, &5u32.to_le_bytes());
    put(&mut bytes, short + 32, b"tail\n");

    // Chunks of two blocks: a hole, then blocks 5 and 6.
    long_inode(&mut bytes, "/chunks", 0o100644, CHUNKS, 2 * BLOCK + 20, 0x21);
    put(&mut bytes, inode("/chunks") + 64, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 5]);
    put(&mut bytes, 5 * BLOCK, b"second chunk");
    bytes
}

const PLAIN: u16 = 0;
const INLINE: u16 = 2;
const CHUNKS: u16 = 4;

fn long_inode(bytes: &mut [u8], path: &str, mode: u16, layout: u16, size: usize, data: u32) {
    let at = inode(path);
    put(bytes, at, &(layout << 1 | 1).to_le_bytes());
    put(bytes, at + 4, &mode.to_le_bytes());
    put(bytes, at + 8, &(size as u64).to_le_bytes());
    put(bytes, at + 16, &data.to_le_bytes());
    put(bytes, at + 32, &1000u64.to_le_bytes());
    put(bytes, at + 44, &1u32.to_le_bytes());
}

/// A block of names and the numbers of their inodes.
fn folder(entries: &[(&str, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; entries.len() * 12];
    for (index, (name, file)) in entries.iter().enumerate() {
        let name_at = bytes.len() as u16;
        put(&mut bytes, index * 12, &(file * 8).to_le_bytes());
        put(&mut bytes, index * 12 + 8, &name_at.to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    bytes
}
