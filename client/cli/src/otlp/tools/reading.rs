//! Reads the calls of a trace, in the order of time.

use std::collections::BTreeMap;

use proofline_ledger::limits::EVENT_LIST_MAX;
use proofline_proto::v1;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    ToolMap,
    form::{Amount, Comparison, Limit, Tool, ToolResource},
    place::{Place, Root, Seen, Subjects},
};
use crate::otlp::{content::Pseudonyms, trace::Span};

/// What a tool map tells of one call.
#[derive(Debug, Default)]
pub(crate) struct Told {
    verb: v1::ActionVerb,
    tier: v1::RiskTier,
    resources: Vec<v1::Resource>,
    action_digest: Vec<u8>,
    asked_minor: u64,
    accesses: Vec<v1::DataAccess>,
    records: u64,
    moved_minor: u64,
}

impl Told {
    /// Adds what is known before the call.
    pub(crate) fn intend(&self, intent: &mut v1::ActionIntent) {
        intent.verb = self.verb.into();
        if let Some(tool) = &mut intent.tool {
            tool.tier = self.tier.into();
        }
        intent.resources.clone_from(&self.resources);
        intent.action_digest.clone_from(&self.action_digest);
        intent.amount_minor = self.asked_minor;
    }

    /// Adds what its result shows.
    pub(crate) fn happen(&self, outcome: &mut v1::ActionOutcome) {
        outcome.accesses.clone_from(&self.accesses);
        outcome.records = self.records;
        outcome.amount_minor = self.moved_minor;
    }
}

/// The calls of one trace, as far as they were read.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    map: &'a ToolMap,
    subjects: Subjects<'a>,
    /// The newest record of each resource.
    known: BTreeMap<String, Value>,
}

/// One call of a tool that is in the map.
struct Call<'a> {
    tool: &'a Tool,
    seen: Seen<'a>,
    subjects: Subjects<'a>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(map: &'a ToolMap, issuer: &'a str, pseudonyms: &'a Pseudonyms) -> Self {
        Self { map, subjects: Subjects { issuer, pseudonyms }, known: BTreeMap::new() }
    }

    /// Reads the next call of the trace; nothing is told of a tool that is not in the map.
    pub(crate) fn read(&mut self, span: &Span, status: v1::OutcomeStatus) -> Option<Told> {
        let tool = self.map.tool.get(&span.text_or_empty("gen_ai.tool.name"))?;
        let arguments = arguments(span);
        let has_succeeded = status == v1::OutcomeStatus::Succeeded;
        let result = span.text("gen_ai.tool.call.result").filter(|_| has_succeeded).and_then(|text| serde_json::from_str(&text).ok());
        let before = Seen { arguments: &arguments, result: None, known: None };
        let uris = tool.resource.iter().filter_map(|it| it.uri.fill(&before, self.subjects));
        let known = uris.into_iter().find_map(|uri| self.known.get(&uri));
        let call = Call { tool, seen: Seen { known, result: result.as_ref(), ..before }, subjects: self.subjects };
        let mut told = call.intended();
        if has_succeeded {
            call.happened(&mut told);
        }
        let shown = call.shown();
        self.known.extend(shown);
        Some(told)
    }
}

/// Arguments as JSON; as the text that they are when they are no JSON.
fn arguments(span: &Span) -> Value {
    let text = span.text_or_empty("gen_ai.tool.call.arguments");
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

impl Call<'_> {
    fn intended(&self) -> Told {
        let before = Seen { result: None, ..self.seen };
        let resources = self.tool.resource.iter().filter(|it| it.uri.is_of_intent());
        let mut resources: Vec<_> = resources.filter_map(|it| self.resource(it, &before)).take(EVENT_LIST_MAX).collect();
        if let Some(first) = resources.first_mut() {
            first.tags.extend(self.remarks(|root| root != Root::Result));
        }
        let asked_minor = match &self.tool.amount {
            Some(Amount::Paid { place, minor_units }) if place.root == Root::Arguments => sum(&place.values(&before), *minor_units, is_any),
            Some(Amount::Paid { .. } | Amount::Refunded { .. }) | None => 0,
        };
        Told {
            verb: self.tool.verb,
            tier: self.tool.tier,
            resources: resources.into_iter().map(cut).collect(),
            action_digest: self.action_digest(),
            asked_minor,
            ..Told::default()
        }
    }

    fn happened(&self, told: &mut Told) {
        let mut resources: Vec<_> = self.tool.resource.iter().filter_map(|it| self.resource(it, &self.seen)).take(EVENT_LIST_MAX).collect();
        if let Some(first) = resources.first_mut() {
            first.tags.extend(self.remarks(|_| true));
        }
        let access = |resource| v1::DataAccess {
            resource: Some(cut(resource)),
            verb: self.tool.verb.into(),
            records: 1,
            status: v1::OutcomeStatus::Succeeded.into(),
            ..Default::default()
        };
        told.accesses = resources.into_iter().map(access).collect();
        told.records = match &self.tool.records {
            Some(place) => place.values(&self.seen).into_iter().map(|it| it.as_array().map_or(1, |items| items.len() as u64)).sum(),
            None => told.accesses.len() as u64,
        };
        told.moved_minor = match &self.tool.amount {
            Some(Amount::Paid { place, minor_units }) => sum(&place.values(&self.seen), *minor_units, is_any),
            Some(Amount::Refunded { place, minor_units }) => sum(&self.added(place), *minor_units, is_negative),
            None => 0,
        };
    }

    /// Returns the elements of a list that this call added: those beyond what was known of it, the last where nothing was.
    fn added(&self, place: &Place) -> Vec<&Value> {
        let values = place.values(&self.seen);
        let known = match self.seen.known {
            Some(_) => place.of(Root::Known).values(&self.seen).len(),
            None => values.len().saturating_sub(1),
        };
        values.into_iter().skip(known).collect()
    }

    fn resource(&self, of: &ToolResource, seen: &Seen<'_>) -> Option<v1::Resource> {
        let owner = of.owner.as_ref().and_then(|place| place.text(seen));
        let owner = owner.map(|user| format!("owner:{}", self.subjects.of(&user)));
        Some(v1::Resource {
            uri: of.uri.fill(seen, self.subjects)?,
            system: of.system.clone(),
            kind: of.kind.into(),
            environment: of.environment.into(),
            classification: of.classification.into(),
            tags: owner.into_iter().chain(of.tags.iter().filter_map(|tag| tag.fill(seen, self.subjects))).collect(),
            region: of.region.clone(),
        })
    }

    /// Returns the tags of comparisons and counts at places of some roots.
    fn remarks(&self, of: impl Fn(Root) -> bool) -> Vec<String> {
        let compared = self.tool.compare.iter().filter(|it| of(it.one.root) && of(it.other.root) && it.differs(&self.seen));
        let counted = self.tool.count.iter().filter(|it| of(it.of.root) && it.is_exceeded(&self.seen));
        compared.map(|it| it.tag.clone()).chain(counted.map(|it| it.tag.clone())).collect()
    }

    /// Returns the records that the result shows, by resource.
    fn shown(&self) -> Vec<(String, Value)> {
        let of = |it: &ToolResource| match it.record.as_ref()?.values(&self.seen).as_slice() {
            [record @ Value::Object(_)] => Some((it.uri.fill(&self.seen, self.subjects)?, (*record).clone())),
            _ => None,
        };
        self.tool.resource.iter().filter_map(of).collect()
    }

    /// Returns the digest that an approval of exactly this call binds: of the arguments with sorted names and no spaces, users
    /// as subjects, so that no name can be guessed from it.
    fn action_digest(&self) -> Vec<u8> {
        let mut exact = self.seen.arguments.clone();
        for resource in &self.tool.resource {
            let users = resource.owner.iter().chain(resource.uri.users()).chain(resource.tags.iter().flat_map(|it| it.users()));
            for place in users.filter(|place| place.root == Root::Arguments) {
                self.disguise(&mut exact, &place.steps, self.seen.arguments);
            }
        }
        exact.sort_all_objects();
        Sha256::digest(exact.to_string()).to_vec()
    }

    /// Puts the subject in the place of the user who is named in the original.
    fn disguise(&self, exact: &mut Value, steps: &[String], original: &Value) {
        match (exact, original, steps) {
            (exact, Value::String(user), []) => *exact = Value::String(self.subjects.of(user)),
            (Value::Object(members), Value::Object(originals), [step, rest @ ..]) => {
                if let (Some(member), Some(original)) = (members.get_mut(step), originals.get(step)) {
                    self.disguise(member, rest, original);
                }
            }
            _ => (),
        }
    }
}

impl Comparison {
    /// Whether both places have values, and not the same.
    fn differs(&self, seen: &Seen<'_>) -> bool {
        let (one, other) = (self.one.values(seen), self.other.values(seen));
        let reduced = |values: &[&Value]| -> Vec<Value> { values.iter().map(|value| self.reduced(value)).collect() };
        !one.is_empty() && !other.is_empty() && reduced(&one) != reduced(&other)
    }

    fn reduced(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.reduced(item)).collect(),
            Value::Object(members) if !self.by.is_empty() => {
                self.by.iter().map(|name| members.get(name).cloned().unwrap_or_default()).collect()
            }
            value => value.clone(),
        }
    }
}

impl Limit {
    fn is_exceeded(&self, seen: &Seen<'_>) -> bool {
        let values = self.of.values(seen);
        values.iter().filter(|it| it.as_str().is_some_and(|text| text.starts_with(&self.begins))).count() > self.more_than
    }
}

/// An event of the ledger has short lists.
fn cut(mut resource: v1::Resource) -> v1::Resource {
    resource.tags.truncate(EVENT_LIST_MAX);
    resource
}

fn is_any(_: i128) -> bool {
    true
}

fn is_negative(minor: i128) -> bool {
    minor < 0
}

/// Sums up amounts of one kind, in minor units. What is no number, or too large to be money, does not count.
fn sum(values: &[&Value], minor_units: u64, counts: fn(i128) -> bool) -> u64 {
    let amounts = values.iter().filter_map(|value| minor(value, minor_units)).filter(|minor| counts(*minor));
    u64::try_from(amounts.sum::<i128>().abs()).unwrap_or_default()
}

/// Reads a decimal number, exactly.
fn minor(value: &Value, minor_units: u64) -> Option<i128> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.as_str()), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_money = whole.len() <= 15 && fraction.len() <= 9 && !whole.is_empty();
    let is_number = whole.chars().chain(fraction.chars()).all(|it| it.is_ascii_digit());
    if !is_money || !is_number {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let exact: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some(sign * exact * i128::from(minor_units) / scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_exact_in_minor_units() {
        let of = |value: Value| minor(&value, 100);
        assert_eq!(of(json!(-6594)), Some(-659_400));
        assert_eq!(of(json!(12.5)), Some(1_250));
        assert_eq!(of(json!("0.10")), Some(10));
        for none in [json!("12 dollars"), json!(null), json!(1e30), json!("")] {
            assert_eq!(of(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn only_what_is_negative_is_refunded() {
        let list = [json!(7136), json!(-6594), json!(-2)];
        assert_eq!(sum(&list.iter().collect::<Vec<_>>(), 100, is_negative), 659_600);
    }
}
