//! One proof for several leaves of one tree: docs/FORMATS.md, section 17.2.

use crate::hash::{ContentHash, Hash, TreeHash as _};
use crate::store::StoreFault;

/// Leaves `first..first + count` of a tree: aligned to their number, or the right edge of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Subtree {
    /// Splits at the largest power of two below the count. Only for two leaves and more.
    pub(crate) fn split(self) -> (Self, Self) {
        let left = 1 << (self.count - 1).ilog2();
        (Self { count: left, ..self }, Self { first: self.first + left, count: self.count - left })
    }
}

/// Returns the hashes that, with those of the `listed` leaves, make the root of a tree of `leaves`. `listed` rises strictly and
/// stays below `leaves`; for an empty list there is no proof, and none is made.
///
/// # Errors
/// What `hash`, which gives the root of a subtree, fails with.
pub(crate) fn set_proof<F>(leaves: u64, listed: &[u64], hash: &mut F) -> Result<Vec<Hash>, StoreFault>
where
    F: FnMut(Subtree) -> Result<Hash, StoreFault>,
{
    let mut path = Vec::new();
    if !listed.is_empty() {
        descend(Subtree { first: 0, count: leaves }, listed, hash, &mut path)?;
    }
    Ok(path)
}

fn descend<F>(of: Subtree, listed: &[u64], hash: &mut F, path: &mut Vec<Hash>) -> Result<(), StoreFault>
where
    F: FnMut(Subtree) -> Result<Hash, StoreFault>,
{
    if listed.is_empty() {
        path.push(hash(of)?);
        return Ok(());
    }
    if of.count <= 1 {
        return Ok(());
    }
    let (left, right) = of.split();
    let (in_left, in_right) = listed.split_at(listed.partition_point(|position| *position < right.first));
    descend(left, in_left, hash, path)?;
    descend(right, in_right, hash, path)
}

/// Returns the root over leaf hashes that are at hand; `None` over none.
pub(crate) fn root_over(leaves: &[Hash]) -> Option<Hash> {
    match leaves {
        [] => None,
        [one] => Some(*one),
        _ => {
            let middle = 1 << (leaves.len() - 1).ilog2();
            let (left, right) = leaves.split_at(middle);
            Some(ContentHash::node(&root_over(left)?, &root_over(right)?))
        }
    }
}
