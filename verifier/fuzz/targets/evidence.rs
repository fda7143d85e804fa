//! Files of evidence, as zip files and as pages for people.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proofline_verifier::{HtmlReport, Manifest, Policy};

const POLICY: &[u8] = include_bytes!("../../vectors/two-of-three.policy");

fuzz_target!(|bytes: &[u8]| {
    let Ok(policy) = Policy::parse(POLICY) else { return };
    let mut page = HtmlReport::default();
    let report = page.verify("file", bytes, &policy, None);
    let rendered = page.render().is_some();
    assert_eq!(rendered, report.integrity() == proofline_verifier::Integrity::Verified);
    let _ = Manifest::parse(bytes);
});
