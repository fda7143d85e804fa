//! What is exported can be read by other people's parsers, and says the same.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, path::Path};

use edn_format::{Keyword, ParserOptions, Value};
use proofline_jepsen::{
    checks::{Synthetic, judge, synthesise},
    export,
    history::{Action, History, Moment, NodeId, Observation, Observed, Operation, OperationId, Outcome, Process},
};
use serde_json::{Value as Json, json};

fn exported(directory: &Path) -> (Synthetic, export::Exported) {
    let made_up = synthesise(5, 300).unwrap();
    let exported = export::write_all(&made_up.case, directory).unwrap();
    (made_up, exported)
}

fn read(path: &Path) -> Vec<BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(path).unwrap();
    let parsed = edn_format::Parser::from_str(&text, ParserOptions::default()).map(Result::unwrap);
    parsed.map(|value| fields(&value)).collect()
}

fn fields(value: &Value) -> BTreeMap<String, Value> {
    let Value::Map(map) = value else { panic!("not a map: {value:?}") };
    map.iter().map(|(key, value)| (keyword(key), value.clone())).collect()
}

fn keyword(value: &Value) -> String {
    let Value::Keyword(keyword) = value else { panic!("not a keyword: {value:?}") };
    let keyword: &Keyword = keyword;
    keyword.name().to_owned()
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Boolean(it) => json!(it),
        Value::Integer(it) => json!(it),
        Value::String(it) => json!(it),
        Value::Vector(items) => items.iter().map(json_of).collect(),
        Value::Map(_) => fields(value).iter().map(|(key, value)| (key.clone(), json_of(value))).collect::<serde_json::Map<_, _>>().into(),
        other => panic!("not expected: {other:?}"),
    }
}

fn number(of: &BTreeMap<String, Value>, name: &str) -> u64 {
    json_of(&of[name]).as_u64().unwrap()
}

/// Makes the operations again out of the lines of `history.edn`.
fn operations(lines: &[BTreeMap<String, Value>]) -> Vec<Operation> {
    let mut operations: BTreeMap<u64, Operation> = BTreeMap::new();
    for line in lines.iter().filter(|line| matches!(line["process"], Value::Integer(_))) {
        let (id, at, value) = (number(line, "id"), Moment(number(line, "time")), json_of(&line["value"]));
        if keyword(&line["type"]) == "invoke" {
            let operation = Operation {
                id: OperationId(id),
                process: Process(number(line, "process")),
                node: NodeId(number(line, "node")),
                action: serde_json::from_value::<Action>(value["request"].clone()).unwrap(),
                invoked: at,
                returned: Moment::NEVER,
                outcome: Outcome::Info { reason: String::new() },
                observed: Vec::new(),
            };
            assert!(operations.insert(id, operation).is_none());
            continue;
        }
        let operation = operations.get_mut(&id).unwrap();
        operation.outcome = serde_json::from_value(value["outcome"].clone()).unwrap();
        operation.returned = if keyword(&line["type"]) == "info" { Moment::NEVER } else { at };
        let seen = |it: &Json| Observation {
            at: serde_json::from_value(it["at"].clone()).unwrap(),
            what: serde_json::from_value::<Observed>(it["what"].clone()).unwrap(),
        };
        operation.observed = value["observed"].as_array().unwrap().iter().map(seen).collect();
    }
    operations.into_values().collect()
}

#[test]
fn the_history_comes_back_from_edn_and_is_judged_alike() {
    let directory = tempfile::tempdir().unwrap();
    let (Synthetic { mut case, .. }, exported) = exported(directory.path());
    let lines = read(&directory.path().join("history.edn"));
    assert_eq!(lines.len(), exported.history);
    let mut expected = case.history.operations.clone();
    expected.sort_by_key(|it| it.id);
    let mut found = operations(&lines);
    found.sort_by_key(|it| it.id);
    assert_eq!(found, expected);

    let native = judge(&case);
    case.history = History { operations: found, ..case.history };
    assert_eq!(judge(&case), native);
}

#[test]
fn no_process_has_two_operations_open() {
    let directory = tempfile::tempdir().unwrap();
    exported(directory.path());
    for file in ["history.edn", "elle-list-append.edn"] {
        let mut open = std::collections::BTreeSet::new();
        let mut time = 0;
        for (index, line) in read(&directory.path().join(file)).iter().enumerate() {
            assert_eq!(number(line, "index"), index as u64);
            assert!(time <= number(line, "time"));
            time = number(line, "time");
            let Value::Integer(process) = line["process"] else { continue };
            let is_invoke = keyword(&line["type"]) == "invoke";
            assert_eq!(open.contains(&process), !is_invoke, "{file} line {index}");
            if is_invoke {
                open.insert(process)
            } else {
                open.remove(&process)
            };
        }
        assert!(open.is_empty(), "{file}");
    }
}

#[test]
fn lists_that_elle_reads_hold_what_was_appended_to_them_in_order() {
    let directory = tempfile::tempdir().unwrap();
    exported(directory.path());
    let lines = read(&directory.path().join("elle-list-append.edn"));
    let mut appended: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut longest: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in &lines {
        for step in json_of_steps(&line["value"]) {
            match step {
                (true, session, elements) if keyword(&line["type"]) == "invoke" => appended.entry(session).or_default().extend(elements),
                (false, session, elements) => {
                    let known = longest.entry(session).or_default();
                    let common = known.len().min(elements.len());
                    assert_eq!(known[..common], elements[..common], "one list is the beginning of the other");
                    if elements.len() > known.len() {
                        *known = elements;
                    }
                }
                _ => {}
            }
        }
    }
    assert!(longest.values().any(|list| list.len() > 3));
    for (session, list) in longest {
        assert!(list.iter().all(|element| appended[&session].contains(element)), "{session}");
    }
}

/// Steps of a transaction: whether it appends, the list, and the elements.
fn json_of_steps(value: &Value) -> Vec<(bool, String, Vec<i64>)> {
    let Value::Vector(steps) = value else { panic!("{value:?}") };
    let step = |step: &Value| {
        let Value::Vector(parts) = step else { panic!("{step:?}") };
        let Value::String(session) = &parts[1] else { panic!("{step:?}") };
        let elements = match &parts[2] {
            Value::Integer(element) => vec![*element],
            Value::Vector(elements) => elements.iter().map(|it| json_of(it).as_i64().unwrap()).collect(),
            _ => Vec::new(),
        };
        (keyword(&parts[0]) == "append", session.clone(), elements)
    };
    steps.iter().map(step).collect()
}

#[test]
fn porcupine_lines_and_notes_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (made_up, exported) = exported(directory.path());
    let text = std::fs::read_to_string(directory.path().join("porcupine.jsonl")).unwrap();
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), exported.porcupine);
    assert!(lines.iter().all(|line| line["call"].as_i64().unwrap() <= line["return"].as_i64().unwrap()));
    assert!(lines.iter().any(|line| line["return"] == i64::MAX), "an operation of unknown fate returns never");
    let notes: Vec<_> = std::fs::read_dir(directory.path().join("checkpoints")).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(notes.len(), exported.checkpoints);
    let policy = proofline_verifier::Policy::parse(&std::fs::read(directory.path().join("policy.txt")).unwrap()).unwrap();
    assert_eq!(policy.encode(), made_up.case.finals.policies[0].encode());
    for note in notes {
        policy.verify_checkpoint(&std::fs::read(&note).unwrap()).unwrap();
    }
}
