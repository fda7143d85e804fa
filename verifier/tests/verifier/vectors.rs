//! The golden vectors in `verifier/vectors/`: valid evidence, and one altered file for each way to be refused.
//!
//! `PROOFLINE_WRITE_VECTORS=1 cargo test -p proofline-verifier the_vectors_on_disk` writes them anew.

mod evidence;
mod payloads;
mod receipt;
mod session_evidence;
mod session_proof;
mod tlog;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde_json::{Value, json};

use crate::naive::LOG;
use crate::world;

const POLICY: &str = "two-of-three.policy";

/// One file and what `proofline-verify` makes of it.
pub(crate) struct Vector {
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    policy: &'static str,
    held: Option<Held>,
    /// The file with the entry, for files that do not hold it.
    entry: Option<&'static str>,
    exit_code: u8,
    /// The check that decides, for refused files.
    check: Option<&'static str>,
    completeness: Option<&'static str>,
    why: &'static str,
}

/// A checkpoint to compare with, by the names of its files.
#[derive(Clone, Copy)]
struct Held {
    checkpoint: &'static str,
    proof: Option<&'static str>,
}

impl Vector {
    fn new(file: &str, bytes: impl Into<Vec<u8>>, exit_code: u8, check: Option<&'static str>, why: &'static str) -> Self {
        Self {
            file: file.to_owned(),
            bytes: bytes.into(),
            policy: POLICY,
            held: None,
            entry: None,
            exit_code,
            check,
            completeness: None,
            why,
        }
    }

    pub(crate) fn valid(file: &str, bytes: impl Into<Vec<u8>>, why: &'static str) -> Self {
        Self::new(file, bytes, 0, None, why)
    }

    pub(crate) fn wrong(file: &str, bytes: impl Into<Vec<u8>>, check: &'static str, why: &'static str) -> Self {
        Self::new(file, bytes, 3, Some(check), why)
    }

    pub(crate) fn undecided(file: &str, bytes: impl Into<Vec<u8>>, check: &'static str, why: &'static str) -> Self {
        Self::new(file, bytes, 4, Some(check), why)
    }

    fn under(mut self, policy: &'static str) -> Self {
        self.policy = policy;
        self
    }

    fn holding(mut self, checkpoint: &'static str, proof: Option<&'static str>) -> Self {
        self.held = Some(Held { checkpoint, proof });
        self
    }

    fn about(mut self, entry: &'static str) -> Self {
        self.entry = Some(entry);
        self
    }

    fn and_is(mut self, completeness: &'static str) -> Self {
        self.completeness = Some(completeness);
        self
    }

    fn describe(&self) -> Value {
        let mut described = json!({ "file": self.file, "policy": self.policy, "exit_code": self.exit_code, "why": self.why });
        let optional = [
            ("failing_check", self.check),
            ("completeness", self.completeness),
            ("entry", self.entry),
            ("consistent_with", self.held.map(|held| held.checkpoint)),
            ("consistency_proof", self.held.and_then(|held| held.proof)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                described[name] = value.into();
            }
        }
        described
    }
}

fn directory() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("vectors")
}

fn all() -> Vec<Vector> {
    [tlog::vectors(), receipt::vectors(), session_proof::vectors(), session_evidence::vectors(), evidence::vectors(), payloads::vectors()]
        .into_iter()
        .flatten()
        .collect()
}

/// Policies, held checkpoints and consistency proofs, by file name.
fn companions() -> BTreeMap<String, Vec<u8>> {
    let [one, two, three] = world::nodes();
    let usual = world::usual();
    let older = usual.cut(4);
    let mut forked = older.clone();
    forked.entries[3] = b"another history".to_vec();
    let consistency = |older: usize, newer: usize| {
        let path = LOG.consistency(&LOG.leaves(&usual.entries[..newer]), older);
        let path: String = path.iter().map(|hash| format!("{}\n", STANDARD.encode(hash))).collect();
        format!("proofline/consistency-proof/v1\nold {older}\nnew {newer}\n{path}")
    };
    let companions = [
        (POLICY, world::policy()),
        ("log-only.policy", format!("log {}\nquorum none\n", world::log_key().vkey(1))),
        ("another-log.policy", format!("log {}\nquorum none\n", world::Signer::new("elsewhere.example/log", 9).vkey(1))),
        ("another-key.policy", format!("log {}\nquorum none\n", world::Signer::new(world::ORIGIN, 9).vkey(1))),
        ("all-nodes-and-witness.policy", {
            let witness = world::Signer::new("witness.example/w1", 2);
            let nodes = [&one, &two, &three].map(|node| format!("witness {} {}\n", node.name, node.vkey(4))).concat();
            let names = [one.name, two.name, three.name].join(" ");
            let groups = format!("group nodes all {names}\ngroup outside any w1\ngroup both all nodes outside\nquorum both\n");
            format!(
                "# every node, and a witness\nlog {} https://ledger.example/\n{nodes}witness w1 {}\n{groups}",
                world::log_key().vkey(1),
                witness.vkey(4)
            )
        }),
        ("older.checkpoint", older.checkpoint()),
        ("usual.checkpoint", usual.checkpoint()),
        ("story.checkpoint", evidence::held()),
        ("forked.checkpoint", forked.checkpoint()),
        ("older.consistency-proof", consistency(4, usual.size())),
        ("shorter.consistency-proof", consistency(4, usual.size() - 1)),
    ];
    let texts = companions.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes()));
    texts.chain(receipt::entries()).collect()
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = companions();
    let vectors = all();
    let index = json!({
        "schema": "proofline.vectors/v1",
        "vectors": vectors.iter().map(Vector::describe).collect::<Vec<_>>(),
    });
    files.insert("index.json".to_owned(), format!("{}\n", serde_json::to_string_pretty(&index).unwrap()).into_bytes());
    for vector in vectors {
        let earlier = files.insert(vector.file.clone(), vector.bytes);
        assert!(earlier.is_none(), "two vectors are named {}", vector.file);
    }
    files
}

#[test]
fn the_vectors_on_disk_are_the_generated_ones() {
    let generated = files();
    if std::env::var_os("PROOFLINE_WRITE_VECTORS").is_some() {
        std::fs::remove_dir_all(directory()).ok();
        std::fs::create_dir_all(directory()).unwrap();
        generated.iter().for_each(|(name, bytes)| std::fs::write(directory().join(name), bytes).unwrap());
    }
    let on_disk = std::fs::read_dir(directory()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(on_disk.collect::<std::collections::BTreeSet<_>>(), generated.keys().cloned().collect());
    for (name, bytes) in generated {
        let on_disk = std::fs::read(directory().join(&name)).unwrap();
        // The order of members depends on what else is built beside this crate.
        let is_same_json = || name == "index.json" && json(&on_disk) == json(&bytes);
        assert!(on_disk == bytes || is_same_json(), "{name} is not what is generated");
    }
}

/// It is made from `docs/FORMATS.md` alone. Needs Python, and PyPI the first time.
#[test]
fn a_verifier_in_another_language_says_the_same_of_every_vector() {
    let output = Command::new(directory().join("../interop/run.sh")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let index: Value = serde_json::from_slice(&files()["index.json"]).unwrap();
    let count = index["vectors"].as_array().unwrap().len();
    assert!(said.contains(&format!("{count} vectors, 0 differences")), "{said}");
}

/// The text of a document with its members in the order of their names.
pub(crate) fn sorted_text(of: &Value) -> String {
    match of {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let members: Vec<_> = sorted.iter().map(|(name, value)| format!("{}:{}", json!(name), sorted_text(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(sorted_text).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_binary_makes_of_every_vector_what_the_index_says() {
    let index: Value = serde_json::from_slice(&std::fs::read(directory().join("index.json")).unwrap()).unwrap();
    let mut differences = Vec::new();
    for vector in index["vectors"].as_array().unwrap() {
        let name = |field: &str| vector[field].as_str().unwrap_or_default().to_owned();
        let mut command = Command::new(env!("CARGO_BIN_EXE_proofline-verify"));
        command.current_dir(directory()).args([name("file"), "--policy".to_owned(), name("policy")]);
        for option in ["entry", "consistent_with", "consistency_proof"] {
            if let Some(file) = vector[option].as_str() {
                command.args([format!("--{}", option.replace('_', "-")), file.to_owned()]);
            }
        }
        let output = command.args(["--output", "json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if let Some(difference) = difference(vector, output.status.code(), &report) {
            differences.push(format!("{}: {difference}\n{:#}", vector["file"], report["files"][0]["checks"]));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn difference(vector: &Value, exit_code: Option<i32>, report: &Value) -> Option<String> {
    let of = &report["files"][0];
    if exit_code.map(Value::from).as_ref() != Some(&vector["exit_code"]) {
        return Some(format!("exit code {exit_code:?} instead of {}", vector["exit_code"]));
    }
    let wanted = if exit_code == Some(3) { "fail" } else { "not_checked" };
    let decisive = of["checks"].as_array()?.iter().find(|check| check["outcome"] == wanted).map(|check| &check["name"]);
    if decisive != vector.get("failing_check") {
        return Some(format!("decided by {decisive:?}"));
    }
    if of["facts"].as_array()?.is_empty() != (exit_code != Some(0)) {
        return Some("facts are shown exactly when verified".to_owned());
    }
    let completeness = vector.get("completeness").filter(|wanted| **wanted != of["completeness"]);
    completeness.map(|wanted| format!("completeness {} instead of {wanted}", of["completeness"]))
}

fn encoded(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Valid files of every kind, for tests that alter them.
pub(crate) fn valid() -> Vec<Vector> {
    all()
        .into_iter()
        .filter(|vector| vector.exit_code == 0 && vector.held.is_none() && vector.entry.is_none() && vector.policy == POLICY)
        .collect()
}

fn decode_entry(entry: &[u8]) -> proofline_proto::v1::Entry {
    proofline_proto::v1::Entry::decode(entry).unwrap()
}
