//! One try of one write at one node: recorded, timed, never repeated by itself.

use std::time::Duration;

use proofline_proto::v1;
use tonic::{Response, Status};

use super::{Stage, batches::Signed, definite::write_outcome, reach::Seat};
use crate::{
    history::{Action, Actor, Answer, LaneHead, LaneId, Nonce, Outcome, Receipt, Way},
    random::Random,
};

/// Waits for an answer, but not for ever.
pub(super) async fn timed<T>(within: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(within, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

impl Stage {
    pub(super) fn attempt_time(&self) -> Duration {
        Duration::from_millis(self.shape.attempt_ms)
    }
}

pub(super) fn append_action(signed: &Signed, way: Way) -> Action {
    Action::Append { batch: signed.id.clone(), way, events: signed.events.iter().map(|made| made.sent.clone()).collect() }
}

/// Sends a batch once.
pub(super) async fn append(stage: &Stage, actor: &mut Actor, seat: &Seat, signed: &Signed, way: Way) -> Outcome {
    let open = actor.begin(seat.node, append_action(signed, way)).await;
    let batch = Some(signed.batch.clone());
    let answer = match way {
        Way::Propose => {
            let mut ingest = seat.link.ingest();
            timed(stage.attempt_time(), ingest.propose(v1::ProposeRequest { batch })).await.map(proposed)
        }
        Way::Append | Way::Stream => {
            let mut ingest = seat.link.ingest();
            timed(stage.attempt_time(), ingest.append(v1::AppendRequest { batch })).await.map(|answer| appended(&answer))
        }
    };
    let outcome = write_outcome(answer);
    open.end(outcome.clone()).await;
    outcome
}

/// Sends a second batch for a place that is taken, once.
pub(super) async fn equivocate(stage: &Stage, actor: &mut Actor, seat: &Seat, second: &Signed) {
    let events = second.events.iter().map(|made| made.sent.clone()).collect();
    let open = actor.begin(seat.node, Action::Equivocate { batch: second.id.clone(), events }).await;
    let mut ingest = seat.link.ingest();
    let answer = timed(stage.attempt_time(), ingest.append(v1::AppendRequest { batch: Some(second.batch.clone()) })).await;
    open.end(write_outcome(answer.map(|answer| appended(&answer)))).await;
}

/// Takes a receipt as the history keeps it.
pub(super) fn appended(answer: &v1::AppendResponse) -> Answer {
    let receipt = |event: &v1::EventReceipt| Receipt { ruling: event.verdict().into(), position: event.session_position };
    Answer::Appended { first_index: answer.first_index, events: answer.events.iter().map(receipt).collect() }
}

fn proposed(answer: v1::ProposeResponse) -> Answer {
    let receipt = Receipt { ruling: answer.verdict().into(), position: answer.session_position };
    Answer::Appended { first_index: answer.index, events: vec![receipt] }
}

/// Sends an opening once; returns the exact answer when there is one.
pub(super) async fn open_lane(
    stage: &Stage,
    actor: &mut Actor,
    seat: &Seat,
    lane: &LaneId,
    open: v1::SignedOpenLane,
    nonce: Nonce,
) -> Option<v1::OpenLaneResponse> {
    let operation = actor.begin(seat.node, Action::OpenLane { lane: lane.clone(), nonce }).await;
    let mut ingest = seat.link.ingest();
    let answer = timed(stage.attempt_time(), ingest.open_lane(v1::OpenLaneRequest { open: Some(open) })).await;
    operation.end(write_outcome(answer.clone().map(|answer| opened(&answer)))).await;
    answer.ok()
}

fn opened(answer: &v1::OpenLaneResponse) -> Answer {
    Answer::Opened { epoch: answer.epoch, last: head(answer.last.as_ref()) }
}

/// Takes a lane's head as the history keeps it.
pub(super) fn head(of: Option<&v1::LaneHead>) -> LaneHead {
    of.map(|head| LaneHead { epoch: head.epoch, sequence: head.sequence }).unwrap_or_default()
}

/// Makes a number that nobody used before.
pub(super) fn nonce(lot: &mut Random) -> Nonce {
    let mut bytes = [0; 16];
    let (left, right) = bytes.split_at_mut(8);
    left.copy_from_slice(&lot.below(u64::MAX).to_be_bytes());
    right.copy_from_slice(&lot.below(u64::MAX).to_be_bytes());
    Nonce(bytes)
}
