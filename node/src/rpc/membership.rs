//! The cluster as a whole: who is in it, how each member is, and changes of the membership.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::{
    ChangeMembers,
    error::{ClientWriteError, RaftError},
};
use proofline_proto::{
    peer::GetStatusResponse,
    v1::{self, ChangeMembershipRequest, ChangeMembershipResponse, ClusterStatusResponse, NodeStatus},
};
use tokio::time::Instant;
use tonic::Status;

use super::{
    Api,
    repaired::Survey,
    status::{again, late, no_leader, refused},
    submit::Route,
};
use crate::{clock::unix_ns, replica::Member};

/// How long a member may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long a node that is to be added may take to say who it is.
const PROBED_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two questions.
const PROBED_AGAIN: Duration = Duration::from_millis(200);
/// How long new members may take to catch up, unless the request says otherwise.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(600);
/// How long one change may take to be committed.
const CHANGED_WITHIN: Duration = Duration::from_secs(30);

/// What a change does about payloads that are on too few of the voters that it leaves.
#[derive(Clone, Copy, Debug)]
enum Payloads {
    /// It waits until they are not, and gives up then.
    RepairedBy(Instant),
    /// Whoever asked accepts their loss.
    MayBeLost,
}

/// What becomes of voters that a change removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removed {
    /// They are members, without a vote.
    AreLearners,
    /// They are none.
    Leave,
}

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

    /// Asks new members who they are, adds them as learners, waits until they have caught up and have the payloads that were
    /// acknowledged, makes them voters, and then removes who is to go, once a majority of the others has what they took.
    pub(super) async fn change_members(&self, asked: ChangeMembershipRequest) -> Result<ChangeMembershipResponse, Status> {
        if let Route::Node(leader) = self.route().await? {
            let address = self.peers.members().remove(&leader).map(|member| member.client_address).unwrap_or_default();
            return Err(refused("NOT_THE_LEADER", format!("node {leader} leads; ask it, at {address}")));
        }
        let api = self.clone();
        // In a task of its own: a caller that hangs up does not leave a change half done.
        let changing = tokio::spawn(async move { api.carry_out(asked).await });
        changing.await.map_err(|_| Status::internal("the change was interrupted"))?
    }

    async fn carry_out(&self, asked: ChangeMembershipRequest) -> Result<ChangeMembershipResponse, Status> {
        let within = match asked.catch_up_within_s {
            0 => CAUGHT_UP_WITHIN,
            seconds @ 1..=86_400 => Duration::from_secs(seconds.into()),
            _ => return Err(Status::invalid_argument("catch_up_within_s is at most 86400")),
        };
        let added: BTreeMap<u64, Member> = asked.add.into_iter().map(new_member).collect();
        for (node_id, member) in &added {
            self.check_new(*node_id, member).await?;
        }
        let until = Instant::now() + within;
        for (node_id, member) in &added {
            self.add_learner(*node_id, member, until).await?;
        }
        let payloads = if asked.lose_payloads { Payloads::MayBeLost } else { Payloads::RepairedBy(until) };
        if !added.is_empty() {
            self.make_voters(added.into_keys().collect(), payloads).await?;
        }
        self.remove(asked.remove.into_iter().collect(), payloads).await?;
        Ok(ChangeMembershipResponse { voters: self.peers.voters() })
    }

    /// Finds out whether the node that is to be added answers at its address, under its name, with its id.
    async fn check_new(&self, node_id: u64, member: &Member) -> Result<(), Status> {
        match self.peers.members().get(&node_id) {
            Some(known) if known == member => return Ok(()),
            Some(known) => return Err(refused("OTHER_MEMBER", format!("node {node_id} is a member already, as {known}"))),
            None => (),
        }
        let answer = self.probe(member).await;
        let unreachable = |reason| again("MEMBER_UNREACHABLE", format!("{member} does not answer ({reason}); the membership is as it was"));
        let found = answer.map_err(unreachable)?.status.unwrap_or_default().node_id;
        if found == node_id {
            return Ok(());
        }
        Err(refused("OTHER_NODE", format!("{member} is node {found}, not {node_id}; the membership is as it was")))
    }

    /// Asks a node who it is, again and again for a while: it may be just starting. Returns the last reason when it says nothing.
    async fn probe(&self, member: &Member) -> Result<GetStatusResponse, String> {
        let until = Instant::now() + PROBED_WITHIN;
        let mut reason = "no answer in time".to_owned();
        while Instant::now() < until {
            match tokio::time::timeout_at(until, self.peers.probe(member)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status.message().clone_into(&mut reason),
                Err(_) => break,
            }
            tokio::time::sleep_until(until.min(Instant::now() + PROBED_AGAIN)).await;
        }
        Err(reason)
    }

    /// Adds a learner and waits until it has caught up. One that was added here and does not is taken out again: a voter
    /// that never answers may keep a cluster from taking any more writes.
    async fn add_learner(&self, node_id: u64, member: &Member, until: Instant) -> Result<(), Status> {
        if self.peers.voters().contains(&node_id) {
            return Ok(());
        }
        let was_member = self.peers.members().contains_key(&node_id);
        let caught_up = tokio::time::timeout_at(until, self.catch_up(node_id, member)).await;
        let error = match caught_up {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => {
                late("DID_NOT_CATCH_UP", format!("{member} did not catch up in time; it is taken out again, unless it was a member before"))
            }
        };
        if was_member {
            return Err(error);
        }
        let removed = self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node_id])), Removed::Leave).await;
        tracing::warn!(node = node_id, removed = removed.is_ok(), reason = error.message(), "a new member did not become a voter");
        Err(error)
    }

    /// Waits until the learner has the very entry that added it. Raft's own measure is a lag in entries, and takes a learner
    /// that has nothing for one that keeps up as long as the log is short.
    async fn catch_up(&self, node_id: u64, member: &Member) -> Result<(), Status> {
        let added = self.raft.add_learner(node_id, member.clone(), false).await.map_err(changed_status)?;
        let mut metrics = self.raft.metrics();
        let ended = metrics.wait_for(|seen| match &seen.replication {
            Some(replication) => replication.get(&node_id).copied().flatten() >= Some(added.log_id),
            None => true,
        });
        match ended.await {
            Ok(seen) if seen.replication.is_some() => Ok(()),
            Ok(_) => Err(no_leader("leadership changed; ask again")),
            Err(_) => Err(again("RAFT_STOPPED", "Raft has stopped")),
        }
    }

    /// A new voter counts for a majority: it needs what a majority acknowledged before.
    async fn make_voters(&self, added: BTreeSet<u64>, payloads: Payloads) -> Result<(), Status> {
        let voters: BTreeSet<u64> = self.peers.voters().into_iter().collect();
        let new: BTreeSet<u64> = added.difference(&voters).copied().collect();
        if let Payloads::RepairedBy(until) = payloads {
            let meanwhile = format!("node {new:?} is a learner");
            self.wait_repaired(until, &meanwhile, |survey| survey.are_complete(&new, &voters)).await?;
        }
        self.change(ChangeMembers::AddVoterIds(added), Removed::Leave).await
    }

    /// Voters that go are learners first, so that what they took until then can still be fetched; then they leave.
    async fn remove(&self, asked: BTreeSet<u64>, payloads: Payloads) -> Result<(), Status> {
        let voters: BTreeSet<u64> = self.peers.voters().into_iter().collect();
        let staying: BTreeSet<u64> = voters.difference(&asked).copied().collect();
        let leaving: BTreeSet<u64> = voters.intersection(&asked).copied().collect();
        if !leaving.is_empty() {
            // That nobody stays, Raft refuses.
            if let Payloads::RepairedBy(until) = payloads
                && !staying.is_empty()
            {
                let enough = |survey: &Survey| survey.majority_is_complete(&staying, &voters);
                self.wait_repaired(until, "no voter was removed", enough).await?;
            }
            // A leader that removes itself leads no more: nobody is left here to let it leave in a second step.
            let removed = if leaving.contains(&self.peers.node_id()) { Removed::Leave } else { Removed::AreLearners };
            self.change(ChangeMembers::RemoveVoters(leaving), removed).await?;
        }
        let learners: BTreeSet<u64> = self.peers.members().into_keys().filter(|it| asked.contains(it)).collect();
        if learners.is_empty() || learners.contains(&self.peers.node_id()) {
            return Ok(());
        }
        if let Payloads::RepairedBy(until) = payloads {
            let meanwhile = format!("node {learners:?} is no voter any more, and still a learner");
            self.wait_repaired(until, &meanwhile, |survey| survey.have_nothing_left(&learners, &staying)).await?;
        }
        self.change(ChangeMembers::RemoveNodes(learners), Removed::Leave).await
    }

    async fn change(&self, change: ChangeMembers<u64, Member>, removed: Removed) -> Result<(), Status> {
        let is_kept = removed == Removed::AreLearners;
        match tokio::time::timeout(CHANGED_WITHIN, self.raft.change_membership(change, is_kept)).await {
            Ok(changed) => changed.map(drop).map_err(changed_status),
            Err(_) => Err(late("FATE_UNKNOWN", "the change is not committed yet; look at the status of the cluster".to_owned())),
        }
    }
}

fn new_member(asked: v1::Member) -> (u64, Member) {
    let v1::Member { node_id, peer_address, client_address, name } = asked;
    let name = if name.is_empty() { format!("node-{node_id}") } else { name };
    (node_id, Member { name, peer_address, client_address })
}

fn changed_status(error: RaftError<u64, ClientWriteError<u64, Member>>) -> Status {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => no_leader("leadership changed; ask again"),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => refused("MEMBERSHIP", error.to_string()),
        RaftError::Fatal(error) => again("RAFT_STOPPED", error.to_string()),
    }
}
