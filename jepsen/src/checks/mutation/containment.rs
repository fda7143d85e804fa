//! Alterations of verdicts and containments.

use proofline_proto::v1::{self, entry_core::Body as Recorded};

use super::altering::Alteration;
use crate::{
    checks::Body,
    history::{Answer, Moment, Outcome, Ruling},
};

fn decide(it: &mut Alteration<'_>, place: usize, verdict: v1::Verdict) -> Option<()> {
    it.rewrite(place, |_, core| {
        core.decision.as_mut()?.verdict = verdict.into();
        Some(())
    })
}

fn is_ruled(body: &Body, wanted: Ruling) -> bool {
    matches!(body, Body::Event { ruling, .. } if *ruling == wanted)
}

/// Makes every answer about an entry say something else.
fn answer(it: &mut Alteration<'_>, place: usize, ruling: Ruling) {
    for operation in &mut it.case.history.operations {
        let Outcome::Ok { answer: Answer::Appended { first_index, events } } = &mut operation.outcome else { continue };
        let offset = usize::try_from(*first_index).ok().and_then(|first| place.checked_sub(first));
        if let Some(receipt) = offset.and_then(|offset| events.get_mut(offset)) {
            receipt.ruling = ruling;
        }
    }
}

pub(super) fn allow_after_revoke(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| is_ruled(&entry.body, Ruling::Deny))?;
    decide(it, place, v1::Verdict::Allow)?;
    answer(it, place, Ruling::Allow);
    Some(())
}

pub(super) fn answer_allows(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| is_ruled(&entry.body, Ruling::Deny))?;
    answer(it, place, Ruling::Allow);
    Some(())
}

pub(super) fn deny_without_cause(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| is_ruled(&entry.body, Ruling::Allow))?;
    decide(it, place, v1::Verdict::Deny)?;
    answer(it, place, Ruling::Deny);
    Some(())
}

pub(super) fn drop_revoke(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| matches!(entry.body, Body::Containment { change: v1::ContainmentChange::Began, .. }))?;
    it.rewrite(place, |_, core| {
        let Some(Recorded::Containment(containment)) = &mut core.body else { return None };
        containment.targets.clear();
        Some(())
    })
}

/// Dates the acknowledgement of a revocation before an event below it was sent that was allowed before the revocation.
pub(super) fn late_event_allowed(it: &mut Alteration<'_>) -> Option<()> {
    let entries = it.entries();
    let revoked = |body: &Body| match body {
        Body::Revoke { session, .. } => Some(session.clone()),
        _ => None,
    };
    let (index, session) = entries.iter().find_map(|entry| {
        let session = revoked(&entry.body)?;
        let is_allowed = |other: &&crate::checks::Entry| {
            other.index < entry.index
                && is_ruled(&other.body, Ruling::Allow)
                && other.session.as_ref().is_some_and(|at| at.session == session)
        };
        entries.iter().any(|other| is_allowed(&other)).then_some((entry.index, session.clone()))
    })?;
    for operation in &mut it.case.history.operations {
        match &operation.outcome {
            Outcome::Ok { answer: Answer::Commanded { index: at } } if *at == index => {
                (operation.invoked, operation.returned) = (Moment(1), Moment(2));
            }
            _ => {}
        }
    }
    // It is about sessions that were written to before: nothing else was asked so early.
    (!session.is_empty()).then_some(())
}

pub(super) fn release_unasked(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_entry(|entry| matches!(entry.body, Body::Containment { change: v1::ContainmentChange::Released, .. }))?;
    it.rewrite(place, |_, core| {
        let Some(Recorded::Containment(containment)) = &mut core.body else { return None };
        containment.cause_index = containment.cause_index.checked_sub(1)?;
        Some(())
    })
}
