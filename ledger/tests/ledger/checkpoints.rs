//! Which notes become the published one: those that more than half of the registered nodes stand behind.

use ed25519_dalek::Signer as _;
use proofline_ledger::{LogTree, Outcome, Refusal, TreeSize, listing};
use proofline_proto::{peer, v1};
use proofline_verifier::{Checkpoint, KeyName, LogHash, NoteSignature, SignatureType, SignedNote, TreeHash as _, VerifierKey};
use v1::command::Action;

use crate::world::*;

fn text(world: &World, origin: &str, size: u64) -> String {
    let root = LogTree::new(&world.store, TreeSize(size)).root().unwrap();
    let origin = KeyName::parse(origin).unwrap();
    Checkpoint { origin, size: proofline_verifier::TreeSize(size), root: LogHash::from_bytes(root.0) }.note_text()
}

/// The line of a node with the key that `seed` makes, over `signed`.
fn line(node: u8, seed: u8, signed: &str) -> NoteSignature {
    let name = KeyName::parse(&format!("node-{node}.test")).unwrap();
    let key_of_node = VerifierKey::new(name, SignatureType::CosignatureV1, &public(&key(seed))).unwrap();
    let signature = key(seed).sign(&proofline_verifier::cosignature_signed_bytes(1_700_000_100, signed)).to_bytes();
    NoteSignature::of_cosigner(&key_of_node, 1_700_000_100, &signature)
}

fn note(text: &str, nodes: &[u8]) -> Vec<u8> {
    let lines = nodes.iter().map(|node| line(*node, 20 + node, text)).collect();
    SignedNote::new(text.to_owned(), lines).unwrap().encode().into_bytes()
}

fn publish(world: &mut World, note: Vec<u8>) -> Outcome {
    world.apply(peer::item::Item::Checkpoint(note))
}

fn not_cosigned(cosigned: usize, nodes: usize) -> Outcome {
    Outcome::Refused(Refusal::CheckpointNotCosigned { cosigned, nodes })
}

#[test]
fn a_note_that_a_majority_cosigned_is_published_once() {
    let mut world = World::new();
    let note = note(&text(&world, ORIGIN, 1), &[1, 3]);
    assert_eq!(publish(&mut world, note.clone()), Outcome::Published);
    assert_eq!(listing::checkpoint(&world.store).unwrap(), Some(note.clone()));
    assert_eq!(publish(&mut world, note), Outcome::Refused(Refusal::CheckpointNotNewer { published: 1 }));
}

#[test]
fn a_note_that_too_few_cosigned_is_not() {
    let mut world = World::new();
    let text = text(&world, ORIGIN, 1);
    assert_eq!(publish(&mut world, note(&text, &[2])), not_cosigned(1, 3));
    // Node 9 is nobody here.
    assert_eq!(publish(&mut world, note(&text, &[2, 9])), not_cosigned(1, 3));
    // Another key under the name of node 1, and a signature of node 1 over another text.
    for other in [line(1, 90, &text), line(1, 21, "another text\n")] {
        let forged = SignedNote::new(text.clone(), vec![line(2, 22, &text), other]).unwrap().encode().into_bytes();
        assert_eq!(publish(&mut world, forged), not_cosigned(1, 3));
    }
    // One node counts once, however often its line stands there.
    let once = String::from_utf8(note(&text, &[2])).unwrap();
    let twice = format!("{once}{}\n", once.lines().last().unwrap());
    assert_eq!(publish(&mut world, twice.into_bytes()), not_cosigned(1, 3));
    assert_eq!(listing::checkpoint(&world.store).unwrap(), None);
}

#[test]
fn a_retired_node_stands_behind_nothing() {
    let mut world = World::new();
    let retire = Action::RetireNode(v1::RetireNode { node_id: 3, reason: "gone".to_owned() });
    world.command(&[ALICE, BOB], retire).unwrap();
    let text = text(&world, ORIGIN, 2);
    assert_eq!(publish(&mut world, note(&text, &[1, 3])), not_cosigned(1, 2));
    assert_eq!(publish(&mut world, note(&text, &[1, 2])), Outcome::Published);
}

#[test]
fn a_note_about_another_log_or_beyond_this_one_is_malformed() {
    let mut world = World::new();
    let malformed = Outcome::Refused(Refusal::Malformed("checkpoint"));
    let own = text(&world, ORIGIN, 1);
    let beyond = own.replacen("\n1\n", "\n2\n", 1);
    let padded = own.replacen("\n1\n", "\n01\n", 1);
    let extended = format!("{own}more\n");
    for text in [text(&world, "ledger.test/other", 1), beyond, padded, extended] {
        assert_eq!(publish(&mut world, note(&text, &[1, 2, 3])), malformed, "{text}");
    }
    let mut trailed = note(&own, &[1, 2, 3]);
    trailed.extend_from_slice(b"no signature\n");
    assert_eq!(publish(&mut world, trailed), malformed);
    for bytes in [&b""[..], b"\n\n", b"\xff", own.as_bytes(), b"a\n1\nb\n\n"] {
        assert_eq!(publish(&mut world, bytes.to_vec()), malformed);
    }
}
