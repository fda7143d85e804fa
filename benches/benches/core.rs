//! The pure core on one thread and an ordered map: what one event, one proof and one verification cost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ed25519_dalek::{Signer as _, SigningKey};
use proofline_ledger::{
    ContentHash, EntryIndex, Frontier, Hash, KeyIndex, Ledger, Lineage, LogHash, LogTree, MapStore, Outcome, Position, PreparedGroup,
    PreparedItem, TreeHash, Under, UnixNanos, batch_digest, indexed_commitment, session_at, session_path, signed,
};
use proofline_proto::{peer, v1};
use proofline_verifier as verifier;
use prost::Message as _;
use prost::bytes::Bytes;
use verifier::TreeHash as _;

const ORIGIN: &str = "bench.test/log";
const NOW: u64 = 1_700_000_000_000_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> Vec<u8> {
    key(seed).verifying_key().to_bytes().to_vec()
}

/// About 350 bytes, the size that the load generator uses too.
fn event(session: &str) -> Bytes {
    v1::Event {
        event_id: vec![7; 16],
        tenant_id: "acme".to_owned(),
        observed_unix_ns: NOW,
        vantage: v1::Vantage::GatewayObserved.into(),
        session: Some(v1::SessionRef { session_id: session.to_owned(), task_id: "task-0001".to_owned(), ..Default::default() }),
        attribution: Some(v1::Attribution {
            initiator: Some(v1::Principal {
                kind: v1::PrincipalKind::Human.into(),
                issuer: "https://idp.example.com".to_owned(),
                subject: "00u1abcd".to_owned(),
                ..Default::default()
            }),
            agent: Some(v1::Agent { agent_id: "agent-7".to_owned(), version: "1.4.2".to_owned(), ..Default::default() }),
            ..Default::default()
        }),
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
            tool: Some(v1::Tool { server_id: "mcp-files".to_owned(), name: "read_text_file".to_owned(), ..Default::default() }),
            resources: vec![v1::Resource { uri: "file:///srv/app/config.toml".to_owned(), ..Default::default() }],
            declared_purpose: "fix the failing build".to_owned(),
            ..Default::default()
        })),
    }
    .encode_to_vec()
    .into()
}

struct World {
    ledger: Ledger,
    store: MapStore,
    sequence: u64,
    previous: Hash,
}

impl World {
    fn new() -> Self {
        let store = MapStore::default();
        let mut world = Self { ledger: Ledger::open(&store).unwrap(), store, sequence: 0, previous: Hash::ZERO };
        let operator = |name: &str, seed| v1::OperatorKey {
            operator_id: name.to_owned(),
            public_key: public(seed),
            roles: vec![v1::OperatorRole::Registrar.into()],
            ..Default::default()
        };
        let genesis = v1::Genesis {
            origin: ORIGIN.to_owned(),
            apply_version: 1,
            log_public_key: public(1),
            operators: vec![operator("a", 2), operator("b", 3)],
            nodes: vec![v1::NodeKey { node_id: 1, name: "n1".to_owned(), public_key: public(4) }],
            grants: Vec::new(),
        };
        world.apply(vec![PreparedItem::Genesis(Box::new(genesis))]);
        let registration = v1::RegisterCollector {
            collector_id: "c".to_owned(),
            public_key: public(5),
            spiffe_id: "spiffe://t/c".to_owned(),
            tenant_id: "acme".to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            events_per_hour: u64::MAX / 2,
            sessions_per_hour: u64::MAX / 2,
            payload_bytes_per_hour: u64::MAX / 2,
        };
        let action = Some(v1::command::Action::RegisterCollector(registration));
        let mut command = v1::SignedCommand {
            origin: ORIGIN.to_owned(),
            nonce: vec![1; 16],
            expires_unix_ns: NOW + 1_000_000_000,
            command: v1::Command { action }.encode_to_vec(),
            signatures: Vec::new(),
        };
        let signature = key(2).sign(&signed::command(&command)).to_bytes().to_vec();
        command.signatures = vec![v1::CommandSignature { operator_id: "a".to_owned(), public_key: public(2), signature }];
        world.item(peer::item::Item::Command(command));
        let mut open = v1::SignedOpenLane { public_key: public(5), collector_id: "c".to_owned(), nonce: vec![1; 16], ..Default::default() };
        open.signature = key(5).sign(&signed::open_lane(ORIGIN, &open)).to_bytes().to_vec();
        world.item(peer::item::Item::OpenLane(open));
        world
    }

    fn item(&mut self, item: peer::item::Item) {
        self.apply(vec![PreparedItem::new(peer::Item { item: Some(item) }, ORIGIN)]);
    }

    fn apply(&mut self, items: Vec<PreparedItem>) {
        let applied = self.ledger.apply(&self.store, &PreparedGroup { proposed: UnixNanos(NOW), items }).unwrap();
        assert!(applied.outcomes.iter().all(|outcome| !matches!(outcome, Outcome::Refused(_))), "{:?}", applied.outcomes);
        self.store.commit(applied.changes);
    }

    fn batch(&mut self, events: Vec<Bytes>) -> v1::Batch {
        self.sequence += 1;
        let mut tree = Frontier::<ContentHash>::default();
        events.iter().for_each(|event| tree.push(ContentHash::leaf(event), |_, _| ()));
        let public_key = public(5);
        let bytes = signed::batch(
            ORIGIN,
            &signed::StatementFields {
                public_key: &public_key,
                collector_id: "c",
                lane: 0,
                epoch: 1,
                sequence: self.sequence,
                previous: &self.previous.0,
                event_count: events.len() as u32,
                events_root: tree.root(),
            },
        );
        let previous = std::mem::replace(&mut self.previous, batch_digest(&bytes)).0.to_vec();
        let signature = key(5).sign(&bytes).to_bytes().to_vec();
        v1::Batch { public_key, collector_id: "c".to_owned(), lane: 0, epoch: 1, sequence: self.sequence, previous, events, signature }
    }

    fn grow(&mut self, events: usize, sessions: usize) {
        for from in (0..events).step_by(1000) {
            let events = (from..events.min(from + 1000)).map(|n| event(&format!("session-{}", n % sessions))).collect();
            let batch = self.batch(events);
            self.item(peer::item::Item::Batch(batch));
        }
    }
}

fn hundred(world: &mut World, sessions: usize) -> v1::Batch {
    world.batch((0..100).map(|n| event(&format!("session-{}", n % sessions))).collect())
}

fn applying(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a batch of 100 events");
    group.throughput(Throughput::Elements(100));
    group.bench_function("parse and check the signature", |bench| {
        let batch = hundred(&mut World::new(), 10);
        let item = peer::Item { item: Some(peer::item::Item::Batch(batch)) };
        bench.iter(|| black_box(PreparedItem::new(item.clone(), ORIGIN)));
    });
    for size in [10_000, 100_000] {
        group.bench_function(format!("apply at {size} entries"), |bench| {
            let mut world = World::new();
            world.grow(size, 100);
            bench.iter_custom(|times| {
                let mut spent = std::time::Duration::ZERO;
                for _ in 0..times {
                    let batch = hundred(&mut world, 10);
                    let item = PreparedItem::new(peer::Item { item: Some(peer::item::Item::Batch(batch)) }, ORIGIN);
                    let prepared = PreparedGroup { proposed: UnixNanos(NOW), items: vec![item] };
                    let started = std::time::Instant::now();
                    let applied = world.ledger.apply(&world.store, &prepared).unwrap();
                    spent += started.elapsed();
                    world.store.commit(applied.changes);
                }
                spent
            });
        });
    }
    group.finish();
}

fn signatures(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("signatures of 220 bytes");
    let made: Vec<_> = (1..=64).map(|seed| (public(seed), vec![seed; 220], key(seed).sign(&[seed; 220]).to_bytes())).collect();
    let claims: Vec<_> = made.iter().map(|(public_key, message, signature)| signed::Claim { public_key, message, signature }).collect();
    group.throughput(Throughput::Elements(1));
    group.bench_function("check one, strictly", |bench| bench.iter(|| black_box(claims[0].check())));
    for count in [8, 64] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("check {count} together"), |bench| bench.iter(|| black_box(signed::check_together(&claims[..count]))));
    }
    group.finish();
}

fn trees(criterion: &mut Criterion) {
    let leaf = LogHash::leaf(b"leaf");
    criterion.bench_function("frontier: push one leaf (SHA-256)", |bench| {
        let mut tree = Frontier::<LogHash>::default();
        bench.iter(|| tree.push(leaf, |_, _| ()));
    });
    criterion.bench_function("frontier: push and root (BLAKE3, a million leaves)", |bench| {
        let mut tree = Frontier::<ContentHash>::default();
        (0..1_000_000).for_each(|_| tree.push(leaf, |_, _| ()));
        bench.iter_batched_ref(
            || tree.clone(),
            |tree| {
                tree.push(leaf, |_, _| ());
                black_box(tree.root())
            },
            BatchSize::SmallInput,
        );
    });
}

fn proofs(criterion: &mut Criterion) {
    let mut world = World::new();
    world.grow(200_000, 1);
    let size = world.ledger.tree_size();
    let index = EntryIndex(123_456);
    criterion.bench_function("log inclusion proof, 200,000 entries", |bench| {
        bench.iter(|| black_box(LogTree::new(&world.store, size).inclusion_path(index).unwrap()));
    });
    let session = session_at(&world.store, "acme", "session-0", size).unwrap().unwrap();
    criterion.bench_function("session proof, 200,000 entries in one session", |bench| {
        bench.iter(|| black_box(session_path(&world.store, &session, Position(100_000)).unwrap()));
    });
    let path = LogTree::new(&world.store, size).inclusion_path(index).unwrap().unwrap();
    let path: Vec<_> = path.iter().map(|hash| verifier::LogHash::from_bytes(hash.0)).collect();
    let entry = proofline_ledger::listing::entry(&world.store, index).unwrap().unwrap();
    let root = verifier::LogHash::from_bytes(LogTree::new(&world.store, size).root().unwrap().0);
    criterion.bench_function("verify an inclusion proof, 200,000 entries", |bench| {
        bench.iter(|| {
            let leaf = verifier::LogHash::leaf(&entry);
            verifier::verify_inclusion(leaf, verifier::LeafIndex(index.0), verifier::TreeSize(size.0), root, &path).unwrap();
        });
    });
}

/// An event with ten keys: one of 100 agents, 1,000 sessions and 5,000 resources.
fn keyed_event(number: usize, sessions: usize) -> Bytes {
    let mut event = v1::Event::decode(event(&format!("session-{}", number % sessions))).unwrap();
    let attribution = event.attribution.as_mut().unwrap();
    attribution.agent.as_mut().unwrap().agent_id = format!("agent-{}", number % sessions % 100);
    attribution.credential = Some(v1::Credential { credential_id: format!("credential-{}", number % sessions), ..Default::default() });
    if let Some(v1::event::Body::ActionIntent(intent)) = &mut event.body {
        let uri = format!("https://records.example.com/customer/{}", number * 7 % 5_000);
        intent.resources = vec![v1::Resource { uri, system: "crm".to_owned(), ..Default::default() }];
    }
    event.encode_to_vec().into()
}

fn grow_keyed(world: &mut World, events: std::ops::Range<usize>, sessions: usize) {
    for from in events.clone().step_by(100) {
        let batch = world.batch((from..events.end.min(from + 100)).map(|number| keyed_event(number, sessions)).collect());
        world.item(peer::item::Item::Batch(batch));
    }
}

fn keys(criterion: &mut Criterion) {
    let mut world = World::new();
    grow_keyed(&mut world, 0..60_000, 1_000);
    let indexed = indexed(&mut world);
    grow_keyed(&mut world, 60_000..80_000, 1_000);
    let size = world.ledger.tree_size();
    let mut group = criterion.benchmark_group("keys");
    group.sample_size(10).throughput(Throughput::Elements(size.0 - indexed.size().0));
    group.bench_function("index an interval of 20,000 entries with ten keys each", |bench| {
        let interval = |mut index: KeyIndex| {
            while index.size() < size {
                index.advance(&world.store, size).unwrap();
            }
            index
        };
        bench.iter_batched(|| indexed.clone(), interval, BatchSize::LargeInput);
    });
    group.finish();
}

/// Indexes everything, has it committed to and written.
fn indexed(world: &mut World) -> KeyIndex {
    let size = world.ledger.tree_size();
    let mut index = KeyIndex::open(&world.store).unwrap();
    while index.size() < size {
        index.advance(&world.store, size).unwrap();
    }
    let (map_root, state_digest) = (index.root().0.to_vec(), world.ledger.state_digest().0.to_vec());
    let at = EntryIndex(size.0);
    world.item(peer::item::Item::Commitment(v1::StateCommitment { size: size.0, map_root, state_digest }));
    world.store.commit(index.take_changes(Some(at)));
    index
}

fn lineage(criterion: &mut Criterion) {
    let mut world = World::new();
    grow_keyed(&mut world, 0..200_000, 20_000);
    indexed(&mut world);
    let start = v1::Key { dimension: v1::Dimension::Agent.into(), tenant_id: "acme".to_owned(), value: "agent-7".to_owned() };
    let question =
        v1::LineageQuestion { starts: vec![start], direction: v1::LineageDirection::Down.into(), depth: 2, ..Default::default() };
    let under = Under {
        note: vec![0; 600],
        size: world.ledger.tree_size(),
        commitment: indexed_commitment(&world.store).unwrap(),
        page_entries: 100,
    };
    criterion.bench_function("lineage: a page of 100 entries out of 200,000 in 20,000 sessions", |bench| {
        let mut answer = Lineage::begin(&world.store, question.clone(), under.clone()).unwrap();
        bench.iter(|| {
            let page = answer.next_page(&mut || true).unwrap();
            if page.as_ref().is_none_or(|page| page.last) {
                answer = Lineage::begin(&world.store, question.clone(), under.clone()).unwrap();
            }
            black_box(page)
        });
    });
}

criterion_group!(core, applying, signatures, trees, proofs, keys, lineage);
criterion_main!(core);
