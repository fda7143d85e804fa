//! The table for people and the file for programs.

use serde::Serialize;

use crate::{conditions::Conditions, grown::Grown, latency::Row, revoke::Revoked};

/// Everything that a run measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    pub(crate) conditions: Conditions,
    pub(crate) append: Vec<Row>,
    pub(crate) etcd: Vec<Row>,
    pub(crate) postgres: Vec<Row>,
    pub(crate) grown: Option<Grown>,
    pub(crate) revoked: Option<Revoked>,
}

pub(crate) fn print_conditions(of: &Conditions) {
    println!("{} x {}, {} GiB, Linux {}", of.cores, of.cpu, of.memory_gib, of.kernel);
    println!(
        "fdatasync of 4 KiB: {}/s, p50 {:.2} ms, p99 {:.2} ms; events of {} bytes",
        of.fsyncs_per_second, of.fsync_p50_ms, of.fsync_p99_ms, of.event_bytes
    );
}

const HEAD: &str = "nodes  batch  in flight     events/s    p50 ms    p99 ms";

pub(crate) fn print_rows(title: &str, rows: &[Row]) {
    println!("\n{title}\n{HEAD}");
    rows.iter().for_each(print_row);
}

/// Prints the newest row, below a heading when it is the first.
pub(crate) fn print_last(title: &str, rows: &[Row]) {
    if rows.len() == 1 {
        println!("\n{title}\n{HEAD}");
    }
    if let Some(row) = rows.last() {
        print_row(row);
    }
}

fn print_row(row: &Row) {
    println!(
        "{:>5}  {:>5}  {:>9}  {:>11.0}  {:>8.2}  {:>8.2}  {}",
        row.nodes, row.batch, row.in_flight, row.events_per_second, row.p50_ms, row.p99_ms, row.note
    );
}

pub(crate) fn print_grown(grown: &Grown) {
    println!("\na ledger of {} entries, one session, three nodes, batches of 1000", grown.entries);
    for stretch in &grown.growth {
        println!("  up to {:>9} entries  {:>9.0} events/s", stretch.up_to, stretch.events_per_second);
    }
    println!("  log proof      p50 {:.2} ms, p99 {:.2} ms", grown.log_proof_p50_ms, grown.log_proof_p99_ms);
    println!("  session proof  p50 {:.2} ms, p99 {:.2} ms", grown.session_proof_p50_ms, grown.session_proof_p99_ms);
    println!("  memory         {} MiB", grown.memory_mib.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / "));
}

pub(crate) fn print_revoked(of: &Revoked) {
    println!(
        "\n{} sessions contained one after the other, beside {} events/s with rules in force, three nodes",
        of.sessions, of.events_per_second
    );
    println!("  until acknowledged                p50 {:.2} ms, p99 {:.2} ms", of.acknowledged_p50_ms, of.acknowledged_p99_ms);
    println!("  until a follower's watcher knew   p50 {:.2} ms, p99 {:.2} ms", of.watched_p50_ms, of.watched_p99_ms);
}

/// Prints the figures that other systems are compared by, within this run.
pub(crate) fn print_ratios(of: &Results) {
    let best = |rows: &[Row]| rows.iter().map(|row| row.events_per_second).fold(0.0, f64::max);
    let three: Vec<Row> = of.append.iter().filter(|row| row.nodes == 3 && row.batch == 100 && row.note.is_empty()).cloned().collect();
    let at = |rows: &[Row], in_flight: usize| {
        rows.iter().find(|row| row.nodes == 3 && row.batch == 1 && row.in_flight == in_flight).map_or(0.0, |row| row.events_per_second)
    };
    println!("\nbatches of 100, three nodes:          {:.0} events/s", best(&three));
    println!("  against etcd's best:                {:.1} times", best(&three) / best(&of.etcd).max(1.0));
    let with_rules = of.append.iter().find(|row| row.note == "rules").map_or(0.0, |row| row.events_per_second);
    let without = three.iter().find(|row| row.in_flight == 64).map_or(0.0, |row| row.events_per_second);
    println!("  with rules, at 64 in flight:        {:.0} events/s, {:.2} of without", with_rules, with_rules / without.max(1.0));
    println!("unary at 64 in flight against etcd's: {:.2} times", at(&of.append, 64) / at(&of.etcd, 64).max(1.0));
}
