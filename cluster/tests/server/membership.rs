//! Nodes that come, go, lag and crash, while a collector goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proofline_client::{Client, Profile, RetryPolicy};
use proofline_cluster::{PlannedNode, TENANT, Tls, authority::Validity, spiffe};
use proofline_node::{
    replica::Member,
    tls::{Credentials, TlsFiles, Transport},
};
use proofline_proto::{
    peer::{
        self,
        peer_client::PeerClient,
        peer_server::{Peer, PeerServer},
    },
    v1::{self, command::Action},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

use crate::containment::contain;
use crate::world::{World, append_through, event};

pub(crate) async fn leader(world: &World, asked: usize) -> usize {
    let status = world.control(asked, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    world.plan().nodes.iter().position(|node| node.node_id == status.leader_id).expect("somebody leads")
}

/// Waits until the nodes at `places` have the same root, and returns the size.
async fn agree(world: &World, places: &[usize], size: u64) {
    for place in places {
        world.published(*place, size).await;
    }
    let status = world.control(places[0], "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    let ids: Vec<u64> = places.iter().map(|place| world.node(*place).node_id).collect();
    let states: Vec<_> =
        status.nodes.iter().filter(|node| ids.contains(&node.node_id)).map(|node| (&node.log_root, &node.state_digest)).collect();
    assert_eq!(states.len(), places.len());
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "{status:?}");
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_comes_back_with_everything() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let mut last = 0;
    for _ in 0..3 {
        last = append_through(&world, &mut gateway, &[0, 1, 2]).await;
        let killed = leader(&world, 0).await;
        world.cluster.kill(killed).unwrap();
        let left: Vec<usize> = (0..3).filter(|place| *place != killed).collect();
        for _ in 0..5 {
            let next = append_through(&world, &mut gateway, &left).await;
            assert!(next > last, "indexes only grow");
            last = next;
        }
        world.cluster.start_all().await.unwrap();
    }
    agree(&world, &[0, 1, 2], last + 1).await;
}

#[tokio::test]
async fn without_a_majority_nothing_is_acknowledged_and_nothing_is_lost() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    append_through(&world, &mut gateway, &[0, 1, 2]).await;
    world.cluster.kill(1).unwrap();
    world.cluster.kill(2).unwrap();
    let request = gateway.sign(vec![event("s")]);
    let answer = tokio::time::timeout(Duration::from_secs(5), world.ingest(0, "gateway").append(request.clone())).await;
    assert!(!matches!(answer, Ok(Ok(_))), "acknowledged by one node of three");
    world.cluster.start_all().await.unwrap();
    gateway.sequence -= 1;
    let receipt = world.ingest(1, "gateway").append(request).await.unwrap().into_inner();
    gateway.sequence += 1;
    agree(&world, &[0, 1, 2], receipt.first_index + 1).await;
}

/// The client library with a node before all others.
fn asking_first(world: &World, node: &PlannedNode) -> Client {
    let text = std::fs::read_to_string(world.plan().profile("admin")).unwrap();
    let first = text.replacen("endpoints = [", &format!("endpoints = [\"https://{}\", ", node.client), 1);
    assert_ne!(first, text);
    let path = world.plan().profile("admin").with_file_name("first.toml");
    std::fs::write(&path, first).unwrap();
    Client::connect(&Profile::load(&path).unwrap(), RetryPolicy::default()).unwrap()
}

#[tokio::test]
async fn a_new_node_joins_catches_up_and_cosigns_and_an_old_one_leaves() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    for _ in 0..50 {
        append_through(&world, &mut gateway, &[0, 1, 2]).await;
    }
    let revoke = contain(v1::ContainmentAction::RevokeSession, v1::TargetKind::Session, "run-42");
    let began = world.command(&["rita"], revoke).await.unwrap() + 1;
    let (node, key) = world.cluster.add_node().unwrap();
    let register = Action::RegisterNode(v1::RegisterNode { node: Some(key.clone()) });
    let alone = world.command(&["alice"], register.clone()).await.unwrap_err();
    assert_eq!(alone.code(), Code::PermissionDenied, "one person registers no node: {alone:?}");
    world.command(&["alice", "bob"], register).await.unwrap();
    world.cluster.start(3).unwrap();
    let leads = leader(&world, 0).await;
    let change = adding(member(node.node_id, &node.peer.to_string(), &node.client.to_string()));
    let elsewhere = world.control((leads + 1) % 3, "admin").change_membership(change.clone()).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::FailedPrecondition, "a follower says where to go: {elsewhere:?}");
    // The node that is to join is asked first, and knows no leader.
    let voters = asking_first(&world, &node).change_membership(change, Duration::from_secs(30)).await.unwrap();
    assert_eq!(voters, [1, 2, 3, 4]);
    let last = append_through(&world, &mut gateway, &[3]).await;
    agree(&world, &[0, 1, 2, 3], last + 1).await;
    cosigned_by(&world, &key.name).await;
    // A watcher resumes from long before the node was there: no change is ever pruned.
    let watch = v1::WatchContainmentRequest { tenant_id: TENANT.to_owned(), from_index: 1 };
    let mut watched = world.control(3, "auditor").watch_containment(watch).await.unwrap().into_inner();
    let first = tokio::time::timeout(Duration::from_secs(30), watched.message()).await.expect("in time").unwrap().unwrap();
    assert_eq!((first.index, first.containment.is_some()), (began, true));

    let leaving = (0..3).find(|place| *place != leads).unwrap();
    let gone = world.node(leaving).node_id;
    let change = v1::ChangeMembershipRequest { remove: vec![gone], ..Default::default() };
    let leads = leader(&world, 0).await;
    let voters = world.control(leads, "admin").change_membership(change).await.unwrap().into_inner().voters;
    assert!(!voters.contains(&gone) && voters.len() == 3, "{voters:?}");
    world.cluster.kill(leaving).unwrap();
    let left: Vec<usize> = (0..4).filter(|place| *place != leaving).collect();
    let last = append_through(&world, &mut gateway, &left).await;
    agree(&world, &left, last + 1).await;
}

async fn cosigned_by(world: &World, name: &str) {
    let mut notes = world.audit(0, "auditor").watch_checkpoints(v1::WatchCheckpointsRequest {}).await.unwrap().into_inner();
    let mut gateway = world.collector("late-gateway").await;
    for _ in 0..50 {
        append_through(world, &mut gateway, &[0]).await;
        let note = String::from_utf8(notes.message().await.unwrap().unwrap().checkpoint).unwrap();
        if note.contains(&format!("— {name} ")) {
            return;
        }
    }
    panic!("{name} never cosigned");
}

pub(crate) fn member(node_id: u64, peer_address: &str, client_address: &str) -> v1::Member {
    v1::Member {
        node_id,
        peer_address: peer_address.to_owned(),
        client_address: client_address.to_owned(),
        name: format!("node-{node_id}"),
    }
}

fn adding(member: v1::Member) -> v1::ChangeMembershipRequest {
    v1::ChangeMembershipRequest { add: vec![member], ..Default::default() }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn members(world: &World) -> Vec<u64> {
    let status = world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    status.nodes.iter().map(|node| node.node_id).collect()
}

#[tokio::test]
async fn a_mistyped_address_changes_nothing() {
    let world = World::found(1, Tls::Off).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let known = world.node(0).peer.to_string();
    let moved = member(1, "127.0.0.1:1", "");
    for (wrong, code, why) in [
        (member(9, &nobody, ""), Code::Unavailable, "MEMBER_UNREACHABLE"),
        (member(9, "no address", ""), Code::Unavailable, "MEMBER_UNREACHABLE"),
        (member(9, &known, ""), Code::FailedPrecondition, "OTHER_NODE"),
        (moved, Code::FailedPrecondition, "OTHER_MEMBER"),
    ] {
        let status = world.control(0, "admin").change_membership(adding(wrong)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{status:?}");
    }
    assert_eq!(members(&world).await, [1]);
}

#[tokio::test]
async fn a_learner_that_does_not_catch_up_is_taken_out_again() {
    let world = World::found(1, Tls::Off).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = tonic::transport::Server::builder().add_service(PeerServer::new(OnlyStatus::default()));
    tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));
    let change = v1::ChangeMembershipRequest { add: vec![member(9, &address, "")], catch_up_within_s: 1, ..Default::default() };
    let status = world.control(0, "admin").change_membership(change).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DID_NOT_CATCH_UP"), "{status:?}");
    assert_eq!(members(&world).await, [1]);
    world.collector("gateway").await;
}

/// A node that says who it is, shows whoever has this id a checkpoint, and does nothing else.
#[derive(Debug, Default)]
pub(crate) struct OnlyStatus {
    pub(crate) shows: Option<(u64, Vec<u8>)>,
    /// How often that one showed its own.
    pub(crate) shown: Arc<AtomicUsize>,
}

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this node only says who it is"))
}

#[tonic::async_trait]
impl Peer for OnlyStatus {
    type ProposeStreamStream = futures::stream::Empty<Result<peer::ProposeResponse, Status>>;

    async fn append_entries(&self, _: Request<peer::AppendEntriesRequest>) -> Result<Response<peer::AppendEntriesResponse>, Status> {
        nothing()
    }

    async fn request_vote(&self, _: Request<peer::VoteRequest>) -> Result<Response<peer::VoteResponse>, Status> {
        nothing()
    }

    async fn install_snapshot(
        &self,
        _: Request<Streaming<peer::SnapshotChunk>>,
    ) -> Result<Response<peer::InstallSnapshotResponse>, Status> {
        nothing()
    }

    async fn propose(&self, _: Request<peer::ProposeRequest>) -> Result<Response<peer::ProposeResponse>, Status> {
        nothing()
    }

    async fn propose_stream(&self, _: Request<Streaming<peer::ProposeRequest>>) -> Result<Response<Self::ProposeStreamStream>, Status> {
        nothing()
    }

    async fn cosign(&self, _: Request<peer::CosignRequest>) -> Result<Response<peer::CosignResponse>, Status> {
        nothing()
    }

    async fn check_commitment(&self, _: Request<peer::CheckCommitmentRequest>) -> Result<Response<peer::CheckCommitmentResponse>, Status> {
        nothing()
    }

    async fn get_status(&self, _: Request<peer::GetStatusRequest>) -> Result<Response<peer::GetStatusResponse>, Status> {
        let status = v1::NodeStatus { node_id: 9, ..Default::default() };
        Ok(Response::new(peer::GetStatusResponse { status: Some(status), clock_unix_ns: 0, outlets: Vec::new() }))
    }

    async fn exchange_checkpoint(
        &self,
        request: Request<peer::PublishedCheckpoint>,
    ) -> Result<Response<peer::PublishedCheckpoint>, Status> {
        match &self.shows {
            Some((to, checkpoint)) if *to == request.get_ref().node_id => {
                self.shown.fetch_add(1, Ordering::SeqCst);
                Ok(Response::new(peer::PublishedCheckpoint { checkpoint: checkpoint.clone(), node_id: 0 }))
            }
            Some(_) | None => nothing(),
        }
    }

    async fn store_payload(&self, _: Request<peer::HeldPayload>) -> Result<Response<peer::StorePayloadResponse>, Status> {
        nothing()
    }

    async fn fetch_payload(&self, _: Request<peer::PayloadPlace>) -> Result<Response<peer::HeldPayload>, Status> {
        nothing()
    }

    async fn list_payloads(&self, _: Request<peer::ListPayloadsRequest>) -> Result<Response<peer::ListPayloadsResponse>, Status> {
        nothing()
    }

    async fn get_node_erasure(&self, _: Request<v1::GetErasureRequest>) -> Result<Response<v1::NodeErasure>, Status> {
        nothing()
    }
}

/// Calls a node over its peer listener, as the node of that name.
pub(crate) fn peer_at(world: &World, place: usize, name: &str) -> PeerClient<Channel> {
    let tls = world.plan().root.join("tls");
    let peers = world.plan().peer_authority().unwrap();
    peers.issue(&spiffe(&format!("node/{name}")), Validity::usual()).unwrap().write(&tls, &format!("{name}-test")).unwrap();
    let file = |ending: &str| tls.join(format!("{name}-test{ending}"));
    let files = TlsFiles { certificate: file(".pem"), key: file(".key.pem"), roots: tls.join("peers-root.pem") };
    let transport = Transport::mutual(Arc::new(Credentials::open(files).unwrap())).unwrap();
    let node = world.node(place);
    let callee = Member { name: node.name.clone(), peer_address: node.peer.to_string(), client_address: String::new() };
    PeerClient::new(transport.channel(&callee).unwrap())
}

#[tokio::test]
async fn between_nodes_only_members_are_answered() {
    let world = World::found(1, Tls::Mutual).await;
    let status = peer_at(&world, 0, "node-1").get_status(peer::GetStatusRequest { outlets: false }).await.unwrap().into_inner();
    assert_eq!(status.status.unwrap().node_id, 1);
    // A good certificate under the peers' root, of a node that was removed or never added.
    let mut stranger = peer_at(&world, 0, "node-9");
    let vote = peer::Vote { term: 1_000, node_id: 9, committed: false };
    let refusals = [
        stranger.get_status(peer::GetStatusRequest { outlets: false }).await.map(drop),
        stranger.cosign(peer::CosignRequest::default()).await.map(drop),
        stranger.check_commitment(peer::CheckCommitmentRequest::default()).await.map(drop),
        stranger.propose(peer::ProposeRequest::default()).await.map(drop),
        stranger.exchange_checkpoint(peer::PublishedCheckpoint::default()).await.map(drop),
        stranger.store_payload(peer::HeldPayload::default()).await.map(drop),
        stranger.fetch_payload(peer::PayloadPlace::default()).await.map(drop),
        stranger.list_payloads(peer::ListPayloadsRequest::default()).await.map(drop),
        stranger.get_node_erasure(v1::GetErasureRequest::default()).await.map(drop),
        stranger.request_vote(peer::VoteRequest { vote: Some(vote), last: None }).await.map(drop),
        stranger.append_entries(peer::AppendEntriesRequest { vote: Some(vote), ..Default::default() }).await.map(drop),
    ];
    for refusal in refusals {
        let status = refusal.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_A_MEMBER"), "{status:?}");
    }
    let term = world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner().term;
    assert!(term < 1_000, "a stranger does not raise the term");
}
