//! Faults, and what else was seen of the run from outside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::{Moment, NodeId};

/// Numbers the faults of a history, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// What was done to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// `kill -9` of a process.
    Kill,
    /// `kill -9` of the node that leads.
    KillLeader,
    /// `SIGSTOP`, later `SIGCONT`.
    Pause,
    /// `kill -9`, and what was not yet on the disk is lost.
    PowerLoss,
    /// Some nodes hear nothing of the others.
    Partition,
    /// Messages get lost in one direction.
    OneWay,
    /// Two nodes hear each other only through a third.
    Bridge,
    /// Each node hears one neighbour only.
    Ring,
    /// Links go down and up.
    Flap,
    /// Messages are late, by turns more and less.
    Delay,
    /// Messages get lost.
    Loss,
    /// Messages overtake each other.
    Reorder,
    /// Bits of messages are flipped on the way.
    AlteredPackets,
    /// Clients do not reach a node that the other nodes reach.
    ClientCut,
    /// The disk is full.
    DiskFull,
    /// The disk takes no writes.
    ReadOnlyDisk,
    /// The disk is slow.
    SlowDisk,
    /// A clock jumps.
    ClockJump,
    /// A clock runs too fast or too slow.
    ClockSkew,
    /// One bit of a file is flipped.
    BitFlip,
    /// A file loses its end.
    Truncate,
    /// A file gets back what it once held.
    OldCopy,
    /// A file is gone.
    Delete,
    /// Each node is damaged in another part, no part on all of them.
    Helix,
    /// Members come and go.
    Membership,
    /// A node loses its directory and comes back as a new member.
    Wipe,
    /// A node is so far behind that it gets a snapshot.
    SnapshotInstall,
    /// All nodes restart, one after the other.
    RollingRestart,
    /// More is sent than the cluster can take.
    Overload,
}

impl FaultKind {
    /// Tells whether the leader may change by it, so that a run with it must have seen that.
    #[must_use]
    pub const fn changes_leader(self) -> bool {
        matches!(self, Self::KillLeader | Self::RollingRestart)
    }
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Installed {
    /// It was there.
    Installed,
    /// It was not tried: it did not fit what the cluster was like.
    Skipped,
    /// Nobody knows.
    Indeterminate,
}

/// What shows that a fault was there: counted things, by name. Messages dropped, bytes lost, a term before and after.
pub type Evidence = BTreeMap<String, u64>;

/// One fault, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// Number.
    pub id: FaultId,
    /// Kind.
    pub kind: FaultKind,
    /// Nodes that it was aimed at.
    pub targets: Vec<NodeId>,
    /// For people: which file, how many milliseconds.
    pub detail: String,
    /// When it began.
    pub began: Moment,
    /// When it was taken away; [`Moment::NEVER`] when nobody recorded it.
    pub ended: Moment,
    /// What became of it.
    pub installed: Installed,
    /// What shows it. A fault that was installed and shows nothing counts as not seen.
    pub evidence: Evidence,
}

impl FaultRecord {
    /// Tells whether the fault was there and showed.
    #[must_use]
    pub fn was_seen(&self) -> bool {
        self.installed == Installed::Installed && self.evidence.values().any(|count| *count > 0)
    }
}

/// Something that was seen of the run from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "kebab-case")]
pub enum Mark {
    /// A node's process was started.
    Started {
        /// Which.
        node: NodeId,
    },
    /// A node's process ended.
    Ended {
        /// Which.
        node: NodeId,
        /// Its exit code; none when a signal ended it.
        code: Option<i32>,
    },
    /// A node is wiped, and another one takes its place and its address: who was asked there is the new one from here on.
    Follows {
        /// The new one.
        node: NodeId,
        /// The one that is gone.
        after: NodeId,
    },
    /// Somebody leads.
    Leads {
        /// Who.
        node: NodeId,
        /// Raft term.
        term: u64,
    },
    /// Every fault is taken away: from here on the cluster must recover.
    Healed,
    /// A majority is connected and stable, also with faults elsewhere: from here on the cluster must take writes.
    Stable,
    /// The cluster is no longer stable.
    Unstable,
    /// All nodes that should run had the same applied size and state digest.
    Recovered {
        /// Entries.
        size: u64,
    },
    /// Resident memory of a node.
    Resident {
        /// Which.
        node: NodeId,
        /// How much.
        bytes: u64,
    },
    /// A node whose file was damaged served on, and had the same log and state as all others: the damage did no harm.
    DamageHarmless {
        /// Which node.
        node: NodeId,
    },
    /// A damaged file was noticed: the node said so, or ended with the exit code for it.
    DamageNoticed {
        /// Which node.
        node: NodeId,
        /// How.
        how: String,
    },
}

/// A mark and its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// When.
    pub at: Moment,
    /// What.
    pub what: Mark,
}
