//! Which keys an entry carries, and whereto an event leads: docs/FORMATS.md, sections 17.3 and 17.5.

use proofline_proto::v1;
use prost::Message as _;
use prost::bytes::Bytes;
use v1::command::Action;
use v1::entry_core::Body;
use v1::event::Body as EventBody;
use v1::{Dimension, LineageDirection, TargetKind};

use crate::hash::{self, Hash};

/// What entries are found by. Sorted by dimension, tenant and value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) dimension: Dimension,
    pub(crate) tenant: String,
    pub(crate) value: String,
}

/// The value of a key as an entry spells it: pieces that follow one another, because no memory is taken to find it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Value<'a>([&'a str; 4]);

impl Value<'_> {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|piece| piece.is_empty())
    }

    pub(crate) fn pieces(&self) -> &[&str] {
        &self.0
    }

    pub(crate) fn text(&self) -> String {
        self.0.concat()
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(whole: &'a str) -> Self {
        Self([whole, "", "", ""])
    }
}

impl Key {
    pub(crate) fn of(message: &v1::Key) -> Self {
        Self { dimension: message.dimension(), tenant: message.tenant_id.clone(), value: message.value.clone() }
    }

    pub(crate) fn message(&self) -> v1::Key {
        v1::Key { dimension: self.dimension.into(), tenant_id: self.tenant.clone(), value: self.value.clone() }
    }

    pub(crate) fn hash(&self) -> Hash {
        hash::map_key(self.dimension, &self.tenant, &self.value)
    }
}

/// An entry, parsed as far as keys need it.
pub(crate) struct Carrier {
    pub(crate) core: v1::EntryCore,
    pub(crate) event: Option<v1::Event>,
}

impl Carrier {
    /// Parses the exact bytes of an entry; `None` when they are none.
    pub(crate) fn parse(entry: Bytes) -> Option<Self> {
        let core = v1::EntryCore::decode(v1::Entry::decode(entry).ok()?.core).ok()?;
        let event = match &core.body {
            Some(Body::Event(recorded)) => Some(v1::Event::decode(recorded.event.clone()).ok()?),
            _ => None,
        };
        Some(Self { core, event })
    }
}

/// Calls `each` with dimension, tenant and value of every key of an entry; one may come more than once.
pub(crate) fn carried_by(core: &v1::EntryCore, event: Option<&v1::Event>, mut each: impl FnMut(Dimension, &str, Value<'_>)) {
    let mut found = |dimension, tenant: &str, value: Value<'_>| {
        if !value.is_empty() {
            each(dimension, tenant, value);
        }
    };
    if let Some(session) = &core.session {
        found(Dimension::Session, &session.tenant_id, session.session_id.as_str().into());
    }
    match (event, &core.body) {
        (Some(event), body) => {
            event_keys(event, |dimension, value| found(dimension, &event.tenant_id, value));
            if let Some(Body::Event(recorded)) = body {
                found(Dimension::Collector, "", collector(recorded.at.as_ref()));
            }
            for finding in core.decision.iter().flat_map(|decision| &decision.findings) {
                found(Dimension::Rule, &event.tenant_id, finding.rule_id.as_str().into());
            }
        }
        (None, Some(body)) => other_keys(body, found),
        (None, None) => (),
    }
}

fn collector(at: Option<&v1::BatchPosition>) -> Value<'_> {
    at.map_or("", |at| &at.collector_id).into()
}

/// Keys of an entry that is no event.
fn other_keys(body: &Body, mut found: impl FnMut(Dimension, &str, Value<'_>)) {
    match body {
        Body::Rejection(it) => found(Dimension::Collector, "", collector(it.at.as_ref())),
        Body::LaneClosed(it) => found(Dimension::Collector, "", collector(it.at.as_ref())),
        Body::LaneOpened(it) => {
            let request = it.request.as_ref().map_or("", |request| &request.collector_id);
            found(Dimension::Collector, "", request.into());
        }
        Body::Equivocation(it) => {
            let second = it.second.as_ref().map_or("", |second| &second.collector_id);
            found(Dimension::Collector, "", second.into());
        }
        Body::Containment(it) => it.targets.iter().for_each(|target| named(target, &mut found)),
        Body::Command(signed) => {
            if let Some(action) = v1::Command::decode(&signed.command[..]).ok().and_then(|command| command.action) {
                command_keys(&action, found);
            }
        }
        Body::Event(_)
        | Body::Genesis(_)
        | Body::OutletDelivery(_)
        | Body::StateCommitment(_)
        | Body::AccessRecorded(_)
        | Body::ErasureDeferred(_) => (),
    }
}

fn command_keys(action: &Action, mut found: impl FnMut(Dimension, &str, Value<'_>)) {
    let mut one = |dimension, tenant: &str, value: &str| found(dimension, tenant, value.into());
    match action {
        Action::RegisterCollector(it) => one(Dimension::Collector, "", &it.collector_id),
        Action::RevokeCollector(it) => one(Dimension::Collector, "", &it.collector_id),
        Action::RegisterAgent(it) => one(Dimension::Agent, &it.tenant_id, &it.agent_id),
        Action::RevokeAgent(it) => one(Dimension::Agent, &it.tenant_id, &it.agent_id),
        Action::ChangeAgentState(it) => one(Dimension::Agent, &it.tenant_id, &it.agent_id),
        Action::RegisterServer(it) => one(Dimension::Server, &it.tenant_id, &it.server_id),
        Action::ResolveApproval(it) => one(Dimension::Session, &it.tenant_id, &it.session_id),
        Action::WithdrawApproval(it) => one(Dimension::Session, &it.tenant_id, &it.session_id),
        Action::PinTool(it) => tool_keys(&it.server_id, &it.tool_name, &mut |dimension, value| found(dimension, &it.tenant_id, value)),
        Action::Contain(it) => it.target.iter().for_each(|target| named(target, &mut found)),
        Action::PlaceHold(it) => it.target.iter().for_each(|target| named(target, &mut found)),
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
        | Action::SetRetention(_) => (),
    }
}

fn named(target: &v1::Target, found: &mut impl FnMut(Dimension, &str, Value<'_>)) {
    let (dimension, value) = match target.kind() {
        TargetKind::Session => (Dimension::Session, target.id.as_str()),
        TargetKind::Agent => (Dimension::Agent, target.id.as_str()),
        TargetKind::AgentInstance => (Dimension::Agent, target.id.split('/').next().unwrap_or_default()),
        TargetKind::Credential => (Dimension::Credential, target.id.as_str()),
        TargetKind::Server => (Dimension::Server, target.id.as_str()),
        TargetKind::Tenant | TargetKind::Unspecified => return,
    };
    found(dimension, &target.tenant_id, value.into());
}

/// Keys of an event, its collector and the rules apart. Empty values may come, too.
fn event_keys(event: &v1::Event, mut found: impl FnMut(Dimension, Value<'_>)) {
    found(Dimension::Session, own_session(event).into());
    found(Dimension::ParentSession, parent_session(event).into());
    if let Some(attribution) = &event.attribution {
        found(Dimension::Agent, agent(attribution).into());
        attribution_principals(attribution).for_each(|it| found(Dimension::Principal, principal(it)));
        found(Dimension::Credential, credential(attribution.credential.as_ref()).into());
    }
    touched(event, &mut found);
    given(event, &mut found);
    match &event.body {
        Some(EventBody::SubAgentSpawned(it)) => found(Dimension::Agent, it.child_agent_id.as_str().into()),
        Some(EventBody::HandedOff(it)) => it.to.iter().for_each(|it| found(Dimension::Principal, principal(it))),
        Some(EventBody::ApprovalRequested(it)) => it.requester.iter().for_each(|it| found(Dimension::Principal, principal(it))),
        Some(EventBody::ApprovalResolved(it)) => it.approver.iter().for_each(|it| found(Dimension::Principal, principal(it))),
        Some(EventBody::IdentityLinked(it)) => {
            it.principal.iter().chain(&it.linked).for_each(|it| found(Dimension::Principal, principal(it)));
        }
        Some(EventBody::McpConnected(it)) => found(Dimension::Server, it.server_id.as_str().into()),
        Some(EventBody::CredentialUsed(it)) => found(Dimension::Credential, credential(it.credential.as_ref()).into()),
        Some(EventBody::CredentialRevoked(it)) => found(Dimension::Credential, it.credential_id.as_str().into()),
        _ => (),
    }
}

/// Tools, servers, resources and systems of an event, but for the server of McpConnected.
fn touched(event: &v1::Event, found: &mut impl FnMut(Dimension, Value<'_>)) {
    match &event.body {
        Some(EventBody::ActionIntent(it)) => {
            it.tool.iter().for_each(|tool| tool_keys(&tool.server_id, &tool.name, found));
            it.resources.iter().for_each(|it| resource(it, found));
        }
        Some(EventBody::ToolDefined(it)) => tool_keys(&it.server_id, &it.name, found),
        Some(EventBody::ActionOutcome(it)) => it.accesses.iter().flat_map(|it| &it.resource).for_each(|it| resource(it, found)),
        Some(EventBody::DataAccess(it)) => it.resource.iter().for_each(|it| resource(it, found)),
        Some(EventBody::CredentialUsed(it)) => it.target.iter().for_each(|it| resource(it, found)),
        Some(EventBody::MemoryAccess(it)) => {
            if !it.record_id.is_empty() {
                let Value([store, slash, record, _]) = joined(&it.store_id, &it.record_id);
                found(Dimension::Resource, Value(["memory:", store, slash, record]));
            }
            found(Dimension::System, it.store_id.as_str().into());
        }
        _ => (),
    }
}

/// Credentials and sessions that an event brought into being or passed on to.
fn given(event: &v1::Event, found: &mut impl FnMut(Dimension, Value<'_>)) {
    match &event.body {
        Some(EventBody::CredentialIssued(it)) => found(Dimension::Credential, credential(it.credential.as_ref()).into()),
        Some(EventBody::SubAgentSpawned(it)) => {
            found(Dimension::Credential, credential(it.child_credential.as_ref()).into());
            found(Dimension::Session, it.child_session_id.as_str().into());
        }
        Some(EventBody::HandedOff(it)) => found(Dimension::Session, it.to_session_id.as_str().into()),
        _ => (),
    }
}

fn tool_keys(server: &str, name: &str, found: &mut impl FnMut(Dimension, Value<'_>)) {
    if !name.is_empty() {
        found(Dimension::Tool, joined(server, name));
    }
    found(Dimension::Server, server.into());
}

fn resource(of: &v1::Resource, found: &mut impl FnMut(Dimension, Value<'_>)) {
    found(Dimension::Resource, of.uri.as_str().into());
    found(Dimension::System, of.system.as_str().into());
}

/// Two texts with a slash between them, or the second alone.
fn joined<'a>(first: &'a str, second: &'a str) -> Value<'a> {
    if first.is_empty() { second.into() } else { Value([first, "/", second, ""]) }
}

fn own_session(event: &v1::Event) -> &str {
    event.session.as_ref().map_or("", |session| &session.session_id)
}

fn parent_session(event: &v1::Event) -> &str {
    event.session.as_ref().map_or("", |session| &session.parent_session_id)
}

fn agent(of: &v1::Attribution) -> &str {
    of.agent.as_ref().map_or("", |agent| &agent.agent_id)
}

fn credential(of: Option<&v1::Credential>) -> &str {
    of.map_or("", |credential| &credential.credential_id)
}

/// Whom an event is done for: the initiator, and both ends of every delegation.
fn attribution_principals(of: &v1::Attribution) -> impl Iterator<Item = &v1::Principal> {
    of.initiator.iter().chain(of.delegation.iter().flat_map(|hop| hop.from.iter().chain(&hop.to)))
}

fn principal(of: &v1::Principal) -> Value<'_> {
    match (of.issuer.is_empty(), of.subject.is_empty()) {
        (_, true) => Value::default(),
        (true, false) => of.subject.as_str().into(),
        (false, false) => Value([&of.issuer, " ", &of.subject, ""]),
    }
}

/// What follows a node in a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// Whose authority the session's events had.
    Authority,
    /// What the session's events touched, and the sessions below it.
    Effects,
    /// The session of every event.
    OwnSession,
    /// Nowhere.
    Nowhere,
}

impl Leads {
    /// Reads the table of section 17.5.
    pub(crate) fn of(dimension: Dimension, direction: LineageDirection) -> Self {
        use Dimension::{Agent, Collector, Credential, ParentSession, Principal, Resource, Rule, Server, Session, System, Tool};
        use LineageDirection::{Both, Down, Unspecified, Up};
        match (dimension, direction) {
            (Session, Up) => Self::Authority,
            (Session, Down) => Self::Effects,
            (Credential | Collector | Rule, Up | Down) | (Resource | Tool | Server | System, Up) | (Principal | Agent, Down) => {
                Self::OwnSession
            }
            (Resource | Tool | Server | System, Down)
            | (Principal | Agent, Up)
            | (ParentSession | Dimension::Unspecified, _)
            | (_, Unspecified | Both) => Self::Nowhere,
        }
    }

    /// Returns the nodes behind an event that one of the lists of `from` gives, sorted by dimension and value.
    pub(crate) fn next(self, from: &Key, list: Dimension, event: &v1::Event) -> Vec<Key> {
        let mut next = Vec::new();
        let mut found = |dimension, value: Value<'_>| {
            if !value.is_empty() {
                next.push(Key { dimension, tenant: event.tenant_id.clone(), value: value.text() });
            }
        };
        let own = own_session(event);
        match self {
            Self::Nowhere => (),
            Self::OwnSession => found(Dimension::Session, own.into()),
            Self::Authority if own == from.value => authority(event, &mut found),
            Self::Authority => found(Dimension::Session, own.into()),
            Self::Effects => {
                if own == from.value {
                    effects(event, &mut found);
                }
                if list == Dimension::ParentSession {
                    found(Dimension::Session, own.into());
                }
            }
        }
        next.sort_unstable();
        next.dedup();
        next
    }
}

fn authority(event: &v1::Event, found: &mut impl FnMut(Dimension, Value<'_>)) {
    found(Dimension::Session, parent_session(event).into());
    if let Some(attribution) = &event.attribution {
        attribution_principals(attribution).for_each(|it| found(Dimension::Principal, principal(it)));
        found(Dimension::Agent, agent(attribution).into());
        found(Dimension::Credential, credential(attribution.credential.as_ref()).into());
    }
}

fn effects(event: &v1::Event, found: &mut impl FnMut(Dimension, Value<'_>)) {
    touched(event, found);
    given(event, found);
    if let Some(EventBody::McpConnected(it)) = &event.body {
        found(Dimension::Server, it.server_id.as_str().into());
    }
}

#[cfg(test)]
mod tests;
