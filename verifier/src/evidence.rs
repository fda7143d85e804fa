//! Files of evidence: recognised by their content, checked against a policy, reported check by check.

mod batches;
mod bundle;
pub(crate) mod facts;
mod receipt;
mod registrations;
mod session_evidence;
mod session_proof;
mod tlog;

use proofline_proto::v1;
use prost::Message as _;
use thiserror::Error;

use self::bundle::ArchiveError;
use crate::canonical::{CanonicalError, decode_canonical};
use crate::consistency::HeldCheckpoint;
use crate::coordinate::EntryIndex;
use crate::cose_receipt;
use crate::entry::LogEntry;
use crate::hash::LogHash;
use crate::policy::{Policy, Quorum};
use crate::report::{CheckName, EvidenceKind, Integrity, NotProven, Outcome, Refusal, Report};
use crate::tlog_proof::{TLOG_PROOF_HEADER, TlogProof, TlogProofError};
use crate::tree::{TreeError, parse_path};
use crate::trust::{TrustError, UnverifiedCheckpoint, VerifiedCheckpoint};

pub use bundle::{EVIDENCE_FORMAT, Manifest, ManifestError, ManifestMember, verify_evidence};
pub use receipt::verify_cose_receipt;
pub use session_evidence::{SESSION_EVIDENCE_FORMAT, verify_session_evidence};
pub use session_proof::verify_session_proof;
pub use tlog::verify_tlog_proof;

/// Why a file is not evidence of a known form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum FormatError {
    #[error("the file is no .tlog-proof, .cose-receipt, .session-proof, .session-evidence or .evidence.zip that this version knows")]
    Unrecognised,
    #[error("the format is {0:?}, this version reads {SESSION_EVIDENCE_FORMAT:?}")]
    UnknownVersion(String),
    #[error("the file has no {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    #[error("manifest.json: {0}")]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    TlogProof(#[from] TlogProofError),
}

impl Refusal for FormatError {
    fn outcome(&self) -> Outcome {
        Outcome::NotChecked
    }
}

/// Recognises a file of evidence by its content and verifies it under a policy.
///
/// With `held`, a checkpoint that the reader kept from before, the file's checkpoint must be of the same growing log.
#[must_use]
pub fn verify(file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Report {
    verify_shown(file, policy, held, &mut |_| ())
}

/// As [`verify`]; shows the entries that the file is about. What was shown counts only when integrity is verified.
pub(crate) fn verify_shown(file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>, shown: &mut dyn FnMut(&LogEntry)) -> Report {
    let report = match recognise(file) {
        Some(EvidenceKind::TlogProof) => verify_tlog_proof(file, policy, held),
        Some(EvidenceKind::CoseReceipt) => verify_cose_receipt(file, None, policy, held),
        Some(EvidenceKind::SessionProof) => verify_session_proof(file, policy, held),
        Some(EvidenceKind::SessionEvidence) => verify_session_evidence(file, policy, held),
        Some(EvidenceKind::Evidence) => {
            return verify_evidence(file, policy, held, &mut |page| page.found.iter().for_each(|one| shown(&one.entry)));
        }
        None => {
            let mut report = Report::new(None, &[CheckName::Format]);
            report.settle(CheckName::Format, |()| String::new(), Err(FormatError::Unrecognised));
            report
        }
    };
    if report.integrity() == Integrity::Verified {
        entries_of(file, report.kind).iter().for_each(shown);
    }
    report
}

/// The entries of a small file that was verified.
fn entries_of(file: &[u8], kind: Option<EvidenceKind>) -> Vec<LogEntry> {
    let entries: Vec<Vec<u8>> = match kind {
        Some(EvidenceKind::TlogProof) => TlogProof::parse(file).ok().and_then(|it| it.entry).into_iter().collect(),
        Some(EvidenceKind::SessionProof) => v1::SessionProof::decode(file).map(|it| it.entry).into_iter().collect(),
        Some(EvidenceKind::SessionEvidence) => {
            v1::SessionEvidence::decode(file).into_iter().flat_map(|it| it.members).map(|member| member.entry).collect()
        }
        // A receipt does not hold its entry.
        Some(EvidenceKind::CoseReceipt | EvidenceKind::Evidence) | None => Vec::new(),
    };
    entries.iter().filter_map(|bytes| LogEntry::parse(bytes).ok()).collect()
}

/// What a zip file with members begins with.
const ARCHIVE_PREFIX: &[u8] = b"PK\x03\x04";

fn recognise(file: &[u8]) -> Option<EvidenceKind> {
    const TLOG_PROOF_PREFIX: &[u8] = b"c2sp.org/tlog-proof@";
    if file.starts_with(TLOG_PROOF_PREFIX) {
        debug_assert!(TLOG_PROOF_HEADER.as_bytes().starts_with(TLOG_PROOF_PREFIX));
        return Some(EvidenceKind::TlogProof);
    }
    if file.starts_with(cose_receipt::PREFIX) {
        return Some(EvidenceKind::CoseReceipt);
    }
    if file.starts_with(ARCHIVE_PREFIX) {
        return Some(EvidenceKind::Evidence);
    }
    // Field 1 of both messages has wire type 2: a format name without any newline, or a signed note.
    let mut rest = file.strip_prefix(&[0x0A])?;
    let length = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
    let first = rest.get(..length.min(rest.len()))?;
    if first.starts_with(b"proofline/session-evidence/") {
        Some(EvidenceKind::SessionEvidence)
    } else if first.contains(&b'\n') {
        Some(EvidenceKind::SessionProof)
    } else {
        None
    }
}

/// Starts a report: the checks that every kind of evidence begins with, then its own.
fn begin(kind: EvidenceKind, own: &[CheckName], held: Option<&HeldCheckpoint>) -> Report {
    let mut names = vec![CheckName::Format, CheckName::LogSignature, CheckName::Quorum];
    names.extend(held.map(|_| CheckName::Consistency));
    names.extend_from_slice(own);
    let mut report = Report::new(Some(kind), &names);
    if held.is_none() {
        report.not_proven.push(NotProven::SingleView);
    }
    report
}

/// Makes the checks of the checkpoint, and returns it when all of them pass.
fn trust(report: &mut Report, note: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Option<VerifiedCheckpoint> {
    if policy.quorum() == &Quorum::NotAsked {
        report.not_proven.push(NotProven::NoQuorumAsked);
    }
    let parsed = UnverifiedCheckpoint::parse(note).map_err(TrustError::from);
    let log = parsed.and_then(|unverified| Ok((unverified.verify_log(policy)?.clone(), unverified)));
    let (log_key, unverified) =
        report.settle(CheckName::LogSignature, |(key, _)| format!("{} signed with key {}", key.name(), key.id()), log)?;
    let cosigners = unverified.verify_quorum(policy);
    let describe = |met: &Vec<_>| format!("{} of {} witnesses of the policy cosigned", met.len(), policy.witnesses().count());
    let cosigners = report.settle(CheckName::Quorum, describe, cosigners)?;
    let checkpoint = unverified.verified(log_key, cosigners);
    if let Some(held) = held {
        let consistent = held.verify_with(&checkpoint, policy);
        let describe = |size: &_| format!("one log with the held checkpoint of size {size}");
        report.settle(CheckName::Consistency, describe, consistent)?;
    }
    Some(checkpoint)
}

/// Decodes the bytes of a protobuf file.
fn decode_file<M: prost::Message + Default>(message: &'static str, file: &[u8]) -> Result<M, FormatError> {
    Ok(decode_canonical(message, file)?)
}

/// Takes a part that a file of its kind always has.
fn part<T>(part: Option<T>, name: &'static str) -> Result<T, FormatError> {
    part.ok_or(FormatError::Missing(name))
}

/// Checks that an entry stands in the log at the index that stands beside it.
fn verify_proven(of: &v1::ProvenEntry, checkpoint: &VerifiedCheckpoint) -> Result<(), TreeError> {
    checkpoint.verify_inclusion(&of.entry, EntryIndex(of.index), &parse_path::<LogHash>(&of.log_path)?)
}
