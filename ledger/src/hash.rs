//! The hashes of the ledger: SHA-256 for the log tree, BLAKE3 with one `derive_key` context per purpose for the rest.

use std::sync::LazyLock;

use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt as _, hash_derive_key_context};
use proofline_proto::v1::Dimension;
use sha2::{Digest as _, Sha256};

use self::many::SideBySide;
use crate::ids::EntryIndex;

mod many;

/// A 32-byte hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// 32 zero bytes: "nothing before this one" in a chain.
    pub const ZERO: Self = Self([0; 32]);

    /// Reads a hash from exactly 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// How one kind of tree hashes its leaves and nodes. Both kinds have the shape of RFC 6962 section 2.1.
pub trait TreeHash {
    /// Hashes the exact bytes of a leaf.
    fn leaf(data: &[u8]) -> Hash;
    /// Hashes two children.
    fn node(left: &Hash, right: &Hash) -> Hash;
    /// Hashes pairs of children that stand one behind the other: as [`Self::node`] hashes each, perhaps side by side.
    fn nodes(children: &[Hash]) -> Vec<Hash> {
        let (pairs, _) = children.as_chunks();
        pairs.iter().map(|[left, right]| Self::node(left, right)).collect()
    }
    /// Returns the root of the tree without leaves.
    fn empty() -> Hash;
}

/// The log tree: SHA-256 with the prefixes of RFC 6962.
#[derive(Clone, Copy, Debug)]
pub enum LogHash {}

impl TreeHash for LogHash {
    fn leaf(data: &[u8]) -> Hash {
        Hash(Sha256::new().chain_update([0]).chain_update(data).finalize().into())
    }

    fn node(left: &Hash, right: &Hash) -> Hash {
        Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    fn empty() -> Hash {
        Hash(Sha256::digest([]).into())
    }
}

/// Session trees and batch trees: BLAKE3, leaves and nodes under contexts of their own.
#[derive(Clone, Copy, Debug)]
pub enum ContentHash {}

static LEAVES: LazyLock<SideBySide> = LazyLock::new(|| SideBySide::new(&LEAF));
static NODES: LazyLock<SideBySide> = LazyLock::new(|| SideBySide::new(&NODE));
static MANY_FACTS: LazyLock<SideBySide> = LazyLock::new(|| SideBySide::new(&FACTS));
static MANY_KEYS: LazyLock<SideBySide> = LazyLock::new(|| SideBySide::new(&MAP_KEY));
static LEAF: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 tree leaf"));
static NODE: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 tree node"));
static BATCH: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 batch statement"));
static STATE: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 state digest"));
static FACTS: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 facts"));
static RULES: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 rule set"));
static ACTION: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 action"));
static MAP_KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 map key"));
static KEY_ENTRY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 key entry"));
static MAP_LEAF: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 map leaf"));
static MAP_NODE: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("proofline/v1 map node"));

/// Hashes a few bytes. A hasher that is made of its key is cheaper than a copy of a prepared one, which is two kilobytes.
fn keyed(context: &ContextKey, parts: &[&[u8]]) -> Hash {
    let mut hasher = Hasher::new_from_context_key(context);
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

impl TreeHash for ContentHash {
    fn leaf(data: &[u8]) -> Hash {
        keyed(&LEAF, &[data])
    }

    fn node(left: &Hash, right: &Hash) -> Hash {
        keyed(&NODE, &[&left.0, &right.0])
    }

    fn nodes(children: &[Hash]) -> Vec<Hash> {
        let (pairs, _) = children.as_chunks();
        NODES.blocks(pairs)
    }

    fn empty() -> Hash {
        keyed(&NODE, &[])
    }
}

impl ContentHash {
    /// Hashes the exact bytes of several leaves: as [`TreeHash::leaf`] hashes each, side by side.
    pub(crate) fn leaves(of: &[impl AsRef<[u8]>]) -> Vec<Hash> {
        LEAVES.texts(of)
    }
}

/// Digests the signed bytes of a batch: what the next batch of the lane names as `previous`.
#[must_use]
pub fn batch_digest(signed_bytes: &[u8]) -> Hash {
    keyed(&BATCH, &[signed_bytes])
}

/// Digests the exact bytes of facts.
#[must_use]
pub fn facts_digest(facts: &[u8]) -> Hash {
    keyed(&FACTS, &[facts])
}

/// Digests the exact bytes of the facts of several events, as [`facts_digest`] does of one.
#[must_use]
pub(crate) fn facts_digests(of: &[impl AsRef<[u8]>]) -> Vec<Hash> {
    MANY_FACTS.texts(of)
}

/// Digests texts that belong together, each with its length.
fn of_texts(context: &LazyLock<ContextKey>, texts: &[&[u8]]) -> Hash {
    let mut hasher = Hasher::new_from_context_key(context);
    for text in texts {
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text);
    }
    Hash(hasher.finalize().into())
}

/// Digests a rule set: the engine that evaluates it, the schema that it was checked against, its exact text.
#[must_use]
pub(crate) fn rule_set_digest(engine: &str, schema: &str, rules: &str) -> Hash {
    of_texts(&RULES, &[engine.as_bytes(), schema.as_bytes(), rules.as_bytes()])
}

/// Digests an action that asks for an approval: tenant, session, agent, and the intent without the id of its call.
#[must_use]
pub(crate) fn action_digest(tenant: &str, session: &str, agent: &str, intent: &[u8]) -> Hash {
    of_texts(&ACTION, &[tenant.as_bytes(), session.as_bytes(), agent.as_bytes(), intent])
}

/// Digests the state behind an entry: the digest before it, its leaf, and what it wrote.
#[must_use]
pub(crate) fn state_digest(before: &Hash, index: EntryIndex, leaf: &Hash, next_session: u64, written: &[u8]) -> Hash {
    keyed(&STATE, &[&before.0, &index.0.to_be_bytes(), &leaf.0, &next_session.to_be_bytes(), written])
}

/// Hashes a key: its place in the map. Values are no longer than an event.
#[must_use]
pub(crate) fn map_key(dimension: Dimension, tenant: &str, value: &str) -> Hash {
    let mut spelled = Vec::with_capacity(tenant.len() + value.len() + 5);
    spell_map_key(dimension, tenant, &[value], &mut spelled);
    keyed(&MAP_KEY, &[&spelled])
}

/// Writes what the hash of a key is over, the value in pieces.
pub(crate) fn spell_map_key(dimension: Dimension, tenant: &str, value: &[&str], spelled: &mut Vec<u8>) {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    spelled.push(u8::try_from(i32::from(dimension)).unwrap_or_default());
    spelled.extend_from_slice(&length(tenant.len()));
    spelled.extend_from_slice(tenant.as_bytes());
    spelled.extend_from_slice(&length(value.iter().map(|piece| piece.len()).sum()));
    value.iter().for_each(|piece| spelled.extend_from_slice(piece.as_bytes()));
}

/// Hashes keys that are written as [`spell_map_key`] writes them.
pub(crate) fn map_keys(spelled: &[impl AsRef<[u8]>]) -> Vec<Hash> {
    MANY_KEYS.texts(spelled)
}

/// Hashes one index of a key's list.
#[must_use]
pub(crate) fn key_entry(index: u64) -> Hash {
    keyed(&KEY_ENTRY, &[&index.to_be_bytes()])
}

/// Hashes what the map says of a key.
#[must_use]
pub(crate) fn map_leaf(key: &Hash, count: u64, root: &Hash) -> Hash {
    keyed(&MAP_LEAF, &[&key.0, &count.to_be_bytes(), &root.0])
}

/// Hashes two subtrees of the map.
#[must_use]
pub(crate) fn map_node(left: &Hash, right: &Hash) -> Hash {
    keyed(&MAP_NODE, &[&left.0, &right.0])
}
