//! From a responder's command to its effect, while collectors append.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use proofline_client::Client;
use proofline_cluster::{TENANT, Tls};
use proofline_proto::v1;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    batches::{Batches, Breadth},
    load::Bench,
};

const STREAMS: usize = 8;
const EVENTS_EACH: usize = 100;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Revoked {
    pub(crate) events_per_second: u64,
    pub(crate) sessions: u64,
    pub(crate) acknowledged_p50_ms: f64,
    pub(crate) acknowledged_p99_ms: f64,
    pub(crate) watched_p50_ms: f64,
    pub(crate) watched_p99_ms: f64,
}

pub(crate) async fn measure(bench: &Bench, events_per_second: u64, sessions: u64) -> Result<Revoked> {
    let running = bench.cluster(3, Tls::Off).await?;
    let admin = running.client("admin")?;
    running.activate(&admin).await?;
    let stop = CancellationToken::new();
    let mut loads = Vec::new();
    for (number, (client, lane)) in running.lanes(&admin, STREAMS).await?.into_iter().enumerate() {
        let batches = Batches::new(lane, number, STREAMS, EVENTS_EACH, Breadth::Narrow);
        loads.push(tokio::spawn(paced(client, batches, pause(events_per_second), stop.clone())));
    }
    let status = admin.control().cluster_status(v1::ClusterStatusRequest {}).await?.into_inner();
    let follower = running.cluster.plan.nodes.iter().position(|node| node.node_id != status.leader_id).context("no follower")?;
    let watcher = running.client("admin")?.pinned(follower).context("the follower is not in the profile")?;
    let watch = v1::WatchContainmentRequest { tenant_id: TENANT.to_owned(), from_index: 0 };
    let mut changes = watcher.control().watch_containment(watch).await?.into_inner();
    let (mut acknowledged, mut watched) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    let mut begun: HashMap<String, Instant> = HashMap::new();
    for number in 0..sessions {
        let id = format!("to-revoke-{number}");
        begun.insert(id.clone(), Instant::now());
        let contain = v1::Contain {
            target: Some(v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: id.clone() }),
            action: v1::ContainmentAction::RevokeSession.into(),
            reason: "a measurement".to_owned(),
            incident_id: String::new(),
        };
        let began = Instant::now();
        running.govern(&admin, &["rita"], v1::command::Action::Contain(contain)).await?;
        acknowledged.record(micros(began.elapsed()))?;
        loop {
            let change = changes.message().await?.context("the watch ended")?;
            let target = change.containment.and_then(|it| it.targets.into_iter().next()).map(|it| it.id);
            if let Some(began) = target.and_then(|id| begun.remove(&id)) {
                watched.record(micros(began.elapsed()))?;
                break;
            }
        }
    }
    stop.cancel();
    let mut offered = 0;
    for load in loads {
        offered += load.await??;
    }
    ensure!(offered > 0, "nothing was appended beside it");
    let ms = |of: &Histogram<u64>, quantile| micros_to_ms(of.value_at_quantile(quantile));
    Ok(Revoked {
        events_per_second,
        sessions,
        acknowledged_p50_ms: ms(&acknowledged, 0.5),
        acknowledged_p99_ms: ms(&acknowledged, 0.99),
        watched_p50_ms: ms(&watched, 0.5),
        watched_p99_ms: ms(&watched, 0.99),
    })
}

/// Between two batches of one stream.
fn pause(events_per_second: u64) -> Duration {
    let streams = u32::try_from(STREAMS * EVENTS_EACH).unwrap_or(u32::MAX);
    Duration::from_secs(1) * streams / u32::try_from(events_per_second.max(1)).unwrap_or(u32::MAX)
}

/// Sends a batch in each beat, and reads what comes back.
async fn paced(client: Client, mut batches: Batches, every: Duration, stop: CancellationToken) -> Result<u64> {
    let (sender, requests) = mpsc::channel(64);
    let mut receipts = client.ingest().append_stream(ReceiverStream::new(requests)).await?.into_inner();
    let reading = tokio::spawn(async move {
        let mut events = 0;
        while let Some(receipt) = receipts.message().await? {
            events += receipt.events.len() as u64;
        }
        Ok::<u64, tonic::Status>(events)
    });
    let mut beats = tokio::time::interval(every);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = beats.tick() => (),
        }
        if sender.send(v1::AppendRequest { batch: Some(batches.next()?) }).await.is_err() {
            break;
        }
    }
    drop(sender);
    Ok(reading.await??)
}

fn micros(of: Duration) -> u64 {
    u64::try_from(of.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn micros_to_ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
