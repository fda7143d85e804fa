//! Witnesses outside the cluster: what the small one of ours cosigns and what it refuses, and nodes that have their checkpoints cosigned.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use proofline_cluster::{Binaries, Cluster, Plan, Tls, witness::Witness};
use proofline_proto::v1;
use proofline_verifier::{
    Checkpoint, KeyName, LogHash, NoteSignature, Policy, SignatureType, SignedNote, TreeHash as _, TreeSize, VerifierKey,
    verify_cosigned_by,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::Code;

use crate::{
    containment::leader,
    world::{World, event},
};

const ORIGIN: &str = "ledger.example/agents";

/// A log of a few leaves, whose key the test holds.
struct Log {
    key: SigningKey,
    name: VerifierKey,
}

impl Log {
    fn new(origin: &str, seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let name = VerifierKey::new(KeyName::parse(origin).unwrap(), SignatureType::Ed25519, key.verifying_key().as_bytes()).unwrap();
        Self { key, name }
    }

    fn policy(&self) -> String {
        format!("log {}\nquorum none\n", self.name)
    }

    fn note(&self, size: u64, root: LogHash) -> String {
        let text = Checkpoint { origin: self.name.name().clone(), size: TreeSize(size), root }.note_text();
        let signature = NoteSignature::of_log(&self.name, &self.key.sign(text.as_bytes()).to_bytes());
        SignedNote::new(text, vec![signature]).unwrap().encode()
    }
}

fn leaf(number: u8) -> LogHash {
    LogHash::leaf(&[number])
}

fn two() -> LogHash {
    LogHash::node(&leaf(0), &leaf(1))
}

fn three() -> LogHash {
    LogHash::node(&two(), &leaf(2))
}

fn request(old: u64, proof: &[LogHash], note: &str) -> String {
    let proof: String = proof.iter().map(|hash| STANDARD.encode(hash.as_bytes()) + "\n").collect();
    format!("old {old}\n{proof}\n{note}")
}

/// Posts to a witness and returns status, type and body.
async fn post(to: SocketAddr, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!("POST /add-checkpoint HTTP/1.1\r\nHost: witness\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-type: ").map(str::to_owned));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), kind.unwrap_or_default(), body.to_owned())
}

/// Serves a witness in this process.
async fn serve(policy: &str, data: &Path) -> (SocketAddr, Arc<Witness>) {
    let witness = Arc::new(Witness::open(policy.as_bytes(), "witness.example/w1", SigningKey::from_bytes(&[2; 32]), data).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(proofline_cluster::witness::serve(Arc::clone(&witness), listener));
    (address, witness)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_cosigns_only_what_extends_what_it_cosigned() {
    let (log, data) = (Log::new(ORIGIN, 1), tempfile::tempdir().unwrap());
    let (at, witness) = serve(&log.policy(), data.path()).await;

    let note = log.note(1, leaf(0));
    let (status, _, line) = post(at, &request(0, &[], &note)).await;
    assert_eq!(status, 200, "{line}");
    verify_cosigned_by(format!("{note}{line}").as_bytes(), witness.verifier_key()).unwrap();
    assert_eq!(post(at, &request(1, &[], &note)).await.0, 200, "the same again");
    assert_eq!(post(at, &request(1, &[leaf(1), leaf(2)], &log.note(3, three()))).await.0, 200);

    // The proof begins somewhere else: the answer says where it must begin.
    let conflict = (409, "text/x.tlog.size".to_owned(), "3\n".to_owned());
    assert_eq!(post(at, &request(1, &[leaf(1), leaf(2)], &log.note(3, three()))).await, conflict);
    assert_eq!(post(at, &request(0, &[], &log.note(3, three()))).await, conflict);
    assert_eq!(post(at, &request(2, &[], &log.note(2, two()))).await, conflict, "a log that shrinks");

    // Another history, with the log's own signature.
    let forked = LogHash::node(&three(), &leaf(9));
    assert_eq!(post(at, &request(3, &[], &log.note(3, forked))).await.0, 422, "another tree of that size");
    assert_eq!(post(at, &request(3, &[leaf(2), leaf(9), two()], &log.note(4, forked))).await.0, 422, "a tree that does not extend it");
    assert_eq!(post(at, &request(3, &[], &log.note(4, forked))).await.0, 422, "no proof");

    assert_eq!(post(at, &request(3, &[], &Log::new("ledger.example/others", 1).note(4, forked))).await.0, 404);
    assert_eq!(post(at, &request(3, &[], &Log::new(ORIGIN, 7).note(4, forked))).await.0, 403, "another key under the name");
    assert_eq!(post(at, &request(4, &[], &log.note(3, three()))).await.0, 400, "an old size beyond the checkpoint");
    for wrong in
        ["", "old 3\n", "old 03\n\nnote", "new 3\n\nnote", "old 3\nAAAA\n\nnote", &request(3, &[leaf(1); 64], &log.note(4, forked))]
    {
        assert_eq!(post(at, wrong).await.0, 400, "{wrong:?}");
    }

    // Nothing of that was remembered, and what was outlives the process.
    let (again, _) = serve(&log.policy(), data.path()).await;
    assert_eq!(post(again, &request(0, &[], &note)).await, conflict);
    assert_eq!(post(again, &request(3, &[], &log.note(3, three()))).await.0, 200);
}

#[tokio::test]
async fn a_witness_whose_memory_is_damaged_cosigns_nothing() {
    let (log, data) = (Log::new(ORIGIN, 1), tempfile::tempdir().unwrap());
    let (at, _) = serve(&log.policy(), data.path()).await;
    assert_eq!(post(at, &request(0, &[], &log.note(1, leaf(0)))).await.0, 200);
    let file = std::fs::read_dir(data.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, "damaged").unwrap();
    assert_eq!(post(at, &request(0, &[], &log.note(1, leaf(0)))).await.0, 500);
    assert_eq!(post(at, &request(1, &[], &log.note(1, leaf(0)))).await.0, 500);
}

/// The real program, killed when dropped.
struct Process {
    child: Child,
    key: String,
    at: SocketAddr,
}

impl Process {
    fn start(policy: &Path, root: &Path, listen: &str) -> Self {
        let key = root.join("witness.key.pem");
        if !key.exists() {
            proofline_client::write_key(&key, &SigningKey::from_bytes(&[2; 32])).unwrap();
        }
        let mut command = Command::new(Binaries::beside_current().unwrap().path("proofline-witness"));
        command.args(["--name", "witness.example/w1", "--listen", listen]).arg("--policy").arg(policy);
        command.arg("--key").arg(&key).arg("--data").arg(root.join("witness")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let first = |of: &mut dyn std::io::Read| {
            let mut line = String::new();
            BufReader::new(of).read_line(&mut line).unwrap();
            line.trim().to_owned()
        };
        let key = first(child.stdout.as_mut().unwrap());
        let url = first(child.stderr.as_mut().unwrap());
        let at = url.split("http://").nth(1).unwrap().trim_end_matches('/').parse().unwrap();
        Self { child, key, at }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Witnessed {
    world: World,
    witness: Option<Process>,
    asks_for_witness: Policy,
    directory: PathBuf,
}

impl Witnessed {
    async fn found() -> Self {
        let root = tempfile::tempdir().unwrap();
        let plan = Plan::create(&root.path().join("cluster"), 3, Tls::Off).unwrap();
        let directory = root.path().to_owned();
        let witness = Process::start(&plan.policy(), &directory, "127.0.0.1:0");
        let lines = format!("keys = \"outlets\"\n\n[[witnesses]]\nkey = \"{}\"\nurl = \"http://{}/\"\n", witness.key, witness.at);
        plan.configure_outlets(&lines).unwrap();
        let policy = std::fs::read_to_string(plan.policy()).unwrap();
        let log = policy.lines().find(|line| line.starts_with("log ")).unwrap();
        let asks = format!("{log}\nwitness w1 {}\nquorum w1\n", witness.key);
        let cluster = Cluster::found(plan, Binaries::beside_current().unwrap()).await.unwrap();
        let world = World { cluster, _root: root };
        Self { world, witness: Some(witness), asks_for_witness: Policy::parse(asks.as_bytes()).unwrap(), directory }
    }

    /// Waits until a node publishes a checkpoint of at least `size` entries which has, or has not, what the policy asks for.
    async fn published(&self, place: usize, size: u64, is_witnessed: bool) -> u64 {
        let mut notes = self.world.audit(place, "auditor").watch_checkpoints(v1::WatchCheckpointsRequest {}).await.unwrap().into_inner();
        let reached = async {
            while let Some(note) = notes.message().await.unwrap() {
                let text = std::str::from_utf8(&note.checkpoint).unwrap();
                let found = text.lines().nth(1).unwrap().parse::<u64>().unwrap();
                if found >= size && self.asks_for_witness.verify_checkpoint(&note.checkpoint).is_ok() == is_witnessed {
                    return found;
                }
            }
            panic!("the stream of checkpoints ended");
        };
        tokio::time::timeout(Duration::from_secs(30), reached).await.expect("published in time")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_has_its_checkpoints_witnessed_and_does_without_a_witness_that_is_gone() {
    let mut it = Witnessed::found().await;
    let mut gateway = it.world.collector("gateway").await;
    let first = it.published(0, 1, true).await;

    // Without its witness the cluster publishes, and says so in its checkpoints.
    let listen = it.witness.take().unwrap().at.to_string();
    let size = append(&it.world, &mut gateway, 0).await;
    assert!(size > first);
    it.published(1, size, false).await;

    // The witness is behind now; its memory says where the proof must begin.
    it.witness = Some(Process::start(&it.world.plan().policy(), &it.directory, &listen));
    let witnessed = appended_until_witnessed(&it, &mut gateway, 0).await;
    assert!(witnessed > size);

    // Another leader knows nothing of the witness yet, and learns it from its answer.
    let led = leader(&it.world).await;
    it.world.cluster.kill(led).unwrap();
    let other = (led + 1) % 3;
    let size = append(&it.world, &mut gateway, other).await;
    assert!(size > witnessed);
    appended_until_witnessed(&it, &mut gateway, other).await;
}

/// Appends one event through a node, again until it is acknowledged, and returns how many entries there are at least.
async fn append(world: &World, gateway: &mut crate::world::Collector, place: usize) -> u64 {
    let request = gateway.sign(vec![event("s1")]);
    let taken = async {
        loop {
            match world.ingest(place, "gateway").append(request.clone()).await {
                Ok(answer) => return answer.into_inner().first_index + 1,
                // The fate of a batch that was under way is unknown; the same again is safe.
                Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => tokio::task::yield_now().await,
                Err(status) => panic!("{status}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("acknowledged in time")
}

/// Appends until the checkpoint that follows is witnessed: a witness that failed is left in peace for some seconds.
async fn appended_until_witnessed(it: &Witnessed, gateway: &mut crate::world::Collector, place: usize) -> u64 {
    let reached = async {
        loop {
            let size = append(&it.world, gateway, place).await;
            let mut notes = it.world.audit(place, "auditor").watch_checkpoints(v1::WatchCheckpointsRequest {}).await.unwrap().into_inner();
            while let Some(note) = notes.message().await.unwrap() {
                let found = std::str::from_utf8(&note.checkpoint).unwrap().lines().nth(1).unwrap().parse::<u64>().unwrap();
                if found < size {
                    continue;
                }
                if it.asks_for_witness.verify_checkpoint(&note.checkpoint).is_ok() {
                    return found;
                }
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("witnessed in time")
}
