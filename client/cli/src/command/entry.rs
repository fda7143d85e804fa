//! `proofline entry`

use anyhow::Result;
use proofline_verifier::{EntryIndex, LogHash, TreeHash as _, VerifiedCheckpoint, escape};

use crate::{
    arguments::EntryArguments,
    connection::Connection,
    describe::{Described, ENTRY_SCHEMA},
    output::{Answer, facts},
};

pub(super) async fn run(arguments: &EntryArguments, connection: &Connection) -> Result<Answer> {
    let proven = connection.client.proven_entry(&connection.policy()?, EntryIndex(arguments.index)).await?;
    connection.compare(&proven.note).await?;
    let bytes = proven.exact;
    let entry = Described::new(&bytes)?;
    let mut json = entry.json()?;
    let mut text = facts([
        ("entry", entry.index.to_string()),
        ("committed", entry.time()),
        ("what", entry.kind().to_owned()),
        ("session", entry.place()),
        ("who", entry.actor()),
        ("decision", entry.decision()),
        ("leaf hash", LogHash::leaf(&bytes).to_string()),
        ("proven", format!("in the tree of {} entries, cosigned by {}", proven.checkpoint.size, cosigners(&proven.checkpoint))),
    ]);
    text.push_str(&format!("\n{}\n", printable(&json)?));
    if let Some(members) = json.as_object_mut() {
        members.insert("checkpoint_size".to_owned(), proven.checkpoint.size.to_string().into());
        members.insert("leaf_hash".to_owned(), LogHash::leaf(&bytes).to_string().into());
    }
    Ok(Answer::new(ENTRY_SCHEMA, json, text))
}

/// Who vouches for a checkpoint.
pub(super) fn cosigners(of: &VerifiedCheckpoint) -> String {
    of.cosigners.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// The content, line by line, with everything escaped that a terminal would act on.
fn printable(json: &serde_json::Value) -> Result<String> {
    let text = serde_json::to_string_pretty(json)?;
    Ok(text.lines().map(escape).collect::<Vec<_>>().join("\n"))
}
