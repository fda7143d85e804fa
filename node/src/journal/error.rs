use std::{io, path::PathBuf};

use openraft::{LogId, Vote};
use thiserror::Error;

use super::record::RecordDamage;
use crate::damage::{REPLACE, is_damage};

/// Why the journal could not be opened, read or written. What each means for the process is in `exit.rs`.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The database found bytes that it did not write.
    #[error("the journal is damaged ({reason}); {REPLACE}")]
    Corrupted {
        /// What the database said.
        reason: String,
    },
    /// A record does not match its own checksum or layout.
    #[error("the journal's record {index} is damaged ({damage}); {REPLACE}")]
    RecordDamaged {
        /// Raft log index of the record.
        index: u64,
        /// What is wrong with it.
        damage: RecordDamage,
    },
    /// A record does not name its predecessor.
    #[error("the journal's record {index} does not follow the record before it; {REPLACE}")]
    ChainBroken {
        /// Raft log index of the record.
        index: u64,
    },
    /// A record is missing between others.
    #[error("the journal has no record {missing}, but later ones; {REPLACE}")]
    Hole {
        /// Raft log index of the first missing record.
        missing: u64,
    },
    /// There is a journal, but no high-water file.
    #[error("{path} is gone, so nobody can tell whether the journal is complete; {REPLACE}")]
    MarkMissing {
        /// The high-water file.
        path: PathBuf,
    },
    /// Neither journal nor high-water file is there, though the node was initialised with them.
    #[error("{path} and the journal beside it are gone, so nobody can tell what this node promised; {REPLACE}")]
    Gone {
        /// The high-water file.
        path: PathBuf,
    },
    /// No slot of the high-water file can be read.
    #[error("both slots of {path} are damaged, so nobody can tell whether the journal is complete; {REPLACE}")]
    MarkDamaged {
        /// The high-water file.
        path: PathBuf,
    },
    /// The journal holds another record where the mark was set.
    #[error("the journal's record {mark} is not the one that was marked as durable; {REPLACE}")]
    MarkContradicted {
        /// Log id of the mark.
        mark: LogId<u64>,
    },
    /// The journal ends before the mark: the disk lost records that this node had acknowledged.
    #[error("the journal ends at {}, but {mark} was acknowledged: the disk lost records; {REPLACE}", show(last))]
    Regressed {
        /// Log id that was acknowledged.
        mark: LogId<u64>,
        /// Last log id that is there.
        last: Option<LogId<u64>>,
    },
    /// The journal holds an older vote than the mark: this node could vote twice in one term.
    #[error("the journal's vote is {}, but {mark} was promised: the disk lost it; {REPLACE}", show(stored))]
    VoteRegressed {
        /// Vote that was promised.
        mark: Vote<u64>,
        /// Vote that is there.
        stored: Option<Vote<u64>>,
    },
    /// The state ends before the first record that the journal still has.
    #[error("the state ends at {}, but the journal begins after {purged}: the disk lost state; {REPLACE}", show(applied))]
    StateBehind {
        /// Last log id that the state covers.
        applied: Option<LogId<u64>>,
        /// Last log id that was removed from the journal.
        purged: LogId<u64>,
    },
    /// A file operation failed.
    #[error("{action} {path} failed: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A database operation failed.
    #[error("{action} the journal failed: {source}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What the database said.
        source: rocksdb::Error,
    },
    /// The state could not be made durable, so the records behind it must stay.
    #[error("the state could not be flushed before the journal was cut: {reason}")]
    StateNotFlushed {
        /// What the state store said.
        reason: String,
    },
    /// Raft handed over an entry that does not follow the last one.
    #[error("entry {got} was to be appended where {expected} is next")]
    OutOfOrder {
        /// Next free Raft log index.
        expected: u64,
        /// Index of the entry.
        got: u64,
    },
    /// Raft named a log id that the journal does not hold.
    #[error("{0} is not in the journal")]
    NotInLog(LogId<u64>),
    /// A membership could not be put into words.
    #[error("the membership of entry {index} cannot be encoded: {source}")]
    Payload {
        /// Raft log index of the entry.
        index: u64,
        /// What the encoder said.
        source: serde_json::Error,
    },
    /// The journal's thread could not be started.
    #[error("the journal's thread could not be started: {source}")]
    Thread {
        /// What the operating system said.
        source: io::Error,
    },
    /// The journal's thread has ended: the node shuts down, or a write failed before.
    #[error("the journal takes no more writes")]
    Stopped,
}

impl JournalError {
    /// Sorts a database error into damage and failure.
    pub(super) fn database(action: &'static str, source: rocksdb::Error) -> Self {
        if is_damage(&source) {
            return Self::Corrupted { reason: source.into_string() };
        }
        Self::Database { action, source }
    }
}

fn show(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
