//! P8: what was read, and who goes back on what they said.

use std::collections::HashMap;

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
    reading::Reading,
};
use crate::history::{Action, Answer, LaneHead, LaneId, Moment, NodeId, Operation, OperationId, Run};

pub(super) fn reads(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let by_session = positions(reading);
    for operation in reading.operations() {
        match (&operation.action, operation.answer()) {
            (Action::Read { from, limit }, Some(Answer::Entries(run))) => {
                found.check(run.first == *from && run.count <= *limit, || {
                    Anomaly::new("read-of-something-else", format!("{run:?} for {limit} from {from}")).by([operation.id])
                });
                check_run(reading, &mut found, operation, run);
            }
            (Action::ReadSession { session }, Some(Answer::Session { entries, published, indexes })) => {
                let all = by_session.get(session.as_str()).map_or(&[][..], Vec::as_slice);
                let expected = all.get(..all.partition_point(|index| index < published)).unwrap_or_default();
                let page = expected.get(..indexes.len());
                found.check(*entries == expected.len() as u64 && page == Some(indexes.as_slice()), || {
                    let detail = format!("session {session} under {published} entries: {entries} entries, the log has {}", expected.len());
                    Anomaly::new("session-read-differs", detail).by([operation.id]).on([operation.node])
                });
            }
            _ => {}
        }
    }
    check_heads(reading, &mut found);
    found.judgement()
}

fn positions<'a>(reading: &'a Reading<'_>) -> HashMap<&'a str, Vec<u64>> {
    let mut sessions: HashMap<&str, Vec<u64>> = HashMap::new();
    for (index, entry) in (0..).zip(&reading.entries) {
        if let Some(at) = entry.as_ref().and_then(|entry| entry.session.as_ref()) {
            sessions.entry(&at.session).or_default().push(index);
        }
    }
    sessions
}

/// Compares entries that were read with the log.
pub(super) fn check_run(reading: &Reading<'_>, found: &mut Found, operation: &Operation, run: &Run) {
    let is_same = reading.leaves_of(run.first, run.count).is_some_and(|leaves| Run::over(run.first, leaves) == *run);
    found.check(is_same, || {
        let detail = format!("entries {}..{} are others in the log", run.first, run.end());
        Anomaly::new("read-differs-from-log", detail).at(run.first).by([operation.id]).on([operation.node])
    });
}

/// What a node said of a lane, and when: by an acknowledgement, or when it was asked.
struct Said {
    invoked: Moment,
    returned: Moment,
    head: LaneHead,
    operation: OperationId,
    is_read: bool,
}

/// A node that acknowledged a batch, or told of it, tells of it again, unless it was restarted.
fn check_heads(reading: &Reading<'_>, found: &mut Found) {
    let mut said: HashMap<(NodeId, &LaneId), Vec<Said>> = HashMap::new();
    for operation in reading.operations() {
        let (lane, head, is_read) = match (&operation.action, operation.answer()) {
            (Action::Append { batch, .. }, Some(Answer::Appended { .. })) => {
                (&batch.lane, LaneHead { epoch: batch.epoch, sequence: batch.sequence }, false)
            }
            (Action::Head { lane }, Some(Answer::Head { last, .. })) => (lane, *last, true),
            _ => continue,
        };
        let (invoked, returned) = (operation.invoked, operation.returned);
        said.entry((operation.node, lane)).or_default().push(Said { invoked, returned, head, operation: operation.id, is_read });
    }
    for ((node, lane), said) in said {
        check_one_head(reading, found, node, lane, said);
    }
}

fn check_one_head(reading: &Reading<'_>, found: &mut Found, node: NodeId, lane: &LaneId, mut said: Vec<Said>) {
    said.sort_by_key(|it| it.invoked);
    let mut ended: Vec<&Said> = said.iter().collect();
    ended.sort_by_key(|it| it.returned);
    let mut ended = ended.into_iter().peekable();
    let mut newest: Option<&Said> = None;
    for read in &said {
        while let Some(before) = ended.next_if(|before| before.returned < read.invoked) {
            let is_new =
                newest.is_none_or(|newest| newest.head < before.head || reading.may_have_restarted(node, newest.returned, before.returned));
            if is_new {
                newest = Some(before);
            }
        }
        let Some(newest) = newest.filter(|_| read.is_read) else { continue };
        let goes_back = read.head < newest.head && !reading.may_have_restarted(node, newest.returned, read.returned);
        found.check(!goes_back, || {
            let detail = format!("lane {} of {}: {:?} after {:?}", lane.lane, lane.collector, read.head, newest.head);
            Anomaly::new("non-monotonic-read", detail).by([newest.operation, read.operation]).on([node])
        });
    }
}
