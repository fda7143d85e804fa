//! Alterations of what was asked and answered.

use super::altering::Alteration;
use crate::{
    checks::Body,
    history::{Action, Answer, BatchId, Fault, LaneHead, Moment, Nonce, Outcome, Ruling},
};

fn refused(for_good: bool) -> Outcome {
    Outcome::Fail { reason: "AN_ALTERATION".to_owned(), for_good }
}

fn batch_of(it: &mut Alteration<'_>, place: usize) -> Option<BatchId> {
    match &it.operation(place)?.action {
        Action::Append { batch, .. } => Some(batch.clone()),
        _ => None,
    }
}

pub(super) fn shift_acknowledgement(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let Answer::Appended { first_index, .. } = it.answer(place)? else { return None };
    *first_index += 1;
    Some(())
}

pub(super) fn other_sessions_index(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let Action::Append { events, .. } = it.operation(place)?.action.clone() else { return None };
    let session = &events.first()?.session;
    let other =
        it.an_entry(|entry| matches!(entry.body, Body::Event { .. }) && entry.session.as_ref().is_some_and(|at| at.session != *session))?;
    let Answer::Appended { first_index, .. } = it.answer(place)? else { return None };
    *first_index = other as u64;
    Some(())
}

pub(super) fn shift_command(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!(it.answer(), Some(Answer::Commanded { .. })))?;
    let Answer::Commanded { index } = it.answer(place)? else { return None };
    *index += 1;
    Some(())
}

pub(super) fn forget_invocation(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let gone = batch_of(it, place)?;
    it.case.history.operations.retain(|it| !matches!(&it.action, Action::Append { batch, .. } if *batch == gone));
    Some(())
}

pub(super) fn refuse_all(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let gone = batch_of(it, place)?;
    for operation in &mut it.case.history.operations {
        if matches!(&operation.action, Action::Append { batch, .. } if *batch == gone) {
            operation.outcome = refused(false);
        }
    }
    Some(())
}

pub(super) fn refuse_for_good(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let other = it.again(place)?;
    it.operation(other)?.outcome = refused(true);
    Some(())
}

pub(super) fn refuse_command(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!((&it.action, it.answer()), (Action::Revoke { .. }, Some(_))))?;
    let Action::Revoke { nonce: gone, .. } = it.operation(place)?.action else { return None };
    for operation in &mut it.case.history.operations {
        if matches!(operation.action, Action::Revoke { nonce, .. } if nonce == gone) {
            operation.outcome = refused(false);
        }
    }
    Some(())
}

pub(super) fn retry_elsewhere(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let other = it.again(place)?;
    let Answer::Appended { first_index, .. } = it.answer(other)? else { return None };
    *first_index += 7;
    Some(())
}

pub(super) fn retry_other_verdict(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let other = it.again(place)?;
    let Answer::Appended { events, .. } = it.answer(other)? else { return None };
    let receipt = events.first_mut()?;
    receipt.ruling = if receipt.ruling == Ruling::Allow { Ruling::Deny } else { Ruling::Allow };
    Some(())
}

pub(super) fn stale_opening(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!(it.answer(), Some(Answer::Opened { last, .. }) if last.sequence > 0))?;
    let Answer::Opened { last, .. } = it.answer(place)? else { return None };
    last.sequence -= 1;
    Some(())
}

pub(super) fn forget_equivocation(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| matches!(entry.body, Body::Equivocation { .. }))?;
    let Some(Body::Equivocation { batch: gone }) = it.entries().get(place).map(|entry| entry.body.clone()) else { return None };
    it.case.history.operations.retain(|it| !matches!(&it.action, Action::Equivocate { batch, .. } if *batch == gone));
    Some(())
}

pub(super) fn acknowledge_both(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!(it.action, Action::Equivocate { .. }))?;
    it.operation(place)?.outcome = Outcome::Ok { answer: Answer::Appended { first_index: 5, events: Vec::new() } };
    Some(())
}

/// As a leader does it that was deposed, and does not know: the answer comes from what it has, and nobody else hears of it.
pub(super) fn lost_opening(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_acknowledgement()?;
    let lane = batch_of(it, place)?.lane;
    let other = it.again(place)?;
    let operation = it.operation(other)?;
    operation.action = Action::OpenLane { lane, nonce: Nonce([0xd5; 16]) };
    (operation.invoked, operation.returned) = (Moment(operation.returned.0 + 1), Moment(operation.returned.0 + 2));
    operation.outcome = Outcome::Ok { answer: Answer::Opened { epoch: 1_000, last: LaneHead::default() } };
    Some(())
}

pub(super) fn unseen_fault(it: &mut Alteration<'_>) -> Option<()> {
    it.case.history.run.scheduled.push(Fault::KillLeader);
    // As if everything else had been there.
    let place = it.an_acknowledgement()?;
    let other = it.again(place)?;
    let operation = it.operation(other)?;
    (operation.outcome, operation.returned) = (Outcome::Info { reason: "no answer".to_owned() }, Moment::NEVER);
    Some(())
}
