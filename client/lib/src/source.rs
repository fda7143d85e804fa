//! Where an event came from, so that a source which is read again is recognised.

use std::fmt;

use bytes::Bytes;

/// Identifies the thing in a source that one event was made of. The journal remembers it for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceKey([u8; Self::BYTES]);

impl SourceKey {
    pub(crate) const BYTES: usize = 32;

    /// Makes a key of what identifies the thing in its source; `kind` keeps sources of different kinds apart.
    #[must_use]
    pub fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("proofline/v1 source key");
        for part in [kind.as_bytes()].iter().chain(parts) {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        Self(hasher.finalize().into())
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Debug for SourceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

/// An event to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEvent {
    /// Exact bytes of the `Event`, in the canonical encoding.
    pub event: Bytes,
    /// What it was made of; an event without one is appended however often it comes.
    pub source: Option<SourceKey>,
}

impl SourceEvent {
    /// Takes an event that comes once.
    #[must_use]
    pub fn once(event: &proofline_proto::v1::Event) -> Self {
        Self { event: prost::Message::encode_to_vec(event).into(), source: None }
    }

    /// Takes an event of a source that may be read again.
    #[must_use]
    pub fn read_from(source: SourceKey, event: &proofline_proto::v1::Event) -> Self {
        Self { source: Some(source), ..Self::once(event) }
    }
}
