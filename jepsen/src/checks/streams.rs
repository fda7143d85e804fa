//! P9: who follows gets everything once, in order.

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
    entry::Body,
    reading::Reading,
    reads::check_run,
};
use crate::history::{Action, Observed, Operation};

pub(super) fn streams(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let changes: Vec<(u64, u64)> = (0..)
        .zip(&reading.entries)
        .filter_map(|(index, entry)| match &entry.as_ref()?.body {
            Body::Containment { id, .. } => Some((index, *id)),
            _ => None,
        })
        .collect();
    let (mut tailed, mut watched) = (0, 0);
    for operation in reading.operations() {
        match operation.action {
            Action::Tail { from } => {
                tailed += operation.observed.len();
                check_tail(reading, &mut found, operation, from);
            }
            Action::WatchContainment { from } => {
                watched += operation.observed.len();
                check_watch(&mut found, operation, from, &changes, reading.size());
            }
            _ => {}
        }
    }
    for (brought, what) in [(tailed, "entries"), (watched, "containments")] {
        if brought == 0 {
            found.open(format!("no stream of {what} brought anything"));
        }
    }
    found.judgement()
}

fn check_tail(reading: &Reading<'_>, found: &mut Found, operation: &Operation, from: u64) {
    let mut next = from;
    for seen in &operation.observed {
        let Observed::Entries(run) = seen.what else { continue };
        let broken = |name, detail| Anomaly::new(name, detail).at(run.first).by([operation.id]).on([operation.node]);
        found.check(run.first <= next, || broken("hole-in-stream", format!("entry {} where {next} comes next", run.first)));
        found.check(run.first >= next, || broken("stream-repeats", format!("entry {} where {next} comes next", run.first)));
        check_run(reading, found, operation, &run);
        next = run.end();
    }
}

/// Every change below what the stream says it sent was sent, once, in order.
fn check_watch(found: &mut Found, operation: &Operation, from: u64, changes: &[(u64, u64)], size: u64) {
    let mut next = from;
    let mut place = changes.partition_point(|(index, _)| *index < from);
    for seen in &operation.observed {
        let (sent, up_to) = match seen.what {
            Observed::Change { index, next, containment } => (Some((index, containment)), next),
            Observed::Beat { next } => (None, next),
            Observed::Entries(_) => continue,
        };
        let broken = |name, index, detail| Anomaly::new(name, detail).at(index).by([operation.id]).on([operation.node]);
        if let Some((index, _)) = sent.filter(|(index, _)| *index < next) {
            found.add(broken("doubled-watch-message", index, format!("everything below {next} was sent before")));
            continue;
        }
        found.check(up_to >= next && up_to <= size, || broken("watch-goes-back", up_to, format!("{up_to} after {next} of {size}")));
        while let Some((index, _)) = changes.get(place).filter(|(index, _)| *index < up_to && sent.is_none_or(|sent| *index < sent.0)) {
            found.add(broken("lost-watch-message", *index, format!("all below {up_to} was said to be sent")));
            place += 1;
        }
        if let Some(sent) = sent {
            let is_change = changes.get(place) == Some(&sent);
            found.check(is_change, || broken("phantom-watch-message", sent.0, "the log has no such change there".to_owned()));
            place += usize::from(is_change);
        }
        next = next.max(up_to);
    }
}
