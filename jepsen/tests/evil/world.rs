//! Three nodes of which the first may be evil, and the command line tool that asks them.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use proofline_client::{Client, Profile, RetryPolicy};
use proofline_cluster::{Binaries, Cluster, Plan, PlannedNode, TENANT, Tls, http};
use proofline_jepsen::planted::{NONE, PROGRAM, VARIABLE};
use proofline_proto::v1;

/// The node that is evil.
pub(crate) const EVIL: usize = 0;
/// One that is not.
pub(crate) const HONEST: usize = 1;
const PATIENCE: Duration = Duration::from_secs(60);
const COLLECTOR: &str = "gateway";

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    binaries: Binaries,
    root: tempfile::TempDir,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Said {
    /// Checks how the program ended and that it said so.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, text: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.out.contains(text) || self.error.contains(text), "{text:?} is not in {self:?}");
    }
}

impl World {
    /// Founds a cluster that commits to its state hardly ever; the first node runs the program with the lies, of which
    /// `behaviour` is chosen.
    pub(crate) async fn found(behaviour: &str) -> Self {
        Self::committing_every(60_000, behaviour).await
    }

    /// The same for a cluster that commits to its state so often, in milliseconds, while entries with keys come.
    pub(crate) async fn committing_every(milliseconds: u64, behaviour: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let binaries = Binaries::beside_current().unwrap();
        let planned = Plan::create(&root.path().join("cluster"), 3, Tls::Off).unwrap();
        planned.commit_every(milliseconds).unwrap();
        let mut cluster = Cluster::of(planned, binaries.clone());
        for node in cluster.plan.nodes.clone() {
            cluster.initialise(&node, &["--bootstrap"]).unwrap();
        }
        cluster.start_program(EVIL, PROGRAM, &[(VARIABLE, behaviour)]).unwrap();
        cluster.start(HONEST).unwrap();
        cluster.start(2).unwrap();
        let mut world = Self { cluster, binaries, root };
        for place in 0..3 {
            world.cluster.ready(place).await.unwrap();
        }
        world.write_profiles();
        world.register();
        world
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.cluster.plan
    }

    pub(crate) fn node(&self, place: usize) -> &PlannedNode {
        &self.cluster.plan.nodes[place]
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A profile that knows one node only, beside the one that knows all.
    pub(crate) fn profile(&self, place: usize) -> PathBuf {
        self.plan().root.join(format!("clients/only-{place}.toml"))
    }

    fn write_profiles(&self) {
        let all = fs::read_to_string(self.plan().profile("admin")).unwrap();
        for place in 0..3 {
            let only = format!("endpoints = [\"http://{}\"]", self.node(place).client);
            let lines = all.lines().map(|line| if line.starts_with("endpoints") { only.as_str() } else { line });
            fs::write(self.profile(place), lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
        }
    }

    /// Starts the first node again, with another lie.
    pub(crate) async fn become_evil(&mut self, behaviour: &str) {
        self.cluster.kill(EVIL).unwrap();
        self.cluster.start_program(EVIL, PROGRAM, &[(VARIABLE, behaviour)]).unwrap();
        self.cluster.ready(EVIL).await.unwrap();
    }

    /// Waits until all three nodes have applied and published the same entries, all of them.
    pub(crate) async fn settled(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut sizes = BTreeSet::new();
            for place in 0..3 {
                let text = http::get(self.plan(), self.node(place), "/metrics").await.map(|answer| answer.body).unwrap_or_default();
                let text = String::from_utf8(text).unwrap();
                for gauge in ["proofline_tree_size_entries ", "proofline_checkpoint_size_entries "] {
                    sizes.insert(text.lines().find_map(|line| line.strip_prefix(gauge)).unwrap_or("none").to_owned());
                }
            }
            if sizes.len() == 1 {
                return;
            }
            assert!(Instant::now() < until, "the nodes do not settle: {sizes:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sees to it that the first node leads: whoever leads instead is killed, and comes back once another one does. Of those
    /// that are left, the first is the least patient.
    pub(crate) async fn lead(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            assert!(Instant::now() < until, "the evil node does not come to lead");
            match leader {
                Some(EVIL) => return,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(other) => {
                    self.cluster.kill(other).unwrap();
                    while self.leader().await.is_none_or(|now| now == other) {
                        assert!(Instant::now() < until, "nobody follows the leader that was killed");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    self.cluster.start(other).unwrap();
                    self.cluster.ready(other).await.unwrap();
                }
            }
        }
    }

    /// Returns who leads, as a node says that answers.
    pub(crate) async fn leader(&self) -> Option<usize> {
        for place in 0..3 {
            let retry = RetryPolicy { within: Duration::from_secs(3), attempt: Duration::from_secs(3) };
            let client = Client::connect(&Profile::load(&self.profile(place)).unwrap(), retry).unwrap();
            let asked = client.call(|link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await }).await;
            if let Some(leader) = asked.ok().filter(|status| status.leader_id != 0) {
                return self.plan().nodes.iter().position(|node| node.node_id == leader.leader_id);
            }
        }
        None
    }

    /// Runs the command line tool against one node.
    pub(crate) fn ask(&self, place: usize, arguments: &[&str]) -> Said {
        self.run(&self.profile(place), arguments, "")
    }

    /// Runs it against all nodes, in their order: the evil one first.
    pub(crate) fn ask_all(&self, arguments: &[&str]) -> Said {
        self.run(&self.plan().profile("admin"), arguments, "")
    }

    /// Appends events by the command line tool, through one node.
    pub(crate) fn append(&self, place: usize, session: &str, tools: &[&str]) -> Said {
        let line = |tool: &&str| {
            let attribution =
                r#"{"initiator":{"kind":"human","issuer":"https://idp.example","subject":"u1"},"agent":{"agent_id":"billing-01"}}"#;
            format!(
                r#"{{"session":{{"session_id":"{session}"}},"attribution":{attribution},"action_intent":{{"verb":"tool_call","tool":{{"name":"{tool}"}}}}}}"#
            )
        };
        let lines = tools.iter().map(line).collect::<Vec<_>>().join("\n") + "\n";
        let key = self.path("gateway.key.pem");
        let journals = self.path("journals");
        let arguments = ["append", "-", "--vantage", "gateway-observed", "--collector", COLLECTOR, "--key"];
        let own = [key.to_str().unwrap(), "--journals", journals.to_str().unwrap()];
        self.run(&self.profile(place), &[&arguments[..], &own[..]].concat(), &lines)
    }

    fn run(&self, profile: &Path, arguments: &[&str], input: &str) -> Said {
        let mut command = Command::new(self.binaries.path("proofline"));
        command.arg("--profile").arg(profile).args(["--timeout", "6", "--held"]).arg(self.path("held.json"));
        command.args(arguments).env("PROOFLINE_TENANT", TENANT).env("NO_COLOR", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), error: text(&output.stderr) }
    }

    fn register(&self) {
        let key = self.path("gateway.key.pem");
        self.ask(HONEST, &["keys", "generate", key.to_str().unwrap()]).expect(0, "");
        let identity = proofline_cluster::spiffe("admin");
        let arguments = ["collector", "register", COLLECTOR, "--spiffe-id", &identity, "--vantage", "gateway-observed", "--key"];
        let signer = self.signer("alice");
        self.ask(HONEST, &[&arguments[..], &[key.to_str().unwrap(), "--signer", &signer]].concat()).expect(0, "proven in the tree");
    }

    pub(crate) fn signer(&self, operator: &str) -> String {
        format!("{operator}={}", self.plan().operator_key(operator).display())
    }

    /// Suspends a session through one node.
    pub(crate) fn suspend(&self, place: usize, session: &str) -> Said {
        let signer = self.signer("rita");
        self.ask(place, &["contain", "suspend", session, "--reason", "drill", "--signer", &signer])
    }

    /// What a node wrote into its log file.
    pub(crate) fn log(&self, place: usize) -> String {
        fs::read_to_string(self.cluster.log(self.node(place))).unwrap()
    }

    /// Waits until a node has said something.
    pub(crate) async fn logged(&self, place: usize, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log(place).contains(text) {
            assert!(Instant::now() < until, "node {place} does not say {text:?}:\n{}", self.log(place));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Checks that none of these was said by a node that is honest.
    pub(crate) fn accuses_nobody(&self) {
        for place in 0..3 {
            let log = self.log(place);
            for accusation in
                ["nobody signed", "do not agree on the log", "is not in this node's log", "diverged", "differs from the published"]
            {
                assert!(!log.contains(accusation), "node {place} says {accusation:?}:\n{log}");
            }
        }
    }
}

#[test]
fn every_behaviour_of_the_program_is_named_once() {
    let names = proofline_jepsen::planted::EVIL.map(|behaviour| behaviour.name);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(names.iter().all(|name| name.starts_with("evil-") && *name != NONE));
}
