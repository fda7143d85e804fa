//! `proofline command`

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Result, bail, ensure};

use super::signing::{send, written};
use crate::{
    arguments::{CommandFileCommand, SignerFile},
    command_file::{CommandFile, SCHEMA},
    connection::Connection,
    output::Answer,
};

pub(super) async fn run(command: CommandFileCommand, connect: impl FnOnce() -> Result<Connection>) -> Result<Answer> {
    match command {
        CommandFileCommand::Show { file } => {
            let command = CommandFile::read(&file)?;
            Ok(Answer::new(SCHEMA, command.json(), command.text()))
        }
        CommandFileCommand::Sign { file, signer, yes } => {
            let mut command = CommandFile::read(&file)?;
            let signatory = signer.load()?;
            if !yes {
                confirm(&command, &signer)?;
            }
            command.sign(&signatory)?;
            command.replace(&file)?;
            Ok(written(&command, &file))
        }
        CommandFileCommand::Submit { file } => {
            let (command, connection) = (CommandFile::read(&file)?, connect()?);
            let (theirs, ours) = (command.origin(), &connection.profile.origin);
            ensure!(theirs == ours, "the command is for {theirs:?}, the profile for {ours:?}");
            send(command.into_signed(), &connection).await
        }
    }
}

/// Shows what is to be signed, and asks.
fn confirm(command: &CommandFile, signer: &SignerFile) -> Result<()> {
    ensure!(io::stdin().is_terminal(), "nobody is there to ask: look at it with `proofline command show`, then give --yes");
    anstream::eprint!("{}\nSign this as {}? [y/N] ", command.text(), proofline_verifier::escape(&signer.operator_id));
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("not signed"),
    }
}
