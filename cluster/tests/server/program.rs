//! The program `proofline-cluster` as people run it: what it says, how it ends, and what it leaves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_proofline-cluster");
const IN_TIME: Duration = Duration::from_secs(180);

/// Returns the processes whose command line names a directory.
fn processes_of(directory: &Path) -> Vec<u32> {
    let name = directory.as_os_str().as_encoded_bytes();
    let is_of = |process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.windows(name.len()).any(|part| part == name)
    };
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(is_of).collect()
}

/// Where the program keeps what is temporary, and its cluster. Whatever still runs there ends with it.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// Where a cluster lies when nobody says where.
    fn cluster(&self) -> PathBuf {
        self.root.path().join("proofline/cluster")
    }

    /// Runs the program to its end, and returns its exit code and what it said.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("TMPDIR", self.root.path()).env("XDG_STATE_HOME", self.root.path()).kill_on_drop(true);
        let output = tokio::time::timeout(IN_TIME, command.output()).await.expect("the program ends").unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said.into_owned())
    }

    /// Runs a command on the cluster here, and checks how it ends and that it says these words.
    async fn expect(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let (ended, said) = self.run(arguments).await;
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        for part in words {
            assert!(said.contains(part), "{arguments:?} does not say {part:?}: {said}");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for process in processes_of(self.root.path()) {
            drop(std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status());
        }
    }
}

#[tokio::test]
async fn the_demonstration_shows_what_it_promises_and_leaves_nothing() {
    let place = Place::new();
    let (code, said) = place.run(&["demo"]).await;
    assert_eq!(code, Some(0), "{said}");
    let promised = [
        "leads, and any one of the three may fail",
        "--- kill -9: node-",
        "later by the other two ---",
        "DENY   the helper wants to send the records to a paste site   [agent-unregistered, helper-sends-out]",
        "the killed node is back",
        "DENY   the helper tries to send them once more   [agent-unregistered, contained, helper-sends-out]",
        "db-helper.session-evidence: VERIFIED (session-evidence); completeness: complete",
        ".tlog-proof: VERIFIED (tlog-proof)",
        "forged.session-evidence: PROVEN WRONG (session-evidence)",
        "exit code 3: proven wrong",
        "That is all: the ledger is stopped, nothing of it is left.",
    ];
    let mut rest = said.as_str();
    for line in promised {
        rest = rest.split_once(line).unwrap_or_else(|| panic!("{line:?} is missing, or out of order:\n{said}")).1;
    }
    assert_eq!(processes_of(place.root.path()), [0_u32; 0], "nodes run on");
    assert!(fs::read_dir(place.root.path()).unwrap().next().is_none(), "files are left");
}

#[tokio::test]
async fn a_demonstration_that_is_interrupted_leaves_nothing() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130), ("-HUP", 129)] {
        let place = Place::new();
        let mut command = Command::new(PROGRAM);
        command.arg("demo").env("TMPDIR", place.root.path()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut demo = command.spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        let begun = async { while !lines.next_line().await.unwrap().expect("it goes on").contains("any one of the three may fail") {} };
        tokio::time::timeout(IN_TIME, begun).await.expect("nodes are up");
        assert_eq!(processes_of(place.root.path()).len(), 3);
        assert!(Command::new("kill").args([signal, &demo.id().unwrap().to_string()]).status().await.unwrap().success());
        let ended = tokio::time::timeout(IN_TIME, demo.wait()).await.expect("it ends").unwrap();
        assert_eq!(ended.code(), Some(code), "{signal}");
        assert_eq!(processes_of(place.root.path()), [0_u32; 0], "nodes run on after {signal}");
        assert!(fs::read_dir(place.root.path()).unwrap().next().is_none(), "files are left after {signal}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_up_says_how_it_is_until_it_is_down() {
    let place = Place::new();
    place.expect(&["status"], 1, &["holds no cluster"]).await;
    place.expect(&["down"], 1, &["holds no cluster"]).await;
    place.expect(&["up", "--nodes", "3"], 0, &["3 nodes are ready", "proofline status"]).await;
    assert_eq!(processes_of(&place.cluster()).len(), 3, "the nodes outlive the program that started them");
    place.expect(&["up"], 1, &["is running already"]).await;
    place.expect(&["status"], 0, &["leader: node-", "may lose 1 more", "node-1", "node-2", "node-3"]).await;

    place.expect(&["down"], 0, &["3 nodes stopped"]).await;
    assert_eq!(processes_of(&place.cluster()), [0_u32; 0]);
    place.expect(&["status"], 7, &["0 of 3 processes run, and no node answers"]).await;
    place.expect(&["down"], 0, &["0 nodes stopped"]).await;

    place.expect(&["up"], 0, &["again", "3 nodes are ready"]).await;
    place.expect(&["status"], 0, &["may lose 1 more"]).await;
    place.expect(&["down", "--remove"], 0, &["3 nodes stopped", "removed"]).await;
    assert!(!place.cluster().exists() && processes_of(&place.cluster()).is_empty());
}

#[tokio::test]
async fn a_node_that_died_is_named_and_the_cluster_called_degraded() {
    let place = Place::new();
    place.expect(&["up"], 0, &["3 nodes are ready"]).await;
    let (_, before) = place.run(&["status"]).await;
    let leads = (1..=3).find(|id| before.contains(&format!("leader: node-{id} "))).expect("somebody leads");
    let victim = leads % 3 + 1;
    let processes = fs::read_to_string(place.cluster().join("processes")).unwrap();
    let process = processes.lines().nth(victim - 1).unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", process]).status().unwrap().success());
    let (code, said) = place.run(&["status"]).await;
    assert_eq!(code, Some(7), "{said}");
    let line = said.lines().find(|line| line.trim_start().starts_with(&format!("node-{victim} "))).unwrap();
    assert!(line.contains("does not answer") && said.contains("may lose 0 more"), "{said}");
    assert_eq!(said.matches("does not answer").count(), 1, "the other two do: {said}");
    place.expect(&["down"], 0, &["2 nodes stopped"]).await;
}
