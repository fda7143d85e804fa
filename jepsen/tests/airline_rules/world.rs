//! A cluster with the airline's rules in force, and what it recorded.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use proofline_client::{Client, Profile, RetryPolicy};
use proofline_cluster::{Binaries, Cluster, Plan, TENANT, Tls, spiffe};
use proofline_proto::v1;
use proofline_verifier::EntryIndex;
use prost::Message as _;

const COLLECTOR: &str = "airline-gateway";

pub(crate) struct World {
    cluster: Cluster,
    binaries: Binaries,
    root: tempfile::TempDir,
}

/// An event as it stands in the log.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) index: u64,
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) verdict: v1::Verdict,
    pub(crate) findings: Vec<v1::Finding>,
    /// The event, as far as it is text.
    pub(crate) text: String,
}

impl Recorded {
    fn of(exact: &[u8]) -> Option<Self> {
        let core = v1::EntryCore::decode(v1::Entry::decode(exact).unwrap().core).unwrap();
        let Some(v1::entry_core::Body::Event(recorded)) = core.body else { return None };
        let text = String::from_utf8_lossy(&recorded.event).into_owned();
        let correlation = v1::Event::decode(recorded.event).unwrap().correlation.unwrap();
        let decision = core.decision.unwrap();
        Some(Self {
            index: core.index,
            trace: hex::encode(correlation.trace_id),
            span: hex::encode(correlation.span_id),
            verdict: decision.verdict(),
            findings: decision.findings,
            text,
        })
    }

    pub(crate) fn finding(&self, rule: &str) -> Option<&v1::Finding> {
        self.findings.iter().find(|finding| finding.rule_id == rule)
    }

    pub(crate) fn is_contained(&self) -> bool {
        self.finding("built-in/contained").is_some()
    }
}

impl World {
    /// Founds three nodes with a collector that may say that it stands between agent and tools.
    pub(crate) async fn found() -> Self {
        let root = tempfile::tempdir().unwrap();
        let binaries = Binaries::beside_current().unwrap();
        let plan = Plan::create(&root.path().join("cluster"), 3, Tls::Mutual).unwrap();
        plan.add_client(COLLECTOR).unwrap();
        let cluster = Cluster::found(plan, binaries.clone()).await.unwrap();
        let world = Self { cluster, binaries, root };
        run(world.proofline("admin").args(["keys", "generate"]).arg(world.key()));
        run(world.proofline("admin").args(["collector", "register", COLLECTOR, "--key"]).arg(world.key()).args([
            "--spiffe-id",
            &spiffe(COLLECTOR),
            "--tenant",
            TENANT,
            "--vantage",
            "gateway-observed",
            "--signer",
            &world.signer("alice"),
        ]));
        world
    }

    /// Puts the airline's rules in force, as two registrars do it.
    pub(crate) fn activate(&self) {
        let (pack, report) = (rules().join("airline.cedar"), self.root.path().join("simulation.json"));
        run(self.proofline("admin").args(["rules", "simulate"]).arg(&pack).arg("--out").arg(&report));
        run(self.proofline("admin").args(["rules", "activate"]).arg(&pack).arg("--simulation").arg(&report).args([
            "--reason",
            "the airline's pack",
            "--signer",
            &self.signer("alice"),
            "--signer",
            &self.signer("bob"),
        ]));
    }

    /// Imports runs with the airline's tool map.
    pub(crate) fn import(&self, lines: &[impl AsRef<str>]) {
        let mut import = self.proofline(COLLECTOR);
        import.args(["import", "otlp", "-", "--collector", COLLECTOR, "--key"]).arg(self.key());
        import.args(["--tenant", TENANT, "--issuer", "https://idp.airline.example", "--vantage", "gateway-observed", "--journals"]);
        import.arg(self.root.path().join("journals")).arg("--tools").arg(rules().join("airline-tools.toml"));
        let mut child = import.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        lines.iter().for_each(|line| writeln!(input, "{}", line.as_ref()).unwrap());
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Reads every event back.
    pub(crate) async fn recorded(&self) -> Vec<Recorded> {
        let client = self.client();
        let status = client.call(|link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await }).await.unwrap();
        let size = status.nodes.iter().map(|node| node.tree_size).max().unwrap();
        // A proof of the newest entry is given once it is published: then the read below covers everything.
        client.tlog_proof(EntryIndex(size - 1)).await.unwrap();
        let request = v1::ReadEntriesRequest { from_index: 0, limit: 0, follow: false };
        let mut chunks = client.audit().read_entries(request).await.unwrap().into_inner();
        let mut recorded = Vec::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            recorded.extend(chunk.entries.iter().filter_map(|entry| Recorded::of(entry)));
        }
        recorded
    }

    pub(crate) async fn containments(&self) -> Vec<v1::ContainmentSummary> {
        let request = v1::ListContainmentsRequest { tenant_id: TENANT.to_owned(), released: true, ..Default::default() };
        let list = |link: proofline_client::Link| {
            let request = request.clone();
            async move { link.control().list_containments(request).await }
        };
        self.client().call(list).await.unwrap().containments
    }

    fn client(&self) -> Client {
        Client::connect(&Profile::load(&self.cluster.plan.profile("admin")).unwrap(), RetryPolicy::default()).unwrap()
    }

    fn key(&self) -> PathBuf {
        self.root.path().join("collector.key.pem")
    }

    fn signer(&self, operator: &str) -> String {
        format!("{operator}={}", self.cluster.plan.operator_key(operator).display())
    }

    fn proofline(&self, identity: &str) -> Command {
        let mut command = Command::new(self.binaries.path("proofline"));
        command.arg("--profile").arg(self.cluster.plan.profile(identity)).args(["--timeout", "120"]);
        command
    }
}

fn rules() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../client/rules")
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{out}{error}", output.status);
}

/// The hundred runs, a line each.
pub(crate) fn lines() -> Vec<String> {
    let file = fs::File::open(Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("data/airline-otlp.jsonl.gz")).unwrap();
    BufReader::new(flate2::read::GzDecoder::new(file)).lines().map(Result::unwrap).collect()
}
