//! Every tree up to 130 leaves against the recursive definitions, and every way to bend a path.

use proofline_verifier::{
    ContentHash, Frontier, LeafIndex, LogHash, TreeError, TreeHash, TreeHead, TreeSize, fold_path, parse_path, verify_consistency,
    verify_inclusion,
};

use crate::naive::{CONTENT, Hash, LOG, Naive};

const LEAVES: usize = 130;

fn contents(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("leaf {number}").into_bytes()).collect()
}

fn typed<H: TreeHash>(hashes: &[Hash]) -> Vec<H> {
    hashes.iter().map(|hash| H::from_bytes(*hash)).collect()
}

fn includes<H: TreeHash>(leaf: Hash, index: usize, size: usize, root: Hash, path: &[Hash]) -> Result<(), TreeError> {
    verify_inclusion(H::from_bytes(leaf), LeafIndex(index as u64), TreeSize(size as u64), H::from_bytes(root), &typed(path))
}

fn head<H: TreeHash>(size: usize, root: Hash) -> TreeHead<H> {
    TreeHead { size: TreeSize(size as u64), root: H::from_bytes(root) }
}

fn every_inclusion_proof_verifies<H: TreeHash>(naive: Naive) {
    let leaves = naive.leaves(&contents(LEAVES));
    for size in 1..=LEAVES {
        let (tree, root) = (&leaves[..size], naive.root(&leaves[..size]));
        for index in 0..size {
            let path = naive.path(tree, index);
            assert_eq!(includes::<H>(tree[index], index, size, root, &path), Ok(()), "leaf {index} of {size}");
            let folded = fold_path(H::from_bytes(tree[index]), LeafIndex(index as u64), TreeSize(size as u64), &typed::<H>(&path));
            assert_eq!(folded.unwrap().through_leaf.as_bytes(), &naive.root(&tree[..=index]), "prefix {index} of {size}");
        }
    }
}

#[test]
fn every_inclusion_proof_of_log_trees_up_to_130_leaves_verifies() {
    every_inclusion_proof_verifies::<LogHash>(LOG);
}

#[test]
fn every_inclusion_proof_of_content_trees_up_to_130_leaves_verifies() {
    every_inclusion_proof_verifies::<ContentHash>(CONTENT);
}

#[test]
fn leaf_hashes_and_frontier_roots_are_those_of_the_definitions() {
    fn compare<H: TreeHash>(naive: Naive) {
        let contents = contents(LEAVES);
        let leaves = naive.leaves(&contents);
        let mut frontier = Frontier::<H>::default();
        assert_eq!(frontier.root().as_bytes(), &naive.root(&[]));
        for (count, content) in contents.iter().enumerate() {
            assert_eq!(H::leaf(content).as_bytes(), &leaves[count]);
            frontier.push(H::leaf(content));
            assert_eq!(frontier.root().as_bytes(), &naive.root(&leaves[..=count]), "{} leaves", count + 1);
            assert_eq!(frontier.size(), TreeSize(count as u64 + 1));
        }
    }
    compare::<LogHash>(LOG);
    compare::<ContentHash>(CONTENT);
}

#[test]
fn every_consistency_proof_up_to_130_leaves_verifies() {
    let leaves = LOG.leaves(&contents(LEAVES));
    for newer in 0..=LEAVES {
        for older in 0..=newer {
            let (from, to) = (LOG.root(&leaves[..older]), LOG.root(&leaves[..newer]));
            let path = typed::<LogHash>(&LOG.consistency(&leaves[..newer], older));
            assert_eq!(verify_consistency(head(older, from), head(newer, to), &path), Ok(()), "{older} to {newer}");
        }
    }
}

/// Ways to bend a path that must never verify.
fn bent(path: &[Hash], root: Hash) -> Vec<(&'static str, Vec<Hash>)> {
    let mut bent = vec![
        ("with the root behind", [path, &[root]].concat()),
        ("with the root before", [&[root], path].concat()),
        ("with zeros behind", [path, &[[0; 32]]].concat()),
        ("twice", [path, path].concat()),
    ];
    for at in 0..path.len() {
        bent.push(("truncated", path[..at].to_vec()));
        bent.push(("beheaded", path[at + 1..].to_vec()));
        bent.push(("with a hash doubled", [&path[..=at], &path[at..]].concat()));
        let mut flipped = path.to_vec();
        flipped[at][at % 32] ^= 1;
        bent.push(("with a bit flipped", flipped));
        for other in at + 1..path.len() {
            let mut swapped = path.to_vec();
            swapped.swap(at, other);
            bent.push(("with two hashes swapped", swapped));
        }
    }
    bent.retain(|(_, other)| other != path);
    bent
}

#[test]
fn no_bent_inclusion_path_verifies() {
    let leaves = LOG.leaves(&contents(33));
    for size in 1..=33 {
        let (tree, root) = (&leaves[..size], LOG.root(&leaves[..size]));
        for index in 0..size {
            for (how, path) in bent(&LOG.path(tree, index), root) {
                assert!(includes::<LogHash>(tree[index], index, size, root, &path).is_err(), "leaf {index} of {size} {how}");
            }
        }
    }
}

#[test]
fn no_leaf_verifies_at_the_index_of_another() {
    let leaves = LOG.leaves(&contents(33));
    for size in 1..=33 {
        let (tree, root) = (&leaves[..size], LOG.root(&leaves[..size]));
        for index in 0..size {
            let path = LOG.path(tree, index);
            for other in (0..size + 3).filter(|other| *other != index) {
                assert!(includes::<LogHash>(tree[index], other, size, root, &path).is_err(), "leaf {index} as {other} of {size}");
                let fake = tree.get(other).copied().unwrap_or_default();
                assert!(includes::<LogHash>(fake, index, size, root, &path).is_err(), "leaf {other} as {index} of {size}");
            }
        }
    }
}

#[test]
fn an_index_at_or_beyond_the_size_is_refused_with_both_numbers() {
    let leaf = (LOG.leaf)(b"leaf");
    for (index, size) in [(0, 0), (1, 1), (2, 1), (u64::MAX, 5), (5, 5)] {
        let refused = verify_inclusion(LogHash::from_bytes(leaf), LeafIndex(index), TreeSize(size), LogHash::from_bytes(leaf), &[]);
        assert_eq!(refused, Err(TreeError::IndexBeyondSize { index: LeafIndex(index), size: TreeSize(size) }));
    }
}

#[test]
fn an_inner_node_is_no_leaf() {
    let leaves = LOG.leaves(&contents(4));
    let (root, left, right) = (LOG.root(&leaves), LOG.root(&leaves[..2]), LOG.root(&leaves[2..]));
    let as_content = [leaves[0], leaves[1]].concat();
    assert!(includes::<LogHash>((LOG.leaf)(&as_content), 0, 2, root, &[right]).is_err());
    assert_ne!((LOG.leaf)(&as_content), left);
    assert_ne!((CONTENT.leaf)(&as_content), CONTENT.root(&[leaves[0], leaves[1]]));
}

#[test]
fn the_largest_sizes_neither_overflow_nor_verify() {
    let hash = LogHash::from_bytes([7; 32]);
    for path in [vec![], vec![hash; 63], vec![hash; 64], vec![hash; 65]] {
        for index in [0, 1, u64::MAX / 2, u64::MAX - 1] {
            assert!(verify_inclusion(hash, LeafIndex(index), TreeSize(u64::MAX), hash, &path).is_err());
        }
        for older in [1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1] {
            let (older, newer) = (TreeHead { size: TreeSize(older), root: hash }, TreeHead { size: TreeSize(u64::MAX), root: hash });
            assert!(verify_consistency(older, newer, &path).is_err());
        }
    }
}

#[test]
fn no_bent_consistency_path_verifies() {
    let leaves = LOG.leaves(&contents(33));
    for newer in 1..=33 {
        for older in 1..=newer {
            let (from, to) = (LOG.root(&leaves[..older]), LOG.root(&leaves[..newer]));
            let path = LOG.consistency(&leaves[..newer], older);
            for root in [from, to] {
                for (how, path) in bent(&path, root) {
                    let refused = verify_consistency::<LogHash>(head(older, from), head(newer, to), &typed(&path));
                    assert!(refused.is_err(), "{older} to {newer} {how}");
                }
            }
        }
    }
}

#[test]
fn consistency_with_another_root_or_reversed_sizes_is_refused() {
    let leaves = LOG.leaves(&contents(33));
    for newer in 1..=33 {
        for older in 1..newer {
            let (from, to) = (LOG.root(&leaves[..older]), LOG.root(&leaves[..newer]));
            let path = typed::<LogHash>(&LOG.consistency(&leaves[..newer], older));
            let other = LOG.root(&leaves[1..]);
            assert!(verify_consistency(head(older, other), head(newer, to), &path).is_err());
            assert!(verify_consistency(head(older, from), head(newer, other), &path).is_err());
            let reversed = verify_consistency(head(newer, to), head(older, from), &path);
            assert!(matches!(reversed, Err(TreeError::SizesReversed { .. })));
        }
    }
}

#[test]
fn the_empty_tree_is_consistent_with_all_but_only_with_its_own_root() {
    let leaves = LOG.leaves(&contents(5));
    let (empty, full) = (LOG.root(&[]), LOG.root(&leaves));
    assert_eq!(verify_consistency::<LogHash>(head(0, empty), head(5, full), &[]), Ok(()));
    assert_eq!(verify_consistency::<LogHash>(head(0, empty), head(0, empty), &[]), Ok(()));
    assert!(verify_consistency::<LogHash>(head(0, full), head(5, full), &[]).is_err());
    assert!(verify_consistency::<LogHash>(head(0, empty), head(5, full), &typed(&[full])).is_err());
    assert!(verify_consistency::<LogHash>(head(5, full), head(5, empty), &[]).is_err());
}

#[test]
fn hashes_of_another_length_than_32_are_refused() {
    for length in [0, 31, 33, 64] {
        assert_eq!(parse_path::<LogHash>(&[vec![0; length]]), Err(TreeError::HashLength { bytes: length }));
    }
}
