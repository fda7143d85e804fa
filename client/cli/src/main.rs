//! `proofline`: the command line for collectors, auditors, responders and operators.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

mod arguments;
mod command;
mod command_file;
mod connection;
mod describe;
mod exit;
mod file_name;
mod form;
mod kept_payload;
mod lane;
mod otlp;
mod output;
mod progress;

use std::{io, process::ExitCode};

use clap::Parser as _;
use proofline_verifier::escape;
use tracing_subscriber::EnvFilter;

use crate::{arguments::Arguments, exit::Exit};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nowhere is left to report that the message itself could not be printed.
            let _ = error.print();
            return exit.into();
        }
    };
    let filter = EnvFilter::try_from_env("PROOFLINE_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(arguments) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            report(&error);
            Exit::of(&error).into()
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let format = arguments.global.output;
    let answer = runtime.block_on(command::run(arguments))?;
    answer.print(format)?;
    if let Some(error) = &answer.failure {
        report(error);
    }
    Ok(answer.exit)
}

/// Whoever reads our output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Says in one line what went wrong, and in a second one what to do.
fn report(error: &anyhow::Error) {
    anstream::eprintln!("\u{1b}[1;31merror:\u{1b}[0m {}", escape(&in_one_line(error)));
    if let Some(hint) = exit::hint(error) {
        anstream::eprintln!("\u{1b}[1mhint:\u{1b}[0m {hint}");
    }
}

/// The error and what it came from, each once: many errors say already what they came from.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(|cause| cause.to_string().lines().collect::<Vec<_>>().join(" ")) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_told_once() {
        let inner = io::Error::other("disk full");
        let error = Err::<(), _>(inner).context("cannot write: disk full").context("line 3").unwrap_err();
        assert_eq!(in_one_line(&error), "line 3: cannot write: disk full");
    }
}
