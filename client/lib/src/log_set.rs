//! One proof for several entries of an older log tree, from the single proofs of newer ones.
//!
//! A subtree whose leaves are all in the older tree is the same node in every newer one. What is ragged at the older tree's
//! right edge is folded from its complete subtrees, which a consistency proof has. Nothing is verified here.

use std::collections::{BTreeMap, BTreeSet};

use proofline_verifier::{LogHash, TreeHash as _, TreeSize};

/// Nodes of a log tree of one size, each by its first leaf and its number of leaves.
#[derive(Debug)]
pub(crate) struct LogSet {
    size: u64,
    nodes: BTreeMap<(u64, u64), LogHash>,
}

impl LogSet {
    /// Begins without any node.
    pub(crate) fn new(size: TreeSize) -> Self {
        Self { size: size.0, nodes: BTreeMap::new() }
    }

    /// Takes the nodes of an inclusion path in a tree of another size. A path of a wrong length adds nothing.
    pub(crate) fn add_path(&mut self, index: u64, size: TreeSize, path: &[LogHash]) {
        let (mut first, mut count, mut beside) = (0, size.0, Vec::new());
        while count > 1 {
            let left = left_count(count);
            if index < first + left {
                beside.push((first + left, count - left));
                count = left;
            } else {
                beside.push((first, left));
                (first, count) = (first + left, count - left);
            }
        }
        if beside.len() == path.len() {
            // The path has the leaf's side first.
            let known = beside.into_iter().rev().zip(path.iter().copied());
            let (own, newer) = (self.size, size.0);
            self.nodes.extend(known.filter(|((first, count), _)| newer == own || (first + count <= own && count.is_power_of_two())));
        }
    }

    /// Takes the complete subtrees of this tree from a proof that a newer one continues it.
    pub(crate) fn add_consistency(&mut self, newer: TreeSize, path: &[LogHash]) {
        if self.size == 0 || self.size >= newer.0 || self.size.is_power_of_two() {
            return;
        }
        let (mut node, mut last) = (self.size - 1, newer.0 - 1);
        let shift = node.trailing_ones();
        (node, last) = (node >> shift, last >> shift);
        let Some((start, rest)) = path.split_first() else { return };
        // From right to left: the smallest complete subtree first.
        let mut complete = vec![*start];
        for hash in rest {
            if node % 2 == 1 || node == last {
                complete.push(*hash);
                while node % 2 == 0 && node != 0 {
                    (node, last) = (node >> 1, last >> 1);
                }
            }
            (node, last) = (node >> 1, last >> 1);
        }
        let mut behind = self.size;
        for (bit, hash) in (0..u64::BITS).filter(|bit| self.size >> bit & 1 == 1).zip(complete) {
            behind -= 1 << bit;
            self.nodes.insert((behind, 1 << bit), hash);
        }
    }

    /// Returns the set proof of these entries; nothing when a node is missing.
    pub(crate) fn proof(&self, listed: &BTreeSet<u64>) -> Option<Vec<LogHash>> {
        let mut proof = Vec::new();
        self.prove(0, self.size, listed, &mut proof)?;
        Some(proof)
    }

    fn prove(&self, first: u64, count: u64, listed: &BTreeSet<u64>, proof: &mut Vec<LogHash>) -> Option<()> {
        if listed.range(first..first + count).next().is_none() {
            proof.push(self.node(first, count)?);
            return Some(());
        }
        if count == 1 {
            return Some(());
        }
        let left = left_count(count);
        self.prove(first, left, listed, proof)?;
        self.prove(first + left, count - left, listed, proof)
    }

    fn node(&self, first: u64, count: u64) -> Option<LogHash> {
        if let Some(known) = self.nodes.get(&(first, count)) {
            return Some(*known);
        }
        if count.is_power_of_two() {
            return None;
        }
        let left = left_count(count);
        Some(LogHash::node(&self.node(first, left)?, &self.node(first + left, count - left)?))
    }
}

/// The largest power of two that is smaller than a number of leaves.
fn left_count(of: u64) -> u64 {
    1 << (u64::BITS - 1 - (of - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proofline_verifier::{LeafIndex, fold_set};

    fn leaf(index: u64) -> LogHash {
        LogHash::leaf(&index.to_be_bytes())
    }

    fn root(first: u64, count: u64) -> LogHash {
        match count {
            1 => leaf(first),
            _ => LogHash::node(&root(first, left_count(count)), &root(first + left_count(count), count - left_count(count))),
        }
    }

    fn path(index: u64, first: u64, count: u64) -> Vec<LogHash> {
        if count == 1 {
            return Vec::new();
        }
        let left = left_count(count);
        let (mut path, beside) = if index < first + left {
            (path(index, first, left), root(first + left, count - left))
        } else {
            (path(index, first + left, count - left), root(first, left))
        };
        path.push(beside);
        path
    }

    fn consistency(older: u64, first: u64, count: u64, is_known: bool) -> Vec<LogHash> {
        if older == count {
            return if is_known { Vec::new() } else { vec![root(first, count)] };
        }
        let left = left_count(count);
        let (mut proof, beside) = if older <= left {
            (consistency(older, first, left, is_known), root(first + left, count - left))
        } else {
            (consistency(older - left, first + left, count - left, false), root(first, left))
        };
        proof.push(beside);
        proof
    }

    #[test]
    fn single_proofs_of_a_newer_tree_make_one_of_an_older_tree() {
        for size in 1..20_u64 {
            for newer in size..24 {
                for listed in [vec![0], vec![0, size / 2], vec![0, size / 3, size - 1]] {
                    let listed: BTreeSet<u64> = listed.into_iter().collect();
                    let mut set = LogSet::new(TreeSize(size));
                    listed.iter().for_each(|index| set.add_path(*index, TreeSize(newer), &path(*index, 0, newer)));
                    set.add_consistency(TreeSize(newer), &consistency(size, 0, newer, true));
                    let leaves: Vec<_> = listed.iter().map(|index| (LeafIndex(*index), leaf(*index))).collect();
                    let proof = set.proof(&listed).unwrap();
                    assert_eq!(fold_set(TreeSize(size), &leaves, &proof), Ok(root(0, size)), "{listed:?} of {size} from {newer}");
                }
            }
        }
    }
}
