//! A minute of real faults on a real cluster.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::alone;

/// Faults of processes, disks, files and the network, few enough to come within a minute.
const FAULTS: &str = "kill-leader,pause,power-loss,bit-flip,isolate-leader,slow-network";

#[test]
fn a_cluster_keeps_its_promises_through_a_minute_of_faults() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_proofline-jepsen"));
    command.args(["run", "--seed", "20", "--for", "60s", "--faults", FAULTS, "--out"]).arg(&directory).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // The directory is looked at afterwards: everything is in it.
        panic!("{said}\nkept: {}", root.keep().display());
    }
    let verdict: serde_json::Value = serde_json::from_slice(&fs::read(directory.join("verdict.json")).unwrap()).unwrap();
    assert_eq!(verdict["ruling"], "holds", "{said}");
    assert!(verdict["measures"]["acknowledged"].as_u64().unwrap() > 100, "it had work: {said}");
    for fault in FAULTS.split(',') {
        assert!(verdict["faults"][fault]["seen"].as_u64().unwrap() > 0, "{fault} was seen: {said}");
    }
    assert!(verdict["second_opinion"]["linearizable"].as_u64().unwrap() > 0, "somebody else's checker was asked: {said}");
    assert!(!directory.join("disks").exists(), "disks of a run without a fault are not kept");
}
