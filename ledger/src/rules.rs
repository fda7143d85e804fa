//! Rule sets: Cedar policies that say what the ledger does about an event, given its facts.
//!
//! A rule is a `forbid` with annotations that name it and say what follows. What is always true: a set that was checked
//! evaluates to the same findings everywhere, because conditions are shallow, evaluation has a deep stack wherever it runs,
//! counters cannot overflow, and what matches is sorted. A rule that errs is a finding, never silence.

mod annotations;
mod attributes;
mod check;
mod guard;
mod statement;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, Request};
use proofline_proto::v1;

pub use annotations::{Consequence, Mode, Rule};
pub(crate) use attributes::SCHEMA;
use attributes::{ATTRIBUTES, Attribute};
pub use check::{RuleFault, RuleProblem};
use guard::Guard;

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
    candidates: Vec<Candidate>,
    by_action: BTreeMap<&'static str, OfAction>,
    groups: Entities,
    agent: EntityTypeName,
    session: EntityTypeName,
}

/// What can match an action.
#[derive(Debug)]
struct OfAction {
    uid: EntityUid,
    /// Places in the list of candidates.
    candidates: Vec<usize>,
}

/// A rule, ready to be evaluated by itself.
#[derive(Debug)]
struct Candidate {
    id: String,
    guard: Guard,
    /// The policy, and the permit that lets everything else through.
    policies: PolicySet,
    /// Attributes that the policy reads: nothing else is handed over.
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

impl Fired<'_> {
    /// Returns what follows.
    pub(crate) fn consequence(&self) -> Consequence {
        match self.because {
            Because::Matched => self.rule.consequence,
            Because::Erred => self.rule.on_error,
        }
    }

    fn denies(&self) -> bool {
        self.rule.mode == Mode::Enforce && self.consequence().denies()
    }
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
            let applies = |(_, (policy, _)): &(usize, &(Policy, Rule))| check::applies(policy, &uid, &checked.groups);
            let candidates: Vec<usize> = checked.policies.iter().enumerate().filter(applies).map(|(at, _)| at).collect();
            if !candidates.is_empty() {
                by_action.insert(action, OfAction { uid, candidates });
            }
        }
        let candidate = |(policy, rule): &(Policy, Rule)| {
            let read = check::attributes_read(policy);
            Ok(Candidate {
                id: rule.id.clone(),
                guard: Guard::of(policy),
                policies: checked.with_permit(policy)?,
                attributes: ATTRIBUTES.iter().filter(|it| read.contains(it.name)).collect(),
            })
        };
        let candidates = checked.policies.iter().map(candidate).collect::<Result<_, Vec<RuleProblem>>>()?;
        let rules = checked.policies.into_iter().map(|(_, rule)| (rule.id.clone(), rule)).collect();
        Ok(Self {
            text: text.to_owned(),
            digest,
            rules,
            candidates,
            by_action,
            groups: checked.groups,
            agent: checked.agent,
            session: checked.session,
        })
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
        self.by_action.get(action).into_iter().flat_map(|of| self.of_action(of)).map(|candidate| candidate.id.as_str()).collect()
    }

    fn of_action<'a>(&'a self, of: &'a OfAction) -> impl Iterator<Item = &'a Candidate> {
        of.candidates.iter().filter_map(|at| self.candidates.get(*at))
    }

    /// Returns the schema that rules are checked against, in Cedar's notation.
    #[must_use]
    pub fn schema() -> &'static str {
        &SCHEMA
    }

    /// Tells whether the set denies an event of which nothing is to be said, whatever the event is.
    #[must_use]
    pub fn denies_everything(&self) -> bool {
        on_deep_stack(|| ACTIONS.iter().all(|(action, _)| self.fired(&unremarkable(action)).iter().any(Fired::denies)))
    }

    /// Returns the ids of the rules that have something to say about facts, whatever it is.
    #[must_use]
    pub fn evaluate(&self, facts: &v1::Facts) -> BTreeSet<String> {
        on_deep_stack(|| self.fired(facts).iter().map(|it| it.rule.id.clone()).collect())
    }

    /// Tells whether a rule denies an event with these facts.
    #[must_use]
    pub fn denies(&self, facts: &v1::Facts) -> bool {
        on_deep_stack(|| self.fired(facts).iter().any(Fired::denies))
    }

    /// Evaluates the rules of the facts' action, and returns what has something to say, by rule id.
    pub(crate) fn fired(&self, facts: &v1::Facts) -> Vec<Fired<'_>> {
        let Some(of) = self.by_action.get(facts.action.as_str()) else { return Vec::new() };
        let mut fired: BTreeMap<&str, Fired<'_>> = BTreeMap::new();
        for candidate in self.of_action(of).filter(|it| it.guard.may_match(facts)) {
            if let (Some(because), Some(rule)) = (self.ask(&of.uid, candidate, facts), self.rules.get(&candidate.id)) {
                fired.insert(&rule.id, Fired { rule, because });
            }
        }
        fired.into_values().collect()
    }

    /// Has the engine evaluate one rule.
    fn ask(&self, action: &EntityUid, candidate: &Candidate, facts: &v1::Facts) -> Option<Because> {
        // No facts lead to no request. Were there some, the rule would have erred.
        let Some(request) = self.request(action, candidate, facts) else { return Some(Because::Erred) };
        let response = Authorizer::new().is_authorized(&request, &candidate.policies, &self.groups);
        let has_erred = response.diagnostics().errors().next().is_some();
        match response.decision() {
            Decision::Deny => Some(Because::Matched),
            Decision::Allow => has_erred.then_some(Because::Erred),
        }
    }

    fn request(&self, action: &EntityUid, candidate: &Candidate, facts: &v1::Facts) -> Option<Request> {
        let context = Context::from_pairs(candidate.attributes.iter().map(|it| (it.name.to_owned(), it.value(facts)))).ok()?;
        let named = |kind: &EntityTypeName, id: &str| EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id));
        let (agent, session) = (named(&self.agent, &facts.agent), named(&self.session, &facts.session));
        // Without a schema: the attributes are those that the schema names, less those that nobody reads.
        Request::new(agent, action.clone(), session, context, None).ok()
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
