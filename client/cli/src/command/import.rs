//! `proofline import otlp`

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use proofline_client::{AppendError, Collector, SourceEvent};
use serde_json::json;

use super::summary::{Summary, row};
use crate::{
    arguments::{OtlpArguments, Subjects},
    connection::Connection,
    exit::Exit,
    otlp::{
        content::{PayloadStore, Pseudonyms},
        lines::Lines,
        mapping::{Mapped, Source},
        tools::ToolMap,
        trace::{Trace, Traces},
        wire::TraceRequest,
    },
    output::{Answer, table},
    progress,
};

/// Events that are signed together: enough that a signature and an fsync each weigh little.
const BATCH_EVENTS: usize = 512;
/// How long an event waits for others to be signed with it when the input pauses.
const LINGER: Duration = Duration::from_millis(200);

pub(super) async fn run(arguments: OtlpArguments, connection: &Connection) -> Result<Answer> {
    let since = Instant::now();
    let mut import = Import::new(&arguments, connection)?;
    if !arguments.new_journal && import.collector.is_behind_its_lane().await? {
        bail!(
            "the ledger has batches of collector {:?}, lane {}, that the journal in {} does not know: it is new, or a copy from before, and \
             what they brought would be imported again. Name the directory of the runs before with --journals; --new-journal goes on all \
             the same",
            arguments.lane.collector,
            arguments.lane.lane,
            arguments.lane.journals(connection).display(),
        );
    }
    let ended = import.import_all(&arguments).await;
    import.summary.add(&import.collector.take_untold());
    import.progress.finish_and_clear();
    let answer = answer(&import.summary, &import.counts, since);
    Ok(match ended {
        Ok(()) => match import.collector.close().await {
            Ok(_) => answer,
            Err(error) => answer.failing(anyhow::Error::from(error).context("everything is in the log; closing the lane got no answer")),
        },
        // Nothing was done, so there is nothing to tell.
        Err(error) if import.summary.is_empty() && import.collector.waiting() == 0 => return Err(error),
        Err(error) => {
            let waiting = match (import.collector.waiting_events(), error.downcast_ref()) {
                (0, _) | (_, Some(AppendError::Journal(_))) => String::new(),
                (events, _) => format!("{events} events wait in the journal; "),
            };
            answer.failing(error.context(format!("{waiting}once this is mended, the same import goes on where this one ended")))
        }
    })
}

/// An import under way.
struct Import {
    collector: Collector,
    source: Source,
    payloads: Option<PayloadStore>,
    traces: Traces,
    batch: Vec<SourceEvent>,
    summary: Summary,
    counts: Counts,
    progress: ProgressBar,
    /// Whether a file says what the calls of tools do.
    has_tools: bool,
}

#[derive(Default)]
struct Counts {
    traces: u64,
    spans: u64,
    unmapped: u64,
    committed: u64,
}

impl Import {
    fn new(arguments: &OtlpArguments, connection: &Connection) -> Result<Self> {
        let collector = arguments.lane.open(connection)?;
        let pseudonyms = match arguments.subjects {
            Subjects::AsGiven => Pseudonyms::AsGiven,
            Subjects::Pseudonym => {
                let beside = || arguments.lane.journals(connection).join("pseudonym.key");
                Pseudonyms::keyed(&arguments.pseudonym_key.clone().unwrap_or_else(beside))?
            }
        };
        let source = Source {
            tenant_id: arguments.tenant.clone(),
            issuer: arguments.issuer.clone(),
            vantage: arguments.vantage.into(),
            pseudonyms,
            tools: arguments.tools.as_deref().map(ToolMap::load).transpose()?.unwrap_or_default(),
        };
        Ok(Self {
            collector,
            source,
            payloads: arguments.payloads.as_deref().map(PayloadStore::open).transpose()?,
            traces: Traces::default(),
            batch: Vec::new(),
            summary: Summary::default(),
            counts: Counts::default(),
            progress: progress::counter("events"),
            has_tools: arguments.tools.is_some(),
        })
    }

    /// On return: everything is in the log. What was read before a line that cannot be read is, too.
    async fn import_all(&mut self, arguments: &OtlpArguments) -> Result<()> {
        let read = self.read_all(arguments).await;
        if read.as_ref().err().is_some_and(|error| Exit::of(error) == Exit::Unreachable) {
            return read;
        }
        // What came through before is told, whatever comes behind it.
        self.summary.add(&self.collector.take_untold());
        if read.is_ok() {
            let rest = std::mem::take(&mut self.traces).finish();
            self.take(rest).await?;
        }
        self.send().await?;
        self.progress.set_message("waiting for the last receipts");
        self.summary.add(&self.collector.flush().await?);
        if self.has_tools && self.summary.known > 0 {
            anstream::eprintln!(
                "note: {} events were in the log before; they stay as they were imported, and say of tools what was known then",
                self.summary.known
            );
        }
        read
    }

    async fn read_all(&mut self, arguments: &OtlpArguments) -> Result<()> {
        let mut lines = Lines::open(&arguments.file)?;
        let mut number = 0;
        loop {
            let line = tokio::select! {
                line = lines.next() => line.with_context(|| format!("{}, behind line {number}", arguments.file.display()))?,
                driven = self.collector.drive() => {
                    self.summary.add(&driven?);
                    continue;
                }
                () = tokio::time::sleep(LINGER), if !self.batch.is_empty() => {
                    self.send().await?;
                    continue;
                }
            };
            let Some(line) = line else { return Ok(()) };
            number += 1;
            self.take_line(number, &line).await?;
        }
    }

    async fn take_line(&mut self, number: usize, line: &[u8]) -> Result<()> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let request: TraceRequest = serde_json::from_slice(line).with_context(|| format!("line {number} is no OTLP/JSON trace request"))?;
        let traces = self.traces.push(request).with_context(|| format!("line {number}"))?;
        self.take(traces).await
    }

    async fn take(&mut self, traces: Vec<Trace>) -> Result<()> {
        for trace in traces {
            let mapped = self.source.map(&trace);
            self.counts.traces += 1;
            self.counts.spans += trace.spans.len() as u64;
            self.counts.unmapped += mapped.unmapped as u64;
            for event in mapped.events {
                self.take_event(event).await?;
            }
        }
        Ok(())
    }

    async fn take_event(&mut self, mapped: Mapped) -> Result<()> {
        self.progress.inc(1);
        // Known events get no new salts: what is in the log is opened with the first ones.
        if self.collector.knows(&mapped.source) {
            self.summary.known += 1;
            return Ok(());
        }
        let Mapped { source, mut event, content } = mapped;
        if let Some(payloads) = self.payloads.as_mut().filter(|_| !content.is_empty()) {
            payloads.commit(&mut event, &content)?;
            self.counts.committed += content.len() as u64;
        }
        self.batch.push(SourceEvent::read_from(source, &event));
        if self.batch.len() >= BATCH_EVENTS { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<()> {
        if let Some(payloads) = &mut self.payloads {
            payloads.sync()?;
        }
        let appended = self.collector.enqueue(std::mem::take(&mut self.batch)).await?;
        self.summary.add(&appended);
        Ok(())
    }
}

fn answer(summary: &Summary, counts: &Counts, since: Instant) -> Answer {
    let seconds = since.elapsed().as_secs_f64();
    let rate = |count: u64| format!("{:.0}", count as f64 / seconds.max(f64::MIN_POSITIVE));
    let mut rows = vec![
        row("traces", counts.traces),
        row("spans", counts.spans),
        row("spans of no known kind", counts.unmapped),
        row("payloads committed to", counts.committed),
    ];
    rows.extend(summary.rows());
    rows.push(["seconds".to_owned(), format!("{seconds:.2}")]);
    rows.push(["events a second".to_owned(), rate(summary.appended)]);
    let json = json!({
        "traces": counts.traces.to_string(),
        "spans": counts.spans.to_string(),
        "unmapped_spans": counts.unmapped.to_string(),
        "committed_payloads": counts.committed.to_string(),
        "summary": summary.json(),
        "milliseconds": since.elapsed().as_millis().to_string(),
    });
    let exit = if summary.rejected() > 0 { Exit::Failed } else { Exit::Done };
    Answer::new("proofline.import/v1", json, table(["WHAT", "COUNT"], rows)).ending(exit)
}
