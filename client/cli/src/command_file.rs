//! A command on its way from one operator to the next: readable, and worth only what its signed bytes say.
//!
//! Always true: what is shown is decoded from the bytes that are signed, every signature in it verifies, and the description
//! for people in the file is the one that these bytes give. It says nothing of who is an operator: the ledger does.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use proofline_client::{Existing, Signatory, write_file};
use proofline_proto::v1::{self, OperatorRole, command::Action};
use proofline_verifier::{command_authority, decode_canonical, escape_json, verify_command_signature};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{describe, form, output::facts};

/// Name and version of the file's form.
pub(crate) const SCHEMA: &str = "proofline.signed-command/v1";
/// A command has at most 16 KiB; twice that in hex, and once more in words.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// A command that at least one operator signed.
#[derive(Debug)]
pub(crate) struct CommandFile {
    signed: v1::SignedCommand,
    action: Action,
}

impl CommandFile {
    /// Takes a command, and checks its signatures.
    pub(crate) fn new(signed: v1::SignedCommand) -> Result<Self> {
        let command: v1::Command = decode_canonical("Command", &signed.command)?;
        let action = command.action.context("the command names no action of this version")?;
        signed.signatures.iter().try_for_each(|signature| verify_command_signature(&signed, signature))?;
        Ok(Self { signed, action })
    }

    /// Reads a file that [`Self::create`] or [`Self::replace`] wrote.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let length = fs::metadata(path).with_context(|| path.display().to_string())?.len();
        ensure!(length <= FILE_BYTES_MAX, "{} is too long to be a command", path.display());
        Self::parse(&fs::read(path)?).with_context(|| path.display().to_string())
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Value = serde_json::from_slice(bytes).context("this is no command file")?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        ensure!(text("schema") == Some(SCHEMA), "this is no command file of the form {SCHEMA}");
        let signed = text("signed_command").context("signed_command is missing")?;
        let signed = hex::decode(signed).context("signed_command is no hex")?;
        let command = Self::new(decode_canonical("SignedCommand", &signed)?)?;
        // Somebody may have read the file and not us: nothing in it may say otherwise.
        if command.document() != document {
            bail!("the description in the file is not that of the command in it");
        }
        Ok(command)
    }

    /// Writes a new file. On return: it is on disk; one that exists is never overwritten.
    pub(crate) fn create(&self, path: &Path) -> Result<()> {
        self.write(path, Existing::Kept)
    }

    /// Puts this in the place of the file, in one step.
    pub(crate) fn replace(&self, path: &Path) -> Result<()> {
        self.write(path, Existing::Replaced)
    }

    fn write(&self, path: &Path, existing: Existing) -> Result<()> {
        let mut document = serde_json::to_vec_pretty(&self.document())?;
        document.push(b'\n');
        write_file(path, &document, existing).with_context(|| path.display().to_string())
    }

    /// Adds a signature.
    pub(crate) fn sign(&mut self, signatory: &Signatory) -> Result<()> {
        Ok(signatory.sign(&mut self.signed)?)
    }

    pub(crate) fn origin(&self) -> &str {
        &self.signed.origin
    }

    pub(crate) fn into_signed(self) -> v1::SignedCommand {
        self.signed
    }

    /// Tells whether as many have signed as the command needs, whoever they are.
    pub(crate) fn is_signed_by_enough(&self) -> bool {
        self.signed.signatures.len() >= command_authority(&self.action).1
    }

    fn signers(&self) -> Vec<&str> {
        self.signed.signatures.iter().map(|it| it.operator_id.as_str()).collect()
    }

    /// Everything that the file says, but for its schema.
    pub(crate) fn json(&self) -> Value {
        let command = v1::Command { action: Some(self.action.clone()) };
        json!({
            "origin": self.signed.origin,
            "summary": describe::action_detail(&self.action),
            "command": form::to_json("Command", &command).unwrap_or_default(),
            "expires": describe::time(self.signed.expires_unix_ns),
            "signed_by": self.signers(),
            "signed_command": hex::encode(self.signed.encode_to_vec()),
        })
    }

    fn document(&self) -> Value {
        let mut document = self.json();
        if let Some(members) = document.as_object_mut() {
            members.insert("schema".to_owned(), SCHEMA.into());
        }
        document
    }

    /// For people: what is signed, by whom, and what is missing.
    pub(crate) fn text(&self) -> String {
        let (role, needed) = command_authority(&self.action);
        let role = match role {
            OperatorRole::Registrar => "registrar",
            OperatorRole::Responder => "responder",
            OperatorRole::Unspecified => "?",
        };
        let mut text = facts([
            ("ledger", self.signed.origin.clone()),
            ("command", describe::action_detail(&self.action)),
            ("expires", describe::time(self.signed.expires_unix_ns)),
            ("signed by", self.signers().join(", ")),
            ("needs", format!("{needed} different keys, each of a {role}")),
        ]);
        let command = form::to_json("Command", &v1::Command { action: Some(self.action.clone()) }).unwrap_or_default();
        let whole = serde_json::to_string_pretty(&command).unwrap_or_default();
        text.push('\n');
        text.push_str(&escape_json(&whole));
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proofline_client::{generate_key, sign_command};

    use super::*;

    fn signatory(name: &str) -> Signatory {
        Signatory { operator_id: name.to_owned(), key: generate_key().unwrap() }
    }

    fn half_signed() -> CommandFile {
        let action = Action::RetireNode(v1::RetireNode { node_id: 3, reason: "disk lost".to_owned() });
        let expires = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        CommandFile::new(sign_command("ledger.example/agents", action, expires, &[signatory("alice")]).unwrap()).unwrap()
    }

    #[test]
    fn a_command_comes_back_from_its_file_and_takes_a_second_signature() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("retire-3.command");
        half_signed().create(&path).unwrap();
        let mut command = CommandFile::read(&path).unwrap();
        assert!(!command.is_signed_by_enough());
        command.sign(&signatory("bob")).unwrap();
        command.replace(&path).unwrap();
        let command = CommandFile::read(&path).unwrap();
        assert!(command.is_signed_by_enough());
        assert_eq!(command.signers(), ["alice", "bob"]);
        assert!(half_signed().create(&path).is_err(), "a file was overwritten");
    }

    #[test]
    fn a_description_of_something_else_is_noticed() {
        let changes: [(&str, Value); 4] = [
            ("summary", "retire node 4: disk lost".into()),
            ("expires", "2100-01-01T00:00:00.000Z".into()),
            ("signed_by", json!(["alice", "bob"])),
            ("command", json!({ "retire_node": { "node_id": "4", "reason": "disk lost" } })),
        ];
        for (name, value) in changes {
            let mut document = half_signed().document();
            document[name] = value;
            let found = CommandFile::parse(&serde_json::to_vec(&document).unwrap());
            assert!(found.unwrap_err().to_string().contains("description"), "{name}");
        }
    }

    #[test]
    fn a_signature_that_does_not_verify_is_noticed() {
        let mut signed = half_signed().into_signed();
        signed.signatures[0].signature[5] ^= 1;
        assert!(CommandFile::new(signed.clone()).is_err());
        let mut document = half_signed().document();
        document["signed_command"] = hex::encode(signed.encode_to_vec()).into();
        assert!(CommandFile::parse(&serde_json::to_vec(&document).unwrap()).is_err());
    }
}
