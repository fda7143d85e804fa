//! The checks of the checks: right runs pass, and every alteration is noticed by the predicate that is named for it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proofline_jepsen::checks::{Mutated, Synthetic, judge, mutate_all, second_opinion, synthesise, table};

const STEPS: usize = 400;

fn made_up(seed: u64) -> Synthetic {
    synthesise(seed, STEPS).unwrap()
}

#[test]
fn right_runs_pass_whatever_the_seed() {
    for seed in 1..=12 {
        let report = judge(&made_up(seed).case);
        assert!(report.passes(), "seed {seed}\n{report}");
    }
}

#[test]
fn every_alteration_is_noticed_by_the_predicate_that_is_named_for_it() {
    let mut applied = std::collections::BTreeSet::new();
    for seed in 1..=6 {
        let Synthetic { case, forgery } = made_up(seed);
        let mutated = mutate_all(&case, &forgery, seed);
        for (mutation, became) in &mutated {
            assert_ne!(*became, Mutated::Missed, "seed {seed}: {}\n{}", mutation.name, table(&mutated));
            if matches!(became, Mutated::Caught(_)) {
                applied.insert(mutation.name);
            }
        }
    }
    let all: std::collections::BTreeSet<_> = proofline_jepsen::checks::MUTATIONS.iter().map(|mutation| mutation.name).collect();
    assert_eq!(applied, all, "each alteration must have had something to alter");
}

#[test]
fn a_checker_of_somebody_elses_agrees() {
    for seed in 1..=4 {
        let Synthetic { case, .. } = made_up(seed);
        let opinion = second_opinion(&case);
        assert_eq!((opinion.linearizable, opinion.refuted.len()), (3, 0), "seed {seed}: {opinion:?}");
    }
}
