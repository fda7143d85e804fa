//! Which rules are in force: the set of the newest activation, from the entry behind it on.

use proofline_proto::v1;

use crate::ids::EntryIndex;
use crate::key;
use crate::ledger::Ledger;
use crate::limits::REASON_BYTES_MAX;
use crate::refusal::Refusal;
use crate::row::{self, RuleSetRow};
use crate::rules::{ENGINE, RuleSet};
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};
use crate::writes::Writes;

/// Reads the set that is in force.
pub(crate) fn active(store: &impl Store) -> Result<Option<RuleSet>, StoreFault> {
    let range = KeyRange { from: &[], to: &key::behind(&[]) };
    let Some(newest) = store.scan(Table::RuleSets, range, Direction::Descending, 1)?.pop() else { return Ok(None) };
    let row: RuleSetRow = row::decode(Table::RuleSets, &newest.key, &newest.value)?;
    let damaged = || StoreFault::Damaged { table: Table::RuleSets, key: newest.key.clone() };
    let rules = RuleSet::parse(&row.rules).map_err(|_| damaged())?;
    if rules.digest().0.as_slice() == row.digest { Ok(Some(rules)) } else { Err(damaged()) }
}

/// Puts a set in force, by the command that becomes entry `index`.
pub(crate) fn activate<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    it: &v1::ActivateRules,
    index: EntryIndex,
) -> Result<(), Refusal> {
    if it.engine != ENGINE {
        return Err(Refusal::OtherRuleEngine { asked: it.engine.clone(), here: ENGINE });
    }
    if it.simulation_digest.len() != 32 || it.reason.is_empty() || it.reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::Malformed("an activation gives the 32-byte digest of a simulation, and a reason of at most 1,024 bytes"));
    }
    let rules = RuleSet::parse(&it.rules).map_err(|problems| Refusal::BadRules {
        problems: problems.len(),
        first: problems.first().map(ToString::to_string).unwrap_or_default(),
    })?;
    if !it.denies_everything && rules.denies_everything() {
        return Err(Refusal::RulesDenyEverything);
    }
    let row = RuleSetRow {
        rules: it.rules.clone(),
        digest: rules.digest().0.to_vec(),
        simulation_digest: it.simulation_digest.clone(),
        activated_unix_ns: ledger.log.now().0,
    };
    writes.put(Table::RuleSets, key::entry(index), &row);
    ledger.rules = Some(rules);
    Ok(())
}
