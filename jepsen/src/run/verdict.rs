//! What a run proves: yes, no, or nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Measures, RunOrder};
use crate::{
    checks::{Judgement, Report, SecondOpinion},
    history::{Fault, History, Installed},
    nodes::Surprise,
};

/// The outcome of a run. Unknown is no pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// Everything promised was kept, and everything scheduled was seen.
    Holds,
    /// Something promised was not kept.
    Broken,
    /// Nobody knows: a fault was not seen, or the harness failed.
    Unknown,
}

/// How often one fault was tried, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tries {
    /// Was there, and showed.
    pub seen: u64,
    /// Was there, and showed nothing.
    pub unseen: u64,
    /// Did not fit.
    pub skipped: u64,
    /// Nobody knows.
    pub indeterminate: u64,
}

/// What a run proves, and by which figures.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Form of this file: 1.
    pub version: u32,
    /// The outcome.
    pub ruling: Ruling,
    /// Why it is not better.
    pub reasons: Vec<String>,
    /// What decided the run.
    pub seed: String,
    /// Repeats it.
    pub command: String,
    /// Faults by name.
    pub faults: BTreeMap<Fault, Tries>,
    /// Each predicate: true, false or unknown. `report.txt` has all that was found.
    pub checks: BTreeMap<String, String>,
    /// What somebody else's checker says of each lane. One that it could not decide on says nothing.
    pub second_opinion: SecondOpinion,
    /// Figures.
    pub measures: Measures,
    /// Nodes that ended by themselves without a fault that explains it.
    pub surprises: Vec<Surprise>,
}

impl Verdict {
    /// Rules over a run: `trouble` is what kept the harness from doing its part, or the nodes from coming back.
    #[must_use]
    pub fn of(
        order: &RunOrder,
        history: &History,
        measures: Measures,
        surprises: &[Surprise],
        trouble: Vec<String>,
        (report, opinion): (&Report, SecondOpinion),
    ) -> Self {
        let checks: BTreeMap<String, String> =
            report.judgements.iter().map(|(predicate, judgement)| (predicate.to_string(), word(judgement).to_owned())).collect();
        let is_broken = !surprises.is_empty() || !report.violated().is_empty() || !opinion.refuted.is_empty();
        let ruling = match (is_broken, trouble.is_empty() && report.passes()) {
            (true, _) => Ruling::Broken,
            (false, true) => Ruling::Holds,
            (false, false) => Ruling::Unknown,
        };
        let mut reasons = trouble;
        reasons.extend(surprises.iter().map(|it| format!("no fault explains how node {} ended ({}): {}", it.node, it.how, it.said)));
        reasons.extend(opinion.refuted.iter().map(|lane| format!("the second checker finds no order for the operations of {lane:?}")));
        let not_true = report.judgements.iter().filter(|(_, judgement)| !judgement.is_true());
        reasons.extend(not_true.map(|(predicate, judgement)| format!("{predicate}: {}", why(judgement))));
        Self {
            version: 1,
            ruling,
            reasons,
            seed: order.seed.to_string(),
            command: order.command.clone(),
            faults: tries(history),
            checks,
            second_opinion: opinion,
            measures,
            surprises: surprises.to_vec(),
        }
    }
}

fn word(judgement: &Judgement) -> &'static str {
    match judgement {
        Judgement::True => "true",
        Judgement::False { .. } => "false",
        Judgement::Unknown(_) => "unknown",
    }
}

fn why(judgement: &Judgement) -> String {
    match judgement {
        Judgement::True => "true".to_owned(),
        Judgement::Unknown(why) => format!("unknown: {}", why.join("; ")),
        Judgement::False { anomalies, count } => {
            let first = anomalies.first().map(|first| format!("{}: {}", first.name, first.detail)).unwrap_or_default();
            format!("false, {count} found; first: {first}")
        }
    }
}

fn tries(history: &History) -> BTreeMap<Fault, Tries> {
    let mut of_each: BTreeMap<Fault, Tries> = BTreeMap::new();
    for fault in &history.faults {
        let tries = of_each.entry(fault.fault).or_default();
        match fault.installed {
            Installed::Installed if fault.was_seen() => tries.seen += 1,
            Installed::Installed => tries.unseen += 1,
            Installed::Skipped => tries.skipped += 1,
            Installed::Indeterminate => tries.indeterminate += 1,
        }
    }
    of_each
}
