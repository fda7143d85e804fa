use ed25519_dalek::{Signer as _, SigningKey};
use proofline_verifier::{Checkpoint, KeyName, NoteSignature, SignatureType, TreeHash as _, VerifierKey};

use super::*;
use crate::{Endpoint, Profile, RetryPolicy};

const ORIGIN: &str = "ledger.example/agents";

fn log_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn verifier_key(of: &SigningKey, kind: SignatureType) -> VerifierKey {
    VerifierKey::new(KeyName::parse(ORIGIN).unwrap(), kind, of.verifying_key().as_bytes()).unwrap()
}

fn policy() -> Policy {
    let log = verifier_key(&log_key(), SignatureType::Ed25519);
    Policy::parse(format!("log {log}\nquorum none\n").as_bytes()).unwrap()
}

fn note(size: u64, root: u8) -> Vec<u8> {
    let checkpoint = Checkpoint { origin: KeyName::parse(ORIGIN).unwrap(), size: TreeSize(size), root: LogHash::from_bytes([root; 32]) };
    let (text, key) = (checkpoint.note_text(), verifier_key(&log_key(), SignatureType::Ed25519));
    let signature = log_key().sign(text.as_bytes()).to_vec();
    let line = NoteSignature { name: key.name().clone(), id: key.id(), signature };
    proofline_verifier::SignedNote::new(text, vec![line]).unwrap().encode().into_bytes()
}

/// A client of nobody: comparisons that need no proof never ask.
fn nobody() -> Client {
    let profile = Profile {
        path: "unused".into(),
        origin: ORIGIN.to_owned(),
        endpoints: vec![Endpoint::parse("http://127.0.0.1:9").unwrap()],
        policy: "unused".into(),
        tls: None,
    };
    let at_once = RetryPolicy { within: std::time::Duration::ZERO, attempt: std::time::Duration::from_secs(1) };
    Client::connect(&profile, at_once).unwrap()
}

struct World {
    directory: tempfile::TempDir,
    held: HeldCheckpoints,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let held = HeldCheckpoints::at(&directory.path().join("held.json"));
        Self { directory, held }
    }

    async fn compare(&self, note: &[u8]) -> Result<Comparison, HeldError> {
        self.held.compare(&nobody(), &policy(), note).await.map(|(_, comparison)| comparison)
    }
}

#[tokio::test]
async fn the_first_checkpoint_is_remembered() {
    let world = World::new();
    assert_eq!(world.compare(&note(5, 1)).await.unwrap(), Comparison::First);
    assert_eq!(world.held.newest(ORIGIN).unwrap().unwrap().into_bytes(), note(5, 1));
    assert_eq!(world.compare(&note(5, 1)).await.unwrap(), Comparison::Same);
}

#[tokio::test]
async fn another_root_at_the_same_size_is_a_rewritten_log() {
    let world = World::new();
    world.compare(&note(5, 1)).await.unwrap();
    let found = world.compare(&note(5, 2)).await.unwrap_err();
    assert_eq!(found.outcome(), Outcome::Failed);
    let kept = fs::read(world.directory.path().join("held.json.contradiction-5")).unwrap();
    assert_eq!(kept, note(5, 2));
    assert_eq!(world.held.newest(ORIGIN).unwrap().unwrap().into_bytes(), note(5, 1));
}

#[tokio::test]
async fn a_larger_checkpoint_without_proof_is_not_accepted() {
    let world = World::new();
    world.compare(&note(5, 1)).await.unwrap();
    assert!(matches!(world.compare(&note(6, 1)).await, Err(HeldError::Call(_))));
    assert_eq!(world.held.newest(ORIGIN).unwrap().unwrap().into_bytes(), note(5, 1));
}

#[tokio::test]
async fn an_unsigned_checkpoint_is_not_remembered() {
    let world = World::new();
    let mut forged = note(5, 1);
    let end = forged.len() - 10;
    forged[end] ^= 1;
    assert!(matches!(world.compare(&forged).await, Err(HeldError::Untrusted(_))));
    assert_eq!(world.held.newest(ORIGIN).unwrap(), None);
}

#[test]
fn a_checkpoint_that_changed_since_it_was_compared_is_not_replaced() {
    let world = World::new();
    let shown = policy().verify_checkpoint(&note(5, 1)).unwrap();
    assert_eq!(world.held.replace(&shown, None, &note(5, 1)).unwrap(), Replaced::Done);
    assert_eq!(world.held.replace(&shown, None, &note(5, 1)).unwrap(), Replaced::ChangedMeanwhile);
}

#[test]
fn a_file_of_another_form_is_refused() {
    let world = World::new();
    fs::write(world.directory.path().join("held.json"), "{\"schema\":\"proofline.held/v9\",\"checkpoints\":{}}").unwrap();
    assert!(matches!(world.held.newest(ORIGIN), Err(HeldError::Form { .. })));
}
