//! A ledger of a million entries, all in one session: does the cost of an event grow, what do proofs cost, how much memory is used.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proofline_client::Client;
use proofline_cluster::{TENANT, Tls};
use proofline_proto::v1;
use serde::Serialize;

use crate::{
    events::Template,
    latency::Tally,
    load::{Bench, RunningCluster},
};

/// Events in a batch while growing.
const BATCH: u64 = 1000;
/// Proofs of each kind.
const PROOFS: u64 = 2000;
/// Batches under way while growing.
const WINDOW: usize = 8;

/// What a grown ledger shows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Grown {
    pub(crate) entries: u64,
    /// Throughput while the ledger grew through each tenth of its size.
    pub(crate) growth: Vec<Growth>,
    pub(crate) log_proof_p50_ms: f64,
    pub(crate) log_proof_p99_ms: f64,
    pub(crate) session_proof_p50_ms: f64,
    pub(crate) session_proof_p99_ms: f64,
    /// Resident memory of each node, in MiB, after the proofs.
    pub(crate) memory_mib: Vec<u64>,
}

/// One stretch of the way.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Growth {
    pub(crate) up_to: u64,
    pub(crate) events_per_second: f64,
}

pub(crate) async fn measure(bench: &Bench, entries: u64) -> Result<Grown> {
    let running = bench.cluster(3, Tls::Off).await?;
    let admin = running.client("admin")?;
    let growth = grow(&running, &admin, entries).await?;
    wait_published(&admin, entries).await?;
    let log = log_proofs(&admin, entries).await?;
    let session = session_proofs(&admin, entries).await?;
    Ok(Grown {
        entries,
        growth,
        log_proof_p50_ms: log.p50_ms(),
        log_proof_p99_ms: log.p99_ms(),
        session_proof_p50_ms: session.p50_ms(),
        session_proof_p99_ms: session.p99_ms(),
        memory_mib: (0..3).filter_map(|place| running.cluster.process_id(place)).map(memory_mib).collect(),
    })
}

async fn grow(running: &RunningCluster, admin: &Client, entries: u64) -> Result<Vec<Growth>> {
    let (client, mut lane) = running.lanes(admin, 1).await?.pop().context("no lane")?;
    let template = Template::new("the-one-session");
    let (sender, requests) = tokio::sync::mpsc::channel(WINDOW);
    let mut receipts = client.ingest().append_stream(tokio_stream::wrappers::ReceiverStream::new(requests)).await?.into_inner();
    let signing = async move {
        for count in 0..entries / BATCH {
            let events = (0..BATCH).map(|n| template.event(u128::from(count * BATCH + n))).collect();
            sender.send(v1::AppendRequest { batch: Some(lane.sign(events)?) }).await.context("the stream ended")?;
        }
        anyhow::Ok(())
    };
    let counting = async {
        let (mut growth, mut done, mut since) = (Vec::new(), 0, Instant::now());
        let steps = [entries / 100, entries / 10, entries / 4, entries / 2, entries * 3 / 4, entries];
        let mut steps = steps.iter().copied().peekable();
        let mut from = 0;
        while let Some(receipt) = receipts.message().await? {
            ensure!(receipt.events.iter().all(|event| event.rejection == 0), "an event was rejected");
            done += receipt.events.len() as u64;
            if let Some(up_to) = steps.next_if(|step| done >= *step) {
                #[expect(clippy::cast_precision_loss, reason = "at most a million")]
                let events_per_second = (done - from) as f64 / since.elapsed().as_secs_f64();
                growth.push(Growth { up_to, events_per_second });
                (from, since) = (done, Instant::now());
            }
            if done >= entries / BATCH * BATCH {
                break;
            }
        }
        anyhow::Ok(growth)
    };
    let (signed, growth) = tokio::join!(signing, counting);
    signed?;
    growth
}

pub(crate) async fn wait_published(admin: &Client, entries: u64) -> Result<()> {
    let mut notes = admin.audit().watch_checkpoints(v1::WatchCheckpointsRequest {}).await?.into_inner();
    let covered = async {
        while let Some(note) = notes.message().await? {
            let text = String::from_utf8(note.checkpoint)?;
            let size: u64 = text.lines().nth(1).context("no size")?.parse()?;
            if size >= entries {
                return anyhow::Ok(());
            }
        }
        anyhow::bail!("the stream of checkpoints ended")
    };
    tokio::time::timeout(Duration::from_secs(60), covered).await?
}

/// Indexes all over the log, in an order without locality.
fn scattered(entries: u64) -> impl Iterator<Item = u64> {
    (0..PROOFS).map(move |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entries)
}

async fn log_proofs(admin: &Client, entries: u64) -> Result<Tally> {
    let (mut audit, mut tally) = (admin.audit(), Tally::new());
    for index in scattered(entries) {
        let asked = Instant::now();
        audit.get_inclusion_proof(v1::GetInclusionProofRequest { index }).await?;
        tally.add(asked.elapsed(), 1);
    }
    Ok(tally)
}

async fn session_proofs(admin: &Client, entries: u64) -> Result<Tally> {
    let (mut audit, mut tally) = (admin.audit(), Tally::new());
    for position in scattered(entries) {
        let request = v1::GetSessionProofRequest { tenant_id: TENANT.to_owned(), session_id: "the-one-session".to_owned(), position };
        let asked = Instant::now();
        audit.get_session_proof(request).await?;
        tally.add(asked.elapsed(), 1);
    }
    Ok(tally)
}

pub(crate) fn memory_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
