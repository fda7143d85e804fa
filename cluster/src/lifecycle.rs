//! Clusters that outlive the command that started them.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use proofline_client::{Client, Profile, RetryPolicy};
use proofline_cluster::{Binaries, Cluster, OutletKeyKind, Plan, Tls};
use proofline_proto::v1;

/// The ids of the processes, one a line, in the order of the nodes.
const PROCESSES: &str = "processes";
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Degraded, as documented.
const DEGRADED: u8 = 7;

pub(crate) async fn up(root: &Path, nodes: u64, tls: Tls) -> Result<()> {
    let binaries = Binaries::beside_current()?;
    let cluster = if root.join("cluster.json").exists() {
        let plan = Plan::load(root)?;
        if let Some(process) = running(&plan).first() {
            bail!("the cluster in {0} is running already (process {process}); `proofline-cluster down --dir {0}` stops it", root.display());
        }
        eprintln!("starting the cluster in {} again", root.display());
        let mut cluster = Cluster::of(plan, binaries);
        cluster.start_all().await?;
        cluster
    } else {
        eprintln!("making a cluster of {nodes} nodes in {}", root.display());
        let plan = Plan::create(root, nodes, tls)?;
        plan.add_outlet_key("ssf", OutletKeyKind::Rsa)?;
        plan.add_outlet_key("hook", OutletKeyKind::Ed25519)?;
        Cluster::found(plan, binaries).await?
    };
    let plan = cluster.plan.clone();
    let ids: Vec<String> = cluster.detach().iter().map(ToString::to_string).collect();
    fs::write(plan.root.join(PROCESSES), ids.join("\n"))?;
    print_line!("{} nodes are ready. Logs: {}/node-*.log", plan.nodes.len(), plan.root.display());
    for node in &plan.nodes {
        print_line!("  {}  clients {}  tiles and metrics {}", node.name, node.client, node.tiles);
    }
    print_line!("\nNext:\n  export PROOFLINE_PROFILE={}\n  proofline status", plan.profile("admin").display());
    Ok(())
}

pub(crate) fn down(root: &Path, remove: bool) -> Result<()> {
    let plan = Plan::load(root)?;
    let processes = running(&plan);
    for process in &processes {
        Command::new("kill").args(["-TERM", &process.to_string()]).status()?;
    }
    let until = Instant::now() + STOP_WITHIN;
    while !running(&plan).is_empty() {
        if Instant::now() > until {
            bail!("processes {:?} did not stop within {} s", running(&plan), STOP_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    print_line!("{} nodes stopped", processes.len());
    if remove {
        if let Some(node) = plan.nodes.iter().find(|node| is_in_use(&plan.root.join(&node.name))) {
            bail!("{} still runs: somebody started it by hand. Stop it, then remove the cluster", node.name);
        }
        fs::remove_dir_all(&plan.root).with_context(|| format!("cannot remove {}", plan.root.display()))?;
        print_line!("{} removed", plan.root.display());
    }
    Ok(())
}

pub(crate) async fn status(root: &Path) -> Result<ExitCode> {
    let plan = Plan::load(root)?;
    let processes = running(&plan).len();
    let retry = RetryPolicy { within: Duration::from_secs(3), attempt: Duration::from_secs(2) };
    let client = Client::connect(&Profile::load(&plan.profile("admin"))?, retry)?;
    let asked = client.call(|link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await }).await;
    let Ok(status) = asked else {
        print_line!("{processes} of {} processes run, and no node answers", plan.nodes.len());
        return Ok(ExitCode::from(DEGRADED));
    };
    let answering = status.nodes.iter().filter(|node| node.error.is_empty()).count();
    if answering <= status.nodes.len() / 2 {
        print_line!("NO QUORUM: {answering} of {} nodes answer, a majority is needed to append anything", status.nodes.len());
    }
    let leader = if status.leader_id == 0 { "none".to_owned() } else { format!("node-{}", status.leader_id) };
    print_line!("{}  leader: {leader}  term {}  may lose {} more", status.origin, status.term, status.failure_tolerance);
    for node in &status.nodes {
        if !node.error.is_empty() {
            print_line!("  {:<8} does not answer: {}  {}", node.name, node.error, node.client_address);
            continue;
        }
        let how = format!("{:?}", node.role());
        print_line!(
            "  {:<8} {:<10} {:>10} entries, checkpoint {:>10}  {}",
            node.name,
            how,
            node.tree_size,
            node.checkpoint_size,
            node.client_address
        );
    }
    let is_well = status.leader_id != 0 && status.nodes.iter().all(|node| node.error.is_empty());
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(DEGRADED) })
}

/// Tells whether a node runs on a data directory, whoever started it: it holds a lock there.
fn is_in_use(data: &Path) -> bool {
    let locked = fs::File::open(data.join("identity")).map(|identity| identity.try_lock());
    matches!(locked, Ok(Err(fs::TryLockError::WouldBlock)))
}

/// Returns the recorded processes that still run a node of this cluster: an id may belong to somebody else by now.
fn running(plan: &Plan) -> Vec<u32> {
    let recorded = fs::read_to_string(plan.root.join(PROCESSES)).unwrap_or_default();
    recorded.lines().filter_map(|line| line.parse().ok()).filter(|process| is_node_of(plan, *process)).collect()
}

fn is_node_of(plan: &Plan, process: u32) -> bool {
    let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let root = plan.root.as_os_str().as_encoded_bytes();
    let names_node = arguments.windows(14).any(|window| window == b"proofline-node");
    names_node && arguments.windows(root.len()).any(|window| window == root)
}
