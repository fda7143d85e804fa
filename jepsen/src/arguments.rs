//! What is typed on the command line.

use std::{ops::Range, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use proofline_jepsen::{
    planted::{BUGS, Campaign},
    run::RunOrder,
    schedule::{Fault, FaultGroup},
};

#[derive(Debug, Parser)]
#[command(
    name = "proofline-jepsen",
    version,
    about = "Breaks a Proofline cluster of real processes, and says whether it kept its promises",
    after_help = "Examples:\n  \
        proofline-jepsen run --seed 7 --for 5m                       # every fault\n  \
        proofline-jepsen run --seed 7 --for 60s --faults process,isolate-leader\n  \
        proofline-jepsen schedule --seed 7 --for 5m                  # what would come when\n  \
        proofline-jepsen planted --bug cascade-one-level             # nodes with a bug on purpose: is it noticed?\n  \
        proofline-jepsen simulate --seeds 0..100 --twice 5           # without processes and real time; needs no root\n  \
        proofline-jepsen clean                                       # after a harness that was killed\n\n\
        Exit codes: 0 every promise was kept, 1 failed, 2 usage, 3 a promise was broken, 4 unknown: the run proves nothing.\n\
        A run needs root, and makes its own network namespaces, mounts and loop devices; nothing of it leaves the machine or stays."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Found a cluster, give it work, break it by the schedule of the seed, and judge
    Run(RunArguments),
    /// Run against nodes with bugs on purpose, and say which were noticed
    Planted(PlantedArguments),
    /// Print the schedule of a seed, and do nothing
    Schedule(Chosen),
    /// Run the replicated core in a simulation, once for each seed, and judge
    Simulate(SimulateArguments),
    /// Remove what killed harnesses left behind
    Clean {
        /// First wait until this process is gone: each run has such a guard beside it
        #[arg(long, value_name = "PROCESS", hide = true)]
        when_gone: Option<u32>,
    },
}

/// What decides a schedule.
#[derive(Clone, Debug, Args)]
pub(crate) struct Chosen {
    /// Decides everything that is drawn by lot
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long faults come: 90s, 5m, 1h
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    length: Duration,
    /// Groups (all, network, process, disk, clock, corruption, membership) and single faults, separated by commas; or none
    #[arg(long, value_name = "LIST", default_value = "all", value_delimiter = ',')]
    faults: Vec<String>,
    /// Nodes
    #[arg(long, default_value_t = 3)]
    pub(crate) nodes: usize,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    chosen: Chosen,
    /// Directory of results; a new one below jepsen-results by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep disks and keys also when every promise was kept
    #[arg(long)]
    pub(crate) keep: bool,
    /// Room on the disk of each node, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    disk_mib: u64,
    /// Raft entries after which a node makes a snapshot; few, so that snapshots are seen in a short run
    #[arg(long, value_name = "N", default_value_t = 150)]
    snapshot_entries: u64,
    /// Start nodes that have this bug, or `none` of the bugs: nodes that are not shipped
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
}

/// What decides a campaign against planted bugs.
#[derive(Debug, Args)]
pub(crate) struct PlantedArguments {
    /// One bug by name; again for another. All by default
    #[arg(long = "bug", value_name = "NAME")]
    bugs: Vec<String>,
    /// Seeds that each bug is given until it is noticed
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// How long faults come in each run: 90s, 5m. What suits the bug by default
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Option<Duration>,
    /// Directory of results; a new one below jepsen-results by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl PlantedArguments {
    pub(crate) fn campaign(&self, now: u64) -> Result<Campaign> {
        let known = |name: &String| match BUGS.iter().find(|bug| bug.name == name) {
            Some(bug) => Ok(*bug),
            None => bail!("no bug is called {name:?}; bugs: {}", BUGS.map(|bug| bug.name).join(", ")),
        };
        let bugs = if self.bugs.is_empty() { BUGS.to_vec() } else { self.bugs.iter().map(known).collect::<Result<_>>()? };
        let directory = self.out.clone().unwrap_or_else(|| PathBuf::from("jepsen-results").join(format!("planted-{now}")));
        Ok(Campaign { bugs, seeds: self.seeds, seconds: self.length.map(|length| length.as_secs()), directory })
    }
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// Seeds, the last one not included: 0..100
    #[arg(long, value_name = "A..B", default_value = "0..100", value_parser = seeds)]
    pub(crate) seeds: Range<u64>,
    /// How many of the seeds are run two times: both runs must be the same
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) twice: u64,
    /// Write everything that happened with the first seed to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

impl Chosen {
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Returns the chosen faults, in a fixed order and once each.
    pub(crate) fn faults(&self) -> Result<Vec<Fault>> {
        let mut chosen = Vec::new();
        if self.faults == ["none"] {
            return Ok(chosen);
        }
        for word in &self.faults {
            match (FaultGroup::from_str(word, true), Fault::from_str(word, true)) {
                (Ok(group), _) => chosen.extend(Fault::of_groups(&[group])),
                (_, Ok(fault)) => chosen.push(fault),
                _ => bail!("no fault or group is called {word:?}; faults: {}", names()),
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen)
    }
}

fn names() -> String {
    let names = Fault::value_variants().iter().filter_map(|fault| Some(fault.to_possible_value()?.get_name().to_owned()));
    names.collect::<Vec<_>>().join(", ")
}

impl RunArguments {
    pub(crate) fn order(&self) -> Result<RunOrder> {
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        Ok(RunOrder {
            seed: self.chosen.seed,
            length: self.chosen.length(),
            faults: self.chosen.faults()?,
            nodes: self.chosen.nodes,
            disk_mebibytes: self.disk_mib,
            snapshot_entries: self.snapshot_entries,
            planted: self.planted.clone(),
            command,
        })
    }

    pub(crate) fn directory(&self, now: u64) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from("jepsen-results").join(format!("seed-{}-{now}", self.chosen.seed)))
    }
}

/// Reads `0..100`.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let bad = || format!("{text:?} is no range of seeds: 0..100");
    let (from, to) = text.split_once("..").ok_or_else(bad)?;
    let seeds = from.parse().map_err(|_| bad())?..to.parse().map_err(|_| bad())?;
    if seeds.is_empty() { Err(bad()) } else { Ok(seeds) }
}

/// Reads `90s`, `5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration: 90s, 5m or 1h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3_600),
        _ => None,
    };
    seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(bad)
}
