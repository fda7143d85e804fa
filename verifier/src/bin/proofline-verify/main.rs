//! `proofline-verify`: checks files of evidence against a policy file. No network, no clock, no trust in the ledger.

mod arguments;
mod json;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use proofline_verifier::{
    ConsistencyProof, HeldCheckpoint, Integrity, KeyError, Policy, PolicyError, PolicyLineError, Report, escape, verify,
};

use crate::arguments::{Arguments, OutputFormat};

const USAGE: u8 = 1;
/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_answer = !error.use_stderr();
            // Nowhere is left to report that the message itself could not be printed.
            let _ = error.print();
            return ExitCode::from(if is_answer { 0 } else { USAGE });
        }
    };
    match run(&arguments) {
        Ok(integrity) => ExitCode::from(integrity.exit_code()),
        Err(error) => {
            eprintln!("proofline-verify: {}", escape(&format!("{error:#}")));
            ExitCode::from(exit_code_of(&error))
        }
    }
}

/// A policy that needs a newer verifier leaves the evidence undecided; everything else wrong with the arguments is usage.
fn exit_code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<PolicyError>() {
        Some(PolicyError::Line { source: PolicyLineError::Key(KeyError::UnsupportedType(_)), .. }) => Integrity::Undecided.exit_code(),
        Some(_) | None => USAGE,
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<Integrity> {
    let policy = read(&arguments.policy).with_context(|| format!("policy {}", arguments.policy.display()))?;
    let policy = Policy::parse(&policy).with_context(|| format!("policy {}", arguments.policy.display()))?;
    let held = held_checkpoint(arguments)?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    let verified = arguments.files.iter().map(|file| (file, verify_file(file, &policy, held.as_ref())));
    let written = match arguments.output {
        OutputFormat::Human => print_human(&mut output, verified),
        OutputFormat::Json => json::print(&mut output, verified),
    };
    let written = written.and_then(|worst| output.flush().map(|()| worst));
    written.context("standard output")
}

fn held_checkpoint(arguments: &Arguments) -> anyhow::Result<Option<HeldCheckpoint>> {
    let Some(path) = &arguments.consistent_with else { return Ok(None) };
    let checkpoint = read(path).with_context(|| path.display().to_string())?;
    let proof = match &arguments.consistency_proof {
        Some(path) => {
            let text = read(path).with_context(|| path.display().to_string())?;
            Some(ConsistencyProof::parse(&text).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    Ok(Some(HeldCheckpoint { checkpoint, proof }))
}

fn verify_file(path: &Path, policy: &Policy, held: Option<&HeldCheckpoint>) -> Report {
    match read(path) {
        Ok(file) => verify(&file, policy, held),
        Err(error) => Report::unreadable(error.to_string()),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Prints each report as it comes, and a count when there are several. Returns the worst verdict.
fn print_human<'a>(output: &mut impl io::Write, reports: impl Iterator<Item = (&'a PathBuf, Report)>) -> io::Result<Integrity> {
    let mut found = Vec::new();
    for (file, report) in reports {
        writeln!(output, "{}: {report}", escape(&file.to_string_lossy()))?;
        found.push(report.integrity());
    }
    if found.len() > 1 {
        let count = |verdict| found.iter().filter(|it| **it == verdict).count();
        let (verified, wrong, undecided) = (count(Integrity::Verified), count(Integrity::ProvenWrong), count(Integrity::Undecided));
        writeln!(output, "{} files: {verified} verified, {wrong} proven wrong, {undecided} could not be decided", found.len())?;
    }
    Ok(found.into_iter().max().unwrap_or(Integrity::Undecided))
}
