//! What the other nodes call: Raft, submissions on their way to the leader, cosignatures, status.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use openraft::ServerState;
use proofline_ledger::{Hash, TreeSize, listing};
use proofline_proto::{
    peer::{
        AppendEntriesRequest, AppendEntriesResponse, CosignRequest, CosignResponse, GetStatusRequest, GetStatusResponse,
        InstallSnapshotResponse, ProposeRequest, ProposeResponse, SnapshotChunk, VoteRequest, VoteResponse, item, peer_server::Peer,
    },
    v1::{NodeRole, NodeStatus},
};
use tonic::{Request, Response, Status, Streaming};

use super::{Api, reading::fault};
use crate::{
    clock::unix_ns,
    cosigner::NotCosigned,
    peer::{self, PeerError},
    signed_tree::SignedTree,
};

/// The service between nodes. Who may call it was decided by the listener: only holders of a peer certificate get here.
#[derive(Clone)]
pub struct PeerRpc(Api);

impl PeerRpc {
    pub(super) fn new(api: Api) -> Self {
        Self(api)
    }
}

type Settled = Pin<Box<dyn Stream<Item = Result<ProposeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerRpc {
    type ProposeStreamStream = Settled;

    async fn append_entries(&self, request: Request<AppendEntriesRequest>) -> Result<Response<AppendEntriesResponse>, Status> {
        let response = peer::append_entries(&self.0.raft, &self.0.origin, request.into_inner()).await;
        response.map(Response::new).map_err(|error| peer_status(&error))
    }

    async fn request_vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let response = peer::request_vote(&self.0.raft, request.into_inner()).await;
        response.map(Response::new).map_err(|error| peer_status(&error))
    }

    async fn install_snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<InstallSnapshotResponse>, Status> {
        let response = peer::install_snapshot(&self.0.raft, request.into_inner()).await;
        response.map(Response::new).map_err(|error| peer_status(&error))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        self.0.submit_here(submission(request.into_inner())?).await.map(Response::new)
    }

    async fn propose_stream(&self, request: Request<Streaming<ProposeRequest>>) -> Result<Response<Settled>, Status> {
        let batches = request.into_inner().map(|request| submission(request?));
        Ok(Response::new(Box::pin(self.0.stream_here(batches))))
    }

    async fn cosign(&self, request: Request<CosignRequest>) -> Result<Response<CosignResponse>, Status> {
        let asked = request.into_inner();
        let root = Hash::from_slice(&asked.root).ok_or_else(|| Status::invalid_argument("the root is not 32 bytes"))?;
        let cosignature = self.0.cosigner.cosign(SignedTree { size: TreeSize(asked.size), root }).await;
        let cosignature = cosignature.map_err(|error| cosign_status(&error))?;
        Ok(Response::new(CosignResponse { unix_s: cosignature.unix_s, signature: cosignature.signature.to_vec() }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let status = self.0.own_status().await?;
        Ok(Response::new(GetStatusResponse { status: Some(status), clock_unix_ns: unix_ns() }))
    }
}

fn submission(request: ProposeRequest) -> Result<item::Item, Status> {
    request.item.and_then(|item| item.item).ok_or_else(|| Status::invalid_argument("item is missing"))
}

fn peer_status(error: &PeerError) -> Status {
    match error {
        PeerError::Malformed(_) | PeerError::MalformedMembership(_) => Status::invalid_argument(error.to_string()),
        PeerError::Stopped(_) => Status::unavailable(error.to_string()),
        PeerError::Transfer(_) => Status::data_loss(error.to_string()),
    }
}

fn cosign_status(error: &NotCosigned) -> Status {
    match error {
        NotCosigned::Behind { .. } | NotCosigned::Unchecked { .. } | NotCosigned::ShuttingDown => Status::unavailable(error.to_string()),
        NotCosigned::OtherRoot { .. }
        | NotCosigned::BehindSigned { .. }
        | NotCosigned::Inconsistent { .. }
        | NotCosigned::NotAuthentic(_)
        | NotCosigned::AheadOfTime { .. } => Status::failed_precondition(error.to_string()),
        NotCosigned::Store(_) | NotCosigned::SignedTree(_) | NotCosigned::Origin(_) => Status::internal(error.to_string()),
    }
}

impl Api {
    /// Describes this node. Every other node asks once a second, so it reads one row, and off the async threads.
    pub(super) async fn own_status(&self) -> Result<NodeStatus, Status> {
        let node_id = self.peers.node_id();
        let member = self.peers.members().remove(&node_id).unwrap_or_default();
        let view = self.state.view();
        let read = tokio::task::spawn_blocking(move || listing::head(&*view)).await;
        let head = read.map_err(|_| Status::internal("a read was interrupted"))?.map_err(fault)?;
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
            clock_offset_ms: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
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
