//! `proofline verify`: the engine of `proofline-verify`, its checks and its exit codes.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use proofline_client::Profile;
use proofline_verifier::{
    ConsistencyProof, FileReports, HeldCheckpoint, Integrity, Policy, Report, VERIFY_SCHEMA, verify, verify_cose_receipt,
};

use crate::{
    arguments::{Global, VerifyArguments},
    exit::{Exit, WrongArguments},
    output::Answer,
};

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Checks every file. Nothing but files is read: no network, no clock.
pub(super) fn run(arguments: &VerifyArguments, global: &Global) -> Result<Answer> {
    let policy = policy(arguments.policy.as_deref(), global)?;
    let held = held(arguments)?;
    let entry = arguments.entry.as_ref().map(|path| read(path).with_context(|| path.display().to_string())).transpose()?;
    let mut reports = FileReports::default();
    for file in &arguments.files {
        let report = match read(file) {
            Ok(bytes) if entry.is_some() => verify_cose_receipt(&bytes, entry.as_deref(), &policy, held.as_ref()),
            Ok(bytes) => verify(&bytes, &policy, held.as_ref()),
            Err(error) => Report::unreadable(error.to_string()),
        };
        reports.add(file.to_string_lossy().into_owned(), report);
    }
    let exit = exit_of(reports.integrity());
    Ok(Answer::new(VERIFY_SCHEMA, reports.to_json(), reports.to_string()).ending(exit))
}

/// Reads the policy that was given, else the profile's.
pub(super) fn policy(given: Option<&Path>, global: &Global) -> Result<Policy> {
    let path = policy_path(given, global)?;
    Policy::parse(&read(&path).with_context(|| path.display().to_string())?).with_context(|| path.display().to_string())
}

fn policy_path(given: Option<&Path>, global: &Global) -> Result<PathBuf> {
    match (given, &global.profile) {
        (Some(policy), _) => Ok(policy.to_owned()),
        (None, Some(profile)) => Ok(Profile::load(profile)?.policy),
        (None, None) => Err(WrongArguments("no policy: give --policy FILE, or a profile").into()),
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
