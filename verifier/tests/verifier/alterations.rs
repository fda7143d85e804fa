//! Random damage: whatever is altered, a file never verifies with another meaning.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proofline_verifier::{Fact, HeldCheckpoint, Integrity, Policy, Report, verify, verify_cose_receipt};
use proptest::prelude::*;

use crate::evidence_file::{EvidenceFile, around_main, lineage};
use crate::vectors;
use crate::world;

/// What evidence says, without who cosigned: a damaged cosignature line that the quorum does not need may be ignored.
fn meaning(of: &Report) -> Vec<Fact> {
    of.facts.iter().filter(|fact| fact.name != "cosigned by").cloned().collect()
}

fn policy() -> Policy {
    Policy::parse(world::policy().as_bytes()).unwrap()
}

fn check(original: &[u8], altered: &[u8], how: &str) {
    let report = verify(altered, &policy(), None);
    if altered != original && report.integrity() == Integrity::Verified {
        assert_eq!(meaning(&report), meaning(&verify(original, &policy(), None)), "{how}");
    }
}

static FILES: LazyLock<BTreeMap<String, Vec<u8>>> =
    LazyLock::new(|| vectors::valid().into_iter().map(|vector| (vector.file, vector.bytes)).collect());

#[test]
fn no_single_bit_of_a_tlog_proof_changes_what_verifies() {
    flip_each("event.tlog-proof", 1);
}

#[test]
fn no_single_bit_of_a_session_proof_changes_what_verifies() {
    flip_each("event.session-proof", 1);
}

#[test]
fn no_single_byte_of_session_evidence_changes_what_verifies() {
    flip_each("sealed.session-evidence", 7);
}

#[test]
fn no_single_bit_of_a_receipt_that_a_checkpoint_binds_verifies() {
    let read = |name: &str| std::fs::read(format!("{}/vectors/{name}", std::env::var("CARGO_MANIFEST_DIR").unwrap())).unwrap();
    let (original, entry) = (read("bound.cose-receipt"), read("event.entry"));
    let held = HeldCheckpoint { checkpoint: read("usual.checkpoint"), proof: None };
    let verdict = |file: &[u8], entry: &[u8]| verify_cose_receipt(file, Some(entry), &policy(), Some(&held)).integrity();
    assert_eq!(verdict(&original, &entry), Integrity::Verified);
    let flipped = |of: &[u8], bit: usize| {
        of.iter().enumerate().map(|(at, byte)| if at == bit / 8 { byte ^ 1 << (bit % 8) } else { *byte }).collect::<Vec<_>>()
    };
    for bit in 0..original.len() * 8 {
        assert_ne!(verdict(&flipped(&original, bit), &entry), Integrity::Verified, "bit {bit} of the receipt");
    }
    for bit in 0..entry.len() * 8 {
        assert_ne!(verdict(&original, &flipped(&entry, bit)), Integrity::Verified, "bit {bit} of the entry");
    }
}

/// Flips bits one at a time; outside the lines of cosigners that the quorum can spare, nothing verifies any more.
fn flip_each(name: &str, step: usize) {
    let original = &FILES[name];
    let spared = spared_bytes(original);
    for bit in (0..original.len() * 8).step_by(step) {
        let mut altered = original.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        check(original, &altered, &format!("{name}, bit {bit}"));
        if !spared.contains(&(bit / 8)) {
            assert_ne!(verify(&altered, &policy(), None).integrity(), Integrity::Verified, "{name}, bit {bit}");
        }
    }
}

/// The bytes of the cosigners' lines: two of three are needed, so a line whose name is damaged is one too few to matter.
fn spared_bytes(file: &[u8]) -> std::ops::Range<usize> {
    let needle = "\u{2014} node1".as_bytes();
    let start = file.windows(needle.len()).position(|window| window == needle).unwrap();
    let text = String::from_utf8_lossy(&file[start..]);
    let lines = text.split_inclusive('\n').take_while(|line| line.starts_with('\u{2014}')).map(str::len).sum::<usize>();
    start..start + lines
}

static EVIDENCE: LazyLock<EvidenceFile> = LazyLock::new(|| {
    let lineage = lineage();
    EvidenceFile::of(&lineage, &around_main(&lineage))
});

/// A file of evidence with one bit of one member flipped.
fn flipped(member: prop::sample::Index, bit: prop::sample::Index) -> EvidenceFile {
    let mut file = EVIDENCE.clone();
    let member = member.index(file.members.len());
    let bytes = &mut file.members[member].1;
    let bit = bit.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    file
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn no_member_of_evidence_may_differ_from_the_manifest(member in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let report = verify(&flipped(member, bit).pack(), &policy(), None);
        prop_assert_ne!(report.integrity(), Integrity::Verified);
    }

    #[test]
    fn a_manifest_made_anew_does_not_save_an_altered_member(member in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let mut file = flipped(member, bit);
        file.describe();
        check(&EVIDENCE.pack(), &file.pack(), "one bit of a member, and the manifest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn no_flipped_bit_changes_what_any_valid_file_says(file in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let (name, original) = FILES.iter().nth(file.index(FILES.len())).unwrap();
        let bit = bit.index(original.len() * 8);
        let mut altered = original.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        check(original, &altered, &format!("{name}, bit {bit}"));
    }

    #[test]
    fn no_cut_insertion_or_overwriting_changes_what_any_valid_file_says(
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        cut in 0_usize..40,
        inserted in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let (name, original) = FILES.iter().nth(file.index(FILES.len())).unwrap();
        let at = at.index(original.len());
        let behind = original.len().min(at + cut);
        let altered = [&original[..at], &inserted, &original[behind..]].concat();
        check(original, &altered, &format!("{name} at {at}, {cut} bytes replaced"));
    }

    #[test]
    fn spliced_files_say_only_what_one_of_them_says(
        one in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
    ) {
        let head = FILES.values().nth(one.index(FILES.len())).unwrap();
        let tail = FILES.values().nth(other.index(FILES.len())).unwrap();
        let spliced = [&head[..at.index(head.len())], &tail[from.index(tail.len())..]].concat();
        let report = verify(&spliced, &policy(), None);
        if report.integrity() == Integrity::Verified {
            let told = [head, tail].map(|file| meaning(&verify(file, &policy(), None)));
            prop_assert!(told.contains(&meaning(&report)));
        }
    }

    #[test]
    fn arbitrary_bytes_neither_verify_nor_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_ne!(verify(&bytes, &policy(), None).integrity(), Integrity::Verified);
        prop_assert_ne!(verify(&[b"c2sp.org/tlog-proof@v1\n", &bytes[..]].concat(), &policy(), None).integrity(), Integrity::Verified);
        prop_assert!(Policy::parse(&bytes).is_err());
    }
}
