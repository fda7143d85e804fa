//! EDN, as far as histories need it.

use serde::Serialize;
use serde_json::Value;

/// Writes anything that has a JSON form: objects become maps with keywords.
pub(super) fn of(value: &impl Serialize) -> String {
    let mut text = String::new();
    // What is exported consists of maps, lists, text and numbers, which always have a JSON form.
    put(&mut text, &serde_json::to_value(value).unwrap_or_default());
    text
}

/// Writes a text.
pub(super) fn text(text: &str) -> String {
    of(&text)
}

fn put(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("nil"),
        Value::Bool(it) => out.push_str(if *it { "true" } else { "false" }),
        Value::Number(it) => out.push_str(&it.to_string()),
        // A JSON string is an EDN string, but for escapes of control characters, which no name here has.
        Value::String(it) => out.push_str(&Value::from(it.as_str()).to_string()),
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(' ');
                }
                put(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (place, (name, field)) in fields.iter().enumerate() {
                out.push_str(if place > 0 { ", :" } else { ":" });
                out.push_str(name);
                out.push(' ');
                put(out, field);
            }
            out.push('}');
        }
    }
}
