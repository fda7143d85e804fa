//! Checks a rule set before it is let in: a set that is wrong is refused whole, with the place and the reason of every fault.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;
use std::sync::LazyLock;

use cedar_policy::{ActionConstraint, Effect, Entities, EntityTypeName, EntityUid, Policy, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic;
use thiserror::Error;

use super::annotations::Rule;
use super::attributes::{ATTRIBUTES, SCHEMA};
use super::policy_id;
use super::statement::statements;
use crate::limits::{RULE_BYTES_MAX, RULE_DEPTH_MAX, RULES_BYTES_MAX, RULES_MAX};

/// What is wrong with a rule set, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct RuleProblem {
    /// Line of the text, from 1; 0 when the fault is of the set as a whole.
    pub line: usize,
    /// Column of the line, from 1.
    pub column: usize,
    /// Id of the rule; empty when it has none, or the text could not be read so far.
    pub rule: String,
    /// What is wrong.
    pub fault: RuleFault,
}

impl std::fmt::Display for RuleProblem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line != 0 {
            write!(out, "{}:{}: ", self.line, self.column)?;
        }
        if !self.rule.is_empty() {
            write!(out, "rule {}: ", self.rule)?;
        }
        write!(out, "{}", self.fault)
    }
}

/// What can be wrong with a rule set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleFault {
    /// It is no Cedar.
    #[error("{0}")]
    Syntax(String),
    /// It does not fit the schema: a name that does not exist, a comparison of two kinds, an action that is none.
    #[error("{0}")]
    Schema(String),
    /// Only `forbid` says what follows.
    #[error("a rule is a `forbid`; what no rule forbids is allowed")]
    Permit,
    /// Templates have no place to get their values from.
    #[error("templates (`?principal`, `?resource`) are not rules")]
    Template,
    /// Two rules of one name.
    #[error("another rule has this id")]
    DuplicateId,
    /// The id is missing or not usable.
    #[error("`@id` must be 1 to 64 letters, digits, `-`, `_` or `.`, and is {0:?}")]
    BadId(String),
    /// An annotation that every rule has is missing.
    #[error("`@{0}` is missing")]
    MissingAnnotation(&'static str),
    /// An annotation that no rule has.
    #[error("`@{0}` is no annotation of a rule; known are id, containment, severity, on_error, asi, mode, description")]
    UnknownAnnotation(String),
    /// The value of an annotation is none of those it can have.
    #[error("`@{name}({value:?})` is none of: {allowed}")]
    BadValue {
        /// Name of the annotation.
        name: &'static str,
        /// What stands there.
        value: String,
        /// What may stand there.
        allowed: String,
    },
    /// The conditions nest too deep.
    #[error("conditions nest {depth} deep, {RULE_DEPTH_MAX} is the limit")]
    TooDeep {
        /// How deep they nest.
        depth: usize,
    },
    /// One rule is too long.
    #[error("the rule has {0} bytes, {RULE_BYTES_MAX} is the limit")]
    RuleTooLong(usize),
    /// There are too many rules.
    #[error("{0} rules, {RULES_MAX} is the limit")]
    TooMany(usize),
    /// The text is too long.
    #[error("{0} bytes, {RULES_BYTES_MAX} is the limit: the set stands in its entry as a whole")]
    TooLong(usize),
}

/// A text that passed, in parts.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) policies: Vec<(Policy, Rule)>,
    pub(super) groups: Entities,
    pub(super) agent: EntityTypeName,
    pub(super) session: EntityTypeName,
}

/// What does not depend on the text.
struct Frame {
    schema: Schema,
    groups: Entities,
    agent: EntityTypeName,
    session: EntityTypeName,
    permit: Policy,
}

static FRAME: LazyLock<Result<Frame, String>> = LazyLock::new(|| Frame::new().map_err(|error| error.to_string()));

impl Frame {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let (schema, _) = Schema::from_cedarschema_str(&SCHEMA)?;
        let groups = schema.action_entities()?;
        let permit = Policy::parse(Some(policy_id("built-in/permit")), "permit(principal, action, resource);")?;
        Ok(Self { schema, groups, agent: EntityTypeName::from_str("Agent")?, session: EntityTypeName::from_str("Session")?, permit })
    }
}

fn of_set(fault: RuleFault) -> Vec<RuleProblem> {
    vec![RuleProblem { line: 0, column: 0, rule: String::new(), fault }]
}

fn frame() -> Result<&'static Frame, Vec<RuleProblem>> {
    FRAME.as_ref().map_err(|error| of_set(RuleFault::Schema(error.clone())))
}

/// Reads a text and checks everything that can be checked without facts.
pub(super) fn check(text: &str) -> Result<Checked, Vec<RuleProblem>> {
    let frame = frame()?;
    if text.len() > RULES_BYTES_MAX {
        return Err(of_set(RuleFault::TooLong(text.len())));
    }
    let statements = statements(text);
    if let Some(problem) = statements.iter().find_map(|it| it.too_large(text)) {
        return Err(vec![problem]);
    }
    let set = PolicySet::from_str(text)
        .map_err(|errors| errors.iter().map(|error| problem(text, "", error, RuleFault::Syntax)).collect::<Vec<_>>())?;
    if set.templates().next().is_some() {
        return Err(of_set(RuleFault::Template));
    }
    let mut policies: Vec<Policy> = set.policies().cloned().collect();
    if policies.len() > RULES_MAX {
        return Err(of_set(RuleFault::TooMany(policies.len())));
    }
    // Cedar numbers policies in the order of the text: policy0, policy1, ...
    policies.sort_by_key(|policy| number(policy.id().as_ref()));
    let mut problems = Vec::new();
    let mut found = Vec::new();
    let mut ids = BTreeSet::new();
    for (number, policy) in policies.into_iter().enumerate() {
        let start = statements.get(number).map_or(0, |it| it.start);
        let id = policy.annotation("id").unwrap_or_default().to_owned();
        let mut faults = of_policy(&policy);
        match Rule::read(&policy) {
            Ok(rule) => {
                if !ids.insert(id.clone()) {
                    faults.push(RuleFault::DuplicateId);
                }
                found.push((policy.new_id(policy_id(&id)), rule));
            }
            Err(of_annotations) => faults.extend(of_annotations),
        }
        let (line, column) = place(text, start);
        problems.extend(faults.into_iter().map(|fault| RuleProblem { line, column, rule: id.clone(), fault }));
    }
    if problems.is_empty() {
        problems = against_schema(frame, text, &found);
    }
    problems.sort_by_key(|it| (it.line, it.column, it.fault.to_string()));
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Checked { policies: found, groups: frame.groups.clone(), agent: frame.agent.clone(), session: frame.session.clone() })
}

fn number(id: &str) -> usize {
    id.strip_prefix("policy").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

fn of_policy(policy: &Policy) -> Vec<RuleFault> {
    let mut faults = Vec::new();
    if policy.effect() != Effect::Forbid {
        faults.push(RuleFault::Permit);
    }
    match policy.to_json() {
        Ok(json) => {
            let depth = depth(&json);
            if depth > RULE_DEPTH_MAX {
                faults.push(RuleFault::TooDeep { depth });
            }
        }
        Err(error) => faults.push(RuleFault::Syntax(error.to_string())),
    }
    faults
}

/// Returns how deep the expressions of a policy nest: in Cedar's JSON each level is an operator and its operands.
fn depth(json: &serde_json::Value) -> usize {
    fn levels(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Object(fields) => 1 + fields.values().map(levels).max().unwrap_or(0),
            serde_json::Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }
    let conditions = json.get("conditions").and_then(|it| it.as_array()).map_or(&[][..], Vec::as_slice);
    conditions.iter().filter_map(|it| it.get("body")).map(levels).max().unwrap_or(0).div_ceil(2)
}

fn against_schema(frame: &Frame, text: &str, found: &[(Policy, Rule)]) -> Vec<RuleProblem> {
    let set = match PolicySet::from_policies(found.iter().map(|(policy, _)| policy.clone())) {
        Ok(set) => set,
        Err(error) => return of_set(RuleFault::Syntax(error.to_string())),
    };
    let result = Validator::new(frame.schema.clone()).validate(&set, ValidationMode::Strict);
    let errors = result.validation_errors().map(|error| {
        let rule: &str = error.policy_id().as_ref();
        problem(text, rule, error, RuleFault::Schema)
    });
    errors.collect()
}

/// Turns what Cedar says into a problem with its place.
fn problem(text: &str, rule: &str, error: &(impl Diagnostic + ?Sized), fault: impl FnOnce(String) -> RuleFault) -> RuleProblem {
    let label = error.labels().and_then(|mut labels| labels.next());
    let (line, column) = label.map_or((0, 0), |label| place(text, label.offset()));
    let said = error.to_string();
    // The rule is named already.
    let said = said.strip_prefix(&format!("for policy `{rule}`, ")).unwrap_or(&said);
    let help = error.help().map(|help| format!(" ({help})")).unwrap_or_default();
    RuleProblem { line, column, rule: rule.to_owned(), fault: fault(format!("{said}{help}")) }
}

pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before.len() - line_start + 1)
}

impl Checked {
    pub(super) fn action(&self, name: &str) -> Result<EntityUid, Vec<RuleProblem>> {
        EntityUid::from_str(&format!("Action::\"{name}\"")).map_err(|error| of_set(RuleFault::Schema(error.to_string())))
    }

    /// Puts a policy beside the permit that lets everything else through.
    pub(super) fn with_permit(&self, policy: &Policy) -> Result<PolicySet, Vec<RuleProblem>> {
        PolicySet::from_policies([policy.clone(), frame()?.permit.clone()]).map_err(|error| of_set(RuleFault::Syntax(error.to_string())))
    }
}

/// Whether a policy can match an action, by what it says of actions.
pub(super) fn applies(policy: &Policy, action: &EntityUid, groups: &Entities) -> bool {
    let covers = |named: &EntityUid| named == action || groups.is_ancestor_of(named, action);
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(named) => named == *action,
        ActionConstraint::In(named) => named.iter().any(covers),
    }
}

/// Returns the attributes of the context that a policy reads; all of them where it uses the context as a whole.
pub(super) fn attributes_read(policy: &Policy) -> BTreeSet<&'static str> {
    let mut read = BTreeSet::new();
    match policy.to_json() {
        Ok(json) => collect(&json, &mut read),
        Err(_) => return ATTRIBUTES.iter().map(|it| it.name).collect(),
    }
    let by_name: BTreeMap<&str, &'static str> = ATTRIBUTES.iter().map(|it| (it.name, it.name)).collect();
    if read.contains("") {
        return by_name.into_values().collect();
    }
    read.iter().filter_map(|name| by_name.get(name.as_str()).copied()).collect()
}

/// Collects `context.NAME` and `context has NAME`; the empty name stands for the context without one.
fn collect(json: &serde_json::Value, read: &mut BTreeSet<String>) {
    match json {
        serde_json::Value::Object(fields) => {
            if let (Some(left), Some(attribute)) = (fields.get("left"), fields.get("attr").and_then(|it| it.as_str()))
                && is_context(left)
            {
                read.insert(attribute.to_owned());
            } else if is_context(json) {
                read.insert(String::new());
            } else {
                fields.values().for_each(|value| collect(value, read));
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, read)),
        _ => (),
    }
}

fn is_context(json: &serde_json::Value) -> bool {
    json.get("Var").and_then(|it| it.as_str()) == Some("context")
}
