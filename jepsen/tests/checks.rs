//! The checks of the checks: right runs pass, and every alteration is noticed by the predicate that is named for it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use proofline_jepsen::{
    checks::{Judgement, MUTATIONS, Mutated, Predicate, Synthetic, judge, judge_one, mutate_all, second_opinion, synthesise, table},
    history::{Action, Operation},
};
use proptest::prelude::*;

const STEPS: usize = 400;

fn made_up(seed: u64) -> Synthetic {
    synthesise(seed, STEPS).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn right_runs_pass_whatever_the_seed(seed: u64) {
        let report = judge(&made_up(seed).case);
        prop_assert!(report.passes(), "{}", report);
    }

    #[test]
    fn no_alteration_goes_unnoticed_whatever_the_seed(seed: u64, place in 0..MUTATIONS.len()) {
        let Synthetic { case, forgery } = made_up(seed);
        prop_assert_ne!(MUTATIONS[place].apply(&case, &forgery, seed), Mutated::Missed, "{}", MUTATIONS[place].name);
    }
}

#[test]
fn every_alteration_is_noticed_by_the_predicate_that_is_named_for_it() {
    let mut caught = BTreeSet::new();
    for seed in 1..=10 {
        let Synthetic { case, forgery } = made_up(seed);
        let mutated = mutate_all(&case, &forgery, seed);
        println!("{}", table(&mutated));
        for (mutation, became) in &mutated {
            assert_ne!(*became, Mutated::Missed, "seed {seed}: {}", mutation.name);
            if matches!(became, Mutated::Caught(_)) {
                caught.insert(mutation.name);
            }
        }
    }
    let all: BTreeSet<_> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
    assert_eq!(caught, all, "each alteration must have had something to alter");
}

#[test]
fn every_predicate_is_named_for_an_alteration() {
    let named: BTreeSet<Predicate> = MUTATIONS.iter().map(|mutation| mutation.caught_by).collect();
    assert_eq!(named, Predicate::ALL.into_iter().collect());
}

#[test]
fn every_alteration_stands_in_the_document_of_the_checks() {
    let text = include_str!("../CHECKS.md");
    for mutation in &MUTATIONS {
        let row = format!("| {} | {} |", mutation.name, mutation.caught_by);
        assert!(text.contains(&row), "missing: {row}");
    }
    for predicate in Predicate::ALL {
        let row = format!("| {} | {} |", predicate.label(), predicate.words());
        assert!(text.contains(&row), "missing: {row}");
    }
}

#[test]
fn a_checker_of_somebody_elses_finds_right_runs_linearizable() {
    for seed in 1..=4 {
        let Synthetic { case, .. } = made_up(seed);
        let opinion = second_opinion(&case);
        assert_eq!((opinion.linearizable, opinion.refuted.len()), (3, 0), "seed {seed}: {opinion:?}");
    }
}

#[test]
fn a_checker_of_somebody_elses_refutes_a_stale_opening_as_ours_does() {
    let Synthetic { case, forgery } = made_up(3);
    let stale = MUTATIONS.iter().find(|mutation| mutation.caught_by == Predicate::Linearizable).unwrap();
    let altered = stale.altered(&case, &forgery, 3).unwrap();
    assert!(matches!(judge_one(&altered, Predicate::Linearizable), Judgement::False { .. }));
    assert_eq!(second_opinion(&altered).refuted.len(), 1);
}

/// Two batches of one lane, of which the second was answered before anybody had sent the first.
#[test]
fn a_checker_of_somebody_elses_refutes_an_answer_against_real_time_as_ours_does() {
    let Synthetic { mut case, .. } = made_up(4);
    let of = |operation: &Operation, wanted: u64| match &operation.action {
        Action::Append { batch, .. } => batch.lane.collector == "collector-1" && batch.epoch == 1 && batch.sequence == wanted,
        _ => false,
    };
    let first = case.history.operations.iter().filter(|it| of(it, 1)).map(|it| it.invoked).min().unwrap();
    for operation in case.history.operations.iter_mut().filter(|it| of(it, 2)) {
        operation.invoked.0 = first.0 - 2;
        operation.returned.0 = first.0 - 1;
    }
    assert!(matches!(judge_one(&case, Predicate::RealTime), Judgement::False { .. }));
    assert_eq!(second_opinion(&case).refuted.len(), 1);
}
