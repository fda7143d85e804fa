//! The replicated core under a clock, a network and disks that a seed decides: the same seed gives the same run, to the last
//! message.
//!
//! A run is one thread without real time. What runs is the real thing wherever it can be: the Raft library with its types and
//! tuning, the proposer and the inbox, the rule for who leads, the conversions of Raft's messages and the functions that carry
//! them out, and the ledger's parsing, signatures and apply. What is replaced: the disk, the Raft log and the state
//! machine over it, which keep the real ones' contract, the network, and the way of a client's request to the leader.
//! What it does not do: it runs no file, no RocksDB, no gRPC, no TLS and no thread of the apply; those run in
//! [`run`](crate::run).
//!
//! First faults come (safety), then none (liveness): the cluster must take writes and agree, also without one node for good.

mod campaign;
mod client;
mod disk;
mod faults;
mod journal;
mod knobs;
mod machine;
mod network;
mod node;
mod run;
mod trace;
mod watch;
mod work;
mod world;

use std::{io, thread};

use thiserror::Error;

pub use campaign::{Summary, simulate_all};
pub use knobs::{Knobs, SimulatedFault};
pub use world::Counts;

/// Deep, because rules are evaluated on this thread.
const STACK_BYTES: usize = 16 << 20;

/// A fault that is put in on purpose: the simulation must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The log says that entries are on the disk before they are.
    AcknowledgedBeforeSync,
    /// A vote is kept in memory only.
    VoteNotPersisted,
    /// Who installs a snapshot forgets which batches there were.
    SnapshotForgetsBatches,
    /// The log is cut while the snapshot that takes its place is still being installed.
    CutBeforeInstalled,
    /// A leader says nothing else to a node that it sends a snapshot to.
    SilentWhileSending,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulatedRun {
    /// What decided it.
    pub seed: u64,
    /// Hash of everything that happened, in order.
    pub hash: String,
    /// What must not be, in words; none when every promise was kept.
    pub found: Vec<String>,
    /// How often what happened.
    pub counts: Counts,
    /// How long it took, in simulated milliseconds.
    pub simulated_ms: u64,
    /// Everything that happened, one line each, when it was to be kept.
    pub trace: Vec<String>,
}

/// Why a run could not be made.
#[derive(Debug, Error)]
pub enum SimulationError {
    /// No thread, or no runtime.
    #[error("the simulation cannot start: {0}")]
    Start(#[from] io::Error),
    /// The run panicked: the library or the code has found what it takes for impossible.
    #[error("seed {seed} panicked: {what}")]
    Panicked {
        /// Which.
        seed: u64,
        /// Its message.
        what: String,
    },
}

/// Runs one seed on a thread of its own. `keeps` the whole trace when asked; its hash is made always.
///
/// # Errors
/// [`SimulationError`].
pub fn simulate(seed: u64, planted: Option<Planted>, keeps: bool) -> Result<SimulatedRun, SimulationError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .unhandled_panic(tokio::runtime::UnhandledPanic::ShutdownRuntime)
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()))
        .build()?;
    let thread = thread::Builder::new()
        .name(format!("seed {seed}"))
        .stack_size(STACK_BYTES)
        .spawn(move || runtime.block_on(run::run(seed, planted, keeps)))?;
    thread.join().map_err(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        SimulationError::Panicked { seed, what: what.unwrap_or_default() }
    })
}
