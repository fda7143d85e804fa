//! Reads outlets, their outboxes and what followed a containment, page by page.

use proofline_proto::v1;

use crate::entry;
use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::limits::OUTLETS_MAX;
use crate::outbox::{escalation_due, message_id};
use crate::row::{self, CaseRow, OutboxRow, OutletRow, decode};
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};

/// An outlet and how it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct OutletAt {
    /// Its registration.
    pub outlet: v1::Outlet,
    /// Whether it is sent to.
    pub state: v1::OutletState,
    /// The entry that put it into that state.
    pub state_by: EntryIndex,
    /// Since when it is sent to, or was.
    pub active_since: UnixNanos,
    /// Messages that wait.
    pub pending: u64,
    /// Messages that found no room.
    pub dropped: u64,
    /// Changes about a subject that it cannot name.
    pub not_addressable: u64,
    /// Its newest delivery.
    pub last: Option<EntryIndex>,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Its id, for ever the same.
    pub jti: String,
    /// The change that it is about.
    pub entry: EntryIndex,
    /// Its place among the messages about that change.
    pub ordinal: u32,
    /// Number of the containment.
    pub containment: u64,
    /// When the change was committed.
    pub committed: UnixNanos,
    /// What it says beside the change.
    pub signal: v1::Signal,
    /// Another outlet has it, too.
    pub is_escalated: bool,
    /// The outlet that it came from, empty when it came from none.
    pub escalated_from: String,
    /// When it goes on to another outlet, unless it is acknowledged before.
    pub escalates_at: Option<UnixNanos>,
}

/// Returns every outlet, in the order of their ids' keys.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn all(store: &impl Store) -> Result<Vec<OutletAt>, StoreFault> {
    let range = KeyRange { from: &[], to: &key::behind(&[]) };
    let rows = store.scan(Table::Outlets, range, Direction::Ascending, 2 * OUTLETS_MAX)?;
    rows.iter().map(|row| decode::<OutletRow>(Table::Outlets, &row.key, &row.value).map(standing)).collect()
}

fn standing(row: OutletRow) -> OutletAt {
    OutletAt {
        state: row.state(),
        state_by: EntryIndex(row.state_by),
        active_since: UnixNanos(row.active_since_unix_ns),
        pending: row.pending,
        dropped: row.dropped,
        not_addressable: row.not_addressable,
        last: Some(EntryIndex(row.last_index)).filter(|index| index.0 > 0),
        outlet: row.outlet.unwrap_or_default(),
    }
}

/// Returns messages that wait for an outlet, at most `limit` of them: the oldest first, or the newest.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn waiting(
    store: &impl Store,
    origin: &str,
    outlet: &v1::Outlet,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Waiting>, StoreFault> {
    let prefix = key::text(&outlet.outlet_id);
    let range = KeyRange { from: &prefix, to: &key::behind(&prefix) };
    let rows = store.scan(Table::Outbox, range, direction, limit)?;
    rows.iter()
        .map(|row| {
            let waiting: OutboxRow = decode(Table::Outbox, &row.key, &row.value)?;
            let damaged = || StoreFault::Damaged { table: Table::Outbox, key: row.key.clone() };
            let (entry, ordinal) = key::outbox_place(&row.key).ok_or_else(damaged)?;
            Ok(Waiting {
                jti: message_id(origin, entry, &outlet.outlet_id, ordinal),
                entry,
                ordinal,
                containment: waiting.containment_id,
                committed: UnixNanos(waiting.committed_unix_ns),
                escalates_at: escalation_due(outlet, &waiting),
                signal: waiting.signal.unwrap_or_default(),
                is_escalated: waiting.escalated,
                escalated_from: waiting.escalated_from,
            })
        })
        .collect()
}

/// Returns the entries that record deliveries of an outlet, behind `after`, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn deliveries_of_outlet(store: &impl Store, outlet: &str, after: EntryIndex, limit: usize) -> Result<Vec<EntryIndex>, StoreFault> {
    let prefix = key::text(outlet);
    let from = key::delivery(outlet, EntryIndex(after.0.saturating_add(1)));
    indexes(store, Table::Deliveries, KeyRange { from: &from, to: &key::behind(&prefix) }, limit)
}

/// Returns the entries of what followed a containment, behind `after`: events that it covered, and deliveries.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn after_containment(store: &impl Store, id: u64, after: EntryIndex, limit: usize) -> Result<Vec<EntryIndex>, StoreFault> {
    let from = key::after_containment(id, EntryIndex(after.0.saturating_add(1)));
    indexes(store, Table::AfterContainment, KeyRange { from: &from, to: &key::behind(&id.to_be_bytes()) }, limit)
}

fn indexes(store: &impl Store, table: Table, range: KeyRange<'_>, limit: usize) -> Result<Vec<EntryIndex>, StoreFault> {
    let rows = store.scan(table, range, Direction::Ascending, limit)?.into_iter();
    let index = |key: Vec<u8>| match key.last_chunk() {
        Some(index) => Ok(EntryIndex(u64::from_be_bytes(*index))),
        None => Err(StoreFault::Damaged { table, key }),
    };
    rows.map(|row| index(row.key)).collect()
}

/// Returns one containment by its number.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn containment(store: &impl Store, id: u64) -> Result<Option<v1::ContainmentSummary>, StoreFault> {
    Ok(row::read::<CaseRow>(store, Table::ContainmentCases, &id.to_be_bytes())?.map(|case| case.summary(id)))
}

/// Returns the core of an entry.
///
/// # Errors
/// [`StoreFault`] when the store fails, or the entry cannot be read.
pub fn core(store: &impl Store, index: EntryIndex) -> Result<Option<v1::EntryCore>, StoreFault> {
    let Some(exact) = store.get(Table::Entries, &key::entry(index))? else { return Ok(None) };
    let damaged = || StoreFault::Damaged { table: Table::Entries, key: key::entry(index).to_vec() };
    entry::parse(&exact).map(|(_, core)| Some(core)).ok_or_else(damaged)
}
