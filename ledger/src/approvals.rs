//! Approvals: one exact action, in one session, once, by somebody else than whoever asks.

use proofline_proto::v1;
use prost::Message as _;
use v1::event::Body;

use crate::hash::{Hash, action_digest};
use crate::ids::{EntryIndex, UnixNanos};
use crate::key::{self, RowKey};
use crate::ledger::Judged;
use crate::limits::{COMMAND_LIFE_MAX_NS, REASON_BYTES_MAX};
use crate::lists::{List, Place, State};
use crate::refusal::Refusal;
use crate::row::{ApprovalRow, OperatorRow, SessionRow};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Length of the digest of an action's arguments.
const DIGEST_BYTES: usize = 32;

/// An action that needs an approval.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    key: RowKey,
    pub(crate) digest: Hash,
    row: ApprovalRow,
}

/// How an action that needs an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Somebody said yes, and nobody has used it.
    Approved,
    /// Somebody said no.
    Denied,
    /// Nobody said anything that holds now.
    Open,
}

impl Asked {
    /// Returns what an event asks for; only an intent with a digest of its arguments can be approved: without it, the approval
    /// would be for anything that the tool can do.
    pub(crate) fn of<S: Store>(writes: &Writes<'_, S>, event: &v1::Event, agent: &str) -> Result<Option<Self>, StoreFault> {
        let Some(Body::ActionIntent(intent)) = &event.body else { return Ok(None) };
        let Some(session) = event.session.as_ref().filter(|_| intent.action_digest.len() == DIGEST_BYTES) else { return Ok(None) };
        // Whom the session is bound to, not whom this event names: nobody gets around themselves by leaving a name out.
        let bound = writes.read::<SessionRow>(Table::Sessions, &key::scoped(&event.tenant_id, &session.session_id))?;
        let Some(requester) = bound.and_then(|row| row.initiator) else { return Ok(None) };
        let mut exact = intent.clone();
        if let Some(tool) = &mut exact.tool {
            // Each try is a call of its own.
            tool.call_id.clear();
        }
        let digest = action_digest(&event.tenant_id, &session.session_id, agent, &exact.encode_to_vec());
        let mut key = key::scoped(&event.tenant_id, &session.session_id);
        key.extend_from_slice(&digest.0);
        let row = writes.read::<ApprovalRow>(Table::Approvals, &key)?.unwrap_or_else(|| ApprovalRow {
            tenant_id: event.tenant_id.clone(),
            session_id: session.session_id.clone(),
            agent_id: agent.to_owned(),
            requester: Some(requester),
            action_digest: digest.0.to_vec(),
            ..Default::default()
        });
        Ok(Some(Self { key, digest, row }))
    }

    /// Tells how the action stands with the rules that ask now: an answer is good for those that asked when it was given.
    pub(crate) fn standing(&self, now: UnixNanos, rules: &[&str]) -> Standing {
        let holds = self.row.used_by.is_none() && self.row.withdrawn_by.is_none() && self.row.expires_unix_ns > now.0;
        match self.row.verdict() {
            v1::Verdict::Allow if holds && rules.iter().all(|rule| self.row.rules.iter().any(|it| it == rule)) => Standing::Approved,
            v1::Verdict::Deny if holds => Standing::Denied,
            _ => Standing::Open,
        }
    }

    /// Uses the approval up, by the entry that is recorded next.
    pub(crate) fn use_up<S: Store>(mut self, writes: &mut Writes<'_, S>, index: EntryIndex) {
        self.row.used_by = Some(index.0);
        writes.put(Table::Approvals, self.key, &self.row);
    }

    /// Asks for an approval, by the entry that is recorded next.
    pub(crate) fn ask<S: Store>(self, writes: &mut Writes<'_, S>, rules: Vec<String>, index: EntryIndex, now: UnixNanos) {
        let was_listed = self.row.clone();
        // Who waits and asks again does not move what a responder is about to answer.
        let waits = self.row.verdict() == v1::Verdict::Unspecified && self.row.intent_index != 0 && self.row.rules == rules;
        let asked = if waits { self.row } else { ApprovalRow { rules, intent_index: index.0, asked_unix_ns: now.0, ..self.row } };
        let asks = ApprovalRow { verdict: 0, expires_unix_ns: 0, resolved_index: 0, used_by: None, withdrawn_by: None, ..asked };
        list(writes, &self.key, was_listed, &asks);
        writes.put(Table::Approvals, self.key, &asks);
    }
}

/// Carries out a responder's answer, which becomes entry `index`.
pub(crate) fn resolve<S: Store>(
    writes: &mut Writes<'_, S>,
    it: &v1::ResolveApproval,
    signed: &v1::SignedCommand,
    index: EntryIndex,
    now: UnixNanos,
) -> Judged<()> {
    if !matches!(it.verdict(), v1::Verdict::Allow | v1::Verdict::Deny) || it.reason.is_empty() || it.reason.len() > REASON_BYTES_MAX {
        return Ok(Err(Refusal::Malformed("an approval says ALLOW or DENY, and gives a reason of at most 1,024 bytes")));
    }
    if it.expires_unix_ns <= now.0 || it.expires_unix_ns - now.0 > COMMAND_LIFE_MAX_NS {
        return Ok(Err(Refusal::ApprovalLife));
    }
    let mut key = key::scoped(&it.tenant_id, &it.session_id);
    key.extend_from_slice(&it.action_digest);
    let known = writes.read::<ApprovalRow>(Table::Approvals, &key)?;
    let Some(mut row) = known.filter(|row| row.intent_index == it.intent_index) else {
        return Ok(Err(Refusal::UnknownSubject { what: "request for an approval in entry", name: it.intent_index.to_string() }));
    };
    if row.verdict() != v1::Verdict::Unspecified {
        return Ok(Err(Refusal::AlreadyDone { what: "approval of entry", name: it.intent_index.to_string(), state: "answered" }));
    }
    let requester = row.requester.as_ref().map_or("", |it| it.subject.as_str());
    for signer in &signed.signatures {
        let operator = writes.read::<OperatorRow>(Table::Operators, &key::text(&signer.operator_id))?.and_then(|row| row.key);
        let subject = operator.map(|key| key.subject).unwrap_or_default();
        if !requester.is_empty() && (signer.operator_id == requester || subject == requester) {
            return Ok(Err(Refusal::ApproverIsRequester { operator: signer.operator_id.clone() }));
        }
    }
    let was_listed = row.clone();
    row.verdict = it.verdict;
    row.expires_unix_ns = it.expires_unix_ns;
    row.resolved_index = index.0;
    list(writes, &key, was_listed, &row);
    writes.put(Table::Approvals, key, &row);
    Ok(Ok(()))
}

/// Takes back a yes that nobody has used, by the command that becomes entry `index`.
pub(crate) fn withdraw<S: Store>(writes: &mut Writes<'_, S>, it: &v1::WithdrawApproval, index: EntryIndex, now: UnixNanos) -> Judged<()> {
    if it.reason.is_empty() || it.reason.len() > REASON_BYTES_MAX {
        return Ok(Err(Refusal::Malformed("a withdrawal gives no reason, or one that is too long")));
    }
    let mut key = key::scoped(&it.tenant_id, &it.session_id);
    key.extend_from_slice(&it.action_digest);
    let name = it.intent_index.to_string();
    let known = writes.read::<ApprovalRow>(Table::Approvals, &key)?;
    let is_it = |row: &ApprovalRow| row.intent_index == it.intent_index && row.verdict() != v1::Verdict::Unspecified;
    let Some(mut row) = known.filter(is_it) else {
        return Ok(Err(Refusal::UnknownSubject { what: "approval of what was asked in entry", name }));
    };
    let already = match row.verdict() {
        v1::Verdict::Allow if row.used_by.is_some() => Some("used"),
        v1::Verdict::Allow if row.withdrawn_by.is_some() => Some("withdrawn"),
        v1::Verdict::Allow if row.expires_unix_ns <= now.0 => Some("expired"),
        v1::Verdict::Allow => None,
        v1::Verdict::Unspecified | v1::Verdict::Deny | v1::Verdict::RequireApproval | v1::Verdict::StepUp => Some("answered with a no"),
    };
    if let Some(state) = already {
        return Ok(Err(Refusal::AlreadyDone { what: "approval of entry", name, state }));
    }
    row.withdrawn_by = Some(index.0);
    writes.put(Table::Approvals, key, &row);
    Ok(Ok(()))
}

/// Lists a request where it is to be found now.
fn list<S: Store>(writes: &mut Writes<'_, S>, key: &[u8], was: ApprovalRow, is: &ApprovalRow) {
    if was.intent_index != 0 {
        place(&was).leave(writes);
    }
    place(is).enter(writes, key);
}

fn place(of: &ApprovalRow) -> Place<'_> {
    let state = if of.verdict() == v1::Verdict::Unspecified { State::Open } else { State::Closed };
    Place { list: List::Approvals, tenant: &of.tenant_id, state, number: of.intent_index }
}
