//! `proofline keys`

use std::path::Path;

use anyhow::Result;
use ed25519_dalek::SigningKey;
use proofline_client::{generate_key, read_key, write_key};
use serde_json::json;

use crate::{
    arguments::KeysCommand,
    output::{Answer, facts},
};

pub(super) fn run(command: KeysCommand) -> Result<Answer> {
    match command {
        KeysCommand::Generate { file } => {
            let key = generate_key()?;
            write_key(&file, &key)?;
            Ok(show(&file, &key))
        }
        KeysCommand::Show { file } => Ok(show(&file, &read_key(&file)?)),
    }
}

fn show(file: &Path, key: &SigningKey) -> Answer {
    let public_key = hex::encode(key.verifying_key().as_bytes());
    let text = facts([("file", file.display().to_string()), ("public key", public_key.clone())]);
    Answer::new("proofline.key/v1", json!({ "file": file.display().to_string(), "public_key": public_key }), text)
}
