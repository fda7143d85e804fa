use std::fmt;

use proofline_ledger::{Hash, Ledger, RecentKeys, TreeSize, UnixNanos};
use tokio::sync::broadcast;

/// Place of an entry in the Raft log. Never an entry index: one Raft entry carries many entries, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl fmt::Display for LogIndex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// How far this node has applied. Sent after the state was written, so that whoever hears of it can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last applied Raft entry, `None` before the first.
    pub applied: Option<LogIndex>,
    /// Number of entries in the ledger's log.
    pub tree_size: TreeSize,
    /// Committed time of the newest of them.
    pub last_committed: UnixNanos,
    /// How many of them this process did not apply itself: what the state held when it was opened, or what came in a
    /// snapshot. The greatest number while one is being installed.
    pub taken: TreeSize,
    /// Rises with every snapshot that this process installed: two of them may hold as many entries.
    pub installed: u64,
    /// Entries that the newest state commitment in the log covers.
    pub committed: TreeSize,
    /// Rises with every change of what is contained, in this process.
    pub containment_generation: u64,
    /// Rises with every change of an outlet or of what waits for it, in this process.
    pub outlet_generation: u64,
    /// Erasures so far.
    pub erasures: u64,
}

/// What applies tell whoever indexes what they did.
#[derive(Debug)]
pub struct Applies {
    /// The states behind the groups. Whoever listens too slowly loses the oldest.
    pub states: broadcast::Receiver<StateAt>,
    /// Which keys the entries carry, while there is room.
    pub keys: RecentKeys,
}

impl Progress {
    /// Describes a ledger that was opened over a state which somebody else made, or this node before a restart.
    pub(super) fn opened(ledger: &Ledger, applied: Option<u64>) -> Self {
        let (tree_size, last_committed) = (ledger.tree_size(), ledger.last_committed());
        Self {
            applied: applied.map(LogIndex),
            tree_size,
            last_committed,
            taken: tree_size,
            installed: 0,
            committed: ledger.committed(),
            containment_generation: 0,
            outlet_generation: 0,
            erasures: ledger.erasures(),
        }
    }

    /// Describes the ledger after one more Raft entry.
    pub(super) fn after(self, ledger: &Ledger, applied: u64) -> Self {
        let (tree_size, last_committed) = (ledger.tree_size(), ledger.last_committed());
        let containment_generation = self.containment_generation.max(ledger.containment_generation());
        let outlet_generation = self.outlet_generation.max(ledger.outlet_generation());
        Self {
            applied: Some(LogIndex(applied)),
            tree_size,
            last_committed,
            committed: ledger.committed(),
            containment_generation,
            outlet_generation,
            erasures: ledger.erasures(),
            ..self
        }
    }
}

/// The state behind a group that was applied: what state commitments name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateAt {
    /// Entries in the log.
    pub size: TreeSize,
    /// Digest of the state behind them.
    pub digest: Hash,
}
