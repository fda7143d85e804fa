//! What the verifier reads, a function for each fuzz target. The tests of the verifier give them altered vectors too, so that
//! every compiler runs them.

use proofline_proto::v1;
use proofline_verifier::{
    AnswerVerifier, Checkpoint, ConsistencyProof, EntryKeys, HtmlReport, Integrity, LogEntry, Manifest, Policy, SignedNote, TlogProof,
    VerifierKey, decode_canonical, verify,
};

const POLICY: &[u8] = include_bytes!("../vectors/two-of-three.policy");
const CHECKPOINT: &[u8] = include_bytes!("../vectors/older.checkpoint");

/// Pages of answers, under a checkpoint that is trusted: what the network brings to a client.
pub(crate) fn answer(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(POLICY) else { return };
    let Ok(checkpoint) = policy.verify_checkpoint(CHECKPOINT) else { return };
    let Ok(mut page) = decode_canonical::<v1::LineagePage>("LineagePage", bytes) else { return };
    page.checkpoint = CHECKPOINT.to_vec();
    let mut answer = AnswerVerifier::new(checkpoint, CHECKPOINT);
    for number in 0..3 {
        page.number = number;
        if answer.push(&page).is_err() {
            return;
        }
    }
    let _ = answer.finish();
}

/// Files of evidence, as zip files and as pages for people.
pub(crate) fn evidence(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(POLICY) else { return };
    let mut page = HtmlReport::default();
    let report = page.verify("file", bytes, &policy, None);
    let rendered = page.render().is_some();
    assert_eq!(rendered, report.integrity() == Integrity::Verified);
    let _ = Manifest::parse(bytes);
}

/// Files that are recognised by their content, and the entries in them.
pub(crate) fn files(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(POLICY) else { return };
    let _ = verify(bytes, &policy, None).to_string();
    if let Ok(entry) = LogEntry::parse(bytes) {
        let _ = EntryKeys::of(&entry);
    }
}

/// Notes, checkpoints, policies, keys and proofs in text.
pub(crate) fn texts(bytes: &[u8]) {
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
}
