//! What a seed draws before a run: how bad the network and the disks are, and what happens how often.

use crate::random::{PerMille, Random};

/// Something that is done to a simulated cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimulatedFault {
    /// A node loses its memory and what was not synced, and starts again.
    Crash,
    /// As above, the one that leads.
    CrashLeader,
    /// As above, all of them at once.
    CrashAll,
    /// A node does nothing for a while.
    Stall,
    /// One node hears nobody, and nobody hears it.
    Isolate,
    /// As above, the one that leads.
    IsolateLeader,
    /// Two nodes do not hear each other, and hear all others.
    Bridge,
    /// One node is heard by nobody, and hears all.
    Deaf,
    /// A clock is set.
    ClockSet,
}

const FAULTS: [SimulatedFault; 9] = [
    SimulatedFault::Crash,
    SimulatedFault::CrashLeader,
    SimulatedFault::CrashAll,
    SimulatedFault::Stall,
    SimulatedFault::Isolate,
    SimulatedFault::IsolateLeader,
    SimulatedFault::Bridge,
    SimulatedFault::Deaf,
    SimulatedFault::ClockSet,
];

/// What decides a run beside the order of its lots. Each seed draws its own, so that runs differ in kind and not only in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Nodes: 3 or 5.
    pub nodes: u64,
    /// Messages that get lost.
    pub lost: PerMille,
    /// Messages that arrive twice.
    pub twice: PerMille,
    /// Messages that are overtaken by many others.
    pub late: PerMille,
    /// Calls whose connection breaks.
    pub reset: PerMille,
    /// How long a message is usually on its way at most, in microseconds.
    pub delay_us_max: u64,
    /// How long an fsync usually takes at most, in microseconds.
    pub sync_us_max: u64,
    /// Fsyncs that take a hundred times as long.
    pub slow_sync: PerMille,
    /// Fsyncs that fail, so that the node must stop.
    pub failed_sync: PerMille,
    /// Applied entries after which the database happens to write its state to the disk.
    pub flush: PerMille,
    /// Raft entries after which a node makes a snapshot.
    pub snapshot_entries: u64,
    /// How long the files of a snapshot travel, in microseconds: up to twice as long as a node waits for its leader.
    pub transfer_us: u64,
    /// Milliseconds between two faults.
    pub fault_every_ms: u64,
    /// Which faults there are.
    pub faults: Vec<SimulatedFault>,
    /// How long faults come, in milliseconds.
    pub safety_ms: u64,
    /// Collectors, each with one lane.
    pub collectors: u64,
    /// How far the clock of each node is off, in milliseconds: within what the clock guard lets pass.
    pub clock_off_ms_max: u64,
    /// Whether one node is gone for good before everything is healed.
    pub leaves_one: bool,
}

impl Knobs {
    /// Draws them.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let lot = &mut Random::of(seed, "knobs");
        let mut faults: Vec<_> = FAULTS.into_iter().filter(|_| lot.below(3) > 0).collect();
        if faults.is_empty() {
            faults.push(SimulatedFault::Crash);
        }
        Self {
            nodes: if lot.below(4) == 0 { 5 } else { 3 },
            lost: sometimes(lot, 50),
            twice: sometimes(lot, 50),
            late: sometimes(lot, 80),
            reset: sometimes(lot, 30),
            delay_us_max: lot.between(200, 20_000),
            sync_us_max: lot.between(100, 10_000),
            slow_sync: sometimes(lot, 30),
            failed_sync: sometimes(lot, 3),
            flush: PerMille(u16::try_from(lot.between(5, 60)).unwrap_or(5)),
            snapshot_entries: lot.between(10, 50),
            fault_every_ms: lot.between(200, 1_500),
            faults,
            safety_ms: lot.between(6_000, 12_000),
            collectors: lot.between(2, 3),
            clock_off_ms_max: lot.below(4_000),
            leaves_one: lot.below(3) == 0,
            transfer_us: if lot.below(2) == 0 { lot.between(1_000, 100_000) } else { lot.between(1_000_000, 3_000_000) },
        }
    }
}

/// Half of the seeds have none of it.
fn sometimes(lot: &mut Random, most: u64) -> PerMille {
    if lot.below(2) == 0 { PerMille(0) } else { PerMille(u16::try_from(lot.between(1, most)).unwrap_or(1)) }
}
