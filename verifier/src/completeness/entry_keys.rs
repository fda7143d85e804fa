//! Which keys an entry carries, and where an event leads: docs/FORMATS.md, sections 17.3 and 17.5.

use std::collections::BTreeSet;

use proofline_proto::v1::{self, Dimension, TargetKind, command::Action, event::Body as EventBody};
use prost::Message as _;
use v1::entry_core::Body;

use super::key::EntryKey;
use crate::entry::LogEntry;

/// The keys of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryKeys {
    /// Every key that the entry carries, each once.
    pub carried: BTreeSet<EntryKey>,
    /// The session that an event itself names.
    pub own_session: Option<EntryKey>,
    /// Where an event leads from its own session upwards.
    pub up: BTreeSet<EntryKey>,
    /// Where an event leads from its own session downwards.
    pub down: BTreeSet<EntryKey>,
}

impl EntryKeys {
    /// Reads the keys of an entry.
    #[must_use]
    pub fn of(entry: &LogEntry) -> Self {
        let mut keys = Gathered::default();
        if let Some(place) = &entry.session {
            keys.add(Dimension::Session, &place.tenant_id, &place.session_id);
        }
        match (&entry.body, &entry.event) {
            (Body::Event(recorded), Some(event)) => {
                keys.collector(recorded.at.as_ref().map(|at| &at.collector_id));
                keys.event(event, entry.decision.as_ref());
            }
            (Body::Rejection(of), _) => keys.collector(of.at.as_ref().map(|at| &at.collector_id)),
            (Body::LaneClosed(of), _) => keys.collector(of.at.as_ref().map(|at| &at.collector_id)),
            (Body::LaneOpened(of), _) => keys.collector(of.request.as_ref().map(|it| &it.collector_id)),
            (Body::Equivocation(of), _) => keys.collector(of.second.as_ref().map(|it| &it.collector_id)),
            (Body::Containment(of), _) => of.targets.iter().for_each(|target| keys.target(target)),
            (Body::Command(of), _) => {
                if let Some(action) = v1::Command::decode(&of.command[..]).ok().and_then(|it| it.action) {
                    keys.command(&action);
                }
            }
            (
                Body::Event(_)
                | Body::Genesis(_)
                | Body::OutletDelivery(_)
                | Body::StateCommitment(_)
                | Body::AccessRecorded(_)
                | Body::ErasureDeferred(_),
                _,
            ) => {}
        }
        keys.0
    }
}

/// Keys as they are found. Empty values give none.
#[derive(Default)]
struct Gathered(EntryKeys);

impl Gathered {
    fn add(&mut self, dimension: Dimension, tenant_id: &str, value: &str) -> Option<EntryKey> {
        let key = key(dimension, tenant_id, value)?;
        self.0.carried.insert(key.clone());
        Some(key)
    }

    fn collector(&mut self, id: Option<&String>) {
        self.add(Dimension::Collector, "", id.map_or("", String::as_str));
    }

    fn target(&mut self, of: &v1::Target) {
        let (dimension, id) = match of.kind() {
            TargetKind::Session => (Dimension::Session, of.id.as_str()),
            TargetKind::Agent => (Dimension::Agent, of.id.as_str()),
            TargetKind::AgentInstance => (Dimension::Agent, of.id.split('/').next().unwrap_or_default()),
            TargetKind::Credential => (Dimension::Credential, of.id.as_str()),
            TargetKind::Server => (Dimension::Server, of.id.as_str()),
            TargetKind::Tenant | TargetKind::Unspecified => return,
        };
        self.add(dimension, &of.tenant_id, id);
    }

    fn command(&mut self, of: &Action) {
        match of {
            Action::RegisterCollector(it) => self.collector(Some(&it.collector_id)),
            Action::RevokeCollector(it) => self.collector(Some(&it.collector_id)),
            Action::RegisterAgent(it) => drop(self.add(Dimension::Agent, &it.tenant_id, &it.agent_id)),
            Action::RevokeAgent(it) => drop(self.add(Dimension::Agent, &it.tenant_id, &it.agent_id)),
            Action::ChangeAgentState(it) => drop(self.add(Dimension::Agent, &it.tenant_id, &it.agent_id)),
            Action::RegisterServer(it) => drop(self.add(Dimension::Server, &it.tenant_id, &it.server_id)),
            Action::ResolveApproval(it) => drop(self.add(Dimension::Session, &it.tenant_id, &it.session_id)),
            Action::WithdrawApproval(it) => drop(self.add(Dimension::Session, &it.tenant_id, &it.session_id)),
            Action::PinTool(it) => self.tool(&it.tenant_id, &it.server_id, &it.tool_name),
            Action::Contain(it) => it.target.iter().for_each(|target| self.target(target)),
            Action::PlaceHold(it) => it.target.iter().for_each(|target| self.target(target)),
            Action::RegisterOperator(_)
            | Action::RevokeOperator(_)
            | Action::GrantRole(_)
            | Action::RevokeRole(_)
            | Action::RegisterNode(_)
            | Action::RetireNode(_)
            | Action::SealSession(_)
            | Action::Release(_)
            | Action::RegisterOutlet(_)
            | Action::RemoveOutlet(_)
            | Action::ResumeOutlet(_)
            | Action::VerifyOutlet(_)
            | Action::ActivateRules(_)
            | Action::DeclarePurpose(_)
            | Action::OpenIncident(_)
            | Action::AdvanceIncident(_)
            | Action::ReleaseHold(_)
            | Action::EraseSubject(_)
            | Action::SetRetention(_) => {}
        }
    }

    fn event(&mut self, of: &v1::Event, decision: Option<&v1::Decision>) {
        let tenant = of.tenant_id.as_str();
        if let Some(session) = &of.session {
            self.0.own_session = self.add(Dimension::Session, tenant, &session.session_id);
            self.add(Dimension::ParentSession, tenant, &session.parent_session_id);
            // The parent is a node to go on to, though the event does not carry it as its session.
            self.0.up.extend(key(Dimension::Session, tenant, &session.parent_session_id));
        }
        if let Some(attribution) = &of.attribution {
            self.attribution(tenant, attribution);
        }
        for finding in decision.into_iter().flat_map(|it| &it.findings) {
            self.add(Dimension::Rule, tenant, &finding.rule_id);
        }
        if let Some(body) = &of.body {
            self.body(tenant, body);
        }
        let is_touched =
            |it: &&EntryKey| matches!(it.dimension, Dimension::Tool | Dimension::Server | Dimension::Resource | Dimension::System);
        let touched: Vec<_> = self.0.carried.iter().filter(is_touched).cloned().collect();
        self.0.down.extend(touched);
    }

    fn attribution(&mut self, tenant: &str, of: &v1::Attribution) {
        let agent = of.agent.as_ref().map_or("", |agent| &agent.agent_id);
        let credential = of.credential.as_ref().map_or("", |credential| &credential.credential_id);
        let above = [self.add(Dimension::Agent, tenant, agent), self.add(Dimension::Credential, tenant, credential)];
        self.0.up.extend(above.into_iter().flatten());
        let hops = of.delegation.iter().flat_map(|hop| [hop.from.as_ref(), hop.to.as_ref()]);
        for principal in hops.chain([of.initiator.as_ref()]) {
            let found = self.principal(tenant, principal);
            self.0.up.extend(found);
        }
    }

    fn principal(&mut self, tenant: &str, of: Option<&v1::Principal>) -> Option<EntryKey> {
        let principal = of.filter(|it| !it.subject.is_empty())?;
        let value = match principal.issuer.as_str() {
            "" => principal.subject.clone(),
            issuer => format!("{issuer} {}", principal.subject),
        };
        self.add(Dimension::Principal, tenant, &value)
    }

    fn resource(&mut self, tenant: &str, of: &v1::Resource) {
        self.add(Dimension::Resource, tenant, &of.uri);
        self.add(Dimension::System, tenant, &of.system);
    }

    fn tool(&mut self, tenant: &str, server_id: &str, name: &str) {
        if !name.is_empty() {
            self.add(Dimension::Tool, tenant, &joined(server_id, name));
        }
        self.add(Dimension::Server, tenant, server_id);
    }

    /// Adds a credential, and the way down to it.
    fn given_credential(&mut self, tenant: &str, of: Option<&v1::Credential>) {
        let found = self.add(Dimension::Credential, tenant, of.map_or("", |it| &it.credential_id));
        self.0.down.extend(found);
    }

    fn body(&mut self, tenant: &str, of: &EventBody) {
        match of {
            EventBody::ActionIntent(it) => {
                it.tool.iter().for_each(|tool| self.tool(tenant, &tool.server_id, &tool.name));
                it.resources.iter().for_each(|resource| self.resource(tenant, resource));
            }
            EventBody::ActionOutcome(it) => {
                it.accesses.iter().filter_map(|access| access.resource.as_ref()).for_each(|resource| self.resource(tenant, resource));
            }
            EventBody::DataAccess(it) => it.resource.iter().for_each(|resource| self.resource(tenant, resource)),
            EventBody::McpConnected(it) => drop(self.add(Dimension::Server, tenant, &it.server_id)),
            EventBody::ToolDefined(it) => self.tool(tenant, &it.server_id, &it.name),
            EventBody::SubAgentSpawned(it) => {
                self.add(Dimension::Agent, tenant, &it.child_agent_id);
                let child = self.add(Dimension::Session, tenant, &it.child_session_id);
                self.0.down.extend(child);
                self.given_credential(tenant, it.child_credential.as_ref());
            }
            EventBody::HandedOff(it) => {
                self.principal(tenant, it.to.as_ref());
                let to = self.add(Dimension::Session, tenant, &it.to_session_id);
                self.0.down.extend(to);
            }
            EventBody::CredentialIssued(it) => self.given_credential(tenant, it.credential.as_ref()),
            EventBody::CredentialUsed(it) => {
                self.add(Dimension::Credential, tenant, it.credential.as_ref().map_or("", |of| &of.credential_id));
                it.target.iter().for_each(|target| self.resource(tenant, target));
            }
            EventBody::CredentialRevoked(it) => drop(self.add(Dimension::Credential, tenant, &it.credential_id)),
            EventBody::ApprovalRequested(it) => drop(self.principal(tenant, it.requester.as_ref())),
            EventBody::ApprovalResolved(it) => drop(self.principal(tenant, it.approver.as_ref())),
            EventBody::IdentityLinked(it) => {
                self.principal(tenant, it.principal.as_ref());
                self.principal(tenant, it.linked.as_ref());
            }
            EventBody::MemoryAccess(it) => {
                if !it.record_id.is_empty() {
                    self.add(Dimension::Resource, tenant, &format!("memory:{}", joined(&it.store_id, &it.record_id)));
                }
                self.add(Dimension::System, tenant, &it.store_id);
            }
            EventBody::RunStarted(_)
            | EventBody::RunEnded(_)
            | EventBody::IntentDeclared(_)
            | EventBody::ModelCall(_)
            | EventBody::PolicyDecision(_)
            | EventBody::StepUpCleared(_)
            | EventBody::AgentSeen(_)
            | EventBody::Heartbeat(_)
            | EventBody::Annotation(_) => {}
        }
    }
}

fn key(dimension: Dimension, tenant_id: &str, value: &str) -> Option<EntryKey> {
    (!value.is_empty()).then(|| EntryKey { dimension, tenant_id: tenant_id.to_owned(), value: value.to_owned() })
}

fn joined(before: &str, name: &str) -> String {
    if before.is_empty() { name.to_owned() } else { format!("{before}/{name}") }
}
