//! Stands for election once the leader has fallen silent.
//!
//! Raft's library does so too, and what comes after a first attempt is its business. But it is late (openraft 0.9.25): it looks
//! at the time once in one and a half heartbeats, so that nodes of different patience may stand at once and split the votes;
//! and a node that ever lost an election for want of entries is patient for twice its election timeout more, however long it has
//! followed a leader since (`greater_log`, which only standing takes back).

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::replica::{ElectionSlice, Raft};

/// What this node knows of the leader's signs of life. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Elections(watch::Sender<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// When the leader was heard last; none once its silence was acted on.
    heard: Option<Instant>,
    stands_aside: bool,
}

impl Elections {
    /// The leader was heard just now.
    pub fn heard(&self) {
        self.0.send_modify(|state| state.heard = Some(Instant::now()));
    }

    /// Says whether this node must not stand for election.
    pub fn stand_aside(&self, aside: bool) {
        self.0.send_modify(|state| state.stands_aside = aside);
    }

    /// Stands for election once in each silence of the leader that outlasts this node's patience, until shutdown. `lot` draws
    /// where in its slice that is.
    pub async fn stand(self, raft: Raft, node_id: u64, slice: ElectionSlice, mut lot: impl FnMut() -> u64, shutdown: CancellationToken) {
        let mut wait = slice.patience(lot());
        loop {
            let heard = tokio::select! {
                () = shutdown.cancelled() => return,
                heard = self.next_heard() => heard,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(heard + wait) => {}
            }
            let Some(stands_aside) = self.take_silence_since(heard) else { continue };
            wait = slice.patience(lot());
            if !stands_aside && follows_another(&raft, node_id) && raft.trigger().elect().await.is_err() {
                return;
            }
        }
    }

    async fn next_heard(&self) -> Instant {
        let mut states = self.0.subscribe();
        loop {
            if let Some(heard) = states.borrow_and_update().heard {
                return heard;
            }
            // The sender is `self`.
            drop(states.changed().await);
        }
    }

    /// Returns whether this node stands aside, when nobody was heard after `heard`; acts as if nobody ever was from then on.
    fn take_silence_since(&self, heard: Instant) -> Option<bool> {
        let mut silent = None;
        self.0.send_if_modified(|state| {
            if state.heard == Some(heard) {
                state.heard = None;
                silent = Some(state.stands_aside);
            }
            false
        });
        silent
    }
}

/// Draws a lot. Without one, nodes of the same slice tie more often, and nothing else.
#[must_use]
pub fn any_lot() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// Whoever stands already, has voted for another one or leads has nothing to begin.
fn follows_another(raft: &Raft, node_id: u64) -> bool {
    let metrics = raft.metrics();
    let seen = metrics.borrow();
    seen.vote.is_committed() && seen.vote.leader_id().voted_for().is_some_and(|leader| leader != node_id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt as _, poll};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silence_counts_from_the_last_sign_of_life_and_once() {
        let elections = Elections::default();
        assert!(elections.next_heard().now_or_never().is_none());
        elections.heard();
        let first = elections.next_heard().await;
        tokio::time::advance(Duration::from_millis(10)).await;
        elections.heard();
        assert_eq!(elections.take_silence_since(first), None);
        let second = elections.next_heard().await;
        assert_eq!(second - first, Duration::from_millis(10));
        assert_eq!(elections.take_silence_since(second), Some(false));
        assert_eq!(elections.take_silence_since(second), None);
        let mut next = Box::pin(elections.next_heard());
        assert!(poll!(&mut next).is_pending());
        elections.heard();
        assert_eq!(next.await, second);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_aside_knows_it_when_the_silence_is_over() {
        let elections = Elections::default();
        elections.heard();
        elections.stand_aside(true);
        let heard = elections.next_heard().await;
        assert_eq!(elections.take_silence_since(heard), Some(true));
    }
}
