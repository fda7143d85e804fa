//! Commands that operators sign: made, signed, submitted.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use proofline_client::{Signatory, read_key, sign_command};
use proofline_proto::v1::command::Action;
use serde_json::json;

use crate::{
    arguments::{PublicKey, SignerFile, Signing},
    connection::Connection,
    output::Answer,
};

/// Long enough for every retry, too short to be of use to somebody who finds it.
const LIFE: Duration = Duration::from_secs(300);

/// Signs an action with every signer, submits it, and answers with the entry that it became.
pub(super) async fn submit(action: Action, signing: &Signing, connection: &Connection) -> Result<Answer> {
    let signatory =
        |of: &SignerFile| -> Result<Signatory> { Ok(Signatory { operator_id: of.operator_id.clone(), key: read_key(&of.file)? }) };
    let signatories = signing.signers.iter().map(signatory).collect::<Result<Vec<_>>>()?;
    let command = sign_command(&connection.profile.origin, action, SystemTime::now() + LIFE, &signatories)?;
    let index = connection.client.submit(command).await?;
    let text = format!("committed as entry {index}\n");
    Ok(Answer::new("proofline.command/v1", json!({ "index": index.to_string() }), text))
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
