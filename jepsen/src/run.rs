//! One run: a cluster, work for it, faults by schedule, recovery, and a verdict.

mod lanes;
mod measures;
mod verdict;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use proofline_cluster::{Binaries, ORIGIN, TENANT};
use tokio::time::Instant;

pub use measures::Measures;
pub use verdict::{Ruling, Verdict};

use crate::{
    checks::{Bounds, Case, FinalState, judge, second_opinion},
    export,
    faults::{NetworkLane, NodeLane},
    history::{History, Mark, NodeId, Recorder, RunHeader},
    network::{Namespace, Port, SwitchControl},
    nodes::{Fleet, FleetPlan, Observer, WallClocks},
    offline,
    schedule::{Fault, FaultGroup, Lane, Schedule},
    workload::{self, Shape, WorkloadConfig, Workloads},
};

/// How long a healed cluster may take until all nodes have the same state.
const AGREED_WITHIN: Duration = Duration::from_secs(60);
/// How long one node may take to give its whole log.
const READ_WITHIN: Duration = Duration::from_secs(60);
/// How long a healed cluster works on: it must take writes all the time.
const WORKS_ON: Duration = Duration::from_secs(10);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct RunOrder {
    /// Decides everything that is drawn by lot.
    pub seed: u64,
    /// How long faults come.
    pub length: Duration,
    /// Which.
    pub faults: Vec<Fault>,
    /// Nodes.
    pub nodes: usize,
    /// Room on each disk.
    pub disk_mebibytes: u64,
    /// Raft entries after which a node makes a snapshot.
    pub snapshot_entries: u64,
    /// A bug that the nodes have; `None` for the nodes as they are shipped.
    pub planted: Option<String>,
    /// The command that repeats the run.
    pub command: String,
}

/// The parts of a run that exist before it begins.
#[derive(Debug)]
pub struct Ground {
    /// Name of the run.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// A namespace for each node.
    pub namespaces: Vec<Namespace>,
    /// Changes the network.
    pub control: SwitchControl,
}

/// Runs it, from inside the clients' namespace.
///
/// # Errors
/// When the harness could not do its part: then there is no verdict.
pub async fn run(order: &RunOrder, ground: Ground) -> Result<Verdict> {
    let schedule = Schedule::draw(order.seed, order.length, &order.faults, order.nodes);
    write_json(&ground.directory.join("schedule.json"), &schedule)?;
    let nodes = (1..=order.nodes as u64).map(NodeId).collect();
    let header = RunHeader::now(order.seed, ORIGIN, TENANT, nodes, schedule.distinct(), env!("CARGO_PKG_VERSION"));
    let history = ground.directory.join("history.jsonl");
    let recorder = Recorder::create(&history, header)?;
    let mut fleet = prepare(order, &ground.name, &ground.directory, ground.namespaces, &recorder)?;
    eprintln!("founding a cluster of {} nodes, run {}", order.nodes, ground.name);
    fleet.found().await?;
    let observer = Observer::of(&fleet.plan.profile("admin"), order.nodes)?;

    let work = WorkloadConfig::of_plan(&fleet.plan, order.seed, "run", Shape::USUAL)?;
    let work = workload::start(work, recorder.clone()).await.context("no work for the cluster")?;

    let broken = break_it(&schedule, order, &mut fleet, &observer, &ground.control, &recorder).await;
    let recovered_ms = recover(&mut fleet, &observer, &ground.control, work).await;
    stop_all(&mut fleet).await?;
    recorder.finish().await.context("the history is not whole")?;
    let history = History::read(&history)?.by_tenant();
    let finals = finals(&fleet, &history)?;
    let measures = Measures::of(&history, recovered_ms.as_ref().ok().copied());
    let case = Case { history, finals, bounds: Bounds::default() };
    let judged = tokio::task::spawn_blocking(move || (judge(&case), second_opinion(&case), case)).await;
    let (report, opinion, case) = judged.context("the checks ended early")?;
    fs::write(ground.directory.join("report.txt"), report.to_string())?;
    export::write_all(&case, &ground.directory.join("export"))?;
    let trouble = broken.err().into_iter().chain(recovered_ms.err()).map(|error| format!("{error:#}")).collect();
    let verdict = Verdict::of(order, &case.history, measures, &fleet.surprises, trouble, (&report, opinion));
    write_json(&ground.directory.join("verdict.json"), &verdict)?;
    Ok(verdict)
}

/// Reads what the stopped nodes left on their disks.
fn finals(fleet: &Fleet, history: &History) -> Result<FinalState> {
    let read = |station: &crate::nodes::Station| {
        offline::read_node(station.disk.path()).with_context(|| format!("{} cannot be read", station.node.name))
    };
    let nodes = fleet.stations.iter().map(read).collect::<Result<Vec<_>>>()?;
    let started = history.marks.iter().filter_map(|mark| match mark.what {
        Mark::Started { node } => Some(node),
        _ => None,
    });
    let gone: BTreeSet<NodeId> = started.filter(|node| nodes.iter().all(|present| present.node != *node)).collect();
    let absent = gone.into_iter().map(|node| (node, "another node took its place".to_owned())).collect();
    Ok(FinalState { nodes, absent, policies: fleet.policies.clone() })
}

fn prepare(order: &RunOrder, name: &str, directory: &Path, namespaces: Vec<Namespace>, recorder: &Recorder) -> Result<Fleet> {
    let wants_clocks = order.faults.iter().any(|fault| fault.group() == FaultGroup::Clock);
    let plan = FleetPlan {
        run: name,
        directory,
        disk_mebibytes: order.disk_mebibytes,
        snapshot_entries: order.snapshot_entries,
        clocks: if wants_clocks { WallClocks::Own } else { WallClocks::Machine },
        binaries: Binaries::beside_current()?,
        planted: order.planted.as_deref(),
    };
    Fleet::prepare(plan, namespaces, recorder.clone())
}

/// Both lanes inject their faults; the run goes on when both are through.
async fn break_it(
    schedule: &Schedule,
    order: &RunOrder,
    fleet: &mut Fleet,
    observer: &Observer,
    control: &SwitchControl,
    recorder: &Recorder,
) -> Result<()> {
    let began = Instant::now();
    let network = NetworkLane {
        control: control.duplicate()?,
        observer: observer.clone(),
        nodes: (0..order.nodes).map(Port).collect(),
        clients: Port(order.nodes),
    };
    let pace = lanes::Pace { began, length: order.length, recorder: recorder.clone() };
    let nodes = NodeLane { fleet, observer: observer.clone() };
    let (over_network, over_nodes) =
        tokio::join!(lanes::network(network, schedule.lane(Lane::Network), &pace), lanes::nodes(nodes, schedule.lane(Lane::Nodes), &pace));
    over_network.and(over_nodes)
}

/// Takes every fault away, lets the work go on for a while, ends it, and waits until all nodes are the same.
///
/// Returns how many milliseconds after the heal all nodes had the same state for the first time, under work.
async fn recover(fleet: &mut Fleet, observer: &Observer, control: &SwitchControl, work: Workloads) -> Result<u64> {
    control.clear()?;
    NodeLane { fleet, observer: observer.clone() }.recover().await?;
    let (recorder, nodes, healed) = (fleet.recorder().clone(), fleet.nodes(), Instant::now());
    recorder.mark(Mark::Healed).await;
    let same = async {
        let size = observer.agreed(&nodes, AGREED_WITHIN).await?;
        recorder.mark(Mark::Recovered { size }).await;
        Some(u64::try_from(healed.elapsed().as_millis()).unwrap_or(u64::MAX))
    };
    let (same, held) = tokio::join!(same, fleet.hold(WORKS_ON));
    held?;
    work.stop().await;
    let size = observer.agreed(&nodes, AGREED_WITHIN).await.context("the healed nodes do not agree")?;
    recorder.mark(Mark::Recovered { size }).await;
    workload::read_everything(&fleet.plan.profile("auditor"), &nodes, READ_WITHIN, &recorder).await?;
    same.context("the healed nodes did not agree while they worked")
}

/// Stops every node in order: what it has not flushed is on the disk afterwards.
async fn stop_all(fleet: &mut Fleet) -> Result<()> {
    fleet.look().await?;
    for place in fleet.places().into_iter().filter(|place| fleet.runs(*place)).collect::<Vec<_>>() {
        fleet.stop(place).await?;
    }
    Ok(())
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(value)?).with_context(|| format!("cannot write {}", path.display()))
}
