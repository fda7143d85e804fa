use std::{io, path::PathBuf};

use thiserror::Error;

use crate::damage::{REPLACE, is_damage};

/// Why the state could not be opened, read or written. What each means for the process is in `exit.rs`.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database found bytes that it did not write.
    #[error("the state is damaged ({reason}); {REPLACE}")]
    Corrupted {
        /// What the database said.
        reason: String,
    },
    /// The row that says which Raft entry was applied last cannot be read.
    #[error("the state does not say how far it was applied ({what}); {REPLACE}")]
    PositionDamaged {
        /// Which part.
        what: &'static str,
    },
    /// The file that names the directories in use cannot be read.
    #[error("{path} is damaged ({reason}); {REPLACE}")]
    PointerDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A received snapshot holds another state than it was announced with.
    #[error("a snapshot announced as {announced} holds the state at {found}")]
    SnapshotUnlike {
        /// What the leader said.
        announced: String,
        /// What is in it.
        found: String,
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
    #[error("{action} the state failed: {source}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What the database said.
        source: rocksdb::Error,
    },
}

impl StoreError {
    /// Sorts a database error into damage and failure.
    pub(super) fn database(action: &'static str, source: rocksdb::Error) -> Self {
        if is_damage(&source) {
            return Self::Corrupted { reason: source.into_string() };
        }
        Self::Database { action, source }
    }
}
