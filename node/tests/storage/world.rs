//! One node's data directory, opened and closed at will.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use bytes::Bytes;
use openraft::{
    CommittedLeaderId, Entry, EntryPayload, LogId, RaftLogReader as _,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _},
};
use proofline_node::{
    data_dir::{DataDir, Identity},
    failure,
    journal::{Journal, JournalError},
    replica::{Group, TypeConfig},
};
use tempfile::TempDir;

pub(crate) const ORIGIN: &str = "example.org/log";

/// A data directory.
pub(crate) struct World {
    pub(crate) root: TempDir,
}

/// A journal that is open, and what belongs to it.
pub(crate) struct OpenJournal {
    pub(crate) journal: Journal,
    thread: JoinHandle<()>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn dir(&self) -> DataDir {
        dir(&self.data(), 1)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub(crate) fn open(&self) -> Result<OpenJournal, JournalError> {
        let (reporter, _) = failure::channel();
        let (journal, thread) = Journal::open(&self.dir(), Box::new(|_| Ok(())), reporter)?;
        Ok(OpenJournal { journal, thread })
    }

    /// Opens, lets `work` happen, and closes again.
    pub(crate) async fn run<R>(&self, work: impl AsyncFnOnce(&mut Journal) -> R) -> R {
        let mut open = self.open().unwrap();
        let result = work(&mut open.journal).await;
        open.close();
        result
    }

    /// Returns the write-ahead log that holds the newest records.
    pub(crate) fn wal(&self) -> PathBuf {
        let logs = fs::read_dir(self.dir().journal()).unwrap().map(|entry| entry.unwrap().path());
        logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .max_by_key(|path| fs::metadata(path).unwrap().len())
            .unwrap()
    }
}

impl OpenJournal {
    /// Closes the journal and waits until its database is free again.
    pub(crate) fn close(self) {
        let Self { journal, thread } = self;
        drop(journal);
        thread.join().unwrap();
    }
}

pub(crate) fn dir(root: &Path, node_id: u64) -> DataDir {
    DataDir::open(root, Identity { origin: ORIGIN.to_owned(), node_id }).unwrap()
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

pub(crate) fn entry(term: u64, index: u64) -> Entry<TypeConfig> {
    let payload = Bytes::from(format!("group {index} of term {term} {}", "x".repeat(200)));
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(Group::new(payload)) }
}

/// Appends one entry at a time, so that each is a write of its own.
pub(crate) async fn append(journal: &mut Journal, term: u64, indexes: impl Iterator<Item = u64>) {
    for index in indexes {
        journal.blocking_append([entry(term, index)]).await.unwrap();
    }
}

pub(crate) async fn indexes(journal: &mut Journal) -> Vec<u64> {
    journal.try_get_log_entries(..).await.unwrap().iter().map(|entry| entry.log_id.index).collect()
}

pub(crate) async fn last(journal: &mut Journal) -> Option<LogId<u64>> {
    journal.get_log_state().await.unwrap().last_log_id
}
