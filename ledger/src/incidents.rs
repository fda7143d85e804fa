//! Incidents and holds: what responders do about what was stopped, and what must be kept for those who ask later.

use proofline_proto::v1;
use v1::{IncidentCause, IncidentStage};

use crate::containment::names_something;
use crate::event::is_identifier;
use crate::holding;
use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::limits::REASON_BYTES_MAX;
use crate::lists::{List, Place, State};
use crate::refusal::Refusal;
use crate::row::{HoldRow, IncidentRow};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

const HOUR_NS: u64 = 3_600 * 1_000_000_000;
/// Containments that an incident names.
const CONTAINMENTS_MAX: usize = 256;

/// The stages in their order.
const STAGES: [IncidentStage; 8] = [
    IncidentStage::Opened,
    IncidentStage::Contained,
    IncidentStage::Preserved,
    IncidentStage::Scoped,
    IncidentStage::Classified,
    IncidentStage::CredentialsRevoked,
    IncidentStage::PolicyRebuilt,
    IncidentStage::Closed,
];

/// Returns the stage behind one.
pub(crate) fn stage_after(reached: IncidentStage) -> IncidentStage {
    let at = STAGES.iter().position(|stage| *stage == reached);
    at.and_then(|at| STAGES.get(at + 1)).copied().unwrap_or_default()
}

/// Returns when a stage is due, counted from the opening; `None` where no time is set.
pub(crate) fn due(stage: IncidentStage, opened: UnixNanos) -> Option<UnixNanos> {
    let hours = match stage {
        IncidentStage::Contained | IncidentStage::Preserved => 24,
        IncidentStage::Scoped | IncidentStage::Classified | IncidentStage::CredentialsRevoked => 72,
        IncidentStage::Unspecified | IncidentStage::Opened | IncidentStage::PolicyRebuilt | IncidentStage::Closed => return None,
    };
    Some(UnixNanos(opened.0.saturating_add(hours * HOUR_NS)))
}

/// Opens an incident, by the command that becomes entry `index`.
pub(crate) fn open<S: Store>(writes: &mut Writes<'_, S>, it: &v1::OpenIncident, index: EntryIndex, now: UnixNanos) -> Judged<()> {
    if !is_identifier(&it.tenant_id) || !is_identifier(&it.incident_id) || it.title.is_empty() || it.title.len() > REASON_BYTES_MAX {
        return Ok(Err(Refusal::Malformed("the incident has no tenant, no id or no title")));
    }
    let key = key::scoped(&it.tenant_id, &it.incident_id);
    if let Some(known) = writes.read::<IncidentRow>(Table::Incidents, &key)?
        && !known.steps.is_empty()
    {
        return Ok(Err(Refusal::AlreadyDone { what: "incident", name: it.incident_id.clone(), state: "opened" }));
    }
    let mut row = writes.read::<IncidentRow>(Table::Incidents, &key)?.unwrap_or_default();
    row.title.clone_from(&it.title);
    row.severity = it.severity;
    row.steps.push(step(IncidentStage::Opened, index, now, String::new()));
    writes.put(Table::Incidents, key, &row);
    Ok(Ok(()))
}

/// Takes note that an incident reached its next stage.
pub(crate) fn advance<S: Store>(writes: &mut Writes<'_, S>, it: &v1::AdvanceIncident, index: EntryIndex, now: UnixNanos) -> Judged<()> {
    if it.note.len() > REASON_BYTES_MAX {
        return Ok(Err(Refusal::Malformed("the note is too long")));
    }
    let key = key::scoped(&it.tenant_id, &it.incident_id);
    let known = writes.read::<IncidentRow>(Table::Incidents, &key)?.filter(|row| !row.steps.is_empty());
    let Some(mut row) = known else {
        return Ok(Err(Refusal::UnknownSubject { what: "incident", name: it.incident_id.clone() }));
    };
    let next = stage_after(row.reached());
    if it.stage() != next || next == IncidentStage::Unspecified {
        return Ok(Err(Refusal::WrongStage { incident: it.incident_id.clone(), asked: it.stage(), next }));
    }
    if (it.cause() == IncidentCause::Unspecified) == (next == IncidentStage::Classified) {
        return Ok(Err(Refusal::Malformed("a cause is named with CLASSIFIED, and with nothing else")));
    }
    if next == IncidentStage::Contained && row.containments.is_empty() {
        return Ok(Err(Refusal::NothingContained { incident: it.incident_id.clone() }));
    }
    if next == IncidentStage::Classified {
        row.cause = it.cause;
    }
    row.steps.push(step(next, index, now, it.note.clone()));
    writes.put(Table::Incidents, key, &row);
    Ok(Ok(()))
}

fn step(stage: IncidentStage, index: EntryIndex, now: UnixNanos, note: String) -> v1::IncidentStep {
    v1::IncidentStep { stage: stage.into(), index: index.0, at_unix_ns: now.0, note }
}

/// Names a containment in the incident that it belongs to, whether or not that was opened by now.
pub(crate) fn note_containment<S: Store>(
    writes: &mut Writes<'_, S>,
    tenant: &str,
    incident: &str,
    containment: u64,
) -> Result<(), StoreFault> {
    if incident.is_empty() {
        return Ok(());
    }
    let key = key::scoped(tenant, incident);
    let mut row = writes.read::<IncidentRow>(Table::Incidents, &key)?.unwrap_or_default();
    if row.containments.len() < CONTAINMENTS_MAX {
        row.containments.push(containment);
        writes.put(Table::Incidents, key, &row);
    }
    Ok(())
}

/// Places a hold, by the command or the containment that entry `index` records.
pub(crate) fn hold<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, row: &HoldRow) {
    ledger.log.holds += 1;
    listed(row, State::Open, ledger.log.holds).enter(writes, &[]);
    writes.put(Table::Holds, ledger.log.holds.to_be_bytes(), row);
    if let Some(target) = &row.target {
        holding::begin(writes, target, ledger.log.holds);
    }
}

fn listed(of: &HoldRow, state: State, number: u64) -> Place<'_> {
    Place { list: List::Holds, tenant: of.target.as_ref().map_or("*", |it| &it.tenant_id), state, number }
}

/// Carries out a responder's command to keep evidence.
pub(crate) fn place<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    it: &v1::PlaceHold,
    index: EntryIndex,
) -> Result<(), Refusal> {
    let short = [&it.matter, &it.authority].iter().all(|text| !text.is_empty() && text.len() <= REASON_BYTES_MAX);
    let Some(target) = it.target.as_ref().filter(|target| names_something(target)).filter(|_| short) else {
        return Err(Refusal::Malformed("a hold names what is held, in which matter, and by whose authority"));
    };
    let row = HoldRow {
        target: Some(target.clone()),
        matter: it.matter.clone(),
        authority: it.authority.clone(),
        placed_index: index.0,
        containment_id: 0,
        released_by: None,
    };
    hold(ledger, writes, &row);
    Ok(())
}

/// Lifts a hold. What another hold covers stays held.
pub(crate) fn release<S: Store>(writes: &mut Writes<'_, S>, it: &v1::ReleaseHold, index: EntryIndex) -> Judged<()> {
    if it.reason.is_empty() || it.reason.len() > REASON_BYTES_MAX {
        return Ok(Err(Refusal::Malformed("a release gives no reason, or one that is too long")));
    }
    let key = it.hold_id.to_be_bytes().to_vec();
    let name = it.hold_id.to_string();
    let Some(mut row) = writes.read::<HoldRow>(Table::Holds, &key)? else {
        return Ok(Err(Refusal::UnknownSubject { what: "hold", name }));
    };
    if row.released_by.is_some() {
        return Ok(Err(Refusal::AlreadyDone { what: "hold", name, state: "released" }));
    }
    row.released_by = Some(index.0);
    listed(&row, State::Open, it.hold_id).leave(writes);
    listed(&row, State::Closed, it.hold_id).enter(writes, &[]);
    writes.put(Table::Holds, key, &row);
    if let Some(target) = &row.target {
        holding::end(writes, target, it.hold_id);
    }
    Ok(Ok(()))
}

impl IncidentRow {
    pub(crate) fn reached(&self) -> IncidentStage {
        self.steps.last().map(v1::IncidentStep::stage).unwrap_or_default()
    }

    pub(crate) fn summary(self, incident_id: String) -> v1::IncidentSummary {
        let next = stage_after(self.reached());
        let opened = self.steps.first().map_or(UnixNanos(0), |step| UnixNanos(step.at_unix_ns));
        v1::IncidentSummary {
            incident_id,
            severity: self.severity,
            cause: self.cause,
            next: next.into(),
            next_due_unix_ns: due(next, opened).map_or(0, |due| due.0),
            title: self.title,
            steps: self.steps,
            containments: self.containments,
        }
    }
}
