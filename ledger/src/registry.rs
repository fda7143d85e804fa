//! Who is known to the ledger: collectors, agents, operators, role grants and the nodes that cosign.

use proofline_proto::v1;
use v1::command::Action;

use crate::event::{is_identifier, is_key_name};
use crate::facts::is_owned;
use crate::ids::{EntryIndex, UnixNanos};
use crate::key::{self, RowKey};
use crate::ledger::Judged;
use crate::limits::{REASON_BYTES_MAX, SIGNER_ID_BYTES_MAX};
use crate::refusal::Refusal;
use crate::row::{AgentRow, CollectorRow, NodeRow, OperatorRow, ServerRow, decode};
use crate::signed::is_strong_key;
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};
use crate::writes::Writes;

/// Most agents or vantages that one registration lists.
const LISTED_MAX: usize = 256;
/// Rows of a registry that is small by its nature: operators and nodes.
const SMALL_TABLE_MAX: usize = 4_096;

/// What a registry command is about, as the key under which its entry is found again.
pub(crate) fn subject(action: &Action) -> Option<String> {
    match action {
        Action::RegisterCollector(it) => Some(format!("collector/{}", it.collector_id)),
        Action::RevokeCollector(it) => Some(format!("collector/{}", it.collector_id)),
        Action::RegisterOperator(_) | Action::RevokeOperator(_) => Some("operator".to_owned()),
        Action::RegisterNode(_) | Action::RetireNode(_) => Some("node".to_owned()),
        Action::RegisterAgent(_) | Action::RevokeAgent(_) | Action::GrantRole(_) | Action::RevokeRole(_) => None,
        Action::DeclarePurpose(_) | Action::RegisterServer(_) | Action::ActivateRules(_) | Action::ResolveApproval(_) => None,
        Action::WithdrawApproval(_) | Action::PinTool(_) => None,
        Action::ChangeAgentState(_) | Action::OpenIncident(_) | Action::AdvanceIncident(_) => None,
        Action::PlaceHold(_) | Action::ReleaseHold(_) => None,
        Action::EraseSubject(_) | Action::SetRetention(_) => None,
        Action::SealSession(_) | Action::Contain(_) | Action::Release(_) => None,
        Action::RegisterOutlet(_) | Action::RemoveOutlet(_) | Action::ResumeOutlet(_) | Action::VerifyOutlet(_) => None,
    }
}

/// Carries out a registry command that was found authentic, fresh and authorised.
pub(crate) fn apply<S: Store>(writes: &mut Writes<'_, S>, action: &Action, index: EntryIndex, now: UnixNanos) -> Judged<()> {
    match action {
        Action::RegisterCollector(it) => register_collector(writes, it, index),
        Action::RevokeCollector(it) => revoke_collector(writes, &it.collector_id, index),
        Action::RegisterAgent(it) => register_agent(writes, it, index, now),
        Action::RevokeAgent(it) => revoke_agent(writes, it),
        Action::RegisterOperator(it) => register_operator(writes, it.operator.as_ref()),
        Action::RevokeOperator(it) => revoke_operator(writes, &it.operator_id, index),
        Action::GrantRole(it) => Ok(grant(it.grant.as_ref()).map(|key| writes.put_bytes(Table::Grants, key, Vec::new()))),
        Action::RevokeRole(it) => revoke_role(writes, it.grant.as_ref()),
        Action::RegisterNode(it) => register_node(writes, it.node.as_ref()),
        Action::RetireNode(it) => retire_node(writes, it.node_id, index),
        Action::DeclarePurpose(it) => Ok(declare_purpose(writes, it)),
        Action::RegisterServer(it) => register_server(writes, it, now),
        Action::SealSession(_)
        | Action::Contain(_)
        | Action::Release(_)
        | Action::ActivateRules(_)
        | Action::ResolveApproval(_)
        | Action::WithdrawApproval(_)
        | Action::PinTool(_)
        | Action::ChangeAgentState(_)
        | Action::OpenIncident(_)
        | Action::AdvanceIncident(_)
        | Action::PlaceHold(_)
        | Action::ReleaseHold(_)
        | Action::EraseSubject(_)
        | Action::SetRetention(_)
        | Action::RegisterOutlet(_)
        | Action::RemoveOutlet(_)
        | Action::ResumeOutlet(_)
        | Action::VerifyOutlet(_) => Ok(Err(Refusal::Malformed("no registry command"))),
    }
}

fn register_collector<S: Store>(writes: &mut Writes<'_, S>, it: &v1::RegisterCollector, index: EntryIndex) -> Judged<()> {
    if let Err(refusal) = check_registration(it) {
        return Ok(Err(refusal));
    }
    let key = key::text(&it.collector_id);
    let row = CollectorRow { registration: Some(it.clone()), valid_from: index.0, revoked_at: None };
    if let Some(known) = writes.read::<CollectorRow>(Table::Collectors, &key)? {
        // A tenant's collector stays that tenant's: its lanes and receipts are.
        if known.registration.is_some_and(|known| known.tenant_id != it.tenant_id) {
            return Ok(Err(Refusal::AlreadyDone { what: "collector", name: it.collector_id.clone(), state: "another tenant's" }));
        }
    }
    writes.put(Table::Collectors, key, &row);
    Ok(Ok(()))
}

fn check_registration(it: &v1::RegisterCollector) -> Result<(), Refusal> {
    let is_named = is_identifier(&it.collector_id) && it.collector_id.len() <= SIGNER_ID_BYTES_MAX;
    if !is_named || !is_identifier(&it.spiffe_id) || !is_identifier(&it.tenant_id) || it.tenant_id == "*" {
        return Err(Refusal::Malformed("the registration names no collector, no identity or no tenant"));
    }
    if it.agents.is_empty() || it.agents.len() > LISTED_MAX || !it.agents.iter().all(|agent| is_identifier(agent)) {
        return Err(Refusal::Malformed("the registration names no agents, or too many"));
    }
    let is_vantage = |it: &i32| v1::Vantage::try_from(*it).is_ok_and(|vantage| vantage != v1::Vantage::Unspecified);
    if it.vantages.is_empty() || it.vantages.len() > LISTED_MAX || !it.vantages.iter().all(is_vantage) {
        return Err(Refusal::Malformed("the registration names no vantage, or an unknown one"));
    }
    if is_strong_key(&it.public_key) { Ok(()) } else { Err(Refusal::WeakKey(it.collector_id.clone())) }
}

fn revoke_collector<S: Store>(writes: &mut Writes<'_, S>, id: &str, index: EntryIndex) -> Judged<()> {
    let Some(mut row) = writes.read::<CollectorRow>(Table::Collectors, &key::text(id))? else {
        return Ok(Err(unknown("collector", id)));
    };
    if row.revoked_at.is_some() {
        return Ok(Err(already("collector", id, "revoked")));
    }
    row.revoked_at = Some(index.0);
    writes.put(Table::Collectors, key::text(id), &row);
    Ok(Ok(()))
}

fn register_agent<S: Store>(writes: &mut Writes<'_, S>, it: &v1::RegisterAgent, index: EntryIndex, now: UnixNanos) -> Judged<()> {
    if !is_identifier(&it.tenant_id) || !is_identifier(&it.agent_id) || it.revocation_paths.len() > LISTED_MAX {
        return Ok(Err(Refusal::Malformed("the registration names no tenant or no agent")));
    }
    let key = key::scoped(&it.tenant_id, &it.agent_id);
    let known = writes.read::<AgentRow>(Table::Agents, &key)?;
    if known.as_ref().is_some_and(|row| row.state() == v1::AgentState::Decommissioned) {
        return Ok(Err(already("agent", &it.agent_id, "decommissioned")));
    }
    // A registration changes what is known of an agent, not how far it came; but production keeps its conditions.
    let state = known.as_ref().map_or(v1::AgentState::Unregistered, AgentRow::state);
    let state = if state == v1::AgentState::Unregistered { v1::AgentState::Registered } else { state };
    let seen = known.map_or((index.0, now.0), |row| (row.first_seen_index, row.first_seen_unix_ns));
    let row = AgentRow { state: state.into(), first_seen_index: seen.0, first_seen_unix_ns: seen.1, registration: Some(it.clone()) };
    if state == v1::AgentState::Production && !is_owned(&row) {
        return Ok(Err(Refusal::NotOwned { agent: it.agent_id.clone() }));
    }
    writes.put(Table::Agents, key, &row);
    Ok(Ok(()))
}

fn revoke_agent<S: Store>(writes: &mut Writes<'_, S>, it: &v1::RevokeAgent) -> Judged<()> {
    let key = key::scoped(&it.tenant_id, &it.agent_id);
    let Some(mut row) = writes.read::<AgentRow>(Table::Agents, &key)? else {
        return Ok(Err(unknown("agent", &it.agent_id)));
    };
    if row.state() == v1::AgentState::Decommissioned {
        return Ok(Err(already("agent", &it.agent_id, "decommissioned")));
    }
    row.state = v1::AgentState::Decommissioned.into();
    writes.put(Table::Agents, key, &row);
    Ok(Ok(()))
}

fn declare_purpose<S: Store>(writes: &mut Writes<'_, S>, it: &v1::DeclarePurpose) -> Result<(), Refusal> {
    if !is_identifier(&it.tenant_id) || !is_identifier(&it.purpose_id) || it.description.len() > REASON_BYTES_MAX {
        return Err(Refusal::Malformed("the purpose has no tenant or no id, or is described at too great a length"));
    }
    let lists = [&it.allowed_tools, &it.allowed_resources, &it.regions];
    if lists.iter().any(|list| list.len() > LISTED_MAX || list.iter().any(|one| one.is_empty() || one.chars().any(char::is_control))) {
        return Err(Refusal::Malformed("the purpose lists nothing by name, or too much"));
    }
    writes.put(Table::Purposes, key::scoped(&it.tenant_id, &it.purpose_id), it);
    Ok(())
}

fn register_server<S: Store>(writes: &mut Writes<'_, S>, it: &v1::RegisterServer, now: UnixNanos) -> Judged<()> {
    if !is_identifier(&it.tenant_id) || !is_identifier(&it.server_id) {
        return Ok(Err(Refusal::Malformed("the registration names no tenant or no server")));
    }
    let key = key::scoped(&it.tenant_id, &it.server_id);
    let known = writes.read::<ServerRow>(Table::Servers, &key)?;
    let first_seen_unix_ns = known.map_or(now.0, |row| row.first_seen_unix_ns);
    writes.put(Table::Servers, key, &ServerRow { registration: Some(it.clone()), first_seen_unix_ns });
    Ok(Ok(()))
}

fn register_operator<S: Store>(writes: &mut Writes<'_, S>, it: Option<&v1::OperatorKey>) -> Judged<()> {
    let Some(it) = it.filter(|it| is_identifier(&it.operator_id) && it.operator_id.len() <= SIGNER_ID_BYTES_MAX && !it.roles.is_empty())
    else {
        return Ok(Err(Refusal::Malformed("the registration names no operator or no role")));
    };
    if !is_strong_key(&it.public_key) {
        return Ok(Err(Refusal::WeakKey(it.operator_id.clone())));
    }
    for (_, key) in operators(writes)?.into_iter().filter(|(_, key)| key.operator_id != it.operator_id) {
        // Two names on one key would let one person sign for two.
        if key.public_key == it.public_key {
            return Ok(Err(Refusal::KeyInUse(it.operator_id.clone())));
        }
    }
    let registrar = v1::OperatorRole::Registrar.into();
    let others = operators(writes)?.iter().filter(|(_, key)| key.operator_id != it.operator_id && key.roles.contains(&registrar)).count();
    if others + usize::from(it.roles.contains(&registrar)) < 2 {
        return Ok(Err(Refusal::LastRegistrars));
    }
    writes.put(Table::Operators, key::text(&it.operator_id), &OperatorRow { key: Some(it.clone()), revoked_at: None });
    Ok(Ok(()))
}

fn revoke_operator<S: Store>(writes: &mut Writes<'_, S>, id: &str, index: EntryIndex) -> Judged<()> {
    let registrar = v1::OperatorRole::Registrar.into();
    let Some(mut row) = writes.read::<OperatorRow>(Table::Operators, &key::text(id))? else {
        return Ok(Err(unknown("operator", id)));
    };
    if row.revoked_at.is_some() {
        return Ok(Err(already("operator", id, "revoked")));
    }
    let left = operators(writes)?.iter().filter(|(_, key)| key.operator_id != id && key.roles.contains(&registrar)).count();
    if left < 2 {
        return Ok(Err(Refusal::LastRegistrars));
    }
    row.revoked_at = Some(index.0);
    writes.put(Table::Operators, key::text(id), &row);
    Ok(Ok(()))
}

/// Lists the operators that are not revoked, as the writes so far leave them.
fn operators<S: Store>(writes: &Writes<'_, S>) -> Result<Vec<(Vec<u8>, v1::OperatorKey)>, StoreFault> {
    let mut found = Vec::new();
    for (key, value) in writes.whole(Table::Operators, SMALL_TABLE_MAX)? {
        let row: OperatorRow = decode(Table::Operators, &key, &value)?;
        if let (Some(operator), None) = (row.key, row.revoked_at) {
            found.push((key, operator));
        }
    }
    Ok(found)
}

fn grant(it: Option<&v1::RoleGrant>) -> Result<RowKey, Refusal> {
    let is_role = |role| v1::Role::try_from(role).is_ok_and(|role| role != v1::Role::Unspecified);
    match it {
        Some(it) if is_identifier(&it.spiffe_id) && is_identifier(&it.tenant_id) && is_role(it.role) => {
            Ok(key::grant(&it.spiffe_id, it.role, &it.tenant_id))
        }
        Some(_) | None => Err(Refusal::Malformed("the grant names no identity, role or tenant")),
    }
}

fn revoke_role<S: Store>(writes: &mut Writes<'_, S>, it: Option<&v1::RoleGrant>) -> Judged<()> {
    let key = match grant(it) {
        Ok(key) => key,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if writes.bytes(Table::Grants, &key)?.is_none() {
        return Ok(Err(unknown("role grant of", it.map_or("", |it| &it.spiffe_id))));
    }
    writes.remove(Table::Grants, key);
    Ok(Ok(()))
}

fn register_node<S: Store>(writes: &mut Writes<'_, S>, it: Option<&v1::NodeKey>) -> Judged<()> {
    let Some(it) = it.filter(|it| is_key_name(&it.name) && it.node_id != 0) else {
        return Ok(Err(Refusal::Malformed("the registration names no node, or by a name that no policy can have")));
    };
    if !is_strong_key(&it.public_key) {
        return Ok(Err(Refusal::WeakKey(it.name.clone())));
    }
    for (key, value) in writes.whole(Table::Nodes, SMALL_TABLE_MAX)? {
        let row: NodeRow = decode(Table::Nodes, &key, &value)?;
        if row.key.is_some_and(|known| known.node_id == it.node_id || known.name == it.name || known.public_key == it.public_key) {
            return Ok(Err(Refusal::KeyInUse(it.name.clone())));
        }
    }
    writes.put(Table::Nodes, it.node_id.to_be_bytes(), &NodeRow { key: Some(it.clone()), retired_at: None });
    Ok(Ok(()))
}

fn retire_node<S: Store>(writes: &mut Writes<'_, S>, node_id: u64, index: EntryIndex) -> Judged<()> {
    let key = node_id.to_be_bytes().to_vec();
    let Some(mut row) = writes.read::<NodeRow>(Table::Nodes, &key)? else {
        return Ok(Err(unknown("node", &node_id.to_string())));
    };
    if row.retired_at.is_some() {
        return Ok(Err(already("node", &node_id.to_string(), "retired")));
    }
    if cosigners_now(writes)?.len() < 2 {
        return Ok(Err(Refusal::LastNode));
    }
    row.retired_at = Some(index.0);
    writes.put(Table::Nodes, key, &row);
    Ok(Ok(()))
}

/// Returns the keys of the nodes that may cosign, in the order of their ids.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn cosigners(store: &impl Store) -> Result<Vec<v1::NodeKey>, StoreFault> {
    let range = KeyRange { from: &[], to: &key::behind(&[]) };
    let rows = store.scan(Table::Nodes, range, Direction::Ascending, SMALL_TABLE_MAX)?;
    not_retired(rows.into_iter().map(|row| (row.key, row.value)))
}

/// As [`cosigners`], as the writes so far leave them.
pub(crate) fn cosigners_now<S: Store>(writes: &Writes<'_, S>) -> Result<Vec<v1::NodeKey>, StoreFault> {
    not_retired(writes.whole(Table::Nodes, SMALL_TABLE_MAX)?.into_iter())
}

/// Checks that a key is the one of a node that is registered and not retired.
pub(crate) fn check_node<S: Store>(writes: &Writes<'_, S>, node_id: u64, public_key: &[u8]) -> Judged<()> {
    let row: Option<NodeRow> = writes.read(Table::Nodes, &node_id.to_be_bytes())?;
    let key = row.filter(|row| row.retired_at.is_none()).and_then(|row| row.key);
    Ok(match key {
        Some(key) if key.public_key == public_key => Ok(()),
        Some(_) | None => Err(Refusal::KeyNotRegistered(format!("node {node_id}"))),
    })
}

fn not_retired(rows: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Vec<v1::NodeKey>, StoreFault> {
    let rows = rows.map(|(key, value)| decode::<NodeRow>(Table::Nodes, &key, &value));
    Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|row| row.retired_at.is_none()).filter_map(|row| row.key).collect())
}

fn unknown(what: &'static str, name: &str) -> Refusal {
    Refusal::UnknownSubject { what, name: name.to_owned() }
}

fn already(what: &'static str, name: &str, state: &'static str) -> Refusal {
    Refusal::AlreadyDone { what, name: name.to_owned(), state }
}
