//! The Raft log of this node.
//!
//! Holds the entries, the vote and how far the log is committed, in a database and a high-water file of its own. A node
//! answers "I have it" on the strength of this journal, so always true: what was acknowledged is on the disk when the
//! acknowledgement leaves; a journal that lost or changed anything is refused at the next start; after a failed write
//! nothing is written any more.
//!
//! What it does not do: it does not look into a group, and it never repairs. A node whose journal is refused rejoins the cluster
//! as a new one.

mod error;
mod extent;
mod layout;
mod mark;
mod opening;
mod recent;
mod record;
mod records;
mod writer;

use std::{fmt::Debug, ops::RangeBounds, sync::Arc, thread::JoinHandle};

use arc_swap::ArcSwap;
use openraft::{
    AnyError, Entry, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
    storage::{LogFlushed, RaftLogStorage},
};

pub use self::{error::JournalError, extent::LogExtent, record::RecordDamage, writer::FlushState};
use self::{
    mark::HighWater,
    recent::{Recent, RecentWriter, payload_bytes},
    records::Records,
    writer::{Bounds, Command, Writer, WriterHandle},
};
use crate::{data_dir::DataDir, failure::FailureReporter, replica::TypeConfig};

/// Payload bytes that one append to a follower carries at most, unless a single entry is larger.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// The Raft log, as Raft writes it. Its thread ends when this is dropped.
#[derive(Debug)]
pub struct Journal {
    reader: JournalReader,
    writer: WriterHandle,
    // Kept so that the directory stays locked as long as somebody writes to it.
    dir: DataDir,
    committed: Option<LogId<u64>>,
}

/// What a directory shows of a journal, before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalTrace {
    /// Nothing: it was never made, or everything is gone.
    None,
    /// It was made, and nothing was ever promised with it.
    Unused,
    /// There are records, or a mark that promises some.
    Used,
}

/// The Raft log, as replication and apply read it. Clones are cheap.
#[derive(Clone)]
pub struct JournalReader {
    records: Arc<Records>,
    recent: Recent,
    bounds: Arc<ArcSwap<Bounds>>,
}

impl Journal {
    /// Looks what is there.
    ///
    /// # Errors
    /// [`JournalError`] when there is a high-water file that cannot be read.
    pub fn trace(dir: &DataDir) -> Result<JournalTrace, JournalError> {
        opening::trace(&dir.journal(), &dir.high_water())
    }

    /// Makes the high-water file of a journal that was never there.
    ///
    /// On return: it is durable. A crash inside leaves nothing.
    ///
    /// # Errors
    /// [`JournalError`] when the disk failed.
    pub fn create(dir: &DataDir) -> Result<(), JournalError> {
        HighWater::create(&dir.high_water())
    }

    /// Opens the journal of `dir` and verifies all of it, or creates an empty one. `flush_state` is called before records
    /// are purged, on the journal's thread; the thread ends when the journal is dropped.
    ///
    /// # Errors
    /// [`JournalError`] when the journal is damaged, shorter than what was acknowledged, or not accessible.
    pub fn open(dir: &DataDir, flush_state: FlushState, failures: FailureReporter) -> Result<(Self, JoinHandle<()>), JournalError> {
        let recent = Recent::new();
        let opened = opening::open(&dir.journal(), &dir.high_water())?;
        let committed = opened.committed;
        let writer = Writer::new(opened, RecentWriter::new(recent.clone()), flush_state, failures);
        let reader = JournalReader { records: Arc::clone(&writer.records), recent, bounds: Arc::clone(&writer.bounds) };
        let (writer, thread) = writer.start()?;
        Ok((Self { reader, writer, dir: dir.clone(), committed }, thread))
    }

    /// Returns a reader.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        self.reader.clone()
    }

    /// Returns how far the log is known to be committed.
    #[must_use]
    pub fn committed(&self) -> Option<LogId<u64>> {
        self.committed
    }

    /// Brings the log in line with a state that ends at `applied`: a crash between the installation of a snapshot and the
    /// purge behind it leaves a log that ends before the state, or contradicts it. Raft itself misses the case of a
    /// contradicting log whose last term is higher.
    ///
    /// On return: the log holds `applied`, or begins right behind it.
    ///
    /// # Errors
    /// [`JournalError::StateBehind`] when the state ends before the log begins.
    pub async fn follow_state(&mut self, applied: Option<LogId<u64>>) -> Result<(), JournalError> {
        let bounds = self.reader.bounds();
        if let Some(purged) = bounds.purged.filter(|purged| applied.is_none_or(|applied| applied.index < purged.index)) {
            return Err(JournalError::StateBehind { applied, purged });
        }
        match applied {
            Some(applied) if !self.reader.holds(&applied)? => self.writer.run(Command::Purge(applied)).await,
            _ => Ok(()),
        }
    }
}

impl JournalReader {
    fn bounds(&self) -> Bounds {
        **self.bounds.load()
    }

    /// Returns how large the log is now.
    #[must_use]
    pub fn extent(&self) -> LogExtent {
        self.bounds().extent
    }

    /// Returns whether the log holds `log_id`, or ended with it when it was purged.
    fn holds(&self, log_id: &LogId<u64>) -> Result<bool, JournalError> {
        if self.bounds().purged == Some(*log_id) {
            return Ok(true);
        }
        Ok(self.entry(log_id.index)?.is_some_and(|entry| entry.log_id == *log_id))
    }

    /// Returns the entries from `from` on and before `to`, as many as `bytes_max` allows, but one at least if there is one.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry<TypeConfig>>, JournalError> {
        let bounds = self.bounds();
        let from = from.max(bounds.purged.map_or(0, |at| at.index.saturating_add(1)));
        let to = to.min(bounds.last.map_or(0, |at| at.index.saturating_add(1)));
        let mut batch = Reading { entries: Vec::new(), bytes: 0, bytes_max };
        let missing = (from..to).find(|index| match self.recent.entry(*index) {
            Some(entry) => !batch.take(Entry::clone(&entry)),
            None => true,
        });
        let Some(from) = missing.filter(|_| !batch.is_full()) else { return Ok(batch.entries) };
        let reader = self.clone();
        let removals = bounds.removals;
        tokio::task::spawn_blocking(move || reader.read_on(batch, from, to, removals)).await.map_err(|_| JournalError::Stopped)?
    }

    fn read_on(&self, mut batch: Reading, from: u64, to: u64, removals: u64) -> Result<Vec<Entry<TypeConfig>>, JournalError> {
        for index in from..to {
            let taken = match self.entry(index)? {
                Some(entry) => batch.take(entry),
                // A record that is missing although nothing was removed since this read began.
                None if self.bounds().removals == removals => return Err(JournalError::Hole { missing: index }),
                None => false,
            };
            if !taken {
                break;
            }
        }
        Ok(batch.entries)
    }

    fn entry(&self, index: u64) -> Result<Option<Entry<TypeConfig>>, JournalError> {
        if let Some(entry) = self.recent.entry(index) {
            return Ok(Some(Entry::clone(&entry)));
        }
        let Some(bytes) = self.records.record(index)? else { return Ok(None) };
        record::decode(index, bytes).map(Some).map_err(|damage| JournalError::RecordDamaged { index, damage })
    }
}

/// Entries on their way to a caller.
struct Reading {
    entries: Vec<Entry<TypeConfig>>,
    bytes: usize,
    bytes_max: usize,
}

impl Reading {
    /// Takes `entry` unless the limit is reached; returns whether it did.
    fn take(&mut self, entry: Entry<TypeConfig>) -> bool {
        if self.is_full() {
            return false;
        }
        self.bytes = self.bytes.saturating_add(payload_bytes(&entry));
        self.entries.push(entry);
        true
    }

    fn is_full(&self) -> bool {
        !self.entries.is_empty() && self.bytes >= self.bytes_max
    }
}

impl RaftLogReader<TypeConfig> for JournalReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let (from, to) = half_open(&range);
        self.read(from, to, usize::MAX).await.map_err(|error| reading(&error))
    }

    /// Returns nothing when the entry `start` was purged: a task that replicates may ask for it all the same, after it lost its lead
    /// or while the purge is under way, and what comes behind a gap must not be sent.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let entries = self.read(start, end, APPEND_BYTES_MAX).await.map_err(|error| reading(&error))?;
        let is_whole = entries.first().is_some_and(|first| first.log_id.index == start);
        Ok(if is_whole { entries } else { Vec::new() })
    }
}

impl RaftLogReader<TypeConfig> for Journal {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        self.reader.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        self.reader.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<TypeConfig> for Journal {
    type LogReader = JournalReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        let Bounds { purged, last, .. } = self.reader.bounds();
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> JournalReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let saved = self.writer.run(Command::SaveVote(*vote)).await;
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    /// Returns the saved vote; an own leadership comes back as a mere candidacy.
    ///
    /// Raft asks once, at the start. With the leadership it would go on as leader of the same term without an election, and
    /// answer linearizable reads from a state that has not caught up with what was acknowledged before the restart. As a
    /// candidate of that term it must win a new term, and commit an entry of it, first.
    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        let vote = self.reader.bounds().vote;
        Ok(vote.map(|vote| match vote.leader_id.node_id == self.dir.identity().node_id {
            true => Vote::new(vote.leader_id.term, vote.leader_id.node_id),
            false => vote,
        }))
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError<u64>> {
        self.committed = committed;
        let Some(committed) = committed else { return Ok(()) };
        self.writer.leave(Command::SaveCommitted(committed)).await.map_err(|error| writing(&error))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().collect();
        self.writer.run(Command::Append(entries)).await.map_err(|error| writing(&error))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.writer.run(Command::Truncate(since)).await.map_err(|error| writing(&error))
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.writer.run(Command::Purge(upto)).await.map_err(|error| writing(&error))
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let from = match range.start_bound() {
        Included(from) => *from,
        Excluded(before) => before.saturating_add(1),
        Unbounded => 0,
    };
    let to = match range.end_bound() {
        Included(last) => last.saturating_add(1),
        Excluded(to) => *to,
        Unbounded => u64::MAX,
    };
    (from, to)
}

fn reading(error: &JournalError) -> StorageError<u64> {
    StorageIOError::read_logs(AnyError::new(error)).into()
}

fn writing(error: &JournalError) -> StorageError<u64> {
    StorageIOError::write_logs(AnyError::new(error)).into()
}

impl Debug for JournalReader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("JournalReader").field("bounds", &self.bounds()).finish_non_exhaustive()
    }
}
