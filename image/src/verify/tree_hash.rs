//! dm-verity's hash tree, computed again from the data with every processor.
//!
//! `veritysetup` made the tree that is on the disk; this says what it has to be, so that a
//! difference can be called by its block.

use std::{fs::File, io, os::unix::fs::FileExt, thread};

use layout::verity::{BLOCK_BYTES, Hasher, Tree};

const HASHES_PER_BLOCK: u64 = BLOCK_BYTES / 32;
/// Bytes that a thread reads at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Computes the tree of `blocks` blocks of `data` from byte `start`, with every processor.
/// `done` is told bytes so far, by the first of them.
pub fn compute(
    data: &File,
    start: u64,
    blocks: u64,
    salt: &[u8],
    done: &(dyn Fn(u64) + Sync),
) -> io::Result<Tree> {
    let hasher = Hasher::new(salt);
    let hashes = hash_data(data, start, blocks, &hasher, done)?;
    hasher.tree(hashes).ok_or_else(|| io::Error::other("there are no blocks of data"))
}

fn hash_data(
    data: &File,
    start: u64,
    blocks: u64,
    hasher: &Hasher,
    done: &(dyn Fn(u64) + Sync),
) -> io::Result<Vec<u8>> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = blocks.div_ceil(threads).max(1);
    let one = |thread: u64| -> io::Result<Vec<u8>> {
        let (first, last) = (thread * share, ((thread + 1) * share).min(blocks));
        let mut hashes = Vec::with_capacity(last.saturating_sub(first) as usize * 32);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = start + first * BLOCK_BYTES;
        let end = start + last * BLOCK_BYTES;
        while at < end {
            let part = &mut chunk[..CHUNK_BYTES.min((end - at) as usize)];
            data.read_exact_at(part, at)?;
            hasher.hash(part, &mut hashes);
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
        let mut all = Vec::with_capacity(blocks as usize * 32);
        for share in shares {
            all.extend(share.join().expect("it does not panic")?);
        }
        Ok(all)
    })
}

/// What the first difference between a stored tree and a computed one is about. The hashes of
/// data are looked at first: everything above them follows from them.
pub fn first_difference(stored: &[u8], computed: &Tree, data_blocks: u64) -> Option<String> {
    let leaves = data_blocks.div_ceil(HASHES_PER_BLOCK) * BLOCK_BYTES;
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
