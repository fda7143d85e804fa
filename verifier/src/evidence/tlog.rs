//! One entry in the log: `.tlog-proof`.

use crate::consistency::HeldCheckpoint;
use crate::entry::LogEntry;
use crate::evidence::{FormatError, begin, facts, trust};
use crate::policy::Policy;
use crate::report::{CheckName, EvidenceKind, Report};
use crate::tlog_proof::{TlogProof, TlogProofError};

/// Verifies a `.tlog-proof` file.
#[must_use]
pub fn verify_tlog_proof(file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Report {
    let mut report = begin(EvidenceKind::TlogProof, &[CheckName::LogInclusion, CheckName::Entries], held);
    // Only `report` matters: a check that does not pass ends the walk early.
    let _ = walk(&mut report, file, policy, held);
    report.conclude()
}

fn walk(report: &mut Report, file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Option<()> {
    let parsed = TlogProof::parse(file).and_then(|mut proof| Ok((proof.entry.take().ok_or(TlogProofError::NoEntry)?, proof)));
    let describe = |(_, proof): &(Vec<u8>, TlogProof)| format!("tlog-proof of entry {}, {} bytes", proof.index, file.len());
    let (entry, proof) = report.settle(CheckName::Format, describe, parsed.map_err(FormatError::from))?;
    let checkpoint = trust(report, proof.checkpoint.as_bytes(), policy, held)?;
    let included = checkpoint.verify_inclusion(&entry, proof.index, &proof.path);
    report.settle(CheckName::LogInclusion, |()| format!("entry {} of {}", proof.index, checkpoint.size), included)?;
    let parsed = LogEntry::parse_at(&entry, proof.index);
    let parsed = report.settle(CheckName::Entries, |it| format!("canonical, and names index {}", it.index), parsed)?;
    report.facts.extend(facts::of_checkpoint(&checkpoint));
    report.facts.extend(facts::of_entry(&parsed));
    report.not_proven.extend(facts::not_shown_by(&parsed));
    Some(())
}
