//! A candidate set of rules over what really happened: what it would have found, and what it would no longer find.
//!
//! The facts are those of the log as it is: a candidate that contains more would have changed what came after. Each event is
//! judged for itself.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use prost::bytes::Bytes;

use crate::entry;
use crate::ids::EntryIndex;
use crate::replay::{Divergence, Replay};
use crate::rules::RuleSet;

/// Entries that are named for each difference of a rule.
const EXAMPLES_MAX: usize = 10;

/// What a candidate does differently by one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleDifference {
    /// Events on which the rule speaks in the log and by the candidate.
    pub kept: u64,
    /// Events on which only the candidate speaks.
    pub added: u64,
    /// Events on which only the log speaks.
    pub removed: u64,
    /// The first entries of those that were added, or removed.
    pub examples: Vec<EntryIndex>,
}

/// A simulation in progress: all entries of a log go in, in order; those of the window are judged.
#[derive(Debug)]
pub struct Simulation<'a> {
    candidate: &'a RuleSet,
    replay: Replay,
    window: std::ops::Range<u64>,
    differences: BTreeMap<String, RuleDifference>,
    /// What entries of events in the window found, until their batch is whole and their facts are known.
    found: BTreeMap<EntryIndex, BTreeSet<String>>,
    judged: u64,
}

impl<'a> Simulation<'a> {
    /// Starts from nothing; the window names entries.
    ///
    /// # Errors
    /// None in practice: the store is a map in memory.
    pub fn new(candidate: &'a RuleSet, window: std::ops::Range<u64>) -> Result<Self, Divergence> {
        let names = candidate.rules().map(|rule| (rule.id.clone(), RuleDifference::default()));
        Ok(Self { candidate, replay: Replay::observing()?, window, differences: names.collect(), found: BTreeMap::new(), judged: 0 })
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`Divergence`] at the first entry that the state machine would not have written.
    pub fn push(&mut self, exact: Bytes) -> Result<(), Divergence> {
        if let Some((_, core)) = entry::parse(&exact)
            && let Some(decision) = &core.decision
            && self.window.contains(&core.index)
        {
            self.found.insert(EntryIndex(core.index), of_rules(decision));
        }
        self.replay.push(exact)?;
        for (index, facts) in self.replay.observed() {
            let Some(found) = self.found.remove(&index) else { continue };
            self.judged += 1;
            let would = self.candidate.evaluate(&facts);
            for rule in found.union(&would) {
                let difference = self.differences.entry(rule.clone()).or_default();
                match (found.contains(rule), would.contains(rule)) {
                    (true, true) => difference.kept += 1,
                    (false, _) => difference.added += 1,
                    (true, false) => difference.removed += 1,
                }
                if found.contains(rule) != would.contains(rule) && difference.examples.len() < EXAMPLES_MAX {
                    difference.examples.push(index);
                }
            }
        }
        Ok(())
    }

    /// Returns how many events were judged, and what each rule does differently.
    #[must_use]
    pub fn finish(self) -> (u64, BTreeMap<String, RuleDifference>) {
        (self.judged, self.differences)
    }
}

/// Returns the rules that spoke, those of the ledger itself apart.
fn of_rules(decision: &v1::Decision) -> BTreeSet<String> {
    let is_of_rules = |finding: &&v1::Finding| finding.kind() != v1::FindingKind::BuiltIn;
    decision.findings.iter().filter(is_of_rules).map(|finding| finding.rule_id.clone()).collect()
}
