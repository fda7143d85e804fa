//! A case, read once: the log parsed, the tries of each request together, and where each stands in the log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use proofline_ledger::{Divergence, Replay};
use proofline_verifier::{LogHash, TreeHash as _};
use prost::bytes::Bytes;

use super::{
    Case, Judgement, Predicate,
    entry::{Body, Entry},
    parallel,
    tree::Tree,
};
use crate::history::{
    Action, Answer, BatchId, CheckpointSeen, Digest, EventSent, LaneId, Mark, Moment, NodeId, Nonce, Observed, Operation, Outcome, Receipt,
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
    batch_places: HashMap<&'a BatchId, usize>,
    /// The batch of each entry, as its place among the batches; none where the entry is of none that anybody sent.
    pub(crate) batches_of_entries: Vec<Option<usize>>,
    pub(crate) requests: Vec<Request<'a>>,
    pub(crate) request_places: HashMap<Nonce, usize>,
    /// Where commands and openings stand in the log.
    pub(crate) request_indexes: HashMap<Nonce, u64>,
    /// Second batches at one place, by the lane and epoch of the place.
    pub(crate) equivocations: HashMap<(&'a LaneId, u64), Vec<&'a Operation>>,
    restarts: HashMap<NodeId, Vec<Moment>>,
    tree: OnceLock<Tree>,
    judged: [OnceLock<Judgement>; Predicate::ALL.len()],
    /// By how many entries were replayed.
    replayed: OnceLock<BTreeMap<usize, Replayed>>,
}

impl<'a> Reading<'a> {
    /// Reads a case.
    #[must_use]
    pub fn of(case: &'a Case) -> Self {
        let log: &[Bytes] = case.finals.nodes.iter().map(|node| node.log.as_slice()).max_by_key(|log| log.len()).unwrap_or_default();
        let parsed = parallel::map(log, |exact| (*LogHash::leaf(exact).as_bytes(), Entry::parse(exact)));
        let (leaves, entries) = parsed.into_iter().unzip();
        let mut reading = Self {
            case,
            log,
            leaves,
            entries,
            batches: Vec::new(),
            batch_places: HashMap::new(),
            batches_of_entries: Vec::new(),
            requests: Vec::new(),
            request_places: HashMap::new(),
            request_indexes: HashMap::new(),
            equivocations: HashMap::new(),
            restarts: HashMap::new(),
            tree: OnceLock::new(),
            judged: [const { OnceLock::new() }; Predicate::ALL.len()],
            replayed: OnceLock::new(),
        };
        for (index, entry) in (0..).zip(&reading.entries) {
            if let Some(nonce) = entry.as_ref().and_then(Entry::nonce) {
                reading.request_indexes.insert(nonce, index);
            }
        }
        case.history.operations.iter().for_each(|operation| reading.take(operation));
        reading.read_restarts();
        let place = |entry: &Option<Entry>| reading.batch_places.get(entry.as_ref()?.batch()?).copied();
        reading.batches_of_entries = reading.entries.iter().map(place).collect();
        reading
    }

    fn take(&mut self, operation: &'a Operation) {
        match &operation.action {
            Action::Append { batch, events, .. } => self.take_append(operation, batch, events),
            Action::Equivocate { batch, .. } => self.equivocations.entry((&batch.lane, batch.epoch)).or_default().push(operation),
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

    /// Returns the batch that an entry is of, when anybody sent it.
    pub(crate) fn batch_at(&self, index: u64) -> Option<&Batch<'a>> {
        let place = *self.batches_of_entries.get(usize::try_from(index).ok()?)?;
        self.batches.get(place?)
    }

    pub(crate) fn request(&self, nonce: &Nonce) -> Option<&Request<'a>> {
        self.requests.get(*self.request_places.get(nonce)?)
    }

    /// Returns when whatever became an entry was first sent; none when nobody sent it.
    pub(crate) fn sent(&self, index: u64) -> Option<Moment> {
        match &self.entry(index)?.body {
            Body::Event { .. } | Body::Rejected { .. } | Body::Closed { .. } => Some(self.batch_at(index)?.invoked),
            Body::Revoke { nonce, .. } | Body::Release { nonce, .. } | Body::Opened { nonce, .. } | Body::Command { nonce, .. } => {
                Some(self.request(nonce)?.invoked)
            }
            Body::Equivocation { batch } => self.second_at(batch).map(|second| second.invoked).min(),
            Body::Containment { .. } | Body::Other => None,
        }
    }

    /// Returns who sent a second batch for a place.
    pub(crate) fn second_at<'s>(&'s self, place: &'s BatchId) -> impl Iterator<Item = &'a Operation> + use<'s, 'a> {
        let of_epoch = self.equivocations.get(&(&place.lane, place.epoch)).map_or(&[][..], Vec::as_slice);
        of_epoch.iter().copied().filter(move |it| matches!(&it.action, Action::Equivocate { batch, .. } if batch == place))
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

    /// Returns the root over the first entries of the log; none when it has fewer.
    pub(crate) fn root(&self, size: u64) -> Option<Digest> {
        self.tree.get_or_init(|| Tree::over(self.leaves.iter().map(|leaf| LogHash::from_bytes(*leaf)))).root(size)
    }

    /// Returns what a predicate comes to: worked out once, whoever asks.
    pub(super) fn judged(&self, predicate: Predicate) -> &Judgement {
        static NONE: Judgement = Judgement::Unknown(Vec::new());
        let place = Predicate::ALL.iter().position(|it| *it == predicate);
        let slot = place.and_then(|place| self.judged.get(place));
        slot.map_or(&NONE, |slot| slot.get_or_init(|| predicate.check(self)))
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
