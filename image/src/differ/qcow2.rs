//! A qcow2 disk: its header, and the disk that a guest sees. Reads standard, zero and compressed
//! clusters (deflate and zstd); no backing file, no external data file, no extended L2 entries.

use std::{
    io::{self, Read},
    ops::Range,
    sync::Mutex,
};

use flate2::{Decompress, FlushDecompress};

use super::{
    anatomy::{Anatomy, Content, Part, field, follows},
    numbers::{Be, hex, part},
    source::{Broken, ReadAt, Source, broken},
};

/// All but: dirty, corrupt, compression type.
const INCOMPATIBLE_NOT_READ: u64 = !0b1011;
const CLUSTERS_MAX: u64 = 1 << 24;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

pub(super) fn anatomy(source: &Source) -> Result<Anatomy, Broken> {
    let mut header = source.read(0, 72)?;
    let version = Be(&header).u32(4);
    if version >= 3 {
        header = source.read(0, 104)?;
        let length = Be(&header).u32(100).clamp(104, 4096);
        header = source.read(0, length as usize)?;
    }
    let be = Be(&header);
    let (cluster_bits, size) = (be.u32(20), be.u64(24));
    let (backing_at, backing_length) = (be.u64(8), be.u32(16));
    let mut anatomy = Anatomy::of(vec![
        field("version", version),
        field("cluster size", hex(1u64.checked_shl(cluster_bits).unwrap_or_default())),
        field("virtual size", size),
        field("encryption", be.u32(32)),
        field("snapshots", be.u32(60)),
        field("backing file", backing(source, backing_at, backing_length)?),
        field("incompatible features", hex(be.u64(72))),
        field("compatible features", hex(be.u64(80))),
        field("autoclear features", hex(be.u64(88))),
        field("refcount order", be.u32(96)),
        field("header length", header.len()),
        field("compression type", part(&header, 104, 1).first().copied().unwrap_or_default()),
        field("header past the compression type", hex::encode(part(&header, 105, 4096))),
        follows("L1 size", be.u32(36)),
        follows("L1 table offset", hex(be.u64(40))),
        follows("refcount table offset", hex(be.u64(48))),
        follows("refcount table clusters", be.u32(56)),
        follows("snapshots offset", hex(be.u64(64))),
    ]);
    if version >= 3 {
        extensions(source, header.len() as u64, &mut anatomy)?;
    }
    if !(9..=21).contains(&cluster_bits) {
        return broken(format!("clusters of 2^{cluster_bits} bytes"));
    }
    if be.u64(72) & INCOMPATIBLE_NOT_READ != 0 {
        return broken(format!("incompatible features {:#x} are not read", be.u64(72)));
    }
    let zstd = part(&header, 104, 1) == [1];
    let guest = Guest {
        clusters: mapping(source, cluster_bits, size, be.u64(40), be.u32(36).into())?,
        file: source.clone(),
        cluster_bits,
        size,
        zstd,
        unpacked: Mutex::new(None),
    };
    let entries = guest.clusters.iter().flat_map(|entry| entry.to_be_bytes()).collect::<Vec<u8>>();
    anatomy.parts.push(Part::new("guest disk", Vec::new()).any(Source::new(guest)));
    let entries = Content::Blocks(Source::bytes(entries), 8, "of guest cluster");
    anatomy.parts.push(Part::new("L2 entry", Vec::new()).content(entries).follows());
    anatomy.places.push((0..1 << cluster_bits, "header cluster".into()));
    Ok(anatomy)
}

fn backing(source: &Source, at: u64, length: u32) -> Result<String, Broken> {
    match (at, length) {
        (0, _) => Ok("none".into()),
        (at, 0..4096) => Ok(super::numbers::text(&source.read(at, length as usize)?)),
        (_, length) => broken(format!("a backing file name of {length} bytes")),
    }
}

/// Header extensions: format of the backing file, names of features...
fn extensions(source: &Source, mut at: u64, anatomy: &mut Anatomy) -> Result<(), Broken> {
    loop {
        let head = source.read(at, 8)?;
        let (kind, length) = (Be(&head).u32(0), Be(&head).u32(4));
        if kind == 0 {
            return Ok(());
        }
        if length > 64 << 10 {
            return broken(format!("a header extension of {length} bytes at {at}"));
        }
        let value = hex::encode(source.read(at + 8, length as usize)?);
        anatomy.fields.push(field(format!("header extension {kind:#010x} at {at}"), value));
        at += 8 + u64::from(length).next_multiple_of(8);
    }
}

/// The L2 entry of each guest cluster.
fn mapping(
    source: &Source,
    cluster_bits: u32,
    size: u64,
    l1_at: u64,
    l1_size: u64,
) -> Result<Vec<u64>, Broken> {
    let cluster = 1u64 << cluster_bits;
    let clusters = size.div_ceil(cluster);
    let entries_per_table = cluster / 8;
    let tables = clusters.div_ceil(entries_per_table);
    if clusters > CLUSTERS_MAX || tables > l1_size {
        return broken(format!("{clusters} clusters, and {l1_size} entries in the L1 table"));
    }
    let l1 = source.read(l1_at, (tables * 8) as usize)?;
    let mut mapping = vec![0; clusters as usize];
    for (chunk, entry) in mapping.chunks_mut(entries_per_table as usize).zip(l1.chunks_exact(8)) {
        let table_at = Be(entry).u64(0) & OFFSET;
        if table_at == 0 {
            continue;
        }
        let table = source.read(table_at, cluster as usize)?;
        for (to, from) in chunk.iter_mut().zip(table.chunks_exact(8)) {
            *to = Be(from).u64(0);
        }
    }
    Ok(mapping)
}

/// The disk as a guest sees it.
struct Guest {
    clusters: Vec<u64>,
    file: Source,
    cluster_bits: u32,
    size: u64,
    zstd: bool,
    /// The cluster that was unpacked last.
    unpacked: Mutex<Option<(usize, Vec<u8>)>>,
}

impl Guest {
    fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Fills `buffer` from `skip` bytes into a cluster.
    fn read(&self, cluster: usize, skip: u64, buffer: &mut [u8]) -> io::Result<()> {
        let entry = self.clusters[cluster];
        if entry & COMPRESSED != 0 {
            let mut unpacked = self.unpacked.lock().expect("unpacking does not panic");
            if unpacked.as_ref().is_none_or(|(which, _)| *which != cluster) {
                *unpacked = Some((cluster, self.unpack(entry, cluster)?));
            }
            let bytes = unpacked.as_ref().map_or(&[][..], |(_, bytes)| bytes);
            buffer.copy_from_slice(part(bytes, skip as usize, buffer.len()));
        } else if entry & ZERO != 0 || entry & OFFSET == 0 {
            buffer.fill(0);
        } else {
            let bytes = self.file.peek((entry & OFFSET) + skip, buffer.len())?;
            let (there, behind) = buffer.split_at_mut(bytes.len());
            there.copy_from_slice(&bytes);
            behind.fill(0);
        }
        Ok(())
    }

    fn unpack(&self, entry: u64, cluster: usize) -> io::Result<Vec<u8>> {
        let offset_bits = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let sectors = ((entry & !(3 << 62)) >> offset_bits) + 1;
        let packed = self.file.peek(offset, (sectors * 512 - offset % 512) as usize)?;
        let mut bytes = vec![0; self.cluster_bytes() as usize];
        let whole = if self.zstd {
            let mut decoder = zstd::Decoder::with_buffer(&packed[..])?.single_frame();
            decoder.read_exact(&mut bytes).is_ok()
        } else {
            let mut inflate = Decompress::new(false);
            let result = inflate.decompress(&packed, &mut bytes, FlushDecompress::Finish);
            result.is_ok() && inflate.total_out() == bytes.len() as u64
        };
        if whole {
            Ok(bytes)
        } else {
            let why = format!("guest cluster {cluster} at {offset} cannot be unpacked");
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

impl ReadAt for Guest {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (cluster, skip) = (at >> self.cluster_bits, at & (self.cluster_bytes() - 1));
            let length = ((self.cluster_bytes() - skip) as usize).min(buffer.len() - done);
            self.read(cluster as usize, skip, &mut buffer[done..done + length])?;
            done += length;
        }
        Ok(())
    }

    fn data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let holds =
            |entry: &u64| entry & COMPRESSED != 0 || (entry & ZERO == 0 && entry & OFFSET != 0);
        let first = (offset >> self.cluster_bits) as usize;
        let rest = self.clusters.get(first..).unwrap_or_default();
        let Some(skip) = rest.iter().position(holds) else { return Ok(None) };
        let run = rest[skip..].iter().take_while(|entry| holds(entry)).count();
        let start = ((first + skip) as u64) << self.cluster_bits;
        let end = start + ((run as u64) << self.cluster_bits);
        Ok(Some(start.max(offset)..end.min(self.size)))
    }
}
