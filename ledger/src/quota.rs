//! What a collector may make the log grow by in an hour of committed time.
//!
//! Counted are events, new sessions, openings of lanes, each as one event, and the bytes of payloads that events commit to: every
//! node keeps what is handed over of them. A closing batch and an equivocation come
//! at most once for an epoch, so the openings bound them. Commands need an operator, and are not counted.

use std::collections::BTreeSet;

use proofline_proto::v1;

use crate::batch::Content;
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::limits::{EVENTS_PER_HOUR_DEFAULT, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_PER_HOUR_DEFAULT, SESSIONS_PER_HOUR_DEFAULT};
use crate::refusal::Refusal;
use crate::row::QuotaRow;
use crate::session::Claim;
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

const HOUR_NS: u64 = 3_600 * 1_000_000_000;

/// Counts a batch of `events` against its collector's hour; it is refused whole when it does not fit, before anything is read
/// of it. Nothing is written: the row belongs to the entry that the caller makes.
pub(crate) fn reserve<S: Store>(ledger: &Ledger, writes: &Writes<'_, S>, of: &v1::RegisterCollector, events: usize) -> Judged<Hour> {
    let mut hour = Hour::of(ledger, writes, of)?;
    Ok(hour.take_events(events as u64).map(|()| hour))
}

/// Counts the opening of a lane against its collector's hour: it is an entry, and each allows two more that are not counted.
pub(crate) fn reserve_opening<S: Store>(ledger: &Ledger, writes: &Writes<'_, S>, of: &v1::RegisterCollector) -> Judged<QuotaRow> {
    let mut hour = Hour::of(ledger, writes, of)?;
    Ok(hour.take_events(1).map(|()| hour.row))
}

/// A collector's current hour.
pub(crate) struct Hour {
    row: QuotaRow,
    events_max: u64,
    sessions_max: u64,
    payload_bytes_max: u64,
    renews_in_s: u64,
}

impl Hour {
    fn of<S: Store>(ledger: &Ledger, writes: &Writes<'_, S>, of: &v1::RegisterCollector) -> Result<Self, StoreFault> {
        let now = ledger.log.now().0;
        let hour = now / HOUR_NS;
        let row: QuotaRow = writes.read(Table::Quotas, &key::text(&of.collector_id))?.unwrap_or_default();
        Ok(Self {
            row: if row.hour == hour { row } else { QuotaRow { hour, ..QuotaRow::default() } },
            events_max: limit(of.events_per_hour, EVENTS_PER_HOUR_DEFAULT),
            sessions_max: limit(of.sessions_per_hour, SESSIONS_PER_HOUR_DEFAULT),
            payload_bytes_max: limit(of.payload_bytes_per_hour, PAYLOAD_BYTES_PER_HOUR_DEFAULT),
            renews_in_s: ((hour + 1) * HOUR_NS - now).div_ceil(1_000_000_000),
        })
    }

    fn take_events(&mut self, count: u64) -> Result<(), Refusal> {
        self.check("events", self.row.events, count, self.events_max)?;
        self.row.events += count;
        Ok(())
    }

    /// Checks what the events of the batch say of payloads and sessions.
    pub(crate) fn admit<S: Store>(self, ledger: &mut Ledger, writes: &Writes<'_, S>, batch: &[Content]) -> Judged<QuotaRow> {
        if let Err(refusal) = self.check_payloads(batch) {
            return Ok(Err(refusal));
        }
        // No batch begins more sessions than it has events, so the sessions are only looked for when they might be too many.
        if self.row.sessions.saturating_add(batch.len() as u64) > self.sessions_max
            && let Err(refusal) = self.check_sessions(new_sessions(ledger, writes, batch)?)
        {
            return Ok(Err(refusal));
        }
        Ok(Ok(self.row))
    }

    /// Payloads are counted when their events are recorded; here they only have to fit.
    fn check_payloads(&self, batch: &[Content]) -> Result<(), Refusal> {
        let bytes = batch.iter().flatten().map(payload_bytes).sum();
        self.check("bytes of payloads", self.row.payload_bytes, bytes, self.payload_bytes_max)
    }

    /// Sessions are counted when they begin; here they only have to fit.
    fn check_sessions(&self, new: u64) -> Result<(), Refusal> {
        self.check("sessions", self.row.sessions, new, self.sessions_max)
    }

    fn check(&self, what: &'static str, used: u64, more: u64, limit: u64) -> Result<(), Refusal> {
        if more > limit {
            Err(Refusal::BeyondQuota { what, actual: more, limit })
        } else if used.saturating_add(more) > limit {
            Err(Refusal::QuotaExceeded { what, limit, retry_after_s: self.renews_in_s })
        } else {
            Ok(())
        }
    }
}

fn limit(registered: u64, default: u64) -> u64 {
    if registered == 0 { default } else { registered }
}

/// Counts what could be handed over of the payloads of an event. What is longer than any payload is kept somewhere else.
pub(crate) fn payload_bytes(event: &v1::Event) -> u64 {
    let sizes = event.payloads.iter().map(|commitment| commitment.size_bytes);
    sizes.filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX as u64).sum()
}

fn new_sessions<S: Store>(ledger: &mut Ledger, writes: &Writes<'_, S>, batch: &[Content]) -> Result<u64, StoreFault> {
    let mut seen = BTreeSet::new();
    for event in batch.iter().flatten() {
        let Some(claim) = Claim::of(event) else { continue };
        let key = key::scoped(claim.tenant, claim.id);
        if !seen.contains(&key) && ledger.sessions.find(writes, &key)?.is_none() {
            seen.insert(key);
        }
    }
    Ok(seen.len() as u64)
}
