//! The two hashes: SHA-256 for the log tree, BLAKE3 under one context per purpose for what is ours alone.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// BLAKE3 `derive_key` context of a leaf of a session tree or batch tree.
pub const TREE_LEAF_CONTEXT: &str = "proofline/v1 tree leaf";
/// BLAKE3 `derive_key` context of an inner node of a session tree or batch tree.
pub const TREE_NODE_CONTEXT: &str = "proofline/v1 tree node";
/// BLAKE3 `derive_key` context of the digest that chains batches.
pub const BATCH_STATEMENT_CONTEXT: &str = "proofline/v1 batch statement";

/// BLAKE3 `derive_key` context of the digest of facts.
pub const FACTS_CONTEXT: &str = "proofline/v1 facts";

/// Returns the digest of the facts that a decision names, from their exact bytes.
#[must_use]
pub fn facts_digest(facts: &[u8]) -> [u8; 32] {
    blake3::derive_key(FACTS_CONTEXT, facts)
}

/// How one kind of tree hashes. Both kinds have the shape of RFC 6962 section 2.1.
pub trait TreeHash: Copy + Eq + fmt::Debug + fmt::Display {
    /// Hashes the exact bytes of a leaf.
    fn leaf(bytes: &[u8]) -> Self;
    /// Hashes two children into their parent.
    fn node(left: &Self, right: &Self) -> Self;
    /// Returns the root of the tree without leaves.
    fn empty() -> Self;
    /// Takes 32 bytes as a hash of this tree.
    fn from_bytes(bytes: [u8; 32]) -> Self;
    /// Returns the 32 bytes.
    fn as_bytes(&self) -> &[u8; 32];
}

/// A leaf hash, node or root of the log tree: SHA-256 with the prefixes of RFC 6962.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogHash([u8; 32]);

impl TreeHash for LogHash {
    fn leaf(bytes: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(bytes).finalize().into())
    }

    fn node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A leaf hash, node or root of a session tree or batch tree: BLAKE3, leaves and nodes under contexts of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContentHash([u8; 32]);

impl TreeHash for ContentHash {
    fn leaf(bytes: &[u8]) -> Self {
        Self(blake3::derive_key(TREE_LEAF_CONTEXT, bytes))
    }

    fn node(left: &Self, right: &Self) -> Self {
        Self(blake3::Hasher::new_derive_key(TREE_NODE_CONTEXT).update(&left.0).update(&right.0).finalize().into())
    }

    fn empty() -> Self {
        Self(blake3::derive_key(TREE_NODE_CONTEXT, &[]))
    }

    fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The digest of a batch's signed bytes: what the next batch of the lane names as `previous`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchDigest([u8; 32]);

impl BatchDigest {
    /// What the first batch of a lane names as `previous`.
    pub const NONE: Self = Self([0; 32]);

    /// Digests the signed bytes of a batch.
    #[must_use]
    pub fn of(signed_bytes: &[u8]) -> Self {
        Self(blake3::derive_key(BATCH_STATEMENT_CONTEXT, signed_bytes))
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

macro_rules! shown_in_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }
    )*};
}

shown_in_hex!(LogHash, ContentHash, BatchDigest);
