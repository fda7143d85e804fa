//! A harness that was killed leaves nothing behind: its guard removes it, or the next harness does.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proofline_jepsen::leftovers::{MARKS, RUN_VARIABLE};

use crate::alone;

const UP_WITHIN: Duration = Duration::from_secs(120);
const GONE_WITHIN: Duration = Duration::from_secs(120);
const EVERYTHING: Traces = Traces { processes: 3, mounts: 3, loop_devices: 3, namespaces: 4 };

/// What there is of a run outside its directory.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    processes: usize,
    mounts: usize,
    loop_devices: usize,
    namespaces: usize,
}

impl Traces {
    const NONE: Self = Self { processes: 0, mounts: 0, loop_devices: 0, namespaces: 0 };

    fn of(run: &str, directory: &Path) -> Self {
        let directory = directory.to_str().unwrap();
        let variable = format!("{RUN_VARIABLE}={run}");
        let environments = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.unwrap().path().join("environ")).ok());
        let is_of_run = |environment: &Vec<u8>| environment.split(|byte| *byte == 0).any(|it| it == variable.as_bytes());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let loops = Command::new("losetup").args(["--list", "--noheadings", "--output", "BACK-FILE"]).output().unwrap().stdout;
        let names = fs::read_dir("/run/netns").into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        Self {
            processes: environments.filter(is_of_run).count(),
            mounts: mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with(directory))).count(),
            loop_devices: String::from_utf8(loops).unwrap().lines().filter(|line| line.starts_with(directory)).count(),
            namespaces: names.filter(|name| name.starts_with(&format!("{run}-"))).count(),
        }
    }
}

fn harness(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proofline-jepsen"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A run that lasts longer than any test, with all its nodes up.
fn under_way(directory: &Path) -> (Child, String) {
    let arguments = ["run", "--seed", "1", "--for", "10m", "--faults", "slow-disk", "--out", directory.to_str().unwrap()];
    let child = harness(&arguments).spawn().unwrap();
    let run = format!("pj{}-0", child.id());
    let until = Instant::now() + UP_WITHIN;
    // The first answer is recorded once all nodes serve.
    let is_answered = || fs::read_to_string(directory.join("history.jsonl")).is_ok_and(|history| history.contains(r#"{"line":"return","#));
    while !is_answered() {
        assert!(Instant::now() < until, "the nodes did not come up: {:?}", Traces::of(&run, directory));
        std::thread::sleep(Duration::from_millis(50));
    }
    (child, run)
}

/// Kills the guard of a harness.
fn kill_guard(of: &Child) {
    let wanted = ["clean", "--when-gone", &of.id().to_string()].join("\0");
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let is_guard = |entry: &fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains(&wanted));
    let guards: Vec<_> = all.filter(is_guard).map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(guards.len(), 1, "a run has a guard");
    assert!(Command::new("kill").arg("-KILL").args(guards).status().unwrap().success());
}

#[test]
fn what_a_killed_harness_left_behind_is_removed_by_its_guard() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().canonicalize().unwrap().join("run");
    let (mut child, run) = under_way(&directory);
    assert_eq!(Traces::of(&run, &directory), EVERYTHING, "there is something to remove");
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + GONE_WITHIN;
    while Traces::of(&run, &directory) != Traces::NONE || Path::new(MARKS).join(&run).exists() {
        assert!(Instant::now() < until, "left over: {:?}", Traces::of(&run, &directory));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(directory.join("history.jsonl").exists(), "results are kept");
}

#[test]
fn what_a_killed_harness_and_its_guard_left_behind_is_removed_by_the_next() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().canonicalize().unwrap().join("run");
    let (mut child, run) = under_way(&directory);
    kill_guard(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(Traces::of(&run, &directory), EVERYTHING, "there is something to remove");
    assert!(harness(&["clean"]).status().unwrap().success());
    assert_eq!(Traces::of(&run, &directory), Traces::NONE);
    assert!(!Path::new(MARKS).join(&run).exists());
    assert!(directory.join("history.jsonl").exists(), "results are kept");
}

#[test]
fn a_harness_that_is_interrupted_removes_everything_itself_and_the_living_are_left_alone() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().canonicalize().unwrap().join("run");
    let (mut child, run) = under_way(&directory);
    assert!(harness(&["clean"]).status().unwrap().success());
    assert_eq!(Traces::of(&run, &directory).processes, 3, "a sweep touches no run that lives");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(Traces::of(&run, &directory), Traces::NONE);
    assert!(!Path::new(MARKS).join(&run).exists());
}
