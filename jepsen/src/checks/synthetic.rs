//! Made-up runs that are right: a history and three nodes, out of a seed, in milliseconds.
//!
//! The ledger's own state machine makes the log, so entries, verdicts and trees are real; times, tries and answers are drawn
//! by lot. Checks are tried on such runs: they must pass, and every alteration of them must not.

mod asking;
mod governing;
mod writing;

use std::collections::HashMap;

use ed25519_dalek::SigningKey;
use proofline_ledger::{Ledger, MapStore, Outcome as Applied, PreparedGroup, PreparedItem, UnixNanos};
use proofline_proto::{peer, v1};
use proofline_verifier::{Frontier, LogHash, TreeHash as _};
use prost::bytes::Bytes;

use super::{Bounds, Case, Entry, FinalState, Forgery};
use crate::{
    history::{
        Action, Answer, CheckpointSeen, Digest, History, Mark, Marked, Moment, NodeId, Observation, Operation, OperationId, Outcome,
        Process, RunHeader,
    },
    offline::NodeState,
    random::Random,
};
use writing::Lane;

const ORIGIN: &str = "proofline.test/agents";
const TENANT: &str = "acme";
const NODES: u64 = 3;
/// When a made-up run begins, in nanoseconds since 1970.
const EPOCH_NS: u64 = 1_700_000_000_000_000_000;
const MILLISECOND: u64 = 1_000_000;
const LOOK_EVERY: u64 = 2_000 * MILLISECOND;

/// A made-up run, and the keys of its cluster.
pub struct Synthetic {
    /// The run.
    pub case: Case,
    /// The keys.
    pub forgery: Forgery,
}

/// Makes a run of about `steps` requests; none when a key or name does not fit, which no seed leads to.
#[must_use]
pub fn synthesise(seed: u64, steps: usize) -> Option<Synthetic> {
    let mut world = World::new(seed)?;
    for _ in 0..steps {
        world.step()?;
    }
    world.finish()
}

struct World {
    lot: Random,
    ledger: Ledger,
    store: MapStore,
    log: Vec<Bytes>,
    tree: Frontier<LogHash>,
    /// The entries of each session.
    sessions: HashMap<String, Vec<u64>>,
    /// Nanoseconds since the run began, of the entry that is applied next.
    now: u64,
    history: History,
    lanes: Vec<Lane>,
    forgery: Forgery,
    operators: Vec<(String, SigningKey)>,
    published: Option<CheckpointSeen>,
    /// When a checkpoint is published and looked at, whatever the lots say: a cluster in order does so.
    look_at: u64,
    /// What each witness saw last.
    held: [Option<CheckpointSeen>; 3],
    /// Streams that are open: of the entries, and of the containments.
    streams: Vec<Operation>,
    /// Containments in force that a command began, by their number.
    contained: Vec<u64>,
    revoked: u64,
    next_operation: u64,
}

impl World {
    fn new(seed: u64) -> Option<Self> {
        let key = |name: &str| SigningKey::from_bytes(&Digest::of(format!("{seed}/{name}").as_bytes()).0);
        let nodes: Vec<_> = (1..=NODES).map(|node| (format!("proofline.test/node-{node}"), key(&format!("node {node}")))).collect();
        let store = MapStore::default();
        let run = RunHeader {
            version: 1,
            seed,
            origin: ORIGIN.to_owned(),
            tenant: TENANT.to_owned(),
            nodes: (1..=NODES).map(NodeId).collect(),
            scheduled: Vec::new(),
            began_unix_ns: EPOCH_NS,
            subject: "made up".to_owned(),
        };
        let mut world = Self {
            lot: Random::of(seed, "synthetic"),
            ledger: Ledger::open(&store).ok()?,
            store,
            log: Vec::new(),
            tree: Frontier::default(),
            sessions: HashMap::new(),
            now: MILLISECOND,
            history: History::of(run),
            lanes: Vec::new(),
            forgery: Forgery::new(ORIGIN, key("log"), nodes.clone()),
            operators: ["alice", "bob", "rita", "sam"].map(|name| (name.to_owned(), key(name))).to_vec(),
            published: None,
            look_at: 0,
            held: [const { None }; 3],
            streams: Vec::new(),
            contained: Vec::new(),
            revoked: 0,
            next_operation: 0,
        };
        world.found(key("log"), &nodes)?;
        for place in 0..3 {
            world.register(&format!("collector-{place}"), key(&format!("collector {place}")))?;
        }
        world.publish()?;
        world.open_streams();
        Some(world)
    }

    fn step(&mut self) -> Option<()> {
        self.now += self.lot.between(10, 40) * MILLISECOND;
        if self.now >= self.look_at {
            self.publish()?;
            self.look()?;
            self.look_at = self.now + LOOK_EVERY;
        }
        match self.lot.below(100) {
            0..50 => self.append()?,
            50..54 => self.send_again()?,
            54..56 => self.equivocate()?,
            56..59 => self.open_lane()?,
            59..63 => self.read_head(),
            63..70 => self.read(),
            70..74 => self.read_session(),
            74..80 => self.prove()?,
            80..90 => self.look()?,
            90..92 => self.revoke()?,
            92..93 => self.release()?,
            _ => self.publish()?,
        }
        Some(())
    }

    /// Applies one item, and takes what it appends into the log.
    fn apply(&mut self, item: peer::item::Item) -> Option<Applied> {
        let item = PreparedItem::new(peer::Item { item: Some(item) }, ORIGIN);
        let group = PreparedGroup { proposed: UnixNanos(EPOCH_NS + self.now), items: vec![item] };
        let mut applied = self.ledger.apply(&self.store, &group).ok()?;
        self.store.commit(applied.changes);
        let (from, to) = (proofline_ledger::EntryIndex(self.log.len() as u64), proofline_ledger::EntryIndex(self.ledger.tree_size().0));
        for entry in proofline_ledger::listing::entries(&self.store, from, to, usize::MAX).ok()? {
            let entry = Bytes::from(entry);
            self.tree.push(LogHash::leaf(&entry));
            if let Some(at) = Entry::parse(&entry).and_then(|entry| entry.session) {
                self.sessions.entry(at.session).or_default().push(self.log.len() as u64);
            }
            self.log.push(entry);
        }
        applied.outcomes.pop()
    }

    /// Draws when something that is applied now was asked, and when it was answered.
    fn span(&mut self) -> (Moment, Moment) {
        let before = self.lot.between(1, 20 * MILLISECOND);
        let after = self.lot.between(1, 20 * MILLISECOND);
        (Moment(self.now.saturating_sub(before)), Moment(self.now + after))
    }

    fn node(&mut self) -> NodeId {
        NodeId(self.lot.between(1, NODES))
    }

    fn operation(&mut self, node: NodeId, action: Action, (invoked, returned): (Moment, Moment), outcome: Outcome) -> Operation {
        let id = OperationId(self.next_operation);
        self.next_operation += 1;
        let returned = if matches!(outcome, Outcome::Info { .. }) { Moment::NEVER } else { returned };
        Operation { id, process: Process(id.0), node, action, invoked, returned, outcome, observed: Vec::new() }
    }

    fn record(&mut self, node: NodeId, action: Action, span: (Moment, Moment), outcome: Outcome) {
        let operation = self.operation(node, action, span, outcome);
        self.history.operations.push(operation);
    }

    fn answered(&mut self, action: Action, span: (Moment, Moment), answer: Answer) {
        let node = self.node();
        self.record(node, action, span, Outcome::Ok { answer });
    }

    fn observe(&mut self, place: usize, what: crate::history::Observed) {
        let at = Moment(self.now);
        if let Some(stream) = self.streams.get_mut(place) {
            stream.observed.push(Observation { at, what });
        }
    }

    fn finish(mut self) -> Option<Synthetic> {
        self.now += 50 * MILLISECOND;
        self.publish()?;
        self.look()?;
        self.close_streams();
        let at = Moment(self.now);
        self.history.marks = vec![
            Marked { at: Moment(1), what: Mark::Leads { node: NodeId(1), term: 1 } },
            Marked { at, what: Mark::Healed },
            Marked { at, what: Mark::Recovered { size: self.log.len() as u64 } },
        ];
        self.history.operations.sort_by_key(|it| it.invoked);
        let signed = self.published.as_ref().map(|published| (published.size, published.root));
        let node = |node| NodeState {
            node: NodeId(node),
            log: self.log.clone(),
            state_digest: Digest(self.ledger.state_digest().0),
            applied: None,
            checkpoint: self.published.clone(),
            signed,
            journal: None,
        };
        let finals = FinalState { nodes: (1..=NODES).map(node).collect(), absent: Vec::new(), policies: vec![self.forgery.policy()?] };
        let bounds = Bounds { acknowledged_min: 10, ..Bounds::default() };
        Some(Synthetic { case: Case { history: self.history, finals, bounds }, forgery: self.forgery })
    }
}

fn verdict(receipt: &v1::EventReceipt) -> crate::history::Receipt {
    crate::history::Receipt { ruling: receipt.verdict().into(), position: receipt.session_position }
}
