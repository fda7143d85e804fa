use proofline_ledger::{Divergence, EntryIndex, Refusal, Replay, Wanted, listing};
use proofline_proto::v1;
use v1::command::Action;
use v1::{ContainmentAction, ContainmentChange, TargetKind, Verdict};

use crate::world::*;

fn target(kind: TargetKind, id: &str) -> v1::Target {
    v1::Target { kind: kind.into(), tenant_id: TENANT.to_owned(), id: id.to_owned() }
}

fn contain(action: ContainmentAction, target: v1::Target) -> Action {
    let reason = "incident 4711".to_owned();
    Action::Contain(v1::Contain { target: Some(target), action: action.into(), reason, incident_id: "4711".to_owned() })
}

fn revoke(session: &str) -> Action {
    contain(ContainmentAction::RevokeSession, target(TargetKind::Session, session))
}

fn release(containment_id: u64) -> Action {
    Action::Release(v1::Release { containment_id, reason: "looked into".to_owned(), incident_id: String::new() })
}

/// An event of a session that shows a credential and an instance.
fn shown(session: &str, agent: &str, credential: &str, instance: &str) -> v1::Event {
    let mut event = event(session, agent);
    let attribution = event.attribution.as_mut().unwrap();
    attribution.agent.as_mut().unwrap().instance_id = instance.to_owned();
    attribution.credential = Some(v1::Credential { credential_id: credential.to_owned(), ..Default::default() });
    event
}

fn below(parent: &str, session: &str, agent: &str) -> v1::Event {
    let mut event = event(session, agent);
    event.session.as_mut().unwrap().parent_session_id = parent.to_owned();
    event
}

fn verdicts(world: &mut World, collector: &mut Collector, events: Vec<v1::Event>) -> Vec<Verdict> {
    collector.append(world, events).unwrap().events.iter().map(v1::EventReceipt::verdict).collect()
}

fn changes(world: &World) -> Vec<(ContainmentChange, u64, Vec<v1::Target>)> {
    let all = listing::containment_changes(&world.store, EntryIndex(0), EntryIndex(u64::MAX), 1_000).unwrap();
    all.into_iter().map(|it| (it.containment.change(), it.containment.containment_id, it.containment.targets)).collect()
}

const ALLOW: Verdict = Verdict::Allow;
const DENY: Verdict = Verdict::Deny;

#[test]
fn a_contained_session_goes_on_to_be_recorded_and_is_denied() {
    let (mut world, mut collector) = World::with_collector();
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("s", "a"), event("t", "a")]), [ALLOW, ALLOW]);
    let command = world.command(&[RESPONDER], revoke("s")).unwrap();
    let receipt = collector.append(&mut world, vec![event("s", "a"), event("t", "a")]).unwrap();
    assert_eq!((receipt.events[0].verdict(), receipt.events[1].verdict()), (DENY, ALLOW));
    // The entry behind the command is in the session too: event, containment, event.
    assert_eq!(receipt.events[0].session_position, 2);
    let finding = receipt.events[0].findings.iter().find(|it| it.rule_id == "built-in/contained").unwrap();
    assert_eq!((finding.containment_id, finding.severity()), (1, v1::Severity::Critical));
    let entry = world.entry(command + 1);
    let Some(v1::entry_core::Body::Containment(it)) = entry.body else { panic!("entry {} is no containment", command + 1) };
    assert_eq!((it.change(), it.cause_index, it.incident_id.as_str()), (ContainmentChange::Began, command, "4711"));
    assert_eq!(entry.session.unwrap().session_id, "s");
}

#[test]
fn everything_below_is_contained_with_it_also_what_begins_later() {
    let (mut world, mut collector) = World::with_collector();
    let family = vec![event("root", "a"), below("root", "child", "b"), below("child", "grandchild", "c"), event("stranger", "d")];
    assert_eq!(verdicts(&mut world, &mut collector, family), [ALLOW; 4]);
    world.command(&[RESPONDER], revoke("root")).unwrap();
    let later = vec![
        event("child", "b"),
        event("grandchild", "c"),
        below("grandchild", "born-later", "e"),
        event("stranger", "d"),
        below("stranger", "of-a-stranger", "e"),
    ];
    assert_eq!(verdicts(&mut world, &mut collector, later), [DENY, DENY, DENY, ALLOW, ALLOW]);
}

#[test]
fn a_child_that_names_no_parent_is_found_by_who_spawned_it() {
    let (mut world, mut collector) = World::with_collector();
    let mut spawn = event("root", "a");
    let spawned = v1::SubAgentSpawned { child_session_id: "orphan".to_owned(), child_agent_id: "b".to_owned(), ..Default::default() };
    spawn.body = Some(v1::event::Body::SubAgentSpawned(spawned));
    assert_eq!(verdicts(&mut world, &mut collector, vec![spawn, event("orphan", "b")]), [ALLOW, ALLOW]);
    world.command(&[RESPONDER], revoke("root")).unwrap();
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("orphan", "b"), below("orphan", "below", "c")]), [DENY, DENY]);
}

/// The events of a family come through several collectors, in any order: a session may be spawned and named as a parent before
/// anything of it is seen.
#[test]
fn a_session_below_one_that_was_spawned_and_not_seen_is_contained_too() {
    let (mut world, mut collector) = World::with_collector();
    let mut spawn = below("root", "child", "b");
    let spawned = v1::SubAgentSpawned { child_session_id: "unseen".to_owned(), child_agent_id: "c".to_owned(), ..Default::default() };
    spawn.body = Some(v1::event::Body::SubAgentSpawned(spawned));
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("root", "a"), spawn]), [ALLOW, ALLOW]);
    world.command(&[RESPONDER], revoke("root")).unwrap();
    let later = vec![below("unseen", "born-later", "d"), event("unseen", "c"), below("unseen", "born-last", "d")];
    assert_eq!(verdicts(&mut world, &mut collector, later), [DENY, DENY, DENY]);
}

/// Who says that they spawned a session binds it only for the agent that they named.
#[test]
fn a_session_that_turns_out_to_be_another_agents_is_not_contained_by_who_claimed_it() {
    let (mut world, mut collector) = World::with_collector();
    let mut claim = event("root", "a");
    let spawned = v1::SubAgentSpawned { child_session_id: "another".to_owned(), child_agent_id: "b".to_owned(), ..Default::default() };
    claim.body = Some(v1::event::Body::SubAgentSpawned(spawned));
    assert_eq!(verdicts(&mut world, &mut collector, vec![claim]), [ALLOW]);
    world.command(&[RESPONDER], revoke("root")).unwrap();
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("another", "z"), below("another", "child", "z")]), [ALLOW, ALLOW]);
}

#[test]
fn who_shares_a_credential_or_an_instance_with_a_contained_session_does_not_escape() {
    let (mut world, mut collector) = World::with_collector();
    let before =
        vec![shown("s", "a", "token-1", "pod-1"), shown("same-token", "b", "token-1", "pod-2"), shown("other", "c", "token-9", "pod-9")];
    assert_eq!(verdicts(&mut world, &mut collector, before), [ALLOW; 3]);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    let after = vec![
        shown("same-token", "b", "token-1", "pod-2"),
        // It was seen with the credential, and says nothing of it any more.
        event("same-token", "b"),
        shown("fresh", "a", "token-2", "pod-1"),
        shown("other", "c", "token-9", "pod-9"),
    ];
    assert_eq!(verdicts(&mut world, &mut collector, after), [DENY, DENY, DENY, ALLOW]);
    let began = changes(&world).remove(0);
    assert_eq!(
        began,
        (
            ContainmentChange::Began,
            1,
            vec![target(TargetKind::Session, "s"), target(TargetKind::Credential, "token-1"), target(TargetKind::AgentInstance, "a/pod-1")]
        )
    );
}

#[test]
fn what_a_contained_session_shows_later_is_drawn_in_and_said_so() {
    let (mut world, mut collector) = World::with_collector();
    verdicts(&mut world, &mut collector, vec![event("s", "a"), shown("other", "b", "token-2", "pod-2")]);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    let after = vec![shown("s", "a", "token-2", "pod-1"), event("other", "b"), shown("s", "a", "token-2", "pod-1")];
    assert_eq!(verdicts(&mut world, &mut collector, after), [DENY, DENY, DENY]);
    let extended = changes(&world).remove(1);
    let expected = vec![target(TargetKind::AgentInstance, "a/pod-1"), target(TargetKind::Credential, "token-2")];
    assert_eq!(extended, (ContainmentChange::Extended, 1, expected));
    assert_eq!(changes(&world).len(), 2, "what is known already is no news");
}

#[test]
fn agents_credentials_servers_and_tenants_are_contained_each_by_its_action() {
    let on_server = |server: &str| {
        let mut event = event("s", "a");
        let tool = Some(v1::Tool { server_id: server.to_owned(), ..Default::default() });
        event.body = Some(v1::event::Body::ActionIntent(v1::ActionIntent { tool, ..Default::default() }));
        event
    };
    let everywhere = v1::Target { kind: TargetKind::Tenant.into(), tenant_id: "*".to_owned(), id: String::new() };
    let cases = [
        (ContainmentAction::QuarantineAgent, target(TargetKind::Agent, "a"), vec![event("s", "a"), event("t", "b")], [DENY, ALLOW]),
        (
            ContainmentAction::QuarantineAgent,
            target(TargetKind::AgentInstance, "a/pod-1"),
            vec![shown("s", "a", "c", "pod-1"), shown("t", "a", "c", "pod-2")],
            [DENY, ALLOW],
        ),
        (
            ContainmentAction::RevokeCredential,
            target(TargetKind::Credential, "token-1"),
            vec![shown("s", "a", "token-1", "p"), shown("t", "a", "token-2", "p")],
            [DENY, ALLOW],
        ),
        (ContainmentAction::BlockServer, target(TargetKind::Server, "mcp-1"), vec![on_server("mcp-1"), on_server("mcp-2")], [DENY, ALLOW]),
        (ContainmentAction::HaltAgents, target(TargetKind::Tenant, ""), vec![event("s", "a"), event("t", "b")], [DENY, DENY]),
        (ContainmentAction::HaltAgents, everywhere, vec![event("s", "a"), event("t", "b")], [DENY, DENY]),
    ];
    for (action, target, events, expected) in cases {
        let (mut world, mut collector) = World::with_collector();
        world.command(&[RESPONDER], contain(action, target.clone())).unwrap();
        assert_eq!(verdicts(&mut world, &mut collector, events), expected, "{action:?} {target:?}");
    }
}

#[test]
fn two_responders_release_and_what_another_containment_holds_stays() {
    let (mut world, mut collector) = World::with_collector();
    verdicts(&mut world, &mut collector, vec![shown("s", "a", "token-1", "pod-1"), shown("t", "b", "token-1", "pod-2")]);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    world.command(&[RESPONDER], revoke("t")).unwrap();
    assert_eq!(world.command(&[RESPONDER], release(1)).unwrap_err(), Refusal::SecondOperatorNeeded);
    assert!(matches!(world.command(&[ALICE, BOB], release(1)).unwrap_err(), Refusal::OperatorLacksRole { .. }));
    world.command(&[RESPONDER, SECOND_RESPONDER], release(1)).unwrap();
    // Token and pod of the first session are still held with the second.
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("s", "a"), event("t", "b")]), [DENY, DENY]);
    world.command(&[RESPONDER, SECOND_RESPONDER], release(2)).unwrap();
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("s", "a"), event("t", "b")]), [ALLOW, ALLOW]);
    let again = world.command(&[RESPONDER, SECOND_RESPONDER], release(2)).unwrap_err();
    assert!(matches!(again, Refusal::AlreadyDone { state: "released", .. }));
    let unknown = world.command(&[RESPONDER, SECOND_RESPONDER], release(9)).unwrap_err();
    assert!(matches!(unknown, Refusal::UnknownSubject { .. }));
    let listed = listing::containments(&world.store, TENANT, Wanted::Everything, 0, 10).unwrap();
    assert_eq!(listed.iter().map(|it| (it.containment_id, it.released_by_index > 0)).collect::<Vec<_>>(), [(1, true), (2, true)]);
}

#[test]
fn bad_commands_change_nothing() {
    let (mut world, mut collector) = World::with_collector();
    verdicts(&mut world, &mut collector, vec![event("s", "a")]);
    let size = world.ledger.tree_size();
    let session = target(TargetKind::Session, "s");
    let no_reason = v1::Contain { target: Some(session.clone()), action: ContainmentAction::RevokeSession.into(), ..Default::default() };
    let bad = [
        Action::Contain(v1::Contain::default()),
        Action::Contain(no_reason),
        contain(ContainmentAction::QuarantineAgent, session.clone()),
        contain(ContainmentAction::Unspecified, session.clone()),
        contain(ContainmentAction::RevokeSession, target(TargetKind::Session, "")),
        contain(ContainmentAction::RevokeSession, v1::Target { tenant_id: "*".to_owned(), ..session }),
        contain(ContainmentAction::HaltAgents, target(TargetKind::Tenant, "named")),
        Action::Release(v1::Release { containment_id: 1, ..Default::default() }),
    ];
    for action in bad {
        let signers: &[(&str, u8)] = &[RESPONDER, SECOND_RESPONDER];
        assert!(matches!(world.command(signers, action.clone()).unwrap_err(), Refusal::Malformed(_)), "{action:?}");
    }
    assert!(matches!(world.command(&[ALICE], revoke("s")).unwrap_err(), Refusal::OperatorLacksRole { .. }));
    assert_eq!(world.ledger.tree_size(), size);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    assert_eq!(world.command(&[RESPONDER], revoke("s")).unwrap_err(), Refusal::AlreadyContained { containment: 1 });
}

#[test]
fn a_restart_in_between_and_a_replay_of_the_entries_lead_to_the_same_state() {
    let (mut world, mut collector) = World::with_collector();
    verdicts(&mut world, &mut collector, vec![shown("s", "a", "token-1", "pod-1"), below("s", "child", "b")]);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    world.reopen();
    let after = vec![shown("s", "a", "token-2", "pod-1"), event("child", "b"), shown("t", "c", "token-2", "pod-3")];
    assert_eq!(verdicts(&mut world, &mut collector, after), [DENY, DENY, DENY]);
    world.command(&[RESPONDER, SECOND_RESPONDER], release(1)).unwrap();
    world.reopen();
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("child", "b")]), [ALLOW]);

    let mut replay = Replay::new().unwrap();
    world.entries().into_iter().for_each(|entry| replay.push(entry.into()).unwrap());
    let (ledger, _) = replay.finish().unwrap();
    assert_eq!((ledger.log_root(), ledger.state_digest()), (world.ledger.log_root(), world.ledger.state_digest()));
}

#[test]
fn a_replay_misses_no_entry_that_the_ledger_makes_by_itself() {
    let (mut world, mut collector) = World::with_collector();
    verdicts(&mut world, &mut collector, vec![event("s", "a")]);
    let command = usize::try_from(world.command(&[RESPONDER], revoke("s")).unwrap()).unwrap();
    verdicts(&mut world, &mut collector, vec![event("s", "a")]);
    let mut entries = world.entries();
    let until = |entries: &[Vec<u8>]| {
        let mut replay = Replay::new().unwrap();
        entries.iter().try_for_each(|entry| replay.push(entry.clone().into()))?;
        replay.finish().map(|_| ())
    };
    assert!(matches!(until(&entries[..=command]).unwrap_err(), Divergence::Incomplete(_)));
    entries.remove(command + 1);
    let EntryIndex(at) = match until(&entries).unwrap_err() {
        Divergence::Different(at) => at,
        other => panic!("{other}"),
    };
    assert_eq!(at, command as u64 + 1);
}

#[test]
fn a_sealed_session_is_contained_beside_its_tree() {
    let (mut world, mut collector) = World::with_collector();
    verdicts(&mut world, &mut collector, vec![event("s", "a"), below("s", "child", "b")]);
    let seal = v1::SealSession { tenant_id: TENANT.to_owned(), session_id: "s".to_owned(), reason: "closed".to_owned() };
    world.command(&[RESPONDER], Action::SealSession(seal)).unwrap();
    let command = world.command(&[RESPONDER], revoke("s")).unwrap();
    assert_eq!(world.entry(command + 1).session, None);
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("child", "b")]), [DENY]);
}

#[test]
fn a_change_with_many_targets_is_spread_over_entries_that_fit() {
    let (mut world, mut collector) = World::with_collector();
    let long = |kind: &str, n: usize| format!("{kind}-{n:0>240}");
    let family: Vec<v1::Event> = (0..8).map(|n| below("s", &format!("child-{n}"), "a")).collect();
    verdicts(&mut world, &mut collector, vec![event("s", "a")]);
    verdicts(&mut world, &mut collector, family);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    for n in 0..128 {
        let child = format!("child-{}", n % 8);
        assert_eq!(verdicts(&mut world, &mut collector, vec![shown(&child, "a", &long("token", n), &long("pod", n))]), [DENY]);
    }
    world.command(&[RESPONDER, SECOND_RESPONDER], release(1)).unwrap();
    let released: Vec<usize> =
        changes(&world).iter().filter(|(change, ..)| *change == ContainmentChange::Released).map(|(_, _, targets)| targets.len()).collect();
    assert_eq!(released, [64, 64, 64, 64], "one containment holds 256 targets at most");
    assert!(listing::containments(&world.store, TENANT, Wanted::Everything, 0, 10).unwrap()[0].incomplete);
    assert!(world.entries().iter().all(|entry| entry.len() <= proofline_ledger::limits::ENTRY_BYTES_MAX));
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("s", "a")]), [ALLOW]);
}

#[test]
fn a_declared_parent_hides_no_spawner_and_one_spawner_hides_no_other() {
    let (mut world, mut collector) = World::with_collector();
    let spawn = |from: &str, child: &str, agent: &str| {
        let mut event = event(from, "a");
        let spawned = v1::SubAgentSpawned { child_session_id: child.to_owned(), child_agent_id: agent.to_owned(), ..Default::default() };
        event.body = Some(v1::event::Body::SubAgentSpawned(spawned));
        event
    };
    let before = vec![spawn("decoy", "child", "b"), spawn("root", "child", "b"), below("elsewhere", "child", "b"), event("bystander", "c")];
    assert_eq!(verdicts(&mut world, &mut collector, before), [ALLOW; 4]);
    // For another agent than the session has, a spawn says nothing.
    assert_eq!(verdicts(&mut world, &mut collector, vec![spawn("root", "bystander", "b")]), [ALLOW]);
    world.command(&[RESPONDER], revoke("root")).unwrap();
    assert_eq!(verdicts(&mut world, &mut collector, vec![event("child", "b"), event("bystander", "c")]), [DENY, ALLOW]);
}

#[test]
fn nobody_is_contained_by_what_an_agent_says_of_itself_or_by_a_name_that_two_agents_use() {
    let (mut world, mut gateway) = World::with_collector();
    let mut sidecar = Collector::new("sidecar-1", 51);
    let scope = v1::RegisterCollector { vantages: vec![v1::Vantage::SelfReported.into()], ..sidecar.scope() };
    world.command(&[ALICE], Action::RegisterCollector(scope)).unwrap();
    sidecar.open(&mut world).unwrap();
    verdicts(&mut world, &mut gateway, vec![shown("s", "a", "token-1", "0"), shown("victim", "b", "token-2", "0")]);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    let said = v1::Event { vantage: v1::Vantage::SelfReported.into(), ..shown("s", "a", "token-2", "0") };
    assert_eq!(verdicts(&mut world, &mut sidecar, vec![said]), [DENY]);
    assert_eq!(verdicts(&mut world, &mut gateway, vec![shown("victim", "b", "token-2", "0")]), [ALLOW]);
}

#[test]
fn every_containment_of_a_session_holds_what_it_comes_to_show() {
    let (mut world, mut collector) = World::with_collector();
    verdicts(&mut world, &mut collector, vec![event("s", "a"), below("s", "child", "b")]);
    world.command(&[RESPONDER], contain(ContainmentAction::SuspendSession, target(TargetKind::Session, "s"))).unwrap();
    world.command(&[RESPONDER], revoke("s")).unwrap();
    verdicts(&mut world, &mut collector, vec![shown("child", "b", "token-2", "pod-2")]);
    world.command(&[RESPONDER, SECOND_RESPONDER], release(1)).unwrap();
    assert_eq!(verdicts(&mut world, &mut collector, vec![shown("stranger", "c", "token-2", "pod-3")]), [DENY]);
}

#[test]
fn a_page_of_containments_is_full_whatever_stands_between() {
    let (mut world, mut collector) = World::with_collector();
    let sessions: Vec<String> = (0..9).map(|n| format!("s-{n}")).collect();
    verdicts(&mut world, &mut collector, sessions.iter().map(|id| event(id, "a")).collect());
    for session in &sessions {
        world.command(&[RESPONDER], revoke(session)).unwrap();
    }
    for id in [2, 3, 4, 5, 6] {
        world.command(&[RESPONDER, SECOND_RESPONDER], release(id)).unwrap();
    }
    let page = |tenant: &str, wanted, after| {
        let found = listing::containments(&world.store, tenant, wanted, after, 3).unwrap();
        found.iter().map(|it| it.containment_id).collect::<Vec<_>>()
    };
    for tenant in [TENANT, "*"] {
        assert_eq!(page(tenant, Wanted::Open, 0), [1, 7, 8], "those released take no place on the page");
        assert_eq!(page(tenant, Wanted::Open, 8), [9]);
        assert_eq!(page(tenant, Wanted::Everything, 0), [1, 2, 3]);
        assert_eq!(page(tenant, Wanted::Everything, 6), [7, 8, 9]);
    }
    assert!(page("another", Wanted::Everything, 0).is_empty());
}

#[test]
fn more_than_is_remembered_of_a_session_is_said_to_be_missing() {
    let (mut world, mut collector) = World::with_collector();
    for n in 0..17 {
        verdicts(&mut world, &mut collector, vec![shown("s", "a", &format!("token-{n}"), "pod-1")]);
    }
    verdicts(&mut world, &mut collector, vec![event("t", "a")]);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    world.command(&[RESPONDER], revoke("t")).unwrap();
    let listed = listing::containments(&world.store, TENANT, Wanted::Everything, 0, 10).unwrap();
    assert_eq!(listed.iter().map(|it| it.incomplete).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_lineage_too_wide_to_look_through_is_denied_while_anything_is_contained() {
    let (mut world, mut collector) = World::with_collector();
    let mut parents: Vec<String> = vec!["s".to_owned()];
    let mut events = vec![event("s", "a")];
    for n in 0..40 {
        let mut above = Vec::new();
        for (nth, child) in parents.iter().enumerate().take(4) {
            let name = format!("above-{n}-{nth}");
            let mut spawn = event(&name, "a");
            let spawned = v1::SubAgentSpawned { child_session_id: child.clone(), child_agent_id: "a".to_owned(), ..Default::default() };
            spawn.body = Some(v1::event::Body::SubAgentSpawned(spawned));
            events.push(spawn);
            above.push(name);
        }
        let more: Vec<String> = (0..3).map(|more| format!("above-{n}-{}", 4 + more)).collect();
        for name in &more {
            let mut spawn = event(name, "a");
            let spawned =
                v1::SubAgentSpawned { child_session_id: parents[0].clone(), child_agent_id: "a".to_owned(), ..Default::default() };
            spawn.body = Some(v1::event::Body::SubAgentSpawned(spawned));
            events.push(spawn);
        }
        parents = above.into_iter().chain(more).collect();
    }
    assert!(verdicts(&mut world, &mut collector, events).iter().all(|verdict| *verdict == ALLOW));
    world.command(&[RESPONDER], revoke("unrelated")).unwrap();
    let receipt = collector.append(&mut world, vec![event("s", "a"), event("t", "a")]).unwrap();
    assert_eq!((receipt.events[0].verdict(), receipt.events[1].verdict()), (DENY, ALLOW));
    assert!(receipt.events[0].findings.iter().any(|it| it.rule_id == "built-in/lineage-too-wide"));
}
