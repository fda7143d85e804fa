//! A second opinion: a linearizability checker of somebody else's, on one lane and one session at a time.
//!
//! It searches for an order of the operations that a small model allows, and knows nothing of indexes. Where it and the
//! predicates do not agree, one of them is wrong.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use porcupine_rs::{CheckResult, Model, Operation as Timed, check_operations_timeout};
use serde::Serialize;

use super::Case;
use crate::history::{Action, Answer, LaneHead, LaneId, Moment, Nonce, Operation, Outcome};

/// Operations of one lane that are looked at: the search may take exponential time.
const OPERATIONS_MAX: usize = 2_000;
const WITHIN: Duration = Duration::from_secs(20);

/// What the other checker says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SecondOpinion {
    /// Lanes that it found linearizable.
    pub linearizable: usize,
    /// Lanes that it did not.
    pub refuted: Vec<LaneId>,
    /// Lanes on which it gave up.
    pub undecided: Vec<LaneId>,
}

/// A lane: how far its chain has come.
#[derive(Clone, Debug)]
struct Lane;

/// What one operation does to a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A batch was taken: now, or before.
    Appended(LaneHead),
    /// A batch may have been taken.
    MayAppend(LaneHead),
    /// An opening was taken, now or before, and was told of the newest batch.
    Opened(u64, LaneHead),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chain {
    epoch: u64,
    newest: (u64, u64),
    /// What each opening was told, to tell it again.
    openings: Vec<(u64, (u64, u64))>,
}

impl Model for Lane {
    type State = Chain;
    type Op = Step;
    type Metadata = ();

    fn init() -> Chain {
        Chain { epoch: 0, newest: (0, 0), openings: Vec::new() }
    }

    fn step(state: &Chain, step: &Step) -> (bool, Chain) {
        match step {
            Step::Appended(head) => append(state, *head).map_or((false, state.clone()), |next| (true, next)),
            Step::MayAppend(head) => (true, append(state, *head).unwrap_or_else(|| state.clone())),
            Step::Opened(epoch, last) => {
                let told = (*epoch, (last.epoch, last.sequence));
                if state.openings.contains(&told) {
                    return (true, state.clone());
                }
                let is_next = *epoch > state.epoch && told.1 == state.newest;
                let mut next = state.clone();
                next.epoch = *epoch;
                next.openings.push(told);
                (is_next, if is_next { next } else { state.clone() })
            }
        }
    }
}

fn append(state: &Chain, head: LaneHead) -> Option<Chain> {
    let head = (head.epoch, head.sequence);
    // Taken before: the same batch again is answered again, however late.
    if head <= state.newest {
        return Some(state.clone());
    }
    let expected = if state.newest.0 == state.epoch { state.newest.1 + 1 } else { 1 };
    (head == (state.epoch, expected)).then(|| Chain { newest: head, ..state.clone() })
}

/// Asks the other checker about every lane, as far as its operations go.
#[must_use]
pub fn second_opinion(case: &Case) -> SecondOpinion {
    let mut lanes: BTreeMap<&LaneId, Vec<Timed<Lane>>> = BTreeMap::new();
    for (lane, timed) in case.history.operations.iter().filter_map(append_of).chain(openings(case)) {
        lanes.entry(lane).or_default().push(timed);
    }
    let mut opinion = SecondOpinion::default();
    for (lane, operations) in lanes {
        match check_operations_timeout(&beginning(operations), WITHIN) {
            CheckResult::Ok => opinion.linearizable += 1,
            CheckResult::Illegal => opinion.refuted.push(lane.clone()),
            CheckResult::Unknown => opinion.undecided.push(lane.clone()),
        }
    }
    opinion
}

/// Returns the first operations of a lane. What was answered only after the first one that is left out may rest on that one,
/// and demands nothing.
fn beginning(mut operations: Vec<Timed<Lane>>) -> Vec<Timed<Lane>> {
    operations.sort_by_key(|it| it.call_time);
    let Some(cut) = operations.get(OPERATIONS_MAX).map(|it| it.call_time) else { return operations };
    operations.truncate(OPERATIONS_MAX);
    operations.retain_mut(|it| {
        if it.return_time >= cut {
            let (Step::Appended(head) | Step::MayAppend(head)) = &it.op else { return false };
            (it.op, it.return_time) = (Step::MayAppend(*head), i64::MAX);
        }
        true
    });
    operations
}

fn append_of(operation: &Operation) -> Option<(&LaneId, Timed<Lane>)> {
    let Action::Append { batch, .. } = &operation.action else { return None };
    let head = LaneHead { epoch: batch.epoch, sequence: batch.sequence };
    let step = match operation.outcome {
        Outcome::Ok { .. } => Step::Appended(head),
        Outcome::Info { .. } => Step::MayAppend(head),
        Outcome::Fail { .. } => return None,
    };
    Some((&batch.lane, timed(operation, operation.invoked, operation.returned, step)))
}

/// An opening is tried until it is answered, and any try of it may be the one that was taken: all of them are one operation.
fn openings(case: &Case) -> impl Iterator<Item = (&LaneId, Timed<Lane>)> {
    let mut first: HashMap<Nonce, Moment> = HashMap::new();
    let mut answered: BTreeMap<Nonce, (&LaneId, &Operation, Step)> = BTreeMap::new();
    for operation in &case.history.operations {
        let Action::OpenLane { lane, nonce } = &operation.action else { continue };
        first.entry(*nonce).or_insert(operation.invoked);
        if let Some(Answer::Opened { epoch, last }) = operation.answer() {
            answered.entry(*nonce).or_insert((lane, operation, Step::Opened(*epoch, *last)));
        }
    }
    answered.into_iter().map(move |(nonce, (lane, operation, step))| {
        let invoked = first.get(&nonce).copied().unwrap_or(operation.invoked);
        (lane, timed(operation, invoked, operation.returned, step))
    })
}

fn timed(operation: &Operation, invoked: Moment, returned: Moment, op: Step) -> Timed<Lane> {
    let moment = |at: Moment| i64::try_from(at.0).unwrap_or(i64::MAX);
    let client_id = u32::try_from(operation.process.0).ok();
    Timed { client_id, call_time: moment(invoked), return_time: moment(returned), op, metadata: None }
}
