//! What may be asked, and what its times mean as indexes.

use std::collections::BTreeSet;

use proofline_proto::v1;
use thiserror::Error;
use v1::{Dimension, LineageDirection};

use super::carried::carries_keys;
use super::index::indexed_commitment;
use super::keys::Key;
use crate::entry;
use crate::ids::{EntryIndex, TreeSize};
use crate::key;
use crate::limits::{LINEAGE_DEPTH_MAX, LINEAGE_STARTS_MAX};
use crate::listing;
use crate::store::{Store, StoreFault, Table};

/// Why a question is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QuestionProblem {
    /// Too many keys to begin with.
    #[error("the question has {0} starts, {LINEAGE_STARTS_MAX} are the limit")]
    TooManyStarts(usize),
    /// Too far to go.
    #[error("the depth is {0}, {LINEAGE_DEPTH_MAX} is the limit")]
    TooDeep(u32),
    /// A key that no entry can carry.
    #[error("start {0} is no key: it needs a known dimension other than PARENT_SESSION, a value, and a tenant unless it is a collector")]
    NoKey(usize),
    /// The same key twice.
    #[error("start {0} stands in the question before")]
    Repeated(usize),
    /// A direction or a kind that is not known.
    #[error("the direction or a kind is not one of the contract")]
    UnknownWord,
    /// The window ends before it begins.
    #[error("the window ends at {to}, before it begins at {from}")]
    Backwards {
        /// First entry of the window.
        from: u64,
        /// First entry behind it.
        to: u64,
    },
    /// One edge of the window as an index and as a time.
    #[error("an edge of the window is given as an index and as a time; one of them has to say it")]
    EdgeTwice,
    /// The window reaches beyond what is committed to.
    #[error("the window ends at {to}, and answers by key reach up to {covered} now")]
    BeyondCommitment {
        /// First entry behind the window.
        to: u64,
        /// What the commitment covers.
        covered: u64,
    },
    /// The window reaches beyond what is published.
    #[error("the window ends at {to}, and the published checkpoint covers {covered} entries")]
    BeyondCheckpoint {
        /// First entry behind the window.
        to: u64,
        /// What the checkpoint covers.
        covered: u64,
    },
}

/// Checks what a question says, whatever the log holds.
pub(crate) fn check_question(of: &v1::LineageQuestion) -> Result<(), QuestionProblem> {
    if of.starts.len() > LINEAGE_STARTS_MAX {
        return Err(QuestionProblem::TooManyStarts(of.starts.len()));
    }
    if of.depth > LINEAGE_DEPTH_MAX {
        return Err(QuestionProblem::TooDeep(of.depth));
    }
    let is_known = |kind: &i32| is_node(Dimension::try_from(*kind).unwrap_or_default());
    if LineageDirection::try_from(of.direction).is_err() || !of.kinds.iter().all(is_known) {
        return Err(QuestionProblem::UnknownWord);
    }
    let mut seen = BTreeSet::new();
    for (number, start) in of.starts.iter().enumerate() {
        let is_collector = start.dimension() == Dimension::Collector;
        if !is_node(start.dimension()) || start.value.is_empty() || start.tenant_id.is_empty() != is_collector || is_long(start) {
            return Err(QuestionProblem::NoKey(number));
        }
        if !seen.insert(Key::of(start)) {
            return Err(QuestionProblem::Repeated(number));
        }
    }
    Ok(())
}

/// Tells whether keys of a dimension are nodes of the graph.
fn is_node(dimension: Dimension) -> bool {
    !matches!(dimension, Dimension::Unspecified | Dimension::ParentSession)
}

fn is_long(start: &v1::Key) -> bool {
    start.value.len() > usize::from(u16::MAX) || start.tenant_id.len() > usize::from(u16::MAX)
}

/// How far a question by key is answered, of the log that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// As far as it asks.
    Whole,
    /// Over so many entries, and one behind them carries a key.
    Short(TreeSize),
    /// There is nothing to answer from.
    Nothing,
}

/// Tells whether a question by key that names no last entry would miss some of a log of `size` entries. What is no question
/// reaches as far as it asks: it is refused by whoever begins to answer.
///
/// # Errors
/// [`StoreFault`] when the store fails, holds damaged rows, or has fewer entries.
pub fn reach(store: &impl Store, of: &v1::LineageQuestion, size: TreeSize) -> Result<Reach, StoreFault> {
    let has_edge_twice = of.from_unix_ns != 0 && of.from_index != 0;
    if of.to_index != 0 || has_edge_twice || check_question(of).is_err() {
        return Ok(Reach::Whole);
    }
    let Some(commitment) = indexed_commitment(store)? else { return Ok(Reach::Nothing) };
    let covered = commitment.size;
    // What ends at a time ends within what is covered when an entry there is as late.
    let ends_before = of.to_unix_ns != 0 && first_at(store, of.to_unix_ns, covered)? < covered.0;
    Ok(if ends_before || !carries_keys(store, covered, size)? { Reach::Whole } else { Reach::Short(covered) })
}

/// Fills in what the times of a question mean in a log of which `covered` entries can be asked about.
pub(super) fn resolve(
    store: &impl Store,
    mut of: v1::LineageQuestion,
    covered: TreeSize,
) -> Result<Result<v1::LineageQuestion, QuestionProblem>, StoreFault> {
    if (of.from_unix_ns != 0 && of.from_index != 0) || (of.to_unix_ns != 0 && of.to_index != 0) {
        return Ok(Err(QuestionProblem::EdgeTwice));
    }
    if of.from_unix_ns != 0 {
        of.from_index = first_at(store, of.from_unix_ns, covered)?;
    }
    if of.to_unix_ns != 0 {
        of.to_index = first_at(store, of.to_unix_ns, covered)?;
    } else if of.to_index == 0 {
        of.to_index = covered.0;
    }
    let (to, covered) = (of.to_index, covered.0);
    Ok(if to > covered && of.starts.is_empty() {
        Err(QuestionProblem::BeyondCheckpoint { to, covered })
    } else if to > covered {
        Err(QuestionProblem::BeyondCommitment { to, covered })
    } else if of.from_index > of.to_index {
        Err(QuestionProblem::Backwards { from: of.from_index, to: of.to_index })
    } else {
        Ok(of)
    })
}

/// Returns the first of `covered` entries that was committed at a time or later; their number when none was.
fn first_at(store: &impl Store, unix_ns: u64, covered: TreeSize) -> Result<u64, StoreFault> {
    let (mut low, mut high) = (0, covered.0);
    while low < high {
        let middle = low + (high - low) / 2;
        if committed(store, middle)? < unix_ns { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn committed(store: &impl Store, index: u64) -> Result<u64, StoreFault> {
    let found = listing::entry(store, EntryIndex(index))?;
    let core = found.as_deref().and_then(entry::parse).map(|(_, core)| core);
    let damaged = || StoreFault::Damaged { table: Table::Entries, key: key::entry(EntryIndex(index)).to_vec() };
    core.map(|core| core.committed_unix_ns).ok_or_else(damaged)
}
