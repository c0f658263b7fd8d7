//! dm-verity's hash tree (superblock version 1, `normal` hashes) as PithOS uses it: SHA-256 over
//! blocks of 4096 bytes, salt first, 128 hashes to a block.
//!
//! ```text
//! block 0        1             2 ...                  the rest
//! | superblock | topmost block | levels below ... | hashes of the data |
//! ```
//!
//! The image builder has the tree made by veritysetup; the updater computes it from the data that
//! it wrote, and the bytes are the same.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::RootHash;

/// Block of data and of the tree.
pub const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = BLOCK_BYTES as usize;
const HASH_BYTES: usize = 32;
const HASHES_PER_BLOCK: u64 = BLOCK_BYTES / HASH_BYTES as u64;
/// More than a disk can have.
const BLOCKS_MAX: u64 = 1 << 40;
const SALT_BYTES_MAX: usize = 256;
const SIGNATURE: &[u8; 8] = b"verity\0\0";
const ALGORITHM: &[u8] = b"sha256";

/// What is in front of a tree on disk (`verity_superblock` of libcryptsetup).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// UUID of the tree.
    pub uuid: Uuid,
    /// Blocks of data.
    pub data_blocks: u64,
    /// In front of every hash.
    pub salt: Vec<u8>,
}

/// Why bytes are no superblock of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotASuperblock {
    /// Something else is there.
    #[error("there is no dm-verity superblock")]
    Signature,
    /// Another kind of tree, or damage.
    #[error(
        "its dm-verity superblock is of version {version}, type {kind}, {algorithm}, for \
         {data_blocks} blocks of {data_block} and {hash_block} bytes; expected 1, 1, sha256, 4096 \
         and 4096"
    )]
    Foreign {
        /// Of the superblock.
        version: u32,
        /// Of hashes.
        kind: u32,
        /// Of hashes.
        algorithm: String,
        /// How many.
        data_blocks: u64,
        /// Size of a block of data.
        data_block: u32,
        /// Size of a block of the tree.
        hash_block: u32,
    },
}

impl Superblock {
    /// Bytes of the tree's partition that are to be read for it.
    pub const BYTES: usize = 512;

    /// Reads it.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, NotASuperblock> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if &bytes[..8] != SIGNATURE {
            return Err(NotASuperblock::Signature);
        }
        let (version, kind) = (u32_at(8), u32_at(12));
        let name = bytes[32..64].split(|byte| *byte == 0).next().unwrap_or_default();
        let (data_block, hash_block) = (u32_at(64), u32_at(68));
        let salt = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        let data_blocks = u64::from_le_bytes(bytes[72..80].try_into().expect("8 bytes"));
        let ours = (version, kind, name) == (1, 1, ALGORITHM)
            && u64::from(data_block) == BLOCK_BYTES
            && u64::from(hash_block) == BLOCK_BYTES
            && salt <= SALT_BYTES_MAX
            && (1..=BLOCKS_MAX).contains(&data_blocks);
        if !ours {
            let algorithm = String::from_utf8_lossy(name).into_owned();
            return Err(NotASuperblock::Foreign {
                version,
                kind,
                algorithm,
                data_blocks,
                data_block,
                hash_block,
            });
        }
        Ok(Self {
            uuid: Uuid::from_bytes(bytes[16..32].try_into().expect("16 bytes")),
            data_blocks,
            salt: bytes[88..88 + salt].to_vec(),
        })
    }

    /// The first block of the tree's partition.
    ///
    /// # Panics
    /// When the salt is longer than 256 bytes: no release has such a one.
    pub fn to_block(&self) -> [u8; BLOCK] {
        assert!(self.salt.len() <= SALT_BYTES_MAX, "a salt of {} bytes", self.salt.len());
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(SIGNATURE);
        block[8..12].copy_from_slice(&1u32.to_le_bytes());
        block[12..16].copy_from_slice(&1u32.to_le_bytes());
        block[16..32].copy_from_slice(self.uuid.as_bytes());
        block[32..32 + ALGORITHM.len()].copy_from_slice(ALGORITHM);
        block[64..68].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        block[68..72].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        block[72..80].copy_from_slice(&self.data_blocks.to_le_bytes());
        block[80..82].copy_from_slice(&(self.salt.len() as u16).to_le_bytes());
        block[88..88 + self.salt.len()].copy_from_slice(&self.salt);
        block
    }

    /// Bytes of the superblock's block and the tree behind it.
    pub fn size_bytes(&self) -> u64 {
        let (mut level, mut blocks) = (self.data_blocks, 1);
        while level > 1 {
            level = level.div_ceil(HASHES_PER_BLOCK);
            blocks += level;
        }
        blocks * BLOCK_BYTES
    }

    /// What the tree of this salt is computed with.
    pub fn hasher(&self) -> Hasher {
        Hasher::new(&self.salt)
    }

    /// The root hash that belongs to the topmost block of the tree.
    pub fn root_hash(&self, top: &[u8]) -> RootHash {
        RootHash(self.hasher().digest(top))
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

/// Computes hashes with the salt in front.
#[derive(Clone, Debug)]
pub struct Hasher(Sha256);

impl Hasher {
    /// For this salt.
    pub fn new(salt: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(salt))
    }

    fn digest(&self, block: &[u8]) -> [u8; HASH_BYTES] {
        self.0.clone().chain_update(block).finalize().into()
    }

    /// Appends the hashes of whole blocks of data. What is short of a block at the end counts as
    /// filled with zeros.
    pub fn hash(&self, data: &[u8], hashes: &mut Vec<u8>) {
        let whole = data.chunks_exact(BLOCK);
        let rest = whole.remainder();
        whole.for_each(|block| hashes.extend(self.digest(block)));
        if !rest.is_empty() {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            hashes.extend(self.digest(&block));
        }
    }

    /// The tree over the hashes of all blocks of data; none when there are no data.
    pub fn tree(&self, hashes: Vec<u8>) -> Option<Tree> {
        let mut levels: Vec<Vec<u8>> = vec![];
        let mut level = hashes;
        while level.len() > HASH_BYTES {
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            let mut above = Vec::with_capacity(level.len() / BLOCK * HASH_BYTES);
            self.hash(&level, &mut above);
            levels.push(std::mem::replace(&mut level, above));
        }
        let root_hash = RootHash(level.try_into().ok()?);
        levels.reverse();
        Some(Tree { root_hash, blocks: levels.concat() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(data_blocks: u64) -> Superblock {
        Superblock { uuid: Uuid::from_u128(7), data_blocks, salt: vec![0x5a; 32] }
    }

    fn tree(data: &[u8]) -> Tree {
        let (hasher, mut hashes) = (superblock(1).hasher(), vec![]);
        hasher.hash(data, &mut hashes);
        hasher.tree(hashes).unwrap()
    }

    #[test]
    fn a_superblock_is_read_as_it_was_written() {
        let block = superblock(9).to_block();
        let front = block[..Superblock::BYTES].try_into().unwrap();
        assert_eq!(Superblock::parse(&front), Ok(superblock(9)));
    }

    #[test]
    fn it_is_what_veritysetup_makes_of_the_same() {
        // From veritysetup 2.7: root hash, and SHA-256 of the whole tree.
        let cases = [
            (
                1,
                "a9a03b28564e4724d7ffc0b83acdb9e9f726e3edb9ceec32e5d47b798ee15389",
                "f72038e5a589b7e79048163b42998219a0740c751c1b91b7c6219e9b21aefb4c",
            ),
            (
                128,
                "554a1277dae2e44e5b684ef7c788390d39c3473567a70807d3a74013b7a76112",
                "9109b92a4492af3e53166c5e0597e9ce4bb6733db862c9d97649eee1593bd70a",
            ),
            (
                129,
                "656bb7c0d975e0334ad786a938f9c600a0d95037556e92a6e85dedc33f84c9af",
                "d6be473205b3be26a6dc138a7cb66582c2d632258e658543856387233f087dbf",
            ),
            (
                16385,
                "48aaa3b279554537f341e695061589cea8d999730a74e76399eef0a8acaf7901",
                "081742f25ed387d2215cb2a57cde4c96bc92fa92c1754bab5872beb0accd9af0",
            ),
        ];
        for (blocks, root_hash, sha256) in cases {
            let data: Vec<u8> =
                (0..blocks).flat_map(|block: u32| block.to_le_bytes().repeat(BLOCK / 4)).collect();
            let tree = tree(&data);
            assert_eq!(tree.root_hash.to_string(), root_hash, "{blocks} blocks");
            let bytes = [&superblock(blocks.into()).to_block()[..], &tree.blocks].concat();
            assert_eq!(hex::encode(Sha256::digest(bytes)), sha256, "{blocks} blocks");
        }
    }

    #[test]
    fn damage_to_a_superblock_is_named_and_never_a_panic() {
        assert_eq!(Superblock::parse(&[0; 512]), Err(NotASuperblock::Signature));
        let whole: [u8; 512] = superblock(9).to_block()[..512].try_into().unwrap();
        for at in 0..512 {
            for value in [0, 1, 0x20, 0x7f, 0xff] {
                let mut bytes = whole;
                bytes[at] = value;
                if let Ok(parsed) = Superblock::parse(&bytes) {
                    parsed.size_bytes();
                }
            }
        }
    }

    #[test]
    fn the_size_of_a_tree_is_known_before_it_is_made() {
        for blocks in [1, 2, 128, 129, 300, 128 * 128 + 1] {
            let size = tree(&vec![0; blocks * BLOCK]).blocks.len() as u64 + BLOCK_BYTES;
            assert_eq!(superblock(blocks as u64).size_bytes(), size, "{blocks}");
        }
    }

    #[test]
    fn every_byte_of_the_data_changes_the_root_hash() {
        let mut bytes = vec![7; BLOCK * 300];
        let hash = tree(&bytes).root_hash;
        for at in [0, BLOCK * 128, BLOCK * 300 - 1] {
            bytes[at] ^= 1;
            assert_ne!(tree(&bytes).root_hash, hash, "{at}");
            bytes[at] ^= 1;
        }
        assert_eq!(tree(&bytes).root_hash, hash);
    }

    #[test]
    fn the_topmost_block_has_the_root_hash() {
        let tree = tree(&[7; BLOCK * 300]);
        assert_eq!(superblock(300).root_hash(&tree.blocks[..BLOCK]), tree.root_hash);
        assert!(superblock(1).hasher().tree(vec![]).is_none());
    }

    #[test]
    fn data_short_of_a_block_count_as_filled_with_zeros() {
        let mut bytes = vec![7; BLOCK + 5];
        let short = tree(&bytes);
        bytes.resize(2 * BLOCK, 0);
        assert_eq!(tree(&bytes), short);
    }
}
