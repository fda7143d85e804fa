//! `proofline decision`: one decision in a file, and the same decision made again from it, without any network.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use proofline_client::{Existing, Link, write_file};
use proofline_ledger::RuleSet;
use proofline_proto::v1;
use proofline_verifier::{EntryIndex, Integrity, Policy, TlogProof, verify_tlog_proof};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::verify::exit_of;
use crate::{
    arguments::DecisionCommand,
    connection::Connection,
    describe,
    exit::Exit,
    output::{Answer, facts as rows},
};

const SCHEMA: &str = "proofline.decision/v1";

/// Everything that a decision was made from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    schema: String,
    /// The entry and its proof: the exact text of a `.tlog-proof`.
    proof: String,
    /// Exact bytes of the facts, in hex.
    facts: String,
    /// Exact text of the rules that were in force.
    rules: String,
}

pub(super) async fn run(command: DecisionCommand, connect: impl FnOnce() -> Result<Connection>) -> Result<Answer> {
    match command {
        DecisionCommand::Export { index, out } => export(index, &out, &connect()?).await,
        DecisionCommand::Check { file, policy } => check(&file, &policy),
    }
}

async fn export(index: u64, out: &Path, connection: &Connection) -> Result<Answer> {
    let proof = connection.client.tlog_proof(EntryIndex(index)).await?;
    let facts = connection.client.call(|link: Link| async move { link.audit().get_facts(v1::GetFactsRequest { index }).await }).await?;
    let form = Form {
        schema: SCHEMA.to_owned(),
        proof: proof.encode(),
        facts: hex::encode(facts.facts),
        rules: rules_at(index, connection).await?,
    };
    let text = format!("{}\n", serde_json::to_string_pretty(&form)?);
    write_file(out, text.as_bytes(), Existing::Replaced).with_context(|| out.display().to_string())?;
    let answer = decide_again(&form, &connection.policy()?)?;
    Ok(Answer { text: format!("{}: entry {index}, its facts, and the rules that were in force\n{}", out.display(), answer.text), ..answer })
}

/// Returns the rules that were in force when an entry was made.
async fn rules_at(index: u64, connection: &Connection) -> Result<String> {
    let ask = |activated_index: u64| {
        connection.client.call(move |link: Link| async move { link.control().get_rules(v1::GetRulesRequest { activated_index }).await })
    };
    let newest = ask(0).await?;
    let then = newest.activations.iter().find(|it| it.activated_index < index);
    match then {
        Some(then) => Ok(ask(then.activated_index).await?.rules),
        None => bail!("no rules were in force at entry {index}"),
    }
}

fn check(file: &Path, policy: &Path) -> Result<Answer> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let form: Form = serde_json::from_slice(&read(file)?).with_context(|| format!("{} holds no decision", file.display()))?;
    if form.schema != SCHEMA {
        bail!("{} holds no decision: its schema is {:?}", file.display(), form.schema);
    }
    decide_again(&form, &Policy::parse(&read(policy)?).with_context(|| policy.display().to_string())?)
}

/// What was recorded, and what comes out again.
struct Compared {
    index: u64,
    verdict: v1::Verdict,
    recorded: BTreeSet<String>,
    again: BTreeSet<String>,
    mistakes: Vec<String>,
}

fn decide_again(form: &Form, policy: &Policy) -> Result<Answer> {
    let report = verify_tlog_proof(form.proof.as_bytes(), policy, None);
    if report.integrity() != Integrity::Verified {
        let text = format!("the proof of the entry does not verify\n{report}");
        return Ok(Answer::new(SCHEMA, json!({ "integrity": "not verified" }), text).ending(exit_of(report.integrity())));
    }
    let compared = compare(form)?;
    let exit = if compared.mistakes.is_empty() { Exit::Done } else { Exit::ProvenWrong };
    let listed = |of: &BTreeSet<String>| of.iter().cloned().collect::<Vec<_>>().join(" ");
    let mut text = rows([
        ("entry", compared.index.to_string()),
        ("integrity", "verified".to_owned()),
        ("verdict", describe::verdict(compared.verdict).to_owned()),
        ("rules that spoke", listed(&compared.recorded)),
        ("decided again", listed(&compared.again)),
    ]);
    text.push_str(if compared.mistakes.is_empty() { "the decision follows from its facts and rules\n" } else { "PROVEN WRONG\n" });
    compared.mistakes.iter().for_each(|mistake| text.push_str(&format!("  {mistake}\n")));
    let json = json!({
        "index": compared.index.to_string(), "integrity": "verified", "verdict": describe::verdict(compared.verdict),
        "recorded": compared.recorded, "again": compared.again, "mistakes": compared.mistakes,
    });
    Ok(Answer::new(SCHEMA, json, text).ending(exit))
}

fn compare(form: &Form) -> Result<Compared> {
    let proof = TlogProof::parse(form.proof.as_bytes())?;
    let entry = v1::Entry::decode(proof.entry.as_deref().context("the proof carries no entry")?)?;
    let core = v1::EntryCore::decode(entry.core)?;
    let decision = core.decision.context("the entry is no event: nothing was decided")?;
    let exact = hex::decode(&form.facts).context("the facts are no hex")?;
    let rules = RuleSet::parse(&form.rules).map_err(|problems| anyhow::anyhow!("the rules have {} problems", problems.len()))?;
    let mut mistakes = Vec::new();
    if proofline_ledger::facts_digest(&exact).0.as_slice() != decision.facts_digest {
        mistakes.push("the facts are not those that the entry commits to".to_owned());
    }
    if rules.digest().0.as_slice() != decision.rule_set_digest {
        mistakes.push("the rules are not those that the entry commits to".to_owned());
    }
    let facts = v1::Facts::decode(exact.as_slice())?;
    let again = rules.evaluate(&facts);
    let is_of_rules = |finding: &&v1::Finding| finding.kind() != v1::FindingKind::BuiltIn;
    let recorded: BTreeSet<String> = decision.findings.iter().filter(is_of_rules).map(|it| it.rule_id.clone()).collect();
    // An entry with more findings than it has room for holds the gravest, and says so.
    let has_more = decision.findings.iter().any(|finding| finding.rule_id == "built-in/more-findings");
    let agree = if has_more { recorded.is_subset(&again) } else { recorded == again };
    if !agree {
        mistakes.push("other rules speak over these facts than the entry records".to_owned());
    }
    if rules.denies(&facts) && decision.verdict() != v1::Verdict::Deny {
        mistakes.push("a rule denies, and the entry does not".to_owned());
    }
    Ok(Compared { index: core.index, verdict: decision.verdict(), recorded, again, mistakes })
}
