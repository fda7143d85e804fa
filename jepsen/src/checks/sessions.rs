//! P6: sessions and lanes have no gap.

use std::collections::HashMap;

use proofline_verifier::{ContentHash, Frontier, TreeHash as _};

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
    entry::{Body, Entry},
    reading::Reading,
};
use crate::history::BatchId;

pub(super) fn session_order(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    check_sessions(reading, &mut found);
    let mut before = 0;
    for (index, entry) in (0..).zip(&reading.entries) {
        let Some(entry) = entry else { continue };
        found.check(before <= entry.committed_unix_ns, || {
            Anomaly::new("time-goes-back", "it is dated before the entry before it").at(index)
        });
        before = entry.committed_unix_ns;
    }
    for lane in reading.lanes().values() {
        check_lane(&mut found, lane);
    }
    found.judgement()
}

fn check_sessions(reading: &Reading<'_>, found: &mut Found) {
    let mut trees: HashMap<&str, Frontier<ContentHash>> = HashMap::new();
    for (index, entry) in (0..).zip(&reading.entries) {
        let Some(at) = entry.as_ref().and_then(|entry| entry.session.as_ref()) else { continue };
        let tree = trees.entry(&at.session).or_default();
        let next = tree.size().0;
        found.check(at.position == next, || {
            Anomaly::new("hole-in-session", format!("session {}: position {} where {next} comes next", at.session, at.position)).at(index)
        });
        tree.push(at.leaf);
        found.check(tree.root().as_bytes()[..] == at.root, || {
            Anomaly::new("session-root-differs", format!("session {}: the root is not that of its entries", at.session)).at(index)
        });
    }
}

/// What a lane's next entry may be.
struct Next {
    epoch: u64,
    sequence: u64,
    offset: u32,
    index: Option<u64>,
}

fn check_lane(found: &mut Found, entries: &[(u64, &Entry)]) {
    let mut next = Next { epoch: 0, sequence: 1, offset: 0, index: None };
    for (index, entry) in entries {
        let hole = |detail: String| Anomaly::new("hole-in-lane", detail).at(*index);
        match &entry.body {
            Body::Opened { epoch, .. } => {
                found.check(next.offset == 0, || hole("an opening stands inside a batch".to_owned()));
                next = Next { epoch: *epoch, sequence: 1, offset: 0, index: None };
            }
            Body::Event { batch, offset, count, .. } | Body::Rejected { batch, offset, count } => {
                let is_next = (batch.epoch, batch.sequence, *offset) == (next.epoch, next.sequence, next.offset);
                let is_behind = *offset == 0 || next.index == Some(*index);
                found.check(is_next && is_behind, || hole(out_of_order(batch, *offset, &next)));
                next = behind(batch, *offset, *count, *index);
            }
            Body::Closed { batch } => {
                let is_next = (batch.epoch, batch.sequence, 0) == (next.epoch, next.sequence, next.offset);
                found.check(is_next, || hole(out_of_order(batch, 0, &next)));
                next = behind(batch, 0, 0, *index);
            }
            _ => {}
        }
    }
    let last = entries.last().map_or(0, |(index, _)| *index);
    found.check(next.offset == 0, || Anomaly::new("hole-in-lane", "the log ends inside a batch").at(last));
}

fn behind(batch: &BatchId, offset: u32, count: u32, index: u64) -> Next {
    let is_last = offset.saturating_add(1) >= count;
    let (sequence, offset) = if is_last { (batch.sequence.saturating_add(1), 0) } else { (batch.sequence, offset + 1) };
    Next { epoch: batch.epoch, sequence, offset, index: Some(index + 1) }
}

fn out_of_order(batch: &BatchId, offset: u32, next: &Next) -> String {
    format!("{batch} event {offset} where {}/{} event {} comes next", next.epoch, next.sequence, next.offset)
}
