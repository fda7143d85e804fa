//! Notes, checkpoints, policies, keys and proofs in text.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../forms.rs"]
#[allow(dead_code)]
mod forms;

fuzz_target!(|bytes: &[u8]| forms::texts(bytes));
