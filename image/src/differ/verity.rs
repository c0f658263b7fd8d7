//! A dm-verity hash tree as veritysetup writes it: superblock, then the levels of the tree from
//! its top down.

use uuid::Uuid;

use super::{
    anatomy::{Anatomy, Content, Part, field},
    numbers::{Le, array, part, text},
    source::{Broken, Source, broken},
};

pub(super) fn anatomy(source: &Source) -> Result<Anatomy, Broken> {
    let superblock = source.read(0, 512)?;
    let le = Le(&superblock);
    let (hash_block, blocks) = (u64::from(le.u32(68)), le.u64(72));
    let salt_size = usize::from(le.u16(80));
    let algorithm = text(part(&superblock, 32, 32));
    let mut anatomy = Anatomy::of(vec![
        field("version", le.u32(8)),
        field("hash type", le.u32(12)),
        field("uuid", Uuid::from_bytes(array(&superblock, 16))),
        field("algorithm", &algorithm),
        field("data block size", le.u32(64)),
        field("hash block size", hash_block),
        field("data blocks", blocks),
        field("salt", hex::encode(part(&superblock, 88, salt_size.min(256)))),
        field("behind the salt", tail(part(&superblock, 88 + salt_size.min(256), 424))),
    ]);
    anatomy.places.push((0..512, "superblock".into()));
    if !(512..=1 << 20).contains(&hash_block) || !hash_block.is_power_of_two() {
        return broken(format!("hash blocks of {hash_block} bytes"));
    }
    let digest = if algorithm == "sha512" { 64 } else { 32 };
    let mut at = 512u64.next_multiple_of(hash_block);
    anatomy.places.push((512..at, "behind the superblock".into()));
    let levels = levels(blocks, hash_block / digest);
    for (level, length) in levels.iter().enumerate().rev() {
        let length = length.saturating_mul(hash_block);
        let content = Content::Blocks(source.window(at, length), hash_block, "block");
        let title = format!("hash tree level {level}");
        // Every block follows from the data and the salt.
        anatomy.parts.push(Part::new(title, Vec::new()).content(content).follows());
        at = at.saturating_add(length);
    }
    anatomy.places.push((at..source.size(), "behind the hash tree".into()));
    Ok(anatomy)
}

/// Hash blocks of each level, the one above the data first.
fn levels(data_blocks: u64, hashes_in_block: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut below = data_blocks;
    while below > 1 {
        below = below.div_ceil(hashes_in_block);
        levels.push(below);
    }
    levels
}

fn tail(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    hex::encode(&bytes[..end])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_level_has_a_hash_for_every_block_of_the_level_below() {
        assert_eq!(super::levels(1, 128), [0; 0]);
        assert_eq!(super::levels(128, 128), [1]);
        assert_eq!(super::levels(129, 128), [2, 1]);
        assert_eq!(super::levels(u64::MAX, 128).len(), 10);
    }
}
