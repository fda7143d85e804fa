//! The events of a page against the batches that their collectors signed.

use std::collections::BTreeMap;

use proofline_proto::v1;
use thiserror::Error;
use v1::entry_core::Body;

use super::set_proof::{SetProofError, fold_set};
use crate::coordinate::{EntryIndex, LeafIndex, TreeSize};
use crate::entry::LogEntry;
use crate::hash::{ContentHash, TreeHash};
use crate::report::{CheckName, Outcome, Refusal};
use crate::signed::{SignedError, verify_statement};
use crate::tree::{TreeError, parse_hash, parse_path};

/// Names a batch, for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchPlace {
    collector_id: String,
    lane: u32,
    epoch: u64,
    sequence: u64,
}

impl std::fmt::Display for BatchPlace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "batch {} of collector {:?}, lane {}, epoch {}", self.sequence, self.collector_id, self.lane, self.epoch)
    }
}

/// Why the events of a page are not shown to be what their collectors signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchPartError {
    /// A part without a statement.
    #[error("a part has no statement")]
    NoStatement,
    /// The statements do not stand in their order.
    #[error("the {0} stands out of order")]
    Order(String),
    /// An event whose statement is missing.
    #[error("the statement of entry {0} is missing")]
    Missing(EntryIndex),
    /// A statement of no event on the page.
    #[error("the {0} has no event on the page")]
    Unused(String),
    /// A signature is wrong.
    #[error("the {place}: {source}")]
    Signature {
        /// Which batch.
        place: String,
        /// What is wrong.
        source: SignedError,
    },
    /// An event that names another number of events, or another place for the first one.
    #[error("entry {0} does not fit its batch")]
    OtherBatch(EntryIndex),
    /// The events do not stand in their batch.
    #[error("the {place}: {source}")]
    NotIncluded {
        /// Which batch.
        place: String,
        /// What is wrong.
        source: SetProofError,
    },
}

impl BatchPartError {
    /// Returns the check that met it.
    #[must_use]
    pub fn check(&self) -> CheckName {
        match self {
            Self::NoStatement | Self::Order(_) | Self::Missing(_) | Self::Unused(_) => CheckName::Statements,
            Self::Signature { .. } => CheckName::BatchSignatures,
            Self::OtherBatch(_) | Self::NotIncluded { .. } => CheckName::BatchInclusion,
        }
    }
}

impl Refusal for BatchPartError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// An event of a page with its exact bytes.
struct PageEvent<'a> {
    index: EntryIndex,
    at: v1::BatchPosition,
    exact: &'a [u8],
}

/// Checks that collectors signed every event of a page.
pub(super) fn verify<'a>(
    entries: impl Iterator<Item = &'a LogEntry>,
    parts: &[v1::StatementPart],
    origin: &str,
) -> Result<(), BatchPartError> {
    let mut batches: BTreeMap<BatchPlace, Vec<PageEvent<'_>>> = BTreeMap::new();
    for entry in entries {
        if let Body::Event(recorded) = &entry.body {
            let at = recorded.at.clone().unwrap_or_default();
            batches.entry(place_of_event(&at)).or_default().push(PageEvent { index: entry.index, at, exact: &recorded.event });
        }
    }
    let statements = in_order(parts)?;
    if let Some(unused) = statements.keys().find(|place| !batches.contains_key(*place)) {
        return Err(BatchPartError::Unused(unused.to_string()));
    }
    if let Some((_, events)) = batches.iter().find(|(place, _)| !statements.contains_key(*place)) {
        return Err(BatchPartError::Missing(events.first().map_or(EntryIndex(0), |event| event.index)));
    }
    for (place, of) in &statements {
        verify_statement(origin, of.statement).map_err(|source| BatchPartError::Signature { place: place.to_string(), source })?;
    }
    statements.iter().try_for_each(|(place, of)| verify_events(place, of, batches.get(place).map(Vec::as_slice).unwrap_or_default()))
}

/// A statement, and the set proof of its events.
struct Signed<'a> {
    statement: &'a v1::BatchStatement,
    path: &'a [Vec<u8>],
}

fn in_order(parts: &[v1::StatementPart]) -> Result<BTreeMap<BatchPlace, Signed<'_>>, BatchPartError> {
    let mut statements = BTreeMap::<BatchPlace, Signed<'_>>::new();
    for part in parts {
        let statement = part.statement.as_ref().ok_or(BatchPartError::NoStatement)?;
        let place = place_of_statement(statement);
        if statements.last_key_value().is_some_and(|(last, _)| *last >= place) {
            return Err(BatchPartError::Order(place.to_string()));
        }
        statements.insert(place, Signed { statement, path: &part.batch_path });
    }
    Ok(statements)
}

fn verify_events(place: &BatchPlace, of: &Signed<'_>, events: &[PageEvent<'_>]) -> Result<(), BatchPartError> {
    let Signed { statement, path } = of;
    let mut first = None;
    for event in events {
        // The entries of a batch follow each other, so each tells the same index for the batch's first event.
        let begins = event.index.0.checked_sub(u64::from(event.at.offset));
        if begins.is_none() || event.at.count != statement.event_count || *first.get_or_insert(begins) != begins {
            return Err(BatchPartError::OtherBatch(event.index));
        }
    }
    let leaf = |event: &PageEvent<'_>| (LeafIndex(event.at.offset.into()), ContentHash::leaf(event.exact));
    let leaves: Vec<_> = events.iter().map(leaf).collect();
    let included = || {
        let root: ContentHash = parse_hash(&statement.events_root)?;
        let computed = fold_set(TreeSize(statement.event_count.into()), &leaves, &parse_path(path)?)?;
        if computed == root {
            return Ok(());
        }
        Err(SetProofError::Tree(TreeError::RootMismatch { computed: computed.to_string(), expected: root.to_string() }))
    };
    included().map_err(|source| BatchPartError::NotIncluded { place: place.to_string(), source })
}

/// Names the batch that an event stands in.
pub(crate) fn place_of_event(of: &v1::BatchPosition) -> BatchPlace {
    BatchPlace { collector_id: of.collector_id.clone(), lane: of.lane, epoch: of.epoch, sequence: of.sequence }
}

/// Names the batch that a statement is about.
pub(crate) fn place_of_statement(of: &v1::BatchStatement) -> BatchPlace {
    BatchPlace { collector_id: of.collector_id.clone(), lane: of.lane, epoch: of.epoch, sequence: of.sequence }
}
