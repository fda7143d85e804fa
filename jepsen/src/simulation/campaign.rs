//! Many seeds, on as many threads as there are processors.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::{Counts, Planted, SimulatedRun, SimulationError, simulate};

/// What became of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Those of them that were run twice.
    pub twice: u64,
    /// What happened in all of them.
    pub counts: Counts,
    /// Simulated milliseconds of all of them.
    pub simulated_ms: u64,
    /// Seeds with findings, and what was found.
    pub failed: BTreeMap<u64, Vec<String>>,
}

impl Summary {
    fn add(&mut self, run: SimulatedRun) {
        self.seeds += 1;
        self.simulated_ms += run.simulated_ms;
        self.counts.add(&run.counts);
        if !run.found.is_empty() {
            self.failed.insert(run.seed, run.found);
        }
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.lost_writes += other.lost_writes;
        self.partitions += other.partitions;
        self.stalls += other.stalls;
        self.failed_syncs += other.failed_syncs;
        self.installs += other.installs;
        self.purges += other.purges;
        self.messages += other.messages;
        self.terms += other.terms;
        self.entries += other.entries;
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            crashes,
            lost_writes,
            partitions,
            stalls,
            failed_syncs,
            installs,
            purges,
            messages,
            terms,
            entries,
            operations,
            acknowledged,
        } = self.counts;
        let rows = [
            ("seeds", self.seeds),
            ("of them twice, same trace", self.twice),
            ("simulated seconds", self.simulated_ms / 1_000),
            ("crashes", crashes),
            ("writes that crashes took", lost_writes),
            ("partitions", partitions),
            ("stalls", stalls),
            ("failed fsyncs", failed_syncs),
            ("terms with a leader", terms),
            ("snapshots installed", installs),
            ("purges of the log", purges),
            ("messages", messages),
            ("operations", operations),
            ("acknowledged appends", acknowledged),
            ("ledger entries", entries),
            ("seeds with violations", self.failed.len() as u64),
        ];
        rows.iter().try_for_each(|(name, count)| writeln!(out, "{name:<28}{count:>14}"))
    }
}

/// Runs every seed of a range, the first `twice` of them two times, and tells `progress` how many are through.
///
/// # Errors
/// [`SimulationError::Start`]. A run that panics is a finding.
pub fn simulate_all(
    seeds: Range<u64>,
    twice: u64,
    planted: Option<Planted>,
    progress: impl Fn(&Summary) + Sync,
) -> Result<Summary, SimulationError> {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let worker = || -> Result<(), SimulationError> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            let again = seed.saturating_sub(seeds.start) < twice;
            let run = one(seed, again, planted)?;
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.twice += u64::from(again);
            summary.add(run);
            progress(&summary);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Ok(())))
    })?;
    Ok(summary.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn one(seed: u64, again: bool, planted: Option<Planted>) -> Result<SimulatedRun, SimulationError> {
    let mut run = match simulate(seed, planted, false) {
        Ok(run) => run,
        Err(SimulationError::Panicked { seed, what }) => {
            let found = vec![format!("the run panicked: {what}")];
            return Ok(SimulatedRun { seed, found, ..SimulatedRun::default() });
        }
        Err(error) => return Err(error),
    };
    if again {
        let other = simulate(seed, planted, false).map(|other| other.hash);
        if other.as_ref().ok() != Some(&run.hash) {
            run.found.push(format!("the second run of the seed was another one: {other:?} after {}", run.hash));
        }
    }
    Ok(run)
}
