//! FAT32, read without trust: enough to see what is on an ESP.

use std::{collections::HashSet, fs::File, io, os::unix::fs::FileExt};

const ENTRY_BYTES: usize = 32;
/// Bigger folders are garbage.
const FOLDER_BYTES_MAX: u64 = 4 << 20;
const FOLDERS_DEEP_MAX: usize = 16;

const LONG_NAME: u8 = 0x0f;
const VOLUME: u8 = 0x08;
const FOLDER: u8 = 0x10;
const DELETED: u8 = 0xe5;

/// A file system in a part of a file.
#[derive(Debug)]
pub struct Fat<'a> {
    disk: &'a File,
    start: u64,
    cluster_bytes: u64,
    data_at: u64,
    clusters: u32,
    root: u32,
    table: Vec<u8>,
    /// Its volume id.
    pub volume_id: u32,
    /// Its label in the boot sector.
    pub label: String,
}

/// A file or folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// From the root: `/EFI/Linux/x.efi`.
    pub path: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Of a file.
    pub size_bytes: u64,
    cluster: u32,
}

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk cannot.
    #[error("{bytes} bytes at byte {at} of the disk: {why}")]
    Io {
        /// Where.
        at: u64,
        /// How many.
        bytes: usize,
        /// What came of it.
        why: io::Error,
    },
    /// It is no FAT32, or a damaged one.
    #[error("{0}")]
    Broken(String),
}

fn broken<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::Broken(why.into()))
}

fn read(disk: &File, bytes: &mut [u8], at: u64) -> Result<(), Error> {
    disk.read_exact_at(bytes, at).map_err(|why| Error::Io { at, bytes: bytes.len(), why })
}

impl<'a> Fat<'a> {
    /// The file system in `size_bytes` of `disk` from `start`, which lie inside the file.
    pub fn open(disk: &'a File, start: u64, size_bytes: u64) -> Result<Self, Error> {
        let mut boot = [0; 512];
        read(disk, &mut boot, start)?;
        if boot[510..] != [0x55, 0xaa] || &boot[82..87] != b"FAT32" {
            return broken("there is no FAT32 on it");
        }
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32_at = |at: usize| u32::from_le_bytes(boot[at..at + 4].try_into().expect("4 bytes"));
        let (sector, per_cluster) = (u16_at(11), u64::from(boot[13]));
        if ![512, 1024, 2048, 4096].contains(&sector) || !per_cluster.is_power_of_two() {
            return broken(format!("clusters of {per_cluster} sectors of {sector} bytes"));
        }
        let (tables, table_bytes) = (u64::from(boot[16]), u64::from(u32_at(36)) * sector);
        let (table_at, cluster_bytes) = (u16_at(14) * sector, sector * per_cluster);
        let data_at = table_at + tables * table_bytes;
        let end = u64::from(u32_at(32)) * sector;
        if tables == 0 || data_at > end || end > size_bytes {
            return broken(format!(
                "it has {end} bytes, {data_at} of them in front of its files, in a partition of \
                 {size_bytes}"
            ));
        }
        let clusters = (end - data_at) / cluster_bytes;
        let table_used = (clusters + 2) * 4;
        if table_used > table_bytes || clusters > 0x0fff_fff5 {
            return broken(format!("{clusters} clusters, and a table of {table_bytes} bytes"));
        }
        let mut table = vec![0; table_used as usize];
        read(disk, &mut table, start + table_at)?;
        Ok(Self {
            disk,
            start,
            cluster_bytes,
            data_at,
            clusters: clusters as u32,
            root: u32_at(44),
            table,
            volume_id: u32_at(67),
            label: String::from_utf8_lossy(&boot[71..82]).trim_end().to_owned(),
        })
    }

    /// Bytes in clusters that hold something.
    pub fn used_bytes(&self) -> u64 {
        let used = self.table[8..].chunks_exact(4).filter(|entry| **entry != [0; 4]);
        used.count() as u64 * self.cluster_bytes
    }

    /// Every file and folder, in the order of the folders.
    pub fn walk(&self) -> Result<Vec<Entry>, Error> {
        let mut all = Vec::new();
        self.folder(self.root, "", 0, &mut HashSet::new(), &mut all)?;
        Ok(all)
    }

    /// What is in a file, if that is at most `limit` bytes.
    pub fn read(&self, entry: &Entry, limit: u64) -> Result<Vec<u8>, Error> {
        if entry.size_bytes > limit {
            return broken(format!("{} has {} bytes", entry.path, entry.size_bytes));
        }
        if entry.size_bytes == 0 {
            return Ok(Vec::new());
        }
        let clusters = self.chain(entry.cluster, &entry.path)?;
        let there = clusters.len() as u64 * self.cluster_bytes;
        if there < entry.size_bytes {
            return broken(format!(
                "{} has {} bytes, and clusters for {there}",
                entry.path, entry.size_bytes
            ));
        }
        let mut bytes = self.bytes(&clusters)?;
        bytes.truncate(entry.size_bytes as usize);
        Ok(bytes)
    }

    /// Where the bytes of every folder are in the file, cluster by cluster: the root's first.
    pub(super) fn folders(&self) -> Result<Vec<Vec<u64>>, Error> {
        let below = self.walk()?.into_iter().filter(|entry| entry.folder);
        let firsts = [self.root].into_iter().chain(below.map(|entry| entry.cluster));
        firsts
            .map(|first| {
                let clusters = self.chain(first, "a folder")?;
                Ok(clusters.into_iter().map(|cluster| self.place(cluster)).collect())
            })
            .collect()
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        self.cluster_bytes
    }

    pub(super) fn root(&self) -> u32 {
        self.root
    }

    fn folder(
        &self,
        first: u32,
        path: &str,
        depth: usize,
        seen: &mut HashSet<u32>,
        all: &mut Vec<Entry>,
    ) -> Result<(), Error> {
        if depth > FOLDERS_DEEP_MAX || !seen.insert(first) {
            return broken(format!("the folders around {path}/ go in circles"));
        }
        let clusters = self.chain(first, path)?;
        if clusters.len() as u64 * self.cluster_bytes > FOLDER_BYTES_MAX {
            return broken(format!("folder {path}/ has {} clusters", clusters.len()));
        }
        for mut entry in entries(&self.bytes(&clusters)?) {
            entry.path = format!("{path}/{}", entry.path);
            let below = entry.folder.then(|| (entry.cluster, entry.path.clone()));
            all.push(entry);
            if let Some((cluster, path)) = below {
                self.folder(cluster, &path, depth + 1, seen, all)?;
            }
        }
        Ok(())
    }

    fn place(&self, cluster: u32) -> u64 {
        self.start + self.data_at + u64::from(cluster - 2) * self.cluster_bytes
    }

    fn bytes(&self, clusters: &[u32]) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; clusters.len() * self.cluster_bytes as usize];
        for (cluster, part) in clusters.iter().zip(bytes.chunks_mut(self.cluster_bytes as usize)) {
            read(self.disk, part, self.place(*cluster))?;
        }
        Ok(bytes)
    }

    /// The clusters of a file, in order.
    fn chain(&self, first: u32, what: &str) -> Result<Vec<u32>, Error> {
        let (mut clusters, mut cluster) = (Vec::new(), first);
        while cluster < 0x0fff_fff8 {
            if cluster < 2 || cluster - 2 >= self.clusters {
                return broken(format!("{what} goes on in cluster {cluster}, which is none"));
            }
            if clusters.len() > self.clusters as usize {
                return broken(format!("the clusters of {what} go in circles"));
            }
            clusters.push(cluster);
            let at = cluster as usize * 4;
            let next = self.table[at..at + 4].try_into().expect("4 bytes");
            cluster = u32::from_le_bytes(next) & 0x0fff_ffff;
        }
        Ok(clusters)
    }
}

/// The entries of a folder: their names for paths, without `.` and `..`.
fn entries(folder: &[u8]) -> Vec<Entry> {
    let (mut all, mut long) = (Vec::new(), Vec::new());
    for row in folder.chunks_exact(ENTRY_BYTES).take_while(|row| row[0] != 0) {
        let attributes = row[11];
        if row[0] == DELETED {
            long.clear();
        } else if attributes & 0x3f == LONG_NAME {
            // Its parts come last one first.
            let part: Vec<u16> = [1..11, 14..26, 28..32]
                .into_iter()
                .flat_map(|range| row[range].chunks_exact(2))
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .collect();
            long.splice(0..0, part);
        } else {
            let units: Vec<u16> = long.drain(..).take_while(|unit| *unit != 0).collect();
            let path = if units.is_empty() { short(row) } else { String::from_utf16_lossy(&units) };
            let entry = Entry {
                path,
                folder: attributes & FOLDER != 0,
                size_bytes: u32::from_le_bytes(row[28..32].try_into().expect("4 bytes")).into(),
                cluster: cluster_of(row),
            };
            if attributes & VOLUME == 0 && entry.path != "." && entry.path != ".." {
                all.push(entry);
            }
        }
    }
    all
}

fn cluster_of(row: &[u8]) -> u32 {
    u32::from_le_bytes([row[26], row[27], row[20], row[21]]) & 0x0fff_ffff
}

/// The name as DOS had it.
fn short(row: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (name, extension) = (text(&row[..8]), text(&row[8..11]));
    if extension.is_empty() { name } else { format!("{name}.{extension}") }
}

/// A folder whose rows for `.` and `..` are as they should be: without a long name, and with no
/// cluster for a parent that is the root. Nothing if they are.
pub(super) fn with_plain_dots(folder: &[u8], root: u32) -> Option<Vec<u8>> {
    let rows: Vec<&[u8]> = folder.chunks_exact(ENTRY_BYTES).collect();
    let is_dot = |row: &[u8]| row[0] == b'.';
    let mut plain = Vec::with_capacity(folder.len());
    for (number, row) in rows.iter().enumerate() {
        let below = rows.get(number + 1).is_some_and(|row| is_dot(row));
        if row[11] & 0x3f == LONG_NAME && below {
            continue;
        }
        let from = plain.len();
        plain.extend_from_slice(row);
        if row.starts_with(b".. ") && cluster_of(row) == root {
            plain[from + 20..from + 22].fill(0);
            plain[from + 26..from + 28].fill(0);
        }
    }
    plain.resize(folder.len(), 0);
    (plain != folder).then_some(plain)
}
