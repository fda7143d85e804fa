use std::{sync::Arc, time::Duration};

use futures::Stream;
use openraft::{
    EntryPayload, LogIdOptionExt as _, Snapshot,
    metrics::RaftDataMetrics,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use proofline_proto::peer;
use tonic::Status;

use super::{PeerError, convert, transfer};
use crate::replica::{Raft, TypeConfig, start_preparing};

/// Log that may be committed and not yet applied before a node takes more. Raft reads all that is committed at once and queues it for
/// whoever applies it (openraft 0.9.25, `apply_to_state_machine`): a node that was away would hold in memory, and parsed, what
/// it was sent faster than it applies.
const UNAPPLIED_BYTES_MAX: u64 = 8 << 20;
/// How long an append waits for that; less than leaders wait for its answer.
const ROOM_WITHIN: Duration = Duration::from_millis(100);

/// Carries out a leader's append for the ledger `origin`.
///
/// On success: the entries are on this node's disk, or, when it has more than it can apply, only those before them are: then it
/// was a sign of life, and the leader sends them again. Signatures are checked meanwhile, so that applying need not wait.
///
/// # Errors
/// [`PeerError`] when the message is malformed or Raft has stopped.
pub async fn append_entries(
    raft: &Raft,
    origin: &Arc<str>,
    request: peer::AppendEntriesRequest,
) -> Result<peer::AppendEntriesResponse, PeerError> {
    let mut request = convert::parse_append_request(request)?;
    let previous = request.prev_log_id;
    let is_put_off = previous.is_some() && !has_room(raft, &request).await;
    if is_put_off {
        request.entries.clear();
    }
    let groups = request.entries.iter().filter_map(|entry| match &entry.payload {
        EntryPayload::Normal(group) => Some(group.clone()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    });
    // Nobody waits for it here: who applies a group finds it prepared, or waits then.
    drop(start_preparing(groups, origin));
    let response = match raft.append_entries(request).await? {
        AppendEntriesResponse::Success if is_put_off => AppendEntriesResponse::PartialSuccess(previous),
        response => response,
    };
    convert::append_response(response)
}

/// Waits a while until little of the log is left to be applied, and tells whether it came to that. What is not committed does not
/// count: it may need what comes to be so.
async fn has_room(raft: &Raft, request: &AppendEntriesRequest<TypeConfig>) -> bool {
    let Some(average) = payload_bytes(request).checked_div(request.entries.len() as u64) else { return true };
    let committed = request.leader_commit.next_index();
    let unapplied = |seen: &RaftDataMetrics<u64>| seen.last_log.next_index().min(committed).saturating_sub(seen.last_applied.next_index());
    // What waits is taken to be like what comes.
    let has_room = |seen: &RaftDataMetrics<u64>| unapplied(seen).saturating_mul(average) <= UNAPPLIED_BYTES_MAX;
    let mut seen = raft.data_metrics();
    tokio::time::timeout(ROOM_WITHIN, seen.wait_for(has_room)).await.is_ok()
}

fn payload_bytes(request: &AppendEntriesRequest<TypeConfig>) -> u64 {
    let bytes = |payload: &EntryPayload<TypeConfig>| match payload {
        EntryPayload::Normal(group) => group.bytes().len() as u64,
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    request.entries.iter().map(|entry| bytes(&entry.payload)).sum()
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
