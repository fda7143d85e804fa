//! What was declared and registered about an event: its purpose, its agent, and who answers for that.

use proofline_proto::v1;

use super::Above;
use super::act::{self, Act};
use crate::ids::UnixNanos;
use crate::key;
use crate::row::{AgentRow, SessionRow};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Compares an event with the purpose that it names. What is not declared is not exceeded.
pub(super) fn purpose<S: Store>(
    writes: &Writes<'_, S>,
    event: &v1::Event,
    act: &Act<'_>,
    facts: &mut v1::Facts,
    now: UnixNanos,
) -> Result<(), StoreFault> {
    facts.tool_in_purpose = true;
    facts.resources_in_purpose = true;
    facts.classification_in_purpose = true;
    facts.regions_in_purpose = true;
    let id = event.attribution.as_ref().map_or("", |it| it.purpose_id.as_str());
    id.clone_into(&mut facts.purpose);
    if id.is_empty() {
        return Ok(());
    }
    let Some(declared) = writes.read::<v1::DeclarePurpose>(Table::Purposes, &key::scoped(&event.tenant_id, id))? else { return Ok(()) };
    facts.purpose_declared = true;
    facts.purpose_expired = declared.expires_unix_ns != 0 && now.0 > declared.expires_unix_ns;
    let (tools, uris) = (&declared.allowed_tools, &declared.allowed_resources);
    facts.tool_in_purpose = tools.is_empty() || facts.tool.is_empty() || tools.contains(&facts.tool);
    facts.resources_in_purpose = uris.is_empty() || facts.resources.iter().all(|uri| uris.iter().any(|allowed| covers(allowed, uri)));
    let highest = act.resources.iter().map(|it| it.classification).max().unwrap_or_default();
    facts.classification_in_purpose = declared.classification_max == 0 || highest <= declared.classification_max;
    facts.regions_in_purpose = declared.regions.is_empty() || facts.regions.iter().all(|region| declared.regions.contains(region));
    Ok(())
}

/// Whether an allowed URI, or the beginning of URIs before a star, covers one.
fn covers(allowed: &str, uri: &str) -> bool {
    allowed.strip_suffix('*').map_or(allowed == uri, |beginning| uri.starts_with(beginning))
}

/// Says what is registered of the agent, whose row is under `scope`. Who owns the agent of a session above owns what it spawned.
pub(super) fn agent<S: Store>(
    writes: &Writes<'_, S>,
    event: &v1::Event,
    agent: &str,
    scope: &[u8],
    above: &[Above],
    facts: &mut v1::Facts,
) -> Result<(), StoreFault> {
    if agent.is_empty() {
        return Ok(());
    }
    let row = writes.read::<AgentRow>(Table::Agents, scope)?;
    act::agent_state_name(row.as_ref().map(AgentRow::state).unwrap_or_default()).clone_into(&mut facts.agent_state);
    facts.owned = row.as_ref().is_some_and(is_owned);
    for session in above.iter().take_while(|it| it.is_vouched) {
        if facts.owned {
            break;
        }
        let Some(bound) = writes.read::<SessionRow>(Table::Sessions, &session.key)? else { break };
        let key = key::scoped(&event.tenant_id, &bound.agent_id);
        facts.owned = writes.read::<AgentRow>(Table::Agents, &key)?.as_ref().is_some_and(is_owned);
    }
    Ok(())
}

/// Whether somebody answers for an agent, and it is known how to stop it.
pub(crate) fn is_owned(row: &AgentRow) -> bool {
    let of = row.registration.as_ref();
    of.is_some_and(|it| !it.business_owner.is_empty() && !it.technical_owner.is_empty() && !it.revocation_paths.is_empty())
}
