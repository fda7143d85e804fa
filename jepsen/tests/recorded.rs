//! What the workloads record at a real cluster of three nodes that nobody breaks.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use proofline_client::read_key;
use proofline_cluster::{Binaries, Cluster, ORIGIN, Plan, TENANT, TRUST_DOMAIN, Tls};
use proofline_jepsen::{
    checks::{Bounds, Case, FinalState, Forgery, Mutated, judge, mutate_all, second_opinion, table},
    history::{History, Mark, NodeId, Recorder, RunHeader},
    offline,
    workload::{self, Shape, WorkloadConfig},
};
use proofline_verifier::Policy;

#[tokio::test]
async fn a_cluster_that_nobody_breaks_passes_every_check() {
    let root = tempfile::tempdir().unwrap();
    let plan = Plan::create(&root.path().join("cluster"), 3, Tls::Mutual).unwrap();
    plan.commit_every(500).unwrap();
    let mut cluster = Cluster::found(plan, Binaries::beside_current().unwrap()).await.unwrap();
    let file = root.path().join("history.jsonl");
    let nodes = [1, 2, 3].map(NodeId).to_vec();
    let recorder = Recorder::create(&file, RunHeader::now(7, ORIGIN, TENANT, nodes, Vec::new(), "a test")).unwrap();
    let config = WorkloadConfig::of_plan(&cluster.plan, 7, "a-", Shape::USUAL).unwrap();
    let workloads = workload::start(config, recorder.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    workloads.stop().await;
    recorder.mark(Mark::Healed).await;
    let (plan, nodes) = (&cluster.plan, [1, 2, 3].map(NodeId));
    let agreed = workload::await_agreement(&plan.profile("admin"), &nodes, &nodes, Duration::from_secs(5), &recorder).await.unwrap();
    workload::read_everything(&plan.profile("auditor"), &nodes, Duration::from_secs(20), &recorder).await.unwrap();
    let forgery = forgery(plan);
    cluster.stop_all().await.unwrap();
    let written = recorder.finish().await.unwrap();

    let history = History::read(&file).unwrap();
    if let Ok(kept) = std::env::var("PROOFLINE_KEEP_HISTORY") {
        std::fs::copy(&file, kept).unwrap();
    }
    let plan = &cluster.plan;
    let nodes: Vec<_> = plan.nodes.iter().map(|node| offline::read_node(&plan.root.join(&node.name)).unwrap()).collect();
    let policy = Policy::parse(&std::fs::read(plan.policy()).unwrap()).unwrap();
    let case = Case { history, finals: FinalState { nodes, absent: Vec::new(), policies: vec![policy] }, bounds: Bounds::default() };
    assert!(agreed.unwrap() <= case.finals.nodes[0].log.len() as u64);
    let report = judge(&case);
    println!("{written:?}, {} operations, {} entries\n{report}", case.history.operations.len(), case.finals.nodes[0].log.len());
    assert!(report.passes(), "{report}");
    let opinion = second_opinion(&case);
    assert!(opinion.refuted.is_empty() && opinion.linearizable == Shape::USUAL.collectors + Shape::USUAL.streams, "{opinion:?}");

    let mutated = mutate_all(&case, &forgery, 7);
    let count = |wanted: fn(&Mutated) -> bool| mutated.iter().filter(|(_, became)| wanted(became)).count();
    assert_eq!(count(|became| *became == Mutated::Missed), 0, "{}", table(&mutated));
    assert!(count(|became| matches!(became, Mutated::Caught(_))) > 40, "{}", table(&mutated));
}

/// The keys of a cluster, so that an alteration can be signed as well as the truth.
fn forgery(plan: &Plan) -> Forgery {
    let key = |name: &str| read_key(&plan.root.join("keys").join(format!("{name}.key.pem"))).unwrap();
    let nodes = plan.nodes.iter().map(|node| (format!("{TRUST_DOMAIN}/{}", node.name), key(&node.name)));
    Forgery::new(ORIGIN, key("log"), nodes.collect())
}
