//! The answer to a question with all that its signatures need: `.evidence.zip`.

mod archive;
mod manifest;
mod members;
mod pages;
mod payloads;

use proofline_proto::v1;

use crate::completeness::{AnswerSummary, AnswerVerifier, Direction, Extent, Question, VerifiedPage};
use crate::consistency::{ConsistencyProof, HeldCheckpoint};
use crate::entry::LogEntry;
use crate::evidence::registrations::{self, RegistrationError};
use crate::evidence::{FormatError, begin, decode_file, facts, part, trust};
use crate::policy::Policy;
use crate::registry::Registry;
use crate::report::{CheckName, Completeness, EvidenceKind, Fact, NotProven, Outcome, Refusal as _, Report};
use crate::rfc3339;
use crate::trust::VerifiedCheckpoint;

pub(crate) use archive::ArchiveError;
pub use manifest::{EVIDENCE_FORMAT, Manifest, ManifestError, ManifestMember};
use members::{MemberError, Members};
use pages::Pages;
use payloads::Disclosed;

const CHECKS: [CheckName; 24] = [
    CheckName::Members,
    CheckName::Origin,
    CheckName::RegistrationsInclusion,
    CheckName::Genesis,
    CheckName::CommandSignatures,
    CheckName::PageOrder,
    CheckName::Question,
    CheckName::EntriesInclusion,
    CheckName::Entries,
    CheckName::Commitment,
    CheckName::WindowBounds,
    CheckName::KeysMap,
    CheckName::KeyRanges,
    CheckName::PageEntries,
    CheckName::KeysCarried,
    CheckName::Walk,
    CheckName::Statements,
    CheckName::BatchSignatures,
    CheckName::BatchInclusion,
    CheckName::CollectorKeys,
    CheckName::CollectorScope,
    CheckName::Facts,
    CheckName::Payloads,
    CheckName::Manifest,
];

const NOT_PROVEN: [NotProven; 7] = [
    NotProven::RegistrationsComplete,
    NotProven::EventsTrue,
    NotProven::KeysClaimed,
    NotProven::DecisionsRight,
    NotProven::UnsentEvents,
    NotProven::BehindWindow,
    NotProven::Asked,
];

/// Verifies an `.evidence.zip` file, and shows each page of its answer as soon as it is verified. What was shown counts only
/// when the report says that integrity is verified.
#[must_use]
pub fn verify_evidence(file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>, shown: &mut dyn FnMut(&VerifiedPage)) -> Report {
    let mut report = begin(EvidenceKind::Evidence, &CHECKS, held);
    report.completeness = Completeness::Unknown;
    report.not_proven.extend(NOT_PROVEN);
    // Only `report` matters: a check that does not pass ends the walk early.
    let _ = walk(&mut report, file, policy, held, shown);
    report.conclude()
}

fn walk(
    report: &mut Report,
    file: &[u8],
    policy: &Policy,
    held: Option<&HeldCheckpoint>,
    shown: &mut dyn FnMut(&VerifiedPage),
) -> Option<()> {
    let describe = |it: &Members<'_>| format!("{EVIDENCE_FORMAT}, {} members, {} bytes", it.manifest.members.len(), file.len());
    let members = report.settle(CheckName::Format, describe, Members::open(file))?;
    let (note, own_proof) = report.settle(CheckName::Format, |_| describe(&members), beginning(&members))?;
    let held = held.map(|held| HeldCheckpoint { checkpoint: held.checkpoint.clone(), proof: held.proof.clone().or(own_proof) });
    let checkpoint = trust(report, &note, policy, held.as_ref())?;
    report.settle(CheckName::Members, |()| "every member is the one that the manifest names".to_owned(), members.check())?;
    report.settle(CheckName::Origin, |()| checkpoint.origin.to_string(), check_origin(&members, &checkpoint))?;
    let (registry, commands) = registry(report, &members, &checkpoint)?;
    let disclosed = match Disclosed::open(&members, &commands) {
        Ok(disclosed) => disclosed,
        Err(error) if error.outcome() == Outcome::Failed => return report.settle(CheckName::Payloads, |()| String::new(), Err(error)),
        // What cannot be read is no payload.
        Err(error) => return report.settle(CheckName::Format, |()| String::new(), Err(error)),
    };

    let answer = AnswerVerifier::new(checkpoint.clone(), &note);
    let pages = Pages::new(&members, &registry, answer, disclosed).verify(report, shown)?;
    let counted = check_counts(&members, &checkpoint, &pages.summary);
    report.settle(CheckName::Manifest, |()| "sizes, pages and entries are those of the file".to_owned(), counted)?;

    report.facts.extend(facts::of_checkpoint(&checkpoint));
    report.facts.extend(facts_of(&members.manifest, &pages.summary));
    report.facts.extend(pages.payloads.facts());
    report.warnings.extend(registry.retired_keys_in(policy));
    report.not_proven.extend(pages.not_proven());
    report.completeness = match &pages.summary.extent {
        Extent::Complete => Completeness::Complete,
        Extent::CutShort { .. } => Completeness::Incomplete,
    };
    Some(())
}

/// Reads the checkpoint, and the consistency proof where there is one.
fn beginning(members: &Members<'_>) -> Result<(Vec<u8>, Option<ConsistencyProof>), FormatError> {
    let note = part(members.read("checkpoint")?, "checkpoint")?;
    let proof = members.read("consistency-proof")?.map(|text| ConsistencyProof::parse(&text)).transpose();
    Ok((note, proof.map_err(|_| FormatError::Missing("consistency proof of this version"))?))
}

fn check_origin(members: &Members<'_>, checkpoint: &VerifiedCheckpoint) -> Result<(), MemberError> {
    if members.manifest.origin == checkpoint.origin.as_str() {
        Ok(())
    } else {
        Err(MemberError::OtherOrigin { manifest: members.manifest.origin.clone(), checkpoint: checkpoint.origin.clone() })
    }
}

/// Makes the checks of genesis and commands; returns who was registered for what, and the entries that say so.
fn registry(report: &mut Report, members: &Members<'_>, checkpoint: &VerifiedCheckpoint) -> Option<(Registry, Vec<LogEntry>)> {
    let read = || -> Result<v1::Registrations, FormatError> {
        decode_file("Registrations", &part(members.read("registrations.binpb")?, "registrations")?)
    };
    let of = match read() {
        Ok(of) => of,
        Err(error) => return report.settle(CheckName::Format, |_: &(Registry, Vec<LogEntry>)| String::new(), Err(error)),
    };
    let proven = registrations::verify_set(&of, checkpoint);
    let proven = report.settle(CheckName::RegistrationsInclusion, |it| format!("{} entries", it.len()), proven)?;
    let genesis = registrations::genesis(&proven, checkpoint);
    let genesis = report.settle(CheckName::Genesis, |_| "names this origin and the policy's log key".to_owned(), genesis)?;
    let registry: Result<_, RegistrationError> = registrations::replay(genesis, &proven);
    let registry = report.settle(CheckName::CommandSignatures, |_| "operators with the role signed each command".to_owned(), registry)?;
    Some((registry, proven))
}

fn check_counts(members: &Members<'_>, checkpoint: &VerifiedCheckpoint, summary: &AnswerSummary) -> Result<(), MemberError> {
    let manifest = &members.manifest;
    let commitment_size = summary.commitment.map_or(0, |(_, size)| size.0);
    let counts = [
        ("tree_size", manifest.tree_size, checkpoint.size.0),
        ("commitment_size", manifest.commitment_size, commitment_size),
        ("pages", manifest.pages, summary.pages),
        ("entries", manifest.entries, summary.entries),
    ];
    let differs = counts.into_iter().find(|(_, named, found)| named != found);
    differs.map_or(Ok(()), |(what, named, found)| Err(MemberError::Count { what, named, found }))
}

fn facts_of(manifest: &Manifest, summary: &AnswerSummary) -> Vec<Fact> {
    let fact = |name, value: String| Fact { name, value };
    let question = &summary.question;
    let mut facts = vec![
        fact("asked", manifest.asked.clone()),
        fact("exported", format!("{} (a claim)", rfc3339::of_nanoseconds(manifest.exported_unix_ns))),
        fact("question", question_in_words(question)),
        fact("window", window_in_words(question)),
    ];
    facts.extend(summary.commitment.map(|(index, size)| fact("commitment", format!("entry {index}, over {size} entries"))));
    facts.push(fact("pages", summary.pages.to_string()));
    facts.push(fact("entries", summary.entries.to_string()));
    facts.push(match &summary.extent {
        Extent::Complete => fact("complete", format!("all of the window, up to entry {}", question.to.0.saturating_sub(1))),
        Extent::CutShort { list: Some(key), from } => fact("incomplete from", format!("position {from} of the list of {key}")),
        Extent::CutShort { list: None, from } => fact("incomplete from", format!("entry {from}")),
    });
    facts
}

fn question_in_words(of: &Question) -> String {
    if of.starts.is_empty() {
        return "every entry of the window".to_owned();
    }
    let starts: Vec<_> = of.starts.iter().map(ToString::to_string).collect();
    let way = match of.direction {
        Direction::None => "nowhere further".to_owned(),
        Direction::Up => format!("up, {} steps", of.depth),
        Direction::Down => format!("down, {} steps", of.depth),
        Direction::Both => format!("up and down, {} steps", of.depth),
    };
    format!("from {}; {way}", starts.join(", "))
}

fn window_in_words(of: &Question) -> String {
    let time = |name: &str, unix_ns: u64| match unix_ns {
        0 => String::new(),
        _ => format!("; committed {name} {}", rfc3339::of_nanoseconds(unix_ns)),
    };
    format!("entries {} to {}, the last excluded{}{}", of.from, of.to, time("from", of.from_unix_ns), time("before", of.to_unix_ns))
}
