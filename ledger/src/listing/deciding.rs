//! Reads what stands around decisions: facts, rule sets, approvals, intents without an outcome, servers.

use proofline_proto::v1;
use prost::Message as _;

use super::{next_key, page_start, scoped_id};
use crate::entry;
use crate::ids::EntryIndex;
use crate::key;
use crate::row::{ApprovalRow, HoldRow, IncidentRow, RuleSetRow, ServerRow, decode};
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};

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

/// Returns what asks, or asked, for an approval in a tenant: sorted by session, at most `limit`.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn approvals(
    store: &impl Store,
    tenant: &str,
    is_wanted: impl Fn(&v1::Approval) -> bool,
    limit: usize,
) -> Result<Vec<v1::Approval>, StoreFault> {
    let prefix = key::text(tenant);
    let end = key::behind(&prefix);
    let (mut from, mut found) = (prefix, Vec::new());
    while found.len() < limit {
        let rows = store.scan(Table::Approvals, KeyRange { from: &from, to: &end }, Direction::Ascending, ROWS_AT_ONCE)?;
        let Some(last) = rows.last() else { break };
        from = next_key(last.key.clone());
        for row in &rows {
            let approval = decode::<ApprovalRow>(Table::Approvals, &row.key, &row.value)?.summary();
            if is_wanted(&approval) && found.len() < limit {
                found.push(approval);
            }
        }
    }
    Ok(found)
}

const ROWS_AT_ONCE: usize = 1_000;

/// Returns intents that were allowed and have no outcome, from behind `after` on, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn unresolved(store: &impl Store, after: Option<EntryIndex>, limit: usize) -> Result<Vec<v1::UnresolvedIntent>, StoreFault> {
    let from = after.map_or(EntryIndex(0), |after| EntryIndex(after.0.saturating_add(1)));
    let range = KeyRange { from: &key::entry(from), to: &key::behind(&[]) };
    let rows = store.scan(Table::Unresolved, range, Direction::Ascending, limit)?;
    rows.into_iter().map(|row| unresolved_intent(store, row.key)).collect()
}

fn unresolved_intent(store: &impl Store, key: Vec<u8>) -> Result<v1::UnresolvedIntent, StoreFault> {
    let damaged = || StoreFault::Damaged { table: Table::Unresolved, key: key.clone() };
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

/// Returns holds by their number, from behind `after` on, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn holds(store: &impl Store, after: u64, limit: usize) -> Result<Vec<v1::HoldSummary>, StoreFault> {
    let range = KeyRange { from: &after.saturating_add(1).to_be_bytes(), to: &key::behind(&[]) };
    let rows = store.scan(Table::Holds, range, Direction::Ascending, limit)?;
    rows.iter()
        .map(|row| {
            let hold: HoldRow = decode(Table::Holds, &row.key, &row.value)?;
            let id = row.key.as_slice().try_into().map(u64::from_be_bytes);
            Ok(hold.summary(id.map_err(|_| StoreFault::Damaged { table: Table::Holds, key: row.key.clone() })?))
        })
        .collect()
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
        }
    }
}
