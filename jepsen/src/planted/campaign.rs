//! Runs the harness against each bug, seed after seed, until it is noticed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{NONE, PlantedBug};

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Bugs, in order.
    pub bugs: Vec<PlantedBug>,
    /// Seeds that each is given.
    pub seeds: u64,
    /// How long faults come in a run, instead of what the bug says.
    pub seconds: Option<u64>,
    /// Where runs leave what they leave.
    pub directory: PathBuf,
}

/// What was noticed in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Noticed {
    /// Predicates that are false, by label.
    pub broken: Vec<String>,
    /// Nodes that ended by themselves, with what they said last.
    pub ended: Vec<String>,
    /// The first reasons of the verdict.
    pub reasons: Vec<String>,
}

/// What became of one bug.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its name.
    pub bug: String,
    /// What is wrong.
    pub what: String,
    /// Faults.
    pub faults: String,
    /// Whether a predicate that it breaks was found false.
    pub is_caught: bool,
    /// Seeds that were run.
    pub seeds: u64,
    /// How long faults came in each run, in seconds.
    pub faults_s: u64,
    /// From the start of the first run to the verdict of the last, in seconds.
    pub took_s: u64,
    /// What the last run noticed.
    pub noticed: Noticed,
}

/// The part of a verdict that is read.
#[derive(Deserialize)]
struct Judged {
    checks: BTreeMap<String, String>,
    reasons: Vec<String>,
    surprises: Vec<Ended>,
}

#[derive(Deserialize)]
struct Ended {
    node: u64,
    how: String,
    said: String,
}

/// Tries every bug, and calls `tell` with each finding.
///
/// # Errors
/// When a run cannot be started.
pub fn campaign(order: &Campaign, mut tell: impl FnMut(&Finding)) -> Result<Vec<Finding>> {
    fs::create_dir_all(&order.directory).with_context(|| format!("cannot create {}", order.directory.display()))?;
    let mut findings = Vec::new();
    for bug in &order.bugs {
        let finding = hunt(order, bug)?;
        tell(&finding);
        findings.push(finding);
        fs::write(order.directory.join("planted.json"), serde_json::to_vec_pretty(&findings)?)?;
    }
    Ok(findings)
}

fn hunt(order: &Campaign, bug: &PlantedBug) -> Result<Finding> {
    let (began, faults_s) = (Instant::now(), order.seconds.unwrap_or(bug.seconds));
    let mut finding = Finding {
        bug: bug.name.to_owned(),
        what: bug.what.to_owned(),
        faults: bug.faults.to_owned(),
        is_caught: false,
        seeds: 0,
        faults_s,
        took_s: 0,
        noticed: Noticed::default(),
    };
    for seed in 1..=order.seeds {
        finding.noticed = one_run(order, bug, seed, faults_s)?;
        finding.seeds = seed;
        finding.is_caught = bug.breaks.iter().any(|predicate| finding.noticed.broken.iter().any(|label| label == predicate.label()));
        if finding.is_caught {
            break;
        }
    }
    finding.took_s = began.elapsed().as_secs();
    Ok(finding)
}

/// Runs are processes of their own: each goes into namespaces that it made, and leaves nothing behind.
fn one_run(order: &Campaign, bug: &PlantedBug, seed: u64, seconds: u64) -> Result<Noticed> {
    let out = order.directory.join(format!("{}-{seed}", bug.name));
    let faults = if bug.faults.is_empty() { NONE } else { bug.faults };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--planted", bug.name, "--faults", faults, "--seed", &seed.to_string(), "--for", &format!("{seconds}s"), "--out"]);
    let said = fs::File::create(order.directory.join(format!("{}-{seed}.log", bug.name)))?;
    command.arg(&out).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    let status = command.status().context("cannot start the harness again")?;
    // A run whose cluster is too broken to be judged notices nothing: the next seed is tried.
    let noticed = noticed(&out.join("verdict.json"))
        .unwrap_or_else(|error| Noticed { reasons: vec![format!("no verdict ({status}): {error:#}")], ..Noticed::default() });
    for part in ["disks", "cluster", "export"] {
        // The run may have removed it; what is large goes, what explains the finding stays.
        let _ = fs::remove_dir_all(out.join(part));
    }
    Ok(noticed)
}

fn noticed(verdict: &Path) -> Result<Noticed> {
    let judged: Judged = serde_json::from_slice(&fs::read(verdict)?)?;
    Ok(Noticed {
        broken: judged.checks.into_iter().filter(|(_, word)| word == "false").map(|(label, _)| label).collect(),
        ended: judged.surprises.into_iter().map(|it| format!("node {} ({}): {}", it.node, it.how, it.said)).collect(),
        reasons: judged.reasons,
    })
}

/// Shows findings as a table in Markdown.
#[must_use]
pub fn table(findings: &[Finding]) -> String {
    let mut table = "| bug | what is wrong | faults | noticed by | seeds | seconds |\n|---|---|---|---|---|---|\n".to_owned();
    for it in findings {
        let faults = if it.faults.is_empty() { format!("none, {} s", it.faults_s) } else { format!("{}, {} s", it.faults, it.faults_s) };
        let by = if it.is_caught { it.noticed.broken.join(", ") } else { "**not noticed**".to_owned() };
        let ended = if it.noticed.ended.is_empty() { "" } else { "; a node ends by itself" };
        // Writing to a string does not fail.
        let _ = writeln!(table, "| `{}` | {} | {faults} | {by}{ended} | {} | {} |", it.bug, it.what, it.seeds, it.took_s);
    }
    table
}
