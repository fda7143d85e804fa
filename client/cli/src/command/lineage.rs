//! `proofline lineage` and `proofline blast-radius`: what hangs together with a key, verified page by page.

mod csv;
mod ocsf;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use proofline_client::TracedPage;
use proofline_proto::v1::{self, Dimension};
use proofline_verifier::{AnswerSummary, EntryKey, Extent, FoundEntry, LineageEdge, LineageNode, dimension_name};
use serde_json::{Value, json};

use super::question;
use crate::{
    arguments::{BlastRadiusArguments, DirectionName, KeyArguments, LineFormat, LineageArguments, OutputFormat, ReachArguments, WindowEnd},
    connection::Connection,
    describe::Described,
    exit::Exit,
    output::{Answer, Layout, facts, print_json, print_text, table},
};

const SCHEMA: &str = "proofline.lineage/v1";
const PAGE_ENTRIES: u32 = 500;
/// How far a blast radius goes: as far as any question.
const DEPTH_MAX: u32 = proofline_verifier::DEPTH_MAX;

/// How entries are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Text,
    Json,
    Ocsf,
    Csv,
}

pub(super) async fn run(arguments: LineageArguments, connection: &Connection, format: OutputFormat) -> Result<Answer> {
    let question = question::of_keys(&arguments.keys, &arguments.reach)?;
    let shown = match (arguments.format, format) {
        (Some(LineFormat::Ocsf), _) => Shown::Ocsf,
        (Some(LineFormat::Csv), _) => Shown::Csv,
        (None, OutputFormat::Json) => Shown::Json,
        (None, OutputFormat::Table) => Shown::Text,
    };
    if shown == Shown::Csv {
        print_text(&csv::heading())?;
    }
    let mut kept = KeptEntries::default();
    let summary = trace(question, arguments.reach.purpose, connection, |traced, origin| {
        kept.add(traced);
        traced.verified.found.iter().try_for_each(|one| show(one, &kept, origin, shown))?;
        if shown == Shown::Json { print_json(SCHEMA, &page_json(traced), Layout::Line) } else { Ok(()) }.map_err(Into::into)
    })
    .await?;
    ended(&summary, shown)
}

pub(super) async fn blast_radius(arguments: BlastRadiusArguments, connection: &Connection) -> Result<Answer> {
    reached_from(&arguments.keys(), DirectionName::Down, arguments.to, arguments.purpose, "proofline.blast-radius/v1", connection).await
}

/// Counts everything that keys lead to.
pub(super) async fn reached_from(
    keys: &KeyArguments,
    direction: DirectionName,
    to: Option<WindowEnd>,
    purpose: String,
    schema: &'static str,
    connection: &Connection,
) -> Result<Answer> {
    let reach = ReachArguments { direction, depth: DEPTH_MAX, kind: Vec::new(), from: None, to, purpose: String::new() };
    let mut reached = BTreeMap::<Dimension, BTreeSet<String>>::new();
    let summary = trace(question::of_keys(keys, &reach)?, purpose, connection, |traced, _| {
        for node in &traced.verified.nodes {
            reached.entry(node.key.dimension).or_default().insert(node.key.value.clone());
        }
        // Agents are not gone on to downwards: those that acted stand in the entries.
        let agents = traced.verified.found.iter().filter_map(|one| one.entry.event.as_ref()?.attribution.as_ref()?.agent.as_ref());
        reached.entry(Dimension::Agent).or_default().extend(agents.map(|agent| agent.agent_id.clone()).filter(|id| !id.is_empty()));
        Ok(())
    })
    .await?;
    reached.retain(|_, values| !values.is_empty());
    let rows = reached.iter().map(|(dimension, values)| {
        let some: Vec<_> = values.iter().take(12).cloned().collect();
        let more = if values.len() > some.len() { format!(", and {} more", values.len() - some.len()) } else { String::new() };
        [dimension_name(*dimension).to_owned(), values.len().to_string(), format!("{}{more}", some.join(", "))]
    });
    let text = format!("{}\n{}", table(["KIND", "DISTINCT", "WHICH"], rows), summary_text(&summary));
    let kinds: serde_json::Map<String, Value> =
        reached.iter().map(|(dimension, values)| (dimension_name(*dimension).to_owned(), json!(values))).collect();
    let json = json!({ "reached": kinds, "summary": summary_json(&summary) });
    Ok(Answer::new(schema, json, text).ending(exit_of(&summary.extent)))
}

/// Asks, and hands each page on once it is verified and its checkpoint is compared with the one that is held.
pub(super) async fn trace(
    question: v1::LineageQuestion,
    purpose: String,
    connection: &Connection,
    mut each: impl FnMut(&TracedPage, &str) -> Result<()>,
) -> Result<AnswerSummary> {
    let request =
        v1::TraceLineageRequest { question: Some(question), kind: v1::AccessKind::Lineage.into(), purpose, page_entries: PAGE_ENTRIES };
    let mut answer = connection.client.trace(connection.policy()?, request).await?;
    while let Some(traced) = answer.next().await? {
        if traced.verified.number == 0 {
            connection.compare_newest(&traced.page.checkpoint).await?;
        }
        each(&traced, &connection.profile.origin)?;
    }
    answer.finish().context("the ledger's answer has no page")
}

/// The exact bytes of the entries that a page may show: its own, and those that stood at the ends of the window.
#[derive(Default)]
struct KeptEntries {
    first: BTreeMap<u64, Bytes>,
    own: BTreeMap<u64, Bytes>,
}

impl KeptEntries {
    fn add(&mut self, of: &TracedPage) {
        self.own = of.page.entries.iter().map(|one| (one.index, one.entry.clone())).collect();
        if of.verified.number == 0 {
            self.first = of
                .verified
                .beside
                .iter()
                .filter_map(|one| self.own.get_key_value(&one.entry.index.0))
                .map(|(index, bytes)| (*index, bytes.clone()))
                .collect();
        }
    }

    fn bytes(&self, index: u64) -> Option<&Bytes> {
        self.own.get(&index).or_else(|| self.first.get(&index))
    }
}

fn show(one: &FoundEntry, kept: &KeptEntries, origin: &str, shown: Shown) -> Result<()> {
    let Some(bytes) = kept.bytes(one.entry.index.0) else { return Ok(()) };
    let described = Described::new(bytes)?;
    match shown {
        Shown::Text => print_text(&described.line())?,
        Shown::Json => print_json(crate::describe::ENTRY_SCHEMA, &described.json()?, Layout::Line)?,
        Shown::Csv => print_text(&csv::line(one, &described))?,
        Shown::Ocsf => ocsf::events(one, &described, origin).iter().try_for_each(|event| {
            let text = serde_json::to_string(event)?;
            print_text(&proofline_verifier::escape_json(&text))
        })?,
    }
    Ok(())
}

fn page_json(of: &TracedPage) -> Value {
    let key = |key: &EntryKey| json!({ "kind": dimension_name(key.dimension), "tenant_id": key.tenant_id, "value": key.value });
    let node = |it: &LineageNode| json!({ "key": key(&it.key), "distance": it.distance });
    let edge = |it: &LineageEdge| json!({ "from": key(&it.from), "to": key(&it.to), "by": it.by.to_string() });
    json!({
        "page": of.verified.number.to_string(),
        "nodes": of.verified.nodes.iter().map(node).collect::<Vec<_>>(),
        "edges": of.verified.edges.iter().map(edge).collect::<Vec<_>>(),
    })
}

/// Says how far the answer reaches: behind its lines, or beside them where they are for other programs.
fn ended(summary: &AnswerSummary, shown: Shown) -> Result<Answer> {
    let text = summary_text(summary);
    match shown {
        Shown::Text => print_text(&format!("\n{text}"))?,
        Shown::Json => print_json(SCHEMA, &json!({ "summary": summary_json(summary) }), Layout::Line)?,
        Shown::Ocsf | Shown::Csv => anstream::eprint!("{text}"),
    }
    Ok(Answer::new(SCHEMA, Value::Null, String::new()).ending(exit_of(&summary.extent)))
}

fn extent(of: &Extent) -> (&'static str, String) {
    match of {
        Extent::Complete => ("complete", "every entry of the window that the question leads to is here".to_owned()),
        Extent::CutShort { list: Some(key), from } => ("incomplete", format!("cut short at position {from} of the list of {key}")),
        Extent::CutShort { list: None, from } => ("incomplete", format!("cut short at entry {from}")),
    }
}

pub(super) fn summary_text(of: &AnswerSummary) -> String {
    let (completeness, why) = extent(&of.extent);
    let mut text = facts([
        ("entries", of.entries.to_string()),
        ("window", format!("{} to {}, the last excluded", of.question.from, of.question.to)),
        ("commitment", of.commitment.map_or_else(String::new, |(index, size)| format!("entry {index}, over {size} entries"))),
        ("completeness", format!("{completeness}: {why}")),
    ]);
    text.push_str(nothing_found(of));
    text
}

/// Nothing is an answer, and the answer to a misspelled question, too.
pub(super) fn nothing_found(of: &AnswerSummary) -> &'static str {
    if of.entries == 0 && of.extent == Extent::Complete && !of.question.starts.is_empty() {
        "it is proven that no entry of the window carries what was asked for. Is it spelled right, and of that tenant?\n"
    } else {
        ""
    }
}

pub(super) fn summary_json(of: &AnswerSummary) -> Value {
    let (completeness, why) = extent(&of.extent);
    json!({
        "entries": of.entries.to_string(),
        "pages": of.pages.to_string(),
        "from_index": of.question.from.to_string(),
        "to_index": of.question.to.to_string(),
        "commitment": of.commitment.map(|(index, size)| json!({ "index": index.to_string(), "size": size.to_string() })),
        "completeness": completeness,
        "detail": why,
    })
}

/// What is not shown to be all could not be decided.
pub(super) fn exit_of(extent: &Extent) -> Exit {
    match extent {
        Extent::Complete => Exit::Done,
        Extent::CutShort { .. } => Exit::Undecided,
    }
}
