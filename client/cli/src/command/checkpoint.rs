//! `proofline checkpoint`

use std::path::Path;

use anyhow::Result;
use proofline_client::Comparison;
use serde_json::json;

use super::genesis::write_new;
use crate::{
    connection::{Checked, Connection},
    output::{Answer, facts},
};

pub(super) async fn run(out: Option<&Path>, connection: &Connection) -> Result<Answer> {
    let Checked { note, checkpoint, comparison } = connection.checked_checkpoint().await?;
    out.map_or(Ok(()), |path| write_new(path, &note))?;
    let cosigners: Vec<_> = checkpoint.cosigners.iter().map(|it| it.name.clone()).collect();
    let text = facts([
        ("origin", checkpoint.origin.to_string()),
        ("size", checkpoint.size.to_string()),
        ("root", checkpoint.root.to_string()),
        ("log key", checkpoint.log_key.id().to_string()),
        ("cosigned by", cosigners.join(" ")),
        ("compared", in_words(comparison)),
    ]);
    let json = json!({
        "origin": checkpoint.origin.to_string(),
        "size": checkpoint.size.to_string(),
        "root": checkpoint.root.to_string(),
        "cosigners": cosigners,
        "comparison": in_json(comparison),
        "checkpoint": String::from_utf8_lossy(&note),
    });
    Ok(Answer::new("proofline.checkpoint/v1", json, text))
}

fn in_words(comparison: Comparison) -> String {
    match comparison {
        Comparison::First => "the first of this log that was seen here; it is held now".to_owned(),
        Comparison::Same => "the same as the one that is held".to_owned(),
        Comparison::Grew { from } => format!("continues the one that was held, of size {from}; it is held now"),
        Comparison::Older { held } => format!("older than the one that is held, of size {held}, and of the same log"),
    }
}

fn in_json(comparison: Comparison) -> serde_json::Value {
    match comparison {
        Comparison::First => json!({ "result": "first" }),
        Comparison::Same => json!({ "result": "same" }),
        Comparison::Grew { from } => json!({ "result": "grew", "from": from.to_string() }),
        Comparison::Older { held } => json!({ "result": "older", "held": held.to_string() }),
    }
}
