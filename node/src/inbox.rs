//! Where submissions wait for the next group: admitted or refused at once, within fixed bounds.
//!
//! Always true: what was admitted is answered exactly once; bytes that wait are bounded; commands wait apart from batches
//! and are drained first, so that no load keeps an operator from acting.

use std::sync::Arc;

use proofline_ledger::{Outcome, PreparedItem};
use proofline_proto::peer::{Item, item};
use prost::Message as _;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::replica::LogIndex;

/// Batches that may wait or be under way.
const BATCHES_MAX: usize = 16_384;
/// Commands that may wait.
const COMMANDS_MAX: usize = 256;
/// Bytes of batches that may wait or be under way. What is made of them before their turn comes takes little beside them.
const BYTES_MAX: usize = 16 << 20;
/// What an event costs beside its bytes, as an entry and as rows: a batch of empty events is not free.
const EVENT_FRAME_BYTES: usize = 300;
/// Turns of the runtime without a new submission after which a group is closed.
const TURNS_WITHOUT_NEWS: usize = 16;
/// Bytes of one group: one Raft entry, one fsync. It is closed once it holds as many.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// What becomes of an admitted submission.
pub type Answer = Result<Applied, Lost>;

/// A submission that was committed and applied here.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Raft entry that carried it.
    pub log_index: LogIndex,
    /// What the state machine answered.
    pub outcome: Outcome,
}

/// A submission that was admitted and then not seen through.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Lost {
    /// This node is not the leader; nothing was appended here.
    #[error("this node is not the leader")]
    NotLeader,
    /// This node would have to date the submission, and its clock is not to be trusted; nothing was appended.
    #[error("this node's clock disagrees with the other voters' by more than 5 s, or too few of them answer: nothing was appended")]
    ClockNotTrusted,
    /// The leader changed while the submission was on its way: it may or may not be in the log.
    #[error("leadership changed while the submission was under way; its fate is unknown, and sending the same again is safe")]
    FateUnknown,
    /// The node shuts down.
    #[error("the node shuts down")]
    ShuttingDown,
}

/// A submission that was not admitted: definitely without effect.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The inbox is full.
    #[error("the inbox is full; nothing was appended, try again")]
    Full,
    /// The node shuts down.
    #[error("the node shuts down")]
    ShuttingDown,
}

/// A parsed, authenticated, uncommitted submission.
#[derive(Debug)]
pub struct Submission {
    item: Item,
    prepared: PreparedItem,
    bytes: usize,
}

impl Submission {
    /// Takes an item together with its parsed form.
    #[must_use]
    pub fn new(item: Item, prepared: PreparedItem) -> Self {
        let events = match &item.item {
            Some(item::Item::Batch(batch)) => batch.events.len(),
            Some(_) | None => 0,
        };
        Self { bytes: item.encoded_len() + events * EVENT_FRAME_BYTES, item, prepared }
    }
}

/// Resolves when the submission was applied, or lost.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Answer>);

impl Ticket {
    /// Waits for the answer.
    pub async fn answer(self) -> Answer {
        self.0.await.unwrap_or(Err(Lost::FateUnknown))
    }
}

/// A submission in the queue.
#[derive(Debug)]
struct Waiting {
    submission: Submission,
    reply: Reply,
}

/// Where the answer to one submission goes.
#[derive(Debug)]
pub struct Reply {
    sender: oneshot::Sender<Answer>,
    /// Held until the answer is given, so that what is under way counts as well as what waits.
    _bytes_held: Option<OwnedSemaphorePermit>,
}

impl Reply {
    /// Answers the submission.
    pub fn resolve(self, answer: Answer) {
        // A caller that has gone does not change what was committed.
        drop(self.sender.send(answer));
    }
}

/// What becomes one Raft entry: the three lists run in parallel.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What to propose.
    pub items: Vec<Item>,
    /// The parsed forms.
    pub prepared: Vec<PreparedItem>,
    /// Where the answers go.
    pub replies: Vec<Reply>,
    bytes: usize,
}

impl Gathered {
    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.submission.bytes;
        self.items.push(waiting.submission.item);
        self.prepared.push(waiting.submission.prepared);
        self.replies.push(waiting.reply);
    }
}

/// The sending side.
#[derive(Clone, Debug)]
pub struct Inbox {
    batches: mpsc::Sender<Waiting>,
    commands: mpsc::Sender<Waiting>,
    bytes: Arc<Semaphore>,
}

/// The receiving side; there is one.
#[derive(Debug)]
pub struct Outbox {
    batches: mpsc::Receiver<Waiting>,
    commands: mpsc::Receiver<Waiting>,
}

/// Makes an inbox.
#[must_use]
pub fn inbox() -> (Inbox, Outbox) {
    let (batches, waiting_batches) = mpsc::channel(BATCHES_MAX);
    let (commands, waiting_commands) = mpsc::channel(COMMANDS_MAX);
    let bytes = Arc::new(Semaphore::new(BYTES_MAX));
    (Inbox { batches, commands, bytes }, Outbox { batches: waiting_batches, commands: waiting_commands })
}

impl Inbox {
    /// Admits a batch or an opening, or refuses it at once.
    ///
    /// # Errors
    /// [`NotAdmitted`]: nothing happened.
    pub fn admit(&self, submission: Submission) -> Result<Ticket, NotAdmitted> {
        let held = Arc::clone(&self.bytes).try_acquire_many_owned(weight(&submission)).map_err(|_| NotAdmitted::Full)?;
        send(&self.batches, submission, Some(held))
    }

    /// Admits a batch as soon as there is room: for streams, whose sender is slowed down instead of refused.
    ///
    /// # Errors
    /// [`NotAdmitted::ShuttingDown`]: nothing happened.
    pub async fn admit_when_room(&self, submission: Submission) -> Result<Ticket, NotAdmitted> {
        let held = Arc::clone(&self.bytes).acquire_many_owned(weight(&submission)).await;
        let held = held.map_err(|_| NotAdmitted::ShuttingDown)?;
        let room = self.batches.reserve().await.map_err(|_| NotAdmitted::ShuttingDown)?;
        let (waiting, ticket) = queued(submission, Some(held));
        room.send(waiting);
        Ok(ticket)
    }

    /// Admits a command, the genesis or a checkpoint: drained before any batch.
    ///
    /// # Errors
    /// [`NotAdmitted`]: nothing happened.
    pub fn admit_command(&self, submission: Submission) -> Result<Ticket, NotAdmitted> {
        send(&self.commands, submission, None)
    }

    /// Returns how many submissions wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        (self.batches.max_capacity() - self.batches.capacity()) + (self.commands.max_capacity() - self.commands.capacity())
    }
}

fn weight(submission: &Submission) -> u32 {
    u32::try_from(submission.bytes).unwrap_or(u32::MAX)
}

fn queued(submission: Submission, held: Option<OwnedSemaphorePermit>) -> (Waiting, Ticket) {
    let (sender, ticket) = oneshot::channel();
    (Waiting { submission, reply: Reply { sender, _bytes_held: held } }, Ticket(ticket))
}

fn send(queue: &mpsc::Sender<Waiting>, submission: Submission, held: Option<OwnedSemaphorePermit>) -> Result<Ticket, NotAdmitted> {
    let (waiting, ticket) = queued(submission, held);
    match queue.try_send(waiting) {
        Ok(()) => Ok(ticket),
        Err(mpsc::error::TrySendError::Full(_)) => Err(NotAdmitted::Full),
        Err(mpsc::error::TrySendError::Closed(_)) => Err(NotAdmitted::ShuttingDown),
    }
}

impl Outbox {
    /// Waits for a submission, then takes everything that waits, as far as one group holds it: commands first.
    /// `None` when every sender is gone.
    pub async fn group(&mut self) -> Option<Gathered> {
        let first = tokio::select! {
            biased;
            Some(command) = self.commands.recv() => command,
            Some(batch) = self.batches.recv() => batch,
            else => return None,
        };
        let mut group = Gathered::default();
        group.push(first);
        // Callers that the last group answered come again at once: a few turns of the runtime let them into this one.
        let mut turns = 0;
        while group.bytes < GROUP_BYTES_MAX && turns < TURNS_WITHOUT_NEWS {
            match self.commands.try_recv().or_else(|_| self.batches.try_recv()) {
                Ok(next) => {
                    group.push(next);
                    turns = 0;
                }
                Err(_) => {
                    tokio::task::yield_now().await;
                    turns += 1;
                }
            }
        }
        Some(group)
    }

    /// Refuses what still waits, and everything that comes later.
    pub fn close(&mut self) {
        self.commands.close();
        self.batches.close();
        while let Ok(waiting) = self.commands.try_recv().or_else(|_| self.batches.try_recv()) {
            waiting.reply.resolve(Err(Lost::ShuttingDown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proofline_ledger::Refusal;
    use proofline_proto::v1;

    fn submission(bytes: usize) -> Submission {
        let batch = v1::Batch { events: vec![vec![0_u8; bytes].into()], ..Default::default() };
        let item = Item { item: Some(item::Item::Batch(batch)) };
        Submission::new(item, PreparedItem::Refused(Refusal::Malformed("only its size matters here")))
    }

    fn applied() -> Answer {
        Ok(Applied { log_index: LogIndex(1), outcome: Outcome::Began })
    }

    #[tokio::test]
    async fn a_full_inbox_refuses_at_once_and_takes_again_when_answers_were_given() {
        let (inbox, mut outbox) = inbox();
        let mut tickets = Vec::new();
        let refused = loop {
            match inbox.admit(submission(4 << 20)) {
                Ok(ticket) => tickets.push(ticket),
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused, tickets.len()), (NotAdmitted::Full, 3), "16 MiB hold three batches of 4 MiB and their frames");
        let group = outbox.group().await.unwrap();
        assert_eq!(inbox.admit(submission(4 << 20)).unwrap_err(), NotAdmitted::Full, "what is under way counts too");
        group.replies.into_iter().for_each(|reply| reply.resolve(applied()));
        inbox.admit(submission(4 << 20)).unwrap();
    }

    #[tokio::test]
    async fn commands_overtake_batches_and_have_room_of_their_own() {
        let (inbox, mut outbox) = inbox();
        while inbox.admit(submission(4 << 20)).is_ok() {}
        inbox.admit_command(submission(7)).unwrap();
        let group = outbox.group().await.unwrap();
        let sizes: Vec<usize> = group.items.iter().map(prost::Message::encoded_len).collect();
        assert!(sizes[0] < 100 && sizes[1] > 4 << 20, "{sizes:?}");
    }

    #[tokio::test]
    async fn everything_that_waited_becomes_one_group_within_its_bytes() {
        let (inbox, mut outbox) = inbox();
        let tickets: Vec<_> = (0..1000).map(|_| inbox.admit(submission(100)).unwrap()).collect();
        let group = outbox.group().await.unwrap();
        assert_eq!(group.items.len(), 1000);
        group.replies.into_iter().for_each(|reply| reply.resolve(applied()));
        for ticket in tickets {
            ticket.answer().await.unwrap();
        }
        let _held: Vec<_> = (0..4).map(|_| inbox.admit(submission(2 << 20)).unwrap()).collect();
        assert_eq!(outbox.group().await.unwrap().items.len(), 1, "a group is closed once it holds 1 MiB");
    }

    #[tokio::test]
    async fn a_closed_inbox_answers_what_waits_and_refuses_the_rest() {
        let (inbox, mut outbox) = inbox();
        let ticket = inbox.admit(submission(1)).unwrap();
        outbox.close();
        assert_eq!(ticket.answer().await.unwrap_err(), Lost::ShuttingDown);
        assert_eq!(inbox.admit(submission(1)).unwrap_err(), NotAdmitted::ShuttingDown);
        assert_eq!(inbox.admit_when_room(submission(1)).await.unwrap_err(), NotAdmitted::ShuttingDown);
    }

    #[tokio::test]
    async fn a_stream_waits_for_room_instead_of_being_refused() {
        let (inbox, mut outbox) = inbox();
        while inbox.admit(submission(4 << 20)).is_ok() {}
        let waiting = inbox.admit_when_room(submission(4 << 20));
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        outbox.group().await.unwrap().replies.into_iter().for_each(|reply| reply.resolve(applied()));
        waiting.await.unwrap();
    }
}
