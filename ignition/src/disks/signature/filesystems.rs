//! The marks of file systems and of swap space.

use std::io;

use super::{Kind, Signature, View, le16, le32, text, uuid};

type Found = io::Result<Option<Signature>>;

/// Superblock at 1 KiB, of 1 KiB.
pub(super) fn ext(view: &View<'_>) -> Found {
    let Some(sb) = view.at::<1024>(1024)? else { return Ok(None) };
    if sb[56..58] != [0x53, 0xef] {
        return Ok(None);
    }
    let (compat, incompat, ro_compat) = (le32(&sb, 92), le32(&sb, 96), le32(&sb, 100));
    const JOURNAL_DEVICE: u32 = 8;
    if incompat & JOURNAL_DEVICE != 0 {
        return Ok(Some(Signature::new(
            Kind::Other("jbd"),
            text(&sb[120..136]),
            uuid(&sb[104..120]),
        )));
    }
    // What ext2 and ext3 know: filetype and meta_bg; recover with a journal; sparse_super,
    // large_file and btree_dir.
    let is_of_old = incompat & !0x16 == 0 && ro_compat & !0x7 == 0;
    let version = match (is_of_old, compat & 4 != 0) {
        (true, true) => 3,
        (true, false) => 2,
        (false, _) => 4,
    };
    Ok(Some(Signature::new(Kind::Ext(version), text(&sb[120..136]), uuid(&sb[104..120]))))
}

pub(super) fn xfs(view: &View<'_>) -> Found {
    let Some(sb) = view.at::<128>(0)? else { return Ok(None) };
    let found = || Signature::new(Kind::Xfs, text(&sb[108..120]), uuid(&sb[32..48]));
    Ok(sb.starts_with(b"XFSB").then(found))
}

/// The first of its superblocks, at 64 KiB.
pub(super) fn btrfs(view: &View<'_>) -> Found {
    let Some(sb) = view.at::<1024>(64 << 10)? else { return Ok(None) };
    let found = || Signature::new(Kind::Btrfs, text(&sb[0x12b..0x22b]), uuid(&sb[0x20..0x30]));
    Ok((sb[64..72] == *b"_BHRfS_M").then(found))
}

/// The signature ends the first page, whatever a page was where it was made.
pub(super) fn swap(view: &View<'_>) -> Found {
    for page in [4096u64, 8192, 16384, 32768, 65536] {
        let Some(magic) = view.at::<10>(page - 10)? else { return Ok(None) };
        match &magic {
            b"SWAPSPACE2" => {
                let Some(header) = view.at::<64>(1024)? else { return Ok(None) };
                let (label, id) = (text(&header[28..44]), uuid(&header[12..28]));
                return Ok(Some(Signature::new(Kind::Swap, label, id)));
            }
            b"SWAP-SPACE" => return Ok(Some(Signature::new(Kind::Swap, None, None))),
            b"LINHIB0001" => return Ok(Some(Signature::other("swsuspend"))),
            _ if [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND"]
                .iter()
                .any(|m| magic.starts_with(*m)) =>
            {
                return Ok(Some(Signature::other("swsuspend")));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// A boot sector with sane figures. The label in the root directory counts before that in the boot
/// sector, as it does for everybody who mounts it.
pub(super) fn vfat(view: &View<'_>) -> Found {
    let Some(boot) = view.at::<512>(0)? else { return Ok(None) };
    let (sector, cluster) = (le16(&boot, 11), u64::from(boot[13]));
    let (reserved, fats, entries) = (le16(&boot, 14), u64::from(boot[16]), le16(&boot, 17));
    let sane = boot[510..] == [0x55, 0xaa]
        && matches!(sector, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && reserved != 0
        && (1..=4).contains(&fats)
        && boot[21] >= 0xf0;
    if !sane {
        return Ok(None);
    }
    let of_32_bits = le16(&boot, 22) == 0;
    let named = match of_32_bits {
        true => le32(&boot, 36) != 0 && boot[82..90] == *b"FAT32   ",
        false => boot[54..57] == *b"FAT" || boot[54..59] == *b"MSDOS",
    };
    if !named {
        return Ok(None);
    }
    let (id, label, root) = match of_32_bits {
        true => {
            let data = reserved + fats * u64::from(le32(&boot, 36));
            let root = u64::from(le32(&boot, 44)).saturating_sub(2).saturating_mul(cluster);
            (le32(&boot, 67), &boot[71..82], data.saturating_add(root))
        }
        false => (le32(&boot, 39), &boot[43..54], reserved + fats * le16(&boot, 22)),
    };
    let in_root = match of_32_bits {
        true => (cluster * sector).min(2048),
        false => (entries * 32).min(2048),
    };
    let directory = view.some(root.saturating_mul(sector), in_root as usize)?.unwrap_or_default();
    let volume = directory
        .chunks_exact(32)
        .take_while(|entry| entry[0] != 0)
        // The name of the volume, and not a part of a long name.
        .find(|entry| entry[0] != 0xe5 && entry[11] & 0x18 == 8 && entry[11] & 0x3f != 0x0f);
    let label = text(volume.map_or(label, |entry| &entry[..11]));
    let label = label.filter(|label| label != "NO NAME");
    let id = format!("{:04X}-{:04X}", id >> 16, id & 0xffff);
    Ok(Some(Signature::new(Kind::Vfat, label, Some(id))))
}

/// Its UUID is when it was made.
pub(super) fn iso9660(view: &View<'_>) -> Found {
    let Some(volume) = view.at::<2048>(32 << 10)? else { return Ok(None) };
    if volume[1..6] != *b"CD001" {
        return Ok(None);
    }
    let digits = String::from_utf8_lossy(&volume[813..829]);
    let parts = [(0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16)];
    let parts: Option<Vec<_>> = parts.iter().map(|(from, to)| digits.get(*from..*to)).collect();
    let id = parts.map(|parts| parts.join("-")).filter(|id| !id.contains('\0'));
    Ok(Some(Signature::new(Kind::Other("iso9660"), text(&volume[40..72]), id)))
}

/// What is only told apart, so that it is not taken for nothing.
pub(super) fn other(view: &View<'_>) -> Found {
    if let Some(sb) = view.at::<128>(1024)?
        && le32(&sb, 0) == 0xe0f5_e1e2
    {
        let (label, id) = (text(&sb[64..80]), uuid(&sb[48..64]));
        return Ok(Some(Signature::new(Kind::Other("erofs"), label, id)));
    }
    let known: [(&str, u64, &[u8]); 15] = [
        ("squashfs", 0, b"hsqs"),
        ("ntfs", 3, b"NTFS    "),
        ("exfat", 3, b"EXFAT   "),
        ("BitLocker", 3, b"-FVE-FS-"),
        ("apfs", 32, b"NXSB"),
        ("f2fs", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
        ("nilfs2", 1030, &[0x34, 0x34]),
        ("hfsplus", 1024, b"H+\0\x04"),
        ("hfsplus", 1024, b"HX\0\x05"),
        ("jfs", 32 << 10, b"JFS1"),
        ("udf", (32 << 10) + 1, b"BEA01"),
        ("gfs2", 64 << 10, &[1, 0x16, 0x19, 0x70]),
        ("reiserfs", (64 << 10) + 52, b"ReIsEr"),
        ("ocfs2", 4096 * 2, b"OCFSV2"),
        ("bcachefs", 4096 + 24, &BCACHEFS),
    ];
    for (name, at, magic) in known {
        if view.has(at, magic)? {
            return Ok(Some(Signature::other(name)));
        }
    }
    Ok(None)
}

const BCACHEFS: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef,
];
