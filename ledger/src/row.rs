//! The rows of the state tables, as they lie in the store.

use proofline_proto::v1;
use prost::Message;

use crate::hash::Hash;
use crate::store::{Store, StoreFault, Table};

/// The one row of [`Table::Head`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeadRow {
    #[prost(string, tag = "1")]
    pub(crate) origin: String,
    #[prost(uint32, tag = "2")]
    pub(crate) apply_version: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) size: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) peaks: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) state_digest: Vec<u8>,
    #[prost(fixed64, tag = "6")]
    pub(crate) last_unix_ns: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) next_session: u64,
    /// Targets that are contained now.
    #[prost(uint64, tag = "8")]
    pub(crate) contained: u64,
    /// Containments so far, released ones too.
    #[prost(uint64, tag = "9")]
    pub(crate) containments: u64,
    /// Holds so far, released ones too.
    #[prost(uint64, tag = "10")]
    pub(crate) holds: u64,
    /// Entries that the newest state commitment covers, 0 before the first.
    #[prost(uint64, tag = "11")]
    pub(crate) committed: u64,
    /// Erasures so far.
    #[prost(uint64, tag = "12")]
    pub(crate) erasures: u64,
}

/// A row of [`Table::Lanes`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LaneRow {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    /// Last accepted in `epoch`; 0 when nothing was.
    #[prost(uint64, tag = "2")]
    pub(crate) sequence: u64,
    #[prost(bool, tag = "3")]
    pub(crate) closed: bool,
    /// The newest accepted batch of the lane, in whichever epoch.
    #[prost(message, optional, tag = "4")]
    pub(crate) last: Option<v1::LaneHead>,
}

/// A row of [`Table::LaneNonces`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OpeningRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) nonce: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) answer: Option<v1::OpenLaneResponse>,
}

/// A row of [`Table::Statements`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatementRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) statement: Option<v1::BatchStatement>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digest: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) first_index: u64,
}

/// A row of [`Table::Collectors`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CollectorRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) registration: Option<v1::RegisterCollector>,
    #[prost(uint64, tag = "2")]
    pub(crate) valid_from: u64,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) revoked_at: Option<u64>,
}

/// A row of [`Table::Quotas`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct QuotaRow {
    #[prost(uint64, tag = "1")]
    pub(crate) hour: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) events: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) sessions: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) payload_bytes: u64,
}

/// A row of [`Table::Agents`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AgentRow {
    #[prost(enumeration = "v1::AgentState", tag = "1")]
    pub(crate) state: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) first_seen_index: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) first_seen_unix_ns: u64,
    #[prost(message, optional, tag = "4")]
    pub(crate) registration: Option<v1::RegisterAgent>,
}

/// A row of [`Table::Operators`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) key: Option<v1::OperatorKey>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) revoked_at: Option<u64>,
}

/// A row of [`Table::Nodes`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) key: Option<v1::NodeKey>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) retired_at: Option<u64>,
}

/// A row of [`Table::Sessions`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionRow {
    #[prost(uint64, tag = "1")]
    pub(crate) ordinal: u64,
    #[prost(string, tag = "2")]
    pub(crate) agent_id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) initiator: Option<v1::Principal>,
    #[prost(string, tag = "4")]
    pub(crate) parent: String,
    #[prost(uint64, tag = "5")]
    pub(crate) first_index: u64,
}

/// A row of [`Table::SessionHeads`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionHeadRow {
    #[prost(uint64, tag = "1")]
    pub(crate) size: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) peaks: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) last_index: u64,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) sealed_at: Option<u64>,
}

/// A row of [`Table::SessionUses`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UsesRow {
    #[prost(string, repeated, tag = "1")]
    pub(crate) credentials: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) instances: Vec<String>,
    /// More was shown than is remembered.
    #[prost(bool, tag = "3")]
    pub(crate) incomplete: bool,
}

/// A row of [`Table::Spawns`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpawnsRow {
    #[prost(message, repeated, tag = "1")]
    pub(crate) spawners: Vec<Spawner>,
}

impl SpawnsRow {
    /// Returns the sessions that spawned this one for the agent that it has. Of one that has not begun nobody knows the agent:
    /// until then everyone who spawned it is above it, or what begins below it before it does would escape.
    pub(crate) fn above(self, agent: Option<&str>) -> impl Iterator<Item = String> {
        let spawned = self.spawners.into_iter().filter(move |of| agent.is_none_or(|agent| of.child_agent == agent));
        spawned.map(|of| of.session_id)
    }
}

/// A session that said it spawned another, and for which agent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Spawner {
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    #[prost(string, tag = "2")]
    pub(crate) child_agent: String,
}

/// A row of [`Table::Contained`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TargetRow {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) cases: Vec<u64>,
}

/// A row of [`Table::ContainmentCases`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CaseRow {
    #[prost(enumeration = "v1::ContainmentAction", tag = "1")]
    pub(crate) action: i32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) targets: Vec<v1::Target>,
    #[prost(uint64, tag = "3")]
    pub(crate) cause_index: u64,
    #[prost(fixed64, tag = "4")]
    pub(crate) began_unix_ns: u64,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) released_by: Option<u64>,
    #[prost(string, tag = "6")]
    pub(crate) reason: String,
    #[prost(string, tag = "7")]
    pub(crate) incident_id: String,
    /// More shares the identity of what is contained than is held.
    #[prost(bool, tag = "8")]
    pub(crate) incomplete: bool,
}

/// A row of [`Table::Outlets`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutletRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) outlet: Option<v1::Outlet>,
    #[prost(enumeration = "v1::OutletState", tag = "2")]
    pub(crate) state: i32,
    /// The entry that put it into its state.
    #[prost(uint64, tag = "3")]
    pub(crate) state_by: u64,
    #[prost(fixed64, tag = "4")]
    pub(crate) active_since_unix_ns: u64,
    /// Messages that wait.
    #[prost(uint64, tag = "5")]
    pub(crate) pending: u64,
    /// Messages that found no room.
    #[prost(uint64, tag = "6")]
    pub(crate) dropped: u64,
    /// Changes about a subject that it cannot name.
    #[prost(uint64, tag = "7")]
    pub(crate) not_addressable: u64,
    /// Entry of its newest delivery, 0 before the first.
    #[prost(uint64, tag = "8")]
    pub(crate) last_index: u64,
}

/// A row of [`Table::Outbox`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutboxRow {
    #[prost(uint64, tag = "1")]
    pub(crate) containment_id: u64,
    #[prost(enumeration = "v1::ContainmentChange", tag = "2")]
    pub(crate) change: i32,
    /// When the change was committed.
    #[prost(fixed64, tag = "3")]
    pub(crate) committed_unix_ns: u64,
    #[prost(message, optional, tag = "4")]
    pub(crate) signal: Option<v1::Signal>,
    /// Another outlet has it, too.
    #[prost(bool, tag = "5")]
    pub(crate) escalated: bool,
    /// The outlet that it came from; empty when it came from none.
    #[prost(string, tag = "6")]
    pub(crate) escalated_from: String,
}

/// A row of [`Table::Servers`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServerRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) registration: Option<v1::RegisterServer>,
    #[prost(fixed64, tag = "2")]
    pub(crate) first_seen_unix_ns: u64,
}

/// A row of [`Table::RuleSets`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RuleSetRow {
    #[prost(string, tag = "1")]
    pub(crate) rules: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digest: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) simulation_digest: Vec<u8>,
    #[prost(fixed64, tag = "4")]
    pub(crate) activated_unix_ns: u64,
}

/// A row of [`Table::Approvals`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ApprovalRow {
    #[prost(string, tag = "1")]
    pub(crate) tenant_id: String,
    #[prost(string, tag = "2")]
    pub(crate) session_id: String,
    #[prost(string, tag = "3")]
    pub(crate) agent_id: String,
    /// The newest entry that asks.
    #[prost(uint64, tag = "4")]
    pub(crate) intent_index: u64,
    /// For whom the agent acts.
    #[prost(message, optional, tag = "5")]
    pub(crate) requester: Option<v1::Principal>,
    #[prost(string, repeated, tag = "6")]
    pub(crate) rules: Vec<String>,
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) action_digest: Vec<u8>,
    /// Unspecified until somebody answers.
    #[prost(enumeration = "v1::Verdict", tag = "8")]
    pub(crate) verdict: i32,
    #[prost(fixed64, tag = "9")]
    pub(crate) expires_unix_ns: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) resolved_index: u64,
    /// The entry that used the approval up.
    #[prost(uint64, optional, tag = "11")]
    pub(crate) used_by: Option<u64>,
    #[prost(fixed64, tag = "12")]
    pub(crate) asked_unix_ns: u64,
    /// The entry that took the approval back.
    #[prost(uint64, optional, tag = "13")]
    pub(crate) withdrawn_by: Option<u64>,
}

/// A row of [`Table::Incidents`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct IncidentRow {
    #[prost(string, tag = "1")]
    pub(crate) title: String,
    #[prost(enumeration = "v1::Severity", tag = "2")]
    pub(crate) severity: i32,
    /// Empty while only containments have named the incident.
    #[prost(message, repeated, tag = "3")]
    pub(crate) steps: Vec<v1::IncidentStep>,
    #[prost(enumeration = "v1::IncidentCause", tag = "4")]
    pub(crate) cause: i32,
    #[prost(uint64, repeated, tag = "5")]
    pub(crate) containments: Vec<u64>,
}

/// A row of [`Table::Holds`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HoldRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) target: Option<v1::Target>,
    #[prost(string, tag = "2")]
    pub(crate) matter: String,
    #[prost(string, tag = "3")]
    pub(crate) authority: String,
    #[prost(uint64, tag = "4")]
    pub(crate) placed_index: u64,
    /// The containment that placed it; 0: by hand.
    #[prost(uint64, tag = "5")]
    pub(crate) containment_id: u64,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) released_by: Option<u64>,
}

/// A row of [`Table::Erasures`] and of [`Table::ErasureLog`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ErasureRow {
    #[prost(string, tag = "1")]
    pub(crate) tenant_id: String,
    #[prost(string, tag = "2")]
    pub(crate) issuer: String,
    #[prost(string, tag = "3")]
    pub(crate) subject: String,
    /// The entry.
    #[prost(uint64, tag = "4")]
    pub(crate) index: u64,
    #[prost(fixed64, tag = "5")]
    pub(crate) at_unix_ns: u64,
}

/// A row of [`Table::Retention`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetentionRow {
    #[prost(string, tag = "1")]
    pub(crate) tenant_id: String,
    #[prost(uint32, tag = "2")]
    pub(crate) days: u32,
    /// The entry.
    #[prost(uint64, tag = "3")]
    pub(crate) set_by: u64,
}

/// A row of [`Table::AwaitedParents`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AwaitedRow {
    #[prost(uint32, tag = "1")]
    pub(crate) height: u32,
}

/// Reads a row as its type.
pub(crate) fn decode<T: Message + Default>(table: Table, key: &[u8], value: &[u8]) -> Result<T, StoreFault> {
    T::decode(value).map_err(|_| StoreFault::Damaged { table, key: key.to_vec() })
}

/// Reads the row under `key` as its type.
pub(crate) fn read<T: Message + Default>(store: &impl Store, table: Table, key: &[u8]) -> Result<Option<T>, StoreFault> {
    store.get(table, key)?.map(|value| decode(table, key, &value)).transpose()
}

/// Joins hashes into one value.
pub(crate) fn join(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Splits a value into hashes; `None` when its length is no multiple of 32.
pub(crate) fn split(bytes: &[u8]) -> Option<Vec<Hash>> {
    let chunks = bytes.chunks_exact(32);
    if !chunks.remainder().is_empty() {
        return None;
    }
    chunks.map(Hash::from_slice).collect()
}
