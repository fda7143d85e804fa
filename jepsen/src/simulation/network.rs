//! The network between simulated nodes: every message is late by a lot, and may be lost, doubled, overtaken or cut off.
//!
//! Raft's calls go as the bytes of the real messages, through the real conversions, to the real functions that carry them out.
//! A snapshot goes as a whole: its path stands for its files.

use std::{future::Future, sync::Arc, time::Duration};

use openraft::{
    AnyError, OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot, SnapshotMeta, Vote,
    error::{Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use proofline_node::{
    elections::Leads,
    inbox::{Answer, Lost},
    peer::{self, PeerError, convert},
    replica::{Member, Raft, TypeConfig},
    store::SnapshotFiles,
};
use proofline_proto::peer as messages;
use prost::Message as _;
use tokio::sync::oneshot;

use super::{
    Planted,
    disk::State,
    node::admit,
    world::{Life, ORIGIN, Running, World},
};

/// After which a caller finds that nobody is there any more.
const SILENCE: Duration = Duration::from_secs(2);
/// As the nodes' own pause after a call that did not reach its node.
const BACKOFF: Duration = Duration::from_millis(100);

/// What one node asks of another.
#[derive(Clone)]
pub(super) enum Message {
    Append(Vec<u8>),
    Vote(Vec<u8>),
    Snapshot(Vote<u64>, SnapshotMeta<u64, Member>, Arc<State>),
    Propose(Box<messages::item::Item>),
}

/// What comes back.
pub(super) enum Reply {
    Append(Vec<u8>),
    Vote(Vec<u8>),
    Snapshot(Vote<u64>),
    Proposed(Answer),
    /// Nobody is there, or who was there is no more, or it cannot.
    Refused(String),
}

/// Makes the connections of one life of a node.
#[derive(Clone)]
pub(super) struct Links {
    pub(super) world: Arc<World>,
    pub(super) life: Life,
    pub(super) leads: Leads,
}

/// A connection to one node.
#[derive(Clone)]
pub(super) struct Link {
    world: Arc<World>,
    life: Life,
    leads: Leads,
    to: u64,
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _member: &Member) -> Link {
        Link { world: Arc::clone(&self.world), life: self.life.clone(), leads: self.leads.clone(), to: target }
    }
}

/// Sends a message and waits for the reply; none when nothing comes back.
pub(super) async fn call(world: &Arc<World>, life: &Life, to: u64, message: Message) -> Option<Reply> {
    life.pass().await.ok()?;
    if world.network_lot(|knobs| knobs.reset) {
        return Some(Reply::Refused("the connection broke".to_owned()));
    }
    let from = life.node;
    if world.network_lot(|knobs| knobs.twice) {
        // The second one may come much later, and nobody waits for what it brings.
        tokio::spawn(deliver(Arc::clone(world), from, to, message.clone(), None));
    }
    let (sender, reply) = oneshot::channel();
    tokio::spawn(deliver(Arc::clone(world), from, to, message, Some(sender)));
    let reply = reply.await.ok();
    life.pass().await.ok()?;
    reply
}

async fn deliver(world: Arc<World>, from: u64, to: u64, message: Message, back: Option<oneshot::Sender<Reply>>) {
    if !travel(&world, from, to).await {
        return;
    }
    let reply = match world.running(to) {
        Some(node) => match serve(&world, &node, message).await {
            Some(reply) => reply,
            None => return,
        },
        None => Reply::Refused("nobody listens there".to_owned()),
    };
    if let Some(back) = back
        && travel(&world, to, from).await
    {
        // Whoever asked may have given up.
        drop(back.send(reply));
    }
}

/// Waits as long as a message is on its way; returns whether it arrives.
async fn travel(world: &World, from: u64, to: u64) -> bool {
    world.shared().counts.messages += 1;
    let usual = world.network_between(50, world.knobs.delay_us_max);
    let is_late = world.network_lot(|knobs| knobs.late);
    let is_lost = world.network_lot(|knobs| knobs.lost);
    tokio::time::sleep(Duration::from_micros(if is_late { usual.saturating_mul(20) } else { usual })).await;
    let arrives = !is_lost && !world.is_cut(from, to);
    world.note(&format!("{from}->{to} {}", if arrives { "arrives" } else { "is lost" }));
    arrives
}

/// Has a node carry out a message; none when it dies over it.
async fn serve(world: &Arc<World>, node: &Running, message: Message) -> Option<Reply> {
    node.life.pass().await.ok()?;
    let reply = carry_out(world, node, message).await;
    node.life.pass().await.ok()?;
    Some(reply.unwrap_or_else(Reply::Refused))
}

async fn carry_out(world: &Arc<World>, node: &Running, message: Message) -> Result<Reply, String> {
    let said = |error: PeerError| error.to_string();
    match message {
        Message::Append(bytes) => {
            let request = messages::AppendEntriesRequest::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
            let response = peer::append_entries(&node.raft, &Arc::from(ORIGIN), request).await.map_err(said)?;
            Ok(Reply::Append(response.encode_to_vec()))
        }
        Message::Vote(bytes) => {
            let request = messages::VoteRequest::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
            Ok(Reply::Vote(peer::request_vote(&node.raft, request).await.map_err(said)?.encode_to_vec()))
        }
        Message::Snapshot(vote, meta, state) => install(world, &node.raft, vote, meta, state).await,
        Message::Propose(item) => Ok(Reply::Proposed(match admit(node, *item) {
            Ok(ticket) => ticket.answer().await,
            Err(lost) => Err(lost),
        })),
    }
}

/// As `peer::install_snapshot` does it with files.
async fn install(world: &World, raft: &Raft, vote: Vote<u64>, meta: SnapshotMeta<u64, Member>, state: Arc<State>) -> Result<Reply, String> {
    let higher = raft.metrics().borrow().vote;
    if higher > vote {
        return Ok(Reply::Snapshot(higher));
    }
    let files: Box<SnapshotFiles> = raft.begin_receiving_snapshot().await.map_err(|error| error.to_string())?;
    world.shared().snapshots.insert(files.path().to_owned(), state);
    let installed = raft.install_full_snapshot(vote, Snapshot { meta, snapshot: files }).await;
    Ok(Reply::Snapshot(installed.map_err(|error| error.to_string())?.vote))
}

impl Link {
    async fn call(&self, message: Message) -> Result<Reply, Unreachable> {
        match call(&self.world, &self.life, self.to, message).await {
            Some(Reply::Refused(why)) => Err(Unreachable::from(AnyError::error(why))),
            Some(reply) => Ok(reply),
            None => {
                tokio::time::sleep(SILENCE).await;
                Err(Unreachable::from(AnyError::error("no answer")))
            }
        }
    }
}

impl Link {
    async fn give_signs_of_life(&self, vote: Vote<u64>) -> Vote<u64> {
        if self.world.planted == Some(Planted::SilentWhileSending) {
            std::future::pending::<()>().await;
        }
        peer::give_signs_of_life(self.clone(), vote, &self.leads).await
    }
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        let request = convert::append_request(rpc).map_err(|error| NetworkError::new(&error))?;
        let Reply::Append(bytes) = self.call(Message::Append(request.encode_to_vec())).await? else { return Err(unusable()) };
        let response = messages::AppendEntriesResponse::decode(bytes.as_slice()).map_err(|error| NetworkError::new(&error))?;
        Ok(convert::parse_append_response(response).map_err(|error| NetworkError::new(&error))?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        let request = convert::vote_request(&rpc);
        let Reply::Vote(bytes) = self.call(Message::Vote(request.encode_to_vec())).await? else { return Err(unusable()) };
        let response = messages::VoteResponse::decode(bytes.as_slice()).map_err(|error| NetworkError::new(&error))?;
        Ok(convert::parse_vote_response(response).map_err(|error| NetworkError::new(&error))?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let state = self.world.shared().snapshots.get(snapshot.snapshot.path()).cloned();
        let state = state.ok_or_else(|| Unreachable::from(AnyError::error("no such snapshot")))?;
        let sending = async {
            tokio::time::sleep(Duration::from_micros(self.world.knobs.transfer_us)).await;
            self.call(Message::Snapshot(vote, snapshot.meta, state)).await
        };
        tokio::select! {
            reply = sending => match reply? {
                Reply::Snapshot(vote) => Ok(SnapshotResponse::new(vote)),
                _ => Err(Unreachable::from(AnyError::error("the reply to something else")).into()),
            },
            higher = self.give_signs_of_life(vote) => Ok(SnapshotResponse::new(higher)),
            closed = cancel => Err(closed.into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}

fn unusable() -> RPCError<u64, Member, RaftError<u64>> {
    NetworkError::new(&AnyError::error("the reply to something else")).into()
}

/// What became of a proposal that another node was asked to make.
pub(super) fn proposed(reply: Option<Reply>) -> Answer {
    match reply {
        Some(Reply::Proposed(answer)) => answer,
        _ => Err(Lost::FateUnknown),
    }
}
