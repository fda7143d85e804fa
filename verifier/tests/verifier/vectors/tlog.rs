//! Vectors of `.tlog-proof`, which also cover checkpoints, policies and consistency.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proofline_proto::v1;
use prost::Message as _;
use v1::entry_core::Body;

use super::{Vector, decode_entry};
use crate::deliveries::dead_letter;
use crate::world::{self, World, nodes, sign_checkpoint, tlog_text};

const EVENT: usize = 3;

pub(super) fn vectors() -> Vec<Vector> {
    [valid(), outlets(), forms(), paths(), log_signatures(), cosignatures(), policies(), consistency(), entries()]
        .into_iter()
        .flatten()
        .collect()
}

fn valid() -> Vec<Vector> {
    let usual = world::usual();
    let small = World::with_genesis(&world::genesis());
    vec![
        Vector::valid("event.tlog-proof", usual.tlog_proof(EVENT), "an event in a log of 11 entries").and_is("not_claimed"),
        Vector::valid("genesis.tlog-proof", usual.tlog_proof(0), "the first entry"),
        Vector::valid("command.tlog-proof", usual.tlog_proof(1), "an operator command"),
        Vector::valid("last.tlog-proof", usual.tlog_proof(usual.size() - 1), "the last entry, with the shortest path"),
        Vector::valid("one-leaf.tlog-proof", small.tlog_proof(0), "a log of one entry: the path is empty"),
    ]
}

/// An outlet is registered, and a message to it is given up.
fn outlets() -> Vec<Vector> {
    let mut told = world::usual();
    let stream = v1::SharedSignals {
        issuer: "https://ledger.example".to_owned(),
        audience: "https://idp.example/ssf".to_owned(),
        endpoint: "https://idp.example/ssf/push".to_owned(),
        algorithm: v1::SigningAlgorithm::Rs256.into(),
        key_id: "ssf-1".to_owned(),
        subject_form: v1::SubjectForm::Complex.into(),
        authorization: v1::ReceiverAuthorization::BearerToken.into(),
    };
    let outlet = v1::Outlet {
        outlet_id: "idp".to_owned(),
        tenant_id: world::TENANT.to_owned(),
        kind: Some(v1::outlet::Kind::SharedSignals(stream)),
        escalate_to: "gateway".to_owned(),
        escalate_after_s: 60,
        escalations_only: false,
    };
    let register = v1::command::Action::RegisterOutlet(v1::RegisterOutlet { outlet: Some(outlet) });
    let registered = told.command(register, &[&world::alice(), &world::bob()]);
    let delivery = told.append(Body::OutletDelivery(dead_letter(registered as u64)), None);
    vec![
        Vector::valid("outlet.tlog-proof", told.tlog_proof(registered), "a command that registers an outlet"),
        Vector::valid("delivery.tlog-proof", told.tlog_proof(delivery), "what became of a message to an outlet"),
    ]
}

fn forms() -> Vec<Vector> {
    let proof = world::usual().tlog_proof(EVENT);
    let extra = proof.lines().nth(1).unwrap().to_owned();
    let first_hash = proof.lines().nth(3).unwrap().to_owned();
    let undecided = |file: &str, bytes: String, why| Vector::undecided(file, bytes, "format", why);
    // The last base64 digit before the padding carries four unused bits, so another one decodes to the same bytes.
    let loose = |line: &str| {
        let unpadded = line.strip_suffix('=').unwrap();
        let (kept, last) = unpadded.split_at(unpadded.len() - 1);
        format!("{kept}{}=", (last.as_bytes()[0] + 1) as char)
    };
    vec![
        undecided("version.tlog-proof", proof.replacen("@v1", "@v2", 1), "an unknown format version"),
        undecided("no-entry.tlog-proof", proof.replacen(&format!("{extra}\n"), "", 1), "no extra line: the entry is not in the file"),
        undecided("extra-twice.tlog-proof", proof.replacen(&extra, &format!("{extra}\n{extra}"), 1), "two extra lines"),
        undecided("truncated.tlog-proof", proof[..proof.len() / 4].to_owned(), "the file ends early"),
        undecided("leading-zero.tlog-proof", proof.replacen("index 3", "index 03", 1), "the index has a leading zero"),
        undecided("base64.tlog-proof", proof.replacen(&first_hash, &loose(&first_hash), 1), "a path line is not canonical base64"),
        undecided("unpadded.tlog-proof", proof.replacen(&first_hash, first_hash.trim_end_matches('='), 1), "base64 without padding"),
        undecided("carriage-return.tlog-proof", proof.replacen("index 3\n", "index 3\r\n", 1), "a carriage return"),
        Vector::undecided("trailing.tlog-proof", format!("{proof}more\n"), "log-signature", "bytes behind the last signature line"),
        Vector::undecided("unrecognised.bin", b"\x00\x01 neither text nor protobuf".to_vec(), "format", "no known form at all"),
        Vector::undecided("empty.bin", Vec::new(), "format", "an empty file"),
    ]
}

fn paths() -> Vec<Vector> {
    let usual = world::usual();
    let (entry, path, checkpoint) = (usual.entries[EVENT].clone(), usual.log_path(EVENT), usual.checkpoint());
    let with = |path: &[Vec<u8>]| tlog_text(&entry, EVENT as u64, path, &checkpoint);
    let at = |index| tlog_text(&entry, index, &path, &checkpoint);
    let wrong = |file: &str, bytes: String, why| Vector::wrong(file, bytes, "log-inclusion", why);
    let swapped: Vec<_> = path.iter().rev().cloned().collect();
    let node = [usual.log_leaves()[0], usual.log_leaves()[1]].concat();
    vec![
        wrong("path-short.tlog-proof", with(&path[1..]), "a path without its first hash"),
        wrong("path-long.tlog-proof", with(&[&path[..], &path[..1]].concat()), "a path with one hash too many"),
        wrong("path-reversed.tlog-proof", with(&swapped), "a path from the root down"),
        wrong("index-other.tlog-proof", at(2), "the index of another entry"),
        wrong("index-beyond.tlog-proof", at(usual.size() as u64), "an index equal to the size"),
        wrong("index-huge.tlog-proof", at(u64::MAX), "the largest index"),
        wrong("entry-flipped.tlog-proof", tlog_text(&flipped(&entry), EVENT as u64, &path, &checkpoint), "one bit of the entry flipped"),
        wrong("node-as-leaf.tlog-proof", tlog_text(&node, 0, &usual.log_path(0)[1..], &checkpoint), "an inner node as an entry"),
    ]
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 1;
    flipped
}

/// The proof of the usual event with another checkpoint.
fn under(checkpoint: &str) -> String {
    let usual = world::usual();
    tlog_text(&usual.entries[EVENT], EVENT as u64, &usual.log_path(EVENT), checkpoint)
}

fn log_signatures() -> Vec<Vector> {
    let usual = world::usual();
    let (text, checkpoint, grown) = (usual.checkpoint_text(), usual.checkpoint(), grown_text());
    let log_line = world::log_key().log_line(&text);
    let (size, next) = (format!("\n{}\n", usual.size()), format!("\n{}\n", usual.size() + 1));
    let unsigned = checkpoint.replacen(&log_line, "", 1);
    vec![
        Vector::wrong(
            "size-changed.tlog-proof",
            under(&checkpoint.replacen(&size, &next, 1)),
            "log-signature",
            "the size changed under the signatures",
        ),
        Vector::wrong("log-signature-missing.tlog-proof", under(&unsigned), "log-signature", "no signature of the log"),
        Vector::wrong(
            "log-signature-other.tlog-proof",
            under(&checkpoint.replacen(&log_line, &world::log_key().log_line(&grown), 1)),
            "log-signature",
            "the log's signature of another checkpoint",
        ),
        Vector::undecided(
            "extension.tlog-proof",
            under(&sign_checkpoint(&format!("{text}more\n"), &nodes())),
            "log-signature",
            "an extension line in the checkpoint",
        ),
    ]
}

/// The usual checkpoint's text, as if the log had one entry more.
fn grown_text() -> String {
    let usual = world::usual();
    usual.checkpoint_text().replacen(&format!("\n{}\n", usual.size()), &format!("\n{}\n", usual.size() + 1), 1)
}

/// A node's cosignature line, with another time than it signed.
fn mistimed(node: &world::Signer, text: &str) -> String {
    let line = node.cosignature_line(text, 1_700_000_100);
    let mut blob = STANDARD.decode(line.trim_end().rsplit(' ').next().unwrap()).unwrap();
    blob[11] ^= 1;
    format!("\u{2014} {} {}\n", node.name, STANDARD.encode(blob))
}

fn cosignatures() -> Vec<Vector> {
    let usual = world::usual();
    let (text, checkpoint, grown) = (usual.checkpoint_text(), usual.checkpoint(), grown_text());
    let [one, two, three] = nodes();
    let stranger = world::Signer::new("node4.ledger.example", 14);
    let cosigned_by = |nodes: &[world::Signer]| under(&sign_checkpoint(&text, nodes));
    vec![
        Vector::valid("two-cosigners.tlog-proof", cosigned_by(&[one.clone(), three.clone()]), "exactly the quorum"),
        Vector::valid(
            "unknown-cosigner.tlog-proof",
            cosigned_by(&[one.clone(), three.clone(), stranger.clone()]),
            "a cosignature of an unknown key beside the quorum: it counts for nothing",
        ),
        Vector::wrong(
            "cosignature-other.tlog-proof",
            under(&checkpoint.replacen(&two.cosignature_line(&text, 1_700_000_101), &two.cosignature_line(&grown, 1_700_000_101), 1)),
            "quorum",
            "one cosignature is of another checkpoint, though two others are valid",
        ),
        Vector::wrong(
            "cosignature-time.tlog-proof",
            under(&checkpoint.replacen(&one.cosignature_line(&text, 1_700_000_100), &mistimed(&one, &text), 1)),
            "quorum",
            "the time of a cosignature changed",
        ),
        Vector::wrong(
            "one-cosigner.tlog-proof",
            cosigned_by(std::slice::from_ref(&two)),
            "quorum",
            "one cosignature where the policy asks for two",
        ),
        Vector::wrong("no-cosigner.tlog-proof", cosigned_by(&[]), "quorum", "the log's word alone"),
        Vector::undecided(
            "unknown-cosigners.tlog-proof",
            cosigned_by(&[two.clone(), stranger]),
            "quorum",
            "one known cosignature, another by a key that the policy lacks",
        ),
        Vector::undecided(
            "signed-twice.tlog-proof",
            under(&format!("{checkpoint}{}", two.cosignature_line(&text, 1_700_000_200))),
            "log-signature",
            "two cosignatures by one key",
        ),
    ]
}

fn policies() -> Vec<Vector> {
    let proof = || world::usual().tlog_proof(EVENT);
    vec![
        Vector::valid("log-only.tlog-proof", under(&sign_checkpoint(&world::usual().checkpoint_text(), &[])), "a policy without a quorum")
            .under("log-only.policy"),
        Vector::undecided("another-log.tlog-proof", proof(), "log-signature", "the policy knows only another log")
            .under("another-log.policy"),
        Vector::undecided("another-key.tlog-proof", proof(), "log-signature", "the policy knows the log with another key")
            .under("another-key.policy"),
        Vector::wrong("no-witness.tlog-proof", proof(), "quorum", "all nodes cosigned, but not the outside witness of the policy")
            .under("all-nodes-and-witness.policy"),
        Vector::valid(
            "witnessed.tlog-proof",
            {
                let mut cosigners = nodes().to_vec();
                cosigners.push(world::Signer::new("witness.example/w1", 2));
                under(&sign_checkpoint(&world::usual().checkpoint_text(), &cosigners))
            },
            "all nodes and the outside witness",
        )
        .under("all-nodes-and-witness.policy"),
    ]
}

fn consistency() -> Vec<Vector> {
    let proof = || world::usual().tlog_proof(EVENT);
    vec![
        Vector::valid("grown.tlog-proof", proof(), "the log only grew since the held checkpoint")
            .holding("older.checkpoint", Some("older.consistency-proof")),
        Vector::wrong("forked.tlog-proof", proof(), "consistency", "the held checkpoint is of another history")
            .holding("forked.checkpoint", Some("older.consistency-proof")),
        Vector::undecided(
            "no-consistency-proof.tlog-proof",
            proof(),
            "consistency",
            "sizes differ, and no proof leads from one to the other",
        )
        .holding("older.checkpoint", None),
        Vector::undecided("other-consistency-proof.tlog-proof", proof(), "consistency", "the proof is about other sizes")
            .holding("older.checkpoint", Some("shorter.consistency-proof")),
    ]
}

/// What a ledger may have committed that a verifier must not accept.
fn entries() -> Vec<Vector> {
    let mut world = world::usual();
    let core = v1::EntryCore { index: 99, body: Some(Body::Genesis(world::genesis())), ..Default::default() };
    let misnumbered = world.append_core(core.encode_to_vec(), None);
    let mut unknown_field = world.entries[1].clone();
    unknown_field.extend([0x7A, 0x01, 0x41]);
    let unknown_field = world.append_raw(unknown_field);
    let mut rootless = decode_entry(&world.entries[2]);
    rootless.session_root.clear();
    let mut core = v1::EntryCore::decode(rootless.core.clone()).unwrap();
    core.index = world.size() as u64;
    rootless.core = core.encode_to_vec().into();
    let rootless = world.append_raw(rootless.encode_to_vec());
    vec![
        Vector::wrong(
            "misnumbered.tlog-proof",
            world.tlog_proof(misnumbered),
            "entries",
            "the entry names another index than it stands at",
        ),
        Vector::undecided(
            "unknown-field.tlog-proof",
            world.tlog_proof(unknown_field),
            "entries",
            "the entry has a field that this version does not know",
        ),
        Vector::wrong("rootless.tlog-proof", world.tlog_proof(rootless), "entries", "the entry has a session but no session root"),
    ]
}
