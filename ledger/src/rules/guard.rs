//! Finds out cheaply that a rule cannot match, so that the engine is asked only where it may.
//!
//! A guard is as much of a rule's conditions as can be decided without the engine: comparisons of facts with constants, and
//! what joins them. It says *no* only where the engine would find the conditions false, and without an error: operands are
//! looked at in the engine's own order, and whatever is not understood, or could err, is left to the engine.

use cedar_policy::Policy;
use proofline_proto::v1::Facts;
use serde_json::Value as Json;

use super::attributes::{ATTRIBUTES, Attribute, Reading};

/// What is known of an expression over some facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    True,
    False,
    /// The engine must say: it may be either, or err.
    Open,
}

impl From<bool> for Known {
    fn from(is_true: bool) -> Self {
        if is_true { Self::True } else { Self::False }
    }
}

impl std::ops::Not for Known {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Open => Self::Open,
        }
    }
}

/// The conditions of a rule, as far as they are understood.
#[derive(Debug)]
pub(super) enum Guard {
    And(Box<Guard>, Box<Guard>),
    Or(Box<Guard>, Box<Guard>),
    Not(Box<Guard>),
    Flag(Operand),
    Equal(Operand, Operand),
    Less(Operand, Operand),
    LessOrEqual(Operand, Operand),
    Contains(Operand, Operand),
    Always,
    Open,
}

/// One side of a comparison.
#[derive(Debug)]
pub(super) enum Operand {
    Fact(&'static Attribute),
    Bool(bool),
    Long(i64),
    Text(String),
    Texts(Vec<String>),
}

impl Guard {
    /// Reads the conditions of a policy.
    pub(super) fn of(policy: &Policy) -> Self {
        let Ok(json) = policy.to_json() else { return Self::Open };
        let Some(conditions) = json.get("conditions").and_then(Json::as_array) else { return Self::Open };
        conditions.iter().fold(Self::Always, |before, condition| {
            let body = condition.get("body").map_or(Self::Open, Self::read);
            let body = match condition.get("kind").and_then(Json::as_str) {
                Some("when") => body,
                Some("unless") => Self::Not(Box::new(body)),
                Some(_) | None => Self::Open,
            };
            Self::And(Box::new(before), Box::new(body))
        })
    }

    /// Tells whether the rule may match, or err, over facts.
    pub(super) fn may_match(&self, facts: &Facts) -> bool {
        self.known(facts) != Known::False
    }

    fn read(json: &Json) -> Self {
        let Some((operator, of)) = json.as_object().filter(|it| it.len() == 1).and_then(|it| it.iter().next()) else { return Self::Open };
        let side = |name: &str| of.get(name);
        let both = |join: fn(Box<Self>, Box<Self>) -> Self| match (side("left"), side("right")) {
            (Some(left), Some(right)) => join(Box::new(Self::read(left)), Box::new(Self::read(right))),
            _ => Self::Open,
        };
        let compare = |join: fn(Operand, Operand) -> Self| {
            let operands = side("left").and_then(Operand::read).zip(side("right").and_then(Operand::read));
            operands.map_or(Self::Open, |(left, right)| join(left, right))
        };
        match operator.as_str() {
            "&&" => both(Self::And),
            "||" => both(Self::Or),
            "!" => side("arg").map_or(Self::Open, |it| Self::Not(Box::new(Self::read(it)))),
            "==" => compare(Self::Equal),
            "!=" => Self::Not(Box::new(compare(Self::Equal))),
            "<" => compare(Self::Less),
            "<=" => compare(Self::LessOrEqual),
            ">" => compare(|left, right| Self::Less(right, left)),
            ">=" => compare(|left, right| Self::LessOrEqual(right, left)),
            "contains" => compare(Self::Contains),
            _ => Operand::read(json).map_or(Self::Open, Self::Flag),
        }
    }

    fn known(&self, facts: &Facts) -> Known {
        match self {
            Self::Always => Known::True,
            Self::Open => Known::Open,
            // As the engine does: what stands on the right is looked at only when the left lets it.
            Self::And(left, right) => match left.known(facts) {
                Known::True => right.known(facts),
                decided => decided,
            },
            Self::Or(left, right) => match left.known(facts) {
                Known::False => right.known(facts),
                decided => decided,
            },
            Self::Not(of) => !of.known(facts),
            Self::Flag(of) => match of.value(facts) {
                Reading::Bool(flag) => flag.into(),
                Reading::Long(_) | Reading::Text(_) | Reading::Set(_) => Known::Open,
            },
            Self::Equal(left, right) => match (left.value(facts), right.value(facts)) {
                (Reading::Bool(left), Reading::Bool(right)) => (left == right).into(),
                (Reading::Long(left), Reading::Long(right)) => (left == right).into(),
                (Reading::Text(left), Reading::Text(right)) => (left == right).into(),
                _ => Known::Open,
            },
            Self::Less(left, right) => match (left.value(facts), right.value(facts)) {
                (Reading::Long(left), Reading::Long(right)) => (left < right).into(),
                _ => Known::Open,
            },
            Self::LessOrEqual(left, right) => match (left.value(facts), right.value(facts)) {
                (Reading::Long(left), Reading::Long(right)) => (left <= right).into(),
                _ => Known::Open,
            },
            Self::Contains(set, member) => match (set.value(facts), member.value(facts)) {
                (Reading::Set(set), Reading::Text(member)) => set.iter().any(|it| it == member).into(),
                _ => Known::Open,
            },
        }
    }
}

impl Operand {
    fn read(json: &Json) -> Option<Self> {
        let (kind, of) = json.as_object().filter(|it| it.len() == 1)?.iter().next()?;
        match kind.as_str() {
            "." => {
                let is_context = of.get("left")?.get("Var")?.as_str()? == "context";
                let name = of.get("attr")?.as_str().filter(|_| is_context)?;
                ATTRIBUTES.iter().find(|it| it.name == name).map(Self::Fact)
            }
            "Value" => match of {
                Json::Bool(it) => Some(Self::Bool(*it)),
                Json::Number(it) => it.as_i64().map(Self::Long),
                Json::String(it) => Some(Self::Text(it.clone())),
                Json::Null | Json::Array(_) | Json::Object(_) => None,
            },
            "Set" => {
                let texts = of.as_array()?.iter().map(|it| Some(it.get("Value")?.as_str()?.to_owned()));
                texts.collect::<Option<_>>().map(Self::Texts)
            }
            _ => None,
        }
    }

    fn value<'a>(&'a self, facts: &'a Facts) -> Reading<'a> {
        match self {
            Self::Fact(attribute) => attribute.read(facts),
            Self::Bool(it) => Reading::Bool(*it),
            Self::Long(it) => Reading::Long(*it),
            Self::Text(it) => Reading::Text(it),
            Self::Texts(it) => Reading::Set(it),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use prost_reflect::{DescriptorPool, DynamicMessage, Kind, Value};

    use super::super::RuleSet;
    use super::*;

    /// Rules in which a guard could go wrong: an error before what is false, and behind it; operators of every kind, and some
    /// that no guard knows.
    const TRAPS: &str = r#"
        @id("errs-first") @containment("deny") @severity("low") forbid(principal, action, resource)
            when { context.session_calls * 9223372036854775807 * 2 > 0 && context.tainted };
        @id("errs-behind") @containment("deny") @severity("low") forbid(principal, action, resource)
            when { context.tainted && context.session_calls * 9223372036854775807 * 2 > 0 };
        @id("errs-in-or") @containment("deny") @severity("low") forbid(principal, action, resource)
            when { (context.session_calls * 9223372036854775807 * 2 > 0 || context.tainted) && context.egress };
        @id("unless-errs") @containment("deny") @severity("low") forbid(principal, action, resource)
            when { context.egress } unless { context.tainted || context.session_calls * 9223372036854775807 * 2 > 0 };
        @id("if") @containment("deny") @severity("low") forbid(principal, action, resource)
            when { if context.tainted then context.hour < 3 else !(context.hour <= 2) };
        @id("like") @containment("deny") @severity("low") forbid(principal, action, resource)
            when { context.tool like "a*" || context.hour != 2 };
        @id("sets") @containment("deny") @severity("low") forbid(principal, action, resource)
            when { context.resources.contains(context.tool) || ["a", "b"].contains(context.server) || context.tags == context.systems };
        @id("sum") @containment("deny") @severity("low") forbid(principal, action, resource)
            when { context.hour + context.weekday == 3 && context.egress == true && -1 < context.depth };
    "#;

    fn message(values: &[u8]) -> Facts {
        let pool = DescriptorPool::decode(proofline_proto::DESCRIPTORS).unwrap();
        let facts = pool.get_message_by_name("proofline.v1.Facts").unwrap();
        let texts = ["", "a", "b", "production", "resource_delete", "model_call", "profile", "mcp"];
        let numbers = [0, 1, 2, 3, 6, 22, 1_000, u64::MAX];
        let mut message = DynamicMessage::new(facts.clone());
        for (field, value) in facts.fields().zip(values.iter().cycle()) {
            let at = usize::from(*value) % 8;
            let text = |at: usize| Value::String(texts.get(at % 8).copied().unwrap_or_default().to_owned());
            let value = match field.kind() {
                Kind::String if field.is_list() => Value::List((0..at % 3).map(|more| text(at + more)).collect()),
                Kind::String => text(at),
                Kind::Bool => Value::Bool(at % 2 == 0),
                Kind::Uint64 => Value::U64(numbers.get(at).copied().unwrap_or_default()),
                other => panic!("{other:?}"),
            };
            message.set_field(&field, value);
        }
        Facts::decode(message.encode_to_vec().as_slice()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn what_a_guard_rules_out_the_engine_finds_false(values in prop::collection::vec(any::<u8>(), 101), action in 0..34_usize) {
            let (name, _) = *crate::facts::act::ACTIONS.get(action).unwrap();
            let facts = Facts { action: name.to_owned(), ..message(&values) };
            for text in [include_str!("../../../client/rules/proofline.cedar"), include_str!("../../../client/rules/airline.cedar"), TRAPS] {
                let rules = RuleSet::parse(text).unwrap();
                let Some(of) = rules.by_action.get(name) else { continue };
                for candidate in rules.of_action(of).filter(|it| !it.guard.may_match(&facts)) {
                    prop_assert_eq!(rules.ask(&of.uid, candidate, &facts), None, "{}", candidate.id);
                }
            }
        }
    }

    #[test]
    fn the_guards_of_the_shipped_pack_are_understood() {
        let rules = RuleSet::parse(include_str!("../../../client/rules/proofline.cedar")).unwrap();
        let quiet = super::super::unremarkable("tool_call");
        let of = rules.by_action.get("tool_call").unwrap();
        let asked: Vec<_> = rules.of_action(of).filter(|it| it.guard.may_match(&quiet)).map(|it| it.id.as_str()).collect();
        assert!(asked.is_empty(), "the engine is asked about an event of which nothing is to be said: {asked:?}");
    }
}
