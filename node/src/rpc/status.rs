//! The one place where errors become gRPC codes.
//!
//! Every refusal carries `google.rpc.ErrorInfo` with a reason and the values that a program needs to act on it; those worth
//! trying again carry `google.rpc.RetryInfo`.

use std::{collections::HashMap, time::Duration};

use proofline_ledger::{Refusal, StoreFault};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    inbox::{Lost, NotAdmitted},
    payloads::VaultError,
};

const DOMAIN: &str = "proofline";
/// When a client should come again after a full inbox or a missing leader.
const SOON: Duration = Duration::from_millis(200);

struct Answer {
    code: Code,
    reason: &'static str,
    values: Vec<(&'static str, String)>,
    retry: Option<Duration>,
}

impl Answer {
    fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason, values: Vec::new(), retry: None }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.values.push((name, value.to_string()));
        self
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    fn status(self, message: String) -> Status {
        let values: HashMap<String, String> = self.values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, values);
        if let Some(after) = self.retry {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(self.code, message, details)
    }
}

/// Says in gRPC's terms why the state machine refused.
#[must_use]
pub(super) fn refusal_status(refusal: &Refusal) -> Status {
    answer(refusal).status(refusal.to_string())
}

fn answer(refusal: &Refusal) -> Answer {
    use Code::{Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unavailable};
    match refusal {
        Refusal::Malformed(_) => Answer::new(InvalidArgument, "MALFORMED"),
        Refusal::TooLarge { limit, .. } => Answer::new(InvalidArgument, "TOO_LARGE").with("limit", limit),
        Refusal::WeakKey(_) => Answer::new(InvalidArgument, "WEAK_KEY"),
        Refusal::Forged { .. } => Answer::new(PermissionDenied, "SIGNATURE_DOES_NOT_VERIFY"),
        Refusal::NotBegun => Answer::new(Unavailable, "NOT_BEGUN").retry(SOON),
        Refusal::AlreadyBegun { .. } => Answer::new(FailedPrecondition, "ALREADY_BEGUN"),
        Refusal::UnknownCollector(_) => Answer::new(NotFound, "UNKNOWN_COLLECTOR"),
        Refusal::CollectorRevoked { at, .. } => Answer::new(PermissionDenied, "COLLECTOR_REVOKED").with("entry", at),
        Refusal::KeyNotRegistered(_) => Answer::new(PermissionDenied, "KEY_NOT_REGISTERED"),
        Refusal::LaneNotOpen { current, .. } => Answer::new(FailedPrecondition, "LANE_NOT_OPEN").with("current_epoch", current),
        Refusal::EpochFenced { current, .. } => Answer::new(FailedPrecondition, "EPOCH_FENCED").with("current_epoch", current),
        Refusal::EpochClosed(_) => Answer::new(FailedPrecondition, "EPOCH_CLOSED"),
        Refusal::WrongSequence { expected, previous, .. } => {
            Answer::new(Aborted, "WRONG_SEQUENCE").with("expected_sequence", expected).with("expected_previous", hex::encode(previous.0))
        }
        Refusal::WrongPrevious { expected, .. } => {
            Answer::new(Aborted, "WRONG_PREVIOUS").with("expected_previous", hex::encode(expected.0))
        }
        Refusal::Equivocation { recorded, .. } => Answer::new(AlreadyExists, "EQUIVOCATION").with("entry", recorded),
        Refusal::QuotaExceeded { retry_after_s, .. } => {
            Answer::new(ResourceExhausted, "QUOTA_EXCEEDED").retry(Duration::from_secs(*retry_after_s))
        }
        Refusal::BeyondQuota { limit, .. } => Answer::new(FailedPrecondition, "BEYOND_QUOTA").with("limit", limit),
        Refusal::ErasureDeferred { hold, recorded } => {
            Answer::new(FailedPrecondition, "ERASURE_DEFERRED").with("hold", hold).with("entry", recorded)
        }
        Refusal::BelowRetentionFloor { floor, .. } => Answer::new(InvalidArgument, "BELOW_RETENTION_FLOOR").with("floor_days", floor),
        Refusal::CommandExpired => Answer::new(FailedPrecondition, "COMMAND_EXPIRED"),
        Refusal::CommandLivesTooLong => Answer::new(InvalidArgument, "COMMAND_LIVES_TOO_LONG"),
        Refusal::CommandReplayed { at } => Answer::new(AlreadyExists, "COMMAND_REPLAYED").with("entry", at),
        Refusal::UnknownOperator(_) => Answer::new(PermissionDenied, "UNKNOWN_OPERATOR"),
        Refusal::OperatorLacksRole { .. } => Answer::new(PermissionDenied, "OPERATOR_LACKS_ROLE"),
        Refusal::SecondOperatorNeeded => Answer::new(PermissionDenied, "SECOND_OPERATOR_NEEDED"),
        Refusal::KeyInUse(_) => Answer::new(AlreadyExists, "KEY_IN_USE"),
        Refusal::UnknownSubject { .. } => Answer::new(NotFound, "UNKNOWN_SUBJECT"),
        Refusal::AlreadyDone { .. } => Answer::new(FailedPrecondition, "ALREADY_DONE"),
        Refusal::AlreadyContained { containment } => Answer::new(AlreadyExists, "ALREADY_CONTAINED").with("containment", containment),
        Refusal::LastNode => Answer::new(FailedPrecondition, "LAST_NODE"),
        Refusal::LastRegistrars => Answer::new(FailedPrecondition, "LAST_REGISTRARS"),
        Refusal::IllegalTransition { .. } => Answer::new(FailedPrecondition, "ILLEGAL_TRANSITION"),
        Refusal::NotOwned { .. } => Answer::new(FailedPrecondition, "NOT_OWNED"),
        Refusal::NoRules => Answer::new(FailedPrecondition, "NO_RULES"),
        Refusal::WrongStage { .. } => Answer::new(FailedPrecondition, "WRONG_STAGE"),
        Refusal::NothingContained { .. } => Answer::new(FailedPrecondition, "NOTHING_CONTAINED"),
        Refusal::BadRules { .. } => Answer::new(InvalidArgument, "BAD_RULES"),
        Refusal::RulesDenyEverything => Answer::new(FailedPrecondition, "RULES_DENY_EVERYTHING"),
        Refusal::OtherRuleEngine { here, .. } => Answer::new(FailedPrecondition, "OTHER_RULE_ENGINE").with("engine", here),
        Refusal::ApprovalLife => Answer::new(InvalidArgument, "APPROVAL_LIFE"),
        Refusal::ApproverIsRequester { .. } => Answer::new(PermissionDenied, "APPROVER_IS_REQUESTER"),
        Refusal::CheckpointNotNewer { .. } => Answer::new(FailedPrecondition, "CHECKPOINT_NOT_NEWER"),
        Refusal::CommitmentOutOfPlace { committed, .. } => {
            Answer::new(FailedPrecondition, "COMMITMENT_OUT_OF_PLACE").with("committed_size", committed)
        }
        Refusal::CheckpointNotCosigned { .. } => Answer::new(FailedPrecondition, "CHECKPOINT_NOT_COSIGNED"),
    }
}

impl From<NotAdmitted> for Status {
    fn from(why: NotAdmitted) -> Self {
        match why {
            NotAdmitted::Full => Answer::new(Code::ResourceExhausted, "INBOX_FULL").retry(SOON).status(why.to_string()),
            NotAdmitted::ShuttingDown => shutting_down(why.to_string()),
        }
    }
}

impl From<Lost> for Status {
    fn from(why: Lost) -> Self {
        match why {
            Lost::NotLeader => no_leader(&why.to_string()),
            Lost::ClockNotTrusted => {
                Answer::new(Code::Unavailable, "CLOCK_NOT_TRUSTED").retry(Duration::from_secs(1)).status(why.to_string())
            }
            Lost::FateUnknown => Answer::new(Code::DeadlineExceeded, "FATE_UNKNOWN").retry(SOON).status(why.to_string()),
            Lost::ShuttingDown => shutting_down(why.to_string()),
        }
    }
}

pub(super) fn shutting_down(message: String) -> Status {
    Answer::new(Code::Unavailable, "SHUTTING_DOWN").retry(SOON).status(message)
}

/// Nobody can take a write now; nothing was appended.
pub(super) fn no_leader(message: &str) -> Status {
    Answer::new(Code::Unavailable, "NO_LEADER").retry(SOON).status(message.to_owned())
}

/// The leader was asked, and did not answer.
pub(super) fn unanswered(leader: u64, status: &Status) -> Status {
    let message =
        format!("node {leader}, which led, did not answer ({}): the fate is unknown, and sending the same again is safe", status.message());
    Answer::new(Code::DeadlineExceeded, "FATE_UNKNOWN").retry(SOON).status(message)
}

/// The leader acknowledged what this node's own log does not say.
pub(super) fn contradicted(leader: u64) -> Status {
    let message = format!(
        "node {leader}, which leads, acknowledged what is not in this node's log: the fate is unknown; compare the nodes with `proofline status`"
    );
    Answer::new(Code::DeadlineExceeded, "LEADER_CONTRADICTED").retry(SOON).status(message)
}

/// Not possible now, and worth trying again: nothing happened.
pub(crate) fn again(reason: &'static str, message: impl Into<String>) -> Status {
    Answer::new(Code::Unavailable, reason).retry(SOON).status(message.into())
}

/// Not possible as things are.
pub(super) fn refused(reason: &'static str, message: impl Into<String>) -> Status {
    Answer::new(Code::FailedPrecondition, reason).status(message.into())
}

/// Not what the contract describes.
pub(super) fn malformed(reason: &'static str, message: impl Into<String>) -> Status {
    Answer::new(Code::InvalidArgument, reason).status(message.into())
}

/// Not for this caller.
pub(super) fn denied(reason: &'static str, message: impl Into<String>) -> Status {
    Answer::new(Code::PermissionDenied, reason).status(message.into())
}

/// Not known here.
pub(super) fn unknown(reason: &'static str, message: impl Into<String>) -> Status {
    Answer::new(Code::NotFound, reason).status(message.into())
}

/// Not done in time.
pub(super) fn late(reason: &'static str, message: impl Into<String>) -> Status {
    Answer::new(Code::DeadlineExceeded, reason).status(message.into())
}

/// A call got no answer in time. If it was a write, it may be in the log.
pub(crate) fn no_answer(within: Duration) -> Status {
    let message = format!("no answer within {} s; a write may be in the log or not, and sending the same again is safe", within.as_secs());
    Answer::new(Code::DeadlineExceeded, "FATE_UNKNOWN").retry(SOON).status(message)
}

/// What was asked for is not covered by a published checkpoint yet.
pub(super) fn beyond(published: u64) -> Status {
    let message = format!("beyond the newest published checkpoint, which covers {published} entries");
    Answer::new(Code::OutOfRange, "BEYOND_CHECKPOINT").with("published_size", published).status(message)
}

/// What was asked for by key is not covered by a state commitment yet.
pub(super) fn beyond_commitment(covered: u64) -> Status {
    let message = format!("beyond the newest state commitment that is published, which covers {covered} entries");
    Answer::new(Code::OutOfRange, "BEYOND_COMMITMENT").with("commitment_size", covered).status(message)
}

/// As much as this node does at once is under way.
pub(super) fn busy(reason: &'static str, message: impl Into<String>) -> Status {
    Answer::new(Code::ResourceExhausted, reason).retry(SOON).status(message.into())
}

/// There is no room, and coming again soon does not help.
pub(super) fn exhausted(reason: &'static str, message: impl Into<String>) -> Status {
    Answer::new(Code::ResourceExhausted, reason).status(message.into())
}

/// The subject of a payload was erased.
pub(super) fn erased(by: u64) -> Status {
    Answer::new(Code::NotFound, "PAYLOAD_ERASED").with("entry", by).status(format!("payload erased at index {by}"))
}

/// The payload store failed.
pub(super) fn vault_status(error: &VaultError) -> Status {
    let code = match error {
        VaultError::Stopped => return shutting_down(error.to_string()),
        VaultError::Damaged { .. } | VaultError::Corrupt { .. } => Code::DataLoss,
        VaultError::State(_) | VaultError::File { .. } | VaultError::Database { .. } | VaultError::Randomness => Code::Internal,
    };
    tracing::error!(%error, "the payload store failed");
    Answer::new(code, "PAYLOAD_STORE_FAULT").status(error.to_string())
}

/// A watcher asked for what does not exist yet.
pub(super) fn beyond_log(size: u64) -> Status {
    let message = format!("beyond the end of the log, which has {size} entries");
    Answer::new(Code::OutOfRange, "BEYOND_LOG").with("tree_size", size).status(message)
}

/// The local store failed.
pub(super) fn fault_status(fault: &StoreFault) -> Status {
    let code = match fault {
        StoreFault::Damaged { .. } | StoreFault::Corrupted { .. } => Code::DataLoss,
        StoreFault::Unreadable { .. } => Code::Internal,
    };
    tracing::error!(%fault, "a read failed");
    Answer::new(code, "STORE_FAULT").status(fault.to_string())
}
