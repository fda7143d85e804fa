//! Measures Proofline over its public API, beside etcd and PostgreSQL on the same disk in the same run.

mod batches;
mod conditions;
mod etcd;
mod events;
mod grown;
mod latency;
mod load;
mod overload;
mod postgres;
mod questions;
mod report;
mod revoke;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use proofline_cluster::Tls;

use crate::{
    batches::Breadth,
    latency::Row,
    load::{Bench, Commitments, Rules, Scenario},
    report::Results,
};

#[derive(Debug, Parser)]
#[command(
    name = "proofline-bench",
    version,
    about = "Measures Proofline beside etcd and PostgreSQL on this machine",
    after_help = "Example:\n  proofline-bench run                        # everything, under 15 minutes, writes bench-results.json\n  proofline-bench load --nodes 3 --batch 100 --in-flight 64\n\nEverything it starts it stops and removes."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every scenario and both peers, print a table, write bench-results.json
    Run {
        /// Where the databases lie; their disk is the one that is measured
        #[arg(long, default_value = "target/bench-data", value_name = "DIR")]
        data: PathBuf,
        /// Result file
        #[arg(long, default_value = "bench-results.json", value_name = "FILE")]
        out: PathBuf,
        /// Seconds that each row is measured, after two seconds of warm-up
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Run one scenario
    Load {
        /// Nodes of the cluster
        #[arg(long, default_value_t = 3)]
        nodes: u64,
        /// Events in a batch; 1 uses unary appends, more uses pipelined streams
        #[arg(long, default_value_t = 100)]
        batch: usize,
        /// Batches under way at once
        #[arg(long, default_value_t = 64)]
        in_flight: usize,
        /// Use mutual TLS, between the nodes too
        #[arg(long)]
        tls: bool,
        /// Put the shipped rule pack in force first
        #[arg(long)]
        rules: bool,
        /// Do not commit to the map over all keys meanwhile
        #[arg(long)]
        no_commitments: bool,
        /// Commit to it so often, in milliseconds, instead of as shipped
        #[arg(long, value_name = "MS", conflicts_with = "no_commitments")]
        commit_every: Option<u64>,
        /// Events of 100 agents, 1,000 sessions and 5,000 resources, instead of one agent and one resource
        #[arg(long)]
        wide: bool,
        /// Events a second that are offered; else as many as are taken
        #[arg(long, value_name = "EVENTS")]
        offered: Option<u64>,
        /// Where the databases lie
        #[arg(long, default_value = "target/bench-data", value_name = "DIR")]
        data: PathBuf,
        /// Seconds that are measured, after two seconds of warm-up
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Contain session after session under load, and measure until a watcher at another node knows
    Revoke {
        /// Events a second that are offered beside it
        #[arg(long, default_value_t = 30_000)]
        events_per_second: u64,
        /// Sessions that are contained, one after the other
        #[arg(long, default_value_t = 500)]
        sessions: u64,
        /// Where the databases lie
        #[arg(long, default_value = "target/bench-data", value_name = "DIR")]
        data: PathBuf,
    },
    /// Offer many times of what three nodes can take while one stands still, and measure what they take and hold
    Overload {
        /// How many times
        #[arg(long, default_value_t = 10)]
        times: u64,
        /// Seconds for which a follower stands still
        #[arg(long, default_value_t = 300)]
        seconds: u64,
        /// Where the databases lie; five minutes fill some 20 GiB
        #[arg(long, default_value = "target/bench-data", value_name = "DIR")]
        data: PathBuf,
    },
    /// Grow a ledger to a million entries in one session, and measure proofs and memory there
    Grown {
        /// Entries
        #[arg(long, default_value_t = 1_000_000)]
        entries: u64,
        /// Where the databases lie
        #[arg(long, default_value = "target/bench-data", value_name = "DIR")]
        data: PathBuf,
    },
    /// Grow a ledger of many sessions, and measure session proofs, pages of lineage and evidence there
    Questions {
        /// Entries
        #[arg(long, default_value_t = 1_000_000)]
        entries: u64,
        /// Sessions among which they are dealt out
        #[arg(long, default_value_t = 20_000)]
        sessions: u64,
        /// Events of the session that is exported as evidence
        #[arg(long, default_value_t = 10_000)]
        exported: u64,
        /// Where the databases lie
        #[arg(long, default_value = "target/bench-data", value_name = "DIR")]
        data: PathBuf,
    },
}

/// On one thread, whoever is measured: what is called together leaves together.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run { data, out, seconds } => run(&Bench::new(data, Duration::from_secs(seconds))?, &out).await,
        Command::Load { nodes, batch, in_flight, tls, rules, no_commitments, commit_every, wide, offered, data, seconds } => {
            let rules = if rules { Rules::Pack } else { Rules::None };
            let tls = if tls { Tls::Mutual } else { Tls::Off };
            let commitments = match commit_every {
                _ if no_commitments => Commitments::None,
                Some(milliseconds) => Commitments::Every(milliseconds),
                None => Commitments::AsShipped,
            };
            let breadth = if wide { Breadth::Wide } else { Breadth::Narrow };
            let scenario = Scenario { nodes, batch, in_flight, tls, rules, commitments, breadth, offered };
            let row = Bench::new(data, Duration::from_secs(seconds))?.run(scenario).await?;
            report::print_rows("append", &[row]);
            Ok(())
        }
        Command::Revoke { events_per_second, sessions, data } => {
            let revoked = revoke::measure(&Bench::new(data, Duration::from_secs(5))?, events_per_second, sessions).await?;
            report::print_revoked(&revoked);
            Ok(())
        }
        Command::Overload { times, seconds, data } => {
            let bench = Bench::new(data, Duration::from_secs(5))?;
            let overload = overload::measure(&bench, times, Duration::from_secs(seconds)).await?;
            overload.print();
            anyhow::ensure!(overload.is_bounded(), "a node held more than it may");
            Ok(())
        }
        Command::Questions { entries, sessions, exported, data } => {
            let world = questions::Grown { entries, sessions, exported };
            questions::measure(&Bench::new(data, Duration::from_secs(5))?, world).await?.print();
            Ok(())
        }
        Command::Grown { entries, data } => {
            let grown = grown::measure(&Bench::new(data, Duration::from_secs(5))?, entries).await?;
            report::print_grown(&grown);
            Ok(())
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate below a million")]
fn whole(rate: f64) -> u64 {
    rate as u64
}

/// The rows of the table, cheap ones first.
fn scenarios() -> Vec<Scenario> {
    let (rules, commitments) = (Rules::None, Commitments::AsShipped);
    let usual =
        Scenario { nodes: 3, batch: 100, in_flight: 64, tls: Tls::Off, rules, commitments, breadth: Breadth::Narrow, offered: None };
    let shapes = [(1, 1), (1, 16), (1, 64), (1, 256), (100, 16), (100, 64), (1000, 8), (1000, 32)];
    let plain = [3, 1].into_iter().flat_map(|nodes| shapes.map(move |(batch, in_flight)| Scenario { nodes, batch, in_flight, ..usual }));
    let loaded = Scenario { tls: Tls::Mutual, ..usual };
    plain.chain([loaded, Scenario { rules: Rules::Pack, ..usual }, Scenario { commitments: Commitments::None, ..usual }]).collect()
}

async fn run(bench: &Bench, out: &std::path::Path) -> Result<()> {
    let mut results = Results { conditions: conditions::measure(bench.data())?, ..Default::default() };
    report::print_conditions(&results.conditions);
    for scenario in scenarios() {
        results.append.push(bench.run(scenario).await?);
        report::print_last("append", &results.append);
    }
    let best = |it: &&Row| it.nodes == 3 && it.batch == 100 && it.note == "rules";
    let offered = results.append.iter().find(best).map_or(0.0, |row| row.events_per_second) * 0.7;
    let revoked = revoke::measure(bench, whole(offered), 300).await?;
    report::print_revoked(&revoked);
    results.revoked = Some(revoked);
    results.etcd = etcd::measure(bench).await?;
    report::print_rows("etcd, one put per event", &results.etcd);
    results.postgres = postgres::measure(bench).await?;
    report::print_rows("PostgreSQL, one node", &results.postgres);
    let grown = grown::measure(bench, 1_000_000).await?;
    report::print_grown(&grown);
    results.grown = Some(grown);
    report::print_ratios(&results);
    std::fs::write(out, serde_json::to_vec_pretty(&results)?)?;
    eprintln!("written to {}", out.display());
    Ok(())
}
