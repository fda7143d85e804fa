//! The Raft library's own contract for stores, against the journal and the state machine.

use std::{
    fmt::Debug,
    ops::RangeBounds,
    sync::atomic::{AtomicU64, Ordering},
};

use openraft::{
    Entry, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, StorageError, Vote,
    storage::{LogFlushed, RaftLogStorage, RaftLogStorageExt as _},
    testing::{StoreBuilder, Suite},
};
use proofline_node::{
    failure,
    journal::{Journal, JournalReader},
    replica::{Machine, TypeConfig},
    store::StateStore,
};
use tempfile::TempDir;

use crate::world::{ORIGIN, dir};

/// The journal takes an entry only right behind the last one, as Raft hands them over. The suite leaves holes, and once it
/// appends what it purged before; this fills the holes with blank entries and drops what is purged.
struct Filled(Journal);

impl Filled {
    async fn fill(&mut self, to: &LogId<u64>) -> Result<(), StorageError<u64>> {
        let next = self.0.get_log_state().await?.last_log_id.map_or(0, |at| at.index + 1);
        for index in next..to.index {
            let log_id = LogId::new(to.leader_id, index);
            self.0.blocking_append([Entry { log_id, payload: EntryPayload::Blank }]).await?;
        }
        Ok(())
    }
}

impl RaftLogReader<TypeConfig> for Filled {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        self.0.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<TypeConfig> for Filled {
    type LogReader = JournalReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> JournalReader {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        self.0.read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError<u64>> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        self.0.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let purged = self.0.get_log_state().await?.last_purged_log_id.map(|at| at.index);
        let pending: Vec<_> = entries.into_iter().filter(|entry| Some(entry.log_id.index) > purged).collect();
        if let Some(first) = pending.first() {
            self.fill(&first.log_id).await?;
        }
        self.0.append(pending, callback).await
    }

    async fn truncate(&mut self, since: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.0.truncate(since).await
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.0.purge(upto).await
    }
}

struct Builder {
    root: TempDir,
    built: AtomicU64,
}

impl StoreBuilder<TypeConfig, Filled, Machine, ()> for Builder {
    async fn build(&self) -> Result<((), Filled, Machine), StorageError<u64>> {
        let number = self.built.fetch_add(1, Ordering::Relaxed);
        let dir = dir(&self.root.path().join(number.to_string()), 0);
        let (failures, _) = failure::channel();
        let (store, writer) = StateStore::open(&dir).unwrap();
        let flushed = store.clone();
        // The suite cuts logs of which nothing was applied.
        let flush_state = Box::new(move |_| flushed.flush_durably().map_err(|error| error.to_string()));
        let (machine, _) = Machine::start(store, writer, ORIGIN, failures.clone()).unwrap();
        let (journal, _) = Journal::open(&dir, flush_state, failures).unwrap();
        Ok(((), Filled(journal), machine))
    }
}

#[test]
fn journal_and_state_machine_keep_the_contract_of_raft() {
    let builder = Builder { root: tempfile::tempdir().unwrap(), built: AtomicU64::new(0) };
    Suite::test_all(builder).unwrap();
}
