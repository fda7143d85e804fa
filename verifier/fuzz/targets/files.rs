//! Files that are recognised by their content, and the entries in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../forms.rs"]
#[allow(dead_code)]
mod forms;

fuzz_target!(|bytes: &[u8]| forms::files(bytes));
