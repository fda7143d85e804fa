//! Vectors of `.session-proof`.

use proofline_proto::v1;
use prost::Message as _;

use super::{Vector, decode_entry, encoded};
use crate::world;

const SESSION: &str = "s-sealed";

pub(super) fn vectors() -> Vec<Vector> {
    [valid(), forms(), wrong()].into_iter().flatten().collect()
}

fn proof() -> v1::SessionProof {
    world::usual().session_proof(SESSION, 2)
}

fn valid() -> Vec<Vector> {
    let usual = world::usual();
    vec![
        Vector::valid("event.session-proof", encoded(&proof()), "the third of five entries of a session").and_is("not_claimed"),
        Vector::valid("first.session-proof", encoded(&usual.session_proof(SESSION, 0)), "the first entry"),
        Vector::valid("last.session-proof", encoded(&usual.session_proof(SESSION, 4)), "the last entry, a seal: it is proven twice"),
    ]
}

fn forms() -> Vec<Vector> {
    let trailing = [encoded(&proof()), vec![0]].concat();
    let unknown = [encoded(&proof()), vec![0x7A, 0x01, 0x41]].concat();
    let without_last = v1::SessionProof { last: None, ..proof() };
    let undecided = |file: &str, bytes: Vec<u8>, why| Vector::undecided(file, bytes, "format", why);
    vec![
        undecided("trailing.session-proof", trailing, "a byte behind the message"),
        undecided("unknown-field.session-proof", unknown, "a field that this version does not know"),
        undecided(
            "default-written.session-proof",
            [encoded(&v1::SessionProof { position: 0, ..proof() }), vec![0x10, 0x00]].concat(),
            "a default value written out",
        ),
        undecided("truncated.session-proof", encoded(&proof())[..400].to_vec(), "the file ends early"),
        undecided("no-last.session-proof", encoded(&without_last), "the last entry is missing"),
    ]
}

fn wrong() -> Vec<Vector> {
    let usual = world::usual();
    let altered = |file: &str, check, why, alter: &dyn Fn(&mut v1::SessionProof)| {
        let mut altered = proof();
        alter(&mut altered);
        Vector::wrong(file, encoded(&altered), check, why)
    };
    vec![
        altered("position.session-proof", "session-order", "another position", &|it| it.position = 1),
        altered("size-larger.session-proof", "session-order", "a larger session size", &|it| it.session_size += 1),
        altered("size-smaller.session-proof", "session-order", "a smaller session size", &|it| it.session_size -= 1),
        altered("path-flipped.session-proof", "session-inclusion", "one bit of the path flipped", &|it| it.session_path[0][0] ^= 1),
        altered("path-short.session-proof", "session-inclusion", "a path without its last hash", &|it| drop(it.session_path.pop())),
        altered("path-hash-length.session-proof", "session-inclusion", "a hash of 31 bytes", &|it| {
            it.session_path[0].pop();
        }),
        altered("decision.session-proof", "session-inclusion", "the verdict turned from allow to deny", &|it| it.entry = denied(&it.entry)),
        altered("own-root.session-proof", "session-roots", "the entry's own session root changed, which its leaf does not cover", &|it| {
            it.entry = with_other_root(&it.entry);
        }),
        altered("last-flipped.session-proof", "last-inclusion", "one bit of the last entry flipped", &|it| {
            let last = it.last.as_mut().unwrap();
            let middle = last.entry.len() / 2;
            last.entry[middle] ^= 1;
        }),
        altered("other-session.session-proof", "session-identity", "the last entry of another session", &|it| {
            it.last = Some(usual.proven(usual.members("s-open")[2]));
        }),
        altered("no-session.session-proof", "session-identity", "a last entry without a session", &|it| it.last = Some(usual.proven(1))),
        altered("earlier-last.session-proof", "session-order", "a last entry before the proven one", &|it| {
            it.last = Some(usual.proven(usual.members(SESSION)[1]));
            it.session_size = 2;
        }),
        altered("last-index.session-proof", "last-inclusion", "the last entry's index changed", &|it| it.last.as_mut().unwrap().index += 1),
    ]
}

fn denied(entry: &[u8]) -> Vec<u8> {
    let mut entry = decode_entry(entry);
    let mut core = v1::EntryCore::decode(entry.core).unwrap();
    core.decision = Some(v1::Decision { verdict: v1::Verdict::Deny.into(), ..Default::default() });
    entry.core = core.encode_to_vec().into();
    entry.encode_to_vec()
}

fn with_other_root(entry: &[u8]) -> Vec<u8> {
    let mut entry = decode_entry(entry);
    entry.session_root[31] ^= 1;
    entry.encode_to_vec()
}
