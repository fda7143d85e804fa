//! Reads what stands around decisions: facts, rule sets, approvals, intents without an outcome, servers, tools, holds.

use proofline_proto::v1;
use prost::Message as _;

use super::{next_key, page_start, scoped_id};
use crate::entry;
use crate::facts::{ToolRow, sets};
use crate::ids::{EntryIndex, UnixNanos};
use crate::key::{self, RowKey};
use crate::limits::TENANTS_SKIPPED_MAX;
use crate::lists::{self, List, Wanted};
use crate::row::{self, ApprovalRow, HoldRow, IncidentRow, RuleSetRow, ServerRow, decode};
use crate::store::{Direction, KeyRange, Row, Store, StoreFault, Table};

/// Returns the facts of an event on which a rule had something to say.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn facts(store: &impl Store, index: EntryIndex) -> Result<Option<v1::Facts>, StoreFault> {
    let key = key::entry(index);
    store.get(Table::DecisionFacts, &key)?.map(|exact| decode(Table::DecisionFacts, &key, &exact)).transpose()
}

/// Returns the rule sets that were ever put in force, the newest first, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn rule_sets(store: &impl Store, limit: usize) -> Result<Vec<(v1::RuleSetSummary, String)>, StoreFault> {
    let range = KeyRange { from: &[], to: &key::behind(&[]) };
    let rows = store.scan(Table::RuleSets, range, Direction::Descending, limit)?;
    rows.into_iter()
        .map(|row| {
            let set: RuleSetRow = decode(Table::RuleSets, &row.key, &row.value)?;
            let index = row.key.as_slice().try_into().map(u64::from_be_bytes);
            let activated_index = index.map_err(|_| StoreFault::Damaged { table: Table::RuleSets, key: row.key.clone() })?;
            let summary = v1::RuleSetSummary {
                activated_index,
                activated_unix_ns: set.activated_unix_ns,
                digest: set.digest,
                simulation_digest: set.simulation_digest,
            };
            Ok((summary, set.rules))
        })
        .collect()
}

/// Returns what asks, or asked, for an approval in a tenant, from behind the intent `after` on, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn approvals(
    store: &impl Store,
    tenant: &str,
    wanted: Wanted,
    after: EntryIndex,
    limit: usize,
) -> Result<Vec<v1::Approval>, StoreFault> {
    let found = lists::page(store, List::Approvals, &[tenant], wanted, after.0, limit)?;
    let approval = |(_, key): (u64, Vec<u8>)| match store.get(Table::Approvals, &key)? {
        Some(row) => Ok(decode::<ApprovalRow>(Table::Approvals, &key, &row)?.summary()),
        None => Err(StoreFault::Damaged { table: Table::Listed, key }),
    };
    found.into_iter().map(approval).collect()
}

/// Which unresolved intents are asked for.
#[derive(Clone, Debug)]
pub struct UnresolvedQuery<'a> {
    /// Whose; `None`: everybody's, one tenant after the other.
    pub tenant: Option<&'a str>,
    /// Where the page before ended.
    pub after: Option<(&'a str, EntryIndex)>,
    /// Only what was committed before.
    pub before: Option<UnixNanos>,
    /// At most so many.
    pub limit: usize,
}

/// A page of unresolved intents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnresolvedPage {
    /// In log order for each tenant.
    pub intents: Vec<v1::UnresolvedIntent>,
    /// Where the next page goes on; `None`: this was the last.
    pub next: Option<(String, EntryIndex)>,
}

/// Returns intents that were allowed and have no outcome. Reads the entries of what it answers with, and no others; of every
/// tenant it skips at most [`TENANTS_SKIPPED_MAX`] that have nothing old enough, and then says where to go on.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn unresolved(store: &impl Store, asked: &UnresolvedQuery<'_>) -> Result<UnresolvedPage, StoreFault> {
    let everybody = (RowKey::new(), key::behind(&[]));
    let (first, end) = asked.tenant.map_or(everybody, |tenant| (key::text(tenant), key::behind(&key::text(tenant))));
    let mut from = asked.after.map_or(first, |(tenant, index)| next_key(sets::unresolved(tenant, index)));
    let mut page = UnresolvedPage::default();
    for _ in 0..TENANTS_SKIPPED_MAX {
        let room = asked.limit - page.intents.len();
        let rows = store.scan(Table::Unresolved, KeyRange { from: &from, to: &end }, Direction::Ascending, room)?;
        let mut young = None;
        for row in rows {
            let (tenant, index, committed) = unresolved_row(&row)?;
            if asked.before.is_some_and(|before| committed >= before) {
                // Committed times never fall: what this tenant has behind it is younger still.
                young = Some(tenant.to_owned());
                break;
            }
            page.next = Some((tenant.to_owned(), index));
            page.intents.push(unresolved_intent(store, index)?);
        }
        match young.filter(|_| asked.tenant.is_none()) {
            Some(tenant) => {
                from = key::behind(&key::text(&tenant));
                page.next = Some((tenant, EntryIndex(u64::MAX)));
            }
            None if page.intents.len() < asked.limit => return Ok(UnresolvedPage { next: None, ..page }),
            None => return Ok(page),
        }
    }
    Ok(page)
}

fn unresolved_row(row: &Row) -> Result<(&str, EntryIndex, UnixNanos), StoreFault> {
    let place = sets::unresolved_place(&row.key);
    let committed = row.value.as_slice().try_into().ok().map(u64::from_be_bytes);
    let read = place.zip(committed).map(|((tenant, index), committed)| (tenant, index, UnixNanos(committed)));
    read.ok_or_else(|| StoreFault::Damaged { table: Table::Unresolved, key: row.key.clone() })
}

fn unresolved_intent(store: &impl Store, index: EntryIndex) -> Result<v1::UnresolvedIntent, StoreFault> {
    let key = key::entry(index);
    let damaged = || StoreFault::Damaged { table: Table::Entries, key: key.to_vec() };
    let (_, core) = store.get(Table::Entries, &key)?.and_then(|exact| entry::parse(&exact)).ok_or_else(damaged)?;
    let Some(v1::entry_core::Body::Event(recorded)) = core.body else { return Err(damaged()) };
    let event = v1::Event::decode(recorded.event).map_err(|_| damaged())?;
    let tool = match &event.body {
        Some(v1::event::Body::ActionIntent(intent)) => intent.tool.as_ref().map(|tool| tool.name.clone()).unwrap_or_default(),
        _ => String::new(),
    };
    let agent = event.attribution.and_then(|it| it.agent).map(|agent| agent.agent_id);
    Ok(v1::UnresolvedIntent {
        index: core.index,
        committed_unix_ns: core.committed_unix_ns,
        tenant_id: event.tenant_id,
        session_id: event.session.map(|it| it.session_id).unwrap_or_default(),
        agent_id: agent.unwrap_or_default(),
        tool,
        event_id: event.event_id,
    })
}

/// Returns the MCP servers of a tenant, registered or only seen, from behind `after` on, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn servers(store: &impl Store, tenant: &str, after: &str, limit: usize) -> Result<Vec<v1::ServerSummary>, StoreFault> {
    let range = KeyRange { from: &page_start(tenant, after), to: &key::behind(&key::text(tenant)) };
    let rows = store.scan(Table::Servers, range, Direction::Ascending, limit)?;
    rows.iter()
        .map(|row| {
            let server: ServerRow = decode(Table::Servers, &row.key, &row.value)?;
            Ok(v1::ServerSummary {
                server_id: scoped_id(tenant, row),
                registration: server.registration,
                first_seen_unix_ns: server.first_seen_unix_ns,
            })
        })
        .collect()
}

/// Returns the purposes that a tenant declared, from behind `after` on, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn purposes(store: &impl Store, tenant: &str, after: &str, limit: usize) -> Result<Vec<v1::DeclarePurpose>, StoreFault> {
    let range = KeyRange { from: &page_start(tenant, after), to: &key::behind(&key::text(tenant)) };
    let rows = store.scan(Table::Purposes, range, Direction::Ascending, limit)?;
    rows.iter().map(|row| decode(Table::Purposes, &row.key, &row.value)).collect()
}

/// Returns the incidents of a tenant, from behind `after` on, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn incidents(store: &impl Store, tenant: &str, after: &str, limit: usize) -> Result<Vec<v1::IncidentSummary>, StoreFault> {
    let range = KeyRange { from: &page_start(tenant, after), to: &key::behind(&key::text(tenant)) };
    let rows = store.scan(Table::Incidents, range, Direction::Ascending, limit)?;
    rows.iter().map(|row| Ok(decode::<IncidentRow>(Table::Incidents, &row.key, &row.value)?.summary(scoped_id(tenant, row)))).collect()
}

/// Returns tools of a tenant with the definitions that were seen and pinned, from behind the cursor `after` on, at most `limit`
/// of them, and the cursor of the next page; an empty one when this was the last.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn tools(store: &impl Store, tenant: &str, after: &[u8], limit: usize) -> Result<(Vec<v1::ToolSummary>, Vec<u8>), StoreFault> {
    let prefix = key::text(tenant);
    let from = if after.is_empty() { prefix.clone() } else { next_key(RowKey::from_slice(&[&prefix, after].concat())) };
    let rows = store.scan(Table::ToolDefinitions, KeyRange { from: &from, to: &key::behind(&prefix) }, Direction::Ascending, limit)?;
    let last = rows.last().filter(|_| rows.len() == limit);
    let next = last.and_then(|row| row.key.get(prefix.len()..)).unwrap_or_default().to_vec();
    let found = rows.iter().map(|row| Ok(decode::<ToolRow>(Table::ToolDefinitions, &row.key, &row.value)?.summary()));
    Ok((found.collect::<Result<_, StoreFault>>()?, next))
}

/// Returns holds of a tenant, and those of everybody, by their number, from behind `after` on, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn holds(store: &impl Store, tenant: &str, wanted: Wanted, after: u64, limit: usize) -> Result<Vec<v1::HoldSummary>, StoreFault> {
    let tenants = ["*", tenant];
    let tenants = if tenant == "*" { &tenants[..1] } else { &tenants[..] };
    let found = lists::page(store, List::Holds, tenants, wanted, after, limit)?;
    found.into_iter().map(|(id, _)| hold(store, id)).collect()
}

fn hold(store: &impl Store, id: u64) -> Result<v1::HoldSummary, StoreFault> {
    let damaged = || StoreFault::Damaged { table: Table::Holds, key: id.to_be_bytes().to_vec() };
    let hold: HoldRow = row::read(store, Table::Holds, &id.to_be_bytes())?.ok_or_else(damaged)?;
    Ok(hold.summary(id))
}

impl HoldRow {
    pub(crate) fn summary(self, hold_id: u64) -> v1::HoldSummary {
        v1::HoldSummary {
            hold_id,
            target: self.target,
            matter: self.matter,
            authority: self.authority,
            placed_index: self.placed_index,
            containment_id: self.containment_id,
            released_by_index: self.released_by.unwrap_or(0),
        }
    }
}

impl ApprovalRow {
    fn summary(self) -> v1::Approval {
        v1::Approval {
            verdict: self.verdict,
            tenant_id: self.tenant_id,
            session_id: self.session_id,
            agent_id: self.agent_id,
            intent_index: self.intent_index,
            requester: self.requester,
            rules: self.rules,
            action_digest: self.action_digest,
            asked_unix_ns: self.asked_unix_ns,
            expires_unix_ns: self.expires_unix_ns,
            resolved_index: self.resolved_index,
            used_by_index: self.used_by.unwrap_or(0),
            withdrawn_index: self.withdrawn_by.unwrap_or(0),
        }
    }
}
