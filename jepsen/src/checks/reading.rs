//! A case, read once: the log parsed, the tries of each request together, and where each stands in the log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use proofline_ledger::{Divergence, Replay};
use proofline_verifier::{Frontier, LogHash, TreeHash as _};
use prost::bytes::Bytes;

use super::{
    Case,
    entry::{Body, Entry},
};
use crate::history::{
    Action, Answer, BatchId, CheckpointSeen, Digest, EventId, EventSent, FaultKind, LaneId, Mark, Moment, NodeId, Nonce, Observed,
    Operation, Outcome, Receipt,
};

/// All tries of one batch.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) id: &'a BatchId,
    pub(crate) events: &'a [EventSent],
    pub(crate) tries: Vec<&'a Operation>,
    /// When the first try began.
    pub(crate) invoked: Moment,
    /// When the first acknowledgement came.
    pub(crate) acknowledged: Moment,
}

impl<'a> Batch<'a> {
    /// Returns every acknowledgement: the operation, the first index, the receipts.
    pub(crate) fn acknowledgements(&self) -> impl Iterator<Item = (&'a Operation, u64, &'a [Receipt])> {
        self.tries.iter().filter_map(|it| match it.answer() {
            Some(Answer::Appended { first_index, events }) => Some((*it, *first_index, events.as_slice())),
            _ => None,
        })
    }

    /// Tells whether it is certain that the batch is not in the log.
    pub(crate) fn is_refused(&self) -> bool {
        is_refused(&self.tries)
    }
}

/// All tries of one command or opening.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) nonce: Nonce,
    pub(crate) action: &'a Action,
    pub(crate) tries: Vec<&'a Operation>,
    pub(crate) invoked: Moment,
    pub(crate) acknowledged: Moment,
}

impl Request<'_> {
    pub(crate) fn is_refused(&self) -> bool {
        is_refused(&self.tries)
    }
}

fn is_refused(tries: &[&Operation]) -> bool {
    let fails = |it: &Operation| matches!(it.outcome, Outcome::Fail { .. });
    let fails_for_good = |it: &Operation| matches!(it.outcome, Outcome::Fail { for_good: true, .. });
    tries.iter().all(|it| fails(it)) || tries.iter().any(|it| fails_for_good(it))
}

/// What a replay came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The digest of the state that the entries lead to.
    To(Digest),
    /// The ledger would not have written these entries.
    Stopped {
        /// The entry at which it stopped; none when it was behind the last.
        index: Option<u64>,
        /// Why.
        why: String,
    },
}

static NOT_REPLAYED: Replayed = Replayed::Stopped { index: None, why: String::new() };

/// A case and its indexes.
pub struct Reading<'a> {
    pub(crate) case: &'a Case,
    /// The longest log.
    pub(crate) log: &'a [Bytes],
    pub(crate) leaves: Vec<[u8; 32]>,
    /// Parsed; none where the bytes are no entry.
    pub(crate) entries: Vec<Option<Entry>>,
    pub(crate) batches: Vec<Batch<'a>>,
    pub(crate) batch_places: HashMap<&'a BatchId, usize>,
    /// Under which batches an event was sent, and where in them.
    pub(crate) events: HashMap<EventId, Vec<(usize, u32)>>,
    pub(crate) requests: Vec<Request<'a>>,
    pub(crate) request_places: HashMap<Nonce, usize>,
    /// Where commands and openings stand in the log.
    pub(crate) request_indexes: HashMap<Nonce, u64>,
    restarts: HashMap<NodeId, Vec<Moment>>,
    /// By how many entries were replayed.
    replayed: OnceLock<BTreeMap<usize, Replayed>>,
}

impl<'a> Reading<'a> {
    /// Reads a case.
    #[must_use]
    pub fn of(case: &'a Case) -> Self {
        let log: &[Bytes] = case.finals.nodes.iter().map(|node| node.log.as_slice()).max_by_key(|log| log.len()).unwrap_or_default();
        let mut reading = Self {
            case,
            log,
            leaves: log.iter().map(|exact| *LogHash::leaf(exact).as_bytes()).collect(),
            entries: log.iter().map(|exact| Entry::parse(exact)).collect(),
            batches: Vec::new(),
            batch_places: HashMap::new(),
            events: HashMap::new(),
            requests: Vec::new(),
            request_places: HashMap::new(),
            request_indexes: HashMap::new(),
            restarts: HashMap::new(),
            replayed: OnceLock::new(),
        };
        for (index, entry) in (0..).zip(&reading.entries) {
            if let Some(nonce) = entry.as_ref().and_then(Entry::nonce) {
                reading.request_indexes.insert(nonce, index);
            }
        }
        case.history.operations.iter().for_each(|operation| reading.take(operation));
        reading.read_restarts();
        reading
    }

    fn take(&mut self, operation: &'a Operation) {
        match &operation.action {
            Action::Append { batch, events, .. } => self.take_append(operation, batch, events),
            Action::OpenLane { nonce, .. }
            | Action::Revoke { nonce, .. }
            | Action::Release { nonce, .. }
            | Action::Govern { nonce, .. } => {
                let place = *self.request_places.entry(*nonce).or_insert(self.requests.len());
                if place == self.requests.len() {
                    let (action, invoked) = (&operation.action, operation.invoked);
                    self.requests.push(Request { nonce: *nonce, action, tries: Vec::new(), invoked, acknowledged: Moment::NEVER });
                }
                if let Some(request) = self.requests.get_mut(place) {
                    request.tries.push(operation);
                    request.invoked = request.invoked.min(operation.invoked);
                    request.acknowledged = request.acknowledged.min(acknowledged(operation));
                }
            }
            _ => {}
        }
    }

    fn take_append(&mut self, operation: &'a Operation, id: &'a BatchId, events: &'a [EventSent]) {
        let place = *self.batch_places.entry(id).or_insert(self.batches.len());
        if place == self.batches.len() {
            for (offset, event) in (0..).zip(events) {
                self.events.entry(event.id).or_default().push((place, offset));
            }
            let invoked = operation.invoked;
            self.batches.push(Batch { id, events, tries: Vec::new(), invoked, acknowledged: Moment::NEVER });
        }
        if let Some(batch) = self.batches.get_mut(place) {
            batch.tries.push(operation);
            batch.invoked = batch.invoked.min(operation.invoked);
            batch.acknowledged = batch.acknowledged.min(acknowledged(operation));
        }
    }

    fn read_restarts(&mut self) {
        for marked in &self.case.history.marks {
            if let Mark::Started { node } | Mark::Ended { node, .. } = marked.what {
                self.restarts.entry(node).or_default().push(marked.at);
            }
        }
        let restarts = |kind| {
            !matches!(
                kind,
                FaultKind::Pause
                    | FaultKind::Partition
                    | FaultKind::OneWay
                    | FaultKind::Bridge
                    | FaultKind::Ring
                    | FaultKind::Flap
                    | FaultKind::Delay
                    | FaultKind::Loss
                    | FaultKind::Reorder
            )
        };
        for fault in self.case.history.faults.iter().filter(|fault| restarts(fault.kind)) {
            for node in &fault.targets {
                let moments = self.restarts.entry(*node).or_default();
                moments.extend([fault.began, fault.ended]);
            }
        }
        self.restarts.values_mut().for_each(|moments| moments.sort_unstable());
    }

    /// Tells whether a node may have been restarted between two moments.
    pub(crate) fn may_have_restarted(&self, node: NodeId, from: Moment, to: Moment) -> bool {
        let moments = self.restarts.get(&node).map_or(&[][..], Vec::as_slice);
        let first = moments.partition_point(|moment| *moment < from);
        moments.get(first).is_some_and(|moment| *moment <= to)
    }

    pub(crate) fn operations(&self) -> &'a [Operation] {
        &self.case.history.operations
    }

    pub(crate) fn size(&self) -> u64 {
        self.log.len() as u64
    }

    pub(crate) fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)?.as_ref()
    }

    pub(crate) fn leaf(&self, index: u64) -> Option<&[u8; 32]> {
        self.leaves.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn batch(&self, id: &BatchId) -> Option<&Batch<'a>> {
        self.batches.get(*self.batch_places.get(id)?)
    }

    pub(crate) fn request(&self, nonce: &Nonce) -> Option<&Request<'a>> {
        self.requests.get(*self.request_places.get(nonce)?)
    }

    /// Returns when whatever became an entry was first sent; none when nobody sent it.
    pub(crate) fn sent(&self, index: u64) -> Option<Moment> {
        match &self.entry(index)?.body {
            Body::Event { batch, .. } | Body::Rejected { batch, .. } | Body::Closed { batch } => Some(self.batch(batch)?.invoked),
            Body::Revoke { nonce, .. } | Body::Release { nonce, .. } | Body::Opened { nonce, .. } | Body::Command { nonce, .. } => {
                Some(self.request(nonce)?.invoked)
            }
            Body::Containment { .. } | Body::Other => None,
        }
    }

    /// Returns the leaf hashes of some entries; none when the log does not have them all.
    pub(crate) fn leaves_of(&self, first: u64, count: u64) -> Option<&[[u8; 32]]> {
        let (first, count) = (usize::try_from(first).ok()?, usize::try_from(count).ok()?);
        self.leaves.get(first..first.checked_add(count)?)
    }

    /// Returns every checkpoint that anybody saw or that lay on a disk, with who saw it.
    pub(crate) fn checkpoints(&self) -> Vec<(&'a CheckpointSeen, Option<&'a Operation>, NodeId)> {
        let seen = self.operations().iter().filter_map(|it| match it.answer()? {
            Answer::Checkpoint(checkpoint) | Answer::Included { checkpoint, .. } => Some((checkpoint, Some(it), it.node)),
            _ => None,
        });
        let kept = self.case.finals.nodes.iter().filter_map(|node| Some((node.checkpoint.as_ref()?, None, node.node)));
        seen.chain(kept).collect()
    }

    /// Computes the root of the log at each of these sizes, as far as the log reaches.
    pub(crate) fn roots(&self, sizes: impl IntoIterator<Item = u64>) -> BTreeMap<u64, Digest> {
        let wanted: std::collections::BTreeSet<u64> = sizes.into_iter().collect();
        let mut roots = BTreeMap::new();
        let mut tree = Frontier::<LogHash>::default();
        for size in wanted {
            while tree.size().0 < size {
                let Some(leaf) = self.leaf(tree.size().0) else { return roots };
                tree.push(LogHash::from_bytes(*leaf));
            }
            roots.insert(size, Digest(*tree.root().as_bytes()));
        }
        roots
    }

    /// Runs the ledger's replay over the log and returns the digest of the state that it leads to, or where it stopped and why.
    pub fn replayed(&self) -> &Replayed {
        self.replayed_to(self.log.len())
    }

    /// As [`replayed`](Self::replayed), over the first entries of the log: as many as some node has.
    pub(crate) fn replayed_to(&self, entries: usize) -> &Replayed {
        let replays = self.replayed.get_or_init(|| {
            let nodes = self.case.finals.nodes.iter().map(|node| node.log.len());
            nodes.chain([self.log.len()]).map(|entries| (entries, replay(self.log.get(..entries).unwrap_or_default()))).collect()
        });
        replays.get(&entries).unwrap_or(&NOT_REPLAYED)
    }

    /// Returns the runs of entries that were read or followed, with who read them and when they were there.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&'a Operation, crate::history::Run, Moment)> {
        self.operations().iter().flat_map(|it| {
            let read = match it.answer() {
                Some(Answer::Entries(run)) => Some((it, *run, it.returned)),
                _ => None,
            };
            let followed = it.observed.iter().filter_map(move |seen| match seen.what {
                Observed::Entries(run) => Some((it, run, seen.at)),
                Observed::Change { .. } | Observed::Beat { .. } => None,
            });
            read.into_iter().chain(followed)
        })
    }

    /// Returns the lanes and their batches as the log has them, in its order: first index and batch.
    pub(crate) fn lanes(&self) -> BTreeMap<&LaneId, Vec<(u64, &Entry)>> {
        let mut lanes: BTreeMap<&LaneId, Vec<(u64, &Entry)>> = BTreeMap::new();
        for (index, entry) in (0..).zip(&self.entries) {
            let Some(entry) = entry else { continue };
            match &entry.body {
                Body::Event { batch, .. } | Body::Rejected { batch, .. } | Body::Closed { batch } => {
                    lanes.entry(&batch.lane).or_default().push((index, entry));
                }
                Body::Opened { lane, .. } => lanes.entry(lane).or_default().push((index, entry)),
                _ => {}
            }
        }
        lanes
    }
}

fn acknowledged(operation: &Operation) -> Moment {
    if operation.answer().is_some() { operation.returned } else { Moment::NEVER }
}

fn replay(log: &[Bytes]) -> Replayed {
    let stopped = |index, why: &Divergence| Replayed::Stopped { index, why: why.to_string() };
    let mut replay = match Replay::new() {
        Ok(replay) => replay,
        Err(why) => return stopped(None, &why),
    };
    for (index, exact) in (0..).zip(log) {
        if let Err(why) = replay.push(exact.clone()) {
            return stopped(Some(index), &why);
        }
    }
    match replay.finish() {
        Ok((ledger, _)) => Replayed::To(Digest(ledger.state_digest().0)),
        Err(why) => stopped(None, &why),
    }
}
