//! The small key-value contract through which the state machine reads its state, and the change set that it writes.
//!
//! There are two real implementations: RocksDB in the node, and [`MapStore`] for tests, replay and audit.

use std::collections::BTreeMap;

use thiserror::Error;

/// Names one keyspace. Keys sort as bytes; every integer in a key is big-endian, every string is length-prefixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// One row: tree size and frontier, state digest, last committed time, counters.
    Head = 0,
    /// Entry index -> exact entry bytes.
    Entries = 1,
    /// Tile number -> the 256 leaf hashes of a full level-0 tile of the log tree.
    LogTiles = 2,
    /// Level (from 1) and number -> one hash of a higher tile row.
    LogHashes = 3,
    /// Collector, lane, epoch, sequence -> what was signed, and where its events begin.
    Statements = 4,
    /// Collector and lane -> the lane's head.
    Lanes = 5,
    /// Collector, lane and epoch, the newest of them -> nonce of the `OpenLane`, and the answer that it got.
    LaneNonces = 6,
    /// Collector, lane and epoch -> the entry that recorded an equivocation.
    Equivocations = 7,
    /// Collector id -> registration.
    Collectors = 8,
    /// Collector id -> what it used of its quota in the current hour.
    Quotas = 9,
    /// Tenant and agent id -> agent.
    Agents = 10,
    /// Operator id -> key and roles.
    Operators = 11,
    /// Identity, role and tenant -> nothing: the row is the grant.
    Grants = 12,
    /// Node id -> cosigner key.
    Nodes = 13,
    /// Expiry and nonce of a command that was accepted.
    CommandNonces = 14,
    /// Subject and entry index of each command, to find the registrations that vouch for a key.
    Commands = 15,
    /// Tenant and session id -> binding and ordinal.
    Sessions = 16,
    /// Session ordinal -> size, frontier, last entry.
    SessionHeads = 17,
    /// Session ordinal and position -> entry index and leaf.
    SessionLeaves = 18,
    /// Session ordinal and chunk -> root of 1,024 leaves.
    SessionChunks = 19,
    /// Tenant and session id that others named as their parent before it was seen -> height of what hangs below it.
    AwaitedParents = 20,
    /// One row: the newest published checkpoint.
    Checkpoint = 21,
    /// Session ordinal -> credentials and agent instances that the session was seen with.
    SessionUses = 22,
    /// Tenant and session id -> the sessions that said they spawned it.
    Spawns = 23,
    /// What is contained -> the containments that hold it.
    Contained = 24,
    /// Number of a containment -> what it is and what it holds.
    ContainmentCases = 25,
    /// Entry index of each change of what is contained, to find them again.
    ContainmentLog = 26,
    /// Tenant and session id -> what the session did so far, in numbers.
    SessionCounts = 27,
    /// Tenant and session id -> what the session showed of itself: tools, tags, taint, refusals.
    SessionTraits = 28,
    /// Set, owner of the set and member -> who touched it.
    Members = 29,
    /// Tenant and agent id -> what the agent did in the current hour.
    AgentCounts = 30,
    /// Tenant and resource -> whose it is.
    ResourceOwners = 31,
    /// Tenant and credential -> the session it was issued to or first seen in.
    CredentialsSeen = 32,
    /// Tenant and server id -> registration of an MCP server.
    Servers = 33,
    /// Tenant, server and tool -> definitions of the tool.
    ToolDefinitions = 34,
    /// Tenant, store and record -> who wrote a memory last.
    MemoryRecords = 35,
    /// Tenant, session and event id of an intent, and whether it was allowed -> its entry.
    Intents = 36,
    /// Tenant and entry index of an intent that was allowed and has no outcome -> when it was committed.
    Unresolved = 37,
    /// Tenant and purpose id -> what was declared.
    Purposes = 38,
    /// Tenant, session and digest of an action -> who asked, and what was answered.
    Approvals = 39,
    /// Entry index of an activation -> the rule set; the last is the active one.
    RuleSets = 40,
    /// Entry index of an event on which a rule had something to say -> its facts.
    DecisionFacts = 41,
    /// Tenant and incident id -> the stages that it reached.
    Incidents = 42,
    /// Number of a hold -> what must not be erased.
    Holds = 43,
    /// Outlet id -> registration, state, counts.
    Outlets = 44,
    /// Outlet id, entry index of a change and ordinal -> a message that waits to be sent.
    Outbox = 45,
    /// Number of a containment and entry index -> nothing: an event that it covered, or a delivery that tells of it.
    AfterContainment = 46,
    /// Outlet id and entry index -> nothing: a delivery of the outlet.
    Deliveries = 47,
    /// Entry index of a state commitment -> what it committed to; the last is the newest.
    StateCommitments = 48,
    /// One row of this node alone: how far the tables below reach.
    KeyIndex = 49,
    /// Hash of a key -> its count, the frontier of its list, and the indexes of the block that is not full.
    KeyHeads = 50,
    /// Hash of a key and number -> 64 indexes of its list.
    KeyBlocks = 51,
    /// Hash of a key, level (from 1) and number -> root of 64^level leaves of its list.
    KeyHashes = 52,
    /// Depth and first half-bytes of a key's hash -> sixteen places of the map.
    KeyMap = 53,
    /// List, tenant, state and number -> the key of the row that lists find there.
    Listed = 54,
    /// Tenant, what a hold is on, and number of the hold -> nothing.
    HeldTargets = 55,
    /// Tenant, issuer, subject, and what a payload of the subject stands under -> nothing.
    SubjectTies = 56,
    /// Tenant, issuer and subject -> the newest erasure.
    Erasures = 57,
    /// Ordinal of an erasure, from 1 -> the erasure.
    ErasureLog = 58,
    /// Tenant -> how long payloads are kept.
    Retention = 59,
}

impl Table {
    /// Every table, in the order of its number.
    pub const ALL: [Self; 60] = [
        Self::Head,
        Self::Entries,
        Self::LogTiles,
        Self::LogHashes,
        Self::Statements,
        Self::Lanes,
        Self::LaneNonces,
        Self::Equivocations,
        Self::Collectors,
        Self::Quotas,
        Self::Agents,
        Self::Operators,
        Self::Grants,
        Self::Nodes,
        Self::CommandNonces,
        Self::Commands,
        Self::Sessions,
        Self::SessionHeads,
        Self::SessionLeaves,
        Self::SessionChunks,
        Self::AwaitedParents,
        Self::Checkpoint,
        Self::SessionUses,
        Self::Spawns,
        Self::Contained,
        Self::ContainmentCases,
        Self::ContainmentLog,
        Self::SessionCounts,
        Self::SessionTraits,
        Self::Members,
        Self::AgentCounts,
        Self::ResourceOwners,
        Self::CredentialsSeen,
        Self::Servers,
        Self::ToolDefinitions,
        Self::MemoryRecords,
        Self::Intents,
        Self::Unresolved,
        Self::Purposes,
        Self::Approvals,
        Self::RuleSets,
        Self::DecisionFacts,
        Self::Incidents,
        Self::Holds,
        Self::Outlets,
        Self::Outbox,
        Self::AfterContainment,
        Self::Deliveries,
        Self::StateCommitments,
        Self::KeyIndex,
        Self::KeyHeads,
        Self::KeyBlocks,
        Self::KeyHashes,
        Self::KeyMap,
        Self::Listed,
        Self::HeldTargets,
        Self::SubjectTies,
        Self::Erasures,
        Self::ErasureLog,
        Self::Retention,
    ];

    /// The tables that each node makes for itself out of the entries, and believes from nobody else.
    pub const OF_ONE_NODE: [Self; 5] = [Self::KeyIndex, Self::KeyHeads, Self::KeyBlocks, Self::KeyHashes, Self::KeyMap];

    /// Returns the name under which a store keeps the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Entries => "entries",
            Self::LogTiles => "log_tiles",
            Self::LogHashes => "log_hashes",
            Self::Statements => "statements",
            Self::Lanes => "lanes",
            Self::LaneNonces => "lane_nonces",
            Self::Equivocations => "equivocations",
            Self::Collectors => "collectors",
            Self::Quotas => "quotas",
            Self::Agents => "agents",
            Self::Operators => "operators",
            Self::Grants => "grants",
            Self::Nodes => "nodes",
            Self::CommandNonces => "command_nonces",
            Self::Commands => "commands",
            Self::Sessions => "sessions",
            Self::SessionHeads => "session_heads",
            Self::SessionLeaves => "session_leaves",
            Self::SessionChunks => "session_chunks",
            Self::AwaitedParents => "awaited_parents",
            Self::Checkpoint => "checkpoint",
            Self::SessionUses => "session_uses",
            Self::Spawns => "spawns",
            Self::Contained => "contained",
            Self::ContainmentCases => "containment_cases",
            Self::ContainmentLog => "containment_log",
            Self::SessionCounts => "session_counts",
            Self::SessionTraits => "session_traits",
            Self::Members => "members",
            Self::AgentCounts => "agent_counts",
            Self::ResourceOwners => "resource_owners",
            Self::CredentialsSeen => "credentials_seen",
            Self::Servers => "servers",
            Self::ToolDefinitions => "tool_definitions",
            Self::MemoryRecords => "memory_records",
            Self::Intents => "intents",
            Self::Unresolved => "unresolved",
            Self::Purposes => "purposes",
            Self::Approvals => "approvals",
            Self::RuleSets => "rule_sets",
            Self::DecisionFacts => "decision_facts",
            Self::Incidents => "incidents",
            Self::Holds => "holds",
            Self::Outlets => "outlets",
            Self::Outbox => "outbox",
            Self::AfterContainment => "after_containment",
            Self::Deliveries => "deliveries",
            Self::StateCommitments => "state_commitments",
            Self::KeyIndex => "key_index",
            Self::KeyHeads => "key_heads",
            Self::KeyBlocks => "key_blocks",
            Self::KeyHashes => "key_hashes",
            Self::KeyMap => "key_map",
            Self::Listed => "listed",
            Self::HeldTargets => "held_targets",
            Self::SubjectTies => "subject_ties",
            Self::Erasures => "erasures",
            Self::ErasureLog => "erasure_log",
            Self::Retention => "retention",
        }
    }
}

/// A local store that could not answer. It says nothing about the input: the replica that sees it must stop.
#[derive(Debug, Error)]
pub enum StoreFault {
    /// The disk or the database failed.
    #[error("reading table {table} failed: {reason}", table = table.name())]
    Unreadable {
        /// Table that was read.
        table: Table,
        /// What the store said.
        reason: String,
    },
    /// The store holds something else than was written to it.
    #[error("reading table {table} failed: {reason}", table = table.name())]
    Corrupted {
        /// Table that was read.
        table: Table,
        /// What the store said.
        reason: String,
    },
    /// A row is there, but it is not what this ledger writes.
    #[error("table {table} holds a damaged row under key {key:02x?}", table = table.name())]
    Damaged {
        /// Table of the row.
        table: Table,
        /// Its key.
        key: Vec<u8>,
    },
}

/// One row of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Exact key.
    pub key: Vec<u8>,
    /// Exact value.
    pub value: Vec<u8>,
}

/// Which way a scan walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Greatest key first.
    Descending,
}

/// Keys from `from` (included) to `to` (excluded).
#[derive(Clone, Copy, Debug)]
pub struct KeyRange<'a> {
    /// First key.
    pub from: &'a [u8],
    /// First key behind the range.
    pub to: &'a [u8],
}

/// Reads state. An implementation answers from one consistent state: what the last committed [`Changes`] left.
pub trait Store {
    /// Returns the value under `key`.
    ///
    /// # Errors
    /// [`StoreFault`] when the store itself fails; a missing key is `None`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault>;

    /// Returns at most `limit` rows of `range`.
    ///
    /// # Errors
    /// [`StoreFault`] when the store itself fails; an empty range is an empty answer.
    fn scan(&self, table: Table, range: KeyRange<'_>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreFault>;
}

/// One row to write (`Some`) or to remove (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Table of the row.
    pub table: Table,
    /// Exact key.
    pub key: Vec<u8>,
    /// New value, or `None` to remove the row.
    pub value: Option<Vec<u8>>,
}

/// What one apply leaves behind: to be committed as a whole or not at all. No key occurs twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The rows, in no promised order.
    pub rows: Vec<Change>,
}

/// An ordered map in memory.
#[derive(Clone, Debug, Default)]
pub struct MapStore {
    tables: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl MapStore {
    /// Commits `changes` as a whole.
    pub fn commit(&mut self, changes: Changes) {
        for Change { table, key, value } in changes.rows {
            match value {
                Some(value) => self.tables.insert((table, key), value),
                None => self.tables.remove(&(table, key)),
            };
        }
    }
}

impl Store for MapStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        Ok(self.tables.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreFault> {
        if range.from >= range.to {
            return Ok(Vec::new());
        }
        let rows = self.tables.range((table, range.from.to_vec())..(table, range.to.to_vec()));
        let row = |((_, key), value): (&(Table, Vec<u8>), &Vec<u8>)| Row { key: key.clone(), value: value.clone() };
        Ok(match direction {
            Direction::Ascending => rows.map(row).take(limit).collect(),
            Direction::Descending => rows.rev().map(row).take(limit).collect(),
        })
    }
}
