//! Commands that operators sign: made, signed, and submitted or written down for the next operator.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use proofline_client::{Client, Committed, ProofError, ProvenEntry, RetryPolicy, Signatory, read_key, sign_command};
use proofline_proto::v1::{SignedCommand, command::Action};
use serde_json::json;

use super::entry::cosigners;
use crate::{
    arguments::{PublicKey, SignerFile, Signing},
    command_file::CommandFile,
    connection::Connection,
    exit::{Exit, WrongArguments},
    output::Answer,
};

/// Long enough for every retry, too short to be of use to somebody who finds it.
const LIFE: Duration = Duration::from_secs(300);
/// The ledger takes no command that lives longer than 24 hours by its own time.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// How long another node is asked, when the first one's acknowledgement could not be proven.
const OTHER_WITHIN: Duration = Duration::from_secs(3);

/// Signs an action with every signer. Submits it and answers with the entry that it became, or writes it to a file.
pub(super) async fn submit(action: Action, signing: &Signing, connection: &Connection) -> Result<Answer> {
    let signatories = signing.signers.iter().map(SignerFile::load).collect::<Result<Vec<_>>>()?;
    let life = match signing.sign_to {
        Some(_) => Duration::from_secs(signing.valid_for * 3_600) - CLOCKS_DIFFER,
        None => LIFE,
    };
    let command = sign_command(&connection.profile.origin, action, SystemTime::now() + life, &signatories)?;
    match &signing.sign_to {
        Some(file) => write(&CommandFile::new(command)?, file),
        None => send(command, connection).await,
    }
}

/// Submits a signed command, and has it proven that it is in the log: an acknowledgement alone is one node's word. Where it
/// cannot be proven, the same command goes through every other node, which does no harm where it was taken.
pub(super) async fn send(command: SignedCommand, connection: &Connection) -> Result<Answer> {
    let committed = connection.client.submit(command.clone()).await?;
    let node = connection.client.link().endpoint().to_owned();
    let error = match prove(&connection.client, &command, &committed, connection).await {
        Ok(proven) => return Ok(answer(&committed, Found::Proven(&proven), String::new())),
        Err(error) => error,
    };
    let doubt = format!("{node} acknowledged it as entry {}, which is not proven: {error:#}\n", committed.index);
    let found = through_others(&command, connection).await;
    let lied = Exit::of(&error) == Exit::ProvenWrong || found.as_ref().is_some_and(|(other, _)| other.index != committed.index);
    let exit = match (lied, &found) {
        (true, _) => Exit::ProvenWrong,
        (false, Some(_)) => Exit::Done,
        (false, None) => Exit::Undecided,
    };
    let is_unread = matches!(error.downcast_ref(), Some(ProofError::NotAllowed { .. }));
    Ok(match found {
        Some((committed, proven)) => answer(&committed, Found::Proven(&proven), doubt),
        None if is_unread => answer(&committed, Found::NotAllowed, doubt),
        None => answer(&committed, Found::Nowhere, doubt),
    }
    .ending(exit))
}

/// What came of asking for the proof of a command.
#[derive(Clone, Copy)]
enum Found<'a> {
    Proven(&'a ProvenEntry),
    /// The caller may not read entries: nothing speaks against whoever acknowledged it.
    NotAllowed,
    /// No node proves it.
    Nowhere,
}

/// Proves that the command is in the log of the policy, and that this log continues the one that is known.
async fn prove(client: &Client, command: &SignedCommand, committed: &Committed, connection: &Connection) -> Result<ProvenEntry> {
    let proven = client.prove_command(&connection.policy()?, command, committed).await?;
    connection.compare(&proven.note).await?;
    Ok(proven)
}

/// Looks for a node that takes the command, or has it, and proves it.
async fn through_others(command: &SignedCommand, connection: &Connection) -> Option<(Committed, ProvenEntry)> {
    let retry = RetryPolicy { within: OTHER_WITHIN.min(connection.client.retry().within), ..connection.client.retry() };
    let first = connection.client.link().endpoint().to_owned();
    for node in (0..connection.client.links().len()).filter_map(|place| connection.client.pinned(place)) {
        if node.link().endpoint() == first {
            continue;
        }
        let node = node.with_retry(retry);
        let Ok(committed) = node.submit(command.clone()).await else { continue };
        if let Ok(proven) = prove(&node, command, &committed, connection).await {
            return Some((committed, proven));
        }
    }
    None
}

/// Says what became of a command, after what was in doubt about it.
fn answer(committed: &Committed, found: Found<'_>, doubt: String) -> Answer {
    let index = committed.index;
    let text = match found {
        Found::Proven(proven) => {
            let (size, by) = (proven.checkpoint.size, cosigners(&proven.checkpoint));
            format!("{doubt}committed as entry {index}, proven in the tree of {size} entries, cosigned by {by}\n")
        }
        Found::NotAllowed => format!(
            "{doubt}NOT CHECKED: it may well be in the log, and nothing speaks against the node. Have this certificate granted AUDITOR of \
             '*', or ask somebody who has it: `proofline entry {index}`\n"
        ),
        Found::Nowhere => {
            format!("{doubt}NOT PROVEN: do not rely on it. No other node proves it either; `proofline status` compares them\n")
        }
    };
    let proven = match found {
        Found::Proven(proven) => Some(proven),
        Found::NotAllowed | Found::Nowhere => None,
    };
    let json = json!({
        "index": index.to_string(),
        "proven": proven.is_some(),
        "covered": proven.is_some(),
        "checkpoint_size": proven.map(|proven| proven.checkpoint.size.to_string()),
    });
    Answer::new("proofline.command/v1", json, text)
}

fn write(command: &CommandFile, file: &Path) -> Result<Answer> {
    command.create(file)?;
    Ok(written(command, file))
}

/// Says what is in a file now, and what is still to be done.
pub(super) fn written(command: &CommandFile, file: &Path) -> Answer {
    let next = if command.is_signed_by_enough() { "submit" } else { "sign" };
    let text = format!("{}\nnext: proofline command {next} {}\n", command.text(), file.display());
    Answer::new(crate::command_file::SCHEMA, command.json(), text)
}

impl SignerFile {
    pub(super) fn load(&self) -> Result<Signatory> {
        Ok(Signatory { operator_id: self.operator_id.clone(), key: read_key(&self.file)? })
    }
}

impl PublicKey {
    /// Returns the key that was given, one way or the other.
    pub(super) fn load(&self) -> Result<Vec<u8>> {
        match (&self.public_key, &self.key) {
            (Some(key), _) => Ok(key.to_vec()),
            (None, Some(file)) => Ok(read_key(file)?.verifying_key().as_bytes().to_vec()),
            (None, None) => Err(WrongArguments("give --public-key or --key").into()),
        }
    }
}
