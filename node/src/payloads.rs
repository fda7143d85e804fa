//! Payloads: what events commit to and the log does not hold, so that it can be forgotten.
//!
//! ```text
//! payloads/db       sealed payloads, in a database of their own
//! payloads/keys     the keys of subjects, a file each
//! ```
//! Neither is part of Raft, of a snapshot or of the state digest. Each node seals what it keeps under keys that it drew itself, so
//! that an erasure destroys a payload on a node without any other's help, and an old snapshot brings nothing back.
//! What is erased, past its time or held is decided in `proofline-ledger`; this does what follows from it on one disk.

mod chores;
mod forgetting;
mod keeper;
mod keys;
mod repair;
mod reserve;
mod rows;
mod vault;

use std::{io, path::PathBuf};

use proofline_ledger::StoreFault;
use thiserror::Error;

pub(crate) use self::repair::{fetch, in_time};
pub use self::{
    chores::{Chores, Step},
    forgetting::{Destroyed, Swept},
    keeper::{Keeper, Payloads},
    repair::Repair,
    reserve::Reserve,
    vault::{Opened, Put, Totals, Vault},
};
use crate::failure::Failure;

/// Why a payload could not be kept, read or destroyed.
#[derive(Debug, Error)]
pub enum VaultError {
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database refused.
    #[error("{action} the payload store: {reason}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What the database said.
        reason: String,
    },
    /// The database finds that a block of its files is not what it wrote.
    #[error("the payload store is damaged: {reason}")]
    Corrupt {
        /// What the database said: it names the file.
        reason: String,
    },
    /// What is there is not what this node wrote.
    #[error("the payload store is damaged: {what}")]
    Damaged {
        /// Which part.
        what: &'static str,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Randomness,
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StoreFault),
    /// The node shuts down.
    #[error("the payload store is closing")]
    Stopped,
}

impl VaultError {
    /// Tells whether one payload does not open, or its bytes cannot be read, while the store goes on.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Corrupt { .. })
    }

    fn database(action: &'static str, error: rocksdb::Error) -> Self {
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Corrupt { reason: error.into_string() },
            _ => Self::Database { action, reason: error.into_string() },
        }
    }
}

impl From<&VaultError> for Failure {
    fn from(error: &VaultError) -> Self {
        let reason = error.to_string();
        match error {
            VaultError::Damaged { .. } | VaultError::Corrupt { .. } => Self::PayloadsDamaged { reason },
            VaultError::State(StoreFault::Damaged { .. } | StoreFault::Corrupted { .. }) => Self::StorageDamaged { reason },
            VaultError::File { .. }
            | VaultError::Database { .. }
            | VaultError::Randomness
            | VaultError::State(StoreFault::Unreadable { .. })
            | VaultError::Stopped => Self::DiskFailed { action: "keeping payloads", reason },
        }
    }
}
