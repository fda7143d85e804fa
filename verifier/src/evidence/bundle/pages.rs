//! The pages of a file of evidence: the answer, and what registrations and facts say of its entries.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use thiserror::Error;
use v1::command::Action;
use v1::entry_core::Body;

use super::archive::ArchiveError;
use super::members::Members;
use super::payloads::{Disclosed, PayloadError};
use crate::completeness::{AnswerError, AnswerSummary, AnswerVerifier, VerifiedPage, place_of_event, place_of_statement};
use crate::coordinate::EntryIndex;
use crate::entry::LogEntry;
use crate::evidence::batches::{BatchError, verify_key, verify_scope};
use crate::evidence::{FormatError, decode_file};
use crate::hash::facts_digest;
use crate::registry::{CommandError, Registry};
use crate::report::{CheckName, NotProven, Outcome, Refusal, Report};

/// The checks that are made of each page, in their order.
const PAGE_CHECKS: [CheckName; 18] = [
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
];

/// Why the pages of a file are not an answer that signatures vouch for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum PageError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("{0}")]
    Key(#[source] BatchError),
    #[error("{0}")]
    Scope(#[source] BatchError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error(transparent)]
    Unpack(#[from] ArchiveError),
    #[error("entry {0}: the facts are not those that its decision was made on")]
    OtherFacts(EntryIndex),
    #[error("entry {0}: there are facts of it, and no decision in the answer")]
    StrayFacts(EntryIndex),
}

impl PageError {
    fn check(&self) -> CheckName {
        match self {
            Self::Format(_) => CheckName::Format,
            Self::Answer(error) => error.check(),
            Self::Key(_) => CheckName::CollectorKeys,
            Self::Scope(_) => CheckName::CollectorScope,
            Self::Command(_) => CheckName::CommandSignatures,
            Self::Payload(_) => CheckName::Payloads,
            Self::Unpack(_) | Self::OtherFacts(_) | Self::StrayFacts(_) => CheckName::Facts,
        }
    }
}

impl Refusal for PageError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Format(error) => error.outcome(),
            Self::Answer(error) => error.outcome(),
            Self::Key(error) | Self::Scope(error) => error.outcome(),
            Self::Command(error) => error.outcome(),
            Self::Payload(error) => error.outcome(),
            Self::Unpack(_) => Outcome::NotChecked,
            Self::OtherFacts(_) | Self::StrayFacts(_) => Outcome::Failed,
        }
    }
}

/// The pages of a file, on their way through the checks.
pub(super) struct Pages<'a> {
    members: &'a Members<'a>,
    registry: &'a Registry,
    answer: AnswerVerifier,
    unused_facts: BTreeSet<EntryIndex>,
    payloads: Disclosed,
    seen: Seen,
}

/// What was met on the pages.
#[derive(Debug, Default)]
struct Seen {
    checked_facts: u64,
    missing_facts: u64,
    signed_by_nodes: u64,
}

/// The pages of a file that passed every check.
pub(super) struct CheckedPages {
    pub(super) summary: AnswerSummary,
    pub(super) payloads: Disclosed,
    seen: Seen,
}

impl CheckedPages {
    /// Names what these pages leave open besides.
    pub(super) fn not_proven(&self) -> Vec<NotProven> {
        let open = [
            (self.seen.missing_facts, NotProven::FactsMissing),
            (self.seen.signed_by_nodes, NotProven::NodeSignature),
            (self.payloads.missing, NotProven::PayloadsMissing),
            (self.payloads.erased, NotProven::ErasureCarriedOut),
        ];
        open.into_iter().filter(|(count, _)| *count > 0).map(|(_, name)| name).collect()
    }
}

impl<'a> Pages<'a> {
    pub(super) fn new(members: &'a Members<'a>, registry: &'a Registry, answer: AnswerVerifier, payloads: Disclosed) -> Self {
        Self { members, registry, answer, unused_facts: members.facts.clone(), payloads, seen: Seen::default() }
    }

    /// Makes the checks of every page, and says in the report how far they went.
    pub(super) fn verify(mut self, report: &mut Report, shown: &mut dyn FnMut(&VerifiedPage)) -> Option<CheckedPages> {
        let result = (0..self.members.pages)
            .try_for_each(|number| self.verify_page(number, shown))
            .and_then(|()| self.check_facts_used())
            .and_then(|()| Ok(self.payloads.end()?));
        let pages = self.members.pages;
        if let Err(error) = result {
            let check = error.check();
            for earlier in PAGE_CHECKS.iter().take_while(|name| **name != check && PAGE_CHECKS.contains(&check)) {
                report.settle(*earlier, |()| "holds as far as the pages were read".to_owned(), Ok::<_, PageError>(()));
            }
            return report.settle(check, |_| String::new(), Err(error));
        }
        let (seen, payloads) = (self.seen, self.payloads);
        let summary = self.answer.finish()?;
        for name in PAGE_CHECKS {
            report.settle(name, |()| describe(name, pages, &summary, &seen, &payloads), Ok::<_, PageError>(()));
        }
        Some(CheckedPages { summary, payloads, seen })
    }

    fn verify_page(&mut self, number: u64, shown: &mut dyn FnMut(&VerifiedPage)) -> Result<(), PageError> {
        let page: v1::LineagePage = decode_file("LineagePage", &self.members.page(number)?)?;
        let verified = self.answer.push(&page)?;
        let statements: BTreeMap<_, _> =
            page.statements.iter().filter_map(|part| part.statement.as_ref()).map(|it| (place_of_statement(it), it)).collect();
        for one in verified.found.iter().chain(&verified.beside) {
            if let (Body::Event(recorded), Some(event)) = (&one.entry.body, &one.entry.event) {
                let place = place_of_event(&recorded.at.clone().unwrap_or_default());
                if let Some(statement) = statements.get(&place) {
                    verify_key(one.entry.index, statement, self.registry).map_err(PageError::Key)?;
                    verify_scope(one.entry.index, event, &statement.collector_id, self.registry).map_err(PageError::Scope)?;
                }
            }
        }
        for one in &verified.found {
            self.verify_entry(&one.entry)?;
            self.payloads.check(self.members, &one.entry)?;
        }
        shown(&verified);
        Ok(())
    }

    fn verify_entry(&mut self, entry: &LogEntry) -> Result<(), PageError> {
        match &entry.body {
            Body::Command(command) => drop(self.registry.authorised(entry, command)?),
            Body::ErasureDeferred(deferred) => {
                let command = deferred.command.clone().unwrap_or_default();
                if !matches!(self.registry.authorised(entry, &command)?, Action::EraseSubject(_)) {
                    return Err(CommandError::NoAction { index: entry.index }.into());
                }
            }
            Body::OutletDelivery(_) | Body::AccessRecorded(_) => self.seen.signed_by_nodes += 1,
            Body::Event(_)
            | Body::Genesis(_)
            | Body::Rejection(_)
            | Body::Equivocation(_)
            | Body::LaneOpened(_)
            | Body::LaneClosed(_)
            | Body::Containment(_)
            | Body::StateCommitment(_) => {}
        }
        let Some(decision) = &entry.decision else { return Ok(()) };
        match self.members.facts_of(entry.index)? {
            Some(facts) if facts_digest(&facts)[..] != decision.facts_digest => Err(PageError::OtherFacts(entry.index)),
            Some(_) => {
                self.unused_facts.remove(&entry.index);
                self.seen.checked_facts += 1;
                Ok(())
            }
            None => {
                // The ledger's own findings need no rule, and no facts are kept for them.
                let is_missing =
                    decision.findings.iter().any(|it| it.kind() != v1::FindingKind::BuiltIn) && !decision.facts_digest.is_empty();
                self.seen.missing_facts += u64::from(is_missing);
                Ok(())
            }
        }
    }

    fn check_facts_used(&self) -> Result<(), PageError> {
        self.unused_facts.first().map_or(Ok(()), |index| Err(PageError::StrayFacts(*index)))
    }
}

fn describe(name: CheckName, pages: u64, summary: &AnswerSummary, seen: &Seen, payloads: &Disclosed) -> String {
    match name {
        CheckName::PageOrder => format!("{pages} pages of one answer"),
        CheckName::EntriesInclusion => format!("{} entries of the answer, and what stands beside them", summary.entries),
        CheckName::Commitment => summary.commitment.map_or_else(
            || "no key was asked about, or nothing vouches for lists".to_owned(),
            |(index, size)| format!("entry {index} vouches for the lists of {size} entries"),
        ),
        CheckName::Walk if summary.question.starts.is_empty() => "every entry of the window, without a gap".to_owned(),
        CheckName::Walk => "every list that the question leads to, as far as the pages go".to_owned(),
        CheckName::Facts => format!("{} decisions with their facts, {} without", seen.checked_facts, seen.missing_facts),
        CheckName::Payloads => {
            format!("{} given as committed, {} erased, {} not included", payloads.given, payloads.erased, payloads.missing)
        }
        _ => "holds on every page".to_owned(),
    }
}
