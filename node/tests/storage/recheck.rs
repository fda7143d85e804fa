//! What a node does before it cosigns entries that it did not apply itself.

use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_ledger::{Change, Changes, Ledger, LogTree, PreparedGroup, Store as _, Table, TreeSize, UnixNanos};
use proofline_node::{
    completeness::Confirmed,
    cosigner::{Cosigner, NotCosigned},
    failure,
    recheck::NotAuthentic,
    replica::{LogIndex, Progress},
    signed_tree::{SignedTree, SignedTreeFile},
    store::{StateStore, StateWriter},
};
use proofline_proto::{
    peer,
    v1::{self, command::Action},
};
use proofline_verifier::{
    BatchDigest, TreeHash as _, batch_signed_bytes, command_signed_bytes, events_root, open_lane_signed_bytes, outlet_delivery_signed_bytes,
};
use prost::Message as _;
use tokio::sync::watch;

use crate::world::{ORIGIN, World, log_id};

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> Vec<u8> {
    key(seed).verifying_key().to_bytes().to_vec()
}

const ALICE: u8 = 1;
const COLLECTOR: u8 = 50;
const THIEF: u8 = 60;

pub(crate) fn genesis() -> v1::Genesis {
    let operator = |name: &str, seed: u8| v1::OperatorKey {
        operator_id: name.to_owned(),
        public_key: public(seed),
        roles: vec![v1::OperatorRole::Registrar.into()],
        ..Default::default()
    };
    v1::Genesis {
        origin: ORIGIN.to_owned(),
        apply_version: 1,
        log_public_key: public(10),
        operators: vec![operator("alice", ALICE), operator("bob", 2)],
        nodes: vec![v1::NodeKey { node_id: 1, name: "node-1.test".to_owned(), public_key: public(20) }],
        grants: Vec::new(),
    }
}

fn command(signer: u8, action: Action) -> peer::item::Item {
    commanded(&[("alice", signer)], action)
}

fn commanded(signers: &[(&str, u8)], action: Action) -> peer::item::Item {
    let mut command = v1::SignedCommand {
        origin: ORIGIN.to_owned(),
        nonce: vec![7 * u8::try_from(signers.len()).unwrap(); 16],
        expires_unix_ns: 60_000_000_000,
        command: v1::Command { action: Some(action) }.encode_to_vec(),
        signatures: Vec::new(),
    };
    let message = command_signed_bytes(&command).unwrap();
    for (operator, signer) in signers {
        let signature = key(*signer).sign(&message).to_bytes().to_vec();
        command.signatures.push(v1::CommandSignature { operator_id: (*operator).to_owned(), public_key: public(*signer), signature });
    }
    peer::item::Item::Command(command)
}

pub(crate) fn registration() -> peer::item::Item {
    command(
        ALICE,
        Action::RegisterCollector(v1::RegisterCollector {
            collector_id: "gateway".to_owned(),
            public_key: public(COLLECTOR),
            spiffe_id: "spiffe://example.org/gateway".to_owned(),
            tenant_id: "acme".to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            ..Default::default()
        }),
    )
}

fn activation() -> peer::item::Item {
    let rules =
        r#"@id("starts") @containment("revoke_session") @severity("high") forbid(principal, action == Action::"run_started", resource);"#;
    let activation = v1::ActivateRules {
        rules: rules.to_owned(),
        engine: proofline_ledger::ENGINE.to_owned(),
        simulation_digest: vec![1; 32],
        denies_everything: false,
        reason: "a test".to_owned(),
    };
    commanded(&[("alice", ALICE), ("bob", 2)], Action::ActivateRules(activation))
}

fn started(session: &str) -> v1::Event {
    v1::Event {
        event_id: vec![1; 16],
        tenant_id: "acme".to_owned(),
        observed_unix_ns: 1,
        vantage: v1::Vantage::GatewayObserved.into(),
        session: Some(v1::SessionRef { session_id: session.to_owned(), ..Default::default() }),
        attribution: Some(v1::Attribution {
            initiator: Some(v1::Principal { kind: v1::PrincipalKind::Human.into(), subject: "u-1".to_owned(), ..Default::default() }),
            agent: Some(v1::Agent { agent_id: "agent-1".to_owned(), ..Default::default() }),
            ..Default::default()
        }),
        body: Some(v1::event::Body::RunStarted(v1::RunStarted::default())),
        ..Default::default()
    }
}

pub(crate) fn opening() -> peer::item::Item {
    let mut open = v1::SignedOpenLane {
        public_key: public(COLLECTOR),
        collector_id: "gateway".to_owned(),
        lane: 0,
        nonce: vec![1; 16],
        signature: vec![],
    };
    open.signature = key(COLLECTOR).sign(&open_lane_signed_bytes(ORIGIN, &open).unwrap()).to_bytes().to_vec();
    peer::item::Item::OpenLane(open)
}

fn statement(signer: u8, sequence: u64, previous: &BatchDigest, events: &[Vec<u8>]) -> v1::BatchStatement {
    let mut statement = v1::BatchStatement {
        public_key: public(signer),
        collector_id: "gateway".to_owned(),
        lane: 0,
        epoch: 1,
        sequence,
        previous: previous.as_bytes().to_vec(),
        event_count: events.len() as u32,
        events_root: events_root(events).as_bytes().to_vec(),
        signature: Vec::new(),
    };
    statement.signature = key(signer).sign(&batch_signed_bytes(ORIGIN, &statement).unwrap()).to_bytes().to_vec();
    statement
}

pub(crate) fn batch(sequence: u64, previous: &BatchDigest, events: Vec<Vec<u8>>) -> (peer::item::Item, BatchDigest) {
    let statement = statement(COLLECTOR, sequence, previous, &events);
    let digest = BatchDigest::of(&batch_signed_bytes(ORIGIN, &statement).unwrap());
    let batch = v1::Batch {
        public_key: statement.public_key,
        collector_id: statement.collector_id,
        lane: 0,
        epoch: 1,
        sequence,
        previous: statement.previous,
        events: events.into_iter().map(Into::into).collect(),
        signature: statement.signature,
    };
    (peer::item::Item::Batch(batch), digest)
}

fn three() -> Vec<Vec<u8>> {
    vec![b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]
}

/// A state on the disk with a registration, an opening, two batches and the closing of the lane: 8 entries.
struct Node {
    world: World,
    store: StateStore,
    writer: StateWriter,
    writes: u64,
    size: TreeSize,
}

impl Node {
    fn new() -> Self {
        // Events that the ledger rejects stand for themselves as well as others: their leaves are signed.
        let (first, digest) = batch(1, &BatchDigest::NONE, three());
        let (second, digest) = batch(2, &digest, vec![b"four".to_vec()]);
        let (closing, _) = batch(3, &digest, Vec::new());
        Self::of(vec![peer::item::Item::Genesis(genesis()), registration(), opening(), first, second, closing])
    }

    /// Six batches of a hundred events behind the same three entries.
    fn long() -> Self {
        let mut items = vec![peer::item::Item::Genesis(genesis()), registration(), opening()];
        let mut previous = BatchDigest::NONE;
        for sequence in 1..=6 {
            let (item, digest) = batch(sequence, &previous, (0..100).map(|n| format!("{sequence} {n}").into_bytes()).collect());
            previous = digest;
            items.push(item);
        }
        Self::of(items)
    }

    /// A rule contains the session of the only event.
    fn with_a_rule_that_contains() -> Self {
        let (first, digest) = batch(1, &BatchDigest::NONE, vec![started("s-1").encode_to_vec()]);
        let (second, digest) = batch(2, &digest, vec![b"two".to_vec()]);
        let (closing, _) = batch(3, &digest, Vec::new());
        Self::of(vec![peer::item::Item::Genesis(genesis()), registration(), activation(), opening(), first, second, closing])
    }

    fn of(items: Vec<peer::item::Item>) -> Self {
        let world = World::new();
        let (store, writer) = StateStore::open(&world.dir()).unwrap();
        let mut node = Self { world, store, writer, writes: 0, size: TreeSize(0) };
        let mut ledger = Ledger::open(&*node.store.view()).unwrap();
        for item in items {
            let group = peer::Group { proposed_unix_ns: 1, items: vec![peer::Item { item: Some(item) }] };
            let prepared = PreparedGroup::decode(&group.encode_to_vec().into(), ORIGIN);
            let applied = ledger.apply(&*node.store.view(), &prepared).unwrap();
            node.commit(applied.changes);
        }
        node.size = ledger.tree_size();
        node
    }

    fn commit(&mut self, changes: Changes) {
        self.writes += 1;
        self.writer.commit(&changes, &log_id(1, self.writes), None).unwrap();
    }

    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.commit(Changes { rows: vec![Change { table, key, value: Some(value) }] });
    }

    fn tree(&self, size: u64) -> SignedTree {
        SignedTree { size: TreeSize(size), root: LogTree::new(&*self.store.view(), TreeSize(size)).root().unwrap() }
    }

    /// Asks the node to cosign everything, when it signed `signed` entries before and did not apply `taken` of them.
    async fn cosign(&self, signed: u64, taken: u64) -> Result<(), NotCosigned> {
        let path = self.world.root.path().join("signed-tree");
        let _ = std::fs::remove_file(&path);
        SignedTreeFile::create(&path).unwrap();
        let mut file = SignedTreeFile::open(&path).unwrap();
        if signed > 0 {
            file.advance(self.tree(signed)).unwrap();
        }
        let progress = Progress {
            applied: Some(LogIndex(6)),
            tree_size: self.size,
            last_committed: UnixNanos(1),
            taken: TreeSize(taken),
            installed: 0,
            committed: TreeSize(0),
            containment_generation: 0,
            outlet_generation: 0,
            erasures: 0,
        };
        let (_progress, seen) = watch::channel(progress);
        let (failures, _failed) = failure::channel();
        let (_confirming, confirmed) = watch::channel(Confirmed::NOTHING);
        let state = self.store.clone();
        let (handle, serving) =
            Cosigner { genesis: genesis(), key: key(20), state, progress: seen, confirmed, signed: file, failures }.start();
        let serving = tokio::spawn(serving);
        let answer = loop {
            match handle.cosign(self.tree(self.size.0)).await {
                // It says so after a while, and goes on.
                Err(NotCosigned::Unchecked { .. }) if taken != u64::MAX => (),
                answer => break answer,
            }
        };
        drop(handle);
        serving.await.unwrap();
        answer.map(drop)
    }
}

/// The rows of what collectors signed, in the order of their batches.
fn statements(node: &Node) -> Vec<(Vec<u8>, Vec<u8>)> {
    let range = proofline_ledger::KeyRange { from: &[], to: &[0xff; 64] };
    let rows = node.store.view().scan(Table::Statements, range, proofline_ledger::Direction::Ascending, 100).unwrap();
    rows.into_iter().map(|row| (row.key, row.value)).collect()
}

fn first_statement(node: &Node) -> (Vec<u8>, Vec<u8>) {
    statements(node).swap_remove(0)
}

fn replaced(row: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = row.windows(from.len()).position(|window| window == from).unwrap();
    [&row[..at], to, &row[at + from.len()..]].concat()
}

fn refuted(error: &NotCosigned) -> Arc<NotAuthentic> {
    let NotCosigned::NotAuthentic(why) = error else { panic!("{error}") };
    Arc::clone(why)
}

#[tokio::test]
async fn what_collectors_and_operators_signed_is_cosigned_wherever_the_walk_begins() {
    let node = Node::new();
    for signed in [0, 1, 2, 3, 6, 7, 8] {
        node.cosign(signed, 8).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_rule_contained_is_cosigned_and_what_no_rule_found_is_not() {
    let mut node = Node::with_a_rule_that_contains();
    for signed in [0, 4, 5, 6, 8] {
        node.cosign(signed, 8).await.unwrap();
    }
    let entry = node.store.view().get(Table::Entries, &5_u64.to_be_bytes()).unwrap().unwrap();
    let blamed = replaced(&entry, b"rule starts", b"rule stares");
    node.put(Table::Entries, 5_u64.to_be_bytes().to_vec(), blamed);
    node.cosign(4, 8).await.unwrap_err();
}

#[tokio::test]
async fn a_batch_that_its_collector_did_not_sign_is_not_cosigned() {
    let mut node = Node::new();
    let (key_of_row, row) = first_statement(&node);
    let forged = replaced(&row, &public(COLLECTOR), &public(THIEF));
    node.put(Table::Statements, key_of_row.clone(), forged);
    let error = node.cosign(3, 8).await.unwrap_err();
    assert!(matches!(&*refuted(&error), NotAuthentic::Signature { index: 3, .. }), "{error}");
    // A signature that is good, by somebody whom nobody registered for this collector.
    let (own, stolen) = (statement(COLLECTOR, 1, &BatchDigest::NONE, &three()), statement(THIEF, 1, &BatchDigest::NONE, &three()));
    let row = replaced(&row, &own.public_key, &stolen.public_key);
    node.put(Table::Statements, key_of_row, replaced(&row, &own.signature, &stolen.signature));
    let error = node.cosign(3, 8).await.unwrap_err();
    assert!(matches!(&*refuted(&error), NotAuthentic::OtherKey { index: 3, .. }), "{error}");
    // What this node applied itself it checked then.
    node.cosign(3, 3).await.unwrap();
}

#[tokio::test]
async fn an_entry_that_is_not_in_the_tree_is_not_cosigned() {
    let mut node = Node::new();
    let entry = node.store.view().get(Table::Entries, &3_u64.to_be_bytes()).unwrap().unwrap();
    let other = node.store.view().get(Table::Entries, &4_u64.to_be_bytes()).unwrap().unwrap();
    assert_ne!(entry, other);
    let asked = node.tree(8);
    node.put(Table::Entries, 3_u64.to_be_bytes().to_vec(), other);
    assert_ne!(node.tree(8), asked, "the tile that is not full is hashed from its entries");
    let error = node.cosign(0, 8).await.unwrap_err();
    assert!(matches!(&*refuted(&error), NotAuthentic::Entry { index: 3, .. }), "{error}");
}

/// An entry 7 that says what became of a message, signed with one key in the name of node 1.
fn delivery(seed: u8, alter: impl FnOnce(&mut v1::OutletDelivery)) -> Vec<u8> {
    let mut it = v1::OutletDelivery { outlet_id: "idp".to_owned(), node_id: 1, public_key: public(seed), result: 1, ..Default::default() };
    it.signature = key(seed).sign(&outlet_delivery_signed_bytes(ORIGIN, &it).unwrap()).to_bytes().to_vec();
    alter(&mut it);
    let body = Some(v1::entry_core::Body::OutletDelivery(it));
    let core = v1::EntryCore { index: 7, committed_unix_ns: 1, body, ..Default::default() }.encode_to_vec();
    v1::Entry { core: core.into(), session_root: Vec::new() }.encode_to_vec()
}

#[tokio::test]
async fn a_delivery_that_its_node_did_not_sign_is_not_cosigned() {
    let mut node = Node::new();
    let entry = 7_u64.to_be_bytes().to_vec();
    node.put(Table::Entries, entry.clone(), delivery(20, |_| ()));
    node.cosign(7, 8).await.unwrap();
    node.put(Table::Entries, entry.clone(), delivery(THIEF, |_| ()));
    let error = node.cosign(7, 8).await.unwrap_err();
    assert!(matches!(&*refuted(&error), NotAuthentic::OtherNode { index: 7, node_id: 1 }), "{error}");
    node.put(Table::Entries, entry, delivery(20, |it| it.http_status = 202));
    let error = node.cosign(7, 8).await.unwrap_err();
    assert!(matches!(&*refuted(&error), NotAuthentic::Signature { index: 7, .. }), "{error}");
}

#[tokio::test]
async fn a_long_walk_names_what_is_wrong_wherever_it_lies() {
    let mut node = Node::long();
    for signed in [0, 3, 103, 503] {
        node.cosign(signed, 603).await.unwrap();
    }
    // Entry 403 begins the fifth batch, in the second tile of the log.
    let (row_key, row) = statements(&node).swap_remove(4);
    node.put(Table::Statements, row_key.clone(), replaced(&row, &public(COLLECTOR), &public(THIEF)));
    let error = node.cosign(3, 603).await.unwrap_err();
    assert!(matches!(&*refuted(&error), NotAuthentic::Signature { index: 403, .. }), "{error}");
    node.cosign(503, 603).await.unwrap();
    node.put(Table::Statements, row_key, row);
    node.cosign(0, 603).await.unwrap();
    // An entry of a tile that is full: the tree does not change with it, and all entries of the step are doubted at once.
    let entry = node.store.view().get(Table::Entries, &300_u64.to_be_bytes()).unwrap().unwrap();
    let other = node.store.view().get(Table::Entries, &301_u64.to_be_bytes()).unwrap().unwrap();
    node.put(Table::Entries, 300_u64.to_be_bytes().to_vec(), other);
    let error = node.cosign(0, 603).await.unwrap_err();
    assert!(matches!(&*refuted(&error), NotAuthentic::NotIncluded { index: 300, .. }), "{error}");
    node.put(Table::Entries, 300_u64.to_be_bytes().to_vec(), entry);
    node.cosign(0, 603).await.unwrap();
}

#[tokio::test]
async fn nothing_is_cosigned_while_a_snapshot_is_being_installed() {
    let node = Node::new();
    let error = node.cosign(0, u64::MAX).await.unwrap_err();
    assert!(matches!(error, NotCosigned::Unchecked { .. }), "{error}");
}
