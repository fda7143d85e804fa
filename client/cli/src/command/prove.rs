//! `proofline prove`

use std::fs;

use anyhow::{Context as _, Result};
use proofline_client::SessionName;
use proofline_verifier::{EntryIndex, FileReport, SessionPosition, verify};
use prost::Message as _;
use serde_json::json;

use super::verify::exit_of;
use crate::{arguments::ProveArguments, connection::Connection, output::Answer};

pub(super) async fn run(arguments: ProveArguments, connection: &Connection) -> Result<Answer> {
    let policy = connection.policy()?;
    let file = fetch(&arguments, connection).await?;
    // What was fetched is checked here too: a file that does not verify is evidence against the ledger, and is written.
    let name = arguments.out.display().to_string();
    let checked = FileReport { file: name.clone(), report: verify(&file, &policy, None) };
    fs::write(&arguments.out, &file).with_context(|| arguments.out.display().to_string())?;
    let text = format!("{name}: {} bytes\n{}", file.len(), checked.report);
    let json = json!({ "file": name, "bytes": file.len().to_string(), "report": checked.to_json() });
    Ok(Answer::new("proofline.prove/v1", json, text).ending(exit_of(checked.report.integrity())))
}

async fn fetch(arguments: &ProveArguments, connection: &Connection) -> Result<Vec<u8>> {
    let client = &connection.client;
    if let Some(index) = arguments.index {
        return Ok(client.tlog_proof(EntryIndex(index)).await?.encode().into_bytes());
    }
    let tenant_id = arguments.tenant.clone().context("--session needs --tenant")?;
    let session_id = arguments.session.clone().context("--index or --session is needed")?;
    let session = SessionName { tenant_id, session_id };
    Ok(match arguments.position {
        Some(position) => client.session_proof(&session, SessionPosition(position)).await?.encode_to_vec(),
        None => client.session_evidence(&session).await?.encode_to_vec(),
    })
}
