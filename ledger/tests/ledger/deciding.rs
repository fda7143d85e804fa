//! Rules in force: what they do to an event, to what comes after it, and to what needs somebody's yes.

use proofline_ledger::{ENGINE, EntryIndex, Refusal, RuleSet, Wanted, listing};
use proofline_proto::v1;
use v1::command::Action;
use v1::event::Body;

use crate::world::{ALICE, BOB, Collector, RESPONDER, SECOND_NS, TENANT, World, event};

pub fn rule(id: &str, consequence: &str, condition: &str) -> String {
    format!(
        "@id(\"{id}\") @containment(\"{consequence}\") @severity(\"high\") forbid(principal, action, resource) when {{ {condition} }};\n"
    )
}

pub fn alert(id: &str, condition: &str) -> String {
    rule(id, "alert", condition)
}

pub fn activation(rules: &str) -> v1::ActivateRules {
    v1::ActivateRules {
        rules: rules.to_owned(),
        engine: ENGINE.to_owned(),
        simulation_digest: vec![5; 32],
        denies_everything: false,
        reason: "a test".to_owned(),
    }
}

pub fn activate(world: &mut World, rules: &str) -> Result<u64, Refusal> {
    world.command(&[ALICE, BOB], Action::ActivateRules(activation(rules)))
}

/// The rules of the set that had something to say.
pub fn findings(receipt: &v1::EventReceipt) -> Vec<String> {
    receipt.findings.iter().map(|it| it.rule_id.clone()).filter(|id| !id.starts_with("built-in/")).collect()
}

/// The entries alone give the same state.
fn replayed(world: &World) {
    let mut replay = proofline_ledger::Replay::new().unwrap();
    world.entries().into_iter().for_each(|entry| replay.push(entry.into()).unwrap());
    assert_eq!(replay.finish().unwrap().0.state_digest(), world.ledger.state_digest());
}

fn one(world: &mut World, collector: &mut Collector, event: v1::Event) -> v1::EventReceipt {
    collector.append(world, vec![event]).unwrap().events.remove(0)
}

fn with_tool(session: &str, tool: &str) -> v1::Event {
    let mut event = event(session, "agent-1");
    if let Some(Body::ActionIntent(intent)) = &mut event.body {
        intent.tool.as_mut().unwrap().name = tool.to_owned();
        intent.action_digest = vec![8; 32];
    }
    event
}

#[test]
fn a_rule_that_contains_stops_the_next_event_of_the_same_batch() {
    let (mut world, mut collector) = World::with_collector();
    activate(&mut world, &rule("no-drop", "revoke_session", "context.tool == \"drop\"")).unwrap();
    let receipt = collector.append(&mut world, vec![with_tool("s-1", "read"), with_tool("s-1", "drop"), with_tool("s-1", "read")]).unwrap();
    let verdicts: Vec<_> = receipt.events.iter().map(v1::EventReceipt::verdict).collect();
    assert_eq!(verdicts, [v1::Verdict::Allow, v1::Verdict::Deny, v1::Verdict::Deny]);
    let by_rule = receipt.events[1].findings.iter().find(|it| it.rule_id == "no-drop").unwrap();
    assert_eq!(by_rule.containment_id, 1);
    let began = world.entry(receipt.first_index + 3);
    let Some(v1::entry_core::Body::Containment(began)) = began.body else { panic!("{began:?}") };
    assert_eq!((began.reason.as_str(), began.cause_index), ("rule no-drop", receipt.first_index + 1));
    let elsewhere = one(&mut world, &mut collector, with_tool("s-2", "read"));
    assert_eq!(elsewhere.verdict(), v1::Verdict::Allow);
}

#[test]
fn an_entry_commits_to_its_facts_and_to_the_rules() {
    let (mut world, mut collector) = World::with_collector();
    let before = collector.append(&mut world, vec![event("s-1", "agent-1")]).unwrap();
    let rules = alert("any", "true");
    activate(&mut world, &rules).unwrap();
    let after = collector.append(&mut world, vec![event("s-1", "agent-1")]).unwrap();
    let decision = |index| world.entry(index).decision.unwrap();
    assert!(decision(before.first_index).rule_set_digest.is_empty());
    assert_eq!(decision(before.first_index).facts_digest.len(), 32);
    assert_eq!(decision(after.first_index).rule_set_digest, RuleSet::parse(&rules).unwrap().digest().0);
    let facts = proofline_ledger::listing::facts(&world.store, proofline_ledger::EntryIndex(after.first_index)).unwrap().unwrap();
    assert_eq!((facts.action.as_str(), facts.session_calls), ("tool_call", 2));
}

#[test]
fn an_observing_rule_finds_and_does_nothing() {
    let (mut world, mut collector) = World::with_collector();
    let observing = rule("watch", "revoke_session", "true").replacen("@severity", "@mode(\"observe\") @severity", 1);
    activate(&mut world, &observing).unwrap();
    let receipt = one(&mut world, &mut collector, event("s-1", "agent-1"));
    assert_eq!((receipt.verdict(), findings(&receipt)), (v1::Verdict::Allow, vec!["watch".to_owned()]));
    assert_eq!(receipt.findings[0].kind(), v1::FindingKind::BuiltIn, "unregistered");
    assert!(receipt.findings.iter().any(|it| it.kind() == v1::FindingKind::ObserveOnly));
}

#[test]
fn a_rule_that_errs_is_a_finding_and_does_what_it_says_for_that() {
    let (mut world, mut collector) = World::with_collector();
    let overflows = "context.session_calls * 9223372036854775807 * 2 > 0";
    let rules = format!("{}{}", rule("closed", "deny", overflows).replacen("high", "critical", 1), rule("open", "deny", overflows));
    activate(&mut world, &rules).unwrap();
    let receipt = one(&mut world, &mut collector, event("s-1", "agent-1"));
    let kinds: Vec<_> = receipt.findings.iter().filter(|it| !it.rule_id.starts_with("built-in")).map(v1::Finding::kind).collect();
    assert_eq!(kinds, [v1::FindingKind::RuleError, v1::FindingKind::RuleError]);
    assert_eq!(receipt.verdict(), v1::Verdict::Deny, "a critical rule fails closed");
    activate(&mut world, &rule("open", "deny", overflows)).unwrap();
    let receipt = one(&mut world, &mut collector, event("s-2", "agent-1"));
    assert_eq!(receipt.verdict(), v1::Verdict::Allow, "another alerts");
}

#[test]
fn the_strongest_verdict_holds() {
    let (mut world, mut collector) = World::with_collector();
    let rules = format!("{}{}", rule("a", "step_up", "true"), rule("b", "require_approval", "context.tool == \"pay\""));
    activate(&mut world, &rules).unwrap();
    assert_eq!(one(&mut world, &mut collector, with_tool("s-1", "read")).verdict(), v1::Verdict::StepUp);
    assert_eq!(one(&mut world, &mut collector, with_tool("s-1", "pay")).verdict(), v1::Verdict::RequireApproval);
}

#[test]
fn rules_need_two_registrars_a_simulation_and_this_engine() {
    let (mut world, _) = World::with_collector();
    let good = activation(&alert("a", "true"));
    let refused = |world: &mut World, signers: &[_], it: v1::ActivateRules| world.command(signers, Action::ActivateRules(it)).unwrap_err();
    assert_eq!(refused(&mut world, &[ALICE], good.clone()), Refusal::SecondOperatorNeeded);
    let unsimulated = v1::ActivateRules { simulation_digest: Vec::new(), ..good.clone() };
    assert!(matches!(refused(&mut world, &[ALICE, BOB], unsimulated), Refusal::Malformed(_)));
    let other = v1::ActivateRules { engine: "cedar-policy 5".to_owned(), ..good.clone() };
    assert!(matches!(refused(&mut world, &[ALICE, BOB], other), Refusal::OtherRuleEngine { .. }));
    let bad = v1::ActivateRules { rules: "permit(principal, action, resource);".to_owned(), ..good.clone() };
    assert!(matches!(refused(&mut world, &[ALICE, BOB], bad), Refusal::BadRules { .. }));
    let all = v1::ActivateRules { rules: rule("all", "deny", "true"), ..good };
    assert_eq!(refused(&mut world, &[ALICE, BOB], all.clone()), Refusal::RulesDenyEverything);
    world.command(&[ALICE, BOB], Action::ActivateRules(v1::ActivateRules { denies_everything: true, ..all })).unwrap();
}

#[test]
fn rules_hold_after_a_restart_until_others_take_their_place() {
    let (mut world, mut collector) = World::with_collector();
    activate(&mut world, &alert("first", "true")).unwrap();
    world.reopen();
    assert_eq!(findings(&one(&mut world, &mut collector, event("s-1", "agent-1"))), ["first"]);
    activate(&mut world, &alert("second", "true")).unwrap();
    assert_eq!(findings(&one(&mut world, &mut collector, event("s-1", "agent-1"))), ["second"]);
    activate(&mut world, "").unwrap();
    assert!(findings(&one(&mut world, &mut collector, event("s-1", "agent-1"))).is_empty());
}

/// A world with a rule that wants an approval, and an intent that got the request.
fn asking() -> (World, Collector, v1::ResolveApproval) {
    let (mut world, mut collector) = World::with_collector();
    activate(&mut world, &rule("pay", "require_approval", "context.tool == \"pay\"")).unwrap();
    let receipt = collector.append(&mut world, vec![with_tool("s-1", "pay")]).unwrap();
    assert_eq!(receipt.events[0].verdict(), v1::Verdict::RequireApproval);
    let approval = v1::ResolveApproval {
        tenant_id: TENANT.to_owned(),
        session_id: "s-1".to_owned(),
        intent_index: receipt.first_index,
        action_digest: receipt.events[0].action_digest.clone(),
        verdict: v1::Verdict::Allow.into(),
        expires_unix_ns: world.now + 600 * SECOND_NS,
        reason: "looked at it".to_owned(),
    };
    (world, collector, approval)
}

#[test]
fn an_approval_lets_the_exact_action_through_once() {
    let (mut world, mut collector, approval) = asking();
    world.command(&[RESPONDER], Action::ResolveApproval(approval)).unwrap();
    let mut other = with_tool("s-1", "pay");
    if let Some(Body::ActionIntent(intent)) = &mut other.body {
        intent.action_digest = vec![9; 32];
    }
    assert_eq!(one(&mut world, &mut collector, other).verdict(), v1::Verdict::RequireApproval, "other arguments");
    assert_eq!(one(&mut world, &mut collector, with_tool("s-2", "pay")).verdict(), v1::Verdict::RequireApproval, "another session");
    let mut again = with_tool("s-1", "pay");
    if let Some(Body::ActionIntent(intent)) = &mut again.body {
        intent.tool.as_mut().unwrap().call_id = "second-try".to_owned();
    }
    let approved = one(&mut world, &mut collector, again.clone());
    assert_eq!(approved.verdict(), v1::Verdict::Allow);
    assert!(approved.findings.iter().any(|it| it.rule_id == "pay" && it.kind() == v1::FindingKind::Approved));
    assert_eq!(one(&mut world, &mut collector, again).verdict(), v1::Verdict::RequireApproval, "it was used up");
}

#[test]
fn a_denied_or_expired_approval_does_not_let_through() {
    let (mut world, mut collector, approval) = asking();
    let denied = v1::ResolveApproval { verdict: v1::Verdict::Deny.into(), ..approval };
    world.command(&[RESPONDER], Action::ResolveApproval(denied)).unwrap();
    assert_eq!(one(&mut world, &mut collector, with_tool("s-1", "pay")).verdict(), v1::Verdict::Deny);
    let (mut world, mut collector, approval) = asking();
    world.command(&[RESPONDER], Action::ResolveApproval(approval)).unwrap();
    world.now += 601 * SECOND_NS;
    assert_eq!(one(&mut world, &mut collector, with_tool("s-1", "pay")).verdict(), v1::Verdict::RequireApproval);
}

#[test]
fn an_approval_is_refused_from_whoever_asked_and_for_what_nobody_asked() {
    let (mut world, _, approval) = asking();
    let operator = v1::OperatorKey {
        operator_id: "uma".to_owned(),
        public_key: crate::world::public(&crate::world::key(77)),
        roles: vec![v1::OperatorRole::Responder.into()],
        subject: "u-1".to_owned(),
    };
    world.command(&[ALICE, BOB], Action::RegisterOperator(v1::RegisterOperator { operator: Some(operator) })).unwrap();
    let own = world.command(&[("uma", 77)], Action::ResolveApproval(approval.clone())).unwrap_err();
    assert_eq!(own, Refusal::ApproverIsRequester { operator: "uma".to_owned() });
    let unasked = v1::ResolveApproval { action_digest: vec![1; 32], ..approval.clone() };
    assert!(matches!(world.command(&[RESPONDER], Action::ResolveApproval(unasked)).unwrap_err(), Refusal::UnknownSubject { .. }));
    let endless = v1::ResolveApproval { expires_unix_ns: u64::MAX, ..approval.clone() };
    assert_eq!(world.command(&[RESPONDER], Action::ResolveApproval(endless)).unwrap_err(), Refusal::ApprovalLife);
    world.command(&[RESPONDER], Action::ResolveApproval(approval.clone())).unwrap();
    assert!(matches!(world.command(&[RESPONDER], Action::ResolveApproval(approval)).unwrap_err(), Refusal::AlreadyDone { .. }));
}

#[test]
fn what_an_agent_says_of_itself_stops_only_its_own_session() {
    let (mut world, _) = World::with_collector();
    let mut agent = Collector::new("self", 61);
    let mut scope = agent.scope();
    scope.vantages = vec![v1::Vantage::SelfReported.into()];
    world.command(&[ALICE], Action::RegisterCollector(scope)).unwrap();
    agent.open(&mut world).unwrap();
    activate(&mut world, &rule("leak", "revoke_credential", "context.tool == \"query\"")).unwrap();
    let mut event = event("s-1", "agent-1");
    event.vantage = v1::Vantage::SelfReported.into();
    event.attribution.as_mut().unwrap().credential =
        Some(v1::Credential { credential_id: "somebody-elses".to_owned(), ..Default::default() });
    let receipt = agent.append(&mut world, vec![event]).unwrap();
    let Some(v1::entry_core::Body::Containment(began)) = world.entry(receipt.first_index + 1).body else { panic!() };
    assert_eq!(began.targets[0].kind(), v1::TargetKind::Session);
}

#[test]
fn the_deepest_rule_decides_the_same_on_a_small_stack() {
    let deepest = (0..29).fold("context.session_calls == 1".to_owned(), |inner, _| format!("if {inner} then true else false"));
    let decide = move || {
        let (mut world, mut collector) = World::with_collector();
        activate(&mut world, &rule("deep", "deny", &deepest)).unwrap();
        one(&mut world, &mut collector, event("s-1", "agent-1")).verdict()
    };
    for stack in [512 << 10, 2 << 20, 16 << 20] {
        let verdict = std::thread::Builder::new().stack_size(stack).spawn(decide.clone()).unwrap().join().unwrap();
        assert_eq!(verdict, v1::Verdict::Deny, "with a stack of {stack} bytes");
    }
}

#[test]
fn an_approval_outlives_what_else_is_in_the_way() {
    let (mut world, mut collector, approval) = asking();
    world.command(&[RESPONDER], Action::ResolveApproval(approval)).unwrap();
    let both =
        format!("{}{}", rule("pay", "require_approval", "context.tool == \"pay\""), rule("fresh", "step_up", "context.tool == \"pay\""));
    activate(&mut world, &both).unwrap();
    assert_eq!(one(&mut world, &mut collector, with_tool("s-1", "pay")).verdict(), v1::Verdict::StepUp);
    activate(&mut world, &rule("pay", "require_approval", "context.tool == \"pay\"")).unwrap();
    assert_eq!(one(&mut world, &mut collector, with_tool("s-1", "pay")).verdict(), v1::Verdict::Allow, "the yes was kept");
}

#[test]
fn an_approval_is_good_for_the_rules_that_asked() {
    let (mut world, mut collector, approval) = asking();
    world.command(&[RESPONDER], Action::ResolveApproval(approval)).unwrap();
    activate(&mut world, &rule("other", "require_approval", "context.tool == \"pay\"")).unwrap();
    assert_eq!(one(&mut world, &mut collector, with_tool("s-1", "pay")).verdict(), v1::Verdict::RequireApproval);
}

#[test]
fn leaving_the_initiator_out_does_not_hide_who_asks() {
    let (mut world, mut collector) = World::with_collector();
    activate(&mut world, &rule("pay", "require_approval", "context.tool == \"pay\"")).unwrap();
    one(&mut world, &mut collector, with_tool("s-1", "read"));
    let mut nameless = with_tool("s-1", "pay");
    let attribution = nameless.attribution.as_mut().unwrap();
    attribution.initiator = None;
    attribution.unattributed = v1::UnattributedReason::IdentityWithheld.into();
    one(&mut world, &mut collector, nameless);
    let asked = listing::approvals(&world.store, TENANT, Wanted::Everything, EntryIndex(0), 10).unwrap();
    assert_eq!(asked[0].requester.as_ref().unwrap().subject, "u-1");
}

#[test]
fn an_entry_holds_the_gravest_findings_and_says_that_there_are_more() {
    let (mut world, mut collector) = World::with_collector();
    let many: String = (0..60).map(|n| alert(&format!("a{n:02}"), "true")).collect();
    activate(&mut world, &format!("{many}{}", rule("zz", "deny", "context.tool == \"query\"").replacen("high", "critical", 1))).unwrap();
    let receipt = one(&mut world, &mut collector, event("s-1", "agent-1"));
    let found = findings(&receipt);
    assert_eq!(receipt.verdict(), v1::Verdict::Deny);
    assert!(found.contains(&"zz".to_owned()) && found.len() <= 40, "{found:?}");
    assert!(receipt.findings.iter().any(|it| it.rule_id == "built-in/more-findings"));
}

#[test]
fn waiting_for_a_yes_is_no_denial() {
    let (mut world, mut collector, _) = asking();
    activate(
        &mut world,
        &format!("{}{}", rule("pay", "require_approval", "context.tool == \"pay\""), alert("denied", "context.session_denied > 0")),
    )
    .unwrap();
    for _ in 0..3 {
        assert_eq!(findings(&one(&mut world, &mut collector, with_tool("s-1", "pay"))), ["pay"]);
    }
}

fn withdrawal(of: &v1::ResolveApproval) -> Action {
    Action::WithdrawApproval(v1::WithdrawApproval {
        tenant_id: of.tenant_id.clone(),
        session_id: of.session_id.clone(),
        intent_index: of.intent_index,
        action_digest: of.action_digest.clone(),
        reason: "wrong customer".to_owned(),
    })
}

#[test]
fn a_withdrawn_approval_lets_nothing_through_and_the_log_says_who_and_why() {
    let (mut world, mut collector, approval) = asking();
    world.command(&[RESPONDER], Action::ResolveApproval(approval.clone())).unwrap();
    let by = world.command(&[RESPONDER], withdrawal(&approval)).unwrap();
    world.reopen();
    let listed = listing::approvals(&world.store, TENANT, Wanted::Everything, EntryIndex(0), 10).unwrap();
    assert_eq!((listed.len(), listed[0].withdrawn_index, listed[0].used_by_index), (1, by, 0));
    let again = collector.append(&mut world, vec![with_tool("s-1", "pay")]).unwrap();
    assert_eq!(again.events[0].verdict(), v1::Verdict::RequireApproval, "it must be asked anew");
    let Some(v1::entry_core::Body::Command(signed)) = world.entry(by).body else { panic!() };
    assert_eq!(signed.signatures[0].operator_id, "rita");
    let command: v1::Command = prost::Message::decode(signed.command.as_slice()).unwrap();
    assert_eq!(command.action, Some(withdrawal(&approval)));

    // A yes to the new request is a new one; the old withdrawal does not touch it.
    let answer = v1::ResolveApproval { intent_index: again.first_index, ..approval.clone() };
    world.command(&[RESPONDER], Action::ResolveApproval(answer)).unwrap();
    let stale = world.command(&[RESPONDER], withdrawal(&approval)).unwrap_err();
    assert!(matches!(stale, Refusal::UnknownSubject { .. }), "{stale:?}");
    assert_eq!(one(&mut world, &mut collector, with_tool("s-1", "pay")).verdict(), v1::Verdict::Allow);
    replayed(&world);
}

#[test]
fn only_a_yes_that_still_holds_can_be_withdrawn_and_only_by_a_responder() {
    let (mut world, _, approval) = asking();
    let refused = |world: &mut World, by, of: &v1::ResolveApproval| world.command(&[by], withdrawal(of)).unwrap_err();
    let state = |refusal: Refusal| match refusal {
        Refusal::AlreadyDone { state, .. } => state,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(&mut world, RESPONDER, &approval), Refusal::UnknownSubject { .. }), "nobody answered");
    world.command(&[RESPONDER], Action::ResolveApproval(approval.clone())).unwrap();
    assert!(matches!(refused(&mut world, ALICE, &approval), Refusal::OperatorLacksRole { .. }));
    let other = v1::ResolveApproval { intent_index: approval.intent_index + 1, ..approval.clone() };
    assert!(matches!(refused(&mut world, RESPONDER, &other), Refusal::UnknownSubject { .. }));
    let Action::WithdrawApproval(silent) = withdrawal(&approval) else { unreachable!() };
    let silent = Action::WithdrawApproval(v1::WithdrawApproval { reason: String::new(), ..silent });
    assert!(matches!(world.command(&[RESPONDER], silent).unwrap_err(), Refusal::Malformed(_)));
    world.command(&[RESPONDER], withdrawal(&approval)).unwrap();
    assert_eq!(state(refused(&mut world, RESPONDER, &approval)), "withdrawn");

    let (mut world, mut used, approval) = asking();
    world.command(&[RESPONDER], Action::ResolveApproval(approval.clone())).unwrap();
    assert_eq!(one(&mut world, &mut used, with_tool("s-1", "pay")).verdict(), v1::Verdict::Allow);
    assert_eq!(state(refused(&mut world, RESPONDER, &approval)), "used");

    let (mut world, _, approval) = asking();
    world.command(&[RESPONDER], Action::ResolveApproval(approval.clone())).unwrap();
    world.now += 601 * SECOND_NS;
    assert_eq!(state(refused(&mut world, RESPONDER, &approval)), "expired");

    let (mut world, _, approval) = asking();
    let no = v1::ResolveApproval { verdict: v1::Verdict::Deny.into(), ..approval.clone() };
    world.command(&[RESPONDER], Action::ResolveApproval(no)).unwrap();
    assert_eq!(state(refused(&mut world, RESPONDER, &approval)), "answered with a no");
}
