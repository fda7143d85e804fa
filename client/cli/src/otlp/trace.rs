//! Spans, gathered into traces: a trace is whole when its root has come, which exporters send last.

use std::collections::BTreeMap;

use serde_json::Value;

use super::wire::{AnyValue, TraceRequest, WireError, WireSpan, id};

/// Names a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TraceId(pub(crate) [u8; 16]);

/// Names a span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SpanId(pub(crate) [u8; 8]);

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanKind {
    Client,
    Other,
}

/// How a span ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanStatus {
    Failed,
    Other,
}

/// One span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) kind: SpanKind,
    pub(crate) start_unix_ns: u64,
    pub(crate) end_unix_ns: u64,
    pub(crate) status: SpanStatus,
    pub(crate) schema_url: String,
    attributes: BTreeMap<String, AnyValue>,
}

impl Span {
    fn parse(wire: WireSpan, schema_url: &str) -> Result<Self, WireError> {
        let parent = match wire.parent_span_id.trim_matches('0') {
            "" => None,
            _ => Some(SpanId(id("parentSpanId", &wire.parent_span_id)?)),
        };
        Ok(Self {
            trace: TraceId(id("traceId", &wire.trace_id)?),
            id: SpanId(id("spanId", &wire.span_id)?),
            parent,
            kind: if is_one_of(&wire.kind, 3, "SPAN_KIND_CLIENT") { SpanKind::Client } else { SpanKind::Other },
            start_unix_ns: wire.start_time_unix_nano,
            end_unix_ns: wire.end_time_unix_nano.max(wire.start_time_unix_nano),
            status: if is_one_of(&wire.status.code, 2, "STATUS_CODE_ERROR") { SpanStatus::Failed } else { SpanStatus::Other },
            schema_url: schema_url.to_owned(),
            attributes: wire.attributes.into_iter().map(|it| (it.key, it.value)).collect(),
        })
    }

    /// Returns an attribute as text; empty is as good as missing.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.attributes.get(name)?.text().filter(|text| !text.is_empty())
    }

    /// Returns an attribute as text, empty when it is missing.
    pub(crate) fn text_or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    /// Returns an attribute as a list.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.attributes.get(name).map(AnyValue::texts).unwrap_or_default()
    }

    /// Returns an attribute as a number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Returns what the span says it does: `gen_ai.operation.name`.
    pub(crate) fn operation(&self) -> String {
        self.text_or_empty("gen_ai.operation.name")
    }
}

fn is_one_of(value: &Value, number: u64, name: &str) -> bool {
    value.as_u64() == Some(number) || value.as_str() == Some(name)
}

/// Spans of one trace that go into the log together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// Spans to map.
    pub(crate) spans: Vec<Span>,
    /// Spans that were mapped before, and still say who acts.
    pub(crate) known: Vec<Span>,
}

impl Trace {
    fn is_whole(&self) -> bool {
        self.spans.iter().any(|span| span.parent.is_none())
    }
}

/// The traces of a file, gathered.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    open: BTreeMap<TraceId, Trace>,
    whole: BTreeMap<TraceId, Vec<Span>>,
}

impl Traces {
    /// Takes the spans of one line and returns the traces that are whole now.
    pub(crate) fn push(&mut self, request: TraceRequest) -> Result<Vec<Trace>, WireError> {
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let mut touched = Vec::new();
        for scope in scopes {
            for wire in scope.spans {
                let span = Span::parse(wire, &scope.schema_url)?;
                touched.push(span.trace);
                self.open.entry(span.trace).or_default().spans.push(span);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        Ok(touched.into_iter().filter_map(|trace| self.take_whole(trace)).collect())
    }

    /// Returns what is left at the end: spans whose root never came, and those that came behind their root.
    pub(crate) fn finish(mut self) -> Vec<Trace> {
        let open = std::mem::take(&mut self.open);
        open.into_iter().map(|(id, trace)| Trace { known: self.whole.get(&id).cloned().unwrap_or_default(), ..trace }).collect()
    }

    fn take_whole(&mut self, id: TraceId) -> Option<Trace> {
        if !self.open.get(&id)?.is_whole() {
            return None;
        }
        let trace = self.open.remove(&id)?;
        // Late spans need to know only who acts, not what was done.
        let agents = trace.spans.iter().filter(|span| span.parent.is_none() || span.operation() == "invoke_agent");
        self.whole.insert(id, agents.cloned().collect());
        Some(trace)
    }
}
