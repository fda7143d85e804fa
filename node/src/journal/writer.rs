//! The journal's thread: the only writer of the database, the high-water file and the ring of recent entries.
//!
//! One command at a time, in the order of arrival. A command is answered only after everything that it promises is on the
//! disk: first the database's fsync, then the mark. (The mark in parallel could outlive a lost tail and stop a healthy
//! node.) After the first failed write nothing is written any more, because nobody knows what the disk then holds: the
//! thread reports the failure and ends, and `main` ends the process.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use arc_swap::ArcSwap;
use openraft::{Entry, LogId, Vote};
use tokio::sync::{mpsc, oneshot};

use super::{
    JournalError,
    extent::{LogExtent, RecordSizes},
    mark::{HighWater, Mark, Tip},
    opening::{Opened, tip_before},
    recent::RecentWriter,
    record,
    records::{Purged, Records},
};
use crate::{
    failure::{Failure, FailureReporter},
    replica::TypeConfig,
};

/// Commands that may wait. Raft sends one at a time; readers do not come here.
const WAITING_MAX: usize = 16;

/// Waits until the state holds everything up to an index, and makes it durable, so that the log up to there may go.
pub type FlushState = Box<dyn Fn(u64) -> Result<(), String> + Send>;

/// What the journal holds, as readers see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) vote: Option<Vote<u64>>,
    pub(super) purged: Option<LogId<u64>>,
    pub(super) last: Option<LogId<u64>>,
    pub(super) extent: LogExtent,
    /// How often records were removed.
    pub(super) removals: u64,
}

pub(super) enum Command {
    Append(Vec<Entry<TypeConfig>>),
    SaveVote(Vote<u64>),
    SaveCommitted(LogId<u64>),
    Truncate(LogId<u64>),
    Purge(LogId<u64>),
}

/// A command and where its answer goes.
pub(super) struct Request {
    command: Command,
    done: oneshot::Sender<Result<(), JournalError>>,
}

/// Sends commands to the thread. The thread ends when the last sender is gone.
#[derive(Clone, Debug)]
pub(super) struct WriterHandle(mpsc::Sender<Request>);

impl WriterHandle {
    /// Has `command` carried out. On return: what it promises is on the disk.
    pub(super) async fn run(&self, command: Command) -> Result<(), JournalError> {
        let (done, answer) = oneshot::channel();
        self.0.send(Request { command, done }).await.map_err(|_| JournalError::Stopped)?;
        answer.await.map_err(|_| JournalError::Stopped)?
    }

    /// Leaves `command` with the thread without waiting for it; a failure is reported by the thread.
    pub(super) async fn leave(&self, command: Command) -> Result<(), JournalError> {
        let (done, _) = oneshot::channel();
        self.0.send(Request { command, done }).await.map_err(|_| JournalError::Stopped)
    }
}

pub(super) struct Writer {
    pub(super) records: Arc<Records>,
    pub(super) high_water: HighWater,
    pub(super) recent: RecentWriter,
    pub(super) bounds: Arc<ArcSwap<Bounds>>,
    pub(super) flush_state: FlushState,
    pub(super) failures: FailureReporter,
    state: State,
}

struct State {
    vote: Option<Vote<u64>>,
    purged: Option<Purged>,
    tip: Tip,
    sizes: RecordSizes,
    removals: u64,
}

impl State {
    fn bounds(&self) -> Bounds {
        let Self { vote, purged, tip, sizes, removals } = self;
        let purged = purged.map(|at| at.log_id);
        Bounds { vote: *vote, purged, last: tip.log_id, extent: sizes.extent(), removals: *removals }
    }

    fn mark(&self) -> Mark {
        Mark { vote: self.vote, tip: self.tip }
    }
}

impl Writer {
    /// Takes over an opened journal.
    pub(super) fn new(opened: Opened, recent: RecentWriter, flush_state: FlushState, failures: FailureReporter) -> Self {
        let Opened { records, high_water, vote, purged, tip, sizes, committed: _ } = opened;
        let state = State { vote, purged, tip, sizes, removals: 0 };
        let bounds = Arc::new(ArcSwap::from_pointee(state.bounds()));
        Self { records: Arc::new(records), high_water, recent, bounds, flush_state, failures, state }
    }

    /// Starts the thread.
    pub(super) fn start(self) -> Result<(WriterHandle, JoinHandle<()>), JournalError> {
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || self.serve(requests))
            .map_err(|source| JournalError::Thread { source })?;
        Ok((WriterHandle(sender), thread))
    }

    fn serve(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(Request { command, done }) = requests.blocking_recv() {
            let result = self.carry_out(command);
            self.show();
            let failure = result.as_ref().err().and_then(failure);
            let ends = failure.is_some();
            if let Some(failure) = failure {
                self.failures.report(failure);
            }
            // Nobody waits any more when the Raft task was dropped; what was written stays written.
            drop(done.send(result));
            if ends {
                return;
            }
        }
    }

    fn show(&self) {
        self.bounds.store(Arc::new(self.state.bounds()));
    }

    /// Before records go, readers are told: whoever misses one afterwards finds out that it was removed.
    fn tell_removal(&mut self) {
        self.state.removals += 1;
        self.show();
    }

    fn carry_out(&mut self, command: Command) -> Result<(), JournalError> {
        match command {
            Command::Append(entries) => self.append(entries),
            Command::SaveVote(vote) => self.save_vote(vote),
            Command::SaveCommitted(committed) => self.records.save_committed(&committed),
            Command::Truncate(since) => self.truncate(&since),
            Command::Purge(upto) => self.purge(&upto),
        }
    }

    /// On return: the entries and the mark over them are on the disk. A crash before leaves the mark lower than the log,
    /// which is the harmless order.
    fn append(&mut self, entries: Vec<Entry<TypeConfig>>) -> Result<(), JournalError> {
        let mut tip = self.state.tip;
        let mut encoded = Vec::with_capacity(entries.len());
        for entry in &entries {
            let (expected, got) = (tip.next_index(), entry.log_id.index);
            if got != expected {
                return Err(JournalError::OutOfOrder { expected, got });
            }
            let (bytes, chain) = record::encode(entry, tip.chain)?;
            tip = Tip { log_id: Some(entry.log_id), chain };
            encoded.push((got, bytes));
        }
        let sizes: Vec<usize> = encoded.iter().map(|(_, bytes)| bytes.len()).collect();
        self.records.append(encoded.into_iter())?;
        self.state.tip = tip;
        sizes.into_iter().for_each(|bytes| self.state.sizes.push(bytes));
        self.raise_mark()?;
        entries.into_iter().for_each(|entry| self.recent.push(entry));
        Ok(())
    }

    /// On return: the vote is on the disk, twice.
    fn save_vote(&mut self, vote: Vote<u64>) -> Result<(), JournalError> {
        self.records.save_vote(&vote)?;
        self.state.vote = Some(vote);
        self.raise_mark()
    }

    /// On return: `since` and what followed is gone. A crash inside leaves the lowered mark and the longer log, which opens.
    fn truncate(&mut self, since: &LogId<u64>) -> Result<(), JournalError> {
        if since.index >= self.state.tip.next_index() {
            return Ok(());
        }
        if self.state.purged.is_some_and(|at| at.log_id.index >= since.index) {
            return Err(JournalError::NotInLog(*since));
        }
        let cut = self.state.tip.next_index().saturating_sub(since.index);
        self.state.tip = tip_before(&self.records, self.state.purged, since.index)?;
        self.state.sizes.drop_back(cut);
        self.tell_removal();
        self.raise_mark()?;
        self.recent.truncate(since.index);
        self.records.truncate(since.index)
    }

    /// On return: `upto` and what came before is gone, and the state that covers it is durable. A crash inside leaves a
    /// longer log.
    ///
    /// A snapshot can cover more than the log holds, or contradict its end: a committed log id at an index where another
    /// record stands means that this record and all behind it were never committed.
    fn purge(&mut self, upto: &LogId<u64>) -> Result<(), JournalError> {
        if self.state.purged.is_some_and(|at| at.log_id.index >= upto.index) {
            return Ok(());
        }
        (self.flush_state)(upto.index).map_err(|reason| JournalError::StateNotFlushed { reason })?;
        let purged = self.purge_point(upto)?;
        let behind = upto.index.saturating_add(1);
        let first = self.state.purged.map_or(0, |at| at.log_id.index.saturating_add(1));
        let takes_all = self.state.tip.next_index() <= behind;
        self.state.sizes.drop_front(behind.saturating_sub(first));
        self.state.purged = Some(purged);
        if takes_all {
            self.state.tip = Tip { log_id: Some(purged.log_id), chain: purged.chain };
        }
        self.tell_removal();
        self.recent.purge(upto.index);
        self.records.purge(&purged)?;
        if takes_all { self.raise_mark() } else { Ok(()) }
    }

    fn purge_point(&mut self, upto: &LogId<u64>) -> Result<Purged, JournalError> {
        let behind = upto.index.saturating_add(1);
        if self.state.tip.next_index() < behind {
            return Ok(Purged::anchored(*upto));
        }
        let tip = tip_before(&self.records, self.state.purged, behind)?;
        if tip.log_id == Some(*upto) {
            return Ok(Purged { log_id: *upto, chain: tip.chain });
        }
        self.truncate(upto)?;
        Ok(Purged::anchored(*upto))
    }

    fn raise_mark(&mut self) -> Result<(), JournalError> {
        self.high_water.write(&self.state.mark())
    }
}

/// Returns what the process must be told when a command fails, or `None` when the command was at fault.
fn failure(error: &JournalError) -> Option<Failure> {
    let reason = || error.to_string();
    match error {
        JournalError::File { .. } | JournalError::Database { .. } | JournalError::StateNotFlushed { .. } => {
            Some(Failure::DiskFailed { action: "writing the journal", reason: reason() })
        }
        JournalError::Corrupted { .. }
        | JournalError::RecordDamaged { .. }
        | JournalError::ChainBroken { .. }
        | JournalError::Hole { .. }
        | JournalError::MarkMissing { .. }
        | JournalError::Gone { .. }
        | JournalError::MarkDamaged { .. }
        | JournalError::MarkContradicted { .. }
        | JournalError::Regressed { .. }
        | JournalError::VoteRegressed { .. }
        | JournalError::StateBehind { .. } => Some(Failure::StorageDamaged { reason: reason() }),
        JournalError::OutOfOrder { .. }
        | JournalError::NotInLog(_)
        | JournalError::Payload { .. }
        | JournalError::Thread { .. }
        | JournalError::Stopped => None,
    }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::*;
    use crate::{
        data_dir::{DataDir, Identity},
        exit::ExitCode,
        failure::{self, FailureWatch},
        journal::{opening, recent::Recent},
    };

    fn start(root: &std::path::Path, adjust: impl FnOnce(&mut Writer)) -> (WriterHandle, FailureWatch) {
        let dir = DataDir::open(root, Identity { origin: "example.org/log".to_owned(), node_id: 1 }).unwrap();
        let (reporter, failures) = failure::channel();
        let opened = opening::open(&dir.journal(), &dir.high_water()).unwrap();
        let mut writer = Writer::new(opened, RecentWriter::new(Recent::new()), Box::new(|_| Ok(())), reporter);
        adjust(&mut writer);
        (writer.start().unwrap().0, failures)
    }

    fn append(index: u64) -> Command {
        let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
        Command::Append(vec![Entry { log_id, payload: EntryPayload::Blank }])
    }

    #[tokio::test]
    async fn a_failed_write_ends_the_journal_and_is_reported_for_exit_code_13() {
        let root = tempfile::tempdir().unwrap();
        let (writer, failures) = start(root.path(), |writer| writer.high_water.break_disk());
        let error = writer.run(append(0)).await.unwrap_err();
        assert!(matches!(error, JournalError::File { .. }), "{error}");
        assert_eq!(ExitCode::from(&failures.failed().await), ExitCode::DiskFailed);
        let after = writer.run(append(0)).await.unwrap_err();
        assert!(matches!(after, JournalError::Stopped), "{after}");
    }

    #[tokio::test]
    async fn nothing_is_purged_when_the_state_cannot_be_flushed() {
        let root = tempfile::tempdir().unwrap();
        let (writer, failures) = start(root.path(), |writer| writer.flush_state = Box::new(|_| Err("no space left".to_owned())));
        writer.run(append(0)).await.unwrap();
        let error = writer.run(Command::Purge(LogId::new(CommittedLeaderId::new(1, 1), 0))).await.unwrap_err();
        assert!(matches!(error, JournalError::StateNotFlushed { .. }), "{error}");
        assert_eq!(ExitCode::from(&failures.failed().await), ExitCode::DiskFailed);
    }

    #[tokio::test]
    async fn an_entry_out_of_order_is_refused_and_the_journal_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let (writer, _) = start(root.path(), |_| ());
        let error = writer.run(append(5)).await.unwrap_err();
        assert!(matches!(error, JournalError::OutOfOrder { expected: 0, got: 5 }), "{error}");
        writer.run(append(0)).await.unwrap();
    }
}
