//! Alterations of what must happen in time, and of memory.

use super::{altering::Alteration, log::fault};
use crate::history::{Action, Fault, Mark, Marked, Moment, NodeId};

/// Everything behind this moment happens so much later.
fn stand_still(it: &mut Alteration<'_>, from: Moment, milliseconds: u64) {
    let later = |at: &mut Moment| *at = if *at > from { at.plus_ms(milliseconds) } else { *at };
    let history = &mut it.case.history;
    for operation in &mut history.operations {
        later(&mut operation.invoked);
        later(&mut operation.returned);
        operation.observed.iter_mut().for_each(|seen| later(&mut seen.at));
    }
    for fault in &mut history.faults {
        later(&mut fault.began);
        later(&mut fault.ended);
    }
    history.marks.iter_mut().for_each(|marked| later(&mut marked.at));
}

pub(super) fn late_recovery(it: &mut Alteration<'_>) -> Option<()> {
    let healed = it.case.history.marks.iter().rev().find(|marked| marked.what == Mark::Healed)?.at;
    let late = it.case.bounds.recovered_ms + 1_000;
    let recovered = it.case.history.marks.iter_mut().filter(|marked| matches!(marked.what, Mark::Recovered { .. }));
    recovered.for_each(|marked| marked.at = healed.plus_ms(late));
    Some(())
}

pub(super) fn no_writes(it: &mut Alteration<'_>) -> Option<()> {
    let from = an_acknowledgement_before_the_last_write(it)?;
    stand_still(it, from, it.case.bounds.available_ms + 1_000);
    Some(())
}

/// The cluster is broken all the time, so that nothing is demanded of it as a stable one.
pub(super) fn starve(it: &mut Alteration<'_>) -> Option<()> {
    let from = an_acknowledgement_before_the_last_write(it)?;
    fault(it, Fault::SlowNetwork)?.ended = Moment::NEVER;
    stand_still(it, from, it.case.bounds.starved_ms + 1_000);
    Some(())
}

/// One node is frozen all the time; the others are left alone.
pub(super) fn idle_beside_frozen(it: &mut Alteration<'_>) -> Option<()> {
    let from = an_acknowledgement_before_the_last_write(it)?;
    fault(it, Fault::Pause)?.ended = Moment::NEVER;
    stand_still(it, from, it.case.bounds.majority_ms + 1_000);
    Some(())
}

fn an_acknowledgement_before_the_last_write(it: &mut Alteration<'_>) -> Option<Moment> {
    let is_write = |action: &Action| matches!(action, Action::Append { .. });
    let last = it.case.history.operations.iter().filter(|it| is_write(&it.action)).map(|it| it.invoked).max()?;
    let place = it.an_operation(|it| is_write(&it.action) && it.answer().is_some() && it.returned < last)?;
    Some(it.operation(place)?.returned)
}

pub(super) fn slow_revoke(it: &mut Alteration<'_>) -> Option<()> {
    let is_write = |action: &Action| matches!(action, Action::Append { .. });
    let (late, operations) = (it.case.bounds.revoked_ms + 1_000, &it.case.history.operations);
    let last = operations.iter().filter(|it| is_write(&it.action)).map(|it| it.invoked).max()?;
    let first = operations.iter().filter(|it| is_write(&it.action) && it.answer().is_some()).map(|it| it.returned).min()?;
    let place = it.an_operation(|it| {
        matches!(it.action, Action::Revoke { .. }) && it.answer().is_some() && it.invoked > first && it.returned.plus_ms(late) < last
    })?;
    let operation = it.operation(place)?;
    operation.returned = operation.returned.plus_ms(late);
    Some(())
}

pub(super) fn too_much_memory(it: &mut Alteration<'_>) -> Option<()> {
    let node: NodeId = it.case.finals.nodes.first()?.node;
    let bytes = it.case.bounds.resident_bytes + 1;
    it.case.history.marks.push(Marked { at: Moment(1), what: Mark::Resident { node, bytes } });
    Some(())
}
