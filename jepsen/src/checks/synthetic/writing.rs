//! Appends, openings, and tries of them that get lost.

use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_client::{ChainPosition, LaneName, LaneSigner, VolatileLane};
use proofline_ledger::{Outcome as Applied, Refusal};
use proofline_proto::{peer::item::Item, v1};
use proofline_verifier::open_lane_signed_bytes;
use prost::{Message as _, bytes::Bytes};

use super::{ORIGIN, TENANT, World, verdict};
use crate::history::{Action, Answer, BatchId, Digest, EventId, EventSent, LaneHead, LaneId, Moment, Nonce, Outcome, Way};

/// A collector with one lane.
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) key: Arc<SigningKey>,
    pub(super) open: Option<VolatileLane>,
    /// When its last request was answered: the next one is not sent before.
    pub(super) free: Moment,
    pub(super) epoch: u64,
    pub(super) last: LaneHead,
    /// What was sent, and where it was signed.
    sent: Vec<(ChainPosition, v1::Batch, Action)>,
}

impl Lane {
    pub(super) fn new(collector: &str, key: SigningKey) -> Self {
        let id = LaneId { collector: collector.to_owned(), lane: 0 };
        Self { id, key: Arc::new(key), open: None, free: Moment(0), epoch: 0, last: LaneHead::default(), sent: Vec::new() }
    }
}

impl Lane {
    fn signer(&self) -> LaneSigner {
        let name = LaneName { origin: ORIGIN.to_owned(), collector_id: self.id.collector.clone(), lane: 0 };
        LaneSigner::new(name, Arc::clone(&self.key))
    }
}

impl World {
    pub(super) fn append(&mut self) -> Option<()> {
        let place = self.lot.place(self.lanes.len());
        let free = self.lanes.get(place)?.free;
        self.now = self.now.max(free.0 + 1);
        let count = self.lot.between(1, 4);
        let events: Vec<(EventSent, Bytes)> = (0..count).map(|_| self.event()).collect();
        let lane = self.lanes.get_mut(place)?;
        let at = lane.open.as_ref()?.next().clone();
        let batch = lane.open.as_mut()?.sign(events.iter().map(|(_, exact)| exact.clone()).collect()).ok()?;
        let id = BatchId { lane: lane.id.clone(), epoch: batch.epoch, sequence: batch.sequence };
        lane.last = LaneHead { epoch: batch.epoch, sequence: batch.sequence };
        let action = Action::Append { batch: id, way: Way::Append, events: events.into_iter().map(|(sent, _)| sent).collect() };
        lane.sent.push((at, batch.clone(), action.clone()));
        let (invoked, returned) = self.span();
        let invoked = invoked.max(Moment(free.0 + 1));
        let Applied::Appended(answer) = self.apply(Item::Batch(batch))? else { return None };
        let outcome = Outcome::Ok { answer: appended(&answer) };
        // Some tries lose their answer, some find no leader first.
        match self.lot.below(10) {
            0 => {
                let node = self.node();
                self.record(node, action.clone(), (invoked, Moment::NEVER), Outcome::Info { reason: "no answer in time".to_owned() });
            }
            1 => {
                let node = self.node();
                self.record(node, action.clone(), (invoked, returned), Outcome::Fail { reason: "NO_LEADER".to_owned(), for_good: false });
            }
            _ => {}
        }
        let node = self.node();
        self.record(node, action, (invoked, returned), outcome);
        self.lanes.get_mut(place)?.free = returned;
        Some(())
    }

    fn event(&mut self) -> (EventSent, Bytes) {
        let mut id = [0; 16];
        let (left, right) = id.split_at_mut(8);
        left.copy_from_slice(&self.lot.below(u64::MAX).to_be_bytes());
        right.copy_from_slice(&self.next_operation.to_be_bytes());
        let family = self.revoked.saturating_sub(self.lot.below(3));
        let depth = self.lot.below(4);
        let named = |depth: u64| (0..depth).fold(format!("f{family}"), |id, _| format!("{id}.0"));
        let parent = if depth == 0 { String::new() } else { named(depth - 1) };
        let event = v1::Event {
            event_id: id.to_vec(),
            tenant_id: TENANT.to_owned(),
            observed_unix_ns: super::EPOCH_NS + self.now,
            vantage: v1::Vantage::GatewayObserved.into(),
            session: Some(v1::SessionRef { session_id: named(depth), parent_session_id: parent, ..Default::default() }),
            attribution: Some(v1::Attribution {
                initiator: Some(v1::Principal { kind: v1::PrincipalKind::Human.into(), subject: "u-1".to_owned(), ..Default::default() }),
                agent: Some(v1::Agent { agent_id: "agent-1".to_owned(), ..Default::default() }),
                ..Default::default()
            }),
            body: Some(v1::event::Body::Annotation(v1::Annotation { key: "word".to_owned(), value: hex::encode(id) })),
            ..Default::default()
        };
        let exact = Bytes::from(event.encode_to_vec());
        (EventSent { id: EventId(id), session: named(depth), digest: Digest::of(&exact) }, exact)
    }

    /// Sends a batch again that was acknowledged before.
    pub(super) fn send_again(&mut self) -> Option<()> {
        let place = self.lot.place(self.lanes.len());
        let sent = self.lanes.get(place)?.sent.len();
        let again = self.lot.place(sent);
        let Some((_, batch, action)) = self.lanes.get(place)?.sent.get(again).cloned() else { return Some(()) };
        let span = self.span();
        let span = (span.0.max(self.lanes.get(place)?.free), span.1);
        if span.0 >= Moment(self.now) {
            return Some(());
        }
        let Applied::Appended(answer) = self.apply(Item::Batch(batch))? else { return None };
        self.answered(action, span, appended(&answer));
        Some(())
    }

    /// Signs another batch at a place that was taken before.
    pub(super) fn equivocate(&mut self) -> Option<()> {
        let place = self.lot.place(self.lanes.len());
        let lane = self.lanes.get(place)?;
        let (signer, sent) = (lane.signer(), lane.sent.len());
        let (free, again) = (lane.free, self.lot.place(sent));
        let Some((at, first, _)) = self.lanes.get(place)?.sent.get(again).cloned() else { return Some(()) };
        let span = self.span();
        let span = (span.0.max(free), span.1);
        if span.0 >= Moment(self.now) {
            return Some(());
        }
        let (event, exact) = self.event();
        let (second, _) = signer.sign(&at, vec![exact]).ok()?;
        let batch = BatchId { lane: self.lanes.get(place)?.id.clone(), epoch: first.epoch, sequence: first.sequence };
        let Applied::Refused(Refusal::Equivocation { .. }) = self.apply(Item::Batch(second))? else { return None };
        let outcome = Outcome::Fail { reason: "EQUIVOCATION".to_owned(), for_good: false };
        let node = self.node();
        self.record(node, Action::Equivocate { batch, events: vec![event] }, span, outcome);
        Some(())
    }

    pub(super) fn open_lane(&mut self) -> Option<()> {
        let place = self.lot.place(self.lanes.len());
        self.open(place)
    }

    pub(super) fn open(&mut self, place: usize) -> Option<()> {
        let nonce = self.nonce();
        let free = self.lanes.get(place)?.free;
        self.now = self.now.max(free.0 + 1);
        let (invoked, returned) = self.span();
        let invoked = invoked.max(Moment(free.0 + 1));
        let lane = self.lanes.get(place)?;
        let mut open = v1::SignedOpenLane {
            public_key: lane.key.verifying_key().to_bytes().to_vec(),
            collector_id: lane.id.collector.clone(),
            lane: 0,
            nonce: nonce.0.to_vec(),
            signature: Vec::new(),
        };
        open.signature = lane.key.sign(&open_lane_signed_bytes(ORIGIN, &open).ok()?).to_vec();
        let Applied::Opened(answer) = self.apply(Item::OpenLane(open))? else { return None };
        let lane = self.lanes.get_mut(place)?;
        lane.open = Some(VolatileLane::at(lane.signer(), ChainPosition::opened(&answer)?));
        (lane.free, lane.epoch) = (returned, answer.epoch);
        let (action, last) = (Action::OpenLane { lane: lane.id.clone(), nonce }, lane.last);
        self.answered(action, (invoked, returned), Answer::Opened { epoch: answer.epoch, last });
        Some(())
    }

    pub(super) fn nonce(&mut self) -> Nonce {
        let mut bytes = [0; 16];
        let (left, right) = bytes.split_at_mut(8);
        left.copy_from_slice(&self.lot.below(u64::MAX).to_be_bytes());
        right.copy_from_slice(&self.lot.below(u64::MAX).to_be_bytes());
        Nonce(bytes)
    }

    pub(super) fn read_head(&mut self) {
        let place = self.lot.place(self.lanes.len());
        let span = self.span();
        let Some(lane) = self.lanes.get(place).filter(|lane| lane.free < span.0) else { return };
        let (action, answer) = (Action::Head { lane: lane.id.clone() }, Answer::Head { epoch: lane.epoch, last: lane.last });
        self.answered(action, (span.0, Moment(self.now)), answer);
    }
}

fn appended(answer: &v1::AppendResponse) -> Answer {
    Answer::Appended { first_index: answer.first_index, events: answer.events.iter().map(verdict).collect() }
}
