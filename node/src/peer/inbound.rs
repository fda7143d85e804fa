use std::sync::Arc;

use futures::Stream;
use openraft::{EntryPayload, Snapshot};
use proofline_proto::peer;
use tonic::Status;

use super::{PeerError, convert, transfer};
use crate::replica::{Raft, start_preparing};

/// Carries out a leader's append for the ledger `origin`.
///
/// On success: the entries are on this node's disk. The signatures in them are checked meanwhile, so that applying them later need not wait.
///
/// # Errors
/// [`PeerError`] when the message is malformed or Raft has stopped.
pub async fn append_entries(
    raft: &Raft,
    origin: &Arc<str>,
    request: peer::AppendEntriesRequest,
) -> Result<peer::AppendEntriesResponse, PeerError> {
    let request = convert::parse_append_request(request)?;
    let groups = request.entries.iter().filter_map(|entry| match &entry.payload {
        EntryPayload::Normal(group) => Some(group.clone()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    });
    // Nobody waits for it here: who applies a group finds it prepared, or waits then.
    drop(start_preparing(groups, origin));
    let response = raft.append_entries(request).await?;
    convert::append_response(response)
}

/// Carries out a candidate's request for a vote.
///
/// On success: a granted vote is on this node's disk.
///
/// # Errors
/// [`PeerError`] when the message is malformed or Raft has stopped.
pub async fn request_vote(raft: &Raft, request: peer::VoteRequest) -> Result<peer::VoteResponse, PeerError> {
    let request = convert::parse_vote_request(request)?;
    let response = raft.vote(request).await?;
    Ok(convert::vote_response(&response))
}

/// Receives a snapshot and installs it.
///
/// On success: this node's state is the snapshot's or a newer one, durably. A transfer that breaks off leaves nothing behind.
///
/// # Errors
/// [`PeerError`] when the files do not arrive whole, or Raft has stopped.
pub async fn install_snapshot(
    raft: &Raft,
    mut chunks: impl Stream<Item = Result<peer::SnapshotChunk, Status>> + Send + Unpin,
) -> Result<peer::InstallSnapshotResponse, PeerError> {
    let header = transfer::header(&mut chunks).await?;
    let vote = convert::parse_vote(header.vote)?;
    let meta = convert::parse_snapshot_meta(&header)?;
    let higher = raft.metrics().borrow().vote;
    if higher > vote {
        return Ok(peer::InstallSnapshotResponse { vote: Some(convert::vote(higher)) });
    }
    let files = raft.begin_receiving_snapshot().await?;
    let files = transfer::receive(chunks, *files, header.files).await?;
    // Raft would take a snapshot that cannot be installed for a broken disk, and stop.
    let checked = transfer::check(Snapshot { meta, snapshot: Box::new(files) }).await;
    let snapshot = checked.inspect_err(|error| tracing::error!(%error, "a snapshot is refused"))?;
    let response = raft.install_full_snapshot(vote, snapshot).await?;
    Ok(peer::InstallSnapshotResponse { vote: Some(convert::vote(response.vote)) })
}
