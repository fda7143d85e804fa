//! What happens between opening the two stores and starting Raft.
//!
//! Raft would replay the committed part of the log too, but 64 entries at a time however large they are; here it goes by bytes, so
//! that a restart needs no more memory than normal work.

use openraft::{LogId, RaftLogReader as _, StorageError};
use thiserror::Error;

use super::{ApplyError, Machine};
use crate::{
    journal::{Journal, JournalError},
    store::StoreError,
};

/// Why a node could not get back to where it was.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// The journal does not fit the state, or failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal could not be read.
    #[error("reading the journal failed: {0}")]
    Read(#[from] Box<StorageError<u64>>),
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A committed entry could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Brings journal and state in line with each other, and applies what is known to be committed.
///
/// On return: Raft can be started over both. A crash inside is followed by the same work.
///
/// # Errors
/// [`RecoveryError`] when one of the two lost what the other relies on.
pub async fn recover(journal: &mut Journal, machine: &Machine) -> Result<(), RecoveryError> {
    let mut applied = machine.position()?.applied;
    journal.follow_state(applied).await?;
    let end = next(journal.committed());
    while next(applied) < end {
        let entries = journal.limited_get_log_entries(next(applied), end).await.map_err(Box::new)?;
        let Some(last) = entries.last() else { break };
        applied = Some(last.log_id);
        machine.apply_entries(entries).await?;
    }
    Ok(())
}

fn next(log_id: Option<LogId<u64>>) -> u64 {
    log_id.map_or(0, |at| at.index.saturating_add(1))
}
