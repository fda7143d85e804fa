use proofline_ledger::limits::SESSION_DEPTH_MAX;
use proofline_proto::v1;
use v1::RejectionReason::{AgentOutOfScope, SessionCycle, SessionMismatch, SessionTooDeep, Unspecified};

use crate::world::*;

#[test]
fn a_session_stays_with_its_agent_initiator_and_parent() {
    let (mut world, mut collector) = World::with_collector();
    let mut other_human = event("s", "a");
    other_human.attribution.as_mut().unwrap().initiator = Some(human("u-2"));
    let mut other_parent = event("s", "a");
    "elsewhere".clone_into(&mut other_parent.session.as_mut().unwrap().parent_session_id);
    let events = vec![event("s", "a"), event("s", "b"), other_human, other_parent, event("s", "a")];
    let receipt = collector.append(&mut world, events).unwrap();
    assert_eq!(rejections(&receipt), [Unspecified, SessionMismatch, SessionMismatch, SessionMismatch, Unspecified]);
    assert_eq!(receipt.events[4].session_position, 1);
}

#[test]
fn one_session_id_of_two_tenants_is_two_sessions() {
    let (mut world, mut ours) = World::with_collector();
    let mut theirs = Collector::new("gateway-2", 51);
    let scope = v1::RegisterCollector { tenant_id: "other".to_owned(), ..theirs.scope() };
    world.command(&[ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    theirs.open(&mut world).unwrap();
    ours.append(&mut world, vec![event("s", "a")]).unwrap();
    let foreign = v1::Event { tenant_id: "other".to_owned(), ..event("s", "b") };
    let receipt = theirs.append(&mut world, vec![foreign]).unwrap();
    assert_eq!((rejections(&receipt), receipt.events[0].session_position), (vec![Unspecified], 0));
}

#[test]
fn an_agent_left_open_is_bound_by_the_first_entry_that_names_it() {
    let (mut world, mut collector) = World::with_collector();
    let receipt = collector.append(&mut world, vec![unattributed("s"), event("s", "a"), event("s", "b")]).unwrap();
    assert_eq!(rejections(&receipt), [Unspecified, Unspecified, SessionMismatch]);
    world.reopen();
    let receipt = collector.append(&mut world, vec![event("s", "b"), event("s", "a")]).unwrap();
    assert_eq!(rejections(&receipt), [SessionMismatch, Unspecified]);
}

/// A second collector of the world, registered for one agent.
fn limited_to(agent: &str, world: &mut World) -> Collector {
    let mut limited = Collector::new("sidecar-1", 51);
    let scope = v1::RegisterCollector { agents: vec![agent.to_owned()], ..limited.scope() };
    world.command(&[ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    limited.open(world).unwrap();
    limited
}

#[test]
fn a_collector_of_one_agent_writes_into_no_session_of_another() {
    let (mut world, mut gateway) = World::with_collector();
    let mut limited = limited_to("a", &mut world);
    gateway.append(&mut world, vec![event("of-a", "a"), event("of-b", "b")]).unwrap();
    let receipt = limited.append(&mut world, vec![unattributed("of-b"), unattributed("of-a")]).unwrap();
    assert_eq!(rejections(&receipt), [AgentOutOfScope, Unspecified]);
    assert_eq!(receipt.events[1].session_position, 1);
    let receipt = gateway.append(&mut world, vec![event("of-b", "b")]).unwrap();
    assert_eq!(receipt.events[0].session_position, 1);
}

#[test]
fn a_collector_of_one_agent_begins_no_session_without_naming_it() {
    let (mut world, mut gateway) = World::with_collector();
    let mut limited = limited_to("a", &mut world);
    gateway.append(&mut world, vec![unattributed("open")]).unwrap();
    let receipt =
        limited.append(&mut world, vec![unattributed("new"), unattributed("open"), event("new", "a"), unattributed("new")]).unwrap();
    assert_eq!(rejections(&receipt), [AgentOutOfScope, AgentOutOfScope, Unspecified, Unspecified]);
    let receipt = gateway.append(&mut world, vec![event("open", "b")]).unwrap();
    assert_eq!((rejections(&receipt), receipt.events[0].session_position), (vec![Unspecified], 1));
}

#[test]
fn an_event_that_names_no_agent_is_judged_by_the_agent_of_its_session() {
    let (mut world, mut collector) = World::with_collector();
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    let revoke = v1::RevokeAgent { tenant_id: TENANT.to_owned(), agent_id: "a".to_owned(), reason: "retired".to_owned() };
    world.command(&[ALICE], v1::command::Action::RevokeAgent(revoke)).unwrap();
    let receipt = collector.append(&mut world, vec![unattributed("s"), unattributed("elsewhere")]).unwrap();
    let verdicts: Vec<_> = receipt.events.iter().map(v1::EventReceipt::verdict).collect();
    assert_eq!(verdicts, [v1::Verdict::Deny, v1::Verdict::Allow]);
    assert_eq!(rules(&receipt.events[0]), ["built-in/agent-decommissioned", "built-in/unattributed"]);
}

#[test]
fn a_cycle_of_parents_is_refused_in_either_order() {
    let (mut world, mut collector) = World::with_collector();
    let receipt = collector.append(&mut world, vec![child("self", "self")]).unwrap();
    assert_eq!(rejections(&receipt), [SessionCycle]);
    let receipt = collector.append(&mut world, vec![child("b", "c"), child("a", "b"), child("c", "a")]).unwrap();
    assert_eq!(rejections(&receipt), [Unspecified, Unspecified, SessionCycle]);
    let receipt = collector.append(&mut world, vec![event("c", "agent-1")]).unwrap();
    assert_eq!(rejections(&receipt), [Unspecified]);
}

#[test]
fn depth_is_bounded_whether_parents_or_children_come_first() {
    let depth = u64::from(SESSION_DEPTH_MAX);
    let names: Vec<String> = (0..=depth).map(|n| format!("s{n}")).collect();
    let chain = |n: usize| if n == 0 { event(&names[0], "agent-1") } else { child(&names[n], &names[n - 1]) };
    let orders: [Vec<usize>; 3] = [
        (0..names.len()).collect(),
        (0..names.len()).rev().collect(),
        (0..names.len()).step_by(2).chain((1..names.len()).step_by(2)).collect(),
    ];
    for order in orders {
        let (mut world, mut collector) = World::with_collector();
        let events = order.iter().map(|n| chain(*n)).collect();
        let receipt = collector.append(&mut world, events).unwrap();
        let refused = rejections(&receipt).iter().filter(|reason| **reason == SessionTooDeep).count();
        assert_eq!(refused, 1, "order {order:?}: {:?}", rejections(&receipt));
    }
}

#[test]
fn ten_thousand_sessions_at_once_have_dense_positions() {
    let (mut world, mut collector) = World::with_collector();
    for round in 0..2 {
        for part in 0..5 {
            let events = (0..2000).map(|n| event(&format!("s{}", part * 2000 + n), "a")).collect();
            let receipt = collector.append(&mut world, events).unwrap();
            assert!(receipt.events.iter().all(|it| it.session_position == round && it.rejection == 0));
        }
    }
}
