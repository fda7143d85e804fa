//! Vectors of `.cose-receipt`, from an encoder of their own.

use ed25519_dalek::Signer as _;

use super::Vector;
use crate::naive::LOG;
use crate::world::{self, ORIGIN, Signer, World};

const EVENT: usize = 3;
const ENTRY: &str = "event.entry";

/// The entries that receipts are about, by file name.
pub(super) fn entries() -> Vec<(String, Vec<u8>)> {
    let entries = world::usual().entries;
    vec![(ENTRY.to_owned(), entries[EVENT].clone()), ("other.entry".to_owned(), entries[EVENT + 1].clone())]
}

/// The items of a receipt; what is signed is settled before anything is altered.
#[derive(Clone)]
struct Items {
    protected: Vec<u8>,
    size: Vec<u8>,
    index: Vec<u8>,
    path: Vec<Vec<u8>>,
    signature: Vec<u8>,
}

fn integer(value: i64) -> Vec<u8> {
    let (major, number) = if value < 0 { (0x20, -1 - value) } else { (0, value) };
    match number {
        0..24 => vec![major | number as u8],
        24..256 => vec![major | 24, number as u8],
        _ => [&[major | 25][..], &(number as u16).to_be_bytes()].concat(),
    }
}

fn string(major: u8, content: &[u8]) -> Vec<u8> {
    let mut head = integer(content.len() as i64);
    head[0] |= major;
    [head, content.to_vec()].concat()
}

fn bytes(content: &[u8]) -> Vec<u8> {
    string(0x40, content)
}

fn protected(algorithm: i64, key_id: &[u8], origin: &str, subject: &str, structure: i64) -> Vec<u8> {
    let claims = [vec![0xA2, 1], string(0x60, origin.as_bytes()), vec![2], string(0x60, subject.as_bytes())].concat();
    [vec![0xA4, 1], integer(algorithm), vec![4], bytes(key_id), vec![15], claims, integer(395), integer(structure)].concat()
}

fn key_id(vkey: &str) -> Vec<u8> {
    hex::decode(vkey.split('+').nth(1).unwrap()).unwrap()
}

fn sign(world: &World, index: usize, protected: Vec<u8>, signer: &Signer) -> Items {
    let root = LOG.root(&world.log_leaves());
    let message = [b"\x84\x6aSignature1".to_vec(), bytes(&protected), bytes(b""), bytes(&root)].concat();
    Items {
        protected,
        size: integer(world.size() as i64),
        index: integer(index as i64),
        path: world.log_path(index),
        signature: signer.key.sign(&message).to_bytes().to_vec(),
    }
}

fn usual() -> Items {
    let log = world::log_key();
    sign(&world::usual(), EVENT, protected(-19, &key_id(&log.vkey(1)), ORIGIN, "3", 1), &log)
}

impl Items {
    fn encode(&self) -> Vec<u8> {
        let mut path = integer(self.path.len() as i64);
        path[0] |= 0x80;
        let path = [path, self.path.iter().flat_map(|hash| bytes(hash)).collect()].concat();
        let proof = [vec![0x83], self.size.clone(), self.index.clone(), path].concat();
        let unprotected = [vec![0xA1], integer(396), vec![0xA1], integer(-1), vec![0x81], bytes(&proof)].concat();
        [vec![0xD2, 0x84], bytes(&self.protected), unprotected, vec![0xF6], bytes(&self.signature)].concat()
    }

    fn with(mut self, alter: impl FnOnce(&mut Self)) -> Vec<u8> {
        alter(&mut self);
        self.encode()
    }
}

pub(super) fn vectors() -> Vec<Vector> {
    [valid(), bound(), forms(), proofs(), signatures()].into_iter().flatten().collect()
}

fn valid() -> Vec<Vector> {
    let log = world::log_key();
    let deprecated = sign(&world::usual(), EVENT, protected(-8, &key_id(&log.vkey(1)), ORIGIN, "3", 1), &log);
    vec![
        Vector::valid("event.cose-receipt", usual().encode(), "an event in a log of 11 entries").about(ENTRY).and_is("not_claimed"),
        Vector::valid("eddsa.cose-receipt", deprecated.encode(), "the deprecated number of the same algorithm").about(ENTRY),
        Vector::valid(
            "other-size.cose-receipt",
            usual().with(|it| it.size = integer(12)),
            "another size that the path fits: nothing signs it, and reports say so",
        )
        .about(ENTRY),
        Vector::undecided("no-entry.cose-receipt", usual().encode(), "format", "the entry is not given"),
    ]
}

fn bound() -> Vec<Vector> {
    let log = world::log_key();
    let older = sign(&world::usual().cut(4), EVENT, protected(-19, &key_id(&log.vkey(1)), ORIGIN, "3", 1), &log);
    vec![
        Vector::valid("bound.cose-receipt", usual().encode(), "a checkpoint of the same tree brings size and quorum")
            .about(ENTRY)
            .holding("usual.checkpoint", None),
        Vector::valid("grown.cose-receipt", older.encode(), "the tree of a newer checkpoint begins with the receipt's")
            .about(ENTRY)
            .holding("usual.checkpoint", Some("older.consistency-proof")),
        Vector::wrong("forked.cose-receipt", older.encode(), "consistency", "a checkpoint of the same size has another root")
            .about(ENTRY)
            .holding("forked.checkpoint", None),
        Vector::undecided(
            "other-size-bound.cose-receipt",
            usual().with(|it| it.size = integer(12)),
            "consistency",
            "the size is not that of the checkpoint, and no proof leads from one to the other",
        )
        .about(ENTRY)
        .holding("usual.checkpoint", None),
    ]
}

fn forms() -> Vec<Vector> {
    let log = world::log_key();
    let with = |algorithm, structure| {
        sign(&world::usual(), EVENT, protected(algorithm, &key_id(&log.vkey(1)), ORIGIN, "3", structure), &log).encode()
    };
    let undecided = |file: &str, bytes: Vec<u8>, why| Vector::undecided(file, bytes, "format", why).about(ENTRY);
    vec![
        undecided("ecdsa.cose-receipt", with(-7, 1), "an algorithm that is not Ed25519"),
        undecided("ccf.cose-receipt", with(-19, 2), "another verifiable data structure"),
        undecided("trailing.cose-receipt", [usual().encode(), vec![0]].concat(), "a byte behind the receipt"),
        undecided("long-number.cose-receipt", usual().with(|it| it.size = vec![0x18, 11]), "the size takes more bytes than it needs"),
        undecided("empty-path.cose-receipt", usual().with(|it| it.path.clear()), "no path"),
        undecided("short-hash.cose-receipt", usual().with(|it| it.path[0].truncate(31)), "a hash of 31 bytes"),
        undecided("truncated.cose-receipt", usual().encode()[..100].to_vec(), "the file ends early"),
    ]
}

fn proofs() -> Vec<Vector> {
    let wrong = |file: &str, bytes: Vec<u8>, check, why| Vector::wrong(file, bytes, check, why).about(ENTRY);
    vec![
        wrong(
            "index.cose-receipt",
            usual().with(|it| it.index = integer(4)),
            "log-inclusion",
            "the proof is about another entry than the subject",
        ),
        wrong("too-large.cose-receipt", usual().with(|it| it.size = integer(17)), "log-inclusion", "the path is too short for the size"),
        wrong("beyond.cose-receipt", usual().with(|it| it.size = integer(3)), "log-inclusion", "the index is not below the size"),
        wrong(
            "path.cose-receipt",
            usual().with(|it| it.path[1][7] ^= 1),
            "log-signature",
            "an altered path leads to a root that nobody signed",
        ),
        wrong("swapped.cose-receipt", usual().with(|it| it.path.swap(0, 1)), "log-signature", "the path in another order"),
        Vector::wrong("other-entry.cose-receipt", usual().encode(), "log-signature", "another entry is given").about("other.entry"),
    ]
}

fn signatures() -> Vec<Vector> {
    let (log, other) = (world::log_key(), Signer::new(ORIGIN, 9));
    let id = key_id(&log.vkey(1));
    let wrong = |file: &str, bytes: Vec<u8>, why| Vector::wrong(file, bytes, "log-signature", why).about(ENTRY);
    let relabelled = |protected: Vec<u8>| usual().with(|it| it.protected = protected);
    let resigned = sign(&world::usual(), EVENT, protected(-19, &key_id(&other.vkey(1)), ORIGIN, "3", 1), &other);
    vec![
        wrong("signature.cose-receipt", usual().with(|it| it.signature[40] ^= 1), "an altered signature"),
        wrong("algorithm.cose-receipt", relabelled(protected(-8, &id, ORIGIN, "3", 1)), "the algorithm was changed behind the signature"),
        wrong(
            "forged.cose-receipt",
            sign(&world::usual(), EVENT, protected(-19, &id, ORIGIN, "3", 1), &other).encode(),
            "another key signed under the log key's id",
        ),
        Vector::wrong(
            "subject.cose-receipt",
            usual().with(|it| (it.protected, it.index) = (protected(-19, &id, ORIGIN, "2", 1), integer(2))),
            "log-signature",
            "subject and index name another entry",
        )
        .about(ENTRY),
        Vector::undecided("another-key.cose-receipt", resigned.encode(), "log-signature", "a key of the log that the policy lacks")
            .about(ENTRY),
        Vector::undecided("another-log.cose-receipt", usual().encode(), "log-signature", "the policy knows only another log")
            .about(ENTRY)
            .under("another-log.policy"),
    ]
}
