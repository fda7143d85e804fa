use std::time::{Duration, UNIX_EPOCH};

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_verifier::{Checkpoint, KeyName, NoteSignature, SignatureType, SignedNote, VerifierKey};
use prost::Message as _;
use v1::command::Action;

use super::*;
use crate::{Signatory, policy_of, sign_command};

const ORIGIN: &str = "ledger.example/agents";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> Vec<u8> {
    key(seed).verifying_key().to_bytes().to_vec()
}

fn node(node_id: u64) -> v1::NodeKey {
    v1::NodeKey { node_id, name: format!("ledger.example/node-{node_id}"), public_key: public(100 + node_id as u8) }
}

fn genesis() -> v1::Genesis {
    let operator = |(id, seed): (&str, u8)| v1::OperatorKey {
        operator_id: id.to_owned(),
        public_key: public(seed),
        roles: vec![v1::OperatorRole::Registrar.into()],
        ..Default::default()
    };
    v1::Genesis {
        origin: ORIGIN.to_owned(),
        apply_version: 1,
        log_public_key: public(1),
        operators: [("alice", 2), ("bob", 3)].map(operator).to_vec(),
        nodes: [1, 2, 3].map(node).to_vec(),
        grants: Vec::new(),
    }
}

fn command(action: Action, signers: &[(&str, u8)]) -> Body {
    let signatory = |(id, seed): &(&str, u8)| Signatory { operator_id: (*id).to_owned(), key: key(*seed) };
    let signatories: Vec<Signatory> = signers.iter().map(signatory).collect();
    Body::Command(sign_command(ORIGIN, action, UNIX_EPOCH + Duration::from_secs(1_800_000_000), &signatories).unwrap())
}

const BOTH: [(&str, u8); 2] = [("alice", 2), ("bob", 3)];

fn retired(node_id: u64) -> Body {
    command(Action::RetireNode(v1::RetireNode { node_id, reason: "disk lost".to_owned() }), &BOTH)
}

fn registered(node_id: u64, signers: &[(&str, u8)]) -> Body {
    command(Action::RegisterNode(v1::RegisterNode { node: Some(node(node_id)) }), signers)
}

fn log(bodies: impl IntoIterator<Item = Body>) -> Vec<Vec<u8>> {
    let exact = |(index, body)| {
        let core = v1::EntryCore { index, body: Some(body), ..Default::default() };
        v1::Entry { core: core.encode_to_vec().into(), ..Default::default() }.encode_to_vec()
    };
    (0..).zip(std::iter::once(Body::Genesis(genesis())).chain(bodies)).map(exact).collect()
}

/// The checkpoint over these entries, under the log key and nobody's cosignature.
fn checkpoint(entries: &[Vec<u8>]) -> VerifiedCheckpoint {
    let mut tree = Frontier::<LogHash>::default();
    entries.iter().for_each(|entry| tree.push(LogHash::leaf(entry)));
    let text = Checkpoint { origin: KeyName::parse(ORIGIN).unwrap(), size: tree.size(), root: tree.root() }.note_text();
    let log = VerifierKey::new(KeyName::parse(ORIGIN).unwrap(), SignatureType::Ed25519, &public(1)).unwrap();
    let line = NoteSignature::of_log(&log, &key(1).sign(text.as_bytes()).to_bytes());
    let note = SignedNote::new(text, vec![line]).unwrap().encode();
    Policy::parse(format!("log {log}\nquorum none\n").as_bytes()).unwrap().verify_checkpoint(note.as_bytes()).unwrap()
}

fn policy(entries: &[Vec<u8>], of: &VerifiedCheckpoint) -> Result<Policy, RegisteredError> {
    let mut registrations = Registrations::default();
    entries.iter().try_for_each(|entry| registrations.take(entry))?;
    registrations.policy(of)
}

#[test]
fn a_new_ledger_has_the_policy_of_its_genesis() {
    let entries = log([]);
    assert_eq!(policy(&entries, &checkpoint(&entries)).unwrap(), policy_of(&genesis()).unwrap());
}

#[test]
fn a_replaced_node_is_replaced_in_the_policy() {
    let entries = log([retired(3), registered(4, &BOTH)]);
    let text = policy(&entries, &checkpoint(&entries)).unwrap().encode();
    let names = "ledger.example/node-1 ledger.example/node-2 ledger.example/node-4";
    assert!(text.ends_with(&format!("group nodes 2 {names}\nquorum nodes\n")), "{text}");
    assert!(!text.contains("node-3"), "{text}");
}

#[test]
fn a_node_that_one_person_registered_is_in_no_policy() {
    let entries = log([registered(4, &BOTH[..1])]);
    let refused = policy(&entries, &checkpoint(&entries)).unwrap_err();
    assert!(matches!(refused, RegisteredError::Command(CommandError::TooFewSigners { .. })), "{refused}");
    assert_eq!(refused.outcome(), Outcome::Failed);
}

#[test]
fn entries_that_are_not_the_checkpoints_give_no_policy() {
    let (entries, others) = (log([retired(3)]), log([retired(2)]));
    let refused = policy(&others, &checkpoint(&entries)).unwrap_err();
    assert!(matches!(refused, RegisteredError::OtherTree { size: TreeSize(2) }), "{refused}");
    assert!(matches!(policy(&entries[1..], &checkpoint(&entries)), Err(RegisteredError::Entry { .. })), "another index");
}
