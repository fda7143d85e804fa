//! Re-derives the whole state from the entries alone, and says where a log stops being one that this ledger would write.

mod states;

use proofline_proto::v1;
use prost::bytes::Bytes;
use thiserror::Error;
use v1::entry_core::Body;

use crate::entry;
use crate::hash::Hash;
use crate::ids::{EntryIndex, TreeSize, UnixNanos};
use crate::ledger::Ledger;
use crate::listing;
use crate::prepare::{
    PreparedAccess, PreparedBatch, PreparedCommand, PreparedCommitment, PreparedDelivery, PreparedEvent, PreparedGroup, PreparedItem,
    PreparedOpenLane, events_root,
};
use crate::refusal::Refusal;
use crate::replay::states::States;
use crate::store::{MapStore, StoreFault};

/// The first difference between a log and what the state machine makes of it.
#[derive(Debug, Error)]
pub enum Divergence {
    /// The bytes are no entry.
    #[error("entry {0} cannot be read")]
    Unreadable(EntryIndex),
    /// The state machine would have refused what the entry records.
    #[error("entry {index} records what the ledger refuses: {refusal}")]
    Refused {
        /// First entry of the submission.
        index: EntryIndex,
        /// Why.
        refusal: Refusal,
    },
    /// The state machine makes other bytes of the same submission.
    #[error("entry {0} differs from what the ledger makes of the same submission")]
    Different(EntryIndex),
    /// The entries end inside a batch, or before what the ledger makes of the last submission.
    #[error("the entries end inside what one submission became, at entry {0}")]
    Incomplete(EntryIndex),
    /// A state commitment has another map than the entries give.
    #[error("entry {index} commits to the map {recorded:?} over {size} entries, which give {computed:?}")]
    OtherMap {
        /// The commitment.
        index: EntryIndex,
        /// What it covers.
        size: TreeSize,
        /// Root that it names.
        recorded: Hash,
        /// Root over the entries.
        computed: Hash,
    },
    /// A state commitment has another state than the entries give.
    #[error("entry {index} commits to the state {recorded:?} behind {size} entries, which give {computed:?}")]
    OtherState {
        /// The commitment.
        index: EntryIndex,
        /// What it covers.
        size: TreeSize,
        /// Digest that it names.
        recorded: Hash,
        /// Digest behind the entries.
        computed: Hash,
    },
    /// A state commitment covers a size at which no submission ended.
    #[error("entry {index} commits to a state behind {size} entries, where there is none")]
    NoState {
        /// The commitment.
        index: EntryIndex,
        /// What it covers.
        size: TreeSize,
    },
    /// The map in memory failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// A replay in progress: entries go in one by one, in order.
#[derive(Debug)]
pub struct Replay {
    ledger: Ledger,
    store: MapStore,
    origin: String,
    batch: Option<Pending>,
    states: States,
    /// Entries that were pushed. The ledger may be ahead of it: some submissions make entries of their own behind theirs.
    pushed: u64,
}

/// A batch of which entries are still to come.
#[derive(Debug)]
struct Pending {
    first: EntryIndex,
    at: v1::BatchPosition,
    time: UnixNanos,
    events: Vec<PreparedEvent>,
    entries: Vec<Bytes>,
}

impl Replay {
    /// Starts from nothing.
    ///
    /// # Errors
    /// None in practice: the store is a map in memory.
    pub fn new() -> Result<Self, Divergence> {
        let store = MapStore::default();
        Ok(Self { ledger: Ledger::open(&store)?, store, origin: String::new(), batch: None, states: States::default(), pushed: 0 })
    }

    /// As [`new`](Self::new), and keeps the facts of each event for [`observed`](Self::observed).
    pub(crate) fn observing() -> Result<Self, Divergence> {
        let mut replay = Self::new()?;
        replay.ledger.observed = Some(Vec::new());
        Ok(replay)
    }

    /// Returns the facts of the events that were applied since the last call.
    pub(crate) fn observed(&mut self) -> Vec<(EntryIndex, v1::Facts)> {
        self.ledger.observed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`Divergence`] at the first entry that the state machine would not have written.
    pub fn push(&mut self, exact: Bytes) -> Result<(), Divergence> {
        let index = EntryIndex(self.pushed);
        self.pushed += 1;
        let (_, core) = entry::parse(&exact).ok_or(Divergence::Unreadable(index))?;
        let time = UnixNanos(core.committed_unix_ns);
        let item = match core.body.ok_or(Divergence::Unreadable(index))? {
            Body::Event(event) => return self.push_event(index, time, event.at, PreparedEvent::new(event.event), exact),
            Body::Rejection(it) => {
                let leaf = Hash::from_slice(&it.event_leaf).ok_or(Divergence::Unreadable(index))?;
                let event = PreparedEvent { leaf, bytes: it.event_bytes, exact: Err(it.reason()) };
                return self.push_event(index, time, it.at, event, exact);
            }
            Body::Genesis(genesis) => {
                self.origin.clone_from(&genesis.origin);
                PreparedItem::Genesis(Box::new(genesis))
            }
            Body::Command(command) => item(PreparedCommand::new(command, &self.origin), PreparedItem::Command, index)?,
            Body::LaneOpened(it) => {
                let request = it.request.ok_or(Divergence::Unreadable(index))?;
                item(PreparedOpenLane::new(request, &self.origin), PreparedItem::OpenLane, index)?
            }
            Body::LaneClosed(it) => {
                let at = it.at.ok_or(Divergence::Unreadable(index))?;
                let batch = self.committed_batch(&at, Vec::new())?;
                item(batch, PreparedItem::Batch, index)?
            }
            Body::Equivocation(it) => {
                let second = it.second.ok_or(Divergence::Unreadable(index))?;
                item(PreparedBatch::with_statement(second, Vec::new(), &self.origin), PreparedItem::Batch, index)?
            }
            Body::OutletDelivery(it) => item(PreparedDelivery::new(it, &self.origin), PreparedItem::Delivery, index)?,
            Body::AccessRecorded(it) => item(PreparedAccess::new(it, &self.origin), PreparedItem::Access, index)?,
            Body::ErasureDeferred(it) => {
                let command = it.command.ok_or(Divergence::Unreadable(index))?;
                item(PreparedCommand::new(command, &self.origin), PreparedItem::Command, index)?
            }
            Body::StateCommitment(it) => {
                let claimed = it.clone();
                let prepared = item(PreparedCommitment::new(it), PreparedItem::Commitment, index)?;
                self.check_next(index)?;
                self.apply(index, time, prepared, &[exact])?;
                return self.states.check(&mut self.store, index, &claimed);
            }
            // The submission before it has made it already.
            Body::Containment(_) => return self.check_made(index, &exact),
        };
        self.check_next(index)?;
        self.apply(index, time, item, &[exact])
    }

    fn check_next(&self, index: EntryIndex) -> Result<(), Divergence> {
        if index.0 == self.ledger.tree_size().0 { Ok(()) } else { Err(Divergence::Different(index)) }
    }

    /// Ends the replay and returns the state that the entries lead to.
    ///
    /// # Errors
    /// [`Divergence::Incomplete`] when the entries end inside a batch.
    pub fn finish(self) -> Result<(Ledger, MapStore), Divergence> {
        match self.batch {
            Some(pending) => Err(Divergence::Incomplete(pending.first)),
            // What the ledger makes of the last submission goes on behind the last entry.
            None if self.pushed != self.ledger.tree_size().0 => Err(Divergence::Incomplete(EntryIndex(self.pushed))),
            None => Ok((self.ledger, self.store)),
        }
    }

    fn check_made(&self, index: EntryIndex, exact: &Bytes) -> Result<(), Divergence> {
        let made = listing::entry(&self.store, index)?;
        if self.batch.is_none() && made.as_deref() == Some(exact) { Ok(()) } else { Err(Divergence::Different(index)) }
    }

    fn push_event(
        &mut self,
        index: EntryIndex,
        time: UnixNanos,
        at: Option<v1::BatchPosition>,
        event: PreparedEvent,
        exact: Bytes,
    ) -> Result<(), Divergence> {
        let at = at.ok_or(Divergence::Unreadable(index))?;
        let count = at.count as usize;
        if self.batch.is_none() && index.0 != self.ledger.tree_size().0 {
            return Err(Divergence::Different(index));
        }
        let new = || Pending { first: index, at, time, events: Vec::new(), entries: Vec::new() };
        let pending = self.batch.get_or_insert_with(new);
        pending.events.push(event);
        pending.entries.push(exact);
        if pending.events.len() < count {
            return Ok(());
        }
        let Some(pending) = self.batch.take() else { return Ok(()) };
        let batch = self.committed_batch(&pending.at, pending.events)?;
        let item = item(batch, PreparedItem::Batch, pending.first)?;
        self.apply(pending.first, pending.time, item, &pending.entries)
    }

    /// Rebuilds a batch from what the entries and the state before it say: the key from the registry, `previous` from the lane.
    fn committed_batch(&self, at: &v1::BatchPosition, events: Vec<PreparedEvent>) -> Result<Result<PreparedBatch, Refusal>, Divergence> {
        let head = listing::collector_head(&self.store, &at.collector_id, crate::ids::Lane(at.lane))?;
        let registered = listing::collector(&self.store, &at.collector_id)?.and_then(|it| it.registration);
        let statement = v1::BatchStatement {
            public_key: registered.map(|it| it.public_key).unwrap_or_default(),
            collector_id: at.collector_id.clone(),
            lane: at.lane,
            epoch: at.epoch,
            sequence: at.sequence,
            previous: head.last.map_or_else(|| Hash::ZERO.0.to_vec(), |last| last.digest),
            event_count: u32::try_from(events.len()).unwrap_or(u32::MAX),
            events_root: events_root(&events).0.to_vec(),
            signature: Vec::new(),
        };
        Ok(PreparedBatch::committed(statement, events, &self.origin))
    }

    fn apply(&mut self, index: EntryIndex, time: UnixNanos, item: PreparedItem, expected: &[Bytes]) -> Result<(), Divergence> {
        let group = PreparedGroup { proposed: time, items: vec![item] };
        let before = self.ledger.tree_size();
        let applied = self.ledger.apply(&self.store, &group)?;
        self.store.commit(applied.changes);
        self.states.reached(self.ledger.tree_size(), self.ledger.state_digest());
        if self.ledger.tree_size() == before {
            let refusal = applied.outcomes.into_iter().find_map(|outcome| match outcome {
                crate::ledger::Outcome::Refused(refusal) => Some(refusal),
                _ => None,
            });
            return Err(refusal.map_or(Divergence::Different(index), |refusal| Divergence::Refused { index, refusal }));
        }
        for (index, expected) in (index.0..).map(EntryIndex).zip(expected) {
            if listing::entry(&self.store, index)?.as_deref() != Some(expected) {
                return Err(Divergence::Different(index));
            }
        }
        Ok(())
    }
}

fn item<T>(prepared: Result<T, Refusal>, wrap: impl FnOnce(T) -> PreparedItem, index: EntryIndex) -> Result<PreparedItem, Divergence> {
    prepared.map(wrap).map_err(|refusal| Divergence::Refused { index, refusal })
}
