//! Who acts in a span: each agent run is a session of its own, below the session that it was called from.

use std::collections::BTreeMap;

use proofline_proto::v1;

use super::{
    mapping::{Moment, Source, event_id},
    trace::{Span, SpanId, SpanKind, Trace, TraceId},
};

/// A session as far as a trace shows it.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) session: v1::SessionRef,
    pub(super) attribution: v1::Attribution,
}

/// The sessions of one trace.
#[derive(Debug)]
pub(super) struct Scopes<'a> {
    source: &'a Source,
    spans: BTreeMap<SpanId, &'a Span>,
    root: Scope,
    nested: BTreeMap<SpanId, Scope>,
}

impl<'a> Scopes<'a> {
    pub(super) fn of(trace: &'a Trace, source: &'a Source) -> Option<Self> {
        let mut spans: Vec<&Span> = trace.known.iter().chain(&trace.spans).collect();
        spans.sort_by_key(|span| (span.parent.is_some(), span.start_unix_ns, span.id));
        let first = spans.first()?.trace;
        // The root says who acts; where it does not, because it is no agent's span, the outermost agent's span does.
        let speakers: Vec<&Span> =
            spans.iter().copied().filter(|span| span.parent.is_none() || span.operation() == "invoke_agent").collect();
        let root = root_scope(first, &speakers, &spans, source);
        let by_id = spans.iter().map(|span| (span.id, *span)).collect();
        let mut scopes = Self { source, spans: by_id, root, nested: BTreeMap::new() };
        for span in spans.into_iter().filter(|span| span.operation() == "invoke_agent") {
            scopes.open(span);
        }
        Some(scopes)
    }

    /// Returns the session that a span's own events belong to.
    pub(super) fn inside(&self, span: &Span) -> &Scope {
        self.nested.get(&span.id).unwrap_or_else(|| self.around(span))
    }

    /// Returns the session that a span was called from.
    pub(super) fn around(&self, span: &Span) -> &Scope {
        let mut parent = span.parent;
        // A cycle of parents would be walked for ever.
        for _ in 0..self.spans.len() {
            let Some(id) = parent else { break };
            if let Some(scope) = self.nested.get(&id) {
                return scope;
            }
            parent = self.spans.get(&id).and_then(|span| span.parent);
        }
        &self.root
    }

    /// Tells whether a span begins the session of another agent.
    pub(super) fn opens(&self, span: &Span) -> bool {
        self.nested.contains_key(&span.id)
    }

    fn open(&mut self, span: &Span) {
        let around = self.around(span);
        let caller = around.attribution.agent.as_ref().map_or("", |agent| agent.agent_id.as_str());
        let is_other = span.text("gen_ai.agent.id").is_some_and(|agent| agent != caller);
        // A remote agent reports its own spans; this one shows only that it was called.
        if !is_other || span.parent.is_none() || span.kind == SpanKind::Client {
            return;
        }
        let parent = &around.session.session_id;
        let conversation = span.text("gen_ai.conversation.id").filter(|id| id != parent);
        let session = v1::SessionRef {
            session_id: conversation.unwrap_or_else(|| format!("{parent}/{}", hex::encode(span.id.0))),
            parent_session_id: parent.clone(),
            parent_event_id: event_id(span, Moment::Spawned),
            task_id: String::new(),
            aliases: vec![alias(v1::AliasKind::OtelTrace, hex::encode(span.trace.0))],
        };
        let initiator = around.attribution.initiator.clone();
        let scope = Scope { session, attribution: attribution(initiator, self.source.agent(&[span])) };
        self.nested.insert(span.id, scope);
    }
}

fn root_scope(trace: TraceId, speakers: &[&Span], spans: &[&Span], source: &Source) -> Scope {
    let conversation = speakers.iter().chain(spans).find_map(|span| span.text("gen_ai.conversation.id"));
    let trace = hex::encode(trace.0);
    let mut aliases = vec![alias(v1::AliasKind::OtelTrace, trace.clone())];
    aliases.extend(conversation.iter().map(|id| alias(v1::AliasKind::GenaiConversation, id.clone())));
    let session = v1::SessionRef { session_id: conversation.unwrap_or(trace), aliases, ..Default::default() };
    let user = speakers.iter().find_map(|span| span.text("enduser.id"));
    Scope { session, attribution: attribution(user.map(|user| source.human(&user)), source.agent(speakers)) }
}

fn attribution(initiator: Option<v1::Principal>, agent: Option<v1::Agent>) -> v1::Attribution {
    let is_whole = initiator.is_some() && agent.is_some();
    let unattributed = if is_whole { v1::UnattributedReason::Unspecified } else { v1::UnattributedReason::NoIdentityInSource };
    v1::Attribution { initiator, agent, unattributed: unattributed.into(), ..Default::default() }
}

fn alias(kind: v1::AliasKind, value: String) -> v1::Alias {
    v1::Alias { kind: kind.into(), value }
}
