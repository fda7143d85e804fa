//! The events of a session against the batches that their collectors signed.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use thiserror::Error;
use v1::entry_core::Body;

use crate::coordinate::{EntryIndex, LeafIndex, TreeSize};
use crate::entry::LogEntry;
use crate::hash::{ContentHash, TreeHash};
use crate::registry::{Registry, Tenure};
use crate::report::{Outcome, Refusal};
use crate::signed::{SignedError, verify_statement};
use crate::tree::{self, TreeError, parse_hash, parse_path};

/// Why an event is not shown to be what a registered collector signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum BatchError {
    #[error("entry {index} names statement {statement} of {statements}")]
    NoStatement { index: EntryIndex, statement: u32, statements: usize },
    #[error("entry {index} is no event, but carries a batch proof")]
    StrayProof { index: EntryIndex },
    #[error("statement {statement} belongs to no event of the file")]
    UnusedStatement { statement: usize },
    #[error("statement {statement} repeats the place of an earlier one")]
    RepeatedStatement { statement: usize },
    #[error("statement {statement}: {source}")]
    Signature { statement: usize, source: SignedError },
    #[error("entry {index} names another batch than its statement")]
    OtherBatch { index: EntryIndex },
    #[error("entry {index} and an earlier one of its batch are not as far apart as their places in the batch")]
    Apart { index: EntryIndex },
    #[error("entry {index}: {source}")]
    NotIncluded { index: EntryIndex, source: TreeError },
    #[error("entry {index}: nothing in the file registers collector {collector:?} before it")]
    UnknownCollector { index: EntryIndex, collector: String },
    #[error("entry {index}: collector {collector:?} was revoked by entry {at}")]
    CollectorRevoked { index: EntryIndex, collector: String, at: EntryIndex },
    #[error("entry {index}: the key is not the one registered for collector {collector:?}")]
    OtherKey { index: EntryIndex, collector: String },
    #[error("entry {index}: its {what} is outside the registration of collector {collector:?}")]
    OutOfScope { index: EntryIndex, collector: String, what: &'static str },
    #[error("entry {index}: the event names another tenant or session")]
    OtherSession { index: EntryIndex },
}

impl Refusal for BatchError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::UnknownCollector { .. } => Outcome::NotChecked,
            Self::NoStatement { .. }
            | Self::StrayProof { .. }
            | Self::UnusedStatement { .. }
            | Self::RepeatedStatement { .. }
            | Self::Signature { .. }
            | Self::OtherBatch { .. }
            | Self::Apart { .. }
            | Self::NotIncluded { .. }
            | Self::CollectorRevoked { .. }
            | Self::OtherKey { .. }
            | Self::OutOfScope { .. }
            | Self::OtherSession { .. } => Outcome::Failed,
        }
    }
}

/// One recorded event with all that speaks for it.
struct Signed<'a> {
    index: EntryIndex,
    /// Where the ledger says that the event stands in its batch.
    at: v1::BatchPosition,
    exact: &'a [u8],
    event: &'a v1::Event,
    statement: &'a v1::BatchStatement,
    path: &'a [Vec<u8>],
}

/// The events of a file, each with its batch statement.
pub(super) struct Batches<'a> {
    events: Vec<Signed<'a>>,
    statements: &'a [v1::BatchStatement],
}

impl<'a> Batches<'a> {
    /// Gives each event its statement. No statement is left over, and none stands twice.
    pub(super) fn assign(evidence: &'a v1::SessionEvidence, members: &'a [LogEntry]) -> Result<Self, BatchError> {
        let statements = &evidence.statements[..];
        let mut used = BTreeSet::new();
        let mut events = Vec::new();
        for (entry, proof) in members.iter().zip(&evidence.members) {
            let index = entry.index;
            let (Body::Event(recorded), Some(event)) = (&entry.body, &entry.event) else {
                check_no_proof(index, proof)?;
                continue;
            };
            let number = usize::try_from(proof.statement).unwrap_or(usize::MAX);
            let missing = BatchError::NoStatement { index, statement: proof.statement, statements: statements.len() };
            let statement = statements.get(number).ok_or(missing)?;
            used.insert(number);
            let at = recorded.at.clone().unwrap_or_default();
            events.push(Signed { index, at, exact: &recorded.event, event, statement, path: &proof.batch_path });
        }
        check_each_once(statements, &used)?;
        Ok(Self { events, statements })
    }

    /// Returns the number of statements.
    pub(super) fn statements(&self) -> usize {
        self.statements.len()
    }

    /// Checks every collector's signature.
    pub(super) fn check_signatures(&self, origin: &str) -> Result<(), BatchError> {
        for (statement, signed) in self.statements.iter().enumerate() {
            verify_statement(origin, signed).map_err(|source| BatchError::Signature { statement, source })?;
        }
        Ok(())
    }

    /// Checks that every event stands in its batch where the ledger says so, and the entries of a batch in its order.
    pub(super) fn check_inclusion(&self) -> Result<(), BatchError> {
        let mut first_entries = BTreeMap::new();
        for one in &self.events {
            if !one.names_its_statement() {
                return Err(BatchError::OtherBatch { index: one.index });
            }
            one.verify_path().map_err(|source| BatchError::NotIncluded { index: one.index, source })?;
            // The entries of a batch follow each other, so each tells the same index for the batch's first event.
            let first = one.index.0.checked_sub(u64::from(one.at.offset));
            if first.is_none() || *first_entries.entry(position(one.statement)).or_insert(first) != first {
                return Err(BatchError::Apart { index: one.index });
            }
        }
        Ok(())
    }

    /// Checks that every key was the registered one of its collector when the event was committed.
    pub(super) fn check_keys(&self, registry: &Registry) -> Result<(), BatchError> {
        self.events.iter().try_for_each(|one| verify_key(one.index, one.statement, registry))
    }

    /// Checks that every event lies within what its collector was registered for. For an event that names no agent the
    /// agent of its session speaks: the first that an event of the session names.
    pub(super) fn check_scope(&self, registry: &Registry) -> Result<(), BatchError> {
        let mut of_session = "";
        for one in &self.events {
            let named = one.event.attribution.as_ref().and_then(|it| it.agent.as_ref()).map_or("", |agent| &agent.agent_id);
            if of_session.is_empty() {
                of_session = named;
            }
            let agent = if named.is_empty() { of_session } else { named };
            if let Tenure::Current(registered) = registry.collector(&one.statement.collector_id, one.index) {
                let collector = || one.statement.collector_id.clone();
                let outside = outside_scope(registered, one.event, Some(agent));
                outside.map_or(Ok(()), |what| Err(BatchError::OutOfScope { index: one.index, collector: collector(), what }))?;
            }
        }
        Ok(())
    }

    /// Checks that every event names the session that the ledger put it into.
    pub(super) fn check_session(&self, evidence: &v1::SessionEvidence) -> Result<(), BatchError> {
        for one in &self.events {
            let session = one.event.session.as_ref().map(|session| &session.session_id);
            if one.event.tenant_id != evidence.tenant_id || session != Some(&evidence.session_id) {
                return Err(BatchError::OtherSession { index: one.index });
            }
        }
        Ok(())
    }
}

impl Signed<'_> {
    fn names_its_statement(&self) -> bool {
        let (at, of) = (&self.at, self.statement);
        at.collector_id == of.collector_id && (at.lane, at.epoch, at.sequence, at.count) == (of.lane, of.epoch, of.sequence, of.event_count)
    }

    fn verify_path(&self) -> Result<(), TreeError> {
        let root: ContentHash = parse_hash(&self.statement.events_root)?;
        let (index, size) = (LeafIndex(self.at.offset.into()), TreeSize(self.statement.event_count.into()));
        tree::verify_inclusion(ContentHash::leaf(self.exact), index, size, root, &parse_path(self.path)?)
    }
}

fn check_no_proof(index: EntryIndex, of: &v1::SessionMember) -> Result<(), BatchError> {
    if of.statement == 0 && of.batch_path.is_empty() { Ok(()) } else { Err(BatchError::StrayProof { index }) }
}

fn check_each_once(statements: &[v1::BatchStatement], used: &BTreeSet<usize>) -> Result<(), BatchError> {
    let mut places = BTreeSet::new();
    for (statement, of) in statements.iter().enumerate() {
        if !used.contains(&statement) {
            return Err(BatchError::UnusedStatement { statement });
        }
        if !places.insert(position(of)) {
            return Err(BatchError::RepeatedStatement { statement });
        }
    }
    Ok(())
}

fn position(of: &v1::BatchStatement) -> (&str, u32, u64, u64) {
    (&of.collector_id, of.lane, of.epoch, of.sequence)
}

/// Checks that a collector was registered with the key of a statement when it sent an event.
pub(super) fn verify_key(index: EntryIndex, statement: &v1::BatchStatement, registry: &Registry) -> Result<(), BatchError> {
    let collector = statement.collector_id.clone();
    match registry.collector(&collector, index) {
        Tenure::Unknown => Err(BatchError::UnknownCollector { index, collector }),
        Tenure::Ended(at) => Err(BatchError::CollectorRevoked { index, collector, at }),
        Tenure::Current(registered) if registered.public_key != statement.public_key => Err(BatchError::OtherKey { index, collector }),
        Tenure::Current(_) => Ok(()),
    }
}

/// Checks that an event lies within what its collector was registered for; one that names no agent is not judged by agent.
pub(super) fn verify_scope(index: EntryIndex, event: &v1::Event, collector: &str, registry: &Registry) -> Result<(), BatchError> {
    let named = event.attribution.as_ref().and_then(|it| it.agent.as_ref()).map_or("", |agent| &agent.agent_id);
    let Tenure::Current(registered) = registry.collector(collector, index) else { return Ok(()) };
    let outside = outside_scope(registered, event, Some(named).filter(|agent| !agent.is_empty()));
    outside.map_or(Ok(()), |what| Err(BatchError::OutOfScope { index, collector: collector.to_owned(), what }))
}

/// Names what of an event its collector's registration does not allow. `agent` is empty when neither the event nor its
/// session names one: then only a collector of every agent may have sent it. Without `agent` nothing is said of it.
fn outside_scope(of: &v1::RegisterCollector, event: &v1::Event, agent: Option<&str>) -> Option<&'static str> {
    if event.tenant_id != of.tenant_id {
        Some("tenant")
    } else if !of.vantages.contains(&event.vantage) {
        Some("vantage")
    } else if agent.is_some_and(|agent| !of.agents.iter().any(|allowed| allowed == "*" || allowed == agent)) {
        Some("agent")
    } else {
        None
    }
}
