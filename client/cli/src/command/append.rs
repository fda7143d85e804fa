//! `proofline append`

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use proofline_client::{AppendError, Appended, Collector, EVENT_BYTES_MAX, SourceEvent, SourceKey};
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
    let ended = appending.append_all(&arguments, &mut collector).await;
    appending.take(&collector.take_untold())?;
    // What stands in the log is told also when the rest could not be read or sent.
    let Err(error) = ended else {
        let answer = appending.answer();
        return Ok(match collector.close().await {
            Ok(_) => answer,
            Err(error) => answer.failing(anyhow::Error::from(error).context("every line is in the log; closing the lane got no answer")),
        });
    };
    let how_far = match error.downcast_ref() {
        Some(AppendError::Journal(_)) => appending.how_far_with_a_broken_journal(),
        Some(_) | None => appending.how_far(&collector),
    };
    Ok(appending.answer().failing(error.context(how_far)))
}

/// Looks at every line of a file before any of them is sent: half a file in the log is hard to go on from.
fn check(arguments: &AppendArguments) -> Result<()> {
    if is_standard_input(&arguments.file) || !arguments.file.is_file() {
        return Ok(());
    }
    for (line, number) in open(&arguments.file)?.lines().zip(1..) {
        let line = line.with_context(|| format!("line {number}; nothing was appended"))?;
        if !line.trim().is_empty() {
            read(line, arguments).and_then(check_form).with_context(|| format!("line {number}; nothing was appended"))?;
        }
    }
    Ok(())
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if is_standard_input(path) {
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
    /// Of events that had waited in the journal since an earlier run.
    earlier: Vec<Value>,
    /// The last line of which all before it are in the log.
    taken: u64,
    /// Lines of the call that did not end.
    under_way: Vec<(u64, SourceKey)>,
}

impl Appending {
    /// On return: every line is in the log. What was read before a line that cannot be read is in the log, too, or in the journal.
    async fn append_all(&mut self, arguments: &AppendArguments, collector: &mut Collector) -> Result<()> {
        let is_blank = |line: &io::Result<String>| line.as_ref().is_ok_and(|line| line.trim().is_empty());
        let mut lines = open(&arguments.file)?.lines().zip(1..).filter(|(line, _)| !is_blank(line));
        loop {
            let (mut some, mut unreadable) = (Vec::new(), None);
            for (line, number) in lines.by_ref().take(BATCH_EVENTS) {
                match line.map_err(anyhow::Error::from).and_then(|line| read(line, arguments)) {
                    Ok(event) => some.push((number, event)),
                    Err(error) => {
                        unreadable = Some(error.context(format!("line {number}")));
                        break;
                    }
                }
            }
            let is_end = some.is_empty();
            self.append(some, collector).await?;
            match unreadable {
                Some(error) => return Err(error),
                None if is_end => return Ok(()),
                None => {}
            }
        }
    }

    /// Appends events with the numbers of their lines; without any, what waits in the journal.
    async fn append(&mut self, some: Vec<(u64, SourceEvent)>, collector: &mut Collector) -> Result<()> {
        self.under_way = some.iter().filter_map(|(number, event)| Some((*number, event.source?))).collect();
        let last = some.last().map(|(number, _)| *number);
        let appended = collector.append(some.into_iter().map(|(_, event)| event).collect()).await?;
        self.taken = last.unwrap_or(self.taken);
        self.under_way.clear();
        self.take(&appended)
    }

    /// Says up to which line events are in the log or in the journal, and what waits there.
    fn how_far(&self, collector: &Collector) -> String {
        let signed = self.under_way.iter().take_while(|(_, source)| collector.knows(source)).last();
        let taken = signed.map_or(self.taken, |(number, _)| *number);
        match (taken, collector.waiting_events()) {
            (0, 0) => "nothing of this was appended".to_owned(),
            (0, waiting) => {
                format!(
                    "nothing of this was appended; {waiting} events of earlier runs wait in the journal, and the next append sends them"
                )
            }
            (_, 0) => format!("up to line {taken} all is in the log; what follows was not appended"),
            (_, waiting) => format!(
                "up to line {taken} all is in the log, or among the {waiting} events that wait in the journal, and that the next append sends: \
                 do not append those lines again; what follows was not appended"
            ),
        }
    }

    /// What could not be written may be in the journal all the same, or not.
    fn how_far_with_a_broken_journal(&self) -> String {
        let taken = match self.taken {
            0 => "nothing of this is in the log so far".to_owned(),
            taken => format!("up to line {taken} all is in the log"),
        };
        format!("{taken}; whether the journal has the next lines shows with the next append, which sends what it has")
    }

    fn take(&mut self, appended: &Appended) -> Result<()> {
        self.summary.add(appended);
        for (told, receipts) in [(&mut self.earlier, &appended.earlier), (&mut self.receipts, &appended.receipts)] {
            for receipt in receipts {
                for (event, index) in receipt.events.iter().zip(receipt.first_index..) {
                    told.push(json!({ "index": index.to_string(), "receipt": form::to_json("EventReceipt", event)? }));
                    self.rows.push(row(index, event));
                }
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
        let json = json!({ "receipts": self.receipts, "earlier": self.earlier, "summary": self.summary.json() });
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
