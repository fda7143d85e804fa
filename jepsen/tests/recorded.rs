//! What the workloads record at real clusters of three nodes: one that nobody breaks, and one whose leader is killed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{path::PathBuf, time::Duration};

use proofline_client::{Client, Link, Profile, RetryPolicy, read_key};
use proofline_cluster::{Binaries, Cluster, ORIGIN, Plan, TENANT, TRUST_DOMAIN, Tls};
use proofline_jepsen::{
    checks::{Bounds, Case, FinalState, Forgery, Mutated, judge, mutate_all, second_opinion, table},
    history::{Evidence, Fault, History, Installed, Mark, NodeId, Recorder, RunHeader},
    offline,
    workload::{self, Shape, WorkloadConfig, Workloads},
};
use proofline_proto::v1;
use proofline_verifier::Policy;
use tempfile::TempDir;

const SEED: u64 = 7;

/// A cluster with workloads, and where their history is.
struct World {
    cluster: Cluster,
    recorder: Recorder,
    workloads: Workloads,
    file: PathBuf,
    _root: TempDir,
}

impl World {
    async fn begin(scheduled: Vec<Fault>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let plan = Plan::create(&root.path().join("cluster"), 3, Tls::Mutual).unwrap();
        plan.commit_every(500).unwrap();
        let cluster = Cluster::found(plan, Binaries::beside_current().unwrap()).await.unwrap();
        let file = root.path().join("history.jsonl");
        let header = RunHeader::now(SEED, ORIGIN, TENANT, nodes().to_vec(), scheduled, "a test");
        let recorder = Recorder::create(&file, header).unwrap();
        let config = WorkloadConfig::of_plan(&cluster.plan, SEED, "a-", Shape::USUAL).unwrap();
        let workloads = workload::start(config, recorder.clone()).await.unwrap();
        Self { cluster, recorder, workloads, file, _root: root }
    }

    /// Kills the node that leads, starts it again after a while, and waits until it knows a leader.
    async fn kill_leader(&mut self) {
        let place = usize::try_from(self.leader().await - 1).unwrap();
        let node = nodes()[place];
        self.recorder.mark(Mark::Unstable).await;
        let fault = self.recorder.fault(Fault::KillLeader, &[node], "SIGKILL").await;
        self.cluster.kill(place).unwrap();
        self.recorder.mark(Mark::Ended { node, code: None }).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.recorder.mark(Mark::Started { node }).await;
        self.cluster.start(place).unwrap();
        self.cluster.ready(place).await.unwrap();
        fault.end(Installed::Installed, Evidence::from([("processes killed".to_owned(), 1)])).await;
        self.recorder.mark(Mark::Stable).await;
    }

    /// Records what each node holds in memory.
    async fn measure(&self) {
        for (place, node) in nodes().into_iter().enumerate() {
            let statistics = std::fs::read_to_string(format!("/proc/{}/statm", self.cluster.process_id(place).unwrap())).unwrap();
            let pages: u64 = statistics.split(' ').nth(1).unwrap().parse().unwrap();
            self.recorder.mark(Mark::Resident { node, bytes: pages * 4_096 }).await;
        }
    }

    async fn leader(&self) -> u64 {
        let profile = Profile::load(&self.cluster.plan.profile("admin")).unwrap();
        let client = Client::connect(&profile, RetryPolicy::default()).unwrap();
        let status = |link: Link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await };
        loop {
            let leader = client.call(status).await.unwrap().leader_id;
            if leader > 0 {
                return leader;
            }
        }
    }

    /// Ends the workloads, waits until the nodes agree, stops them, and reads what they left.
    async fn end(mut self) -> (Case, Forgery) {
        self.workloads.stop().await;
        self.recorder.mark(Mark::Healed).await;
        let (plan, within) = (&self.cluster.plan, Duration::from_secs(20));
        let agreed = workload::await_agreement(&plan.profile("admin"), &nodes(), &nodes(), within, &self.recorder).await.unwrap();
        assert!(agreed.is_some(), "the nodes agree");
        workload::read_everything(&plan.profile("auditor"), &nodes(), within, &self.recorder).await.unwrap();
        self.cluster.stop_all().await.unwrap();
        self.recorder.finish().await.unwrap();
        let plan = &self.cluster.plan;
        let finals = FinalState {
            nodes: plan.nodes.iter().map(|node| offline::read_node(&plan.root.join(&node.name)).unwrap()).collect(),
            absent: Vec::new(),
            policies: vec![Policy::parse(&std::fs::read(plan.policy()).unwrap()).unwrap()],
        };
        let case = Case { history: History::read(&self.file).unwrap(), finals, bounds: Bounds::default() };
        println!("{} operations, {} entries", case.history.operations.len(), case.finals.nodes[0].log.len());
        (case, forgery(plan))
    }
}

fn nodes() -> [NodeId; 3] {
    [1, 2, 3].map(NodeId)
}

/// The keys of a cluster, so that an alteration can be signed as well as the truth.
fn forgery(plan: &Plan) -> Forgery {
    let key = |name: &str| read_key(&plan.root.join("keys").join(format!("{name}.key.pem"))).unwrap();
    let nodes = plan.nodes.iter().map(|node| (format!("{TRUST_DOMAIN}/{}", node.name), key(&node.name)));
    Forgery::new(ORIGIN, key("log"), nodes.collect())
}

#[tokio::test]
async fn a_cluster_that_nobody_breaks_passes_every_check_and_no_alteration_of_its_run_does() {
    let world = World::begin(Vec::new()).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    let (case, forgery) = world.end().await;
    let report = judge(&case);
    assert!(report.passes(), "{report}");
    let opinion = second_opinion(&case);
    assert!(opinion.refuted.is_empty() && opinion.linearizable == Shape::USUAL.collectors + Shape::USUAL.streams, "{opinion:?}");

    let mutated = mutate_all(&case, &forgery, SEED);
    let count = |wanted: fn(&Mutated) -> bool| mutated.iter().filter(|(_, became)| wanted(became)).count();
    assert_eq!(count(|became| *became == Mutated::Missed), 0, "{}", table(&mutated));
    assert!(count(|became| matches!(became, Mutated::Caught(_))) > 40, "{}", table(&mutated));
}

#[tokio::test]
async fn a_cluster_whose_leader_is_killed_passes_every_check() {
    let mut world = World::begin(vec![Fault::KillLeader]).await;
    world.recorder.mark(Mark::Stable).await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.kill_leader().await;
    }
    world.measure().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (case, _) = world.end().await;
    let report = judge(&case);
    assert!(report.passes(), "{report}");
    assert!(second_opinion(&case).refuted.is_empty());
}
