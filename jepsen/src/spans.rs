//! The spans of an OTLP/JSON file, read without the importer's code.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What a span is, as far as it decides which events it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpanKind {
    /// A whole run: its start and its end.
    InvokeAgent,
    /// A model call.
    Chat,
    /// A tool call: the intent and the outcome.
    ExecuteTool,
}

impl SpanKind {
    /// Returns how many events such a span becomes.
    #[must_use]
    pub const fn events(self) -> usize {
        match self {
            Self::InvokeAgent | Self::ExecuteTool => 2,
            Self::Chat => 1,
        }
    }
}

/// Names a span: trace id and span id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// 16 bytes.
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    pub span_id: Vec<u8>,
}

/// Reads every span of a gzipped file of OTLP/JSON lines.
///
/// # Errors
/// When the file is missing, or a line is not what OTLP/JSON says.
pub fn read(path: &Path) -> Result<BTreeMap<Span, SpanKind>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
    let mut spans = BTreeMap::new();
    for line in text.lines() {
        let request: Value = serde_json::from_str(line)?;
        for span in list(&request, "resourceSpans").flat_map(|it| list(it, "scopeSpans")).flat_map(|it| list(it, "spans")) {
            let (name, kind) = parse(span)?;
            spans.insert(name, kind);
        }
    }
    Ok(spans)
}

fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn parse(span: &Value) -> Result<(Span, SpanKind)> {
    let id = |name: &str| Ok::<_, anyhow::Error>(hex::decode(span.get(name).and_then(Value::as_str).context("a span without an id")?)?);
    let operation = list(span, "attributes")
        .find(|it| it.get("key").and_then(Value::as_str) == Some("gen_ai.operation.name"))
        .and_then(|it| it.pointer("/value/stringValue"))
        .and_then(Value::as_str);
    let kind = match operation {
        Some("invoke_agent") => SpanKind::InvokeAgent,
        Some("chat") => SpanKind::Chat,
        Some("execute_tool") => SpanKind::ExecuteTool,
        other => anyhow::bail!("a span of an unknown operation: {other:?}"),
    };
    Ok((Span { trace_id: id("traceId")?, span_id: id("spanId")? }, kind))
}
