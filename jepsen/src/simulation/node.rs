//! A simulated node: its start, its crash, and what it does for clients.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc, time::Duration};

use openraft::{Config, SnapshotPolicy};
use proofline_ledger::PreparedItem;
use proofline_node::{
    clock::{ClockReading, ClockVerdict},
    elections::{self, Leads},
    inbox::{Answer, Lost, NotAdmitted, Submission, Ticket, inbox},
    leadership::{self, Leadership},
    proposer::{Gates, propose},
    replica::{ElectionSlice, Member, Raft, SnapshotEntries, raft_config},
};
use proofline_proto::peer::{Item, item};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    journal::SimulatedJournal,
    machine::SimulatedMachine,
    network::{Links, Message, call, proposed},
    world::{Life, ORIGIN, Running, World, open},
};
use crate::{
    history::{Mark, NodeId},
    random::Random,
};

/// As the nodes wait for an election, and for what the leader acknowledged.
const LEADER_WITHIN: Duration = Duration::from_secs(3);
const APPLIED_WITHIN: Duration = Duration::from_secs(10);
/// How long the tasks of a dead life are waited for.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

/// Starts a node from its disk. Returns whether it runs.
pub(super) async fn start(world: &Arc<World>, node: u64) -> bool {
    if world.running(node).is_some() || world.shared().gone.contains(&node) {
        return false;
    }
    let started = start_on(world, node).await;
    if let Err(why) = &started {
        world.find(format!("node {node} does not start: {why}"));
    }
    started.is_ok()
}

async fn start_on(world: &Arc<World>, node: u64) -> Result<(), String> {
    let (life, stall) = Life::new(node, world.now_ns());
    let disk = world.disk(node);
    let is_new = {
        let mut disk = open(&disk);
        disk.follow_state()?;
        let vote = disk.log.vote;
        world.shared().watch.restarted(node, vote);
        vote.is_none() && disk.log.last().is_none()
    };
    world.note(&format!("node {node} starts"));
    let (applied_sender, applied) = watch::channel(None);
    let machine = SimulatedMachine::open(world, &life, applied_sender)?;
    let journal = SimulatedJournal { world: Arc::clone(world), life: life.clone(), disk };
    let raft_leads = Leads::default();
    let links = Links { world: Arc::clone(world), life: life.clone(), leads: raft_leads.clone() };
    let config = config(world, slice(world, node))?;
    let raft = Raft::new(node, Arc::new(config), links, journal, machine).await.map_err(|error| error.to_string())?;
    let (leads, leadership) = watch::channel(Leadership::default());
    let shutdown = CancellationToken::new();
    tokio::spawn(leadership::follow(raft.clone(), node, leads, shutdown.clone()));
    let (_, stands_aside) = watch::channel(false);
    tokio::spawn(raft_leads.keep_asking(raft.clone(), node, stands_aside.clone(), shutdown.clone()));
    let mut lots = Random::of(world.seed ^ world.now_ns(), "silence");
    tokio::spawn(elections::stand(raft.clone(), node, slice(world, node), move || lots.next(), stands_aside, shutdown.clone()));
    let (inbox, outbox) = inbox();
    // The guard itself asks over gRPC, and is not simulated: clocks are off by what it lets pass.
    let (_, clock) = watch::channel(ClockReading::judged(ClockVerdict::Agrees));
    let gates = Gates { leadership: leadership.clone(), clock, wall: world.wall(node) };
    tokio::spawn(propose(raft.clone(), outbox, gates, shutdown.clone()));
    let running = Running { raft: raft.clone(), life: life.clone(), stall: Arc::new(stall), inbox, leadership, applied, shutdown };
    world.shared().running.insert(node, running);
    world.mark(Mark::Started { node: NodeId(node) });
    tokio::spawn(observe(Arc::clone(world), raft.clone(), life));
    if is_new {
        // Every founder founds with the same members; whoever comes second finds it done.
        drop(raft.initialize(members(world)).await);
    }
    Ok(())
}

fn slice(world: &World, node: u64) -> ElectionSlice {
    ElectionSlice { place: node.saturating_sub(1), nodes: NonZeroU64::new(world.knobs.nodes).unwrap_or(NonZeroU64::MIN) }
}

/// The real tuning, but for shorter logs, and for the election timeout: the library draws one of its own lot from the range, so
/// the seed draws it here and leaves no choice.
fn config(world: &World, slice: ElectionSlice) -> Result<Config, String> {
    let mut config = raft_config(ORIGIN, slice, SnapshotEntries::USUAL).map_err(|error| error.to_string())?;
    let entries = world.knobs.snapshot_entries;
    config.snapshot_policy = SnapshotPolicy::LogsSinceLast(entries);
    config.max_in_snapshot_log_to_keep = entries / 2;
    config.replication_lag_threshold = entries * 2;
    config.purge_batch_size = (entries / 2).max(1);
    let lot = &mut Random::of(world.seed ^ world.now_ns(), "election");
    config.election_timeout_min = lot.between(config.election_timeout_min, config.election_timeout_max - 1);
    config.election_timeout_max = config.election_timeout_min + 1;
    config.validate().map_err(|error| error.to_string())
}

fn members(world: &World) -> BTreeMap<u64, Member> {
    let member = |node: u64| Member {
        name: format!("proofline.test/node-{node}"),
        peer_address: format!("node-{node}:1"),
        client_address: format!("node-{node}:2"),
    };
    world.nodes().map(|node| (node, member(node))).collect()
}

/// Follows what Raft says of itself, and ends the node when Raft ends.
async fn observe(world: Arc<World>, raft: Raft, life: Life) {
    let mut metrics = raft.metrics();
    let (mut term, mut applied) = (0, None);
    loop {
        let seen = metrics.borrow_and_update().clone();
        if !life.is_alive() {
            return;
        }
        if seen.running_state.is_err() {
            world.note(&format!("node {} stops by itself", life.node));
            return crash(&world, life.node);
        }
        if seen.current_term < term || seen.last_applied < applied {
            world.find(format!("node {} goes back from term {term}, {applied:?}", life.node));
        }
        (term, applied) = (seen.current_term, seen.last_applied);
        if seen.current_leader == Some(life.node) && world.shared().watch.leads(term, life.node, life.began_ns) {
            world.note(&format!("node {} leads in term {term}", life.node));
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Ends a node between two instructions. What it had not synced is there or not, as the lot decides.
pub(super) fn crash(world: &Arc<World>, node: u64) {
    let Some(running) = world.shared().running.remove(&node) else { return };
    running.life.end();
    running.stall.send_replace(false);
    running.shutdown.cancel();
    let lost = {
        let disk = world.disk(node);
        let mut shared = world.shared();
        let lost = open(&disk).crash(&mut shared.disks_lot);
        shared.counts.crashes += 1;
        shared.counts.lost_writes += lost as u64;
        lost
    };
    world.note(&format!("node {node} crashes, {lost} writes are lost"));
    world.mark(Mark::Ended { node: NodeId(node), code: None });
    tokio::spawn(async move {
        let stopped = tokio::time::timeout(STOPPED_WITHIN, running.raft.shutdown()).await;
        // Nothing of a dead life reaches anybody; whether its tasks have ended only costs memory.
        drop(stopped);
    });
}

/// Parses an item, checks its signature, and lets it into the inbox.
pub(super) fn admit(node: &Running, item: item::Item) -> Result<Ticket, Lost> {
    let goes_first = matches!(item, item::Item::Command(_) | item::Item::Genesis(_));
    let prepared = PreparedItem::new(Item { item: Some(item.clone()) }, ORIGIN);
    let submission = Submission::new(Item { item: Some(item) }, prepared);
    let admitted = if goes_first { node.inbox.admit_command(submission) } else { node.inbox.admit(submission) };
    admitted.map_err(|refused| match refused {
        NotAdmitted::Full => Lost::NotLeader,
        NotAdmitted::ShuttingDown => Lost::ShuttingDown,
    })
}

/// Submits an item as a node does it for a client: here when it leads, else at the leader; the answer comes once this node has
/// applied it.
pub(super) async fn submit(world: &Arc<World>, node: &Running, item: item::Item) -> Answer {
    let known = |seen: &Leadership| matches!(seen, Leadership::Here | Leadership::Other(_));
    let mut leadership = node.leadership.clone();
    let Ok(Ok(seen)) = tokio::time::timeout(LEADER_WITHIN, leadership.wait_for(known)).await.map(|seen| seen.map(|seen| *seen)) else {
        return Err(Lost::NotLeader);
    };
    let Leadership::Other(leader) = seen else { return admit(node, item)?.answer().await };
    let answer = proposed(call(world, &node.life, leader, Message::Propose(Box::new(item))).await)?;
    let mut applied = node.applied.clone();
    let reached = applied.wait_for(|applied| *applied >= Some(answer.log_index.0));
    match tokio::time::timeout(APPLIED_WITHIN, reached).await {
        Ok(Ok(_)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Lost::FateUnknown),
    }
}
