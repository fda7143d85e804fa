//! `proofline append`

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use proofline_client::{Appended, Collector, EVENT_BYTES_MAX, SourceEvent, SourceKey};
use proofline_ledger::misformed;
use proofline_proto::v1;
use prost::Message as _;
use serde_json::{Value, json};

use super::summary::Summary;
use crate::{
    arguments::AppendArguments,
    connection::Connection,
    exit::Exit,
    form,
    output::{Answer, table},
};

/// Events that are signed together.
const BATCH_EVENTS: usize = 256;

pub(super) async fn run(arguments: AppendArguments, connection: &Connection) -> Result<Answer> {
    let mut collector = arguments.lane.open(connection)?;
    check(&arguments)?;
    let mut appending = Appending::default();
    let read = appending.read_all(&arguments, &mut collector).await;
    let waiting = collector.waiting_events();
    // What could not be sent just now stays in the journal; what was read before a line that cannot be read is sent.
    let ended = match read {
        Ok(()) => appending.close(collector).await,
        Err(error) if waiting > 0 => {
            Err(error.context(format!("{waiting} events wait in the journal and go with the next append: do not append their lines again")))
        }
        Err(error) => appending.close(collector).await.and(Err(error)),
    };
    let answer = appending.answer();
    // What stands in the log is told also when the rest could not be read or sent.
    Ok(match ended {
        Ok(()) => answer,
        Err(error) => answer.failing(error),
    })
}

/// Looks at every line of a file before any of them is sent: half a file in the log is hard to go on from.
fn check(arguments: &AppendArguments) -> Result<()> {
    if !arguments.file.is_file() {
        return Ok(());
    }
    for (line, number) in open(&arguments.file)?.lines().zip(1..) {
        let line = line.with_context(|| format!("line {number}"))?;
        if !line.trim().is_empty() {
            read(line, arguments).and_then(check_form).with_context(|| format!("line {number}; nothing was appended"))?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(Box::new(BufReader::new(file)))
}

/// The ledger would record it as rejected, without a word on what is wrong.
fn check_form(event: SourceEvent) -> Result<()> {
    match misformed(&v1::Event::decode(event.event)?) {
        None => Ok(()),
        Some(part) => bail!("the event is malformed: {part}"),
    }
}

/// An event, with what the flags and the clock add to it.
fn read(line: String, arguments: &AppendArguments) -> Result<SourceEvent> {
    let json: Value = serde_json::from_str(&line)?;
    let mut event: v1::Event = form::from_json("Event", &json)?;
    if event.tenant_id.is_empty() {
        event.tenant_id = arguments.tenant.clone().context("the event names no tenant_id, and there is no --tenant")?;
    }
    if event.vantage == 0 {
        event.vantage = v1::Vantage::from(arguments.vantage).into();
    }
    if event.observed_unix_ns == 0 {
        event.observed_unix_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    }
    if event.event_id.is_empty() {
        event.event_id = uuid::Uuid::now_v7().as_bytes().to_vec();
    }
    let bytes = event.encoded_len();
    ensure!(bytes <= EVENT_BYTES_MAX, "the event has {bytes} bytes, at most {EVENT_BYTES_MAX} are taken; move content into payloads");
    let source = SourceKey::of("event", &[event.tenant_id.as_bytes(), &event.event_id]);
    Ok(SourceEvent::read_from(source, &event))
}

/// Receipts as they come, event by event.
#[derive(Default)]
struct Appending {
    summary: Summary,
    rows: Vec<[String; 4]>,
    receipts: Vec<Value>,
}

impl Appending {
    async fn read_all(&mut self, arguments: &AppendArguments, collector: &mut Collector) -> Result<()> {
        let is_blank = |line: &io::Result<String>| line.as_ref().is_ok_and(|line| line.trim().is_empty());
        let mut lines = open(&arguments.file)?.lines().zip(1..).filter(|(line, _)| !is_blank(line));
        loop {
            let some: Vec<_> = lines.by_ref().take(BATCH_EVENTS).collect();
            if some.is_empty() {
                return Ok(());
            }
            let events = some.into_iter().map(|(line, number)| read(line?, arguments).with_context(|| format!("line {number}")));
            self.append(events.collect::<Result<Vec<_>>>()?, collector).await?;
        }
    }

    async fn append(&mut self, events: Vec<SourceEvent>, collector: &mut Collector) -> Result<()> {
        self.take(&collector.append(events).await?)
    }

    async fn close(&mut self, collector: Collector) -> Result<()> {
        self.take(&collector.close().await?)
    }

    fn take(&mut self, appended: &Appended) -> Result<()> {
        self.summary.add(appended);
        for receipt in appended.earlier.iter().chain(&appended.receipts) {
            for (event, index) in receipt.events.iter().zip(receipt.first_index..) {
                self.receipts.push(json!({ "index": index.to_string(), "receipt": form::to_json("EventReceipt", event)? }));
                self.rows.push(row(index, event));
            }
        }
        Ok(())
    }

    /// A rejected event is in the log as a rejection; the sender is to know that it does not stand there as an event.
    fn answer(self) -> Answer {
        let mut text = table(["ENTRY", "SESSION POSITION", "VERDICT", "FINDINGS"], self.rows);
        let rejected = self.summary.rejected();
        let but = if rejected > 0 { format!(", {rejected} REJECTED: recorded as that, and in no session") } else { String::new() };
        let waited = if self.summary.earlier > 0 { ", among them what had waited in the journal" } else { "" };
        text.push_str(&format!("\n{} appended{waited}, {} known before{but}\n", self.summary.appended, self.summary.known));
        let json = json!({ "receipts": self.receipts, "summary": self.summary.json() });
        let exit = if rejected > 0 { Exit::Failed } else { Exit::Done };
        Answer::new("proofline.append/v1", json, text).ending(exit)
    }
}

fn row(index: u64, of: &v1::EventReceipt) -> [String; 4] {
    let (position, verdict) = match of.rejection() {
        v1::RejectionReason::Unspecified => (of.session_position.to_string(), crate::describe::verdict(of.verdict()).to_owned()),
        reason => {
            let reason = reason.as_str_name().trim_start_matches("REJECTION_REASON_").to_ascii_lowercase();
            ("-".to_owned(), format!("rejected: {reason}"))
        }
    };
    let findings: Vec<_> = of.findings.iter().map(|finding| finding.rule_id.as_str()).collect();
    [index.to_string(), position, verdict, findings.join(" ")]
}
