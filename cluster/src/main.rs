//! `proofline-cluster`: a Proofline cluster on this machine, for development and demonstration.

mod demo;
mod incident;
mod lifecycle;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use proofline_cluster::Tls;

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
        #[arg(long, default_value_t = 3)]
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
    let done = match Cli::parse().command {
        Command::Up { dir, nodes, insecure_loopback } => {
            let tls = if insecure_loopback { Tls::Off } else { Tls::Mutual };
            lifecycle::up(&directory(dir), nodes, tls).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Demo { keep } => demo::run(keep).await.map(|()| ExitCode::SUCCESS),
        Command::Down { dir, remove } => lifecycle::down(&directory(dir), remove).map(|()| ExitCode::SUCCESS),
        Command::Status { dir } => lifecycle::status(&directory(dir)).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Where a cluster lies when nobody says where.
fn directory(given: Option<PathBuf>) -> PathBuf {
    let state = || std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    given.unwrap_or_else(|| state().or_else(home).unwrap_or_else(|| PathBuf::from(".")).join("proofline/cluster"))
}
