//! The life of an agent: who may be let into production, and the way there.

use proofline_proto::v1;
use v1::AgentState;

use crate::facts::is_owned;
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::limits::REASON_BYTES_MAX;
use crate::refusal::Refusal;
use crate::row::AgentRow;
use crate::store::{Store, Table};
use crate::writes::Writes;

/// Tells whether an agent may go from one state to another by a change of state.
pub(crate) fn is_legal(from: AgentState, to: AgentState) -> bool {
    use AgentState::{Approved, Decommissioned, Production, Registered, Suspended, Unregistered, Unspecified};
    match (from, to) {
        (Registered, Approved)
        | (Approved, Production | Registered)
        | (Production, Approved)
        | (Registered | Approved | Production, Suspended)
        | (Suspended, Approved) => true,
        (Unspecified | Unregistered | Registered | Approved | Production | Suspended | Decommissioned, _) => false,
    }
}

/// Tells how many persons must want a change. What was stopped goes back to work on the word of two.
fn persons(from: AgentState) -> usize {
    use AgentState::{Approved, Decommissioned, Production, Registered, Suspended, Unregistered, Unspecified};
    match from {
        Suspended => 2,
        Unspecified | Unregistered | Registered | Approved | Production | Decommissioned => 1,
    }
}

/// Carries out a change of state that so many persons signed.
pub(crate) fn change<S: Store>(ledger: &Ledger, writes: &mut Writes<'_, S>, it: &v1::ChangeAgentState, signers: usize) -> Judged<()> {
    if it.reason.is_empty() || it.reason.len() > REASON_BYTES_MAX {
        return Ok(Err(Refusal::Malformed("a change of state gives no reason, or one that is too long")));
    }
    let key = key::scoped(&it.tenant_id, &it.agent_id);
    let Some(mut row) = writes.read::<AgentRow>(Table::Agents, &key)? else {
        return Ok(Err(Refusal::UnknownSubject { what: "agent", name: it.agent_id.clone() }));
    };
    if !is_legal(row.state(), it.state()) {
        return Ok(Err(Refusal::IllegalTransition { agent: it.agent_id.clone(), from: row.state(), to: it.state() }));
    }
    if signers < persons(row.state()) {
        return Ok(Err(Refusal::SecondOperatorNeeded));
    }
    if it.state() == AgentState::Production {
        if !is_owned(&row) {
            return Ok(Err(Refusal::NotOwned { agent: it.agent_id.clone() }));
        }
        if ledger.rules.as_ref().is_none_or(|rules| rules.rules().next().is_none()) {
            return Ok(Err(Refusal::NoRules));
        }
    }
    row.state = it.state;
    writes.put(Table::Agents, key, &row);
    Ok(Ok(()))
}
