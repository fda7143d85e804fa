//! What was asked, parsed.

use std::collections::BTreeSet;

use proofline_proto::v1::{self, Dimension};
use thiserror::Error;

use super::key::EntryKey;
use crate::coordinate::EntryIndex;
use crate::report::{Outcome, Refusal};

/// Most keys that one question begins with.
pub const STARTS_MAX: usize = 64;
/// Farthest that a question is followed.
pub const DEPTH_MAX: u32 = 32;

/// Why a question is none that can be answered, or not the one that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// The page states none.
    #[error("the page states no question")]
    Missing,
    /// A direction or a dimension of another version.
    #[error("the question names a {0} that this version does not know")]
    Unknown(&'static str),
    /// More starts than allowed, or one twice.
    #[error("the question has {0} starts; {STARTS_MAX} different ones are the most")]
    Starts(usize),
    /// Deeper than allowed.
    #[error("the question goes {0} steps deep, {DEPTH_MAX} are the most")]
    Depth(u32),
    /// The window ends before it begins.
    #[error("the window begins at entry {from} and ends at entry {to}")]
    Window {
        /// First entry.
        from: EntryIndex,
        /// Behind the last.
        to: EntryIndex,
    },
    /// Another question than the one that was asked.
    #[error("the answer is to another question: its {0} differs")]
    Another(&'static str),
}

impl Refusal for QuestionError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Missing | Self::Unknown(_) => Outcome::NotChecked,
            Self::Starts(_) | Self::Depth(_) | Self::Window { .. } | Self::Another(_) => Outcome::Failed,
        }
    }
}

/// Where a question leads from its starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Nowhere: the entries of the starts alone.
    None,
    /// To whose authority it was done by.
    Up,
    /// To what it touched.
    Down,
    /// Up, and from every session found there down.
    Both,
}

/// A question, with the window that its times mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Keys to begin with; none asks for every entry of the window.
    pub starts: Vec<EntryKey>,
    /// Where it leads.
    pub direction: Direction,
    /// How many steps.
    pub depth: u32,
    /// Kinds of nodes to go on to; none means all.
    pub kinds: BTreeSet<Dimension>,
    /// First entry of the window.
    pub from: EntryIndex,
    /// Behind the last entry of the window.
    pub to: EntryIndex,
    /// Committed at or after; 0: any.
    pub from_unix_ns: u64,
    /// Committed before; 0: any.
    pub to_unix_ns: u64,
}

impl Question {
    /// Parses a question as pages state it.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn parse(of: &v1::LineageQuestion) -> Result<Self, QuestionError> {
        let starts = of.starts.iter().map(EntryKey::parse).collect::<Option<Vec<_>>>().ok_or(QuestionError::Unknown("start"))?;
        if starts.iter().any(|it| it.dimension == Dimension::ParentSession) {
            return Err(QuestionError::Unknown("start"));
        }
        let different: BTreeSet<_> = starts.iter().collect();
        if starts.len() > STARTS_MAX || different.len() != starts.len() {
            return Err(QuestionError::Starts(starts.len()));
        }
        if of.depth > DEPTH_MAX {
            return Err(QuestionError::Depth(of.depth));
        }
        let (from, to) = (EntryIndex(of.from_index), EntryIndex(of.to_index));
        if from > to {
            return Err(QuestionError::Window { from, to });
        }
        let direction = parse_direction(of.direction)?;
        let (from_unix_ns, to_unix_ns) = (of.from_unix_ns, of.to_unix_ns);
        Ok(Self { starts, direction, depth: of.depth, kinds: parse_kinds(&of.kinds)?, from, to, from_unix_ns, to_unix_ns })
    }

    /// Tells whether an entry stands in the window.
    #[must_use]
    pub fn contains(&self, index: EntryIndex) -> bool {
        self.from <= index && index < self.to
    }

    /// Tells whether the question has a time, so that the first page shows the entries around the window.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.from_unix_ns != 0 || self.to_unix_ns != 0
    }

    /// Checks that this is the question that was asked, filled in. An end with a time has no index of its own.
    pub(super) fn check_asked(&self, asked: &v1::LineageQuestion, limit: u64) -> Result<(), QuestionError> {
        let starts = asked.starts.iter().map(EntryKey::parse).collect::<Option<Vec<_>>>();
        let to = if asked.to_index == 0 { limit } else { asked.to_index };
        let differences = [
            ("starts", starts.as_ref() != Some(&self.starts)),
            ("direction", parse_direction(asked.direction) != Ok(self.direction)),
            ("depth", asked.depth != self.depth),
            ("kinds", parse_kinds(&asked.kinds).as_ref() != Ok(&self.kinds)),
            ("times", (asked.from_unix_ns, asked.to_unix_ns) != (self.from_unix_ns, self.to_unix_ns)),
            ("first index", self.from_unix_ns == 0 && self.from.0 != asked.from_index.min(limit)),
            ("last index", self.to_unix_ns == 0 && self.to.0 != to.max(self.from.0)),
        ];
        let first = differences.into_iter().find(|(_, differs)| *differs);
        first.map_or(Ok(()), |(what, _)| Err(QuestionError::Another(what)))
    }
}

fn parse_direction(of: i32) -> Result<Direction, QuestionError> {
    match v1::LineageDirection::try_from(of) {
        Ok(v1::LineageDirection::Unspecified) => Ok(Direction::None),
        Ok(v1::LineageDirection::Up) => Ok(Direction::Up),
        Ok(v1::LineageDirection::Down) => Ok(Direction::Down),
        Ok(v1::LineageDirection::Both) => Ok(Direction::Both),
        Err(_) => Err(QuestionError::Unknown("direction")),
    }
}

fn parse_kinds(of: &[i32]) -> Result<BTreeSet<Dimension>, QuestionError> {
    let parse = |kind: &i32| Dimension::try_from(*kind).ok().filter(|it| !matches!(it, Dimension::Unspecified | Dimension::ParentSession));
    of.iter().map(parse).collect::<Option<_>>().ok_or(QuestionError::Unknown("dimension"))
}
