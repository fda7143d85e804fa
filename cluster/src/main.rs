//! `proofline-cluster`: a Proofline cluster on this machine, for development and demonstration.

/// Prints a line. Whoever stopped reading has seen enough: what was begun is brought to its end all the same.
macro_rules! print_line {
    ($($words:tt)*) => {
        drop(::std::io::Write::write_fmt(&mut ::std::io::stdout(), format_args!("{}\n", format_args!($($words)*))))
    };
}

mod demo;
mod incident;
mod lifecycle;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use proofline_cluster::Tls;
use tokio::signal::unix::{SignalKind, signal};

const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

#[derive(Debug, Parser)]
#[command(
    name = "proofline-cluster",
    version,
    about = "A Proofline cluster on this machine, for development and demonstration",
    after_help = "Example:\n  proofline-cluster demo            # the five-minute story, cleans up after itself\n  proofline-cluster up              # three nodes that stay until `down`\n  proofline --profile ~/.local/state/proofline/cluster/clients/admin.toml status"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start nodes that keep running until `down`
    Up {
        /// Directory of the cluster; it must be empty or hold a cluster that is stopped
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Number of nodes
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
        nodes: u64,
        /// Start without TLS; every process on this machine then holds every role
        #[arg(long)]
        insecure_loopback: bool,
    },
    /// Run the demonstration and clean up
    Demo {
        /// Keep the files of the demonstration in this directory
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Stop the nodes of a cluster
    Down {
        /// Directory of the cluster
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Remove its directory too, with everything in the ledger
        #[arg(long)]
        remove: bool,
    },
    /// Say how each node is; exit code 7 when not all are well
    Status {
        /// Directory of the cluster
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    done(Cli::parse().command).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Carries a command out. What one has started that is told to end meanwhile is stopped, and its temporary directory goes.
async fn done(command: Command) -> Result<ExitCode> {
    if !matches!(command, Command::Up { .. } | Command::Demo { .. }) {
        return run(command).await;
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let number = tokio::select! {
        biased;
        _ = interrupt.recv() => SIGINT,
        _ = terminate.recv() => SIGTERM,
        _ = hangup.recv() => SIGHUP,
        done = run(command) => return done,
    };
    eprintln!("interrupted: what was started is stopped");
    Ok(ExitCode::from(128 + number))
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { dir, nodes, insecure_loopback } => {
            let tls = if insecure_loopback { Tls::Off } else { Tls::Mutual };
            lifecycle::up(&directory(dir), nodes, tls).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Demo { keep } => demo::run(keep).await.map(|()| ExitCode::SUCCESS),
        Command::Down { dir, remove } => lifecycle::down(&directory(dir), remove).map(|()| ExitCode::SUCCESS),
        Command::Status { dir } => lifecycle::status(&directory(dir)).await,
    }
}

/// Where a cluster lies when nobody says where.
fn directory(given: Option<PathBuf>) -> PathBuf {
    let state = || std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    given.unwrap_or_else(|| state().or_else(home).unwrap_or_else(|| PathBuf::from(".")).join("proofline/cluster"))
}
