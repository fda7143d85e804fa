//! Why an answer is refused: one fault, the check that met it, the page it stands on.

use thiserror::Error;

use super::batch_parts::BatchPartError;
use super::key_range::{MapOrRange, RangeError};
use super::map::MapError;
use super::page_entries::{CommitmentError, PageEntryError};
use super::question::QuestionError;
use super::set_proof::SetProofError;
use super::walk::WalkError;
use super::window::WindowError;
use crate::coordinate::EntryIndex;
use crate::entry::EntryError;
use crate::report::{CheckName, Outcome, Refusal};

/// A page that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("page {page}: {fault}")]
pub struct AnswerError {
    /// Which page, from 0.
    pub page: u64,
    /// What is wrong with it.
    #[source]
    pub fault: AnswerFault,
}

impl AnswerError {
    /// Returns the check that met it.
    #[must_use]
    pub fn check(&self) -> CheckName {
        self.fault.check()
    }
}

impl Refusal for AnswerError {
    fn outcome(&self) -> Outcome {
        self.fault.outcome()
    }
}

/// What is wrong with a page.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnswerFault {
    /// A page with another number.
    #[error("it is numbered {0}")]
    Number(u64),
    /// A page behind the last one.
    #[error("it stands behind the last one")]
    BehindLast,
    /// A page of another answer.
    #[error("its {0} is not that of the first page")]
    OtherAnswer(&'static str),
    /// The question.
    #[error(transparent)]
    Question(#[from] QuestionError),
    /// The entries are not in the log.
    #[error(transparent)]
    NotIncluded(SetProofError),
    /// An entry that cannot be read, or names another index.
    #[error("entry {index}: {source}")]
    Entry {
        /// Where it stands.
        index: EntryIndex,
        /// What is wrong.
        source: EntryError,
    },
    /// An entry that is older than the one before it.
    #[error("entry {0} was committed at an earlier time than the one before it")]
    TimeFalls(EntryIndex),
    /// The commitment.
    #[error(transparent)]
    Commitment(#[from] CommitmentError),
    /// The ends of the window.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// What the map says of a key.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The ranges of a list.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// Which entries the page holds.
    #[error(transparent)]
    PageEntry(#[from] PageEntryError),
    /// Which lists the answer has.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// What collectors signed.
    #[error(transparent)]
    Batch(#[from] BatchPartError),
}

impl From<MapOrRange> for AnswerFault {
    fn from(of: MapOrRange) -> Self {
        match of {
            MapOrRange::Map(error) => Self::Map(error),
            MapOrRange::Range(error) => Self::Range(error),
        }
    }
}

impl AnswerFault {
    /// Returns the check that met it.
    #[must_use]
    pub fn check(&self) -> CheckName {
        match self {
            Self::Number(_) | Self::BehindLast | Self::OtherAnswer(_) => CheckName::PageOrder,
            Self::Question(_) => CheckName::Question,
            Self::NotIncluded(_) => CheckName::EntriesInclusion,
            Self::Entry { .. } | Self::TimeFalls(_) => CheckName::Entries,
            Self::Commitment(_) => CheckName::Commitment,
            Self::Window(_) => CheckName::WindowBounds,
            Self::Map(_) => CheckName::KeysMap,
            Self::Range(_) => CheckName::KeyRanges,
            Self::PageEntry(_) => CheckName::PageEntries,
            Self::Walk(WalkError::NotCarried { .. }) => CheckName::KeysCarried,
            Self::Walk(_) => CheckName::Walk,
            Self::Batch(error) => error.check(),
        }
    }
}

impl Refusal for AnswerFault {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Question(error) => error.outcome(),
            Self::Entry { source, .. } => source.outcome(),
            Self::Number(_)
            | Self::BehindLast
            | Self::OtherAnswer(_)
            | Self::NotIncluded(_)
            | Self::TimeFalls(_)
            | Self::Commitment(_)
            | Self::Window(_)
            | Self::Map(_)
            | Self::Range(_)
            | Self::PageEntry(_)
            | Self::Walk(_)
            | Self::Batch(_) => Outcome::Failed,
        }
    }
}
