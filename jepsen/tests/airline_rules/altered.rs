//! A copy of a real run in which the agent touches a reservation of another customer.

use serde_json::Value;

/// The copy, as a line of OTLP/JSON.
pub(crate) struct Altered {
    pub(crate) line: String,
    pub(crate) trace: String,
    /// The span that touches the foreign reservation first.
    pub(crate) first_foreign_span: String,
    /// The span that changes it.
    pub(crate) write_span: String,
}

/// What the agent does to the foreign reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// It reads it, and cancels it later.
    ReadThenCancel,
    /// It cancels it without having looked.
    CancelOnly,
}

/// A tool call of a line.
struct Call {
    place: usize,
    tool: String,
    arguments: Value,
    /// Null when it is no JSON.
    result: Value,
}

impl Altered {
    /// Alters the first run that reads a reservation and cancels it: in the copy it is the first reservation that another
    /// customer's run reads. Everything else is as it was; trace, spans and conversation are new.
    pub(crate) fn of(lines: &[String], name: &str, touch: Touch) -> Self {
        let runs: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (mut run, own) = runs.iter().find_map(|run| Some((run.clone(), reads_and_cancels(run)?))).unwrap();
        let user = text(spans(&run).last().unwrap(), "enduser.id").unwrap();
        let is_foreign = |it: &Call| it.tool == "get_reservation_details" && it.result["user_id"].as_str().is_some_and(|it| it != user);
        let foreign = runs.iter().flat_map(calls).find(is_foreign);
        let foreign = foreign.unwrap().result;
        rename(&mut run, name);

        let touching: Vec<Call> = calls(&run).into_iter().filter(|it| it.arguments["reservation_id"] == own.as_str()).collect();
        for call in &touching {
            let mut result = foreign.clone();
            if call.tool == "cancel_reservation" {
                result["status"] = "cancelled".into();
            }
            let arguments = serde_json::json!({ "reservation_id": foreign["reservation_id"] });
            set(&mut run, call.place, "gen_ai.tool.call.arguments", &arguments.to_string());
            set(&mut run, call.place, "gen_ai.tool.call.result", &result.to_string());
        }
        let span = |tool: &str| touching.iter().find(|it| it.tool == tool).map(|it| id(&spans(&run)[it.place])).unwrap();
        let (read, write_span) = (span("get_reservation_details"), span("cancel_reservation"));
        if touch == Touch::CancelOnly {
            spans_mut(&mut run).retain(|span| id(span) != read);
        }
        Self {
            trace: spans(&run)[0]["traceId"].as_str().unwrap().to_owned(),
            first_foreign_span: if touch == Touch::CancelOnly { write_span.clone() } else { read },
            write_span,
            line: run.to_string(),
        }
    }
}

/// Returns the customer of a run.
pub(crate) fn user(line: &str) -> Option<String> {
    text(spans(&serde_json::from_str(line).unwrap()).last()?, "enduser.id")
}

/// Returns the first reservation that a run reads and then cancels, when it does nothing else to it.
fn reads_and_cancels(run: &Value) -> Option<String> {
    let calls = calls(run);
    let of = |it: &Call| it.arguments["reservation_id"].as_str().map(str::to_owned);
    let own = calls.iter().find(|it| it.tool == "cancel_reservation").and_then(of)?;
    let tools: Vec<&str> = calls.iter().filter(|it| of(it).as_deref() == Some(&own)).map(|it| it.tool.as_str()).collect();
    (tools == ["get_reservation_details", "cancel_reservation"]).then_some(own)
}

/// Returns the calls of a run.
fn calls(run: &Value) -> Vec<Call> {
    let call = |(place, span): (usize, &Value)| {
        let json = |name: &str| text(span, name).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let (arguments, result) = (json("gen_ai.tool.call.arguments"), json("gen_ai.tool.call.result"));
        Some(Call { place, tool: text(span, "gen_ai.tool.name")?, arguments, result })
    };
    spans(run).iter().enumerate().filter_map(call).collect()
}

fn spans(run: &Value) -> &Vec<Value> {
    run["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap()
}

fn spans_mut(run: &mut Value) -> &mut Vec<Value> {
    run["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().unwrap()
}

fn id(span: &Value) -> String {
    span["spanId"].as_str().unwrap().to_owned()
}

fn text(span: &Value, attribute: &str) -> Option<String> {
    let attributes = span["attributes"].as_array().unwrap();
    attributes.iter().find(|it| it["key"] == attribute)?["value"]["stringValue"].as_str().map(str::to_owned)
}

fn set(run: &mut Value, place: usize, attribute: &str, text: &str) {
    let attributes = spans_mut(run)[place]["attributes"].as_array_mut().unwrap();
    let found = attributes.iter_mut().find(|it| it["key"] == attribute).unwrap();
    found["value"]["stringValue"] = text.into();
}

/// Gives a run a trace, spans and a conversation of its own.
fn rename(run: &mut Value, name: &str) {
    let mark = hex::encode(&name.as_bytes()[..4]);
    for span in spans_mut(run) {
        for member in ["traceId", "spanId", "parentSpanId"] {
            if let Some(old) = span[member].as_str().filter(|it| !it.is_empty()) {
                span[member] = format!("{mark}{}", &old[8..]).into();
            }
        }
        for attribute in span["attributes"].as_array_mut().unwrap() {
            if attribute["key"] == "gen_ai.conversation.id" {
                attribute["value"]["stringValue"] = format!("altered-{name}").into();
            }
        }
    }
}
