//! What verified evidence says, as names and values for display.

use proofline_proto::v1;
use v1::entry_core::Body;
use v1::event::Body as EventBody;

use crate::entry::LogEntry;
use crate::report::{Fact, NotProven};
use crate::rfc3339;
use crate::trust::VerifiedCheckpoint;

fn fact(name: &'static str, value: impl ToString) -> Fact {
    Fact { name, value: value.to_string() }
}

/// Describes a checkpoint.
pub(super) fn of_checkpoint(of: &VerifiedCheckpoint) -> Vec<Fact> {
    let cosigners: Vec<_> = of.cosigners.iter().map(|it| format!("{} at {}", it.name, rfc3339::of_seconds(it.unix_s))).collect();
    vec![
        fact("origin", &of.origin),
        fact("tree size", of.size),
        fact("root", of.root),
        fact("cosigned by", if cosigners.is_empty() { "nobody".to_owned() } else { cosigners.join(", ") }),
    ]
}

/// Describes one entry.
pub(super) fn of_entry(of: &LogEntry) -> Vec<Fact> {
    let mut facts = vec![
        fact("index", of.index),
        fact("committed", rfc3339::of_nanoseconds(of.committed_unix_ns)),
        fact("entry", entry_kind(&of.body)),
    ];
    if let Some(place) = &of.session {
        facts.push(fact("tenant", &place.tenant_id));
        facts.push(fact("session", &place.session_id));
        facts.push(fact("position", place.position));
    }
    if let Some(event) = &of.event {
        facts.extend(of_event(event));
    }
    if let Some(decision) = &of.decision {
        facts.push(fact("verdict", verdict(decision)));
        facts.extend(decision.findings.iter().map(|finding| fact("finding", &finding.rule_id)));
    }
    facts
}

fn of_event(of: &v1::Event) -> Vec<Fact> {
    let attribution = of.attribution.as_ref();
    let initiator = attribution.and_then(|it| it.initiator.as_ref()).map(|it| fact("initiator", format!("{} {}", it.issuer, it.subject)));
    let agent = attribution.and_then(|it| it.agent.as_ref()).map(|it| fact("agent", &it.agent_id));
    let kind = of.body.as_ref().map(|body| fact("event", event_kind(body)));
    [kind, initiator, agent].into_iter().flatten().collect()
}

/// Describes a whole session.
pub(super) fn of_session(members: &[LogEntry]) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(place) = members.first().and_then(|member| member.session.as_ref()) {
        facts.push(fact("tenant", &place.tenant_id));
        facts.push(fact("session", &place.session_id));
    }
    facts.push(fact("entries", members.len()));
    for (name, member) in [("first entry", members.first()), ("last entry", members.last())] {
        let value = member.map(|it| format!("{} at {}", it.index, rfc3339::of_nanoseconds(it.committed_unix_ns)));
        facts.extend(value.map(|value| fact(name, value)));
    }
    let mut verdicts = std::collections::BTreeMap::<String, u64>::new();
    for decision in members.iter().filter_map(|member| member.decision.as_ref()) {
        *verdicts.entry(verdict(decision)).or_default() += 1;
    }
    let verdicts: Vec<_> = verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    facts.push(fact("verdicts", verdicts.join(", ")));
    facts
}

/// Lists what one entry in the log does not show.
pub(super) fn not_shown_by(entry: &LogEntry) -> Vec<NotProven> {
    match entry.body {
        Body::Event(_) => vec![NotProven::CollectorSignature, NotProven::EventsTrue, NotProven::DecisionsRight, NotProven::UnsentEvents],
        Body::Command(_) | Body::ErasureDeferred(_) => vec![NotProven::OperatorSignature],
        Body::Containment(_) => vec![NotProven::DecisionsRight],
        Body::OutletDelivery(_) | Body::AccessRecorded(_) => vec![NotProven::NodeSignature],
        Body::Genesis(_)
        | Body::Rejection(_)
        | Body::Equivocation(_)
        | Body::LaneOpened(_)
        | Body::LaneClosed(_)
        | Body::StateCommitment(_) => Vec::new(),
    }
}

pub(crate) fn verdict(of: &v1::Decision) -> String {
    let name = v1::Verdict::try_from(of.verdict).map(|verdict| verdict.as_str_name().trim_start_matches("VERDICT_").to_owned());
    name.unwrap_or_else(|_| format!("verdict {}", of.verdict))
}

pub(crate) fn entry_kind(of: &Body) -> &'static str {
    match of {
        Body::Event(_) => "event",
        Body::Genesis(_) => "genesis",
        Body::Command(_) => "command",
        Body::Rejection(_) => "rejection",
        Body::Equivocation(_) => "equivocation",
        Body::LaneOpened(_) => "lane opened",
        Body::LaneClosed(_) => "lane closed",
        Body::Containment(_) => "containment",
        Body::OutletDelivery(_) => "outlet delivery",
        Body::StateCommitment(_) => "state commitment",
        Body::AccessRecorded(_) => "access recorded",
        Body::ErasureDeferred(_) => "erasure deferred",
    }
}

pub(crate) fn event_kind(of: &EventBody) -> &'static str {
    match of {
        EventBody::RunStarted(_) => "run started",
        EventBody::RunEnded(_) => "run ended",
        EventBody::IntentDeclared(_) => "intent declared",
        EventBody::ModelCall(_) => "model call",
        EventBody::ActionIntent(_) => "action intent",
        EventBody::ActionOutcome(_) => "action outcome",
        EventBody::DataAccess(_) => "data access",
        EventBody::McpConnected(_) => "MCP connected",
        EventBody::SubAgentSpawned(_) => "sub-agent spawned",
        EventBody::HandedOff(_) => "handed off",
        EventBody::CredentialIssued(_) => "credential issued",
        EventBody::CredentialUsed(_) => "credential used",
        EventBody::CredentialRevoked(_) => "credential revoked",
        EventBody::PolicyDecision(_) => "policy decision",
        EventBody::ApprovalRequested(_) => "approval requested",
        EventBody::ApprovalResolved(_) => "approval resolved",
        EventBody::StepUpCleared(_) => "step-up cleared",
        EventBody::MemoryAccess(_) => "memory access",
        EventBody::ToolDefined(_) => "tool defined",
        EventBody::AgentSeen(_) => "agent seen",
        EventBody::IdentityLinked(_) => "identity linked",
        EventBody::Heartbeat(_) => "heartbeat",
        EventBody::Annotation(_) => "annotation",
    }
}
