//! The window of a question that has times: entries at its ends show that the indexes are those that the times mean.

use std::collections::BTreeMap;

use thiserror::Error;

use super::answer::FoundEntry;
use super::question::Question;
use crate::coordinate::EntryIndex;
use crate::report::{Outcome, Refusal};

/// Why a window is not the one that its times mean.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WindowError {
    /// An entry at an end of the window is missing.
    #[error("entry {0}, at an end of the window, is not on the first page")]
    NoBound(EntryIndex),
    /// The window begins too late or too early.
    #[error("the window begins at entry {from}, but entry {index} was committed {side}")]
    From {
        /// Where the window begins.
        from: EntryIndex,
        /// Entry that shows it.
        index: EntryIndex,
        /// On which side of the time.
        side: &'static str,
    },
    /// The window ends too early or too late.
    #[error("the window ends before entry {to}, but entry {index} was committed {side}")]
    To {
        /// Where the window ends.
        to: EntryIndex,
        /// Entry that shows it.
        index: EntryIndex,
        /// On which side of the time.
        side: &'static str,
    },
}

impl Refusal for WindowError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// Returns the entries that show the window: before and at its beginning, before and at its end, as far as they exist.
pub(super) fn bounds(of: &Question, size: u64) -> Vec<EntryIndex> {
    if !of.has_time() {
        return Vec::new();
    }
    let around = [of.from.0.checked_sub(1), Some(of.from.0), of.to.0.checked_sub(1), Some(of.to.0)];
    around.into_iter().flatten().filter(|index| *index < size).map(EntryIndex).collect()
}

/// Tells whether the time at which a window ends was reached: an entry at or behind it shows that none before it can follow.
pub(super) fn shows_end(of: &Question, limit: u64, entries: &BTreeMap<u64, FoundEntry>) -> bool {
    let is_behind = |it: &FoundEntry| it.entry.committed_unix_ns >= of.to_unix_ns;
    of.to_unix_ns == 0 || of.to.0 < limit || entries.get(&of.to.0).is_some_and(is_behind)
}

/// Checks the ends of a window against the entries of the first page. No window reaches beyond `limit`.
pub(super) fn verify(of: &Question, size: u64, limit: u64, entries: &BTreeMap<u64, FoundEntry>) -> Result<(), WindowError> {
    if let Some(missing) = bounds(of, size).into_iter().find(|index| !entries.contains_key(&index.0)) {
        return Err(WindowError::NoBound(missing));
    }
    let time = |index: Option<u64>| index.and_then(|index| entries.get(&index)).map(|it| (it.entry.index, it.entry.committed_unix_ns));
    let (from, to) = (of.from, of.to);
    if of.from_unix_ns != 0 {
        if let Some((index, _)) = time(from.0.checked_sub(1)).filter(|(_, time)| *time >= of.from_unix_ns) {
            return Err(WindowError::From { from, index, side: "at or after its time" });
        }
        if let Some((index, _)) = time(Some(from.0)).filter(|(_, time)| *time < of.from_unix_ns && from.0 < limit) {
            return Err(WindowError::From { from, index, side: "before its time" });
        }
    }
    if of.to_unix_ns != 0 {
        if let Some((index, _)) = time(to.0.checked_sub(1)).filter(|(_, time)| *time >= of.to_unix_ns && to > from) {
            return Err(WindowError::To { to, index, side: "at or after its time" });
        }
        if let Some((index, _)) = time(Some(to.0)).filter(|(_, time)| *time < of.to_unix_ns && to.0 < limit) {
            return Err(WindowError::To { to, index, side: "before its time" });
        }
    }
    Ok(())
}
