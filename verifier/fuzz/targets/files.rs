//! Files that are recognised by their content, and the entries in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proofline_verifier::{EntryKeys, LogEntry, Policy, verify};

const POLICY: &[u8] = include_bytes!("../../vectors/two-of-three.policy");

fuzz_target!(|bytes: &[u8]| {
    let Ok(policy) = Policy::parse(POLICY) else { return };
    let _ = verify(bytes, &policy, None).to_string();
    if let Ok(entry) = LogEntry::parse(bytes) {
        let _ = EntryKeys::of(&entry);
    }
});
