//! Sessions as lists: an event is an element that is appended, a read of a session is a read of its list.
//!
//! All tries of a batch are one transaction. Reads give what is published, which may be older than what was acknowledged: the
//! model to ask for is `serializable`, not `strict-serializable`.

use std::collections::HashMap;

use super::edn;
use crate::{
    checks::{Body, Reading},
    history::{Action, Answer, BatchId, Moment, Process},
};

/// A transaction and its times.
struct Transaction {
    invoked: Moment,
    /// None when nobody knows whether it took effect.
    returned: Option<Moment>,
    kind: &'static str,
    process: Process,
    asked: String,
    answered: String,
}

pub(super) fn lines(reading: &Reading<'_>) -> Vec<String> {
    let mut numbers: HashMap<(&BatchId, u32), usize> = HashMap::new();
    let mut transactions = Vec::new();
    for batch in reading.batches.iter().filter(|batch| !batch.events.is_empty()) {
        let mut steps = Vec::new();
        for (offset, event) in (0..).zip(batch.events) {
            let next = numbers.len();
            let number = *numbers.entry((batch.id, offset)).or_insert(next);
            steps.push(format!("[:append {} {number}]", edn::text(&event.session)));
        }
        let is_acknowledged = batch.acknowledged != Moment::NEVER;
        let kind = if is_acknowledged {
            "ok"
        } else if batch.is_refused() {
            "fail"
        } else {
            "info"
        };
        let last = batch.tries.iter().map(|it| it.returned).filter(|at| *at != Moment::NEVER).max();
        let returned = if is_acknowledged { Some(batch.acknowledged) } else { last.filter(|_| kind == "fail") };
        let process = batch.tries.first().map_or(Process(0), |it| it.process);
        let value = format!("[{}]", steps.join(" "));
        transactions.push(Transaction { invoked: batch.invoked, returned, kind, process, asked: value.clone(), answered: value });
    }
    transactions.extend(reads(reading, &numbers));
    written(transactions)
}

/// Reads of whole sessions, as the lists of the events that they gave.
fn reads(reading: &Reading<'_>, numbers: &HashMap<(&BatchId, u32), usize>) -> Vec<Transaction> {
    let element = |index: &u64| match &reading.entry(*index)?.body {
        Body::Event { batch, offset, .. } => numbers.get(&(batch, *offset)).map(ToString::to_string),
        _ => None,
    };
    let read = reading.operations().iter().filter_map(|operation| {
        let (Action::ReadSession { session }, Some(Answer::Session { entries, indexes, .. })) = (&operation.action, operation.answer())
        else {
            return None;
        };
        let elements: Vec<String> = indexes.iter().filter_map(element).collect();
        let session = edn::text(session);
        (*entries == indexes.len() as u64).then(|| Transaction {
            invoked: operation.invoked,
            returned: Some(operation.returned),
            kind: "ok",
            process: operation.process,
            asked: format!("[[:r {session} nil]]"),
            answered: format!("[[:r {session} [{}]]]", elements.join(" ")),
        })
    });
    read.collect()
}

/// Gives every transaction a process that has nothing else open, and writes them in the order of time.
fn written(mut transactions: Vec<Transaction>) -> Vec<String> {
    transactions.sort_by_key(|it| it.invoked);
    let end = transactions.iter().filter_map(|it| it.returned).max().unwrap_or_default().0 + 1;
    let mut lines: Vec<(Moment, String)> = Vec::new();
    for (number, it) in transactions.iter().enumerate() {
        let about =
            |kind: &str, value: &str| format!(":type :{kind}, :process {number}, :f :txn, :value {value}, :asked-by {}", it.process.0);
        lines.push((it.invoked, about("invoke", &it.asked)));
        lines.push((it.returned.unwrap_or(Moment(end)), about(it.kind, &it.answered)));
    }
    lines.sort_by_key(|(at, _)| *at);
    lines.iter().enumerate().map(|(index, (at, line))| format!("{{:index {index}, :time {}, {line}}}", at.0)).collect()
}
