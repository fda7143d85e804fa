//! Why the ledger refused a submission. A refusal changes nothing, except that an equivocation is recorded.

use proofline_proto::v1;
use thiserror::Error;

use crate::hash::Hash;
use crate::ids::{EntryIndex, Epoch, Sequence, TreeSize};

/// A definite answer with no effect on the log, unless its variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The item is not what the contract describes.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A limit of the contract is exceeded.
    #[error("{what} is {actual}, the limit is {limit}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// What came.
        actual: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The signature does not verify under the key that came with it, or it was made for another origin.
    #[error("the signature does not verify for origin {origin}")]
    Forged {
        /// Origin of this ledger.
        origin: String,
    },
    /// The ledger has no genesis entry yet.
    #[error("the ledger has no genesis entry yet")]
    NotBegun,
    /// The ledger has its genesis entry already.
    #[error("the ledger began already, with origin {origin}")]
    AlreadyBegun {
        /// Origin of this ledger.
        origin: String,
    },
    /// No registration names this collector.
    #[error("collector {0:?} is not registered")]
    UnknownCollector(String),
    /// The collector was revoked.
    #[error("collector {collector:?} was revoked by entry {at}")]
    CollectorRevoked {
        /// Who sent.
        collector: String,
        /// The revoking entry.
        at: EntryIndex,
    },
    /// The key is not the one that is registered now.
    #[error("the key is not the registered key of {0:?}")]
    KeyNotRegistered(String),
    /// The lane was never opened, or the epoch is one that the ledger never assigned.
    #[error("epoch {epoch} of this lane was never opened; the lane's epoch is {current}")]
    LaneNotOpen {
        /// What the batch names.
        epoch: Epoch,
        /// What is open, 0 when nothing ever was.
        current: Epoch,
    },
    /// A newer opening of the lane fenced this epoch for good.
    #[error("epoch {epoch} was fenced by epoch {current}")]
    EpochFenced {
        /// What the batch names.
        epoch: Epoch,
        /// What is open now.
        current: Epoch,
    },
    /// The epoch ended with a closing batch.
    #[error("epoch {0} was closed; open the lane again")]
    EpochClosed(Epoch),
    /// The batch is not the next one.
    #[error("sequence {sequence} is not next, {expected} is")]
    WrongSequence {
        /// What the batch names.
        sequence: Sequence,
        /// What comes next in this epoch.
        expected: Sequence,
        /// Digest that the next batch must name as `previous`.
        previous: Hash,
    },
    /// The batch continues another chain.
    #[error("the batch names {actual:?} as the batch before it, the lane ends in {expected:?}")]
    WrongPrevious {
        /// What the batch names.
        actual: Hash,
        /// What the lane ends in.
        expected: Hash,
    },
    /// Another batch with a valid signature holds this position. The first such conflict of an epoch is recorded in the log.
    #[error("another batch was signed at epoch {epoch}, sequence {sequence}; recorded in entry {recorded}")]
    Equivocation {
        /// Epoch of both.
        epoch: Epoch,
        /// Sequence of both.
        sequence: Sequence,
        /// The entry that records the first conflict of the epoch.
        recorded: EntryIndex,
    },
    /// A state commitment is not behind the one before it, or covers entries that are not there.
    #[error("a state commitment of size {size} comes after one of {committed}, in a log of {tree_size} entries")]
    CommitmentOutOfPlace {
        /// What it covers.
        size: u64,
        /// What the one before it covers.
        committed: u64,
        /// Entries in the log.
        tree_size: TreeSize,
    },
    /// The collector used up its hour.
    #[error("the quota of {limit} {what} an hour is used up; it renews in {retry_after_s} s")]
    QuotaExceeded {
        /// Events or sessions.
        what: &'static str,
        /// Registered limit.
        limit: u64,
        /// Until the next hour, by committed time.
        retry_after_s: u64,
    },
    /// The batch is larger than the whole hour of its collector: it never fits until the registration allows more.
    #[error("the batch has {actual} {what}, and the quota allows {limit} in a whole hour: it can never fit")]
    BeyondQuota {
        /// Events or new sessions.
        what: &'static str,
        /// How many the batch has.
        actual: u64,
        /// Registered limit.
        limit: u64,
    },
    /// An agent's life does not go that way.
    #[error("agent {agent:?} is {}, and cannot become {} from there", state_name(*.from), state_name(*.to))]
    IllegalTransition {
        /// Which agent.
        agent: String,
        /// What it is.
        from: v1::AgentState,
        /// What was asked for.
        to: v1::AgentState,
    },
    /// Nobody answers for the agent, or nobody knows how to stop it.
    #[error("agent {agent:?} needs a business owner, a technical owner and a revocation path before it goes into production")]
    NotOwned {
        /// Which agent.
        agent: String,
    },
    /// Nothing would stop the agent.
    #[error("no rules are in force: activate a rule set before an agent goes into production")]
    NoRules,
    /// The stages of an incident come in their order.
    #[error("incident {incident:?} goes on with {}, not with {}", stage_name(*.next), stage_name(*.asked))]
    WrongStage {
        /// Which incident.
        incident: String,
        /// What was asked for.
        asked: v1::IncidentStage,
        /// What comes next.
        next: v1::IncidentStage,
    },
    /// The incident is said to be contained, and no containment names it.
    #[error("no containment names incident {incident:?}: contain something with its id first")]
    NothingContained {
        /// Which incident.
        incident: String,
    },
    /// The rules cannot be let in.
    #[error("the rules have {problems} problems; the first: {first}")]
    BadRules {
        /// How many.
        problems: usize,
        /// The first of them, with its place.
        first: String,
    },
    /// The rules would deny whatever happens, and the command does not say that this is meant.
    #[error("the rules deny every event, even one of which nothing is to be said; the command must say that this is meant")]
    RulesDenyEverything,
    /// The rules were written for another engine.
    #[error("the rules are for {asked:?}, this ledger evaluates with {here:?}")]
    OtherRuleEngine {
        /// What the command names.
        asked: String,
        /// What this ledger has.
        here: &'static str,
    },
    /// The approval ends too early or too late.
    #[error("an approval must end after now, and within 24 hours")]
    ApprovalLife,
    /// Nobody approves what they asked for.
    #[error("operator {operator:?} is the person for whom the agent acts: somebody else must approve")]
    ApproverIsRequester {
        /// Who signed.
        operator: String,
    },
    /// A hold forbids the erasure. That it was asked for is recorded.
    #[error("hold {hold} covers payloads of the subject: nothing was erased, and entry {recorded} records that it was asked for")]
    ErasureDeferred {
        /// The hold, or the first of them.
        hold: u64,
        /// The entry that says so.
        recorded: EntryIndex,
    },
    /// Payloads must be kept longer.
    #[error("payloads are kept for at least {floor} days, not {days}")]
    BelowRetentionFloor {
        /// What was asked for.
        days: u32,
        /// What is allowed.
        floor: u32,
    },
    /// The command's end of life has come.
    #[error("the command expired")]
    CommandExpired,
    /// The command names an end of life that is further away than 24 hours.
    #[error("the command lives longer than 24 hours")]
    CommandLivesTooLong,
    /// A command with this nonce was accepted before. To whoever sent it and lost the answer, `at` is the answer.
    #[error("a command with this nonce was accepted before, as entry {at}")]
    CommandReplayed {
        /// The entry that it became.
        at: EntryIndex,
    },
    /// A signer is not a registered operator, or signed with another key.
    #[error("{0:?} is no registered operator with that key")]
    UnknownOperator(String),
    /// A signer may not sign this command.
    #[error("operator {operator:?} does not hold the role that this command needs")]
    OperatorLacksRole {
        /// Who signed.
        operator: String,
    },
    /// The command needs two operators, and two keys.
    #[error("this command needs the signatures of two operators")]
    SecondOperatorNeeded,
    /// The key is malformed, not canonical or of small order.
    #[error("the key of {0:?} is malformed or weak")]
    WeakKey(String),
    /// The key belongs to somebody already.
    #[error("the key of {0:?} is registered for another name")]
    KeyInUse(String),
    /// The command names something that the ledger does not know.
    #[error("{what} {name:?} is unknown")]
    UnknownSubject {
        /// Kind of the subject.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The command names something that is in that state already.
    #[error("{what} {name:?} is already {state}")]
    AlreadyDone {
        /// Kind of the subject.
        what: &'static str,
        /// Its name.
        name: String,
        /// The state.
        state: &'static str,
    },
    /// What the command would stop is stopped in that way already.
    #[error("this is contained already, as containment {containment}")]
    AlreadyContained {
        /// Number of the containment.
        containment: u64,
    },
    /// The command would leave nobody who can change the registry.
    #[error("after this command fewer than two registrars would be left")]
    LastRegistrars,
    /// The command would leave nobody who can cosign a checkpoint.
    #[error("after this command no node would be left that can cosign")]
    LastNode,
    /// The note to publish covers less than the one that is published.
    #[error("a checkpoint of size {published} is published already")]
    CheckpointNotNewer {
        /// Newest published size.
        published: u64,
    },
    /// Too few of the registered nodes stand behind the note to publish.
    #[error("{cosigned} of {nodes} registered nodes cosigned the checkpoint, more than half must")]
    CheckpointNotCosigned {
        /// Nodes whose cosignature verifies.
        cosigned: usize,
        /// Nodes that are registered and not retired.
        nodes: usize,
    },
}

fn state_name(state: v1::AgentState) -> String {
    state.as_str_name().trim_start_matches("AGENT_STATE_").to_ascii_lowercase()
}

fn stage_name(stage: v1::IncidentStage) -> String {
    match stage {
        v1::IncidentStage::Unspecified => "nothing: it is closed".to_owned(),
        stage => stage.as_str_name().trim_start_matches("INCIDENT_STAGE_").to_ascii_lowercase().replace('_', " "),
    }
}
