//! Questions, from what was typed.

use anyhow::Result;
use proofline_proto::v1::{self, Dimension};
use proofline_verifier::{Control, ControlRules, EntryKey, shipped_rules};

use crate::{
    arguments::{KeyArguments, ReachArguments, WindowEnd},
    exit::WrongArguments,
};

const CONTROL_DEPTH: u32 = 0;

/// Returns the question that begins with the keys that were named.
pub(super) fn of_keys(keys: &KeyArguments, reach: &ReachArguments) -> Result<v1::LineageQuestion> {
    let starts = starts(keys)?;
    if starts.is_empty() {
        return Err(WrongArguments("nothing to begin with: give --session, --agent, --resource or another key").into());
    }
    Ok(question(starts, reach))
}

/// Returns the question for every entry of a window.
pub(super) fn of_window(reach: &ReachArguments) -> v1::LineageQuestion {
    v1::LineageQuestion { direction: 0, depth: 0, kinds: Vec::new(), ..question(Vec::new(), reach) }
}

/// Returns the question for what speaks for a control: findings of the shipped rules, or every entry.
pub(super) fn of_control(control: &Control, keys: &KeyArguments, reach: &ReachArguments) -> Result<v1::LineageQuestion> {
    if control.rules == ControlRules::EveryEntry {
        return Ok(of_window(reach));
    }
    let rule = shipped_rules().filter(|(_, codes)| control.takes(codes)).map(|(id, _)| id.to_owned()).collect();
    let rules = KeyArguments { rule, tenant: keys.tenant.clone(), ..KeyArguments::default() };
    Ok(v1::LineageQuestion { direction: 0, depth: CONTROL_DEPTH, kinds: Vec::new(), ..question(starts(&rules)?, reach) })
}

fn starts(keys: &KeyArguments) -> Result<Vec<v1::Key>> {
    let named = [
        (Dimension::Session, &keys.session),
        (Dimension::Agent, &keys.agent),
        (Dimension::Principal, &keys.principal),
        (Dimension::Resource, &keys.resource),
        (Dimension::Tool, &keys.tool),
        (Dimension::Server, &keys.server),
        (Dimension::System, &keys.system),
        (Dimension::Credential, &keys.credential),
        (Dimension::Collector, &keys.collector),
        (Dimension::Rule, &keys.rule),
    ];
    let mut starts = Vec::new();
    for (dimension, values) in named {
        for value in values {
            let tenant_id = match (&keys.tenant, dimension) {
                (_, Dimension::Collector) => String::new(),
                (Some(tenant), _) => tenant.clone(),
                (None, _) => return Err(WrongArguments("--tenant is needed").into()),
            };
            starts.push(EntryKey { dimension, tenant_id, value: value.clone() }.to_message());
        }
    }
    Ok(starts)
}

fn question(starts: Vec<v1::Key>, reach: &ReachArguments) -> v1::LineageQuestion {
    let ends = |end: Option<WindowEnd>| match end {
        None => (0, 0),
        Some(WindowEnd::Index(index)) => (index, 0),
        Some(WindowEnd::UnixNs(unix_ns)) => (0, unix_ns),
    };
    let ((from_index, from_unix_ns), (to_index, to_unix_ns)) = (ends(reach.from), ends(reach.to));
    v1::LineageQuestion {
        starts,
        direction: reach.direction.direction().into(),
        depth: reach.depth,
        kinds: reach.kind.iter().map(|kind| kind.dimension().into()).collect(),
        from_index,
        to_index,
        from_unix_ns,
        to_unix_ns,
    }
}

/// Says a question in words.
pub(super) fn in_words(of: &v1::LineageQuestion, control: Option<&Control>) -> String {
    let control = control.map_or_else(String::new, |it| format!("for control {} ({}): ", it.id, it.source));
    let starts: Vec<_> = of.starts.iter().filter_map(EntryKey::parse).map(|key| key.to_string()).collect();
    let what = if starts.is_empty() { "every entry".to_owned() } else { starts.join(", ") };
    let way = match of.direction() {
        v1::LineageDirection::Unspecified => String::new(),
        way => format!(", {} {} steps", way.as_str_name().trim_start_matches("LINEAGE_DIRECTION_").to_ascii_lowercase(), of.depth),
    };
    let end = |name: &str, index: u64, unix_ns: u64| match (index, unix_ns) {
        (0, 0) => String::new(),
        (index, 0) => format!(", {name} entry {index}"),
        (_, unix_ns) => format!(", {name} {}", proofline_verifier::rfc3339_of_nanoseconds(unix_ns)),
    };
    format!("{control}{what}{way}{}{}", end("from", of.from_index, of.from_unix_ns), end("before", of.to_index, of.to_unix_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_rules_is_that_of_the_shipped_pack() {
        let pack = include_str!("../../../rules/proofline.cedar");
        let annotation = |rule: &'static str| rule.split("@asi(\"").nth(1).unwrap().split('"').next().unwrap();
        let rules = pack.split("@id(\"").skip(1);
        let shipped: Vec<_> =
            rules.map(|rule| (rule.split('"').next().unwrap(), annotation(rule).split(',').collect::<Vec<_>>())).collect();
        assert_eq!(shipped_rules().collect::<Vec<_>>(), shipped);
    }

    #[test]
    fn every_control_asks_a_question_that_a_node_takes() {
        let keys = KeyArguments { tenant: Some("acme".to_owned()), ..KeyArguments::default() };
        let reach = ReachArguments {
            direction: crate::arguments::DirectionName::Both,
            depth: 8,
            kind: Vec::new(),
            from: Some(WindowEnd::Index(5)),
            to: None,
            purpose: String::new(),
        };
        for control in proofline_verifier::controls() {
            let question = of_control(&control, &keys, &reach).unwrap();
            assert!(
                proofline_verifier::Question::parse(&v1::LineageQuestion { to_index: 9, ..question.clone() }).is_ok(),
                "{}",
                control.id
            );
            assert_eq!(question.starts.is_empty(), control.rules == ControlRules::EveryEntry, "{}", control.id);
            assert!(in_words(&question, Some(&control)).contains(control.id));
        }
    }
}
