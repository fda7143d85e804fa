//! What ends the node that no call of it can tell: Raft that has ended, and damage that any reader of the state found.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Failure, FailureReporter},
    replica::Raft,
};

/// A Raft that stopped by itself met a storage error, and the journal or the state has said which; if not, this does.
pub(super) async fn raft(raft: Raft, failures: FailureReporter, shutdown: CancellationToken) {
    let mut metrics = raft.metrics();
    loop {
        let stopped = metrics.borrow_and_update().running_state.clone();
        if let Err(fatal) = stopped {
            if !shutdown.is_cancelled() {
                failures.report(Failure::DiskFailed { action: "running Raft", reason: fatal.to_string() });
            }
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() {
                // Raft is gone without a word: its task panicked, on something that cannot be.
                if !shutdown.is_cancelled() {
                    failures.report(Failure::DiskFailed { action: "running Raft", reason: "its task ended in the middle".to_owned() });
                }
                return;
            },
        }
    }
}

/// A node that knows of damage must not go on: it would answer errors, lead, and hand the damage on in snapshots.
pub(super) async fn damage(mut found: watch::Receiver<Option<String>>, failures: FailureReporter, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => (),
        Ok(known) = found.wait_for(Option::is_some) => {
            failures.report(Failure::StorageDamaged { reason: known.clone().unwrap_or_default() });
        }
    }
}
