//! The file form of a tool.

use proofline_proto::v1;
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

use super::place::{Place, Template};

/// The verbs that a tool can be, for whoever mistypes one.
const VERBS: &str = "tool_call, resource_read, resource_write, resource_delete, code_execution, network_egress, message_send, \
                     payment, config_change, spawn, credential_request";

/// One tool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tool {
    #[serde(default = "tool_call", deserialize_with = "verb")]
    pub(super) verb: v1::ActionVerb,
    #[serde(default, deserialize_with = "tier")]
    pub(super) tier: v1::RiskTier,
    #[serde(default)]
    pub(super) resource: Vec<ToolResource>,
    /// The list whose length is how many records came back; one for each resource without it.
    pub(super) records: Option<Place>,
    pub(super) amount: Option<Amount>,
    #[serde(default)]
    pub(super) compare: Vec<Comparison>,
    #[serde(default)]
    pub(super) count: Vec<Limit>,
}

/// Something that a tool touches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolResource {
    pub(super) uri: Template,
    #[serde(default)]
    pub(super) system: String,
    #[serde(default, deserialize_with = "kind")]
    pub(super) kind: v1::ResourceKind,
    #[serde(default, deserialize_with = "classification")]
    pub(super) classification: v1::Classification,
    #[serde(default, deserialize_with = "environment")]
    pub(super) environment: v1::Environment,
    #[serde(default)]
    pub(super) region: String,
    #[serde(default)]
    pub(super) tags: Vec<Template>,
    /// The user whose it is.
    pub(super) owner: Option<Place>,
    /// Where a result shows the whole of it: what `known` is for later calls of the trace.
    pub(super) record: Option<Place>,
}

/// Money that moves away.
#[derive(Debug, Deserialize)]
#[serde(try_from = "WrittenAmount")]
pub(super) enum Amount {
    /// The sum of what is paid.
    Paid { place: Place, minor_units: u64 },
    /// The sum of what is negative in a list of payments, as far as this call added to it.
    Refunded { place: Place, minor_units: u64 },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAmount {
    paid: Option<Place>,
    refunded: Option<Place>,
    #[serde(default = "one")]
    minor_units: u64,
}

#[derive(Debug, Error)]
#[error("an amount is either `paid` or `refunded`, at one place")]
struct NoAmount;

impl TryFrom<WrittenAmount> for Amount {
    type Error = NoAmount;

    fn try_from(written: WrittenAmount) -> Result<Self, NoAmount> {
        let minor_units = written.minor_units;
        match (written.paid, written.refunded) {
            (Some(place), None) => Ok(Self::Paid { place, minor_units }),
            (None, Some(place)) => Ok(Self::Refunded { place, minor_units }),
            (Some(_), Some(_)) | (None, None) => Err(NoAmount),
        }
    }
}

fn tool_call() -> v1::ActionVerb {
    v1::ActionVerb::ToolCall
}

fn one() -> u64 {
    1
}

/// A tag for a call whose values at two places are not the same.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Comparison {
    pub(super) tag: String,
    pub(super) one: Place,
    pub(super) other: Place,
    /// Of lists: the members of each element that count.
    #[serde(default)]
    pub(super) by: Vec<String>,
}

/// A tag for a call with more values of a kind than there should be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    pub(super) tag: String,
    pub(super) of: Place,
    /// How the values that count begin.
    #[serde(default)]
    pub(super) begins: String,
    pub(super) more_than: usize,
}

fn verb<'de, D: Deserializer<'de>>(from: D) -> Result<v1::ActionVerb, D::Error> {
    named(from, "verb", "ACTION_VERB_", v1::ActionVerb::from_str_name, VERBS)
}

fn tier<'de, D: Deserializer<'de>>(from: D) -> Result<v1::RiskTier, D::Error> {
    named(from, "tier", "RISK_TIER_", v1::RiskTier::from_str_name, "read, write, destructive, provision")
}

fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<v1::ResourceKind, D::Error> {
    named(from, "kind", "RESOURCE_KIND_", v1::ResourceKind::from_str_name, "record, table, file, api, message_channel")
}

fn classification<'de, D: Deserializer<'de>>(from: D) -> Result<v1::Classification, D::Error> {
    named(from, "classification", "CLASSIFICATION_", v1::Classification::from_str_name, "public, internal, confidential, restricted")
}

fn environment<'de, D: Deserializer<'de>>(from: D) -> Result<v1::Environment, D::Error> {
    named(from, "environment", "ENVIRONMENT_", v1::Environment::from_str_name, "development, test, staging, production")
}

/// Reads a value of an enum of the contract: lower case, without its prefix.
fn named<'de, D: Deserializer<'de>, E>(
    from: D,
    what: &str,
    prefix: &str,
    parse: impl Fn(&str) -> Option<E>,
    such_as: &str,
) -> Result<E, D::Error> {
    let text = String::deserialize(from)?;
    let found = parse(&format!("{prefix}{}", text.to_ascii_uppercase()));
    found.ok_or_else(|| de::Error::custom(format!("{text:?} is no {what} of the contract; there are {such_as}")))
}
