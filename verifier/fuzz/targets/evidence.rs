//! Files of evidence, as zip files and as pages for people.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../forms.rs"]
#[allow(dead_code)]
mod forms;

fuzz_target!(|bytes: &[u8]| forms::evidence(bytes));
