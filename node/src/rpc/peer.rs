//! What the other nodes call: Raft, submissions on their way to the leader, cosignatures, status.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use openraft::ServerState;
use proofline_ledger::{Hash, TreeSize, indexed_commitment, listing};
use proofline_proto::{
    peer::{
        AppendEntriesRequest, AppendEntriesResponse, CheckCommitmentRequest, CheckCommitmentResponse, CosignRequest, CosignResponse,
        GetStatusRequest, GetStatusResponse, HeldPayload, InstallSnapshotResponse, ListPayloadsRequest, ListPayloadsResponse, PayloadPlace,
        ProposeRequest, ProposeResponse, PublishedCheckpoint, SnapshotChunk, StorePayloadResponse, VoteRequest, VoteResponse, item,
        peer_server::Peer,
    },
    v1::{GetErasureRequest, NodeErasure, NodeRole, NodeStatus},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Api,
    status::{again, denied, refused},
};
use crate::{
    clock::unix_ns,
    cosigner::NotCosigned,
    peer::{self, PeerError},
    peers::Standing,
    replica::Member,
    signed_tree::SignedTree,
    store::StateDb,
    tls,
};

/// The service between nodes. Only holders of a peer certificate get past the listener, and only members past this:
///
/// - before this node knows a membership it waits to be added, and whoever adds it is nobody it knows;
/// - what Raft itself says is heard from strangers too while no member leads: this node may have been away while all whom
///   it knows were replaced, and could not learn of it otherwise. What the cluster decided meanwhile, Raft checks by terms.
#[derive(Clone)]
pub struct PeerRpc(Api);

impl PeerRpc {
    pub(super) fn new(api: Api) -> Self {
        Self(api)
    }

    fn check_caller<T>(&self, request: &Request<T>, about: About) -> Result<(), Status> {
        let caller = request.extensions().get::<tls::Caller>();
        let identity = match caller.map(|caller| (caller.channel, &caller.identity)) {
            Some((tls::Channel::Plaintext, _)) => return Ok(()),
            Some((tls::Channel::Tls, Some(identity))) => identity,
            Some((tls::Channel::Tls, None)) | None => return Err(Status::unauthenticated("the peer certificate carries no SPIFFE id")),
        };
        match (self.0.peers.standing(identity.node_name().unwrap_or_default()), about) {
            (Standing::Member | Standing::NobodyKnown, _) | (Standing::Stranger, About::Raft) => Ok(()),
            (Standing::Stranger, About::Service) | (Standing::StrangerToLedCluster, _) => {
                tracing::warn!(%identity, "a caller that is no member was turned away");
                Err(denied("NOT_A_MEMBER", format!("{identity} is no member of this cluster")))
            }
        }
    }

    /// Returns which member shows a checkpoint, 0 when it is none: by its certificate, or as it says itself where there is no TLS.
    fn sender(&self, request: &Request<PublishedCheckpoint>) -> u64 {
        let identity = request.extensions().get::<tls::Caller>().and_then(|caller| caller.identity.as_ref());
        let Some(identity) = identity else { return request.get_ref().node_id };
        let is_it = |member: &Member| Some(member.name.as_str()) == identity.node_name();
        self.0.peers.members().into_iter().find(|(_, member)| is_it(member)).map_or(0, |(node, _)| node)
    }
}

/// What a call between nodes is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Consensus: log, votes, snapshots.
    Raft,
    /// Anything else.
    Service,
}

type Settled = Pin<Box<dyn Stream<Item = Result<ProposeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerRpc {
    type ProposeStreamStream = Settled;

    async fn append_entries(&self, request: Request<AppendEntriesRequest>) -> Result<Response<AppendEntriesResponse>, Status> {
        self.check_caller(&request, About::Raft)?;
        let response = peer::append_entries(&self.0.raft, &self.0.origin, request.into_inner()).await;
        response.map(Response::new).map_err(|error| peer_status(&error))
    }

    async fn request_vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        self.check_caller(&request, About::Raft)?;
        let response = peer::request_vote(&self.0.raft, request.into_inner()).await;
        response.map(Response::new).map_err(|error| peer_status(&error))
    }

    async fn install_snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<InstallSnapshotResponse>, Status> {
        self.check_caller(&request, About::Raft)?;
        let response = peer::install_snapshot(&self.0.raft, request.into_inner()).await;
        response.map(Response::new).map_err(|error| peer_status(&error))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        self.check_caller(&request, About::Service)?;
        self.0.submit_here(submission(request.into_inner())?).await.map(Response::new)
    }

    async fn propose_stream(&self, request: Request<Streaming<ProposeRequest>>) -> Result<Response<Settled>, Status> {
        self.check_caller(&request, About::Service)?;
        let batches = request.into_inner().map(|request| submission(request?));
        Ok(Response::new(Box::pin(self.0.stream_here(batches))))
    }

    async fn cosign(&self, request: Request<CosignRequest>) -> Result<Response<CosignResponse>, Status> {
        self.check_caller(&request, About::Service)?;
        let asked = request.into_inner();
        let root = Hash::from_slice(&asked.root).ok_or_else(|| Status::invalid_argument("the root is not 32 bytes"))?;
        let cosignature = self.0.cosigner.cosign(SignedTree { size: TreeSize(asked.size), root }).await;
        let cosignature = cosignature.map_err(|error| cosign_status(&error))?;
        Ok(Response::new(CosignResponse { unix_s: cosignature.unix_s, signature: cosignature.signature.to_vec() }))
    }

    async fn check_commitment(&self, request: Request<CheckCommitmentRequest>) -> Result<Response<CheckCommitmentResponse>, Status> {
        self.check_caller(&request, About::Service)?;
        let said = request.into_inner().commitment.ok_or_else(|| Status::invalid_argument("no commitment is named"))?;
        let opinion = self.0.checker.opinion(said).await;
        let opinion = opinion.ok_or_else(|| Status::unavailable("this node has not computed so much, or has gone beyond it"))?;
        Ok(Response::new(CheckCommitmentResponse { opinion: opinion.into() }))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        self.check_caller(&request, About::Service)?;
        let status = self.0.own_status().await?;
        let outlets = if request.get_ref().outlets { self.0.outlet_problems().await? } else { Vec::new() };
        Ok(Response::new(GetStatusResponse { status: Some(status), clock_unix_ns: unix_ns(), outlets }))
    }

    async fn exchange_checkpoint(&self, request: Request<PublishedCheckpoint>) -> Result<Response<PublishedCheckpoint>, Status> {
        self.check_caller(&request, About::Service)?;
        let shown_by = self.sender(&request);
        let shown = request.into_inner().checkpoint;
        let own = self.0.published_note().unwrap_or_default();
        if shown != own {
            // In a task of its own: what was shown stays shown when the caller does not wait for the answer.
            let api = self.0.clone();
            drop(tokio::spawn(async move { api.compare(shown_by, shown).await }).await);
        }
        Ok(Response::new(PublishedCheckpoint { checkpoint: own, node_id: self.0.peers.node_id() }))
    }

    async fn store_payload(&self, request: Request<HeldPayload>) -> Result<Response<StorePayloadResponse>, Status> {
        self.check_caller(&request, About::Service)?;
        self.0.store_payload_here(request.into_inner()).await.map(Response::new)
    }

    async fn fetch_payload(&self, request: Request<PayloadPlace>) -> Result<Response<HeldPayload>, Status> {
        self.check_caller(&request, About::Service)?;
        self.0.payload_here(request.into_inner()).await.map(Response::new)
    }

    async fn list_payloads(&self, request: Request<ListPayloadsRequest>) -> Result<Response<ListPayloadsResponse>, Status> {
        self.check_caller(&request, About::Service)?;
        self.0.payloads_here(request.into_inner()).await.map(Response::new)
    }

    async fn get_node_erasure(&self, request: Request<GetErasureRequest>) -> Result<Response<NodeErasure>, Status> {
        self.check_caller(&request, About::Service)?;
        self.0.own_erasure(request.get_ref()).await.map(Response::new)
    }
}

fn submission(request: ProposeRequest) -> Result<item::Item, Status> {
    request.item.and_then(|item| item.item).ok_or_else(|| Status::invalid_argument("item is missing"))
}

fn peer_status(error: &PeerError) -> Status {
    match error {
        PeerError::Malformed(_) | PeerError::MalformedMembership(_) => Status::invalid_argument(error.to_string()),
        PeerError::Stopped(_) => again("RAFT_STOPPED", error.to_string()),
        PeerError::Transfer(_) => Status::data_loss(error.to_string()),
    }
}

fn cosign_status(error: &NotCosigned) -> Status {
    match error {
        NotCosigned::Behind { .. } | NotCosigned::Unconfirmed { .. } | NotCosigned::Unchecked { .. } | NotCosigned::ShuttingDown => {
            again("NOT_YET_COSIGNED", error.to_string())
        }
        NotCosigned::OtherRoot { .. }
        | NotCosigned::BehindSigned { .. }
        | NotCosigned::Inconsistent { .. }
        | NotCosigned::NotAuthentic(_)
        | NotCosigned::AheadOfTime { .. } => refused("NOT_COSIGNED", error.to_string()),
        NotCosigned::Store(_) | NotCosigned::SignedTree(_) | NotCosigned::Origin(_) => Status::internal(error.to_string()),
    }
}

impl Api {
    /// Describes this node. Every other node asks once a second, so it reads one row, and off the async threads.
    pub(super) async fn own_status(&self) -> Result<NodeStatus, Status> {
        let node_id = self.peers.node_id();
        let member = self.peers.members().remove(&node_id).unwrap_or_default();
        let read = |applied: &StateDb| Ok((listing::head(applied)?, indexed_commitment(applied)?));
        let (head, answered) = self.read_applied(read).await?;
        let (state, applied) = {
            let metrics = self.raft.metrics();
            let seen = metrics.borrow();
            (seen.state, seen.last_applied.map_or(0, |at| at.index))
        };
        Ok(NodeStatus {
            node_id,
            name: member.name,
            peer_address: member.peer_address,
            client_address: member.client_address,
            role: node_role(state).into(),
            error: String::new(),
            tree_size: head.size.0,
            log_root: head.root.0.to_vec(),
            state_digest: head.state_digest.0.to_vec(),
            applied_log_index: applied,
            checkpoint_size: self.published.borrow().as_ref().map_or(0, |published| published.size.0),
            commitment_size: self.confirmed.borrow().size.0,
            answered_size: answered.map_or(0, |of| of.size.0),
            clock_offset_ms: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            payloads: Some(self.payloads.progress()),
        })
    }
}

fn node_role(state: ServerState) -> NodeRole {
    match state {
        ServerState::Leader => NodeRole::Leader,
        ServerState::Follower => NodeRole::Follower,
        ServerState::Candidate => NodeRole::Candidate,
        ServerState::Learner => NodeRole::Learner,
        ServerState::Shutdown => NodeRole::Unspecified,
    }
}
