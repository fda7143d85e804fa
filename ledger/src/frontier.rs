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

/// Nodes of one height that stand side by side.
struct Level {
    /// Which the first of them is.
    first: u64,
    nodes: Vec<Hash>,
}

impl Level {
    fn get(&self, number: u64) -> Option<Hash> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.nodes.get(at).copied()
    }
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

    /// Adds leaf hashes, level by level, so that the nodes of a level are hashed side by side. Calls
    /// `completed(height, number, root)` for every full subtree that they close, lowest first; subtrees of a height are numbered
    /// from the left.
    pub fn extend(&mut self, leaves: Vec<Hash>, completed: impl FnMut(u32, u64, Hash)) {
        self.grow(leaves, completed);
    }

    /// Adds leaf hashes as [`Self::extend`] does, and returns the root of the tree after each of them.
    pub fn extend_with_roots(&mut self, leaves: Vec<Hash>, completed: impl FnMut(u32, u64, Hash)) -> Vec<Hash> {
        let before = Self { size: self.size, peaks: self.peaks.clone(), hash: PhantomData };
        let levels = self.grow(leaves, completed);
        let mut roots = vec![None; usize::try_from(self.size - before.size).unwrap_or_default()];
        for height in 0..u64::BITS - self.size.leading_zeros() {
            // The peaks of this height, and of those roots that are begun already what stands to the right of it.
            let (mut begun, mut children) = (Vec::new(), Vec::new());
            for (size, root) in (before.size + 1..).zip(&mut roots).filter(|(size, _)| size >> height & 1 == 1) {
                let peak = levels.get(height as usize).and_then(|level| level.get((size >> height) - 1));
                let Some(peak) = peak.or_else(|| before.peak(height)) else { continue };
                match root {
                    None => *root = Some(peak),
                    Some(right) => {
                        children.extend([peak, *right]);
                        begun.push(root);
                    }
                }
            }
            for (root, node) in begun.into_iter().zip(H::nodes(&children)) {
                *root = Some(node);
            }
        }
        roots.into_iter().flatten().collect()
    }

    /// Adds leaf hashes and returns the nodes of every level that they reach.
    fn grow(&mut self, leaves: Vec<Hash>, mut completed: impl FnMut(u32, u64, Hash)) -> Vec<Level> {
        let (mut levels, mut height) = (Vec::new(), 0);
        let (mut level, mut rest) = (Level { first: self.size, nodes: leaves }, Vec::new());
        self.size += level.nodes.len() as u64;
        while !level.nodes.is_empty() {
            (level.first..).zip(&level.nodes).for_each(|(number, root)| completed(height, number, *root));
            if !level.first.is_multiple_of(2)
                && let Some(left) = self.peaks.pop()
            {
                level.nodes.insert(0, left);
                level.first -= 1;
            }
            let (pairs, odd) = level.nodes.split_at(level.nodes.len() / 2 * 2);
            rest.extend(odd);
            let above = Level { first: level.first / 2, nodes: H::nodes(pairs) };
            levels.push(std::mem::replace(&mut level, above));
            height += 1;
        }
        self.peaks.extend(rest.iter().rev());
        levels
    }

    /// Returns the root of the full subtree of a height, where the tree ends in one.
    fn peak(&self, height: u32) -> Option<Hash> {
        let greater = self.size.checked_shr(height + 1).unwrap_or_default().count_ones();
        self.peaks.get(greater as usize).copied()
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
    use std::collections::BTreeMap;

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

    fn leaves_together_are_leaves_one_by_one<H: TreeHash>() {
        let leaves: Vec<Hash> = (0..200_u64).map(|n| H::leaf(&n.to_be_bytes())).collect();
        for size in 0..40 {
            for more in (0..40).chain([63, 64, 65, 127, 160]) {
                let mut one_by_one = Frontier::<H>::default();
                leaves[..size].iter().for_each(|leaf| one_by_one.push(*leaf, |_, _| ()));
                let copy = |of: &Frontier<H>| Frontier::<H>::restore(of.size(), of.peaks().to_vec()).unwrap();
                let (mut together, mut with_roots) = (copy(&one_by_one), copy(&one_by_one));
                let (mut closed, mut closed_together, mut roots) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
                let more = leaves[size..size + more].to_vec();
                for (behind, leaf) in (size + 1..).zip(&more) {
                    one_by_one.push(*leaf, |height, root| {
                        closed.insert((height, (behind as u64 >> height) - 1), root);
                    });
                    roots.push(one_by_one.root());
                }
                together.extend(more.clone(), |height, number, root| {
                    assert_eq!(closed_together.insert((height, number), root), None);
                });
                assert_eq!(closed_together, closed, "{} behind {size}", more.len());
                assert_eq!(with_roots.extend_with_roots(more.clone(), |_, _, _| ()), roots, "{} behind {size}", more.len());
                assert!(together == one_by_one && with_roots == one_by_one, "{} behind {size}", more.len());
            }
        }
    }

    #[test]
    fn leaves_together_are_leaves_one_by_one_in_both_kinds_of_tree() {
        leaves_together_are_leaves_one_by_one::<LogHash>();
        leaves_together_are_leaves_one_by_one::<ContentHash>();
    }

    #[test]
    fn a_frontier_with_the_wrong_number_of_peaks_is_refused() {
        assert!(Frontier::<LogHash>::restore(3, vec![Hash::ZERO]).is_none());
    }
}
