//! One entry in its session: `.session-proof`.

use proofline_proto::v1;
use thiserror::Error;

use crate::consistency::HeldCheckpoint;
use crate::coordinate::{EntryIndex, SessionPosition, TreeSize};
use crate::entry::{EntryError, LogEntry, SessionPlace};
use crate::evidence::{FormatError, begin, decode_file, facts, part, trust, verify_proven};
use crate::hash::ContentHash;
use crate::policy::Policy;
use crate::report::{CheckName, EvidenceKind, NotProven, Outcome, Refusal, Report};
use crate::tree::{PathRoots, TreeError, fold_path, parse_path};

const CHECKS: [CheckName; 6] = [
    CheckName::LastInclusion,
    CheckName::Entries,
    CheckName::SessionIdentity,
    CheckName::SessionOrder,
    CheckName::SessionInclusion,
    CheckName::SessionRoots,
];

/// Why an entry is not proven to be in its session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum PlaceError {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error("an entry stands in no session")]
    NoSession,
    #[error("the entry is of session {entry:?}, the last entry of {last:?}")]
    OtherSession { entry: (String, String), last: (String, String) },
    #[error("the proof names position {named}, the entry {actual}")]
    Position { named: SessionPosition, actual: SessionPosition },
    #[error("the proof names a session of {named} entries, the last entry stands at position {last}")]
    SessionSize { named: TreeSize, last: SessionPosition },
    #[error("entry {index} at position {position} does not fit the last entry, {last_index} at position {last_position}")]
    Order { index: EntryIndex, position: SessionPosition, last_index: EntryIndex, last_position: SessionPosition },
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("the path leads to session root {computed}, {named} is committed")]
    Root { computed: ContentHash, named: ContentHash },
}

impl Refusal for PlaceError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Entry(error) => error.outcome(),
            Self::Tree(error) => error.outcome(),
            Self::NoSession
            | Self::OtherSession { .. }
            | Self::Position { .. }
            | Self::SessionSize { .. }
            | Self::Order { .. }
            | Self::Root { .. } => Outcome::Failed,
        }
    }
}

/// Verifies a `.session-proof` file.
#[must_use]
pub fn verify_session_proof(file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Report {
    let mut report = begin(EvidenceKind::SessionProof, &CHECKS, held);
    report.not_proven.push(NotProven::SessionSizeNewest);
    // Only `report` matters: a check that does not pass ends the walk early.
    let _ = walk(&mut report, file, policy, held);
    report.conclude()
}

fn walk(report: &mut Report, file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Option<()> {
    let (proof, last) = report.settle(CheckName::Format, |_| format!("canonical SessionProof, {} bytes", file.len()), open(file))?;
    let checkpoint = trust(report, &proof.checkpoint, policy, held)?;
    let included = verify_proven(&last, &checkpoint);
    report.settle(CheckName::LastInclusion, |()| format!("entry {} of {}", last.index, checkpoint.size), included)?;
    let both = Both::parse(&proof, &last);
    let both = report.settle(CheckName::Entries, |it| format!("entries {} and {} are canonical", it.entry.index, it.last.index), both)?;
    let places = report.settle(CheckName::SessionIdentity, |_| "both entries are of one session".to_owned(), both.places())?;
    let order = both.check_order(&proof, places);
    report.settle(CheckName::SessionOrder, |()| format!("position {} of {}", proof.position, proof.session_size), order)?;
    let roots = both.fold(&proof, places);
    let roots = report.settle(CheckName::SessionInclusion, |it| format!("the path leads to session root {}", it.whole), roots)?;
    let own = expect_root(roots.through_leaf, places.entry.root);
    report.settle(CheckName::SessionRoots, |()| "the entry's own session root follows from the path".to_owned(), own)?;
    report.facts.extend(facts::of_checkpoint(&checkpoint));
    report.facts.extend(facts::of_entry(&both.entry));
    report.not_proven.extend(facts::not_shown_by(&both.entry));
    Some(())
}

fn open(file: &[u8]) -> Result<(v1::SessionProof, v1::ProvenEntry), FormatError> {
    let mut proof: v1::SessionProof = decode_file("SessionProof", file)?;
    let last = part(proof.last.take(), "last entry")?;
    Ok((proof, last))
}

/// The entry that the proof is about, and the last one of its session, which commits to it.
struct Both {
    entry: LogEntry,
    last: LogEntry,
}

#[derive(Clone, Copy)]
struct Places<'a> {
    entry: &'a SessionPlace,
    last: &'a SessionPlace,
}

impl Both {
    fn parse(proof: &v1::SessionProof, last: &v1::ProvenEntry) -> Result<Self, PlaceError> {
        Ok(Self { entry: LogEntry::parse(&proof.entry)?, last: LogEntry::parse_at(&last.entry, EntryIndex(last.index))? })
    }

    fn places(&self) -> Result<Places<'_>, PlaceError> {
        let (Some(entry), Some(last)) = (&self.entry.session, &self.last.session) else {
            return Err(PlaceError::NoSession);
        };
        let name = |of: &SessionPlace| (of.tenant_id.clone(), of.session_id.clone());
        if name(entry) == name(last) {
            Ok(Places { entry, last })
        } else {
            Err(PlaceError::OtherSession { entry: name(entry), last: name(last) })
        }
    }

    fn check_order(&self, proof: &v1::SessionProof, places: Places<'_>) -> Result<(), PlaceError> {
        let (position, last_position) = (places.entry.position, places.last.position);
        if proof.position != position.0 {
            return Err(PlaceError::Position { named: SessionPosition(proof.position), actual: position });
        }
        if proof.session_size.checked_sub(1) != Some(last_position.0) {
            return Err(PlaceError::SessionSize { named: TreeSize(proof.session_size), last: last_position });
        }
        if position.cmp(&last_position) != self.entry.index.cmp(&self.last.index) || position > last_position {
            return Err(PlaceError::Order { index: self.entry.index, position, last_index: self.last.index, last_position });
        }
        Ok(())
    }

    fn fold(&self, proof: &v1::SessionProof, places: Places<'_>) -> Result<PathRoots<ContentHash>, PlaceError> {
        let path = parse_path(&proof.session_path)?;
        let roots = fold_path(self.entry.session_leaf, places.entry.position.into(), TreeSize(proof.session_size), &path)?;
        expect_root(roots.whole, places.last.root)?;
        Ok(roots)
    }
}

fn expect_root(computed: ContentHash, named: ContentHash) -> Result<(), PlaceError> {
    if computed == named { Ok(()) } else { Err(PlaceError::Root { computed, named }) }
}
