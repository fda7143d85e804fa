//! A ledger of a million entries and twenty thousand sessions: what do session proofs, pages of lineage and a file of evidence cost?

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proofline_client::{Client, EvidenceOrder, Existing, PayloadsWanted, Profile, VolatileLane};
use proofline_cluster::{TENANT, Tls};
use proofline_proto::v1;
use proofline_verifier::{Integrity, Policy, verify};

use crate::{
    events::Template,
    grown::{memory_mib, wait_published},
    latency::Tally,
    load::{Bench, RunningCluster},
};

/// Events in a batch while growing.
const BATCH: u64 = 1_000;
/// Proofs of sessions.
const PROOFS: u64 = 10_000;
/// Pages.
const PAGES: u64 = 1_000;
/// Entries on a page.
const PAGE: u32 = 100;
/// Agents and resources that the sessions are dealt out to.
const AGENTS: u64 = 100;
const RESOURCES: u64 = 5_000;
const EXPORTED: &str = "session-exported";

/// How large the ledger is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grown {
    pub(crate) entries: u64,
    pub(crate) sessions: u64,
    pub(crate) exported: u64,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Questions {
    of: Grown,
    session_proof: Tally,
    page: Tally,
    pages: u64,
    exported_within: Duration,
    verified_within: Duration,
    evidence_bytes: usize,
    memory_before_mib: Vec<u64>,
    memory_after_mib: Vec<u64>,
}

pub(crate) async fn measure(bench: &Bench, of: Grown) -> Result<Questions> {
    ensure!(of.sessions > 0 && of.exported < of.entries, "there must be sessions, and fewer exported events than entries");
    let running = bench.cluster(3, Tls::Off).await?;
    let admin = running.client("admin")?;
    let (client, lane) = running.lanes(&admin, 1).await?.pop().context("no lane")?;
    grow(&client, lane, of).await?;
    wait_published(&admin, of.entries).await?;
    running.catch_up(&admin).await?;
    let memory = || (0..3).filter_map(|place| running.cluster.process_id(place)).map(memory_mib).collect::<Vec<_>>();
    let memory_before_mib = memory();
    let session_proof = session_proofs(&admin, of).await?;
    let policy = Policy::parse(&std::fs::read(running.cluster.plan.policy())?)?;
    let (page, pages) = pages(&running, &policy).await?;
    let evidence = bench.data().join("exported.evidence.zip");
    let began = Instant::now();
    admin.export_evidence(policy.clone(), &order(&evidence), |_| ()).await?;
    let exported_within = began.elapsed();
    let bytes = std::fs::read(&evidence)?;
    std::fs::remove_file(&evidence)?;
    let began = Instant::now();
    let report = verify(&bytes, &policy, None);
    let verified_within = began.elapsed();
    ensure!(report.integrity() == Integrity::Verified, "the evidence does not verify: {report}");
    let memory_after_mib = memory();
    let evidence_bytes = bytes.len();
    Ok(Questions { of, session_proof, page, pages, exported_within, verified_within, evidence_bytes, memory_before_mib, memory_after_mib })
}

/// Deals events out to the sessions in turn; those of the session that is exported come among them.
async fn grow(client: &Client, mut lane: VolatileLane, of: Grown) -> Result<()> {
    let every = of.entries / of.exported.max(1);
    let exported = Template::of(EXPORTED, "agent-7", "file:///srv/app/exported.toml");
    let template = |number: u64| {
        let session = number % of.sessions;
        let resource = format!("file:///srv/app/{:04}.toml", session % RESOURCES);
        Template::of(&format!("session-{session:05}"), &format!("agent-{}", session % AGENTS), &resource)
    };
    let templates: Vec<Template> = (0..of.sessions).map(template).collect();
    let (sender, requests) = tokio::sync::mpsc::channel(8);
    let mut receipts = client.ingest().append_stream(tokio_stream::wrappers::ReceiverStream::new(requests)).await?.into_inner();
    let signing = async move {
        for from in (0..of.entries).step_by(usize::try_from(BATCH)?) {
            let event = |number: u64| {
                // Those of the exported session come between the turns of the others.
                let turn = number - number.div_ceil(every);
                let place = usize::try_from(turn).unwrap_or_default() % templates.len().max(1);
                let of_session = if number.is_multiple_of(every) { Some(&exported) } else { templates.get(place) };
                of_session.map(|template| template.event(u128::from(number)))
            };
            let events = (from..of.entries.min(from + BATCH)).filter_map(event).collect();
            sender.send(v1::AppendRequest { batch: Some(lane.sign(events)?) }).await.context("the stream ended")?;
        }
        anyhow::Ok(())
    };
    let counting = async {
        let mut done = 0;
        while done < of.entries {
            let receipt = receipts.message().await?.context("the stream ended")?;
            ensure!(receipt.events.iter().all(|event| event.rejection == 0), "an event was rejected");
            done += receipt.events.len() as u64;
        }
        anyhow::Ok(())
    };
    let (signed, counted) = tokio::join!(signing, counting);
    signed.and(counted)
}

/// Places without locality.
fn scattered(below: u64) -> impl Iterator<Item = u64> {
    (1..=PROOFS).map(move |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % below)
}

async fn session_proofs(admin: &Client, of: Grown) -> Result<Tally> {
    let (mut audit, mut tally) = (admin.audit(), Tally::new());
    for session in scattered(of.sessions) {
        let session_id = format!("session-{session:05}");
        let request = v1::GetSessionProofRequest { tenant_id: TENANT.to_owned(), session_id, position: session % 7 };
        let asked = Instant::now();
        audit.get_session_proof(request).await?;
        tally.add(asked.elapsed(), 1);
    }
    Ok(tally)
}

/// Reads what agents did, page by page, each verified when it came.
async fn pages(running: &RunningCluster, policy: &Policy) -> Result<(Tally, u64)> {
    let auditor = Client::connect(&Profile::load(&running.cluster.plan.profile("auditor"))?, proofline_client::RetryPolicy::default())?;
    let (mut tally, mut pages) = (Tally::new(), 0);
    for agent in 0..AGENTS {
        let key = v1::Key { dimension: v1::Dimension::Agent.into(), tenant_id: TENANT.to_owned(), value: format!("agent-{agent}") };
        let request = v1::TraceLineageRequest {
            question: Some(v1::LineageQuestion { starts: vec![key], ..Default::default() }),
            kind: v1::AccessKind::Lineage.into(),
            purpose: "a measurement".to_owned(),
            page_entries: PAGE,
        };
        let mut answer = auditor.trace(policy.clone(), request).await?;
        let mut asked = Instant::now();
        for _ in 0..PAGES / AGENTS {
            let Some(page) = answer.next().await? else { break };
            ensure!(page.verified.found.len() <= PAGE as usize, "a page has more entries than were asked for");
            tally.add(asked.elapsed(), 1);
            (asked, pages) = (Instant::now(), pages + 1);
        }
    }
    Ok((tally, pages))
}

fn order(out: &std::path::Path) -> EvidenceOrder {
    let key = v1::Key { dimension: v1::Dimension::Session.into(), tenant_id: TENANT.to_owned(), value: EXPORTED.to_owned() };
    let request = v1::TraceLineageRequest {
        question: Some(v1::LineageQuestion { starts: vec![key], ..Default::default() }),
        kind: v1::AccessKind::EvidenceExport.into(),
        purpose: "a measurement".to_owned(),
        page_entries: 500,
    };
    EvidenceOrder {
        request,
        asked: format!("everything of {EXPORTED}"),
        exported_unix_ns: 1_763_690_000_000_000_000,
        payloads: PayloadsWanted::No,
        consistent_with: None,
        out: out.to_owned(),
        existing: Existing::Replaced,
    }
}

impl Questions {
    pub(crate) fn print(&self) {
        let memory = |of: &[u64]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / ");
        println!("\na ledger of {} entries in {} sessions, three nodes", self.of.entries, self.of.sessions);
        println!("  session proof             p50 {:.2} ms, p99 {:.2} ms", self.session_proof.p50_ms(), self.session_proof.p99_ms());
        println!(
            "  page of {PAGE} entries        p50 {:.2} ms, p99 {:.2} ms, asked, sent and verified ({} pages of {AGENTS} answers)",
            self.page.p50_ms(),
            self.page.p99_ms(),
            self.pages
        );
        println!(
            "  evidence of {} events  exported in {:.2} s, verified in {:.2} s, {} bytes",
            self.of.exported,
            self.exported_within.as_secs_f64(),
            self.verified_within.as_secs_f64(),
            self.evidence_bytes
        );
        println!(
            "  memory                    {} MiB before, {} MiB after",
            memory(&self.memory_before_mib),
            memory(&self.memory_after_mib)
        );
    }
}
