//! What a simulated node has on its disk, and what of it a crash takes away.
//!
//! Always true: what was synced stays; of what was not, a crash leaves the beginning and no more, and the last append may be
//! cut within. The state is on the disk as it was when the database last wrote it, as a whole: the node has no other log of it
//! than the Raft log.

use std::{collections::BTreeMap, path::PathBuf};

use openraft::{Entry, EntryPayload, LogId, SnapshotMeta, StoredMembership, Vote};
use proofline_ledger::{Ledger, MapStore};
use proofline_node::replica::{Group, Member, TypeConfig};

use crate::random::Random;

/// The replicated state and how far it was applied.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) store: MapStore,
    pub(super) applied: Option<LogId<u64>>,
    pub(super) membership: StoredMembership<u64, Member>,
}

/// The Raft log.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) vote: Option<Vote<u64>>,
    pub(super) committed: Option<LogId<u64>>,
    pub(super) purged: Option<LogId<u64>>,
    pub(super) entries: BTreeMap<u64, Entry<TypeConfig>>,
}

/// One write to the log.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Vote(Vote<u64>),
    Committed(LogId<u64>),
    Append(Vec<Entry<TypeConfig>>),
    Truncate(u64),
    Purge(LogId<u64>),
}

/// A snapshot, and the path that stands for its files.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) meta: SnapshotMeta<u64, Member>,
    pub(super) path: PathBuf,
}

/// The disk of one node, and what its memory has of it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The log as the node sees it.
    pub(super) log: Log,
    synced: Log,
    unsynced: Vec<Write>,
    /// The state as the node sees it.
    pub(super) live: State,
    flushed: State,
    pub(super) snapshot: Option<Kept>,
}

impl Log {
    fn take(&mut self, write: &Write) {
        match write {
            Write::Vote(vote) => self.vote = Some(*vote),
            Write::Committed(committed) => self.committed = Some(*committed),
            Write::Append(entries) => self.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone()))),
            Write::Truncate(since) => drop(self.entries.split_off(since)),
            Write::Purge(upto) => self.purge(upto),
        }
    }

    /// As the journal does it: a log that contradicts what is purged goes as a whole.
    fn purge(&mut self, upto: &LogId<u64>) {
        if self.purged.is_some_and(|at| at.index >= upto.index) {
            return;
        }
        let contradicts = self.entries.get(&upto.index).is_some_and(|entry| entry.log_id != *upto);
        self.entries = if contradicts { BTreeMap::new() } else { self.entries.split_off(&upto.index.saturating_add(1)) };
        self.purged = Some(*upto);
    }

    pub(super) fn last(&self) -> Option<LogId<u64>> {
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }

    fn holds(&self, log_id: &LogId<u64>) -> bool {
        self.purged == Some(*log_id) || self.entries.get(&log_id.index).is_some_and(|entry| entry.log_id == *log_id)
    }
}

impl Disk {
    /// Writes without a sync: the node sees it, a crash may take it away.
    pub(super) fn write(&mut self, write: Write) {
        self.log.take(&write);
        self.unsynced.push(write);
    }

    /// Writes to memory alone, as no node should.
    pub(super) fn pretend(&mut self, write: &Write) {
        self.log.take(write);
    }

    /// On return: everything written so far stays.
    pub(super) fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            self.synced.take(&write);
        }
    }

    /// On return: the state as it is stays.
    pub(super) fn flush(&mut self) {
        self.flushed = self.live.clone();
    }

    /// Takes away what the lot decides. Returns how many writes went.
    pub(super) fn crash(&mut self, lot: &mut Random) -> usize {
        let stays = lot.place(self.unsynced.len() + 1);
        let mut writes = std::mem::take(&mut self.unsynced).into_iter();
        writes.by_ref().take(stays).for_each(|write| self.synced.take(&write));
        let lost = writes.len();
        if let Some(Write::Append(entries)) = writes.next() {
            let torn = entries.into_iter().take(lot.place(4)).collect();
            self.synced.take(&Write::Append(torn));
        }
        self.log = self.synced.clone();
        for entry in self.log.entries.values_mut() {
            // What was parsed is gone with the memory.
            if let EntryPayload::Normal(group) = &entry.payload {
                entry.payload = EntryPayload::Normal(Group::new(group.bytes().clone()));
            }
        }
        self.live = self.flushed.clone();
        lost
    }

    /// Brings the log in line with the state, as the node does at its start: a snapshot may have been installed just before.
    ///
    /// # Errors
    /// When the log begins behind the state: then entries are missing.
    pub(super) fn follow_state(&mut self) -> Result<(), String> {
        let applied = self.live.applied;
        if let Some(purged) = self.log.purged.filter(|purged| applied.is_none_or(|applied| applied.index < purged.index)) {
            return Err(format!("the state ends at {applied:?}, the log begins behind {purged}"));
        }
        if let Some(applied) = applied.filter(|applied| !self.log.holds(applied)) {
            self.write(Write::Purge(applied));
            self.sync();
        }
        Ok(())
    }
}

impl State {
    /// Returns how many entries the ledger has.
    pub(super) fn store_size(&self) -> u64 {
        Ledger::open(&self.store).map_or(0, |ledger| ledger.tree_size().0)
    }
}
