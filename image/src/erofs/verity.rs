//! dm-verity's hash tree (superblock version 1, `normal` hashes): SHA-256 over blocks of 4096
//! bytes, salt first. veritysetup makes it; [`root_hash`] computes the same again in a second
//! implementation, so that neither is trusted alone.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use layout::RootHash;
use sha2::{Digest, Sha256};

use super::{BLOCK_BYTES, Error, Request, remove_old};
use crate::tree;

/// Writes the hash tree of `request.out` to `request.verity_out`.
pub(super) fn format(request: &Request<'_>) -> Result<RootHash, Error> {
    let Request { out, verity_out, verity_salt, verity_uuid, bin, .. } = *request;
    remove_old(verity_out)?;
    let mut veritysetup = tree::program(bin, "veritysetup");
    veritysetup.arg("format").arg("--hash=sha256").arg("--format=1");
    veritysetup.arg(format!("--data-block-size={BLOCK_BYTES}"));
    veritysetup.arg(format!("--hash-block-size={BLOCK_BYTES}"));
    veritysetup.arg(format!("--salt={}", hex::encode(verity_salt)));
    veritysetup.arg(format!("--uuid={verity_uuid}")).arg(out).arg(verity_out);
    let said = tree::run(&mut veritysetup)?;
    let line = said.lines().find_map(|line| line.strip_prefix("Root hash:"));
    let hash = line.and_then(|hash| hash.trim().parse().ok());
    hash.ok_or(Error::NoRootHash { said })
}

/// The root hash of a file's blocks.
pub fn root_hash(data: &Path, salt: &[u8]) -> io::Result<RootHash> {
    const DIGESTS_PER_BLOCK: usize = BLOCK_BYTES as usize / 32;
    let salted = Sha256::new_with_prefix(salt);
    let digest = |block: &[u8]| salted.clone().chain_update(block).finalize();
    let (mut file, mut level) = (File::open(data)?, vec![]);
    // A whole number of blocks, so that no block is split between two reads.
    let mut chunk = vec![0; 256 * BLOCK_BYTES as usize];
    loop {
        let read = read_full(&mut file, &mut chunk)?;
        let filled = read.next_multiple_of(BLOCK_BYTES as usize);
        chunk[read..filled].fill(0);
        for block in chunk[..filled].chunks(BLOCK_BYTES as usize) {
            level.extend(digest(block));
        }
        if read < chunk.len() {
            break;
        }
    }
    while level.len() > 32 {
        let mut above = vec![];
        for digests in level.chunks(DIGESTS_PER_BLOCK * 32) {
            let mut block = [0; BLOCK_BYTES as usize];
            block[..digests.len()].copy_from_slice(digests);
            above.extend(digest(&block));
        }
        level = above;
    }
    let hash = level.try_into().map_err(|_| io::Error::other("the file is empty"))?;
    Ok(RootHash(hash))
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..])? {
            0 => break,
            some => read += some,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        root_hash(file.path(), &[0x5a; 32]).unwrap().to_string()
    }

    #[test]
    fn every_byte_of_the_data_changes_the_root_hash() {
        let mut bytes = vec![7; 4096 * 300];
        let hash = hash_of(&bytes);
        for at in [0, 4096 * 128, 4096 * 300 - 1] {
            bytes[at] ^= 1;
            assert_ne!(hash_of(&bytes), hash, "{at}");
            bytes[at] ^= 1;
        }
        assert_eq!(hash_of(&bytes), hash);
    }
}
