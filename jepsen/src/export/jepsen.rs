//! `history.edn`: one operation a line, in the order of time.

use serde_json::{Value, json};

use super::edn;
use crate::history::{FaultRecord, History, Moment, Operation, Outcome};

/// Something that happened, and when.
struct Happened {
    at: Moment,
    line: String,
}

pub(super) fn lines(history: &History) -> Vec<String> {
    let end = end(history);
    let mut happened: Vec<Happened> = Vec::new();
    for operation in &history.operations {
        happened.extend(of_operation(operation, end));
    }
    for fault in &history.faults {
        happened.extend(of_fault(fault, end));
    }
    happened.sort_by_key(|it| it.at);
    happened.iter().enumerate().map(|(index, it)| format!("{{:index {index}, :time {}, {}}}", it.at.0, it.line)).collect()
}

/// The last moment that anything was recorded at: when operations without an end are given up.
fn end(history: &History) -> Moment {
    let returned = history.operations.iter().map(|it| if it.returned == Moment::NEVER { it.invoked } else { it.returned });
    let ended = history.faults.iter().map(|it| if it.ended == Moment::NEVER { it.began } else { it.ended });
    Moment(returned.chain(ended).max().unwrap_or_default().0 + 1)
}

fn of_operation(operation: &Operation, end: Moment) -> [Happened; 2] {
    let request = serde_json::to_value(&operation.action).unwrap_or_default();
    let f = request.get("f").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let about = format!(":process {}, :f :{f}, :node {}, :id {}", operation.process.0, operation.node.0, operation.id.0);
    let observed: Vec<Value> = operation.observed.iter().map(|seen| json!({ "at": seen.at, "what": seen.what })).collect();
    let value = edn::of(&json!({ "request": request, "outcome": operation.outcome, "observed": observed }));
    let kind = match operation.outcome {
        Outcome::Ok { .. } => "ok",
        Outcome::Fail { .. } => "fail",
        Outcome::Info { .. } => "info",
    };
    let returned = operation.returned.min(end);
    let invoked = edn::of(&json!({ "request": request }));
    [
        Happened { at: operation.invoked, line: format!(":type :invoke, {about}, :value {invoked}") },
        Happened { at: returned, line: format!(":type :{kind}, {about}, :value {value}") },
    ]
}

fn of_fault(fault: &FaultRecord, end: Moment) -> [Happened; 2] {
    let name = serde_json::to_value(fault.fault).unwrap_or_default();
    let name = name.as_str().unwrap_or("unknown");
    let value = edn::of(&json!({
        "targets": fault.targets, "detail": fault.detail, "installed": fault.installed, "evidence": fault.evidence,
    }));
    let line = |step: &str| format!(":type :info, :process :nemesis, :f :{step}-{name}, :value {value}");
    [Happened { at: fault.began, line: line("start") }, Happened { at: fault.ended.min(end), line: line("stop") }]
}
