//! Reads the registry page by page: sessions, agents, collectors, roles, and the commands that vouch for keys.

mod deciding;

use proofline_proto::v1;

use crate::containment::ContainmentEntry;
use crate::entry;
use crate::frontier::Frontier;
use crate::hash::{Hash, LogHash};
use crate::ids::{EntryIndex, Lane, TreeSize, UnixNanos};
use crate::key::{self, RowKey};
use crate::limits::LOOKED_AT_MAX;
use crate::lists::{self, List, Wanted};
use crate::row::{self, AgentRow, CaseRow, CollectorRow, HeadRow, LaneRow, SessionRow, decode};
use crate::session_proof::{SessionAt, covered};
use crate::store::{Direction, KeyRange, Row, Store, StoreFault, Table};

pub use deciding::{UnresolvedPage, UnresolvedQuery, approvals, facts, holds, incidents, purposes, rule_sets, servers, tools, unresolved};

/// Entries that are read before their bytes are counted.
const ENTRIES_AT_ONCE: usize = 16;

/// Returns the name of the log, empty before genesis.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn origin(store: &impl Store) -> Result<String, StoreFault> {
    Ok(row::read::<HeadRow>(store, Table::Head, key::SINGLE)?.unwrap_or_default().origin)
}

/// What a state says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Entries in the log.
    pub size: TreeSize,
    /// Root of the log tree over them.
    pub root: Hash,
    /// Running hash over each entry's writes.
    pub state_digest: Hash,
}

/// Returns size, root and digest: one row, however long the log is.
///
/// # Errors
/// [`StoreFault`] when the store fails or the row is damaged.
pub fn head(store: &impl Store) -> Result<Head, StoreFault> {
    let head: HeadRow = row::read(store, Table::Head, key::SINGLE)?.unwrap_or_default();
    let damaged = || StoreFault::Damaged { table: Table::Head, key: Vec::new() };
    let peaks = row::split(&head.peaks).ok_or_else(damaged)?;
    let tree = Frontier::<LogHash>::restore(head.size, peaks).ok_or_else(damaged)?;
    let state_digest = Hash::from_slice(&head.state_digest).unwrap_or_default();
    Ok(Head { size: TreeSize(head.size), root: tree.root(), state_digest })
}

/// Returns one entry's exact bytes.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn entry(store: &impl Store, index: EntryIndex) -> Result<Option<Vec<u8>>, StoreFault> {
    store.get(Table::Entries, &key::entry(index))
}

/// Returns when an entry was committed; `None` when it is not there.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn committed(store: &impl Store, index: EntryIndex) -> Result<Option<UnixNanos>, StoreFault> {
    let entry = entry(store, index)?;
    Ok(entry.as_deref().and_then(entry::parse).map(|(_, core)| UnixNanos(core.committed_unix_ns)))
}

/// Returns the committed time of the newest entry.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn last_committed(store: &impl Store) -> Result<UnixNanos, StoreFault> {
    Ok(UnixNanos(row::read::<HeadRow>(store, Table::Head, key::SINGLE)?.unwrap_or_default().last_unix_ns))
}

/// Returns the exact bytes of the entries `from..to`, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn entries(store: &impl Store, from: EntryIndex, to: EntryIndex, limit: usize) -> Result<Vec<Vec<u8>>, StoreFault> {
    let range = KeyRange { from: &key::entry(from), to: &key::entry(to) };
    let rows = store.scan(Table::Entries, range, Direction::Ascending, limit)?;
    Ok(rows.into_iter().map(|row| row.value).collect())
}

/// Returns the exact bytes of entries from `from` on and before `to`: as many as come to `bytes`, the last one whole, and at
/// most `limit`. Reads little more than it returns, however large the entries are.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn entries_within(
    store: &impl Store,
    from: EntryIndex,
    to: EntryIndex,
    limit: usize,
    bytes: usize,
) -> Result<Vec<Vec<u8>>, StoreFault> {
    let (mut found, mut found_bytes, mut next) = (Vec::new(), 0, from);
    while found.len() < limit && found_bytes < bytes && next < to {
        let step = entries(store, next, to, ENTRIES_AT_ONCE.min(limit - found.len()))?;
        if step.is_empty() {
            break;
        }
        next = EntryIndex(next.0 + step.len() as u64);
        for entry in step {
            if found_bytes < bytes {
                found_bytes += entry.len();
                found.push(entry);
            }
        }
    }
    Ok(found)
}

/// Returns the newest published checkpoint.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn checkpoint(store: &impl Store) -> Result<Option<Vec<u8>>, StoreFault> {
    store.get(Table::Checkpoint, key::SINGLE)
}

/// Returns the head of a lane; epoch 0 when it was never opened.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn collector_head(store: &impl Store, collector: &str, lane: Lane) -> Result<v1::GetCollectorHeadResponse, StoreFault> {
    let row: LaneRow = row::read(store, Table::Lanes, &key::lane(collector, lane))?.unwrap_or_default();
    Ok(v1::GetCollectorHeadResponse { epoch: row.epoch, last: row.last, closed: row.closed })
}

/// Returns a collector's registration.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn collector(store: &impl Store, id: &str) -> Result<Option<v1::CollectorSummary>, StoreFault> {
    Ok(row::read::<CollectorRow>(store, Table::Collectors, &key::text(id))?.map(collector_summary))
}

fn collector_summary(row: CollectorRow) -> v1::CollectorSummary {
    v1::CollectorSummary { registration: row.registration, valid_from_index: row.valid_from, revoked_at_index: row.revoked_at.unwrap_or(0) }
}

/// Lists collectors whose key stands behind that of `after`.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn collectors(store: &impl Store, after: &str, limit: usize) -> Result<Vec<v1::CollectorSummary>, StoreFault> {
    let from = if after.is_empty() { RowKey::new() } else { next_key(key::text(after)) };
    let rows = store.scan(Table::Collectors, KeyRange { from: &from, to: &key::behind(&[]) }, Direction::Ascending, limit)?;
    rows.iter().map(|row| decode(Table::Collectors, &row.key, &row.value).map(collector_summary)).collect()
}

/// Lists the agents of a tenant in one state, or in any when `state` is unspecified, and says behind which the next page begins.
/// Looks at no more than [`LOOKED_AT_MAX`] of them: a page may be short, or empty, and not be the last.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn agents(
    store: &impl Store,
    tenant: &str,
    state: v1::AgentState,
    after: &str,
    limit: usize,
) -> Result<(Vec<v1::AgentSummary>, String), StoreFault> {
    let mut found = Vec::new();
    let range = KeyRange { from: &page_start(tenant, after), to: &key::behind(&key::text(tenant)) };
    let in_any = state == v1::AgentState::Unspecified;
    let looked_at = if in_any { limit } else { LOOKED_AT_MAX };
    let rows = store.scan(Table::Agents, range, Direction::Ascending, looked_at)?;
    for row in &rows {
        let agent = agent_summary(tenant, row)?;
        if in_any || agent.state() == state {
            found.push(agent);
        }
        if found.len() >= limit {
            return Ok((found, scoped_id(tenant, row)));
        }
    }
    let next = rows.last().filter(|_| rows.len() >= looked_at).map_or_else(String::new, |row| scoped_id(tenant, row));
    Ok((found, next))
}

fn agent_summary(tenant: &str, row: &Row) -> Result<v1::AgentSummary, StoreFault> {
    let agent: AgentRow = decode(Table::Agents, &row.key, &row.value)?;
    let owners = agent.registration.unwrap_or_default();
    Ok(v1::AgentSummary {
        tenant_id: tenant.to_owned(),
        agent_id: scoped_id(tenant, row),
        state: agent.state,
        first_seen_index: agent.first_seen_index,
        first_seen_unix_ns: agent.first_seen_unix_ns,
        business_owner: owners.business_owner,
        technical_owner: owners.technical_owner,
        revocation_paths: owners.revocation_paths,
        deployment: owners.deployment,
    })
}

/// Lists the sessions of a tenant as of `size`, in the order of their keys.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn sessions(store: &impl Store, tenant: &str, after: &str, limit: usize, size: TreeSize) -> Result<Vec<SessionAt>, StoreFault> {
    let behind = key::behind(&key::text(tenant));
    let mut from = page_start(tenant, after);
    let mut found = Vec::new();
    while found.len() < limit {
        let range = KeyRange { from: &from, to: &behind };
        let rows = store.scan(Table::Sessions, range, Direction::Ascending, limit - found.len())?;
        let Some(last) = rows.last() else { break };
        from = next_key(RowKey::from_slice(&last.key));
        for row in &rows {
            let binding: SessionRow = decode(Table::Sessions, &row.key, &row.value)?;
            // Sessions that the size does not cover yet do not shorten the page.
            found.extend(covered(store, binding, tenant, &scoped_id(tenant, row), size)?);
        }
    }
    Ok(found)
}

/// Tells whether an identity holds a role for a tenant, or for all of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn holds_role(store: &impl Store, spiffe_id: &str, role: v1::Role, tenant: &str) -> Result<Held, StoreFault> {
    for scope in [tenant, "*"] {
        if store.get(Table::Grants, &key::grant(spiffe_id, role.into(), scope))?.is_some() {
            return Ok(Held::Yes);
        }
    }
    Ok(Held::No)
}

/// Whether a role is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Returns the indexes of the entries that vouch for the keys of a collector: genesis, then commands on operators, nodes
/// and the collector itself, below `size`.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn registrations(store: &impl Store, collector: &str, size: TreeSize) -> Result<Vec<EntryIndex>, StoreFault> {
    let mut found = std::collections::BTreeSet::from([EntryIndex(0)]);
    for subject in ["operator".to_owned(), "node".to_owned(), format!("collector/{collector}")] {
        let prefix = key::text(&subject);
        let range = KeyRange { from: &prefix, to: &key::behind(&prefix) };
        for row in store.scan(Table::Commands, range, Direction::Ascending, usize::MAX)? {
            found.extend(row.key.last_chunk().map(|index| EntryIndex(u64::from_be_bytes(*index))).filter(|index| index.0 < size.0));
        }
    }
    Ok(found.into_iter().collect())
}

/// Returns the indexes of every command that changed who may sign: collectors, operators and nodes, in log order.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn registry_commands(store: &impl Store) -> Result<Vec<EntryIndex>, StoreFault> {
    let range = KeyRange { from: &[], to: &key::behind(&[]) };
    let rows = store.scan(Table::Commands, range, Direction::Ascending, usize::MAX)?;
    let mut found: Vec<EntryIndex> =
        rows.iter().filter_map(|row| row.key.last_chunk()).map(|index| EntryIndex(u64::from_be_bytes(*index))).collect();
    found.sort_unstable();
    Ok(found)
}

fn page_start(tenant: &str, after: &str) -> RowKey {
    if after.is_empty() { key::text(tenant) } else { next_key(key::scoped(tenant, after)) }
}

fn next_key(mut key: RowKey) -> RowKey {
    key.push(0);
    key
}

fn scoped_id(tenant: &str, row: &Row) -> String {
    let id = row.key.get(tenant.len() + 4..).unwrap_or_default();
    String::from_utf8_lossy(id).into_owned()
}

/// Returns the changes of what is contained in the entries `from..to`, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn containment_changes(
    store: &impl Store,
    from: EntryIndex,
    to: EntryIndex,
    limit: usize,
) -> Result<Vec<ContainmentEntry>, StoreFault> {
    let range = KeyRange { from: &key::entry(from), to: &key::entry(to) };
    let rows = store.scan(Table::ContainmentLog, range, Direction::Ascending, limit)?;
    rows.into_iter().map(|row| containment_change(store, row.key)).collect()
}

fn containment_change(store: &impl Store, key: Vec<u8>) -> Result<ContainmentEntry, StoreFault> {
    let core = store.get(Table::Entries, &key)?.and_then(|entry| entry::parse(&entry)).map(|(_, core)| core);
    match core.map(|core| (core.index, core.committed_unix_ns, core.body)) {
        Some((index, committed, Some(v1::entry_core::Body::Containment(containment)))) => {
            Ok(ContainmentEntry { index: EntryIndex(index), committed: UnixNanos(committed), containment })
        }
        Some(_) | None => Err(StoreFault::Damaged { table: Table::ContainmentLog, key }),
    }
}

/// Returns containments of a tenant, and those of everybody, by their number, from behind `after` on, at most `limit` of them;
/// with the tenant `*`, all there are.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn containments(
    store: &impl Store,
    tenant: &str,
    wanted: Wanted,
    after: u64,
    limit: usize,
) -> Result<Vec<v1::ContainmentSummary>, StoreFault> {
    let found = match tenant {
        "*" => lists::page(store, List::ContainmentsOfAll, &["*"], wanted, after, limit)?,
        _ => lists::page(store, List::Containments, &["*", tenant], wanted, after, limit)?,
    };
    found.into_iter().map(|(id, _)| containment(store, id)).collect()
}

fn containment(store: &impl Store, id: u64) -> Result<v1::ContainmentSummary, StoreFault> {
    let damaged = || StoreFault::Damaged { table: Table::ContainmentCases, key: id.to_be_bytes().to_vec() };
    let case: CaseRow = row::read(store, Table::ContainmentCases, &id.to_be_bytes())?.ok_or_else(damaged)?;
    Ok(case.summary(id))
}
