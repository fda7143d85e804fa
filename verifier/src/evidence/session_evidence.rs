//! A whole session: `.session-evidence`.

use proofline_proto::v1;
use thiserror::Error;
use v1::command::Action;
use v1::entry_core::Body;

use crate::consistency::HeldCheckpoint;
use crate::coordinate::{EntryIndex, SessionPosition};
use crate::entry::{EntryError, LogEntry};
use crate::evidence::batches::Batches;
use crate::evidence::registrations::{self, RegistrationError};
use crate::evidence::{FormatError, begin, decode_file, facts, part, trust, verify_proven};
use crate::hash::ContentHash;
use crate::key::KeyName;
use crate::policy::Policy;
use crate::registry::Registry;
use crate::report::{CheckName, Completeness, EvidenceKind, NotProven, Outcome, Refusal, Report};
use crate::tree::Frontier;
use crate::trust::VerifiedCheckpoint;

/// What the field `format` of a session evidence file of this version says.
pub const SESSION_EVIDENCE_FORMAT: &str = "proofline/session-evidence/v1";

const CHECKS: [CheckName; 15] = [
    CheckName::Origin,
    CheckName::LastInclusion,
    CheckName::Entries,
    CheckName::SessionIdentity,
    CheckName::SessionOrder,
    CheckName::SessionRoots,
    CheckName::RegistrationsInclusion,
    CheckName::Genesis,
    CheckName::CommandSignatures,
    CheckName::Statements,
    CheckName::BatchSignatures,
    CheckName::BatchInclusion,
    CheckName::CollectorKeys,
    CheckName::CollectorScope,
    CheckName::EventSession,
];

/// Why the entries of a file are not one whole session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum SessionError {
    #[error("the file names origin {file:?}, its checkpoint {checkpoint}")]
    OtherOrigin { file: String, checkpoint: KeyName },
    #[error("entry at position {position}: {source}")]
    Entry { position: usize, source: EntryError },
    #[error("the last entry, {index}, is not the last of the session's entries in the file")]
    LastDiffers { index: EntryIndex },
    #[error("the entry at position {position} is of {found:?}, not of this session")]
    OtherSession { position: usize, found: Option<(String, String)> },
    #[error("the entry at position {position} names position {named}")]
    Position { position: usize, named: SessionPosition },
    #[error("entry {index} stands behind entry {previous}")]
    IndexFalls { previous: EntryIndex, index: EntryIndex },
    #[error("entry {index} was committed at an earlier time than the one before it")]
    TimeFalls { index: EntryIndex },
    #[error("entry {index} stands behind the seal of the session")]
    BehindSeal { index: EntryIndex },
    #[error("entry {index} is neither an event nor a seal of this session")]
    NoMember { index: EntryIndex },
    #[error("entry {index} names session root {named}, the entries up to it have {computed}")]
    Root { index: EntryIndex, named: ContentHash, computed: ContentHash },
}

impl Refusal for SessionError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Entry { source, .. } => source.outcome(),
            Self::OtherOrigin { .. }
            | Self::LastDiffers { .. }
            | Self::OtherSession { .. }
            | Self::Position { .. }
            | Self::IndexFalls { .. }
            | Self::TimeFalls { .. }
            | Self::BehindSeal { .. }
            | Self::NoMember { .. }
            | Self::Root { .. } => Outcome::Failed,
        }
    }
}

/// Verifies a `.session-evidence` file.
#[must_use]
pub fn verify_session_evidence(file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Report {
    let mut report = begin(EvidenceKind::SessionEvidence, &CHECKS, held);
    report.completeness = Completeness::Unknown;
    report.not_proven.extend([NotProven::RegistrationsComplete, NotProven::EventsTrue, NotProven::DecisionsRight, NotProven::UnsentEvents]);
    // Only `report` matters: a check that does not pass ends the walk early.
    let _ = walk(&mut report, file, policy, held);
    report.conclude()
}

fn walk(report: &mut Report, file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Option<()> {
    let (evidence, last) = report.settle(CheckName::Format, |_| format!("{SESSION_EVIDENCE_FORMAT}, {} bytes", file.len()), open(file))?;
    let checkpoint = trust(report, &evidence.checkpoint, policy, held)?;
    report.settle(CheckName::Origin, |()| checkpoint.origin.to_string(), check_origin(&evidence, &checkpoint))?;
    let included = verify_proven(&last, &checkpoint);
    report.settle(CheckName::LastInclusion, |()| format!("entry {} of {}", last.index, checkpoint.size), included)?;
    let session = Session::parse(&evidence, &last);
    let session = report.settle(CheckName::Entries, |it| format!("{} entries are canonical", it.members.len()), session)?;
    report.settle(CheckName::SessionIdentity, |()| format!("all are of session {:?}", evidence.session_id), session.check_identity())?;
    let seal = report.settle(CheckName::SessionOrder, describe_order, session.check_order())?;
    report.settle(CheckName::SessionRoots, |it| format!("all committed roots; the last is {it}"), session.check_roots())?;

    let registry = registry(report, &evidence, &checkpoint, &session)?;
    let batches = report.settle(
        CheckName::Statements,
        |it: &Batches<'_>| format!("{} statements, each used", it.statements()),
        Batches::assign(&evidence, &session.members),
    )?;
    report.settle(CheckName::BatchSignatures, |()| "all verify".to_owned(), batches.check_signatures(&evidence.origin))?;
    report.settle(CheckName::BatchInclusion, |()| "each event is in its signed batch".to_owned(), batches.check_inclusion())?;
    report.settle(CheckName::CollectorKeys, |()| "each was registered when used".to_owned(), batches.check_keys(&registry))?;
    report.settle(CheckName::CollectorScope, |()| "tenant, agent and vantage are registered".to_owned(), batches.check_scope(&registry))?;
    report.settle(CheckName::EventSession, |()| "each event names the session".to_owned(), batches.check_session(&evidence))?;

    report.facts.extend(facts::of_checkpoint(&checkpoint));
    report.facts.extend(facts::of_session(&session.members));
    report.warnings.extend(registry.retired_keys_in(policy));
    report.completeness = if seal.is_some() { Completeness::Complete } else { Completeness::OpenEnded };
    report.not_proven.extend(seal.is_none().then_some(NotProven::SessionContinues));
    Some(())
}

/// Makes the checks of genesis, registrations, and every command in the file, and returns who was registered for what.
fn registry(
    report: &mut Report,
    evidence: &v1::SessionEvidence,
    checkpoint: &VerifiedCheckpoint,
    session: &Session<'_>,
) -> Option<Registry> {
    let proven = registrations::verify(&evidence.registrations, checkpoint);
    let proven = report.settle(CheckName::RegistrationsInclusion, |it| format!("{} entries", it.len()), proven)?;
    let genesis = registrations::genesis(&proven, checkpoint);
    let genesis = report.settle(CheckName::Genesis, |_| "names this origin and the policy's log key".to_owned(), genesis)?;
    let registry = registrations::replay(genesis, &proven).and_then(|registry| {
        session.seals().try_for_each(|(entry, seal)| registry.authorised(entry, seal).map(drop).map_err(RegistrationError::Command))?;
        Ok(registry)
    });
    report.settle(CheckName::CommandSignatures, |_| "operators with the role signed each command".to_owned(), registry)
}

fn open(file: &[u8]) -> Result<(v1::SessionEvidence, v1::ProvenEntry), FormatError> {
    let mut evidence: v1::SessionEvidence = decode_file("SessionEvidence", file)?;
    if evidence.format != SESSION_EVIDENCE_FORMAT {
        return Err(FormatError::UnknownVersion(evidence.format));
    }
    let last = part(evidence.last.take(), "last entry")?;
    Ok((evidence, last))
}

fn check_origin(evidence: &v1::SessionEvidence, checkpoint: &VerifiedCheckpoint) -> Result<(), SessionError> {
    if evidence.origin == checkpoint.origin.as_str() {
        Ok(())
    } else {
        Err(SessionError::OtherOrigin { file: evidence.origin.clone(), checkpoint: checkpoint.origin.clone() })
    }
}

fn describe_order(seal: &Option<EntryIndex>) -> String {
    seal.map_or_else(|| "no gap; not sealed".to_owned(), |index| format!("no gap; sealed by entry {index}"))
}

/// The entries of a file, in the order of their positions.
struct Session<'a> {
    evidence: &'a v1::SessionEvidence,
    members: Vec<LogEntry>,
}

impl<'a> Session<'a> {
    fn parse(evidence: &'a v1::SessionEvidence, last: &v1::ProvenEntry) -> Result<Self, SessionError> {
        let entries = evidence.members.iter().map(|member| &member.entry);
        let parse =
            |(position, bytes): (usize, &Vec<u8>)| LogEntry::parse(bytes).map_err(|source| SessionError::Entry { position, source });
        let members = entries.enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
        let is_last = members.last().is_some_and(|member| member.index.0 == last.index);
        if !is_last || evidence.members.last().is_none_or(|member| member.entry != last.entry) {
            return Err(SessionError::LastDiffers { index: EntryIndex(last.index) });
        }
        Ok(Self { evidence, members })
    }

    fn check_identity(&self) -> Result<(), SessionError> {
        let expected = (self.evidence.tenant_id.clone(), self.evidence.session_id.clone());
        for (position, member) in self.members.iter().enumerate() {
            let found = member.session.as_ref().map(|place| (place.tenant_id.clone(), place.session_id.clone()));
            if found.as_ref() != Some(&expected) {
                return Err(SessionError::OtherSession { position, found });
            }
        }
        Ok(())
    }

    /// Checks that nothing is missing, moved or behind the seal; returns the entry that seals the session.
    fn check_order(&self) -> Result<Option<EntryIndex>, SessionError> {
        let mut sealed_by = None;
        let mut previous: Option<&LogEntry> = None;
        for (position, member) in self.members.iter().enumerate() {
            let index = member.index;
            if let Some(named) = member.session.as_ref().map(|place| place.position).filter(|named| named.0 != position as u64) {
                return Err(SessionError::Position { position, named });
            }
            if let Some(previous) = previous.filter(|previous| previous.index >= index) {
                return Err(SessionError::IndexFalls { previous: previous.index, index });
            }
            if previous.is_some_and(|previous| previous.committed_unix_ns > member.committed_unix_ns) {
                return Err(SessionError::TimeFalls { index });
            }
            if sealed_by.is_some() {
                return Err(SessionError::BehindSeal { index });
            }
            match &member.body {
                Body::Event(_) => {}
                Body::Containment(change) => self.check_containment(index, change)?,
                _ => sealed_by = Some(self.check_seal(member)?),
            }
            previous = Some(member);
        }
        Ok(sealed_by)
    }

    fn check_containment(&self, index: EntryIndex, change: &v1::Containment) -> Result<(), SessionError> {
        let is_of_session = change.targets.first().is_some_and(|target| {
            target.kind() == v1::TargetKind::Session && target.tenant_id == self.evidence.tenant_id && target.id == self.evidence.session_id
        });
        if is_of_session { Ok(()) } else { Err(SessionError::NoMember { index }) }
    }

    fn check_seal(&self, member: &LogEntry) -> Result<EntryIndex, SessionError> {
        let command = match &member.body {
            Body::Command(signed) => <v1::Command as prost::Message>::decode(&signed.command[..]).ok().and_then(|it| it.action),
            Body::Event(_)
            | Body::Genesis(_)
            | Body::Rejection(_)
            | Body::Equivocation(_)
            | Body::LaneOpened(_)
            | Body::LaneClosed(_)
            | Body::Containment(_)
            | Body::OutletDelivery(_)
            | Body::StateCommitment(_)
            | Body::AccessRecorded(_)
            | Body::ErasureDeferred(_) => None,
        };
        match command {
            Some(Action::SealSession(seal)) if seal.tenant_id == self.evidence.tenant_id && seal.session_id == self.evidence.session_id => {
                Ok(member.index)
            }
            Some(_) | None => Err(SessionError::NoMember { index: member.index }),
        }
    }

    /// Recomputes the session root after every entry; returns the last one.
    fn check_roots(&self) -> Result<ContentHash, SessionError> {
        let mut tree = Frontier::default();
        for member in &self.members {
            tree.push(member.session_leaf);
            let computed = tree.root();
            if let Some(named) = member.session.as_ref().map(|place| place.root).filter(|named| *named != computed) {
                return Err(SessionError::Root { index: member.index, named, computed });
            }
        }
        Ok(tree.root())
    }

    fn seals(&self) -> impl Iterator<Item = (&LogEntry, &v1::SignedCommand)> {
        self.members.iter().filter_map(|member| match &member.body {
            Body::Command(signed) => Some((member, signed)),
            Body::Event(_)
            | Body::Genesis(_)
            | Body::Rejection(_)
            | Body::Equivocation(_)
            | Body::LaneOpened(_)
            | Body::LaneClosed(_)
            | Body::Containment(_)
            | Body::OutletDelivery(_)
            | Body::StateCommitment(_)
            | Body::AccessRecorded(_)
            | Body::ErasureDeferred(_) => None,
        })
    }
}
