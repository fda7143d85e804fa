//! The lanes of a schedule: each injects its faults one after the other, and records what it saw.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use tokio::time::{Instant, sleep_until};

use crate::{
    faults::{NetworkLane, NodeLane, Seen},
    history::{Fault, NodeId, Recorder},
    nodes::Place,
    schedule::Planned,
};

/// By which clock both lanes go, and where they record.
pub(super) struct Pace {
    pub(super) began: Instant,
    pub(super) length: Duration,
    pub(super) recorder: Recorder,
}

/// What one lane has seen so far.
#[derive(Default)]
struct Progress {
    tried: BTreeSet<Fault>,
    seen: BTreeSet<Fault>,
}

impl Pace {
    fn is_over(&self) -> bool {
        self.began.elapsed() > self.length
    }

    fn say(&self, planned: &Planned, who: &str, what: &str) {
        let name = serde_json::to_value(planned.fault).ok();
        let name = name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        eprintln!("[{:>7.1} s] {name:<18} {who:<14} {what}", self.began.elapsed().as_secs_f64());
    }
}

impl Progress {
    /// A lane that is late leaves out what it has tried before.
    fn wants(&self, planned: &Planned, pace: &Pace) -> bool {
        !pace.is_over() || !self.tried.contains(&planned.fault)
    }

    fn note(&mut self, planned: &Planned, seen: &Seen) {
        self.tried.insert(planned.fault);
        if seen.is_seen() {
            self.seen.insert(planned.fault);
        }
    }

    /// Returns a second try for each fault that was never seen: bad luck is no reason for a run without a verdict.
    fn second_tries(&self, planned: &[Planned]) -> Vec<Planned> {
        let mut missing = BTreeSet::new();
        let unseen = planned.iter().filter(|planned| !self.seen.contains(&planned.fault));
        unseen.filter(|planned| missing.insert(planned.fault)).map(|planned| Planned { lot: planned.lot ^ 1, ..*planned }).collect()
    }
}

pub(super) async fn network(lane: NetworkLane, planned: Vec<Planned>, pace: &Pace) -> Result<()> {
    let mut progress = Progress::default();
    for fault in &planned {
        sleep_until(pace.began + fault.at).await;
        if progress.wants(fault, pace) {
            progress.note(fault, &over_network(&lane, fault, pace).await?);
        }
    }
    for fault in progress.second_tries(&planned) {
        over_network(&lane, &fault, pace).await?;
    }
    Ok(())
}

async fn over_network(lane: &NetworkLane, planned: &Planned, pace: &Pace) -> Result<Seen> {
    let targets = lane.targets(planned).await;
    let nodes: Vec<NodeId> = targets.iter().filter_map(|(_, node)| *node).collect();
    let places: Vec<Place> = targets.iter().map(|(place, _)| *place).collect();
    let fault = pace.recorder.fault(planned.fault, &nodes, &format!("{planned:?}")).await;
    let seen = lane.inject(planned, &places).await?;
    pace.say(planned, &names(&nodes), &seen.summary());
    fault.end(seen.installed, seen.evidence.clone()).await;
    Ok(seen)
}

pub(super) async fn nodes(mut lane: NodeLane<'_>, planned: Vec<Planned>, pace: &Pace) -> Result<()> {
    let mut progress = Progress::default();
    for fault in &planned {
        lane.fleet.hold((pace.began + fault.at).saturating_duration_since(Instant::now())).await?;
        if progress.wants(fault, pace) {
            progress.note(fault, &over_nodes(&mut lane, fault, pace).await?);
        }
    }
    for fault in progress.second_tries(&planned) {
        over_nodes(&mut lane, &fault, pace).await?;
    }
    lane.fleet.hold((pace.began + pace.length).saturating_duration_since(Instant::now())).await
}

async fn over_nodes(lane: &mut NodeLane<'_>, planned: &Planned, pace: &Pace) -> Result<Seen> {
    let places = lane.targets(planned).await;
    let nodes = lane.nodes(&places);
    let fault = pace.recorder.fault(planned.fault, &nodes, &format!("{planned:?}")).await;
    // What went wrong half way is no fault that was survived; whether the nodes come back is found out below.
    let seen = lane.inject(planned, &places).await.unwrap_or_else(|error| Seen::indeterminate(format!("{error:#}")));
    pace.say(planned, &names(&nodes), &seen.summary());
    fault.end(seen.installed, seen.evidence.clone()).await;
    lane.recover().await?;
    Ok(seen)
}

fn names(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| node.0.to_string()).collect();
    format!("{} {}", if nodes.len() == 1 { "node" } else { "nodes" }, names.join(", "))
}
