//! The attributes that rules may use, each read from the facts under its own name; and the schema that follows from them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use cedar_policy::RestrictedExpression;
use proofline_proto::v1::Facts;

use crate::facts::act::{ACTIONS, Intent};
use crate::limits::COUNT_MAX;

/// How an attribute is read.
#[derive(Clone, Copy)]
enum Read {
    Bool(fn(&Facts) -> bool),
    Long(fn(&Facts) -> u64),
    Text(fn(&Facts) -> &str),
    Set(fn(&Facts) -> &[String]),
}

/// What an attribute is over some facts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading<'a> {
    Bool(bool),
    Long(i64),
    Text(&'a str),
    Set(&'a [String]),
}

/// One attribute of a rule's `context`.
#[derive(Clone, Copy)]
pub(super) struct Attribute {
    pub(super) name: &'static str,
    read: Read,
}

impl std::fmt::Debug for Attribute {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

impl Attribute {
    /// Reads the attribute.
    pub(super) fn read<'a>(&self, facts: &'a Facts) -> Reading<'a> {
        match self.read {
            Read::Bool(read) => Reading::Bool(read(facts)),
            Read::Long(read) => Reading::Long(i64::try_from(read(facts).min(COUNT_MAX)).unwrap_or(i64::MAX)),
            Read::Text(read) => Reading::Text(read(facts)),
            Read::Set(read) => Reading::Set(read(facts)),
        }
    }

    /// Reads the attribute as a value of the rule language.
    pub(super) fn value(&self, facts: &Facts) -> RestrictedExpression {
        match self.read(facts) {
            Reading::Bool(it) => RestrictedExpression::new_bool(it),
            Reading::Long(it) => RestrictedExpression::new_long(it),
            Reading::Text(it) => RestrictedExpression::new_string(it.to_owned()),
            Reading::Set(it) => RestrictedExpression::new_set(it.iter().map(|one| RestrictedExpression::new_string(one.clone()))),
        }
    }

    fn cedar_type(&self) -> &'static str {
        match self.read {
            Read::Bool(_) => "Bool",
            Read::Long(_) => "Long",
            Read::Text(_) => "String",
            Read::Set(_) => "Set<String>",
        }
    }
}

macro_rules! attributes {
    ($($kind:ident { $($name:ident)* })*) => {
        &[$($(attributes!(@ $kind $name),)*)*]
    };
    (@ Bool $name:ident) => { Attribute { name: stringify!($name), read: Read::Bool(|facts| facts.$name) } };
    (@ Long $name:ident) => { Attribute { name: stringify!($name), read: Read::Long(|facts| facts.$name) } };
    (@ Text $name:ident) => { Attribute { name: stringify!($name), read: Read::Text(|facts| &facts.$name) } };
    (@ Set $name:ident) => { Attribute { name: stringify!($name), read: Read::Set(|facts| &facts.$name) } };
}

/// Every fact is an attribute; a test compares this list with the contract.
pub(super) const ATTRIBUTES: &[Attribute] = attributes! {
    Text {
        action tenant agent session vantage tool server status error_type environment credential_kind credential_audience purpose
        session_purpose
        agent_state child_agent step_up_acr
    }
    Set { resources systems tags regions session_tool_names session_tags credential_scopes }
    Bool {
        egress unattributed asserted_delegation writes first_seen_resource first_seen_tool first_seen_server tainted overflow
        turn_first_read resource_unread denied_by_other_tool foreign_owner mixed_owner owner_unknown credential_expired human_credential
        credential_replayed standing_credential purpose_declared purpose_expired purpose_changed tool_in_purpose resources_in_purpose
        classification_in_purpose regions_in_purpose owned server_known tool_drift scopes_widened memory_tainted memory_foreign
        intent_unknown outcome_of_denied
    }
    Long {
        classification risk_tier records bytes_read bytes_out amount tokens hour weekday observed_hour observed_weekday observed_gap_s
        session_calls session_tools session_servers session_resources session_systems session_records session_bytes_read
        session_bytes_out session_amount session_tokens session_denied session_failed session_writes session_writes_failed session_deletes
        session_credentials session_scopes session_spawned session_classification session_egress depth reach_resources reach_systems
        turn_calls turn_writes refusals_here failures_here reads_here credential_age_s credential_ttl_s agent_calls_hour agent_tokens_hour agent_denied_hour
        agent_new_tools_hour agent_new_resources_hour agent_new_credentials_hour step_up_age_s
    }
};

/// The schema in Cedar's own notation: part of the digest of every rule set.
pub(crate) static SCHEMA: LazyLock<String> = LazyLock::new(|| {
    let sorted: BTreeMap<&str, &str> = ATTRIBUTES.iter().map(|it| (it.name, it.cedar_type())).collect();
    let mut schema = String::from("entity Agent;\nentity Session;\ntype Facts = {\n");
    for (name, cedar_type) in sorted {
        // Writing to a string does not fail.
        let _ = writeln!(schema, "  {name}: {cedar_type},");
    }
    schema.push_str("};\naction intent;\naction report;\n");
    for (action, intent) in ACTIONS {
        let group = if intent == Intent::Yes { "intent" } else { "report" };
        let _ = writeln!(schema, "action {action} in [{group}] appliesTo {{ principal: [Agent], resource: [Session], context: Facts }};");
    }
    schema
});
