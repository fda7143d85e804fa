use proofline_ledger::{Direction, EntryIndex, Epoch, Hash, KeyRange, Outcome, PreparedGroup, Refusal, Sequence, Store as _, Table};
use proofline_proto::{peer, v1};
use prost::Message;
use v1::entry_core::Body;

use crate::world::*;

#[test]
fn nothing_is_taken_before_genesis() {
    let mut world = World::empty();
    let mut collector = Collector::new("gateway-1", 50);
    assert_eq!(collector.open(&mut world), Err(Refusal::NotBegun));
    assert_eq!(world.ledger.tree_size().0, 0);
}

#[test]
fn a_batch_becomes_entries_in_order_with_dense_session_positions() {
    let (mut world, mut collector) = World::with_collector();
    let before = world.ledger.tree_size().0;
    let receipt = collector.append(&mut world, vec![event("s", "a"), event("s", "a"), event("t", "a")]).unwrap();
    assert_eq!(receipt.first_index, before);
    assert_eq!(receipt.events.iter().map(|it| it.session_position).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(receipt.events.iter().all(|it| it.verdict() == v1::Verdict::Allow));
    assert_eq!(world.ledger.tree_size().0, before + 3);
}

#[test]
fn the_same_batch_again_gets_the_first_receipt_however_late() {
    let (mut world, mut collector) = World::with_collector();
    let batch = collector.batch(vec![event("s", "a").encode_to_vec().into(), vec![1, 2].into()]);
    let first = send(&mut world, batch.clone()).unwrap();
    collector.advance(&batch);
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    collector.open(&mut world).unwrap();
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    world.reopen();
    let size = world.ledger.tree_size();
    assert_eq!(send(&mut world, batch).unwrap(), first);
    assert_eq!(world.ledger.tree_size(), size);
}

#[test]
fn the_same_batch_twice_in_one_group_is_one_batch() {
    let (mut world, collector) = World::with_collector();
    let batch = collector.batch(vec![event("s", "a").encode_to_vec().into()]);
    let outcomes = world.apply_group(vec![peer::item::Item::Batch(batch.clone()), peer::item::Item::Batch(batch)]);
    assert_eq!(outcomes[0], outcomes[1]);
    assert!(matches!(outcomes[0], Outcome::Appended(_)));
}

#[test]
fn a_gap_a_wrong_previous_and_an_unopened_epoch_are_refused_with_what_was_expected() {
    let (mut world, mut collector) = World::with_collector();
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    let events = vec![event("s", "a").encode_to_vec().into()];
    let gap = collector.batch_at(1, 3, collector.previous, events.clone());
    let expected = Refusal::WrongSequence { sequence: Sequence(3), expected: Sequence(2), previous: collector.previous };
    assert_eq!(send(&mut world, gap), Err(expected));
    let fork = collector.batch_at(1, 2, Hash([9; 32]), events.clone());
    assert_eq!(send(&mut world, fork), Err(Refusal::WrongPrevious { actual: Hash([9; 32]), expected: collector.previous }));
    let early = collector.batch_at(2, 1, collector.previous, events);
    assert_eq!(send(&mut world, early), Err(Refusal::LaneNotOpen { epoch: Epoch(2), current: Epoch(1) }));
}

#[test]
fn a_new_epoch_fences_the_zombie_of_the_old_one() {
    let (mut world, mut zombie) = World::with_collector();
    zombie.append(&mut world, vec![event("s", "a")]).unwrap();
    let mut successor = zombie.clone();
    let opened = successor.open(&mut world).unwrap();
    assert_eq!((opened.epoch, opened.last.unwrap().sequence), (2, 1));
    let refused = zombie.append(&mut world, vec![event("s", "a")]);
    assert_eq!(refused, Err(Refusal::EpochFenced { epoch: Epoch(1), current: Epoch(2) }));
    successor.append(&mut world, vec![event("s", "a")]).unwrap();
}

#[test]
fn opening_with_the_same_nonce_again_changes_nothing() {
    let (mut world, mut collector) = World::with_collector();
    let request = collector.open_request();
    let first = world.apply(peer::item::Item::OpenLane(request.clone()));
    let size = world.ledger.tree_size();
    let second = world.apply(peer::item::Item::OpenLane(request));
    assert_eq!((first, world.ledger.tree_size()), (second, size));
}

#[test]
fn a_second_signature_for_one_position_is_recorded_once_per_epoch() {
    let (mut world, mut collector) = World::with_collector();
    let fork = |text: &str, of: &Collector| of.batch_at(1, 1, Hash::ZERO, vec![event(text, "a").encode_to_vec().into()]);
    let forks = [fork("x", &collector), fork("y", &collector)];
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    let recorded = EntryIndex(world.ledger.tree_size().0);
    let refusal = Refusal::Equivocation { epoch: Epoch(1), sequence: Sequence(1), recorded };
    for fork in forks {
        assert_eq!(send(&mut world, fork), Err(refusal.clone()));
    }
    assert_eq!(world.ledger.tree_size().0, recorded.0 + 1);
    assert!(matches!(world.entry(recorded.0).body, Some(Body::Equivocation(_))));
}

#[test]
fn a_closing_batch_ends_the_epoch() {
    let (mut world, mut collector) = World::with_collector();
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    collector.append(&mut world, vec![]).unwrap();
    assert_eq!(collector.append(&mut world, vec![event("s", "a")]), Err(Refusal::EpochClosed(Epoch(1))));
    collector.open(&mut world).unwrap();
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
}

#[test]
fn a_batch_that_is_not_authentic_here_is_refused() {
    let (mut world, collector) = World::with_collector();
    let good = collector.batch(vec![event("s", "a").encode_to_vec().into()]);
    let forged = Err(Refusal::Forged { origin: ORIGIN.to_owned() });
    let unsigned = v1::Batch { signature: Vec::new(), ..good.clone() };
    let altered = v1::Batch { events: vec![event("t", "a").encode_to_vec().into()], ..good.clone() };
    let mut elsewhere = good.clone();
    elsewhere.signature = ed25519_dalek::Signer::sign(&collector.key, &signed_bytes("other.test/log", &good)).to_bytes().to_vec();
    for batch in [unsigned, altered, elsewhere] {
        assert_eq!(send(&mut world, batch), forged);
    }
    send(&mut world, good).unwrap();
}

#[test]
fn a_weak_key_that_fits_every_message_signs_nothing() {
    let (mut world, collector) = World::with_collector();
    // The neutral element as key and as R, and S = 0: the equation holds whatever was signed.
    let neutral = |length: usize| [vec![1], vec![0; length - 1]].concat();
    let good = collector.batch(vec![event("s", "a").encode_to_vec().into()]);
    let weak = v1::Batch { public_key: neutral(32), signature: neutral(64), ..good.clone() };
    let key = ed25519_dalek::VerifyingKey::from_bytes(weak.public_key.as_slice().try_into().unwrap()).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(&weak.signature).unwrap();
    ed25519_dalek::Verifier::verify(&key, &signed_bytes(ORIGIN, &weak), &signature).expect("a check that is not strict takes it");
    assert_eq!(send(&mut world, weak), Err(Refusal::Forged { origin: ORIGIN.to_owned() }));
    send(&mut world, good).unwrap();
}

#[test]
fn strangers_revoked_collectors_and_other_keys_are_refused() {
    let (mut world, mut collector) = World::with_collector();
    let mut stranger = Collector::new("stranger", 51);
    assert_eq!(stranger.open(&mut world), Err(Refusal::UnknownCollector("stranger".to_owned())));
    let mut thief = Collector { key: key(52), ..collector.clone() };
    assert_eq!(thief.append(&mut world, vec![event("s", "a")]), Err(Refusal::KeyNotRegistered(collector.id.clone())));
    let revoke = v1::RevokeCollector { collector_id: collector.id.clone(), reason: "lost".to_owned() };
    let at = world.command(&[ALICE], v1::command::Action::RevokeCollector(revoke)).unwrap();
    let refused = Refusal::CollectorRevoked { collector: collector.id.clone(), at: EntryIndex(at) };
    assert_eq!(collector.append(&mut world, vec![event("s", "a")]), Err(refused));
}

#[test]
fn events_outside_the_scope_are_rejected_and_still_consume_the_position() {
    let mut world = World::new();
    let mut collector = Collector::new("gateway-1", 50);
    let scope = v1::RegisterCollector { agents: vec!["a".to_owned()], ..collector.scope() };
    world.command(&[ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    collector.open(&mut world).unwrap();
    let tenant = v1::Event { tenant_id: "other".to_owned(), ..event("s", "a") };
    let vantage = v1::Event { vantage: v1::Vantage::IdpObserved.into(), ..event("s", "a") };
    let unattributed = v1::Event { attribution: None, ..event("s", "a") };
    let mut nameless = event("s", "a");
    nameless.attribution.as_mut().unwrap().initiator = None;
    let receipt = collector.append(&mut world, vec![tenant, event("s", "b"), vantage, unattributed, nameless, event("s", "a")]).unwrap();
    use v1::RejectionReason::{AgentOutOfScope, TenantOutOfScope, Unattributed, Unspecified, VantageOutOfScope};
    assert_eq!(rejections(&receipt), [TenantOutOfScope, AgentOutOfScope, VantageOutOfScope, Unattributed, Unattributed, Unspecified]);
    assert_eq!(receipt.events[5].session_position, 0);
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
}

#[test]
fn bytes_that_are_no_canonical_event_are_rejected() {
    let (mut world, mut collector) = World::with_collector();
    let good = event("s", "a").encode_to_vec();
    let unknown_field = [good.as_slice(), &[0xf8, 0x07, 0x01]].concat();
    let default_written_out = [good.as_slice(), &[0x20, 0x00]].concat();
    let oversize = v1::Event {
        body: Some(v1::event::Body::Annotation(v1::Annotation { key: "k".to_owned(), value: "v".repeat(60_000) })),
        ..event("s", "a")
    };
    let events = vec![good[..good.len() - 1].to_vec(), unknown_field, default_written_out, Vec::new(), oversize.encode_to_vec(), good];
    let receipt = collector.append_bytes(&mut world, events.into_iter().map(Into::into).collect()).unwrap();
    use v1::RejectionReason::{Malformed, Oversize, Unspecified};
    assert_eq!(rejections(&receipt), [Malformed, Malformed, Malformed, Malformed, Oversize, Unspecified]);
}

#[test]
fn an_event_that_says_why_it_is_unattributed_is_recorded_and_marked() {
    let (mut world, mut collector) = World::with_collector();
    let reason = v1::UnattributedReason::NoIdentityInSource.into();
    let attribution = Some(v1::Attribution { unattributed: reason, ..Default::default() });
    let receipt = collector.append(&mut world, vec![v1::Event { attribution, ..event("s", "") }]).unwrap();
    assert_eq!(rules(&receipt.events[0]), ["built-in/unattributed"]);
}

#[test]
fn observed_times_far_from_committed_time_are_recorded_and_marked() {
    let (mut world, mut collector) = World::with_collector();
    world.command(&[ALICE], register_agent("a")).unwrap();
    let observed = [0, START_NS, START_NS + HOUR_NS, START_NS + HOUR_NS + 1, u64::MAX];
    let events = observed.map(|at| v1::Event { observed_unix_ns: at, ..event("s", "a") });
    let receipt = collector.append(&mut world, events.to_vec()).unwrap();
    let marked: Vec<usize> = receipt.events.iter().map(|event| event.findings.len()).collect();
    assert_eq!(marked, [1, 0, 0, 1, 1]);
    assert_eq!(rules(&receipt.events[4]), ["built-in/observed-time-gap"]);
}

#[test]
fn a_used_up_quota_refuses_the_whole_batch_until_the_next_hour() {
    let mut world = World::new();
    let mut collector = Collector::new("gateway-1", 50);
    let scope = v1::RegisterCollector { events_per_hour: 5, sessions_per_hour: 2, ..collector.scope() };
    world.command(&[ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    collector.open(&mut world).unwrap();
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    let size = world.ledger.tree_size();
    let two_sessions = vec![event("t", "a"), event("u", "a")];
    assert!(matches!(collector.append(&mut world, two_sessions), Err(Refusal::QuotaExceeded { what: "sessions", limit: 2, .. })));
    assert_eq!(world.ledger.tree_size(), size);
    collector.append(&mut world, vec![event("s", "a"), event("s", "a")]).unwrap();
    let two = vec![event("s", "a"), event("s", "a")];
    let refused = collector.append(&mut world, two.clone());
    let Err(Refusal::QuotaExceeded { what: "events", limit: 5, retry_after_s }) = refused else { panic!("{refused:?}") };
    world.now += retry_after_s * SECOND_NS;
    collector.append(&mut world, two).unwrap();
}

#[test]
fn a_batch_larger_than_the_whole_hour_is_told_that_it_never_fits() {
    let mut world = World::new();
    let mut collector = Collector::new("gateway-1", 50);
    let scope = v1::RegisterCollector { events_per_hour: 3, sessions_per_hour: 2, ..collector.scope() };
    world.command(&[ALICE], v1::command::Action::RegisterCollector(scope.clone())).unwrap();
    collector.open(&mut world).unwrap();
    let size = world.ledger.tree_size();
    let refused = collector.append(&mut world, vec![event("s", "a"); 4]);
    assert_eq!(refused, Err(Refusal::BeyondQuota { what: "events", actual: 4, limit: 3 }));
    let refused = collector.append(&mut world, vec![event("s", "a"), event("t", "a"), event("u", "a")]);
    // Three events would fit the hour but for the opening: they are told to come again before their sessions are counted.
    assert!(matches!(refused, Err(Refusal::QuotaExceeded { what: "events", .. })));
    world.now += HOUR_NS;
    let refused = collector.append(&mut world, vec![event("s", "a"), event("t", "a"), event("u", "a")]);
    assert_eq!(refused, Err(Refusal::BeyondQuota { what: "sessions", actual: 3, limit: 2 }));
    assert_eq!(world.ledger.tree_size(), size);
    world.command(&[ALICE], v1::command::Action::RegisterCollector(v1::RegisterCollector { events_per_hour: 4, ..scope })).unwrap();
    collector.append(&mut world, vec![event("s", "a"); 4]).unwrap();
}

#[test]
fn what_events_commit_to_is_counted_and_what_is_too_long_to_be_kept_is_not() {
    let mut world = World::new();
    let mut collector = Collector::new("gateway-1", 50);
    let scope = v1::RegisterCollector { payload_bytes_per_hour: 3_000_000, ..collector.scope() };
    world.command(&[ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    collector.open(&mut world).unwrap();
    let committing = |sizes: &[u64]| {
        let of = |(n, size_bytes): (usize, &u64)| v1::Commitment {
            digest: vec![n as u8; 32],
            size_bytes: *size_bytes,
            ..crate::forgetting::commitment(b"", "")
        };
        v1::Event { payloads: sizes.iter().enumerate().map(of).collect(), ..event("s", "a") }
    };
    collector.append(&mut world, vec![committing(&[1_000_000, 2_000_000]), committing(&[1_000_000, 999_999])]).unwrap();
    let size = world.ledger.tree_size();
    let refused = collector.append(&mut world, vec![committing(&[2])]);
    assert!(matches!(refused, Err(Refusal::QuotaExceeded { what: "bytes of payloads", limit: 3_000_000, .. })), "{refused:?}");
    let refused = collector.append(&mut world, vec![committing(&[1_000_000; 4])]);
    assert!(matches!(refused, Err(Refusal::BeyondQuota { what: "bytes of payloads", actual: 4_000_000, .. })), "{refused:?}");
    assert_eq!(world.ledger.tree_size(), size);
    collector.append(&mut world, vec![committing(&[1, u64::MAX])]).unwrap();
    world.now += HOUR_NS;
    collector.append(&mut world, vec![committing(&[2])]).unwrap();
}

#[test]
fn each_opening_of_a_lane_costs_one_event_of_the_hour() {
    let mut world = World::new();
    let mut collector = Collector::new("gateway-1", 50);
    let scope = v1::RegisterCollector { events_per_hour: 3, ..collector.scope() };
    world.command(&[ALICE], v1::command::Action::RegisterCollector(scope)).unwrap();
    collector.open(&mut world).unwrap();
    collector.append(&mut world, vec![event("s", "a")]).unwrap();
    let last = collector.open_request();
    let opened = world.apply(peer::item::Item::OpenLane(last.clone()));
    assert!(matches!(opened, Outcome::Opened(_)), "{opened:?}");
    let size = world.ledger.tree_size();
    assert!(matches!(collector.open(&mut world), Err(Refusal::QuotaExceeded { what: "events", limit: 3, .. })));
    assert_eq!(world.ledger.tree_size(), size);
    // What was opened already has its answer, whatever is left of the hour.
    assert_eq!(world.apply(peer::item::Item::OpenLane(last)), opened);
    world.now += HOUR_NS;
    collector.open(&mut world).unwrap();
}

#[test]
fn the_newest_sixteen_openings_of_a_lane_are_remembered() {
    let (mut world, mut collector) = World::with_collector();
    let requests: Vec<_> = (0..16).map(|_| collector.open_request()).collect();
    let open = |world: &mut World, n: usize| match world.apply(peer::item::Item::OpenLane(requests[n].clone())) {
        Outcome::Opened(opened) => opened.epoch,
        other => panic!("{other:?}"),
    };
    let rows = |world: &World| {
        let all = KeyRange { from: &[], to: &[0xff; 64] };
        world.store.scan(Table::LaneNonces, all, Direction::Ascending, usize::MAX).unwrap().len()
    };
    let epochs: Vec<u64> = (0..16).map(|n| open(&mut world, n)).collect();
    assert_eq!(epochs, (2..=17).collect::<Vec<_>>());
    assert_eq!((0..16).map(|n| open(&mut world, n)).collect::<Vec<_>>(), epochs);
    assert_eq!(rows(&world), 16);
    let newest = collector.open(&mut world).unwrap();
    assert_eq!((newest.epoch, rows(&world)), (18, 16));
    assert_eq!(open(&mut world, 0), 19, "an opening beyond the newest sixteen is a new one");
}

#[test]
fn a_batch_beyond_the_limits_is_refused_whole() {
    let (mut world, collector) = World::with_collector();
    let many = collector.batch(vec![vec![1].into(); 4097]);
    assert!(matches!(send(&mut world, many), Err(Refusal::TooLarge { actual: 4097, limit: 4096, .. })));
    let large = collector.batch(vec![vec![1; 2 << 20].into(), vec![1; (2 << 20) + 1].into()]);
    assert!(matches!(send(&mut world, large), Err(Refusal::TooLarge { what: "bytes of events in the batch", .. })));
    let mut lane = collector.clone();
    lane.lane = 64;
    assert!(matches!(lane.open(&mut world), Err(Refusal::TooLarge { what: "lane", actual: 64, limit: 63 })));
}

#[test]
fn any_bytes_at_all_have_an_outcome() {
    let (mut world, _) = World::with_collector();
    for bytes in [&[][..], &[0xff; 40], &[0x12, 0x00], &[0x12, 0x02, 0x0a, 0x00], &[0x12, 0x02, 0x22, 0x00]] {
        let size = world.ledger.tree_size();
        let outcomes = world.apply_bytes(bytes.to_vec().into());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_))), "{outcomes:?}");
        assert_eq!(world.ledger.tree_size(), size);
    }
    assert!(PreparedGroup::decode(&vec![0xff; 9].into(), ORIGIN).items.len() == 1);
}

#[test]
fn committed_time_never_goes_backwards() {
    let (mut world, mut collector) = World::with_collector();
    let before = world.time();
    world.now -= HOUR_NS;
    let receipt = collector.append(&mut world, vec![event("s", "a")]).unwrap();
    assert_eq!(world.entry(receipt.first_index).committed_unix_ns, before.0);
}

fn register_agent(agent: &str) -> v1::command::Action {
    v1::command::Action::RegisterAgent(v1::RegisterAgent { tenant_id: TENANT.to_owned(), agent_id: agent.to_owned(), ..Default::default() })
}
