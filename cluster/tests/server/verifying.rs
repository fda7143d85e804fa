//! Two programs verify files; they are one verifier.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use proofline_cluster::Binaries;

const POLICY: &str = "two-of-three.policy";

fn run(program: &str, first: &[&str], files: &[String], form: &str) -> Output {
    let vectors = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../verifier/vectors");
    let mut command = Command::new(Binaries::beside_current().unwrap().path(program));
    command.current_dir(vectors).args(first).args(files).args(["--policy", POLICY, "--output", form]).output().unwrap()
}

/// The vectors of every kind, good and bad, and a file that is not there.
fn files() -> Vec<String> {
    let vectors: Vec<PathBuf> = fs::read_dir(Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../verifier/vectors"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind.to_str().unwrap().ends_with("-proof") || kind == "session-evidence"))
        .collect();
    let mut names: Vec<String> = vectors.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names.push("missing.tlog-proof".to_owned());
    assert!(names.len() > 50);
    names
}

#[test]
fn the_command_line_says_of_every_file_what_the_verifier_says() {
    let files = files();
    for (of_verifier, of_command_line) in [("human", "table"), ("json", "json")] {
        let verifier = run("proofline-verify", &[], &files, of_verifier);
        let command_line = run("proofline", &["verify"], &files, of_command_line);
        assert_eq!(String::from_utf8_lossy(&command_line.stdout), String::from_utf8_lossy(&verifier.stdout));
        assert_eq!((command_line.status.code(), verifier.status.code()), (Some(3), Some(3)));
        assert!(!verifier.stdout.is_empty());
    }
}
