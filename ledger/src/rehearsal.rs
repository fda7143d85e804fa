//! A ledger in memory that takes events and commands on trust: to see what rules do before anybody is stopped by them.
//!
//! It decides as the real one does, because it is the real one: only signatures are missing, and time is the caller's.

use std::collections::BTreeSet;

use proofline_proto::v1;
use prost::Message as _;
use v1::command::Action;

use crate::command::needed_role;
use crate::ids::{EntryIndex, UnixNanos};
use crate::ledger::{Ledger, Outcome};
use crate::limits::APPLY_VERSION;
use crate::prepare::{PreparedBatch, PreparedCommand, PreparedEvent, PreparedGroup, PreparedItem, PreparedOpenLane, events_root};
use crate::refusal::Refusal;
use crate::store::{MapStore, StoreFault};
use crate::{Hash, Lane, listing};

const ORIGIN: &str = "rehearsal";
const COMMAND_LIFE_NS: u64 = 60 * 1_000_000_000;

/// The ledger of a rehearsal.
#[derive(Debug)]
pub struct Rehearsal {
    ledger: Ledger,
    store: MapStore,
    now: UnixNanos,
    tenants: BTreeSet<String>,
    nonces: u128,
}

impl Rehearsal {
    /// Begins a ledger at a time, with these rules in force.
    ///
    /// # Errors
    /// [`Refusal`] when the rules are none.
    pub fn new(now: UnixNanos, rules: &str) -> Result<Self, Refusal> {
        let store = MapStore::default();
        let ledger = Ledger::open(&store).map_err(no_fault)?;
        let mut rehearsal = Self { ledger, store, now, tenants: BTreeSet::new(), nonces: 0 };
        rehearsal.apply(PreparedItem::Genesis(Box::new(genesis())))?;
        let activation = v1::ActivateRules {
            rules: rules.to_owned(),
            engine: crate::ENGINE.to_owned(),
            simulation_digest: vec![0; 32],
            denies_everything: true,
            reason: "rehearsal".to_owned(),
        };
        rehearsal.govern(Action::ActivateRules(activation))?;
        Ok(rehearsal)
    }

    /// Lets time pass.
    pub fn wait(&mut self, ns: u64) {
        self.now = UnixNanos(self.now.0.saturating_add(ns));
    }

    /// Returns what time it is.
    #[must_use]
    pub fn now(&self) -> UnixNanos {
        self.now
    }

    /// Carries out a command as if both operators of its role had signed it: as many as any command needs in any state.
    ///
    /// # Errors
    /// [`Refusal`] as the ledger gives it.
    pub fn govern(&mut self, action: Action) -> Result<EntryIndex, Refusal> {
        let role = needed_role(&action);
        self.nonces += 1;
        let signature = |operator: v1::OperatorKey| v1::CommandSignature {
            operator_id: operator.operator_id,
            public_key: operator.public_key,
            signature: Vec::new(),
        };
        let with_role = genesis().operators.into_iter().filter(|it| it.roles.contains(&role.into()));
        let signed = v1::SignedCommand {
            origin: ORIGIN.to_owned(),
            nonce: self.nonces.to_be_bytes().to_vec(),
            expires_unix_ns: self.now.0.saturating_add(COMMAND_LIFE_NS),
            command: v1::Command { action: Some(action.clone()) }.encode_to_vec(),
            signatures: with_role.map(signature).collect(),
        };
        match self.apply(PreparedItem::Command(PreparedCommand { signed, action }))? {
            Outcome::Commanded(index) => Ok(index),
            Outcome::Refused(refusal) => Err(refusal),
            Outcome::Appended(_)
            | Outcome::Opened(_)
            | Outcome::Began
            | Outcome::Published
            | Outcome::Delivered(_)
            | Outcome::Committed(_)
            | Outcome::Recorded(_) => Err(Refusal::Malformed("no command")),
        }
    }

    /// Appends one event and returns its index with its receipt.
    ///
    /// # Errors
    /// [`Refusal`] as the ledger gives it.
    pub fn append(&mut self, event: &v1::Event) -> Result<(EntryIndex, v1::EventReceipt), Refusal> {
        self.admit(&event.tenant_id)?;
        let head = listing::collector_head(&self.store, &event.tenant_id, Lane(0)).map_err(no_fault)?;
        let events = vec![PreparedEvent::new(event.encode_to_vec().into())];
        let last = head.last.unwrap_or_default();
        let statement = v1::BatchStatement {
            public_key: key(GATEWAY),
            collector_id: event.tenant_id.clone(),
            lane: 0,
            epoch: 1,
            sequence: last.sequence + 1,
            previous: if last.digest.is_empty() { Hash::ZERO.0.to_vec() } else { last.digest },
            event_count: 1,
            events_root: events_root(&events).0.to_vec(),
            signature: Vec::new(),
        };
        let batch = PreparedBatch::committed(statement, events, ORIGIN)?;
        match self.apply(PreparedItem::Batch(batch))? {
            Outcome::Appended(receipt) => {
                let event = receipt.events.into_iter().next().unwrap_or_default();
                Ok((EntryIndex(receipt.first_index), event))
            }
            Outcome::Refused(refusal) => Err(refusal),
            Outcome::Opened(_)
            | Outcome::Commanded(_)
            | Outcome::Began
            | Outcome::Published
            | Outcome::Delivered(_)
            | Outcome::Committed(_)
            | Outcome::Recorded(_) => Err(Refusal::Malformed("no batch")),
        }
    }

    /// Returns the facts of an event on which a rule had something to say.
    ///
    /// # Errors
    /// None in practice: the store is a map in memory.
    pub fn facts(&self, index: EntryIndex) -> Result<Option<v1::Facts>, StoreFault> {
        listing::facts(&self.store, index)
    }

    /// Returns the state that everything so far led to.
    #[must_use]
    pub fn store(&self) -> &MapStore {
        &self.store
    }

    /// Registers a collector for a tenant that was not seen before, and opens its lane.
    fn admit(&mut self, tenant: &str) -> Result<(), Refusal> {
        if tenant.is_empty() || !self.tenants.insert(tenant.to_owned()) {
            return Ok(());
        }
        let vantages = [v1::Vantage::SelfReported, v1::Vantage::GatewayObserved, v1::Vantage::TargetObserved, v1::Vantage::IdpObserved];
        self.govern(Action::RegisterCollector(v1::RegisterCollector {
            collector_id: tenant.to_owned(),
            public_key: key(GATEWAY),
            spiffe_id: "spiffe://rehearsal/collector".to_owned(),
            tenant_id: tenant.to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vantages.map(Into::into).to_vec(),
            events_per_hour: 0,
            sessions_per_hour: 0,
            payload_bytes_per_hour: 0,
        }))?;
        let request = v1::SignedOpenLane {
            public_key: key(GATEWAY),
            collector_id: tenant.to_owned(),
            lane: 0,
            nonce: vec![0; 16],
            signature: Vec::new(),
        };
        self.apply(PreparedItem::OpenLane(PreparedOpenLane { request, lane: Lane(0) })).map(drop)
    }

    fn apply(&mut self, item: PreparedItem) -> Result<Outcome, Refusal> {
        let applied = self.ledger.apply(&self.store, &PreparedGroup { proposed: self.now, items: vec![item] }).map_err(no_fault)?;
        self.store.commit(applied.changes);
        applied.outcomes.into_iter().next().ok_or(Refusal::Malformed("nothing came of it"))
    }
}

/// A map in memory does not fail; if it ever does, nothing was decided.
fn no_fault(_: StoreFault) -> Refusal {
    Refusal::Malformed("the store of the rehearsal failed")
}

const GATEWAY: u8 = 1;

/// Keys of nobody: good points of the curve, with which nothing is ever signed.
fn key(seed: u8) -> Vec<u8> {
    ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes().to_vec()
}

fn genesis() -> v1::Genesis {
    use v1::OperatorRole::{Registrar, Responder};
    let operator = |seed: u8, role: v1::OperatorRole| v1::OperatorKey {
        operator_id: format!("operator-{seed}"),
        public_key: key(seed),
        roles: vec![role.into()],
        subject: String::new(),
    };
    v1::Genesis {
        origin: ORIGIN.to_owned(),
        apply_version: APPLY_VERSION,
        log_public_key: key(10),
        operators: vec![operator(2, Registrar), operator(3, Registrar), operator(4, Responder), operator(5, Responder)],
        nodes: vec![v1::NodeKey { node_id: 1, name: "node.rehearsal".to_owned(), public_key: key(11) }],
        grants: Vec::new(),
    }
}
