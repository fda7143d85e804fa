//! The simulation: nothing is found in the real code, everything planted is, and a seed decides everything.
#![allow(clippy::unwrap_used)]

use proofline_jepsen::simulation::{Planted, SimulationError, simulate, simulate_all};

/// The fast tier.
const SEEDS: u64 = 100;

#[test]
fn a_hundred_seeds_keep_every_promise_and_five_of_them_run_the_same_twice() {
    let summary = simulate_all(0..SEEDS, 5, None, |_| ()).unwrap();
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
    assert_eq!((summary.seeds, summary.twice), (SEEDS, 5));
    let seen = summary.counts;
    // A campaign in which nothing happens proves nothing.
    let counts = [seen.crashes, seen.partitions, seen.stalls, seen.failed_syncs, seen.installs, seen.purges, seen.lost_writes];
    assert!(counts.iter().all(|count| *count > 10), "{summary}");
    assert!(seen.terms > 3 * SEEDS && seen.acknowledged > 50 * SEEDS, "{summary}");
}

#[test]
fn the_whole_trace_of_a_seed_is_the_same_each_time_and_another_seed_has_another() {
    let [one, again, other] = [7, 7, 8].map(|seed| simulate(seed, None, true).unwrap());
    let first = one.trace.iter().zip(&again.trace).position(|(left, right)| left != right);
    assert_eq!(first.and_then(|at| Some((one.trace.get(at)?, again.trace.get(at)?))), None);
    assert_eq!(one, again);
    assert_ne!(one.hash, other.hash);
}

/// Runs seeds with a planted fault until one finds it, and says which.
fn found_within(seeds: u64, planted: Planted) {
    let finds = |seed: &u64| {
        let run = simulate(*seed, Some(planted), false);
        assert!(!matches!(run, Err(SimulationError::Start(_))), "a simulation that cannot start finds nothing");
        // The library panics where it finds what it takes for impossible.
        run.map_or(true, |run| !run.found.is_empty())
    };
    let first = (0..seeds).find(finds);
    println!("{planted:?}: found by seed {first:?}");
    assert!(first.is_some(), "{planted:?} was not found within {seeds} seeds");
}

#[test]
fn a_log_that_acknowledges_before_it_syncs_is_found_within_ten_seeds() {
    found_within(10, Planted::AcknowledgedBeforeSync);
}

#[test]
fn a_vote_that_is_not_persisted_is_found_within_ten_seeds() {
    found_within(10, Planted::VoteNotPersisted);
}

#[test]
fn a_log_that_is_cut_before_its_snapshot_is_installed_is_found_within_a_hundred_seeds() {
    found_within(100, Planted::CutBeforeInstalled);
}

#[test]
fn a_leader_that_is_silent_while_it_sends_a_snapshot_is_found_within_twenty_seeds() {
    found_within(20, Planted::SilentWhileSending);
}

#[test]
fn a_snapshot_that_forgets_which_batches_there_were_is_found_within_twenty_seeds() {
    found_within(20, Planted::SnapshotForgetsBatches);
}
