//! Where in an earlier image a segment's bytes are: pure, and only a proposal. What is proposed is
//! compressed, and the smallest wins.
//!
//! erofs puts files on blocks of 4096 bytes, and a file that did not change keeps its blocks, moved
//! by as much as everything in front of it grew. So blocks are looked up by their hash, and each one
//! that is found votes for the distance that it moved.

use std::collections::HashMap;

use payload::release::SOURCE_MAX_BYTES;
use sha2::{Digest as _, Sha256};

/// What is compared.
pub(crate) const BLOCK: usize = 4096;
/// How many places are proposed at most.
const PLACES_MAX: usize = 3;
/// Two places that are nearer to each other than this are one.
const NEAR: i64 = 1 << 20;

/// The blocks of an image, by content.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    image: &'a [u8],
    /// The first block with this content.
    blocks: HashMap<[u8; 16], u32>,
}

/// What to try for a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Proposal {
    /// It is there as it is.
    Copy { offset_bytes: u64 },
    /// It may be like one of these ranges: offset and length.
    Patch(Vec<(u64, u64)>),
}

impl<'a> Index<'a> {
    pub(crate) fn new(image: &'a [u8]) -> Self {
        let mut blocks = HashMap::new();
        for (number, block) in (0u32..).zip(image.chunks_exact(BLOCK)) {
            if !is_zero(block) {
                blocks.entry(hash(block)).or_insert(number);
            }
        }
        Self { image, blocks }
    }

    /// The bytes at `offset`.
    pub(crate) fn range(&self, offset: u64, length: u64) -> &'a [u8] {
        &self.image[offset as usize..(offset + length) as usize]
    }

    /// What to try for `segment`, which is at `offset` of its own image.
    pub(crate) fn propose(&self, segment: &[u8], offset: u64) -> Proposal {
        let mut moved: Vec<(i64, u32)> = self.votes(segment, offset).into_iter().collect();
        // Most votes first; the nearest first among those that have as many.
        moved.sort_unstable_by_key(|(by, votes)| (std::cmp::Reverse(*votes), by.abs(), *by));
        let mut places = vec![0];
        for (by, _) in moved {
            if places.len() < PLACES_MAX
                && places.iter().all(|place| by.abs_diff(*place) > NEAR as u64)
            {
                places.push(by);
            }
            if let Some(offset_bytes) = self.is_at(segment, offset as i64 + by) {
                return Proposal::Copy { offset_bytes };
            }
        }
        if let Some(offset_bytes) = self.is_at(segment, offset as i64) {
            return Proposal::Copy { offset_bytes };
        }
        let ranges = places.into_iter().filter_map(|by| self.around(segment, offset as i64 + by));
        let mut ranges: Vec<_> = ranges.collect();
        ranges.dedup();
        Proposal::Patch(ranges)
    }

    /// By how far its blocks moved, and how many by that.
    fn votes(&self, segment: &[u8], offset: u64) -> HashMap<i64, u32> {
        let mut votes = HashMap::new();
        for (number, block) in (0i64..).zip(segment.chunks_exact(BLOCK)) {
            if let Some(found) = self.blocks.get(&hash(block)) {
                let now = offset as i64 + number * BLOCK as i64;
                *votes.entry(i64::from(*found) * BLOCK as i64 - now).or_insert(0) += 1;
            }
        }
        votes
    }

    fn is_at(&self, segment: &[u8], place: i64) -> Option<u64> {
        let start = usize::try_from(place).ok()?;
        let found = self.image.get(start..start.checked_add(segment.len())?)?;
        (found == segment).then_some(start as u64)
    }

    /// As much as a patch may refer to, with `place` in its middle.
    fn around(&self, segment: &[u8], place: i64) -> Option<(u64, u64)> {
        let length = SOURCE_MAX_BYTES.min(self.image.len() as u64);
        let last = self.image.len() as u64 - length;
        let slack = (length as i64 - segment.len() as i64) / 2;
        let start = u64::try_from(place - slack).unwrap_or(0).min(last);
        (length > 0).then_some((start, length))
    }
}

fn hash(block: &[u8]) -> [u8; 16] {
    let hash = Sha256::digest(block);
    hash[..16].try_into().expect("32 bytes have 16")
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks that all differ, beginning with the one numbered `first`.
    fn blocks(first: u32, count: u32) -> Vec<u8> {
        (first..first + count).flat_map(|block| block.to_le_bytes().repeat(BLOCK / 4)).collect()
    }

    #[test]
    fn what_is_there_as_it_is_is_copied_wherever_it_moved() {
        let old = blocks(1, 3000);
        let index = Index::new(&old);
        let copy = |blocks: u64| Proposal::Copy { offset_bytes: blocks * BLOCK as u64 };
        assert_eq!(index.propose(&blocks(1, 100), 0), copy(0));
        assert_eq!(index.propose(&blocks(501, 100), 10 * BLOCK as u64), copy(500));
        assert_eq!(index.propose(&blocks(2901, 100), 0), copy(2900));
    }

    #[test]
    fn what_changed_is_looked_for_where_it_was_and_where_most_of_it_is() {
        let old = blocks(1, 8000);
        let index = Index::new(&old);
        let mut segment = blocks(5001, 1024);
        segment[100] ^= 1;
        assert_eq!(
            index.propose(&segment, 0),
            // In the middle of 8 MiB: 2 MiB on either side, where there are any.
            Proposal::Patch(vec![
                (0, SOURCE_MAX_BYTES),
                (5000 * BLOCK as u64 - (2 << 20), SOURCE_MAX_BYTES),
            ])
        );
    }

    #[test]
    fn an_image_that_is_smaller_than_a_range_is_proposed_whole() {
        let old = blocks(1, 3);
        let index = Index::new(&old);
        let range = (0, 3 * BLOCK as u64);
        assert_eq!(index.propose(&blocks(9, 1), 1 << 20), Proposal::Patch(vec![range]));
        assert_eq!(Index::new(&[]).propose(&blocks(9, 1), 0), Proposal::Patch(vec![]));
    }
}
