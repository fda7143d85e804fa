//! A ledger small enough to see through: it appends what it is told, also what no honest ledger would, and signs it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use proofline_proto::v1;
use prost::Message as _;
use sha2::Digest as _;
use v1::command::Action;
use v1::entry_core::Body;

use crate::naive::{CONTENT, Hash, LOG};

pub(crate) const ORIGIN: &str = "ledger.example/agents";
pub(crate) const TENANT: &str = "acme";
pub(crate) const START_NS: u64 = 1_700_000_000_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Somebody with a key.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) name: &'static str,
    pub(crate) key: SigningKey,
}

impl Signer {
    pub(crate) fn new(name: &'static str, seed: u8) -> Self {
        Self { name, key: SigningKey::from_bytes(&[seed; 32]) }
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        self.key.verifying_key().as_bytes().to_vec()
    }

    fn key_id(&self, kind: u8) -> [u8; 4] {
        let hash = sha2::Sha256::digest([self.name.as_bytes(), &[b'\n', kind], &self.public()].concat());
        hash[..4].try_into().unwrap()
    }

    pub(crate) fn vkey(&self, kind: u8) -> String {
        let encoded = STANDARD.encode([&[kind][..], &self.public()].concat());
        format!("{}+{}+{encoded}", self.name, hex::encode(self.key_id(kind)))
    }

    pub(crate) fn log_line(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode([&self.key_id(1)[..], &signature].concat()))
    }

    pub(crate) fn cosignature_line(&self, text: &str, unix_s: u64) -> String {
        let signature = self.key.sign(format!("cosignature/v1\ntime {unix_s}\n{text}").as_bytes()).to_bytes();
        let blob = [&self.key_id(4)[..], &unix_s.to_be_bytes(), &signature].concat();
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(blob))
    }
}

pub(crate) fn log_key() -> Signer {
    Signer::new(ORIGIN, 1)
}

pub(crate) fn nodes() -> [Signer; 3] {
    [Signer::new("node1.ledger.example", 11), Signer::new("node2.ledger.example", 12), Signer::new("node3.ledger.example", 13)]
}

pub(crate) fn alice() -> Signer {
    Signer::new("alice", 21)
}

pub(crate) fn bob() -> Signer {
    Signer::new("bob", 22)
}

/// A responder and nothing else.
pub(crate) fn carol() -> Signer {
    Signer::new("carol", 23)
}

pub(crate) fn gateway() -> Signer {
    Signer::new("gateway", 31)
}

pub(crate) fn sidecar() -> Signer {
    Signer::new("sidecar", 32)
}

/// Two of three nodes.
pub(crate) fn policy() -> String {
    let [one, two, three] = nodes();
    format!(
        "log {}\nwitness n1 {}\nwitness n2 {}\nwitness n3 {}\ngroup nodes 2 n1 n2 n3\nquorum nodes\n",
        log_key().vkey(1),
        one.vkey(4),
        two.vkey(4),
        three.vkey(4)
    )
}

/// What the ledger keeps of one batch.
#[derive(Clone)]
pub(crate) struct KeptBatch {
    pub(crate) statement: v1::BatchStatement,
    pub(crate) events: Vec<Vec<u8>>,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) now_ns: u64,
    pub(crate) batches: Vec<KeptBatch>,
    sessions: BTreeMap<(String, String), Vec<(usize, Hash)>>,
    /// (collector, lane) to the last sequence and digest.
    lanes: BTreeMap<(String, u32), (u64, Vec<u8>)>,
    commands: u8,
    /// What a rule finds in the next event, and the facts that it was asked about.
    pub(crate) finding: Option<(&'static str, Vec<u8>)>,
    /// Facts of decisions, by entry.
    pub(crate) facts: BTreeMap<usize, Vec<u8>>,
}

impl World {
    /// A ledger with its genesis and the collector `gateway`, registered for every agent.
    pub(crate) fn new() -> Self {
        let mut world = Self::with_genesis(&genesis());
        world.command(register(&gateway(), &["*"]), &[&alice()]);
        world
    }

    pub(crate) fn with_genesis(genesis: &v1::Genesis) -> Self {
        let mut world = Self {
            entries: Vec::new(),
            now_ns: START_NS,
            batches: Vec::new(),
            sessions: BTreeMap::new(),
            lanes: BTreeMap::new(),
            commands: 0,
            finding: None,
            facts: BTreeMap::new(),
        };
        world.append(Body::Genesis(genesis.clone()), None);
        world
    }

    /// The same log when it had only `size` entries.
    pub(crate) fn cut(&self, size: usize) -> Self {
        Self { entries: self.entries[..size].to_vec(), ..self.clone() }
    }

    pub(crate) fn size(&self) -> usize {
        self.entries.len()
    }

    /// Appends an entry, in a session when one is named.
    pub(crate) fn append(&mut self, body: Body, session: Option<&str>) -> usize {
        let decision = matches!(body, Body::Event(_)).then(|| self.decide());
        let members = session.map_or(0, |session| self.members(session).len() as u64);
        let place =
            session.map(|session| v1::SessionPosition { tenant_id: TENANT.to_owned(), session_id: session.to_owned(), position: members });
        let core = v1::EntryCore { index: self.size() as u64, committed_unix_ns: self.now_ns, session: place, decision, body: Some(body) };
        self.now_ns += SECOND_NS;
        self.append_core(core.encode_to_vec(), session)
    }

    fn decide(&mut self) -> v1::Decision {
        let Some((rule_id, facts)) = self.finding.take() else {
            return v1::Decision { verdict: v1::Verdict::Allow.into(), ..Default::default() };
        };
        let facts_digest = blake3::derive_key("proofline/v1 facts", &facts).to_vec();
        self.facts.insert(self.size(), facts);
        let finding = v1::Finding { rule_id: rule_id.to_owned(), severity: 3, ..Default::default() };
        v1::Decision { verdict: v1::Verdict::Deny.into(), findings: vec![finding], facts_digest, ..Default::default() }
    }

    /// Appends an entry with exactly this core.
    pub(crate) fn append_core(&mut self, core: Vec<u8>, session: Option<&str>) -> usize {
        let index = self.size();
        let mut session_root = Vec::new();
        if let Some(session) = session {
            let members = self.sessions.entry((TENANT.to_owned(), session.to_owned())).or_default();
            members.push((index, (CONTENT.leaf)(&core)));
            session_root = CONTENT.root(&members.iter().map(|(_, leaf)| *leaf).collect::<Vec<_>>()).to_vec();
        }
        self.entries.push(v1::Entry { core: core.into(), session_root }.encode_to_vec());
        index
    }

    /// Appends exactly these bytes, outside every session.
    pub(crate) fn append_raw(&mut self, entry: Vec<u8>) -> usize {
        self.entries.push(entry);
        self.size() - 1
    }

    pub(crate) fn command(&mut self, action: Action, signers: &[&Signer]) -> usize {
        let signed = self.signed_command(action, signers);
        self.append(Body::Command(signed), None)
    }

    pub(crate) fn seal(&mut self, session: &str, signers: &[&Signer]) -> usize {
        let seal = v1::SealSession { tenant_id: TENANT.to_owned(), session_id: session.to_owned(), reason: "closed".to_owned() };
        let signed = self.signed_command(Action::SealSession(seal), signers);
        self.append(Body::Command(signed), Some(session))
    }

    pub(crate) fn signed_command(&mut self, action: Action, signers: &[&Signer]) -> v1::SignedCommand {
        self.commands += 1;
        let signed = v1::SignedCommand {
            origin: ORIGIN.to_owned(),
            nonce: vec![self.commands; 16],
            expires_unix_ns: self.now_ns + 60 * SECOND_NS,
            command: v1::Command { action: Some(action) }.encode_to_vec(),
            signatures: Vec::new(),
        };
        sign_command(signed, signers)
    }

    /// Signs and commits a batch of events on lane 0, each into the session that it names.
    pub(crate) fn batch(&mut self, collector: &Signer, events: &[v1::Event]) -> Vec<usize> {
        self.forged_batch(collector, collector, events)
    }

    /// As `batch`, but signed by another key than the one that the statement names.
    pub(crate) fn forged_batch(&mut self, collector: &Signer, signer: &Signer, events: &[v1::Event]) -> Vec<usize> {
        let exact: Vec<_> = events.iter().map(prost::Message::encode_to_vec).collect();
        let (sequence, previous) = self.lanes.get(&(collector.name.to_owned(), 0)).cloned().unwrap_or((0, vec![0; 32]));
        let mut statement = v1::BatchStatement {
            public_key: collector.public(),
            collector_id: collector.name.to_owned(),
            lane: 0,
            epoch: 1,
            sequence: sequence + 1,
            previous,
            event_count: exact.len() as u32,
            events_root: CONTENT.root(&CONTENT.leaves(&exact)).to_vec(),
            signature: Vec::new(),
        };
        let bytes = batch_bytes(&statement);
        statement.signature = signer.key.sign(&bytes).to_bytes().to_vec();
        let digest = blake3::derive_key("proofline/v1 batch statement", &bytes).to_vec();
        self.lanes.insert((collector.name.to_owned(), 0), (sequence + 1, digest));
        self.batches.push(KeptBatch { statement: statement.clone(), events: exact.clone() });
        let sessions = events.iter().map(|event| event.session.as_ref().map(|session| session.session_id.clone()));
        let recorded =
            exact.into_iter().zip(sessions).enumerate().map(|(offset, (event, session))| {
                (v1::RecordedEvent { at: Some(place(&statement, offset)), event: event.into() }, session)
            });
        recorded.map(|(event, session)| self.append(Body::Event(event), session.as_deref())).collect()
    }

    /// Log indexes of a session's entries.
    pub(crate) fn members(&self, session: &str) -> Vec<usize> {
        let members = self.sessions.get(&(TENANT.to_owned(), session.to_owned()));
        members.into_iter().flatten().map(|(index, _)| *index).collect()
    }

    pub(crate) fn log_leaves(&self) -> Vec<Hash> {
        LOG.leaves(&self.entries)
    }

    pub(crate) fn checkpoint_text(&self) -> String {
        format!("{ORIGIN}\n{}\n{}\n", self.size(), STANDARD.encode(LOG.root(&self.log_leaves())))
    }

    /// The checkpoint that a healthy cluster publishes: the log key and all three nodes.
    pub(crate) fn checkpoint(&self) -> String {
        sign_checkpoint(&self.checkpoint_text(), &nodes())
    }

    pub(crate) fn log_path(&self, index: usize) -> Vec<Vec<u8>> {
        LOG.path(&self.log_leaves(), index).iter().map(|hash| hash.to_vec()).collect()
    }

    pub(crate) fn tlog_proof(&self, index: usize) -> String {
        tlog_text(&self.entries[index], index as u64, &self.log_path(index), &self.checkpoint())
    }

    pub(crate) fn proven(&self, index: usize) -> v1::ProvenEntry {
        v1::ProvenEntry { index: index as u64, entry: self.entries[index].clone(), log_path: self.log_path(index) }
    }

    pub(crate) fn session_proof(&self, session: &str, position: usize) -> v1::SessionProof {
        let members = &self.sessions[&(TENANT.to_owned(), session.to_owned())];
        let leaves: Vec<_> = members.iter().map(|(_, leaf)| *leaf).collect();
        v1::SessionProof {
            checkpoint: self.checkpoint().into_bytes(),
            position: position as u64,
            session_size: members.len() as u64,
            entry: self.entries[members[position].0].clone(),
            session_path: CONTENT.path(&leaves, position).iter().map(|hash| hash.to_vec()).collect(),
            last: Some(self.proven(members[members.len() - 1].0)),
        }
    }

    /// The evidence of a session, with genesis and every registry command as registrations.
    pub(crate) fn session_evidence(&self, session: &str) -> v1::SessionEvidence {
        let indexes = self.members(session);
        let mut statements: Vec<v1::BatchStatement> = Vec::new();
        let members = indexes.iter().map(|&index| self.member(index, &mut statements)).collect();
        v1::SessionEvidence {
            format: "proofline/session-evidence/v1".to_owned(),
            origin: ORIGIN.to_owned(),
            tenant_id: TENANT.to_owned(),
            session_id: session.to_owned(),
            checkpoint: self.checkpoint().into_bytes(),
            members,
            statements,
            last: indexes.last().map(|&index| self.proven(index)),
            registrations: self.registrations(),
        }
    }

    fn member(&self, index: usize, statements: &mut Vec<v1::BatchStatement>) -> v1::SessionMember {
        let entry = self.entries[index].clone();
        let Some(at) = batch_position(&entry) else { return v1::SessionMember { entry, ..Default::default() } };
        let is_its = |of: &v1::BatchStatement| of.collector_id == at.collector_id && of.sequence == at.sequence;
        let batch = self.batches.iter().find(|batch| is_its(&batch.statement)).unwrap();
        let known = statements.iter().position(is_its);
        let statement = known.unwrap_or_else(|| {
            statements.push(batch.statement.clone());
            statements.len() - 1
        });
        let path = CONTENT.path(&CONTENT.leaves(&batch.events), at.offset as usize);
        v1::SessionMember { entry, statement: statement as u32, batch_path: path.iter().map(|hash| hash.to_vec()).collect() }
    }

    /// Genesis and commands outside sessions, under one set proof.
    pub(crate) fn registration_set(&self) -> v1::Registrations {
        let proven = self.registrations();
        let listed: Vec<_> = proven.iter().map(|one| one.index as usize).collect();
        let entries = proven.into_iter().map(|one| v1::IndexedEntry { index: one.index, entry: one.entry.into() }).collect();
        v1::Registrations { entries, log_path: LOG.set_path(&self.log_leaves(), &listed).iter().map(|hash| hash.to_vec()).collect() }
    }

    fn registrations(&self) -> Vec<v1::ProvenEntry> {
        let is_registration = |&index: &usize| match core(&self.entries[index]) {
            Some(core) => core.session.is_none() && matches!(core.body, Some(Body::Genesis(_) | Body::Command(_))),
            None => false,
        };
        (0..self.size()).filter(is_registration).map(|index| self.proven(index)).collect()
    }
}

pub(crate) fn core(entry: &[u8]) -> Option<v1::EntryCore> {
    v1::EntryCore::decode(v1::Entry::decode(entry).ok()?.core).ok()
}

fn batch_position(entry: &[u8]) -> Option<v1::BatchPosition> {
    match core(entry)?.body? {
        Body::Event(event) => event.at,
        _ => None,
    }
}

fn place(of: &v1::BatchStatement, offset: usize) -> v1::BatchPosition {
    v1::BatchPosition {
        collector_id: of.collector_id.clone(),
        lane: of.lane,
        epoch: of.epoch,
        sequence: of.sequence,
        offset: offset as u32,
        count: of.event_count,
    }
}

pub(crate) fn genesis() -> v1::Genesis {
    use v1::OperatorRole::{Registrar, Responder};
    let operator = |who: &Signer, roles: &[v1::OperatorRole]| v1::OperatorKey {
        operator_id: who.name.to_owned(),
        public_key: who.public(),
        roles: roles.iter().map(|role| i32::from(*role)).collect(),
        ..Default::default()
    };
    let node =
        |(number, who): (usize, &Signer)| v1::NodeKey { node_id: number as u64 + 1, name: who.name.to_owned(), public_key: who.public() };
    v1::Genesis {
        origin: ORIGIN.to_owned(),
        apply_version: 1,
        log_public_key: log_key().public(),
        operators: vec![operator(&alice(), &[Registrar]), operator(&bob(), &[Registrar, Responder]), operator(&carol(), &[Responder])],
        nodes: nodes().iter().enumerate().map(node).collect(),
        grants: Vec::new(),
    }
}

pub(crate) fn register(collector: &Signer, agents: &[&str]) -> Action {
    Action::RegisterCollector(v1::RegisterCollector {
        collector_id: collector.name.to_owned(),
        public_key: collector.public(),
        spiffe_id: format!("spiffe://acme/{}", collector.name),
        tenant_id: TENANT.to_owned(),
        agents: agents.iter().map(|&agent| agent.to_owned()).collect(),
        vantages: vec![v1::Vantage::GatewayObserved.into()],
        ..Default::default()
    })
}

pub(crate) fn sign_command(mut command: v1::SignedCommand, signers: &[&Signer]) -> v1::SignedCommand {
    let bytes = [
        &text("proofline/command/v1")[..],
        &text(&command.origin),
        &command.nonce,
        &command.expires_unix_ns.to_be_bytes(),
        &(command.command.len() as u32).to_be_bytes(),
        &command.command,
    ]
    .concat();
    command.signatures = signers
        .iter()
        .map(|who| v1::CommandSignature {
            operator_id: who.name.to_owned(),
            public_key: who.public(),
            signature: who.key.sign(&bytes).to_bytes().to_vec(),
        })
        .collect();
    command
}

/// The bytes that a batch signature covers, written down a second time.
pub(crate) fn batch_bytes(of: &v1::BatchStatement) -> Vec<u8> {
    [
        &text("proofline/batch/v1")[..],
        &text(ORIGIN),
        &of.public_key,
        &text(&of.collector_id),
        &of.lane.to_be_bytes(),
        &of.epoch.to_be_bytes(),
        &of.sequence.to_be_bytes(),
        &of.previous,
        &of.event_count.to_be_bytes(),
        &of.events_root,
    ]
    .concat()
}

pub(crate) fn text(of: &str) -> Vec<u8> {
    [&(of.len() as u16).to_be_bytes()[..], of.as_bytes()].concat()
}

/// An event of the agent `planner` in a session.
pub(crate) fn event(session: &str, number: u8) -> v1::Event {
    event_by("planner", session, number)
}

pub(crate) fn event_by(agent: &str, session: &str, number: u8) -> v1::Event {
    v1::Event {
        event_id: vec![number; 16],
        tenant_id: TENANT.to_owned(),
        observed_unix_ns: START_NS + u64::from(number),
        vantage: v1::Vantage::GatewayObserved.into(),
        session: Some(v1::SessionRef { session_id: session.to_owned(), ..Default::default() }),
        attribution: Some(v1::Attribution {
            initiator: Some(v1::Principal {
                kind: v1::PrincipalKind::Human.into(),
                issuer: "https://idp.example".to_owned(),
                subject: "u-7".to_owned(),
                ..Default::default()
            }),
            agent: Some(v1::Agent { agent_id: agent.to_owned(), ..Default::default() }),
            ..Default::default()
        }),
        body: Some(v1::event::Body::ActionIntent(v1::ActionIntent {
            verb: v1::ActionVerb::ToolCall.into(),
            requested_records: u64::from(number),
            ..Default::default()
        })),
        ..Default::default()
    }
}

pub(crate) fn sign_checkpoint(text: &str, cosigners: &[Signer]) -> String {
    let lines: String = cosigners.iter().zip(1_700_000_100..).map(|(node, unix_s)| node.cosignature_line(text, unix_s)).collect();
    format!("{text}\n{}{lines}", log_key().log_line(text))
}

pub(crate) fn tlog_text(entry: &[u8], index: u64, path: &[Vec<u8>], checkpoint: &str) -> String {
    let path: String = path.iter().map(|hash| format!("{}\n", STANDARD.encode(hash))).collect();
    format!("c2sp.org/tlog-proof@v1\nextra {}\nindex {index}\n{path}\n{checkpoint}", STANDARD.encode(entry))
}

/// The usual story: two collectors, two sessions, one of them sealed by bob.
pub(crate) fn usual() -> World {
    let mut world = World::new();
    world.batch(&gateway(), &[event("s-open", 1), event("s-sealed", 2), event("s-sealed", 3)]);
    world.command(register(&sidecar(), &["planner", "coder"]), &[&bob()]);
    world.batch(&sidecar(), &[event("s-sealed", 4)]);
    world.batch(&gateway(), &[event("s-sealed", 5), event("s-open", 6)]);
    world.seal("s-sealed", &[&bob()]);
    world.batch(&gateway(), &[event("s-open", 7)]);
    world
}
