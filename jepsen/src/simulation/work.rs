//! Who asks: collectors who send each batch until they know what became of it, and a responder who revokes meanwhile.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ed25519_dalek::SigningKey;
use proofline_client::Signatory;
use proofline_ledger::{Wanted, listing};
use proofline_proto::{peer::item::Item, v1, v1::command::Action as Command};
use prost::Message as _;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    client::{ask, read},
    node::admit,
    world::{EPOCH_NS, ORIGIN, TENANT, World, open},
};
use crate::{
    history::{Action, Answer, Nonce, Outcome, Way},
    random::Random,
    workload::{
        batches::{Chain, Signed},
        event::{Kind, Maker},
        families::Families,
    },
};

const OPERATORS: [&str; 4] = ["alice", "bob", "rita", "sam"];
/// Batches that are remembered, to be sent again much later.
const REMEMBERED_MAX: usize = 32;
const EVENTS_MAX: u64 = 4;

/// The work that is under way.
pub(super) struct Work {
    stops: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Work {
    /// Begins the ledger, and sets everybody going.
    pub(super) fn begin(world: &Arc<World>) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let families = Families::new("s-");
        let mut tasks = vec![
            tokio::spawn(found(Arc::clone(world), Arc::clone(&stops))),
            tokio::spawn(respond(Arc::clone(world), families.clone(), Arc::clone(&stops))),
        ];
        for place in 0..world.knobs.collectors {
            let collector = Collector::new(world, place, families.clone(), Arc::clone(&stops));
            tasks.push(tokio::spawn(collector.run()));
        }
        Self { stops, tasks }
    }

    /// On return: nobody asks anything any more.
    pub(super) async fn end(self) {
        self.stops.store(true, Ordering::Relaxed);
        for task in self.tasks {
            drop(task.await);
        }
    }
}

fn nonce(lot: &mut Random) -> Nonce {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = lot.next().to_be_bytes().get(place % 8).copied().unwrap_or(0);
    }
    Nonce(bytes)
}

async fn pause(lot: &mut Random, from_ms: u64, to_ms: u64) {
    tokio::time::sleep(Duration::from_micros(lot.between(from_ms * 1_000, to_ms * 1_000))).await;
}

fn any_node(world: &World, lot: &mut Random) -> u64 {
    lot.between(1, world.knobs.nodes)
}

/// Proposes the genesis until the ledger has begun.
async fn found(world: Arc<World>, stops: Arc<AtomicBool>) {
    let public = |name: &str| world.key(name).verifying_key().to_bytes().to_vec();
    let role = |name: &str| if matches!(name, "alice" | "bob") { v1::OperatorRole::Registrar } else { v1::OperatorRole::Responder };
    let operator = |name: &str| v1::OperatorKey {
        operator_id: name.to_owned(),
        public_key: public(name),
        roles: vec![role(name).into()],
        ..Default::default()
    };
    let node = |node_id: u64| v1::NodeKey {
        node_id,
        name: format!("proofline.test/node-{node_id}"),
        public_key: public(&format!("node {node_id}")),
    };
    let genesis = v1::Genesis {
        origin: ORIGIN.to_owned(),
        apply_version: 1,
        log_public_key: public("log"),
        operators: OPERATORS.into_iter().map(operator).collect(),
        nodes: world.nodes().map(node).collect(),
        grants: Vec::new(),
    };
    while !stops.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Some(leader) = world.leader().and_then(|leader| world.running(leader)) else { continue };
        if open(&world.disk(leader.life.node)).live.store_size() > 0 {
            return;
        }
        if let Ok(ticket) = admit(&leader, Item::Genesis(genesis.clone())) {
            drop(tokio::time::timeout(Duration::from_secs(2), ticket.answer()).await);
        }
    }
}

/// Signs a command.
fn command(world: &World, by: &[&str], command: Command, nonce: Nonce) -> Option<v1::SignedCommand> {
    let mut signed = v1::SignedCommand {
        origin: ORIGIN.to_owned(),
        nonce: nonce.0.to_vec(),
        expires_unix_ns: EPOCH_NS + world.now_ns() + 600_000_000_000,
        command: v1::Command { action: Some(command) }.encode_to_vec(),
        signatures: Vec::new(),
    };
    for name in by {
        Signatory { operator_id: (*name).to_owned(), key: world.key(name) }.sign(&mut signed).ok()?;
    }
    Some(signed)
}

/// Sends one command to one node after the other until it is known what became of it. Returns who answered, and its entry.
async fn see_through(
    world: &Arc<World>,
    stops: &AtomicBool,
    lot: &mut Random,
    signed: v1::SignedCommand,
    action: Action,
) -> Option<(u64, u64)> {
    while !stops.load(Ordering::Relaxed) {
        let node = any_node(world, lot);
        match ask(world, node, action.clone(), Item::Command(signed.clone())).await.outcome {
            Outcome::Ok { answer: Answer::Commanded { index } } => return Some((node, index)),
            Outcome::Fail { reason, .. } if is_final(&reason) => return None,
            Outcome::Ok { .. } | Outcome::Fail { .. } | Outcome::Info { .. } => pause(lot, 20, 100).await,
        }
    }
    None
}

/// What the cluster says while it cannot is in capitals; what the ledger refuses for good is a sentence.
fn is_final(reason: &str) -> bool {
    !reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Revokes sessions of the newest family while events of them come in, and sometimes releases them.
async fn respond(world: Arc<World>, families: Families, stops: Arc<AtomicBool>) {
    let lot = &mut Random::of(world.seed, "responder");
    while !stops.load(Ordering::Relaxed) {
        pause(lot, 300, 1_200).await;
        let session = families.to_revoke(lot).id;
        let target = v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: session.clone() };
        let contain = Command::Contain(v1::Contain {
            target: Some(target),
            action: v1::ContainmentAction::RevokeSession.into(),
            reason: "simulated".to_owned(),
            incident_id: String::new(),
        });
        let number = nonce(lot);
        let Some(signed) = command(&world, &["rita"], contain, number) else { return };
        let revoked = see_through(&world, &stops, lot, signed, Action::Revoke { session, nonce: number }).await;
        if let Some((node, index)) = revoked
            && lot.below(5) == 0
        {
            release(&world, &stops, lot, node, index).await;
        }
        pause(lot, 100, 500).await;
        families.advance();
    }
}

async fn release(world: &Arc<World>, stops: &AtomicBool, lot: &mut Random, node: u64, index: u64) {
    pause(lot, 50, 400).await;
    let cases = listing::containments(&open(&world.disk(node)).live.store, "*", Wanted::Everything, 0, usize::MAX).unwrap_or_default();
    let Some(containment) = cases.iter().find(|it| it.cause_index == index).map(|it| it.containment_id) else { return };
    let release = Command::Release(v1::Release { containment_id: containment, reason: "simulated".to_owned(), ..Default::default() });
    let number = nonce(lot);
    let Some(signed) = command(world, &["rita", "sam"], release, number) else { return };
    see_through(world, stops, lot, signed, Action::Release { containment, nonce: number }).await;
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Acknowledged,
    Fenced,
    Open,
}

struct Collector {
    world: Arc<World>,
    stops: Arc<AtomicBool>,
    families: Families,
    lot: Random,
    key: Arc<SigningKey>,
    chain: Chain,
    maker: Maker,
    remembered: VecDeque<Signed>,
}

impl Collector {
    fn new(world: &Arc<World>, place: u64, families: Families, stops: Arc<AtomicBool>) -> Self {
        let name = format!("collector-{place}");
        let key = Arc::new(world.key(&name));
        Self {
            lot: Random::of(world.seed, &name),
            chain: Chain::new(ORIGIN, &name, 0, Arc::clone(&key)),
            maker: Maker::new(world.seed, &name, 0, TENANT, 40),
            world: Arc::clone(world),
            stops,
            families,
            key,
            remembered: VecDeque::new(),
        }
    }

    fn is_stopping(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    async fn run(mut self) {
        if self.register().await.is_none() {
            return;
        }
        while !self.is_stopping() {
            if self.chain.is_open() {
                self.step().await;
            } else {
                self.open().await;
            }
            pause(&mut self.lot, 1, 60).await;
        }
    }

    async fn register(&mut self) -> Option<()> {
        let registration = Command::RegisterCollector(v1::RegisterCollector {
            collector_id: self.chain.id.collector.clone(),
            public_key: self.key.verifying_key().to_bytes().to_vec(),
            spiffe_id: format!("spiffe://proofline.test/{}", self.chain.id.collector),
            tenant_id: TENANT.to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            ..Default::default()
        });
        let nonce = nonce(&mut self.lot);
        let signed = command(&self.world, &["alice"], registration, nonce)?;
        let action = Action::Govern { what: format!("register {}", self.chain.id.collector), nonce };
        see_through(&self.world, &self.stops, &mut self.lot, signed, action).await.map(drop)
    }

    async fn step(&mut self) {
        match self.lot.below(100) {
            0..4 => self.race_an_opening().await,
            4..6 => self.deliver(0).await,
            6..14 => self.send_again().await,
            14..20 => {
                let node = any_node(&self.world, &mut self.lot);
                let lane = Some(self.chain.id.clone()).filter(|_| self.lot.below(2) == 0);
                read(&self.world, node, lane, &mut self.lot).await;
            }
            _ => {
                let count = self.lot.between(1, EVENTS_MAX);
                self.deliver(count).await;
            }
        }
    }

    fn sign(&mut self, count: u64) -> Option<Signed> {
        let now = EPOCH_NS + self.world.now_ns();
        let mut events = Vec::new();
        for _ in 0..count {
            let session = self.families.session(&mut self.lot);
            let kind = if self.lot.below(4) == 0 { Kind::Intent } else { Kind::Note };
            events.push(self.maker.make(now, kind, &session, &mut self.lot));
        }
        self.chain.sign(events).ok().flatten()
    }

    /// Sees a batch through. One that is fenced is given up: the events of the next one are others.
    async fn deliver(&mut self, count: u64) {
        let Some(signed) = self.sign(count) else { return };
        match self.settle(&signed).await {
            Settled::Acknowledged => self.remember(signed),
            Settled::Fenced | Settled::Open => self.chain.abandon(),
        }
    }

    fn remember(&mut self, signed: Signed) {
        self.remembered.push_back(signed);
        if self.remembered.len() > REMEMBERED_MAX {
            self.remembered.pop_front();
        }
    }

    /// Sends one batch to one, two or three nodes at once, again and again, until it is known what became of it.
    async fn settle(&mut self, signed: &Signed) -> Settled {
        loop {
            let count = self.lot.one_of(&[1, 1, 1, 2, 2, 3]).copied().unwrap_or(1);
            let mut answers = self.launch(signed, count);
            while let Some(outcome) = answers.recv().await {
                match outcome {
                    Outcome::Ok { .. } => return Settled::Acknowledged,
                    Outcome::Fail { for_good: true, .. } => return Settled::Fenced,
                    Outcome::Fail { .. } | Outcome::Info { .. } => {}
                }
            }
            if self.is_stopping() {
                return Settled::Open;
            }
            pause(&mut self.lot, 20, 150).await;
        }
    }

    fn launch(&mut self, signed: &Signed, count: usize) -> mpsc::Receiver<Outcome> {
        let (sender, answers) = mpsc::channel(count.max(1));
        let mut nodes: Vec<u64> = self.world.nodes().collect();
        self.lot.shuffle(&mut nodes);
        for node in nodes.into_iter().take(count) {
            let (world, sender, batch) = (Arc::clone(&self.world), sender.clone(), signed.batch.clone());
            let events = signed.events.iter().map(|made| made.sent.clone()).collect();
            let action = Action::Append { batch: signed.id.clone(), way: Way::Append, events };
            tokio::spawn(async move {
                let outcome = ask(&world, node, action, Item::Batch(batch)).await.outcome;
                // Nobody waits for it when another node answered first.
                drop(sender.send(outcome).await);
            });
        }
        answers
    }

    /// Opens the lane, by one opening that is sent again until it is answered.
    async fn open(&mut self) {
        let nonce = nonce(&mut self.lot);
        let Some(open) = self.chain.opening(nonce) else { return };
        while !self.is_stopping() {
            let node = any_node(&self.world, &mut self.lot);
            let action = Action::OpenLane { lane: self.chain.id.clone(), nonce };
            if let Some(answer) = ask(&self.world, node, action, Item::OpenLane(open.clone())).await.opened {
                return self.chain.opened(&answer);
            }
            pause(&mut self.lot, 20, 150).await;
        }
        self.chain.abandon();
    }

    /// Opens the lane anew while a batch of the old epoch is on its way: it must be in the log once, or never.
    async fn race_an_opening(&mut self) {
        let Some(signed) = self.sign(2) else { return };
        let answers = self.launch(&signed, 2);
        self.open().await;
        drop(answers);
        if self.settle(&signed).await == Settled::Acknowledged {
            self.remember(signed);
        }
    }

    /// Sends a batch again that was acknowledged some time ago: the answer must be the first one.
    async fn send_again(&mut self) {
        let place = self.lot.place(self.remembered.len());
        if let Some(signed) = self.remembered.get(place).cloned() {
            drop(self.launch(&signed, 1));
        }
    }
}
