//! P1 to P4: one log, nothing lost, nothing invented, nothing twice.

use std::collections::{HashMap, hash_map::Entry as Slot};

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
    entry::Body,
    reading::{Batch, Reading, Replayed, Request},
};
use crate::history::{Action, Answer, LaneId, Mark, Moment, NodeId, Operation, Outcome, Receipt, Ruling};

pub(super) fn agreement(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let nodes = &reading.case.finals.nodes;
    let Some(longest) = nodes.iter().max_by_key(|node| node.log.len()) else {
        found.open("the log of no node was read");
        return found.judgement();
    };
    for node in nodes {
        let differing = node.log.iter().zip(&longest.log).position(|(own, other)| own != other);
        if let Some(index) = differing {
            let anomaly = Anomaly::new("logs-differ", "two nodes have different bytes at one index");
            found.add(anomaly.at(index as u64).on([node.node, longest.node]));
        }
        let (length, demanded) = (node.log.len() as u64, recovered(reading).unwrap_or(longest.log.len() as u64));
        found.check(length >= demanded, || {
            Anomaly::new("logs-end-apart", format!("{length} entries, {demanded} are demanded")).on([node.node, longest.node])
        });
        match reading.replayed_to(node.log.len()) {
            Replayed::To(digest) => found.check(*digest == node.state_digest, || {
                let detail = format!("a replay leads to {digest}, the node has {}", node.state_digest);
                Anomaly::new("state-is-not-of-the-log", detail).on([node.node])
            }),
            Replayed::Stopped { index, why } => found.add(Anomaly { index: *index, ..Anomaly::new("log-does-not-replay", why.clone()) }),
        }
    }
    found.judgement()
}

pub(super) fn nothing_lost(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    for batch in &reading.batches {
        for (operation, first, receipts) in batch.acknowledgements() {
            check_batch(reading, &mut found, batch, operation, first, receipts);
        }
    }
    for request in &reading.requests {
        for operation in &request.tries {
            check_request(reading, &mut found, request, operation);
        }
    }
    found.judgement()
}

fn check_batch(reading: &Reading<'_>, found: &mut Found, batch: &Batch<'_>, operation: &Operation, first: u64, receipts: &[Receipt]) {
    let lost =
        |index, detail: &str| Anomaly::new("acknowledged-and-lost", format!("batch {}: {detail}", batch.id)).at(index).by([operation.id]);
    if batch.events.is_empty() {
        let is_there = matches!(reading.entry(first).map(|entry| &entry.body), Some(Body::Closed { batch: at }) if at == batch.id);
        return found.check(is_there, || lost(first, "the closing batch is not there"));
    }
    found.check(receipts.len() == batch.events.len(), || lost(first, "there is not one receipt for each event"));
    for ((offset, event), receipt) in (0_u32..).zip(batch.events).zip(receipts) {
        let index = first + u64::from(offset);
        let Some(entry) = reading.entry(index) else {
            found.add(lost(index, "there is no such entry"));
            continue;
        };
        let is_there = match &entry.body {
            Body::Event { batch: at, offset: place, id, digest, .. } => {
                at == batch.id && *place == offset && *id == event.id && *digest == event.digest && receipt.ruling != Ruling::Rejected
            }
            Body::Rejected { batch: at, offset: place, .. } => at == batch.id && *place == offset && receipt.ruling == Ruling::Rejected,
            _ => false,
        };
        found.check(is_there, || lost(index, "another entry stands there, or other bytes"));
        let position = entry.session.as_ref().map(|at| (at.session.as_str(), at.position));
        let is_placed = receipt.ruling == Ruling::Rejected || position == Some((event.session.as_str(), receipt.position));
        found.check(is_placed, || lost(index, "it has another place in its session than was said"));
    }
}

fn check_request(reading: &Reading<'_>, found: &mut Found, request: &Request<'_>, operation: &Operation) {
    let lost = |detail: &str| Anomaly::new("acknowledged-and-lost", detail).by([operation.id]);
    match operation.answer() {
        Some(Answer::Commanded { index }) => {
            let is_there = match reading.entry(*index).map(|entry| &entry.body) {
                Some(Body::Revoke { nonce, session }) => {
                    *nonce == request.nonce && matches!(request.action, Action::Revoke { session: asked, .. } if asked == session)
                }
                Some(Body::Release { nonce, .. } | Body::Command { nonce, .. }) => *nonce == request.nonce,
                _ => false,
            };
            found.check(is_there, || lost("the command is not where it was said to be").at(*index));
        }
        Some(Answer::Opened { epoch, .. }) => {
            let body = reading.request_indexes.get(&request.nonce).and_then(|index| reading.entry(*index)).map(|entry| &entry.body);
            let is_in_log = matches!(body, Some(Body::Opened { epoch: given, .. }) if given == epoch);
            found.check(is_in_log, || lost("the opening is not in the log, or with another epoch"));
        }
        _ => {}
    }
}

pub(super) fn nothing_invented(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    for (index, entry) in (0..).zip(&reading.entries) {
        match entry {
            Some(entry) if entry.index == index => check_origin(reading, &mut found, index, &entry.body),
            Some(entry) => found.add(Anomaly::new("entry-out-of-place", format!("it says that it is entry {}", entry.index)).at(index)),
            None => found.add(Anomaly::new("unreadable-entry", "the bytes are no entry").at(index)),
        }
    }
    check_refused(reading, &mut found);
    check_observed_after_sent(reading, &mut found);
    found.judgement()
}

fn check_origin(reading: &Reading<'_>, found: &mut Found, index: u64, body: &Body) {
    let phantom = |detail: &str| Anomaly::new("phantom-entry", detail).at(index);
    match body {
        Body::Event { offset, id, digest, .. } => {
            let sent = reading.batch_at(index).and_then(|sent| sent.events.get(*offset as usize));
            match sent {
                Some(sent) => found.check(sent.id == *id && sent.digest == *digest, || phantom("the event has other bytes than were sent")),
                None => found.add(phantom("nobody sent the event")),
            }
        }
        Body::Rejected { .. } | Body::Closed { .. } => {
            found.check(reading.batch_at(index).is_some(), || phantom("nobody sent the batch"));
        }
        Body::Revoke { nonce, .. }
        | Body::Release { nonce, .. }
        | Body::Opened { nonce, .. }
        | Body::Command { nonce, registers: true } => {
            found.check(reading.request(nonce).is_some(), || phantom("nobody asked for it"));
        }
        Body::Equivocation { batch } => {
            found.check(reading.second_at(batch).next().is_some(), || phantom("nobody signed a second batch there"));
        }
        // Whoever runs the cluster may register nodes, and the ledger makes entries of its own.
        Body::Command { registers: false, .. } | Body::Containment { .. } | Body::Other => {}
    }
}

/// What was refused by every try, or once for good, is not in the log.
fn check_refused(reading: &Reading<'_>, found: &mut Found) {
    for (index, entry) in (0..).zip(&reading.entries) {
        let Some(entry) = entry else { continue };
        let tries = match &entry.body {
            Body::Event { .. } | Body::Rejected { .. } | Body::Closed { .. } => {
                reading.batch_at(index).filter(|batch| batch.is_refused()).map(|batch| &batch.tries)
            }
            Body::Revoke { nonce, .. } | Body::Release { nonce, .. } | Body::Opened { nonce, .. } | Body::Command { nonce, .. } => {
                reading.request(nonce).filter(|request| request.is_refused()).map(|request| &request.tries)
            }
            Body::Equivocation { .. } | Body::Containment { .. } | Body::Other => None,
        };
        if let Some(tries) = tries {
            let anomaly = Anomaly::new("refused-and-in-the-log", "it was said not to be appended, and never to be");
            found.add(anomaly.at(index).by(tries.iter().map(|it| it.id)));
        }
    }
}

fn check_observed_after_sent(reading: &Reading<'_>, found: &mut Found) {
    let sent: Vec<Moment> = (0..reading.size()).map(|index| reading.sent(index).unwrap_or_default()).collect();
    for (operation, run, at) in reading.runs() {
        let (Ok(first), Ok(end)) = (usize::try_from(run.first), usize::try_from(run.end())) else { continue };
        let early = sent.get(first..end.min(sent.len())).and_then(|sent| sent.iter().position(|sent| *sent > at));
        if let Some(early) = early {
            let anomaly = Anomaly::new("seen-before-it-was-sent", "an entry was read before anybody sent it");
            found.add(anomaly.at(run.first + early as u64).by([operation.id]));
        }
    }
}

/// Reasons that deny that a batch was taken; the first accuses its collector.
const DENIALS: [&str; 6] = ["EQUIVOCATION", "EPOCH_CLOSED", "EPOCH_FENCED", "LANE_NOT_OPEN", "WRONG_PREVIOUS", "WRONG_SEQUENCE"];

fn denies(operation: &Operation, reasons: &[&str]) -> bool {
    matches!(&operation.outcome, Outcome::Fail { reason, .. } if reasons.contains(&reason.as_str()))
}

pub(super) fn at_most_once(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let (mut ids, mut places, mut nonces, mut accused) = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
    for ((index, entry), place) in (0..).zip(&reading.entries).zip(&reading.batches_of_entries) {
        let Some(entry) = entry else { continue };
        // A place among the batches is as good as their long name, and sooner compared.
        if let Some(batch) = entry.batch() {
            let offset = match &entry.body {
                Body::Event { offset, .. } | Body::Rejected { offset, .. } => Some(*offset),
                _ => None,
            };
            let of = (*place, if place.is_none() { Some(batch) } else { None }, offset);
            once(&mut found, &mut places, of, index, "batch-position-twice");
        }
        match &entry.body {
            Body::Event { id, .. } => once(&mut found, &mut ids, *id, index, "event-twice"),
            Body::Revoke { nonce, .. } | Body::Release { nonce, .. } | Body::Opened { nonce, .. } | Body::Command { nonce, .. } => {
                once(&mut found, &mut nonces, *nonce, index, "request-twice");
            }
            Body::Equivocation { batch } => once(&mut found, &mut accused, (&batch.lane, batch.epoch), index, "equivocation-twice"),
            Body::Rejected { .. } | Body::Closed { .. } | Body::Containment { .. } | Body::Other => {}
        }
    }
    check_second_batches(reading, &mut found, |lane, epoch| accused.contains_key(&(lane, epoch)));
    let differs = |one: &Operation, other: &Operation| {
        Anomaly::new("retry-got-another-answer", "two tries of the same request were answered differently").by([one.id, other.id])
    };
    for batch in &reading.batches {
        // All its tries are the same bytes: whoever has the batch knows them.
        let since = batch.acknowledged;
        for denied in batch.tries.iter().filter(|it| denies(it, if it.invoked > since { &DENIALS[..] } else { &DENIALS[..1] })) {
            found.add(Anomaly::new("acknowledged-and-denied", format!("{:?}", denied.outcome)).by([denied.id]));
        }
        let mut answers = batch.acknowledgements();
        let Some(first) = answers.next() else { continue };
        answers.for_each(|other| found.check((first.1, first.2) == (other.1, other.2), || differs(first.0, other.0).at(other.1)));
    }
    for request in &reading.requests {
        let mut answers = request.tries.iter().filter(|it| it.answer().is_some());
        let Some(first) = answers.next() else { continue };
        answers.for_each(|other| found.check(first.answer() == other.answer(), || differs(first, other)));
    }
    found.judgement()
}

/// Who signs a second batch at a place is told so, and stands in the log for it: once for each epoch.
fn check_second_batches(reading: &Reading<'_>, found: &mut Found, is_recorded: impl Fn(&LaneId, u64) -> bool) {
    for ((lane, epoch), tries) in &reading.equivocations {
        for it in tries {
            let wrong = |name, detail: &str| Anomaly::new(name, format!("{lane:?} in epoch {epoch}: {detail}")).by([it.id]);
            if it.answer().is_some() {
                found.add(wrong("two-batches-at-one-place", "both were acknowledged"));
            } else if denies(it, &DENIALS[..1]) {
                found.check(is_recorded(lane, *epoch), || wrong("equivocation-not-recorded", "nothing in the log shows the second batch"));
            } else if denies(it, &DENIALS[1..]) {
                found.add(wrong("equivocation-unnoticed", "the second batch was refused as if no first one were there"));
            }
        }
    }
}

fn once<K: std::hash::Hash + Eq>(found: &mut Found, seen: &mut HashMap<K, u64>, key: K, index: u64, name: &'static str) {
    match seen.entry(key) {
        Slot::Vacant(slot) => {
            slot.insert(index);
        }
        Slot::Occupied(slot) => found.add(Anomaly::new(name, format!("it stands at entry {} already", slot.get())).at(index)),
    }
}

/// Returns the moment from which everything was healed, when the run has one.
pub(super) fn healed(reading: &Reading<'_>) -> Option<Moment> {
    reading.case.history.marks.iter().rev().find(|marked| marked.what == Mark::Healed).map(|marked| marked.at)
}

/// Returns how many entries every node had when they were last seen to agree: what a leader commits while nodes are stopped one
/// after the other, the first of them need not have.
fn recovered(reading: &Reading<'_>) -> Option<u64> {
    reading.case.history.marks.iter().rev().find_map(|marked| match marked.what {
        Mark::Recovered { size } => Some(size),
        _ => None,
    })
}

/// Returns the nodes that were read at the end.
pub(super) fn present<'a>(reading: &'a Reading<'_>) -> impl Iterator<Item = NodeId> + 'a {
    reading.case.finals.nodes.iter().map(|node| node.node)
}
