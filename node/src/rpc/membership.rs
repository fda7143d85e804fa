//! The cluster as a whole: who is in it, how each member is, and changes of the membership.

use std::{collections::BTreeSet, time::Duration};

use openraft::{
    ChangeMembers,
    error::{ClientWriteError, RaftError},
};
use proofline_proto::v1::{ChangeMembershipRequest, ChangeMembershipResponse, ClusterStatusResponse, NodeStatus};
use tonic::Status;

use super::{Api, status::no_leader, submit::Route};
use crate::{clock::unix_ns, replica::Member};

/// How long a member may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

impl Api {
    /// Asks every member how it is; one that does not answer is listed with the reason.
    pub(super) async fn cluster(&self) -> ClusterStatusResponse {
        let members = self.peers.members();
        let asked = members.iter().map(|(node_id, member)| self.member_status(*node_id, member));
        let nodes: Vec<NodeStatus> = futures::future::join_all(asked).await;
        let voters: BTreeSet<u64> = self.peers.voters().into_iter().collect();
        let alive = nodes.iter().filter(|node| node.error.is_empty() && voters.contains(&node.node_id)).count();
        let quorum = voters.len() / 2 + 1;
        let (leader_id, term) = {
            let metrics = self.raft.metrics();
            let seen = metrics.borrow();
            (seen.current_leader.unwrap_or(0), seen.current_term)
        };
        let failure_tolerance = u32::try_from(alive.saturating_sub(quorum)).unwrap_or(0);
        ClusterStatusResponse { origin: self.origin.to_string(), leader_id, term, failure_tolerance, nodes }
    }

    async fn member_status(&self, node_id: u64, member: &Member) -> NodeStatus {
        let unknown = |error: String| NodeStatus {
            node_id,
            name: member.name.clone(),
            peer_address: member.peer_address.clone(),
            client_address: member.client_address.clone(),
            error,
            ..Default::default()
        };
        if node_id == self.peers.node_id() {
            return self.own_status().await.unwrap_or_else(|status| unknown(status.message().to_owned()));
        }
        let before = unix_ns();
        match tokio::time::timeout(ANSWER_WITHIN, self.peers.status(node_id)).await {
            Err(_) => unknown(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
            Ok(Err(status)) => unknown(status.message().to_owned()),
            Ok(Ok(answer)) => {
                let middle = i128::midpoint(before.into(), unix_ns().into());
                let offset_ms = (i128::from(answer.clock_unix_ns) - middle) / 1_000_000;
                let clock_offset_ms = i64::try_from(offset_ms).unwrap_or(i64::MAX);
                answer.status.map_or_else(|| unknown("an empty answer".to_owned()), |status| NodeStatus { clock_offset_ms, ..status })
            }
        }
    }

    /// Adds new members as learners, waits until they have caught up, makes them voters, and then removes who is to go.
    pub(super) async fn change_members(&self, asked: ChangeMembershipRequest) -> Result<ChangeMembershipResponse, Status> {
        if let Route::Node(leader) = self.route().await? {
            let address = self.peers.members().remove(&leader).map(|member| member.client_address).unwrap_or_default();
            return Err(Status::failed_precondition(format!("node {leader} leads; ask it, at {address}")));
        }
        for member in &asked.add {
            let node = Member {
                name: format!("node-{}", member.node_id),
                peer_address: member.peer_address.clone(),
                client_address: member.client_address.clone(),
            };
            self.raft.add_learner(member.node_id, node, true).await.map_err(changed_status)?;
        }
        let added: BTreeSet<u64> = asked.add.iter().map(|member| member.node_id).collect();
        if !added.is_empty() {
            self.raft.change_membership(ChangeMembers::AddVoterIds(added), false).await.map_err(changed_status)?;
        }
        let removed: BTreeSet<u64> = asked.remove.iter().copied().collect();
        if !removed.is_empty() {
            self.raft.change_membership(ChangeMembers::RemoveVoters(removed), false).await.map_err(changed_status)?;
        }
        Ok(ChangeMembershipResponse { voters: self.peers.voters() })
    }
}

fn changed_status(error: RaftError<u64, ClientWriteError<u64, Member>>) -> Status {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => no_leader("leadership changed; ask again"),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => Status::failed_precondition(error.to_string()),
        RaftError::Fatal(error) => Status::unavailable(error.to_string()),
    }
}
