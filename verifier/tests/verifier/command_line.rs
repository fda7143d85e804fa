//! The binary as people and scripts meet it: exit codes, output, hostile content, many files.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proofline_proto::v1;
use serde_json::Value;

use crate::world::{self, World, event, gateway};

const POLICY: &str = "two-of-three.policy";

fn vector(name: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("vectors").join(name)
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_proofline-verify")).current_dir(vector("")).args(arguments).output().unwrap()
}

fn stdout(of: &Output) -> String {
    String::from_utf8(of.stdout.clone()).unwrap()
}

#[test]
fn wrong_arguments_exit_with_1_and_say_so_on_stderr() {
    let refused: [&[&str]; 7] = [
        &[],
        &["event.tlog-proof"],
        &["--policy", POLICY],
        &["event.tlog-proof", "--policy", POLICY, "--unknown"],
        &["event.tlog-proof", "--policy", POLICY, "--output", "xml"],
        &["event.tlog-proof", "--policy", "missing.policy"],
        &["event.tlog-proof", "--policy", POLICY, "--consistency-proof", "older.consistency-proof"],
    ];
    for arguments in refused {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_no_policy_is_refused_with_the_line() {
    let output = run(&["event.tlog-proof", "--policy", "older.checkpoint"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("policy line 1"));
}

#[test]
fn help_shows_an_example_and_the_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    assert!(help.contains("proofline-verify run-42.session-evidence --policy ledger.policy"));
    assert!(help.contains("3  a file is proven wrong"));
}

#[test]
fn a_file_that_cannot_be_read_is_undecided_and_the_others_are_still_checked() {
    let output = run(&["missing.tlog-proof", "event.tlog-proof", "--policy", POLICY]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stdout(&output).contains("2 files: 1 verified, 0 proven wrong, 1 could not be decided"));
}

#[test]
fn one_wrong_file_outweighs_undecided_ones() {
    let output = run(&["version.tlog-proof", "entry-flipped.tlog-proof", "event.tlog-proof", "--policy", POLICY]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn people_read_the_verdict_each_check_and_what_is_not_proven() {
    let output = stdout(&run(&["sealed.session-evidence", "--policy", POLICY]));
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "sealed.session-evidence: VERIFIED (session-evidence); completeness: complete");
    assert!(lines.iter().any(|line| line.starts_with("  pass        quorum ")));
    assert!(lines.contains(&"not proven"));
    assert!(output.contains("silence is not proof"));
}

#[test]
fn people_read_why_a_file_is_wrong_and_what_was_therefore_not_checked() {
    let output = stdout(&run(&["path-short.tlog-proof", "--policy", POLICY]));
    assert!(output.starts_with("path-short.tlog-proof: PROVEN WRONG (tlog-proof)"));
    assert!(output.contains("  fail        log-inclusion "));
    assert!(output.contains("  not checked entries "));
}

#[test]
fn a_retired_key_in_the_policy_is_warned_of_without_refusing() {
    let output = run(&["retired-node.session-evidence", "--policy", POLICY]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("warning: the policy's witness n3 holds the key of node 3, which entry 3 retired"));
}

#[test]
fn scripts_read_one_versioned_document_about_all_files() {
    let output = run(&["event.tlog-proof", "path-short.tlog-proof", "--policy", POLICY, "--output", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "proofline.verify/v1");
    assert_eq!(document["exit_code"], 3);
    assert_eq!((&document["files"][0]["integrity"], &document["files"][1]["integrity"]), (&"verified".into(), &"proven_wrong".into()));
    let facts = document["files"][0]["facts"].as_array().unwrap();
    assert!(facts.iter().any(|fact| fact["name"] == "tree size" && fact["value"] == "11"));
}

/// A session whose id clears the screen, reverses the text and imitates a verdict.
fn hostile() -> Vec<u8> {
    let mut world = World::new();
    let id = "s\u{1b}[2J\u{202e}\u{7f}\u{9b}31m\nVERIFIED\u{2066}\u{e0041}";
    let described = v1::event::Body::AgentSeen(v1::AgentSeen { description: id.to_owned() });
    world.batch(&gateway(), &[v1::Event { body: Some(described), ..event(id, 1) }]);
    prost::Message::encode_to_vec(&world.session_evidence(id))
}

#[test]
fn hostile_content_reaches_no_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hostile.session-evidence");
    std::fs::write(&file, hostile()).unwrap();
    for output in ["human", "json"] {
        let output = run(&[file.to_str().unwrap(), "--policy", POLICY, "--output", output]);
        assert_eq!(output.status.code(), Some(0));
        let printed = stdout(&output);
        let is_harmful = |it: char| (it.is_control() && it != '\n') || matches!(it, '\u{202e}' | '\u{2066}' | '\u{e0041}');
        assert!(!printed.contains(is_harmful), "{printed:?}");
        assert!(!printed.lines().any(|line| line.starts_with("VERIFIED")));
    }
}

#[test]
fn json_keeps_hostile_content_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hostile.session-evidence");
    std::fs::write(&file, hostile()).unwrap();
    let output = run(&[file.to_str().unwrap(), "--policy", POLICY, "--output", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let facts = document["files"][0]["facts"].as_array().unwrap();
    let session = facts.iter().find(|fact| fact["name"] == "session").unwrap();
    assert_eq!(session["value"], "s\u{1b}[2J\u{202e}\u{7f}\u{9b}31m\nVERIFIED\u{2066}\u{e0041}");
}

#[test]
fn two_hundred_files_are_checked_in_one_run() {
    let arguments: Vec<&str> = ["sealed.session-evidence"; 200].into_iter().chain(["--policy", POLICY]).collect();
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).ends_with("200 files: 200 verified, 0 proven wrong, 0 could not be decided\n"));
}

#[test]
fn the_policy_of_the_vectors_is_the_one_that_the_tests_use() {
    assert_eq!(std::fs::read_to_string(vector(POLICY)).unwrap(), world::policy());
}

/// Text that would be markup, a script, a picture, a reversed line, or endless.
fn hostile_texts() -> [String; 6] {
    [
        "</td><script>alert(1)</script>".to_owned(),
        "\"><img src=x onerror=alert(1)>".to_owned(),
        "<svg onload=alert(1)>".to_owned(),
        "abc\u{202e}gnp.exe\u{2066}".to_owned(),
        "x'><style>*{display:none}</style>".to_owned(),
        "y".repeat(9_000),
    ]
}

fn hostile_evidence() -> Vec<u8> {
    use crate::evidence_file::{EvidenceFile, intent};
    use crate::lineage::{Lineage, question};
    let mut world = World::new();
    for (number, text) in hostile_texts().iter().enumerate() {
        let mut event = intent(text, number as u8, text, text);
        event.attribution.as_mut().unwrap().agent.as_mut().unwrap().agent_id = text.clone();
        world.batch(&gateway(), &[event]);
    }
    let lineage = Lineage::commit(world);
    let asked = question(&[(v1::Dimension::Collector, "gateway")], v1::LineageDirection::Both, 4);
    let mut file = EvidenceFile::of(&lineage, &lineage.answer(&asked, 100));
    file.manifest["asked"] = hostile_texts().concat().into();
    file.pack()
}

fn html_of(bytes: &[u8]) -> (Option<i32>, Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let (file, page) = (directory.path().join("<b>x.evidence.zip"), directory.path().join("report.html"));
    std::fs::write(&file, bytes).unwrap();
    let output = run(&[file.to_str().unwrap(), "--policy", POLICY, "--report", page.to_str().unwrap()]);
    (output.status.code(), std::fs::read_to_string(page).ok())
}

#[test]
fn a_report_takes_the_place_of_a_report_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (file, page) = (directory.path().join("x.evidence.zip"), directory.path().join("report.html"));
    let evidence = hostile_evidence();
    std::fs::write(&file, &evidence).unwrap();
    let report_to = |path: &Path| {
        let output = run(&[file.to_str().unwrap(), "--policy", POLICY, "--report", path.to_str().unwrap()]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (exit_code, said) = report_to(&file);
    assert!(exit_code == Some(1) && said.contains("is no report"), "{exit_code:?} {said}");
    assert_eq!(std::fs::read(&file).unwrap(), evidence, "the evidence is as it was");
    assert_eq!(report_to(&page).0, Some(0));
    assert_eq!(report_to(&page).0, Some(0), "a report may be made again");
}

#[test]
fn a_page_for_people_holds_hostile_text_as_text() {
    let (exit_code, page) = html_of(&hostile_evidence());
    assert_eq!(exit_code, Some(0));
    let page = page.unwrap();
    for forbidden in ["<script", "<img", "<svg onload", "onerror=alert(1)>", "<style>*", "\u{202e}", "\u{2066}", "<b>x"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("&lt;script&gt;") && page.contains("\\u{202e}") && page.contains("(9000 characters)"));
    assert!(!page.contains(&"y".repeat(1_000)));
    assert_eq!(page.matches("<style>").count(), 1);
    assert!(page.contains("default-src 'none'; style-src 'sha256-"));
    let markup = page.replace("img src=x", "");
    assert!(!markup.contains("http://") && !markup.contains(" src=") && !markup.contains(" href="));
}

#[test]
fn a_page_for_people_shows_verdicts_timeline_lineage_findings_and_checks() {
    let bytes = std::fs::read(vector("around-session.evidence.zip")).unwrap();
    let (_, page) = html_of(&bytes);
    let page = page.unwrap();
    let parts = ["Integrity: verified", "Completeness: complete", "<h2>Timeline", "<h2>Lineage", "<svg viewBox", "D02-new-production-data"];
    for part in parts.into_iter().chain(["<h2>Control mapping", "SOC2-CC7.2", "keys-carried", "<h2>What is not proven", "cosigned by"]) {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn no_page_is_written_of_what_is_not_verified() {
    let bytes = std::fs::read(vector("key-hidden.evidence.zip")).unwrap();
    assert_eq!(html_of(&bytes), (Some(3), None));
}
