//! A FAT file system (12, 16 or 32 bits): boot sector, directory entries with every field, files.

use std::collections::HashSet;

use super::{
    anatomy::{Anatomy, Content, Field, Part, field, follows},
    numbers::{Le, hex, part, text},
    source::{Broken, Piece, Source, broken},
};

mod entry;

use entry::Entry;

/// More directory entries than that are garbage.
const ENTRIES_MAX: usize = 1 << 20;
const FOLDER_BYTES_MAX: u64 = 16 << 20;
const FOLDERS_DEEP_MAX: usize = 64;

/// Whether a boot sector is that of a FAT.
pub(super) fn is_fat(head: &[u8]) -> bool {
    let le = Le(head);
    let jump = matches!(le.u8(0), 0xeb | 0xe9);
    let names = [part(head, 54, 3), part(head, 82, 3)];
    jump && le.u16(510) == 0xaa55 && names.contains(&b"FAT".as_slice())
}

pub(super) fn anatomy(source: &Source) -> Result<Anatomy, Broken> {
    let boot = source.read(0, 512)?;
    let mut walk = Walk {
        anatomy: Anatomy::default(),
        layout: Layout::of(source, &boot)?,
        source: source.clone(),
        folders: HashSet::new(),
    };
    walk.boot_sector(&boot)?;
    let root = walk.layout.root(source)?;
    walk.folder("", root, 0)?;
    Ok(walk.anatomy)
}

/// Where things are.
struct Layout {
    bits: u32,
    sector_bytes: u64,
    cluster_bytes: u64,
    fat_at: u64,
    fat_bytes: u64,
    fats: u64,
    /// Of FAT12 and FAT16.
    root_at: u64,
    root_bytes: u64,
    /// Of FAT32.
    root_cluster: u32,
    data_at: u64,
    clusters: u64,
    fat: Vec<u8>,
}

impl Layout {
    fn of(source: &Source, boot: &[u8]) -> Result<Self, Broken> {
        let le = Le(boot);
        let sector_bytes = u64::from(le.u16(11));
        let cluster_bytes = u64::from(le.u8(13)) * sector_bytes;
        if ![512, 1024, 2048, 4096].contains(&sector_bytes) || !cluster_bytes.is_power_of_two() {
            return broken(format!("clusters of {cluster_bytes}, sectors of {sector_bytes} bytes"));
        }
        let long = le.u16(22) == 0;
        let fat_sectors = u64::from(if long { le.u32(36) } else { le.u16(22).into() });
        let total = u64::from(if le.u16(19) == 0 { le.u32(32) } else { le.u16(19).into() });
        let fat_at = u64::from(le.u16(14)) * sector_bytes;
        let (fats, fat_bytes) = (u64::from(le.u8(16)), fat_sectors * sector_bytes);
        let root_at = fat_at + fats * fat_bytes;
        let root_bytes = (u64::from(le.u16(17)) * 32).next_multiple_of(sector_bytes);
        let data_at = root_at + root_bytes;
        let clusters = (total * sector_bytes).saturating_sub(data_at) / cluster_bytes;
        let bits = match (long, clusters) {
            (true, _) => 32,
            (false, 0..4085) => 12,
            (false, _) => 16,
        };
        let used = ((clusters + 2) * u64::from(bits)).div_ceil(8).min(fat_bytes);
        let fat = source.read(fat_at, used as usize)?;
        let root_cluster = le.u32(44);
        Ok(Self {
            bits,
            sector_bytes,
            cluster_bytes,
            fat_at,
            fat_bytes,
            fats,
            root_at,
            root_bytes,
            root_cluster,
            data_at,
            clusters,
            fat,
        })
    }

    fn root(&self, source: &Source) -> Result<Vec<Piece>, Broken> {
        if self.bits == 32 {
            self.chain(self.root_cluster)
        } else {
            let root = Piece { at: Some(self.root_at), length: self.root_bytes };
            source.pieces([root]).map(|_| vec![root])
        }
    }

    /// The cluster behind `cluster` in its chain, or what stands there instead.
    fn next(&self, cluster: u32) -> u32 {
        let (le, at) = (Le(&self.fat), cluster as usize);
        match self.bits {
            12 if at % 2 == 0 => (le.u16(at / 2 * 3) & 0xfff).into(),
            12 => (le.u16(at / 2 * 3 + 1) >> 4).into(),
            16 => le.u16(at * 2).into(),
            _ => le.u32(at * 4) & 0x0fff_ffff,
        }
    }

    /// The chain from `cluster` on, neighbours joined.
    fn chain(&self, first: u32) -> Result<Vec<Piece>, Broken> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut cluster = first;
        let last = 0x0fff_fff8 & ((1u64 << self.bits.min(28)) - 1) as u32;
        for _ in 0..=self.clusters {
            if cluster >= last {
                return Ok(pieces);
            }
            if cluster < 2 || u64::from(cluster) - 2 >= self.clusters {
                return broken(format!("cluster {cluster} in the chain from {first}"));
            }
            let at = self.data_at + (u64::from(cluster) - 2) * self.cluster_bytes;
            match pieces.last_mut() {
                Some(piece) if piece.at.is_some_and(|start| start + piece.length == at) => {
                    piece.length += self.cluster_bytes;
                }
                _ => pieces.push(Piece { at: Some(at), length: self.cluster_bytes }),
            }
            cluster = self.next(cluster);
        }
        broken(format!("the chain from cluster {first} goes in circles"))
    }
}

struct Walk {
    anatomy: Anatomy,
    layout: Layout,
    source: Source,
    /// First clusters of folders that were entered.
    folders: HashSet<u32>,
}

impl Walk {
    fn boot_sector(&mut self, boot: &[u8]) -> Result<(), Broken> {
        let le = Le(boot);
        let layout = &self.layout;
        // The fields from the drive number on lie 28 bytes later in FAT32.
        let (late, code_at) = if layout.bits == 32 { (28, 90) } else { (0, 62) };
        let geometry = format!("{} sectors, {} heads", le.u16(24), le.u16(26));
        self.anatomy.fields = vec![
            field("FAT bits", layout.bits),
            field("volume id", format!("{:08x}", le.u32(39 + late))),
            field("label", text(part(boot, 43 + late, 11)).trim_end()),
            field("type", text(part(boot, 54 + late, 8)).trim_end()),
            field("OEM name", text(part(boot, 3, 8))),
            field("jump", hex::encode(part(boot, 0, 3))),
            field("sector size", layout.sector_bytes),
            field("cluster size", layout.cluster_bytes),
            field("reserved sectors", le.u16(14)),
            field("number of FATs", layout.fats),
            field("root entries", le.u16(17)),
            field("sectors", le.u32(32).max(le.u16(19).into())),
            field("media", hex(le.u8(21))),
            field("size of a FAT", layout.fat_bytes),
            field("geometry", geometry),
            field("hidden sectors", le.u32(28)),
            field("drive number", hex(le.u8(36 + late))),
            field("flags", hex(le.u8(37 + late))),
            field("boot signature", hex(le.u8(38 + late))),
        ];
        let code = Content::Bytes(self.source.window(code_at, 510 - code_at));
        self.anatomy.parts.push(Part::new("boot code", Vec::new()).content(code));
        if layout.bits == 32 {
            self.anatomy.fields.extend([
                field("extended flags", hex(le.u16(40))),
                field("version", hex(le.u16(42))),
                field("information sector", le.u16(48)),
                field("backup boot sector", le.u16(50)),
                field("reserved", hex::encode(part(boot, 52, 12))),
                follows("root cluster", layout.root_cluster),
            ]);
            let sector = u64::from(le.u16(48)) * layout.sector_bytes;
            let information = self.source.peek(sector, 512)?;
            self.anatomy.fields.extend([
                follows("free clusters", Le(&information).u32(488)),
                follows("next free cluster", Le(&information).u32(492)),
            ]);
        }
        self.places();
        Ok(())
    }

    fn places(&mut self) {
        let layout = &self.layout;
        let places = &mut self.anatomy.places;
        places.push((0..layout.fat_at, "reserved sectors".into()));
        for number in 0..layout.fats {
            let at = layout.fat_at + number * layout.fat_bytes;
            places.push((at..at + layout.fat_bytes, format!("FAT {}", number + 1)));
        }
        let data_end = layout.data_at + layout.clusters * layout.cluster_bytes;
        places.push((layout.data_at..data_end, "free space".into()));
        places.push((data_end..self.source.size(), "behind the last cluster".into()));
    }

    /// Adds the entries of one folder, and of those below it.
    fn folder(&mut self, path: &str, pieces: Vec<Piece>, depth: usize) -> Result<(), Broken> {
        self.claim(&pieces, &format!("unused part of folder {path}/"));
        let content = self.source.pieces(pieces)?;
        let Some(bytes) = content.all(FOLDER_BYTES_MAX)? else {
            return broken(format!("folder {path}/ has {} bytes", content.size()));
        };
        for entry in entry::entries(&bytes) {
            if self.anatomy.parts.len() > ENTRIES_MAX {
                return broken(format!("more than {ENTRIES_MAX} files"));
            }
            self.entry(path, entry, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &str, mut entry: Entry, depth: usize) -> Result<(), Broken> {
        let path = format!("{folder}/{}", entry.name);
        let bits = self.layout.bits;
        let cluster = if bits == 32 { entry.cluster } else { entry.cluster & 0xffff };
        let chain = match cluster {
            0 => Ok(Vec::new()),
            first => self.layout.chain(first),
        };
        let pieces = match chain {
            Ok(pieces) => pieces,
            Err(why) => {
                self.unreadable(path, entry.fields, &why);
                return Ok(());
            }
        };
        if entry.is_label() {
            self.anatomy.parts.push(Part::new("volume label", entry.fields));
        } else if entry.is_folder() {
            let own = !matches!(entry.name.as_str(), "." | "..");
            let inside = own && self.folders.insert(cluster) && depth < FOLDERS_DEEP_MAX;
            self.anatomy.parts.push(Part::new(path.as_str(), entry.fields));
            if inside {
                self.folder(&path, pieces, depth + 1)?;
            }
        } else {
            self.claim(&pieces, &format!("slack of {path}"));
            let fields = std::mem::take(&mut entry.fields);
            match self.source.pieces(pieces) {
                Ok(chain) if chain.size() >= entry.size => {
                    let content = chain.window(0, entry.size);
                    self.anatomy.parts.push(Part::new(path, fields).any(content));
                }
                Ok(chain) => {
                    let why = format!("{} bytes in its clusters", chain.size());
                    self.unreadable(path, fields, &Broken::Format(why));
                }
                Err(why) => self.unreadable(path, fields, &why),
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, path: String, mut fields: Vec<Field>, why: &Broken) {
        fields.push(field("unreadable", why));
        self.anatomy.parts.push(Part::new(path, fields));
    }

    fn claim(&mut self, pieces: &[Piece], what: &str) {
        let ranges = pieces.iter().filter_map(|piece| Some(piece.at?..piece.at? + piece.length));
        self.anatomy.places.extend(ranges.map(|range| (range, what.to_owned())));
    }
}
