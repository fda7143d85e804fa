//! P17 to P20: what must happen, and in time.

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
    majority,
    reading::Reading,
    safety::healed,
};
use crate::history::{Action, Answer, Installed, Mark, Moment, Operation, Outcome};

/// Returns the times in which the cluster had to work, as long as anybody wrote: between marks, or the whole run when nothing was
/// broken.
pub(super) fn stable_spans(reading: &Reading<'_>) -> Vec<(Moment, Moment)> {
    let history = &reading.case.history;
    if history.faults.is_empty() {
        let first = first_write(reading).map_or(Moment::NEVER, |write| write.returned);
        return vec![(first, end_of_writes(reading))];
    }
    let mut spans = Vec::new();
    let mut since = None;
    for marked in &history.marks {
        match marked.what {
            Mark::Stable | Mark::Healed => since = since.or(Some(marked.at)),
            Mark::Unstable => spans.extend(since.take().map(|since| (since, marked.at))),
            _ => {}
        }
    }
    let end = end_of_writes(reading);
    spans.extend(since.map(|since| (since, end)));
    spans.into_iter().map(|(from, to)| (from, to.min(end))).filter(|(from, to)| from < to).collect()
}

fn is_write(operation: &&Operation) -> bool {
    matches!(operation.action, Action::Append { .. })
}

fn first_write<'a>(reading: &Reading<'a>) -> Option<&'a Operation> {
    reading.operations().iter().filter(is_write).find(|it| it.answer().is_some())
}

/// The last moment at which somebody began to write.
fn end_of_writes(reading: &Reading<'_>) -> Moment {
    reading.operations().iter().filter(is_write).map(|it| it.invoked).max().unwrap_or_default()
}

pub(super) fn recovery(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let history = &reading.case.history;
    let Some(healed) = healed(reading) else {
        if !history.faults.is_empty() || !history.run.scheduled.is_empty() {
            found.open("nobody recorded when everything was healed");
        }
        return found.judgement();
    };
    let recovered = history.marks.iter().find(|marked| marked.at >= healed && matches!(marked.what, Mark::Recovered { .. }));
    match recovered {
        None => found.open("nobody saw all nodes with the same state after everything was healed"),
        Some(recovered) => {
            let took = recovered.at.ms_since(healed);
            found.check(took <= reading.case.bounds.recovered_ms, || Anomaly::new("late-recovery", format!("it took {took} ms")));
        }
    }
    found.judgement()
}

pub(super) fn liveness(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let mut acknowledged: Vec<Moment> =
        reading.operations().iter().filter(is_write).filter(|it| it.answer().is_some()).map(|it| it.returned).collect();
    acknowledged.sort_unstable();
    let (bounds, spans) = (reading.case.bounds, stable_spans(reading));
    if !spans.iter().any(|span| span.1.ms_since(span.0) > bounds.available_ms) {
        found.open("the cluster was never stable for long enough to say");
    }
    let writing = (acknowledged.first().copied().unwrap_or(Moment::NEVER), end_of_writes(reading));
    let untouched = majority::untouched(reading).into_iter().map(|(from, to)| (from.max(writing.0), to.min(writing.1)));
    let demands = [
        ("no-writes-though-stable", bounds.available_ms, spans),
        ("no-writes-though-a-majority-is-untouched", bounds.majority_ms, untouched.collect()),
        // No fault takes the majority away for long, so that nobody waits for ever.
        ("starved", bounds.starved_ms, vec![writing]),
    ];
    for (name, bound, spans) in demands {
        for (from, to) in spans.into_iter().filter(|(from, to)| from < to) {
            check_gaps(&acknowledged, (from, to), name, bound, &mut found);
        }
    }
    found.judgement()
}

fn check_gaps(acknowledged: &[Moment], (from, to): (Moment, Moment), name: &'static str, bound: u64, found: &mut Found) {
    let within = acknowledged.get(acknowledged.partition_point(|at| *at < from)..acknowledged.partition_point(|at| *at <= to));
    let mut before = from;
    for at in within.into_iter().flatten().copied().chain([to]) {
        let gap = at.ms_since(before);
        found.check(gap <= bound, || {
            Anomaly::new(name, format!("nothing was acknowledged for {gap} ms from {} ms on", before.ms_since(Moment(0))))
        });
        before = at;
    }
}

pub(super) fn overload(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let history = &reading.case.history;
    let mut samples = 0;
    for marked in &history.marks {
        let Mark::Resident { node, bytes } = marked.what else { continue };
        samples += 1;
        let cap = reading.case.bounds.resident_bytes;
        found.check(bytes <= cap, || Anomaly::new("resident-above-cap", format!("{bytes} bytes, {cap} are allowed")).on([node]));
    }
    if samples == 0 && !history.run.scheduled.is_empty() {
        found.open("nobody measured memory");
    }
    found.judgement()
}

pub(super) fn not_vacuous(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let history = &reading.case.history;
    let acknowledged = reading.batches.iter().filter(|batch| batch.acknowledged != Moment::NEVER).count();
    if acknowledged < reading.case.bounds.acknowledged_min {
        found.open(format!("{acknowledged} batches were acknowledged, {} are demanded", reading.case.bounds.acknowledged_min));
    }
    let scheduled = &history.run.scheduled;
    for wanted in scheduled {
        if !history.faults.iter().any(|it| it.fault == *wanted && it.was_seen()) {
            found.open(format!("{wanted:?} was scheduled, and nothing shows that it happened"));
        }
    }
    for fault in history.faults.iter().filter(|fault| fault.installed == Installed::Indeterminate) {
        found.open(format!("nobody knows what became of {:?} {}", fault.fault, fault.detail));
    }
    let leaders = history.marks.iter().filter(|marked| matches!(marked.what, Mark::Leads { .. })).count();
    if scheduled.iter().any(|fault| fault.changes_leader()) && leaders < 2 {
        found.open("faults that change the leader were scheduled, and one leader was seen");
    }
    let revoked = reading.requests.iter().any(|it| matches!(it.action, Action::Revoke { .. }) && it.acknowledged != Moment::NEVER);
    if !revoked {
        found.open("no revocation was acknowledged");
    }
    let is_unknown = |it: &&Operation| matches!(it.outcome, Outcome::Info { .. });
    if !scheduled.is_empty() && !reading.operations().iter().any(|it| is_unknown(&it)) {
        found.open("faults were scheduled, and no operation ended without a definite answer");
    }
    let was_read = reading.operations().iter().any(|it| matches!(it.answer(), Some(Answer::Entries(_)))) && reading.runs().next().is_some();
    if !was_read {
        found.open("nobody read entries");
    }
    found.judgement()
}
