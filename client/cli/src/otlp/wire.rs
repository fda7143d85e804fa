//! OTLP/JSON as exporters write it: camelCase, hex ids, 64-bit numbers as strings or numbers. Unknown members are skipped,
//! as OTLP asks.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use thiserror::Error;

/// Why a line is no trace request.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    #[error("not an ExportTraceServiceRequest in OTLP/JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{field} is not {bytes} bytes of hex that are not all zero: {found:?}")]
    Id { field: &'static str, bytes: usize, found: String },
}

/// One line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TraceRequest {
    #[serde(default)]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceSpans {
    #[serde(default)]
    pub(crate) scope_spans: Vec<ScopeSpans>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScopeSpans {
    #[serde(default)]
    pub(crate) spans: Vec<WireSpan>,
    #[serde(default)]
    pub(crate) schema_url: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireSpan {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    #[serde(default)]
    pub(crate) parent_span_id: String,
    #[serde(default)]
    pub(crate) kind: Value,
    #[serde(default, deserialize_with = "number")]
    pub(crate) start_time_unix_nano: u64,
    #[serde(default, deserialize_with = "number")]
    pub(crate) end_time_unix_nano: u64,
    #[serde(default)]
    pub(crate) attributes: Vec<Attribute>,
    #[serde(default)]
    pub(crate) status: Status,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attribute {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: AnyValue,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AnyValue {
    string_value: Option<String>,
    int_value: Option<Value>,
    bool_value: Option<bool>,
    array_value: Option<ArrayValue>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ArrayValue {
    #[serde(default)]
    values: Vec<AnyValue>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) code: Value,
}

impl AnyValue {
    /// A single value as text. Fractions and structures have none: no field of an event takes them.
    pub(crate) fn text(&self) -> Option<String> {
        let number = || self.int_value.as_ref().map(|it| it.as_str().map_or_else(|| it.to_string(), ToOwned::to_owned));
        self.string_value.clone().or_else(number).or_else(|| self.bool_value.map(|it| it.to_string()))
    }

    /// A list as texts; a single value is a list of one.
    pub(crate) fn texts(&self) -> Vec<String> {
        match &self.array_value {
            Some(array) => array.values.iter().filter_map(Self::text).collect(),
            None => self.text().into_iter().collect(),
        }
    }
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(from)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| de::Error::custom("a 64-bit number is expected"))
}

/// Parses an id. Base64, which the generic protobuf mapping would use, is no OTLP.
pub(crate) fn id<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], WireError> {
    let bytes: Option<[u8; N]> = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.filter(|bytes| *bytes != [0; N]).ok_or_else(|| WireError::Id { field, bytes: N, found: text.chars().take(40).collect() })
}
