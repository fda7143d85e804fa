//! The load generator: collectors over the public API, against a cluster that it starts and removes.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use futures::future::{Either, try_join_all};
use proofline_client::{Client, LaneName, LaneSigner, Profile, RetryPolicy, Signatory, VolatileLane, generate_key, read_key, sign_command};
use proofline_cluster::{Binaries, Cluster, Plan, TENANT, Tls, spiffe};
use proofline_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    batches::{Batches, Breadth},
    latency::{Row, Tally},
};

const WARM_UP: Duration = Duration::from_secs(2);
/// Lanes of one collector.
const LANES: usize = 64;
/// Streams that a pipelined load uses at most.
const STREAMS_MAX: usize = 16;
/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) nodes: u64,
    pub(crate) batch: usize,
    pub(crate) in_flight: usize,
    pub(crate) tls: Tls,
    pub(crate) rules: Rules,
    pub(crate) commitments: Commitments,
    pub(crate) breadth: Breadth,
    /// Events a second that are offered; none: as many as are taken.
    pub(crate) offered: Option<u64>,
}

/// Whether rules decide on what is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    None,
    /// The shipped pack, of which most rules look at each event of the load, and none matches.
    Pack,
}

/// Whether the cluster commits to its map over all keys meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commitments {
    AsShipped,
    /// After so many milliseconds.
    Every(u64),
    None,
}

/// Milliseconds between two commitments where there should be none: longer than what is measured.
const NEVER_MS: u64 = 60_000;

const PACK: &str = include_str!("../../client/rules/proofline.cedar");

/// Where and how long to measure.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    data: PathBuf,
    pub(crate) over: Duration,
}

/// When a measurement begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Bench {
    pub(crate) fn new(data: PathBuf, over: Duration) -> Result<Self> {
        std::fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
        Ok(Self { data: data.canonicalize()?, over })
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn span(&self) -> Span {
        let from = Instant::now() + WARM_UP;
        Span { from, to: from + self.over }
    }

    /// Starts a fresh cluster.
    pub(crate) async fn cluster(&self, nodes: u64, tls: Tls) -> Result<RunningCluster> {
        self.cluster_with(nodes, tls, Commitments::AsShipped).await
    }

    async fn cluster_with(&self, nodes: u64, tls: Tls, commitments: Commitments) -> Result<RunningCluster> {
        let directory = tempfile::tempdir_in(&self.data)?;
        let plan = Plan::create(&directory.path().join("cluster"), nodes, tls)?;
        match commitments {
            Commitments::AsShipped => (),
            Commitments::Every(milliseconds) => plan.commit_every(milliseconds)?,
            Commitments::None => plan.commit_every(NEVER_MS)?,
        }
        Ok(RunningCluster { cluster: Cluster::found(plan, Binaries::beside_current()?).await?, _directory: directory })
    }

    pub(crate) async fn run(&self, scenario: Scenario) -> Result<Row> {
        let running = self.cluster_with(scenario.nodes, scenario.tls, scenario.commitments).await?;
        let client = running.client("admin")?;
        if scenario.rules == Rules::Pack {
            running.activate(&client).await?;
        }
        let lanes_needed = if scenario.batch == 1 { scenario.in_flight } else { scenario.in_flight.min(STREAMS_MAX) };
        let lanes = running.lanes(&client, lanes_needed).await?;
        let window = if scenario.offered.is_some() { 1 } else { scenario.in_flight / lanes.len() };
        let every =
            scenario.offered.map(|offered| Duration::from_secs((scenario.batch * lanes.len()) as u64).div_f64(offered.max(1) as f64));
        let count = lanes.len();
        let signing = lanes.into_iter().enumerate().map(|(number, (client, lane))| {
            let batches = Batches::new(lane, number, count, scenario.batch, scenario.breadth);
            tokio::task::spawn_blocking(move || Ok((client, batches.sign_ahead(count)?)))
        });
        let signed: Vec<(Client, Batches)> = try_join_all(signing).await?.into_iter().collect::<Result<_>>()?;
        let span = self.span();
        let loads: Vec<_> = signed
            .into_iter()
            .map(|(client, batches)| {
                let load = Load { client, batches, batch: scenario.batch, window, every, span };
                tokio::spawn(if scenario.batch == 1 { Either::Left(load.unary()) } else { Either::Right(load.stream()) })
            })
            .collect();
        let mut total = Tally::new();
        for load in loads {
            total.merge(&load.await??);
        }
        let mut row = total.row(scenario.nodes, scenario.batch, scenario.in_flight, self.over);
        if scenario.tls == Tls::Mutual {
            "mutual TLS".clone_into(&mut row.note);
        }
        if scenario.rules == Rules::Pack {
            "rules".clone_into(&mut row.note);
        }
        if scenario.breadth == Breadth::Wide {
            row.note.push_str(if row.note.is_empty() { "wide" } else { ", wide" });
        }
        if scenario.commitments == Commitments::None {
            row.note.push_str(if row.note.is_empty() { "no commitments" } else { ", no commitments" });
        } else if scenario.nodes > 1 {
            let (behind, caught_up) = running.catch_up(&client).await?;
            eprintln!("state commitments: {behind} entries behind at the end, caught up {:.1} s later", caught_up.as_secs_f64());
        }
        Ok(row)
    }
}

/// A cluster and its directory; both go with it.
pub(crate) struct RunningCluster {
    pub(crate) cluster: Cluster,
    _directory: tempfile::TempDir,
}

impl RunningCluster {
    /// Connects as an identity, to the leader: a collector that was told where it is.
    pub(crate) fn client(&self, identity: &str) -> Result<Client> {
        Ok(Client::connect(&Profile::load(&self.cluster.plan.profile(identity))?, RetryPolicy::default())?)
    }

    async fn at_leader(&self, identity: &str) -> Result<Client> {
        let status = self.client("admin")?.control().cluster_status(v1::ClusterStatusRequest {}).await?.into_inner();
        let place = self.cluster.plan.nodes.iter().position(|node| node.node_id == status.leader_id).context("no leader")?;
        self.client(identity)?.pinned(place).context("the leader is not in the profile")
    }

    /// Registers as many collectors as `count` lanes need and opens the lanes, each collector on a connection of its own.
    pub(crate) async fn lanes(&self, admin: &Client, count: usize) -> Result<Vec<(Client, VolatileLane)>> {
        let mut lanes = Vec::with_capacity(count);
        for number in 0..count.div_ceil(LANES) {
            let name = format!("bench-{number}");
            let key = Arc::new(self.register(admin, &name).await?);
            let client = self.at_leader(&name).await?;
            for lane in 0..LANES.min(count - lanes.len()) {
                let lane =
                    LaneName { collector_id: name.clone(), lane: u32::try_from(lane)?, origin: proofline_cluster::ORIGIN.to_owned() };
                lanes.push((client.clone(), VolatileLane::open(&client, LaneSigner::new(lane, Arc::clone(&key))).await?));
            }
        }
        Ok(lanes)
    }

    /// Tells how far the newest commitment is behind the log now, and how long it takes to reach it.
    pub(crate) async fn catch_up(&self, admin: &Client) -> Result<(u64, Duration)> {
        let began = Instant::now();
        let mut target = None;
        loop {
            let status = admin.control().cluster_status(v1::ClusterStatusRequest {}).await?.into_inner();
            let nodes = || status.nodes.iter().filter(|node| node.error.is_empty());
            let size = nodes().map(|node| node.tree_size).max().unwrap_or_default();
            let committed = nodes().map(|node| node.commitment_size).min().unwrap_or_default();
            let (at, behind) = *target.get_or_insert((size, size.saturating_sub(committed)));
            // What follows the load are commitments and publications, which carry no keys.
            if committed + 64 >= at || began.elapsed() > Duration::from_secs(120) {
                return Ok((behind, began.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Puts the pack in force, and registers the server that the load's events name.
    pub(crate) async fn activate(&self, admin: &Client) -> Result<()> {
        let server = v1::RegisterServer {
            tenant_id: TENANT.to_owned(),
            server_id: crate::events::SERVER.to_owned(),
            approved: true,
            ..Default::default()
        };
        self.govern(admin, &["alice"], v1::command::Action::RegisterServer(server)).await?;
        let activation = v1::ActivateRules {
            rules: PACK.to_owned(),
            engine: proofline_ledger::ENGINE.to_owned(),
            simulation_digest: vec![0; 32],
            denies_everything: false,
            reason: "a measurement".to_owned(),
        };
        self.govern(admin, &["alice", "bob"], v1::command::Action::ActivateRules(activation)).await
    }

    pub(crate) async fn govern(&self, admin: &Client, operators: &[&str], action: v1::command::Action) -> Result<()> {
        let signer = |name: &&str| -> Result<Signatory> {
            Ok(Signatory { operator_id: (*name).to_owned(), key: read_key(&self.cluster.plan.operator_key(name))? })
        };
        let signers = operators.iter().map(signer).collect::<Result<Vec<_>>>()?;
        let expires = SystemTime::now() + Duration::from_secs(60);
        admin.submit(sign_command(proofline_cluster::ORIGIN, action, expires, &signers)?).await?;
        Ok(())
    }

    async fn register(&self, admin: &Client, name: &str) -> Result<SigningKey> {
        self.cluster.plan.add_client(name)?;
        let key = generate_key()?;
        let action = v1::command::Action::RegisterCollector(v1::RegisterCollector {
            collector_id: name.to_owned(),
            public_key: key.verifying_key().to_bytes().to_vec(),
            spiffe_id: spiffe(name),
            tenant_id: TENANT.to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            events_per_hour: u64::MAX / 2,
            sessions_per_hour: u64::MAX / 2,
            payload_bytes_per_hour: u64::MAX / 2,
        });
        self.govern(admin, &["alice"], action).await?;
        Ok(key)
    }
}

/// One lane under load.
struct Load {
    client: Client,
    batches: Batches,
    batch: usize,
    window: usize,
    /// Between two batches, when they are not to come as fast as they are taken.
    every: Option<Duration>,
    span: Span,
}

impl Load {
    /// One batch at a time; the next is sent when the last is acknowledged.
    async fn unary(mut self) -> Result<Tally> {
        let (mut tally, mut ingest) = (Tally::new(), self.client.ingest());
        loop {
            let batch = self.batches.next()?;
            let sent = Instant::now();
            let receipt = ingest.append(v1::AppendRequest { batch: Some(batch) }).await?.into_inner();
            ensure!(receipt.events.iter().all(is_allowed), "an event was not allowed");
            let now = Instant::now();
            if now >= self.span.to {
                return Ok(tally);
            }
            if now >= self.span.from {
                tally.add(now - sent, self.batch as u64);
            }
        }
    }

    /// As many batches on their way as the window holds.
    async fn stream(mut self) -> Result<Tally> {
        let mut tally = Tally::new();
        let (sender, requests) = mpsc::channel(self.window.max(1));
        let mut receipts = self.client.ingest().append_stream(ReceiverStream::new(requests)).await?.into_inner();
        let mut under_way = VecDeque::new();
        let mut beats = self.every.map(tokio::time::interval);
        loop {
            while under_way.len() < self.window {
                if let Some(beats) = &mut beats {
                    beats.tick().await;
                }
                let batch = self.batches.next()?;
                under_way.push_back(Instant::now());
                sender.send(v1::AppendRequest { batch: Some(batch) }).await.context("the stream ended")?;
            }
            let receipt = receipts.message().await?.context("the stream ended")?;
            ensure!(receipt.events.iter().all(is_allowed), "an event was not allowed");
            let sent = under_way.pop_front().context("a receipt too many")?;
            let now = Instant::now();
            if now >= self.span.to {
                return Ok(tally);
            }
            if now >= self.span.from {
                tally.add(now - sent, self.batch as u64);
            }
        }
    }
}

/// A load that is denied would measure something else.
fn is_allowed(event: &v1::EventReceipt) -> bool {
    event.rejection == 0 && event.verdict() == v1::Verdict::Allow
}
