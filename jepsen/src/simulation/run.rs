//! One run: a safety phase with faults, then a liveness phase without, then the judgement.

use std::{sync::Arc, time::Duration};

use proofline_ledger::{EntryIndex, Ledger, listing};
use prost::bytes::Bytes;

use super::{
    Planted, SimulatedRun,
    faults::{break_it, heal},
    node::start,
    work::Work,
    world::{EPOCH_NS, ORIGIN, TENANT, World, open},
};
use crate::{
    checks::{Bounds, Case, FinalState, Judgement, Predicate, judge_one},
    history::{Digest, History, Mark, NodeId, RunHeader},
    offline::NodeState,
};

/// How long a healed cluster may take until each collector is answered again, in simulated time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// How long it may take until all nodes have the same state once nobody asks any more.
const AGREED_WITHIN: Duration = Duration::from_secs(15);
/// How long a healed cluster works on.
const WORKS_ON: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

/// What is judged by the predicates of the histories of real processes.
const PREDICATES: [Predicate; 9] = [
    Predicate::Agreement,
    Predicate::NothingLost,
    Predicate::NothingInvented,
    Predicate::AtMostOnce,
    Predicate::RealTime,
    Predicate::SessionOrder,
    Predicate::Linearizable,
    Predicate::Reads,
    Predicate::Containment,
];

/// Runs a seed on the runtime that this is called on.
pub(super) async fn run(seed: u64, planted: Option<Planted>, keeps: bool) -> SimulatedRun {
    let world = Arc::new(World::new(seed, planted, keeps));
    world.note(&format!("seed {seed}: {:?}", world.knobs));
    for node in world.nodes() {
        start(&world, node).await;
    }
    let work = Work::begin(&world);
    break_it(&world).await;
    heal(&world).await;
    world.mark(Mark::Healed);
    let answered = until(ANSWERED_WITHIN, || is_answered(&world)).await;
    if !answered {
        world.find(format!("liveness: a healed cluster did not take a batch of every collector within {ANSWERED_WITHIN:?}"));
    }
    // What recovery left behind shows in what comes next.
    tokio::time::sleep(WORKS_ON).await;
    world.note("the work ends");
    work.end().await;
    match until(AGREED_WITHIN, || agreed(&world).is_some()).await {
        true => world.mark(Mark::Recovered { size: agreed(&world).unwrap_or_default() }),
        false => world.find(format!("liveness: healed nodes do not have the same state within {AGREED_WITHIN:?}")),
    }
    judge(&world);
    finish(&world)
}

async fn until(within: Duration, holds: impl Fn() -> bool) -> bool {
    let wait = async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(within, wait).await.is_ok()
}

/// Tells whether every collector had a batch acknowledged that it sent after everything was healed.
fn is_answered(world: &World) -> bool {
    let shared = world.shared();
    let Some(healed) = shared.marks.iter().find(|marked| marked.what == Mark::Healed).map(|marked| marked.at) else { return false };
    let fresh = shared.operations.iter().rev().take_while(|it| it.invoked > healed);
    let lanes: std::collections::BTreeSet<String> = fresh
        .filter_map(|it| match (&it.action, it.answer()) {
            (crate::history::Action::Append { batch, .. }, Some(_)) => Some(batch.lane.collector.clone()),
            _ => None,
        })
        .collect();
    lanes.len() as u64 == world.knobs.collectors
}

/// Returns the size that all nodes have, when they have the same state.
fn agreed(world: &World) -> Option<u64> {
    let live: Vec<u64> = world.shared().running.keys().copied().collect();
    let expected = world.knobs.nodes - u64::from(world.knobs.leaves_one);
    let state = |node: &u64| {
        let disk = world.disk(*node);
        let disk = open(&disk);
        let ledger = Ledger::open(&disk.live.store).ok()?;
        Some((ledger.tree_size().0, ledger.state_digest().0, disk.live.applied.map(|at| at.index)))
    };
    let states = live.iter().map(state).collect::<Option<Vec<_>>>()?;
    let first = states.first()?;
    (live.len() as u64 == expected && states.iter().all(|it| it == first)).then_some(first.0)
}

fn judge(world: &World) {
    let case = case(world);
    for predicate in PREDICATES {
        match judge_one(&case, predicate) {
            Judgement::True => {}
            Judgement::Unknown(why) => world.find(format!("{predicate} is unknown: {}", why.join("; "))),
            Judgement::False { anomalies, count } => {
                let first = anomalies.first().map(|it| format!("{}: {}", it.name, it.detail)).unwrap_or_default();
                world.find(format!("{predicate}: {count} found; first: {first}"));
            }
        }
    }
    let entries = case.finals.nodes.iter().map(|node| node.log.len() as u64).max().unwrap_or_default();
    if entries < 10 || world.shared().counts.acknowledged < 10 {
        world.find(format!("the run proves nothing: {entries} entries"));
    }
    let mut shared = world.shared();
    shared.counts.entries = entries;
    shared.counts.operations = case.history.operations.len() as u64;
    shared.counts.terms = shared.watch.terms() as u64;
}

fn case(world: &World) -> Case {
    let (operations, marks, gone) = {
        let shared = world.shared();
        (shared.operations.clone(), shared.marks.clone(), shared.gone.clone())
    };
    let run = RunHeader {
        version: 1,
        seed: world.seed,
        origin: ORIGIN.to_owned(),
        tenant: TENANT.to_owned(),
        nodes: world.node_ids(),
        scheduled: Vec::new(),
        began_unix_ns: EPOCH_NS,
        subject: "simulated".to_owned(),
    };
    let nodes = world.nodes().filter(|node| !gone.contains(node)).map(|node| node_state(world, node)).collect();
    let absent = gone.iter().map(|node| (NodeId(*node), "it is gone for good".to_owned())).collect();
    // Time is no promise in a simulation: the library's timers are real, what nodes wait for is drawn.
    let bounds = Bounds { revoked_ms: u64::MAX, ..Bounds::default() };
    let history = History { run, operations, faults: Vec::new(), marks };
    Case { history, finals: FinalState { nodes, absent, policies: Vec::new() }, bounds }
}

fn node_state(world: &World, node: u64) -> NodeState {
    let disk = world.disk(node);
    let disk = open(&disk);
    let store = &disk.live.store;
    let log = listing::entries(store, EntryIndex(0), EntryIndex(u64::MAX), usize::MAX).unwrap_or_default();
    let digest = Ledger::open(store).map(|ledger| ledger.state_digest().0).unwrap_or_default();
    NodeState {
        node: NodeId(node),
        log: log.into_iter().map(Bytes::from).collect(),
        state_digest: Digest(digest),
        applied: None,
        checkpoint: None,
        signed: None,
        journal: None,
    }
}

fn finish(world: &World) -> SimulatedRun {
    let mut shared = world.shared();
    SimulatedRun {
        seed: world.seed,
        hash: shared.trace.hash(),
        found: shared.watch.findings().to_vec(),
        counts: shared.counts,
        simulated_ms: world.now_ns() / 1_000_000,
        trace: shared.trace.take(),
    }
}
