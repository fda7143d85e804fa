//! The JSON form of the contract's messages, both ways, from the contract's own descriptors.
//!
//! Fields have the names of the contract; bytes are lower-case hex, enums lower case without their prefix, 64-bit numbers
//! strings. Bytes that hold a message of their own (the event in an entry, the command under its signatures) are shown as
//! that message. Unknown fields are errors when a message is read.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::{Map, Value as Json};
use thiserror::Error;

const PACKAGE: &str = "proofline.v1";
/// Fields of bytes that hold a message.
const EMBEDDED: [(&str, &str); 3] = [
    ("proofline.v1.RecordedEvent.event", "Event"),
    ("proofline.v1.SignedCommand.command", "Command"),
    ("proofline.v1.Entry.core", "EntryCore"),
];

static CONTRACT: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(proofline_proto::DESCRIPTORS).ok());

/// Why JSON is not the form of a message, or a message has no JSON form.
#[derive(Debug, Error)]
pub(crate) enum FormError {
    #[error("{0}: this build has no such message")]
    NoMessage(String),
    #[error("{at}: there is no field {name:?}; there are {known}")]
    UnknownField { at: String, name: String, known: String },
    #[error("{at}: expected {expected}, found {found}")]
    Expected { at: String, expected: String, found: String },
    #[error("{at}: only one of {first} and {second} may be given")]
    Twice { at: String, first: String, second: String },
    #[error("the message cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// Returns the JSON form of a message of the contract.
pub(crate) fn to_json(name: &str, message: &impl Message) -> Result<Json, FormError> {
    bytes_to_json(name, &message.encode_to_vec())
}

fn bytes_to_json(name: &str, bytes: &[u8]) -> Result<Json, FormError> {
    Ok(message_to_json(&DynamicMessage::decode(descriptor(name)?, bytes)?))
}

/// Reads a message of the contract from its JSON form.
pub(crate) fn from_json<M: Message + Default>(name: &str, json: &Json) -> Result<M, FormError> {
    let message = message_from_json(&descriptor(name)?, json, name)?;
    Ok(M::decode(message.encode_to_vec().as_slice())?)
}

fn descriptor(name: &str) -> Result<MessageDescriptor, FormError> {
    let found = CONTRACT.as_ref().and_then(|contract| contract.get_message_by_name(&format!("{PACKAGE}.{name}")));
    found.ok_or_else(|| FormError::NoMessage(name.to_owned()))
}

fn message_to_json(message: &DynamicMessage) -> Json {
    let members = message.fields().map(|(field, value)| (field.name().to_owned(), field_to_json(&field, value)));
    Json::Object(members.collect())
}

fn field_to_json(field: &FieldDescriptor, value: &Value) -> Json {
    match (value, EMBEDDED.iter().find(|(name, _)| *name == field.full_name())) {
        (Value::List(values), _) => Json::Array(values.iter().map(|value| value_to_json(&field.kind(), value)).collect()),
        (Value::Bytes(bytes), Some((_, embedded))) => bytes_to_json(embedded, bytes).unwrap_or_else(|_| Json::String(hex::encode(bytes))),
        (value, _) => value_to_json(&field.kind(), value),
    }
}

fn value_to_json(kind: &Kind, value: &Value) -> Json {
    match (value, kind) {
        (Value::Bool(it), _) => Json::Bool(*it),
        (Value::I32(it), _) => Json::from(*it),
        (Value::U32(it), _) => Json::from(*it),
        (Value::I64(it), _) => Json::String(it.to_string()),
        (Value::U64(it), _) => Json::String(it.to_string()),
        (Value::String(it), _) => Json::String(it.clone()),
        (Value::Bytes(it), _) => Json::String(hex::encode(it)),
        (Value::EnumNumber(it), Kind::Enum(of)) => Json::String(enum_name(of, *it)),
        (Value::EnumNumber(it), _) => Json::from(*it),
        (Value::Message(it), _) => message_to_json(it),
        // The contract has neither floats nor maps.
        (Value::F32(_) | Value::F64(_) | Value::List(_) | Value::Map(_), _) => Json::Null,
    }
}

fn enum_name(of: &EnumDescriptor, number: i32) -> String {
    let known = of.get_value(number).map(|value| short_name(of, value.name()));
    known.unwrap_or_else(|| number.to_string())
}

/// `VANTAGE_SELF_REPORTED` of `Vantage` is `self_reported`.
fn short_name(of: &EnumDescriptor, name: &str) -> String {
    let mut prefix = String::new();
    for (place, character) in of.name().char_indices() {
        if character.is_ascii_uppercase() && place > 0 {
            prefix.push('_');
        }
        prefix.push(character.to_ascii_uppercase());
    }
    name.strip_prefix(&format!("{prefix}_")).unwrap_or(name).to_ascii_lowercase()
}

fn message_from_json(of: &MessageDescriptor, json: &Json, at: &str) -> Result<DynamicMessage, FormError> {
    let members = json.as_object().ok_or_else(|| expected(at, "an object", json))?;
    let mut message = DynamicMessage::new(of.clone());
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let field = of.get_field_by_name(name).ok_or_else(|| unknown_field(of, name, at))?;
        check_alone(&field, members, at)?;
        let value = field_from_json(&field, value, &format!("{at}.{name}"))?;
        message.set_field(&field, value);
    }
    Ok(message)
}

fn check_alone(field: &FieldDescriptor, members: &Map<String, Json>, at: &str) -> Result<(), FormError> {
    let Some(choice) = field.containing_oneof() else { return Ok(()) };
    let mut others = choice.fields().filter(|it| it.number() != field.number() && members.contains_key(it.name()));
    match others.next() {
        Some(other) => Err(FormError::Twice { at: at.to_owned(), first: field.name().to_owned(), second: other.name().to_owned() }),
        None => Ok(()),
    }
}

fn field_from_json(field: &FieldDescriptor, json: &Json, at: &str) -> Result<Value, FormError> {
    if field.cardinality() != Cardinality::Repeated {
        return value_from_json(field, json, at);
    }
    let members = json.as_array().ok_or_else(|| expected(at, "a list", json))?;
    let values = members.iter().enumerate().map(|(place, json)| value_from_json(field, json, &format!("{at}[{place}]")));
    values.collect::<Result<_, _>>().map(Value::List)
}

fn value_from_json(field: &FieldDescriptor, json: &Json, at: &str) -> Result<Value, FormError> {
    let is_time = field.name().ends_with("_unix_ns");
    match field.kind() {
        Kind::Bool => json.as_bool().map(Value::Bool).ok_or_else(|| expected(at, "true or false", json)),
        Kind::String => json.as_str().map(|it| Value::String(it.to_owned())).ok_or_else(|| expected(at, "a text", json)),
        Kind::Bytes => hex_bytes(json).map(|it| Value::Bytes(it.into())).ok_or_else(|| expected(at, "hex digits", json)),
        Kind::Message(of) => message_from_json(&of, json, at).map(Value::Message),
        Kind::Enum(of) => enum_number(&of, json).map(Value::EnumNumber).ok_or_else(|| expected(at, &names(&of), json)),
        Kind::Fixed64 if is_time => time_ns(json).map(Value::U64).ok_or_else(|| expected(at, "nanoseconds or an RFC 3339 time", json)),
        Kind::Uint64 | Kind::Fixed64 => number(json).map(Value::U64).ok_or_else(|| expected(at, "a number", json)),
        Kind::Uint32 | Kind::Fixed32 => {
            number(json).and_then(|it| u32::try_from(it).ok()).map(Value::U32).ok_or_else(|| expected(at, "a number below 2^32", json))
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json.as_i64().and_then(|it| i32::try_from(it).ok()).map(Value::I32).ok_or_else(|| expected(at, "a number", json))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json.as_i64().map(Value::I64).ok_or_else(|| expected(at, "a number", json)),
        Kind::Float | Kind::Double => Err(expected(at, "nothing: the contract has no fractions", json)),
    }
}

fn number(json: &Json) -> Option<u64> {
    json.as_u64().or_else(|| json.as_str()?.parse().ok())
}

fn time_ns(json: &Json) -> Option<u64> {
    number(json).or_else(|| {
        let time: jiff::Timestamp = json.as_str()?.parse().ok()?;
        u64::try_from(time.as_nanosecond()).ok()
    })
}

/// Hex digits; dashes as in a UUID are allowed.
fn hex_bytes(json: &Json) -> Option<Vec<u8>> {
    hex::decode(json.as_str()?.replace('-', "")).ok()
}

fn enum_number(of: &EnumDescriptor, json: &Json) -> Option<i32> {
    let name = json.as_str()?;
    of.values().find(|value| value.name() == name || short_name(of, value.name()) == name).map(|value| value.number())
}

fn names(of: &EnumDescriptor) -> String {
    let names: Vec<_> = of.values().filter(|value| value.number() != 0).map(|value| short_name(of, value.name())).collect();
    format!("one of {}", names.join(", "))
}

fn expected(at: &str, expected: &str, found: &Json) -> FormError {
    let found: String = found.to_string().chars().take(60).collect();
    FormError::Expected { at: at.to_owned(), expected: expected.to_owned(), found }
}

fn unknown_field(of: &MessageDescriptor, name: &str, at: &str) -> FormError {
    let known: Vec<_> = of.fields().map(|field| field.name().to_owned()).collect();
    FormError::UnknownField { at: at.to_owned(), name: name.to_owned(), known: known.join(", ") }
}

#[cfg(test)]
mod tests {
    use proofline_proto::v1;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_comes_back_from_its_json_form() {
        let json = json!({
            "event_id": "018f7c3e-0000-7000-8000-000000000001",
            "tenant_id": "acme",
            "observed_unix_ns": "2024-05-15T20:00:00Z",
            "vantage": "gateway_observed",
            "action_intent": { "verb": "tool_call", "tool": { "name": "refund" }, "requested_records": "18446744073709551615" },
        });
        let event: v1::Event = from_json("Event", &json).unwrap();
        assert_eq!(event.observed_unix_ns, 1_715_803_200_000_000_000);
        let again = to_json("Event", &event).unwrap();
        assert_eq!(again["vantage"], "gateway_observed");
        assert_eq!(again["action_intent"]["requested_records"], "18446744073709551615");
        assert_eq!(from_json::<v1::Event>("Event", &again).unwrap(), event);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let mistakes = [
            json!({ "tenant": "acme" }),
            json!({ "action_intent": { "verb": "toolcall" } }),
            json!({ "model_call": {}, "run_ended": {} }),
            json!({ "event_id": "xyz" }),
            json!({ "payloads": {} }),
            json!({ "observed_unix_ns": "yesterday" }),
            json!([]),
        ];
        let messages: Vec<_> = mistakes.iter().map(|json| from_json::<v1::Event>("Event", json).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[test]
    fn the_event_in_an_entry_is_shown_as_an_event() {
        let event = v1::Event { tenant_id: "acme".to_owned(), ..Default::default() };
        let recorded = v1::RecordedEvent { at: None, event: event.encode_to_vec().into() };
        let core = v1::EntryCore { body: Some(v1::entry_core::Body::Event(recorded)), ..Default::default() };
        assert_eq!(to_json("EntryCore", &core).unwrap()["event"]["event"]["tenant_id"], "acme");
    }
}
