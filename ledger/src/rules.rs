//! Rule sets: Cedar policies that say what the ledger does about an event, given its facts.
//!
//! A rule is a `forbid` with annotations that name it and say what follows. What is always true: a set that was checked
//! evaluates to the same findings everywhere, because conditions are shallow, evaluation has a deep stack wherever it runs,
//! counters cannot overflow, and what matches is sorted. A rule that errs is a finding, never silence.

mod annotations;
mod attributes;
mod check;
mod statement;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Entities, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, Request,
};
use proofline_proto::v1;

pub use annotations::{Consequence, Mode, Rule};
pub(crate) use attributes::SCHEMA;
use attributes::{ATTRIBUTES, Attribute};
pub use check::{RuleFault, RuleProblem};

use crate::facts::act::ACTIONS;
use crate::hash::{Hash, rule_set_digest};

/// The engine of this apply version: crate and version. Another one may decide differently, and needs an apply version of its own.
pub const ENGINE: &str = "cedar-policy 4.14.1";

/// Stack that an evaluation has at least, wherever it runs.
const STACK_FREE_MIN: usize = 8 << 20;
/// Stack that is made where there is less.
const STACK_BYTES: usize = 16 << 20;

/// Stack for reading a rule set: a rule of [`RULE_BYTES_MAX`](crate::limits::RULE_BYTES_MAX) cannot use it up, whatever it says.
const PARSING_STACK_BYTES: usize = 128 << 20;

/// Runs with the stack that evaluation needs: Cedar skips a rule when its stack runs short.
pub(crate) fn on_deep_stack<T>(run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_FREE_MIN, STACK_BYTES, run)
}

/// A rule set that was checked.
#[derive(Debug)]
pub struct RuleSet {
    text: String,
    digest: Hash,
    rules: BTreeMap<String, Rule>,
    by_action: BTreeMap<&'static str, OfAction>,
    groups: Entities,
    agent: EntityTypeName,
    session: EntityTypeName,
}

/// What can match an action.
#[derive(Debug)]
struct OfAction {
    uid: EntityUid,
    policies: PolicySet,
    /// Attributes that these policies read: nothing else is handed over.
    attributes: Vec<&'static Attribute>,
}

/// A rule that has something to say about an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fired<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) because: Because,
}

/// Why a rule has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    Matched,
    Erred,
}

impl RuleSet {
    /// Reads and checks a rule set.
    ///
    /// # Errors
    /// Every [`RuleProblem`] that was found, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<RuleProblem>> {
        stacker::grow(PARSING_STACK_BYTES, || Self::build(text))
    }

    fn build(text: &str) -> Result<Self, Vec<RuleProblem>> {
        let checked = check::check(text)?;
        let digest = rule_set_digest(ENGINE, &SCHEMA, text);
        let mut by_action = BTreeMap::new();
        for (action, _) in ACTIONS {
            let uid = checked.action(action)?;
            let of_action = checked.policies.iter().filter(|(policy, _)| check::applies(policy, &uid, &checked.groups));
            let policies: Vec<&Policy> = of_action.map(|(policy, _)| policy).collect();
            if !policies.is_empty() {
                let read = check::attributes_read(&policies);
                let attributes = ATTRIBUTES.iter().filter(|it| read.contains(it.name)).collect();
                by_action.insert(action, OfAction { uid, policies: checked.with_permit(&policies)?, attributes });
            }
        }
        let rules = checked.policies.into_iter().map(|(_, rule)| (rule.id.clone(), rule)).collect();
        Ok(Self { text: text.to_owned(), digest, rules, by_action, groups: checked.groups, agent: checked.agent, session: checked.session })
    }

    /// Returns the exact text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the digest of engine, schema and text.
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.digest
    }

    /// Returns the rules, by id.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }

    /// Returns the rules that can match an action, by id.
    #[must_use]
    pub fn rules_of(&self, action: &str) -> BTreeSet<&str> {
        let of_action = self.by_action.get(action).into_iter().flat_map(|it| it.policies.policies());
        of_action.map(|policy| -> &str { policy.id().as_ref() }).filter_map(|id| self.rules.get(id)).map(|rule| rule.id.as_str()).collect()
    }

    /// Returns the schema that rules are checked against, in Cedar's notation.
    #[must_use]
    pub fn schema() -> &'static str {
        &SCHEMA
    }

    /// Tells whether the set denies an event of which nothing is to be said, whatever the event is.
    #[must_use]
    pub fn denies_everything(&self) -> bool {
        let denies = |it: &Fired<'_>| it.rule.mode == Mode::Enforce && it.rule.consequence.denies();
        on_deep_stack(|| ACTIONS.iter().all(|(action, _)| self.fired(&unremarkable(action)).iter().any(denies)))
    }

    /// Returns the ids of the rules that have something to say about facts, whatever it is.
    #[must_use]
    pub fn evaluate(&self, facts: &v1::Facts) -> BTreeSet<String> {
        on_deep_stack(|| self.fired(facts).iter().map(|it| it.rule.id.clone()).collect())
    }

    /// Evaluates the rules of the facts' action, and returns what has something to say, by rule id.
    pub(crate) fn fired(&self, facts: &v1::Facts) -> Vec<Fired<'_>> {
        let Some(of) = self.by_action.get(facts.action.as_str()) else { return Vec::new() };
        let mut fired: BTreeMap<&str, Fired<'_>> = BTreeMap::new();
        let note = |id: &str, because| self.rules.get(id).map(|rule| (rule.id.as_str(), Fired { rule, because }));
        match self.request(of, facts) {
            Some(request) => {
                let response = Authorizer::new().is_authorized(&request, &of.policies, &self.groups);
                fired.extend(response.diagnostics().reason().filter_map(|id| note(id.as_ref(), Because::Matched)));
                for AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
                    fired.extend(note(error.policy_id().as_ref(), Because::Erred));
                }
            }
            // No set of facts leads here. Were there one, every rule would have erred.
            None => fired.extend(of.policies.policies().filter_map(|policy| note(policy.id().as_ref(), Because::Erred))),
        }
        fired.into_values().collect()
    }

    fn request(&self, of: &OfAction, facts: &v1::Facts) -> Option<Request> {
        let context = Context::from_pairs(of.attributes.iter().map(|it| (it.name.to_owned(), it.value(facts)))).ok()?;
        let named = |kind: &EntityTypeName, id: &str| EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id));
        let (agent, session) = (named(&self.agent, &facts.agent), named(&self.session, &facts.session));
        // Without a schema: the attributes are those that the schema names, less those that nobody reads.
        Request::new(agent, of.uid.clone(), session, context, None).ok()
    }
}

/// An event of a registered agent in production, with everything declared and nothing new.
fn unremarkable(action: &str) -> v1::Facts {
    v1::Facts {
        action: action.to_owned(),
        tenant: "tenant".to_owned(),
        agent: "agent".to_owned(),
        session: "session".to_owned(),
        vantage: "gateway_observed".to_owned(),
        agent_state: "production".to_owned(),
        owned: true,
        server_known: true,
        purpose: "purpose".to_owned(),
        purpose_declared: true,
        tool_in_purpose: true,
        resources_in_purpose: true,
        classification_in_purpose: true,
        regions_in_purpose: true,
        hour: 12,
        weekday: 3,
        observed_hour: 12,
        observed_weekday: 3,
        ..Default::default()
    }
}

fn policy_id(id: &str) -> PolicyId {
    PolicyId::new(id)
}
