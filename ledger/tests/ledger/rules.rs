//! What is let in as a rule set, and what is said of one that is not.

use std::collections::BTreeSet;

use proofline_ledger::{RuleSet, limits::RULES_MAX};
use prost_reflect::{DescriptorPool, Kind};

use crate::deciding::{alert, rule};

fn problems(text: &str) -> String {
    let problems = RuleSet::parse(text).unwrap_err();
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn each_fault_is_named_with_its_place() {
    let text = r#"
// A rule with three faults.
@id("built-in/mine") @containment("explode") @colour("red")
forbid(principal, action, resource) when { context.hour < 6 };

@id("a") @containment("alert") @severity("low")
permit(principal, action, resource);

@id("b") @containment("alert") @severity("low")
forbid(principal, action, resource) when { "a; // b" == context.tool };
@id("b") @containment("alert") @severity("low") forbid(principal, action, resource) when { context.owned };
"#;
    assert_eq!(
        problems(text),
        "3:1: rule built-in/mine: `@colour` is no annotation of a rule; known are id, containment, severity, on_error, asi, mode, description\n\
         3:1: rule built-in/mine: `@containment(\"explode\")` is none of: alert, step_up, require_approval, deny, suspend_session, revoke_session, revoke_credential, quarantine_agent, block_server\n\
         3:1: rule built-in/mine: `@id` must be 1 to 64 letters, digits, `-`, `_` or `.`, and is \"built-in/mine\"\n\
         3:1: rule built-in/mine: `@severity` is missing\n\
         6:1: rule a: a rule is a `forbid`; what no rule forbids is allowed\n\
         11:1: rule b: another rule has this id\n"
    );
}

#[test]
fn a_name_that_the_schema_does_not_have_is_pointed_at() {
    let said = problems(&alert("late", "\n  context.hours < 6"));
    assert!(said.starts_with("2:") && said.contains("rule late") && said.contains("`hours`") && said.contains("hour"), "{said}");
    let said = problems(&alert("late", "context.hour < \"six\""));
    assert!(said.contains("rule late") && said.contains("Long"), "{said}");
    let action = "@id(\"x\") @containment(\"alert\") @severity(\"low\") forbid(principal, action == Action::\"tool_cal\", resource);";
    let said = problems(action);
    assert!(said.contains("tool_cal") && said.contains("tool_call"), "{said}");
}

#[test]
fn what_is_no_cedar_says_where() {
    let said = problems("@id(\"a\")\nforbid(principal, action, resource) when { context.hour < };");
    assert!(said.starts_with("2:"), "{said}");
}

#[test]
fn sets_that_are_too_deep_too_many_or_too_long_are_refused() {
    let deep = (0..40).fold("context.owned".to_owned(), |inner, _| format!("if {inner} then true else false"));
    assert!(problems(&alert("deep", &deep)).contains("nest"));
    let hostile = format!("{}context.owned{}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(!problems(&alert("hostile", &hostile)).is_empty());
    for chain in ["!", "-", "context.owned || ", "context.owned && ", "if true then true else ", "1 + ", "1 < "] {
        for most in [3_900, 40_000] {
            let chained = format!("{}context.owned", chain.repeat(most / chain.len()));
            assert!(!problems(&alert("chained", &chained)).is_empty(), "{chain}");
        }
    }
    for member in [".owned", "[\"owned\"]", ".contains(1)", ".isEmpty()"] {
        assert!(!problems(&alert("members", &format!("context{}", member.repeat(3_900 / member.len())))).is_empty(), "{member}");
    }
    let many: String = (0..=RULES_MAX).map(|number| alert(&format!("r{number}"), "context.owned")).collect();
    assert!(problems(&many).contains("201 rules, 200 is the limit"));
    let long = format!("// {}\n", "x".repeat(50_000));
    assert!(problems(&long).contains("the limit"));
    assert!(
        problems("@id(\"t\") @containment(\"alert\") @severity(\"low\") forbid(principal == ?principal, action, resource);")
            .contains("templates")
    );
}

#[test]
fn a_set_that_denies_everything_is_known_as_such() {
    assert!(RuleSet::parse(&rule("all", "deny", "true")).unwrap().denies_everything());
    assert!(RuleSet::parse(&rule("all", "quarantine_agent", "context.hour < 24")).unwrap().denies_everything());
    assert!(!RuleSet::parse(&rule("all", "alert", "true")).unwrap().denies_everything());
    assert!(!RuleSet::parse(&rule("night", "deny", "context.hour < 6")).unwrap().denies_everything());
    let calls = "@id(\"calls\") @containment(\"deny\") @severity(\"low\") forbid(principal, action == Action::\"tool_call\", resource);";
    assert!(!RuleSet::parse(calls).unwrap().denies_everything());
}

#[test]
fn rules_are_indexed_by_the_actions_that_they_name() {
    let text = "@id(\"a\") @containment(\"alert\") @severity(\"low\") forbid(principal, action in Action::\"intent\", resource);
        @id(\"b\") @containment(\"alert\") @severity(\"low\") forbid(principal, action == Action::\"payment\", resource);
        @id(\"c\") @containment(\"alert\") @severity(\"low\") forbid(principal, action in [Action::\"heartbeat\", Action::\"report\"], resource);";
    let rules = RuleSet::parse(text).unwrap();
    assert_eq!(rules.rules_of("payment"), BTreeSet::from(["a", "b"]));
    assert_eq!(rules.rules_of("tool_call"), BTreeSet::from(["a"]));
    assert_eq!(rules.rules_of("data_access"), BTreeSet::from(["c"]));
}

#[test]
fn every_fact_is_an_attribute_of_its_kind() {
    let pool = DescriptorPool::decode(proofline_proto::DESCRIPTORS).unwrap();
    let facts = pool.get_message_by_name("proofline.v1.Facts").unwrap();
    for field in facts.fields() {
        let kind = match field.kind() {
            Kind::String if field.is_list() => "Set<String>",
            Kind::String => "String",
            Kind::Bool => "Bool",
            Kind::Uint64 => "Long",
            other => panic!("{} is {other:?}", field.name()),
        };
        let line = format!("  {}: {kind},\n", field.name());
        assert!(RuleSet::schema().contains(&line), "the schema lacks {line}");
    }
    let attributes = RuleSet::schema().lines().filter(|line| line.starts_with("  ")).count();
    assert_eq!(attributes, facts.fields().count());
}
