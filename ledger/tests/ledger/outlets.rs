use ed25519_dalek::Signer as _;
use proofline_ledger::{Direction, EntryIndex, Outcome, Refusal, Replay, Wanted, listing, message_id, outlets, signed};
use proofline_proto::{peer, v1};
use v1::command::Action;
use v1::outlet::Kind;
use v1::{ContainmentAction, DeliveryResult, OutletState, SignalKind, SubjectForm, TargetKind};

use crate::world::*;

const REGISTRARS: &[(&str, u8)] = &[ALICE, BOB];

pub fn stream(id: &str, form: SubjectForm) -> v1::Outlet {
    let stream = v1::SharedSignals {
        issuer: "https://ledger.test/".to_owned(),
        audience: "https://idp.test/ssf".to_owned(),
        endpoint: "https://idp.test/ssf/push".to_owned(),
        algorithm: v1::SigningAlgorithm::Rs256.into(),
        key_id: "ssf-1".to_owned(),
        subject_form: form.into(),
        authorization: v1::ReceiverAuthorization::None.into(),
    };
    v1::Outlet { outlet_id: id.to_owned(), tenant_id: TENANT.to_owned(), kind: Some(Kind::SharedSignals(stream)), ..Default::default() }
}

pub fn webhook(id: &str) -> v1::Outlet {
    let webhook = v1::Webhook { endpoint: "https://hooks.test/proofline".to_owned(), key_id: "hook-1".to_owned() };
    v1::Outlet { outlet_id: id.to_owned(), tenant_id: TENANT.to_owned(), kind: Some(Kind::Webhook(webhook)), ..Default::default() }
}

pub fn register(outlet: v1::Outlet) -> Action {
    Action::RegisterOutlet(v1::RegisterOutlet { outlet: Some(outlet) })
}

fn contain(action: ContainmentAction, kind: TargetKind, id: &str) -> Action {
    let target = Some(v1::Target { kind: kind.into(), tenant_id: TENANT.to_owned(), id: id.to_owned() });
    Action::Contain(v1::Contain { target, action: action.into(), reason: "incident 4711".to_owned(), incident_id: String::new() })
}

fn revoke(session: &str) -> Action {
    contain(ContainmentAction::RevokeSession, TargetKind::Session, session)
}

fn resume(id: &str) -> Action {
    Action::ResumeOutlet(v1::ResumeOutlet { outlet_id: id.to_owned(), reason: "mended".to_owned() })
}

fn remove(id: &str) -> Action {
    Action::RemoveOutlet(v1::RemoveOutlet { outlet_id: id.to_owned(), reason: "gone".to_owned() })
}

/// What node 1 says became of a message.
pub fn delivery(outlet: &str, containment_id: u64, entry_index: u64, ordinal: u32, result: DeliveryResult) -> v1::OutletDelivery {
    signed_by(
        21,
        v1::OutletDelivery {
            outlet_id: outlet.to_owned(),
            containment_id,
            entry_index,
            ordinal,
            jti: message_id(ORIGIN, EntryIndex(entry_index), outlet, ordinal),
            result: result.into(),
            http_status: 202,
            attempts: 1,
            first_attempt_unix_ns: START_NS,
            answered_unix_ns: START_NS + SECOND_NS,
            node_id: 1,
            ..Default::default()
        },
    )
}

fn signed_by(seed: u8, delivery: v1::OutletDelivery) -> v1::OutletDelivery {
    let delivery = v1::OutletDelivery { public_key: public(&key(seed)), ..delivery };
    let signature = key(seed).sign(&signed::outlet_delivery(ORIGIN, &delivery)).to_bytes().to_vec();
    v1::OutletDelivery { signature, ..delivery }
}

fn deliver(world: &mut World, delivery: v1::OutletDelivery) -> Result<u64, Refusal> {
    match world.apply(peer::item::Item::Delivery(delivery)) {
        Outcome::Delivered(index) => Ok(index.0),
        Outcome::Refused(refusal) => Err(refusal),
        other => panic!("a delivery got {other:?}"),
    }
}

fn standing(world: &World, id: &str) -> outlets::OutletAt {
    outlets::all(&world.store).unwrap().into_iter().find(|it| it.outlet.outlet_id == id).unwrap()
}

fn waiting(world: &World, id: &str) -> Vec<outlets::Waiting> {
    outlets::waiting(&world.store, ORIGIN, &standing(world, id).outlet, Direction::Ascending, 100).unwrap()
}

fn told(world: &World, id: &str) -> Vec<(SignalKind, String)> {
    let target = |of: &v1::Signal| of.target.as_ref().map_or_else(String::new, |target| target.id.clone());
    waiting(world, id).iter().map(|it| (it.signal.kind(), target(&it.signal))).collect()
}

/// An event that shows a credential.
fn shown(session: &str, credential: &str) -> v1::Event {
    let mut event = event(session, "agent-1");
    let attribution = event.attribution.as_mut().unwrap();
    attribution.agent.as_mut().unwrap().instance_id = "pod-1".to_owned();
    attribution.credential = Some(v1::Credential { credential_id: credential.to_owned(), ..Default::default() });
    event
}

/// A world in which `outlets` hear of what happens.
fn telling(outlets: Vec<v1::Outlet>) -> (World, Collector) {
    let (mut world, collector) = World::with_collector();
    for outlet in outlets {
        world.command(REGISTRARS, register(outlet)).unwrap();
    }
    (world, collector)
}

fn check_replay(world: &World) {
    let mut replay = Replay::new().unwrap();
    world.entries().into_iter().for_each(|entry| replay.push(entry.into()).unwrap());
    let (ledger, store) = replay.finish().unwrap();
    assert_eq!((ledger.log_root(), ledger.state_digest()), (world.ledger.log_root(), world.ledger.state_digest()));
    assert_eq!(outlets::all(&store).unwrap(), outlets::all(&world.store).unwrap());
    for it in outlets::all(&store).unwrap() {
        let replayed = outlets::waiting(&store, ORIGIN, &it.outlet, Direction::Ascending, 100).unwrap();
        assert_eq!(replayed, outlets::waiting(&world.store, ORIGIN, &it.outlet, Direction::Ascending, 100).unwrap());
    }
}

#[test]
fn a_contained_session_is_told_of_with_whom_it_was_begun_for_and_its_credentials() {
    let (mut world, mut collector) = telling(vec![stream("idp", SubjectForm::Simple), webhook("hook")]);
    collector.append(&mut world, vec![shown("s", "token-1")]).unwrap();
    let command = world.command(&[RESPONDER], revoke("s")).unwrap();
    assert_eq!(told(&world, "idp"), [(SignalKind::SessionRevoked, "s".to_owned()), (SignalKind::CredentialChange, "token-1".to_owned())]);
    let first = waiting(&world, "idp").remove(0);
    assert_eq!((first.entry.0, first.ordinal, first.containment), (command + 1, 0, 1));
    assert_eq!((first.signal.principal_issuer.as_str(), first.signal.principal_subject.as_str()), ("https://idp.test", "u-1"));
    assert_eq!(first.committed, world.time());
    assert_eq!(told(&world, "hook"), [(SignalKind::ContainmentChange, String::new())]);
    assert_ne!(first.jti, waiting(&world, "hook")[0].jti);

    // What it shows later follows; a release is told to whoever is told everything.
    collector.append(&mut world, vec![shown("s", "token-2")]).unwrap();
    world
        .command(
            &[RESPONDER, SECOND_RESPONDER],
            Action::Release(v1::Release { containment_id: 1, reason: "r".to_owned(), incident_id: String::new() }),
        )
        .unwrap();
    assert_eq!(told(&world, "idp")[2..], [(SignalKind::CredentialChange, "token-2".to_owned())]);
    assert_eq!(waiting(&world, "hook").len(), 3);
    check_replay(&world);
}

#[test]
fn a_suspended_session_is_ended_and_its_credentials_allow_nothing() {
    let (mut world, mut collector) = telling(vec![stream("idp", SubjectForm::Simple)]);
    collector.append(&mut world, vec![shown("s", "token-1")]).unwrap();
    world.command(&[RESPONDER], contain(ContainmentAction::SuspendSession, TargetKind::Session, "s")).unwrap();
    assert_eq!(told(&world, "idp"), [(SignalKind::SessionRevoked, "s".to_owned()), (SignalKind::TokenClaimsChange, "token-1".to_owned())]);
}

#[test]
fn a_stream_of_simple_subjects_counts_what_it_cannot_name() {
    let (mut world, _) = telling(vec![stream("simple", SubjectForm::Simple), stream("complex", SubjectForm::Complex)]);
    let contained = [
        contain(ContainmentAction::QuarantineAgent, TargetKind::Agent, "agent-1"),
        contain(ContainmentAction::QuarantineAgent, TargetKind::AgentInstance, "agent-1/pod-1"),
        contain(ContainmentAction::HaltAgents, TargetKind::Tenant, ""),
        // Nobody has seen this session: nobody knows whose it is.
        revoke("never-seen"),
        contain(ContainmentAction::RevokeCredential, TargetKind::Credential, "token-9"),
        contain(ContainmentAction::BlockServer, TargetKind::Server, "mcp-1"),
    ];
    for action in contained {
        world.command(&[RESPONDER], action).unwrap();
    }
    assert_eq!(told(&world, "simple"), [(SignalKind::CredentialChange, "token-9".to_owned())]);
    assert_eq!((standing(&world, "simple").not_addressable, standing(&world, "complex").not_addressable), (4, 0));
    let kinds: Vec<SignalKind> = waiting(&world, "complex").iter().map(|it| it.signal.kind()).collect();
    assert_eq!(kinds, [[SignalKind::SessionRevoked; 4].as_slice(), &[SignalKind::CredentialChange]].concat());
}

#[test]
fn what_a_stream_cannot_name_goes_to_the_webhook_that_it_escalates_to_at_once() {
    let last = v1::Outlet { escalations_only: true, ..webhook("gateway") };
    let first = |id: &str| v1::Outlet { escalate_to: "gateway".to_owned(), escalate_after_s: 30, ..stream(id, SubjectForm::Simple) };
    let (mut world, mut collector) = telling(vec![last, first("idp"), first("other-idp")]);
    world.command(&[RESPONDER], contain(ContainmentAction::QuarantineAgent, TargetKind::Agent, "agent-1")).unwrap();
    // Both streams pass it on, and it is the same message.
    let passed = waiting(&world, "gateway");
    assert_eq!((passed.len(), passed[0].escalated_from.as_str(), passed[0].ordinal), (1, "idp", 0));
    assert_eq!(standing(&world, "idp").not_addressable, 1);
    // What can be named is passed on only when it is not acknowledged.
    collector.append(&mut world, vec![event("s", "agent-2")]).unwrap();
    world.command(&[RESPONDER], revoke("s")).unwrap();
    assert_eq!((waiting(&world, "gateway").len(), waiting(&world, "idp").len()), (1, 1));
    check_replay(&world);
}

#[test]
fn an_outlet_hears_of_its_tenant_and_of_what_concerns_all() {
    let of = |id: &str, tenant: &str| v1::Outlet { tenant_id: tenant.to_owned(), ..webhook(id) };
    let (mut world, _) = telling(vec![of("all", "*"), of("other", "other"), webhook("own")]);
    world.command(&[RESPONDER], revoke("s")).unwrap();
    assert_eq!(["all", "other", "own"].map(|id| waiting(&world, id).len()), [1, 0, 1]);
    let everywhere = v1::Target { kind: TargetKind::Tenant.into(), tenant_id: "*".to_owned(), id: String::new() };
    let halt = v1::Contain {
        target: Some(everywhere),
        action: ContainmentAction::HaltAgents.into(),
        reason: "r".to_owned(),
        ..Default::default()
    };
    world.command(&[RESPONDER], Action::Contain(halt)).unwrap();
    assert_eq!(["all", "other", "own"].map(|id| waiting(&world, id).len()), [2, 1, 2]);
}

#[test]
fn a_delivery_is_recorded_once_and_the_message_leaves_the_outbox() {
    let (mut world, _) = telling(vec![webhook("hook")]);
    let change = world.command(&[RESPONDER], revoke("s")).unwrap() + 1;
    let index = deliver(&mut world, delivery("hook", 1, change, 0, DeliveryResult::Delivered)).unwrap();
    assert!(waiting(&world, "hook").is_empty());
    assert_eq!((standing(&world, "hook").pending, standing(&world, "hook").last), (0, Some(EntryIndex(index))));
    assert_eq!(outlets::deliveries_of_outlet(&world.store, "hook", EntryIndex(0), 10).unwrap(), [EntryIndex(index)]);
    let size = world.ledger.tree_size();
    let again = deliver(&mut world, delivery("hook", 1, change, 0, DeliveryResult::DeadLetter)).unwrap_err();
    assert!(matches!(again, Refusal::AlreadyDone { what: "message", .. }), "{again}");
    assert_eq!(world.ledger.tree_size(), size);
    world.reopen();
    check_replay(&world);
}

#[test]
fn a_delivery_that_no_registered_node_signed_is_refused() {
    let (mut world, _) = telling(vec![webhook("hook")]);
    let change = world.command(&[RESPONDER], revoke("s")).unwrap() + 1;
    let good = delivery("hook", 1, change, 0, DeliveryResult::Delivered);
    let altered = v1::OutletDelivery { http_status: 500, ..good.clone() };
    assert!(matches!(deliver(&mut world, altered).unwrap_err(), Refusal::Forged { .. }));
    for (seed, node_id) in [(22, 1), (50, 1), (21, 9), (1, 1)] {
        let foreign = signed_by(seed, v1::OutletDelivery { node_id, ..good.clone() });
        assert!(matches!(deliver(&mut world, foreign).unwrap_err(), Refusal::KeyNotRegistered(_)), "{seed} {node_id}");
    }
    let other_message = [
        v1::OutletDelivery { jti: "0".repeat(32), ..good.clone() },
        v1::OutletDelivery { containment_id: 2, ..good.clone() },
        v1::OutletDelivery { result: 0, ..good.clone() },
        v1::OutletDelivery { jti: "x".to_owned(), ..good.clone() },
        v1::OutletDelivery { error: "two\nlines".to_owned(), ..good.clone() },
    ];
    for bad in other_message {
        let refusal = deliver(&mut world, signed_by(21, bad)).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal}");
    }
    let unknown = signed_by(21, v1::OutletDelivery { outlet_id: "nobody".to_owned(), ..good.clone() });
    assert!(matches!(deliver(&mut world, unknown).unwrap_err(), Refusal::UnknownSubject { what: "outlet", .. }));
    deliver(&mut world, good).unwrap();
}

#[test]
fn a_paused_or_disabled_outlet_keeps_what_waits_until_it_is_resumed() {
    let (mut world, _) = telling(vec![webhook("hook")]);
    let change = world.command(&[RESPONDER], revoke("s")).unwrap() + 1;
    for (result, state) in [(DeliveryResult::Paused, OutletState::Paused), (DeliveryResult::Disabled, OutletState::Disabled)] {
        let index = deliver(&mut world, delivery("hook", 1, change, 0, result)).unwrap();
        assert_eq!((standing(&world, "hook").state, standing(&world, "hook").state_by), (state, EntryIndex(index)));
        let again = deliver(&mut world, delivery("hook", 1, change, 0, result)).unwrap_err();
        assert!(matches!(again, Refusal::AlreadyDone { what: "outlet", .. }));
        assert_eq!(waiting(&world, "hook").len(), 1);
        assert_eq!(world.command(&[RESPONDER], resume("hook")).unwrap_err(), Refusal::OperatorLacksRole { operator: "rita".to_owned() });
        world.command(&[ALICE], resume("hook")).unwrap();
        assert_eq!(standing(&world, "hook").state, OutletState::Active);
    }
    assert!(matches!(world.command(&[ALICE], resume("hook")).unwrap_err(), Refusal::AlreadyDone { state: "active", .. }));
    check_replay(&world);
}

#[test]
fn what_is_not_acknowledged_in_time_or_given_up_goes_on_to_the_next_outlet() {
    let last = v1::Outlet { escalations_only: true, ..webhook("gateway") };
    let first = v1::Outlet { escalate_to: "gateway".to_owned(), escalate_after_s: 30, ..stream("idp", SubjectForm::Simple) };
    let (mut world, mut collector) = telling(vec![last, first]);
    collector.append(&mut world, vec![shown("s", "token-1")]).unwrap();
    let change = world.command(&[RESPONDER], revoke("s")).unwrap() + 1;
    assert!(waiting(&world, "gateway").is_empty());
    let early = deliver(&mut world, delivery("idp", 1, change, 0, DeliveryResult::Escalated)).unwrap_err();
    assert!(matches!(early, Refusal::Malformed(_)), "{early}");
    world.now += 30 * SECOND_NS;
    deliver(&mut world, delivery("idp", 1, change, 0, DeliveryResult::Escalated)).unwrap();
    let passed = waiting(&world, "gateway");
    assert_eq!((passed.len(), passed[0].escalated_from.as_str(), passed[0].signal.kind()), (1, "idp", SignalKind::SessionRevoked));
    assert!(waiting(&world, "idp")[0].is_escalated, "it still waits for its acknowledgement");
    let again = deliver(&mut world, delivery("idp", 1, change, 0, DeliveryResult::Escalated)).unwrap_err();
    assert!(matches!(again, Refusal::AlreadyDone { state: "escalated", .. }), "{again}");
    deliver(&mut world, delivery("idp", 1, change, 0, DeliveryResult::DeadLetter)).unwrap();
    assert_eq!(waiting(&world, "gateway").len(), 1, "once");
    deliver(&mut world, delivery("idp", 1, change, 1, DeliveryResult::DeadLetter)).unwrap();
    assert_eq!(waiting(&world, "gateway").len(), 2);
    deliver(&mut world, delivery("gateway", 1, change, 0, DeliveryResult::Delivered)).unwrap();
    assert_eq!(standing(&world, "gateway").pending, 1);
    check_replay(&world);
}

#[test]
fn an_outlet_is_registered_by_two_and_in_one_form_only() {
    let (mut world, _) = World::with_collector();
    assert_eq!(world.command(&[ALICE], register(webhook("hook"))).unwrap_err(), Refusal::SecondOperatorNeeded);
    let of = |change: &dyn Fn(&mut v1::SharedSignals)| {
        let mut outlet = stream("idp", SubjectForm::Simple);
        if let Some(Kind::SharedSignals(stream)) = &mut outlet.kind {
            change(stream);
        }
        outlet
    };
    let bad = [
        v1::Outlet::default(),
        webhook(""),
        webhook("Upper"),
        webhook("../etc"),
        webhook(".hidden"),
        webhook(&"x".repeat(65)),
        v1::Outlet { tenant_id: String::new(), ..webhook("hook") },
        v1::Outlet { kind: None, ..webhook("hook") },
        v1::Outlet { escalate_after_s: 5, ..webhook("hook") },
        v1::Outlet { escalate_to: "idp".to_owned(), ..webhook("hook") },
        of(&|it| it.endpoint = "http://idp.test/".to_owned()),
        of(&|it| it.endpoint = "https://user@idp.test/".to_owned()),
        of(&|it| it.issuer = "https://ledger.test/?x".to_owned()),
        of(&|it| it.audience = String::new()),
        of(&|it| it.key_id = "../key".to_owned()),
        of(&|it| it.algorithm = 0),
        of(&|it| it.subject_form = 7),
        of(&|it| it.authorization = 0),
    ];
    for outlet in bad {
        let refusal = world.command(REGISTRARS, register(outlet.clone())).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal}: {outlet:?}");
    }
    let to_nobody = v1::Outlet { escalate_to: "nobody".to_owned(), escalate_after_s: 5, ..webhook("hook") };
    assert!(matches!(world.command(REGISTRARS, register(to_nobody)).unwrap_err(), Refusal::UnknownSubject { .. }));
    assert!(outlets::all(&world.store).unwrap().is_empty());
}

#[test]
fn registering_again_replaces_and_removing_forgets_what_waits() {
    let (mut world, _) = telling(vec![webhook("hook"), webhook("other")]);
    let change = world.command(&[RESPONDER], revoke("s")).unwrap() + 1;
    deliver(&mut world, delivery("hook", 1, change, 0, DeliveryResult::Disabled)).unwrap();
    let mut moved = webhook("hook");
    moved.kind = Some(Kind::Webhook(v1::Webhook { endpoint: "https://new.test/".to_owned(), key_id: "hook-2".to_owned() }));
    world.command(REGISTRARS, register(moved.clone())).unwrap();
    assert_eq!((standing(&world, "hook").outlet, standing(&world, "hook").state), (moved, OutletState::Active));
    assert_eq!(waiting(&world, "hook").len(), 1);
    for other in [stream("hook", SubjectForm::Simple), v1::Outlet { tenant_id: "*".to_owned(), ..webhook("hook") }] {
        assert!(matches!(world.command(REGISTRARS, register(other)).unwrap_err(), Refusal::AlreadyDone { .. }));
    }
    assert_eq!(world.command(&[ALICE], remove("hook")).unwrap_err(), Refusal::SecondOperatorNeeded);
    world.command(REGISTRARS, remove("hook")).unwrap();
    assert_eq!(outlets::all(&world.store).unwrap().len(), 1);
    world.command(REGISTRARS, register(webhook("hook"))).unwrap();
    assert_eq!((waiting(&world, "hook").len(), waiting(&world, "other").len()), (0, 1));
    check_replay(&world);
}

#[test]
fn where_others_escalate_to_stays_what_it_is() {
    let last = v1::Outlet { escalations_only: true, ..webhook("gateway") };
    let first = v1::Outlet { escalate_to: "gateway".to_owned(), escalate_after_s: 30, ..webhook("hook") };
    let (mut world, _) = telling(vec![last, first]);
    assert!(matches!(world.command(REGISTRARS, remove("gateway")).unwrap_err(), Refusal::AlreadyDone { .. }));
    assert!(matches!(world.command(REGISTRARS, register(webhook("gateway"))).unwrap_err(), Refusal::AlreadyDone { .. }));
    let chain = v1::Outlet { escalate_to: "gateway".to_owned(), escalate_after_s: 5, escalations_only: true, ..webhook("more") };
    assert!(matches!(world.command(REGISTRARS, register(chain)).unwrap_err(), Refusal::Malformed(_)));
    world.command(REGISTRARS, remove("hook")).unwrap();
    world.command(REGISTRARS, remove("gateway")).unwrap();
}

#[test]
fn what_finds_no_room_is_counted() {
    let (mut world, mut collector) = telling(vec![webhook("hook")]);
    collector.append(&mut world, vec![event("s", "agent-1")]).unwrap();
    for round in 0..2_100 {
        // Releasing tells the outlet as well: two messages in each round.
        world.command(&[RESPONDER], revoke("s")).unwrap();
        let release = v1::Release { containment_id: round + 1, reason: "r".to_owned(), incident_id: String::new() };
        world.command(&[RESPONDER, SECOND_RESPONDER], Action::Release(release)).unwrap();
    }
    assert_eq!((standing(&world, "hook").pending, standing(&world, "hook").dropped), (4_096, 104));
}

#[test]
fn what_happened_after_a_containment_is_found_without_looking_at_the_rest() {
    let (mut world, mut collector) = telling(vec![webhook("hook")]);
    collector.append(&mut world, vec![shown("s", "token-1"), event("t", "agent-2")]).unwrap();
    let change = world.command(&[RESPONDER], revoke("s")).unwrap() + 1;
    let denied = collector.append(&mut world, vec![event("s", "agent-1"), event("t", "agent-2"), shown("u", "token-1")]).unwrap();
    // Held by a second one as well: it is shown under both.
    world.command(&[RESPONDER], contain(ContainmentAction::QuarantineAgent, TargetKind::Agent, "agent-1")).unwrap();
    let both = collector.append(&mut world, vec![event("s", "agent-1")]).unwrap();
    let delivered = deliver(&mut world, delivery("hook", 1, change, 0, DeliveryResult::Delivered)).unwrap();
    let after = |id| outlets::after_containment(&world.store, id, EntryIndex(0), 100).unwrap();
    let expected = [denied.first_index, denied.first_index + 2, both.first_index, delivered].map(EntryIndex);
    assert_eq!(after(1), expected);
    assert_eq!(after(2), [EntryIndex(both.first_index)]);
    assert_eq!(outlets::after_containment(&world.store, 1, expected[1], 1).unwrap(), [expected[2]]);
    for index in [denied.first_index, both.first_index] {
        assert_eq!(world.entry(index).decision.unwrap().verdict(), v1::Verdict::Deny);
    }
    assert!(listing::containments(&world.store, TENANT, Wanted::Everything, 0, 10).unwrap().len() == 2);
}

fn verify(id: &str, state: &str) -> Action {
    Action::VerifyOutlet(v1::VerifyOutlet { outlet_id: id.to_owned(), state: state.to_owned(), reason: "a new receiver".to_owned() })
}

#[test]
fn a_stream_is_verified_on_request_and_the_result_is_recorded_once() {
    let gateway = v1::Outlet { escalations_only: true, ..webhook("gateway") };
    let idp = v1::Outlet { escalate_to: "gateway".to_owned(), escalate_after_s: 1, ..stream("idp", SubjectForm::Simple) };
    let (mut world, _) = telling(vec![gateway, idp, stream("other", SubjectForm::Simple)]);
    let asked = world.command(&[ALICE], verify("idp", "try-1")).unwrap();
    assert_eq!(told(&world, "idp"), [(SignalKind::Verification, String::new())]);
    assert!(told(&world, "other").is_empty(), "it is about one stream");
    let message = waiting(&world, "idp").remove(0);
    assert_eq!((message.entry.0, message.containment, message.escalates_at), (asked, 0, None), "it does not escalate");
    let recorded = deliver(&mut world, delivery("idp", 0, asked, 0, DeliveryResult::DeadLetter)).unwrap();
    assert!(told(&world, "idp").is_empty() && told(&world, "gateway").is_empty());
    assert_eq!(outlets::deliveries_of_outlet(&world.store, "idp", EntryIndex(0), 10).unwrap(), [EntryIndex(recorded)]);
    let twice = deliver(&mut world, delivery("idp", 0, asked, 0, DeliveryResult::Delivered)).unwrap_err();
    assert!(matches!(twice, Refusal::AlreadyDone { .. }), "{twice:?}");
    assert!(outlets::after_containment(&world.store, 0, EntryIndex(0), 10).unwrap().is_empty(), "it followed no containment");
    check_replay(&world);
}

#[test]
fn a_verification_is_refused_where_nothing_would_be_sent() {
    let (mut world, _) = telling(vec![webhook("hook"), stream("idp", SubjectForm::Simple)]);
    let refused = |world: &mut World, action| world.command(&[ALICE], action).unwrap_err();
    assert!(matches!(refused(&mut world, verify("nobody", "x")), Refusal::UnknownSubject { .. }));
    assert!(matches!(refused(&mut world, verify("hook", "x")), Refusal::Malformed(_)), "webhooks have no such event");
    assert!(matches!(refused(&mut world, verify("idp", "")), Refusal::Malformed(_)), "nothing to compare");
    assert!(matches!(refused(&mut world, verify("idp", &"x".repeat(257))), Refusal::Malformed(_)));
    assert!(matches!(world.command(&[RESPONDER], verify("idp", "x")).unwrap_err(), Refusal::OperatorLacksRole { .. }));
    let first = world.command(&[ALICE], verify("idp", &"x".repeat(256))).unwrap();
    deliver(&mut world, delivery("idp", 0, first, 0, DeliveryResult::Paused)).unwrap();
    assert!(matches!(refused(&mut world, verify("idp", "y")), Refusal::AlreadyDone { .. }), "paused");
    world.command(&[ALICE], resume("idp")).unwrap();
    for n in 1..proofline_ledger::limits::VERIFIED_BEHIND_MAX {
        world.command(&[ALICE], verify("idp", &n.to_string())).unwrap();
    }
    assert!(matches!(refused(&mut world, verify("idp", "z")), Refusal::TooLarge { .. }), "the room is for what is contained");
    assert_eq!(standing(&world, "idp").dropped, 0);
}
