//! `porcupine.jsonl`: what happened to each lane. An operation of unknown fate returns at the greatest number there is.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    checks::Reading,
    history::{Action, Answer, Moment, Nonce, Operation, Outcome},
};

pub(super) fn lines(reading: &Reading<'_>) -> Vec<String> {
    let mut openings = BTreeSet::new();
    reading.operations().iter().filter_map(|operation| line(reading, operation, &mut openings)).map(|line| line.to_string()).collect()
}

fn line(reading: &Reading<'_>, operation: &Operation, openings: &mut BTreeSet<Nonce>) -> Option<Value> {
    let (invoked, input, output) = match (&operation.action, &operation.outcome) {
        (_, Outcome::Fail { .. }) => return None,
        (Action::Append { batch, .. }, outcome) => {
            let output = match outcome {
                Outcome::Ok { answer: Answer::Appended { first_index, .. } } => json!({ "known": true, "first_index": first_index }),
                _ => json!({ "known": false }),
            };
            (operation.invoked, json!({ "op": "append", "lane": batch.lane, "epoch": batch.epoch, "sequence": batch.sequence }), output)
        }
        // All tries of an opening are one: any of them may be the one that was taken.
        (Action::OpenLane { lane, nonce }, Outcome::Ok { answer: Answer::Opened { epoch, last } }) if openings.insert(*nonce) => {
            let invoked = reading.request(nonce).map_or(operation.invoked, |request| request.invoked);
            (invoked, json!({ "op": "open", "lane": lane }), json!({ "known": true, "epoch": epoch, "last": last }))
        }
        _ => return None,
    };
    let moment = |at: Moment| i64::try_from(at.0).unwrap_or(i64::MAX);
    Some(json!({
        "clientId": operation.process, "call": moment(invoked), "return": moment(operation.returned), "input": input, "output": output,
    }))
}
