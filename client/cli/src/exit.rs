//! How the program ends: one table of exit codes, and what to do about an error.

use std::{io, process::ExitCode};

use proofline_client::{
    AppendError, CallError, CommandError, EvidenceExportError, ExportError, Fault, HeldError, JournalError, KeyFileError, LaneError,
    LineageError, MembershipError, PayloadError, ProfileError, ProofError, Reason, Refusal, RegisteredError, TileArchiveError,
};
use proofline_ledger::Divergence;
use proofline_verifier::{KeyError, Outcome, PolicyError, PolicyLineError, Refusal as _, TrustError};
use thiserror::Error;
use tonic::Code;

const HINT_IN_USE: &str = "wait for the other process, or use another --lane";

/// What the exit code says. The numbers are documented and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// The operation failed.
    Failed,
    /// The arguments are wrong.
    Usage,
    /// Evidence, or the ledger, is proven wrong.
    ProvenWrong,
    /// Nothing is proven either way.
    Undecided,
    /// No node answers, or there is no quorum.
    Unreachable,
    /// Not allowed, or not known.
    Denied,
    /// The cluster works, but something is missing.
    Degraded,
}

/// Arguments that are well formed and ask for nothing that can be done.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct WrongArguments(pub(crate) &'static str);

impl Exit {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::ProvenWrong => 3,
            Self::Undecided => 4,
            Self::Unreachable => 5,
            Self::Denied => 6,
            Self::Degraded => 7,
        }
    }

    /// Sorts an error.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if let Some(held) = error.downcast_ref::<HeldError>().filter(|held| !matches!(held, HeldError::Call(_))) {
            return Self::of_held(held);
        }
        if let Some(PolicyError::Line { source: PolicyLineError::Key(KeyError::UnsupportedType(_)), .. }) = policy_error(error) {
            return Self::Undecided;
        }
        if let Some(outcome) = lineage_error(error).and_then(refused) {
            return if outcome == Outcome::Failed { Self::ProvenWrong } else { Self::Undecided };
        }
        if let Some(CommandError::FateUnknown(_)) = error.downcast_ref() {
            return Self::Unreachable;
        }
        if error.is::<WrongArguments>() {
            return Self::Usage;
        }
        if let Some(membership) = error.downcast_ref() {
            return Self::of_membership(membership);
        }
        if let Some(archive) = error.downcast_ref() {
            return Self::of_archive(archive);
        }
        if let Some(untrusted) = error.downcast_ref::<TrustError>() {
            return if untrusted.outcome() == Outcome::Failed { Self::ProvenWrong } else { Self::Undecided };
        }
        if let Some(proof) = error.downcast_ref::<ProofError>().filter(|proof| !matches!(proof, ProofError::Call(_))) {
            return if proof.outcome() == Outcome::Failed { Self::ProvenWrong } else { Self::Undecided };
        }
        if let Some(registered) = error.downcast_ref::<RegisteredError>().filter(|it| !matches!(it, RegisteredError::Call(_))) {
            return if registered.outcome() == Outcome::Failed { Self::ProvenWrong } else { Self::Undecided };
        }
        if let Some(AppendError::AcknowledgedAndLost { .. }) = error.downcast_ref() {
            return Self::ProvenWrong;
        }
        if let Some(PayloadError::Wrong { .. }) = payload_error(error) {
            return Self::ProvenWrong;
        }
        match call_error(error) {
            Some(call) => Self::of_call(call),
            None if error.downcast_ref::<Divergence>().is_some() => Self::ProvenWrong,
            None => Self::Failed,
        }
    }

    fn of_held(error: &HeldError) -> Self {
        match (error, error.outcome()) {
            (HeldError::File { .. } | HeldError::Form { .. }, _) => Self::Failed,
            (_, Outcome::Failed) => Self::ProvenWrong,
            (_, Outcome::NotChecked | Outcome::Passed) => Self::Undecided,
        }
    }

    fn of_membership(error: &MembershipError) -> Self {
        match error {
            MembershipError::Call(call) => Self::of_call(call),
            MembershipError::NoLeader | MembershipError::FateUnknown { .. } => Self::Unreachable,
            MembershipError::Refused { fault: Fault::Refused(refusal), .. } if refusal.is_denial() => Self::Denied,
            MembershipError::Refused { fault: Fault::Refused(refusal), .. } if refusal.code == Code::Unavailable => Self::Unreachable,
            MembershipError::Refused { .. } | MembershipError::LeaderNotInProfile { .. } => Self::Failed,
        }
    }

    fn of_archive(error: &TileArchiveError) -> Self {
        match error {
            TileArchiveError::Call(call) => Self::of_call(call),
            TileArchiveError::Differs { .. } | TileArchiveError::OtherRoot { .. } => Self::ProvenWrong,
            TileArchiveError::Missing { .. } => Self::Undecided,
            TileArchiveError::File { .. }
            | TileArchiveError::InUse { .. }
            | TileArchiveError::OtherLog { .. }
            | TileArchiveError::Newer { .. }
            | TileArchiveError::TooLong { .. } => Self::Failed,
        }
    }

    fn of_call(error: &CallError) -> Self {
        match error.refusal() {
            Some(refusal) if refusal.is_denial() => Self::Denied,
            Some(refusal) if matches!(refusal.code, Code::Unavailable | Code::DeadlineExceeded) => Self::Unreachable,
            Some(_) => Self::Failed,
            None => Self::Unreachable,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

fn lineage_error(error: &anyhow::Error) -> Option<&LineageError> {
    match error.downcast_ref::<EvidenceExportError>() {
        Some(EvidenceExportError::Lineage(lineage)) => Some(lineage),
        Some(_) | None => error.downcast_ref(),
    }
}

/// Whether an answer is proven wrong, or could not be decided; nothing when it did not come.
fn refused(error: &LineageError) -> Option<Outcome> {
    match error {
        LineageError::Refused(error) => Some(error.outcome()),
        LineageError::Untrusted(error) => Some(error.outcome()),
        LineageError::Call(_) | LineageError::Broken { .. } => None,
    }
}

fn policy_error(error: &anyhow::Error) -> Option<&PolicyError> {
    match error.downcast_ref::<ProfileError>() {
        Some(ProfileError::Policy { source, .. }) => Some(source),
        Some(_) | None => error.downcast_ref(),
    }
}

/// Finds the call that failed, through the errors that carry one.
fn call_error(error: &anyhow::Error) -> Option<&CallError> {
    if let Some(call) = error.downcast_ref::<CallError>() {
        return Some(call);
    }
    if let Some(AppendError::Call(call) | AppendError::Lane(LaneError::Call(call))) = error.downcast_ref() {
        return Some(call);
    }
    if let Some(MembershipError::Call(call)) = error.downcast_ref() {
        return Some(call);
    }
    if let Some(TileArchiveError::Call(call)) = error.downcast_ref() {
        return Some(call);
    }
    if let Some(LineageError::Call(call)) = lineage_error(error) {
        return Some(call);
    }
    if let Some(EvidenceExportError::Call(call) | EvidenceExportError::Export(ExportError::Call(call))) = error.downcast_ref() {
        return Some(call);
    }
    if let Some(PayloadError::Call(call)) = payload_error(error) {
        return Some(call);
    }
    if let Some(ProofError::Call(call)) = error.downcast_ref() {
        return Some(call);
    }
    if let Some(RegisteredError::Call(call)) = error.downcast_ref() {
        return Some(call);
    }
    match (error.downcast_ref::<CommandError>(), error.downcast_ref::<ExportError>(), error.downcast_ref::<HeldError>()) {
        (Some(CommandError::Call(call)), _, _) | (_, Some(ExportError::Call(call)), _) | (_, _, Some(HeldError::Call(call))) => Some(call),
        _ => None,
    }
}

fn payload_error(error: &anyhow::Error) -> Option<&PayloadError> {
    match error.downcast_ref() {
        Some(EvidenceExportError::Payload(of)) => Some(of),
        _ => error.downcast_ref(),
    }
}

/// Says what to do about an error, where that is known.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&'static str> {
    if let Some(call) = call_error(error) {
        return call.refusal().map_or(
            Some("`proofline status` says who answers, and whether a majority does; are the profile's endpoints and certificates right?"),
            hint_of_refusal,
        );
    }
    if let Some(CommandError::FateUnknown(_)) = error.downcast_ref() {
        return Some(
            "once `proofline status` says that a majority answers, look before you give it again: `proofline containment list`, `proofline session show`, `proofline tail`",
        );
    }
    if let Some(error) = error.downcast_ref::<MembershipError>() {
        return hint_of_membership(error);
    }
    if let Some(error) = error.downcast_ref::<AppendError>() {
        return hint_of_append(error);
    }
    if let Some(JournalError::InUse { .. }) = error.downcast_ref::<JournalError>() {
        return Some(HINT_IN_USE);
    }
    if let Some(HeldError::Undecided { .. }) = error.downcast_ref::<HeldError>() {
        return Some(
            "was the policy changed? Run `proofline checkpoint` with the policy before it, while that one is still met, then with the new one: \
             what is held must satisfy both. Where none can be met, keep the held file elsewhere, and remove it: nothing says then that the log only grew",
        );
    }
    if let Some(HeldError::Rewritten { .. }) = error.downcast_ref::<HeldError>() {
        return Some(
            "keep the held file and the one beside it: together they prove that two histories were signed. Do not rely on what this ledger shows, \
             and tell whoever runs it (\"Two histories\" in OPERATIONS.md)",
        );
    }
    if let Some(HeldError::WentBack { .. }) = error.downcast_ref::<HeldError>() {
        return Some(
            "ask again in a moment, and one node after the other with --node; `proofline status` shows how far each is. A node that stays behind hides entries or is cut off",
        );
    }
    if let Some(EvidenceExportError::Exists(_)) = error.downcast_ref() {
        return Some("--force replaces it");
    }
    if let Some(TileArchiveError::OtherLog { .. }) = error.downcast_ref() {
        return Some("name another directory: each log has one of its own");
    }
    if let Some(TileArchiveError::InUse { .. }) = error.downcast_ref() {
        return Some("wait until that run has ended, then run it again: it goes on from there");
    }
    if let Some(TileArchiveError::OtherRoot { .. }) = error.downcast_ref() {
        return Some(
            "keep the directory as it is, and begin an archive in an empty one: an interrupted run may have left another node's entries",
        );
    }
    error.downcast_ref().and_then(hint_of_key)
}

fn hint_of_refusal(refusal: &Refusal) -> Option<&'static str> {
    hint_of_reason(refusal.reason).or_else(|| hint_of_code(refusal.code))
}

fn hint_of_key(error: &KeyFileError) -> Option<&'static str> {
    match error {
        KeyFileError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Some(
            "is the path right? `proofline keys generate FILE` makes a new key, which signs for nobody until it is registered: by \
             `proofline collector register` or `proofline operator register`",
        ),
        KeyFileError::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
            Some("a key is never overwritten: name another file")
        }
        KeyFileError::Exposed { .. } => Some("`chmod 600 FILE` hides it from others; if others could read it, revoke it"),
        KeyFileError::Form { .. } => Some("a file as `proofline keys generate` writes it is needed; `proofline keys show FILE` tells"),
        KeyFileError::File { .. } | KeyFileError::Rsa(_) | KeyFileError::NoRandomness(_) => None,
    }
}

fn hint_of_membership(error: &MembershipError) -> Option<&'static str> {
    match error {
        MembershipError::FateUnknown { .. } => Some("`proofline status` shows who is a member; the same command again does no harm"),
        MembershipError::LeaderNotInProfile { .. } => Some("add it to the endpoints of the profile, and leave out --node"),
        MembershipError::NoLeader => Some("a majority of the nodes must be up; `proofline status` shows them"),
        MembershipError::Refused { fault: Fault::Refused(refusal), .. } => hint_of_refusal(refusal),
        MembershipError::Refused { .. } | MembershipError::Call(_) => None,
    }
}

fn hint_of_append(error: &AppendError) -> Option<&'static str> {
    match error {
        AppendError::Journal(JournalError::InUse { .. }) => Some(HINT_IN_USE),
        AppendError::AcknowledgedAndLost { .. } => Some(
            "a node gave receipts for what it did not append: keep the journal, and compare the nodes with `proofline status`. The next call goes on",
        ),
        AppendError::TakenOver { .. } => Some("two collectors use one lane: give each its own --lane"),
        _ => None,
    }
}

fn hint_of_reason(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::UnknownCollector => Some("`proofline collector register` registers it"),
        Reason::KeyNotRegistered => Some("register this key with `proofline collector register`, or use the registered one"),
        Reason::CollectorRevoked => Some("a revoked collector may be registered again by an operator"),
        Reason::QuotaExceeded => Some("the quota renews every hour; `proofline collector register` sets another"),
        Reason::BeyondQuota => {
            Some("the batch stays in the journal: set a larger quota with `proofline collector register`, then try again")
        }
        Reason::SignatureDoesNotVerify => {
            Some("was it signed for this log (`origin` of the profile), with the key that it names, and not altered since?")
        }
        Reason::ApproverIsRequester => Some("somebody else has to approve it: another responder"),
        Reason::OtherCollector => Some(
            "come with the certificate that the collector is registered with (`proofline collector list` shows its SPIFFE id), or register it again",
        ),
        Reason::MemberUnreachable => Some(
            "is the node started, at that address as the other nodes reach it, with a certificate for its name? Its log says who was turned away",
        ),
        Reason::DidNotCatchUp => Some("look at its log, its disk and its network; then the same command, with a longer --within"),
        Reason::SecondOperatorNeeded => {
            Some("give --signer twice, or --sign-to FILE and let a second operator `proofline command sign` it")
        }
        Reason::UnknownOperator => Some("is the operator registered, with this key?"),
        Reason::OperatorLacksRole => Some("registrations take a registrar; seals, containments and releases a responder"),
        Reason::BeyondCheckpoint => {
            Some("there is no such entry, or no checkpoint that covers it yet: try again where it was acknowledged")
        }
        Reason::BeyondCommitment => Some("without --to it is waited for; with it, try again in a second"),
        Reason::CommitmentBehind => {
            Some("--timeout gives it longer; --to N asks for the entries before N alone, which need not be all that there are")
        }
        Reason::ClockNotTrusted => Some("the clocks of the nodes differ, or too few nodes answer to tell: `proofline status` shows which"),
        Reason::ErasureDeferred => Some("`proofline hold list` shows what is held; two responders lift a hold, then erase again"),
        Reason::PayloadsNotRepaired => {
            Some("start nodes that do not answer, or give it more time with --within; --lose-payloads goes on without them")
        }
        Reason::PayloadStoreFull => {
            Some("make room on the disks of the nodes, or set a shorter retention with `proofline retention set`; then put it again")
        }
        Reason::WrongPayload => Some("hand over the exact bytes and the salt that the digest was made of"),
        Reason::NoLeader | Reason::FateUnknown => Some("a majority of the nodes must be up; `proofline status` shows them"),
        _ => None,
    }
}

fn hint_of_code(code: Code) -> Option<&'static str> {
    match code {
        Code::PermissionDenied => Some("use the profile of the right identity, or let an operator `proofline role grant` it"),
        Code::Unauthenticated => Some("the node wants a client certificate: check [tls] in the profile"),
        Code::NotFound => Some("check the spelling, the tenant, and whether a checkpoint covers it already"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use anyhow::Context as _;

    fn gave_up(last: Fault) -> CallError {
        CallError::GaveUp { within: Duration::from_secs(1), attempts: 2, endpoint: "https://node:1".to_owned(), last: Box::new(last) }
    }

    #[test]
    fn an_error_is_sorted_also_inside_the_errors_of_an_operation() {
        let nobody = || gave_up(Fault::Connection("refused".to_owned()));
        let errors = [
            anyhow::Error::from(nobody()),
            AppendError::Call(nobody()).into(),
            AppendError::Lane(LaneError::Call(nobody())).into(),
            CommandError::Call(nobody()).into(),
            ExportError::Call(nobody()).into(),
            HeldError::Call(nobody()).into(),
            MembershipError::Call(nobody()).into(),
            TileArchiveError::Call(nobody()).into(),
            Err::<(), _>(nobody()).context("while trying").unwrap_err(),
        ];
        for error in errors {
            assert_eq!(Exit::of(&error), Exit::Unreachable, "{error}");
            assert!(hint(&error).is_some());
        }
    }

    #[test]
    fn a_refused_change_of_members_is_followed_by_what_to_do() {
        for (code, reason, exit, said) in [
            (Code::Unavailable, Reason::MemberUnreachable, Exit::Unreachable, "is the node started"),
            (Code::DeadlineExceeded, Reason::DidNotCatchUp, Exit::Failed, "--within"),
            (Code::FailedPrecondition, Reason::PayloadsNotRepaired, Exit::Failed, "--lose-payloads"),
            (Code::PermissionDenied, Reason::LacksRole, Exit::Denied, "role grant"),
        ] {
            let refusal = Refusal { code, reason, message: String::new(), values: Default::default(), retry_after: None };
            let refused = MembershipError::Refused { endpoint: "https://node:1".to_owned(), fault: Fault::Refused(refusal) }.into();
            assert_eq!(Exit::of(&refused), exit, "{refused}");
            assert!(hint(&refused).is_some_and(|hint| hint.contains(said)), "{refused}");
        }
    }

    #[test]
    fn a_command_without_a_definite_answer_is_looked_for_before_it_is_given_again() {
        let error = anyhow::Error::from(CommandError::FateUnknown(gave_up(Fault::TimedOut(Duration::from_secs(1)))));
        assert_eq!(Exit::of(&error), Exit::Unreachable);
        assert!(error.to_string().contains("may still come into force"), "{error}");
        assert!(hint(&error).is_some_and(|hint| hint.contains("look before")));
    }

    #[test]
    fn arguments_that_ask_for_nothing_are_wrong_arguments() {
        assert_eq!(Exit::of(&WrongArguments("give --tenant").into()), Exit::Usage);
    }

    #[test]
    fn a_key_file_that_is_missing_is_looked_for_before_another_is_made() {
        let error = |kind: io::ErrorKind| KeyFileError::File { path: "alice.key.pem".into(), source: kind.into() };
        assert!(hint(&error(io::ErrorKind::NotFound).into()).is_some_and(|hint| hint.starts_with("is the path right?")));
        assert_eq!(hint(&error(io::ErrorKind::PermissionDenied).into()), None);
    }

    #[test]
    fn a_divergence_proves_the_log_wrong() {
        let index = proofline_ledger::EntryIndex(4);
        assert_eq!(Exit::of(&Divergence::Different(index).into()), Exit::ProvenWrong);
    }
}
