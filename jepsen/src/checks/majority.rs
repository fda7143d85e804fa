//! When a majority of the members was left alone, so that the cluster had to take writes whatever was done to the others.

use std::collections::BTreeMap;

use super::reading::Reading;
use crate::history::{Fault, FaultRecord, Mark, Moment, NodeId};

/// How long a node is not counted after a fault of it, or after its start: it catches up.
const SETTLE_MS: u64 = 3_000;

/// Times, in order.
type Spans = Vec<(Moment, Moment)>;

/// Returns the times in which a majority was up and no fault touched any of it.
pub(super) fn untouched(reading: &Reading<'_>) -> Spans {
    let history = &reading.case.history;
    let mut nodes = lives(reading);
    for fault in &history.faults {
        let touches_all = fault.targets.is_empty() || touches_every_link(fault);
        for (_, life) in nodes.iter_mut().filter(|(node, _)| touches_all || fault.targets.contains(node)) {
            life.touched.push((fault.began, fault.ended.plus_ms(SETTLE_MS)));
        }
    }
    let mut changes: Vec<(Moment, i64)> = Vec::new();
    for (from, to) in nodes.into_values().flat_map(Life::untouched) {
        changes.extend([(from, 1), (to, -1)]);
    }
    // Where one begins as another ends, the end comes first.
    changes.sort_unstable();
    let majority = i64::try_from(history.run.nodes.len() / 2 + 1).unwrap_or(i64::MAX);
    let (mut spans, mut count, mut since) = (Vec::new(), 0, None);
    for (at, change) in changes {
        count += change;
        if count >= majority {
            since = since.or(Some(at));
        } else if let Some(since) = since.take() {
            spans.push((since, at));
        }
    }
    spans
}

const fn touches_every_link(fault: &FaultRecord) -> bool {
    matches!(
        fault.fault,
        Fault::Bridge
            | Fault::Ring
            | Fault::Swizzle
            | Fault::SlowNetwork
            | Fault::LossyNetwork
            | Fault::UnorderedNetwork
            | Fault::AlteredPackets
    )
}

/// One node, from the moment when it votes to its end.
struct Life {
    from: Moment,
    to: Moment,
    touched: Spans,
}

impl Life {
    fn untouched(mut self) -> Spans {
        self.touched.sort_unstable();
        let (mut free, mut from) = (Vec::new(), self.from);
        for (began, ended) in self.touched {
            if began > from {
                free.push((from, began.min(self.to)));
            }
            from = from.max(ended);
        }
        if from < self.to {
            free.push((from, self.to));
        }
        free.retain(|(from, to)| from < to);
        free
    }
}

/// Returns every node with the times in which it was down.
fn lives(reading: &Reading<'_>) -> BTreeMap<NodeId, Life> {
    let history = &reading.case.history;
    let life = |from| Life { from, to: Moment::NEVER, touched: Vec::new() };
    let mut lives: BTreeMap<NodeId, Life> = history.run.nodes.iter().map(|node| (*node, life(Moment::default()))).collect();
    let mut down: BTreeMap<NodeId, Moment> = BTreeMap::new();
    for marked in &history.marks {
        match marked.what {
            Mark::Joined { node } => {
                lives.insert(node, life(marked.at.plus_ms(SETTLE_MS)));
            }
            Mark::Follows { after, .. } => {
                if let Some(life) = lives.get_mut(&after) {
                    life.to = marked.at;
                }
            }
            Mark::Ended { node, .. } => {
                down.entry(node).or_insert(marked.at);
            }
            Mark::Started { node } => {
                if let (Some(life), Some(since)) = (lives.get_mut(&node), down.remove(&node)) {
                    life.touched.push((since, marked.at.plus_ms(SETTLE_MS)));
                }
            }
            _ => {}
        }
    }
    for (node, since) in down {
        if let Some(life) = lives.get_mut(&node) {
            life.touched.push((since, Moment::NEVER));
        }
    }
    lives
}
