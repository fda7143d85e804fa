//! What a run proves: yes, no, or nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Measures, RunOrder};
use crate::{
    history::{FaultKind, History, Installed},
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

/// How often a fault of one kind was tried, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tries {
    /// Was there, and showed.
    pub installed: u64,
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
    /// Faults by kind.
    pub faults: BTreeMap<FaultKind, Tries>,
    /// Figures.
    pub measures: Measures,
    /// Nodes that ended by themselves without a fault that explains it.
    pub surprises: Vec<Surprise>,
}

impl Verdict {
    /// Rules over a run.
    #[must_use]
    pub fn of(
        order: &RunOrder,
        history: &History,
        measures: &Measures,
        surprises: &[Surprise],
        broken: Option<anyhow::Error>,
        not_recovered: Option<anyhow::Error>,
    ) -> Self {
        let faults = tries(history);
        let (mut reasons, mut ruling) = (Vec::new(), Ruling::Holds);
        let unseen = history.run.scheduled.iter().filter(|kind| faults.get(*kind).is_none_or(|tries| tries.installed == 0));
        for kind in unseen {
            reasons.push(format!("{kind:?} was scheduled and never seen"));
            ruling = Ruling::Unknown;
        }
        if let Some(error) = broken {
            reasons.push(format!("{error:#}"));
            ruling = Ruling::Unknown;
        }
        reasons.extend(surprises.iter().map(|it| format!("node {} ended by itself ({}): {}", it.node, it.how, it.said)));
        if let Some(error) = not_recovered {
            reasons.push(format!("not recovered: {error:#}"));
            ruling = Ruling::Broken;
        }
        if !surprises.is_empty() {
            ruling = Ruling::Broken;
        }
        Self {
            version: 1,
            ruling,
            reasons,
            seed: order.seed.to_string(),
            command: order.command.clone(),
            faults,
            measures: measures.clone(),
            surprises: surprises.to_vec(),
        }
    }
}

fn tries(history: &History) -> BTreeMap<FaultKind, Tries> {
    let mut of_kind: BTreeMap<FaultKind, Tries> = BTreeMap::new();
    for fault in &history.faults {
        let tries = of_kind.entry(fault.kind).or_default();
        match fault.installed {
            Installed::Installed => tries.installed += 1,
            Installed::Skipped => tries.skipped += 1,
            Installed::Indeterminate => tries.indeterminate += 1,
        }
    }
    of_kind
}
