//! `proofline-node`: one node of a Proofline ledger.

use std::{
    env,
    io::{self, IsTerminal as _},
    num::NonZeroUsize,
    os::unix::process::CommandExt as _,
    process::{self, ExitCode as ProcessExitCode},
};

use clap::Parser as _;
use proofline_node::{
    config::{Cli, Command, Config, Source},
    exit::ExitCode,
    server::{self, Founding, NodeError},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A node allocates small things on many threads all the time, and keeps a million of nothing.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is logged, unless `PROOFLINE_LOG` says otherwise. Raft's replication tells of a node that it does not reach ten times a
/// second, without its name; the node's own lines tell once.
const LOGGED: &str = "info,openraft=error,openraft::replication=off";

/// How many arenas the heap of the C library has at most, as glibc reads it when a process begins.
const C_ARENAS: &str = "MALLOC_ARENA_MAX";

pub(crate) fn main() -> ProcessExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("PROOFLINE_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    // A file is searched with grep: colours are for terminals, and for who wants them there.
    let has_colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(has_colours).init();
    let code = match cli.command {
        Command::Init { source, bootstrap } => {
            let founding = if bootstrap { Founding::Bootstrap } else { Founding::Join };
            with_config(&source, |config| server::initialise(&config, founding))
        }
        Command::Run { source } => {
            if let Err(error) = begin_with_one_arena() {
                tracing::warn!(%error, "going on with the heap of the C library as it is; this node will hold more memory");
            }
            with_config(&source, run)
        }
    };
    code.into()
}

fn with_config(source: &Source, act: impl FnOnce(Config) -> Result<(), NodeError>) -> ExitCode {
    let config = match Config::load(source) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::Generic;
        }
    };
    match act(config) {
        Ok(()) => ExitCode::Success,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(&error)
        }
    }
}

/// Begins this process again, under its id, with one arena in the heap of the C library, unless somebody else decided on it.
/// That heap is RocksDB's alone, which fills large blocks on some threads and frees them on others: with an arena for each
/// thread a third of a node's memory was holes (DECISIONS 18c). Returns only when it cannot be done.
fn begin_with_one_arena() -> io::Result<()> {
    let program = env::current_exe()?;
    // Under a loader that was named on the command line the program is that one.
    let is_ours = program.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"proofline-node"));
    if !is_ours || env::var_os(C_ARENAS).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "proofline-node".into());
    Err(process::Command::new(program).arg0(name).args(arguments).env(C_ARENAS, "1").exec())
}

fn run(config: Config) -> Result<(), NodeError> {
    if matches!(config.security, proofline_node::config::Secured::Loopback) {
        tracing::warn!("############################################################################");
        tracing::warn!("# INSECURE: no TLS. Every process on this machine holds every role.        #");
        tracing::warn!("# For development on loopback addresses only.                              #");
        tracing::warn!("############################################################################");
    }
    let runtime = runtime().map_err(|error| NodeError::Raft(format!("the runtime did not start: {error}")))?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(cancel_on_signal(shutdown.clone()));
        server::run(config, shutdown).await
    })
}

/// One processor is left to the threads that apply and that write the journal.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(processors.saturating_sub(1).max(1));
    }
    // Whoever is woken first goes first: so a connection writes the answers of a whole group at once, instead of each by itself.
    #[cfg(tokio_unstable)]
    builder.disable_lifo_slot();
    builder.enable_all().build()
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("signals cannot be received");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    tracing::info!("stopping");
    shutdown.cancel();
}
