//! What a collector's own numbering says about what it sent: epochs that did not end in order, events that it says it dropped,
//! heartbeats that came late or not at all. Silence is not proof that nothing happened; this shows where it is silent.

use std::collections::BTreeMap;

use proofline_proto::v1;
use proofline_verifier::{EntryIndex, LogEntry};
use v1::entry_core::Body as EntryBody;
use v1::event::Body;

/// Silence that is reported when nothing else is asked: five minutes.
pub const SILENCE_MAX_NS: u64 = 300_000_000_000;

/// One epoch of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochNumbering {
    /// The entry that opened it; absent when the entries begin later.
    pub opened: Option<EntryIndex>,
    /// Batches, by the greatest sequence seen: the ledger takes no batch out of order.
    pub batches: u64,
    /// Sequences of which no entry is there.
    pub missing: Vec<u64>,
    /// Events that were recorded.
    pub events: u64,
    /// Events that were refused, each with an entry that says so.
    pub rejected: u64,
    /// It ended with a closing batch. Without one, what its collector still had was lost with it, or is yet to come.
    pub closed: bool,
}

/// What the entries of one collector say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    /// By lane and epoch.
    pub epochs: BTreeMap<(u32, u64), EpochNumbering>,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Events that it says it had to drop.
    pub dropped: u64,
    /// Heartbeats that count other events than were recorded since the one before: index, what it says, what is there.
    pub miscounted: Vec<(EntryIndex, u64, u64)>,
    /// Stretches without any entry of the collector longer than was asked: the entry before, the entry behind, nanoseconds.
    pub silences: Vec<(EntryIndex, EntryIndex, u64)>,
    /// Batches that it signed twice for one place.
    pub equivocations: Vec<EntryIndex>,
}

/// Reads every entry of a collector, in log order. A silence counts when it is longer than `silence_max_ns`.
pub fn numbering_of<'a>(entries: impl IntoIterator<Item = &'a LogEntry>, silence_max_ns: u64) -> Numbering {
    let mut reading = Reading { silence_max_ns, ..Reading::default() };
    for entry in entries {
        reading.take(entry);
    }
    reading.numbering
}

#[derive(Default)]
struct Reading {
    numbering: Numbering,
    silence_max_ns: u64,
    last: Option<(EntryIndex, u64)>,
    since_heartbeat: u64,
    has_begun: bool,
}

impl Reading {
    fn take(&mut self, entry: &LogEntry) {
        let now = entry.committed_unix_ns;
        if let Some((before, then)) = self.last.replace((entry.index, now))
            && now.saturating_sub(then) > self.silence_max_ns
        {
            self.numbering.silences.push((before, entry.index, now.saturating_sub(then)));
        }
        match &entry.body {
            EntryBody::LaneOpened(it) => {
                let lane = it.request.as_ref().map_or(0, |it| it.lane);
                self.numbering.epochs.entry((lane, it.epoch)).or_default().opened = Some(entry.index);
            }
            EntryBody::LaneClosed(it) => {
                if let Some(epoch) = it.at.as_ref().map(|at| self.at(at)) {
                    epoch.closed = true;
                }
            }
            EntryBody::Event(it) => {
                if let Some(epoch) = it.at.as_ref().map(|at| self.at(at)) {
                    epoch.events += 1;
                }
                self.event(entry);
            }
            EntryBody::Rejection(it) => {
                if let Some(epoch) = it.at.as_ref().map(|at| self.at(at)) {
                    epoch.rejected += 1;
                }
                self.since_heartbeat += 1;
            }
            EntryBody::Equivocation(_) => self.numbering.equivocations.push(entry.index),
            _ => (),
        }
    }

    /// Finds the epoch of a place, and notes the sequences that were passed over.
    fn at(&mut self, at: &v1::BatchPosition) -> &mut EpochNumbering {
        let epoch = self.numbering.epochs.entry((at.lane, at.epoch)).or_default();
        // Where the entries begin in the middle of an epoch, what came before is not missing.
        let expected = if epoch.batches == 0 && epoch.opened.is_none() { at.sequence } else { epoch.batches + 1 };
        epoch.missing.extend((expected..at.sequence).take(1_000));
        epoch.batches = epoch.batches.max(at.sequence);
        epoch
    }

    /// A heartbeat counts what was sent since the one before it, itself not included.
    fn event(&mut self, entry: &LogEntry) {
        let Some(Body::Heartbeat(it)) = entry.event.as_ref().and_then(|it| it.body.as_ref()) else {
            self.since_heartbeat += 1;
            return;
        };
        self.numbering.heartbeats += 1;
        self.numbering.dropped = self.numbering.dropped.saturating_add(it.dropped_since_last);
        if self.has_begun && it.events_since_last != self.since_heartbeat {
            self.numbering.miscounted.push((entry.index, it.events_since_last, self.since_heartbeat));
        }
        (self.has_begun, self.since_heartbeat) = (true, 0);
    }
}
