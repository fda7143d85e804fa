//! Bugs on purpose are in one program, and that one is not shipped.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, process::Command};

use proofline_cluster::Binaries;
use proofline_jepsen::planted::{BUGS, EVIL, NONE, PROGRAM, SMOKE, VARIABLE};

/// Everything that the program may be told to do wrong.
fn names() -> impl Iterator<Item = &'static str> {
    BUGS.iter().map(|bug| bug.name).chain(EVIL.iter().map(|behaviour| behaviour.name))
}

fn bytes_of(program: &str) -> Vec<u8> {
    std::fs::read(Binaries::beside_current().unwrap().path(program)).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn start(bug: Option<&str>) -> (bool, String) {
    let mut command = Command::new(Binaries::beside_current().unwrap().path(PROGRAM));
    command.arg("--version").env_remove(VARIABLE).envs(bug.map(|bug| (VARIABLE, bug)));
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_shipped_node_holds_no_planted_bug_and_no_lie() {
    let (shipped, planted) = (bytes_of("proofline-node"), bytes_of(PROGRAM));
    for name in names().chain([VARIABLE]) {
        assert!(holds(&planted, name), "{PROGRAM} has {name}: otherwise this test would find nothing");
        assert!(!holds(&shipped, name), "proofline-node has {name}");
    }
}

#[test]
fn a_bug_is_chosen_by_name_and_said_aloud() {
    for wrong in [None, Some(""), Some("no-such-bug")] {
        let (is_success, said) = start(wrong);
        assert!(!is_success && said.contains("error: "), "{wrong:?}: {said}");
        let named: BTreeSet<&str> = said.trim().rsplit_once(": ").unwrap().1.split(", ").collect();
        assert_eq!(named, names().chain([NONE]).collect(), "the program and the harness know the same bugs");
    }
    for name in names().chain([NONE]) {
        let (is_success, said) = start(Some(name));
        assert!(is_success && said.contains("NOT FOR USE"), "{name}: {said}");
    }
}

#[test]
fn every_bug_says_what_must_notice_it() {
    assert!(BUGS.iter().all(|bug| !bug.breaks.is_empty() && bug.seconds > 0));
    assert_eq!(BUGS.iter().map(|bug| bug.name).collect::<BTreeSet<_>>().len(), BUGS.len());
    assert!(SMOKE.iter().all(|name| BUGS.iter().any(|bug| bug.name == *name)));
}
