//! P17 to P20: what must happen, and in time.

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
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
    check_starvation(reading, &acknowledged, &mut found);
    let bound = reading.case.bounds.available_ms;
    let spans = stable_spans(reading);
    if !spans.iter().any(|span| span.1.ms_since(span.0) > bound) {
        found.open("the cluster was never stable for long enough to say");
    }
    for (from, to) in spans {
        let within = acknowledged.get(acknowledged.partition_point(|at| *at < from)..acknowledged.partition_point(|at| *at <= to));
        let mut before = from;
        for at in within.into_iter().flatten().copied().chain([to]) {
            let gap = at.ms_since(before);
            found.check(gap <= bound, || {
                Anomaly::new(
                    "no-writes-though-stable",
                    format!("nothing was acknowledged for {gap} ms from {} ms on", before.ms_since(Moment(0))),
                )
            });
            before = at;
        }
    }
    found.judgement()
}

/// Whatever is broken: no fault takes the majority away for long, so that nobody waits for ever.
fn check_starvation(reading: &Reading<'_>, acknowledged: &[Moment], found: &mut Found) {
    let (bound, end) = (reading.case.bounds.starved_ms, end_of_writes(reading));
    let mut before = acknowledged.first().copied().unwrap_or_default();
    for at in acknowledged.iter().copied().filter(|at| *at <= end).chain([end]) {
        let gap = at.ms_since(before);
        found.check(gap <= bound, || {
            let from = before.ms_since(Moment(0));
            Anomaly::new("starved", format!("whatever was broken: nothing was acknowledged for {gap} ms from {from} ms on"))
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
