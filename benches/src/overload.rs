//! Ten times what three nodes can take, while one of them stands still: does memory stay bounded, and is what is too much refused?

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use proofline_client::Client;
use proofline_cluster::Tls;
use proofline_proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::MissedTickBehavior;
use tonic::Code;

use crate::{
    batches::{Batches, Breadth},
    grown::memory_mib,
    load::{Bench, Commitments, Rules, RunningCluster, Scenario, Span},
};

/// Events of a batch.
const BATCH: usize = 100;
/// Batches under way where the load is what the cluster can take.
const IN_FLIGHT: usize = 64;
/// What a node may hold, in MiB.
const MEMORY_MAX_MIB: u64 = 512;
/// How long the node that stood still may take until it has everything.
const SAME_WITHIN: Duration = Duration::from_secs(300);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Overload {
    frozen_for: Duration,
    sustained_per_second: f64,
    offered_per_second: f64,
    accepted_per_second: f64,
    refused: u64,
    /// Batches whose fate nobody was told: they are sent again, and taken once.
    untold: u64,
    /// The most that each node held, the one that stood still first.
    memory_max_mib: Vec<u64>,
    caught_up_within: Duration,
}

/// What one caller did.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    made: u64,
    accepted: u64,
    refused: u64,
    untold: u64,
}

impl std::ops::AddAssign for Calls {
    fn add_assign(&mut self, more: Self) {
        self.made += more.made;
        self.accepted += more.accepted;
        self.refused += more.refused;
        self.untold += more.untold;
    }
}

pub(crate) async fn measure(bench: &Bench, times: u64, frozen_for: Duration) -> Result<Overload> {
    let (rules, commitments, breadth) = (Rules::None, Commitments::AsShipped, Breadth::Wide);
    let usual = Scenario { nodes: 3, batch: BATCH, in_flight: IN_FLIGHT, tls: Tls::Off, rules, commitments, breadth, offered: None };
    let sustained_per_second = bench.run(usual).await?.events_per_second;
    eprintln!("three nodes sustain {sustained_per_second:.0} events/s; now {times} times that, with a follower that stands still");

    let running = bench.cluster(3, Tls::Off).await?;
    let admin = running.client("admin")?;
    let callers = IN_FLIGHT * usize::try_from(times)?;
    let every = Duration::from_secs_f64((callers * BATCH) as f64 / (sustained_per_second * times as f64));
    let lanes = running.lanes(&admin, callers).await?;
    let signing = lanes.into_iter().enumerate().map(|(number, (client, lane))| {
        let batches = Batches::new(lane, number, callers, BATCH, breadth);
        tokio::task::spawn_blocking(move || anyhow::Ok((client, batches.sign_ahead(callers)?)))
    });
    let signed: Vec<(Client, Batches)> = try_join_all(signing).await?.into_iter().collect::<Result<_>>()?;
    let nodes = processes(&running, &admin).await?;
    let frozen = *nodes.first().context("no follower")?;
    kill_process(frozen, Signal::STOP)?;
    let from = Instant::now();
    let span = Span { from, to: from + frozen_for };
    let calls: Vec<_> = signed.into_iter().map(|(client, batches)| tokio::spawn(call(client, batches, every, span))).collect();
    let mut memory_max_mib = vec![0; nodes.len()];
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    while Instant::now() < span.to {
        seconds.tick().await;
        note(&nodes, &mut memory_max_mib);
    }
    kill_process(frozen, Signal::CONT)?;
    let resumed = Instant::now();
    let mut total = Calls::default();
    for caller in calls {
        total += caller.await??;
    }
    while !same(&admin).await? {
        ensure!(resumed.elapsed() < SAME_WITHIN, "the node that stood still does not catch up");
        seconds.tick().await;
        note(&nodes, &mut memory_max_mib);
    }
    let rate = |calls: u64| (calls * BATCH as u64) as f64 / frozen_for.as_secs_f64();
    Ok(Overload {
        frozen_for,
        sustained_per_second,
        offered_per_second: rate(total.made),
        accepted_per_second: rate(total.accepted),
        refused: total.refused,
        untold: total.untold,
        memory_max_mib,
        caught_up_within: resumed.elapsed(),
    })
}

/// Sends a batch as often as it is due; one that is refused is sent again.
async fn call(client: Client, mut batches: Batches, every: Duration, span: Span) -> Result<Calls> {
    let (mut ingest, mut calls, mut beats) = (client.ingest(), Calls::default(), tokio::time::interval(every));
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut waiting = None;
    while Instant::now() < span.to {
        beats.tick().await;
        let batch = match waiting.take() {
            Some(batch) => batch,
            None => batches.next()?,
        };
        calls.made += 1;
        match ingest.append(v1::AppendRequest { batch: Some(batch.clone()) }).await {
            Ok(_) => calls.accepted += 1,
            Err(status) if status.code() == Code::ResourceExhausted => {
                calls.refused += 1;
                waiting = Some(batch);
            }
            Err(status) if matches!(status.code(), Code::Unavailable | Code::Aborted | Code::DeadlineExceeded) => {
                calls.untold += 1;
                waiting = Some(batch);
            }
            Err(status) => bail!("neither taken nor refused for now: {status}"),
        }
    }
    Ok(calls)
}

/// Returns the processes of the nodes, a follower first.
async fn processes(running: &RunningCluster, admin: &Client) -> Result<Vec<Pid>> {
    let leader = admin.control().cluster_status(v1::ClusterStatusRequest {}).await?.into_inner().leader_id;
    let mut places: Vec<usize> = (0..running.cluster.plan.nodes.len()).collect();
    places.sort_by_key(|place| running.cluster.plan.nodes.get(*place).is_none_or(|node| node.node_id == leader));
    let process = |place| {
        let id = running.cluster.process_id(place).context("a node does not run")?;
        Pid::from_raw(i32::try_from(id)?).context("no process id")
    };
    places.into_iter().map(process).collect()
}

fn note(nodes: &[Pid], most: &mut [u64]) {
    for (node, most) in nodes.iter().zip(most) {
        *most = memory_mib(node.as_raw_nonzero().get().unsigned_abs()).max(*most);
    }
}

/// Tells whether all nodes answer and have the same entries.
async fn same(admin: &Client) -> Result<bool> {
    let status = admin.control().cluster_status(v1::ClusterStatusRequest {}).await?.into_inner();
    let sizes: Vec<u64> = status.nodes.iter().filter(|node| node.error.is_empty()).map(|node| node.tree_size).collect();
    // What follows the load are commitments and publications.
    Ok(sizes.len() == status.nodes.len() && sizes.iter().max().zip(sizes.iter().min()).is_some_and(|(most, least)| most - least < 64))
}

impl Overload {
    pub(crate) fn print(&self) {
        println!("\nthree nodes, one of them stopped for {} s, batches of {BATCH}", self.frozen_for.as_secs());
        println!("  sustained without that     {:.0} events/s", self.sustained_per_second);
        println!(
            "  offered                    {:.0} events/s, {:.1} times",
            self.offered_per_second,
            self.offered_per_second / self.sustained_per_second
        );
        println!(
            "  taken                      {:.0} events/s; {} batches were refused definitely, {} without a definite answer; all sent again",
            self.accepted_per_second, self.refused, self.untold
        );
        println!(
            "  most memory                {} MiB, the stopped one first; {MEMORY_MAX_MIB} are allowed",
            self.memory_max_mib.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / ")
        );
        println!("  caught up, once it went on  {:.1} s", self.caught_up_within.as_secs_f64());
    }

    /// Tells whether every node held no more than it may.
    pub(crate) fn is_bounded(&self) -> bool {
        self.memory_max_mib.iter().all(|held| *held <= MEMORY_MAX_MIB)
    }
}
