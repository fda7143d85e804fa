//! Says how many operations of a made-up run the predicates judge in a second: `judging_speed [STEPS]`.
//!
//! The replay by the ledger's own code is told separately: it is not the judging.

use std::time::Instant;

use anyhow::{Context as _, Result};
use proofline_jepsen::checks::{Reading, Replayed, judge_read, synthesise};

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).map_or(Ok(5_000), |steps| steps.parse())?;
    let began = Instant::now();
    let case = synthesise(1, steps).context("the seed leads to no run")?.case;
    let (operations, entries) = (case.history.operations.len(), case.finals.nodes.first().map_or(0, |node| node.log.len()));
    println!("{operations} operations, {entries} entries on each of three nodes, made up in {:.2} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let reading = Reading::of(&case);
    let read = began.elapsed();
    let began = Instant::now();
    let replayed = matches!(reading.replayed(), Replayed::To(_));
    println!("replayed: {replayed}, in {:.2} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let report = judge_read(&reading);
    let judged = began.elapsed();
    println!("read in {:.2} s, judged in {:.2} s, passes: {}", read.as_secs_f64(), judged.as_secs_f64(), report.passes());
    println!("{:.0} operations/s", operations as f64 / (read + judged).as_secs_f64());
    Ok(())
}
