use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use proofline_ledger::PreparedGroup;
use serde::{Deserialize, Serialize};

/// What one Raft entry carries: the exact bytes of a `peer.v1.Group`, and beside them, once somebody made it, the parsed
/// form whose signatures were checked.
///
/// Cloning is cheap, and clones share the parsed form, so that each batch is hashed and checked once per node: by the node
/// that received it from its client when it is proposed, elsewhere when it arrives from the leader. Only the bytes are
/// replicated; they alone decide.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct Group {
    bytes: Bytes,
    prepared: Arc<ArcSwap<OnceLock<Arc<PreparedGroup>>>>,
}

impl Group {
    /// Takes bytes that came from a peer or from the disk.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, prepared: Arc::default() }
    }

    /// Takes bytes together with the parsed form that this process made from exactly them.
    #[must_use]
    pub fn with_prepared(bytes: Bytes, prepared: Arc<PreparedGroup>) -> Self {
        Self { bytes, prepared: Arc::new(ArcSwap::from_pointee(OnceLock::from(prepared))) }
    }

    /// Returns the exact bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns whether the parsed form is there already.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.prepared.load().get().is_some()
    }

    /// Returns the parsed form for the ledger `origin`, making it when it is not there yet. Costs one signature check per
    /// batch; never call it on an async thread.
    #[must_use]
    pub fn prepared(&self, origin: &str) -> Arc<PreparedGroup> {
        let slot = self.prepared.load_full();
        Arc::clone(slot.get_or_init(|| Arc::new(PreparedGroup::decode(&self.bytes, origin))))
    }

    /// Frees the parsed form in all clones: the group was applied.
    pub fn release_prepared(&self) {
        self.prepared.store(Arc::default());
    }
}

impl From<Vec<u8>> for Group {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes.into())
    }
}

impl From<Group> for Vec<u8> {
    fn from(group: Group) -> Self {
        group.bytes.into()
    }
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Group({} bytes)", self.bytes.len())
    }
}
