//! `proofline-jepsen`: breaks a Proofline cluster and says whether it kept its promises.

mod arguments;

use std::{
    path::Path,
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use proofline_jepsen::{
    guard::{self, Guard},
    leftovers::{self, Removed},
    planted::{Finding, campaign, table},
    run::{Ground, Ruling, RunOrder, Verdict, run},
    schedule::Schedule,
    simulation::{simulate, simulate_all},
    world::World,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Chosen, Cli, Command, PlantedArguments, RunArguments, SimulateArguments};

/// A promise was broken.
const BROKEN: u8 = 3;
/// Seeds between two words of progress.
const PROGRESS_EVERY: u64 = 25;
/// The run proves nothing.
const UNKNOWN: u8 = 4;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(arguments) => start(&arguments),
        Command::Schedule(chosen) => show(&chosen),
        Command::Planted(arguments) => hunt(&arguments),
        Command::Simulate(arguments) => simulate_seeds(&arguments),
        Command::Clean { when_gone } => clean(when_gone),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn show(chosen: &Chosen) -> Result<ExitCode> {
    let schedule = Schedule::draw(chosen.seed, chosen.length(), &chosen.faults()?, chosen.nodes);
    println!("{}", serde_json::to_string_pretty(&schedule)?);
    Ok(ExitCode::SUCCESS)
}

fn hunt(arguments: &PlantedArguments) -> Result<ExitCode> {
    let order = arguments.campaign(seconds_now())?;
    let tell = |it: &Finding| {
        let word = if it.is_caught { "noticed" } else { "NOT NOTICED" };
        eprintln!("{}: {word} after {} seeds, {} s: {}", it.bug, it.seeds, it.took_s, it.noticed.broken.join(", "));
    };
    let findings = campaign(&order, tell)?;
    println!("{}", table(&findings));
    Ok(if findings.iter().all(|it| it.is_caught) { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

fn simulate_seeds(arguments: &SimulateArguments) -> Result<ExitCode> {
    let seeds = arguments.seeds.clone();
    if let Some(file) = &arguments.trace {
        let run = simulate(seeds.start, None, true)?;
        std::fs::write(file, run.trace.join("\n")).with_context(|| format!("cannot write {}", file.display()))?;
        println!("seed {}: hash {}, trace in {}", run.seed, run.hash, file.display());
    }
    let began = Instant::now();
    let all = seeds.end - seeds.start;
    let summary = simulate_all(seeds, arguments.twice, None, |summary| {
        if summary.seeds.is_multiple_of(PROGRESS_EVERY) {
            eprintln!("{} of {all} seeds, {} with violations, {:.0?}", summary.seeds, summary.failed.len(), began.elapsed());
        }
    })?;
    println!("{summary}{:<28}{:>14.1}", "seconds", began.elapsed().as_secs_f64());
    for (seed, found) in &summary.failed {
        println!("seed {seed}: {}", found.join("; "));
        println!("  repeat it: proofline-jepsen simulate --seeds {seed}..{} --trace seed-{seed}.txt", seed + 1);
    }
    Ok(if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

fn clean(when_gone: Option<u32>) -> Result<ExitCode> {
    when_gone.map(guard::wait_until_gone).transpose().context("cannot wait for the harness")?;
    let removed = leftovers::sweep()?;
    say_removed(&removed);
    if removed.is_empty() {
        println!("nothing is left over");
    }
    Ok(ExitCode::SUCCESS)
}

fn say_removed(removed: &[Removed]) {
    for run in removed {
        eprintln!(
            "removed what run {} left behind: {} processes, {} mounts, {} loop devices, {} namespaces",
            run.run, run.processes, run.mounts, run.loop_devices, run.namespaces
        );
    }
}

/// The network is made on this thread, which then goes to where the clients are: so does every thread that it starts.
fn start(arguments: &RunArguments) -> Result<ExitCode> {
    let order = arguments.order()?;
    let directory = arguments.directory(seconds_now());
    let (mut world, removed) = World::raise(&directory, order.nodes, order.seed)?;
    say_removed(&removed);
    // Made before this thread goes to where the clients are, and dropped when all is removed.
    let guard = Guard::post().context("nobody can be posted who cleans up after a crash")?;
    let namespaces = world.take_nodes();
    let ground = Ground { name: world.name().to_owned(), directory: world.directory().to_owned(), namespaces, control: world.control()? };
    world.enter()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verdict = runtime.block_on(until_interrupted(&order, ground));
    runtime.shutdown_background();
    let directory = world.directory().to_owned();
    drop(world);
    drop(guard);
    finish(&order, &directory, verdict, arguments.keep)
}

async fn until_interrupted(order: &RunOrder, ground: Ground) -> Result<Verdict> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        verdict = run(order, ground) => verdict,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to stop"),
    }
}

fn finish(order: &RunOrder, directory: &Path, verdict: Result<Verdict>, keep: bool) -> Result<ExitCode> {
    let repeat = || eprintln!("kept: {}\nrepeat it: {}", directory.display(), order.command);
    let verdict = verdict.inspect_err(|_| repeat())?;
    for reason in &verdict.reasons {
        println!("  {reason}");
    }
    println!("{}", serde_json::to_string(&verdict.measures)?);
    println!("verdict: {:?}; {}", verdict.ruling, directory.join("verdict.json").display());
    match verdict.ruling {
        Ruling::Holds => {
            if !keep {
                remove_data(directory)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Ruling::Broken | Ruling::Unknown => {
            repeat();
            Ok(ExitCode::from(if verdict.ruling == Ruling::Broken { BROKEN } else { UNKNOWN }))
        }
    }
}

/// History, schedule, logs and verdict stay; disks and keys go.
fn remove_data(directory: &Path) -> Result<()> {
    for part in ["cluster", "disks", "clocks"] {
        let path = directory.join(part);
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
