//! Pages of answers, under a checkpoint that is trusted: what the network brings to a client.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proofline_proto::v1;
use proofline_verifier::{AnswerVerifier, Policy, decode_canonical};

const POLICY: &[u8] = include_bytes!("../../vectors/two-of-three.policy");
const CHECKPOINT: &[u8] = include_bytes!("../../vectors/older.checkpoint");

fuzz_target!(|bytes: &[u8]| {
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
});
