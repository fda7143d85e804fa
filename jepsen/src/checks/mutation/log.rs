//! Alterations of the nodes' logs.

use proofline_proto::v1::entry_core::Body as Recorded;

use super::altering::{Alteration, alter_event, rewritten};
use crate::{
    checks::{Body, Reading},
    history::{Action, Answer, Evidence, Fault, FaultId, FaultRecord, Installed, Moment},
};

const SECOND_NS: u64 = 1_000_000_000;

pub(super) fn fork(it: &mut Alteration<'_>) -> Option<()> {
    let node = it.case.finals.nodes.get_mut(1)?;
    let place = node.log.len().checked_sub(1)?;
    let entry = node.log.get_mut(place)?;
    *entry = rewritten(entry, |_, core| {
        core.committed_unix_ns += 1;
        Some(())
    })?;
    Some(())
}

pub(super) fn shorten(it: &mut Alteration<'_>) -> Option<()> {
    let node = it.case.finals.nodes.get_mut(2)?;
    node.log.truncate(node.log.len().checked_sub(3)?);
    Some(())
}

pub(super) fn other_state(it: &mut Alteration<'_>) -> Option<()> {
    it.case.finals.nodes.get_mut(0)?.state_digest.0[0] ^= 1;
    Some(())
}

pub(super) fn other_time(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_event()?;
    it.rewrite(place, |_, core| {
        core.committed_unix_ns += SECOND_NS;
        Some(())
    })
}

pub(super) fn time_goes_back(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| entry.index > 5)?;
    it.rewrite(place, |_, core| {
        core.committed_unix_ns -= 600 * SECOND_NS;
        Some(())
    })
}

pub(super) fn drop_entry(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let Answer::Appended { first_index, .. } = it.answer(place)? else { return None };
    let index = usize::try_from(*first_index).ok()?;
    it.each_log(|log| drop(log.remove(index)));
    Some(())
}

pub(super) fn drop_equivocation(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| matches!(entry.body, Body::Equivocation { .. }))?;
    it.each_log(|log| drop(log.remove(place)));
    Some(())
}

pub(super) fn flip_payload(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_event()?;
    it.rewrite(place, |_, core| alter_event(core, |event| event.observed_unix_ns ^= 1))
}

pub(super) fn double_entry(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_event()?;
    let index = it.log().len() as u64;
    let copy = rewritten(it.log().get(place)?, |_, core| {
        core.index = index;
        Some(())
    })?;
    it.each_log(|log| log.push(copy.clone()));
    Some(())
}

pub(super) fn double_id(it: &mut Alteration<'_>) -> Option<()> {
    let first = it.an_event()?;
    let other = it.an_entry(|entry| entry.index != first as u64 && matches!(entry.body, Body::Event { .. }))?;
    let Some(Body::Event { id, .. }) = it.entries().get(first).map(|entry| entry.body.clone()) else { return None };
    it.rewrite(other, |_, core| alter_event(core, |event| event.event_id = id.0.to_vec()))
}

/// Swaps two batches of one event, and their acknowledgements with them: only real time tells.
pub(super) fn swap_in_time(it: &mut Alteration<'_>) -> Option<()> {
    let single = |operation: &crate::history::Operation| match (&operation.action, operation.answer()) {
        (Action::Append { events, .. }, Some(Answer::Appended { first_index, .. })) if events.len() == 1 => Some(*first_index),
        _ => None,
    };
    let (first, one) = {
        let reading = Reading::of(it.case);
        let found = reading.operations().iter().find_map(|operation| Some((single(operation)?, operation.returned)));
        found?
    };
    let other =
        it.case.history.operations.iter().find(|operation| operation.invoked > one && single(operation).is_some_and(|index| index > first));
    let second = other.and_then(single)?;
    let (low, high) = (usize::try_from(first).ok()?, usize::try_from(second).ok()?);
    it.each_log(|log| log.swap(low, high));
    for place in [low, high] {
        it.rewrite(place, |_, core| {
            core.index = place as u64;
            Some(())
        })?;
    }
    for operation in &mut it.case.history.operations {
        if let crate::history::Outcome::Ok { answer: Answer::Appended { first_index, .. } } = &mut operation.outcome {
            if *first_index == first {
                *first_index = second;
            } else if *first_index == second {
                *first_index = first;
            }
        }
    }
    Some(())
}

pub(super) fn skip_position(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| entry.session.is_some())?;
    it.rewrite(place, |_, core| {
        core.session.as_mut()?.position += 1;
        Some(())
    })
}

pub(super) fn skip_sequence(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_event()?;
    it.rewrite(place, |_, core| {
        let Some(Recorded::Event(recorded)) = &mut core.body else { return None };
        recorded.at.as_mut()?.sequence += 1;
        Some(())
    })
}

pub(super) fn other_session_root(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| entry.session.is_some())?;
    it.rewrite(place, |entry, _| {
        *entry.session_root.first_mut()? ^= 1;
        Some(())
    })
}

/// Writes down a fault that was there and showed.
pub(super) fn fault<'a>(it: &'a mut Alteration<'_>, what: Fault) -> Option<&'a mut FaultRecord> {
    let targets = vec![it.case.finals.nodes.first()?.node];
    it.case.history.faults.push(FaultRecord {
        id: FaultId(0),
        fault: what,
        targets,
        detail: "an alteration".to_owned(),
        began: Moment(1),
        ended: Moment(2),
        installed: Installed::Installed,
        evidence: Evidence::from([("seen".to_owned(), 1)]),
    });
    it.case.history.faults.last_mut()
}

pub(super) fn lose_power(it: &mut Alteration<'_>) -> Option<()> {
    fault(it, Fault::PowerLoss)?;
    drop_entry(it)
}

pub(super) fn serve_damage(it: &mut Alteration<'_>) -> Option<()> {
    fault(it, Fault::BitFlip)?;
    flip_payload(it)
}

pub(super) fn sign_other_tree(it: &mut Alteration<'_>) -> Option<()> {
    let (_, root) = it.case.finals.nodes.first_mut()?.signed.as_mut()?;
    root.0[3] ^= 2;
    Some(())
}

pub(super) fn forget_signature(it: &mut Alteration<'_>) -> Option<()> {
    for node in &mut it.case.finals.nodes {
        let served = node.checkpoint.as_ref()?.size;
        node.signed = node.signed.map(|(_, root)| (served.saturating_sub(1), root));
    }
    Some(())
}
