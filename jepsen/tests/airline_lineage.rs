//! From one customer of the airline to every action on its reservations: complete by proof, and verified where nothing is but
//! the file, the policy and the verifier. What should be in it is found by reading the whole log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use proofline_client::{Client, Profile, RetryPolicy};
use proofline_cluster::{Binaries, Cluster, Plan, TENANT, Tls, spiffe};
use proofline_proto::v1;
use proofline_verifier::LogEntry;
use serde_json::Value;
use v1::event::Body;

const COLLECTOR: &str = "airline-gateway";
const EVENTS: usize = 1_229 + 2 * 572 + 2 * 100;

struct World {
    cluster: Cluster,
    binaries: Binaries,
    root: tempfile::TempDir,
}

impl World {
    async fn found() -> Self {
        let root = tempfile::tempdir().unwrap();
        let binaries = Binaries::beside_current().unwrap();
        let plan = Plan::create(&root.path().join("cluster"), 3, Tls::Mutual).unwrap();
        plan.add_client(COLLECTOR).unwrap();
        Self { cluster: Cluster::found(plan, binaries.clone()).await.unwrap(), binaries, root }
    }

    fn proofline(&self, identity: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(self.binaries.path("proofline"));
        run(command.arg("--profile").arg(self.cluster.plan.profile(identity)).args(["--timeout", "120"]).args(arguments))
    }

    /// Imports the runs, with what each of the airline's tools does.
    fn import(&self) {
        let key = self.root.path().join("collector.key.pem").display().to_string();
        let signer = format!("alice={}", self.cluster.plan.operator_key("alice").display());
        self.proofline("admin", &["keys", "generate", &key]);
        let register = ["collector", "register", COLLECTOR, "--key", &key, "--tenant", TENANT, "--vantage", "self-reported"];
        self.proofline("admin", &[&register[..], &["--spiffe-id", &spiffe(COLLECTOR), "--signer", &signer]].concat());
        let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
        let runs = here.join("data/airline-otlp.jsonl.gz").display().to_string();
        let tools = here.join("../client/rules/airline-tools.toml").display().to_string();
        let journals = self.root.path().join("journals").display().to_string();
        let import = ["import", "otlp", &runs, "--collector", COLLECTOR, "--key", &key, "--tenant", TENANT, "--journals", &journals];
        self.proofline(COLLECTOR, &[&import[..], &["--issuer", "https://idp.airline.example", "--tools", &tools]].concat());
    }

    fn client(&self) -> Client {
        Client::connect(&Profile::load(&self.cluster.plan.profile("admin")).unwrap(), RetryPolicy::default()).unwrap()
    }

    /// Waits until every node answers by key about `size` entries.
    async fn committed(&self, size: u64) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let call = |link: proofline_client::Link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await };
            let status = self.client().call(call).await.unwrap();
            if status.nodes.iter().all(|node| node.answered_size >= size) {
                return;
            }
            assert!(Instant::now() < until, "no commitment covers {size} entries: {status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Reads the whole log, as a sceptic with time would, until every event is published.
    async fn events(&self) -> BTreeMap<u64, v1::Event> {
        let follow = v1::ReadEntriesRequest { follow: true, ..Default::default() };
        let call = |link: proofline_client::Link| async move { link.audit().read_entries(follow).await };
        let mut chunks = self.client().call(call).await.unwrap();
        let mut events = BTreeMap::new();
        while events.len() < EVENTS {
            let chunk = chunks.message().await.unwrap().unwrap();
            for (index, exact) in (chunk.first_index..).zip(chunk.entries) {
                events.extend(LogEntry::parse(&exact).unwrap().event.map(|event| (index, event)));
            }
        }
        events
    }

    /// Exports an answer, carries it to a directory with nothing but the policy, and verifies it there.
    fn verified(&self, name: &str, question: &[&str]) -> Value {
        let elsewhere = self.root.path().join(name);
        std::fs::create_dir(&elsewhere).unwrap();
        let file = elsewhere.join("answer.evidence.zip").display().to_string();
        self.proofline("admin", &[&["evidence", "export", "--tenant", TENANT, "--purpose", "matter 7", "--out", &file], question].concat());
        std::fs::copy(self.cluster.plan.root.join("policy.txt"), elsewhere.join("policy.txt")).unwrap();
        let mut verify = Command::new(self.binaries.path("proofline-verify"));
        verify.current_dir(&elsewhere).env_clear().args(["answer.evidence.zip", "--policy", "policy.txt", "--output", "json"]);
        let report: Value = serde_json::from_str(&run(verify.args(["--report", "report.html"]))).unwrap();
        let html = std::fs::read_to_string(elsewhere.join("report.html")).unwrap();
        assert!(html.contains("complete") && !html.contains("<script"), "the page is for reading");
        report["files"][0].clone()
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{command:?} ended with {}:\n{out}{error}", output.status);
    out
}

fn session(of: &v1::Event) -> &str {
    of.session.as_ref().map_or("", |it| &it.session_id)
}

fn resources(of: &v1::Event) -> BTreeSet<&str> {
    let named: Vec<&v1::Resource> = match of.body.as_ref() {
        Some(Body::ActionIntent(it)) => it.resources.iter().collect(),
        Some(Body::ActionOutcome(it)) => it.accesses.iter().filter_map(|it| it.resource.as_ref()).collect(),
        Some(Body::DataAccess(it)) => it.resource.iter().collect(),
        _ => Vec::new(),
    };
    named.into_iter().map(|it| it.uri.as_str()).collect()
}

fn fact<'a>(of: &'a Value, name: &str) -> &'a str {
    let found = of["facts"].as_array().unwrap().iter().find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {of}"))["value"].as_str().unwrap()
}

#[tokio::test]
async fn from_a_customer_to_every_action_on_its_reservations() {
    let world = World::found().await;
    world.import();
    let events = world.events().await;
    world.committed(*events.keys().last().unwrap() + 1).await;
    let customers = || events.values().flat_map(resources).filter(|uri| uri.starts_with("booking://customers/"));
    let reservations_of = |sessions: &BTreeSet<&str>| -> BTreeSet<&str> {
        let there = events.values().filter(|it| sessions.contains(session(it))).flat_map(resources);
        there.filter(|uri| uri.starts_with("booking://reservations/")).collect()
    };
    let sessions_of =
        |customer: &str| -> BTreeSet<&str> { events.values().filter(|it| resources(it).contains(customer)).map(session).collect() };
    let customer = customers().max_by_key(|uri| (reservations_of(&sessions_of(uri)).len(), *uri)).unwrap();
    let sessions = sessions_of(customer);
    let reservations = reservations_of(&sessions);
    assert!(sessions.len() > 1 && reservations.len() > 1, "{customer}: {sessions:?} {reservations:?}");

    // Everything that was done in sessions that touched the customer.
    let around = world.verified("around", &["--resource", customer, "--direction", "both", "--depth", "3"]);
    assert_eq!((&around["integrity"], &around["completeness"]), (&"verified".into(), &"complete".into()), "{around}");
    let expected = events.values().filter(|it| sessions.contains(session(it))).count();
    assert_eq!(fact(&around, "entries"), expected.to_string());

    // Every action on the customer's reservations, whoever did it.
    let mut question: Vec<&str> = vec!["--direction", "up", "--depth", "0"];
    question.extend(reservations.iter().flat_map(|uri| ["--resource", uri]));
    let actions = world.verified("actions", &question);
    assert_eq!((&actions["integrity"], &actions["completeness"]), (&"verified".into(), &"complete".into()), "{actions}");
    let touching = events.values().filter(|it| !resources(it).is_disjoint(&reservations)).count();
    assert_eq!(fact(&actions, "entries"), touching.to_string());

    // One byte of what was carried away.
    let file: PathBuf = world.root.path().join("actions/answer.evidence.zip");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut verify = Command::new(world.binaries.path("proofline-verify"));
    let output = verify.arg(&file).arg("--policy").arg(world.cluster.plan.root.join("policy.txt")).output().unwrap();
    assert!(matches!(output.status.code(), Some(3 | 4)), "{output:?}");
}
