//! Which entries speak for which control: one table, for reports and for questions.
//!
//! It says what a reviewer may look at, not that a control is met. Names of controls are those of their publishers; the
//! wording is ours.

/// Each line: id, source, what the ledger shows, and the codes of rules whose findings are meant (`*` all, `-` none: every
/// entry of the window).
const TABLE: &str = include_str!("control/table.tsv");

/// Each line: id of a shipped rule, and the codes in its `@asi`.
const RULES: &str = include_str!("control/rules.tsv");

/// Returns the rules of the shipped pack, each with its codes.
pub fn shipped_rules() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    RULES.lines().filter_map(|line| line.split_once('\t')).map(|(id, codes)| (id, codes.split(',').collect()))
}

/// Which findings speak for a control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRules {
    /// None: every entry of the window does.
    EveryEntry,
    /// Those of every rule.
    EveryRule,
    /// Those of rules that name one of these codes in `@asi`.
    Codes(Vec<&'static str>),
}

/// One control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// What commands and reports call it.
    pub id: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// What the ledger shows of it.
    pub shows: &'static str,
    /// Which findings speak for it.
    pub rules: ControlRules,
}

/// Returns every control of the table, in its order.
pub fn controls() -> impl Iterator<Item = Control> {
    TABLE.lines().filter_map(parse)
}

impl Control {
    /// Finds a control by its id, whatever the case.
    #[must_use]
    pub fn find(id: &str) -> Option<Self> {
        controls().find(|control| control.id.eq_ignore_ascii_case(id))
    }

    /// Tells whether a finding of a rule speaks for the control. Rules that are not shipped have no codes here.
    #[must_use]
    pub fn takes_rule(&self, rule_id: &str) -> bool {
        self.takes(&shipped_rules().find(|(id, _)| *id == rule_id).map(|(_, codes)| codes).unwrap_or_default())
    }

    /// Tells whether a finding of a rule with these codes speaks for the control.
    #[must_use]
    pub fn takes(&self, codes: &[&str]) -> bool {
        match &self.rules {
            ControlRules::EveryEntry => false,
            ControlRules::EveryRule => true,
            ControlRules::Codes(wanted) => wanted.iter().any(|code| codes.contains(code)),
        }
    }
}

fn parse(line: &'static str) -> Option<Control> {
    let mut columns = line.split('\t');
    let (id, source, shows, rules) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let rules = match rules {
        "-" => ControlRules::EveryEntry,
        "*" => ControlRules::EveryRule,
        codes => ControlRules::Codes(codes.split(',').collect()),
    };
    Some(Control { id, source, shows, rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_control_of_its_own() {
        let ids: std::collections::BTreeSet<_> = controls().map(|control| control.id).collect();
        assert_eq!(ids.len(), TABLE.lines().count());
        assert!(Control::find("csf-pr.aa-05").is_some_and(|control| control.takes(&["ASI03"]) && !control.takes(&["ASI01"])));
    }
}
