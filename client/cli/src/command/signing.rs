//! Commands that operators sign: made, signed, and submitted or written down for the next operator.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use proofline_client::{Signatory, read_key, sign_command};
use proofline_proto::v1::{Command, SignedCommand, command::Action};
use prost::Message as _;
use serde_json::json;

use crate::{
    arguments::{PublicKey, SignerFile, Signing},
    command_file::CommandFile,
    connection::Connection,
    output::Answer,
};

/// Long enough for every retry, too short to be of use to somebody who finds it.
const LIFE: Duration = Duration::from_secs(300);
/// The ledger takes no command that lives longer than 24 hours by its own time.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

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

/// Submits a signed command. Behind a seal comes evidence: there the answer waits until a checkpoint covers the entry.
pub(super) async fn send(command: SignedCommand, connection: &Connection) -> Result<Answer> {
    let is_seal = matches!(Command::decode(command.command.as_slice())?.action, Some(Action::SealSession(_)));
    let index = connection.client.submit(command).await?;
    let mut text = format!("committed as entry {index}\n");
    if !is_seal {
        return Ok(Answer::new("proofline.command/v1", json!({ "index": index.to_string() }), text));
    }
    // The seal stands in any case: not being covered yet is no failure.
    let is_covered = connection.client.await_checkpoint(index).await.is_ok();
    text += if is_covered { "a published checkpoint covers it\n" } else { "no published checkpoint covers it yet\n" };
    Ok(Answer::new("proofline.command/v1", json!({ "index": index.to_string(), "covered": is_covered }), text))
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
            (None, None) => anyhow::bail!("give --public-key or --key"),
        }
    }
}
