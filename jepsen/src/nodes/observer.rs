//! What the cluster says of itself, as any operator would ask.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use proofline_client::{Client, Profile, RetryPolicy};
use proofline_proto::v1;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::Place;
use crate::{history::NodeId, network::Port};

/// How long one node may take to say how the cluster is.
const ASKED: Duration = Duration::from_secs(2);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How much less time a leader gets for a new member to catch up than who asks for it waits: it probes for 5 s before, and changes
/// the membership for 30 s behind that.
const LEADER_GIVES_UP_BEFORE: Duration = Duration::from_secs(40);
/// How long operators try to get a command through.
const GOVERN: RetryPolicy = RetryPolicy { within: Duration::from_secs(60), attempt: Duration::from_secs(5) };

/// Asks the nodes how the cluster is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer {
    client: Client,
    places: usize,
}

/// What one node says of the cluster.
#[derive(Clone, Debug)]
pub struct ClusterView {
    status: v1::ClusterStatusResponse,
}

impl ClusterView {
    /// Returns the Raft term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.status.term
    }

    /// Returns who leads, and where.
    #[must_use]
    pub fn leader(&self) -> Option<(NodeId, Place)> {
        let node = self.status.nodes.iter().find(|node| node.node_id == self.status.leader_id)?;
        Some((NodeId(node.node_id), place_of(&node.client_address)?))
    }

    /// Returns who is at a place.
    #[must_use]
    pub fn node_at(&self, place: Place) -> Option<NodeId> {
        let node = self.status.nodes.iter().rev().find(|node| place_of(&node.client_address) == Some(place))?;
        Some(NodeId(node.node_id))
    }

    /// Returns the last Raft entry that anybody applied who answered.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.status.nodes.iter().map(|node| node.applied_log_index).max().unwrap_or(0)
    }

    /// Returns by how many milliseconds the wall clocks of the nodes that answered differ at most.
    #[must_use]
    pub fn clocks_apart_ms(&self) -> u64 {
        let answered = || self.status.nodes.iter().filter(|node| node.error.is_empty()).map(|node| node.clock_offset_ms);
        let (least, most) = (answered().min().unwrap_or(0), answered().max().unwrap_or(0));
        most.abs_diff(least)
    }

    /// Returns the members' ids.
    #[must_use]
    pub fn members(&self) -> Vec<u64> {
        self.status.nodes.iter().map(|node| node.node_id).collect()
    }

    /// Returns the size that every one of `nodes` has applied, when all answer, are members alone, and have the same log and state.
    #[must_use]
    pub fn agreed(&self, nodes: &[NodeId]) -> Option<u64> {
        let mut members = self.members();
        let mut wanted: Vec<u64> = nodes.iter().map(|node| node.0).collect();
        members.sort_unstable();
        wanted.sort_unstable();
        let first = self.status.nodes.first()?;
        let is_same = |node: &v1::NodeStatus| {
            node.error.is_empty()
                && (node.tree_size, &node.log_root, &node.state_digest) == (first.tree_size, &first.log_root, &first.state_digest)
        };
        (members == wanted && self.status.nodes.iter().all(is_same)).then_some(first.tree_size)
    }

    /// Tells whether `node` has the same log and state as some other member.
    #[must_use]
    pub fn is_shared_by(&self, node: NodeId) -> bool {
        let said = |one: &v1::NodeStatus| (one.tree_size, one.log_root.clone(), one.state_digest.clone());
        let (this, others): (Vec<_>, Vec<_>) =
            self.status.nodes.iter().filter(|it| it.error.is_empty()).partition(|it| it.node_id == node.0);
        this.iter().any(|this| others.iter().any(|other| said(this) == said(other)))
    }
}

impl Observer {
    /// Prepares connections to every place, as the operator `admin` of the plan whose profile this is.
    ///
    /// # Errors
    /// When the profile cannot be used.
    pub fn of(profile: &Path, places: usize) -> Result<Self> {
        Ok(Self { client: Client::connect(&Profile::load(profile)?, GOVERN)?, places })
    }

    /// Returns the connection to all nodes.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks every node, and returns what the one with the newest term says that knows a leader.
    pub async fn view(&self) -> Option<ClusterView> {
        let mut asking = JoinSet::new();
        for link in self.client.links().iter().take(self.places) {
            let mut control = link.control();
            asking.spawn(async move { timeout(ASKED, control.cluster_status(v1::ClusterStatusRequest {})).await });
        }
        let mut newest: Option<ClusterView> = None;
        while let Some(answer) = asking.join_next().await {
            let Ok(Ok(Ok(answer))) = answer else { continue };
            let view = ClusterView { status: answer.into_inner() };
            let is_newer = newest.as_ref().is_none_or(|known| known.term() < view.term());
            if view.leader().is_some() && is_newer {
                newest = Some(view);
            }
        }
        newest
    }

    /// Waits until somebody leads, in a term beyond `term`.
    pub async fn leader_beyond(&self, term: u64, within: Duration) -> Option<ClusterView> {
        let found = async {
            loop {
                match self.view().await {
                    Some(view) if view.term() > term => return view,
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        timeout(within, found).await.ok()
    }

    /// Waits until `nodes`, and nobody else, are members with the same log and state, and returns their size.
    pub async fn agreed(&self, nodes: &[NodeId], within: Duration) -> Option<u64> {
        let found = async {
            loop {
                match self.view().await.and_then(|view| view.agreed(nodes)) {
                    Some(size) => return size,
                    None => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        timeout(within, found).await.ok()
    }

    /// Waits until `node` has the same log and state as some other member, and returns whether that came in time.
    pub async fn is_shared_by(&self, node: NodeId, within: Duration) -> bool {
        let found = async {
            while !self.view().await.is_some_and(|view| view.is_shared_by(node)) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        timeout(within, found).await.is_ok()
    }

    /// Changes the members, again and again until it is done: a change may be repeated.
    ///
    /// # Errors
    /// When it is not done in time.
    pub async fn change_members(&self, change: v1::ChangeMembershipRequest, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        let trying = async {
            loop {
                // The leader gives up first: what it goes on with alone would be in the way of the next try.
                let left = until.saturating_duration_since(Instant::now()).saturating_sub(LEADER_GIVES_UP_BEFORE);
                let change = v1::ChangeMembershipRequest {
                    catch_up_within_s: u32::try_from(left.as_secs().max(1)).unwrap_or(u32::MAX),
                    ..change.clone()
                };
                // Asked through the leader alone: a node that is no member yet answers, too, and knows nobody who leads.
                let leads = self.view().await.and_then(|view| self.client.pinned(view.leader()?.1.0));
                let error = match leads {
                    None => "nobody leads".to_owned(),
                    Some(leader) => match leader.change_membership(change, within).await {
                        Ok(_) => return,
                        Err(error) => error.to_string(),
                    },
                };
                eprintln!("  the membership is not changed yet: {error}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        timeout(within, trying).await.context("the membership was not changed in time")
    }
}

/// Which place an address belongs to.
fn place_of(address: &str) -> Option<Place> {
    let address: SocketAddr = address.parse().ok()?;
    (0..usize::from(u8::MAX)).find(|place| std::net::IpAddr::V4(Port(*place).address()) == address.ip()).map(Place)
}
