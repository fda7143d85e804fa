//! P5 and P7: real time, and reads that are as new as the log.

use std::collections::HashMap;

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
    entry::Body,
    reading::Reading,
};
use crate::history::{Action, Answer, LaneHead, LaneId, Moment, OperationId};

/// A request with its place in the log.
struct Placed {
    invoked: Moment,
    acknowledged: Moment,
    first: u64,
    last: u64,
    operation: OperationId,
}

pub(super) fn real_time(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let mut placed = placed(reading);
    let mut by_end: Vec<usize> = (0..placed.len()).collect();
    placed.sort_by_key(|it| it.invoked);
    let ended = |place: &usize| placed.get(*place).map_or(Moment::NEVER, |it| it.acknowledged);
    by_end.sort_by_key(ended);
    let mut ended = by_end.into_iter().filter_map(|place| placed.get(place)).peekable();
    // The greatest index that was acknowledged before the request that is looked at began.
    let mut newest: Option<&Placed> = None;
    for request in &placed {
        while let Some(before) = ended.next_if(|before| before.acknowledged < request.invoked) {
            if newest.is_none_or(|newest| newest.last < before.last) {
                newest = Some(before);
            }
        }
        if let Some(newest) = newest.filter(|newest| newest.last >= request.first) {
            let detail = format!("it began after entry {} was acknowledged, and stands before it", newest.last);
            found.add(Anomaly::new("against-real-time", detail).at(request.first).by([newest.operation, request.operation]));
        }
    }
    found.judgement()
}

/// Finds the place of every request: by its answer, or by the log when it had none.
fn placed(reading: &Reading<'_>) -> Vec<Placed> {
    let mut spans: Vec<Option<(u64, u64)>> = vec![None; reading.batches.len()];
    for (index, place) in (0..).zip(&reading.batches_of_entries) {
        if let Some(span) = place.and_then(|place| spans.get_mut(place)) {
            *span = Some((span.map_or(index, |(first, _)| first), index));
        }
    }
    let of_batch = |(it, span): (&super::reading::Batch<'_>, Option<(u64, u64)>)| {
        let (mut first, mut last) = span?;
        // What an acknowledgement says counts, too.
        for (_, index, events) in it.acknowledgements() {
            (first, last) = (first.min(index), last.max(index + (events.len() as u64).saturating_sub(1)));
        }
        let operation = it.tries.first()?.id;
        Some(Placed { invoked: it.invoked, acknowledged: it.acknowledged, first, last, operation })
    };
    let of_request = |it: &super::reading::Request<'_>| {
        let index = *reading.request_indexes.get(&it.nonce)?;
        Some(Placed { invoked: it.invoked, acknowledged: it.acknowledged, first: index, last: index, operation: it.tries.first()?.id })
    };
    reading.batches.iter().zip(spans).filter_map(of_batch).chain(reading.requests.iter().filter_map(of_request)).collect()
}

/// An opening goes through the log and tells the lane's newest batch: the one read that is promised to be as new as the log.
pub(super) fn linearizable(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let mut heads: HashMap<&LaneId, (u64, LaneHead)> = HashMap::new();
    for (index, entry) in (0..).zip(&reading.entries) {
        match entry.as_ref().map(|entry| &entry.body) {
            Some(Body::Event { batch, .. } | Body::Rejected { batch, .. } | Body::Closed { batch }) => {
                heads.entry(&batch.lane).or_default().1 = LaneHead { epoch: batch.epoch, sequence: batch.sequence };
            }
            Some(Body::Opened { lane, epoch, nonce }) => {
                let (newest, last) = heads.entry(lane).or_default();
                found.check(*newest < *epoch, || Anomaly::new("epoch-goes-back", format!("epoch {epoch} behind {newest}")).at(index));
                *newest = *epoch;
                let tries = reading.request(nonce).map(|request| request.tries.as_slice()).unwrap_or_default();
                for operation in tries {
                    let Some(Answer::Opened { epoch: told, last: said }) = operation.answer() else { continue };
                    found.check(told == epoch && said == last, || {
                        let detail = format!("it was told of {said:?} in epoch {told}, the log has {last:?} in epoch {epoch}");
                        Anomaly::new("stale-linearizable-read", detail).at(index).by([operation.id])
                    });
                }
            }
            _ => {}
        }
    }
    check_told(reading, &mut found);
    found.judgement()
}

/// Whatever became of an opening: a batch that was acknowledged before anybody asked is older than what it was told.
fn check_told(reading: &Reading<'_>, found: &mut Found) {
    let mut acknowledged: HashMap<&LaneId, Vec<(Moment, LaneHead, OperationId)>> = HashMap::new();
    for batch in reading.batches.iter().filter(|batch| batch.acknowledged != Moment::NEVER) {
        let (head, operation) = (LaneHead { epoch: batch.id.epoch, sequence: batch.id.sequence }, batch.tries.first());
        acknowledged.entry(&batch.id.lane).or_default().extend(operation.map(|it| (batch.acknowledged, head, it.id)));
    }
    for heads in acknowledged.values_mut() {
        heads.sort_unstable();
        let mut newest = (LaneHead::default(), OperationId(0));
        for (_, head, operation) in heads {
            newest = newest.max((*head, *operation));
            (*head, *operation) = newest;
        }
    }
    for operation in reading.operations() {
        let (Action::OpenLane { lane, nonce }, Some(Answer::Opened { last: said, .. })) = (&operation.action, operation.answer()) else {
            continue;
        };
        let asked = reading.request(nonce).map_or(operation.invoked, |request| request.invoked);
        let heads = acknowledged.get(lane).map_or(&[][..], Vec::as_slice);
        let before = heads.partition_point(|(at, ..)| *at < asked);
        let Some((_, newest, by)) = before.checked_sub(1).and_then(|place| heads.get(place)) else { continue };
        found.check(said >= newest, || {
            let detail = format!("it was told of {said:?}, and {newest:?} was acknowledged before it was asked");
            Anomaly::new("stale-linearizable-read", detail).by([operation.id, *by]).on([operation.node])
        });
    }
}
