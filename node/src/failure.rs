//! The one-shot channel on which a part of the node says that the process must end.
//!
//! The first failure wins; later ones are consequences and are dropped. Reporting never blocks and never fails, so that
//! it can be called from any thread at the worst moment.

use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokio::sync::Notify;

use crate::damage::REPLACE;

/// Something after which this process must neither serve nor vote.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure {
    /// A write or an fsync did not succeed.
    #[error("{action} failed: {reason}; the process ends, because what the disk now holds is unknown")]
    DiskFailed {
        /// What was being made durable.
        action: &'static str,
        /// What the disk or the database said.
        reason: String,
    },
    /// Stored bytes turned out to be damaged while the node was running.
    #[error("stored state is damaged: {reason}; {REPLACE}")]
    StorageDamaged {
        /// What was found.
        reason: String,
    },
    /// The payload store is damaged; nothing else is in doubt for it.
    #[error(
        "{reason}; the rest of this node is not in doubt: remove `payloads` from its data directory, and nothing else, and start it; it \
         fetches payloads from the other nodes"
    )]
    PayloadsDamaged {
        /// What was found.
        reason: String,
    },
    /// The log that this node follows began with another genesis than its own file says.
    #[error("{reason}")]
    OtherGenesis {
        /// What was compared.
        reason: String,
    },
    /// The genesis file that this node was given begins no ledger.
    #[error("the genesis was refused: {reason}")]
    GenesisRefused {
        /// What the state machine said.
        reason: String,
    },
    /// A state commitment names another map over the keys than this node computed.
    #[error("the committed map of keys is not this node's: {reason}")]
    OtherMap {
        /// What was compared.
        reason: String,
    },
    /// A state commitment names another state than this node had.
    #[error("the committed state is not this node's: {reason}")]
    OtherState {
        /// What was compared.
        reason: String,
    },
    /// The published tree is not this node's.
    #[error("this node's tree differs from the published one: {reason}")]
    Diverged {
        /// What was compared.
        reason: String,
        /// Signed notes: the one that is not of this node's tree, and this node's own where there was one.
        checkpoints: Vec<String>,
    },
}

#[derive(Debug, Default)]
struct Shared {
    first: OnceLock<Failure>,
    reported: Notify,
}

/// Reports a failure; clones share one channel.
#[derive(Clone, Debug)]
pub struct FailureReporter(Arc<Shared>);

/// Waits for the first failure.
#[derive(Debug)]
pub struct FailureWatch(Arc<Shared>);

/// Makes both ends of the channel.
#[must_use]
pub fn channel() -> (FailureReporter, FailureWatch) {
    let shared = Arc::new(Shared::default());
    (FailureReporter(Arc::clone(&shared)), FailureWatch(shared))
}

impl FailureReporter {
    /// Reports `failure`, unless another one was reported before.
    pub fn report(&self, failure: Failure) {
        if self.0.first.set(failure).is_ok() {
            self.0.reported.notify_one();
        }
    }
}

impl FailureWatch {
    /// Waits until a failure is reported and returns it.
    pub async fn failed(&self) -> Failure {
        loop {
            if let Some(failure) = self.0.first.get() {
                return failure.clone();
            }
            self.0.reported.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{exit::ExitCode, payloads::VaultError};

    fn disk(reason: &str) -> Failure {
        Failure::DiskFailed { action: "writing", reason: reason.to_owned() }
    }

    #[tokio::test]
    async fn the_first_failure_wins_and_can_be_awaited_afterwards() {
        let (reporter, watch) = channel();
        reporter.report(disk("first"));
        reporter.clone().report(disk("second"));
        assert_eq!(watch.failed().await, disk("first"));
    }

    #[test]
    fn a_damaged_payload_store_costs_no_node() {
        let failure = Failure::from(&VaultError::Damaged { what: "a payload" });
        assert_eq!(ExitCode::from(&failure), ExitCode::StorageDamaged);
        let said = failure.to_string();
        assert!(said.contains("remove `payloads`") && !said.contains(REPLACE), "{said}");
    }
}
