//! The collector: events go in once, receipts come out, whatever crashes in between.
//!
//! It holds one lane: its journal, and the place of the next batch in its chain.
//! Always true: every event is on disk in a signed batch before it is sent; a place in the chain once signed is never
//! signed with other content. Each start of a process goes on under a new epoch, which the ledger assigns, so not even a
//! journal that was restored from a copy signs a place twice. What the process before left unanswered is sent first, byte
//! for byte; only what the ledger then proves that it never took is signed again.
//! It does not decide what an event says.

mod delivery;
mod pipeline;

use std::{collections::HashSet, path::Path};

use bytes::Bytes;
use proofline_proto::v1;
use thiserror::Error;

use crate::{
    call::{CallError, Fault},
    client::Client,
    journal::{Journal, JournalError, Standing, Submission},
    lane::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, ChainPosition, EVENT_BYTES_MAX, Epoch, LaneError, LaneSigner, Sequence},
    source::SourceEvent,
};
use pipeline::Pipeline;

/// Batches of a pipeline that may wait for their receipts.
const WINDOW: usize = 32;

/// Why events could not be appended. What is in the journal stays there, and is sent when the collector is used again.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The lane could not be opened, or a batch not be signed.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The ledger refused, or could not be reached in time.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An event is longer than an entry can hold. Nothing of this call was appended.
    #[error("event {place} of the call has {bytes} bytes, at most {EVENT_BYTES_MAX} are taken; move content into payloads")]
    EventTooLarge {
        /// Which event, counted from 0.
        place: usize,
        /// Its length.
        bytes: usize,
    },
    /// Somebody else opened the lane: another process with the same collector, lane and key, but not with this journal.
    #[error("the lane was taken over: epoch {ours} was fenced or closed from outside")]
    TakenOver {
        /// The epoch of this collector.
        ours: Epoch,
    },
    /// The lane was not opened yet.
    #[error("the lane is not open")]
    NotOpen,
    /// The ledger assigned an epoch that this journal has used: it is another ledger, or one that lost its newest entries.
    #[error("the ledger opened epoch {opened}, but this journal knows epoch {known}: the ledger lost entries, or is another one")]
    EpochNotNew {
        /// What the ledger says.
        opened: Epoch,
        /// What the journal has.
        known: Epoch,
    },
    /// The ledger gave receipts for batches that its lane does not have: a node acknowledged what it did not append. Reported
    /// once; events behind the named batch up to the acknowledged one are not in the log, unless another process appended them.
    #[error(
        "LOST: batch {acknowledged_sequence} of epoch {acknowledged_epoch} was acknowledged, and the lane ends with batch {sequence} of epoch {epoch}"
    )]
    AcknowledgedAndLost {
        /// The newest batch with a receipt.
        acknowledged_epoch: Epoch,
        /// The newest batch with a receipt.
        acknowledged_sequence: Sequence,
        /// The newest batch that the ledger has.
        epoch: Epoch,
        /// The newest batch that the ledger has.
        sequence: Sequence,
    },
    /// A receipt is not that of the batch that was sent.
    #[error("the ledger answered batch {expected_sequence} of epoch {expected_epoch} with a receipt for {sequence} of {epoch}")]
    WrongReceipt {
        /// What was sent.
        expected_epoch: u64,
        /// What was sent.
        expected_sequence: u64,
        /// What came.
        epoch: u64,
        /// What came.
        sequence: u64,
    },
}

impl AppendError {
    /// Tells whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Call(error) | Self::Lane(LaneError::Call(error)) => error.is_retryable(),
            Self::Journal(_) | Self::Lane(_) | Self::EventTooLarge { .. } | Self::TakenOver { .. } | Self::NotOpen => false,
            Self::EpochNotNew { .. } | Self::WrongReceipt { .. } | Self::AcknowledgedAndLost { .. } => false,
        }
    }
}

/// What became of the events of one or more calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Appended {
    /// One receipt for each batch that was acknowledged, in the order of the log.
    pub receipts: Vec<v1::AppendResponse>,
    /// Receipts of batches that waited from calls or processes before.
    pub earlier: Vec<v1::AppendResponse>,
    /// Events that were in the journal already and were not sent again.
    pub known: usize,
}

impl Appended {
    /// Counts the events that the receipts are about.
    #[must_use]
    pub fn events(&self) -> usize {
        self.receipts.iter().map(|receipt| receipt.events.len()).sum()
    }

    /// Adds what became of further events.
    pub fn extend(&mut self, more: Self) {
        self.receipts.extend(more.receipts);
        self.earlier.extend(more.earlier);
        self.known += more.known;
    }
}

/// Whether the collector may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Chain {
    /// Not opened by this process yet, or closed in order.
    Unopened,
    /// The next batch goes here.
    Open(ChainPosition),
    /// Somebody else opened the lane after us.
    TakenOver(Epoch),
}

/// Appends events to one lane of a ledger.
#[derive(Debug)]
pub struct Collector {
    client: Client,
    signer: LaneSigner,
    journal: Journal,
    chain: Chain,
    pipeline: Option<Pipeline>,
    /// Where this process began: what came before waits since an earlier one.
    since: Submission,
    /// Receipts that came, and that no call has handed out yet.
    untold: Vec<(Submission, v1::AppendResponse)>,
}

impl Collector {
    /// Opens the journal in `directory`, or begins one. Nothing is sent before there is something to append.
    ///
    /// # Errors
    /// [`JournalError`]; the directory belongs to one collector at a time.
    pub fn open(client: Client, signer: LaneSigner, directory: &Path) -> Result<Self, JournalError> {
        let journal = Journal::open(directory, signer.name())?;
        let since = journal.state().next_submission();
        Ok(Self { client, signer, journal, chain: Chain::Unopened, pipeline: None, since, untold: Vec::new() })
    }

    /// Counts the batches that wait for their receipts: sent and unanswered, now or by a process before.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.journal.state().waiting_count()
    }

    /// Counts the events in the batches that wait.
    #[must_use]
    pub fn waiting_events(&self) -> usize {
        self.journal.state().waiting().map(|(_, waiting)| waiting.batch.events.len()).sum()
    }

    /// Counts the sources that the journal remembers.
    #[must_use]
    pub fn known_sources(&self) -> usize {
        self.journal.state().source_count()
    }

    /// Returns the journal's directory.
    #[must_use]
    pub fn journal_directory(&self) -> &Path {
        self.journal.directory()
    }

    /// Tells whether an event of this source is in the journal.
    #[must_use]
    pub fn knows(&self, source: &crate::SourceKey) -> bool {
        self.journal.state().knows(source)
    }

    /// Takes the receipts that came before a call failed: what they are about is in the log, and no other call tells of it. Of a
    /// process before this one are those under `earlier`.
    pub fn take_untold(&mut self) -> Appended {
        let untold = std::mem::take(&mut self.untold);
        let (earlier, receipts): (Vec<_>, Vec<_>) = untold.into_iter().partition(|(submission, _)| *submission < self.since);
        let told = |of: Vec<(Submission, v1::AppendResponse)>| of.into_iter().map(|(_, receipt)| receipt).collect();
        Appended { receipts: told(receipts), earlier: told(earlier), known: 0 }
    }

    /// Tells whether the ledger has batches of this lane behind everything that the journal knows of: it is new, or a copy from
    /// before, and does not recognise the sources in them.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn is_behind_its_lane(&self) -> Result<bool, CallError> {
        let name = self.signer.name();
        let call = |link: crate::Link| {
            let request = v1::GetCollectorHeadRequest { collector_id: name.collector_id.clone(), lane: name.lane };
            async move { link.ingest().get_collector_head(request).await }
        };
        let Some(last) = self.client.call(call).await?.last else { return Ok(false) };
        let state = self.journal.state();
        let signed = state.waiting().map(|(_, waiting)| (Epoch(waiting.batch.epoch), Sequence(waiting.batch.sequence)));
        let known = signed.chain(state.acknowledged()).chain([(state.epoch(), Sequence(0))]).max();
        Ok(known.is_none_or(|known| known < (Epoch(last.epoch), Sequence(last.sequence))))
    }

    /// Settles what a process before this one left unanswered, and opens the lane. [`Self::append`] does it by itself; after
    /// [`AppendError::TakenOver`] it is asked for by name, because it takes the lane back.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn recover(&mut self) -> Result<Appended, AppendError> {
        let done = self.reopen().await?;
        Ok(self.told(done))
    }

    /// What is handed out now need not be told another time.
    fn told(&mut self, done: Appended) -> Appended {
        self.untold.clear();
        done
    }

    async fn reopen(&mut self) -> Result<Appended, AppendError> {
        self.pipeline = None;
        self.chain = Chain::Unopened;
        self.journal.sync().await?;
        let mut earlier = self.settle_signed().await?;
        self.open_lane().await?;
        earlier.extend(self.catch_up().await?);
        Ok(Appended { earlier, ..Appended::default() })
    }

    /// Appends events and waits for all receipts. On return: they are on disk at a quorum, under final indexes.
    ///
    /// # Errors
    /// [`AppendError`]; whatever the error, events that reached the journal will be sent, and their sources are known.
    pub async fn append(&mut self, events: Vec<SourceEvent>) -> Result<Appended, AppendError> {
        let done = self.append_all(events).await?;
        Ok(self.told(done))
    }

    async fn append_all(&mut self, events: Vec<SourceEvent>) -> Result<Appended, AppendError> {
        let (batches, known) = self.batches(events)?;
        let mut appended = Appended { known, ..Appended::default() };
        let flushed = self.flush_all().await?;
        appended.earlier = [flushed.earlier, flushed.receipts].concat();
        if batches.is_empty() {
            return Ok(appended);
        }
        appended.extend(self.ready().await?);
        for batch in batches {
            let submission = self.sign(batch).await?;
            appended.receipts.push(self.deliver(submission).await?);
        }
        Ok(appended)
    }

    /// Appends events without waiting for their receipts, as long as fewer than a window of batches wait. Returns what was
    /// acknowledged meanwhile.
    ///
    /// # Errors
    /// [`AppendError`], as for [`Self::append`].
    pub async fn enqueue(&mut self, events: Vec<SourceEvent>) -> Result<Appended, AppendError> {
        let done = self.enqueue_all(events).await?;
        Ok(self.told(done))
    }

    async fn enqueue_all(&mut self, events: Vec<SourceEvent>) -> Result<Appended, AppendError> {
        let (batches, known) = self.batches(events)?;
        let mut appended = Appended { known, ..Appended::default() };
        if batches.is_empty() && self.waiting() == 0 {
            return Ok(appended);
        }
        appended.extend(self.ready().await?);
        for batch in batches {
            self.sign(batch).await?;
            appended.receipts.extend(self.pump(WINDOW).await?);
        }
        Ok(appended)
    }

    /// Goes on with what [`Self::enqueue`] left under way, while the caller waits for something else: sends, makes a broken
    /// stream anew, and returns with the next receipt. Pends for as long as nothing is under way.
    ///
    /// Safe to drop at any time, as `select!` does: no receipt and no event is lost.
    ///
    /// # Errors
    /// [`AppendError`], as for [`Self::append`].
    pub async fn drive(&mut self) -> Result<Appended, AppendError> {
        let Some(others) = self.waiting().checked_sub(1).filter(|_| self.is_under_way()) else { return std::future::pending().await };
        // One receipt only: nothing may be awaited between writing it down and handing it out.
        let receipts = self.pump(others).await?;
        Ok(self.told(Appended { receipts, ..Appended::default() }))
    }

    /// Waits for the receipts of everything that waits, also of what a process before left unanswered.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn flush(&mut self) -> Result<Appended, AppendError> {
        let done = self.flush_all().await?;
        Ok(self.told(done))
    }

    async fn flush_all(&mut self) -> Result<Appended, AppendError> {
        if self.waiting() == 0 {
            return Ok(Appended::default());
        }
        let mut appended = self.ready().await?;
        if self.pipeline.is_some() {
            appended.receipts = self.pump(0).await?;
        }
        Ok(appended)
    }

    /// Ends the epoch in order with a closing batch, if one was opened. Returns what was acknowledged on the way.
    ///
    /// # Errors
    /// [`AppendError`]; a closing batch that got no answer is sent again at the next start.
    pub async fn close(mut self) -> Result<Appended, AppendError> {
        let appended = self.flush().await?;
        if matches!(self.chain, Chain::Open(_)) {
            let submission = self.sign(Draft::default()).await?;
            self.deliver(submission).await?;
        }
        Ok(appended)
    }

    /// Sees to it that the lane is open and that no batch waits outside the pipeline: then the next batch may be signed.
    async fn ready(&mut self) -> Result<Appended, AppendError> {
        match self.chain {
            Chain::Open(_) if self.pipeline.is_some() || self.waiting() == 0 => Ok(Appended::default()),
            Chain::Open(_) => {
                self.journal.sync().await?;
                let earlier = self.catch_up().await?;
                Ok(Appended { earlier, ..Appended::default() })
            }
            Chain::Unopened => self.reopen().await,
            Chain::TakenOver(ours) => Err(AppendError::TakenOver { ours }),
        }
    }

    /// Tells whether all that waits was signed for the open epoch, so that a stream can take it as it is.
    fn is_under_way(&self) -> bool {
        matches!(self.chain, Chain::Open(_)) && self.journal.state().waiting().all(|(_, waiting)| waiting.standing == Standing::Signed)
    }

    /// Leaves out what the journal knows, and parts the rest into batches of the allowed size.
    fn batches(&self, events: Vec<SourceEvent>) -> Result<(Vec<Draft>, usize), AppendError> {
        let mut known = 0;
        let mut seen = HashSet::new();
        let mut batches = vec![Draft::default()];
        for (place, event) in events.into_iter().enumerate() {
            let bytes = event.event.len();
            if bytes > EVENT_BYTES_MAX {
                return Err(AppendError::EventTooLarge { place, bytes });
            }
            if event.source.is_some_and(|source| self.journal.state().knows(&source) || !seen.insert(source)) {
                known += 1;
                continue;
            }
            match batches.last_mut().filter(|batch| batch.has_room(bytes)) {
                Some(batch) => batch.push(event),
                None => batches.push(Draft::of(event)),
            }
        }
        batches.retain(|batch| !batch.events.is_empty());
        Ok((batches, known))
    }

    /// Signs the next batch of the open chain. On return: it is on disk.
    async fn sign(&mut self, draft: Draft) -> Result<Submission, AppendError> {
        let submission = self.journal.state().next_submission();
        self.sign_as(submission, draft).await?;
        Ok(submission)
    }

    async fn sign_as(&mut self, submission: Submission, draft: Draft) -> Result<(), AppendError> {
        let position = match &self.chain {
            Chain::Open(position) => position,
            Chain::Unopened => return Err(AppendError::NotOpen),
            Chain::TakenOver(ours) => return Err(AppendError::TakenOver { ours: *ours }),
        };
        let is_closing = draft.events.is_empty();
        let (batch, next) = self.signer.sign(position, draft.events)?;
        // The place counts as used from here on, whatever becomes of the write.
        self.chain = if is_closing { Chain::Unopened } else { Chain::Open(next) };
        Ok(self.journal.signed(submission, batch, &draft.sources).await?)
    }

    async fn open_lane(&mut self) -> Result<(), AppendError> {
        let position = self.signer.open(&self.client).await?;
        let known = self.journal.state().epoch();
        if position.epoch <= known {
            return Err(AppendError::EpochNotNew { opened: position.epoch, known });
        }
        self.journal.opened(position.epoch)?;
        let (epoch, sequence) = position.last();
        if let Some((acknowledged_epoch, acknowledged_sequence)) =
            self.journal.state().acknowledged().filter(|known| *known > (epoch, sequence))
        {
            self.journal.lost_behind(epoch, sequence)?;
            return Err(AppendError::AcknowledgedAndLost { acknowledged_epoch, acknowledged_sequence, epoch, sequence });
        }
        self.chain = Chain::Open(position);
        Ok(())
    }

    /// Goes through the batches that wait, in order, one by one: orphans are signed again, signed ones are sent.
    async fn catch_up(&mut self) -> Result<Vec<v1::AppendResponse>, AppendError> {
        let mut receipts = Vec::new();
        while let Some((submission, waiting)) = self.journal.state().first_waiting() {
            if waiting.standing == Standing::Orphaned {
                let draft = Draft::again(&waiting.batch, &waiting.sources);
                self.sign_as(submission, draft).await?;
            }
            receipts.push(self.deliver(submission).await?);
        }
        Ok(receipts)
    }
}

/// A batch before it is signed.
#[derive(Debug, Default)]
struct Draft {
    events: Vec<Bytes>,
    bytes: usize,
    sources: Vec<crate::SourceKey>,
}

impl Draft {
    fn of(event: SourceEvent) -> Self {
        let mut draft = Self::default();
        draft.push(event);
        draft
    }

    fn again(batch: &v1::Batch, sources: &[crate::SourceKey]) -> Self {
        let bytes = batch.events.iter().map(Bytes::len).sum();
        Self { events: batch.events.clone(), bytes, sources: sources.to_vec() }
    }

    fn push(&mut self, event: SourceEvent) {
        self.bytes += event.event.len();
        self.events.push(event.event);
        self.sources.extend(event.source);
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.events.len() < BATCH_EVENTS_MAX && self.bytes + bytes <= BATCH_BYTES_MAX
    }
}

/// Whether a refusal says that the epoch takes no more batches. The ledger looks for the batch itself first, so this also
/// proves that it never took the one that was refused, and never will.
fn proves_untakeable(fault: &Fault) -> bool {
    match fault {
        Fault::Refused(refusal) => matches!(refusal.reason, crate::Reason::EpochFenced | crate::Reason::EpochClosed),
        Fault::Connection(_) | Fault::TimedOut(_) => false,
    }
}

#[cfg(test)]
mod tests;
