//! The marks of what is a part of something bigger, or holds something: arrays, encrypted volumes,
//! volume groups, pools; and partition tables.

use std::io;

use super::{Kind, Signature, View, le32, text, uuid};

type Found = io::Result<Option<Signature>>;

/// Version 1 at the start (1.1), at 4 KiB (1.2) or near the end (1.0); version 0.90 near the end.
pub(super) fn mdraid(view: &View<'_>) -> Found {
    const MAGIC: u32 = 0xa92b_4efc;
    let near_end = (view.size() / 512).saturating_sub(16) / 8 * 8 * 512;
    for offset in [0, 4096, near_end] {
        let Some(sb) = view.at::<256>(offset)? else { continue };
        let own = u64::from_le_bytes(sb[144..152].try_into().expect("8 bytes"));
        if le32(&sb, 0) == MAGIC && le32(&sb, 4) == 1 && own.checked_mul(512) == Some(offset) {
            let kind = Kind::Mdraid { level: le32(&sb, 72) as i32, disks: le32(&sb, 92) };
            return Ok(Some(Signature::new(kind, text(&sb[32..64]), uuid(&sb[16..32]))));
        }
    }
    let old = (view.size() / 65536 * 65536).checked_sub(65536);
    let Some(sb) = old.map_or(Ok(None), |offset| view.at::<64>(offset))? else { return Ok(None) };
    if le32(&sb, 0) != MAGIC || le32(&sb, 4) != 0 {
        return Ok(None);
    }
    let kind = Kind::Mdraid { level: le32(&sb, 28) as i32, disks: le32(&sb, 40) };
    Ok(Some(Signature::new(kind, None, uuid(&[&sb[20..24], &sb[52..64]].concat()))))
}

/// Version 2 has its label, its maker and, in JSON, how it is opened.
pub(super) fn luks(view: &View<'_>) -> Found {
    let Some(header) = view.at::<512>(0)? else { return Ok(None) };
    if header[..6] != *b"LUKS\xba\xbe" {
        return Ok(None);
    }
    let version = u16::from_be_bytes([header[6], header[7]]);
    let id = text(&header[168..208]);
    if version != 2 {
        let kind = Kind::Luks { version, flags: vec![], subsystem: None };
        return Ok(Some(Signature::new(kind, None, id)));
    }
    let length = u64::from_be_bytes(header[8..16].try_into().expect("8 bytes"));
    // Headers are at most 4 MiB; one that says more is damaged.
    let json = length.clamp(4096, 4 << 20) - 4096;
    let json = view.some(4096, json as usize)?.unwrap_or_default();
    let kind = Kind::Luks { version, flags: flags(&json), subsystem: text(&header[208..256]) };
    Ok(Some(Signature::new(kind, text(&header[24..72]), id)))
}

fn flags(json: &[u8]) -> Vec<String> {
    let end = json.iter().position(|byte| *byte == 0).unwrap_or(json.len());
    let metadata: serde_json::Value = serde_json::from_slice(&json[..end]).unwrap_or_default();
    let flags = metadata["config"]["flags"].as_array().cloned().unwrap_or_default();
    flags.iter().filter_map(|flag| flag.as_str().map(str::to_owned)).collect()
}

/// A physical volume says so in one of the first four sectors.
pub(super) fn lvm(view: &View<'_>) -> Found {
    for sector in 0..4 {
        let Some(label) = view.at::<64>(sector * 512)? else { return Ok(None) };
        if label.starts_with(b"LABELONE") && label[24..32] == *b"LVM2 001" {
            let found = Signature::new(Kind::Other("LVM2_member"), None, text(&label[32..64]));
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Four labels, two at each end, each with a ring of uberblocks in its second half.
pub(super) fn zfs(view: &View<'_>) -> Found {
    const LABEL: u64 = 256 << 10;
    let size = view.size() / LABEL * LABEL;
    let ends = [size.checked_sub(2 * LABEL), size.checked_sub(LABEL)];
    for label in [Some(0), Some(LABEL)].into_iter().chain(ends).flatten() {
        let Some(ring) = view.some(label + LABEL / 2, LABEL as usize / 2)? else { continue };
        let magic = |block: &&[u8]| {
            let first: [u8; 8] = block[..8].try_into().expect("8 bytes");
            u64::from_le_bytes(first) == 0x00ba_b10c || u64::from_be_bytes(first) == 0x00ba_b10c
        };
        // One may be left of what was there before; a pool has written some.
        if ring.chunks_exact(1024).filter(magic).count() >= 4 {
            return Ok(Some(Signature::other("zfs_member")));
        }
    }
    Ok(None)
}

/// What is only told apart, so that it is not taken for nothing.
pub(super) fn other(view: &View<'_>) -> Found {
    const BCACHE: [u8; 16] = [
        0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d,
        0x81,
    ];
    if view.has(4096 + 24, &BCACHE)? {
        return Ok(Some(Signature::other("bcache")));
    }
    // Controllers of Intel and others keep their own marks at the end.
    let end = view.size() / 512 * 512;
    let at_end: [(&str, u64, &[u8]); 3] = [
        ("isw_raid_member", 1024, b"Intel Raid ISM Cfg Sig. "),
        ("ddf_raid_member", 512, &[0xde, 0x11, 0xde, 0x11]),
        ("drbd", 4096 - 24, &[0x83, 0x74, 0x02, 0x6b]),
    ];
    for (name, before, magic) in at_end {
        if let Some(at) = end.checked_sub(before)
            && view.has(at, magic)?
        {
            return Ok(Some(Signature::other(name)));
        }
    }
    Ok(None)
}

/// A GPT, or an MBR with partitions where nothing else explains the end of the first sector.
pub(super) fn partition_table(view: &View<'_>, nothing_else: bool) -> Found {
    if view.has(512, b"EFI PART")? || view.has(4096, b"EFI PART")? {
        return Ok(Some(Signature::other("gpt")));
    }
    let Some(mbr) = view.at::<512>(0)? else { return Ok(None) };
    let entries = || mbr[446..510].chunks_exact(16);
    let is_mbr = mbr[510..] == [0x55, 0xaa]
        && entries().all(|entry| matches!(entry[0], 0 | 0x80))
        && entries().any(|entry| entry[4] != 0 && le32(entry, 12) != 0);
    Ok((nothing_else && is_mbr).then(|| Signature::other("dos")))
}
