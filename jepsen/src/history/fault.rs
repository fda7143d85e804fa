//! Faults, and what else was seen of the run from outside.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::value::{Moment, NodeId};

/// Numbers the faults of a history, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// What is done to the nodes, the network or the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A node hears no other, and no other hears it
    Isolate,
    /// The same, with the node that leads
    IsolateLeader,
    /// The leader hears nobody, and everybody hears it
    DeafLeader,
    /// As deaf-leader, long enough for an election, and shorter than clients wait
    DeafLeaderBriefly,
    /// Nobody hears the leader, and it hears everybody
    MuteLeader,
    /// Two nodes hear each other only through the third
    Bridge,
    /// Each node is heard by the next one only
    Ring,
    /// A node's links go down and up, every 0.2 to 2 s
    Flap,
    /// Links are cut one after the other, and healed in another order
    Swizzle,
    /// Every packet is 5 to 100 ms late, each link by its own
    SlowNetwork,
    /// 1 to 20 % of all packets are lost
    LossyNetwork,
    /// Packets overtake each other and come twice
    UnorderedNetwork,
    /// Bits of TCP payloads are flipped, under checksums that are right
    AlteredPackets,
    /// Clients do not reach one node; the others do
    CutClients,
    /// `kill -9` of a node
    Kill,
    /// `kill -9` of the node that leads
    KillLeader,
    /// `kill -9` of all nodes at once
    KillAll,
    /// SIGSTOP of a node, later SIGCONT
    Pause,
    /// SIGSTOP of the node that leads, later SIGCONT
    PauseLeader,
    /// A node loses power: what is not on its disk is gone
    PowerLoss,
    /// Two nodes lose power at once
    PowerLossTwo,
    /// All nodes lose power at once
    PowerLossAll,
    /// The disk of a node is full
    DiskFull,
    /// The disk of a node takes no writes
    ReadOnlyDisk,
    /// The disk of a node does 5 to 40 writes in a second
    SlowDisk,
    /// Every write to the disk of a node waits
    StuckDisk,
    /// The wall clock of a node jumps by up to an hour
    ClockJump,
    /// The wall clock of a node is off by 1 to 10 s
    ClockSkew,
    /// The clock of a node runs at half or double speed, timers too
    ClockRate,
    /// One bit of a file of a killed node is flipped
    BitFlip,
    /// A file of a killed node loses its end
    Truncate,
    /// A file of a killed node gets back what it held some seconds before
    OldCopy,
    /// A file of a killed node is gone
    Delete,
    /// The Raft logs of a majority lose their ends, while all nodes are down
    LostTails,
    /// Each node is damaged in another part; comes last
    Helix,
    /// The leader leaves the cluster while it lives, and another node joins in its place
    RemoveLeader,
    /// A node loses its disk, and another one joins in its place
    ReplaceNode,
    /// A node is away until the others have cut their logs, and gets a snapshot
    SnapshotInstall,
    /// All nodes are stopped and started, one after the other
    RollingRestart,
}

impl Fault {
    /// Tells whether the leader must change by it, so that a run with it must have seen that.
    #[must_use]
    pub const fn changes_leader(self) -> bool {
        matches!(self, Self::KillLeader | Self::RemoveLeader | Self::RollingRestart)
    }

    /// Tells whether disks lose what was not synced.
    #[must_use]
    pub const fn loses_power(self) -> bool {
        matches!(self, Self::PowerLoss | Self::PowerLossTwo | Self::PowerLossAll)
    }

    /// Tells whether files are damaged.
    #[must_use]
    pub const fn damages(self) -> bool {
        matches!(self, Self::BitFlip | Self::Truncate | Self::OldCopy | Self::Delete | Self::LostTails | Self::Helix)
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
    /// What was done.
    pub fault: Fault,
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
    /// A node that took another's place is a member, has caught up and votes.
    Joined {
        /// Which.
        node: NodeId,
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
