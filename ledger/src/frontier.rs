//! The append-only edge of a Merkle tree: enough to add leaves and to know the root, and nothing more.

use std::marker::PhantomData;

use crate::hash::{Hash, TreeHash};

/// The roots of the full subtrees of a tree, greatest first: one for each one-bit of its size.
#[derive(Clone, Debug)]
pub struct Frontier<H> {
    size: u64,
    peaks: Vec<Hash>,
    hash: PhantomData<H>,
}

impl<H> PartialEq for Frontier<H> {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.peaks == other.peaks
    }
}

impl<H: TreeHash> Default for Frontier<H> {
    fn default() -> Self {
        Self { size: 0, peaks: Vec::new(), hash: PhantomData }
    }
}

impl<H: TreeHash> Frontier<H> {
    /// Restores a frontier of `size` leaves; `None` when the number of peaks cannot be that of such a tree.
    #[must_use]
    pub fn restore(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (u32::try_from(peaks.len()).ok()? == size.count_ones()).then_some(Self { size, peaks, hash: PhantomData })
    }

    /// Returns the number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the peaks, greatest subtree first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf hash and calls `completed(height, root)` for every full subtree that it closes, lowest first.
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(u32, Hash)) {
        let mut root = leaf;
        completed(0, root);
        for height in 1..=self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            root = H::node(&left, &root);
            completed(height, root);
        }
        self.peaks.push(root);
        self.size += 1;
    }

    /// Returns the root: RFC 6962 section 2.1.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return H::empty() };
        peaks.fold(*last, |right, left| H::node(left, &right))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
    use super::*;
    use crate::hash::{ContentHash, LogHash};

    fn naive<H: TreeHash>(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => H::empty(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                H::node(&naive::<H>(&leaves[..split]), &naive::<H>(&leaves[split..]))
            }
        }
    }

    fn root_equals_the_definition_for_every_size<H: TreeHash>() {
        let mut frontier = Frontier::<H>::default();
        let mut leaves = Vec::new();
        for n in 0..300_u64 {
            assert_eq!(frontier.root(), naive::<H>(&leaves), "size {n}");
            let leaf = H::leaf(&n.to_be_bytes());
            leaves.push(leaf);
            frontier.push(leaf, |_, _| ());
            let restored = Frontier::<H>::restore(frontier.size(), frontier.peaks().to_vec()).unwrap();
            assert_eq!(restored.root(), frontier.root());
        }
    }

    #[test]
    fn the_log_tree_has_the_shape_of_rfc_6962() {
        root_equals_the_definition_for_every_size::<LogHash>();
    }

    #[test]
    fn the_content_tree_has_the_shape_of_rfc_6962() {
        root_equals_the_definition_for_every_size::<ContentHash>();
    }

    #[test]
    fn push_reports_each_full_subtree_once() {
        let mut frontier = Frontier::<LogHash>::default();
        let mut full = [0_u64; 12];
        for n in 0..2048_u64 {
            frontier.push(LogHash::leaf(&n.to_be_bytes()), |height, _| full[height as usize] += 1);
        }
        for (height, count) in full.iter().enumerate() {
            assert_eq!(*count, 2048 >> height);
        }
    }

    #[test]
    fn a_frontier_with_the_wrong_number_of_peaks_is_refused() {
        assert!(Frontier::<LogHash>::restore(3, vec![Hash::ZERO]).is_none());
    }
}
