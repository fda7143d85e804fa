//! Answers about lineage: who asks is put into the log first, then the answer is made page by page, at the pace of the reader.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ed25519_dalek::Signer as _;
use futures::Stream;
use proofline_ledger::{
    Lineage, LineageFault, QuestionProblem, Under, indexed_commitment,
    limits::{ACCESS_QUESTION_BYTES_MAX, ACCESS_TEXT_BYTES_MAX},
    listing, signed,
};
use proofline_proto::{
    peer::item,
    v1::{AccessKind, AccessRecorded, Dimension, LineagePage, LineageQuestion, TraceLineageRequest},
};
use prost::Message as _;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    Api,
    reading::{fault, page},
    status::{again, beyond, beyond_commitment, busy, malformed, refused},
};
use crate::{
    access::{Caller, Rpc, Scope},
    publisher::Published,
    store::{Frozen, StateDb},
};

/// Answers that one node gives at once: each holds a thread and a state.
const ANSWERS_MAX: usize = 8;
/// Answers that one reader is given at once.
const ANSWERS_OF_ONE_MAX: usize = 3;
/// Callers who read the log in order at once: each holds up to two messages of a megabyte.
const READERS_MAX: usize = 48;
const READERS_OF_ONE_MAX: usize = 16;
/// Questions that wait at once until a commitment covers them: each holds no more than itself.
const WAITING_MAX: usize = 128;
const WAITING_OF_ONE_MAX: usize = 32;
/// Longest time of an answer: a state that is held keeps what was compacted since on the disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(900);
/// Pages that are made ahead of the reader.
const PAGES_AHEAD: usize = 2;
/// How long a reader may leave a page untaken.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// Looks for a state and a checkpoint that fit each other; they part for a moment only.
const LOOKS_MAX: usize = 5;

pub(super) type Pages = Pin<Box<dyn Stream<Item = Result<LineagePage, Status>> + Send>>;

/// Room for answers that take long. Clones share it.
#[derive(Clone, Debug)]
pub struct Answering {
    places: usize,
    places_of_one: usize,
    room: Arc<Semaphore>,
    /// How many answers each reader is given.
    readers: Arc<Mutex<HashMap<String, usize>>>,
}

/// The room of one answer, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    reader: String,
    of: Answering,
    _place: OwnedSemaphorePermit,
}

impl Answering {
    /// Makes the room for answers about lineage.
    #[must_use]
    pub fn lineage() -> Self {
        Self::of(ANSWERS_MAX, ANSWERS_OF_ONE_MAX)
    }

    /// Makes the room for those who read the log in order.
    #[must_use]
    pub fn reading() -> Self {
        Self::of(READERS_MAX, READERS_OF_ONE_MAX)
    }

    /// Makes the room for questions that wait.
    #[must_use]
    pub fn waiting() -> Self {
        Self::of(WAITING_MAX, WAITING_OF_ONE_MAX)
    }

    fn of(places: usize, places_of_one: usize) -> Self {
        Self { places, places_of_one, room: Arc::new(Semaphore::new(places)), readers: Arc::default() }
    }

    pub(super) fn admit(&self, reader: &str) -> Result<Room, Status> {
        let full = |what: String| busy("TOO_MANY_QUESTIONS", format!("{what} already; ask again, or another node"));
        let place = Arc::clone(&self.room).try_acquire_owned();
        let place = place.map_err(|_| full(format!("this node has {} questions under way", self.places)))?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let given = readers.entry(reader.to_owned()).or_default();
        if *given >= self.places_of_one {
            return Err(full(format!("this node has {} questions of {reader} under way", self.places_of_one)));
        }
        *given += 1;
        Ok(Room { reader: reader.to_owned(), of: self.clone(), _place: place })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut readers = self.of.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(given) = readers.get_mut(&self.reader) {
            *given -= 1;
            if *given == 0 {
                readers.remove(&self.reader);
            }
        }
    }
}

impl Api {
    /// Answers a question, after it was recorded who asked.
    pub(super) async fn lineage(&self, caller: &Caller, asked: TraceLineageRequest) -> Result<Pages, Status> {
        let question = asked.question.clone().ok_or_else(|| malformed("MALFORMED_QUESTION", "the request has no question"))?;
        let page_entries = page(asked.page_entries)?;
        let kind = asked.kind();
        if !matches!(kind, AccessKind::Lineage | AccessKind::EvidenceExport) {
            return Err(malformed("MALFORMED_QUESTION", "the kind is neither LINEAGE nor EVIDENCE_EXPORT"));
        }
        let access = self.access(caller, kind, &asked.purpose)?;
        self.check_scope(caller, &question)?;
        recordable(&question)?;
        let waiting = self.asking.admit(&caller.to_string())?;
        self.covered(&question).await?;
        drop(waiting);
        let room = self.answering.admit(&caller.to_string())?;
        let (resolved, to_record) = oneshot::channel();
        let (recorded, may_answer) = oneshot::channel();
        let (pages, taken) = mpsc::channel(PAGES_AHEAD);
        let caller = caller.clone();
        let answer = Answer { api: self.clone(), caller, question, page_entries, resolved, may_answer, pages, _room: room };
        tokio::task::spawn_blocking(move || answer.give(&Handle::current()));
        let question = to_record.await.map_err(|_| Status::internal("the answer was interrupted"))??;
        self.record(AccessRecorded { question, ..access }).await?;
        // Nobody waits any more when the answer was interrupted; its pages end then.
        drop(recorded.send(Recorded));
        Ok(Box::pin(ReceiverStream::new(taken)))
    }

    /// Checks what is recorded of a request, but for its question.
    pub(super) fn access(&self, caller: &Caller, kind: AccessKind, purpose: &str) -> Result<AccessRecorded, Status> {
        if purpose.len() > ACCESS_TEXT_BYTES_MAX || purpose.chars().any(char::is_control) {
            return Err(malformed(
                "MALFORMED_QUESTION",
                format!("the purpose has more than {ACCESS_TEXT_BYTES_MAX} bytes, or control characters"),
            ));
        }
        Ok(AccessRecorded {
            kind: kind.into(),
            reader: caller.to_string(),
            purpose: purpose.to_owned(),
            node_id: self.peers.node_id(),
            public_key: self.node_key.verifying_key().to_bytes().to_vec(),
            ..AccessRecorded::default()
        })
    }

    /// A question about one tenant stays there: what its entries lead to is the same tenant's. Not so the entries that show where
    /// a stretch of time begins and ends: they are whoever's stand there.
    fn check_scope(&self, caller: &Caller, question: &LineageQuestion) -> Result<(), Status> {
        let has_time = question.from_unix_ns != 0 || question.to_unix_ns != 0;
        if question.starts.is_empty() || has_time {
            return self.check_role(caller, Rpc::TraceLineage, Scope::Everything);
        }
        question.starts.iter().try_for_each(|start| {
            let is_of_all = start.dimension() == Dimension::Collector || start.tenant_id.is_empty();
            let scope = if is_of_all { Scope::Everything } else { Scope::Tenant(&start.tenant_id) };
            self.check_role(caller, Rpc::TraceLineage, scope)
        })
    }

    /// Puts into the log who reads what. Whatever keeps it out keeps the answer back.
    pub(super) async fn record(&self, access: AccessRecorded) -> Result<(), Status> {
        let signature = self.node_key.sign(&signed::access(&self.origin, &access)).to_bytes().to_vec();
        let recorded = self.submit(item::Item::Access(AccessRecorded { signature, ..access })).await;
        recorded.map(drop).map_err(not_recorded)
    }
}

pub(super) fn not_recorded(status: Status) -> Status {
    again("NOT_RECORDED", format!("who asks could not be recorded, so nothing is answered: {}", status.message()))
}

/// Returns the exact bytes of a question, as far as they can be recorded.
fn recordable(of: &LineageQuestion) -> Result<Vec<u8>, Status> {
    let exact = of.encode_to_vec();
    if exact.len() <= ACCESS_QUESTION_BYTES_MAX {
        return Ok(exact);
    }
    let message = format!("the question has {} bytes, {ACCESS_QUESTION_BYTES_MAX} are the limit", exact.len());
    Err(malformed("MALFORMED_QUESTION", message))
}

/// It is in the log who asked.
struct Recorded;

/// An answer being given, on a thread of its own.
struct Answer {
    api: Api,
    caller: Caller,
    question: LineageQuestion,
    page_entries: usize,
    /// Takes the exact bytes of the question as it is recorded, or why there is no answer.
    resolved: oneshot::Sender<Result<Vec<u8>, Status>>,
    may_answer: oneshot::Receiver<Recorded>,
    pages: mpsc::Sender<Result<LineagePage, Status>>,
    _room: Room,
}

impl Answer {
    fn give(self, runtime: &Handle) {
        let Self { api, caller, question, page_entries, resolved, may_answer, pages, _room } = self;
        let (asked, until) = (question.clone(), Instant::now() + ANSWER_WITHIN);
        let state = api.state.view();
        let looked = Look::of(&api, &state);
        let begun = looked.as_ref().map_err(Clone::clone).and_then(|look| {
            let under = Under { note: look.published.note.clone(), size: look.published.size, commitment: look.commitment, page_entries };
            Lineage::begin(&look.frozen, question, under).map_err(lineage_status)
        });
        let mut lineage = match begun {
            Ok(lineage) => lineage,
            Err(status) => return drop(resolved.send(Err(status))),
        };
        let exact = recordable(lineage.question());
        let may_be_recorded = exact.is_ok();
        if resolved.send(exact).is_err() || !may_be_recorded || may_answer.blocking_recv().is_err() {
            return;
        }
        loop {
            // A role that was taken away ends the answer, too; and nobody works for a reader who is gone.
            let mut denied = None;
            let mut goes_on = || {
                denied = api.check_scope(&caller, &asked).and_then(|()| in_time(until)).err();
                denied.is_none() && !pages.is_closed()
            };
            let made = if goes_on() { lineage.next_page(&mut goes_on) } else { Err(LineageFault::Stopped) };
            let page = match made {
                // Evil: an answer that leaves something out.
                Ok(Some(page)) => Ok(proofline_ledger::evil!(crate::evil::lineage_page => page)),
                Ok(None) => return,
                Err(error) => Err(denied.unwrap_or_else(|| lineage_status(error))),
            };
            let is_end = page.is_err();
            let taken = runtime.block_on(tokio::time::timeout(TAKEN_WITHIN, pages.send(page)));
            if is_end || !matches!(taken, Ok(Ok(()))) {
                return;
            }
        }
    }
}

fn in_time(until: Instant) -> Result<(), Status> {
    let late = || refused("ANSWER_TOO_LONG", format!("an answer takes at most {} s: ask for less", ANSWER_WITHIN.as_secs()));
    if Instant::now() < until { Ok(()) } else { Err(late()) }
}

/// A state that does not change, and the checkpoint under which it is read.
struct Look<'a> {
    frozen: Frozen<'a>,
    published: Published,
    commitment: Option<proofline_ledger::CommitmentAt>,
}

impl<'a> Look<'a> {
    fn of(api: &Api, state: &'a StateDb) -> Result<Self, Status> {
        for _ in 0..LOOKS_MAX {
            let published = api.published.borrow().clone();
            let published = published.ok_or_else(|| again("NOT_PUBLISHED", "no checkpoint is published yet"))?;
            let frozen = state.frozen();
            let commitment = indexed_commitment(&frozen).map_err(fault)?;
            // The checkpoint was taken first: a commitment that was written since may lie beyond it.
            let is_covered = commitment.is_none_or(|of| of.index.0 < published.size.0);
            if is_covered && listing::head(&frozen).map_err(fault)?.size >= published.size {
                return Ok(Self { frozen, published, commitment });
            }
        }
        Err(again("NOTHING_COMMITTED", "the state is being replaced"))
    }
}

pub(super) fn lineage_status(error: LineageFault) -> Status {
    let message = error.to_string();
    match error {
        LineageFault::Question(QuestionProblem::BeyondCommitment { covered, .. }) => beyond_commitment(covered),
        LineageFault::Question(QuestionProblem::BeyondCheckpoint { covered, .. }) => beyond(covered),
        LineageFault::Question(
            QuestionProblem::TooManyStarts(_)
            | QuestionProblem::TooDeep(_)
            | QuestionProblem::NoKey(_)
            | QuestionProblem::Repeated(_)
            | QuestionProblem::UnknownWord
            | QuestionProblem::Backwards { .. }
            | QuestionProblem::EdgeTwice,
        ) => malformed("MALFORMED_QUESTION", message),
        LineageFault::NothingCommitted => again("NOTHING_COMMITTED", message),
        // Nobody hears it: whoever is denied is told that, and the reader is gone.
        LineageFault::Stopped => Status::cancelled(message),
        LineageFault::TooWide => refused("LINEAGE_TOO_WIDE", message),
        LineageFault::Store(error) => fault(error),
    }
}
