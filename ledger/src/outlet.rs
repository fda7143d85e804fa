//! The registry of outlets: who hears of containment, and in which form.

use std::collections::BTreeMap;

use proofline_proto::v1;
use v1::outlet::Kind;

use crate::endpoint::{Endpoint, Scheme};
use crate::event::is_identifier;
use crate::ids::EntryIndex;
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::limits::{
    ESCALATE_AFTER_MAX_S, OUTLET_ID_BYTES_MAX, OUTLETS_MAX, REASON_BYTES_MAX, VERIFICATION_STATE_BYTES_MAX, VERIFIED_BEHIND_MAX,
};
use crate::outbox;
use crate::refusal::Refusal;
use crate::row::{OutletRow, decode};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Registers an outlet, or replaces it, by the command that becomes entry `index`.
pub(crate) fn register<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    it: Option<&v1::Outlet>,
    index: EntryIndex,
) -> Judged<()> {
    let Some(it) = it else { return Ok(Err(Refusal::Malformed("the registration names no outlet"))) };
    if let Err(refusal) = check(it) {
        return Ok(Err(refusal));
    }
    let known = all(writes)?;
    if let Err(refusal) = check_escalation(it, &known) {
        return Ok(Err(refusal));
    }
    let before = known.get(&it.outlet_id);
    if before.is_none() && known.len() >= OUTLETS_MAX {
        return Ok(Err(Refusal::TooLarge { what: "outlets", actual: known.len() as u64 + 1, limit: OUTLETS_MAX as u64 }));
    }
    if before.and_then(|row| row.outlet.as_ref()).is_some_and(|was| was.tenant_id != it.tenant_id || !is_same_kind(was, it)) {
        // What waits was made for the other one.
        return Ok(Err(Refusal::AlreadyDone { what: "outlet", name: it.outlet_id.clone(), state: "another tenant's, or of another kind" }));
    }
    let mut row = OutletRow { outlet: Some(it.clone()), ..before.cloned().unwrap_or_default() };
    activate(ledger, &mut row, index);
    writes.put(Table::Outlets, key::text(&it.outlet_id), &row);
    Ok(Ok(()))
}

fn activate(ledger: &mut Ledger, row: &mut OutletRow, by: EntryIndex) {
    row.set_state(v1::OutletState::Active);
    row.state_by = by.0;
    row.active_since_unix_ns = ledger.log.now().0;
    ledger.outlet_generation += 1;
}

/// Removes an outlet with what waits for it.
pub(crate) fn remove<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, it: &v1::RemoveOutlet) -> Judged<()> {
    let id = it.outlet_id.as_str();
    if let Err(refusal) = check_reason(&it.reason) {
        return Ok(Err(refusal));
    }
    let known = all(writes)?;
    if !known.contains_key(id) {
        return Ok(Err(unknown(id)));
    }
    if others_escalating_to(id, &known).next().is_some() {
        return Ok(Err(Refusal::AlreadyDone { what: "outlet", name: id.to_owned(), state: "where another outlet escalates to" }));
    }
    outbox::forget(writes, id)?;
    writes.remove(Table::Outlets, key::text(id));
    ledger.outlet_generation += 1;
    Ok(Ok(()))
}

/// Ends a pause, by the command that becomes entry `index`.
pub(crate) fn resume<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, it: &v1::ResumeOutlet, index: EntryIndex) -> Judged<()> {
    let id = it.outlet_id.as_str();
    if let Err(refusal) = check_reason(&it.reason) {
        return Ok(Err(refusal));
    }
    let Some(mut row) = find(writes, id)? else { return Ok(Err(unknown(id))) };
    if row.state() == v1::OutletState::Active {
        return Ok(Err(Refusal::AlreadyDone { what: "outlet", name: id.to_owned(), state: "active" }));
    }
    activate(ledger, &mut row, index);
    writes.put(Table::Outlets, key::text(id), &row);
    Ok(Ok(()))
}

/// Puts a verification event into the outbox of a stream, by the command that becomes entry `index`.
pub(crate) fn verify<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, it: &v1::VerifyOutlet, index: EntryIndex) -> Judged<()> {
    let id = it.outlet_id.as_str();
    if let Err(refusal) = check_reason(&it.reason) {
        return Ok(Err(refusal));
    }
    if it.state.is_empty() || it.state.len() > VERIFICATION_STATE_BYTES_MAX {
        return Ok(Err(Refusal::Malformed("a verification has a state of 1 to 256 bytes, for its receiver to compare")));
    }
    let Some(mut row) = find(writes, id)? else { return Ok(Err(unknown(id))) };
    if !matches!(row.outlet.as_ref().and_then(|outlet| outlet.kind.as_ref()), Some(Kind::SharedSignals(_))) {
        return Ok(Err(Refusal::Malformed("only a stream of Shared Signals is verified: a webhook has no such event")));
    }
    if row.state() != v1::OutletState::Active {
        return Ok(Err(Refusal::AlreadyDone { what: "outlet", name: id.to_owned(), state: "paused or disabled: resume it first" }));
    }
    // What waits already tells how the stream is; the room is for what is contained.
    if row.pending >= VERIFIED_BEHIND_MAX {
        let (what, limit) = ("messages that wait for the outlet before a verification", VERIFIED_BEHIND_MAX);
        return Ok(Err(Refusal::TooLarge { what, actual: row.pending + 1, limit }));
    }
    outbox::put_verification(ledger, writes, &mut row, index);
    writes.put(Table::Outlets, key::text(id), &row);
    ledger.outlet_generation += 1;
    Ok(Ok(()))
}

/// Returns one outlet, as the writes so far leave it.
pub(crate) fn find<S: Store>(writes: &Writes<'_, S>, id: &str) -> Result<Option<OutletRow>, StoreFault> {
    writes.read(Table::Outlets, &key::text(id))
}

/// Returns every outlet by its id, as the writes so far leave them.
pub(crate) fn all<S: Store>(writes: &Writes<'_, S>) -> Result<BTreeMap<String, OutletRow>, StoreFault> {
    let rows = writes.whole(Table::Outlets, 2 * OUTLETS_MAX)?.into_iter();
    let rows = rows.map(|(key, value)| decode::<OutletRow>(Table::Outlets, &key, &value));
    Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().map(|row| (row.id().to_owned(), row)).collect())
}

pub(crate) fn unknown(id: &str) -> Refusal {
    Refusal::UnknownSubject { what: "outlet", name: id.to_owned() }
}

impl OutletRow {
    pub(crate) fn id(&self) -> &str {
        self.outlet.as_ref().map_or("", |outlet| &outlet.outlet_id)
    }
}

/// Tells whether a text may name an outlet or a key: it also names a file on every node.
pub(crate) fn is_outlet_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    begins && text.len() <= OUTLET_ID_BYTES_MAX && text.bytes().all(is_inner)
}

fn check_reason(reason: &str) -> Result<(), Refusal> {
    let is_reason = !reason.is_empty() && reason.len() <= REASON_BYTES_MAX;
    if is_reason { Ok(()) } else { Err(Refusal::Malformed("the command gives no reason, or one that is too long")) }
}

fn check(it: &v1::Outlet) -> Result<(), Refusal> {
    if !is_outlet_name(&it.outlet_id) || !is_identifier(&it.tenant_id) {
        return Err(Refusal::Malformed("the outlet has no proper name, or no tenant"));
    }
    match &it.kind {
        Some(Kind::SharedSignals(stream)) => check_stream(stream),
        Some(Kind::Webhook(webhook)) if !is_outlet_name(&webhook.key_id) => {
            Err(Refusal::Malformed("the key of the outlet has no proper name"))
        }
        Some(Kind::Webhook(webhook)) => check_endpoint(&webhook.endpoint),
        None => Err(Refusal::Malformed("the outlet is of no kind")),
    }
}

fn check_stream(it: &v1::SharedSignals) -> Result<(), Refusal> {
    let is_specified = it.algorithm() != v1::SigningAlgorithm::Unspecified
        && it.subject_form() != v1::SubjectForm::Unspecified
        && it.authorization() != v1::ReceiverAuthorization::Unspecified;
    if !is_specified {
        return Err(Refusal::Malformed("the outlet names no algorithm, no form of subjects, or no authorization"));
    }
    if !is_outlet_name(&it.key_id) || !is_identifier(&it.audience) {
        return Err(Refusal::Malformed("the outlet names no audience, or its key has no proper name"));
    }
    let is_issuer = Endpoint::parse(&it.issuer).is_some_and(|of| !of.path.contains('?'));
    if is_issuer { check_endpoint(&it.endpoint) } else { Err(Refusal::Malformed("the issuer is no https URL without a query")) }
}

fn check_endpoint(url: &str) -> Result<(), Refusal> {
    match Endpoint::parse(url).map(|of| of.scheme) {
        Some(Scheme::Https | Scheme::HttpLoopback) => Ok(()),
        None => Err(Refusal::Malformed("the endpoint is no https URL without userinfo and fragment")),
    }
}

/// A message goes on to an outlet that can say it, and no further than that.
fn check_escalation(it: &v1::Outlet, known: &BTreeMap<String, OutletRow>) -> Result<(), Refusal> {
    if others_escalating_to(&it.outlet_id, known).any(|other| !can_take(it, other)) {
        return Err(Refusal::AlreadyDone { what: "outlet", name: it.outlet_id.clone(), state: "where another outlet escalates to" });
    }
    match (it.escalate_to.as_str(), it.escalate_after_s) {
        ("", 0) => Ok(()),
        ("", _) | (_, 0) => Err(Refusal::Malformed("an escalation needs both an outlet and a time")),
        (_, after) if after > ESCALATE_AFTER_MAX_S => {
            Err(Refusal::TooLarge { what: "seconds before an escalation", actual: after.into(), limit: ESCALATE_AFTER_MAX_S.into() })
        }
        _ if it.escalations_only => Err(Refusal::Malformed("an outlet for escalations escalates nowhere")),
        (to, _) => match known.get(to).and_then(|row| row.outlet.as_ref()) {
            Some(target) if can_take(target, it) => Ok(()),
            Some(_) => {
                Err(Refusal::Malformed("the outlet to escalate to is not for escalations, of another tenant, or cannot say the same"))
            }
            None => Err(unknown(to)),
        },
    }
}

fn others_escalating_to<'a>(id: &'a str, known: &'a BTreeMap<String, OutletRow>) -> impl Iterator<Item = &'a v1::Outlet> {
    known.values().filter_map(|row| row.outlet.as_ref()).filter(move |other| other.escalate_to == id && other.outlet_id != id)
}

/// Tells whether `target` may be sent what `from` could not deliver.
pub(crate) fn can_take(target: &v1::Outlet, from: &v1::Outlet) -> bool {
    let can_say = match (&target.kind, &from.kind) {
        (Some(Kind::Webhook(_)), _) => true,
        (Some(Kind::SharedSignals(target)), Some(Kind::SharedSignals(from))) => target.subject_form == from.subject_form,
        (Some(Kind::SharedSignals(_)), Some(Kind::Webhook(_)) | None) | (None, _) => false,
    };
    can_say && target.escalations_only && (target.tenant_id == "*" || target.tenant_id == from.tenant_id)
}

fn is_same_kind(one: &v1::Outlet, other: &v1::Outlet) -> bool {
    matches!(
        (&one.kind, &other.kind),
        (Some(Kind::SharedSignals(_)), Some(Kind::SharedSignals(_))) | (Some(Kind::Webhook(_)), Some(Kind::Webhook(_)))
    )
}
