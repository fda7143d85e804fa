//! Group commit: whatever waited while the last group was on its way becomes the next Raft entry.

use std::sync::Arc;

use openraft::error::{ClientWriteError, RaftError};
use proofline_ledger::{PreparedGroup, UnixNanos};
use proofline_proto::peer::Group as GroupMessage;
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{ClockReading, ClockVerdict, unix_ns},
    inbox::{Applied, Gathered, Lost, Outbox, Reply},
    leadership::Leadership,
    replica::{Group, LogIndex, Raft},
};

/// What the proposer looks at before it proposes.
#[derive(Clone, Debug)]
pub struct Gates {
    /// Whether this node serves as the leader.
    pub leadership: watch::Receiver<Leadership>,
    /// Whether this node's clock agrees with its peers'.
    pub clock: watch::Receiver<ClockReading>,
}

impl Gates {
    /// Tells why nothing may be proposed now.
    fn closed(&self) -> Option<Lost> {
        match (*self.leadership.borrow(), self.clock.borrow().now()) {
            (Leadership::Here, ClockVerdict::Agrees) => None,
            (Leadership::Here, ClockVerdict::Disagrees | ClockVerdict::Unknown) => Some(Lost::ClockNotTrusted),
            (Leadership::Nobody | Leadership::Other(_) | Leadership::Rising, _) => Some(Lost::NotLeader),
        }
    }
}

/// Proposes groups until shutdown, one at a time: more in flight gained nothing measurable, and order would need care.
pub async fn propose(raft: Raft, mut outbox: Outbox, mut gates: Gates, shutdown: CancellationToken) {
    loop {
        let group = tokio::select! {
            () = shutdown.cancelled() => break,
            group = outbox.group() => group,
        };
        let Some(group) = group else { break };
        match gates.closed() {
            None => write(&raft, group, &mut gates.leadership).await,
            Some(lost) => resolve_all(group.replies, lost),
        }
    }
    outbox.close();
}

/// Writes one group. Raft drops the answer to an entry that a snapshot overtook, so nobody waits longer than this node leads.
async fn write(raft: &Raft, gathered: Gathered, leadership: &mut watch::Receiver<Leadership>) {
    let Gathered { items, prepared, replies, .. } = gathered;
    let proposed = UnixNanos(unix_ns());
    let bytes = GroupMessage { proposed_unix_ns: proposed.0, items }.encode_to_vec().into();
    let group = Group::with_prepared(bytes, Arc::new(PreparedGroup { proposed, items: prepared }));
    let written = tokio::select! {
        written = raft.client_write(group) => written,
        _ = leadership.wait_for(|seen| *seen != Leadership::Here) => return resolve_all(replies, Lost::FateUnknown),
    };
    match written {
        Ok(written) => {
            let log_index = LogIndex(written.log_id.index);
            for (reply, outcome) in replies.into_iter().zip(written.data.as_slice()) {
                reply.resolve(Ok(Applied { log_index, outcome: outcome.clone() }));
            }
        }
        // Raft answers so before it appends, but also when it loses the lead with the entry on its way.
        Err(
            RaftError::APIError(ClientWriteError::ForwardToLeader(_) | ClientWriteError::ChangeMembershipError(_)) | RaftError::Fatal(_),
        ) => {
            resolve_all(replies, Lost::FateUnknown);
        }
    }
}

fn resolve_all(replies: Vec<Reply>, lost: Lost) {
    for reply in replies {
        reply.resolve(Err(lost));
    }
}
