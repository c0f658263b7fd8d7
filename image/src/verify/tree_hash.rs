//! dm-verity's hash tree, computed again from the data: SHA-256 over blocks of 4096 bytes, salt
//! first, 128 hashes to a block, the level of the root first on disk.
//!
//! `veritysetup` made the tree that is on the disk; this says what it has to be, so that a
//! difference can be called by its block.

use std::{fs::File, io, os::unix::fs::FileExt, thread};

use layout::RootHash;
use sha2::{Digest, Sha256};

/// Block of data and of the tree.
pub const BLOCK_BYTES: u64 = 4096;
/// More than a disk can have.
const BLOCKS_MAX: u64 = 1 << 40;
const HASHES_PER_BLOCK: usize = BLOCK_BYTES as usize / 32;
/// Bytes that a thread reads at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What is in front of a tree on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// UUID of the tree.
    pub uuid: uuid::Uuid,
    /// Blocks of data.
    pub data_blocks: u64,
    /// In front of every hash.
    pub salt: Vec<u8>,
}

impl Superblock {
    /// Bytes of the tree's partition that are to be read for it.
    pub const BYTES: usize = 512;

    /// Reads it; says why it is none of ours.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, String> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4"));
        if &bytes[..8] != b"verity\0\0" {
            return Err("there is no dm-verity superblock".to_owned());
        }
        let (version, kind) = (u32_at(8), u32_at(12));
        let name = bytes[32..64].split(|byte| *byte == 0).next().unwrap_or_default();
        let (data_block, hash_block) = (u32_at(64), u32_at(68));
        let salt = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        let data_blocks = u64::from_le_bytes(bytes[72..80].try_into().expect("8 bytes"));
        let ours = (version, kind, name) == (1, 1, b"sha256".as_slice())
            && u64::from(data_block) == BLOCK_BYTES
            && u64::from(hash_block) == BLOCK_BYTES
            && salt <= 256
            && (1..=BLOCKS_MAX).contains(&data_blocks);
        if !ours {
            return Err(format!(
                "its dm-verity superblock is of version {version}, type {kind}, {}, for \
                 {data_blocks} blocks of {data_block} and {hash_block} bytes; expected 1, 1, \
                 sha256, 4096 and 4096",
                String::from_utf8_lossy(name)
            ));
        }
        Ok(Self {
            uuid: uuid::Uuid::from_bytes(bytes[16..32].try_into().expect("16 bytes")),
            data_blocks,
            salt: bytes[88..88 + salt].to_vec(),
        })
    }

    /// Bytes of the superblock's block and the tree behind it.
    pub fn size_bytes(&self) -> u64 {
        let (mut level, mut blocks) = (self.data_blocks, 1);
        while level > 1 {
            level = level.div_ceil(HASHES_PER_BLOCK as u64);
            blocks += level;
        }
        blocks * BLOCK_BYTES
    }

    /// The root hash that belongs to the topmost block of the tree.
    pub fn root_hash(&self, top: &[u8]) -> RootHash {
        RootHash(Sha256::new_with_prefix(&self.salt).chain_update(top).finalize().into())
    }
}

/// A tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    /// The hash of its topmost block.
    pub root_hash: RootHash,
    /// Its blocks as they are on disk, behind the superblock's block.
    pub blocks: Vec<u8>,
}

/// Computes the tree of `blocks` blocks of `data` from byte `start`, with every processor.
/// `done` is told bytes so far, by the first of them.
pub fn compute(
    data: &File,
    start: u64,
    blocks: u64,
    salt: &[u8],
    done: &(dyn Fn(u64) + Sync),
) -> io::Result<Tree> {
    let salted = Sha256::new_with_prefix(salt);
    let mut level = hash_data(data, start, blocks, &salted, done)?;
    let mut levels: Vec<Vec<u8>> = Vec::new();
    while level.len() > 1 {
        let padded = level.chunks(HASHES_PER_BLOCK).flat_map(|hashes| {
            let mut block = hashes.concat();
            block.resize(BLOCK_BYTES as usize, 0);
            block
        });
        let padded: Vec<u8> = padded.collect();
        level = padded
            .chunks_exact(BLOCK_BYTES as usize)
            .map(|block| salted.clone().chain_update(block).finalize().into())
            .collect();
        levels.push(padded);
    }
    levels.reverse();
    let root = level.first().ok_or_else(|| io::Error::other("there are no blocks of data"))?;
    Ok(Tree { root_hash: RootHash(*root), blocks: levels.concat() })
}

fn hash_data(
    data: &File,
    start: u64,
    blocks: u64,
    salted: &Sha256,
    done: &(dyn Fn(u64) + Sync),
) -> io::Result<Vec<[u8; 32]>> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = blocks.div_ceil(threads).max(1);
    let one = |thread: u64| -> io::Result<Vec<[u8; 32]>> {
        let (first, last) = (thread * share, ((thread + 1) * share).min(blocks));
        let mut hashes = Vec::with_capacity(last.saturating_sub(first) as usize);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = start + first * BLOCK_BYTES;
        let end = start + last * BLOCK_BYTES;
        while at < end {
            let part = &mut chunk[..CHUNK_BYTES.min((end - at) as usize)];
            data.read_exact_at(part, at)?;
            for block in part.chunks_exact(BLOCK_BYTES as usize) {
                hashes.push(salted.clone().chain_update(block).finalize().into());
            }
            at += part.len() as u64;
            if thread == 0 {
                done((at - start) * threads);
            }
        }
        Ok(hashes)
    };
    thread::scope(|scope| {
        let one = &one;
        let shares: Vec<_> = (0..threads).map(|t| scope.spawn(move || one(t))).collect();
        let mut all = Vec::with_capacity(blocks as usize);
        for share in shares {
            all.extend(share.join().expect("it does not panic")?);
        }
        Ok(all)
    })
}

/// What the first difference between a stored tree and a computed one is about. The hashes of
/// data are looked at first: everything above them follows from them.
pub fn first_difference(stored: &[u8], computed: &Tree, data_blocks: u64) -> Option<String> {
    let leaves = data_blocks.div_ceil(HASHES_PER_BLOCK as u64) * BLOCK_BYTES;
    let upper = computed.blocks.len().saturating_sub(leaves as usize);
    let differs = |from: usize, to: usize| {
        let pairs = stored[from..to].iter().zip(&computed.blocks[from..to]);
        pairs.into_iter().position(|(a, b)| a != b)
    };
    if let Some(at) = differs(upper, computed.blocks.len()) {
        let hash = at as u64 / 32;
        return Some(if hash < data_blocks {
            format!("the hash of data block {hash} (byte {} of /usr)", hash * BLOCK_BYTES)
        } else {
            "behind the hashes of data".to_owned()
        });
    }
    let at = differs(0, upper)?;
    Some(format!("in the upper levels (block {} of the tree)", at as u64 / BLOCK_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 32] = [0x5a; 32];

    fn data(blocks: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        for block in 0..blocks {
            let bytes = [block as u8; BLOCK_BYTES as usize];
            file.write_all_at(&bytes, 4096 + block * BLOCK_BYTES).unwrap();
        }
        file
    }

    fn tree(blocks: u64) -> Tree {
        compute(&data(blocks), 4096, blocks, &SALT, &|_| ()).unwrap()
    }

    #[test]
    fn it_agrees_with_the_root_hash_of_the_builder() {
        for blocks in [1, 2, 128, 129, 300] {
            let file = tempfile::NamedTempFile::new().unwrap();
            for block in 0..blocks {
                let bytes = [block as u8; BLOCK_BYTES as usize];
                file.as_file().write_all_at(&bytes, block * BLOCK_BYTES).unwrap();
            }
            let theirs = crate::erofs::verity::root_hash(file.path(), &SALT).unwrap();
            assert_eq!(tree(blocks).root_hash, theirs, "{blocks}");
        }
    }

    #[test]
    fn the_size_of_a_tree_is_known_from_its_superblock() {
        for blocks in [1, 2, 128, 129, 300] {
            let superblock =
                Superblock { uuid: uuid::Uuid::nil(), data_blocks: blocks, salt: vec![] };
            let size = tree(blocks).blocks.len() as u64 + BLOCK_BYTES;
            assert_eq!(superblock.size_bytes(), size, "{blocks}");
        }
    }

    #[test]
    fn a_changed_hash_is_called_by_its_block() {
        let tree = tree(300);
        let stored = |at: usize| {
            let mut stored = tree.blocks.clone();
            stored[at] ^= 1;
            first_difference(&stored, &tree, 300).unwrap()
        };
        assert_eq!(first_difference(&tree.blocks, &tree, 300), None);
        assert_eq!(stored(5), "in the upper levels (block 0 of the tree)");
        assert_eq!(stored(4096), "the hash of data block 0 (byte 0 of /usr)");
        assert_eq!(stored(8192 + 33), "the hash of data block 129 (byte 528384 of /usr)");
        assert_eq!(stored(4096 * 4 - 1), "behind the hashes of data");
    }
}
