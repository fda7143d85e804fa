//! Three nodes with a bug on purpose, on real processes: the harness must notice.

use std::process::{Command, Stdio};

use proofline_jepsen::planted::SMOKE;

use crate::alone;

#[test]
fn bugs_on_purpose_are_noticed() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("planted");
    let mut command = Command::new(env!("CARGO_BIN_EXE_proofline-jepsen"));
    command.args(["planted", "--seeds", "2", "--out"]).arg(&directory).args(SMOKE.iter().flat_map(|bug| ["--bug", bug]));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        panic!("{said}\nkept: {}", root.keep().display());
    }
    let findings: serde_json::Value = serde_json::from_slice(&std::fs::read(directory.join("planted.json")).unwrap()).unwrap();
    let caught = findings.as_array().unwrap().iter().filter(|finding| finding["is_caught"] == true).count();
    assert_eq!(caught, SMOKE.len(), "{said}");
}
