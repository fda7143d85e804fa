//! Between Raft's types and the messages of the `Peer` service. Nothing else knows both.

use openraft::{
    CommittedLeaderId, Entry, EntryPayload, LogId, SnapshotMeta, Vote,
    raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse},
};
use proofline_proto::peer::{self, append_entries_response::Result as AppendResult, log_entry::Payload};

use super::PeerError;
use crate::replica::{Group, Member, TypeConfig};

pub(super) fn vote(vote: Vote<u64>) -> peer::Vote {
    peer::Vote { term: vote.leader_id.term, node_id: vote.leader_id.node_id, committed: vote.committed }
}

pub(super) fn parse_vote(vote: Option<peer::Vote>) -> Result<Vote<u64>, PeerError> {
    let vote = vote.ok_or(PeerError::Malformed("vote is missing"))?;
    Ok(match vote.committed {
        true => Vote::new_committed(vote.term, vote.node_id),
        false => Vote::new(vote.term, vote.node_id),
    })
}

fn log_id(log_id: LogId<u64>) -> peer::LogId {
    peer::LogId { term: log_id.leader_id.term, node_id: log_id.leader_id.node_id, index: log_id.index }
}

fn parse_log_id(log_id: peer::LogId) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(log_id.term, log_id.node_id), log_id.index)
}

fn log_entry(entry: Entry<TypeConfig>) -> Result<peer::LogEntry, PeerError> {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank(peer::log_entry::Blank {}),
        EntryPayload::Normal(group) => Payload::Group(group.bytes().clone()),
        EntryPayload::Membership(membership) => Payload::Membership(serde_json::to_vec(&membership)?),
    };
    Ok(peer::LogEntry { log_id: Some(log_id(entry.log_id)), payload: Some(payload) })
}

fn parse_log_entry(entry: peer::LogEntry) -> Result<Entry<TypeConfig>, PeerError> {
    let log_id = parse_log_id(entry.log_id.ok_or(PeerError::Malformed("an entry has no log id"))?);
    let payload = match entry.payload {
        // A kind that this build does not know must not pass for an empty entry.
        None => return Err(PeerError::Malformed("an entry has no payload")),
        Some(Payload::Blank(_)) => EntryPayload::Blank,
        Some(Payload::Group(bytes)) => EntryPayload::Normal(Group::new(bytes)),
        Some(Payload::Membership(bytes)) => EntryPayload::Membership(serde_json::from_slice(&bytes)?),
    };
    Ok(Entry { log_id, payload })
}

/// Writes an append as it is sent.
///
/// # Errors
/// [`PeerError`] when a membership cannot be written.
pub fn append_request(request: AppendEntriesRequest<TypeConfig>) -> Result<peer::AppendEntriesRequest, PeerError> {
    Ok(peer::AppendEntriesRequest {
        vote: Some(vote(request.vote)),
        previous: request.prev_log_id.map(log_id),
        leader_commit: request.leader_commit.map(log_id),
        entries: request.entries.into_iter().map(log_entry).collect::<Result<_, _>>()?,
    })
}

pub(super) fn parse_append_request(request: peer::AppendEntriesRequest) -> Result<AppendEntriesRequest<TypeConfig>, PeerError> {
    Ok(AppendEntriesRequest {
        vote: parse_vote(request.vote)?,
        prev_log_id: request.previous.map(parse_log_id),
        leader_commit: request.leader_commit.map(parse_log_id),
        entries: request.entries.into_iter().map(parse_log_entry).collect::<Result<_, _>>()?,
    })
}

pub(super) fn append_response(response: AppendEntriesResponse<u64>) -> Result<peer::AppendEntriesResponse, PeerError> {
    use peer::append_entries_response::{Conflict, Success};
    let result = match response {
        AppendEntriesResponse::Success => AppendResult::Success(Success {}),
        AppendEntriesResponse::PartialSuccess(Some(upto)) => AppendResult::Partial(log_id(upto)),
        AppendEntriesResponse::PartialSuccess(None) => return Err(PeerError::Malformed("a partial success over nothing")),
        AppendEntriesResponse::Conflict => AppendResult::Conflict(Conflict {}),
        AppendEntriesResponse::HigherVote(higher) => AppendResult::HigherVote(vote(higher)),
    };
    Ok(peer::AppendEntriesResponse { result: Some(result) })
}

/// Reads the answer to an append.
///
/// # Errors
/// [`PeerError`] when it is not what a node sends.
pub fn parse_append_response(response: peer::AppendEntriesResponse) -> Result<AppendEntriesResponse<u64>, PeerError> {
    Ok(match response.result.ok_or(PeerError::Malformed("the result is missing"))? {
        AppendResult::Success(_) => AppendEntriesResponse::Success,
        AppendResult::Partial(upto) => AppendEntriesResponse::PartialSuccess(Some(parse_log_id(upto))),
        AppendResult::Conflict(_) => AppendEntriesResponse::Conflict,
        AppendResult::HigherVote(higher) => AppendEntriesResponse::HigherVote(parse_vote(Some(higher))?),
    })
}

/// Writes a request for a vote as it is sent.
#[must_use]
pub fn vote_request(request: &VoteRequest<u64>) -> peer::VoteRequest {
    peer::VoteRequest { vote: Some(vote(request.vote)), last: request.last_log_id.map(log_id) }
}

pub(super) fn parse_vote_request(request: peer::VoteRequest) -> Result<VoteRequest<u64>, PeerError> {
    Ok(VoteRequest { vote: parse_vote(request.vote)?, last_log_id: request.last.map(parse_log_id) })
}

pub(super) fn vote_response(response: &VoteResponse<u64>) -> peer::VoteResponse {
    let VoteResponse { vote: of, vote_granted, last_log_id } = response;
    peer::VoteResponse { vote: Some(vote(*of)), granted: *vote_granted, last: last_log_id.map(log_id) }
}

/// Reads the answer to a request for a vote.
///
/// # Errors
/// [`PeerError`] when it is not what a node sends.
pub fn parse_vote_response(response: peer::VoteResponse) -> Result<VoteResponse<u64>, PeerError> {
    let vote = parse_vote(response.vote)?;
    Ok(VoteResponse { vote, vote_granted: response.granted, last_log_id: response.last.map(parse_log_id) })
}

pub(super) fn snapshot_header(of: Vote<u64>, meta: &SnapshotMeta<u64, Member>, files: u32) -> Result<peer::SnapshotHeader, PeerError> {
    Ok(peer::SnapshotHeader { vote: Some(vote(of)), meta: serde_json::to_vec(meta)?, files })
}

pub(super) fn parse_snapshot_meta(header: &peer::SnapshotHeader) -> Result<SnapshotMeta<u64, Member>, PeerError> {
    Ok(serde_json::from_slice(&header.meta)?)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use bytes::Bytes;
    use openraft::Membership;

    use super::*;

    fn id(index: u64) -> LogId<u64> {
        LogId::new(CommittedLeaderId::new(4, 2), index)
    }

    fn membership() -> Membership<u64, Member> {
        let member = |name: &str| Member { name: name.to_owned(), peer_address: "h:1".to_owned(), client_address: "h:2".to_owned() };
        Membership::new(vec![BTreeSet::from([1, 2])], BTreeMap::from([(1, member("a")), (2, member("b"))]))
    }

    #[test]
    fn an_append_request_arrives_as_it_was_sent() {
        let request = || AppendEntriesRequest::<TypeConfig> {
            vote: Vote::new_committed(4, 2),
            prev_log_id: Some(id(6)),
            leader_commit: None,
            entries: vec![
                Entry { log_id: id(7), payload: EntryPayload::Blank },
                Entry { log_id: id(8), payload: EntryPayload::Normal(Group::new(Bytes::from_static(b"group"))) },
                Entry { log_id: id(9), payload: EntryPayload::Membership(membership()) },
            ],
        };
        let arrived = parse_append_request(append_request(request()).unwrap()).unwrap();
        assert_eq!(arrived.entries, request().entries);
        assert_eq!((arrived.vote, arrived.prev_log_id, arrived.leader_commit), (Vote::new_committed(4, 2), Some(id(6)), None));
    }

    #[test]
    fn append_responses_arrive_as_they_were_sent() {
        let responses = || {
            [
                AppendEntriesResponse::Success,
                AppendEntriesResponse::PartialSuccess(Some(id(3))),
                AppendEntriesResponse::Conflict,
                AppendEntriesResponse::HigherVote(Vote::new(9, 1)),
            ]
        };
        for (sent, expected) in responses().into_iter().zip(responses()) {
            assert_eq!(parse_append_response(append_response(sent).unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn votes_arrive_as_they_were_sent() {
        let request = VoteRequest::new(Vote::new(4, 2), Some(id(9)));
        assert_eq!(parse_vote_request(vote_request(&request)).unwrap(), request);
        let response = VoteResponse::new(Vote::new(4, 2), None, true);
        assert_eq!(parse_vote_response(vote_response(&response)).unwrap(), response);
    }

    #[test]
    fn a_message_without_its_vote_is_malformed() {
        assert!(matches!(parse_vote_request(peer::VoteRequest::default()), Err(PeerError::Malformed(_))));
        assert!(matches!(parse_append_request(peer::AppendEntriesRequest::default()), Err(PeerError::Malformed(_))));
    }
}
