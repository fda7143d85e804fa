//! The replicated state machine.
//!
//! [`Ledger::apply`] is the only mutation of replicated state. It reads no clock, no file and no random number, and its
//! outcome does not depend on how submissions were grouped: the same submissions in the same order, at the same times,
//! give the same entries, the same trees and the same state digest.

use proofline_proto::v1;

use crate::activation;
use crate::batch;
use crate::command;
use crate::completeness::{self, Carried};
use crate::containment;
use crate::facts;
use crate::hash::Hash;
use crate::ids::{EntryIndex, TreeSize, UnixNanos};
use crate::key;
use crate::limits::{APPLY_VERSION, ENTRY_BYTES_MAX};
use crate::log::{Draft, Log};
use crate::note::Note;
use crate::outbox;
use crate::prepare::{PreparedGroup, PreparedItem, PreparedOpenLane};
use crate::refusal::Refusal;
use crate::registry;
use crate::rules::{self, RuleSet};
use crate::session::Sessions;
use crate::store::{Changes, Store, StoreFault, Table};
use crate::writes::{Memory, Writes};

/// Entries that are completed at once. Sixteen hashes go side by side, and those of a session's roots come from several entries.
const COMPLETED_TOGETHER: usize = 64;

/// The state machine between two applies.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) log: Log,
    pub(crate) sessions: Sessions,
    memory: Memory,
    /// Changes of what is contained that the submission under way caused, until their entries are made.
    pub(crate) changes: Vec<v1::Containment>,
    /// Rises whenever what is contained changes, in this process: what was looked up before may hold no longer.
    pub(crate) generation: u64,
    /// Rises whenever an outlet or what waits for it changes, in this process.
    pub(crate) outlet_generation: u64,
    /// The active rules.
    pub(crate) rules: Option<RuleSet>,
    /// Facts of each event, for who asks for them.
    pub(crate) observed: Option<Vec<(EntryIndex, v1::Facts)>>,
    pub(crate) room: facts::Room,
}

/// What one apply did. `changes` must be committed before the next apply.
#[derive(Debug)]
pub struct Applied {
    /// Rows to commit, as a whole.
    pub changes: Changes,
    /// One outcome for each item of the group, in order.
    pub outcomes: Vec<Outcome>,
    /// The note that this apply published, if it did.
    pub checkpoint: Option<Vec<u8>>,
}

/// The answer to one submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The batch is in the log: now, or since it was first sent.
    Appended(v1::AppendResponse),
    /// The lane is open.
    Opened(v1::OpenLaneResponse),
    /// The command is in the log.
    Commanded(EntryIndex),
    /// The ledger began.
    Began,
    /// The checkpoint is the newest.
    Published,
    /// What became of a message is in the log.
    Delivered(EntryIndex),
    /// The state commitment is in the log.
    Committed(EntryIndex),
    /// The access is in the log.
    Recorded(EntryIndex),
    /// Nothing happened.
    Refused(Refusal),
}

/// An outcome, or why there is none; behind that, a local store that failed.
pub(crate) type Judged<T> = Result<Result<T, Refusal>, StoreFault>;

impl Ledger {
    /// Reads the state machine's head from a store; an empty store is a ledger before its genesis.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails or holds damaged rows.
    pub fn open(store: &impl Store) -> Result<Self, StoreFault> {
        let log = Log::open(store)?;
        // Planted: what was taken before this process began is not remembered.
        crate::planted!(DuplicatesForgotten, crate::planted::opened(log.size()));
        Ok(Self {
            log,
            sessions: Sessions::default(),
            memory: Memory::default(),
            changes: Vec::new(),
            generation: 0,
            outlet_generation: 0,
            rules: activation::active(store)?,
            observed: None,
            room: facts::Room::default(),
        })
    }

    /// Applies one group. Total over its input: whatever was replicated has an outcome.
    ///
    /// # Errors
    /// [`StoreFault`] when the local store fails. The replica must stop: its memory may be ahead of its store.
    pub fn apply(&mut self, store: &impl Store, group: &PreparedGroup) -> Result<Applied, StoreFault> {
        rules::on_deep_stack(|| self.apply_group(store, group))
    }

    fn apply_group(&mut self, store: &impl Store, group: &PreparedGroup) -> Result<Applied, StoreFault> {
        let mut memory = std::mem::take(&mut self.memory);
        let applied = self.apply_items(store, group, &mut memory);
        self.memory = memory;
        applied
    }

    fn apply_items(&mut self, store: &impl Store, group: &PreparedGroup, memory: &mut Memory) -> Result<Applied, StoreFault> {
        let mut writes = Writes::new(store, memory);
        let mut outcomes = Vec::with_capacity(group.items.len());
        let mut checkpoint = None;
        self.sessions.trim();
        // Planted: containment as it was when the events were admitted.
        crate::planted!(RevokeSeenAtAdmission, crate::planted::group_begins(self.log.containments));
        for item in &group.items {
            let outcome = self.apply_item(&mut writes, group.proposed, item)?;
            if let (PreparedItem::Checkpoint(note), Ok(Outcome::Published)) = (item, &outcome) {
                checkpoint = Some(note.to_vec());
            }
            outcomes.push(outcome.unwrap_or_else(Outcome::Refused));
            self.complete_many(&mut writes);
        }
        self.log.complete(&mut writes, &mut self.sessions);
        self.sessions.save(&mut writes);
        self.log.save(&mut writes);
        Ok(Applied { changes: writes.finish(), outcomes, checkpoint })
    }

    /// Completes what was appended once it is as much as is hashed well together; what waits longer grows cold in the processor.
    /// Whatever appends many entries calls it.
    pub(crate) fn complete_many<S: Store>(&mut self, writes: &mut Writes<'_, S>) {
        if self.log.incomplete() >= COMPLETED_TOGETHER {
            self.log.complete(writes, &mut self.sessions);
        }
    }

    fn apply_item<S: Store>(&mut self, writes: &mut Writes<'_, S>, proposed: UnixNanos, item: &PreparedItem) -> Judged<Outcome> {
        if let PreparedItem::Genesis(genesis) = item {
            return self.begin(writes, proposed, genesis);
        }
        if self.log.size() == TreeSize(0) {
            return Ok(Err(Refusal::NotBegun));
        }
        self.log.advance(proposed);
        match item {
            PreparedItem::Batch(batch) => {
                let taken = batch::apply(self, writes, batch)?.map(Outcome::Appended);
                containment::record_changes(self, writes)?;
                Ok(taken)
            }
            PreparedItem::OpenLane(open) => Ok(batch::open_lane(self, writes, open)?.map(Outcome::Opened)),
            PreparedItem::Command(command) => {
                let done = command::apply(self, writes, command)?.map(Outcome::Commanded);
                containment::record_changes(self, writes)?;
                Ok(done)
            }
            PreparedItem::Checkpoint(note) => self.publish(writes, note),
            PreparedItem::Commitment(said) => Ok(completeness::commit(self, writes, said)?.map(Outcome::Committed)),
            PreparedItem::Access(access) => Ok(completeness::record(self, writes, access)?.map(Outcome::Recorded)),
            PreparedItem::Delivery(delivery) => Ok(outbox::deliver(self, writes, delivery)?.map(Outcome::Delivered)),
            PreparedItem::Genesis(_) => Ok(Err(Refusal::AlreadyBegun { origin: self.log.origin.clone() })),
            PreparedItem::Refused(refusal) => Ok(Err(refusal.clone())),
        }
    }

    fn begin<S: Store>(&mut self, writes: &mut Writes<'_, S>, proposed: UnixNanos, genesis: &v1::Genesis) -> Judged<Outcome> {
        if self.log.size() != TreeSize(0) {
            return Ok(Err(Refusal::AlreadyBegun { origin: self.log.origin.clone() }));
        }
        if let Err(refusal) = command::check_genesis(genesis) {
            return Ok(Err(refusal));
        }
        self.log.advance(proposed);
        self.log.origin.clone_from(&genesis.origin);
        command::write_genesis(writes, genesis);
        self.log.append(writes, Draft::of(v1::entry_core::Body::Genesis(genesis.clone())));
        Ok(Ok(Outcome::Began))
    }

    /// Keeps a note that more than half of the registered nodes cosigned. Its root is left to whoever serves it: a replica
    /// whose own root is another has diverged, and must not go on as if there were no such note.
    fn publish<S: Store>(&self, writes: &mut Writes<'_, S>, note: &[u8]) -> Judged<Outcome> {
        let parsed = Note::parse(note).filter(|parsed| parsed.origin == self.log.origin && parsed.size <= self.log.size().0);
        let Some(parsed) = parsed else { return Ok(Err(Refusal::Malformed("checkpoint"))) };
        let published = writes.bytes(Table::Checkpoint, key::SINGLE)?.as_deref().and_then(note_size).unwrap_or(0);
        if parsed.size <= published {
            return Ok(Err(Refusal::CheckpointNotNewer { published }));
        }
        let nodes = registry::cosigners_now(writes)?;
        let cosigned = nodes.iter().filter(|node| parsed.is_cosigned_by(node)).count();
        if cosigned <= nodes.len() / 2 {
            return Ok(Err(Refusal::CheckpointNotCosigned { cosigned, nodes: nodes.len() }));
        }
        writes.keep(Table::Checkpoint, key::SINGLE, note.to_vec());
        Ok(Ok(Outcome::Published))
    }

    /// Finds out from now on which keys the entries carry.
    pub fn note_keys(&mut self) {
        self.log.keys = Some(Carried::default());
    }

    /// Takes what was found of keys since it was taken last; `None` when it was not asked for, or no entry came.
    pub fn take_keys(&mut self) -> Option<Carried> {
        self.log.keys.as_mut().and_then(Carried::take)
    }

    /// Takes back the memory of changes that were committed, for the next apply.
    pub fn recycle(&mut self, changes: Changes) {
        self.memory.recycle(changes);
    }

    /// Returns the name of the log, empty before genesis.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.log.origin
    }

    /// Returns a number that rises whenever what is contained changes, and says nothing else.
    #[must_use]
    pub fn containment_generation(&self) -> u64 {
        self.generation
    }

    /// Returns a number that rises whenever an outlet or what waits for it changes, and says nothing else.
    #[must_use]
    pub fn outlet_generation(&self) -> u64 {
        self.outlet_generation
    }

    /// Returns the active rules.
    #[must_use]
    pub fn rules(&self) -> Option<&RuleSet> {
        self.rules.as_ref()
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn tree_size(&self) -> TreeSize {
        self.log.size()
    }

    /// Returns the root of the log tree over every entry.
    #[must_use]
    pub fn log_root(&self) -> Hash {
        self.log.root()
    }

    /// Returns the running hash over each entry's writes: equal on every replica of the same size.
    #[must_use]
    pub fn state_digest(&self) -> Hash {
        self.log.digest()
    }

    /// Returns how many entries the newest state commitment covers, 0 before the first.
    #[must_use]
    pub fn committed(&self) -> TreeSize {
        TreeSize(self.log.committed)
    }

    /// Returns how many erasures were granted so far.
    #[must_use]
    pub fn erasures(&self) -> u64 {
        self.log.erasures
    }

    /// Returns the committed time of the newest entry.
    #[must_use]
    pub fn last_committed(&self) -> UnixNanos {
        self.log.now()
    }
}

/// Reads the tree size from the second line of a checkpoint that is kept.
#[must_use]
pub fn note_size(note: &[u8]) -> Option<u64> {
    let line = note.split(|byte| *byte == b'\n').nth(1)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

const _: () = assert!(crate::limits::EVENT_BYTES_MAX + 4_096 < ENTRY_BYTES_MAX, "an event and its frame fit an entry");
const _: () = assert!(APPLY_VERSION == 1, "another apply version needs its own code path");

impl PreparedOpenLane {
    pub(crate) fn collector(&self) -> &str {
        &self.request.collector_id
    }
}
