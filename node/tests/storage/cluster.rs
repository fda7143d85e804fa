//! Nodes that talk to each other over real connections.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{RaftNetwork as _, RaftNetworkFactory as _, ServerState, Snapshot, Vote, network::RPCOption, storage::RaftLogStorage as _};
use proofline_ledger::RecentKeys;
use proofline_node::{
    data_dir::DataDir,
    elections::{self, Leads},
    failure,
    journal::Journal,
    peer::{self, MESSAGE_BYTES_MAX, PeerNetwork},
    replica::{self, Applies, ElectionSlice, Group, Machine, Member, Progress, Raft, SnapshotEntries, StateAt, raft_config},
    store::StateStore,
    tls::{Room, Security, Transport, incoming},
};
use proofline_proto::peer::peer_server::{Peer, PeerServer};
use proofline_proto::{peer as message, v1};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{broadcast, watch},
    task::{self, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::world::{ORIGIN, dir};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

/// A running node.
pub(crate) struct Node {
    pub(crate) raft: Raft,
    pub(crate) store: StateStore,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) states: broadcast::Sender<StateAt>,
    pub(crate) keys: RecentKeys,
    pub(crate) member: Member,
    threads: Vec<std::thread::JoinHandle<()>>,
    server: Option<JoinHandle<()>>,
    leads: Leads,
    standing: Vec<JoinHandle<()>>,
    // After `store`: a database that is still open when its directory goes flushes in vain for seconds, on the one thread
    // that flushes for every database of this process.
    root: Option<TempDir>,
    pub(crate) id: u64,
}

impl Drop for Node {
    fn drop(&mut self) {
        task::block_in_place(|| Handle::current().block_on(self.end()));
    }
}

struct Service {
    raft: Raft,
    origin: Arc<str>,
    snapshots: Snapshots,
}

/// What a node does with snapshots that come.
#[derive(Clone, Copy, PartialEq)]
enum Snapshots {
    Taken,
    /// They never finish.
    Held,
}

fn status(error: peer::PeerError) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl Peer for Service {
    async fn append_entries(
        &self,
        request: Request<message::AppendEntriesRequest>,
    ) -> Result<Response<message::AppendEntriesResponse>, Status> {
        let answer = peer::append_entries(&self.raft, &self.origin, request.into_inner()).await;
        answer.map(Response::new).map_err(status)
    }

    async fn request_vote(&self, request: Request<message::VoteRequest>) -> Result<Response<message::VoteResponse>, Status> {
        peer::request_vote(&self.raft, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<message::SnapshotChunk>>,
    ) -> Result<Response<message::InstallSnapshotResponse>, Status> {
        if self.snapshots == Snapshots::Held {
            std::future::pending::<()>().await;
        }
        peer::install_snapshot(&self.raft, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn propose(&self, _: Request<message::ProposeRequest>) -> Result<Response<message::ProposeResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    type ProposeStreamStream = futures::stream::Empty<Result<message::ProposeResponse, Status>>;

    async fn propose_stream(&self, _: Request<Streaming<message::ProposeRequest>>) -> Result<Response<Self::ProposeStreamStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn check_commitment(
        &self,
        _: Request<message::CheckCommitmentRequest>,
    ) -> Result<Response<message::CheckCommitmentResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn cosign(&self, _: Request<message::CosignRequest>) -> Result<Response<message::CosignResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_status(&self, _: Request<message::GetStatusRequest>) -> Result<Response<message::GetStatusResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn exchange_checkpoint(
        &self,
        _: Request<message::PublishedCheckpoint>,
    ) -> Result<Response<message::PublishedCheckpoint>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn store_payload(&self, _: Request<message::HeldPayload>) -> Result<Response<message::StorePayloadResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn fetch_payload(&self, _: Request<message::PayloadPlace>) -> Result<Response<message::HeldPayload>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn list_payloads(&self, _: Request<message::ListPayloadsRequest>) -> Result<Response<message::ListPayloadsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_node_erasure(&self, _: Request<v1::GetErasureRequest>) -> Result<Response<v1::NodeErasure>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

impl Node {
    pub(crate) async fn start(id: u64) -> Self {
        Self::start_in(id, tempfile::tempdir().unwrap()).await
    }

    async fn start_in(id: u64, root: TempDir) -> Self {
        Self::start_with(id, root, Snapshots::Taken).await
    }

    async fn start_with(id: u64, root: TempDir, snapshots: Snapshots) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let member =
            Member { name: format!("node-{id}"), peer_address: listener.local_addr().unwrap().to_string(), client_address: String::new() };
        let dir: DataDir = dir(root.path(), id);
        let (failures, _) = failure::channel();
        let (store, writer) = StateStore::open(&dir).unwrap();
        let (machine, apply) = Machine::start(store.clone(), writer, ORIGIN, failures.clone()).unwrap();
        let (progress, states) = (machine.progress(), broadcast::Sender::new(64));
        // Passed on, so that a test can listen when it is ready.
        let Applies { states: mut made, keys } = machine.applies();
        let passed = states.clone();
        tokio::spawn(async move {
            while let Ok(state) = made.recv().await {
                drop(passed.send(state));
            }
        });
        let flushed = store.clone();
        let flush_state = Box::new(move |index| flushed.flush_through(index).map_err(|error| error.to_string()));
        let (mut journal, journal_thread) = Journal::open(&dir, flush_state, failures).unwrap();
        replica::recover(&mut journal, &machine).await.unwrap();
        let slice = ElectionSlice { place: id - 1, nodes: NonZeroU64::new(3).unwrap() };
        let mut config = raft_config(ORIGIN, slice, SnapshotEntries::USUAL).unwrap();
        config.max_in_snapshot_log_to_keep = 0;
        config.purge_batch_size = 1;
        let leads = Leads::default();
        let raft =
            Raft::new(id, Arc::new(config), PeerNetwork::new(id, Transport::Plaintext, leads.clone()), journal, machine).await.unwrap();
        let (_, stands_aside) = watch::channel(false);
        let never = CancellationToken::new;
        let asking = leads.clone().keep_asking(raft.clone(), id, stands_aside.clone(), never());
        let standing = elections::stand(raft.clone(), id, slice, elections::any_lot, stands_aside, never());
        let standing = vec![tokio::spawn(asking), tokio::spawn(standing)];
        let service = PeerServer::new(Service { raft: raft.clone(), origin: Arc::from(ORIGIN), snapshots })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let accepted = incoming(listener, Security::Plaintext, Room::of(64)).unwrap();
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(accepted).await.unwrap();
        });
        let threads = vec![apply, journal_thread];
        Self { raft, store, progress, states, keys, member, threads, server: Some(server), leads, standing, root: Some(root), id }
    }

    /// Stops the node; its directory stays.
    async fn stop(mut self) -> TempDir {
        self.end().await;
        self.root.take().unwrap()
    }

    /// Ends everything that holds the databases but the handle to the state.
    async fn end(&mut self) {
        self.standing.iter().for_each(JoinHandle::abort);
        // It may have ended by itself.
        drop(self.raft.shutdown().await);
        if let Some(server) = self.server.take() {
            server.abort();
            drop(server.await);
        }
        for thread in self.threads.drain(..) {
            // A test may have failed for the reason that ended the thread.
            drop(task::spawn_blocking(|| thread.join()).await);
        }
    }

    async fn write(&self, groups: u64) {
        for number in 0..groups {
            let group = Group::new(Bytes::from(format!("no group, but bytes {number}")));
            self.raft.client_write(group).await.unwrap();
        }
    }

    pub(crate) fn last_applied(&self) -> Option<u64> {
        self.store.view().position().unwrap().applied.map(|at| at.index)
    }

    pub(crate) async fn applied(&self, index: Option<u64>) {
        let reached = self.raft.wait(PATIENCE).applied_index_at_least(index, "applied").await;
        reached.unwrap();
    }
}

pub(crate) async fn initialize(first: &Node, nodes: &[&Node]) {
    let members: BTreeMap<u64, Member> = nodes.iter().map(|node| (node.id, node.member.clone())).collect();
    first.raft.initialize(members).await.unwrap();
}

/// Waits until one of `nodes` leads, and returns it.
pub(crate) async fn leader<'a>(nodes: &[&'a Node]) -> &'a Node {
    let metrics = nodes[0].raft.wait(PATIENCE).metrics(|metrics| metrics.current_leader.is_some(), "a leader").await.unwrap();
    let leader = nodes.iter().find(|node| Some(node.id) == metrics.current_leader).unwrap();
    leader.raft.wait(PATIENCE).state(ServerState::Leader, "leading").await.unwrap();
    leader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_agree_on_what_was_written() {
    let (one, two, three) = (Node::start(1).await, Node::start(2).await, Node::start(3).await);
    let nodes = [&one, &two, &three];
    initialize(&one, &nodes).await;
    let leader = leader(&nodes).await;
    leader.write(20).await;
    for node in nodes {
        node.applied(leader.last_applied()).await;
        assert_eq!(node.store.view().position().unwrap(), leader.store.view().position().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_falls_silent_is_replaced_without_the_clockwork_of_the_library() {
    let (one, two, three) = (Node::start(1).await, Node::start(2).await, Node::start(3).await);
    initialize(&one, &[&one, &two, &three]).await;
    let leading = leader(&[&one, &two, &three]).await.id;
    let mut nodes = vec![one, two, three];
    let first = nodes.remove(nodes.iter().position(|node| node.id == leading).unwrap());
    first.write(5).await;
    for node in &nodes {
        node.applied(first.last_applied()).await;
        // What the library notices by itself it keeps to itself.
        node.raft.runtime_config().elect(false);
    }
    first.stop().await;
    let [left, right] = nodes.as_slice() else { panic!("two are left") };
    let another = |seen: &openraft::RaftMetrics<u64, Member>| seen.current_leader.is_some_and(|now| now != leading);
    let led_by = left.raft.wait(PATIENCE).metrics(another, "another leader").await.unwrap().current_leader;
    let next = [left, right].into_iter().find(|node| Some(node.id) == led_by).unwrap();
    next.write(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applied_group_answers_its_items_to_whoever_proposed_it() {
    let node = Node::start(1).await;
    initialize(&node, &[&node]).await;
    leader(&[&node]).await;
    let answer = node.raft.client_write(Group::new(Bytes::from_static(b"\xff"))).await.unwrap();
    assert_eq!(answer.data.as_slice().len(), 1, "an unreadable group is one refused item");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_catches_up_from_a_snapshot_when_the_log_is_gone() {
    let (old, new) = (Node::start(1).await, Node::start(2).await);
    initialize(&old, &[&old]).await;
    leader(&[&old]).await;
    old.write(30).await;
    old.raft.trigger().snapshot().await.unwrap();
    let purged = old.raft.wait(PATIENCE).metrics(|metrics| metrics.purged.is_some(), "purged").await.unwrap().purged;
    old.write(3).await;

    old.raft.add_learner(2, new.member.clone(), true).await.unwrap();
    new.applied(old.last_applied()).await;
    let snapshot = new.store.snapshot().unwrap();
    assert!(snapshot.meta.last_log_id >= purged, "{:?} covers {purged:?}", snapshot.meta);
    assert_eq!(new.store.view().position().unwrap(), old.store.view().position().unwrap());

    let root = new.stop().await;
    let again = Node::start_in(2, root).await;
    assert!(again.store.view().position().unwrap().applied >= snapshot.meta.last_log_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hears_that_the_leader_lives_while_a_snapshot_is_on_its_way_to_it() {
    let from = Node::start(1).await;
    initialize(&from, &[&from]).await;
    leader(&[&from]).await;
    from.write(1).await;
    from.raft.trigger().snapshot().await.unwrap();
    let snapshot = from.raft.wait(PATIENCE).metrics(|seen| seen.snapshot.is_some(), "a snapshot").await.map(|_| from.store.snapshot());
    let snapshot = snapshot.unwrap().unwrap();
    let snapshot = Snapshot { meta: snapshot.meta.clone(), snapshot: Box::new(snapshot.files.clone()) };

    let to = Node::start_with(2, tempfile::tempdir().unwrap(), Snapshots::Held).await;
    let mut connection = PeerNetwork::new(1, Transport::Plaintext, from.leads.clone()).new_client(2, &to.member).await;
    let vote = Vote::new_committed(7, 1);
    let sending = connection.full_snapshot(vote, snapshot, std::future::pending(), RPCOption::new(PATIENCE.unwrap()));
    let heard = to.raft.wait(PATIENCE);
    tokio::select! {
        sent = sending => panic!("it is never taken: {sent:?}"),
        heard = heard.metrics(|seen| seen.vote == vote, "the leader") => drop(heard.unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_leader_wins_a_new_term_before_it_answers_reads() {
    let node = Node::start(1).await;
    initialize(&node, &[&node]).await;
    leader(&[&node]).await;
    node.write(10).await;
    let before = node.raft.metrics().borrow().current_term;
    let applied = node.store.view().position().unwrap().applied;
    let root = node.stop().await;

    let node = Node::start_in(1, root).await;
    node.raft.wait(PATIENCE).state(ServerState::Leader, "leading again").await.unwrap();
    let read = node.raft.ensure_linearizable().await.unwrap();
    assert!(node.raft.metrics().borrow().current_term > before);
    assert!(read > applied, "the read waits for an entry of the new term");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_follower_goes_on_where_it_was() {
    let (one, two, three) = (Node::start(1).await, Node::start(2).await, Node::start(3).await);
    let nodes = [&one, &two, &three];
    initialize(&one, &nodes).await;
    let leading = leader(&nodes).await.id;
    let mut nodes = vec![one, two, three];
    let follower = nodes.remove(nodes.iter().position(|node| node.id != leading).unwrap());
    let leading = nodes.iter().find(|node| node.id == leading).unwrap();
    leading.write(5).await;
    follower.applied(leading.last_applied()).await;
    let (id, root) = (follower.id, follower.stop().await);
    leading.write(5).await;

    // Its address changed with the restart; the vote and the log did not.
    let follower = Node::start_in(id, root).await;
    assert!(follower.last_applied() <= leading.last_applied());
    leading.raft.change_membership(openraft::ChangeMembers::SetNodes(BTreeMap::from([(id, follower.member.clone())])), true).await.unwrap();
    follower.applied(leading.last_applied()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_entries_that_the_state_lost_are_applied_again_before_raft_starts() {
    let node = Node::start(1).await;
    initialize(&node, &[&node]).await;
    leader(&[&node]).await;
    node.write(10).await;
    let applied = node.last_applied();
    let root = node.stop().await;
    // The power failed before the state was ever flushed.
    std::fs::remove_dir_all(dir(root.path(), 1).state()).unwrap();

    let node = Node::start_in(1, root).await;
    assert!(node.last_applied() >= applied);
}

#[tokio::test]
async fn a_state_that_the_log_has_left_behind_is_refused_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let dir = dir(root.path(), 1);
    let (failures, _) = failure::channel();
    let (store, writer) = StateStore::open(&dir).unwrap();
    let (machine, _) = Machine::start(store, writer, ORIGIN, failures.clone()).unwrap();
    let (mut journal, _) = Journal::open(&dir, Box::new(|_| Ok(())), failures).unwrap();
    journal.purge(crate::world::log_id(1, 10)).await.unwrap();
    let error = replica::recover(&mut journal, &machine).await.unwrap_err();
    assert!(matches!(error, replica::RecoveryError::Journal(proofline_node::journal::JournalError::StateBehind { .. })), "{error}");
}
