//! From spans to events, by the GenAI conventions of OpenTelemetry.

use proofline_client::SourceKey;
use proofline_ledger::limits::EVENT_LIST_MAX;
use proofline_proto::v1::{self, event::Body};

use super::{
    content::Pseudonyms,
    scope::{Scope, Scopes},
    tools::{Reading, ToolMap},
    trace::{Span, SpanKind, SpanStatus, Trace},
};

/// What stands for the whole file: whose spans they are, and how they were seen.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tenant_id: String,
    pub(crate) issuer: String,
    pub(crate) vantage: v1::Vantage,
    pub(crate) pseudonyms: Pseudonyms,
    /// What the tools do.
    pub(crate) tools: ToolMap,
}

/// Which part of a span an event tells. One span gives at most one event of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    Spawned,
    Started,
    Intended,
    Happened,
    Ended,
    RunEnded,
}

impl Moment {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Spawned => b"spawned",
            Self::Started => b"started",
            Self::Intended => b"intended",
            Self::Happened => b"happened",
            Self::Ended => b"ended",
            Self::RunEnded => b"run-ended",
        }
    }
}

/// Content that belongs to an event and stays outside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

/// An event, where it came from, and its content.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    pub(crate) source: SourceKey,
    pub(crate) event: v1::Event,
    pub(crate) content: Vec<Content>,
}

/// What a trace became.
#[derive(Debug, Default)]
pub(crate) struct MappedTrace {
    /// In the order of time.
    pub(crate) events: Vec<Mapped>,
    /// Spans that follow no convention that is known here.
    pub(crate) unmapped: usize,
}

impl Source {
    /// Maps a trace.
    pub(crate) fn map(&self, trace: &Trace) -> MappedTrace {
        let Some(scopes) = Scopes::of(trace, self) else { return MappedTrace::default() };
        let mut parts = Vec::new();
        let mut unmapped = 0;
        let mut reading = Reading::new(&self.tools, &self.issuer, &self.pseudonyms);
        // What a call means may depend on what an earlier one showed.
        let mut spans: Vec<&Span> = trace.spans.iter().collect();
        spans.sort_by_key(|span| (span.start_unix_ns, span.id));
        for span in spans {
            let of_span = parts_of(span, &scopes, &mut reading);
            unmapped += usize::from(of_span.is_empty());
            parts.extend(of_span);
        }
        parts.sort_by_key(|part| (part.time(), part.moment, part.span.id));
        MappedTrace { events: parts.into_iter().map(|part| self.event(part)).collect(), unmapped }
    }

    pub(super) fn human(&self, user: &str) -> v1::Principal {
        v1::Principal {
            kind: v1::PrincipalKind::Human.into(),
            issuer: self.issuer.clone(),
            subject: self.pseudonyms.subject(&self.issuer, user),
            display_ref: String::new(),
        }
    }

    /// Takes the agent from the first span that names it; nobody's without an id.
    pub(super) fn agent(&self, speakers: &[&Span]) -> Option<v1::Agent> {
        let first = |name: &str| speakers.iter().find_map(|span| span.text(name));
        Some(v1::Agent {
            agent_id: first("gen_ai.agent.id")?,
            name: first("gen_ai.agent.name").unwrap_or_default(),
            version: first("gen_ai.agent.version").unwrap_or_default(),
            model_provider: first("gen_ai.provider.name").unwrap_or_default(),
            model_name: first("gen_ai.request.model").unwrap_or_default(),
            ..Default::default()
        })
    }

    fn event(&self, part: Part<'_>) -> Mapped {
        let span = part.span;
        let event = v1::Event {
            event_id: event_id(span, part.moment),
            tenant_id: self.tenant_id.clone(),
            observed_unix_ns: part.time(),
            vantage: self.vantage.into(),
            session: Some(part.scope.session.clone()),
            attribution: Some(part.scope.attribution.clone()),
            correlation: Some(v1::Correlation {
                trace_id: span.trace.0.to_vec(),
                span_id: span.id.0.to_vec(),
                parent_span_id: span.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
                semconv_version: span.schema_url.rsplit('/').next().unwrap_or_default().to_owned(),
                protocol: "otlp".to_owned(),
                ..Default::default()
            }),
            payloads: Vec::new(),
            body: Some(part.body),
        };
        let source = SourceKey::of("otel", &[&span.trace.0, &span.id.0, part.moment.name()]);
        Mapped { source, event, content: part.content }
    }
}

/// One event in the making.
struct Part<'a> {
    span: &'a Span,
    scope: &'a Scope,
    moment: Moment,
    body: Body,
    content: Vec<Content>,
}

impl<'a> Part<'a> {
    fn new(span: &'a Span, scope: &'a Scope, moment: Moment, body: Body) -> Self {
        Self { span, scope, moment, body, content: Vec::new() }
    }

    fn with(mut self, attributes: &[&'static str]) -> Self {
        let content = attributes.iter().filter_map(|&name| Some(Content { name, text: self.span.text(name)? }));
        self.content.extend(content);
        self
    }

    fn time(&self) -> u64 {
        match self.moment {
            Moment::Spawned | Moment::Started | Moment::Intended => self.span.start_unix_ns,
            Moment::Happened | Moment::Ended | Moment::RunEnded => self.span.end_unix_ns,
        }
    }
}

/// A UUIDv7 that depends only on the span and the moment: the same span always gives the same event.
pub(super) fn event_id(span: &Span, moment: Moment) -> Vec<u8> {
    let unix_ns = if moment <= Moment::Intended { span.start_unix_ns } else { span.end_unix_ns };
    let mut hasher = blake3::Hasher::new_derive_key("proofline/v1 event id of a span");
    hasher.update(&span.trace.0).update(&span.id.0).update(moment.name());
    let mut random = [0; 10];
    hasher.finalize_xof().fill(&mut random);
    uuid::Builder::from_unix_timestamp_millis(unix_ns / 1_000_000, &random).into_uuid().as_bytes().to_vec()
}

fn parts_of<'a>(span: &'a Span, scopes: &'a Scopes<'a>, reading: &mut Reading<'_>) -> Vec<Part<'a>> {
    match span.operation().as_str() {
        "invoke_agent" | "invoke_workflow" => run(span, scopes),
        "chat" | "generate_content" | "text_completion" | "embeddings" => vec![model_call(span, scopes.inside(span))],
        "execute_tool" => tool_call(span, scopes.inside(span), reading),
        "plan" => vec![plan(span, scopes.inside(span))],
        "create_agent" => vec![create_agent(span, scopes.inside(span))],
        "retrieval" => vec![retrieval(span, scopes.inside(span))],
        operation => memory_verb(operation).map(|verb| memory(span, scopes.inside(span), verb)).into_iter().collect(),
    }
}

fn run<'a>(span: &'a Span, scopes: &'a Scopes<'a>) -> Vec<Part<'a>> {
    let is_called = scopes.opens(span) || (span.kind == SpanKind::Client && span.parent.is_some());
    let mut parts = Vec::new();
    if is_called {
        let child = scopes.inside(span);
        let child_session_id = if scopes.opens(span) { child.session.session_id.clone() } else { String::new() };
        let spawned = v1::SubAgentSpawned {
            child_session_id,
            child_agent_id: span.text("gen_ai.agent.id").or_else(|| span.text("gen_ai.agent.name")).unwrap_or_default(),
            ..Default::default()
        };
        parts.push(Part::new(span, scopes.around(span), Moment::Spawned, Body::SubAgentSpawned(spawned)));
    }
    if is_called && !scopes.opens(span) {
        return parts;
    }
    let scope = scopes.inside(span);
    let started = v1::RunStarted { workflow: span.text_or_empty("gen_ai.workflow.name"), operation: span.operation() };
    let ended = v1::RunEnded { status: status(span).into(), error_type: error_type(span), duration_ms: duration_ms(span) };
    parts.push(Part::new(span, scope, Moment::Started, Body::RunStarted(started)).with(&["gen_ai.input.messages"]));
    parts.push(Part::new(span, scope, Moment::RunEnded, Body::RunEnded(ended)).with(&["gen_ai.output.messages"]));
    parts
}

fn model_call<'a>(span: &'a Span, scope: &'a Scope) -> Part<'a> {
    let call = v1::ModelCall {
        provider: span.text_or_empty("gen_ai.provider.name"),
        request_model: span.text_or_empty("gen_ai.request.model"),
        response_model: span.text_or_empty("gen_ai.response.model"),
        response_id: span.text_or_empty("gen_ai.response.id"),
        // A span may list what it likes; the ledger would refuse the whole event.
        finish_reasons: span.texts("gen_ai.response.finish_reasons").into_iter().take(EVENT_LIST_MAX).collect(),
        input_tokens: span.number("gen_ai.usage.input_tokens"),
        output_tokens: span.number("gen_ai.usage.output_tokens"),
        status: status(span).into(),
        error_type: error_type(span),
        duration_ms: duration_ms(span),
        operation: span.operation(),
    };
    Part::new(span, scope, Moment::Happened, Body::ModelCall(call)).with(&[
        "gen_ai.system_instructions",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
    ])
}

fn tool_call<'a>(span: &'a Span, scope: &'a Scope, reading: &mut Reading<'_>) -> Vec<Part<'a>> {
    let tool = v1::Tool {
        server_id: span.text_or_empty("mcp.server.name"),
        name: span.text_or_empty("gen_ai.tool.name"),
        call_id: span.text_or_empty("gen_ai.tool.call.id"),
        r#type: span.text_or_empty("gen_ai.tool.type"),
        ..Default::default()
    };
    let mut intent = v1::ActionIntent { verb: v1::ActionVerb::ToolCall.into(), tool: Some(tool), ..Default::default() };
    let mut outcome = v1::ActionOutcome {
        intent_event_id: event_id(span, Moment::Intended),
        status: status(span).into(),
        error_type: error_type(span),
        duration_ms: duration_ms(span),
        ..Default::default()
    };
    if let Some(told) = reading.read(span, status(span)) {
        told.intend(&mut intent);
        told.happen(&mut outcome);
    }
    vec![
        Part::new(span, scope, Moment::Intended, Body::ActionIntent(intent)).with(&["gen_ai.tool.call.arguments"]),
        Part::new(span, scope, Moment::Ended, Body::ActionOutcome(outcome)).with(&["gen_ai.tool.call.result"]),
    ]
}

fn plan<'a>(span: &'a Span, scope: &'a Scope) -> Part<'a> {
    Part::new(span, scope, Moment::Happened, Body::IntentDeclared(v1::IntentDeclared::default())).with(&["gen_ai.output.messages"])
}

fn create_agent<'a>(span: &'a Span, scope: &'a Scope) -> Part<'a> {
    let seen = v1::AgentSeen { description: span.text_or_empty("gen_ai.agent.description") };
    Part::new(span, scope, Moment::Happened, Body::AgentSeen(seen))
}

fn retrieval<'a>(span: &'a Span, scope: &'a Scope) -> Part<'a> {
    let resource = v1::Resource { uri: span.text_or_empty("gen_ai.data_source.id"), ..Default::default() };
    let access = v1::DataAccess {
        resource: Some(resource),
        verb: v1::ActionVerb::ResourceRead.into(),
        status: status(span).into(),
        ..Default::default()
    };
    Part::new(span, scope, Moment::Happened, Body::DataAccess(access)).with(&["gen_ai.retrieval.query.text", "gen_ai.retrieval.documents"])
}

fn memory_verb(operation: &str) -> Option<v1::MemoryVerb> {
    match operation {
        "search_memory" => Some(v1::MemoryVerb::Search),
        "create_memory" => Some(v1::MemoryVerb::Create),
        "update_memory" => Some(v1::MemoryVerb::Update),
        "upsert_memory" => Some(v1::MemoryVerb::Upsert),
        "delete_memory" => Some(v1::MemoryVerb::Delete),
        _ => None,
    }
}

fn memory<'a>(span: &'a Span, scope: &'a Scope, verb: v1::MemoryVerb) -> Part<'a> {
    let access = v1::MemoryAccess {
        store_id: span.text_or_empty("gen_ai.memory.store.id"),
        record_id: span.text_or_empty("gen_ai.memory.record.id"),
        verb: verb.into(),
        records: span.number("gen_ai.memory.record.count"),
    };
    Part::new(span, scope, Moment::Happened, Body::MemoryAccess(access))
}

fn status(span: &Span) -> v1::OutcomeStatus {
    match (span.status, span.text("error.type").as_deref()) {
        (_, Some("timeout")) => v1::OutcomeStatus::TimedOut,
        (_, Some("cancelled" | "canceled")) => v1::OutcomeStatus::Cancelled,
        (SpanStatus::Failed, _) | (SpanStatus::Other, Some(_)) => v1::OutcomeStatus::Failed,
        (SpanStatus::Other, None) => v1::OutcomeStatus::Succeeded,
    }
}

fn error_type(span: &Span) -> String {
    span.text_or_empty("error.type")
}

fn duration_ms(span: &Span) -> u64 {
    (span.end_unix_ns - span.start_unix_ns) / 1_000_000
}
