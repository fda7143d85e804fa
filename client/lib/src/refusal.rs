//! What the ledger answers when it does not do what was asked: a reason to act on, and when to come again.

use std::{collections::BTreeMap, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why the ledger refused, as its error details say it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// The answer names no reason that this version knows; its gRPC code and message still say something.
            Unnamed,
        }

        impl Reason {
            fn parse(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)*
                    _ => Self::Unnamed,
                }
            }

            /// Returns the reason as the contract writes it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unnamed => "UNNAMED",
                }
            }
        }
    };
}

reasons! {
    /// The request is not what the contract describes.
    Malformed = "MALFORMED",
    /// A limit of the contract is exceeded.
    TooLarge = "TOO_LARGE",
    /// A key is malformed or of small order.
    WeakKey = "WEAK_KEY",
    /// The signature does not verify, or was made for another origin.
    SignatureDoesNotVerify = "SIGNATURE_DOES_NOT_VERIFY",
    /// The ledger has no genesis entry yet.
    NotBegun = "NOT_BEGUN",
    /// The ledger has its genesis entry already.
    AlreadyBegun = "ALREADY_BEGUN",
    /// No registration names the collector.
    UnknownCollector = "UNKNOWN_COLLECTOR",
    /// The collector was revoked.
    CollectorRevoked = "COLLECTOR_REVOKED",
    /// The key is not the registered one.
    KeyNotRegistered = "KEY_NOT_REGISTERED",
    /// The ledger never assigned this epoch.
    LaneNotOpen = "LANE_NOT_OPEN",
    /// A newer opening of the lane fenced this epoch for good.
    EpochFenced = "EPOCH_FENCED",
    /// The epoch ended with a closing batch.
    EpochClosed = "EPOCH_CLOSED",
    /// The batch is not the next one.
    WrongSequence = "WRONG_SEQUENCE",
    /// The batch continues another chain.
    WrongPrevious = "WRONG_PREVIOUS",
    /// Another batch with a valid signature holds this position.
    Equivocation = "EQUIVOCATION",
    /// The collector used up its hour.
    QuotaExceeded = "QUOTA_EXCEEDED",
    /// The batch is larger than the collector's whole hour: it never fits until an operator registers a larger quota.
    BeyondQuota = "BEYOND_QUOTA",
    /// The command's end of life has come.
    CommandExpired = "COMMAND_EXPIRED",
    /// The command lives longer than the contract allows.
    CommandLivesTooLong = "COMMAND_LIVES_TOO_LONG",
    /// This very command was accepted before.
    CommandReplayed = "COMMAND_REPLAYED",
    /// A signer is no registered operator with that key.
    UnknownOperator = "UNKNOWN_OPERATOR",
    /// A signer lacks the role.
    OperatorLacksRole = "OPERATOR_LACKS_ROLE",
    /// The command needs two operators.
    SecondOperatorNeeded = "SECOND_OPERATOR_NEEDED",
    /// The key belongs to somebody already.
    KeyInUse = "KEY_IN_USE",
    /// What the command names is unknown.
    UnknownSubject = "UNKNOWN_SUBJECT",
    /// What the command names is in that state already.
    AlreadyDone = "ALREADY_DONE",
    /// The command would leave fewer than two registrars.
    LastRegistrars = "LAST_REGISTRARS",
    /// The command would leave no node that can cosign.
    LastNode = "LAST_NODE",
    /// What the command would stop is stopped in that way already.
    AlreadyContained = "ALREADY_CONTAINED",
    /// An agent's life does not go that way.
    IllegalTransition = "ILLEGAL_TRANSITION",
    /// An agent without owners or without a revocation path does not go into production.
    NotOwned = "NOT_OWNED",
    /// No rules are in force.
    NoRules = "NO_RULES",
    /// The stages of an incident come in their order.
    WrongStage = "WRONG_STAGE",
    /// No containment names the incident.
    NothingContained = "NOTHING_CONTAINED",
    /// The rule set cannot be let in; the message says what is wrong, and where.
    BadRules = "BAD_RULES",
    /// The rules would deny every event, and the command does not say that this is meant.
    RulesDenyEverything = "RULES_DENY_EVERYTHING",
    /// The rules were written for another engine than the ledger's.
    OtherRuleEngine = "OTHER_RULE_ENGINE",
    /// The approval ends too early or too late.
    ApprovalLife = "APPROVAL_LIFE",
    /// Nobody approves what they asked for.
    ApproverIsRequester = "APPROVER_IS_REQUESTER",
    /// A hold covers payloads of the subject: nothing was erased, and the log says that it was asked for.
    ErasureDeferred = "ERASURE_DEFERRED",
    /// Payloads are kept longer than was asked for.
    BelowRetentionFloor = "BELOW_RETENTION_FLOOR",
    /// The content, the salt or the size is not what the event committed to.
    WrongPayload = "WRONG_PAYLOAD",
    /// The entry has no such commitment, or is another collector's.
    UnknownCommitment = "UNKNOWN_COMMITMENT",
    /// The entry does not say whose the payload is, so nobody could have it erased.
    NoSubject = "NO_SUBJECT",
    /// The subject was erased by an entry behind that of the payload.
    PayloadErased = "PAYLOAD_ERASED",
    /// The payload is past the tenant's retention.
    PayloadExpired = "PAYLOAD_EXPIRED",
    /// Nobody handed the payload over.
    PayloadNotUploaded = "PAYLOAD_NOT_UPLOADED",
    /// The node has not applied the entry yet.
    EntryNotApplied = "ENTRY_NOT_APPLIED",
    /// Too few voters have the payload on their disks.
    PayloadNotDurable = "PAYLOAD_NOT_DURABLE",
    /// Nodes that may have the payload do not answer.
    PayloadNotAtHand = "PAYLOAD_NOT_AT_HAND",
    /// The node handles as many payloads as it does at once.
    TooManyPayloads = "TOO_MANY_PAYLOADS",
    /// Acknowledged payloads would be on too few voters after the change of members.
    PayloadsNotRepaired = "PAYLOADS_NOT_REPAIRED",
    /// The disks of too many nodes have no room for payloads.
    PayloadStoreFull = "PAYLOAD_STORE_FULL",
    /// The node's payload store failed.
    PayloadStoreFault = "PAYLOAD_STORE_FAULT",
    /// Only a batch of one intent can be proposed.
    NotAProposal = "NOT_A_PROPOSAL",
    /// No facts are kept of the entry.
    NoFacts = "NO_FACTS",
    /// No rule set was activated by the entry.
    UnknownRuleSet = "UNKNOWN_RULE_SET",
    /// A newer checkpoint is published already.
    CheckpointNotNewer = "CHECKPOINT_NOT_NEWER",
    /// The inbox of the node is full; nothing happened.
    InboxFull = "INBOX_FULL",
    /// No node leads; nothing happened.
    NoLeader = "NO_LEADER",
    /// The leader's clock is too far from those of the others, or cannot be compared; nothing happened.
    ClockNotTrusted = "CLOCK_NOT_TRUSTED",
    /// The request may or may not have been carried out.
    FateUnknown = "FATE_UNKNOWN",
    /// The leader acknowledged what is not in the log of the node that was asked: one of the two is wrong, or lies.
    LeaderContradicted = "LEADER_CONTRADICTED",
    /// The node is shutting down; nothing happened.
    ShuttingDown = "SHUTTING_DOWN",
    /// What was asked for is not covered by a published checkpoint yet.
    BeyondCheckpoint = "BEYOND_CHECKPOINT",
    /// The log does not have as many entries.
    BeyondLog = "BEYOND_LOG",
    /// No checkpoint is published yet.
    NotPublished = "NOT_PUBLISHED",
    /// The window of the question reaches beyond what a published state commitment covers.
    BeyondCommitment = "BEYOND_COMMITMENT",
    /// What was in the log when the question came is not covered by a published state commitment in time.
    CommitmentBehind = "COMMITMENT_BEHIND",
    /// A state commitment is not behind the one before it, or covers entries that are not there.
    CommitmentOutOfPlace = "COMMITMENT_OUT_OF_PLACE",
    /// The node has no confirmed and published state commitment to answer from yet.
    NothingCommitted = "NOTHING_COMMITTED",
    /// The question is not one; the message says why.
    MalformedQuestion = "MALFORMED_QUESTION",
    /// The question leads to more keys than one answer shows.
    LineageTooWide = "LINEAGE_TOO_WIDE",
    /// The node is giving as many answers as it does at once.
    TooManyQuestions = "TOO_MANY_QUESTIONS",
    /// The answer was under way for as long as one may be.
    AnswerTooLong = "ANSWER_TOO_LONG",
    /// It could not be recorded who asks, and so nothing is answered.
    NotRecorded = "NOT_RECORDED",
    /// No event has named the session.
    UnknownSession = "UNKNOWN_SESSION",
    /// The caller's certificate lacks the role.
    LacksRole = "LACKS_ROLE",
    /// The caller is not the collector that the request names.
    OtherCollector = "OTHER_COLLECTOR",
    /// The membership is changed at the node that leads.
    NotTheLeader = "NOT_THE_LEADER",
    /// The membership cannot be changed so.
    Membership = "MEMBERSHIP",
    /// The node to be added does not answer at its address.
    MemberUnreachable = "MEMBER_UNREACHABLE",
    /// Another node answers at the address.
    OtherNode = "OTHER_NODE",
    /// The node is a member already, in another way.
    OtherMember = "OTHER_MEMBER",
    /// The node to be added did not catch up in time, and was taken out again.
    DidNotCatchUp = "DID_NOT_CATCH_UP",
    /// Raft has stopped at the node.
    RaftStopped = "RAFT_STOPPED",
    /// The node's own store failed.
    StoreFault = "STORE_FAULT",
}

/// A definite answer other than the one that was wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// gRPC code.
    pub code: Code,
    /// Why.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
    /// Values that a program needs to act, by name.
    pub values: BTreeMap<String, String>,
    /// When the ledger wants the request again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        Self {
            code: status.code(),
            reason: info.map_or(Reason::Unnamed, |info| Reason::parse(&info.reason)),
            message: status.message().to_owned(),
            values: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// Returns a value that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.values.get(name)?.parse().ok()
    }

    /// Tells whether the same request, sent again, may be answered otherwise. Sending a batch or command again is always safe.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.code {
            Code::Unavailable | Code::DeadlineExceeded => true,
            Code::ResourceExhausted => self.retry_after.is_some(),
            _ => false,
        }
    }

    /// Tells whether another node may do better.
    pub(crate) fn is_of_the_node(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::DeadlineExceeded)
    }

    /// Tells whether what was asked for did not happen and will not; false where nobody can tell.
    #[must_use]
    pub fn is_without_effect(&self) -> bool {
        match self.reason {
            Reason::FateUnknown | Reason::LeaderContradicted | Reason::StoreFault | Reason::RaftStopped => false,
            // Perhaps not the word of a node.
            Reason::Unnamed => {
                matches!(self.code, Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented)
            }
            _ => !matches!(self.code, Code::Internal | Code::DataLoss | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled),
        }
    }

    /// Tells whether the caller or a signer is not allowed to do this.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(self.code, Code::PermissionDenied | Code::Unauthenticated)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Unnamed => write!(out, "{} ({:?})", self.message, self.code),
            reason => write!(out, "{} ({})", self.message, reason.as_str()),
        }
    }
}
