//! `proofline archive` and `proofline archive-check`: the log as tlog-tiles in a directory.

use anyhow::Result;
use proofline_client::{ArchiveFinding, TileArchive};
use serde_json::json;

use super::verify;
use crate::{
    arguments::{ArchiveArguments, ArchiveCheckArguments, Global},
    connection::{Checked, Connection},
    exit::Exit,
    output::{Answer, facts},
    progress,
};

const NOT_IN_IT: &str = "signatures of collectors over batches, facts of decisions, payloads, the policy file";

pub(super) async fn run(arguments: &ArchiveArguments, connection: &Connection) -> Result<Answer> {
    let Checked { note, checkpoint, .. } = connection.checked_checkpoint().await?;
    let bar = progress::bar(checkpoint.size.0, "entries");
    let archive = TileArchive::at(&arguments.directory);
    let archived = archive.extend(&connection.client, &checkpoint, &note, |entries| bar.inc(entries)).await;
    bar.finish_and_clear();
    let archived = archived?;
    let directory = arguments.directory.display().to_string();
    let text = facts([
        ("archive", directory.clone()),
        ("origin", checkpoint.origin.to_string()),
        ("entries", checkpoint.size.to_string()),
        ("root", checkpoint.root.to_string()),
        ("fetched", archived.fetched.to_string()),
        ("kept", archived.kept.to_string()),
        ("not in it", NOT_IN_IT.to_owned()),
    ]);
    let json = json!({
        "directory": directory,
        "origin": checkpoint.origin.as_str(),
        "entries": checkpoint.size.to_string(),
        "root": checkpoint.root.to_string(),
        "fetched": archived.fetched.to_string(),
        "kept": archived.kept.to_string(),
    });
    Ok(Answer::new("proofline.archive/v1", json, text))
}

/// Nothing but files is read.
pub(super) fn check(arguments: &ArchiveCheckArguments, global: &Global) -> Result<Answer> {
    let policy = verify::policy(arguments.policy.as_deref(), global)?;
    let archive = TileArchive::at(&arguments.directory);
    let checkpoint = policy.verify_checkpoint(&archive.checkpoint()?)?;
    let bar = progress::bar(checkpoint.size.0, "entries");
    let finding = archive.check(&checkpoint, |entries| bar.inc(entries));
    bar.finish_and_clear();
    let (verdict, file, exit) = match finding? {
        ArchiveFinding::Whole { files } => (format!("VERIFIED: {files} files are what the checkpoint says"), None, Exit::Done),
        ArchiveFinding::Altered(file) => (format!("PROVEN WRONG: {file} is not what the checkpoint says"), Some(file), Exit::ProvenWrong),
        ArchiveFinding::OtherRoot(root) => {
            (format!("PROVEN WRONG: entries and tiles lead to root {root}"), Some("checkpoint".to_owned()), Exit::ProvenWrong)
        }
        ArchiveFinding::Missing(file) => (format!("COULD NOT BE DECIDED: {file} is missing"), Some(file), Exit::Undecided),
        ArchiveFinding::Superfluous(file) => {
            (format!("COULD NOT BE DECIDED: {file} belongs to no archive of this size"), Some(file), Exit::Undecided)
        }
    };
    let text = facts([
        ("verdict", verdict.clone()),
        ("origin", checkpoint.origin.to_string()),
        ("entries", checkpoint.size.to_string()),
        ("root", checkpoint.root.to_string()),
        ("cosigned by", checkpoint.cosigners.len().to_string()),
    ]);
    let json = json!({
        "exit_code": exit.number(),
        "verdict": verdict,
        "file": file,
        "origin": checkpoint.origin.as_str(),
        "entries": checkpoint.size.to_string(),
        "root": checkpoint.root.to_string(),
    });
    Ok(Answer::new("proofline.archive-check/v1", json, text).ending(exit))
}
