//! A ledger with a genesis, its operators and collectors, and a clock that the test turns.

use ed25519_dalek::{Signer, SigningKey};
use proofline_ledger::{
    Applied, Change, Changes, ContentHash, Direction, Frontier, Hash, KeyRange, Ledger, MapStore, Outcome, PreparedGroup, Refusal, Store,
    Table, TreeHash, UnixNanos, signed,
};
use proofline_proto::{peer, v1};
use prost::Message;
use prost::bytes::Bytes;

pub const ORIGIN: &str = "ledger.test/agents";
pub const TENANT: &str = "acme";
pub const START_NS: u64 = 1_700_000_000_000_000_000;
pub const SECOND_NS: u64 = 1_000_000_000;
pub const HOUR_NS: u64 = 3_600 * SECOND_NS;

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn public(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_bytes().to_vec()
}

pub struct World {
    pub ledger: Ledger,
    pub store: MapStore,
    pub now: u64,
    nonce: u64,
}

/// The operators of genesis.
pub const ALICE: (&str, u8) = ("alice", 1);
pub const BOB: (&str, u8) = ("bob", 2);
pub const RESPONDER: (&str, u8) = ("rita", 3);
pub const SECOND_RESPONDER: (&str, u8) = ("sam", 6);

pub fn genesis() -> v1::Genesis {
    let operator = |(name, seed): (&str, u8), role: v1::OperatorRole| v1::OperatorKey {
        operator_id: name.to_owned(),
        public_key: public(&key(seed)),
        roles: vec![role.into()],
        ..Default::default()
    };
    let node = |id: u64| v1::NodeKey { node_id: id, name: format!("node-{id}.test"), public_key: public(&key(20 + id as u8)) };
    v1::Genesis {
        origin: ORIGIN.to_owned(),
        apply_version: 1,
        log_public_key: public(&key(10)),
        operators: vec![
            operator(ALICE, v1::OperatorRole::Registrar),
            operator(BOB, v1::OperatorRole::Registrar),
            operator(RESPONDER, v1::OperatorRole::Responder),
            operator(SECOND_RESPONDER, v1::OperatorRole::Responder),
        ],
        nodes: (1..=3).map(node).collect(),
        grants: Vec::new(),
    }
}

impl World {
    pub fn empty() -> Self {
        let store = MapStore::default();
        Self { ledger: Ledger::open(&store).unwrap(), store, now: START_NS, nonce: 0 }
    }

    pub fn new() -> Self {
        let mut world = Self::empty();
        assert_eq!(world.apply(peer::item::Item::Genesis(genesis())), Outcome::Began);
        world
    }

    /// A world with one registered collector whose lane 0 is open.
    pub fn with_collector() -> (Self, Collector) {
        let mut world = Self::new();
        let mut collector = Collector::new("gateway-1", 50);
        world.command(&[ALICE], collector.registration()).unwrap();
        collector.open(&mut world).unwrap();
        (world, collector)
    }

    pub fn apply(&mut self, item: peer::item::Item) -> Outcome {
        self.apply_group(vec![item]).pop().unwrap()
    }

    pub fn apply_group(&mut self, items: Vec<peer::item::Item>) -> Vec<Outcome> {
        let items = items.into_iter().map(|item| peer::Item { item: Some(item) }).collect();
        let group = peer::Group { proposed_unix_ns: self.now, items };
        self.apply_bytes(group.encode_to_vec().into())
    }

    pub fn apply_bytes(&mut self, bytes: Bytes) -> Vec<Outcome> {
        let Applied { changes, outcomes, .. } = self.ledger.apply(&self.store, &PreparedGroup::decode(&bytes, ORIGIN)).unwrap();
        self.store.commit(changes);
        outcomes
    }

    pub fn command(&mut self, signers: &[(&str, u8)], action: v1::command::Action) -> Result<u64, Refusal> {
        let command = self.signed_command(signers, action);
        self.submit(command)
    }

    pub fn signed_command(&mut self, signers: &[(&str, u8)], action: v1::command::Action) -> v1::SignedCommand {
        self.nonce += 1;
        let mut command = v1::SignedCommand {
            origin: ORIGIN.to_owned(),
            nonce: u128::from(self.nonce).to_be_bytes().to_vec(),
            expires_unix_ns: self.now + 60 * SECOND_NS,
            command: v1::Command { action: Some(action) }.encode_to_vec(),
            signatures: Vec::new(),
        };
        sign_command(&mut command, signers);
        command
    }

    pub fn submit(&mut self, command: v1::SignedCommand) -> Result<u64, Refusal> {
        match self.apply(peer::item::Item::Command(command)) {
            Outcome::Commanded(index) => Ok(index.0),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("a command got {other:?}"),
        }
    }

    pub fn entry(&self, index: u64) -> v1::EntryCore {
        let entry = proofline_ledger::listing::entry(&self.store, proofline_ledger::EntryIndex(index)).unwrap().unwrap();
        proofline_ledger::entry::parse(&entry).unwrap().1
    }

    pub fn entries(&self) -> Vec<Vec<u8>> {
        let all = proofline_ledger::EntryIndex(self.ledger.tree_size().0);
        proofline_ledger::listing::entries(&self.store, proofline_ledger::EntryIndex(0), all, usize::MAX).unwrap()
    }

    pub fn reopen(&mut self) {
        self.ledger = Ledger::open(&self.store).unwrap();
    }

    /// Returns a node that has what a snapshot brings: the rows of the replicated tables, and nothing else.
    pub fn through_snapshot(&self) -> Self {
        let mut store = MapStore::default();
        for table in Table::ALL.into_iter().filter(|table| !Table::OF_ONE_NODE.contains(table)) {
            let range = KeyRange { from: &[], to: &[u8::MAX; 64] };
            let rows = self.store.scan(table, range, Direction::Ascending, usize::MAX).unwrap();
            let rows = rows.into_iter().map(|row| Change { table, key: row.key, value: Some(row.value) }).collect();
            store.commit(Changes { rows });
        }
        Self { ledger: Ledger::open(&store).unwrap(), store, now: self.now, nonce: self.nonce }
    }

    pub fn time(&self) -> UnixNanos {
        self.ledger.last_committed()
    }
}

pub fn sign_command(command: &mut v1::SignedCommand, signers: &[(&str, u8)]) {
    let message = signed::command(command);
    command.signatures = signers
        .iter()
        .map(|(name, seed)| v1::CommandSignature {
            operator_id: (*name).to_owned(),
            public_key: public(&key(*seed)),
            signature: key(*seed).sign(&message).to_bytes().to_vec(),
        })
        .collect();
}

/// A collector with one lane.
#[derive(Clone)]
pub struct Collector {
    pub id: String,
    pub key: SigningKey,
    pub lane: u32,
    pub epoch: u64,
    pub sequence: u64,
    pub previous: Hash,
    pub nonce: u8,
}

impl Collector {
    pub fn new(id: &str, seed: u8) -> Self {
        Self { id: id.to_owned(), key: key(seed), lane: 0, epoch: 0, sequence: 0, previous: Hash::ZERO, nonce: 0 }
    }

    pub fn scope(&self) -> v1::RegisterCollector {
        v1::RegisterCollector {
            collector_id: self.id.clone(),
            public_key: public(&self.key),
            spiffe_id: format!("spiffe://test/collector/{}", self.id),
            tenant_id: TENANT.to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            events_per_hour: 0,
            sessions_per_hour: 0,
            payload_bytes_per_hour: 0,
        }
    }

    pub fn registration(&self) -> v1::command::Action {
        v1::command::Action::RegisterCollector(self.scope())
    }

    pub fn open_request(&mut self) -> v1::SignedOpenLane {
        self.nonce += 1;
        let mut request = v1::SignedOpenLane {
            public_key: public(&self.key),
            collector_id: self.id.clone(),
            lane: self.lane,
            nonce: vec![self.nonce; 16],
            signature: Vec::new(),
        };
        request.signature = self.key.sign(&signed::open_lane(ORIGIN, &request)).to_bytes().to_vec();
        request
    }

    pub fn open(&mut self, world: &mut World) -> Result<v1::OpenLaneResponse, Refusal> {
        let request = self.open_request();
        match world.apply(peer::item::Item::OpenLane(request)) {
            Outcome::Opened(opened) => {
                self.epoch = opened.epoch;
                self.sequence = 0;
                self.previous = Hash::from_slice(&opened.last.as_ref().unwrap().digest).unwrap();
                Ok(opened)
            }
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("an opening got {other:?}"),
        }
    }

    /// Signs the next batch without moving on.
    pub fn batch(&self, events: Vec<Bytes>) -> v1::Batch {
        self.batch_at(self.epoch, self.sequence + 1, self.previous, events)
    }

    pub fn batch_at(&self, epoch: u64, sequence: u64, previous: Hash, events: Vec<Bytes>) -> v1::Batch {
        let mut batch = v1::Batch {
            public_key: public(&self.key),
            collector_id: self.id.clone(),
            lane: self.lane,
            epoch,
            sequence,
            previous: previous.0.to_vec(),
            events,
            signature: Vec::new(),
        };
        batch.signature = self.key.sign(&signed_bytes(ORIGIN, &batch)).to_bytes().to_vec();
        batch
    }

    /// Takes note that the ledger took this batch.
    pub fn advance(&mut self, batch: &v1::Batch) {
        self.sequence = batch.sequence;
        self.previous = proofline_ledger::batch_digest(&signed_bytes(ORIGIN, batch));
    }

    pub fn append(&mut self, world: &mut World, events: Vec<v1::Event>) -> Result<v1::AppendResponse, Refusal> {
        self.append_bytes(world, events.iter().map(|event| event.encode_to_vec().into()).collect())
    }

    pub fn append_bytes(&mut self, world: &mut World, events: Vec<Bytes>) -> Result<v1::AppendResponse, Refusal> {
        let batch = self.batch(events);
        let receipt = send(world, batch.clone())?;
        self.advance(&batch);
        Ok(receipt)
    }
}

pub fn send(world: &mut World, batch: v1::Batch) -> Result<v1::AppendResponse, Refusal> {
    match world.apply(peer::item::Item::Batch(batch)) {
        Outcome::Appended(receipt) => Ok(receipt),
        Outcome::Refused(refusal) => Err(refusal),
        other => panic!("a batch got {other:?}"),
    }
}

pub fn signed_bytes(origin: &str, batch: &v1::Batch) -> Vec<u8> {
    let mut tree = Frontier::<ContentHash>::default();
    batch.events.iter().for_each(|event| tree.push(ContentHash::leaf(event), |_, _| ()));
    signed::batch(
        origin,
        &signed::StatementFields {
            public_key: &batch.public_key,
            collector_id: &batch.collector_id,
            lane: batch.lane,
            epoch: batch.epoch,
            sequence: batch.sequence,
            previous: &batch.previous,
            event_count: batch.events.len() as u32,
            events_root: tree.root(),
        },
    )
}

/// An attributed tool call of `agent` in `session`.
pub fn event(session: &str, agent: &str) -> v1::Event {
    v1::Event {
        event_id: vec![7; 16],
        tenant_id: TENANT.to_owned(),
        observed_unix_ns: START_NS,
        vantage: v1::Vantage::GatewayObserved.into(),
        session: Some(v1::SessionRef { session_id: session.to_owned(), ..Default::default() }),
        attribution: Some(v1::Attribution {
            initiator: Some(human("u-1")),
            agent: Some(v1::Agent { agent_id: agent.to_owned(), ..Default::default() }),
            ..Default::default()
        }),
        body: Some(v1::event::Body::ActionIntent(v1::ActionIntent {
            verb: v1::ActionVerb::ToolCall.into(),
            tool: Some(v1::Tool { name: "query".to_owned(), ..Default::default() }),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// An event of `session` that says why it names nobody.
pub fn unattributed(session: &str) -> v1::Event {
    let reason = v1::UnattributedReason::NoIdentityInSource.into();
    v1::Event { attribution: Some(v1::Attribution { unattributed: reason, ..Default::default() }), ..event(session, "") }
}

pub fn child(session: &str, parent: &str) -> v1::Event {
    let mut event = event(session, "agent-1");
    parent.clone_into(&mut event.session.as_mut().unwrap().parent_session_id);
    event
}

pub fn human(subject: &str) -> v1::Principal {
    v1::Principal {
        kind: v1::PrincipalKind::Human.into(),
        issuer: "https://idp.test".to_owned(),
        subject: subject.to_owned(),
        display_ref: String::new(),
    }
}

pub fn rejections(receipt: &v1::AppendResponse) -> Vec<v1::RejectionReason> {
    receipt.events.iter().map(v1::EventReceipt::rejection).collect()
}

pub fn rules(receipt: &v1::EventReceipt) -> Vec<&str> {
    receipt.findings.iter().map(|finding| finding.rule_id.as_str()).collect()
}
