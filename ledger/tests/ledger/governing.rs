//! The life of agents, incidents with their stages, and holds.

use proofline_ledger::{Refusal, Wanted, listing};
use proofline_proto::v1;
use v1::command::Action;
use v1::{AgentState, IncidentCause, IncidentStage};

use crate::deciding::{activate, alert};
use crate::world::{ALICE, BOB, HOUR_NS, RESPONDER, SECOND_RESPONDER, TENANT, World, event};

fn registration(owned: bool) -> Action {
    let owner = |name: &str| if owned { name.to_owned() } else { String::new() };
    Action::RegisterAgent(v1::RegisterAgent {
        tenant_id: TENANT.to_owned(),
        agent_id: "agent-1".to_owned(),
        business_owner: owner("finance"),
        technical_owner: owner("platform"),
        revocation_paths: if owned { vec!["idp:revoke".to_owned()] } else { Vec::new() },
        deployment: Some(v1::Deployment { repository: "git@test/agent".to_owned(), revision: "abc".to_owned(), ..Default::default() }),
        ..Default::default()
    })
}

fn change(state: AgentState) -> Action {
    Action::ChangeAgentState(v1::ChangeAgentState {
        tenant_id: TENANT.to_owned(),
        agent_id: "agent-1".to_owned(),
        state: state.into(),
        reason: "a test".to_owned(),
    })
}

fn state(world: &World) -> AgentState {
    listing::agents(&world.store, TENANT, AgentState::Unspecified, "", 10).unwrap().0[0].state()
}

#[test]
fn only_the_legal_ways_through_an_agents_life_are_open() {
    use AgentState::{Approved, Decommissioned, Production, Registered, Suspended, Unregistered};
    let all = [Unregistered, Registered, Approved, Production, Suspended, Decommissioned];
    let ways: [(AgentState, &[AgentState], &[AgentState]); 5] = [
        (Registered, &[], &[Approved, Suspended]),
        (Approved, &[Approved], &[Production, Registered, Suspended]),
        (Production, &[Approved, Production], &[Approved, Suspended]),
        (Suspended, &[Suspended], &[Approved]),
        (Decommissioned, &[], &[]),
    ];
    for (from, path, legal) in ways {
        for to in all {
            let mut world = World::new();
            activate(&mut world, &alert("a", "context.owned")).unwrap();
            world.command(&[ALICE], registration(true)).unwrap();
            for step in path {
                world.command(&[ALICE], change(*step)).unwrap();
            }
            if from == Decommissioned {
                let revoke = v1::RevokeAgent { tenant_id: TENANT.to_owned(), agent_id: "agent-1".to_owned(), reason: String::new() };
                world.command(&[ALICE], Action::RevokeAgent(revoke)).unwrap();
            }
            assert_eq!(state(&world), from);
            if from == Suspended && to == Approved {
                let alone = world.command(&[ALICE], change(to)).unwrap_err();
                assert_eq!((alone, state(&world)), (Refusal::SecondOperatorNeeded, from), "one person brings nobody back");
            }
            let signers: &[_] = if from == Suspended { &[ALICE, BOB] } else { &[ALICE] };
            let changed = world.command(signers, change(to));
            assert_eq!(changed.is_ok(), legal.contains(&to), "from {from:?} to {to:?}: {changed:?}");
        }
    }
}

#[test]
fn production_takes_owners_a_revocation_path_and_rules() {
    let mut world = World::new();
    world.command(&[ALICE], registration(false)).unwrap();
    world.command(&[ALICE], change(AgentState::Approved)).unwrap();
    let unowned = world.command(&[ALICE], change(AgentState::Production)).unwrap_err();
    assert_eq!(unowned, Refusal::NotOwned { agent: "agent-1".to_owned() });
    world.command(&[ALICE], registration(true)).unwrap();
    assert_eq!(world.command(&[ALICE], change(AgentState::Production)).unwrap_err(), Refusal::NoRules);
    activate(&mut world, &alert("a", "context.owned")).unwrap();
    world.command(&[ALICE], change(AgentState::Production)).unwrap();
    let stripped = world.command(&[ALICE], registration(false)).unwrap_err();
    assert_eq!(stripped, Refusal::NotOwned { agent: "agent-1".to_owned() }, "in production it keeps its owners");
    assert_eq!(state(&world), AgentState::Production);
}

#[test]
fn a_suspended_agent_is_denied_until_two_persons_approve_it_again() {
    let (mut world, mut collector) = World::with_collector();
    world.command(&[ALICE], registration(true)).unwrap();
    world.command(&[ALICE], change(AgentState::Suspended)).unwrap();
    let denied = collector.append(&mut world, vec![event("s-1", "agent-1")]).unwrap();
    assert_eq!(denied.events[0].verdict(), v1::Verdict::Deny);
    assert_eq!(denied.events[0].findings[0].rule_id, "built-in/agent-suspended");
    // Neither one person twice, nor a registration, nor a responder beside a registrar brings it back.
    for signers in [&[ALICE][..], &[ALICE, ALICE]] {
        assert_eq!(world.command(signers, change(AgentState::Approved)).unwrap_err(), Refusal::SecondOperatorNeeded);
    }
    let lacks = world.command(&[ALICE, RESPONDER], change(AgentState::Approved)).unwrap_err();
    assert!(matches!(lacks, Refusal::OperatorLacksRole { .. }), "{lacks:?}");
    world.command(&[ALICE], registration(true)).unwrap();
    let denied = collector.append(&mut world, vec![event("s-1", "agent-1")]).unwrap();
    assert_eq!((state(&world), denied.events[0].verdict()), (AgentState::Suspended, v1::Verdict::Deny));
    world.command(&[ALICE, BOB], change(AgentState::Approved)).unwrap();
    let allowed = collector.append(&mut world, vec![event("s-1", "agent-1")]).unwrap();
    assert_eq!(allowed.events[0].verdict(), v1::Verdict::Allow);
}

fn advance(world: &mut World, stage: IncidentStage, cause: IncidentCause) -> Result<u64, Refusal> {
    let step = v1::AdvanceIncident {
        tenant_id: TENANT.to_owned(),
        incident_id: "inc-7".to_owned(),
        stage: stage.into(),
        cause: cause.into(),
        note: "done".to_owned(),
    };
    world.command(&[RESPONDER], Action::AdvanceIncident(step))
}

#[test]
fn an_incident_goes_through_its_stages_in_order_with_a_clock() {
    let mut world = World::new();
    let opened = v1::OpenIncident {
        tenant_id: TENANT.to_owned(),
        incident_id: "inc-7".to_owned(),
        title: "a table dropped at night".to_owned(),
        severity: v1::Severity::High.into(),
    };
    let at = world.now;
    world.command(&[RESPONDER], Action::OpenIncident(opened.clone())).unwrap();
    assert!(matches!(world.command(&[RESPONDER], Action::OpenIncident(opened)).unwrap_err(), Refusal::AlreadyDone { .. }));
    let none = IncidentCause::Unspecified;
    let uncontained = advance(&mut world, IncidentStage::Contained, none).unwrap_err();
    assert_eq!(uncontained, Refusal::NothingContained { incident: "inc-7".to_owned() });
    let contain = v1::Contain {
        target: Some(v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: "s-1".to_owned() }),
        action: v1::ContainmentAction::RevokeSession.into(),
        reason: "drops tables".to_owned(),
        incident_id: "inc-7".to_owned(),
    };
    world.command(&[RESPONDER], Action::Contain(contain)).unwrap();
    assert!(matches!(advance(&mut world, IncidentStage::Scoped, none).unwrap_err(), Refusal::WrongStage { .. }), "out of order");
    advance(&mut world, IncidentStage::Contained, none).unwrap();
    let summary = listing::incidents(&world.store, TENANT, "", 10).unwrap().remove(0);
    assert_eq!((summary.next(), summary.next_due_unix_ns, summary.containments), (IncidentStage::Preserved, at + 24 * HOUR_NS, vec![1]));
    advance(&mut world, IncidentStage::Preserved, none).unwrap();
    advance(&mut world, IncidentStage::Scoped, none).unwrap();
    assert!(matches!(advance(&mut world, IncidentStage::Classified, none).unwrap_err(), Refusal::Malformed(_)), "no cause");
    advance(&mut world, IncidentStage::Classified, IncidentCause::OverPrivilege).unwrap();
    for stage in [IncidentStage::CredentialsRevoked, IncidentStage::PolicyRebuilt, IncidentStage::Closed] {
        advance(&mut world, stage, none).unwrap();
    }
    assert!(matches!(advance(&mut world, IncidentStage::Closed, none).unwrap_err(), Refusal::WrongStage { .. }));
}

#[test]
fn a_containment_holds_its_evidence_in_the_same_commit() {
    let (mut world, mut collector) = World::with_collector();
    activate(&mut world, &crate::deciding::rule("no-drop", "revoke_session", "context.tool == \"query\"")).unwrap();
    let receipt = collector.append(&mut world, vec![event("s-1", "agent-1")]).unwrap();
    let holds = listing::holds(&world.store, TENANT, Wanted::Open, 0, 10).unwrap();
    assert_eq!((holds[0].containment_id, holds[0].placed_index, holds[0].authority.as_str()), (1, receipt.first_index, "rule no-drop"));
    let by_hand = v1::PlaceHold { target: holds[0].target.clone(), matter: "case 12".to_owned(), authority: "court".to_owned() };
    world.command(&[RESPONDER], Action::PlaceHold(by_hand)).unwrap();
    let release = |hold_id| Action::ReleaseHold(v1::ReleaseHold { hold_id, reason: "settled".to_owned() });
    assert_eq!(world.command(&[RESPONDER], release(2)).unwrap_err(), Refusal::SecondOperatorNeeded);
    world.command(&[RESPONDER, SECOND_RESPONDER], release(2)).unwrap();
    assert!(matches!(world.command(&[RESPONDER, SECOND_RESPONDER], release(2)).unwrap_err(), Refusal::AlreadyDone { .. }));
    assert!(matches!(world.command(&[RESPONDER, SECOND_RESPONDER], release(9)).unwrap_err(), Refusal::UnknownSubject { .. }));
}
