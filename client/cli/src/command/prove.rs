//! `proofline prove`

use std::path::Path;

use anyhow::{Context as _, Result};
use proofline_client::{EvidenceExportError, Existing, SessionName, write_file};
use proofline_verifier::{EntryIndex, FileReport, HeldCheckpoint, SessionPosition, verify, verify_cose_receipt};
use prost::Message as _;
use serde_json::json;

use super::verify::exit_of;
use crate::{arguments::ProveArguments, connection::Connection, exit::Exit, output::Answer};

pub(super) async fn run(arguments: ProveArguments, connection: &Connection) -> Result<Answer> {
    let policy = connection.policy()?;
    let existing = if arguments.force { Existing::Replaced } else { Existing::Kept };
    if let Some(index) = arguments.receipt {
        return receipt(EntryIndex(index), &arguments.out, existing, connection).await;
    }
    check_free([&*arguments.out], existing)?;
    let Fetched { file, checkpoint } = fetch(&arguments, connection).await?;
    // What was fetched is checked here too: a file that does not verify is evidence against the ledger, and is written.
    let name = arguments.out.display().to_string();
    let checked = FileReport { file: name.clone(), report: verify(&file, &policy, None) };
    let held = compared(&checked, connection.compare(&checkpoint)).await?;
    write_file(&arguments.out, &file, existing).with_context(|| arguments.out.display().to_string())?;
    let text = format!("{name}: {} bytes\n{}", file.len(), checked.report);
    let json = json!({ "file": name, "bytes": file.len().to_string(), "report": checked.to_json(), "held": held.in_json() });
    Ok(held.end(Answer::new("proofline.prove/v1", json, text), &checked))
}

/// How a checkpoint stands to the one that is held.
pub(super) enum Held {
    /// It is of the same log.
    Same,
    /// It contradicts it: what it proves is evidence of that, and is kept.
    Contradicted(anyhow::Error),
    /// Nothing is compared where a proof is wrong in itself.
    NotCompared,
}

impl Held {
    pub(super) fn in_json(&self) -> &'static str {
        match self {
            Self::Same => "same log",
            Self::Contradicted(_) => "contradicted",
            Self::NotCompared => "not compared",
        }
    }

    pub(super) fn end(self, answer: Answer, checked: &FileReport) -> Answer {
        match self {
            Self::Contradicted(error) => answer.failing(error),
            Self::Same | Self::NotCompared => answer.ending(exit_of(checked.report.integrity())),
        }
    }
}

/// Has the checkpoint of what verified compared with the one that is held.
///
/// # Errors
/// Where that cannot be decided.
pub(super) async fn compared(checked: &FileReport, comparing: impl Future<Output = Result<()>>) -> Result<Held> {
    if exit_of(checked.report.integrity()) != Exit::Done {
        return Ok(Held::NotCompared);
    }
    match comparing.await {
        Ok(()) => Ok(Held::Same),
        Err(error) if Exit::of(&error) == Exit::ProvenWrong => Ok(Held::Contradicted(error)),
        Err(error) => Err(error),
    }
}

/// Evidence that somebody may have handed on is not replaced by what the ledger says now, unless that is wished.
fn check_free<const N: usize>(files: [&Path; N], existing: Existing) -> Result<()> {
    match files.into_iter().find(|file| existing == Existing::Kept && file.is_file()) {
        Some(file) => Err(EvidenceExportError::Exists(file.to_owned()).into()),
        None => Ok(()),
    }
}

/// Writes a receipt, and beside it what it does not hold.
async fn receipt(index: EntryIndex, out: &Path, existing: Existing, connection: &Connection) -> Result<Answer> {
    let (entry, checkpoint) = (out.with_extension("entry"), out.with_extension("checkpoint"));
    check_free([out, &entry, &checkpoint], existing)?;
    let fetched = connection.client.receipt(index).await?;
    let note = HeldCheckpoint { checkpoint: fetched.checkpoint.clone(), proof: None };
    let report = verify_cose_receipt(&fetched.receipt, Some(&fetched.entry), &connection.policy()?, Some(&note));
    let checked = FileReport { file: out.display().to_string(), report };
    let held = compared(&checked, connection.compare(&fetched.checkpoint)).await?;
    let files = [(out, &fetched.receipt), (&*entry, &fetched.entry), (&*checkpoint, &fetched.checkpoint)];
    for (path, bytes) in files {
        write_file(path, bytes, existing).with_context(|| path.display().to_string())?;
    }
    let text =
        format!("{}\n{}\n{}: {} bytes\n{}", entry.display(), checkpoint.display(), checked.file, fetched.receipt.len(), checked.report);
    let json = json!({
        "file": checked.file,
        "bytes": fetched.receipt.len().to_string(),
        "entry": entry.display().to_string(),
        "checkpoint": checkpoint.display().to_string(),
        "report": checked.to_json(),
        "held": held.in_json(),
    });
    Ok(held.end(Answer::new("proofline.prove/v1", json, text), &checked))
}

/// A file, and the checkpoint in it.
struct Fetched {
    file: Vec<u8>,
    checkpoint: Vec<u8>,
}

async fn fetch(arguments: &ProveArguments, connection: &Connection) -> Result<Fetched> {
    let client = &connection.client;
    if let Some(index) = arguments.index {
        let proof = client.tlog_proof(EntryIndex(index)).await?;
        return Ok(Fetched { file: proof.encode().into_bytes(), checkpoint: proof.checkpoint.into_bytes() });
    }
    let tenant_id = arguments.tenant.clone().context("--session needs --tenant")?;
    let session_id = arguments.session.clone().context("--index or --session is needed")?;
    let session = SessionName { tenant_id, session_id };
    Ok(match arguments.position {
        Some(position) => {
            let proof = client.session_proof(&session, SessionPosition(position)).await?;
            Fetched { file: proof.encode_to_vec(), checkpoint: proof.checkpoint }
        }
        None => {
            let evidence = client.session_evidence(&session).await?;
            Fetched { file: evidence.encode_to_vec(), checkpoint: evidence.checkpoint }
        }
    })
}
