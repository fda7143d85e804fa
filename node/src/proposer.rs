//! Group commit: whatever waited while the last group was on its way becomes the next Raft entry.

use std::sync::Arc;

use openraft::{error::ClientWriteError, raft::ClientWriteResponse};
use proofline_ledger::PreparedGroup;
use proofline_proto::peer::Group as GroupMessage;
use prost::Message as _;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{ClockReading, ClockVerdict, WallClock},
    inbox::{Applied, Gathered, Lost, Outbox, Reply},
    leadership::Leadership,
    replica::{Group, LogIndex, Member, Raft, TypeConfig},
};

/// What becomes of a group.
type Written = oneshot::Receiver<Result<ClientWriteResponse<TypeConfig>, ClientWriteError<u64, Member>>>;

/// What the proposer looks at before it proposes.
#[derive(Clone, Debug)]
pub struct Gates {
    /// Whether this node serves as the leader.
    pub leadership: watch::Receiver<Leadership>,
    /// Whether this node's clock agrees with its peers'.
    pub clock: watch::Receiver<ClockReading>,
    /// What groups are dated by.
    pub wall: WallClock,
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

/// Groups under way: while one is applied, the next is written and replicated.
const UNDER_WAY_MAX: usize = 2;

/// Proposes groups until shutdown, in the order in which they were gathered.
pub async fn propose(raft: Raft, mut outbox: Outbox, gates: Gates, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let answering = TaskTracker::new();
    loop {
        let next = async {
            let room = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((room, outbox.group().await?))
        };
        let next = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let Some((room, gathered)) = next else { break };
        if let Some(lost) = gates.closed() {
            resolve_all(gathered.replies, lost);
            continue;
        }
        let (group, replies) = dated(gathered, &gates.wall);
        match raft.client_write_ff(group).await {
            Ok(written) => {
                let leadership = gates.leadership.clone();
                answering.spawn(async move {
                    answer(written, replies, leadership).await;
                    drop(room);
                });
            }
            Err(_) => resolve_all(replies, Lost::FateUnknown),
        }
    }
    outbox.close();
    answering.close();
    answering.wait().await;
}

/// Makes a group of what was gathered, of this moment.
fn dated(gathered: Gathered, wall: &WallClock) -> (Group, Vec<Reply>) {
    let Gathered { items, prepared, replies, .. } = gathered;
    let proposed = wall.now();
    // Evil: other events than collectors signed, or in another order.
    proofline_ledger::evil!(if let Some(altered) = crate::evil::proposed(proposed, &items) {
        return (altered, replies);
    });
    let bytes = GroupMessage { proposed_unix_ns: proposed.0, items }.encode_to_vec().into();
    (Group::with_prepared(bytes, Arc::new(PreparedGroup { proposed, items: prepared })), replies)
}

/// Answers what one group carried. Raft drops the answer to an entry that a snapshot overtook, so nobody waits longer than this
/// node leads.
async fn answer(written: Written, replies: Vec<Reply>, mut leadership: watch::Receiver<Leadership>) {
    let written = tokio::select! {
        written = written => written,
        _ = leadership.wait_for(|seen| *seen != Leadership::Here) => {
            // Planted: what is on its way is called refused.
            let lost = proofline_ledger::planted!(LostLeadCalledRefused, Lost::NotLeader, Lost::FateUnknown);
            return resolve_all(replies, lost);
        }
    };
    match written {
        Ok(Ok(written)) => {
            let log_index = LogIndex(written.log_id.index);
            for (reply, outcome) in replies.into_iter().zip(written.data.as_slice()) {
                reply.resolve(Ok(Applied { log_index, outcome: outcome.clone() }));
            }
        }
        // Raft answers so before it appends, but also when it loses the lead with the entry on its way.
        Ok(Err(ClientWriteError::ForwardToLeader(_) | ClientWriteError::ChangeMembershipError(_))) | Err(_) => {
            resolve_all(replies, Lost::FateUnknown);
        }
    }
}

fn resolve_all(replies: Vec<Reply>, lost: Lost) {
    for reply in replies {
        reply.resolve(Err(lost));
    }
}
