//! Events of about 350 bytes, each different, made cheaply: the load generator shares the machine with what it measures.

use std::time::UNIX_EPOCH;

use proofline_cluster::TENANT;
use proofline_proto::v1;
use prost::{Message as _, bytes::Bytes};

/// An encoded event whose id is replaced for each copy.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    encoded: Vec<u8>,
}

/// The MCP server that the events name.
pub(crate) const SERVER: &str = "mcp-files";

/// The event id is the first field: one byte of key, one of length, then sixteen.
const ID: std::ops::Range<usize> = 2..18;

impl Template {
    /// Makes the template of one session.
    pub(crate) fn new(session: &str) -> Self {
        Self::of(session, "agent-7", "file:///srv/app/config.toml")
    }

    /// Makes the template of what an agent does to a resource in a session.
    pub(crate) fn of(session: &str, agent: &str, resource: &str) -> Self {
        let event = v1::Event {
            event_id: vec![0xff; 16],
            tenant_id: TENANT.to_owned(),
            observed_unix_ns: now(),
            vantage: v1::Vantage::GatewayObserved.into(),
            session: Some(v1::SessionRef { session_id: session.to_owned(), task_id: "task-0001".to_owned(), ..Default::default() }),
            attribution: Some(attribution(agent)),
            correlation: Some(v1::Correlation { trace_id: vec![1; 16], span_id: vec![2; 8], ..Default::default() }),
            payloads: vec![v1::Commitment {
                name: "arguments".to_owned(),
                algorithm: v1::CommitmentAlgorithm::Blake3Keyed.into(),
                digest: vec![3; 32],
                size_bytes: 512,
                media_type: "application/json".to_owned(),
                ..Default::default()
            }],
            body: Some(v1::event::Body::ActionIntent(v1::ActionIntent {
                verb: v1::ActionVerb::ToolCall.into(),
                tool: Some(v1::Tool { server_id: SERVER.to_owned(), name: "read_text_file".to_owned(), ..Default::default() }),
                resources: vec![v1::Resource { uri: resource.to_owned(), ..Default::default() }],
                declared_purpose: "fix the failing build of the payments service, ticket PAY-4812".to_owned(),
                ..Default::default()
            })),
        };
        Self { encoded: event.encode_to_vec() }
    }

    /// Returns the event numbered `number`.
    pub(crate) fn event(&self, number: u128) -> Bytes {
        let mut encoded = self.encoded.clone();
        if let Some(id) = encoded.get_mut(ID) {
            id.copy_from_slice(&number.to_be_bytes());
        }
        encoded.into()
    }

    /// Returns the length of each event, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.encoded.len()
    }
}

/// What is observed long before it is sent carries a finding of its own.
fn now() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn attribution(agent: &str) -> v1::Attribution {
    v1::Attribution {
        initiator: Some(v1::Principal {
            kind: v1::PrincipalKind::Human.into(),
            issuer: "https://idp.example.com".to_owned(),
            subject: "00u1abcd".to_owned(),
            ..Default::default()
        }),
        agent: Some(v1::Agent { agent_id: agent.to_owned(), version: "1.4.2".to_owned(), ..Default::default() }),
        ..Default::default()
    }
}
