//! Readers: published entries, sessions, inclusion proofs of what was acknowledged long ago; and who leads.

use proofline_proto::v1;
use proofline_verifier::{Checkpoint, LogHash, SignedNote, TreeHash as _};
use prost::Message as _;
use tonic::Status;

use super::{
    Stage,
    attempt::timed,
    definite::read_outcome,
    reach::{Reach, Seat},
};
use crate::{
    history::{Action, Actor, Answer, CheckpointSeen, Digest, Mark, NodeId, Run},
    random::Random,
};

/// Entries of one read, at most.
const READ_MAX: u64 = 400;
const SESSION_ENTRIES_MAX: u32 = 1_000;
const STATUS_EVERY_MS: u64 = 400;

pub(super) async fn run(stage: Stage, reach: Reach, place: usize) {
    let mut reader =
        Reader { lot: Random::of(stage.seed, &format!("reader {place}")), actor: stage.recorder.actor(), known: 1, stage, reach };
    while !reader.stage.is_stopping() {
        let seat = reader.reach.any(&mut reader.lot);
        match reader.lot.below(4) {
            0 => reader.read_session(&seat).await,
            1 => reader.prove(&seat).await,
            _ => reader.read(&seat).await,
        }
        let rest = reader.lot.between(20, 150);
        reader.stage.pause(rest).await;
    }
}

struct Reader {
    stage: Stage,
    reach: Reach,
    actor: Actor,
    lot: Random,
    /// Entries that were seen to be published.
    known: u64,
}

impl Reader {
    async fn read(&mut self, seat: &Seat) {
        let (from, limit) = (self.lot.below(self.known + 1), self.lot.between(1, READ_MAX));
        let open = self.actor.begin(seat.node, Action::Read { from, limit }).await;
        let within = self.stage.attempt_time();
        let request = v1::ReadEntriesRequest { from_index: from, limit, follow: false };
        let answer = tokio::time::timeout(within, read_entries(seat, request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        if let Ok(run) = &answer {
            self.known = self.known.max(run.end());
        }
        open.end(read_outcome(answer.map(Answer::Entries))).await;
    }

    async fn read_session(&mut self, seat: &Seat) {
        let session = self.stage.families.session(&mut self.lot).id;
        let open = self.actor.begin(seat.node, Action::ReadSession { session: session.clone() }).await;
        let request = v1::ListSessionRequest {
            tenant_id: self.stage.tenant.to_string(),
            session_id: session,
            page_size: SESSION_ENTRIES_MAX,
            ..Default::default()
        };
        let answer =
            timed(self.stage.attempt_time(), seat.link.audit().list_session(request)).await.and_then(|answer| session_read(&answer));
        open.end(read_outcome(answer)).await;
    }

    async fn prove(&mut self, seat: &Seat) {
        let index = self.lot.below(self.known);
        let open = self.actor.begin(seat.node, Action::Inclusion { index }).await;
        let request = v1::GetInclusionProofRequest { index };
        let answer = timed(self.stage.attempt_time(), seat.link.audit().get_inclusion_proof(request)).await;
        open.end(read_outcome(answer.and_then(|answer| included(&answer)))).await;
    }
}

pub(super) async fn read_entries(seat: &Seat, request: v1::ReadEntriesRequest) -> Result<Run, Status> {
    let mut leaves = Vec::new();
    let from = request.from_index;
    let mut chunks = seat.link.audit().read_entries(request).await?.into_inner();
    while let Some(chunk) = chunks.message().await? {
        if chunk.first_index != from + leaves.len() as u64 {
            return Err(Status::data_loss(format!("a chunk from {} where {} comes next", chunk.first_index, from + leaves.len() as u64)));
        }
        leaves.extend(chunk.entries.iter().map(|entry| LogHash::leaf(entry)));
    }
    Ok(Run::over(from, leaves.iter().map(LogHash::as_bytes)))
}

fn session_read(answer: &v1::ListSessionResponse) -> Result<Answer, Status> {
    let malformed = || Status::data_loss("the answer is not one");
    let index = |member: &v1::SessionMember| {
        let entry = v1::Entry::decode(member.entry.as_slice()).ok()?;
        Some(v1::EntryCore::decode(entry.core).ok()?.index)
    };
    Ok(Answer::Session {
        entries: answer.session.as_ref().ok_or_else(malformed)?.entries,
        published: checkpoint(&answer.checkpoint).ok_or_else(malformed)?.size,
        indexes: answer.members.iter().map(index).collect::<Option<_>>().ok_or_else(malformed)?,
    })
}

fn included(answer: &v1::GetInclusionProofResponse) -> Result<Answer, Status> {
    let malformed = || Status::data_loss("the answer is not one");
    let digest = |bytes: &[u8]| bytes.try_into().ok().map(Digest);
    Ok(Answer::Included {
        leaf: digest(&answer.leaf_hash).ok_or_else(malformed)?,
        path: answer.log_path.iter().map(|hash| digest(hash)).collect::<Option<_>>().ok_or_else(malformed)?,
        checkpoint: checkpoint(&answer.checkpoint).ok_or_else(malformed)?,
    })
}

/// Takes a signed note as the history keeps it.
pub(super) fn checkpoint(note: &[u8]) -> Option<CheckpointSeen> {
    let text = String::from_utf8(note.to_vec()).ok()?;
    let parsed = Checkpoint::parse_text(SignedNote::parse(note).ok()?.text()).ok()?;
    let head = parsed.head();
    Some(CheckpointSeen { size: head.size.0, root: Digest(*head.root.as_bytes()), note: text })
}

/// Asks one node after the other who leads, and marks every change.
pub(super) async fn watch_leader(stage: Stage, admin: Reach) {
    let mut actor = stage.recorder.actor();
    let mut newest = (0, 0);
    for seat in admin.seats().iter().cycle() {
        if stage.is_stopping() {
            return;
        }
        let open = actor.begin(seat.node, Action::Status).await;
        let mut control = seat.link.control();
        let answer = timed(stage.attempt_time(), control.cluster_status(v1::ClusterStatusRequest {})).await;
        if let Ok(status) = &answer
            && status.leader_id > 0
            && (status.term, status.leader_id) > newest
        {
            newest = (status.term, status.leader_id);
            stage.recorder.mark(Mark::Leads { node: NodeId(status.leader_id), term: status.term }).await;
        }
        open.end(read_outcome(answer.map(|status| status_read(&status)))).await;
        stage.pause(STATUS_EVERY_MS).await;
    }
}

fn status_read(status: &v1::ClusterStatusResponse) -> Answer {
    let answered = status.nodes.iter().filter(|node| node.error.is_empty());
    let size = |node: &v1::NodeStatus| Some((NodeId(node.node_id), node.tree_size, Digest(node.state_digest.as_slice().try_into().ok()?)));
    Answer::Status { leader: status.leader_id, term: status.term, sizes: answered.filter_map(size).collect() }
}
