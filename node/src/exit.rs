//! The exit codes of `proofline-node`: what a supervisor may do next is in the number.
//!
//! Nothing else in this crate names a number. No code below `main` ends the process: a part that finds out that the
//! node must not go on reports a [`Failure`](crate::failure::Failure), and `main` turns it into one of these.

use std::process;

use crate::{data_dir::DataDirError, failure::Failure, journal::JournalError, store::StoreError};

/// Why the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Asked to stop.
    Success = 0,
    /// Something that has no code of its own; the message says what.
    Generic = 1,
    /// Bytes on the disk are not what this node wrote. Restarting does not help.
    StorageDamaged = 10,
    /// The disk holds less than this node promised. Another node takes its place, with an empty directory, a new node id and a new key.
    StorageRegressed = 11,
    /// The data directory belongs to another cluster or another node, or the log began with another genesis.
    ForeignDataDirectory = 12,
    /// A write or an fsync failed: what the disk holds is unknown until the next start has verified it.
    DiskFailed = 13,
    /// This node has another tree than the cluster published. It must not go on.
    Diverged = 14,
    /// A state commitment names another map over the keys than this node computed. It must not go on, and cosigns nothing that
    /// covers the commitment.
    OtherMap = 15,
    /// A state commitment names another state than this node had. It must not go on.
    OtherState = 16,
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

impl From<&JournalError> for ExitCode {
    fn from(error: &JournalError) -> Self {
        match error {
            JournalError::Corrupted { .. }
            | JournalError::RecordDamaged { .. }
            | JournalError::ChainBroken { .. }
            | JournalError::Hole { .. }
            | JournalError::MarkMissing { .. }
            | JournalError::Gone { .. }
            | JournalError::MarkDamaged { .. }
            | JournalError::MarkContradicted { .. } => Self::StorageDamaged,
            JournalError::Regressed { .. } | JournalError::VoteRegressed { .. } | JournalError::StateBehind { .. } => {
                Self::StorageRegressed
            }
            JournalError::File { .. } | JournalError::Database { .. } | JournalError::StateNotFlushed { .. } => Self::DiskFailed,
            JournalError::OutOfOrder { .. }
            | JournalError::NotInLog { .. }
            | JournalError::Payload { .. }
            | JournalError::Thread { .. }
            | JournalError::Stopped => Self::Generic,
        }
    }
}

impl From<&DataDirError> for ExitCode {
    fn from(error: &DataDirError) -> Self {
        match error {
            DataDirError::Foreign { .. } => Self::ForeignDataDirectory,
            DataDirError::Damaged { .. } | DataDirError::Unidentified { .. } => Self::StorageDamaged,
            DataDirError::File { .. } => Self::DiskFailed,
            DataDirError::InUse { .. } => Self::Generic,
        }
    }
}

impl From<&StoreError> for ExitCode {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Corrupted { .. } | StoreError::PositionDamaged { .. } | StoreError::PointerDamaged { .. } => Self::StorageDamaged,
            StoreError::File { .. } | StoreError::Database { .. } => Self::DiskFailed,
            StoreError::SnapshotUnlike { .. } => Self::Generic,
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::DiskFailed { .. } => Self::DiskFailed,
            Failure::StorageDamaged { .. } | Failure::PayloadsDamaged { .. } => Self::StorageDamaged,
            Failure::Diverged { .. } => Self::Diverged,
            Failure::OtherMap { .. } => Self::OtherMap,
            Failure::OtherState { .. } => Self::OtherState,
            Failure::OtherGenesis { .. } => Self::ForeignDataDirectory,
            Failure::GenesisRefused { .. } => Self::Generic,
        }
    }
}
