//! The incident of the demonstration: a coding agent with a human's token reaches a production database at 2 AM, and
//! spawns a helper that nobody registered.

use proofline_cluster::TENANT;
use proofline_proto::v1::{self, event::Body};
use prost::Message as _;

/// One event, and what it is in a newcomer's words.
pub(crate) struct Scene {
    pub(crate) words: &'static str,
    pub(crate) event: v1::Event,
}

/// Session of the agent.
pub(crate) const SESSION: &str = "fix-build-4711";
/// Session of the helper that it spawns.
pub(crate) const CHILD_SESSION: &str = "fix-build-4711/db-helper";
/// The agent that its owners registered.
pub(crate) const AGENT: &str = "build-fixer";
/// The agent that nobody registered.
pub(crate) const CHILD_AGENT: &str = "db-helper";

/// The rule that stops the helper.
pub(crate) const RULE: &str = r#"
@id("helper-sends-out") @containment("revoke_session") @severity("critical") @asi("ASI01,ASI08")
@description("A sub-agent sends data to the outside on a person's own credential")
forbid(principal, action in Action::"intent", resource)
when { context.depth > 0 && context.egress && context.human_credential };
"#;

/// Returns the story in order.
pub(crate) fn scenes() -> Vec<Scene> {
    let scene = |number: u8, words, session, body| Scene { words, event: event(number, session, body) };
    let ours = |number, words, body| scene(number, words, SESSION, body);
    vec![
        ours(
            0,
            "Dana starts the agent build-fixer to repair a failing build",
            Body::RunStarted(v1::RunStarted { workflow: "ci-repair".into(), ..Default::default() }),
        ),
        ours(
            1,
            "it states its purpose: fix the failing build",
            Body::IntentDeclared(v1::IntentDeclared { declared_purpose: "fix the failing build".into(), ..Default::default() }),
        ),
        ours(
            2,
            "it gets Dana's own access token, good for a day",
            Body::CredentialIssued(v1::CredentialIssued { credential: Some(token()), ..Default::default() }),
        ),
        ours(
            3,
            "it reads the build log",
            read("read_file", "file:///ci/build-4711.log", v1::Environment::Development, v1::Classification::Internal),
        ),
        ours(4, "done: 1 file", outcome(3, 1)),
        ours(
            5,
            "it finds a database password in the log, and opens production",
            read("sql_query", "postgres://prod/customers", v1::Environment::Production, v1::Classification::Restricted),
        ),
        ours(6, "done: 48,112 customer records", outcome(5, 48_112)),
        ours(
            7,
            "it spawns a helper, db-helper, that nobody registered",
            Body::SubAgentSpawned(v1::SubAgentSpawned {
                child_session_id: CHILD_SESSION.into(),
                child_agent_id: CHILD_AGENT.into(),
                ..Default::default()
            }),
        ),
        scene(
            8,
            "the helper starts in a session of its own",
            CHILD_SESSION,
            Body::RunStarted(v1::RunStarted { workflow: "export".into(), ..Default::default() }),
        ),
        scene(9, "the helper wants to send the records to a paste site", CHILD_SESSION, upload()),
    ]
}

/// What the helper tries after its parent was contained.
pub(crate) fn after_containment() -> Scene {
    Scene { words: "the helper tries to send them once more", event: event(10, CHILD_SESSION, upload()) }
}

/// Returns the event as the collector signs it.
pub(crate) fn encode(event: &v1::Event) -> Vec<u8> {
    event.encode_to_vec()
}

fn event(number: u8, session: &str, body: Body) -> v1::Event {
    let is_child = session == CHILD_SESSION;
    let agent = if is_child { CHILD_AGENT } else { AGENT };
    let hop = v1::DelegationHop {
        from: Some(dana()),
        to: Some(v1::Principal { kind: v1::PrincipalKind::Agent.into(), subject: agent.to_owned(), ..Default::default() }),
        kind: v1::HopKind::Impersonated.into(),
        proof: v1::HopProof::Asserted.into(),
        ..Default::default()
    };
    v1::Event {
        event_id: event_id(number),
        tenant_id: TENANT.to_owned(),
        observed_unix_ns: now_ns(),
        vantage: v1::Vantage::GatewayObserved.into(),
        session: Some(v1::SessionRef {
            session_id: session.to_owned(),
            parent_session_id: if is_child { SESSION.to_owned() } else { String::new() },
            ..Default::default()
        }),
        attribution: Some(v1::Attribution {
            initiator: Some(dana()),
            agent: Some(v1::Agent { agent_id: agent.to_owned(), framework: "own".to_owned(), ..Default::default() }),
            delegation: vec![hop],
            credential: Some(token()),
            ..Default::default()
        }),
        body: Some(body),
        ..Default::default()
    }
}

/// What the collector's clock shows: the story is told as it happens.
fn now_ns() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn event_id(number: u8) -> Vec<u8> {
    let mut id = vec![0x01, 0x9a, 0xa4, 0x5b, 0x1c, 0x00, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0];
    id.push(number);
    id
}

/// A person appears as a pseudonym: issuer and opaque subject.
fn dana() -> v1::Principal {
    v1::Principal {
        kind: v1::PrincipalKind::Human.into(),
        issuer: "https://idp.acme.example".to_owned(),
        subject: "00u7f3k2".to_owned(),
        ..Default::default()
    }
}

fn token() -> v1::Credential {
    v1::Credential {
        credential_id: "tok-31f0".to_owned(),
        kind: v1::CredentialKind::HumanDelegated.into(),
        issuer: "https://idp.acme.example".to_owned(),
        scopes: vec!["repo.write".to_owned(), "db.read".to_owned()],
        ..Default::default()
    }
}

fn read(tool: &str, uri: &str, environment: v1::Environment, classification: v1::Classification) -> Body {
    Body::ActionIntent(v1::ActionIntent {
        verb: v1::ActionVerb::ResourceRead.into(),
        tool: Some(v1::Tool { server_id: "mcp-ops".to_owned(), name: tool.to_owned(), ..Default::default() }),
        resources: vec![v1::Resource {
            uri: uri.to_owned(),
            environment: environment.into(),
            classification: classification.into(),
            ..Default::default()
        }],
        ..Default::default()
    })
}

fn outcome(of: u8, records: u64) -> Body {
    Body::ActionOutcome(v1::ActionOutcome {
        intent_event_id: event_id(of),
        status: v1::OutcomeStatus::Succeeded.into(),
        records,
        ..Default::default()
    })
}

fn upload() -> Body {
    Body::ActionIntent(v1::ActionIntent {
        verb: v1::ActionVerb::NetworkEgress.into(),
        tool: Some(v1::Tool { server_id: "mcp-web".to_owned(), name: "http_post".to_owned(), ..Default::default() }),
        resources: vec![v1::Resource { uri: "https://paste.example/upload".to_owned(), ..Default::default() }],
        egress: v1::Egress::External.into(),
        ..Default::default()
    })
}
