//! What an event did, in one shape for every kind of event.

use proofline_proto::v1;
use v1::event::Body;
use v1::{ActionVerb, OutcomeStatus};

/// What rules can know of an event from the event alone; of an outcome, also what its intent said.
#[derive(Debug, Default)]
pub(crate) struct Act<'a> {
    pub(crate) action: &'static str,
    /// It is something that an agent is about to do.
    pub(crate) is_intent: bool,
    pub(crate) verb: ActionVerb,
    pub(crate) tool: Option<&'a v1::Tool>,
    pub(crate) server: &'a str,
    pub(crate) resources: Vec<&'a v1::Resource>,
    /// Of what has happened; unspecified for what is only wanted or reported.
    pub(crate) status: OutcomeStatus,
    pub(crate) error_type: &'a str,
    pub(crate) records: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_out: u64,
    pub(crate) amount: u64,
    pub(crate) tokens: u64,
    pub(crate) egress: bool,
    /// The agent gave its answer: what comes next is another turn.
    pub(crate) ends_turn: bool,
}

/// Every action that a rule can name, and whether it is an intent.
pub(crate) const ACTIONS: [(&str, Intent); 34] = [
    ("tool_call", Intent::Yes),
    ("resource_read", Intent::Yes),
    ("resource_write", Intent::Yes),
    ("resource_delete", Intent::Yes),
    ("model_request", Intent::Yes),
    ("code_execution", Intent::Yes),
    ("network_egress", Intent::Yes),
    ("message_send", Intent::Yes),
    ("payment", Intent::Yes),
    ("config_change", Intent::Yes),
    ("spawn", Intent::Yes),
    ("credential_request", Intent::Yes),
    ("run_started", Intent::No),
    ("run_ended", Intent::No),
    ("intent_declared", Intent::No),
    ("model_call", Intent::No),
    ("action_outcome", Intent::No),
    ("data_access", Intent::No),
    ("mcp_connected", Intent::No),
    ("sub_agent_spawned", Intent::No),
    ("handed_off", Intent::No),
    ("credential_issued", Intent::No),
    ("credential_used", Intent::No),
    ("credential_revoked", Intent::No),
    ("policy_decision", Intent::No),
    ("approval_requested", Intent::No),
    ("approval_resolved", Intent::No),
    ("step_up_cleared", Intent::No),
    ("memory_access", Intent::No),
    ("tool_defined", Intent::No),
    ("agent_seen", Intent::No),
    ("identity_linked", Intent::No),
    ("heartbeat", Intent::No),
    ("annotation", Intent::No),
];

/// Whether an action is something that an agent is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Yes,
    No,
}

impl<'a> Act<'a> {
    /// Reads an event; `intent` is what is known of the intent of an outcome.
    pub(crate) fn of(event: &'a v1::Event, intent: Option<&'a v1::ActionIntent>) -> Self {
        match &event.body {
            Some(Body::ActionIntent(it)) => Self::intended(it),
            Some(Body::ActionOutcome(it)) => Self::happened(it, intent),
            Some(Body::DataAccess(it)) => Self::accessed(it),
            Some(Body::ModelCall(it)) => Self::called_model(it),
            Some(Body::RunEnded(it)) => {
                Self { status: it.status(), error_type: &it.error_type, ends_turn: true, ..Self::named("run_ended") }
            }
            Some(Body::McpConnected(it)) => Self { server: &it.server_id, ..Self::named("mcp_connected") },
            Some(Body::ToolDefined(it)) => Self { server: &it.server_id, ..Self::named("tool_defined") },
            Some(Body::CredentialUsed(it)) => {
                Self { resources: it.target.iter().filter(|it| !it.uri.is_empty()).collect(), ..Self::named("credential_used") }
            }
            Some(Body::MemoryAccess(it)) => Self { records: it.records, ..Self::named("memory_access") },
            Some(Body::IntentDeclared(_)) => Self::named("intent_declared"),
            Some(Body::RunStarted(_)) => Self { ends_turn: true, ..Self::named("run_started") },
            other => Self::named(bare_name(other.as_ref())),
        }
    }

    fn named(action: &'static str) -> Self {
        Self { action, ..Self::default() }
    }

    fn intended(it: &'a v1::ActionIntent) -> Self {
        Self {
            action: verb_name(it.verb()),
            is_intent: true,
            verb: it.verb(),
            tool: it.tool.as_ref(),
            server: it.tool.as_ref().map_or("", |tool| &tool.server_id),
            resources: it.resources.iter().collect(),
            records: it.requested_records,
            amount: it.amount_minor,
            egress: sends_out(it),
            ..Self::default()
        }
    }

    fn happened(it: &'a v1::ActionOutcome, intent: Option<&'a v1::ActionIntent>) -> Self {
        let accessed = it.accesses.iter().filter_map(|access| access.resource.as_ref());
        let resources = intent.into_iter().flat_map(|intent| &intent.resources).chain(accessed).collect();
        let tool = intent.and_then(|intent| intent.tool.as_ref());
        Self {
            action: "action_outcome",
            verb: intent.map(v1::ActionIntent::verb).unwrap_or_default(),
            tool,
            server: tool.map_or("", |tool| &tool.server_id),
            resources,
            status: it.status(),
            error_type: &it.error_type,
            records: it.records.max(it.accesses.iter().fold(0, |sum, access| sum.saturating_add(access.records))),
            bytes_read: it.bytes_in,
            bytes_out: it.bytes_out,
            amount: it.amount_minor,
            egress: intent.is_some_and(sends_out),
            ..Self::default()
        }
    }

    fn accessed(it: &'a v1::DataAccess) -> Self {
        Self {
            verb: it.verb(),
            resources: it.resource.iter().collect(),
            status: it.status(),
            records: it.records,
            bytes_read: it.size_bytes,
            ..Self::named("data_access")
        }
    }

    fn called_model(it: &'a v1::ModelCall) -> Self {
        let is_answer = |reason: &String| matches!(reason.as_str(), "stop" | "end_turn");
        Self {
            status: it.status(),
            error_type: &it.error_type,
            tokens: it.input_tokens.saturating_add(it.output_tokens),
            ends_turn: it.finish_reasons.iter().any(is_answer),
            ..Self::named("model_call")
        }
    }

    /// Whether what the event tells of changes something.
    pub(crate) fn writes(&self) -> bool {
        is_write(self.verb) || matches!(self.tier(), v1::RiskTier::Write | v1::RiskTier::Destructive | v1::RiskTier::Provision)
    }

    pub(crate) fn tier(&self) -> v1::RiskTier {
        self.tool.map(v1::Tool::tier).unwrap_or_default()
    }

    /// Whether data came to the agent by it.
    pub(crate) fn has_read(&self) -> bool {
        let succeeded = matches!(self.status, OutcomeStatus::Succeeded | OutcomeStatus::Unspecified);
        matches!(self.action, "action_outcome" | "data_access") && succeeded && !self.writes()
    }

    /// Whether it happened, changed something and came to a good end.
    pub(crate) fn has_written(&self) -> bool {
        self.action == "action_outcome" && self.status == OutcomeStatus::Succeeded && self.writes()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.action == "action_outcome" && matches!(self.status, OutcomeStatus::Failed | OutcomeStatus::Denied | OutcomeStatus::TimedOut)
    }

    /// Whether an untrusted source was read: one that is tagged so, or whatever a tool reaches that says it is open to the world.
    pub(crate) fn has_read_untrusted(&self) -> bool {
        let is_open = self.tool.and_then(|tool| tool.declared_hints.as_ref()).is_some_and(|hints| hints.open_world);
        (self.has_read() || self.has_written()) && (is_open || self.resources.iter().any(|it| it.tags.iter().any(|tag| tag == "untrusted")))
    }

    pub(crate) fn tool_name(&self) -> &'a str {
        self.tool.map_or("", |tool| &tool.name)
    }
}

fn is_write(verb: ActionVerb) -> bool {
    use ActionVerb::{ConfigChange, MessageSend, Payment, ResourceDelete, ResourceWrite};
    matches!(verb, ResourceWrite | ResourceDelete | Payment | MessageSend | ConfigChange)
}

/// A message goes to the outside unless it is said to stay inside.
fn sends_out(it: &v1::ActionIntent) -> bool {
    match it.verb() {
        ActionVerb::NetworkEgress => true,
        ActionVerb::MessageSend => it.egress() != v1::Egress::Internal,
        _ => it.egress() == v1::Egress::External,
    }
}

fn verb_name(verb: ActionVerb) -> &'static str {
    match verb {
        // A verb that nobody names is a call of a tool: what an agent does, it does with tools.
        ActionVerb::Unspecified | ActionVerb::ToolCall => "tool_call",
        ActionVerb::ResourceRead => "resource_read",
        ActionVerb::ResourceWrite => "resource_write",
        ActionVerb::ResourceDelete => "resource_delete",
        ActionVerb::ModelCall => "model_request",
        ActionVerb::CodeExecution => "code_execution",
        ActionVerb::NetworkEgress => "network_egress",
        ActionVerb::MessageSend => "message_send",
        ActionVerb::Payment => "payment",
        ActionVerb::ConfigChange => "config_change",
        ActionVerb::Spawn => "spawn",
        ActionVerb::CredentialRequest => "credential_request",
    }
}

/// Names the bodies of which nothing but the name is read here.
fn bare_name(body: Option<&Body>) -> &'static str {
    match body {
        Some(Body::SubAgentSpawned(_)) => "sub_agent_spawned",
        Some(Body::HandedOff(_)) => "handed_off",
        Some(Body::CredentialIssued(_)) => "credential_issued",
        Some(Body::CredentialRevoked(_)) => "credential_revoked",
        Some(Body::PolicyDecision(_)) => "policy_decision",
        Some(Body::ApprovalRequested(_)) => "approval_requested",
        Some(Body::ApprovalResolved(_)) => "approval_resolved",
        Some(Body::StepUpCleared(_)) => "step_up_cleared",
        Some(Body::AgentSeen(_)) => "agent_seen",
        Some(Body::IdentityLinked(_)) => "identity_linked",
        Some(Body::Heartbeat(_)) => "heartbeat",
        Some(_) | None => "annotation",
    }
}

pub(crate) fn vantage_name(vantage: v1::Vantage) -> &'static str {
    match vantage {
        v1::Vantage::Unspecified => "",
        v1::Vantage::SelfReported => "self_reported",
        v1::Vantage::GatewayObserved => "gateway_observed",
        v1::Vantage::TargetObserved => "target_observed",
        v1::Vantage::IdpObserved => "idp_observed",
    }
}

pub(crate) fn status_name(status: OutcomeStatus) -> &'static str {
    match status {
        OutcomeStatus::Unspecified => "",
        OutcomeStatus::Succeeded => "succeeded",
        OutcomeStatus::Failed => "failed",
        OutcomeStatus::Denied => "denied",
        OutcomeStatus::Cancelled => "cancelled",
        OutcomeStatus::TimedOut => "timed_out",
        OutcomeStatus::Unknown => "unknown",
    }
}

pub(crate) fn environment_name(environment: v1::Environment) -> &'static str {
    match environment {
        v1::Environment::Unspecified => "",
        v1::Environment::Development => "development",
        v1::Environment::Test => "test",
        v1::Environment::Staging => "staging",
        v1::Environment::Production => "production",
    }
}

pub(crate) fn credential_kind_name(kind: v1::CredentialKind) -> &'static str {
    use v1::CredentialKind as Kind;
    match kind {
        Kind::Unspecified => "",
        Kind::WorkloadSvidX509 => "workload_svid_x509",
        Kind::WorkloadSvidJwt => "workload_svid_jwt",
        Kind::OauthAccess => "oauth_access",
        Kind::OauthDelegated => "oauth_delegated",
        Kind::HumanDelegated => "human_delegated",
        Kind::ApiKey => "api_key",
        Kind::CloudSts => "cloud_sts",
        Kind::None => "none",
    }
}

pub(crate) fn agent_state_name(state: v1::AgentState) -> &'static str {
    match state {
        v1::AgentState::Unspecified | v1::AgentState::Unregistered => "unregistered",
        v1::AgentState::Registered => "registered",
        v1::AgentState::Approved => "approved",
        v1::AgentState::Production => "production",
        v1::AgentState::Suspended => "suspended",
        v1::AgentState::Decommissioned => "decommissioned",
    }
}
