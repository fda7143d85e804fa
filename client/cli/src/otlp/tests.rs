use std::collections::BTreeSet;

use proofline_proto::v1;

use super::{
    content::{PayloadStore, Pseudonyms},
    mapping::{Mapped, Source},
    tools::ToolMap,
    trace::Traces,
    wire::TraceRequest,
};
use crate::form;

const AGENTS: &str = include_str!("fixtures/agents.jsonl");
const BOOKING: &str = include_str!("fixtures/booking.jsonl");
const BOOKING_TOOLS: &str = include_str!("fixtures/booking-tools.toml");

fn with_tools() -> Source {
    Source { tools: ToolMap::parse(BOOKING_TOOLS).unwrap(), ..source() }
}

/// What the calls of a file become, without what every event has.
fn calls(lines: &str) -> String {
    let show = |mapped: &Mapped| match &mapped.event.body {
        Some(v1::event::Body::ActionIntent(it)) => Some(form::to_json("ActionIntent", it).unwrap()),
        Some(v1::event::Body::ActionOutcome(it)) => Some(form::to_json("ActionOutcome", it).unwrap()),
        _ => None,
    };
    let (events, _) = map_by(&with_tools(), lines);
    events.iter().filter_map(show).map(|json| serde_json::to_string_pretty(&json).unwrap()).collect::<Vec<_>>().join("\n")
}

fn source() -> Source {
    Source {
        tenant_id: "acme".to_owned(),
        issuer: "https://idp.example".to_owned(),
        vantage: v1::Vantage::SelfReported,
        pseudonyms: Pseudonyms::Keyed(Box::new([1; 32])),
        tools: ToolMap::default(),
    }
}

/// Maps every trace of a file, in the order in which traces become whole; also counts the spans that stay out.
fn map(lines: &str) -> (Vec<Mapped>, usize) {
    map_by(&source(), lines)
}

fn map_by(source: &Source, lines: &str) -> (Vec<Mapped>, usize) {
    let mut traces = Traces::default();
    let mut whole = Vec::new();
    for line in lines.lines() {
        let request: TraceRequest = serde_json::from_str(line).unwrap();
        whole.extend(traces.push(request).unwrap());
    }
    whole.extend(traces.finish());
    let mapped: Vec<_> = whole.iter().map(|trace| source.map(trace)).collect();
    let unmapped = mapped.iter().map(|trace| trace.unmapped).sum();
    (mapped.into_iter().flat_map(|trace| trace.events).collect(), unmapped)
}

fn shown(events: &[Mapped]) -> String {
    let show = |mapped: &Mapped| serde_json::to_string_pretty(&form::to_json("Event", &mapped.event).unwrap()).unwrap();
    events.iter().map(show).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_run_becomes_its_events_in_the_order_of_time() {
    let (events, _) = map(AGENTS.lines().next().unwrap());
    insta::assert_snapshot!(shown(&events));
}

#[test]
fn agents_that_call_agents_become_sessions_below_sessions() {
    let (events, unmapped) = map(&AGENTS.lines().skip(1).collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!(shown(&events));
    assert_eq!(unmapped, 2, "the web server's span and the health check");
}

#[test]
fn a_list_longer_than_the_ledger_takes_is_cut() {
    let reasons = vec![r#"{"stringValue":"stop"}"#; 65].join(",");
    let (events, _) = map(&AGENTS.lines().next().unwrap().replace(r#"{"stringValue": "tool_calls"}"#, &reasons));
    let lists = events.iter().filter_map(|mapped| match &mapped.event.body {
        Some(v1::event::Body::ModelCall(call)) => Some(call.finish_reasons.len()),
        _ => None,
    });
    assert_eq!(lists.collect::<Vec<_>>(), [64]);
}

#[test]
fn the_same_spans_give_the_same_events_and_sources() {
    let ((first, _), (second, _)) = (map(AGENTS), map(AGENTS));
    assert!(first.iter().zip(&second).all(|(one, other)| one.event == other.event && one.source == other.source));
    let ids: BTreeSet<_> = first.iter().map(|mapped| mapped.event.event_id.clone()).collect();
    assert_eq!(ids.len(), first.len());
}

#[test]
fn event_ids_are_uuids_of_version_7_with_the_time_of_the_span() {
    let (events, _) = map(AGENTS);
    for mapped in events {
        let id = uuid::Uuid::from_slice(&mapped.event.event_id).unwrap();
        assert_eq!(id.get_version_num(), 7);
        let (seconds, _) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(seconds, mapped.event.observed_unix_ns / 1_000_000_000);
    }
}

#[test]
fn neither_content_nor_the_users_name_is_in_an_event() {
    let (events, _) = map(AGENTS);
    let shown = shown(&events);
    for secret in ["Ada", "ada.example", "booked", "guest", "assistant", "declined\""] {
        let place = shown.find(secret).map(|at| &shown[at.saturating_sub(40)..at + secret.len()]);
        assert!(place.is_none() || secret == "declined\"", "{secret} in {place:?}");
    }
}

#[test]
fn a_child_that_comes_behind_its_root_still_belongs_to_its_session() {
    let mut lines: Vec<serde_json::Value> = vec![serde_json::from_str(AGENTS.lines().next().unwrap()).unwrap()];
    let spans = lines[0]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().unwrap();
    let late = spans.remove(0);
    let mut behind = lines[0].clone();
    behind["resourceSpans"][0]["scopeSpans"][0]["spans"] = serde_json::json!([late]);
    lines.push(behind);
    let text: Vec<_> = lines.iter().map(ToString::to_string).collect();
    let (events, _) = map(&text.join("\n"));
    let last = events.last().unwrap().event.session.clone().unwrap();
    assert_eq!((events.len(), last.session_id.as_str()), (7, "trip-7"));
}

#[test]
fn a_committed_payload_opens_with_its_salt() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = PayloadStore::open(directory.path()).unwrap();
    let (mut events, _) = map(AGENTS);
    let mapped = events.iter_mut().find(|mapped| !mapped.content.is_empty()).unwrap();
    store.commit(&mut mapped.event, &mapped.content).unwrap();
    store.sync().unwrap();
    let line = std::fs::read_to_string(directory.path().join("trip-7.jsonl")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&line).unwrap();
    let salt: [u8; 32] = hex::decode(kept["salt"].as_str().unwrap()).unwrap().try_into().unwrap();
    let digest = blake3::keyed_hash(&salt, kept["content"].as_str().unwrap().as_bytes());
    assert_eq!(mapped.event.payloads[0].digest, digest.as_bytes());
    assert_eq!(kept["event_id"], hex::encode(&mapped.event.event_id));
}

#[test]
fn a_user_is_one_subject_for_one_key_and_issuer() {
    let pseudonyms = Pseudonyms::Keyed(Box::new([1; 32]));
    let subject = pseudonyms.subject("https://idp.example", "ada");
    assert_eq!(subject, pseudonyms.subject("https://idp.example", "ada"));
    assert_ne!(subject, pseudonyms.subject("https://other.example", "ada"));
    assert_ne!(subject, Pseudonyms::Keyed(Box::new([2; 32])).subject("https://idp.example", "ada"));
    assert_eq!(Pseudonyms::AsGiven.subject("https://idp.example", "ada"), "ada");
}

#[test]
fn a_key_of_pseudonyms_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journals").join("pseudonym.key");
    let made = Pseudonyms::keyed(&path).unwrap().subject("issuer", "ada");
    assert_eq!(Pseudonyms::keyed(&path).unwrap().subject("issuer", "ada"), made);
}

#[test]
fn ids_that_are_no_ids_are_refused() {
    for id in ["", "00000000000000000000000000000000", "xyz", "q83vq83vq83vq83vq83vqw=="] {
        let line = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{id}","spanId":"b000000000000001"}}]}}]}}]}}"#);
        let request: TraceRequest = serde_json::from_str(&line).unwrap();
        assert!(Traces::default().push(request).is_err(), "{id:?}");
    }
}

#[test]
fn parents_in_a_circle_do_not_hang() {
    let span = |id: &str, parent: &str| {
        format!(
            r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"{id}","parentSpanId":"{parent}","attributes":[{{"key":"gen_ai.operation.name","value":{{"stringValue":"chat"}}}}]}}"#
        )
    };
    let (one, other) = (span("b000000000000001", "b000000000000002"), span("b000000000000002", "b000000000000001"));
    let (events, _) = map(&format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{one},{other}]}}]}}]}}"#));
    assert_eq!(events.len(), 2);
}

#[test]
fn a_tool_map_says_what_calls_do_and_whose_data_they_touch() {
    insta::assert_snapshot!(calls(BOOKING));
}

#[test]
fn owners_are_the_subjects_that_they_are_as_initiators() {
    let (events, _) = map_by(&with_tools(), BOOKING);
    let initiator = events[0].event.attribution.clone().unwrap().initiator.unwrap().subject;
    assert!(calls(BOOKING).contains(&format!("owner:{initiator}")));
}

#[test]
fn of_a_call_only_the_values_enter_an_event_that_the_map_names() {
    let (events, _) = map_by(&with_tools(), BOOKING);
    let shown = shown(&events);
    for secret in ["ada.example", "bo.example", "Ada", "7136", "window seat", "no such booking"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn the_digest_of_a_call_is_that_of_its_arguments_whatever_their_order() {
    let reordered = BOOKING.replace(r#"{\"id\":\"B1\",\"cabin\":\"economy\"}"#, r#"{ \"cabin\": \"economy\", \"id\": \"B1\" }"#);
    assert_ne!(reordered, BOOKING);
    assert_eq!(calls(&reordered), calls(BOOKING));
    assert_ne!(calls(&BOOKING.replace(r#"\"cabin\":\"economy\""#, r#"\"cabin\":\"first\""#)), calls(BOOKING));
}

#[test]
fn what_is_wrong_with_a_tool_map_is_named_with_its_place() {
    let wrong = [
        "[tools.look]",
        "[tool.look]\nverbs = \"resource_read\"",
        "[tool.look]\nverb = \"reed\"",
        "[tool.look]\ntier = \"danger\"",
        "[tool.look]\namount = { paid = \"arguments.a\", refunded = \"result.b\" }",
        "[[tool.look.resource]]\nsystem = \"booking\"",
        "[[tool.look.resource]]\nuri = \"booking://{argument.id}\"",
        "[[tool.look.resource]]\nuri = \"booking://{arguments.id\"",
        "[[tool.look.resource]]\nuri = \"booking\"\nowner = \"result..user\"",
    ];
    let said = wrong.map(|text| format!("{text}\n=> {}", ToolMap::parse(text).unwrap_err()));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn the_map_of_the_airline_is_one() {
    ToolMap::load(&std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../rules/airline-tools.toml")).unwrap();
}
