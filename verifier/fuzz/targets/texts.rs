//! Notes, checkpoints, policies, keys and proofs in text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proofline_verifier::{Checkpoint, ConsistencyProof, Policy, SignedNote, TlogProof, VerifierKey};

fuzz_target!(|bytes: &[u8]| {
    let _ = Policy::parse(bytes).map(|policy| policy.encode());
    let _ = TlogProof::parse(bytes).map(|proof| proof.encode());
    let _ = ConsistencyProof::parse(bytes).map(|proof| proof.encode());
    if let Ok(note) = SignedNote::parse(bytes) {
        assert_eq!(note.encode().as_bytes(), bytes);
        let _ = Checkpoint::parse_text(note.text()).map(|checkpoint| checkpoint.note_text());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = VerifierKey::parse(text).map(|key| key.id());
    }
});
