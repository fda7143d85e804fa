//! A history is what was recorded, also when the recorder did not live to the end.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use proofline_jepsen::history::{
    Action, Answer, Evidence, Fault, History, HistoryError, Installed, LaneId, Mark, Moment, NodeId, Nonce, Observed, Outcome, Recorder,
    RunHeader,
};

fn header() -> RunHeader {
    RunHeader::now(7, "example.org/log", "acme", vec![NodeId(1), NodeId(2)], vec![Fault::Kill], "a test")
}

fn file(directory: &Path) -> PathBuf {
    directory.join("history.jsonl")
}

fn opening() -> Action {
    Action::OpenLane { lane: LaneId { collector: "c".to_owned(), lane: 0 }, nonce: Nonce([3; 16]) }
}

fn info() -> Outcome {
    Outcome::Info { reason: "no answer".to_owned() }
}

#[tokio::test]
async fn what_is_read_is_what_was_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(&file(directory.path()), header()).unwrap();
    let mut actor = recorder.actor();
    let fault = recorder.fault(Fault::Kill, &[NodeId(2)], "the follower").await;
    let open = actor.begin(NodeId(1), opening()).await;
    open.observe(Observed::Beat { next: 4 }).await;
    open.end(Outcome::Ok { answer: Answer::Commanded { index: 9 } }).await;
    fault.end(Installed::Installed, Evidence::from([("signals".to_owned(), 1)])).await;
    recorder.mark(Mark::Healed).await;
    recorder.finish().await.unwrap();

    let history = History::read(&file(directory.path())).unwrap();
    assert_eq!(history.run.scheduled, [Fault::Kill]);
    let operation = &history.operations[0];
    assert_eq!((&operation.action, operation.answer()), (&opening(), Some(&Answer::Commanded { index: 9 })));
    assert!(operation.invoked <= operation.observed[0].at && operation.observed[0].at <= operation.returned);
    assert!(history.faults[0].was_seen() && history.faults[0].began <= operation.invoked);
    assert_eq!(history.marks[0].what, Mark::Healed);
}

#[tokio::test]
async fn who_was_asked_is_who_had_the_address_then() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(&file(directory.path()), header()).unwrap();
    let mut actor = recorder.actor();
    for follower in [4, 5] {
        actor.begin(NodeId(1), opening()).await.end(info()).await;
        recorder.mark(Mark::Follows { node: NodeId(follower), after: NodeId(if follower == 4 { 1 } else { 4 }) }).await;
    }
    actor.begin(NodeId(1), opening()).await.end(info()).await;
    actor.begin(NodeId(2), opening()).await.end(info()).await;
    recorder.finish().await.unwrap();

    let history = History::read(&file(directory.path())).unwrap().by_tenant();
    let asked: Vec<u64> = history.operations.iter().map(|operation| operation.node.0).collect();
    assert_eq!(asked, [1, 4, 5, 2]);
}

#[tokio::test]
async fn a_process_without_a_definite_answer_asks_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(&file(directory.path()), header()).unwrap();
    let mut actor = recorder.actor();
    actor.begin(NodeId(1), opening()).await.end(info()).await;
    let _abandoned = actor.begin(NodeId(1), opening()).await;
    actor.begin(NodeId(1), opening()).await.end(Outcome::Fail { reason: "NO_LEADER".to_owned(), for_good: false }).await;
    actor.begin(NodeId(1), opening()).await.end(info()).await;
    recorder.finish().await.unwrap();

    let operations = History::read(&file(directory.path())).unwrap().operations;
    let processes: Vec<u64> = operations.iter().map(|operation| operation.process.0).collect();
    assert_eq!(processes, [0, 1, 2, 2]);
    let returned: Vec<bool> = operations.iter().map(|operation| operation.returned != Moment::NEVER).collect();
    assert_eq!(returned, [false, false, true, false], "what has no definite end goes on for ever");
}

#[tokio::test]
async fn a_line_that_was_cut_short_by_a_crash_is_left_out_and_damage_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(&file(directory.path()), header()).unwrap();
    let mut actor = recorder.actor();
    for _ in 0..2 {
        actor.begin(NodeId(1), opening()).await.end(info()).await;
    }
    recorder.finish().await.unwrap();
    let text = std::fs::read_to_string(file(directory.path())).unwrap();

    std::fs::write(file(directory.path()), &text[..text.len() - 10]).unwrap();
    let cut = History::read(&file(directory.path())).unwrap();
    assert_eq!(cut.operations.len(), 2);
    assert_eq!(cut.operations[1].outcome, Outcome::Info { reason: "the history ends before it".to_owned() });

    std::fs::write(file(directory.path()), text.replacen("\"no answer\"", "\"no ans", 1)).unwrap();
    assert!(matches!(History::read(&file(directory.path())), Err(HistoryError::Line { line: 3, .. })));
    let returned = text.lines().nth(2).unwrap();
    std::fs::write(file(directory.path()), format!("{text}{returned}\n")).unwrap();
    assert!(matches!(History::read(&file(directory.path())), Err(HistoryError::OutOfPlace { .. })));
}
