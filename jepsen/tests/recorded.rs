//! What the workloads record at a real cluster of three nodes that nobody breaks.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use proofline_cluster::{Binaries, Cluster, ORIGIN, Plan, TENANT, Tls};
use proofline_jepsen::{
    history::{History, Mark, NodeId, Outcome, Recorder, RunHeader},
    workload::{self, Shape, WorkloadConfig},
};

#[tokio::test]
async fn a_cluster_that_nobody_breaks_passes_every_check() {
    let root = tempfile::tempdir().unwrap();
    let plan = Plan::create(&root.path().join("cluster"), 3, Tls::Mutual).unwrap();
    plan.commit_every(500).unwrap();
    let mut cluster = Cluster::found(plan, Binaries::beside_current().unwrap()).await.unwrap();
    let file = root.path().join("history.jsonl");
    let nodes = cluster.plan.nodes.iter().map(|node| NodeId(node.node_id)).collect();
    let recorder = Recorder::create(&file, RunHeader::now(7, ORIGIN, TENANT, nodes, Vec::new(), "a test")).unwrap();
    let config = WorkloadConfig::of_plan(&cluster.plan, 7, "a-", Shape::USUAL).unwrap();
    let workloads = workload::start(config, recorder.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    recorder.mark(Mark::Healed).await;
    workloads.stop().await;
    cluster.stop_all().await.unwrap();
    let written = recorder.finish().await.unwrap();

    let history = History::read(&file).unwrap();
    let count = |is: fn(&Outcome) -> bool| history.operations.iter().filter(|it| is(&it.outcome)).count();
    println!("{written:?}: {} ok, {} fail, {} info", count(|it| matches!(it, Outcome::Ok { .. })), count(|it| matches!(it, Outcome::Fail { .. })), count(|it| matches!(it, Outcome::Info { .. })));
    if let Ok(kept) = std::env::var("PROOFLINE_KEEP_HISTORY") {
        std::fs::copy(&file, kept).unwrap();
    }
}
