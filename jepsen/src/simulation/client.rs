//! What clients ask of a simulated cluster, and the record of it: the same history as of real processes.

use std::{sync::Arc, time::Duration};

use proofline_ledger::{EntryIndex, Outcome as Applied, Refusal, listing};
use proofline_node::inbox::Lost;
use proofline_proto::{peer::item::Item, v1};
use proofline_verifier::{LogHash, TreeHash as _};
use tokio::sync::oneshot;

use super::{
    node::submit,
    world::{World, open},
};
use crate::{
    history::{Action, Answer, LaneHead, Moment, NodeId, Operation, OperationId, Outcome, Process, Receipt, Run},
    random::Random,
};

/// How long a client waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Entries of one read.
const READ_MAX: u64 = 64;

/// How an operation ended, and the whole answer when it was an opening.
pub(super) struct Asked {
    pub(super) outcome: Outcome,
    pub(super) opened: Option<v1::OpenLaneResponse>,
}

impl Asked {
    fn unknown(why: &str) -> Self {
        Self { outcome: unknown(why), opened: None }
    }
}

/// Asks one node once, and records it.
pub(super) async fn ask(world: &Arc<World>, node: u64, action: Action, item: Item) -> Asked {
    let place = begin(world, node, action);
    let (sender, answer) = oneshot::channel();
    // The node goes on with it whether or not the client waits.
    tokio::spawn(answer_of(Arc::clone(world), node, item, sender));
    let asked = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(_)) => Asked::unknown("the connection broke"),
        Err(_) => Asked::unknown("no answer in time"),
    };
    end(world, place, asked.outcome.clone());
    asked
}

async fn answer_of(world: Arc<World>, node: u64, item: Item, sender: oneshot::Sender<Asked>) {
    if !travel(&world).await {
        return;
    }
    let asked = match world.running(node) {
        None => Asked { outcome: Outcome::Fail { reason: "NOT_CONNECTED".to_owned(), for_good: false }, opened: None },
        Some(running) => {
            if running.life.pass().await.is_err() {
                return;
            }
            let answer = submit(&world, &running, item).await;
            if running.life.pass().await.is_err() {
                return;
            }
            let opened = match &answer {
                Ok(applied) => opened(&applied.outcome),
                Err(_) => None,
            };
            Asked { outcome: outcome(answer.map(|applied| applied.outcome)), opened }
        }
    };
    if travel(&world).await {
        drop(sender.send(asked));
    }
}

fn opened(outcome: &Applied) -> Option<v1::OpenLaneResponse> {
    match outcome {
        Applied::Opened(answer) => Some(answer.clone()),
        _ => None,
    }
}

/// Clients are as near as nodes are, and their connections break as often.
async fn travel(world: &World) -> bool {
    let breaks = world.network_lot(|knobs| knobs.lost);
    let took = world.network_between(50, world.knobs.delay_us_max);
    tokio::time::sleep(Duration::from_micros(took)).await;
    !breaks
}

fn unknown(why: &str) -> Outcome {
    Outcome::Info { reason: why.to_owned() }
}

fn outcome(answer: Result<Applied, Lost>) -> Outcome {
    let failed = |reason: &str, for_good| Outcome::Fail { reason: reason.to_owned(), for_good };
    let done = |answer| Outcome::Ok { answer };
    match answer {
        Err(Lost::NotLeader) => failed("NO_LEADER", false),
        Err(Lost::ClockNotTrusted) => failed("CLOCK_NOT_TRUSTED", false),
        Err(Lost::ShuttingDown) => failed("SHUTTING_DOWN", false),
        Err(Lost::FateUnknown) => unknown("FATE_UNKNOWN"),
        Ok(Applied::Appended(it)) => {
            let receipt = |it: &v1::EventReceipt| Receipt { ruling: it.verdict().into(), position: it.session_position };
            done(Answer::Appended { first_index: it.first_index, events: it.events.iter().map(receipt).collect() })
        }
        Ok(Applied::Opened(it)) => done(Answer::Opened { epoch: it.epoch, last: head(it.last.as_ref()) }),
        Ok(Applied::Commanded(index)) => done(Answer::Commanded { index: index.0 }),
        // The answer to an earlier try was lost.
        Ok(Applied::Refused(Refusal::CommandReplayed { at })) => done(Answer::Commanded { index: at.0 }),
        Ok(Applied::Refused(Refusal::EpochFenced { .. })) => failed("EPOCH_FENCED", true),
        Ok(Applied::Refused(Refusal::EpochClosed(_))) => failed("EPOCH_CLOSED", true),
        Ok(Applied::Refused(Refusal::NotBegun)) => failed("NOT_BEGUN", false),
        Ok(Applied::Refused(refusal)) => failed(&refusal.to_string(), false),
        Ok(Applied::Began | Applied::Published | Applied::Delivered(_) | Applied::Committed(_) | Applied::Recorded(_)) => {
            unknown("the answer to something else")
        }
    }
}

fn head(last: Option<&v1::LaneHead>) -> LaneHead {
    last.map_or_else(LaneHead::default, |last| LaneHead { epoch: last.epoch, sequence: last.sequence })
}

/// Begins an operation of a process of its own.
fn begin(world: &World, node: u64, action: Action) -> usize {
    let invoked = world.moment();
    world.note(&format!("client asks node {node}: {action:?}"));
    let mut shared = world.shared();
    let place = shared.operations.len();
    let outcome = unknown("the run ended before it");
    shared.operations.push(Operation {
        id: OperationId(place as u64),
        process: Process(place as u64),
        node: NodeId(node),
        action,
        invoked,
        returned: Moment::NEVER,
        outcome,
        observed: Vec::new(),
    });
    place
}

fn end(world: &World, place: usize, outcome: Outcome) {
    let returned = if matches!(outcome, Outcome::Info { .. }) { Moment::NEVER } else { world.moment() };
    world.note(&format!("operation {place}: {outcome:?}"));
    let mut shared = world.shared();
    let acknowledged = matches!(outcome, Outcome::Ok { answer: Answer::Appended { .. } });
    shared.counts.acknowledged += u64::from(acknowledged);
    if let Some(operation) = shared.operations.get_mut(place) {
        (operation.returned, operation.outcome) = (returned, outcome);
    }
}

/// Reads what a node has applied: a lane's head, or entries.
pub(super) async fn read(world: &Arc<World>, node: u64, lane: Option<crate::history::LaneId>, lot: &mut Random) {
    let Some(running) = world.running(node) else { return };
    if running.life.pass().await.is_err() {
        return;
    }
    let disk = world.disk(node);
    let Some(lane) = lane else {
        let entries = |from, to| {
            let disk = open(&disk);
            listing::entries(&disk.live.store, EntryIndex(from), EntryIndex(to), usize::MAX).unwrap_or_default()
        };
        let size = open(&disk).live.store_size();
        let from = lot.below(size);
        let place = begin(world, node, Action::Read { from, limit: READ_MAX });
        let leaves: Vec<[u8; 32]> = entries(from, size.min(from + READ_MAX)).iter().map(|exact| *LogHash::leaf(exact).as_bytes()).collect();
        return end(world, place, Outcome::Ok { answer: Answer::Entries(Run::over(from, &leaves)) });
    };
    let place = begin(world, node, Action::Head { lane: lane.clone() });
    let answer = listing::collector_head(&open(&disk).live.store, &lane.collector, proofline_ledger::Lane(lane.lane));
    let outcome = match answer {
        Ok(answer) => Outcome::Ok { answer: Answer::Head { epoch: answer.epoch, last: head(answer.last.as_ref()) } },
        Err(fault) => Outcome::Fail { reason: fault.to_string(), for_good: false },
    };
    end(world, place, outcome);
}
