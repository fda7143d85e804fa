//! What leaves a running cluster for others to keep: receipts and an archive of the log, and what altered files of them are called.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use proofline_cluster::{Binaries, Tls};

use crate::world::{Collector, World, event};

const VERIFIED: i32 = 0;
const PROVEN_WRONG: i32 = 3;
const UNDECIDED: i32 = 4;

/// Three nodes, and an auditor's directory.
struct Auditor {
    world: World,
    gateway: Collector,
}

impl Auditor {
    async fn of(entries: usize) -> Self {
        let world = World::found(3, Tls::Mutual).await;
        let gateway = world.collector("gateway").await;
        let mut auditor = Self { world, gateway };
        auditor.append(entries).await;
        auditor
    }

    /// Appends events, and waits until every node has published them.
    async fn append(&mut self, events: usize) {
        let events = (0..events).map(|n| event(&format!("s{}", n % 5))).collect();
        let request = self.gateway.sign(events);
        let count = request.batch.as_ref().unwrap().events.len() as u64;
        let first = self.world.ingest(0, "gateway").append(request).await.unwrap().into_inner().first_index;
        for place in 0..3 {
            self.world.published(place, first + count).await;
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.plan().root.join(name)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(Binaries::beside_current().unwrap().path(program));
        command.current_dir(&self.world.plan().root).args(arguments).output().unwrap()
    }

    fn archive(&self) -> Output {
        let profile = self.world.plan().profile("auditor");
        self.run("proofline", &["--profile", profile.to_str().unwrap(), "archive", "archive"])
    }

    fn check(&self) -> Output {
        self.run("proofline", &["archive-check", "archive", "--policy", "policy.txt"])
    }
}

pub(crate) fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
pub(crate) fn expect(output: &Output, exit_code: i32, said: &str) {
    assert_eq!(output.status.code(), Some(exit_code), "{}", told(output));
    assert!(told(output).contains(said), "{said:?} is not in: {}", told(output));
}

/// Alters a byte in the middle of a file, and returns what was there.
fn alter(path: &Path) -> Vec<u8> {
    let original = fs::read(path).unwrap();
    let mut altered = original.clone();
    altered[original.len() / 2] ^= 1;
    fs::write(path, altered).unwrap();
    original
}

#[tokio::test]
async fn a_receipt_is_the_word_of_the_log_key_until_a_checkpoint_binds_it() {
    let auditor = Auditor::of(20).await;
    let profile = auditor.world.plan().profile("auditor");
    let proven = auditor.run("proofline", &["--profile", profile.to_str().unwrap(), "prove", "--receipt", "7", "--out", "7.cose-receipt"]);
    expect(&proven, VERIFIED, "VERIFIED (cose-receipt)");
    let alone = ["7.cose-receipt", "--entry", "7.entry", "--policy", "policy.txt"];
    let bound = [&alone[..], &["--consistent-with", "7.checkpoint"]].concat();
    for (program, first) in [("proofline-verify", &[][..]), ("proofline", &["verify"][..])] {
        let verify = |arguments: &[&str]| auditor.run(program, &[first, arguments].concat());
        expect(&verify(&alone), VERIFIED, "- tree size, and a quorum: the receipt is one log key's word");
        expect(&verify(&bound), VERIFIED, "consistency");
        assert!(!told(&verify(&bound)).contains("one log key's word"), "{}", told(&verify(&bound)));
        expect(&verify(&["7.cose-receipt", "--policy", "policy.txt"]), UNDECIDED, "--entry");
    }
    let entry = alter(&auditor.path("7.entry"));
    expect(&auditor.run("proofline-verify", &alone), PROVEN_WRONG, "log-signature");
    fs::write(auditor.path("7.entry"), entry).unwrap();
    alter(&auditor.path("7.checkpoint"));
    assert_ne!(auditor.run("proofline-verify", &bound).status.code(), Some(VERIFIED));
}

#[tokio::test]
async fn an_archive_grows_with_the_log_and_names_the_file_that_was_altered() {
    let mut auditor = Auditor::of(600).await;
    expect(&auditor.archive(), VERIFIED, "kept");
    expect(&auditor.check(), VERIFIED, "VERIFIED");
    let replayed = auditor.run("proofline", &["replay", "--archive", "archive", "--policy", "policy.txt"]);
    expect(&replayed, VERIFIED, "the log is what the state machine makes of its submissions");

    // A run that was interrupted left a whole bundle behind, a part of another, and no tile of it.
    auditor.append(300).await;
    fs::remove_file(auditor.path("archive/tile/0/001")).unwrap();
    for begun in ["archive/tile/0/.002.0badcafe.part", "archive/.checkpoint.0badcafe.part"] {
        fs::write(auditor.path(begun), b"begun").unwrap();
    }
    expect(&auditor.check(), UNDECIDED, "tile/0/001 is missing");
    expect(&auditor.archive(), VERIFIED, "512");
    expect(&auditor.check(), VERIFIED, "VERIFIED");
    assert!(!auditor.path("archive/tile/0/.002.0badcafe.part").exists() && !auditor.path("archive/tile/0/002.p").exists());

    // 903 entries: three full bundles and one of 135.
    for file in ["tile/entries/001", "tile/entries/003.p/135", "tile/0/000", "tile/0/003.p/135", "tile/1/000.p/3", "checkpoint"] {
        let path = auditor.path("archive").join(file);
        let original = alter(&path);
        let checked = auditor.check();
        let named = if file == "checkpoint" { "error" } else { file };
        assert!(matches!(checked.status.code(), Some(PROVEN_WRONG | UNDECIDED)), "{file}: {}", told(&checked));
        assert!(told(&checked).contains(named), "{file}: {}", told(&checked));
        fs::remove_file(&path).unwrap();
        expect(&auditor.check(), UNDECIDED, &format!("{file} is missing"));
        fs::write(&path, original).unwrap();
    }
    fs::write(auditor.path("archive/tile/0/004"), b"more").unwrap();
    expect(&auditor.check(), UNDECIDED, "tile/0/004 belongs to no archive of this size");
    fs::remove_file(auditor.path("archive/tile/0/004")).unwrap();
    expect(&auditor.check(), VERIFIED, "VERIFIED");
}

#[tokio::test]
async fn two_runs_do_not_write_one_archive() {
    let auditor = Auditor::of(20).await;
    expect(&auditor.archive(), VERIFIED, "kept");
    let held = File::options().write(true).open(auditor.path("archive/.lock")).unwrap();
    held.try_lock().unwrap();
    expect(&auditor.archive(), 1, "in use by another run");
    expect(&auditor.check(), VERIFIED, "VERIFIED");
    drop(held);
    expect(&auditor.archive(), VERIFIED, "kept");
}

#[tokio::test]
async fn an_altered_archive_is_not_gone_on_with() {
    let mut auditor = Auditor::of(300).await;
    expect(&auditor.archive(), VERIFIED, "kept");
    alter(&auditor.path("archive/tile/entries/000"));
    auditor.append(10).await;
    expect(&auditor.archive(), PROVEN_WRONG, "tile/");
    expect(&auditor.check(), PROVEN_WRONG, "tile/entries/000");
}

#[tokio::test]
async fn the_archive_of_another_ledger_of_the_same_name_is_left_alone() {
    let (one, other) = (Auditor::of(20).await, Auditor::of(20).await);
    expect(&one.archive(), VERIFIED, "kept");
    let theirs = fs::read(one.path("archive/checkpoint")).unwrap();
    fs::rename(one.path("archive"), other.path("archive")).unwrap();
    // Two clusters of one name: nobody is proven wrong by that.
    expect(&other.archive(), 1, "the archive of another log");
    assert_eq!(fs::read(other.path("archive/checkpoint")).unwrap(), theirs, "it is as it was");
}

#[tokio::test]
async fn evidence_that_is_there_is_not_replaced_unasked() {
    let auditor = Auditor::of(5).await;
    let profile = auditor.world.plan().profile("auditor");
    let prove = |rest: &[&str]| auditor.run("proofline", &[&["--profile", profile.to_str().unwrap(), "prove"], rest].concat());
    expect(&prove(&["--index", "2", "--out", "a.tlog-proof"]), VERIFIED, "VERIFIED");
    let first = fs::read(auditor.path("a.tlog-proof")).unwrap();
    expect(&prove(&["--index", "3", "--out", "a.tlog-proof"]), 1, "a.tlog-proof is there already");
    fs::write(auditor.path("3.checkpoint"), "somebody's").unwrap();
    expect(&prove(&["--receipt", "3", "--out", "3.cose-receipt"]), 1, "3.checkpoint is there already");
    assert_eq!(fs::read(auditor.path("a.tlog-proof")).unwrap(), first);
    expect(&prove(&["--index", "3", "--out", "a.tlog-proof", "--force"]), VERIFIED, "VERIFIED");
    assert_ne!(fs::read(auditor.path("a.tlog-proof")).unwrap(), first);
}
