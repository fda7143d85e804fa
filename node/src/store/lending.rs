//! Snapshots that are on their way to other nodes.
//!
//! Raft cuts its log behind each new snapshot, also what follows the snapshot that a node is getting just then (openraft
//! 0.9.25: `ProgressEntry::is_log_range_inflight` does not count snapshots). Such a node would need the next snapshot as soon
//! as it has this one, for as long as the work goes on. So no snapshot is made while one is on its way, and the log stays.

use tokio::sync::watch;

/// Counts the snapshots that were given to somebody who sends them.
#[derive(Debug)]
pub(super) struct Lending(watch::Sender<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    out: usize,
    /// The log has become too long to wait.
    overdue: bool,
}

/// A snapshot counts as on its way for as long as this lives.
#[derive(Debug)]
pub(super) struct Loan(watch::Sender<State>);

impl Lending {
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    pub(super) fn lend(&self) -> Loan {
        self.0.send_modify(|state| state.out += 1);
        Loan(self.0.clone())
    }

    /// Ends the waiting of whoever waits now, and of whoever is the next to wait.
    pub(super) fn hurry(&self) {
        self.0.send_modify(|state| state.overdue = true);
    }

    /// Waits until nothing is on its way, or somebody is in a hurry.
    pub(super) async fn returned(&self) {
        // This holds the sender, so that waiting ends by the condition only.
        drop(self.0.subscribe().wait_for(|state| state.out == 0 || state.overdue).await);
        self.0.send_modify(|state| state.overdue = false);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.out = state.out.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn waits_for_the_last_one_that_is_out() {
        let lending = Lending::new();
        let (one, other) = (lending.lend(), lending.lend());
        let mut returned = Box::pin(lending.returned());
        assert_eq!(poll!(&mut returned), Poll::Pending);
        drop(one);
        assert_eq!(poll!(&mut returned), Poll::Pending);
        drop(other);
        assert_eq!(poll!(&mut returned), Poll::Ready(()));
    }

    #[tokio::test]
    async fn a_hurry_ends_one_waiting() {
        let lending = Lending::new();
        let _out = lending.lend();
        lending.hurry();
        assert_eq!(poll!(Box::pin(lending.returned())), Poll::Ready(()));
        assert_eq!(poll!(Box::pin(lending.returned())), Poll::Pending);
    }
}
