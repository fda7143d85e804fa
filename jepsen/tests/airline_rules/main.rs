//! The airline's rules on a real cluster: a hundred real agent runs, whose incidents are known, and altered ones in which the
//! agent touches another customer's reservation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod altered;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;

use altered::{Altered, Touch};
use world::{Recorded, World};

/// Which traces each rule should find: the incidents of the data's own description, found there by script, from the spans
/// alone. `refunds-go-on` are those of `refunds` with a call that writes after the sum was reached.
const INCIDENTS: &str = include_str!("incidents.json");

/// What rules find beside that; why is in `client/rules/README.md`.
const FALSE_POSITIVES: [(&str, &[&str]); 1] = [("cancel-policy", &["0aee01de699a3bf9b7f71aa70dfa6dca"])];

type Traces = BTreeSet<String>;

fn set(traces: &[impl ToString]) -> Traces {
    traces.iter().map(ToString::to_string).collect()
}

/// Groups the findings of rules by rule and trace.
fn fired(recorded: &[Recorded]) -> BTreeMap<String, Traces> {
    let mut fired: BTreeMap<String, Traces> = BTreeMap::new();
    for it in recorded {
        for finding in it.findings.iter().filter(|finding| finding.kind() != v1::FindingKind::BuiltIn) {
            assert_eq!(finding.kind(), v1::FindingKind::Match, "{} erred or was approved", finding.rule_id);
            fired.entry(finding.rule_id.clone()).or_default().insert(it.trace.clone());
        }
    }
    fired
}

fn report(fired: &BTreeMap<String, Traces>, incidents: &BTreeMap<String, Vec<String>>) {
    let none = Traces::new();
    println!("{:<22}{:>6}{:>8}{:>8}  false positives", "rule", "fired", "should", "missed");
    for (rule, should) in incidents {
        let (found, should) = (fired.get(rule).unwrap_or(&none), set(should));
        let extra: Vec<&String> = found.difference(&should).collect();
        println!("{rule:<22}{:>6}{:>8}{:>8}  {extra:?}", found.len(), should.len(), should.difference(found).count());
    }
}

#[tokio::test]
async fn every_incident_of_a_hundred_runs_is_found_and_other_peoples_data_are_out_of_reach() {
    let world = World::found().await;
    world.activate();
    let lines = world::lines();
    // A reservation that the ledger has never seen: only its result can tell whose it is.
    let unknown = Altered::of(&lines, "unknown", Touch::ReadThenCancel);
    world.import(&[&unknown.line]);
    world.import(&lines);
    // The same reservation in runs of their own: by now the ledger knows whose it is.
    let known = Altered::of(&lines, "known", Touch::ReadThenCancel);
    let blind = Altered::of(&lines, "blind", Touch::CancelOnly);
    world.import(&[&known.line, &blind.line]);

    let recorded = world.recorded().await;
    let altered: Traces = [&unknown, &known, &blind].map(|it| it.trace.clone()).into();
    let real: Vec<Recorded> = recorded.iter().filter(|it| !altered.contains(&it.trace)).cloned().collect();
    let incidents: BTreeMap<String, Vec<String>> = serde_json::from_str(INCIDENTS).unwrap();
    let fired = fired(&real);
    report(&fired, &incidents);
    let false_positives: BTreeMap<_, _> = FALSE_POSITIVES.into_iter().collect();
    for (rule, should) in &incidents {
        let expected = &set(should) | &set(false_positives.get(rule.as_str()).copied().unwrap_or_default());
        assert_eq!(fired.get(rule).cloned().unwrap_or_default(), expected, "{rule}");
    }
    assert!(fired.keys().all(|rule| incidents.contains_key(rule)), "a rule of which nothing is known: {:?}", fired.keys());

    caught(&recorded, &unknown, "foreign-read", Moment::Outcome);
    caught(&recorded, &known, "foreign-read", Moment::Intent);
    caught(&recorded, &blind, "foreign-write", Moment::Intent);
    let contained: Traces = recorded.iter().filter(|it| it.is_contained()).map(|it| it.trace.clone()).collect();
    assert_eq!(contained, altered, "no other session is stopped");
    assert_eq!(world.containments().await.len(), altered.len());
    nobody_is_named(&recorded, &lines);
}

/// Asserts that neither customers nor what they own entered the log.
fn nobody_is_named(recorded: &[Recorded], lines: &[String]) {
    let words = lines.iter().flat_map(|line| line.split(|it: char| !it.is_alphanumeric() && it != '_' && it != '@' && it != '.'));
    let of_persons =
        |it: &&str| it.contains("@example") || ["credit_card_", "gift_card_", "certificate_"].iter().any(|of| it.starts_with(of));
    let mut secrets: BTreeSet<&str> = words.filter(of_persons).collect();
    let users: Vec<String> = lines.iter().filter_map(|line| altered::user(line)).collect();
    secrets.extend(users.iter().map(String::as_str));
    assert!(secrets.len() > 100, "{}", secrets.len());
    for it in recorded {
        let named = secrets.iter().find(|secret| it.text.contains(*secret));
        assert!(named.is_none(), "entry {} names {named:?}", it.index);
    }
}

/// Where the first foreign call is caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Intent,
    Outcome,
}

/// Asserts that the altered run is stopped at its first foreign call, by a containment that the rule began, and stays stopped.
fn caught(recorded: &[Recorded], altered: &Altered, rule: &str, at: Moment) {
    let events: Vec<&Recorded> = recorded.iter().filter(|it| it.trace == altered.trace).collect();
    let first = events.iter().position(|it| it.span == altered.first_foreign_span).unwrap();
    let stopped = events.iter().position(|it| it.finding(rule).is_some()).unwrap();
    assert_eq!(stopped, if at == Moment::Intent { first } else { first + 1 }, "the outcome follows its intent");
    let before = events[..stopped].iter().find(|it| it.verdict == v1::Verdict::Deny || it.is_contained());
    assert!(before.is_none(), "nothing is stopped before: {before:?}");

    let finding = events[stopped].finding(rule).unwrap();
    assert_eq!(events[stopped].verdict, v1::Verdict::Deny);
    assert!(finding.containment_id > 0, "the rule began a containment");
    let later = &events[stopped + 1..];
    assert!(later.iter().any(|it| it.span == altered.write_span), "the write comes later");
    for it in later {
        assert_eq!(it.verdict, v1::Verdict::Deny, "entry {}", it.index);
        assert_eq!(it.finding("built-in/contained").map(|it| it.containment_id), Some(finding.containment_id), "entry {}", it.index);
    }
}
