//! Keys, notes, checkpoints and policies against C2SP examples, and what strict parsing refuses.

use std::collections::BTreeSet;

use proofline_verifier::{
    Checkpoint, CheckpointError, KeyError, KeyName, NoteError, NoteSignature, Outcome, Policy, PolicyDraft, PolicyError, PolicyLineError,
    Refusal as _, SignatureType, SignedNote, Threshold, TlogProof, TreeHash as _, TrustError, VerifierKey, verify_cosigned_by,
};

use crate::naive::LOG;
use crate::world::{self, Signer, nodes};

const LOG_VKEY: &str = "ledger.example/agents+98b8aa96+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
const WITNESS_VKEY: &str = "witness.example/w1+df1c0a35+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
const PUBLISHED_ROOT: &str = "db2effe64d36352bcd4c260bde0e1138310c9f77b89d4c57578652f9b185b630";

/// The example note of the C2SP tlog-cosignature text.
const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

fn vector_checkpoint() -> String {
    let leaves = LOG.leaves(&["event-0", "event-1", "event-2"]);
    let root = proofline_verifier::LogHash::from_bytes(LOG.root(&leaves));
    let text = Checkpoint { origin: KeyName::parse(world::ORIGIN).unwrap(), size: proofline_verifier::TreeSize(3), root }.note_text();
    let witness = Signer::new("witness.example/w1", 2);
    format!("{text}\n{}{}", world::log_key().log_line(&text), witness.cosignature_line(&text, 1_700_000_000))
}

#[test]
fn the_published_vector_has_these_hashes_keys_and_sizes() {
    let leaves = LOG.leaves(&["event-0", "event-1", "event-2"]);
    let hex: Vec<_> = leaves.iter().map(hex::encode).collect();
    assert!(hex[0].starts_with("6734db3b") && hex[1].starts_with("a9e8895f") && hex[2].starts_with("4fb70daa"));
    assert!(hex[0].ends_with("3609") && hex[1].ends_with("8494") && hex[2].ends_with("9426"));
    assert_eq!(hex::encode(LOG.root(&leaves)), PUBLISHED_ROOT);
    assert_eq!(world::log_key().vkey(1), LOG_VKEY);
    assert_eq!(Signer::new("witness.example/w1", 2).vkey(4), WITNESS_VKEY);
    assert_eq!(vector_checkpoint().len(), 317);
}

#[test]
fn the_published_vector_verifies_down_to_the_leaf() {
    let policy = format!("log {LOG_VKEY}\nwitness w1 {WITNESS_VKEY}\nquorum w1\n");
    let verified = Policy::parse(policy.as_bytes()).unwrap().verify_checkpoint(vector_checkpoint().as_bytes()).unwrap();
    assert_eq!((verified.size.0, verified.root.to_string().as_str()), (3, PUBLISHED_ROOT));
    assert_eq!(verified.cosigners[0].unix_s, 1_700_000_000);
    let path = LOG.path(&LOG.leaves(&["event-0", "event-1", "event-2"]), 1).map(proofline_verifier::LogHash::from_bytes);
    assert_eq!(verified.verify_inclusion(b"event-1", proofline_verifier::EntryIndex(1), &path), Ok(()));
    let proof = TlogProof { entry: None, index: proofline_verifier::EntryIndex(1), path: path.to_vec(), checkpoint: vector_checkpoint() };
    assert_eq!(proof.encode().len(), 439);
    assert_eq!(TlogProof::parse(proof.encode().as_bytes()), Ok(proof));
}

trait MapHashes {
    fn map<T>(&self, to: impl Fn([u8; 32]) -> T) -> Vec<T>;
}

impl MapHashes for Vec<[u8; 32]> {
    fn map<T>(&self, to: impl Fn([u8; 32]) -> T) -> Vec<T> {
        self.iter().map(|hash| to(*hash)).collect()
    }
}

#[test]
fn the_example_checkpoint_of_c2sp_parses_and_encodes_to_itself() {
    let note = SignedNote::parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(note.encode(), EXAMPLE);
    assert_eq!(note.signatures().len(), 2);
    assert_eq!(note.signatures()[1].signature.len(), 72);
    let checkpoint = Checkpoint::parse_text(note.text()).unwrap();
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size.0), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.note_text(), note.text());
}

#[test]
fn keys_parse_back_to_their_text() {
    for vkey in [LOG_VKEY, WITNESS_VKEY] {
        assert_eq!(VerifierKey::parse(vkey).unwrap().to_string(), vkey);
    }
}

#[test]
fn malformed_keys_are_refused() {
    let weak = VerifierKey::new(KeyName::parse("x").unwrap(), SignatureType::Ed25519, &[0; 32]);
    assert_eq!(weak, Err(KeyError::Weak));
    let refused = [
        LOG_VKEY.replacen("98b8aa96", "98b8aa97", 1),
        LOG_VKEY.replacen("98b8aa96", "98B8AA96", 1),
        LOG_VKEY.replacen("ledger.example", "ledger.examples", 1),
        LOG_VKEY.replacen("ledger.example", "", 1).replacen("/agents", "", 1),
        LOG_VKEY.replacen("ledger.example", "ledger example", 1),
        LOG_VKEY.replacen("+AYqI", "+BoqI", 1),
        LOG_VKEY.replacen("D29c", "D29", 1),
        "no plus sign".to_owned(),
        String::new(),
    ];
    for vkey in refused {
        assert!(VerifierKey::parse(&vkey).is_err(), "{vkey}");
    }
}

#[test]
fn a_note_has_one_form() {
    let whole = vector_checkpoint();
    let line = whole.lines().nth(4).unwrap().to_owned();
    let encoded = line.rsplit(' ').next().unwrap().to_owned();
    let refused = [
        ("without the last newline", whole[..whole.len() - 1].to_owned()),
        ("with a newline more", format!("{whole}\n")),
        ("without signatures", whole.split_once("\n\n").unwrap().0.to_owned() + "\n\n"),
        ("without a text", format!("\n\n{line}\n")),
        ("with a tab", whole.replacen("agents", "a\tb", 1)),
        ("with a carriage return", whole.replace('\n', "\r\n")),
        ("with a hyphen for the dash", whole.replacen('\u{2014}', "-", 1)),
        ("with two spaces", whole.replacen("\u{2014} ", "\u{2014}  ", 1)),
        ("with unpadded base64", whole.replacen(&encoded, encoded.trim_end_matches('='), 1)),
        ("with a space behind", whole.replacen(&encoded, &format!("{encoded} "), 1)),
        ("with a signature of four bytes", whole.replacen(&encoded, "mLiqlg==", 1)),
        ("with a plus in the name", whole.replacen("\u{2014} ledger", "\u{2014} +ledger", 1)),
    ];
    assert!(SignedNote::parse(whole.as_bytes()).is_ok());
    for (how, note) in refused {
        assert!(SignedNote::parse(note.as_bytes()).is_err(), "{how}");
    }
    assert_eq!(SignedNote::parse(&[0xFF, b'\n', b'\n']), Err(NoteError::NotText));
    assert!(matches!(SignedNote::parse(&vec![b'a'; 300_000]), Err(NoteError::TooLong { bytes: 300_000 })));
}

#[test]
fn sixty_four_signatures_are_read_and_one_more_is_not() {
    let note = |signatures: usize| {
        let lines: String = (0..signatures).map(|number| format!("\u{2014} n{number} AAAAAAE=\n")).collect();
        format!("text\n\n{lines}")
    };
    assert!(SignedNote::parse(note(64).as_bytes()).is_ok());
    assert_eq!(SignedNote::parse(note(65).as_bytes()), Err(NoteError::TooManySignatures));
}

#[test]
fn a_checkpoint_text_has_one_form() {
    let root = "2y7/5k02NSvNTCYL3g4RODEMn3e4nUxXV4ZS+bGFtjA=";
    assert!(Checkpoint::parse_text(&format!("o\n3\n{root}\n")).is_ok());
    let refused = [
        (format!("o\n03\n{root}\n"), CheckpointError::Size),
        (format!("o\n+3\n{root}\n"), CheckpointError::Size),
        (format!("o\n-3\n{root}\n"), CheckpointError::Size),
        (format!("o\n18446744073709551616\n{root}\n"), CheckpointError::Size),
        (format!("o\n\n{root}\n"), CheckpointError::Size),
        (format!("o\n3\n{root}\nextension\n"), CheckpointError::Form),
        (format!("o\n3\n{root}"), CheckpointError::Form),
        ("o\n3\n".to_owned(), CheckpointError::Form),
        ("o\n3\nAAAA\n".to_owned(), CheckpointError::Root),
        (format!("o\n3\n{}\n", root.replace("tjA=", "tjB=")), CheckpointError::Root),
    ];
    for (text, error) in refused {
        assert_eq!(Checkpoint::parse_text(&text), Err(error), "{text:?}");
    }
    assert!(matches!(Checkpoint::parse_text(&format!("\n3\n{root}\n")), Err(CheckpointError::Origin(_))));
}

#[test]
fn a_note_that_was_put_together_here_verifies() {
    let text = world::usual().checkpoint_text();
    let log = VerifierKey::parse(&world::log_key().vkey(1)).unwrap();
    let [one, two, _] = nodes();
    let mut signatures = vec![NoteSignature::of_log(&log, &sign(&world::log_key(), text.as_bytes()))];
    for node in [&one, &two] {
        let key = VerifierKey::parse(&node.vkey(4)).unwrap();
        let signed = proofline_verifier::cosignature_signed_bytes(1_700_000_100, &text);
        signatures.push(NoteSignature::of_cosigner(&key, 1_700_000_100, &sign(node, &signed)));
    }
    let note = SignedNote::new(text, signatures).unwrap().encode();
    let verified = policy().verify_checkpoint(note.as_bytes()).unwrap();
    assert_eq!(verified.cosigners.len(), 2);
    let key = |who: &Signer| VerifierKey::parse(&who.vkey(4)).unwrap();
    assert_eq!(verify_cosigned_by(note.as_bytes(), &key(&one)), Ok(1_700_000_100));
    assert!(matches!(verify_cosigned_by(note.as_bytes(), &key(&nodes()[2])), Err(TrustError::QuorumNotMet { .. })));
}

fn sign(who: &Signer, message: &[u8]) -> [u8; 64] {
    ed25519_dalek::Signer::sign(&who.key, message).to_bytes()
}

fn policy() -> Policy {
    Policy::parse(world::policy().as_bytes()).unwrap()
}

#[test]
fn a_policy_goes_to_text_and_back() {
    assert_eq!(policy().encode(), world::policy());
    let keys = nodes().map(|node| VerifierKey::parse(&node.vkey(4)).unwrap());
    let made = Policy::of_cluster(VerifierKey::parse(LOG_VKEY).unwrap(), keys.to_vec(), Threshold::Of(2)).unwrap();
    assert_eq!(Policy::parse(made.encode().as_bytes()), Ok(made));
}

/// The two-level example of the C2SP text, evaluated for every set of cosigners.
#[test]
fn groups_of_groups_are_met_exactly_when_their_thresholds_are() {
    let names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"];
    let mut draft = PolicyDraft::default();
    for (name, seed) in names.into_iter().zip(50..) {
        draft.add_witness(name, VerifierKey::parse(&Signer::new("w", seed).vkey(4)).unwrap(), None).unwrap();
    }
    draft.add_group("X", Threshold::Of(2), &["X1", "X2", "X3"]).unwrap();
    draft.add_group("Y", Threshold::Any, &["Y1", "Y2", "Y3"]).unwrap();
    draft.add_group("both", Threshold::All, &["X", "Y"]).unwrap();
    draft.set_quorum("both").unwrap();
    let policy = draft.finish().unwrap();
    for set in 0..64_u32 {
        let cosigned: BTreeSet<&str> = names.into_iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, name)| name).collect();
        let expected = (set & 7).count_ones() >= 2 && set & 56 != 0;
        assert_eq!(policy.is_met_by(&cosigned), expected, "{cosigned:?}");
    }
}

#[test]
fn white_space_comments_and_urls_of_a_policy_are_read() {
    let text = format!("# by hand\n\n \t log\t{LOG_VKEY}  https://ledger.example/ \n\twitness w1 {WITNESS_VKEY} \n  # more\nquorum   w1\n");
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!(policy.logs()[0].url.as_deref(), Some("https://ledger.example/"));
    assert_eq!(policy.witnesses().count(), 1);
}

#[test]
fn what_is_wrong_with_a_policy_is_named_with_its_line() {
    let (one, two) = (nodes()[0].vkey(4), nodes()[1].vkey(4));
    let twin = Signer::new("twin", 11).vkey(4);
    let refused = [
        (format!("log {one}\nquorum none\n"), 1),
        (format!("witness a {LOG_VKEY}\nquorum none\n"), 1),
        (format!("log {LOG_VKEY}\nlog {LOG_VKEY}\nquorum none\n"), 2),
        (format!("witness a {one}\nwitness a {two}\nquorum a\n"), 2),
        (format!("witness a {one}\nwitness b {twin}\nquorum a\n"), 2),
        (format!("witness none {one}\nquorum none\n"), 1),
        (format!("group g 1 a\nwitness a {one}\nquorum g\n"), 1),
        (format!("witness a {one}\ngroup g 0 a\nquorum g\n"), 2),
        (format!("witness a {one}\ngroup g 2 a\nquorum g\n"), 2),
        (format!("witness a {one}\ngroup g 01 a\nquorum g\n"), 2),
        (format!("witness a {one}\ngroup g all\nquorum g\n"), 2),
        (format!("witness a {one}\ngroup g any a a\nquorum g\n"), 2),
        (format!("witness a {one}\ngroup g any a\ngroup h any a g\nquorum h\n"), 3),
        (format!("witness a {one}\ngroup g any g\nquorum g\n"), 2),
        (format!("witness a {one}\ngroup g any none\nquorum g\n"), 2),
        ("quorum a\n".to_owned(), 1),
        ("quorum none\nquorum none\n".to_owned(), 2),
        ("quorum\n".to_owned(), 1),
        ("logs x\n".to_owned(), 1),
        ("log x\n".to_owned(), 1),
    ];
    for (text, expected) in refused {
        match Policy::parse(text.as_bytes()) {
            Err(PolicyError::Line { line, .. }) => assert_eq!(line, expected, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_policy_is_text_of_whole_lines_with_a_quorum() {
    assert_eq!(Policy::parse(b""), Err(PolicyError::NotText));
    assert_eq!(Policy::parse(b"quorum none"), Err(PolicyError::NotText));
    assert_eq!(Policy::parse(b"quorum none\r\n"), Err(PolicyError::NotText));
    assert_eq!(Policy::parse(b"\xFF\n"), Err(PolicyError::NotText));
    assert_eq!(Policy::parse(b"# nothing\n"), Err(PolicyError::NoQuorum));
}

#[test]
fn a_key_type_that_this_version_lacks_is_undecided_not_wrong() {
    let refused = Policy::parse(b"log example.com+00000000+BgAA\nquorum none\n").unwrap_err();
    assert!(matches!(&refused, PolicyError::Line { source: PolicyLineError::Key(KeyError::UnsupportedType(6)), .. }));
    assert_eq!(refused.outcome(), Outcome::NotChecked);
}
