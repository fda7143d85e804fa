//! `proofline verify`: the engine of `proofline-verify`, its checks and its exit codes.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use proofline_client::Profile;
use proofline_verifier::{
    Check, Completeness, ConsistencyProof, EvidenceKind, Fact, HeldCheckpoint, Integrity, NotProven, Outcome, Policy, Report, escape,
    verify,
};
use serde_json::{Value, json};

use crate::{
    arguments::{Global, VerifyArguments},
    exit::Exit,
    output::Answer,
};

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Checks every file. Nothing but files is read: no network, no clock.
pub(super) fn run(arguments: &VerifyArguments, global: &Global) -> Result<Answer> {
    let path = policy_path(arguments, global)?;
    let policy = Policy::parse(&read(&path).with_context(|| path.display().to_string())?).with_context(|| path.display().to_string())?;
    let held = held(arguments)?;
    let mut text = String::new();
    let mut files = Vec::new();
    let mut worst = Integrity::Verified;
    for file in &arguments.files {
        let report = match read(file) {
            Ok(bytes) => verify(&bytes, &policy, held.as_ref()),
            Err(error) => Report::unreadable(error.to_string()),
        };
        let name = file.to_string_lossy();
        worst = worst.max(report.integrity());
        text.push_str(&format!("{}: {report}", escape(&name)));
        files.push(describe(&name, &report));
    }
    let json = json!({ "exit_code": worst.exit_code(), "files": files });
    Ok(Answer::new("proofline.verify/v1", json, text).ending(exit_of(worst)))
}

fn policy_path(arguments: &VerifyArguments, global: &Global) -> Result<PathBuf> {
    match (&arguments.policy, &global.profile) {
        (Some(policy), _) => Ok(policy.clone()),
        (None, Some(profile)) => Ok(Profile::load(profile)?.policy),
        (None, None) => anyhow::bail!("no policy: give --policy FILE, or a profile"),
    }
}

fn held(arguments: &VerifyArguments) -> Result<Option<HeldCheckpoint>> {
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
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

pub(super) fn exit_of(integrity: Integrity) -> Exit {
    match integrity {
        Integrity::Verified => Exit::Done,
        Integrity::ProvenWrong => Exit::ProvenWrong,
        Integrity::Undecided => Exit::Undecided,
    }
}

/// One file's report in the form that docs/FORMATS.md gives it.
pub(super) fn describe(file: &str, of: &Report) -> Value {
    let check = |it: &Check| json!({ "name": it.name.as_str(), "outcome": outcome(it.outcome), "detail": it.detail });
    let fact = |it: &Fact| json!({ "name": it.name, "value": it.value });
    let open = |it: &NotProven| json!({ "name": it.as_str(), "sentence": it.sentence() });
    json!({
        "file": file,
        "kind": of.kind.map(EvidenceKind::as_str),
        "exit_code": of.integrity().exit_code(),
        "integrity": integrity(of.integrity()),
        "completeness": completeness(of.completeness),
        "checks": of.checks.iter().map(check).collect::<Vec<_>>(),
        "facts": of.facts.iter().map(fact).collect::<Vec<_>>(),
        "not_proven": of.not_proven.iter().map(open).collect::<Vec<_>>(),
        "warnings": of.warnings,
    })
}

fn outcome(of: Outcome) -> &'static str {
    match of {
        Outcome::Passed => "pass",
        Outcome::Failed => "fail",
        Outcome::NotChecked => "not_checked",
    }
}

fn integrity(of: Integrity) -> &'static str {
    match of {
        Integrity::Verified => "verified",
        Integrity::ProvenWrong => "proven_wrong",
        Integrity::Undecided => "undecided",
    }
}

fn completeness(of: Completeness) -> &'static str {
    match of {
        Completeness::NotClaimed => "not_claimed",
        Completeness::Unknown => "unknown",
        Completeness::OpenEnded => "open_ended",
        Completeness::Complete => "complete",
    }
}
