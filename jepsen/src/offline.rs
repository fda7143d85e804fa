//! Reads what a stopped node left on its disk, with none of the node's own code.
//!
//! It holds a second reader of the node's files, written from their layouts: the state's tables, the Raft log with its chain, the
//! high-water file and the file of what was signed last. The only thing shared is the database library and the message types.
//! Always true: it opens everything for reading only; what it cannot read it reports, it repairs nothing.

mod journal;
mod state;

use std::{io, path::Path};

use prost::bytes::Bytes;
use serde::Deserialize;
use thiserror::Error;

pub use journal::{HighWater, JournalRead, LogPlace};

use crate::history::{CheckpointSeen, Digest, NodeId};

/// Why a node's directory cannot be read.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// A file cannot be read.
    #[error("cannot read {what}: {source}")]
    File {
        /// Which.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The database cannot be opened or read.
    #[error("cannot read the database of the {what}: {source}")]
    Database {
        /// Which.
        what: &'static str,
        /// What the library said.
        source: rocksdb::Error,
    },
    /// Something is not as its layout says.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// What.
        what: &'static str,
        /// Where and how.
        reason: String,
    },
}

/// What a node left behind.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Who it is, as its directory says.
    pub node: NodeId,
    /// The log: exact bytes of each entry, from index 0 without a gap.
    pub log: Vec<Bytes>,
    /// Digest of the replicated state, as the node kept it.
    pub state_digest: Digest,
    /// How far the Raft log was applied; none before the first entry.
    pub applied: Option<LogPlace>,
    /// The newest published checkpoint, when there is one.
    pub checkpoint: Option<CheckpointSeen>,
    /// The largest tree that the node ever signed.
    pub signed: Option<(u64, Digest)>,
    /// The Raft log; none when only the state was read.
    pub journal: Option<JournalRead>,
}

#[derive(Deserialize)]
struct Identity {
    node_id: u64,
}

#[derive(Deserialize)]
struct SignedTree {
    size: u64,
    root: Digest,
    check: String,
}

/// Reads the data directory of a node that does not run.
///
/// # Errors
/// [`OfflineError`] when a part of it is missing, unreadable or damaged.
pub fn read_node(data_dir: &Path) -> Result<NodeState, OfflineError> {
    let bytes = read_file("the identity", &data_dir.join("identity"))?;
    let identity: Identity = parse_json("the identity", &bytes)?;
    let read = state::read(&data_dir.join("state"))?;
    Ok(NodeState {
        node: NodeId(identity.node_id),
        log: read.log,
        state_digest: read.state_digest,
        applied: read.applied,
        checkpoint: read.checkpoint,
        signed: read_signed(&data_dir.join("signed-tree"))?,
        journal: Some(journal::read(&data_dir.join("journal"), &data_dir.join("high-water"))?),
    })
}

fn read_signed(path: &Path) -> Result<Option<(u64, Digest)>, OfflineError> {
    let what = "the file of what was signed last";
    if !path.exists() {
        return Ok(None);
    }
    let signed: SignedTree = parse_json(what, &read_file(what, path)?)?;
    if blake3::hash(format!("{}\n{}", signed.size, signed.root).as_bytes()).to_hex().as_str() != signed.check {
        return Err(OfflineError::Damaged { what, reason: "its check does not match".to_owned() });
    }
    Ok(Some((signed.size, signed.root)))
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, OfflineError> {
    std::fs::read(path).map_err(|source| OfflineError::File { what, source })
}

fn parse_json<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, OfflineError> {
    serde_json::from_slice(bytes).map_err(|error| OfflineError::Damaged { what, reason: error.to_string() })
}

/// Fixed-size big-endian pieces off the front of a slice; `None` when it is too short.
struct Pieces<'a>(&'a [u8]);

impl Pieces<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn place(&mut self) -> Option<LogPlace> {
        Some(LogPlace { term: self.number()?, leader: self.number()?, index: self.number()? })
    }
}
