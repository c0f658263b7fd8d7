//! dm-verity's hash tree, computed: what a machine writes beside a `/usr` that it put together.
//!
//! The layout is veritysetup's: a superblock of one block, then the levels, the top one first. Each
//! block of a level holds the hashes (salted SHA-256) of 128 blocks of the level below.

use layout::RootHash;
use sha2::{Digest as _, Sha256};

use crate::release::Verity;

/// Block of the data and of the tree.
pub const BLOCK_BYTES: usize = 4096;
const PER_BLOCK: usize = BLOCK_BYTES / 32;

/// A tree that is being computed, block by block.
#[derive(Debug)]
pub struct Builder {
    verity: Verity,
    /// Hashes of the data blocks so far, 32 bytes each.
    leaves: Vec<u8>,
    /// The start of a block that is not whole yet.
    rest: Vec<u8>,
}

/// A tree.
#[derive(Debug)]
pub struct Tree {
    /// The name of the data under it.
    pub root_hash: RootHash,
    /// What belongs into the hash partition, superblock first.
    pub bytes: Vec<u8>,
}

impl Builder {
    /// A tree over nothing yet.
    pub fn new(verity: &Verity) -> Self {
        Self { verity: verity.clone(), leaves: Vec::new(), rest: Vec::new() }
    }

    /// More data, in any portions.
    pub fn write(&mut self, mut data: &[u8]) {
        if !self.rest.is_empty() {
            let missing = (BLOCK_BYTES - self.rest.len()).min(data.len());
            self.rest.extend_from_slice(&data[..missing]);
            data = &data[missing..];
            if self.rest.len() < BLOCK_BYTES {
                return;
            }
            let block = std::mem::take(&mut self.rest);
            self.leaf(&block);
        }
        let blocks = data.chunks_exact(BLOCK_BYTES);
        self.rest.extend_from_slice(blocks.remainder());
        blocks.for_each(|block| self.leaf(block));
    }

    /// The tree over all of it. A last block that is not whole is filled up with zeros.
    pub fn finish(mut self) -> Tree {
        if !self.rest.is_empty() {
            let mut block = std::mem::take(&mut self.rest);
            block.resize(BLOCK_BYTES, 0);
            self.leaf(&block);
        }
        let data_blocks = (self.leaves.len() / 32) as u64;
        let mut hashes = std::mem::take(&mut self.leaves);
        let mut levels = Vec::new();
        while hashes.len() > 32 {
            hashes.resize(hashes.len().next_multiple_of(PER_BLOCK * 32), 0);
            let above =
                hashes.chunks_exact(BLOCK_BYTES).flat_map(|block| self.hash(block)).collect();
            levels.push(std::mem::replace(&mut hashes, above));
        }
        let root_hash = RootHash(hashes.try_into().unwrap_or_else(|_| self.hash(&[])));
        let mut bytes = self.superblock(data_blocks);
        levels.iter().rev().for_each(|level| bytes.extend_from_slice(level));
        Tree { root_hash, bytes }
    }

    fn leaf(&mut self, block: &[u8]) {
        let hash = self.hash(block);
        self.leaves.extend_from_slice(&hash);
    }

    fn hash(&self, block: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.verity.salt).chain_update(block).finalize().into()
    }

    fn superblock(&self, data_blocks: u64) -> Vec<u8> {
        let block = BLOCK_BYTES as u32;
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(b"verity\0\0");
        bytes.extend_from_slice(&1u32.to_le_bytes()); // version of the superblock
        bytes.extend_from_slice(&1u32.to_le_bytes()); // the hash type that salts in front
        bytes.extend_from_slice(self.verity.uuid.as_bytes());
        bytes.extend_from_slice(b"sha256");
        bytes.resize(64, 0);
        bytes.extend_from_slice(&block.to_le_bytes());
        bytes.extend_from_slice(&block.to_le_bytes());
        bytes.extend_from_slice(&data_blocks.to_le_bytes());
        bytes.extend_from_slice(&(self.verity.salt.len() as u16).to_le_bytes());
        bytes.resize(88, 0);
        bytes.extend_from_slice(&self.verity.salt);
        bytes.resize(BLOCK_BYTES, 0);
        bytes
    }
}

#[cfg(test)]
mod tests;
