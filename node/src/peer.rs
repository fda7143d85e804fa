//! Raft between the nodes, over the `Peer` gRPC service.
//!
//! Holds both ends: what Raft uses to call the other nodes, and functions that carry out their calls. The messages are the
//! project's own; `convert` is the only place that knows both theirs and Raft's types.
//!
//! What it does not do: it serves no port. The `Peer` service of this node answers more than Raft, and calls the functions
//! here for Raft's part.

pub mod convert;
mod inbound;
mod network;
mod reach;
mod transfer;

use openraft::error::{Fatal, RaftError};
use thiserror::Error;

pub use self::{
    inbound::{append_entries, install_snapshot, request_vote},
    network::{MESSAGE_BYTES_MAX, PeerConnection, PeerNetwork, give_signs_of_life},
    transfer::TransferError,
};

/// Why a peer's call could not be carried out.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The message is not what a node sends.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The membership in the message cannot be read.
    #[error("malformed membership: {0}")]
    MalformedMembership(#[from] serde_json::Error),
    /// Raft has stopped on this node.
    #[error("Raft has stopped: {0}")]
    Stopped(Box<Fatal<u64>>),
    /// A snapshot did not arrive whole.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl From<Fatal<u64>> for PeerError {
    fn from(fatal: Fatal<u64>) -> Self {
        Self::Stopped(Box::new(fatal))
    }
}

impl From<RaftError<u64>> for PeerError {
    fn from(error: RaftError<u64>) -> Self {
        match error {
            RaftError::Fatal(fatal) => fatal.into(),
            RaftError::APIError(never) => match never {},
        }
    }
}
