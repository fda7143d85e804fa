//! The rows that facts are computed from.

use proofline_proto::v1;
use prost::Message;

use crate::ids::EntryIndex;
use crate::key::RowKey;
use crate::limits::{ID_BYTES_MAX, SESSION_LIST_MAX};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// A row of [`Table::SessionCounts`]: what nearly every event of a session changes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionCounts {
    #[prost(uint64, tag = "1")]
    pub(crate) calls: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) resources: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) systems: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) records: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) bytes_read: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) bytes_out: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) amount: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) tokens: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) denied: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) failed: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) writes: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) deletes: u64,
    #[prost(uint64, tag = "13")]
    pub(crate) credentials: u64,
    #[prost(uint64, tag = "14")]
    pub(crate) scopes: u64,
    #[prost(uint64, tag = "15")]
    pub(crate) spawned: u64,
    #[prost(uint64, tag = "16")]
    pub(crate) classification: u64,
    #[prost(uint64, tag = "17")]
    pub(crate) egress: u64,
    #[prost(uint64, tag = "18")]
    pub(crate) turn_calls: u64,
    #[prost(uint64, tag = "19")]
    pub(crate) turn_writes: u64,
    #[prost(uint64, tag = "20")]
    pub(crate) reach_resources: u64,
    #[prost(uint64, tag = "21")]
    pub(crate) reach_systems: u64,
    #[prost(bool, tag = "22")]
    pub(crate) overflow: bool,
    /// Money that was asked for and allowed.
    #[prost(uint64, tag = "25")]
    pub(crate) asked: u64,
    /// Which turn it is, from 0.
    #[prost(uint64, tag = "23")]
    pub(crate) turn: u64,
    #[prost(uint64, tag = "24")]
    pub(crate) writes_failed: u64,
}

/// A row of [`Table::SessionTraits`]: what few events of a session change.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionTraits {
    /// The session above: the declared parent, or the session that spawned this one.
    #[prost(string, tag = "1")]
    pub(crate) above: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) tools: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) servers: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) tags: Vec<String>,
    /// The first owner whose data the session touched.
    #[prost(string, tag = "5")]
    pub(crate) owner: String,
    #[prost(bool, tag = "6")]
    pub(crate) tainted: bool,
    #[prost(fixed64, tag = "7")]
    pub(crate) stepped_up_unix_ns: u64,
    #[prost(string, tag = "8")]
    pub(crate) step_up_acr: String,
    #[prost(message, repeated, tag = "9")]
    pub(crate) refusals: Vec<RefusedTool>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) reads: Vec<SystemReads>,
    /// The first purpose that the session named.
    #[prost(string, tag = "11")]
    pub(crate) purpose: String,
}

/// How many distinct resources of a system a session read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SystemReads {
    #[prost(string, tag = "1")]
    pub(crate) system: String,
    #[prost(uint64, tag = "2")]
    pub(crate) resources: u64,
}

/// How often a tool was refused on a resource.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RefusedTool {
    #[prost(string, tag = "1")]
    pub(crate) tool: String,
    #[prost(string, tag = "2")]
    pub(crate) resource: String,
    #[prost(uint64, tag = "3")]
    pub(crate) times: u64,
    /// By a verdict of the ledger.
    #[prost(bool, tag = "4")]
    pub(crate) denied: bool,
    /// How often of these it was tried and failed.
    #[prost(uint64, tag = "5")]
    pub(crate) failures: u64,
}

/// A row of [`Table::AgentCounts`]: what an agent did in one hour, over all sessions, and how large its sets are.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AgentCounts {
    #[prost(uint64, tag = "1")]
    pub(crate) hour: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) calls: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) tokens: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) denied: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) new_tools: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) new_resources: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) new_credentials: u64,
    /// Of all time: rows of the agent in the sets.
    #[prost(uint64, tag = "8")]
    pub(crate) seen: u64,
}

/// A row of [`Table::CredentialsSeen`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CredentialRow {
    /// The session that it was issued to, or first seen in.
    #[prost(string, tag = "1")]
    pub(crate) session: String,
    #[prost(fixed64, tag = "2")]
    pub(crate) first_seen_unix_ns: u64,
}

/// A row of [`Table::ToolDefinitions`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ToolRow {
    /// The definition that was seen first.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) first: Vec<u8>,
    /// The newest.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) newest: Vec<u8>,
    #[prost(fixed64, tag = "3")]
    pub(crate) newest_unix_ns: u64,
    #[prost(string, tag = "4")]
    pub(crate) server: String,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    /// Those that operators called good: while there are any, the first is good only when it is among them.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(crate) pinned: Vec<Vec<u8>>,
}

/// A row of [`Table::MemoryRecords`]: who wrote a record last.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemoryRow {
    #[prost(string, tag = "1")]
    pub(crate) agent: String,
    #[prost(bool, tag = "2")]
    pub(crate) tainted: bool,
}

/// What is known of the intent of an outcome, from its entry.
#[derive(Clone, Debug)]
pub(crate) struct Intended {
    pub(crate) index: EntryIndex,
    pub(crate) verdict: v1::Verdict,
    pub(crate) action: v1::ActionIntent,
}

impl SessionTraits {
    /// Counts the first read of a resource of a system, and tells whether there was room to.
    pub(crate) fn count_read(&mut self, system: &str) -> bool {
        if let Some(known) = self.reads.iter_mut().find(|it| it.system == system) {
            known.resources = known.resources.saturating_add(1);
        } else if self.reads.len() < SESSION_LIST_MAX && system.len() <= ID_BYTES_MAX {
            self.reads.push(SystemReads { system: system.to_owned(), resources: 1 });
        } else {
            return false;
        }
        true
    }
}

/// A row that may be missing, and is written only when it changed.
#[derive(Debug)]
pub(crate) struct Held<T> {
    table: Table,
    key: RowKey,
    pub(crate) now: T,
}

impl<T: Message + Default> Held<T> {
    pub(crate) fn read<S: Store>(writes: &Writes<'_, S>, table: Table, key: RowKey) -> Result<Self, StoreFault> {
        let now = writes.read(table, &key)?.unwrap_or_default();
        Ok(Self { table, key, now })
    }

    pub(crate) fn write<S: Store>(self, writes: &mut Writes<'_, S>) -> Result<(), StoreFault> {
        let now = self.now.encode_to_vec();
        // A row that is missing reads like one of nothing but defaults.
        if writes.look(self.table, &self.key, |before| Ok(before.unwrap_or_default() != now))? {
            writes.put_bytes(self.table, self.key, now);
        }
        Ok(())
    }
}
