#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use super::*;

/// Returns the keys of an entry; each is hashed in its pieces as it is whole.
fn keys(core: v1::EntryCore) -> BTreeSet<(Dimension, String, String)> {
    let entry = v1::Entry { core: core.encode_to_vec().into(), session_root: Vec::new() };
    let mut found = BTreeSet::new();
    let carrier = Carrier::parse(entry.encode_to_vec().into()).unwrap();
    carried_by(&carrier.core, carrier.event.as_ref(), |dimension, tenant, value| {
        let mut spelled = Vec::new();
        hash::spell_map_key(dimension, tenant, value.pieces(), &mut spelled);
        assert_eq!(hash::map_keys(&[spelled]), [hash::map_key(dimension, tenant, &value.text())]);
        found.insert((dimension, tenant.to_owned(), value.text()));
    });
    found
}

fn of_event(body: EventBody) -> BTreeSet<(Dimension, String, String)> {
    let event = v1::Event { tenant_id: "t".to_owned(), body: Some(body), ..Default::default() };
    of_body(Body::Event(v1::RecordedEvent { at: None, event: event.encode_to_vec().into() }))
}

fn of_body(body: Body) -> BTreeSet<(Dimension, String, String)> {
    keys(v1::EntryCore { body: Some(body), ..Default::default() })
}

fn set(of: &[(Dimension, &str, &str)]) -> BTreeSet<(Dimension, String, String)> {
    of.iter().map(|(dimension, tenant, value)| (*dimension, (*tenant).to_owned(), (*value).to_owned())).collect()
}

fn text(of: &str) -> String {
    of.to_owned()
}

fn person(issuer: &str, subject: &str) -> Option<v1::Principal> {
    Some(v1::Principal { issuer: text(issuer), subject: text(subject), ..Default::default() })
}

fn named(id: &str) -> Option<v1::Credential> {
    Some(v1::Credential { credential_id: text(id), ..Default::default() })
}

fn at(uri: &str, system: &str) -> v1::Resource {
    v1::Resource { uri: text(uri), system: text(system), ..Default::default() }
}

#[test]
fn an_event_carries_what_its_session_and_attribution_name() {
    use Dimension::{Agent, Collector, Credential, ParentSession, Principal, Rule, Session};
    let hop = v1::DelegationHop { from: person("i", "a"), to: person("", "b"), ..Default::default() };
    let event = v1::Event {
        tenant_id: text("t"),
        session: Some(v1::SessionRef { session_id: text("s"), parent_session_id: text("p"), ..Default::default() }),
        attribution: Some(v1::Attribution {
            initiator: person("i", "u"),
            agent: Some(v1::Agent { agent_id: text("a"), ..Default::default() }),
            delegation: vec![hop],
            credential: named("c"),
            ..Default::default()
        }),
        ..Default::default()
    };
    let place = v1::BatchPosition { collector_id: text("gw"), ..Default::default() };
    let finding = v1::Finding { rule_id: text("r"), ..Default::default() };
    let core = v1::EntryCore {
        session: Some(v1::SessionPosition { tenant_id: text("t"), session_id: text("s"), position: 1 }),
        decision: Some(v1::Decision { findings: vec![finding], ..Default::default() }),
        body: Some(Body::Event(v1::RecordedEvent { at: Some(place), event: event.encode_to_vec().into() })),
        ..Default::default()
    };
    let expected = [
        (Session, "t", "s"),
        (ParentSession, "t", "p"),
        (Agent, "t", "a"),
        (Principal, "t", "i u"),
        (Principal, "t", "i a"),
        (Principal, "t", "b"),
        (Credential, "t", "c"),
        (Collector, "", "gw"),
        (Rule, "t", "r"),
    ];
    assert_eq!(keys(core), set(&expected));
}

#[test]
fn bodies_of_events_carry_what_they_touch() {
    use Dimension::{Agent, Credential, Principal, Resource, Server, Session, System, Tool};
    let tool = |server: &str, name: &str| v1::Tool { server_id: text(server), name: text(name), ..Default::default() };
    let access = v1::DataAccess { resource: Some(at("db:x", "crm")), ..Default::default() };
    let memory = |store: &str, record: &str| {
        EventBody::MemoryAccess(v1::MemoryAccess { store_id: text(store), record_id: text(record), ..Default::default() })
    };
    let intent = |tool, resources| EventBody::ActionIntent(v1::ActionIntent { tool: Some(tool), resources, ..Default::default() });
    let cases = [
        (
            intent(tool("m", "read"), vec![at("file:a", "disk")]),
            vec![(Tool, "m/read"), (Server, "m"), (Resource, "file:a"), (System, "disk")],
        ),
        (intent(tool("", "read"), Vec::new()), vec![(Tool, "read")]),
        (intent(tool("m", ""), Vec::new()), vec![(Server, "m")]),
        (
            EventBody::ActionOutcome(v1::ActionOutcome { accesses: vec![access.clone()], ..Default::default() }),
            vec![(Resource, "db:x"), (System, "crm")],
        ),
        (EventBody::DataAccess(access), vec![(Resource, "db:x"), (System, "crm")]),
        (memory("notes", "7"), vec![(Resource, "memory:notes/7"), (System, "notes")]),
        (memory("", "7"), vec![(Resource, "memory:7")]),
        (memory("notes", ""), vec![(System, "notes")]),
        (EventBody::McpConnected(v1::McpConnected { server_id: text("m"), ..Default::default() }), vec![(Server, "m")]),
        (
            EventBody::ToolDefined(v1::ToolDefined { server_id: text("m"), name: text("read"), ..Default::default() }),
            vec![(Tool, "m/read"), (Server, "m")],
        ),
        (
            EventBody::SubAgentSpawned(v1::SubAgentSpawned {
                child_session_id: text("c"),
                child_agent_id: text("b"),
                child_credential: named("k"),
                ..Default::default()
            }),
            vec![(Session, "c"), (Agent, "b"), (Credential, "k")],
        ),
        (
            EventBody::HandedOff(v1::HandedOff { to: person("i", "x"), to_session_id: text("h"), ..Default::default() }),
            vec![(Session, "h"), (Principal, "i x")],
        ),
        (EventBody::CredentialIssued(v1::CredentialIssued { credential: named("k"), ..Default::default() }), vec![(Credential, "k")]),
        (
            EventBody::CredentialUsed(v1::CredentialUsed { credential: named("k"), target: Some(at("api:y", "")) }),
            vec![(Credential, "k"), (Resource, "api:y")],
        ),
        (EventBody::CredentialRevoked(v1::CredentialRevoked { credential_id: text("k"), ..Default::default() }), vec![(Credential, "k")]),
        (EventBody::ApprovalRequested(v1::ApprovalRequested { requester: person("", "x"), ..Default::default() }), vec![(Principal, "x")]),
        (EventBody::ApprovalResolved(v1::ApprovalResolved { approver: person("i", ""), ..Default::default() }), Vec::new()),
        (
            EventBody::IdentityLinked(v1::IdentityLinked { principal: person("i", "x"), linked: person("j", "y"), ..Default::default() }),
            vec![(Principal, "i x"), (Principal, "j y")],
        ),
        (EventBody::Heartbeat(v1::Heartbeat::default()), Vec::new()),
    ];
    for (body, expected) in cases {
        let expected: Vec<_> = expected.into_iter().map(|(dimension, value)| (dimension, "t", value)).collect();
        assert_eq!(of_event(body.clone()), set(&expected), "{body:?}");
    }
}

#[test]
fn other_entries_carry_whom_they_are_about() {
    use Dimension::{Agent, Collector, Credential, Server, Session};
    let target = |kind: TargetKind, id: &str| v1::Target { kind: kind.into(), tenant_id: text("t"), id: text(id) };
    let targets = vec![
        target(TargetKind::Session, "s"),
        target(TargetKind::AgentInstance, "a/7/x"),
        target(TargetKind::Credential, "c"),
        target(TargetKind::Server, "m"),
        target(TargetKind::Tenant, "t"),
    ];
    let containment = Body::Containment(v1::Containment { targets, ..Default::default() });
    assert_eq!(of_body(containment), set(&[(Session, "t", "s"), (Agent, "t", "a"), (Credential, "t", "c"), (Server, "t", "m")]));
    let command = |action: Action| {
        let command = v1::Command { action: Some(action) }.encode_to_vec();
        of_body(Body::Command(v1::SignedCommand { command, ..Default::default() }))
    };
    let contain = Action::Contain(v1::Contain { target: Some(target(TargetKind::Agent, "a")), ..Default::default() });
    assert_eq!(command(contain), set(&[(Agent, "t", "a")]));
    let resolve = v1::ResolveApproval { tenant_id: text("t"), session_id: text("s"), ..Default::default() };
    assert_eq!(command(Action::ResolveApproval(resolve)), set(&[(Session, "t", "s")]));
    let withdraw = v1::WithdrawApproval { tenant_id: text("t"), session_id: text("s"), ..Default::default() };
    assert_eq!(command(Action::WithdrawApproval(withdraw)), set(&[(Session, "t", "s")]));
    let pin = v1::PinTool { tenant_id: text("t"), server_id: text("m"), tool_name: text("x"), ..Default::default() };
    assert_eq!(command(Action::PinTool(pin)), set(&[(Server, "t", "m"), (Dimension::Tool, "t", "m/x")]));
    let verify = v1::VerifyOutlet { outlet_id: text("o"), ..Default::default() };
    assert_eq!(command(Action::VerifyOutlet(verify)), set(&[]));
    let collector = v1::RegisterCollector { collector_id: text("gw"), tenant_id: text("t"), ..Default::default() };
    assert_eq!(command(Action::RegisterCollector(collector)), set(&[(Collector, "", "gw")]));
    let place = Some(v1::BatchPosition { collector_id: text("gw"), ..Default::default() });
    assert_eq!(of_body(Body::Rejection(v1::Rejection { at: place, ..Default::default() })), set(&[(Collector, "", "gw")]));
    assert_eq!(of_body(Body::StateCommitment(v1::StateCommitment::default())), set(&[]));
}
