//! What a verification found: every check by name, two verdicts apart, and what stays unproven.

use std::fmt;

use crate::terminal;

/// What became of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made and holds.
    Passed,
    /// It was made and does not hold: the evidence is proven wrong.
    Failed,
    /// It could not be made.
    NotChecked,
}

impl Outcome {
    /// Returns the word that reports use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Failed => "fail",
            Self::NotChecked => "not checked",
        }
    }
}

/// An error that says whether it proves the evidence wrong ([`Outcome::Failed`]) or leaves it undecided
/// ([`Outcome::NotChecked`]).
///
/// The rule: what cannot be read, or needs a key or a version that is not at hand, is undecided; what was read and
/// contradicts itself, a signature or a root is proven wrong.
pub trait Refusal: std::error::Error {
    /// Returns what this error makes of the check that met it.
    fn outcome(&self) -> Outcome;
}

/// The checks, by the names that reports use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckName {
    /// The file is in a known format, in its one canonical encoding.
    Format,
    /// The checkpoint carries a valid signature of a log of the policy.
    LogSignature,
    /// The valid cosignatures meet the policy's quorum.
    Quorum,
    /// The checkpoint continues an older one.
    Consistency,
    /// File and checkpoint name the same ledger.
    Origin,
    /// The entry is included in the checkpoint.
    LogInclusion,
    /// The session's last entry is included in the checkpoint.
    LastInclusion,
    /// The entries are canonical and name the indexes that they stand at.
    Entries,
    /// All entries belong to the one session.
    SessionIdentity,
    /// Positions have no gap, indexes rise, time does not fall, nothing follows a seal.
    SessionOrder,
    /// The entry is included in the session tree.
    SessionInclusion,
    /// The session roots are those of the entries.
    SessionRoots,
    /// Genesis and the registrations are included in the checkpoint.
    RegistrationsInclusion,
    /// The genesis entry is of this ledger and names the policy's log key.
    Genesis,
    /// Every command is signed by operators who held the role then.
    CommandSignatures,
    /// Every event names one batch statement, and every statement is used.
    Statements,
    /// Every batch statement is signed by its collector's key.
    BatchSignatures,
    /// Every event stands in the batch that its collector signed.
    BatchInclusion,
    /// Every collector key was registered when it was used.
    CollectorKeys,
    /// Every event is within the scope of its collector's registration.
    CollectorScope,
    /// Every event itself names the session.
    EventSession,
    /// The question is one that can be asked, and the one that was.
    Question,
    /// The pages are those of one answer, in their order.
    PageOrder,
    /// Every entry of every page is included in the checkpoint.
    EntriesInclusion,
    /// A state commitment in the log vouches for the lists, as far as the window reaches.
    Commitment,
    /// The window is the one that the question's times mean.
    WindowBounds,
    /// The map that the commitment names gives every key the list that the answer says.
    KeysMap,
    /// The ranges are those of the lists, without a gap in the window.
    KeyRanges,
    /// Every page holds the entries that its ranges list, and no others.
    PageEntries,
    /// Every listed entry carries the key.
    KeysCarried,
    /// Every list that the question leads to is there, in order, and no other.
    Walk,
    /// Every member of the file is the one that the manifest names.
    Members,
    /// The manifest counts what the file holds.
    Manifest,
    /// The facts are those that the decisions were made on.
    Facts,
    /// The payloads are those that the entries commit to, or were erased by a proven command.
    Payloads,
}

impl CheckName {
    /// Returns the name as reports print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::LogSignature => "log-signature",
            Self::Quorum => "quorum",
            Self::Consistency => "consistency",
            Self::Origin => "origin",
            Self::LogInclusion => "log-inclusion",
            Self::LastInclusion => "last-inclusion",
            Self::Entries => "entries",
            Self::SessionIdentity => "session-identity",
            Self::SessionOrder => "session-order",
            Self::SessionInclusion => "session-inclusion",
            Self::SessionRoots => "session-roots",
            Self::RegistrationsInclusion => "registrations-inclusion",
            Self::Genesis => "genesis",
            Self::CommandSignatures => "command-signatures",
            Self::Statements => "statements",
            Self::BatchSignatures => "batch-signatures",
            Self::BatchInclusion => "batch-inclusion",
            Self::CollectorKeys => "collector-keys",
            Self::CollectorScope => "collector-scope",
            Self::EventSession => "event-session",
            Self::Question => "question",
            Self::PageOrder => "page-order",
            Self::EntriesInclusion => "entries-inclusion",
            Self::Commitment => "commitment",
            Self::WindowBounds => "window-bounds",
            Self::KeysMap => "keys-map",
            Self::KeyRanges => "key-ranges",
            Self::PageEntries => "page-entries",
            Self::KeysCarried => "keys-carried",
            Self::Walk => "walk",
            Self::Members => "members",
            Self::Manifest => "manifest",
            Self::Facts => "facts",
            Self::Payloads => "payloads",
        }
    }
}

/// One check and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which check.
    pub name: CheckName,
    /// What became of it.
    pub outcome: Outcome,
    /// The values that were compared, or why it failed or was not made.
    pub detail: String,
}

/// Whether what the file says is what the ledger committed and the signers signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Integrity {
    /// Every check passed.
    Verified,
    /// No check failed, but some could not be made.
    Undecided,
    /// A check failed.
    ProvenWrong,
}

impl Integrity {
    /// Returns the word that reports use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Undecided => "could not be decided",
            Self::ProvenWrong => "proven wrong",
        }
    }

    /// Returns the exit code of `proofline-verify`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::ProvenWrong => 3,
            Self::Undecided => 4,
        }
    }
}

/// Whether the file holds all that there is of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// The evidence is about one entry; it makes no such claim.
    NotClaimed,
    /// Integrity does not hold, so nothing is known.
    Unknown,
    /// All entries up to the last one are here; the session was not sealed by then, so others may follow.
    OpenEnded,
    /// The answer was cut short: what is here is of the ledger, and more belongs to it.
    Incomplete,
    /// All entries are here: those of a session up to its seal, or all that a question leads to in its window.
    Complete,
}

impl Completeness {
    /// Returns the word that reports use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotClaimed => "not claimed",
            Self::Unknown => "unknown",
            Self::OpenEnded => "open-ended",
            Self::Incomplete => "incomplete",
            Self::Complete => "complete",
        }
    }
}

/// The kinds of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceKind {
    /// One entry in the log.
    TlogProof,
    /// One entry in the log, on the word of the log key.
    CoseReceipt,
    /// One entry in its session.
    SessionProof,
    /// A whole session.
    SessionEvidence,
    /// The answer to a question, with all that its signatures need.
    Evidence,
}

impl EvidenceKind {
    /// Returns the name, which is also the usual file extension.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlogProof => "tlog-proof",
            Self::CoseReceipt => "cose-receipt",
            Self::SessionProof => "session-proof",
            Self::SessionEvidence => "session-evidence",
            Self::Evidence => "evidence",
        }
    }
}

/// Something that the checks do not show, however well they pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotProven {
    /// Events that nobody sent.
    UnsentEvents,
    /// That decisions were right.
    DecisionsRight,
    /// That an event tells the truth.
    EventsTrue,
    /// That the session ended here.
    SessionContinues,
    /// That `session_size` or the last entry is the newest that the checkpoint covers.
    SessionSizeNewest,
    /// That the collector signed the event.
    CollectorSignature,
    /// That operators signed the command.
    OperatorSignature,
    /// That a registered node signed the delivery.
    NodeSignature,
    /// That no registration or revocation was left out.
    RegistrationsComplete,
    /// What a receipt's signature does not cover, and who else vouches for it.
    TreeSizeAndQuorum,
    /// That anyone besides the log key vouches for the checkpoint.
    NoQuorumAsked,
    /// That the ledger shows everybody the same log.
    SingleView,
    /// Entries behind the window.
    BehindWindow,
    /// Keys that a collector left out.
    KeysClaimed,
    /// Facts that are not in the file.
    FactsMissing,
    /// Payloads that are not in the file.
    PayloadsMissing,
    /// That what was erased is on no disk any more.
    ErasureCarriedOut,
    /// The words of the question.
    Asked,
}

impl NotProven {
    /// Returns a stable name for scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnsentEvents => "unsent-events",
            Self::DecisionsRight => "decisions-right",
            Self::EventsTrue => "events-true",
            Self::SessionContinues => "session-continues",
            Self::SessionSizeNewest => "session-size-newest",
            Self::CollectorSignature => "collector-signature",
            Self::OperatorSignature => "operator-signature",
            Self::NodeSignature => "node-signature",
            Self::RegistrationsComplete => "registrations-complete",
            Self::TreeSizeAndQuorum => "tree-size-and-quorum",
            Self::NoQuorumAsked => "no-quorum-asked",
            Self::SingleView => "single-view",
            Self::BehindWindow => "behind-window",
            Self::KeysClaimed => "keys-claimed",
            Self::FactsMissing => "facts-missing",
            Self::PayloadsMissing => "payloads-missing",
            Self::ErasureCarriedOut => "erasure-carried-out",
            Self::Asked => "asked",
        }
    }

    /// Returns the sentence for people.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::UnsentEvents => "that nothing happened which no collector sent: silence is not proof",
            Self::DecisionsRight => "that verdicts and findings are right: only that they were committed with exactly these bytes",
            Self::EventsTrue => "that an event tells the truth: it is its collector's claim",
            Self::SessionContinues => "that the session ended here: it is not sealed, and entries may follow the last one shown",
            Self::SessionSizeNewest => "that no further entries of the session exist under this checkpoint",
            Self::CollectorSignature => "that a collector signed the event: the batch statement is not part of this format",
            Self::OperatorSignature => "that the operators who signed the command held the role: registrations are not part of this format",
            Self::NodeSignature => "that the node which signed the delivery was registered, and that the receiver answered as it says",
            Self::RegistrationsComplete => "that no later registration or revocation of a key was left out of the file",
            Self::TreeSizeAndQuorum => {
                "tree size, and a quorum: the receipt is one log key's word about a root (bind it to a checkpoint: --consistent-with)"
            }
            Self::NoQuorumAsked => {
                "that anyone but the holder of the log key vouches for the checkpoint: the policy asks for no cosignature"
            }
            Self::SingleView => "that others were shown the same log: compare with a checkpoint you hold (--consistent-with)",
            Self::BehindWindow => "that no entry behind the window, or behind the commitment, carries the keys",
            Self::KeysClaimed => "that an event names everything that it touched: entries are found by what collectors wrote into them",
            Self::FactsMissing => "on which facts some decisions were made: the file does not hold them",
            Self::PayloadsMissing => "what some payloads say: payload not included, only the commitment to it",
            Self::ErasureCarriedOut => {
                "that no copy of an erased payload is left: only that two operators ordered its erasure, at that place of the log"
            }
            Self::Asked => {
                "that the words which the manifest gives for the question are those that were asked: only the question on the pages is proven"
            }
        }
    }
}

/// A value that the evidence proves, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub name: &'static str,
    /// Its value. May hold any text that a collector sent: escape it before printing.
    pub value: String,
}

/// The result of verifying one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the file is; `None` when it was not recognised.
    pub kind: Option<EvidenceKind>,
    /// Every check that this kind of evidence needs, in the order in which they are made.
    pub checks: Vec<Check>,
    /// What is known of completeness.
    pub completeness: Completeness,
    /// What the evidence says; empty unless integrity is verified.
    pub facts: Vec<Fact>,
    /// What stays unproven even when every check passes.
    pub not_proven: Vec<NotProven>,
    /// What the reader should know besides.
    pub warnings: Vec<String>,
}

impl Report {
    /// Starts a report in which none of these checks was made yet.
    pub(crate) fn new(kind: Option<EvidenceKind>, checks: &[CheckName]) -> Self {
        let unmade = |&name| Check { name, outcome: Outcome::NotChecked, detail: "an earlier check did not pass".to_owned() };
        Self {
            kind,
            checks: checks.iter().map(unmade).collect(),
            completeness: Completeness::NotClaimed,
            facts: Vec::new(),
            not_proven: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Reports that a file could not be read at all.
    #[must_use]
    pub fn unreadable(reason: String) -> Self {
        let mut report = Self::new(None, &[]);
        report.checks.push(Check { name: CheckName::Format, outcome: Outcome::NotChecked, detail: reason });
        report
    }

    /// Records what became of a check, and passes on what it established.
    pub(crate) fn settle<T, E: Refusal>(&mut self, name: CheckName, detail: impl FnOnce(&T) -> String, result: Result<T, E>) -> Option<T> {
        let (outcome, detail, established) = match result {
            Ok(value) => (Outcome::Passed, detail(&value), Some(value)),
            Err(error) => (error.outcome(), error.to_string(), None),
        };
        match self.checks.iter_mut().find(|check| check.name == name) {
            Some(check) => (check.outcome, check.detail) = (outcome, detail),
            None => self.checks.push(Check { name, outcome, detail }),
        }
        established
    }

    /// Drops what only verified evidence may claim, when it is not.
    pub(crate) fn conclude(mut self) -> Self {
        if self.integrity() != Integrity::Verified {
            self.facts.clear();
            if self.completeness != Completeness::NotClaimed {
                self.completeness = Completeness::Unknown;
            }
        }
        self
    }

    /// Returns the verdict over all checks: one failure proves the evidence wrong, one missing check leaves it undecided.
    #[must_use]
    pub fn integrity(&self) -> Integrity {
        let any = |outcome| self.checks.iter().any(|check| check.outcome == outcome);
        if any(Outcome::Failed) {
            Integrity::ProvenWrong
        } else if any(Outcome::NotChecked) || self.checks.is_empty() {
            Integrity::Undecided
        } else {
            Integrity::Verified
        }
    }

    /// Returns the first check that failed, else the first that could not be made.
    #[must_use]
    pub fn decisive_check(&self) -> Option<&Check> {
        let first = |outcome| self.checks.iter().find(|check| check.outcome == outcome);
        first(Outcome::Failed).or_else(|| first(Outcome::NotChecked))
    }
}

/// The report for people. Safe for terminals: control and bidirectional characters of the evidence come out escaped.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.map_or("unrecognised", EvidenceKind::as_str);
        writeln!(out, "{} ({kind}); completeness: {}", self.integrity().as_str().to_uppercase(), self.completeness.as_str())?;
        for fact in &self.facts {
            writeln!(out, "  {:<16} {}", fact.name, terminal::escape(&fact.value))?;
        }
        writeln!(out, "checks")?;
        for check in &self.checks {
            writeln!(out, "  {:<11} {:<24} {}", check.outcome.as_str(), check.name.as_str(), terminal::escape(&check.detail))?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {}", terminal::escape(warning))?;
        }
        if self.not_proven.is_empty() {
            return Ok(());
        }
        writeln!(out, "not proven")?;
        self.not_proven.iter().try_for_each(|it| writeln!(out, "  - {}", it.sentence()))
    }
}
