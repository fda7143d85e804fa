//! `proofline-verify`: checks files of evidence against a policy file. No network, no clock, no trust in the ledger.

mod arguments;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use proofline_verifier::{
    ConsistencyProof, FileReports, HeldCheckpoint, HtmlReport, Integrity, KeyError, Policy, PolicyError, PolicyLineError, Report, escape,
    escape_json, verify, verify_cose_receipt,
};

use crate::arguments::{Arguments, OutputFormat};

const USAGE: u8 = 1;
/// How a report begins.
const PAGE_BEGIN: &[u8] = b"<!DOCTYPE html>";
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
    if let Some(path) = &arguments.report {
        check_replaceable(path)?;
    }
    let entry = arguments.entry.as_deref().map(|path| read(path).with_context(|| path.display().to_string())).transpose()?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    let reports = print(&mut output, arguments, &policy, &Beside { entry, held }).and_then(|reports| output.flush().map(|()| reports));
    Ok(reports.context("cannot write")?.integrity())
}

/// What the reader gives beside the files.
struct Beside {
    entry: Option<Vec<u8>>,
    held: Option<HeldCheckpoint>,
}

/// Verifies file after file. People see each report as it comes, and the count behind them; scripts see one document.
fn print(output: &mut impl io::Write, arguments: &Arguments, policy: &Policy, beside: &Beside) -> io::Result<FileReports> {
    let held = beside.held.as_ref();
    let mut reports = FileReports::default();
    let mut page = HtmlReport::default();
    for file in &arguments.files {
        let name = file.to_string_lossy().into_owned();
        let report = match (&beside.entry, read(file)) {
            (Some(entry), Ok(file)) => verify_cose_receipt(&file, Some(entry), policy, held),
            (None, Ok(file)) if arguments.report.is_some() => page.verify(&name, &file, policy, held),
            (None, Ok(file)) => verify(&file, policy, held),
            (_, Err(error)) => Report::unreadable(error.to_string()),
        };
        let report = reports.add(name, report);
        if arguments.output == OutputFormat::Human {
            write!(output, "{report}")?;
        }
    }
    match arguments.output {
        OutputFormat::Human => write!(output, "{}", reports.summary())?,
        OutputFormat::Json => writeln!(output, "{}", escape_json(&serde_json::to_string_pretty(&reports.to_json())?))?,
    }
    if let Some(path) = &arguments.report {
        write_page(path, &page)?;
    }
    Ok(reports)
}

/// Refuses to put a report in the place of anything but a report: it may be the evidence.
fn check_replaceable(path: &Path) -> anyhow::Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let mut begin = Vec::new();
    File::open(path)?.take(PAGE_BEGIN.len() as u64).read_to_end(&mut begin)?;
    anyhow::ensure!(begin.is_empty() || begin == PAGE_BEGIN, "{} is there already and is no report: it is not replaced", path.display());
    Ok(())
}

/// Writes the page for people; none of files that are not verified.
fn write_page(path: &Path, page: &HtmlReport) -> io::Result<()> {
    match page.render() {
        Some(text) => std::fs::write(path, text),
        None => {
            eprintln!("proofline-verify: no report is written: the integrity of no file is verified");
            Ok(())
        }
    }
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

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
