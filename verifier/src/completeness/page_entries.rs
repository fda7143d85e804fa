//! Which entries a page must hold, and the commitment among them.

use proofline_proto::v1;
use thiserror::Error;
use v1::entry_core::Body;

use super::map::{MapError, exactly};
use super::question::Question;
use crate::coordinate::{EntryIndex, TreeSize};
use crate::entry::LogEntry;
use crate::report::{Outcome, Refusal};

/// Why the entries on a page are not those that belong there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PageEntryError {
    /// A list names an entry that no page holds.
    #[error("entry {0} is listed, and no page up to here holds it")]
    Missing(EntryIndex),
    /// An entry that stood on an earlier page.
    #[error("entry {0} stood on an earlier page")]
    Repeated(EntryIndex),
    /// An entry that nothing on the page lists.
    #[error("nothing lists entry {0}")]
    Unlisted(EntryIndex),
    /// A window of every entry has a gap.
    #[error("entry {expected} is missing in a window of every entry")]
    NotDense {
        /// What comes next.
        expected: EntryIndex,
    },
}

impl Refusal for PageEntryError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// Why the commitment of an answer does not commit to its lists.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitmentError {
    /// The page lacks the entry.
    #[error("entry {0}, the commitment, is not on the page")]
    Missing(EntryIndex),
    /// The entry is none.
    #[error("entry {0} is no state commitment")]
    Another(EntryIndex),
    /// It covers itself.
    #[error("the commitment at entry {index} covers {size} entries")]
    Size {
        /// Where it stands.
        index: EntryIndex,
        /// What it names.
        size: u64,
    },
    /// Its root is malformed.
    #[error("the commitment's root: {0}")]
    Root(#[source] MapError),
    /// The window reaches beyond what is committed to.
    #[error("the window ends before entry {to}, only {limit} entries can be vouched for")]
    Window {
        /// Where the window ends.
        to: EntryIndex,
        /// Where it may end.
        limit: u64,
    },
    /// Lists, or keys that are asked about, without a commitment.
    #[error("the answer is about keys or has lists, but names no commitment")]
    NoneNamed,
}

impl Refusal for CommitmentError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// What a state commitment says of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commitment {
    pub(super) index: EntryIndex,
    pub(super) size: TreeSize,
    pub(super) map_root: [u8; 32],
}

impl Commitment {
    /// Reads the commitment from its entry.
    pub(super) fn read(index: EntryIndex, entry: Option<&LogEntry>) -> Result<Self, CommitmentError> {
        let entry = entry.ok_or(CommitmentError::Missing(index))?;
        let Body::StateCommitment(of) = &entry.body else { return Err(CommitmentError::Another(index)) };
        if of.size > index.0 {
            return Err(CommitmentError::Size { index, size: of.size });
        }
        let map_root = exactly("root", &of.map_root).map_err(CommitmentError::Root)?;
        Ok(Self { index, size: TreeSize(of.size), map_root })
    }
}

/// Returns behind which entry no window may reach.
pub(super) fn limit(commitment: Option<&Commitment>, question: &Question, checkpoint: TreeSize) -> u64 {
    match commitment {
        Some(commitment) if !question.starts.is_empty() => commitment.size.0,
        Some(_) | None => checkpoint.0,
    }
}
