//! `proofline rules test`: scenarios against a ledger in memory.

use std::{collections::BTreeSet, fs, path::PathBuf, str::FromStr as _};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use proofline_ledger::{Rehearsal, UnixNanos};
use proofline_proto::v1;
use proofline_verifier::escape;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{describe, exit::Exit, form, output::Answer};

/// When a scenario begins that does not say: a Monday, at noon.
const NOON: &str = "2026-03-02T12:00:00Z";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    scenario: String,
    at: Option<String>,
    #[serde(default)]
    defaults: Map<String, Value>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    wait_s: Option<u64>,
    command: Option<Value>,
    event: Option<Map<String, Value>>,
    /// Name of the event, for `@name` in later ones.
    #[serde(rename = "as")]
    name: Option<String>,
    repeat: Option<u32>,
    verdict: Option<String>,
    #[serde(default)]
    findings: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum File {
    Many(Vec<Scenario>),
    One(Scenario),
}

/// What one scenario came to.
struct Played {
    name: String,
    mistakes: Vec<String>,
}

pub(super) fn run(rules: &str, files: &[PathBuf]) -> Result<Answer> {
    let mut played = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let file: File = serde_json::from_str(&text).with_context(|| format!("{} holds no scenarios", path.display()))?;
        let scenarios = match file {
            File::Many(scenarios) => scenarios,
            File::One(scenario) => vec![scenario],
        };
        for scenario in scenarios {
            let name = format!("{}: {}", path.display(), scenario.scenario);
            let mistakes = scenario.play(rules).with_context(|| name.clone())?;
            played.push(Played { name, mistakes });
        }
    }
    Ok(answer(&played))
}

fn answer(played: &[Played]) -> Answer {
    let failed = played.iter().filter(|it| !it.mistakes.is_empty()).count();
    let mut text = String::new();
    for it in played {
        let mark = if it.mistakes.is_empty() { "ok  " } else { "FAIL" };
        text.push_str(&format!("{mark}  {}\n", escape(&it.name)));
        it.mistakes.iter().for_each(|mistake| text.push_str(&format!("      {}\n", escape(mistake))));
    }
    text.push_str(&format!("{} scenarios, {failed} failed\n", played.len()));
    let json = played.iter().map(|it| json!({ "scenario": it.name, "mistakes": it.mistakes })).collect::<Vec<_>>();
    let exit = if failed == 0 { Exit::Done } else { Exit::ProvenWrong };
    Answer::new("proofline.rule-test/v1", json!({ "scenarios": json, "failed": failed }), text).ending(exit)
}

impl Scenario {
    fn play(self, rules: &str) -> Result<Vec<String>> {
        let at = Timestamp::from_str(self.at.as_deref().unwrap_or(NOON)).context("\"at\" is no time")?;
        let mut ledger = Rehearsal::new(UnixNanos(u64::try_from(at.as_nanosecond())?), rules)?;
        let mut mistakes = Vec::new();
        for (number, step) in self.steps.into_iter().enumerate() {
            let number = number + 1;
            let said = step.play(&mut ledger, &self.defaults, number).with_context(|| format!("step {number}"))?;
            mistakes.extend(said.into_iter().map(|mistake| format!("step {number}: {mistake}")));
        }
        Ok(mistakes)
    }
}

impl Step {
    fn play(self, ledger: &mut Rehearsal, defaults: &Map<String, Value>, number: usize) -> Result<Vec<String>> {
        if let Some(seconds) = self.wait_s {
            ledger.wait(seconds.saturating_mul(1_000_000_000));
        }
        if let Some(command) = &self.command {
            let command: v1::Command = form::from_json("Command", command)?;
            ledger.govern(command.action.context("the command names no action")?)?;
        }
        let Some(event) = &self.event else {
            if self.wait_s.is_none() && self.command.is_none() {
                bail!("a step is an event, a command or a wait");
            }
            return Ok(Vec::new());
        };
        let times = self.repeat.unwrap_or(1).max(1);
        let mut mistakes = Vec::new();
        for time in 1..=times {
            let name = self.name.clone().unwrap_or_else(|| format!("step {number}, {time}"));
            let event = read(defaults, event, &name, ledger.now())?;
            let (_, receipt) = ledger.append(&event)?;
            let nothing = BTreeSet::new();
            let (verdict, findings) =
                if time == times { (self.verdict.as_deref().unwrap_or("allow"), &self.findings) } else { ("allow", &nothing) };
            mistakes.extend(compare(&receipt, verdict, findings).into_iter().map(|it| match times {
                1 => it,
                _ => format!("time {time}: {it}"),
            }));
        }
        Ok(mistakes)
    }
}

/// Builds an event: the defaults, what the step adds, an id by its name, and the time it is.
fn read(defaults: &Map<String, Value>, event: &Map<String, Value>, name: &str, now: UnixNanos) -> Result<v1::Event> {
    let mut json = Value::Object(defaults.clone());
    merge(&mut json, &Value::Object(event.clone()));
    resolve(&mut json);
    let mut event: v1::Event = form::from_json("Event", &json)?;
    if event.event_id.is_empty() {
        event.event_id = hex::decode(id_of(name))?;
    }
    if event.observed_unix_ns == 0 {
        event.observed_unix_ns = now.0;
    }
    Ok(event)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => into.clone_from(from),
    }
}

/// Puts the ids of events in the place of their names.
fn resolve(json: &mut Value) {
    match json {
        Value::String(text) => {
            if let Some(name) = text.strip_prefix('@') {
                *text = id_of(name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(resolve),
        Value::Object(members) => members.values_mut().for_each(resolve),
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

fn id_of(name: &str) -> String {
    let digest = blake3::hash(name.as_bytes()).to_hex();
    digest.chars().take(32).collect()
}

fn compare(receipt: &v1::EventReceipt, verdict: &str, findings: &BTreeSet<String>) -> Vec<String> {
    if receipt.rejection() != v1::RejectionReason::Unspecified {
        return vec![format!("the ledger rejects the event: {}", receipt.rejection().as_str_name())];
    }
    let mut mistakes = Vec::new();
    let got = describe::verdict(receipt.verdict()).to_ascii_lowercase();
    if got != verdict {
        mistakes.push(format!("verdict {got}, expected {verdict}"));
    }
    let is_of_rules = |it: &&v1::Finding| it.kind() != v1::FindingKind::BuiltIn;
    let found: BTreeSet<String> = receipt.findings.iter().filter(is_of_rules).map(|it| it.rule_id.clone()).collect();
    let listed = |of: BTreeSet<&String>| of.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let (missing, extra) = (listed(findings.difference(&found).collect()), listed(found.difference(findings).collect()));
    if !missing.is_empty() {
        mistakes.push(format!("not found: {missing}"));
    }
    if !extra.is_empty() {
        mistakes.push(format!("found, and not expected: {extra}"));
    }
    mistakes
}
