//! What lists find their rows by: for each tenant the numbers of what is open, and of what is closed, in their order.
//!
//! Always true: a row that is listed stands in exactly one place, and a page reads no more places than it answers with, from
//! each range that it looks at. No decision reads a place: the entries alone determine them.

use crate::key::{self, RowKey};
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};
use crate::writes::Writes;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum List {
    /// Requests for an approval, by the intent that asks; a place holds the key of its row.
    Approvals = 1,
    /// Holds, by their number.
    Holds = 2,
    /// Containments, by their number, under the tenant of what was asked for.
    Containments = 3,
    /// The same once more, for who looks over all tenants.
    ContainmentsOfAll = 4,
}

/// What of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What still waits, or still holds.
    Open,
    /// What was answered or released, too.
    Everything,
}

/// How a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Open = 0,
    Closed = 1,
}

/// Where a row is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) list: List,
    pub(crate) tenant: &'a str,
    pub(crate) state: State,
    pub(crate) number: u64,
}

impl Place<'_> {
    fn range(&self) -> RowKey {
        let mut key = RowKey::new();
        key.push(self.list as u8);
        key::push_text(&mut key, self.tenant);
        key.push(self.state as u8);
        key
    }

    fn key(&self) -> RowKey {
        let mut key = self.range();
        key.extend_from_slice(&self.number.to_be_bytes());
        key
    }

    /// Lists a row here.
    pub(crate) fn enter<S: Store>(&self, writes: &mut Writes<'_, S>, row_key: &[u8]) {
        writes.keep(Table::Listed, self.key(), row_key.to_vec());
    }

    /// Lists it here no longer.
    pub(crate) fn leave<S: Store>(&self, writes: &mut Writes<'_, S>) {
        writes.forget(Table::Listed, self.key());
    }
}

/// Returns the numbers behind `after` of what some tenants have in a list, in their order, at most `limit`, each with what its
/// place holds.
pub(crate) fn page(
    store: &impl Store,
    list: List,
    tenants: &[&str],
    wanted: Wanted,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, StoreFault> {
    let states: &[State] = match wanted {
        Wanted::Open => &[State::Open],
        Wanted::Everything => &[State::Open, State::Closed],
    };
    let mut found = Vec::new();
    for tenant in tenants.iter().copied() {
        for state in states.iter().copied() {
            let from = Place { list, tenant, state, number: after.saturating_add(1) };
            let range = KeyRange { from: &from.key(), to: &key::behind(&from.range()) };
            for row in store.scan(Table::Listed, range, Direction::Ascending, limit)? {
                let number = row.key.last_chunk().map(|number| u64::from_be_bytes(*number));
                let damaged = || StoreFault::Damaged { table: Table::Listed, key: row.key.clone() };
                found.push((number.ok_or_else(damaged)?, row.value));
            }
        }
    }
    found.sort_unstable();
    found.truncate(limit);
    Ok(found)
}
