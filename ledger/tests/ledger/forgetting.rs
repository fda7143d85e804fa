//! Erasing a subject, holds that forbid it, and how long payloads are kept.

use proofline_ledger::{CommittedPayload, EntryIndex, Refusal, Replay, Standing, Subject, WrongPayload, payloads};
use proofline_proto::{peer, v1};
use prost::Message as _;
use v1::command::Action;
use v1::entry_core::Body;

use crate::world::*;

/// Of whom the tests know.
const ISSUER: &str = "https://idp.test";
const DAY_NS: u64 = 24 * HOUR_NS;

pub fn commitment(content: &[u8], key_ref: &str) -> v1::Commitment {
    v1::Commitment {
        name: "prompt".to_owned(),
        algorithm: v1::CommitmentAlgorithm::Blake3Keyed.into(),
        digest: blake3_of(content),
        size_bytes: content.len() as u64,
        media_type: "text/plain".to_owned(),
        key_ref: key_ref.to_owned(),
        location: String::new(),
    }
}

const SALT: [u8; 32] = [9; 32];

fn blake3_of(content: &[u8]) -> Vec<u8> {
    blake3::keyed_hash(&SALT, content).as_bytes().to_vec()
}

pub fn with_payload(session: &str, agent: &str, key_ref: &str) -> v1::Event {
    v1::Event { payloads: vec![commitment(b"a prompt", key_ref)], ..event(session, agent) }
}

pub fn erase(subject: &str) -> Action {
    let (tenant_id, issuer) = (TENANT.to_owned(), ISSUER.to_owned());
    Action::EraseSubject(v1::EraseSubject { tenant_id, issuer, subject: subject.to_owned(), ground: "asked for".to_owned() })
}

pub fn retain(days: u32) -> Action {
    Action::SetRetention(v1::SetRetention { tenant_id: TENANT.to_owned(), days, reason: "a law".to_owned() })
}

pub fn hold(kind: v1::TargetKind, tenant: &str, id: &str) -> Action {
    let target = v1::Target { kind: kind.into(), tenant_id: tenant.to_owned(), id: id.to_owned() };
    Action::PlaceHold(v1::PlaceHold { target: Some(target), matter: "case 12".to_owned(), authority: "court".to_owned() })
}

pub fn release(hold_id: u64) -> Action {
    Action::ReleaseHold(v1::ReleaseHold { hold_id, reason: "settled".to_owned() })
}

fn subject(name: &str) -> Subject {
    Subject::new(TENANT, ISSUER, name).unwrap()
}

fn erased(world: &World, name: &str) -> Option<u64> {
    payloads::erasure(&world.store, &subject(name)).unwrap().map(|erasure| erasure.index.0)
}

fn append(world: &mut World, collector: &mut Collector, events: Vec<v1::Event>) -> u64 {
    collector.append(world, events).unwrap().first_index
}

#[test]
fn an_erasure_takes_two_registrars_a_ground_and_a_subject_with_payloads() {
    let (mut world, mut collector) = World::with_collector();
    append(
        &mut world,
        &mut collector,
        vec![with_payload("s", "a", ""), with_payload("s", "a", "subject:https://idp.test u-9"), event("t", "b")],
    );
    assert_eq!(world.command(&[ALICE], erase("u-1")).unwrap_err(), Refusal::SecondOperatorNeeded);
    let responders = world.command(&[RESPONDER, SECOND_RESPONDER], erase("u-1")).unwrap_err();
    assert!(matches!(responders, Refusal::OperatorLacksRole { .. }), "{responders}");
    let misspelt = world.command(&[ALICE, BOB], erase("u-2")).unwrap_err();
    assert!(matches!(misspelt, Refusal::UnknownSubject { .. }), "{misspelt}");
    let Action::EraseSubject(groundless) = erase("u-1") else { unreachable!() };
    let groundless = Action::EraseSubject(v1::EraseSubject { ground: String::new(), ..groundless });
    assert!(matches!(world.command(&[ALICE, BOB], groundless).unwrap_err(), Refusal::Malformed(_)));
    let index = world.command(&[ALICE, BOB], erase("u-1")).unwrap();
    assert_eq!((erased(&world, "u-1"), erased(&world, "u-9")), (Some(index), None));
    let later = world.command(&[ALICE, BOB], erase("u-1")).unwrap();
    let log = payloads::erasures(&world.store, 0, 10).unwrap();
    assert_eq!(log.iter().map(|it| (it.ordinal, it.index.0)).collect::<Vec<_>>(), [(1, index), (2, later)]);
    assert_eq!((erased(&world, "u-1"), world.ledger.erasures()), (Some(later), 2));
    assert_eq!(payloads::erasures(&world.store, 1, 10).unwrap().len(), 1);
}

#[test]
fn one_content_is_committed_to_once_in_an_event_so_that_it_has_one_subject() {
    let (mut world, mut collector) = World::with_collector();
    let of = |subjects: [&str; 2], contents: [&[u8]; 2]| {
        let payloads = subjects.iter().zip(contents).map(|(subject, content)| commitment(content, &format!("subject:{ISSUER} {subject}")));
        v1::Event { payloads: payloads.collect(), ..event("s", "a") }
    };
    let events = vec![
        of(["u-1", "u-9"], [b"a prompt", b"a reply"]),
        of(["u-1", "u-9"], [b"a prompt", b"a prompt"]),
        of(["u-1", "u-1"], [b"a prompt", b"a prompt"]),
    ];
    let taken = collector.append(&mut world, events).unwrap();
    let malformed = v1::RejectionReason::Malformed;
    assert_eq!(rejections(&taken), [v1::RejectionReason::Unspecified, malformed, malformed]);
}

#[test]
fn a_subject_that_only_an_event_without_a_session_names_can_be_erased() {
    let (mut world, mut collector) = World::with_collector();
    let mut lone = v1::Event { payloads: vec![commitment(b"x", "subject:https://idp.test u-9")], ..unattributed("s") };
    lone.session = None;
    append(&mut world, &mut collector, vec![lone]);
    world.command(&[ALICE, BOB], erase("u-9")).unwrap();
}

#[test]
fn where_too_many_sessions_are_above_any_hold_defers() {
    let (mut world, mut collector) = World::with_collector();
    let spawn = |session: usize, child: usize| {
        let (child_session_id, child_agent_id) = (format!("s-{child}"), "agent".to_owned());
        let spawned = v1::SubAgentSpawned { child_session_id, child_agent_id, ..Default::default() };
        v1::Event { body: Some(v1::event::Body::SubAgentSpawned(spawned)), ..event(&format!("s-{session}"), "agent") }
    };
    let mut events = vec![with_payload("s-0", "agent", "")];
    events.extend((0..200).map(|n| spawn(n + 1, n)));
    let index = append(&mut world, &mut collector, events);
    world.command(&[RESPONDER], hold(v1::TargetKind::Session, TENANT, "unrelated")).unwrap();
    let of = CommittedPayload::find(&world.store, EntryIndex(index), &blake3_of(b"a prompt")).unwrap().unwrap();
    assert_eq!(of.held(&world.store).unwrap(), Some(1), "nobody knows what is above, so it is kept");
}

#[test]
fn the_entry_alone_says_whose_a_payload_is() {
    let of = |key_ref: &str, event: v1::Event| Subject::of(&event, &commitment(b"x", key_ref)).map(|it| (it.issuer, it.subject));
    let named = |key_ref: &str| of(key_ref, with_payload("s", "a", key_ref));
    let pair = |issuer: &str, subject: &str| Some((issuer.to_owned(), subject.to_owned()));
    assert_eq!(named(""), pair(ISSUER, "u-1"));
    assert_eq!(named("kms/key/7"), pair(ISSUER, "u-1"), "a reference of the collector's own");
    assert_eq!(named("subject:https://idp.example 00u1"), pair("https://idp.example", "00u1"));
    assert_eq!(named("subject: a b"), pair("", "a b"));
    assert_eq!(named("subject:nobody"), None);
    assert_eq!(named("subject:x "), None);
    assert_eq!(of("", v1::Event { payloads: vec![commitment(b"x", "")], ..unattributed("s") }), None);
    // Nine subjects in one event: the ninth has no payloads that could be kept.
    let payloads: Vec<_> = (0..9).map(|n| commitment(b"x", &format!("subject: n-{n}"))).collect();
    let crowded = v1::Event { payloads: payloads.clone(), ..event("s", "a") };
    let known: Vec<_> = payloads.iter().map(|it| Subject::of(&crowded, it).is_some()).collect();
    assert_eq!(known, [true, true, true, true, true, true, true, true, false]);
}

#[test]
fn whatever_covers_a_payload_of_the_subject_defers_the_erasure() {
    use v1::TargetKind::{Agent, AgentInstance, Credential, Server, Session, Tenant};
    let (mut world, mut collector) = World::with_collector();
    let mut shown = with_payload("below", "worker", "");
    shown.session.as_mut().unwrap().parent_session_id = "above".to_owned();
    let attribution = shown.attribution.as_mut().unwrap();
    attribution.credential = Some(v1::Credential { credential_id: "token".to_owned(), ..Default::default() });
    attribution.agent.as_mut().unwrap().instance_id = "i-1".to_owned();
    let Some(v1::event::Body::ActionIntent(intent)) = &mut shown.body else { unreachable!() };
    intent.tool.as_mut().unwrap().server_id = "mcp".to_owned();
    let spawn = v1::SubAgentSpawned { child_session_id: "below".to_owned(), child_agent_id: "worker".to_owned(), ..Default::default() };
    let spawner = v1::Event { body: Some(v1::event::Body::SubAgentSpawned(spawn)), ..event("spawner", "boss") };
    // Above stands a session that one says it spawned, and that has not begun.
    let unseen = v1::SubAgentSpawned { child_session_id: "unseen".to_owned(), child_agent_id: "late".to_owned(), ..Default::default() };
    let mut above = event("above", "lead");
    above.session.as_mut().unwrap().parent_session_id = "unseen".to_owned();
    let root = v1::Event { body: Some(v1::event::Body::SubAgentSpawned(unseen)), ..event("root", "chief") };
    append(&mut world, &mut collector, vec![root, above, shown, spawner, event("begun-for-u-1", "other")]);
    let covering = [
        (Session, TENANT, "below"),
        (Session, TENANT, "above"),
        (Session, TENANT, "spawner"),
        (Session, TENANT, "unseen"),
        (Session, TENANT, "root"),
        (Agent, TENANT, "chief"),
        (Session, TENANT, "begun-for-u-1"),
        (Agent, TENANT, "worker"),
        (Agent, TENANT, "lead"),
        (AgentInstance, TENANT, "worker/i-1"),
        (Credential, TENANT, "token"),
        (Server, TENANT, "mcp"),
        (Tenant, TENANT, ""),
        (Tenant, "*", ""),
    ];
    for (n, (kind, tenant, id)) in covering.into_iter().enumerate() {
        let number = n as u64 + 1;
        world.command(&[RESPONDER], hold(kind, tenant, id)).unwrap();
        let recorded = world.ledger.tree_size().0;
        let deferred = Refusal::ErasureDeferred { hold: number, recorded: EntryIndex(recorded) };
        assert_eq!(world.command(&[ALICE, BOB], erase("u-1")).unwrap_err(), deferred, "{kind:?} {id}");
        let Some(Body::ErasureDeferred(it)) = world.entry(recorded).body else { panic!("not recorded") };
        assert_eq!((it.hold_id, erased(&world, "u-1")), (number, None));
        world.command(&[RESPONDER, SECOND_RESPONDER], release(number)).unwrap();
    }
    for (kind, tenant, id) in
        [(Session, TENANT, "elsewhere"), (Agent, TENANT, "stranger"), (Tenant, "other", ""), (Session, "other", "below")]
    {
        world.command(&[RESPONDER], hold(kind, tenant, id)).unwrap();
    }
    world.command(&[ALICE, BOB], erase("u-1")).unwrap();
}

#[test]
fn a_deferred_erasure_repeated_gets_its_first_answer_and_no_second_entry() {
    let (mut world, mut collector) = World::with_collector();
    append(&mut world, &mut collector, vec![with_payload("s", "a", "")]);
    world.command(&[RESPONDER], hold(v1::TargetKind::Session, TENANT, "s")).unwrap();
    let command = world.signed_command(&[ALICE, BOB], erase("u-1"));
    let first = world.submit(command.clone()).unwrap_err();
    let size = world.ledger.tree_size();
    assert_eq!(world.submit(command.clone()).unwrap_err(), first);
    world.command(&[RESPONDER, SECOND_RESPONDER], release(1)).unwrap();
    assert_eq!(world.submit(command).unwrap_err(), first, "asked for again, it takes a new command");
    assert_eq!(world.ledger.tree_size().0, size.0 + 1);
    world.command(&[ALICE, BOB], erase("u-1")).unwrap();
}

#[test]
fn a_hold_behind_one_that_was_just_lifted_still_counts() {
    let (mut world, mut collector) = World::with_collector();
    append(&mut world, &mut collector, vec![with_payload("s", "a", "")]);
    for _ in 0..2 {
        world.command(&[RESPONDER], hold(v1::TargetKind::Session, TENANT, "s")).unwrap();
    }
    let lift = world.signed_command(&[RESPONDER, SECOND_RESPONDER], release(1));
    let forget = world.signed_command(&[ALICE, BOB], erase("u-1"));
    let outcomes = world.apply_group(vec![peer::item::Item::Command(lift), peer::item::Item::Command(forget)]);
    let proofline_ledger::Outcome::Refused(Refusal::ErasureDeferred { hold, .. }) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(*hold, 2);
}

#[test]
fn what_a_replay_makes_of_erasures_and_deferrals_is_the_same_log() {
    let (mut world, mut collector) = World::with_collector();
    append(&mut world, &mut collector, vec![with_payload("s", "a", "")]);
    world.command(&[RESPONDER], hold(v1::TargetKind::Session, TENANT, "s")).unwrap();
    world.command(&[ALICE, BOB], erase("u-1")).unwrap_err();
    world.command(&[RESPONDER, SECOND_RESPONDER], release(1)).unwrap();
    world.command(&[ALICE, BOB], erase("u-1")).unwrap();
    world.command(&[ALICE, BOB], retain(400)).unwrap();
    let mut replay = Replay::new().unwrap();
    for entry in world.entries() {
        replay.push(entry.into()).unwrap();
    }
    let (ledger, store) = replay.finish().unwrap();
    assert_eq!(ledger.state_digest(), world.ledger.state_digest());
    assert_eq!(payloads::erasures(&store, 0, 10).unwrap(), payloads::erasures(&world.store, 0, 10).unwrap());
    // A deferral that holds another command than it says is none.
    let forged = world.signed_command(&[ALICE, BOB], erase("u-9"));
    let mut replay = Replay::new().unwrap();
    for (index, entry) in (0..).zip(world.entries()) {
        let mut core = world.entry(index);
        let Some(Body::ErasureDeferred(it)) = &mut core.body else {
            replay.push(entry.into()).unwrap();
            continue;
        };
        it.command = Some(forged);
        let forged = v1::Entry { core: core.encode_to_vec().into(), session_root: Vec::new() };
        replay.push(forged.encode_to_vec().into()).unwrap_err();
        return;
    }
    panic!("there is a deferral");
}

#[test]
fn retention_is_never_below_the_floor() {
    let mut world = World::new();
    for days in [0, 1, 182] {
        assert_eq!(world.command(&[ALICE, BOB], retain(days)).unwrap_err(), Refusal::BelowRetentionFloor { days, floor: 183 });
    }
    assert!(matches!(world.command(&[ALICE, BOB], retain(36_501)).unwrap_err(), Refusal::TooLarge { .. }));
    assert_eq!(world.command(&[ALICE], retain(183)).unwrap_err(), Refusal::SecondOperatorNeeded);
    for days in [400, 183] {
        let set_by = EntryIndex(world.command(&[ALICE, BOB], retain(days)).unwrap());
        let set = payloads::retention(&world.store, TENANT).unwrap().unwrap();
        assert_eq!((set.days, set.set_by), (days, set_by));
    }
    assert_eq!(payloads::retentions(&world.store, "", 10).unwrap().len(), 1);
    assert_eq!(payloads::retentions(&world.store, TENANT, 10).unwrap().len(), 0);
}

#[test]
fn a_payload_is_past_its_time_by_committed_time_unless_held() {
    let (mut world, mut collector) = World::with_collector();
    let index = append(&mut world, &mut collector, vec![with_payload("s", "a", "")]);
    let of = |world: &World| CommittedPayload::find(&world.store, EntryIndex(index), &blake3_of(b"a prompt")).unwrap().unwrap();
    let standing = |world: &World| of(world).standing(&world.store).unwrap();
    world.now += 1_000 * DAY_NS;
    collector.append(&mut world, vec![event("t", "b")]).unwrap();
    assert_eq!(standing(&world), Standing::InTime, "nothing is set");
    world.command(&[ALICE, BOB], retain(1_001)).unwrap();
    assert_eq!(standing(&world), Standing::InTime);
    world.command(&[ALICE, BOB], retain(183)).unwrap();
    assert_eq!(standing(&world), Standing::Past);
    world.command(&[RESPONDER], hold(v1::TargetKind::Agent, TENANT, "a")).unwrap();
    assert_eq!((standing(&world), of(&world).held(&world.store).unwrap()), (Standing::Held, Some(1)));
    assert_eq!(payloads::holds(&world.store, TENANT, 10).unwrap().len(), 1);
    world.command(&[RESPONDER, SECOND_RESPONDER], release(1)).unwrap();
    assert_eq!((standing(&world), payloads::holds(&world.store, TENANT, 10).unwrap()), (Standing::Past, Vec::new()));
}

#[test]
fn content_is_checked_against_the_entry() {
    let (mut world, mut collector) = World::with_collector();
    let index = EntryIndex(append(&mut world, &mut collector, vec![with_payload("s", "a", "")]));
    let digest = blake3_of(b"a prompt");
    let of = CommittedPayload::find(&world.store, index, &digest).unwrap().unwrap();
    assert_eq!(of.check(&SALT, b"a prompt"), Ok(()));
    assert_eq!(of.check(&SALT, b"a prompT"), Err(WrongPayload::Digest));
    assert_eq!(of.check(&[8; 32], b"a prompt"), Err(WrongPayload::Digest));
    assert_eq!(of.check(&SALT, b"a prompt."), Err(WrongPayload::Size { actual: 9, committed: 8 }));
    assert_eq!(of.check(&SALT[1..], b"a prompt"), Err(WrongPayload::Salt(31)));
    assert_eq!((of.collector.as_str(), of.tenant.as_str(), of.subject), ("gateway-1", TENANT, Some(subject("u-1"))));
    assert_eq!(CommittedPayload::find(&world.store, index, &[0; 32]).unwrap(), None);
    assert_eq!(CommittedPayload::find(&world.store, EntryIndex(0), &digest).unwrap(), None);
    assert_eq!(CommittedPayload::find(&world.store, EntryIndex(999), &digest).unwrap(), None);
}
