//! A hundred real agent runs go in through the public API while the leader is killed twice: every span is in the ledger
//! exactly once, the nodes agree, and every proof verifies from files alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use proofline_client::{Client, Profile, RetryPolicy, SessionName};
use proofline_cluster::{Binaries, Cluster, Plan, TENANT, Tls, http, spiffe};
use proofline_jepsen::{Census, spans};
use proofline_proto::v1;
use proofline_verifier::EntryIndex;
use prost::Message as _;

const COLLECTOR: &str = "airline-gateway";
const TRACES: usize = 100;
const SPANS: usize = 1_901;
const EVENTS: usize = 1_229 + 2 * 572 + 2 * 100;
/// Entries whose inclusion is proven from a file.
const SAMPLE: u64 = 200;

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
        let cluster = Cluster::found(plan, binaries.clone()).await.unwrap();
        Self { cluster, binaries, root }
    }

    fn plan(&self) -> &Plan {
        &self.cluster.plan
    }

    fn key(&self) -> PathBuf {
        self.root.path().join("collector.key.pem")
    }

    /// The command line tool, as a collector's operator would run it.
    fn proofline(&self, identity: &str) -> Command {
        let mut command = Command::new(self.binaries.path("proofline"));
        command.arg("--profile").arg(self.plan().profile(identity)).args(["--timeout", "120"]);
        command
    }

    fn register(&self) {
        run(self.proofline("admin").args(["keys", "generate"]).arg(self.key()));
        let signer = format!("alice={}", self.plan().operator_key("alice").display());
        run(self.proofline("admin").args(["collector", "register", COLLECTOR, "--key"]).arg(self.key()).args([
            "--spiffe-id",
            &spiffe(COLLECTOR),
            "--tenant",
            TENANT,
            "--vantage",
            "self-reported",
            "--signer",
            &signer,
        ]));
    }

    fn import(&self, file: &str) -> Command {
        let mut command = self.proofline(COLLECTOR);
        command.args(["import", "otlp", file, "--collector", COLLECTOR, "--key"]).arg(self.key());
        command.args(["--tenant", TENANT, "--issuer", "https://idp.airline.example", "--journals"]).arg(self.root.path().join("journals"));
        command
    }

    fn client(&self) -> Client {
        Client::connect(&Profile::load(&self.plan().profile("admin")).unwrap(), RetryPolicy::default()).unwrap()
    }

    async fn status(&self) -> v1::ClusterStatusResponse {
        self.client().call(|link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await }).await.unwrap()
    }

    async fn leader(&self) -> usize {
        let status = self.status().await;
        self.plan().nodes.iter().position(|node| node.node_id == status.leader_id).unwrap()
    }

    /// Waits until some node has applied `entries`.
    async fn grown_to(&self, entries: u64) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.size().await < entries {
            assert!(Instant::now() < until, "the ledger does not grow to {entries} entries");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns how many entries the node that is furthest has applied.
    async fn size(&self) -> u64 {
        let mut greatest = 0;
        for node in &self.plan().nodes {
            let Ok(metrics) = http::get(self.plan(), node, "/metrics").await else { continue };
            let text = String::from_utf8(metrics.body).unwrap();
            let size = text.lines().find_map(|line| line.strip_prefix("proofline_tree_size_entries ")).unwrap();
            greatest = greatest.max(size.parse().unwrap());
        }
        greatest
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{command:?} ended with {}:\n{out}{error}", output.status);
    out
}

fn data() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("data/airline-otlp.jsonl.gz")
}

fn lines() -> Vec<String> {
    let file = flate2::read::GzDecoder::new(fs::File::open(data()).unwrap());
    BufReader::new(file).lines().map(Result::unwrap).collect()
}

/// An import whose input the test hands over piece by piece.
struct Feed {
    child: Child,
    input: ChildStdin,
}

impl Feed {
    fn start(world: &World) -> Self {
        let mut child = world.import("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        Self { child, input }
    }

    fn give(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        self.input.flush().unwrap();
    }

    /// Returns how many events the import says it appended, and how many were known.
    fn finish(self) -> (u64, u64) {
        drop(self.input);
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout).unwrap();
        let count = |what: &str| {
            let row = told.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{told}"));
            row.split_whitespace().next_back().unwrap().parse().unwrap()
        };
        (count("events appended"), count("events known before"))
    }
}

/// Imports forty runs, then all hundred in a second process that finds the forty in its journal; each time the leader is
/// killed with -9 while batches are on their way, and started again.
async fn import_through_crashes(world: &mut World) {
    let lines = lines();
    assert_eq!(lines.len(), TRACES);
    for (before, runs) in [(30, &lines[..40]), (90, &lines[..])] {
        let acknowledged = world.size().await;
        let mut feed = Feed::start(world);
        runs[..before].iter().for_each(|line| feed.give(line));
        world.grown_to(acknowledged + 500).await;
        let leader = world.leader().await;
        world.cluster.kill(leader).unwrap();
        runs[before..].iter().for_each(|line| feed.give(line));
        let (appended, known) = feed.finish();
        assert_eq!(appended + known, runs.iter().map(|line| events_of(line)).sum::<u64>(), "{known} of them were known");
        world.cluster.start_all().await.unwrap();
    }
}

/// Counts the events that one run becomes: one for a model call, two for a tool call and for the run itself.
fn events_of(line: &str) -> u64 {
    let count = |operation: &str| line.matches(&format!("\"{operation}\"")).count() as u64;
    count("chat") + 2 * count("execute_tool") + 2 * count("invoke_agent")
}

fn journal_bytes(world: &World) -> u64 {
    let mut directories = vec![world.root.path().join("journals")];
    let mut bytes = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
            match entry.metadata().unwrap() {
                of if of.is_dir() => directories.push(entry.path()),
                of => bytes += of.len(),
            }
        }
    }
    bytes
}

fn signal(process: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn an_import_whose_input_pauses_survives_the_leader_without_more_input() {
    let mut world = World::found().await;
    world.register();
    let lines = lines();
    let before = world.size().await;
    let mut feed = Feed::start(&world);
    feed.give(&lines[0]);
    world.grown_to(before + 1 + events_of(&lines[0])).await;

    // The next run is signed and sent, and gets no answer: the leader hangs, and then it is gone.
    let leader = world.leader().await;
    let signed = journal_bytes(&world);
    signal(world.cluster.process_id(leader).unwrap(), "-STOP");
    feed.give(&lines[1]);
    let until = Instant::now() + Duration::from_secs(60);
    while journal_bytes(&world) == signed {
        assert!(Instant::now() < until, "what was read is not signed while the input pauses");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.cluster.kill(leader).unwrap();

    let events = events_of(&lines[0]) + events_of(&lines[1]);
    world.grown_to(before + 1 + events).await;
    assert_eq!(feed.finish(), (events, 0));
}

#[tokio::test]
async fn a_hundred_real_runs_survive_two_leader_kills_exactly_once() {
    let mut world = World::found().await;
    world.register();
    import_through_crashes(&mut world).await;

    // Reading the same file again appends nothing.
    let before = world.status().await.nodes.iter().map(|node| node.tree_size).max().unwrap();
    run(world.import(data().to_str().unwrap()).stdin(Stdio::null()));

    // So it does where the journal that knew the spans is lost, because nothing is sent then.
    let (journals, kept) = (world.root.path().join("journals"), world.root.path().join("kept"));
    fs::rename(&journals, &kept).unwrap();
    let refused = world.import(data().to_str().unwrap()).stdin(Stdio::null()).output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--new-journal"), "{refused:?}");
    fs::remove_dir_all(&journals).unwrap();
    fs::rename(&kept, &journals).unwrap();

    let input = spans::read(&data()).unwrap();
    assert_eq!(input.len(), SPANS);
    let census = census(&world).await;
    census.compare(&input).unwrap();
    let (entries, events) = census.counted();
    assert_eq!(events, EVENTS);
    assert_eq!(census.sessions().len(), TRACES);
    assert!(entries <= before + 2, "the second import added {} entries, more than an opening and a closing", entries - before);

    one_root_everywhere(&world, entries).await;
    let files = world.root.path().join("evidence");
    fs::create_dir_all(&files).unwrap();
    export(&world, &census, &files).await;
    world.cluster.stop_all().await.unwrap();
    verify_offline(&world, &files);
}

async fn census(world: &World) -> Census {
    let mut census = Census::default();
    let request = v1::ReadEntriesRequest { from_index: 0, limit: 0, follow: false };
    let size = world.status().await.nodes.iter().map(|node| node.tree_size).max().unwrap();
    // A proof of the newest entry is given once it is published: then the read below covers everything.
    world.client().tlog_proof(EntryIndex(size - 1)).await.unwrap();
    let mut chunks = world.client().audit().read_entries(request).await.unwrap().into_inner();
    while let Some(chunk) = chunks.message().await.unwrap() {
        chunk.entries.iter().for_each(|entry| census.count(entry).unwrap());
    }
    census
}

async fn one_root_everywhere(world: &World, entries: u64) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let nodes = world.status().await.nodes;
        let is_one = nodes.len() == 3
            && nodes.iter().all(|node| node.error.is_empty() && node.tree_size >= entries)
            && nodes.windows(2).all(|pair| (&pair[0].log_root, &pair[0].state_digest) == (&pair[1].log_root, &pair[1].state_digest));
        if is_one {
            return;
        }
        assert!(Instant::now() < until, "the nodes do not agree: {nodes:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn export(world: &World, census: &Census, files: &Path) {
    let client = world.client();
    for (number, ((tenant_id, session_id), _)) in census.sessions().iter().enumerate() {
        let session = SessionName { tenant_id: tenant_id.clone(), session_id: session_id.clone() };
        let evidence = client.session_evidence(&session).await.unwrap();
        fs::write(files.join(format!("{number:03}.session-evidence")), evidence.encode_to_vec()).unwrap();
    }
    let (entries, _) = census.counted();
    for n in 0..SAMPLE {
        let index = n * entries / SAMPLE;
        let proof = client.tlog_proof(EntryIndex(index)).await.unwrap();
        fs::write(files.join(format!("{index:06}.tlog-proof")), proof.encode()).unwrap();
    }
}

fn verify_offline(world: &World, files: &Path) {
    let mut all: Vec<PathBuf> = fs::read_dir(files).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    assert_eq!(all.len(), TRACES + usize::try_from(SAMPLE).unwrap());
    let mut verify = Command::new(world.binaries.path("proofline-verify"));
    run(verify.args(&all).arg("--policy").arg(world.plan().policy()));
    // The same command notices one altered byte in one of them.
    let victim = &all[42];
    let mut bytes = fs::read(victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(victim, bytes).unwrap();
    let mut verify = Command::new(world.binaries.path("proofline-verify"));
    let code = verify.args(&all).arg("--policy").arg(world.plan().policy()).output().unwrap().status.code();
    assert!(matches!(code, Some(3 | 4)), "an altered file went through: {code:?}");
}
