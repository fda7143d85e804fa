//! Pages of answers, under a checkpoint that is trusted: what the network brings to a client.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../forms.rs"]
#[allow(dead_code)]
mod forms;

fuzz_target!(|bytes: &[u8]| forms::answer(bytes));
