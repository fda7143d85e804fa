//! What the ledger knows of an event when it decides: seen through rules that say one thing each.

use proofline_ledger::{Outcome, Refusal, listing};
use proofline_proto::{peer, v1};
use prost::Message as _;
use prost::bytes::Bytes;
use v1::event::Body;

use crate::deciding::{activate, alert, findings};
use crate::world::{Collector, HOUR_NS, SECOND_NS, TENANT, World, child, event, rules, unattributed};

fn resource(uri: &str, system: &str) -> v1::Resource {
    v1::Resource { uri: uri.to_owned(), system: system.to_owned(), ..Default::default() }
}

/// An intent with an id of its own.
fn intent(session: &str, id: u8, tool: &str, resources: Vec<v1::Resource>) -> v1::Event {
    let mut event = event(session, "agent-1");
    event.event_id = vec![id; 16];
    event.body = Some(Body::ActionIntent(v1::ActionIntent {
        verb: v1::ActionVerb::ToolCall.into(),
        tool: Some(v1::Tool { name: tool.to_owned(), ..Default::default() }),
        resources,
        ..Default::default()
    }));
    event
}

fn with_verb(mut event: v1::Event, verb: v1::ActionVerb) -> v1::Event {
    if let Some(Body::ActionIntent(intent)) = &mut event.body {
        intent.verb = verb.into();
    }
    event
}

fn outcome(of: &v1::Event, status: v1::OutcomeStatus) -> v1::Event {
    let body = v1::ActionOutcome { intent_event_id: of.event_id.clone(), status: status.into(), ..Default::default() };
    v1::Event { event_id: vec![99; 16], body: Some(Body::ActionOutcome(body)), ..of.clone() }
}

fn answer(session: &str) -> v1::Event {
    let call = v1::ModelCall { finish_reasons: vec!["stop".to_owned()], ..Default::default() };
    v1::Event { body: Some(Body::ModelCall(call)), ..event(session, "agent-1") }
}

/// A world in which each condition is a rule of its own, named by its place.
fn watching(conditions: &[&str]) -> (World, Collector) {
    let (mut world, collector) = World::with_collector();
    let rules: String = conditions.iter().enumerate().map(|(number, it)| alert(&format!("r{number}"), it)).collect();
    activate(&mut world, &rules).unwrap();
    (world, collector)
}

fn seen(world: &mut World, collector: &mut Collector, event: v1::Event) -> Vec<String> {
    findings(&collector.append(world, vec![event]).unwrap().events[0])
}

#[test]
fn a_resource_is_new_to_its_agent_once_over_all_sessions() {
    let (mut world, mut collector) = watching(&["context.first_seen_resource", "context.first_seen_tool"]);
    let touch = |session: &str| intent(session, 1, "query", vec![resource("db://prod/customers", "crm")]);
    assert_eq!(seen(&mut world, &mut collector, touch("s-1")), ["r0", "r1"]);
    assert!(seen(&mut world, &mut collector, touch("s-1")).is_empty());
    assert!(seen(&mut world, &mut collector, touch("s-2")).is_empty(), "the agent knows it from another session");
}

#[test]
fn an_event_without_a_session_has_nothing_of_the_session_before_it() {
    let (mut world, mut collector) =
        watching(&[r#"context.session_tags.contains("secret")"#, r#"context.session_tool_names.contains("query")"#]);
    let resource = v1::Resource { tags: vec!["secret".to_owned()], ..resource("db://prod/customers", "crm") };
    let read = v1::DataAccess { resource: Some(resource), verb: v1::ActionVerb::ResourceRead.into(), ..Default::default() };
    seen(&mut world, &mut collector, intent("s-1", 1, "query", Vec::new()));
    seen(&mut world, &mut collector, v1::Event { body: Some(Body::DataAccess(read)), ..event("s-1", "agent-1") });
    assert_eq!(seen(&mut world, &mut collector, event("s-1", "agent-1")), ["r0", "r1"]);
    let lone = v1::Event { session: None, ..unattributed("") };
    assert!(seen(&mut world, &mut collector, lone).is_empty());
}

#[test]
fn committed_and_observed_hours_are_two_facts() {
    // START_NS is a Tuesday, 22:13:20 UTC.
    let (mut world, mut collector) =
        watching(&["context.hour == 22 && context.weekday == 2", "context.observed_hour == 2", "context.observed_gap_s == 14400"]);
    let mut event = event("s-1", "agent-1");
    event.observed_unix_ns += 4 * HOUR_NS;
    assert_eq!(seen(&mut world, &mut collector, event), ["r0", "r1", "r2"]);
}

#[test]
fn a_session_reaches_what_those_below_it_reach() {
    let (mut world, mut collector) = watching(&["context.reach_resources == 2 && context.session_resources == 1", "context.depth == 1"]);
    seen(&mut world, &mut collector, intent("parent", 1, "query", vec![resource("a", "x")]));
    let mut below = intent("below", 2, "query", vec![resource("a", "x"), resource("b", "y")]);
    below.session = child("below", "parent").session;
    assert_eq!(seen(&mut world, &mut collector, below), ["r1"]);
    assert_eq!(seen(&mut world, &mut collector, event("parent", "agent-1")), ["r0"], "b by its child, a by both");
}

#[test]
fn a_parent_that_comes_late_reaches_what_was_below_it_before() {
    let (mut world, mut collector) = watching(&["context.reach_resources == 2 && context.reach_systems == 1"]);
    let mut below = intent("below", 2, "query", vec![resource("a", "x"), resource("b", "x")]);
    below.session = child("below", "middle").session;
    seen(&mut world, &mut collector, below);
    let middle = child("middle", "top");
    assert_eq!(seen(&mut world, &mut collector, middle), ["r0"]);
    assert_eq!(seen(&mut world, &mut collector, event("top", "agent-1")), ["r0"], "carried up when the middle came");
}

#[test]
fn what_was_untrusted_taints_the_session_and_those_below_it() {
    let (mut world, mut collector) = watching(&["context.tainted && context.egress"]);
    let read = |session: &str| {
        let page = v1::Resource { tags: vec!["untrusted".to_owned()], ..resource("https://example.test", "web") };
        let access = v1::DataAccess { resource: Some(page), verb: v1::ActionVerb::ResourceRead.into(), ..Default::default() };
        v1::Event { body: Some(Body::DataAccess(access)), ..event(session, "agent-1") }
    };
    let send = |mut event: v1::Event| {
        if let Some(Body::ActionIntent(intent)) = &mut event.body {
            intent.egress = v1::Egress::External.into();
        }
        event
    };
    assert!(seen(&mut world, &mut collector, send(event("s-1", "agent-1"))).is_empty());
    seen(&mut world, &mut collector, read("s-1"));
    assert_eq!(seen(&mut world, &mut collector, send(event("s-1", "agent-1"))), ["r0"]);
    assert_eq!(seen(&mut world, &mut collector, send(child("s-2", "s-1"))), ["r0"]);
    assert!(seen(&mut world, &mut collector, send(event("s-3", "agent-1"))).is_empty());
    // Also those below a session that was spawned and has not begun.
    let spawned = v1::SubAgentSpawned { child_session_id: "unseen".to_owned(), child_agent_id: "late".to_owned(), ..Default::default() };
    seen(&mut world, &mut collector, v1::Event { body: Some(Body::SubAgentSpawned(spawned)), ..event("s-1", "agent-1") });
    assert_eq!(seen(&mut world, &mut collector, send(child("s-4", "unseen"))), ["r0"]);
}

#[test]
fn a_memory_carries_taint_from_one_session_to_another() {
    let (mut world, mut collector) = watching(&["context.memory_tainted && context.memory_foreign", "context.tainted"]);
    let memory = |session: &str, agent: &str, verb: v1::MemoryVerb| {
        let access = v1::MemoryAccess { store_id: "notes".to_owned(), record_id: "1".to_owned(), verb: verb.into(), records: 1 };
        v1::Event { body: Some(Body::MemoryAccess(access)), ..event(session, agent) }
    };
    let page = v1::Resource { tags: vec!["untrusted".to_owned()], ..resource("https://example.test", "web") };
    let access = v1::DataAccess { resource: Some(page), ..Default::default() };
    seen(&mut world, &mut collector, v1::Event { body: Some(Body::DataAccess(access)), ..event("s-1", "agent-1") });
    seen(&mut world, &mut collector, memory("s-1", "agent-1", v1::MemoryVerb::Create));
    assert_eq!(seen(&mut world, &mut collector, memory("s-2", "agent-2", v1::MemoryVerb::Search)), ["r0", "r1"]);
}

#[test]
fn a_write_knows_whether_its_resource_was_read_and_in_which_turn() {
    let (mut world, mut collector) = watching(&["context.resource_unread", "context.turn_first_read", "context.turn_writes == 1"]);
    let write = |id| with_verb(intent("s-1", id, "cancel", vec![resource("r/1", "booking")]), v1::ActionVerb::ResourceWrite);
    let read = with_verb(intent("s-1", 1, "look", vec![resource("r/1", "booking")]), v1::ActionVerb::ResourceRead);
    assert_eq!(seen(&mut world, &mut collector, write(2)), ["r0"], "nobody read it");
    seen(&mut world, &mut collector, read.clone());
    seen(&mut world, &mut collector, outcome(&read, v1::OutcomeStatus::Succeeded));
    assert_eq!(seen(&mut world, &mut collector, write(3)), ["r1"], "read in this very turn");
    seen(&mut world, &mut collector, answer("s-1"));
    let late = write(4);
    assert!(seen(&mut world, &mut collector, late.clone()).is_empty(), "the customer had a turn to look");
    assert_eq!(seen(&mut world, &mut collector, outcome(&late, v1::OutcomeStatus::Succeeded)), ["r2"]);
}

/// An outcome that shows a record and its owner.
fn showing(of: &v1::Event, uri: &str, owner: &str) -> v1::Event {
    let resource = v1::Resource { kind: v1::ResourceKind::Record.into(), tags: vec![format!("owner:{owner}")], ..resource(uri, "booking") };
    let mut event = outcome(of, v1::OutcomeStatus::Succeeded);
    if let Some(Body::ActionOutcome(it)) = &mut event.body {
        it.accesses = vec![v1::DataAccess { resource: Some(resource), ..Default::default() }];
    }
    event
}

#[test]
fn what_a_write_of_the_session_showed_is_not_unread() {
    let (mut world, mut collector) = watching(&["context.resource_unread", "context.turn_first_read"]);
    let book = with_verb(intent("s-1", 1, "book", Vec::new()), v1::ActionVerb::ResourceWrite);
    seen(&mut world, &mut collector, book.clone());
    seen(&mut world, &mut collector, showing(&book, "r/1", "u-1"));
    let change = |id, uri| with_verb(intent("s-1", id, "change", vec![resource(uri, "booking")]), v1::ActionVerb::ResourceWrite);
    assert!(seen(&mut world, &mut collector, change(2, "r/1")).is_empty());
    assert_eq!(seen(&mut world, &mut collector, change(3, "r/2")), ["r0"]);
}

#[test]
fn a_write_that_shows_an_owner_teaches_it() {
    let (mut world, mut collector) = watching(&["context.foreign_owner"]);
    for owner in ["u-2", "u-1"] {
        let book = with_verb(intent("s-0", 1, "book", Vec::new()), v1::ActionVerb::ResourceWrite);
        seen(&mut world, &mut collector, book.clone());
        seen(&mut world, &mut collector, showing(&book, "r/1", owner));
        let is_foreign = !seen(&mut world, &mut collector, intent("s-1", 2, "read", vec![resource("r/1", "booking")])).is_empty();
        assert_eq!(is_foreign, owner == "u-2", "u-1 is the initiator");
    }
}

#[test]
fn distinct_reads_are_counted_in_the_system_of_the_event() {
    let (mut world, mut collector) = watching(&["context.action == \"action_outcome\" && context.reads_here == 2"]);
    let mut read = |id, uri, system| {
        let read = with_verb(intent("s-1", id, "look", vec![resource(uri, system)]), v1::ActionVerb::ResourceRead);
        assert!(seen(&mut world, &mut collector, read.clone()).is_empty());
        !seen(&mut world, &mut collector, outcome(&read, v1::OutcomeStatus::Succeeded)).is_empty()
    };
    assert!(!read(1, "r/1", "booking"));
    assert!(!read(2, "r/1", "booking"), "the same again");
    assert!(!read(3, "c/1", "customers"), "another system");
    assert!(read(4, "r/2", "booking"));
}

#[test]
fn failures_are_counted_by_tool_and_resource_and_for_writes_of_the_session() {
    let (mut world, mut collector) = watching(&["context.failures_here == 2", "context.session_writes_failed == 2"]);
    let mut fail = |id, uri, verb| {
        let tried = with_verb(intent("s-1", id, "update", vec![resource(uri, "booking")]), verb);
        let before = seen(&mut world, &mut collector, tried.clone());
        (before, seen(&mut world, &mut collector, outcome(&tried, v1::OutcomeStatus::Failed)))
    };
    assert_eq!(fail(1, "r/1", v1::ActionVerb::ResourceWrite), (vec![], vec![]));
    assert_eq!(fail(2, "r/1", v1::ActionVerb::ResourceRead), (vec![], vec![]), "a read that failed");
    assert_eq!(fail(3, "r/2", v1::ActionVerb::ResourceWrite), (vec![], vec!["r1".to_owned()]), "another resource");
    assert_eq!(fail(4, "r/1", v1::ActionVerb::ResourceRead).0, ["r0", "r1"]);
}

#[test]
fn refusals_of_a_tool_on_a_resource_are_counted() {
    let (mut world, mut collector) = watching(&["context.refusals_here == 2"]);
    for id in 1..=2 {
        let tried = intent("s-1", id, "update", vec![resource("r/1", "booking")]);
        assert!(seen(&mut world, &mut collector, tried.clone()).is_empty());
        seen(&mut world, &mut collector, outcome(&tried, v1::OutcomeStatus::Failed));
    }
    assert!(seen(&mut world, &mut collector, intent("s-1", 3, "update", vec![resource("r/2", "booking")])).is_empty());
    assert_eq!(seen(&mut world, &mut collector, intent("s-1", 4, "update", vec![resource("r/1", "booking")])), ["r0"]);
}

#[test]
fn an_owner_that_was_learned_is_known_at_the_next_intent() {
    let (mut world, mut collector) = watching(&["context.foreign_owner", "context.owner_unknown"]);
    let record = |uri: &str| v1::Resource { kind: v1::ResourceKind::Record.into(), ..resource(uri, "booking") };
    let learned = |uri: &str, owner: &str| {
        let of = v1::Resource { tags: vec![format!("owner:{owner}")], ..record(uri) };
        let access = v1::DataAccess { resource: Some(of), verb: v1::ActionVerb::ResourceRead.into(), ..Default::default() };
        v1::Event { body: Some(Body::DataAccess(access)), ..event("s-0", "agent-1") }
    };
    assert_eq!(seen(&mut world, &mut collector, intent("s-1", 1, "read", vec![record("r/1")])), ["r1"]);
    seen(&mut world, &mut collector, learned("r/1", "u-1"));
    seen(&mut world, &mut collector, learned("r/2", "u-2"));
    assert!(seen(&mut world, &mut collector, intent("s-1", 2, "read", vec![record("r/1")])).is_empty(), "u-1 is the initiator");
    assert_eq!(seen(&mut world, &mut collector, intent("s-1", 3, "read", vec![record("r/2")])), ["r0"]);
}

#[test]
fn a_credential_has_an_age_an_end_and_a_session() {
    let (mut world, mut collector) = watching(&[
        "context.credential_expired",
        "context.credential_replayed",
        "context.standing_credential",
        "context.human_credential && context.credential_age_s == 60",
    ]);
    let shown = |session: &str, ends: u64| {
        let mut event = event(session, "agent-1");
        event.attribution.as_mut().unwrap().credential = Some(v1::Credential {
            credential_id: "cred-1".to_owned(),
            kind: v1::CredentialKind::HumanDelegated.into(),
            not_after_unix_ns: ends,
            ..Default::default()
        });
        event
    };
    let ends = world.now + HOUR_NS;
    assert!(seen(&mut world, &mut collector, shown("s-1", ends)).is_empty());
    world.now += 60 * SECOND_NS;
    assert_eq!(seen(&mut world, &mut collector, shown("s-1", ends)), ["r3"]);
    assert_eq!(seen(&mut world, &mut collector, shown("s-2", 0)), ["r1", "r2", "r3"], "without an end, and of another session");
    world.now += HOUR_NS;
    assert_eq!(seen(&mut world, &mut collector, shown("s-1", ends)), ["r0"]);
}

#[test]
fn a_declared_purpose_bounds_tools_resources_and_time() {
    let (mut world, mut collector) =
        watching(&["context.purpose_declared && !context.tool_in_purpose", "!context.resources_in_purpose", "context.purpose_expired"]);
    let declared = v1::DeclarePurpose {
        tenant_id: TENANT.to_owned(),
        purpose_id: "refunds".to_owned(),
        allowed_tools: vec!["query".to_owned()],
        allowed_resources: vec!["db://refunds/*".to_owned()],
        expires_unix_ns: world.now + HOUR_NS,
        ..Default::default()
    };
    world.command(&[crate::world::ALICE], v1::command::Action::DeclarePurpose(declared)).unwrap();
    let act = |tool: &str, uri: &str| {
        let mut event = intent("s-1", 1, tool, vec![resource(uri, "db")]);
        "refunds".clone_into(&mut event.attribution.as_mut().unwrap().purpose_id);
        event
    };
    assert!(seen(&mut world, &mut collector, act("query", "db://refunds/7")).is_empty());
    assert_eq!(seen(&mut world, &mut collector, act("delete", "db://refunds/7")), ["r0"]);
    assert_eq!(seen(&mut world, &mut collector, act("query", "db://salaries")), ["r1"]);
    world.now += HOUR_NS + 1;
    assert_eq!(seen(&mut world, &mut collector, act("query", "db://refunds/7")), ["r2"]);
}

#[test]
fn another_definition_under_the_same_name_is_drift() {
    let (mut world, mut collector) = watching(&["context.tool_drift", "context.server != \"\" && !context.server_known"]);
    let defined = |digest: u8| {
        let body = v1::ToolDefined {
            server_id: "crm".to_owned(),
            name: "query".to_owned(),
            definition_sha256: vec![digest; 32],
            declared_hints: None,
        };
        v1::Event { body: Some(Body::ToolDefined(body)), ..event("s-1", "agent-1") }
    };
    assert_eq!(seen(&mut world, &mut collector, defined(1)), ["r1"]);
    let server = v1::RegisterServer { tenant_id: TENANT.to_owned(), server_id: "crm".to_owned(), approved: true, ..Default::default() };
    world.command(&[crate::world::ALICE], v1::command::Action::RegisterServer(server)).unwrap();
    assert!(seen(&mut world, &mut collector, defined(1)).is_empty());
    assert_eq!(seen(&mut world, &mut collector, defined(2)), ["r0"]);
}

#[test]
fn a_second_purpose_in_one_session_is_a_change_and_leaving_it_out_is_not() {
    let rules = ["context.purpose_changed", "context.session_purpose == \"refunds\" && context.purpose == \"\""];
    let (mut world, mut collector) = watching(&rules);
    let act = |session: &str, purpose: &str| {
        let mut event = intent(session, 1, "query", Vec::new());
        purpose.clone_into(&mut event.attribution.as_mut().unwrap().purpose_id);
        event
    };
    assert!(seen(&mut world, &mut collector, act("s-1", "")).is_empty(), "none was named yet");
    assert!(seen(&mut world, &mut collector, act("s-1", "refunds")).is_empty(), "the first is no change");
    assert!(seen(&mut world, &mut collector, act("s-1", "refunds")).is_empty());
    assert_eq!(seen(&mut world, &mut collector, act("s-1", "payroll")), ["r0"]);
    assert_eq!(seen(&mut world, &mut collector, act("s-1", "payroll")), ["r0"], "it does not become the session's own");
    assert_eq!(seen(&mut world, &mut collector, act("s-1", "")), ["r1"], "a rule sees what is left out, too");
    world.reopen();
    assert_eq!(seen(&mut world, &mut collector, act("s-1", "payroll")), ["r0"]);
    assert!(seen(&mut world, &mut collector, act("s-2", "payroll")).is_empty(), "another session has its own");
}

#[test]
fn a_pinned_definition_is_good_and_any_other_drifts() {
    let (mut world, mut collector) = watching(&["context.tool_drift"]);
    let called = |digest: u8| {
        let mut event = intent("s-1", 1, "query", Vec::new());
        if let Some(Body::ActionIntent(intent)) = &mut event.body {
            let definition_sha256 = if digest == 0 { Vec::new() } else { vec![digest; 32] };
            intent.tool = Some(v1::Tool { server_id: "crm".to_owned(), name: "query".to_owned(), definition_sha256, ..Default::default() });
        }
        event
    };
    let pin = |digest: u8, beside_others: bool| {
        v1::command::Action::PinTool(v1::PinTool {
            tenant_id: TENANT.to_owned(),
            server_id: "crm".to_owned(),
            tool_name: "query".to_owned(),
            definition_sha256: vec![digest; 32],
            beside_others,
            reason: "read it".to_owned(),
        })
    };
    let drifts = |world: &mut World, collector: &mut Collector, of: &[u8]| {
        of.iter().copied().filter(|digest| !seen(world, collector, called(*digest)).is_empty()).collect::<Vec<u8>>()
    };
    assert_eq!(drifts(&mut world, &mut collector, &[1, 2, 3]), [2, 3], "the first is good while nobody says otherwise");
    world.command(&[crate::world::ALICE], pin(2, true)).unwrap();
    assert_eq!(drifts(&mut world, &mut collector, &[1, 2, 3]), [3], "accepted beside the first");
    world.command(&[crate::world::ALICE], pin(2, false)).unwrap();
    world.reopen();
    assert_eq!(drifts(&mut world, &mut collector, &[1, 3, 0, 2, 0]), [1, 3, 0], "only the pinned one; without one, the newest counts");
    let (tools, next) = listing::tools(&world.store, TENANT, &[], 10).unwrap();
    assert!(next.is_empty());
    assert_eq!((tools[0].server_id.as_str(), tools[0].tool_name.as_str(), tools[0].drift), ("crm", "query", false));
    assert_eq!(tools[0].pinned_sha256, [vec![2; 32]]);

    let again = world.command(&[crate::world::ALICE], pin(2, true)).unwrap_err();
    assert!(matches!(again, Refusal::AlreadyDone { .. }), "{again:?}");
    for digest in 10..25 {
        world.command(&[crate::world::ALICE], pin(digest, true)).unwrap();
    }
    let full = world.command(&[crate::world::ALICE], pin(99, true)).unwrap_err();
    assert!(matches!(full, Refusal::TooLarge { limit: 16, .. }), "{full:?}");
    world.command(&[crate::world::ALICE], pin(99, false)).unwrap();
    assert_eq!(drifts(&mut world, &mut collector, &[2, 10, 99]), [2, 10]);
    let by_responder = world.command(&[crate::world::RESPONDER], pin(1, false)).unwrap_err();
    assert!(matches!(by_responder, Refusal::OperatorLacksRole { .. }), "{by_responder:?}");
    let short = v1::command::Action::PinTool(v1::PinTool { tenant_id: TENANT.to_owned(), tool_name: "t".to_owned(), ..Default::default() });
    assert!(matches!(world.command(&[crate::world::ALICE], short).unwrap_err(), Refusal::Malformed(_)));
}

#[test]
fn a_tool_can_be_pinned_before_it_is_seen_and_no_agent_moves_the_pin() {
    let (mut world, _) = World::with_collector();
    let mut agent = Collector::new("self", 61);
    let mut scope = agent.scope();
    scope.vantages = vec![v1::Vantage::SelfReported.into(), v1::Vantage::GatewayObserved.into()];
    world.command(&[crate::world::ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    agent.open(&mut world).unwrap();
    activate(&mut world, &alert("r0", "context.tool_drift")).unwrap();
    let pin = v1::PinTool {
        tenant_id: TENANT.to_owned(),
        tool_name: "query".to_owned(),
        definition_sha256: vec![5; 32],
        reason: "from the vendor".to_owned(),
        ..Default::default()
    };
    world.command(&[crate::world::ALICE], v1::command::Action::PinTool(pin)).unwrap();
    let defined = |vantage: v1::Vantage, digest: u8| {
        let body = v1::ToolDefined { name: "query".to_owned(), definition_sha256: vec![digest; 32], ..Default::default() };
        v1::Event { vantage: vantage.into(), body: Some(Body::ToolDefined(body)), ..event("s-1", "agent-1") }
    };
    assert_eq!(seen(&mut world, &mut agent, defined(v1::Vantage::SelfReported, 6)), ["r0"]);
    assert_eq!(seen(&mut world, &mut agent, defined(v1::Vantage::GatewayObserved, 6)), ["r0"], "being first does not make it good");
    assert!(seen(&mut world, &mut agent, defined(v1::Vantage::GatewayObserved, 5)).is_empty());
}

#[test]
fn an_outcome_of_what_was_denied_is_seen() {
    let (mut world, mut collector) = World::with_collector();
    let rules = format!(
        "{}{}",
        crate::deciding::rule("no-drop", "deny", "context.tool == \"drop\""),
        alert("went-on", "context.outcome_of_denied && context.tool == \"drop\"")
    );
    activate(&mut world, &rules).unwrap();
    let denied = intent("s-1", 1, "drop", Vec::new());
    seen(&mut world, &mut collector, denied.clone());
    let after = seen(&mut world, &mut collector, outcome(&denied, v1::OutcomeStatus::Succeeded));
    assert_eq!(after, ["no-drop", "went-on"]);
}

#[test]
fn only_the_identity_provider_can_say_that_somebody_authenticated() {
    let (mut world, _) = World::with_collector();
    let mut idp = Collector::new("idp", 60);
    let mut scope = idp.scope();
    scope.vantages = vec![v1::Vantage::IdpObserved.into(), v1::Vantage::GatewayObserved.into()];
    world.command(&[crate::world::ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    idp.open(&mut world).unwrap();
    activate(&mut world, &alert("fresh", "context.step_up_age_s < 300")).unwrap();
    let cleared = |vantage: v1::Vantage, at: u64| {
        let body = v1::StepUpCleared { acr: "mfa".to_owned(), amr: Vec::new(), authenticated_unix_ns: at };
        v1::Event { vantage: vantage.into(), body: Some(Body::StepUpCleared(body)), ..event("s-1", "agent-1") }
    };
    let now = world.now;
    assert!(seen(&mut world, &mut idp, cleared(v1::Vantage::GatewayObserved, now)).is_empty());
    assert_eq!(seen(&mut world, &mut idp, cleared(v1::Vantage::IdpObserved, now)), ["fresh"]);
    world.now += 301 * SECOND_NS;
    assert!(seen(&mut world, &mut idp, event("s-1", "agent-1")).is_empty());
}

#[test]
fn asking_twice_teaches_an_agent_nothing() {
    let (mut world, mut collector) = World::with_collector();
    let rules = crate::deciding::rule("first", "require_approval", "context.first_seen_resource");
    activate(&mut world, &rules).unwrap();
    let ask = || intent("s-1", 1, "query", vec![resource("db://prod/salaries", "crm")]);
    for _ in 0..2 {
        assert_eq!(seen(&mut world, &mut collector, ask()), ["first"], "what was not allowed is still new");
    }
}

#[test]
fn what_an_agent_reports_of_itself_teaches_nothing_about_others() {
    let (mut world, mut collector) = watching(&["context.credential_replayed", "context.first_seen_resource"]);
    let mut own = Collector::new("self", 61);
    let mut scope = own.scope();
    scope.vantages = vec![v1::Vantage::SelfReported.into()];
    world.command(&[crate::world::ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    own.open(&mut world).unwrap();
    let credential = v1::Credential { credential_id: "victim".to_owned(), ..Default::default() };
    let issued = Body::CredentialIssued(v1::CredentialIssued { credential: Some(credential.clone()), ..Default::default() });
    let mut evil = v1::Event { vantage: v1::Vantage::SelfReported.into(), body: Some(issued), ..event("evil", "agent-2") };
    evil.attribution.as_mut().unwrap().credential = Some(credential.clone());
    seen(&mut world, &mut own, evil);
    let touched = v1::Event { vantage: v1::Vantage::SelfReported.into(), ..intent("evil", 1, "query", vec![resource("db://a", "x")]) };
    seen(&mut world, &mut own, v1::Event { attribution: event("evil", "agent-2").attribution, ..touched });
    let mut honest = intent("honest", 1, "query", vec![resource("db://a", "x")]);
    honest.attribution = event("honest", "agent-2").attribution;
    honest.attribution.as_mut().unwrap().credential = Some(credential);
    assert_eq!(seen(&mut world, &mut collector, honest), ["r1"], "not replayed, and still new");
}

#[test]
fn a_parent_that_is_only_named_gets_no_reach_and_lends_no_owner() {
    let (mut world, mut collector) = watching(&["context.reach_resources > 1", "context.owned"]);
    let owner = v1::RegisterAgent {
        tenant_id: TENANT.to_owned(),
        agent_id: "agent-1".to_owned(),
        business_owner: "b".to_owned(),
        technical_owner: "t".to_owned(),
        revocation_paths: vec!["r".to_owned()],
        ..Default::default()
    };
    world.command(&[crate::world::ALICE], v1::command::Action::RegisterAgent(owner)).unwrap();
    assert_eq!(seen(&mut world, &mut collector, event("victim", "agent-1")), ["r1"]);
    let mut rogue = intent("rogue", 1, "query", vec![resource("a", "x"), resource("b", "x")]);
    rogue.attribution = event("rogue", "agent-9").attribution;
    rogue.session = child("rogue", "victim").session;
    assert_eq!(seen(&mut world, &mut collector, rogue), ["r0"], "nobody owns it");
    assert_eq!(seen(&mut world, &mut collector, event("victim", "agent-1")), ["r1"], "its reach is its own");
}

#[test]
fn a_spawn_that_is_recorded_late_links_all_the_same() {
    let (mut world, mut collector) = watching(&["context.depth == 1", "context.reach_resources == 1"]);
    let mut helper = intent("below", 1, "query", vec![resource("a", "x")]);
    helper.attribution = event("below", "helper").attribution;
    assert_eq!(seen(&mut world, &mut collector, helper.clone()), ["r1"]);
    let spawned = v1::SubAgentSpawned { child_session_id: "below".to_owned(), child_agent_id: "helper".to_owned(), ..Default::default() };
    seen(&mut world, &mut collector, v1::Event { body: Some(Body::SubAgentSpawned(spawned)), ..event("top", "agent-1") });
    assert_eq!(seen(&mut world, &mut collector, helper), ["r0", "r1"]);
    assert_eq!(seen(&mut world, &mut collector, event("top", "agent-1")), ["r1"]);
}

#[test]
fn a_denied_intent_is_not_made_good_by_another_under_its_id() {
    let (mut world, mut collector) = World::with_collector();
    let drop = crate::deciding::rule("no-drop", "deny", "context.tool == \"drop\"");
    activate(&mut world, &format!("{drop}{}", alert("went-on", "context.outcome_of_denied"))).unwrap();
    let denied = intent("s-1", 1, "drop", Vec::new());
    seen(&mut world, &mut collector, denied.clone());
    assert!(seen(&mut world, &mut collector, intent("s-1", 1, "look", Vec::new())).is_empty());
    let after = seen(&mut world, &mut collector, outcome(&denied, v1::OutcomeStatus::Succeeded));
    assert!(after.contains(&"went-on".to_owned()), "{after:?}");
}

#[test]
fn an_outcome_finds_its_intent_wherever_in_the_group_that_stands() {
    for (between, batch_events) in [(0, 1_000), (1, 1_000), (62, 1_000), (63, 1_000), (64, 1_000), (300, 1_000), (300, 7)] {
        let (mut world, mut collector) = World::with_collector();
        let drop = crate::deciding::rule("no-drop", "deny", "context.tool == \"drop\"");
        activate(&mut world, &format!("{drop}{}", alert("went-on", "context.outcome_of_denied"))).unwrap();
        let denied = intent("s-1", 1, "drop", Vec::new());
        let mut events = vec![denied.clone()];
        events.extend((0..between).map(|number| event(&format!("s-{}", number % 5), "agent-1")));
        events.push(outcome(&denied, v1::OutcomeStatus::Succeeded));
        let encoded: Vec<Bytes> = events.iter().map(|event| event.encode_to_vec().into()).collect();
        let (mut items, mut last) = (Vec::new(), None);
        for of_batch in encoded.chunks(batch_events) {
            let batch = collector.batch(of_batch.to_vec());
            collector.advance(&batch);
            items.push(peer::item::Item::Batch(batch.clone()));
            last = Some(batch);
        }
        // Sent again in the same group, it gets the same receipt, out of entries that nobody has read yet.
        items.push(peer::item::Item::Batch(last.unwrap()));
        let mut outcomes = world.apply_group(items);
        let (Some(Outcome::Appended(again)), Some(Outcome::Appended(first))) = (outcomes.pop(), outcomes.pop()) else { panic!() };
        assert!(rules(first.events.last().unwrap()).contains(&"went-on"), "{between} between them: {first:?}");
        assert_eq!(again, first, "{between} between them");
    }
}

#[test]
fn taint_below_reaches_what_is_above() {
    let (mut world, mut collector) = watching(&["context.tainted"]);
    seen(&mut world, &mut collector, event("top", "agent-1"));
    let page = v1::Resource { tags: vec!["untrusted".to_owned()], ..resource("https://example.test", "web") };
    let access = v1::DataAccess { resource: Some(page), ..Default::default() };
    seen(&mut world, &mut collector, v1::Event { body: Some(Body::DataAccess(access)), ..child("below", "top") });
    assert_eq!(seen(&mut world, &mut collector, event("top", "agent-1")), ["r0"]);
}

#[test]
fn one_event_enters_a_bounded_number_of_members() {
    let (mut world, mut collector) = watching(&["context.overflow", "context.reach_resources + context.reach_systems > 128"]);
    let many = |n: u8| (0..64).map(|at| resource(&format!("r/{n}/{at}"), &format!("x/{n}/{at}"))).collect::<Vec<_>>();
    let mut below = intent("below", 1, "query", many(1));
    below.session = child("below", "top").session;
    assert_eq!(seen(&mut world, &mut collector, below), ["r0"], "not all of it could be handed upwards");
}
