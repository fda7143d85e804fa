//! `proofline rules simulate`: a candidate over the log as it is, and a report that an activation can name.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use proofline_client::{EntryReader, Existing, Reading, write_file};
use proofline_ledger::{RuleDifference, Simulation};
use proofline_verifier::EntryIndex;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    arguments::SimulateArguments,
    connection::Connection,
    output::{Answer, table},
    progress,
};

const SCHEMA: &str = "proofline.rule-simulation/v1";

/// What a simulation found, as it lies in its file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    schema: String,
    origin: String,
    rule_set_digest: String,
    from: String,
    to: String,
    checkpoint_size: String,
    checkpoint_root: String,
    events: String,
    rules: BTreeMap<String, RuleForm>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    kept: String,
    added: String,
    removed: String,
    examples: Vec<String>,
}

/// A report that an activation names.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) origin: String,
    pub(super) rule_set_digest: String,
    /// BLAKE3 of the file.
    pub(super) digest: blake3::Hash,
}

impl Report {
    pub(super) fn load(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        let form: Form = serde_json::from_slice(&bytes).with_context(|| format!("{} is no report of a simulation", file.display()))?;
        if form.schema != SCHEMA {
            bail!("{} is no report of a simulation: its schema is {:?}", file.display(), form.schema);
        }
        Ok(Self { origin: form.origin, rule_set_digest: form.rule_set_digest, digest: blake3::hash(&bytes) })
    }
}

pub(super) async fn run(arguments: &SimulateArguments, connection: &Connection) -> Result<Answer> {
    let candidate = super::load(&arguments.file)?;
    let checkpoint = connection.checked_checkpoint().await?.checkpoint;
    let to = arguments.to.unwrap_or(checkpoint.size.0);
    if to > checkpoint.size.0 || arguments.from > to {
        bail!("the window is {}..{to}, and the checkpoint covers {} entries", arguments.from, checkpoint.size);
    }
    let mut simulation = Simulation::new(&candidate, arguments.from..to)?;
    // A batch that begins in the window may end behind it: what the checkpoint covers ends no batch in the middle of it.
    let bar = progress::bar(checkpoint.size.0, "entries");
    let mut entries = EntryReader::new(connection.client.clone(), EntryIndex(0), Reading::Until(EntryIndex(checkpoint.size.0)));
    while let Some(run) = entries.next().await? {
        bar.inc(run.entries.len() as u64);
        for entry in run.entries {
            simulation.push(entry).context("the log is not what the state machine makes of its submissions")?;
        }
    }
    bar.finish_and_clear();
    let (events, rules) = simulation.finish();
    let form = Form {
        schema: SCHEMA.to_owned(),
        origin: connection.profile.origin.clone(),
        rule_set_digest: hex::encode(candidate.digest().0),
        from: arguments.from.to_string(),
        to: to.to_string(),
        checkpoint_size: checkpoint.size.to_string(),
        checkpoint_root: checkpoint.root.to_string(),
        events: events.to_string(),
        rules: rules.iter().map(|(rule, it)| (rule.clone(), RuleForm::of(it))).collect(),
    };
    answer(&form, &rules, arguments.out.as_deref())
}

impl RuleForm {
    fn of(it: &RuleDifference) -> Self {
        let examples = it.examples.iter().map(ToString::to_string).collect();
        Self { kept: it.kept.to_string(), added: it.added.to_string(), removed: it.removed.to_string(), examples }
    }
}

fn answer(form: &Form, rules: &BTreeMap<String, RuleDifference>, out: Option<&Path>) -> Result<Answer> {
    let bytes = format!("{}\n", serde_json::to_string_pretty(form)?);
    let digest = blake3::hash(bytes.as_bytes());
    let rows = rules.iter().map(|(rule, it)| {
        let examples: Vec<_> = it.examples.iter().map(ToString::to_string).collect();
        [rule.clone(), it.kept.to_string(), it.added.to_string(), it.removed.to_string(), examples.join(" ")]
    });
    let mut text = table(["RULE", "SAME", "ADDED", "REMOVED", "FIRST ENTRIES"], rows);
    text.push_str(&format!("{} events judged, each for itself\n", form.events));
    match out {
        Some(file) => {
            write_file(file, bytes.as_bytes(), Existing::Replaced).with_context(|| file.display().to_string())?;
            text.push_str(&format!("report {}, digest {digest}\n", file.display()));
        }
        None => text.push_str("nothing written: an activation needs the report, --out FILE\n"),
    }
    Ok(Answer::new(SCHEMA, json!({ "report": form, "digest": digest.to_hex().as_str() }), text))
}
