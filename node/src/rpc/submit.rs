//! The way of a submission to the leader and back: into this node's inbox, or to the node that leads.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use proofline_ledger::{
    EntryIndex, Outcome, PreparedAccess, PreparedBatch, PreparedCommand, PreparedItem, PreparedOpenLane, entry, listing,
};
use proofline_proto::{
    peer::{Item, ProposeRequest, ProposeResponse, item, propose_response},
    v1,
};
use prost::bytes::Bytes;
use tokio::{sync::mpsc, task::JoinError};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

use super::{
    Api,
    status::{contradicted, fault_status, no_leader, refusal_status, unanswered},
};
use crate::{
    clock::ClockVerdict,
    inbox::{Lost, Submission, Ticket},
    leadership::Leadership,
    replica::LogIndex,
};

/// How long a submission waits for an election to end before it is sent back.
const LEADER_WITHIN: Duration = Duration::from_secs(3);
/// How long this node may take to apply what the leader acknowledged.
const APPLIED_WITHIN: Duration = Duration::from_secs(10);
/// Batches of one stream that may be under way.
const STREAM_WINDOW: usize = 128;

/// A batch up to this is hashed, and its signature checked, where it came in, so that small appends take no detour.
const EVENTS_AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 64 << 10;

/// Where a submission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Here,
    Node(u64),
}

/// What the state machine made of a submission, where and when.
pub(super) type Settled = Result<ProposeResponse, Status>;

impl Api {
    /// Submits one item and waits until this node has applied it.
    pub(super) async fn submit(&self, item: item::Item) -> Settled {
        match self.route().await? {
            Route::Here => self.submit_here(item).await,
            Route::Node(leader) => {
                let asked = Asked::of(&item);
                let answer = self.peers.propose(leader, ProposeRequest { item: Some(Item { item: Some(item) }) }).await;
                self.applied(leader, answer.map_err(|status| passed_on(leader, status))?, asked).await
            }
        }
    }

    /// Submits one item to this node's own inbox.
    pub(super) async fn submit_here(&self, item: item::Item) -> Settled {
        // Evil: acknowledged, and nothing was done.
        proofline_ledger::evil!(if let Some(acknowledged) = crate::evil::acknowledged(self, &item) {
            return Ok(acknowledged);
        });
        settle(self.admit(item).await?).await
    }

    async fn admit(&self, item: item::Item) -> Result<Ticket, Status> {
        // Operators and investigators are not kept waiting by load.
        let goes_first = matches!(item, item::Item::Command(_) | item::Item::Access(_));
        let submission = self.prepare(item).await?;
        Ok(if goes_first { self.inbox.admit_command(submission)? } else { self.inbox.admit(submission)? })
    }

    /// Parses an item and checks its signatures: once, before it takes any room.
    async fn prepare(&self, item: item::Item) -> Result<Submission, Status> {
        let (work, origin) = (Work::of(&item), Arc::clone(&self.origin));
        carry_out(work, move || prepare(item, &origin)).await.map_err(|_| Status::internal("parsing was interrupted"))?
    }

    /// Finds out who leads, waiting for an election that is under way.
    pub(super) async fn route(&self) -> Result<Route, Status> {
        let mut leadership = self.leadership.clone();
        let known = |seen: &Leadership| matches!(seen, Leadership::Here | Leadership::Other(_));
        let Ok(Ok(seen)) = tokio::time::timeout(LEADER_WITHIN, leadership.wait_for(known)).await.map(|seen| seen.map(|seen| *seen)) else {
            // A clock that is off is why this node asks for no votes, and it is what somebody has to mend.
            return Err(match self.clock.borrow().now() {
                ClockVerdict::Disagrees => Lost::ClockNotTrusted.into(),
                ClockVerdict::Agrees | ClockVerdict::Unknown => no_leader("no leader is known; nothing was appended"),
            });
        };
        match seen {
            Leadership::Other(leader) => Ok(Route::Node(leader)),
            Leadership::Here | Leadership::Rising | Leadership::Nobody => Ok(Route::Here),
        }
    }

    /// Waits until this node has applied what the leader acknowledged, and finds it in its own log: a leader is not believed.
    async fn applied(&self, leader: u64, answer: ProposeResponse, asked: Asked) -> Settled {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|seen| seen.applied >= Some(LogIndex(answer.log_index)));
        match tokio::time::timeout(APPLIED_WITHIN, reached).await {
            Ok(Ok(_)) => (),
            Ok(Err(_)) | Err(_) => return Err(Lost::FateUnknown.into()),
        }
        let state = self.state.view();
        let is_true = match (&answer.outcome, asked) {
            (Some(propose_response::Outcome::Commanded(said)), Asked::Command(command)) => {
                entry::is_command_at(&*state, EntryIndex(said.index), &command)
            }
            (Some(propose_response::Outcome::Appended(said)), Asked::Other) => entry::is_receipt_of(&*state, said),
            (Some(propose_response::Outcome::Opened(_) | propose_response::Outcome::Recorded(_)), Asked::Other) => Ok(true),
            (Some(_), Asked::Command(_) | Asked::Other) | (None, _) => Ok(false),
        };
        if is_true.map_err(|fault| fault_status(&fault))? {
            return Ok(answer);
        }
        tracing::error!(leader, log_index = answer.log_index, "the leader acknowledged what is not in this node's log");
        Err(contradicted(leader))
    }

    /// Answers a command that was taken before as it was answered then, with the entry that it became: whoever sends it again
    /// may not be allowed to read entries, and has signed all that this one says. Anything else stays refused.
    pub(super) async fn taken_before(&self, command: v1::SignedCommand, refusal: Status) -> Result<v1::SubmitCommandResponse, Status> {
        let named = refusal.get_details_error_info().filter(|info| info.reason == "COMMAND_REPLAYED");
        let Some(index) = named.and_then(|info| info.metadata.get("entry")?.parse().ok()) else { return Err(refusal) };
        let mut progress = self.progress.clone();
        // A node that does not get there in time has no such entry, and says so below.
        drop(tokio::time::timeout(APPLIED_WITHIN, progress.wait_for(|seen| seen.tree_size.0 > index)).await);
        let found = self.read_applied(move |applied| {
            let is_it = entry::is_command_at(applied, EntryIndex(index), &command)?;
            if is_it { listing::entry(applied, EntryIndex(index)) } else { Ok(None) }
        });
        found.await?.map(|entry| v1::SubmitCommandResponse { index, entry }).ok_or(refusal)
    }

    /// Submits batches as they come to this node's own inbox; answers come in the order of the batches.
    pub(super) fn stream_here<S>(&self, batches: S) -> impl Stream<Item = Settled> + use<S>
    where
        S: Stream<Item = Result<item::Item, Status>> + Send + 'static,
    {
        let (sender, tickets) = mpsc::channel(STREAM_WINDOW);
        let api = self.clone();
        // Ends with the batches, with the first refusal, or when nobody reads answers any more.
        tokio::spawn(async move {
            let mut batches = std::pin::pin!(batches);
            while let Some(batch) = batches.next().await {
                let admitted = match batch {
                    Ok(item) => api.admit_when_room(item).await,
                    Err(status) => Err(status),
                };
                let is_last = admitted.is_err();
                if sender.send(admitted).await.is_err() || is_last {
                    return;
                }
            }
        });
        until_refused(ReceiverStream::new(tickets).then(|admitted| async move { settle(admitted?).await }))
    }

    async fn admit_when_room(&self, item: item::Item) -> Result<Ticket, Status> {
        let submission = self.prepare(item).await?;
        Ok(self.inbox.admit_when_room(submission).await?)
    }

    /// Passes batches on to the leader as they come; answers come in the order of the batches, once applied here.
    pub(super) async fn stream_to<S>(&self, leader: u64, batches: S) -> Result<impl Stream<Item = Settled> + use<S>, Status>
    where
        S: Stream<Item = Result<item::Item, Status>> + Send + 'static,
    {
        let (sender, requests) = mpsc::channel(1);
        let (refuse, refused) = mpsc::channel(1);
        tokio::spawn(self.forwarding.clone().pass_on(batches, sender, refuse));
        let answers: Streaming<ProposeResponse> =
            self.peers.propose_stream(leader, ReceiverStream::new(requests)).await.map_err(|status| passed_on(leader, status))?;
        let api = self.clone();
        let settled = answers.then(move |answer| {
            let api = api.clone();
            async move { api.applied(leader, answer.map_err(|status| passed_on(leader, status))?, Asked::Other).await }
        });
        // What the edge refuses comes after the answers to everything before it.
        let refused = ReceiverStream::new(refused).map(|refused| refused.map(|never| match never {}));
        Ok(until_refused(settled.chain(refused)))
    }
}

/// Passes on what the leader answered. Where nobody answered, the connection did, and the submission may have arrived.
fn passed_on(leader: u64, status: Status) -> Status {
    if status.get_details_error_info().is_some() { status } else { unanswered(leader, &status) }
}

/// What was passed on to the leader, as far as its answer is compared with it.
enum Asked {
    Command(Box<v1::SignedCommand>),
    Other,
}

impl Asked {
    fn of(item: &item::Item) -> Self {
        match item {
            item::Item::Command(command) => Self::Command(Box::new(command.clone())),
            _ => Self::Other,
        }
    }
}

/// How much there is to parse and to hash before an item is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Less than going to another thread costs.
    Little,
    /// Enough to keep other calls waiting.
    Much,
}

impl Work {
    fn of(item: &item::Item) -> Self {
        let item::Item::Batch(batch) = item else { return Self::Little };
        let is_small = batch.events.len() <= EVENTS_AT_ONCE && batch.events.iter().map(Bytes::len).sum::<usize>() <= BYTES_AT_ONCE;
        if is_small { Self::Little } else { Self::Much }
    }
}

/// Does little work at once, and much of it on a blocking thread.
async fn carry_out<T: Send + 'static>(work: Work, what: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match work {
        Work::Little => Ok(what()),
        Work::Much => tokio::task::spawn_blocking(what).await,
    }
}

fn prepare(item: item::Item, origin: &str) -> Result<Submission, Status> {
    let prepared = match item.clone() {
        item::Item::Batch(batch) => PreparedBatch::new(batch, origin).map(PreparedItem::Batch),
        item::Item::OpenLane(open) => PreparedOpenLane::new(open, origin).map(PreparedItem::OpenLane),
        item::Item::Command(command) => PreparedCommand::new(command, origin).map(PreparedItem::Command),
        item::Item::Access(access) => PreparedAccess::new(access, origin).map(PreparedItem::Access),
        item::Item::Genesis(_) | item::Item::Checkpoint(_) | item::Item::Delivery(_) | item::Item::Commitment(_) => {
            return Err(Status::invalid_argument("not a submission"));
        }
    };
    let prepared = prepared.map_err(|refusal| refusal_status(&refusal))?;
    Ok(Submission::new(Item { item: Some(item) }, prepared))
}

async fn settle(ticket: Ticket) -> Settled {
    let applied = ticket.answer().await?;
    let outcome = match applied.outcome {
        Outcome::Appended(receipt) => propose_response::Outcome::Appended(receipt),
        Outcome::Opened(opened) => propose_response::Outcome::Opened(opened),
        Outcome::Commanded(index) => {
            propose_response::Outcome::Commanded(v1::SubmitCommandResponse { index: index.0, ..Default::default() })
        }
        Outcome::Refused(refusal) => return Err(refusal_status(&refusal)),
        Outcome::Recorded(index) => propose_response::Outcome::Recorded(index.0),
        Outcome::Began | Outcome::Published | Outcome::Delivered(_) | Outcome::Committed(_) => {
            return Err(Status::internal("the outcome of another kind of item"));
        }
    };
    Ok(ProposeResponse { log_index: applied.log_index.0, outcome: Some(outcome) })
}

/// Ends a stream with its first error.
fn until_refused<S>(answers: S) -> impl Stream<Item = Settled> + use<S>
where
    S: Stream<Item = Settled>,
{
    stream::unfold(Some(Box::pin(answers)), |answers| async move {
        let mut answers = answers?;
        let answer = answers.next().await?;
        let rest = answer.is_ok().then_some(answers);
        Some((answer, rest))
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn batch(events: usize, bytes: usize) -> item::Item {
        item::Item::Batch(v1::Batch { events: vec![vec![0; bytes].into(); events], ..Default::default() })
    }

    #[test]
    fn only_large_batches_are_much_work() {
        for little in [batch(0, 0), batch(128, 512), batch(1, 64 << 10), item::Item::Command(v1::SignedCommand::default())] {
            assert_eq!(Work::of(&little), Work::Little);
        }
        for much in [batch(129, 1), batch(1, (64 << 10) + 1), batch(4_096, 1)] {
            assert_eq!(Work::of(&much), Work::Much);
        }
    }

    #[tokio::test]
    async fn much_work_leaves_the_threads_that_answer_calls() {
        let here = thread::current().id();
        let at = |work| async move { carry_out(work, || thread::current().id()).await.unwrap() };
        assert_eq!(at(Work::Little).await, here);
        assert_ne!(at(Work::Much).await, here);
    }
}
