//! P14: nothing below what was revoked is allowed.
//!
//! What is below a session is read off the log: the parent that a session's events name, and the sessions that said they
//! spawned it. A revocation at index r speaks of every event behind r, until its containment is released.

use std::collections::{BTreeSet, HashMap};

use proofline_proto::v1::ContainmentChange;

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
    availability::stable_spans,
    entry::Body,
    reading::{Reading, Replayed, Request},
};
use crate::history::{Action, Answer, Moment, Ruling};

/// Longest chain of sessions above one that is followed.
const ABOVE_MAX: usize = 128;

pub(super) fn containment(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let walk = Walk::through(reading, &mut found);
    check_replies(reading, &mut found);
    check_revocations(reading, &mut found);
    check_real_time(reading, &walk, &mut found);
    if let Replayed::Stopped { index, why } = reading.replayed() {
        found.add(Anomaly { index: *index, ..Anomaly::new("verdict-not-reproducible", why.clone()) });
    }
    found.judgement()
}

/// A containment of a session, from the entry behind which it holds to the one that releases it.
struct Case {
    from: u64,
    to: u64,
}

/// What a walk through the log finds.
#[derive(Default)]
struct Walk<'a> {
    /// Who is directly above a session.
    parents: HashMap<&'a str, BTreeSet<&'a str>>,
    /// Every containment of a session.
    cases: HashMap<&'a str, Vec<Case>>,
}

impl<'a> Walk<'a> {
    fn through(reading: &'a Reading<'_>, found: &mut Found) -> Self {
        let mut walk = Self::default();
        let mut numbers: HashMap<u64, &'a str> = HashMap::new();
        for (index, entry) in (0..).zip(&reading.entries) {
            let Some(entry) = entry else { continue };
            match &entry.body {
                Body::Event { ruling, parent, spawned, .. } => {
                    let Some(session) = entry.session.as_ref().map(|at| at.session.as_str()) else { continue };
                    if let Some(parent) = parent {
                        walk.parents.entry(session).or_default().insert(parent);
                    }
                    if let Some(above) = walk.contained_by(session, index).filter(|_| *ruling != Ruling::Deny) {
                        let detail = format!("{ruling:?} for session {session}, which is below {above}, which is revoked");
                        found.add(Anomaly::new("allowed-after-revoke", detail).at(index));
                    }
                    if let Some(child) = spawned {
                        walk.parents.entry(child).or_default().insert(session);
                    }
                }
                Body::Revoke { session, .. } => walk.cases.entry(session).or_default().push(Case { from: index, to: u64::MAX }),
                Body::Containment { change, id, cause, sessions } => {
                    walk.change(reading, found, &mut numbers, index, (*change, *id, *cause, sessions));
                }
                _ => {}
            }
        }
        walk
    }

    fn change(
        &mut self,
        reading: &'a Reading<'_>,
        found: &mut Found,
        numbers: &mut HashMap<u64, &'a str>,
        index: u64,
        (change, id, cause, sessions): (ContainmentChange, u64, u64, &'a [String]),
    ) {
        let by = reading.entry(cause).map(|entry| &entry.body);
        match change {
            ContainmentChange::Began => {
                if let Some(session) = sessions.first() {
                    numbers.insert(id, session);
                }
            }
            ContainmentChange::Released => {
                let is_asked = matches!(by, Some(Body::Release { containment, .. }) if *containment == id);
                found.check(is_asked, || Anomaly::new("released-by-nobody", format!("containment {id} ends without a command")).at(index));
                let case = numbers.get(&id).and_then(|session| self.cases.get_mut(session));
                if let Some(case) = case.and_then(|cases| cases.iter_mut().find(|case| case.to == u64::MAX)) {
                    case.to = cause;
                }
            }
            ContainmentChange::Extended | ContainmentChange::Unspecified => {}
        }
    }

    /// Returns a session that is contained at an index and is this one or above it.
    fn contained_by(&self, session: &'a str, index: u64) -> Option<&'a str> {
        let is_contained =
            |session: &str| self.cases.get(session).is_some_and(|cases| cases.iter().any(|case| case.from < index && index < case.to));
        self.above(session).into_iter().find(|above| is_contained(above))
    }

    /// Returns a session and every one above it.
    fn above(&self, session: &'a str) -> Vec<&'a str> {
        let mut above = vec![session];
        let mut next = 0;
        while let Some(session) = above.get(next).copied() {
            next += 1;
            for parent in self.parents.get(session).into_iter().flatten() {
                if !above.contains(parent) && above.len() < ABOVE_MAX {
                    above.push(parent);
                }
            }
        }
        above
    }
}

/// What was told of a verdict is what was recorded.
fn check_replies(reading: &Reading<'_>, found: &mut Found) {
    for batch in &reading.batches {
        for (operation, first, receipts) in batch.acknowledgements() {
            for (index, receipt) in (first..).zip(receipts) {
                let recorded = match reading.entry(index).map(|entry| &entry.body) {
                    Some(Body::Event { ruling, .. }) => *ruling,
                    _ => Ruling::Rejected,
                };
                found.check(recorded == receipt.ruling, || {
                    let detail = format!("the answer said {:?}, the log says {recorded:?}", receipt.ruling);
                    Anomaly::new("verdict-differs", detail).at(index).by([operation.id]).on([operation.node])
                });
            }
        }
    }
}

/// An acknowledged revocation has begun a containment, at once, and took no longer than it may.
fn check_revocations(reading: &Reading<'_>, found: &mut Found) {
    let spans = stable_spans(reading);
    for (request, session, index) in revocations(reading) {
        let began = reading.entry(index + 1).is_some_and(|entry| match &entry.body {
            Body::Containment { change: ContainmentChange::Began, cause, sessions, .. } => {
                *cause == index && sessions.iter().any(|it| it == session)
            }
            _ => false,
        });
        let operations = || request.tries.iter().map(|it| it.id);
        found.check(began, || {
            Anomaly::new("revoke-dropped", format!("the revocation of {session} contains nothing")).at(index).by(operations())
        });
        for operation in request.tries.iter().filter(|it| it.answer().is_some()) {
            let is_stable = spans.iter().any(|span| span.0 <= operation.invoked && operation.returned <= span.1);
            let took = operation.returned.ms_since(operation.invoked);
            found.check(!is_stable || took <= reading.case.bounds.revoked_ms, || {
                Anomaly::new("revoke-late", format!("it took {took} ms")).at(index).by([operation.id]).on([operation.node])
            });
        }
    }
}

/// Returns the acknowledged revocations: the request, the session, the entry.
fn revocations<'r, 'a>(reading: &'r Reading<'a>) -> impl Iterator<Item = (&'r Request<'a>, &'a str, u64)> {
    reading.requests.iter().filter_map(|request| {
        let Action::Revoke { session, .. } = request.action else { return None };
        let index = request.tries.iter().find_map(|it| match it.answer() {
            Some(Answer::Commanded { index }) => Some(*index),
            _ => None,
        })?;
        Some((request, session.as_str(), index))
    })
}

/// Nobody who asked after a revocation was acknowledged is told that they may go on, whatever the log says of the order.
fn check_real_time(reading: &Reading<'_>, walk: &Walk<'_>, found: &mut Found) {
    let mut revoked: HashMap<&str, Vec<(Moment, u64, &Request<'_>)>> = HashMap::new();
    for (request, session, index) in revocations(reading) {
        revoked.entry(session).or_default().push((request.acknowledged, index, request));
    }
    // Many events are of one session, and who is above it is the same for all of them.
    let mut above: HashMap<&str, Vec<&str>> = HashMap::new();
    for batch in &reading.batches {
        for (operation, first, receipts) in batch.acknowledgements() {
            for ((index, event), receipt) in (first..).zip(batch.events).zip(receipts) {
                if receipt.ruling != Ruling::Allow {
                    continue;
                }
                for above in above.entry(&event.session).or_insert_with(|| walk.above(&event.session)).iter().copied() {
                    for (acknowledged, from, request) in revoked.get(above).into_iter().flatten() {
                        let is_released = walk.cases.get(above).into_iter().flatten().any(|case| case.from == *from && case.to <= index);
                        // Who is said to be above may have said so only later.
                        let was_above = *from < index && walk_at(reading, &event.session, above, index);
                        let is_wrong = *acknowledged < batch.invoked && !is_released && (was_above || index <= *from);
                        found.check(!is_wrong, || {
                            let detail = format!("session {} is below {above}, whose revocation was acknowledged before", event.session);
                            let operations = request.tries.iter().map(|it| it.id).chain([operation.id]);
                            Anomaly::new("allowed-after-acknowledged-revoke", detail).at(index).by(operations).on([operation.node])
                        });
                    }
                }
            }
        }
    }
}

/// Tells whether a session names another as its parent, or that one's, in the events themselves: such a tie holds from the
/// session's first event on.
fn walk_at(reading: &Reading<'_>, session: &str, above: &str, index: u64) -> bool {
    if session == above {
        return true;
    }
    let parent = match reading.entry(index).map(|entry| &entry.body) {
        Some(Body::Event { parent, .. }) => parent.as_deref(),
        _ => None,
    };
    parent.is_some_and(|parent| parent == above)
}
