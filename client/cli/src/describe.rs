//! Entries in words: one line for people, the whole content for scripts.

use jiff::Timestamp;
use proofline_proto::v1::{self, command::Action, entry_core::Body, event};
use proofline_verifier::{EntryIndex, escape};
use prost::Message as _;
use serde_json::{Value, json};

use crate::form::{self, FormError};

/// Schema of one entry.
pub(crate) const ENTRY_SCHEMA: &str = "proofline.entry/v1";

/// An entry that was decoded.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) index: EntryIndex,
    core: v1::EntryCore,
    event: Option<v1::Event>,
    session_root: Vec<u8>,
}

impl Described {
    /// Decodes the exact bytes of an entry.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let entry = v1::Entry::decode(bytes)?;
        let core = v1::EntryCore::decode(entry.core)?;
        let event = match &core.body {
            Some(Body::Event(recorded)) => Some(v1::Event::decode(recorded.event.clone())?),
            _ => None,
        };
        Ok(Self { index: EntryIndex(core.index), core, event, session_root: entry.session_root })
    }

    pub(crate) fn session_id(&self) -> Option<&str> {
        self.core.session.as_ref().map(|session| session.session_id.as_str())
    }

    pub(crate) fn time(&self) -> String {
        time(self.core.committed_unix_ns)
    }

    /// Name of what the entry records.
    pub(crate) fn kind(&self) -> &'static str {
        match (&self.core.body, &self.event) {
            (_, Some(event)) => event.body.as_ref().map_or("empty event", event_kind),
            (Some(body), None) => body_kind(body),
            (None, None) => "empty",
        }
    }

    /// Session and position.
    pub(crate) fn place(&self) -> String {
        self.core.session.as_ref().map_or_else(String::new, |at| format!("{}#{}", at.session_id, at.position))
    }

    /// Verdict and findings of an event.
    pub(crate) fn decision(&self) -> String {
        let Some(decision) = &self.core.decision else { return String::new() };
        let mut text = verdict(decision.verdict()).to_owned();
        for finding in &decision.findings {
            text.push(' ');
            text.push_str(&finding.rule_id);
        }
        text
    }

    /// Who acted, for whom.
    pub(crate) fn actor(&self) -> String {
        let Some(by) = self.event.as_ref().and_then(|event| event.attribution.as_ref()) else { return String::new() };
        let agent = by.agent.as_ref().map_or("?", |agent| agent.agent_id.as_str());
        let initiator = by.initiator.as_ref().map_or("?", |initiator| initiator.subject.as_str());
        format!("{agent} for {initiator}")
    }

    /// What happened, in a few words.
    pub(crate) fn what(&self) -> String {
        match (&self.core.body, self.event.as_ref().and_then(|event| event.body.as_ref())) {
            (_, Some(body)) => event_detail(body),
            (Some(body), None) => body_detail(body),
            (None, None) => String::new(),
        }
    }

    /// The line that `tail` prints.
    pub(crate) fn line(&self) -> String {
        let parts = [self.time(), self.kind().to_owned(), self.place(), self.what(), self.actor(), self.decision()];
        let shown: Vec<_> = parts.iter().filter(|part| !part.is_empty()).map(|part| escape(part)).collect();
        format!("{:>8}  {}", self.index, shown.join("  "))
    }

    /// The row of a table.
    pub(crate) fn row(&self) -> [String; 6] {
        [self.index.to_string(), self.time(), self.kind().to_owned(), self.what(), self.actor(), self.decision()]
    }

    /// The whole content.
    pub(crate) fn json(&self) -> Result<Value, FormError> {
        Ok(json!({ "core": form::to_json("EntryCore", &self.core)?, "session_root": hex::encode(&self.session_root) }))
    }
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn time(unix_ns: u64) -> String {
    match Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => unix_ns.to_string(),
    }
}

/// A time that passed, for people: milliseconds up to ten seconds, then seconds.
pub(crate) fn delay(of_ns: u64) -> String {
    match of_ns / 1_000_000 {
        ms @ 0..10_000 => format!("{ms} ms"),
        ms => format!("{} s", ms / 1_000),
    }
}

pub(crate) fn verdict(of: v1::Verdict) -> &'static str {
    match of {
        v1::Verdict::Unspecified => "-",
        v1::Verdict::Allow => "ALLOW",
        v1::Verdict::Deny => "DENY",
        v1::Verdict::RequireApproval => "REQUIRE_APPROVAL",
        v1::Verdict::StepUp => "STEP_UP",
    }
}

fn body_kind(body: &Body) -> &'static str {
    match body {
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

fn body_detail(body: &Body) -> String {
    match body {
        Body::Event(_) => String::new(),
        Body::Genesis(genesis) => genesis.origin.clone(),
        Body::Command(command) => command_detail(command),
        Body::Rejection(it) => {
            format!("{} from {}", it.reason().as_str_name().trim_start_matches("REJECTION_REASON_"), lane(it.at.as_ref()))
        }
        Body::Equivocation(it) => it.second.as_ref().map_or_else(String::new, |it| format!("{} signed twice", it.collector_id)),
        Body::LaneOpened(it) => {
            it.request.as_ref().map_or_else(String::new, |of| format!("{}/{} epoch {}", of.collector_id, of.lane, it.epoch))
        }
        Body::LaneClosed(it) => lane(it.at.as_ref()),
        Body::Containment(it) => containment(it),
        Body::OutletDelivery(it) => delivery(it),
        Body::StateCommitment(it) => format!("of {} entries", it.size),
        Body::ErasureDeferred(it) => format!("hold {}: {}", it.hold_id, it.command.as_ref().map_or_else(String::new, command_detail)),
        Body::AccessRecorded(it) => format!("{} by {}", it.kind().as_str_name().trim_start_matches("ACCESS_KIND_"), it.reader),
    }
}

fn command_detail(of: &v1::SignedCommand) -> String {
    let command = v1::Command::decode(of.command.as_slice()).ok();
    command.and_then(|command| command.action).map_or_else(String::new, |action| action_detail(&action))
}

/// Says in one line what became of a message.
pub(crate) fn delivery(of: &v1::OutletDelivery) -> String {
    let status = if of.http_status == 0 { String::new() } else { format!(" status {}", of.http_status) };
    let error = if of.error.is_empty() { String::new() } else { format!(" {}", of.error) };
    let what = if of.containment_id == 0 { "verification".to_owned() } else { format!("containment {}", of.containment_id) };
    format!("{what} to {}: {}{status}{error}, attempt {}", of.outlet_id, delivery_result(of.result()), of.attempts)
}

pub(crate) fn delivery_result(of: v1::DeliveryResult) -> String {
    of.as_str_name().trim_start_matches("DELIVERY_RESULT_").to_owned()
}

/// Says in one line what changed.
pub(crate) fn containment(of: &v1::Containment) -> String {
    let change = of.change().as_str_name().trim_start_matches("CONTAINMENT_CHANGE_").to_ascii_lowercase();
    let targets: Vec<_> = of.targets.iter().map(target).collect();
    format!("containment {} {change}: {} {} ({})", of.containment_id, containment_action(of.action()), targets.join(", "), of.reason)
}

pub(crate) fn containment_action(of: v1::ContainmentAction) -> String {
    of.as_str_name().trim_start_matches("CONTAINMENT_ACTION_").to_owned()
}

pub(crate) fn target(of: &v1::Target) -> String {
    let kind = of.kind().as_str_name().trim_start_matches("TARGET_KIND_").to_ascii_lowercase().replace('_', " ");
    if of.id.is_empty() { format!("{kind} {}", of.tenant_id) } else { format!("{kind} {}/{}", of.tenant_id, of.id) }
}

fn lane(at: Option<&v1::BatchPosition>) -> String {
    at.map_or_else(String::new, |at| format!("{}/{} epoch {}", at.collector_id, at.lane, at.epoch))
}

/// Says in one line what an outlet is and where it leads: two persons sign for that.
fn outlet(of: &v1::Outlet) -> String {
    let what = match &of.kind {
        Some(v1::outlet::Kind::SharedSignals(it)) => {
            format!("stream to {} for {} with key {} as {}", it.endpoint, it.audience, it.key_id, it.issuer)
        }
        Some(v1::outlet::Kind::Webhook(it)) => format!("webhook to {} with key {}", it.endpoint, it.key_id),
        None => "nothing".to_owned(),
    };
    let escalates =
        if of.escalate_to.is_empty() { String::new() } else { format!(", after {} s to {}", of.escalate_after_s, of.escalate_to) };
    let only = if of.escalations_only { ", escalations only" } else { "" };
    format!("register outlet {} of {}: {what}{escalates}{only}", of.outlet_id, of.tenant_id)
}

pub(crate) fn incident_stage(of: v1::IncidentStage) -> String {
    of.as_str_name().trim_start_matches("INCIDENT_STAGE_").to_ascii_lowercase().replace('_', " ")
}

/// What a command does, in a few words.
pub(crate) fn action_detail(action: &Action) -> String {
    match action {
        Action::RegisterCollector(it) => format!("register collector {}", it.collector_id),
        Action::RevokeCollector(it) => format!("revoke collector {}: {}", it.collector_id, it.reason),
        Action::RegisterAgent(it) => format!("register agent {}", it.agent_id),
        Action::RevokeAgent(it) => format!("revoke agent {}: {}", it.agent_id, it.reason),
        Action::RegisterOperator(it) => format!("register operator {}", it.operator.as_ref().map_or("", |it| &it.operator_id)),
        Action::RevokeOperator(it) => format!("revoke operator {}: {}", it.operator_id, it.reason),
        Action::GrantRole(it) => format!("grant role to {}", it.grant.as_ref().map_or("", |it| &it.spiffe_id)),
        Action::RevokeRole(it) => format!("revoke role of {}", it.grant.as_ref().map_or("", |it| &it.spiffe_id)),
        Action::RegisterNode(it) => format!("register node {}", it.node.as_ref().map_or("", |it| &it.name)),
        Action::RetireNode(it) => format!("retire node {}: {}", it.node_id, it.reason),
        Action::SealSession(it) => format!("seal session {}: {}", it.session_id, it.reason),
        Action::Contain(it) => {
            let target = it.target.as_ref().map_or_else(String::new, target);
            format!("{} {target}: {}", containment_action(it.action()), it.reason)
        }
        Action::Release(it) => format!("release containment {}: {}", it.containment_id, it.reason),
        Action::RegisterOutlet(it) => it.outlet.as_ref().map_or_else(String::new, outlet),
        Action::RemoveOutlet(it) => format!("remove outlet {}: {}", it.outlet_id, it.reason),
        Action::ResumeOutlet(it) => format!("resume outlet {}: {}", it.outlet_id, it.reason),
        Action::VerifyOutlet(it) => format!("verify outlet {} with state {:?}: {}", it.outlet_id, it.state, it.reason),
        Action::ActivateRules(it) => format!("activate rules ({} bytes): {}", it.rules.len(), it.reason),
        Action::DeclarePurpose(it) => format!("declare purpose {}", it.purpose_id),
        Action::ResolveApproval(it) => {
            format!("{} what entry {} asks in session {}: {}", verdict(it.verdict()), it.intent_index, it.session_id, it.reason)
        }
        Action::WithdrawApproval(it) => {
            format!("take back the approval of what entry {} asks in session {}: {}", it.intent_index, it.session_id, it.reason)
        }
        Action::PinTool(it) => {
            let how = if it.beside_others { "accept" } else { "pin" };
            let tool = if it.server_id.is_empty() { it.tool_name.clone() } else { format!("{}/{}", it.server_id, it.tool_name) };
            format!("{how} definition {} of tool {tool}: {}", hex::encode(&it.definition_sha256), it.reason)
        }
        Action::ChangeAgentState(it) => {
            let state = it.state().as_str_name().trim_start_matches("AGENT_STATE_").to_ascii_lowercase();
            format!("agent {} becomes {state}: {}", it.agent_id, it.reason)
        }
        Action::OpenIncident(it) => format!("open incident {}: {}", it.incident_id, it.title),
        Action::AdvanceIncident(it) => format!("incident {} is {}", it.incident_id, incident_stage(it.stage())),
        Action::PlaceHold(it) => format!("hold {} for {}", it.target.as_ref().map_or_else(String::new, target), it.matter),
        Action::ReleaseHold(it) => format!("release hold {}: {}", it.hold_id, it.reason),
        Action::EraseSubject(it) => format!("erase subject {} {}: {}", it.issuer, it.subject, it.ground),
        Action::SetRetention(it) => format!("keep payloads of {} for {} days: {}", it.tenant_id, it.days, it.reason),
        Action::RegisterServer(it) => format!("register server {}{}", it.server_id, if it.approved { ", approved" } else { "" }),
    }
}

fn event_kind(body: &event::Body) -> &'static str {
    match body {
        event::Body::RunStarted(_) => "run started",
        event::Body::RunEnded(_) => "run ended",
        event::Body::IntentDeclared(_) => "intent declared",
        event::Body::ModelCall(_) => "model call",
        event::Body::ActionIntent(_) => "action intent",
        event::Body::ActionOutcome(_) => "action outcome",
        event::Body::DataAccess(_) => "data access",
        event::Body::McpConnected(_) => "MCP connected",
        event::Body::SubAgentSpawned(_) => "sub-agent spawned",
        event::Body::HandedOff(_) => "handed off",
        event::Body::CredentialIssued(_) => "credential issued",
        event::Body::CredentialUsed(_) => "credential used",
        event::Body::CredentialRevoked(_) => "credential revoked",
        event::Body::PolicyDecision(_) => "policy decision",
        event::Body::ApprovalRequested(_) => "approval requested",
        event::Body::ApprovalResolved(_) => "approval resolved",
        event::Body::StepUpCleared(_) => "step-up cleared",
        event::Body::MemoryAccess(_) => "memory access",
        event::Body::ToolDefined(_) => "tool defined",
        event::Body::AgentSeen(_) => "agent seen",
        event::Body::IdentityLinked(_) => "identity linked",
        event::Body::Heartbeat(_) => "heartbeat",
        event::Body::Annotation(_) => "annotation",
    }
}

fn event_detail(body: &event::Body) -> String {
    let resource = |of: &Option<v1::Resource>| of.as_ref().map_or_else(String::new, |it| it.uri.clone());
    let subject = |of: &Option<v1::Principal>| of.as_ref().map_or_else(String::new, |it| it.subject.clone());
    let credential = |of: &Option<v1::Credential>| of.as_ref().map_or_else(String::new, |it| it.credential_id.clone());
    match body {
        event::Body::RunStarted(it) => it.workflow.clone(),
        event::Body::RunEnded(it) => outcome(it.status(), &it.error_type),
        event::Body::IntentDeclared(it) => it.declared_purpose.clone(),
        event::Body::ModelCall(it) => format!("{} {}", it.request_model, outcome(it.status(), &it.error_type)),
        event::Body::ActionIntent(it) => it.tool.as_ref().map_or_else(String::new, |tool| tool.name.clone()),
        event::Body::ActionOutcome(it) => outcome(it.status(), &it.error_type),
        event::Body::DataAccess(it) => resource(&it.resource),
        event::Body::McpConnected(it) => it.name.clone(),
        event::Body::SubAgentSpawned(it) => it.child_agent_id.clone(),
        event::Body::HandedOff(it) => subject(&it.to),
        event::Body::CredentialIssued(it) => credential(&it.credential),
        event::Body::CredentialUsed(it) => credential(&it.credential),
        event::Body::CredentialRevoked(it) => it.credential_id.clone(),
        event::Body::PolicyDecision(it) => format!("{} {}", it.policy_id, verdict(it.verdict())),
        event::Body::ApprovalRequested(it) => subject(&it.requester),
        event::Body::ApprovalResolved(it) => format!("{} {}", subject(&it.approver), verdict(it.verdict())),
        event::Body::StepUpCleared(it) => it.acr.clone(),
        event::Body::MemoryAccess(it) => it.store_id.clone(),
        event::Body::ToolDefined(it) => it.name.clone(),
        event::Body::AgentSeen(it) => it.description.clone(),
        event::Body::IdentityLinked(it) => subject(&it.linked),
        event::Body::Heartbeat(it) => format!("{} events, {} dropped", it.events_since_last, it.dropped_since_last),
        event::Body::Annotation(it) => it.key.clone(),
    }
}

fn outcome(status: v1::OutcomeStatus, error: &str) -> String {
    let status = status.as_str_name().trim_start_matches("OUTCOME_STATUS_").to_ascii_lowercase();
    if error.is_empty() { status } else { format!("{status}: {error}") }
}
