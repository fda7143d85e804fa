//! Whether this node may serve as the leader now.
//!
//! Raft's library restores a restarted leader in its old term without an election, and what it then calls committed may lie
//! behind what was acknowledged. So leadership counts only once an empty entry that this process proposed was applied here.

use proofline_proto::peer::Group as GroupMessage;
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::replica::{Group, Raft};

/// What this node knows of the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leadership {
    /// Nobody that this node knows of leads.
    #[default]
    Nobody,
    /// Another node leads.
    Other(u64),
    /// This node was elected and has yet to apply an entry of its own.
    Rising,
    /// This node leads, and serves.
    Here,
}

/// Follows Raft's metrics until shutdown, and carries out the barrier after each election of this node.
pub async fn follow(raft: Raft, node_id: u64, leadership: watch::Sender<Leadership>, shutdown: CancellationToken) {
    let mut metrics = raft.metrics();
    let mut served_term = None;
    loop {
        let (leader, term) = {
            let seen = metrics.borrow_and_update();
            (seen.current_leader, seen.current_term)
        };
        let now = match leader {
            None => Leadership::Nobody,
            Some(leader) if leader != node_id => Leadership::Other(leader),
            Some(_) if served_term == Some(term) => Leadership::Here,
            Some(_) => Leadership::Rising,
        };
        if now != Leadership::Here && now != Leadership::Rising {
            served_term = None;
        }
        leadership.send_if_modified(|held| std::mem::replace(held, now) != now);
        if now == Leadership::Rising {
            let mut lost = raft.metrics();
            let written = tokio::select! {
                () = shutdown.cancelled() => return,
                written = raft.client_write(empty()) => written.is_ok(),
                // Raft may never answer an entry that it proposed before it lost the lead.
                _ = lost.wait_for(|seen| seen.current_leader != Some(node_id) || seen.current_term != term) => false,
            };
            if written {
                served_term = Some(term);
                continue;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
        }
    }
}

fn empty() -> Group {
    Group::new(GroupMessage::default().encode_to_vec().into())
}
