//! What all parts of a run share: time, lots, the trace, the nodes, and what is known of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ed25519_dalek::SigningKey;
use proofline_ledger::UnixNanos;
use proofline_node::{clock::WallClock, inbox::Inbox, leadership::Leadership, replica::Raft};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Knobs, Planted,
    disk::{Disk, State},
    trace::Trace,
    watch::Watch,
};
use crate::{
    history::{Digest, Mark, Marked, Moment, NodeId, Operation},
    random::{PerMille, Random},
};

pub(super) const ORIGIN: &str = "proofline.test/simulated";
pub(super) const TENANT: &str = "acme";
/// When a simulated run begins, in nanoseconds since 1970.
pub(super) const EPOCH_NS: u64 = 1_700_000_000_000_000_000;

/// One life of a node, from a start to a crash. Whatever a dead life still does reaches nobody.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) node: u64,
    /// When it began, which no other life of the node did.
    pub(super) began_ns: u64,
    alive: Arc<AtomicBool>,
    stalled: watch::Receiver<bool>,
}

/// The node died.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead;

impl Life {
    pub(super) fn new(node: u64, began_ns: u64) -> (Self, watch::Sender<bool>) {
        let (sender, stalled) = watch::channel(false);
        (Self { node, began_ns, alive: Arc::new(AtomicBool::new(true)), stalled }, sender)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    /// Waits until the node does anything at all.
    pub(super) async fn pass(&self) -> Result<(), Dead> {
        let mut stalled = self.stalled.clone();
        // Whoever could stall it is gone when it is dead.
        drop(stalled.wait_for(|stalled| !*stalled).await);
        if self.is_alive() { Ok(()) } else { Err(Dead) }
    }
}

/// A node that runs.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) raft: Raft,
    pub(super) life: Life,
    pub(super) stall: Arc<watch::Sender<bool>>,
    pub(super) inbox: Inbox,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) applied: watch::Receiver<Option<u64>>,
    pub(super) shutdown: CancellationToken,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Crashes of nodes.
    pub crashes: u64,
    /// Writes that crashes took away.
    pub lost_writes: u64,
    /// Cuts between nodes.
    pub partitions: u64,
    /// Nodes that stood still for a while.
    pub stalls: u64,
    /// Fsyncs that failed.
    pub failed_syncs: u64,
    /// Snapshots that a node took over from another.
    pub installs: u64,
    /// Purges of the log.
    pub purges: u64,
    /// Messages between nodes.
    pub messages: u64,
    /// Terms that had a leader.
    pub terms: u64,
    /// Entries of the ledger.
    pub entries: u64,
    /// Operations of clients.
    pub operations: u64,
    /// Batches that were acknowledged.
    pub acknowledged: u64,
}

pub(super) struct Shared {
    pub(super) trace: Trace,
    pub(super) watch: Watch,
    pub(super) counts: Counts,
    pub(super) network: Random,
    pub(super) disks_lot: Random,
    pub(super) running: BTreeMap<u64, Running>,
    /// Which nodes are not to be started again.
    pub(super) gone: BTreeSet<u64>,
    /// Directed links that carry nothing, and how many faults cut them.
    pub(super) cut: BTreeMap<(u64, u64), u64>,
    pub(super) operations: Vec<Operation>,
    pub(super) marks: Vec<Marked>,
    pub(super) snapshots: BTreeMap<PathBuf, Arc<State>>,
    /// Milliseconds by which each clock is off.
    pub(super) clocks_off: BTreeMap<u64, i64>,
    /// Whether faults come now.
    pub(super) is_broken: bool,
    last: u64,
}

/// A run.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) knobs: Knobs,
    pub(super) planted: Option<Planted>,
    began: Instant,
    shared: Mutex<Shared>,
    disks: BTreeMap<u64, Arc<Mutex<Disk>>>,
}

impl World {
    pub(super) fn new(seed: u64, planted: Option<Planted>, keeps: bool) -> Self {
        let knobs = Knobs::draw(seed);
        let mut lot = Random::of(seed, "clocks");
        let off = knobs.clock_off_ms_max;
        let offset = |lot: &mut Random| i64::try_from(lot.between(0, off)).unwrap_or(0) - i64::try_from(off / 2).unwrap_or(0);
        let shared = Shared {
            trace: Trace::new(keeps),
            watch: Watch::default(),
            counts: Counts::default(),
            network: Random::of(seed, "network"),
            disks_lot: Random::of(seed, "disks"),
            running: BTreeMap::new(),
            gone: BTreeSet::new(),
            cut: BTreeMap::new(),
            operations: Vec::new(),
            marks: Vec::new(),
            snapshots: BTreeMap::new(),
            clocks_off: (1..=knobs.nodes).map(|node| (node, offset(&mut lot))).collect(),
            is_broken: true,
            last: 0,
        };
        let disks = (1..=knobs.nodes).map(|node| (node, Arc::default())).collect();
        Self { seed, knobs, planted, began: Instant::now(), shared: Mutex::new(shared), disks }
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn disk(&self, node: u64) -> Arc<Mutex<Disk>> {
        self.disks.get(&node).cloned().unwrap_or_default()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = u64> + use<> {
        1..=self.knobs.nodes
    }

    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns a moment that no other event has: what happens at one time happens one after the other all the same.
    pub(super) fn moment(&self) -> Moment {
        let now = self.now_ns();
        let mut shared = self.shared();
        shared.last = now.max(shared.last.saturating_add(1));
        Moment(shared.last)
    }

    pub(super) fn note(&self, what: &str) {
        let now = self.now_ns();
        self.shared().trace.line(now, what);
    }

    pub(super) fn find(&self, what: String) {
        self.note(&format!("FOUND {what}"));
        self.shared().watch.find(what);
    }

    pub(super) fn mark(&self, what: Mark) {
        let at = self.moment();
        self.shared().marks.push(Marked { at, what });
    }

    pub(super) fn running(&self, node: u64) -> Option<Running> {
        self.shared().running.get(&node).cloned()
    }

    /// Returns who leads, as far as a node that leads knows.
    pub(super) fn leader(&self) -> Option<u64> {
        let shared = self.shared();
        shared.running.iter().find(|(_, it)| *it.leadership.borrow() == Leadership::Here).map(|(node, _)| *node)
    }

    /// Draws whether a fault of the network happens: none does once everything is healed.
    pub(super) fn network_lot(&self, chance: impl Fn(&Knobs) -> PerMille) -> bool {
        let mut shared = self.shared();
        shared.is_broken && shared.network.happens(chance(&self.knobs))
    }

    pub(super) fn network_between(&self, from: u64, to: u64) -> u64 {
        self.shared().network.between(from, to)
    }

    pub(super) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.shared().cut.get(&(from, to)).is_some_and(|cuts| *cuts > 0)
    }

    /// Returns what a node dates its groups by.
    pub(super) fn wall(self: &Arc<Self>, node: u64) -> WallClock {
        let world = Arc::clone(self);
        WallClock::of(move || {
            let off = world.shared().clocks_off.get(&node).copied().unwrap_or(0);
            UnixNanos((EPOCH_NS + world.now_ns()).saturating_add_signed(off.saturating_mul(1_000_000)))
        })
    }

    pub(super) fn key(&self, name: &str) -> SigningKey {
        SigningKey::from_bytes(&Digest::of(format!("{}/{name}", self.seed).as_bytes()).0)
    }

    pub(super) fn new_path(&self, node: u64) -> PathBuf {
        let mut shared = self.shared();
        let number = shared.snapshots.len();
        let path = Path::new("simulated").join(format!("{node}-{number}"));
        shared.snapshots.insert(path.clone(), Arc::default());
        path
    }

    pub(super) fn node_ids(&self) -> Vec<NodeId> {
        self.nodes().map(NodeId).collect()
    }
}

/// Locks a disk; a panic elsewhere has ended the run already.
pub(super) fn open(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}
