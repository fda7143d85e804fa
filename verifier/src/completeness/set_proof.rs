//! One proof for several leaves of one tree.

use thiserror::Error;

use crate::coordinate::{LeafIndex, TreeSize};
use crate::hash::TreeHash;
use crate::report::{Outcome, Refusal};
use crate::tree::TreeError;

/// Why a set proof does not prove what it should.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetProofError {
    /// Nothing is listed.
    #[error("a set proof is about one leaf at least")]
    NoLeaf,
    /// The listed positions do not rise.
    #[error("leaf {0} does not stand behind the one before it")]
    NotRising(LeafIndex),
    /// A leaf lies outside the tree.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    BeyondSize {
        /// Leaf that is listed.
        index: LeafIndex,
        /// Leaves in the tree.
        size: TreeSize,
    },
    /// The proof ends before the root is known.
    #[error("the set proof of {0} hashes is too short")]
    TooShort(usize),
    /// Hashes are left over.
    #[error("the set proof of {0} hashes is too long")]
    TooLong(usize),
    /// A hash is malformed, or the root is another.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Refusal for SetProofError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// Returns the root that the listed leaves and the hashes beside them lead to.
///
/// Positions rise strictly; the hashes are those of the subtrees without a listed leaf, from left to right.
///
/// # Errors
/// [`SetProofError`] when positions and size demand another number of hashes, or are none of a tree.
pub fn fold_set<H: TreeHash>(size: TreeSize, leaves: &[(LeafIndex, H)], path: &[H]) -> Result<H, SetProofError> {
    let (last, _) = leaves.last().ok_or(SetProofError::NoLeaf)?;
    if let Some((_, (index, _))) = leaves.iter().zip(leaves.iter().skip(1)).find(|((one, _), (next, _))| one >= next) {
        return Err(SetProofError::NotRising(*index));
    }
    if last.0 >= size.0 {
        return Err(SetProofError::BeyondSize { index: *last, size });
    }
    let mut beside = path.iter();
    let root = subtree(0, size.0, leaves, &mut beside).ok_or(SetProofError::TooShort(path.len()))?;
    if beside.next().is_some() { Err(SetProofError::TooLong(path.len())) } else { Ok(root) }
}

/// The hash of the subtree over `leaves_count` leaves from `first` on, of which `listed` are in it. At most 64 levels deep.
fn subtree<'a, H: TreeHash + 'a>(
    first: u64,
    leaves_count: u64,
    listed: &[(LeafIndex, H)],
    beside: &mut impl Iterator<Item = &'a H>,
) -> Option<H> {
    let Some((_, leaf)) = listed.first() else { return beside.next().copied() };
    if leaves_count == 1 {
        return Some(*leaf);
    }
    // The largest power of two that is smaller than the number of leaves.
    let left_count = 1 << (u64::BITS - 1 - (leaves_count - 1).leading_zeros());
    let middle = first + left_count;
    let (left, right) = listed.split_at(listed.partition_point(|(index, _)| index.0 < middle));
    let left = subtree(first, left_count, left, beside)?;
    let right = subtree(middle, leaves_count - left_count, right, beside)?;
    Some(H::node(&left, &right))
}
