//! The map over all keys: a binary trie in which a subtree with one key is that key's leaf.

use thiserror::Error;

use super::key::KeyHash;
use crate::report::{Outcome, Refusal};

/// BLAKE3 `derive_key` context of a leaf of the map.
pub const MAP_LEAF_CONTEXT: &str = "proofline/v1 map leaf";
/// BLAKE3 `derive_key` context of an inner node of the map.
pub const MAP_NODE_CONTEXT: &str = "proofline/v1 map node";

/// What a subtree without keys is.
const EMPTY: [u8; 32] = [0; 32];
const BITS: usize = 256;

/// Why a key is not shown to have the list that is claimed, or not to have any.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// A hash has another length than 32 bytes, or the value of another key another than 40.
    #[error("a {what} has {bytes} bytes instead of {expected}")]
    Length {
        /// What it is.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// What it must be.
        expected: usize,
    },
    /// More hashes than a key has bits.
    #[error("the path has {0} hashes, a key has only 256 bits")]
    TooLong(usize),
    /// A present key with what belongs to an absent one, or the reverse.
    #[error("the proof of a key that is {0} has a part of the other kind")]
    StrayPart(&'static str),
    /// The other key could not stand where the absent one would.
    #[error("the other key does not stand where the absent one would")]
    OtherPlace,
    /// The proof leads to another root.
    #[error("the path does not lead to the root of the map that the commitment names")]
    OtherRoot,
}

impl Refusal for MapError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// What the map says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapValue {
    /// So many entries carry it, and this is the root of their list.
    Listed { count: u64, root: [u8; 32] },
    /// No entry carries it, and nothing stands where it would.
    Nothing,
    /// No entry carries it, and another key stands where it would.
    Other { key: KeyHash, value: [u8; 40] },
}

/// Checks that a path leads from what the map says of a key to the map's root.
pub(super) fn verify(of: &KeyHash, value: &MapValue, path: &[[u8; 32]], root: &[u8; 32]) -> Result<(), MapError> {
    if path.len() > BITS {
        return Err(MapError::TooLong(path.len()));
    }
    let begin = match value {
        MapValue::Listed { count, root } => leaf(of, &[&count.to_be_bytes()[..], root].concat()),
        MapValue::Nothing => EMPTY,
        MapValue::Other { key, .. } if key == of || !key.begins_like(of, path.len()) => return Err(MapError::OtherPlace),
        MapValue::Other { key, value } => leaf(key, value),
    };
    // The path has the leaf's side first: its last hash stands beside a child of the root.
    let folded = path.iter().zip((0..path.len()).rev()).fold(begin, |folded, (beside, depth)| match of.bit(depth) {
        0 => node(&folded, beside),
        _ => node(beside, &folded),
    });
    if folded == *root { Ok(()) } else { Err(MapError::OtherRoot) }
}

fn leaf(key: &KeyHash, value: &[u8]) -> [u8; 32] {
    blake3::Hasher::new_derive_key(MAP_LEAF_CONTEXT).update(&key.0).update(value).finalize().into()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    blake3::Hasher::new_derive_key(MAP_NODE_CONTEXT).update(left).update(right).finalize().into()
}

/// Takes bytes as a part of fixed length.
pub(super) fn exactly<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], MapError> {
    bytes.try_into().map_err(|_| MapError::Length { what, bytes: bytes.len(), expected: N })
}
