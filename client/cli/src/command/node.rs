//! `proofline node`

use std::path::Path;

use anyhow::Result;
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::Policy;
use serde_json::json;

use super::{genesis::write_new, signing::submit};
use crate::{
    arguments::NodeCommand,
    connection::{Checked, Connection},
    output::{Answer, facts},
    progress,
};

pub(super) async fn run(command: NodeCommand, connection: &Connection) -> Result<Answer> {
    match command {
        NodeCommand::Register { name, node_id, public_key, signing } => {
            let node = v1::NodeKey { node_id, name, public_key: public_key.load()? };
            submit(Action::RegisterNode(v1::RegisterNode { node: Some(node) }), &signing, connection).await
        }
        NodeCommand::Retire { node_id, reason, signing } => {
            submit(Action::RetireNode(v1::RetireNode { node_id, reason }), &signing, connection).await
        }
        NodeCommand::Policy { out } => policy(&out, connection).await,
    }
}

/// Derives the policy from the log, which the present one must vouch for.
async fn policy(out: &Path, connection: &Connection) -> Result<Answer> {
    let Checked { checkpoint, .. } = connection.checked_checkpoint().await?;
    let bar = progress::bar(checkpoint.size.0, "entries");
    let found = connection.client.registered_policy(&checkpoint, |entries| bar.inc(entries)).await;
    bar.finish_and_clear();
    let (found, present) = (found?, connection.policy()?);
    write_new(out, found.encode().as_bytes())?;
    let (nodes, left_out) = (names(&found, |_| true), names(&present, |key| !holds(&found, key)));
    let text = facts([
        ("file", out.display().to_string()),
        ("from the log", format!("{} entries, root {}", checkpoint.size, checkpoint.root)),
        ("nodes", nodes.join(" ")),
        ("needed", format!("{} of {}", nodes.len() / 2 + 1, nodes.len())),
        ("not in it", left_out.join(" ")),
    ]);
    let note = "not in it are retired nodes and witnesses that are no nodes: add the lines of those by hand\n";
    let json = json!({
        "file": out.display().to_string(),
        "size": checkpoint.size.to_string(),
        "root": checkpoint.root.to_string(),
        "nodes": nodes,
        "left_out": left_out,
    });
    let text = if left_out.is_empty() { text } else { text + note };
    Ok(Answer::new("proofline.policy/v1", json, text))
}

fn names(of: &Policy, wanted: impl Fn(&[u8]) -> bool) -> Vec<String> {
    of.witnesses().filter(|(_, witness)| wanted(witness.key.public_key())).map(|(name, _)| name.to_owned()).collect()
}

fn holds(policy: &Policy, key: &[u8]) -> bool {
    policy.witnesses().any(|(_, witness)| witness.key.public_key() == key)
}
