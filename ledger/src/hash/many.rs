//! Many hashes under one context at once: BLAKE3 compresses up to sixteen inputs side by side in little more than the time of one.
//!
//! Always true: each is what [`blake3::Hasher`] makes of that input alone. How the library compresses side by side it does not
//! promise to keep, so its version is pinned, and a test compares the two.

use blake3::IncrementCounter;
use blake3::hazmat::ContextKey;
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};

use super::Hash;

// Section 2.2 of the BLAKE3 paper: what a block is.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const DERIVE_KEY_MATERIAL: u8 = 1 << 6;

const BLOCK: usize = 64;
/// What is longer is a tree of its own, which the library hashes side by side by itself.
const CHUNK: usize = 16 * BLOCK;

/// One context, under which inputs are hashed side by side.
pub(super) struct SideBySide {
    key: ContextKey,
    words: [u32; 8],
    platform: Platform,
}

impl SideBySide {
    pub(super) fn new(key: &ContextKey) -> Self {
        Self { key: *key, words: words_from_le_bytes_32(key), platform: Platform::detect() }
    }

    /// Hashes inputs of one block, each made of two halves.
    pub(super) fn blocks(&self, inputs: &[[Hash; 2]]) -> Vec<Hash> {
        let blocks: Vec<[u8; BLOCK]> = inputs.iter().map(block).collect();
        self.full::<BLOCK>(&blocks.iter().collect::<Vec<_>>(), CHUNK_END | ROOT)
    }

    /// Hashes inputs of any length.
    pub(super) fn texts(&self, inputs: &[impl AsRef<[u8]>]) -> Vec<Hash> {
        let mut hashes = vec![Hash::ZERO; inputs.len()];
        // Those of one number of blocks before the last one go side by side.
        let mut by_blocks: [Vec<usize>; CHUNK / BLOCK] = Default::default();
        for (at, (input, hash)) in inputs.iter().zip(&mut hashes).enumerate() {
            let input = input.as_ref();
            match by_blocks.get_mut(input.len().saturating_sub(1) / BLOCK) {
                Some(alike) => alike.push(at),
                None => *hash = super::keyed(&self.key, &[input]),
            }
        }
        for (blocks, alike) in by_blocks.iter().enumerate().filter(|(_, alike)| !alike.is_empty()) {
            let of: Vec<&[u8]> = alike.iter().filter_map(|at| inputs.get(*at)).map(AsRef::as_ref).collect();
            for (at, hash) in alike.iter().zip(self.of_blocks(blocks, &of)) {
                if let Some(place) = hashes.get_mut(*at) {
                    *place = hash;
                }
            }
        }
        hashes
    }

    /// Hashes inputs that have `blocks` full blocks before their last one.
    fn of_blocks(&self, blocks: usize, inputs: &[&[u8]]) -> Vec<Hash> {
        macro_rules! side_by_side {
            ($($count:literal)*) => {
                match blocks {
                    $($count => self.beginnings::<{ $count * BLOCK }>(inputs),)*
                    _ => vec![Hash(self.key); inputs.len()],
                }
            };
        }
        let begun = side_by_side!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        let start = if blocks == 0 { CHUNK_START } else { 0 };
        begun.iter().zip(inputs).map(|(begun, input)| self.last(begun, input.get(blocks * BLOCK..).unwrap_or_default(), start)).collect()
    }

    /// Compresses the first `N` bytes of each input, which go on behind them.
    fn beginnings<const N: usize>(&self, inputs: &[&[u8]]) -> Vec<Hash> {
        self.full::<N>(&inputs.iter().filter_map(|input| input.first_chunk()).collect::<Vec<_>>(), 0)
    }

    fn full<const N: usize>(&self, inputs: &[&[u8; N]], end: u8) -> Vec<Hash> {
        let mut out = vec![0; inputs.len() * 32];
        self.platform.hash_many(inputs, &self.words, 0, IncrementCounter::No, DERIVE_KEY_MATERIAL, CHUNK_START, end, &mut out);
        let (hashes, _) = out.as_chunks();
        hashes.iter().copied().map(Hash).collect()
    }

    fn last(&self, begun: &Hash, rest: &[u8], start: u8) -> Hash {
        let mut block = [0; BLOCK];
        let mut words = words_from_le_bytes_32(&begun.0);
        block.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
        let length = u8::try_from(rest.len()).unwrap_or_default();
        self.platform.compress_in_place(&mut words, &block, length, 0, DERIVE_KEY_MATERIAL | start | CHUNK_END | ROOT);
        Hash(le_bytes_from_words_32(&words))
    }
}

fn block([left, right]: &[Hash; 2]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (first, second) = block.split_at_mut(32);
    first.copy_from_slice(&left.0);
    second.copy_from_slice(&right.0);
    block
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::hash::{ContentHash, TreeHash as _, keyed};

    const KEY: ContextKey = [7; 32];

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + length) as u8).collect()
    }

    #[test]
    fn a_text_of_every_length_is_hashed_as_it_is_alone() {
        let texts: Vec<_> = (0..=CHUNK + 2 * BLOCK).map(text).collect();
        let alone: Vec<_> = texts.iter().map(|text| keyed(&KEY, &[text])).collect();
        assert_eq!(SideBySide::new(&KEY).texts(&texts), alone);
    }

    #[test]
    fn leaves_and_nodes_side_by_side_are_those_of_the_tree() {
        let leaves: Vec<_> = (0..100).map(|number| ContentHash::leaf(&text(300 + number))).collect();
        assert_eq!(ContentHash::leaves(&(0..100).map(|number| text(300 + number)).collect::<Vec<_>>()), leaves);
        let nodes: Vec<_> = leaves.chunks(2).map(|pair| ContentHash::node(&pair[0], &pair[1])).collect();
        assert_eq!(ContentHash::nodes(&leaves), nodes);
    }

    proptest! {
        #[test]
        fn however_many_there_are_each_is_hashed_as_it_is_alone(lengths in prop::collection::vec(0..CHUNK + BLOCK, 0..70)) {
            let texts: Vec<_> = lengths.into_iter().map(text).collect();
            let alone: Vec<_> = texts.iter().map(|text| keyed(&KEY, &[text])).collect();
            prop_assert_eq!(SideBySide::new(&KEY).texts(&texts), alone);
        }
    }
}
