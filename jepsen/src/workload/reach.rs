//! The nodes, as one identity reaches them: each by itself, without retries behind one's back.

use std::sync::Arc;

use proofline_client::{Client, Link, Profile, RetryPolicy};

use super::WorkloadError;
use crate::{history::NodeId, random::Random};

/// A node and the connection to it.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) node: NodeId,
    pub(super) link: Link,
}

/// Every node, in the order of the profile.
#[derive(Clone, Debug)]
pub(super) struct Reach(Arc<[Seat]>);

impl Reach {
    pub(super) fn of(profile: &Profile, nodes: &[NodeId]) -> Result<Self, WorkloadError> {
        if profile.endpoints.len() != nodes.len() {
            return Err(WorkloadError::OtherNodes { nodes: nodes.len(), endpoints: profile.endpoints.len() });
        }
        let client = Client::connect(profile, RetryPolicy::default())?;
        let seats = nodes.iter().zip(client.links()).map(|(node, link)| Seat { node: *node, link: link.clone() });
        Ok(Self(seats.collect()))
    }

    pub(super) fn seats(&self) -> &[Seat] {
        &self.0
    }

    /// Returns one node by lot. There is always one: a profile without endpoints is refused.
    #[expect(clippy::indexing_slicing, reason = "a place by lot among the seats, of which there is at least one")]
    pub(super) fn any(&self, lot: &mut Random) -> Seat {
        self.0[lot.place(self.0.len())].clone()
    }

    /// Returns `count` different nodes by lot.
    pub(super) fn several(&self, count: usize, lot: &mut Random) -> Vec<Seat> {
        let mut seats = self.0.to_vec();
        lot.shuffle(&mut seats);
        seats.truncate(count.max(1));
        seats
    }
}
