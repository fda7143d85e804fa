//! The decision that stands in each event's entry: the verdict, and the findings that led to it.

use proofline_proto::v1;

use crate::containment::Cover;
use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::limits::OBSERVED_GAP_MAX_NS;
use crate::row::AgentRow;
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Decides on an event that is recorded as entry `index` at `now`, and takes note of an agent that nobody registered.
/// `agent` is the event's, or the one that its session is bound to; `cover` is what of containments covers the event.
pub(crate) fn decide<S: Store>(
    writes: &mut Writes<'_, S>,
    event: &v1::Event,
    agent: &str,
    cover: &Cover,
    index: EntryIndex,
    now: UnixNanos,
) -> Result<v1::Decision, StoreFault> {
    let mut findings = Vec::new();
    let state = agent_state(writes, &event.tenant_id, agent, index, now)?;
    let mut verdict = match state {
        Some(v1::AgentState::Decommissioned) => {
            findings.push(built_in("built-in/agent-decommissioned", v1::Severity::Critical));
            v1::Verdict::Deny
        }
        Some(v1::AgentState::Unregistered | v1::AgentState::Unspecified) => {
            findings.push(built_in("built-in/agent-unregistered", v1::Severity::Low));
            v1::Verdict::Allow
        }
        Some(v1::AgentState::Registered) | None => v1::Verdict::Allow,
    };
    if let Some(containment_id) = cover.first {
        findings.push(v1::Finding { containment_id, ..built_in("built-in/contained", v1::Severity::Critical) });
        verdict = v1::Verdict::Deny;
    }
    if cover.is_too_wide {
        findings.push(built_in("built-in/lineage-too-wide", v1::Severity::Critical));
        verdict = v1::Verdict::Deny;
    }
    if event.observed_unix_ns.abs_diff(now.0) > OBSERVED_GAP_MAX_NS {
        findings.push(built_in("built-in/observed-time-gap", v1::Severity::Info));
    }
    if event.attribution.as_ref().is_some_and(|it| it.unattributed() != v1::UnattributedReason::Unspecified) {
        findings.push(built_in("built-in/unattributed", v1::Severity::Medium));
    }
    findings.sort_by(|one, other| one.rule_id.cmp(&other.rule_id));
    Ok(v1::Decision { verdict: verdict.into(), findings, facts_digest: Vec::new(), rule_set_digest: Vec::new() })
}

fn built_in(rule: &str, severity: v1::Severity) -> v1::Finding {
    v1::Finding { rule_id: rule.to_owned(), severity: severity.into(), kind: v1::FindingKind::BuiltIn.into(), containment_id: 0 }
}

/// Returns the state of the event's agent, recording it as UNREGISTERED when it is seen for the first time.
fn agent_state<S: Store>(
    writes: &mut Writes<'_, S>,
    tenant: &str,
    agent: &str,
    index: EntryIndex,
    now: UnixNanos,
) -> Result<Option<v1::AgentState>, StoreFault> {
    if agent.is_empty() {
        return Ok(None);
    }
    let key = key::scoped(tenant, agent);
    if let Some(row) = writes.read::<AgentRow>(Table::Agents, &key)? {
        return Ok(Some(row.state()));
    }
    let state = v1::AgentState::Unregistered;
    let row = AgentRow { state: state.into(), first_seen_index: index.0, first_seen_unix_ns: now.0, registration: None };
    writes.put(Table::Agents, key, &row);
    Ok(Some(state))
}
