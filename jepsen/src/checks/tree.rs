//! The hash tree over a log, built once: the root at any size is a few hashes away.

use proofline_verifier::{LogHash, TreeHash as _};

use crate::history::Digest;

/// Every whole subtree: first the leaves, then pairs of them, then pairs of those.
#[derive(Debug, Default)]
pub(super) struct Tree {
    levels: Vec<Vec<LogHash>>,
}

impl Tree {
    pub(super) fn over(leaves: impl Iterator<Item = LogHash>) -> Self {
        let mut levels = vec![leaves.collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let pairs = below.chunks_exact(2);
            levels.push(
                pairs.filter_map(|pair| pair.split_first().zip(pair.last())).map(|((left, _), right)| LogHash::node(left, right)).collect(),
            );
        }
        Self { levels }
    }

    /// Returns the root over the first leaves; none when there are fewer.
    pub(super) fn root(&self, size: u64) -> Option<Digest> {
        let size = usize::try_from(size).ok()?;
        if size > self.levels.first().map_or(0, Vec::len) {
            return None;
        }
        // The rightmost subtree is the smallest: its height is the lowest bit that is set.
        let mut root: Option<LogHash> = None;
        for (height, level) in self.levels.iter().enumerate() {
            let count = size >> height;
            if count & 1 == 1 {
                let left = level.get(count - 1)?;
                root = Some(root.map_or(*left, |right| LogHash::node(left, &right)));
            }
        }
        Some(Digest(*root.unwrap_or_else(LogHash::empty).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proofline_verifier::Frontier;

    use super::*;

    #[test]
    fn every_root_is_that_of_the_leaves_one_after_the_other() {
        let leaves: Vec<LogHash> = (0..70_u8).map(|leaf| LogHash::leaf(&[leaf])).collect();
        let (tree, mut frontier) = (Tree::over(leaves.iter().copied()), Frontier::<LogHash>::default());
        for (size, leaf) in (0..).zip(&leaves) {
            assert_eq!(tree.root(size), Some(Digest(*frontier.root().as_bytes())), "{size}");
            frontier.push(*leaf);
        }
        assert_eq!(tree.root(70), Some(Digest(*frontier.root().as_bytes())));
        assert_eq!((tree.root(71), Tree::over([].into_iter()).root(0).is_some()), (None, true));
    }
}
