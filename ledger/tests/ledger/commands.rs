use proofline_ledger::{Refusal, limits::LOOKED_AT_MAX, listing};
use proofline_proto::v1;
use v1::command::Action;

use crate::world::*;

fn register_operator(name: &str, seed: u8) -> Action {
    Action::RegisterOperator(v1::RegisterOperator {
        operator: Some(v1::OperatorKey {
            operator_id: name.to_owned(),
            public_key: public(&key(seed)),
            roles: vec![v1::OperatorRole::Registrar.into()],
            ..Default::default()
        }),
    })
}

fn register_agent(agent: &str) -> Action {
    Action::RegisterAgent(v1::RegisterAgent {
        tenant_id: TENANT.to_owned(),
        agent_id: agent.to_owned(),
        business_owner: "payments".to_owned(),
        technical_owner: "platform".to_owned(),
        ..Default::default()
    })
}

fn revoke_agent(agent: &str) -> Action {
    Action::RevokeAgent(v1::RevokeAgent { tenant_id: TENANT.to_owned(), agent_id: agent.to_owned(), reason: String::new() })
}

fn seal(session: &str) -> Action {
    Action::SealSession(v1::SealSession { tenant_id: TENANT.to_owned(), session_id: session.to_owned(), reason: String::new() })
}

#[test]
fn a_command_stands_in_the_log_with_its_exact_bytes() {
    let mut world = World::new();
    let command = world.signed_command(&[ALICE], register_agent("a"));
    let index = world.submit(command.clone()).unwrap();
    assert_eq!(world.entry(index).body, Some(v1::entry_core::Body::Command(command)));
}

#[test]
fn commands_that_are_unsigned_forged_expired_replayed_or_elsewhere_change_nothing() {
    let mut world = World::new();
    let good = world.signed_command(&[ALICE], register_agent("a"));
    let unsigned = v1::SignedCommand { signatures: Vec::new(), ..good.clone() };
    let mut altered = good.clone();
    altered.command.truncate(altered.command.len() - 1);
    let mut late = good.clone();
    late.expires_unix_ns += 1;
    let mut elsewhere = v1::SignedCommand { origin: "other.test/log".to_owned(), ..good.clone() };
    sign_command(&mut elsewhere, &[ALICE]);
    let mut expired = v1::SignedCommand { expires_unix_ns: world.now, ..good.clone() };
    sign_command(&mut expired, &[ALICE]);
    let mut eternal = v1::SignedCommand { expires_unix_ns: u64::MAX, ..good.clone() };
    sign_command(&mut eternal, &[ALICE]);
    let size = world.ledger.tree_size();
    assert!(matches!(world.submit(unsigned), Err(Refusal::Malformed(_))));
    assert!(matches!(world.submit(altered), Err(Refusal::Malformed(_) | Refusal::Forged { .. })));
    assert!(matches!(world.submit(late), Err(Refusal::Forged { .. })));
    assert!(matches!(world.submit(elsewhere), Err(Refusal::Forged { .. })));
    assert_eq!(world.submit(expired), Err(Refusal::CommandExpired));
    assert_eq!(world.submit(eternal), Err(Refusal::CommandLivesTooLong));
    assert_eq!(world.ledger.tree_size(), size);
    let at = proofline_ledger::EntryIndex(world.submit(good.clone()).unwrap());
    assert_eq!(world.submit(good.clone()), Err(Refusal::CommandReplayed { at }));
    world.now = good.expires_unix_ns + 1;
    world.command(&[ALICE], register_agent("b")).unwrap();
    assert_eq!(world.submit(good), Err(Refusal::CommandExpired), "its nonce is forgotten once it cannot be used any more");
}

#[test]
fn the_role_of_the_key_decides() {
    let mut world = World::new();
    let lacks = |name: &str| Err(Refusal::OperatorLacksRole { operator: name.to_owned() });
    assert_eq!(world.command(&[RESPONDER], register_agent("a")), lacks("rita"));
    assert_eq!(world.command(&[ALICE], seal("s")), lacks("alice"));
    assert_eq!(world.command(&[("mallory", 1)], register_agent("a")), Err(Refusal::UnknownOperator("mallory".to_owned())));
    assert_eq!(world.command(&[("alice", 9)], register_agent("a")), Err(Refusal::UnknownOperator("alice".to_owned())));
}

#[test]
fn commands_about_authority_need_two_persons_with_two_keys() {
    let mut world = World::new();
    assert_eq!(world.command(&[ALICE], register_operator("carol", 4)), Err(Refusal::SecondOperatorNeeded));
    assert_eq!(world.command(&[ALICE, ALICE], register_operator("carol", 4)), Err(Refusal::SecondOperatorNeeded));
    world.command(&[ALICE, BOB], register_operator("carol", 4)).unwrap();
    assert_eq!(world.command(&[ALICE, BOB], register_operator("carla", 4)), Err(Refusal::KeyInUse("carla".to_owned())));
    world.command(&[("carol", 4), BOB], register_operator("dave", 5)).unwrap();
}

#[test]
fn two_registrars_always_remain() {
    let mut world = World::new();
    let revoke = |name: &str| Action::RevokeOperator(v1::RevokeOperator { operator_id: name.to_owned(), reason: String::new() });
    assert_eq!(world.command(&[ALICE, BOB], revoke("alice")), Err(Refusal::LastRegistrars));
    let mut demoted = register_operator("alice", 1);
    if let Action::RegisterOperator(it) = &mut demoted {
        it.operator.as_mut().unwrap().roles = vec![v1::OperatorRole::Responder.into()];
    }
    assert_eq!(world.command(&[ALICE, BOB], demoted), Err(Refusal::LastRegistrars), "not by registering again either");
    world.command(&[ALICE, BOB], register_operator("carol", 4)).unwrap();
    world.command(&[ALICE, BOB], revoke("alice")).unwrap();
    assert_eq!(world.command(&[ALICE, BOB], register_agent("a")), Err(Refusal::UnknownOperator("alice".to_owned())));
    world.command(&[BOB], register_agent("a")).unwrap();
}

#[test]
fn weak_keys_are_never_registered() {
    let mut world = World::new();
    let mut small_order = [0_u8; 32];
    small_order[0] = 1;
    let mut collector = Collector::new("gateway-1", 50).scope();
    for weak in [small_order.to_vec(), vec![0; 32], vec![0xff; 32], vec![1; 31]] {
        collector.public_key.clone_from(&weak);
        let refused = world.command(&[ALICE], Action::RegisterCollector(collector.clone()));
        assert_eq!(refused, Err(Refusal::WeakKey("gateway-1".to_owned())), "{weak:?}");
    }
}

#[test]
fn a_registration_again_replaces_the_key_from_that_entry_on() {
    let (mut world, mut collector) = World::with_collector();
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    let old = collector.clone();
    collector.key = key(60);
    world.command(&[ALICE], collector.registration()).unwrap();
    let refused = old.clone().append(&mut world, vec![event("s", "a")]);
    assert_eq!(refused, Err(Refusal::KeyNotRegistered(old.id)));
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
}

#[test]
fn a_collector_never_changes_its_tenant() {
    let (mut world, collector) = World::with_collector();
    let moved = v1::RegisterCollector { tenant_id: "other".to_owned(), ..collector.scope() };
    assert!(matches!(world.command(&[ALICE], Action::RegisterCollector(moved)), Err(Refusal::AlreadyDone { .. })));
}

#[test]
fn unknown_agents_surface_and_decommissioned_ones_are_recorded_and_denied() {
    let (mut world, mut collector) = World::with_collector();
    let receipt = collector.append(&mut world, vec![event("s", "shadow")]).unwrap();
    assert_eq!(rules(&receipt.events[0]), ["built-in/agent-unregistered"]);
    let list = |world: &World, state| listing::agents(&world.store, TENANT, state, "", 10).unwrap().0;
    let seen = list(&world, v1::AgentState::Unregistered);
    assert_eq!((seen[0].agent_id.as_str(), seen[0].first_seen_index), ("shadow", receipt.first_index));
    world.command(&[ALICE], register_agent("shadow")).unwrap();
    assert!(list(&world, v1::AgentState::Unregistered).is_empty());
    let receipt = collector.append(&mut world, vec![event("s", "shadow")]).unwrap();
    assert!(receipt.events[0].findings.is_empty());
    world.command(&[ALICE], revoke_agent("shadow")).unwrap();
    let receipt = collector.append(&mut world, vec![event("s", "shadow")]).unwrap();
    assert_eq!((receipt.events[0].verdict(), receipt.events[0].session_position), (v1::Verdict::Deny, 2));
    assert_eq!(rules(&receipt.events[0]), ["built-in/agent-decommissioned"]);
    assert!(matches!(world.command(&[ALICE], register_agent("shadow")), Err(Refusal::AlreadyDone { .. })));
}

#[test]
fn a_page_of_agents_in_one_state_looks_at_a_bounded_number_and_says_where_to_go_on() {
    let (mut world, mut collector) = World::with_collector();
    let names: Vec<String> = (0..LOOKED_AT_MAX + 2).map(|n| format!("agent-{n:06}")).collect();
    for some in names.chunks(500) {
        collector.append(&mut world, some.iter().map(|agent| event(agent, agent)).collect()).unwrap();
    }
    let last = names.last().unwrap();
    world.command(&[ALICE], register_agent(last)).unwrap();
    world.command(&[ALICE], revoke_agent(last)).unwrap();
    let page = |after: &str, limit| listing::agents(&world.store, TENANT, v1::AgentState::Decommissioned, after, limit).unwrap();
    let (found, next) = page("", 10);
    assert!(found.is_empty(), "the one that is wanted stands behind those that were looked at");
    let (all, _) = listing::agents(&world.store, TENANT, v1::AgentState::Unspecified, "", LOOKED_AT_MAX).unwrap();
    assert_eq!(Some(&next), all.last().map(|it| &it.agent_id));
    let (found, next) = page(&next, 10);
    assert_eq!((found.len(), &found[0].agent_id, next.as_str()), (1, last, ""));
}

#[test]
fn a_seal_is_the_last_entry_of_its_session() {
    let (mut world, mut collector) = World::with_collector();
    collector.append(&mut world, vec![event("s", "a"), event("s", "a")]).unwrap();
    let index = world.command(&[RESPONDER], seal("s")).unwrap();
    assert_eq!(world.entry(index).session.unwrap().position, 2);
    let receipt = collector.append(&mut world, vec![event("s", "a")]).unwrap();
    assert_eq!(rejections(&receipt), [v1::RejectionReason::SessionSealed]);
    assert!(matches!(world.command(&[RESPONDER], seal("s")), Err(Refusal::AlreadyDone { .. })));
    assert!(matches!(world.command(&[RESPONDER], seal("nope")), Err(Refusal::UnknownSubject { .. })));
    world.reopen();
    let receipt = collector.append(&mut world, vec![event("s", "a")]).unwrap();
    assert_eq!(rejections(&receipt), [v1::RejectionReason::SessionSealed]);
}

#[test]
fn roles_are_granted_per_tenant_and_revoked() {
    let mut world = World::new();
    let grant = |tenant: &str| v1::RoleGrant {
        spiffe_id: "spiffe://test/auditor".to_owned(),
        role: v1::Role::Auditor.into(),
        tenant_id: tenant.to_owned(),
    };
    let held = |world: &World, tenant: &str| {
        listing::holds_role(&world.store, "spiffe://test/auditor", v1::Role::Auditor, tenant).unwrap() == listing::Held::Yes
    };
    world.command(&[ALICE], Action::GrantRole(v1::GrantRole { grant: Some(grant(TENANT)) })).unwrap();
    assert!(held(&world, TENANT) && !held(&world, "other"));
    world.command(&[ALICE], Action::GrantRole(v1::GrantRole { grant: Some(grant("*")) })).unwrap();
    assert!(held(&world, "other"));
    for tenant in [TENANT, "*"] {
        world.command(&[ALICE], Action::RevokeRole(v1::RevokeRole { grant: Some(grant(tenant)) })).unwrap();
    }
    assert!(!held(&world, TENANT));
}

#[test]
fn a_genesis_that_one_person_could_take_over_is_refused() {
    use proofline_ledger::Outcome;
    use proofline_proto::peer::item::Item;
    let refused = |change: fn(&mut v1::Genesis)| {
        let mut genesis = genesis();
        change(&mut genesis);
        matches!(World::empty().apply(Item::Genesis(genesis)), Outcome::Refused(_))
    };
    assert!(refused(|it| it.operators.truncate(1)));
    assert!(refused(|it| it.operators[1].public_key = it.operators[0].public_key.clone()));
    assert!(refused(|it| it.operators[1].operator_id = it.operators[0].operator_id.clone()));
    assert!(refused(|it| it.nodes[1].node_id = it.nodes[0].node_id));
    assert!(refused(|it| it.nodes.clear()));
    assert!(refused(|it| it.log_public_key = it.nodes[0].public_key.clone()));
    assert!(refused(|it| it.origin = "has space".to_owned()));
    assert!(refused(|it| it.apply_version = 2));
    let mut world = World::new();
    assert!(matches!(world.apply(Item::Genesis(genesis())), Outcome::Refused(Refusal::AlreadyBegun { .. })));
}

#[test]
fn a_node_may_have_exactly_the_names_that_a_policy_can_have() {
    let long = ["n".repeat(255), "n".repeat(256)];
    let names = [
        "ledger.test/node-4",
        "n",
        "knoten-\u{e4}",
        "",
        "a b",
        "a+b",
        "a\tb",
        "a\u{a0}b",
        "a\u{2003}b",
        "a\u{7f}b",
        "a\u{85}b",
        &long[0],
        &long[1],
    ];
    for name in names {
        let is_key_name = proofline_verifier::KeyName::parse(name).is_ok();
        let node = v1::NodeKey { node_id: 4, name: name.to_owned(), public_key: public(&key(24)) };
        let mut world = World::new();
        let registered = world.command(&[ALICE, BOB], Action::RegisterNode(v1::RegisterNode { node: Some(node.clone()) }));
        assert_eq!(registered.is_ok(), is_key_name, "registering {name:?}: {registered:?}");
        let mut genesis = genesis();
        genesis.nodes.push(node);
        assert_eq!(proofline_ledger::check_genesis(&genesis).is_ok(), is_key_name, "beginning with {name:?}");
        let origin = v1::Genesis { origin: name.to_owned(), ..self::genesis() };
        assert_eq!(proofline_ledger::check_genesis(&origin).is_ok(), is_key_name && name.len() <= 128, "an origin {name:?}");
    }
}

#[test]
fn two_nodes_of_a_genesis_have_different_names() {
    let mut genesis = genesis();
    let name = genesis.nodes[0].name.clone();
    genesis.nodes[1].name = name;
    assert!(matches!(proofline_ledger::check_genesis(&genesis), Err(Refusal::Malformed(_))));
}

#[test]
fn the_last_node_that_can_cosign_is_not_retired() {
    let mut world = World::new();
    let retire = |node_id| Action::RetireNode(v1::RetireNode { node_id, reason: "gone".to_owned() });
    world.command(&[ALICE, BOB], retire(1)).unwrap();
    world.command(&[ALICE, BOB], retire(2)).unwrap();
    assert_eq!(world.command(&[ALICE, BOB], retire(3)).unwrap_err(), Refusal::LastNode);
}
