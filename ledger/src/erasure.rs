//! Forgetting: the commands that erase a subject's payloads and that say how long payloads are kept.
//!
//! Apply decides and remembers; what is destroyed lies outside of it, on each node. Entries, trees and proofs stay as they are.

use proofline_proto::v1;
use v1::command::Action;
use v1::entry_core::Body;

use crate::event::is_identifier;
use crate::holding;
use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::limits::{REASON_BYTES_MAX, RETENTION_DAYS_MAX, RETENTION_FLOOR_DAYS};
use crate::log::Draft;
use crate::prepare::PreparedCommand;
use crate::refusal::Refusal;
use crate::row::{ErasureRow, RetentionRow};
use crate::store::{Store, StoreFault, Table};
use crate::subject::Subject;
use crate::writes::Writes;

/// What became of an erasure that was asked for.
pub(crate) enum Asked {
    /// The command becomes an entry.
    Granted,
    /// A hold forbids it. That it was asked for is recorded, and refused with this.
    Deferred(u64),
}

/// Decides on an erasure that becomes entry `index`, and remembers it.
pub(crate) fn erase<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    it: &v1::EraseSubject,
    index: EntryIndex,
    now: UnixNanos,
) -> Judged<Asked> {
    let Some(subject) = Subject::new(&it.tenant_id, &it.issuer, &it.subject) else {
        return Ok(Err(Refusal::Malformed("the erasure names no tenant or no subject")));
    };
    if it.ground.is_empty() || it.ground.len() > REASON_BYTES_MAX {
        return Ok(Err(Refusal::Malformed("an erasure gives no ground, or one that is too long")));
    }
    if !holding::is_known(writes, &subject)? {
        return Ok(Err(Refusal::UnknownSubject { what: "subject of a payload", name: it.subject.clone() }));
    }
    if let Some(hold) = holding::on_subject(writes, &subject)? {
        return Ok(Ok(Asked::Deferred(hold)));
    }
    ledger.log.erasures += 1;
    let row = ErasureRow {
        tenant_id: subject.tenant.clone(),
        issuer: subject.issuer.clone(),
        subject: subject.subject.clone(),
        index: index.0,
        at_unix_ns: now.0,
    };
    writes.put(Table::Erasures, subject.key(), &row);
    // The command's entry determines it.
    writes.keep(Table::ErasureLog, ledger.log.erasures.to_be_bytes(), prost::Message::encode_to_vec(&row));
    Ok(Ok(Asked::Granted))
}

/// Records that an erasure was asked for which a hold forbids, and returns the refusal.
pub(crate) fn defer<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, command: &PreparedCommand, hold: u64) -> Refusal {
    let body = Body::ErasureDeferred(v1::ErasureDeferred { command: Some(command.signed.clone()), hold_id: hold });
    let recorded = ledger.log.append(writes, Draft::of(body));
    Refusal::ErasureDeferred { hold, recorded }
}

/// Returns the first answer to an erasure that was deferred by entry `at`: whoever lost that answer must not take the entry for an erasure.
pub(crate) fn deferred_by<S: Store>(
    ledger: &Ledger,
    writes: &Writes<'_, S>,
    action: &Action,
    at: EntryIndex,
) -> Result<Option<Refusal>, StoreFault> {
    if !matches!(action, Action::EraseSubject(_)) {
        return Ok(None);
    }
    Ok(match ledger.log.core(writes, at)?.as_ref().and_then(|core| core.body.as_ref()) {
        Some(Body::ErasureDeferred(it)) => Some(Refusal::ErasureDeferred { hold: it.hold_id, recorded: at }),
        _ => None,
    })
}

/// Sets how long payloads of a tenant are kept.
pub(crate) fn retain<S: Store>(writes: &mut Writes<'_, S>, it: &v1::SetRetention, index: EntryIndex) -> Result<(), Refusal> {
    if !is_identifier(&it.tenant_id) || it.tenant_id == "*" || it.reason.is_empty() || it.reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::Malformed("a retention names no tenant, gives no reason, or one that is too long"));
    }
    if it.days < RETENTION_FLOOR_DAYS {
        return Err(Refusal::BelowRetentionFloor { days: it.days, floor: RETENTION_FLOOR_DAYS });
    }
    if it.days > RETENTION_DAYS_MAX {
        return Err(Refusal::TooLarge { what: "days of retention", actual: it.days.into(), limit: RETENTION_DAYS_MAX.into() });
    }
    writes.put(
        Table::Retention,
        key::text(&it.tenant_id),
        &RetentionRow { tenant_id: it.tenant_id.clone(), days: it.days, set_by: index.0 },
    );
    Ok(())
}
