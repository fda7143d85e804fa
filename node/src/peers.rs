//! The other nodes, as this one calls them outside Raft: to pass submissions on, to ask for cosignatures, clocks and status.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use proofline_proto::peer::{
    CheckCommitmentRequest, CosignRequest, CosignResponse, GetStatusRequest, GetStatusResponse, HeldPayload, ListPayloadsRequest,
    ListPayloadsResponse, Opinion, OutletProblem, PayloadPlace, ProposeRequest, ProposeResponse, PublishedCheckpoint, StorePayloadResponse,
    peer_client::PeerClient,
};
use proofline_proto::v1::{GetErasureRequest, NodeErasure, StateCommitment};
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    peer::MESSAGE_BYTES_MAX,
    replica::{Member, Raft},
    rpc::again,
    tls::Transport,
};

/// A connection and the address that it goes to.
#[derive(Clone, Debug)]
struct Line {
    member: Member,
    channel: Channel,
}

/// What a node is to another one, by the membership that the other one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is a member.
    Member,
    /// No membership is known: the other one waits to be added.
    NobodyKnown,
    /// It is no member, and a member leads.
    StrangerToLedCluster,
    /// It is no member, and nobody leads that the other one knows of: its membership may be an old one.
    Stranger,
}

/// Calls the members of the cluster. Clones are cheap; connections are made when first used and kept.
#[derive(Clone)]
pub struct Peers {
    node_id: u64,
    raft: Raft,
    transport: Transport,
    lines: Arc<ArcSwap<BTreeMap<u64, Line>>>,
}

impl Peers {
    /// Takes who calls, where the membership is known, and how connections are made.
    #[must_use]
    pub fn new(node_id: u64, raft: Raft, transport: Transport) -> Self {
        Self { node_id, raft, transport, lines: Arc::default() }
    }

    /// Returns the id of this node.
    #[must_use]
    pub fn node_id(&self) -> u64 {
        self.node_id
    }

    /// Returns the ids of the voters, as this node knows the membership.
    #[must_use]
    pub fn voters(&self) -> Vec<u64> {
        self.raft.metrics().borrow().membership_config.membership().voter_ids().collect()
    }

    /// Returns every member with its address, as this node knows the membership.
    #[must_use]
    pub fn members(&self) -> BTreeMap<u64, Member> {
        self.raft.metrics().borrow().membership_config.nodes().map(|(id, member)| (*id, member.clone())).collect()
    }

    /// Passes a submission to the leader.
    ///
    /// # Errors
    /// The leader's refusal, or `UNAVAILABLE` when it cannot be reached.
    pub async fn propose(&self, leader: u64, request: ProposeRequest) -> Result<ProposeResponse, Status> {
        Ok(self.client(leader)?.propose(request).await?.into_inner())
    }

    /// Passes a collector's stream to the leader.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub async fn propose_stream(
        &self,
        leader: u64,
        requests: impl futures::Stream<Item = ProposeRequest> + Send + 'static,
    ) -> Result<Streaming<ProposeResponse>, Status> {
        Ok(self.client(leader)?.propose_stream(requests).await?.into_inner())
    }

    /// Asks a voter to cosign.
    ///
    /// # Errors
    /// The voter's refusal, or `UNAVAILABLE` when it cannot be reached.
    pub async fn cosign(&self, voter: u64, request: CosignRequest) -> Result<CosignResponse, Status> {
        Ok(self.client(voter)?.cosign(request).await?.into_inner())
    }

    /// Asks a voter what it thinks of a commitment.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be reached, or has no opinion.
    pub async fn check_commitment(&self, voter: u64, said: StateCommitment) -> Result<Opinion, Status> {
        let request = CheckCommitmentRequest { commitment: Some(said) };
        Ok(self.client(voter)?.check_commitment(request).await?.into_inner().opinion())
    }

    /// Asks a node how it is.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be reached.
    pub async fn status(&self, node: u64) -> Result<GetStatusResponse, Status> {
        Ok(self.client(node)?.get_status(GetStatusRequest { outlets: false }).await?.into_inner())
    }

    /// Shows a node what this one publishes, and returns what the other one publishes.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be reached.
    pub async fn exchange(&self, node: u64, shown: PublishedCheckpoint) -> Result<PublishedCheckpoint, Status> {
        Ok(self.client(node)?.exchange_checkpoint(shown).await?.into_inner())
    }

    /// Asks a node which outlets it could not send to.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be reached.
    pub async fn outlet_problems(&self, node: u64) -> Result<Vec<OutletProblem>, Status> {
        Ok(self.client(node)?.get_status(GetStatusRequest { outlets: true }).await?.into_inner().outlets)
    }

    /// Hands a payload to a node. On return: it is on that node's disk.
    ///
    /// # Errors
    /// The node's refusal, or `UNAVAILABLE` when it cannot be reached.
    pub async fn store_payload(&self, node: u64, payload: HeldPayload) -> Result<StorePayloadResponse, Status> {
        Ok(self.client(node)?.store_payload(payload).await?.into_inner())
    }

    /// Fetches a payload from a node.
    ///
    /// # Errors
    /// `NOT_FOUND` when it has none, or `UNAVAILABLE` when it cannot be reached.
    pub async fn fetch_payload(&self, node: u64, place: PayloadPlace) -> Result<HeldPayload, Status> {
        Ok(self.client(node)?.fetch_payload(place).await?.into_inner())
    }

    /// Lists what a node took.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be reached.
    pub async fn list_payloads(&self, node: u64, request: ListPayloadsRequest) -> Result<ListPayloadsResponse, Status> {
        Ok(self.client(node)?.list_payloads(request).await?.into_inner())
    }

    /// Asks a node what it did about an erasure.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be reached.
    pub async fn node_erasure(&self, node: u64, request: GetErasureRequest) -> Result<NodeErasure, Status> {
        Ok(self.client(node)?.get_node_erasure(request).await?.into_inner())
    }

    /// Asks a node that is no member yet who it is.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be reached, or is not the node that its certificate must name.
    pub async fn probe(&self, member: &Member) -> Result<GetStatusResponse, Status> {
        let channel = self.transport.channel(member).map_err(|error| again("MEMBER_UNREACHABLE", error.to_string()))?;
        Ok(PeerClient::new(channel).get_status(GetStatusRequest { outlets: false }).await?.into_inner())
    }

    /// Tells what this node knows of a node by its name.
    #[must_use]
    pub fn standing(&self, name: &str) -> Standing {
        let metrics = self.raft.metrics();
        let seen = metrics.borrow();
        let members = seen.membership_config.membership();
        if members.nodes().next().is_none() {
            return Standing::NobodyKnown;
        }
        if members.nodes().any(|(_, member)| member.name == name) {
            return Standing::Member;
        }
        let is_led = seen.current_leader.is_some_and(|leader| members.nodes().any(|(id, _)| *id == leader));
        if is_led { Standing::StrangerToLedCluster } else { Standing::Stranger }
    }

    fn client(&self, node: u64) -> Result<PeerClient<Channel>, Status> {
        let members = self.members();
        let member = members.get(&node).ok_or_else(|| again("NOT_A_MEMBER", format!("node {node} is not a member")))?;
        let channel = match self.lines.load().get(&node).filter(|line| line.member == *member) {
            Some(line) => line.channel.clone(),
            None => self.connect(node, member)?,
        };
        Ok(PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn connect(&self, node: u64, member: &Member) -> Result<Channel, Status> {
        let channel = self.transport.channel(member).map_err(|error| again("MEMBER_UNREACHABLE", error.to_string()))?;
        let line = Line { member: member.clone(), channel: channel.clone() };
        self.lines.rcu(|lines| {
            let mut lines = BTreeMap::clone(lines);
            lines.insert(node, line.clone());
            lines
        });
        Ok(channel)
    }
}
