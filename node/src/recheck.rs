//! Checks what this node did not apply itself: the signatures and registrations behind entries that came in a snapshot.
//!
//! Whoever sends a snapshot sends entries, statements and trees together, and nothing in it was checked by the receiver.
//! Before it cosigns a tree that reaches beyond what it signed last, a node walks the entries in between: each must be
//! included in the tree at its index, each batch signed by the key that was registered for its collector there, each
//! command by operators who could give it. The checks are the verifier's, those that an auditor makes.

use std::ops::Range;

use proofline_ledger::{
    EntryIndex, LogTree, SignedBatch, Store, StoreFault, TreeSize, listing, next_commitment,
    signed::{self, Signed},
};
use proofline_proto::v1::{self, command::Action, entry_core::Body};
use proofline_verifier::{
    CommandError, ContentHash, EntryError, Frontier, LeafIndex, LogEntry, LogHash, Registry, SignedError, Tenure, TreeError, TreeHash as _,
    fold_set, parse_hash, verify_inclusion, verify_open_lane, verify_outlet_delivery, verify_statement,
};
use thiserror::Error;

use crate::signed_tree::SignedTree;

/// Why entries of a snapshot are not what collectors and operators signed.
#[derive(Debug, Error)]
pub enum NotAuthentic {
    /// A change of containment names a cause that is none.
    #[error("entry {0} changes what is contained, and what it names as the cause does not")]
    Groundless(u64),
    /// An entry is missing.
    #[error("entry {0} is missing")]
    Missing(u64),
    /// An entry cannot be read.
    #[error("entry {index}: {source}")]
    Entry {
        /// The entry.
        index: u64,
        /// What is wrong.
        source: EntryError,
    },
    /// An entry is not in the tree at its index.
    #[error("entry {index} is not in the tree: {source}")]
    NotIncluded {
        /// The entry.
        index: u64,
        /// What is wrong.
        source: TreeError,
    },
    /// The first entry is another genesis, or a genesis stands elsewhere.
    #[error("entry {0} is not where or what the genesis of this ledger is")]
    Genesis(u64),
    /// A command that operators of this ledger did not give.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A signature does not verify.
    #[error("entry {index}: {source}")]
    Signature {
        /// The entry.
        index: u64,
        /// What is wrong.
        source: SignedError,
    },
    /// The key is not the one registered for the collector at that point.
    #[error("entry {index}: the key is not the one registered for collector {collector:?}")]
    OtherKey {
        /// The entry.
        index: u64,
        /// In whose name.
        collector: String,
    },
    /// The key is not the one registered for the node at that point.
    #[error("entry {index}: the key is not the one registered for node {node_id}")]
    OtherNode {
        /// The entry.
        index: u64,
        /// In whose name.
        node_id: u64,
    },
    /// An entry names another place than its batch has, or the batch has another root than was signed.
    #[error("entry {0} is not what its collector signed at that place")]
    OtherBatch(u64),
    /// The tree that was vouched for before is not the beginning of the one that came.
    #[error("what came does not extend the tree of {size} that this node vouched for: {source}")]
    OtherLog {
        /// Size of that tree.
        size: TreeSize,
        /// What is wrong.
        source: TreeError,
    },
    /// The row that tells of a state commitment is not what its entry says.
    #[error("entry {0} is a state commitment, and its row is missing or says something else")]
    UnknownCommitment(u64),
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// A batch of which entries are still to come.
struct OpenBatch {
    statement: v1::BatchStatement,
    leaves: Frontier<ContentHash>,
}

/// A walk through the entries from what was signed last to the end of what was taken on trust.
pub(crate) struct Recheck {
    origin: String,
    registry: Registry,
    genesis: v1::Genesis,
    target: SignedTree,
    next: u64,
    /// Below it every batch is whole.
    settled: u64,
    batch: Option<OpenBatch>,
}

impl Recheck {
    /// Begins behind the first `signed` entries, and learns from them who was registered.
    ///
    /// # Errors
    /// [`NotAuthentic`] when one of the registrations is not in the tree, or was not given by operators.
    pub(crate) fn begin(store: &impl Store, genesis: v1::Genesis, signed: TreeSize, target: SignedTree) -> Result<Self, NotAuthentic> {
        let registry = Registry::begin(&genesis);
        let mut walk = Self { origin: genesis.origin.clone(), registry, genesis, target, next: signed.0, settled: signed.0, batch: None };
        let mut tree = LogTree::new(store, target.size);
        for index in listing::registry_commands(store)?.into_iter().filter(|index| index.0 < signed.0) {
            let entry = walk.included(store, &mut tree, index.0)?;
            if let Body::Command(command) = &entry.body {
                walk.registry.admit(&entry, command)?;
            }
        }
        Ok(walk)
    }

    /// Returns what is checked when the walk has ended.
    pub(crate) fn target(&self) -> SignedTree {
        self.target
    }

    /// Returns how many entries are checked, without those of a batch of which some are not.
    pub(crate) fn settled(&self) -> TreeSize {
        TreeSize(self.settled)
    }

    /// Returns whether the walk has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.next >= self.target.size.0
    }

    /// Checks at most `limit` further entries.
    ///
    /// # Errors
    /// [`NotAuthentic`] at the first entry that nobody signed.
    pub(crate) fn advance(&mut self, store: &impl Store, limit: u64) -> Result<(), NotAuthentic> {
        let mut tree = LogTree::new(store, self.target.size);
        let end = self.next.saturating_add(limit).min(self.target.size.0);
        for entry in self.all_included(store, &mut tree, self.next..end)? {
            let entry = self.parse(&entry, self.next)?;
            if let Body::Containment(change) = &entry.body {
                self.check_cause(store, &mut tree, change)?;
            }
            self.check(store, &entry)?;
            self.next += 1;
            if self.batch.is_none() {
                self.settled = self.next;
            }
        }
        match &self.batch {
            Some(_) if self.is_done() => Err(NotAuthentic::OtherBatch(self.next)),
            Some(_) | None => Ok(()),
        }
    }

    /// A change of containment is signed by nobody; the command that caused it is. What an event drew in has an event as its
    /// cause, whose batch is checked like any other.
    fn check_cause<S: Store>(&self, store: &S, tree: &mut LogTree<'_, S>, change: &v1::Containment) -> Result<(), NotAuthentic> {
        let groundless = || NotAuthentic::Groundless(self.next);
        if change.cause_index >= self.next {
            return Err(groundless());
        }
        let cause = self.included(store, tree, change.cause_index)?;
        let action = match &cause.body {
            Body::Command(signed) => <v1::Command as prost::Message>::decode(signed.command.as_slice()).ok().and_then(|it| it.action),
            _ => None,
        };
        let is_grounded = match (change.change(), action, &cause.body) {
            (v1::ContainmentChange::Began, Some(Action::Contain(it)), _) => it.action == change.action && it.reason == change.reason,
            (v1::ContainmentChange::Released, Some(Action::Release(it)), _) => it.containment_id == change.containment_id,
            (v1::ContainmentChange::Began, None, Body::Event(_)) => is_by_rule(&cause, change),
            (v1::ContainmentChange::Extended, None, Body::Event(_)) => true,
            _ => false,
        };
        if is_grounded { Ok(()) } else { Err(groundless()) }
    }

    /// Reads entries that follow one another, and checks that all are in the tree, by one proof for all.
    fn all_included<S: Store>(&self, store: &S, tree: &mut LogTree<'_, S>, of: Range<u64>) -> Result<Vec<Vec<u8>>, NotAuthentic> {
        let entries = of.clone().map(|index| exact(store, index)).collect::<Result<Vec<_>, _>>()?;
        if entries.is_empty() {
            return Ok(entries);
        }
        let path = tree.set_path(&of.clone().map(EntryIndex).collect::<Vec<_>>())?;
        let path: Vec<LogHash> = path.iter().map(|hash| LogHash::from_bytes(hash.0)).collect();
        let leaves: Vec<_> = of.clone().zip(&entries).map(|(index, entry)| (LeafIndex(index), LogHash::leaf(entry))).collect();
        let (size, root) = (proofline_verifier::TreeSize(self.target.size.0), LogHash::from_bytes(self.target.root.0));
        if fold_set(size, &leaves, &path).is_ok_and(|computed| computed == root) {
            return Ok(entries);
        }
        // One by one says which.
        for index in of.clone() {
            self.included(store, tree, index)?;
        }
        Err(NotAuthentic::Missing(of.start))
    }

    fn included<S: Store>(&self, store: &S, tree: &mut LogTree<'_, S>, index: u64) -> Result<LogEntry, NotAuthentic> {
        let exact = exact(store, index)?;
        let path = tree.inclusion_path(EntryIndex(index))?.unwrap_or_default();
        let path: Vec<LogHash> = path.iter().map(|hash| LogHash::from_bytes(hash.0)).collect();
        let (size, root) = (proofline_verifier::TreeSize(self.target.size.0), LogHash::from_bytes(self.target.root.0));
        verify_inclusion(LogHash::leaf(&exact), LeafIndex(index), size, root, &path)
            .map_err(|source| NotAuthentic::NotIncluded { index, source })?;
        self.parse(&exact, index)
    }

    fn parse(&self, exact: &[u8], index: u64) -> Result<LogEntry, NotAuthentic> {
        LogEntry::parse_at(exact, proofline_verifier::EntryIndex(index)).map_err(|source| NotAuthentic::Entry { index, source })
    }

    fn check(&mut self, store: &impl Store, entry: &LogEntry) -> Result<(), NotAuthentic> {
        let index = self.next;
        let signature = |source| NotAuthentic::Signature { index, source };
        if self.batch.is_some() && !matches!(entry.body, Body::Event(_) | Body::Rejection(_)) {
            return Err(NotAuthentic::OtherBatch(index));
        }
        match &entry.body {
            Body::Genesis(genesis) if index == 0 && *genesis == self.genesis => Ok(()),
            Body::Genesis(_) => Err(NotAuthentic::Genesis(index)),
            Body::Command(command) => Ok(self.registry.admit(entry, command)?),
            Body::Equivocation(it) => {
                let second = it.second.as_ref().ok_or(NotAuthentic::OtherBatch(index))?;
                verify_statement(&self.origin, second).map(drop).map_err(signature)
            }
            Body::LaneOpened(it) => {
                let request = it.request.as_ref().ok_or(NotAuthentic::OtherBatch(index))?;
                verify_open_lane(&self.origin, request).map_err(signature)?;
                self.check_key(&request.collector_id, &request.public_key)
            }
            // Signed by nobody: the ledger derives it from the entries before it.
            Body::Containment(_) => Ok(()),
            // Signed by nobody: this node finds out by itself whether it is true. It must know of it, for that.
            Body::StateCommitment(it) => {
                let known = next_commitment(store, EntryIndex(index))?.filter(|known| known.index.0 == index);
                let is_known = known.is_some_and(|known| {
                    (known.size.0, &known.map_root.0[..], &known.state_digest.0[..]) == (it.size, &it.map_root, &it.state_digest)
                });
                if is_known { Ok(()) } else { Err(NotAuthentic::UnknownCommitment(index)) }
            }
            // It was asked for by those who may; nothing came of it, so nothing else may stand in it.
            Body::ErasureDeferred(it) => {
                let command = it.command.as_ref().filter(|command| is_erasure(command)).ok_or(NotAuthentic::OtherBatch(index))?;
                Ok(self.registry.admit(entry, command)?)
            }
            Body::AccessRecorded(it) => match signed::check(&it.public_key, &signed::access(&self.origin, it), &it.signature) {
                Signed::Authentic => self.check_node(it.node_id, &it.public_key),
                Signed::Forged => Err(signature(SignedError::Forged { signer: format!("node {}", it.node_id) })),
            },
            Body::OutletDelivery(it) => {
                verify_outlet_delivery(&self.origin, it).map_err(signature)?;
                self.check_node(it.node_id, &it.public_key)
            }
            Body::LaneClosed(it) => {
                let batch = self.open(store, it.at.as_ref())?;
                if batch.statement.event_count == 0 { self.close(batch) } else { Err(NotAuthentic::OtherBatch(index)) }
            }
            Body::Event(it) => self.check_event(store, it.at.as_ref(), ContentHash::leaf(&it.event)),
            Body::Rejection(it) => {
                let leaf = parse_hash(&it.event_leaf).map_err(|source| NotAuthentic::NotIncluded { index, source })?;
                self.check_event(store, it.at.as_ref(), leaf)
            }
        }
    }

    fn check_event(&mut self, store: &impl Store, at: Option<&v1::BatchPosition>, leaf: ContentHash) -> Result<(), NotAuthentic> {
        let other = NotAuthentic::OtherBatch(self.next);
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => self.open(store, at)?,
        };
        let is_next = at.is_some_and(|at| is_of(at, &batch.statement) && u64::from(at.offset) == batch.leaves.size().0);
        if !is_next {
            return Err(other);
        }
        batch.leaves.push(leaf);
        if batch.leaves.size().0 < u64::from(batch.statement.event_count) {
            self.batch = Some(batch);
            return Ok(());
        }
        self.close(batch)
    }

    /// Finds what the collector signed at a place, and checks whose key did.
    fn open(&self, store: &impl Store, at: Option<&v1::BatchPosition>) -> Result<OpenBatch, NotAuthentic> {
        let at = at.ok_or(NotAuthentic::OtherBatch(self.next))?;
        let statement = SignedBatch::find(store, at)?.statement;
        if !is_of(at, &statement) {
            return Err(NotAuthentic::OtherBatch(self.next));
        }
        verify_statement(&self.origin, &statement).map_err(|source| NotAuthentic::Signature { index: self.next, source })?;
        self.check_key(&statement.collector_id, &statement.public_key)?;
        Ok(OpenBatch { statement, leaves: Frontier::default() })
    }

    fn close(&self, batch: OpenBatch) -> Result<(), NotAuthentic> {
        let is_signed = batch.leaves.root().as_bytes()[..] == batch.statement.events_root[..];
        if is_signed { Ok(()) } else { Err(NotAuthentic::OtherBatch(self.next)) }
    }

    fn check_node(&self, node_id: u64, public_key: &[u8]) -> Result<(), NotAuthentic> {
        match self.registry.node(node_id) {
            Some(known) if known.public_key == public_key => Ok(()),
            Some(_) | None => Err(NotAuthentic::OtherNode { index: self.next, node_id }),
        }
    }

    fn check_key(&self, collector: &str, public_key: &[u8]) -> Result<(), NotAuthentic> {
        match self.registry.collector(collector, proofline_verifier::EntryIndex(self.next)) {
            Tenure::Current(known) if known.public_key == public_key => Ok(()),
            Tenure::Current(_) | Tenure::Ended(_) | Tenure::Unknown => {
                Err(NotAuthentic::OtherKey { index: self.next, collector: collector.to_owned() })
            }
        }
    }
}

fn exact(store: &impl Store, index: u64) -> Result<Vec<u8>, NotAuthentic> {
    listing::entry(store, EntryIndex(index))?.ok_or(NotAuthentic::Missing(index))
}

fn is_of(at: &v1::BatchPosition, of: &v1::BatchStatement) -> bool {
    at.collector_id == of.collector_id && (at.lane, at.epoch, at.sequence, at.count) == (of.lane, of.epoch, of.sequence, of.event_count)
}

/// Tells whether the event that caused a containment has the finding of the rule that it gives as its reason.
fn is_by_rule(cause: &LogEntry, change: &v1::Containment) -> bool {
    let is_cause = |finding: &v1::Finding| {
        finding.containment_id == change.containment_id && change.reason.strip_prefix("rule ") == Some(finding.rule_id.as_str())
    };
    cause.decision.as_ref().is_some_and(|decision| decision.findings.iter().any(is_cause))
}

fn is_erasure(of: &v1::SignedCommand) -> bool {
    let command: Option<v1::Command> = prost::Message::decode(&of.command[..]).ok();
    matches!(command.and_then(|it| it.action), Some(v1::command::Action::EraseSubject(_)))
}
