//! Alterations of what must happen in time, and of memory.

use super::altering::Alteration;
use crate::history::{Action, Mark, Marked, Moment, NodeId};

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
    let is_write = |action: &Action| matches!(action, Action::Append { .. });
    let last = it.case.history.operations.iter().filter(|it| is_write(&it.action)).map(|it| it.invoked).max()?;
    let place = it.an_operation(|it| is_write(&it.action) && it.answer().is_some() && it.returned < last)?;
    let from = it.operation(place)?.returned;
    stand_still(it, from, it.case.bounds.available_ms + 1_000);
    Some(())
}

pub(super) fn too_much_memory(it: &mut Alteration<'_>) -> Option<()> {
    let node: NodeId = it.case.finals.nodes.first()?.node;
    let bytes = it.case.bounds.resident_bytes + 1;
    it.case.history.marks.push(Marked { at: Moment(1), what: Mark::Resident { node, bytes } });
    Some(())
}
