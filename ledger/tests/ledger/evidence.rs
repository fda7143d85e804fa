//! What the ledger builds, the verifier accepts; what is altered, it rejects. The two share no code.

use ed25519_dalek::Signer as _;
use proofline_ledger::{
    EntryIndex, Hash, LogTree, Position, SignedBatch, TreeSize, entry, listing, session_at, session_entries, session_path,
};
use proofline_proto::v1;
use proofline_verifier::{
    Checkpoint, Completeness, Integrity, KeyName, LogHash, NoteSignature, Policy, SESSION_EVIDENCE_FORMAT, SignatureType, SignedNote,
    Threshold, TreeHash as _, VerifierKey, cosignature_signed_bytes, verify,
};
use proptest::prelude::*;
use prost::Message as _;
use v1::{command::Action, entry_core::Body};

use crate::world::*;

fn verifier_key(name: &str, signature_type: SignatureType, seed: u8) -> VerifierKey {
    VerifierKey::new(KeyName::parse(name).unwrap(), signature_type, &public(&key(seed))).unwrap()
}

fn node_key(node: u8) -> VerifierKey {
    verifier_key(&format!("node-{node}.test"), SignatureType::CosignatureV1, 20 + node)
}

pub fn policy() -> Policy {
    let log = verifier_key(ORIGIN, SignatureType::Ed25519, 10);
    Policy::of_cluster(log, (1..=3).map(node_key).collect(), Threshold::Of(2)).unwrap()
}

/// Signs the tree of the world as the log and two of its nodes.
pub fn checkpoint(world: &World, size: TreeSize) -> Vec<u8> {
    let root = LogTree::new(&world.store, size).root().unwrap();
    let origin = KeyName::parse(ORIGIN).unwrap();
    let head = Checkpoint { origin, size: proofline_verifier::TreeSize(size.0), root: LogHash::from_bytes(root.0) };
    let text = head.note_text();
    let log = verifier_key(ORIGIN, SignatureType::Ed25519, 10);
    let mut signatures = vec![NoteSignature::of_log(&log, &key(10).sign(text.as_bytes()).to_bytes())];
    for node in 1..=2 {
        let signature = key(20 + node).sign(&cosignature_signed_bytes(1_700_000_100, &text)).to_bytes();
        signatures.push(NoteSignature::of_cosigner(&node_key(node), 1_700_000_100, &signature));
    }
    SignedNote::new(text, signatures).unwrap().encode().into_bytes()
}

fn bytes(path: &[Hash]) -> Vec<Vec<u8>> {
    path.iter().map(|hash| hash.0.to_vec()).collect()
}

fn proven(world: &World, index: EntryIndex, size: TreeSize) -> v1::ProvenEntry {
    let path = LogTree::new(&world.store, size).inclusion_path(index).unwrap().unwrap();
    v1::ProvenEntry { index: index.0, entry: listing::entry(&world.store, index).unwrap().unwrap(), log_path: bytes(&path) }
}

fn session_evidence(world: &World, session: &str, size: TreeSize) -> v1::SessionEvidence {
    let found = session_at(&world.store, TENANT, session, size).unwrap().unwrap();
    let mut statements: Vec<v1::BatchStatement> = Vec::new();
    let mut members = Vec::new();
    for (index, _) in session_entries(&world.store, &found, Position(0), usize::MAX).unwrap() {
        let exact = listing::entry(&world.store, index).unwrap().unwrap();
        let Some(Body::Event(event)) = entry::parse(&exact).unwrap().1.body else {
            members.push(v1::SessionMember { entry: exact, ..Default::default() });
            continue;
        };
        let at = event.at.unwrap();
        let batch = SignedBatch::find(&world.store, &at).unwrap();
        let statement = statements.iter().position(|held| *held == batch.statement).unwrap_or_else(|| {
            statements.push(batch.statement.clone());
            statements.len() - 1
        });
        let batch_path = bytes(&batch.path(at.offset).unwrap());
        members.push(v1::SessionMember { entry: exact, statement: statement as u32, batch_path });
    }
    let registrations = listing::registrations(&world.store, "gateway-1", size).unwrap();
    v1::SessionEvidence {
        format: SESSION_EVIDENCE_FORMAT.to_owned(),
        origin: ORIGIN.to_owned(),
        tenant_id: TENANT.to_owned(),
        session_id: session.to_owned(),
        checkpoint: checkpoint(world, size),
        members,
        statements,
        last: Some(proven(world, found.last, size)),
        registrations: registrations.into_iter().map(|index| proven(world, index, size)).collect(),
    }
}

fn seal(session: &str) -> Action {
    Action::SealSession(v1::SealSession { tenant_id: TENANT.to_owned(), session_id: session.to_owned(), reason: String::new() })
}

/// A ledger with sessions over several batches, rejections among them, a rotated key, and one sealed session.
fn eventful() -> World {
    let (mut world, mut collector) = World::with_collector();
    for round in 0..30 {
        if round == 12 {
            collector.key = key(61);
            world.command(&[ALICE], collector.registration()).unwrap();
        }
        let mut events: Vec<prost::bytes::Bytes> = (0..11).map(|n| event(&format!("s{}", n % 3), "a").encode_to_vec().into()).collect();
        events.insert(round % 11, vec![0xff, round as u8].into());
        collector.append_bytes(&mut world, events).unwrap();
    }
    world.command(&[RESPONDER], seal("s1")).unwrap();
    collector.append(&mut world, vec![event("s0", "a")]).unwrap();
    world
}

#[test]
fn whole_sessions_verify_at_every_size_that_covers_them() {
    let world = eventful();
    let size = world.ledger.tree_size();
    for session in ["s0", "s1", "s2"] {
        for size in [size, TreeSize(size.0 - 5), TreeSize(size.0 / 2), TreeSize(100)] {
            let evidence = session_evidence(&world, session, size).encode_to_vec();
            let report = verify(&evidence, &policy(), None);
            assert_eq!(report.integrity(), Integrity::Verified, "{session} at {size}:\n{report}");
        }
    }
    let complete = verify(&session_evidence(&world, "s1", size).encode_to_vec(), &policy(), None);
    assert_eq!(complete.completeness, Completeness::Complete, "a sealed session is all there is of it");
    let open = verify(&session_evidence(&world, "s0", size).encode_to_vec(), &policy(), None);
    assert_ne!(open.completeness, Completeness::Complete);
}

#[test]
fn one_place_of_a_session_verifies_across_chunks() {
    let (mut world, mut collector) = World::with_collector();
    for _ in 0..25 {
        collector.append(&mut world, (0..100).map(|_| event("s", "a")).collect()).unwrap();
    }
    let size = world.ledger.tree_size();
    let session = session_at(&world.store, TENANT, "s", size).unwrap().unwrap();
    for position in [0, 1, 1023, 1024, 2047, 2048, 2499] {
        let (index, _) = session_entries(&world.store, &session, Position(position), 1).unwrap()[0];
        let proof = v1::SessionProof {
            checkpoint: checkpoint(&world, size),
            position,
            session_size: session.size,
            entry: listing::entry(&world.store, index).unwrap().unwrap(),
            session_path: bytes(&session_path(&world.store, &session, Position(position)).unwrap().unwrap()),
            last: Some(proven(&world, session.last, size)),
        };
        let report = verify(&proof.encode_to_vec(), &policy(), None);
        assert_eq!(report.integrity(), Integrity::Verified, "{position}:\n{report}");
        let moved = v1::SessionProof { position: (position + 1) % session.size, ..proof };
        assert_ne!(verify(&moved.encode_to_vec(), &policy(), None).integrity(), Integrity::Verified);
    }
}

#[test]
fn an_entry_dropped_added_or_reordered_is_proven_wrong() {
    let world = eventful();
    let good = session_evidence(&world, "s2", world.ledger.tree_size());
    let wrong = |change: fn(&mut v1::SessionEvidence)| {
        let mut evidence = good.clone();
        change(&mut evidence);
        verify(&evidence.encode_to_vec(), &policy(), None).integrity()
    };
    assert_eq!(wrong(|it| drop(it.members.remove(7))), Integrity::ProvenWrong);
    assert_eq!(wrong(|it| it.members.swap(7, 8)), Integrity::ProvenWrong);
    assert_eq!(wrong(|it| it.members.push(it.members[3].clone())), Integrity::ProvenWrong);
    assert_ne!(wrong(|it| it.members.truncate(20)), Integrity::Verified);
    assert_ne!(wrong(|it| it.registrations.truncate(1)), Integrity::Verified);
    assert_ne!(wrong(|it| it.statements[0].signature[0] ^= 1), Integrity::Verified);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_altered_bit_of_evidence_verifies(at in any::<prop::sample::Index>()) {
        let world = {
            let (mut world, mut collector) = World::with_collector();
            collector.append(&mut world, (0..9).map(|n| event(&format!("s{}", n % 2), "a")).collect()).unwrap();
            world.command(&[RESPONDER], seal("s0")).unwrap();
            world
        };
        let mut evidence = session_evidence(&world, "s0", world.ledger.tree_size()).encode_to_vec();
        prop_assert_eq!(verify(&evidence, &policy(), None).integrity(), Integrity::Verified);
        let bit = at.index(evidence.len() * 8);
        evidence[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(verify(&evidence, &policy(), None).integrity(), Integrity::Verified);
    }
}
