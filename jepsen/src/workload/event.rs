//! Events: each with an id of its own, in a session of a family.

use proofline_proto::v1::{self, event::Body};
use prost::{Message as _, bytes::Bytes};

use super::families::Session;
use crate::{
    history::{Digest, EventId, EventSent},
    random::Random,
};

/// Who acts in every session: containment goes along sessions here, not along agents.
const AGENT: &str = "agent-1";

/// An event that was made, and its exact bytes.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) sent: EventSent,
    pub(crate) exact: Bytes,
}

/// Makes the events of one lane.
pub(crate) struct Maker {
    tenant: String,
    /// Names the run and the lane in every id.
    stamp: [u8; 8],
    made: u64,
    payload_bytes_max: u64,
}

/// What an event is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Words that nobody reads.
    Note,
    /// An action that is asked for before it is done.
    Intent,
}

impl Maker {
    pub(crate) fn new(seed: u64, collector: &str, lane: u32, tenant: &str, payload_bytes_max: u64) -> Self {
        let name = format!("{seed}/{collector}/{lane}");
        let mut stamp = [0; 8];
        stamp.copy_from_slice(&Digest::of(name.as_bytes()).0[..8]);
        Self { tenant: tenant.to_owned(), stamp, made: 0, payload_bytes_max }
    }

    /// Makes an event that was observed at that time, in nanoseconds since 1970.
    pub(crate) fn make(&mut self, observed_unix_ns: u64, kind: Kind, session: &Session, lot: &mut Random) -> Made {
        self.made += 1;
        let mut id = [0; 16];
        let (run, count) = id.split_at_mut(8);
        run.copy_from_slice(&self.stamp);
        count.copy_from_slice(&self.made.to_be_bytes());
        let exact = Bytes::from(self.event(EventId(id), observed_unix_ns, kind, session, lot).encode_to_vec());
        Made { sent: EventSent { id: EventId(id), session: session.id.clone(), digest: Digest::of(&exact) }, exact }
    }

    fn event(&self, id: EventId, observed_unix_ns: u64, kind: Kind, session: &Session, lot: &mut Random) -> v1::Event {
        v1::Event {
            event_id: id.0.to_vec(),
            tenant_id: self.tenant.clone(),
            observed_unix_ns,
            vantage: v1::Vantage::GatewayObserved.into(),
            session: Some(v1::SessionRef {
                session_id: session.id.clone(),
                parent_session_id: session.parent.clone(),
                ..Default::default()
            }),
            attribution: Some(v1::Attribution {
                initiator: Some(v1::Principal { kind: v1::PrincipalKind::Human.into(), subject: "u-1".to_owned(), ..Default::default() }),
                agent: Some(v1::Agent { agent_id: AGENT.to_owned(), ..Default::default() }),
                ..Default::default()
            }),
            body: Some(self.body(id, kind, session, lot)),
            ..Default::default()
        }
    }

    fn body(&self, id: EventId, kind: Kind, session: &Session, lot: &mut Random) -> Body {
        if kind == Kind::Intent {
            let resource = v1::Resource { uri: format!("db://table/{}", lot.below(16)), ..Default::default() };
            return Body::ActionIntent(v1::ActionIntent {
                verb: v1::ActionVerb::ResourceRead.into(),
                tool: Some(v1::Tool {
                    server_id: "mcp".to_owned(),
                    name: "query".to_owned(),
                    call_id: id.to_string(),
                    ..Default::default()
                }),
                resources: vec![resource],
                ..Default::default()
            });
        }
        if !session.spawns.is_empty() && lot.below(4) == 0 {
            let child_session_id = lot.one_of(&session.spawns).cloned().unwrap_or_default();
            return Body::SubAgentSpawned(v1::SubAgentSpawned { child_session_id, child_agent_id: AGENT.to_owned(), ..Default::default() });
        }
        let bytes = usize::try_from(lot.below(self.payload_bytes_max.saturating_add(1))).unwrap_or_default();
        Body::Annotation(v1::Annotation { key: "word".to_owned(), value: format!("{id}{}", "x".repeat(bytes)) })
    }
}
