//! Stands for election once the leader has fallen silent.
//!
//! Raft's library does so too, and what comes after a first attempt is its business. But it is late (openraft 0.9.25): it looks
//! at the time once in one and a half heartbeats, so that nodes of different patience may stand at once and split the votes;
//! and a node whose request for a vote was ever refused by one with a longer log is patient for twice its election timeout more,
//! however long it has followed a leader since (`greater_log`, which only its own tick takes back).

use openraft::RaftState;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::replica::{ElectionSlice, HEARTBEAT, Member, Raft};

/// Stands for election when another node led and was silent for as long as `slice` and a `lot` say, until shutdown. Not while
/// this node stands aside.
pub async fn stand(
    raft: Raft,
    node_id: u64,
    slice: ElectionSlice,
    mut lot: impl FnMut() -> u64,
    stands_aside: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let mut patience = slice.patience(lot());
    loop {
        // Raft answers behind what it was told before, so a disk that takes its time is no silent leader.
        let heard = tokio::select! {
            () = shutdown.cancelled() => return,
            heard = raft.with_raft_state(move |state| leader_heard(state, node_id)) => heard,
        };
        let until = match heard {
            Err(_) => return,
            Ok(Some(heard)) if heard.elapsed() < patience => heard + patience,
            Ok(Some(_)) => {
                if !*stands_aside.borrow() && raft.trigger().elect().await.is_err() {
                    return;
                }
                patience = slice.patience(lot());
                Instant::now() + patience
            }
            Ok(None) => Instant::now() + patience,
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(until) => {}
        }
        if until.elapsed() > HEARTBEAT {
            // This node stood still itself. What the leader said meanwhile comes first.
            sleep(HEARTBEAT).await;
        }
    }
}

/// When Raft said last, on this node, that this node leads, and may. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Leads(watch::Sender<Option<Instant>>);

impl Leads {
    /// Tells whether Raft said so just now. Not so where its one task waits, for a disk that hangs above all.
    #[must_use]
    pub fn now(&self) -> bool {
        self.0.borrow().is_some_and(|said| said.elapsed() <= 2 * HEARTBEAT)
    }

    /// Asks Raft again and again, until shutdown.
    pub async fn keep_asking(self, raft: Raft, node_id: u64, stands_aside: watch::Receiver<bool>, shutdown: CancellationToken) {
        loop {
            let leads = tokio::select! {
                () = shutdown.cancelled() => return,
                leads = raft.with_raft_state(move |state| leader(state) == Some(node_id)) => leads,
            };
            match leads {
                Err(_) => return,
                Ok(leads) => self.0.send_replace((leads && !*stands_aside.borrow()).then(Instant::now)),
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(HEARTBEAT) => {}
            }
        }
    }
}

/// Draws a lot. Without one, nodes of the same slice tie more often, and nothing else.
#[must_use]
pub fn any_lot() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// Returns when the node that leads was heard last, in this process. None when nobody does, or this node: whoever stands
/// already, or has given its vote to another one, has nothing to begin.
fn leader_heard(state: &RaftState<u64, Member, Instant>, node_id: u64) -> Option<Instant> {
    leader(state).filter(|leader| *leader != node_id).and(state.vote_last_modified())
}

fn leader(state: &RaftState<u64, Member, Instant>) -> Option<u64> {
    let vote = state.vote_ref();
    vote.leader_id().voted_for().filter(|_| vote.is_committed())
}
