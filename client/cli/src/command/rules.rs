//! `proofline rules`

mod scenario;
mod simulate;

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use proofline_client::Link;
use proofline_ledger::{ENGINE, Mode, Rule, RuleProblem, RuleSet};
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::escape;
use serde_json::{Value, json};

use super::signing::submit;
use crate::{
    arguments::{ActivateArguments, RulesCommand},
    connection::Connection,
    describe,
    exit::Exit,
    output::{Answer, table},
};

pub(super) async fn run(command: RulesCommand, connect: impl FnOnce() -> Result<Connection>) -> Result<Answer> {
    match command {
        RulesCommand::Check { file, denies_everything } => check(&file, denies_everything),
        RulesCommand::Test { file, scenarios } => scenario::run(&read(&file)?, &scenarios),
        RulesCommand::Schema => {
            Ok(Answer::new("proofline.rule-schema/v1", json!({ "schema_text": RuleSet::schema() }), RuleSet::schema().to_owned()))
        }
        RulesCommand::Simulate(it) => simulate::run(&it, &connect()?).await,
        RulesCommand::Activate(it) => activate(it, &connect()?).await,
        RulesCommand::Show { activated, text } => show(activated, text, &connect()?).await,
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// Reads a set that has no faults; otherwise every fault is in the error.
fn load(file: &Path) -> Result<RuleSet> {
    let text = read(file)?;
    RuleSet::parse(&text).map_err(|problems| anyhow::anyhow!("{}", said(file, &problems)))
}

fn said(file: &Path, problems: &[RuleProblem]) -> String {
    let mut said = String::new();
    for problem in problems {
        // Writing to a string does not fail.
        let _ = writeln!(said, "{}:{}", file.display(), escape(&problem.to_string()));
    }
    said.trim_end().to_owned()
}

fn check(file: &Path, denies_everything: bool) -> Result<Answer> {
    let set = match RuleSet::parse(&read(file)?) {
        Ok(set) => set,
        Err(problems) => {
            let json =
                problems.iter().map(|it| json!({ "line": it.line, "column": it.column, "rule": it.rule, "fault": it.fault.to_string() }));
            let json = json!({ "problems": json.collect::<Vec<_>>() });
            return Ok(Answer::new("proofline.rule-check/v1", json, format!("{}\n", said(file, &problems))).ending(Exit::ProvenWrong));
        }
    };
    let digest = hex::encode(set.digest().0);
    let headings = ["RULE", "WHEN IT MATCHES", "WHEN IT ERRS", "SEVERITY", "ASI"];
    let mut text = table(headings, set.rules().map(row));
    let _ = writeln!(text, "{} rules, digest {digest}", set.rules().count());
    let rules: Vec<Value> = set.rules().map(json_of).collect();
    let denies = set.denies_everything();
    let json = json!({ "digest": digest, "engine": ENGINE, "rules": rules, "problems": [], "denies_everything": denies });
    let answer = Answer::new("proofline.rule-check/v1", json, text);
    if denies && !denies_everything {
        return Ok(answer.failing(anyhow::anyhow!(
            "the set denies every event, even one of which nothing is to be said; --denies-everything if that is meant"
        )));
    }
    Ok(answer)
}

fn row(of: &Rule) -> [String; 5] {
    let mode = if of.mode == Mode::Observe { " (observe only)" } else { "" };
    let severity = of.severity.as_str_name().trim_start_matches("SEVERITY_").to_ascii_lowercase();
    [of.id.clone(), format!("{}{mode}", of.consequence.name()), of.on_error.name().to_owned(), severity, escape(&of.asi)]
}

fn json_of(of: &Rule) -> Value {
    json!({
        "id": of.id, "containment": of.consequence.name(), "on_error": of.on_error.name(),
        "severity": of.severity.as_str_name().trim_start_matches("SEVERITY_").to_ascii_lowercase(),
        "mode": if of.mode == Mode::Observe { "observe" } else { "enforce" }, "asi": of.asi, "description": of.description,
    })
}

async fn activate(it: ActivateArguments, connection: &Connection) -> Result<Answer> {
    let set = load(&it.file)?;
    if set.denies_everything() && !it.denies_everything {
        bail!("the set denies every event, even one of which nothing is to be said; --denies-everything if that is meant");
    }
    let report = simulate::Report::load(&it.simulation)?;
    if report.rule_set_digest != hex::encode(set.digest().0) {
        bail!("{} is the report of other rules, with digest {}", it.simulation.display(), report.rule_set_digest);
    }
    if report.origin != connection.profile.origin {
        bail!("{} is the report of another ledger, {}", it.simulation.display(), report.origin);
    }
    let activation = v1::ActivateRules {
        rules: set.text().to_owned(),
        engine: ENGINE.to_owned(),
        simulation_digest: report.digest.as_bytes().to_vec(),
        denies_everything: it.denies_everything,
        reason: it.reason,
    };
    submit(Action::ActivateRules(activation), &it.signing, connection).await
}

async fn show(activated_index: u64, only_text: bool, connection: &Connection) -> Result<Answer> {
    let call = |link: Link| async move { link.control().get_rules(v1::GetRulesRequest { activated_index }).await };
    let found = connection.client.call(call).await?;
    let summary = |it: &v1::RuleSetSummary| {
        json!({
            "activated_index": it.activated_index.to_string(), "activated": describe::time(it.activated_unix_ns),
            "digest": hex::encode(&it.digest), "simulation_digest": hex::encode(&it.simulation_digest),
        })
    };
    let json = json!({
        "rule_set": found.rule_set.as_ref().map(summary), "rules": found.rules, "engine": found.engine,
        "activations": found.activations.iter().map(summary).collect::<Vec<_>>(),
    });
    let rules: String = found.rules.lines().map(|line| format!("{}\n", escape(line))).collect();
    if only_text {
        return Ok(Answer::new("proofline.rules/v1", json, rules));
    }
    let Some(set) = &found.rule_set else {
        return Ok(Answer::new("proofline.rules/v1", json, "no rules are in force\n".to_owned()));
    };
    // What a node sends is looked at before it is believed: the digest stands in every decision.
    let parsed = RuleSet::parse(&found.rules).ok().filter(|parsed| parsed.digest().0.as_slice() == set.digest);
    let Some(parsed) = parsed else { bail!("the rules that the node sent do not have the digest that it sent with them") };
    let mut text = table(["RULE", "WHEN IT MATCHES", "WHEN IT ERRS", "SEVERITY", "ASI"], parsed.rules().map(row));
    let _ = writeln!(
        text,
        "in force since entry {}, {}\ndigest {}\nsimulation {}",
        set.activated_index,
        describe::time(set.activated_unix_ns),
        hex::encode(&set.digest),
        hex::encode(&set.simulation_digest)
    );
    Ok(Answer::new("proofline.rules/v1", json, text))
}
