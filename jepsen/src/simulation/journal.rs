//! The Raft log of a simulated node, under the contract of the real one: what is answered for is synced, except how far the log
//! is known to be committed.

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex},
    time::Duration,
};

use openraft::{
    AnyError, Entry, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
    storage::{LogFlushed, RaftLogStorage},
};
use proofline_node::replica::TypeConfig;

use super::{
    Planted,
    disk::{Disk, Write},
    world::{Life, World, open},
};

/// Entries of one append to a follower at most: few, so that followers catch up in several steps.
const APPEND_ENTRIES_MAX: usize = 16;

/// How often it is looked whether a snapshot was installed.
const INSTALLED_AGAIN: Duration = Duration::from_millis(1);
/// How soon a node must have stopped after a write that failed.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct SimulatedJournal {
    pub(super) world: Arc<World>,
    pub(super) life: Life,
    pub(super) disk: Arc<Mutex<Disk>>,
}

impl SimulatedJournal {
    /// Writes, and waits until it is on the disk.
    async fn write_through(&self, write: Write) -> Result<(), StorageError<u64>> {
        self.life.pass().await.map_err(|_| dead())?;
        open(&self.disk).write(write);
        self.sync().await
    }

    async fn sync(&self) -> Result<(), StorageError<u64>> {
        let (took_us, fails) = {
            let mut shared = self.world.shared();
            let knobs = &self.world.knobs;
            let usual = shared.disks_lot.between(20, knobs.sync_us_max);
            let is_slow = shared.is_broken && shared.disks_lot.happens(knobs.slow_sync);
            let fails = shared.is_broken && shared.disks_lot.happens(knobs.failed_sync);
            (if is_slow { usual.saturating_mul(100) } else { usual }, fails)
        };
        tokio::time::sleep(Duration::from_micros(took_us)).await;
        self.life.pass().await.map_err(|_| dead())?;
        // A disk that was healed meanwhile does not fail any more.
        if fails && self.world.shared().is_broken {
            self.world.note(&format!("node {} fsync fails", self.life.node));
            self.world.shared().counts.failed_syncs += 1;
            tokio::spawn(must_stop(Arc::clone(&self.world), self.life.clone()));
            return Err(StorageIOError::write_logs(AnyError::error("the simulated disk failed to sync")).into());
        }
        open(&self.disk).sync();
        Ok(())
    }

    fn read(&self, from: u64, to: u64, most: usize) -> Vec<Entry<TypeConfig>> {
        let disk = open(&self.disk);
        if from >= to {
            return Vec::new();
        }
        disk.log.entries.range(from..to).take(most).map(|(_, entry)| entry.clone()).collect()
    }
}

impl RaftLogReader<TypeConfig> for SimulatedJournal {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.read(from, to, usize::MAX))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        Ok(self.read(start, end, APPEND_ENTRIES_MAX))
    }
}

impl RaftLogStorage<TypeConfig> for SimulatedJournal {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        let disk = open(&self.disk);
        Ok(LogState { last_purged_log_id: disk.log.purged, last_log_id: disk.log.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        if self.world.planted == Some(Planted::VoteNotPersisted) {
            self.life.pass().await.map_err(|_| dead())?;
            open(&self.disk).pretend(&Write::Vote(*vote));
        } else {
            self.write_through(Write::Vote(*vote)).await?;
        }
        self.world.note(&format!("node {} votes {vote}", self.life.node));
        self.world.shared().watch.voted(self.life.node, *vote);
        Ok(())
    }

    /// Returns an own leadership as a mere candidacy, as the real journal does.
    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        let vote = open(&self.disk).log.vote;
        Ok(vote.map(|vote| match vote.leader_id.node_id == self.life.node {
            true => Vote::new(vote.leader_id.term, vote.leader_id.node_id),
            false => vote,
        }))
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError<u64>> {
        let Some(committed) = committed else { return Ok(()) };
        self.life.pass().await.map_err(|_| dead())?;
        open(&self.disk).write(Write::Committed(committed));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        Ok(open(&self.disk).log.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        self.world.shared().watch.appended(self.life.node, &entries);
        if self.world.planted == Some(Planted::AcknowledgedBeforeSync) {
            self.life.pass().await.map_err(|_| dead())?;
            open(&self.disk).write(Write::Append(entries));
        } else {
            self.write_through(Write::Append(entries)).await?;
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.world.note(&format!("node {} truncates from {since}", self.life.node));
        let removed: Vec<_> = open(&self.disk).log.entries.range(since.index..).map(|(_, entry)| entry.log_id).collect();
        if self.life.is_alive() {
            self.world.shared().watch.truncated(self.life.node, removed.into_iter());
        }
        self.write_through(Write::Truncate(since.index)).await
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.life.pass().await.map_err(|_| dead())?;
        self.world.note(&format!("node {} purges to {upto}", self.life.node));
        self.world.shared().counts.purges += 1;
        // As the journal: the state is on the disk before the entries that lead to it go, and Raft may ask while a snapshot that
        // brings it is still being installed.
        let waits = self.world.planted != Some(Planted::CutBeforeInstalled);
        while waits && open(&self.disk).live.applied.is_none_or(|at| at.index < upto.index) {
            tokio::time::sleep(INSTALLED_AGAIN).await;
            self.life.pass().await.map_err(|_| dead())?;
        }
        open(&self.disk).flush();
        self.write_through(Write::Purge(upto)).await
    }
}

/// Whoever cannot write must neither serve nor vote any more.
async fn must_stop(world: Arc<World>, life: Life) {
    tokio::time::sleep(STOPPED_WITHIN).await;
    if life.is_alive() {
        world.find(format!("node {} goes on after an fsync that failed", life.node));
    }
}

pub(super) fn dead() -> StorageError<u64> {
    StorageIOError::write_logs(AnyError::error("the simulated node has crashed")).into()
}
