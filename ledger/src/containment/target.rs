//! What can be contained, by its names in events and in commands.

use std::collections::BTreeSet;

use proofline_proto::v1;
use v1::{ContainmentAction, TargetKind};

use crate::event::is_identifier;
use crate::key;
use crate::limits::REASON_BYTES_MAX;
use crate::refusal::Refusal;

/// Returns what an event shows of whom it was done as, and which a session may share with others.
pub(crate) fn shown(event: &v1::Event, agent: &str) -> Vec<(TargetKind, String)> {
    use v1::event::Body;
    let attribution = event.attribution.as_ref();
    let named = match &event.body {
        Some(Body::CredentialUsed(it)) => it.credential.as_ref(),
        Some(Body::CredentialIssued(it)) => it.credential.as_ref(),
        Some(Body::SubAgentSpawned(it)) => it.child_credential.as_ref(),
        _ => None,
    };
    let credentials = attribution.and_then(|it| it.credential.as_ref()).into_iter().chain(named);
    let credentials = credentials.map(|it| &it.credential_id).filter(|id| !id.is_empty());
    let instance = attribution.and_then(|it| it.agent.as_ref()).map_or("", |agent| &agent.instance_id);
    let instance = Some(instance).filter(|instance| !instance.is_empty() && !agent.is_empty());
    let shown: BTreeSet<_> = credentials
        .map(|id| (TargetKind::Credential, id.clone()))
        .chain(instance.map(|instance| (TargetKind::AgentInstance, format!("{agent}/{instance}"))))
        .collect();
    shown.into_iter().collect()
}

pub(super) fn servers(event: &v1::Event) -> impl Iterator<Item = (TargetKind, &str)> {
    server(event).map(|id| (TargetKind::Server, id)).into_iter()
}

/// Returns the MCP server that an event is about.
pub(crate) fn server(event: &v1::Event) -> Option<&str> {
    use v1::event::Body;
    let server = match &event.body {
        Some(Body::ActionIntent(it)) => it.tool.as_ref().map(|tool| tool.server_id.as_str()),
        Some(Body::McpConnected(it)) => Some(it.server_id.as_str()),
        Some(Body::ToolDefined(it)) => Some(it.server_id.as_str()),
        _ => None,
    };
    server.filter(|id| !id.is_empty())
}

pub(super) fn target(kind: TargetKind, tenant: &str, id: &str) -> v1::Target {
    v1::Target { kind: kind.into(), tenant_id: tenant.to_owned(), id: id.to_owned() }
}

pub(super) fn target_key(of: &v1::Target) -> Vec<u8> {
    let mut key = of.kind.to_be_bytes().to_vec();
    key.extend(key::scoped(&of.tenant_id, &of.id));
    key
}

pub(super) fn is_short(reason: &str, incident: &str) -> bool {
    reason.len() <= REASON_BYTES_MAX && (incident.is_empty() || is_identifier(incident))
}

/// Checks that a command names a target that its action can stop.
pub(super) fn check(it: &v1::Contain) -> Result<&v1::Target, Refusal> {
    let target = it.target.as_ref().ok_or(Refusal::Malformed("the containment names no target"))?;
    if it.reason.is_empty() || !is_short(&it.reason, &it.incident_id) {
        return Err(Refusal::Malformed("a containment gives no reason, or a reason or an incident that is too long"));
    }
    let fits = match it.action() {
        ContainmentAction::SuspendSession | ContainmentAction::RevokeSession => target.kind() == TargetKind::Session,
        ContainmentAction::RevokeCredential => target.kind() == TargetKind::Credential,
        ContainmentAction::QuarantineAgent => matches!(target.kind(), TargetKind::Agent | TargetKind::AgentInstance),
        ContainmentAction::BlockServer => target.kind() == TargetKind::Server,
        ContainmentAction::HaltAgents => target.kind() == TargetKind::Tenant,
        ContainmentAction::Unspecified => false,
    };
    if !fits {
        return Err(Refusal::Malformed("the action of the containment does not fit its target"));
    }
    if names_something(target) { Ok(target) } else { Err(Refusal::Malformed("the containment names no target")) }
}

/// Tells whether an event can show what a target names: with another name it would stop, or hold, nothing.
pub(crate) fn names_something(target: &v1::Target) -> bool {
    let is_id = match target.kind() {
        TargetKind::Unspecified => false,
        TargetKind::Tenant => return target.id.is_empty() && is_identifier(&target.tenant_id),
        TargetKind::AgentInstance => {
            target.id.split_once('/').is_some_and(|(agent, instance)| is_identifier(agent) && is_identifier(instance))
        }
        TargetKind::Session | TargetKind::Credential | TargetKind::Agent | TargetKind::Server => is_identifier(&target.id),
    };
    is_id && target.tenant_id != "*" && is_identifier(&target.tenant_id)
}
