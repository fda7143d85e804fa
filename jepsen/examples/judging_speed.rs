//! Says how many operations of a made-up run the predicates judge in a second: `judging_speed [STEPS]`.

use std::time::Instant;

use anyhow::{Context as _, Result};
use proofline_jepsen::checks::{Reading, Replayed, judge, synthesise};

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).map_or(Ok(5_000), |steps| steps.parse())?;
    let case = synthesise(1, steps).context("the seed leads to no run")?.case;
    let operations = case.history.operations.len();
    let began = Instant::now();
    let replayed = matches!(Reading::of(&case).replayed(), Replayed::To(_));
    let replay = began.elapsed();
    let began = Instant::now();
    let report = judge(&case);
    // Both the first and the second predicate group share one replay: what is left is the judging.
    let judging = began.elapsed().saturating_sub(replay).as_secs_f64();
    println!("{operations} operations, replayed: {replayed} in {:.2} s, passes: {}", replay.as_secs_f64(), report.passes());
    println!("judged in {judging:.2} s: {:.0} operations/s", operations as f64 / judging);
    Ok(())
}
