//! A harness that was killed leaves nothing that the next one does not remove.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proofline_jepsen::leftovers::{MARKS, RUN_VARIABLE};

use crate::alone;

const UP_WITHIN: Duration = Duration::from_secs(60);

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
    while Traces::of(&run, directory).processes < 3 || !directory.join("history.jsonl").exists() {
        assert!(Instant::now() < until, "the nodes did not come up: {:?}", Traces::of(&run, directory));
        std::thread::sleep(Duration::from_millis(50));
    }
    (child, run)
}

#[test]
fn what_a_killed_harness_left_behind_is_removed_by_the_next() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().canonicalize().unwrap().join("run");
    let (mut child, run) = under_way(&directory);
    child.kill().unwrap();
    child.wait().unwrap();
    let left = Traces::of(&run, &directory);
    assert_eq!(left, Traces { processes: 3, mounts: 3, loop_devices: 3, namespaces: 4 }, "there is something to remove");
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
