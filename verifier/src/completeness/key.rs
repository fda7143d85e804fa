//! Keys: what entries are found by.

use std::fmt;

use proofline_proto::v1::{self, Dimension};

use crate::hash::{ContentHash, TreeHash};

/// BLAKE3 `derive_key` context of a key's place in the map.
pub const MAP_KEY_CONTEXT: &str = "proofline/v1 map key";
/// BLAKE3 `derive_key` context of a leaf of a key's list.
pub const KEY_ENTRY_CONTEXT: &str = "proofline/v1 key entry";

/// One value in one dimension, within a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey {
    /// What kind of thing it names.
    pub dimension: Dimension,
    /// Whose; empty for collectors.
    pub tenant_id: String,
    /// Which.
    pub value: String,
}

impl EntryKey {
    /// Takes a key of an answer; `None` when it is of no dimension of this version, or cannot be the key of any entry.
    #[must_use]
    pub fn parse(of: &v1::Key) -> Option<Self> {
        let dimension = Dimension::try_from(of.dimension).ok().filter(|it| *it != Dimension::Unspecified)?;
        let fits = |text: &str| u16::try_from(text.len()).is_ok();
        let is_anybodys = dimension == Dimension::Collector;
        let is_key = !of.value.is_empty() && fits(&of.value) && fits(&of.tenant_id) && of.tenant_id.is_empty() == is_anybodys;
        is_key.then(|| Self { dimension, tenant_id: of.tenant_id.clone(), value: of.value.clone() })
    }

    /// Returns the message.
    #[must_use]
    pub fn to_message(&self) -> v1::Key {
        v1::Key { dimension: self.dimension.into(), tenant_id: self.tenant_id.clone(), value: self.value.clone() }
    }

    /// Returns the place of the key in the map.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        let mut bytes = vec![u8::try_from(i32::from(self.dimension)).unwrap_or(0)];
        for text in [&self.tenant_id, &self.value] {
            bytes.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        KeyHash(blake3::derive_key(MAP_KEY_CONTEXT, &bytes))
    }
}

/// For people; escape it before printing.
impl fmt::Display for EntryKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:?}", dimension_name(self.dimension), self.value)?;
        if self.tenant_id.is_empty() { Ok(()) } else { write!(out, " of tenant {:?}", self.tenant_id) }
    }
}

/// Returns the word for a dimension, as commands and reports use it.
#[must_use]
pub fn dimension_name(of: Dimension) -> &'static str {
    match of {
        Dimension::Unspecified => "unspecified",
        Dimension::Session => "session",
        Dimension::ParentSession => "parent-session",
        Dimension::Agent => "agent",
        Dimension::Principal => "principal",
        Dimension::Resource => "resource",
        Dimension::Tool => "tool",
        Dimension::Server => "server",
        Dimension::System => "system",
        Dimension::Credential => "credential",
        Dimension::Collector => "collector",
        Dimension::Rule => "rule",
    }
}

/// The place of a key in the map: 256 bits, the first one first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub(super) [u8; 32]);

impl KeyHash {
    /// Takes 32 bytes as the hash of a key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Tells on which side of the node at this depth the key stands: 1 is right.
    pub(super) fn bit(&self, depth: usize) -> u8 {
        self.0.get(depth / 8).map_or(0, |byte| (byte >> (7 - depth % 8)) & 1)
    }

    /// Tells whether the first `bits` bits are those of another hash.
    pub(super) fn begins_like(&self, other: &Self, bits: usize) -> bool {
        (0..bits).all(|depth| self.bit(depth) == other.bit(depth))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Returns the leaf of a key's list for the entry at an index.
pub(super) fn list_leaf(index: u64) -> ContentHash {
    ContentHash::from_bytes(blake3::derive_key(KEY_ENTRY_CONTEXT, &index.to_be_bytes()))
}
