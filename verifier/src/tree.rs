//! Proofs about Merkle trees: the verification algorithms of RFC 9162, for both hashes.
//!
//! The size of a tree always comes from something signed: a path that verifies at one size may verify at another too.

use thiserror::Error;

use crate::coordinate::{LeafIndex, TreeSize};
use crate::hash::TreeHash;
use crate::report::{Outcome, Refusal};

/// Why a path does not prove what it should.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TreeError {
    /// The leaf lies outside the tree.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexBeyondSize {
        /// Leaf that was asked for.
        index: LeafIndex,
        /// Leaves in the tree.
        size: TreeSize,
    },
    /// The older tree is the larger one.
    #[error("the older tree has {older} leaves, the newer one only {newer}")]
    SizesReversed {
        /// Leaves in the older tree.
        older: TreeSize,
        /// Leaves in the newer tree.
        newer: TreeSize,
    },
    /// The path ends before the root.
    #[error("the path of {hashes} hashes ends below the root")]
    PathTooShort {
        /// Hashes in the path.
        hashes: usize,
    },
    /// The path goes on past the root.
    #[error("the path of {hashes} hashes goes past the root")]
    PathTooLong {
        /// Hashes in the path.
        hashes: usize,
    },
    /// The path leads to another root.
    #[error("the path leads to root {computed}, not to {expected}")]
    RootMismatch {
        /// Where the path leads.
        computed: String,
        /// Where it should lead.
        expected: String,
    },
    /// A hash of a path or a root has another length than 32 bytes.
    #[error("a hash has {bytes} bytes instead of 32")]
    HashLength {
        /// Its length.
        bytes: usize,
    },
}

impl Refusal for TreeError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// What a leaf and its path lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRoots<H> {
    /// Root of the whole tree.
    pub whole: H,
    /// Root of the tree that ends with this leaf.
    pub through_leaf: H,
}

/// Parses one hash.
///
/// # Errors
/// [`TreeError::HashLength`].
pub fn parse_hash<H: TreeHash>(bytes: &[u8]) -> Result<H, TreeError> {
    bytes.try_into().map(H::from_bytes).map_err(|_| TreeError::HashLength { bytes: bytes.len() })
}

/// Parses the hashes of a path, leaf side first.
///
/// # Errors
/// [`TreeError::HashLength`].
pub fn parse_path<H: TreeHash>(hashes: &[impl AsRef<[u8]>]) -> Result<Vec<H>, TreeError> {
    hashes.iter().map(|hash| parse_hash(hash.as_ref())).collect()
}

/// Walks an inclusion path from a leaf hash upwards: RFC 9162 section 2.1.3.2.
///
/// The left siblings of the path alone make up everything before the leaf, so the walk also gives the root that the tree
/// had when this leaf was its last one.
///
/// # Errors
/// [`TreeError`] when the path has another length than index and size demand.
pub fn fold_path<H: TreeHash>(leaf: H, index: LeafIndex, size: TreeSize, path: &[H]) -> Result<PathRoots<H>, TreeError> {
    if index.0 >= size.0 {
        return Err(TreeError::IndexBeyondSize { index, size });
    }
    let mut cursor = Cursor { node: index.0, last: size.0 - 1 };
    let mut roots = PathRoots { whole: leaf, through_leaf: leaf };
    for sibling in path {
        match cursor.climb() {
            None => return Err(TreeError::PathTooLong { hashes: path.len() }),
            Some(Side::Left) => {
                roots.whole = H::node(sibling, &roots.whole);
                roots.through_leaf = H::node(sibling, &roots.through_leaf);
            }
            Some(Side::Right) => roots.whole = H::node(&roots.whole, sibling),
        }
    }
    if cursor.is_at_root() { Ok(roots) } else { Err(TreeError::PathTooShort { hashes: path.len() }) }
}

/// Checks that a leaf hash stands at an index of the tree with this size and root.
///
/// # Errors
/// [`TreeError`], always a proof that the claim is wrong.
pub fn verify_inclusion<H: TreeHash>(leaf: H, index: LeafIndex, size: TreeSize, root: H, path: &[H]) -> Result<(), TreeError> {
    expect_root(fold_path(leaf, index, size, path)?.whole, root)
}

/// A tree head: a size and the root at that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead<H> {
    /// Leaves in the tree.
    pub size: TreeSize,
    /// Its root.
    pub root: H,
}

/// Checks that the newer tree begins with the older one: RFC 9162 section 2.1.4.2.
///
/// Equal sizes need equal roots and an empty path; from the empty tree the path is empty too.
///
/// # Errors
/// [`TreeError`], always a proof that the claim is wrong.
pub fn verify_consistency<H: TreeHash>(older: TreeHead<H>, newer: TreeHead<H>, path: &[H]) -> Result<(), TreeError> {
    if older.size > newer.size {
        return Err(TreeError::SizesReversed { older: older.size, newer: newer.size });
    }
    if older.size.0 == 0 || older.size == newer.size {
        if !path.is_empty() {
            return Err(TreeError::PathTooLong { hashes: path.len() });
        }
        return expect_root(older.root, if older.size.0 == 0 { H::empty() } else { newer.root });
    }
    let (computed_older, computed_newer) = fold_consistency(older, newer.size, path)?;
    expect_root(computed_older, older.root)?;
    expect_root(computed_newer, newer.root)
}

/// Returns the roots of the older and of the newer tree that a consistency path leads to.
fn fold_consistency<H: TreeHash>(older: TreeHead<H>, newer: TreeSize, path: &[H]) -> Result<(H, H), TreeError> {
    let mut siblings = path.iter();
    let too_short = TreeError::PathTooShort { hashes: path.len() };
    // A complete older tree is a node of the newer one: the path leaves it out.
    let start = if older.size.0.is_power_of_two() { older.root } else { *siblings.next().ok_or(too_short.clone())? };
    let mut cursor = Cursor { node: older.size.0 - 1, last: newer.0 - 1 };
    cursor.skip(cursor.node.trailing_ones());
    let (mut older_root, mut newer_root) = (start, start);
    for sibling in siblings {
        match cursor.climb() {
            None => return Err(TreeError::PathTooLong { hashes: path.len() }),
            Some(Side::Left) => {
                older_root = H::node(sibling, &older_root);
                newer_root = H::node(sibling, &newer_root);
            }
            Some(Side::Right) => newer_root = H::node(&newer_root, sibling),
        }
    }
    if cursor.is_at_root() { Ok((older_root, newer_root)) } else { Err(too_short) }
}

fn expect_root<H: TreeHash>(computed: H, expected: H) -> Result<(), TreeError> {
    if computed == expected {
        Ok(())
    } else {
        Err(TreeError::RootMismatch { computed: computed.to_string(), expected: expected.to_string() })
    }
}

enum Side {
    Left,
    Right,
}

/// Where a walk stands: `fn` and `sn` of RFC 9162.
struct Cursor {
    node: u64,
    last: u64,
}

impl Cursor {
    fn is_at_root(&self) -> bool {
        self.last == 0
    }

    /// Goes up to the next node that has a sibling, and tells on which side the sibling stands.
    fn climb(&mut self) -> Option<Side> {
        if self.is_at_root() {
            return None;
        }
        let is_lone = self.node == self.last && self.node.is_multiple_of(2);
        if is_lone {
            self.skip(self.node.trailing_zeros());
        }
        let side = if self.node % 2 == 1 { Side::Left } else { Side::Right };
        self.skip(1);
        Some(side)
    }

    fn skip(&mut self, levels: u32) {
        self.node = self.node.checked_shr(levels).unwrap_or(0);
        self.last = self.last.checked_shr(levels).unwrap_or(0);
    }
}

/// The right edge of a growing tree: enough to give its root after each leaf.
#[derive(Clone, Debug)]
pub struct Frontier<H> {
    size: TreeSize,
    /// Roots of the complete subtrees, largest first; one for each bit of `size`.
    peaks: Vec<H>,
}

impl<H: TreeHash> Default for Frontier<H> {
    fn default() -> Self {
        Self { size: TreeSize(0), peaks: Vec::new() }
    }
}

impl<H: TreeHash> Frontier<H> {
    /// Adds a leaf hash.
    pub fn push(&mut self, leaf: H) {
        let mut node = leaf;
        for _ in 0..self.size.0.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = H::node(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size.0 += 1;
    }

    /// Returns the number of leaves.
    #[must_use]
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// Returns the root of the tree over all leaves so far.
    #[must_use]
    pub fn root(&self) -> H {
        let joined = self.peaks.iter().rev().copied().reduce(|right, left| H::node(&left, &right));
        joined.unwrap_or_else(H::empty)
    }
}
