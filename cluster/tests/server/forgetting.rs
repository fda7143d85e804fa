//! Payloads on three real nodes: handed over, read, repaired, and forgotten everywhere.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proofline_cluster::{TENANT, Tls, spiffe};
use proofline_proto::v1::{self, command::Action, entry_core::Body, payloads_client::PayloadsClient};
use proofline_verifier::{EntryIndex, LogHash, Policy, TreeHash as _};
use prost::Message as _;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    lineage,
    world::{Collector, World, event, repeat_through},
};

const SALT: [u8; 32] = [5; 32];

/// What an event of these tests commits to.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) index: u64,
    pub(crate) digest: Vec<u8>,
    pub(crate) content: Vec<u8>,
}

impl Given {
    pub(crate) fn request(&self) -> v1::PutPayloadRequest {
        let collector_id = "gateway".to_owned();
        v1::PutPayloadRequest {
            collector_id,
            index: self.index,
            digest: self.digest.clone(),
            salt: SALT.to_vec(),
            content: self.content.clone(),
        }
    }

    fn read(&self) -> v1::GetPayloadRequest {
        v1::GetPayloadRequest { index: self.index, digest: self.digest.clone(), purpose: "case 7".to_owned() }
    }
}

pub(crate) fn payloads(world: &World, place: usize, identity: &str) -> PayloadsClient<Channel> {
    PayloadsClient::new(world.channel(place, identity))
}

pub(crate) fn committing(session: &str, content: &[u8], key_ref: &str) -> (Vec<u8>, Vec<u8>) {
    let digest = blake3::keyed_hash(&SALT, content).as_bytes().to_vec();
    let commitment = v1::Commitment {
        name: "prompt".to_owned(),
        algorithm: v1::CommitmentAlgorithm::Blake3Keyed.into(),
        digest: digest.clone(),
        size_bytes: content.len() as u64,
        media_type: "text/plain".to_owned(),
        key_ref: key_ref.to_owned(),
        location: String::new(),
    };
    let event = v1::Event { payloads: vec![commitment], ..v1::Event::decode(&event(session)[..]).unwrap() };
    (event.encode_to_vec(), digest)
}

/// Appends an event that commits to a content.
pub(crate) async fn commit(world: &World, gateway: &mut Collector, content: &[u8], through: &[usize]) -> Given {
    let (event, digest) = committing("s", content, "");
    let index = repeat_through(world, &gateway.id.clone(), gateway.sign(vec![event]), through).await;
    Given { index, digest, content: content.to_vec() }
}

pub(crate) fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut noise);
    noise
}

pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn value(status: &Status, name: &str) -> Option<String> {
    status.get_details_error_info().and_then(|info| info.metadata.get(name).cloned())
}

fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled)
}

/// Repeats a call until its answer is definite.
async fn definite<T, F: Future<Output = Result<tonic::Response<T>, Status>>>(mut call: impl FnMut() -> F) -> Result<T, Status> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if !is_passing(&status) || Instant::now() > until => return Err(status),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

pub(crate) async fn put(world: &World, place: usize, given: &Given) -> Result<v1::PutPayloadResponse, Status> {
    definite(async || payloads(world, place, "gateway").put_payload(given.request()).await).await
}

pub(crate) async fn get(world: &World, place: usize, given: &Given) -> Result<v1::GetPayloadResponse, Status> {
    definite(async || payloads(world, place, "auditor").get_payload(given.read()).await).await
}

/// Waits until a node itself has as many payloads.
pub(crate) async fn holds(world: &World, place: usize, count: u64) {
    let until = Instant::now() + Duration::from_secs(30);
    let request = v1::GetRetentionRequest { tenant_id: TENANT.to_owned() };
    loop {
        let report = definite(async || payloads(world, place, "auditor").get_retention(request.clone()).await).await.unwrap();
        if report.payloads == count {
            return;
        }
        assert!(Instant::now() < until, "node {place} has {} payloads", report.payloads);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn erase() -> Action {
    let ground = "asked for".to_owned();
    Action::EraseSubject(v1::EraseSubject { tenant_id: TENANT.to_owned(), issuer: String::new(), subject: "u-1".to_owned(), ground })
}

async fn erasure(world: &World, place: usize) -> v1::GetErasureResponse {
    let request = v1::GetErasureRequest { tenant_id: TENANT.to_owned(), issuer: String::new(), subject: "u-1".to_owned() };
    definite(async || payloads(world, place, "auditor").get_erasure(request.clone()).await).await.unwrap()
}

/// Waits until every node says that it carried the erasure out.
async fn destroyed_everywhere(world: &World, by: u64) -> v1::GetErasureResponse {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = erasure(world, 0).await;
        if answer.nodes.iter().all(|node| node.error.is_empty() && node.destroyed_by == by && node.rewritten) {
            return answer;
        }
        assert!(Instant::now() < until, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn files(under: &Path) -> Vec<PathBuf> {
    let (files, directories): (Vec<_>, Vec<_>) = fs::read_dir(under).unwrap().map(|it| it.unwrap().path()).partition(|it| it.is_file());
    files.into_iter().chain(directories.iter().flat_map(|it| self::files(it))).collect()
}

pub(crate) fn directory(world: &World, place: usize, of: &str) -> PathBuf {
    world.plan().root.join(&world.node(place).name).join("payloads").join(of)
}

fn bytes_in(directory: &Path) -> u64 {
    files(directory).iter().map(|path| fs::metadata(path).map_or(0, |it| it.len())).sum()
}

async fn all_entries(world: &World, size: u64) -> Vec<v1::EntryCore> {
    world.published(0, size).await;
    let mut stream = world.audit(0, "auditor").read_entries(v1::ReadEntriesRequest::default()).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        let core = |bytes: &prost::bytes::Bytes| v1::EntryCore::decode(v1::Entry::decode(bytes.clone()).unwrap().core).unwrap();
        entries.extend(chunk.entries.iter().map(core));
    }
    entries
}

#[tokio::test]
async fn a_payload_goes_through_any_node_and_comes_to_one_that_was_away() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let first = commit(&world, &mut gateway, &noise(1, 100_000), &[0]).await;
    let held = put(&world, 1, &first).await.unwrap();
    assert!(held.voters == 3 && held.voters_holding >= 2, "{held:?}");
    put(&world, 0, &first).await.expect("again is safe");
    for place in 0..3 {
        let got = get(&world, place, &first).await.unwrap();
        assert_eq!((got.content == first.content, &got.salt[..], got.media_type.as_str()), (true, &SALT[..], "text/plain"));
    }
    world.cluster.kill(2).unwrap();
    let second = commit(&world, &mut gateway, b"while one is away", &[0, 1]).await;
    assert_eq!(put(&world, 0, &second).await.unwrap().voters_holding, 2);
    world.cluster.kill(1).unwrap();
    let alone = payloads(&world, 0, "gateway").put_payload(second.request()).await.unwrap_err();
    assert_eq!((alone.code(), reason(&alone).as_str()), (Code::Unavailable, "PAYLOAD_NOT_DURABLE"), "{alone:?}");
    let unrecorded = payloads(&world, 0, "auditor").get_payload(second.read()).await.unwrap_err();
    assert!(is_passing(&unrecorded), "without a majority nothing is recorded, and nothing answered: {unrecorded:?}");
    world.cluster.start_all().await.unwrap();
    put(&world, 1, &second).await.unwrap();
    holds(&world, 2, 2).await;
    assert_eq!(get(&world, 2, &second).await.unwrap().content, second.content);
}

#[tokio::test]
async fn an_erasure_reaches_every_node_also_one_that_was_down() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let given = commit(&world, &mut gateway, &noise(1, 900_000), &[0]).await;
    put(&world, 0, &given).await.unwrap();
    for place in 0..3 {
        holds(&world, place, 1).await;
        assert_eq!(files(&directory(&world, place, "keys")).len(), 1);
        assert!(bytes_in(&directory(&world, place, "db")) > 900_000);
    }
    world.published(0, given.index + 1).await;
    let proof =
        world.audit(0, "auditor").get_inclusion_proof(v1::GetInclusionProofRequest { index: given.index }).await.unwrap().into_inner();
    let entry = world.audit(0, "auditor").get_entry(v1::GetEntryRequest { index: given.index }).await.unwrap().into_inner().entry;

    world.cluster.kill(2).unwrap();
    // Whoever led may be the one that is down.
    let command = |operators: &[&str]| v1::SubmitCommandRequest { command: Some(world.signed(operators, erase())) };
    let alone = definite(async || world.control(0, "admin").submit_command(command(&["alice"])).await).await.unwrap_err();
    assert_eq!(reason(&alone), "SECOND_OPERATOR_NEEDED");
    let by = definite(async || world.control(0, "admin").submit_command(command(&["alice", "bob"])).await);
    let by = by.await.unwrap().index;
    for place in [0, 1] {
        let refused = get(&world, place, &given).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "PAYLOAD_ERASED"));
        assert_eq!((value(&refused, "entry"), refused.message()), (Some(by.to_string()), format!("payload erased at index {by}").as_str()));
    }
    let down = erasure(&world, 0).await;
    assert!(down.nodes.iter().any(|node| !node.error.is_empty()) && down.erased_by == by, "the one that is down is named: {down:?}");
    assert_eq!(files(&directory(&world, 2, "keys")).len(), 1, "it still has its key");

    world.cluster.start_all().await.unwrap();
    assert_eq!(reason(&get(&world, 2, &given).await.unwrap_err()), "PAYLOAD_ERASED");
    let answer = destroyed_everywhere(&world, by).await;
    assert!(answer.nodes.len() == 3 && answer.nodes.iter().all(|node| node.keys == 0 && node.destroyed_unix_ns > 0), "{answer:?}");
    for place in 0..3 {
        assert_eq!(files(&directory(&world, place, "keys")), Vec::<PathBuf>::new());
        let left = bytes_in(&directory(&world, place, "db"));
        assert!(left < 500_000, "node {place} has {left} bytes");
        holds(&world, place, 0).await;
    }
    for place in 0..3 {
        assert_eq!(reason(&put(&world, place, &given).await.unwrap_err()), "PAYLOAD_ERASED", "nobody brings it back");
    }

    let policy = Policy::parse(&fs::read(world.plan().policy()).unwrap()).unwrap();
    let path: Vec<_> = proof.log_path.iter().map(|hash| LogHash::from_bytes(hash.as_slice().try_into().unwrap())).collect();
    policy.verify_checkpoint(&proof.checkpoint).unwrap().verify_inclusion(&entry, EntryIndex(given.index), &path).unwrap();
    let again = world.audit(2, "auditor").get_entry(v1::GetEntryRequest { index: given.index }).await.unwrap().into_inner().entry;
    assert_eq!(again, entry, "the log is as it was");
    let later = commit(&world, &mut gateway, b"of a later contract", &[0]).await;
    put(&world, 1, &later).await.unwrap();
    assert_eq!(get(&world, 0, &later).await.unwrap().content, later.content, "an entry behind the erasure is another matter");
}

#[tokio::test]
async fn a_hold_defers_an_erasure_until_two_lift_it() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let given = commit(&world, &mut gateway, b"evidence in case 12", &[0]).await;
    put(&world, 0, &given).await.unwrap();
    let target = v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: "s".to_owned() };
    let hold = v1::PlaceHold { target: Some(target), matter: "case 12".to_owned(), authority: "court".to_owned() };
    world.command(&["rita"], Action::PlaceHold(hold)).await.unwrap();
    let deferred = world.command(&["alice", "bob"], erase()).await.unwrap_err();
    assert_eq!((deferred.code(), reason(&deferred).as_str()), (Code::FailedPrecondition, "ERASURE_DEFERRED"), "{deferred:?}");
    let recorded: u64 = value(&deferred, "entry").unwrap().parse().unwrap();
    assert_eq!(value(&deferred, "hold").unwrap(), "1");
    let entries = all_entries(&world, recorded + 1).await;
    let Some(Body::ErasureDeferred(it)) = &entries[recorded as usize].body else { panic!("{:?}", entries[recorded as usize]) };
    assert_eq!((it.hold_id, it.command.as_ref().unwrap().signatures.len()), (1, 2));
    assert_eq!(get(&world, 0, &given).await.unwrap().content, given.content, "nothing was erased");
    world.command(&["rita", "sam"], Action::ReleaseHold(v1::ReleaseHold { hold_id: 1, reason: "settled".to_owned() })).await.unwrap();
    let by = world.command(&["alice", "bob"], erase()).await.unwrap();
    assert_eq!(reason(&get(&world, 0, &given).await.unwrap_err()), "PAYLOAD_ERASED");
    destroyed_everywhere(&world, by).await;
}

#[tokio::test]
async fn every_reading_stands_in_the_log_and_every_refusal_says_why() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    world.collector("other").await;
    let given = commit(&world, &mut gateway, b"a prompt", &[0]).await;
    let never = payloads(&world, 0, "auditor").get_payload(given.read()).await.unwrap_err();
    assert_eq!((never.code(), reason(&never).as_str()), (Code::NotFound, "PAYLOAD_NOT_UPLOADED"));
    let (event, digest) = committing("s", b"a prompt", "subject:nobody");
    let nameless = world.ingest(0, "gateway").append(gateway.sign(vec![event])).await.unwrap().into_inner().first_index;

    let request = given.request();
    let wrong = [
        (v1::PutPayloadRequest { content: b"a prompT".to_vec(), ..request.clone() }, "WRONG_PAYLOAD"),
        (v1::PutPayloadRequest { content: b"a prompt.".to_vec(), ..request.clone() }, "WRONG_PAYLOAD"),
        (v1::PutPayloadRequest { salt: vec![6; 32], ..request.clone() }, "WRONG_PAYLOAD"),
        (v1::PutPayloadRequest { salt: Vec::new(), ..request.clone() }, "WRONG_PAYLOAD"),
        (v1::PutPayloadRequest { content: vec![0; (1 << 20) + 1], ..request.clone() }, "TOO_LARGE"),
        (v1::PutPayloadRequest { digest: vec![0; 32], ..request.clone() }, "UNKNOWN_COMMITMENT"),
        (v1::PutPayloadRequest { digest: Vec::new(), ..request.clone() }, "MALFORMED"),
        (v1::PutPayloadRequest { index: 0, ..request.clone() }, "UNKNOWN_COMMITMENT"),
        (v1::PutPayloadRequest { index: 1_000_000, ..request.clone() }, "ENTRY_NOT_APPLIED"),
        (v1::PutPayloadRequest { index: nameless, digest, ..request.clone() }, "NO_SUBJECT"),
        (v1::PutPayloadRequest { collector_id: "other".to_owned(), ..request.clone() }, "OTHER_COLLECTOR"),
        (v1::PutPayloadRequest { collector_id: "nobody".to_owned(), ..request.clone() }, "UNKNOWN_COLLECTOR"),
    ];
    for (request, expected) in wrong {
        let refused = payloads(&world, 0, "gateway").put_payload(request).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{refused:?}");
    }
    let foreign = v1::PutPayloadRequest { collector_id: "other".to_owned(), ..request };
    let refused = payloads(&world, 0, "other").put_payload(foreign).await.unwrap_err();
    assert_eq!(reason(&refused), "UNKNOWN_COMMITMENT", "another collector's event");
    holds(&world, 0, 0).await;

    put(&world, 0, &given).await.unwrap();
    get(&world, 0, &given).await.unwrap();
    let beyond = v1::GetPayloadRequest { index: 1_000_000, ..given.read() };
    assert_eq!(reason(&payloads(&world, 0, "auditor").get_payload(beyond).await.unwrap_err()), "BEYOND_LOG");
    let size = world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner().nodes[0].tree_size;
    let accesses = all_entries(&world, size).await.into_iter().filter_map(|core| match core.body {
        Some(Body::AccessRecorded(it)) => Some(it),
        _ => None,
    });
    let accesses: Vec<_> = accesses.collect();
    assert_eq!(accesses.len(), 2, "the one that found nothing, and the one that was answered");
    for access in accesses {
        assert_eq!(
            (access.kind(), access.question, access.purpose),
            (v1::AccessKind::PayloadRead, given.digest.clone(), "case 7".to_owned())
        );
        assert_eq!(access.reader, spiffe("auditor"));
    }
}

#[tokio::test]
async fn payloads_are_kept_for_half_a_year_at_least() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let given = commit(&world, &mut gateway, b"a prompt", &[0]).await;
    put(&world, 0, &given).await.unwrap();
    let set = |days| Action::SetRetention(v1::SetRetention { tenant_id: TENANT.to_owned(), days, reason: "a law".to_owned() });
    let short = world.command(&["alice", "bob"], set(182)).await.unwrap_err();
    assert_eq!((short.code(), reason(&short).as_str()), (Code::InvalidArgument, "BELOW_RETENTION_FLOOR"));
    assert_eq!(value(&short, "floor_days").unwrap(), "183");
    assert_eq!(reason(&world.command(&["alice"], set(200)).await.unwrap_err()), "SECOND_OPERATOR_NEEDED");
    let set_by_index = world.command(&["alice", "bob"], set(200)).await.unwrap();
    let target = v1::Target { kind: v1::TargetKind::Tenant.into(), tenant_id: TENANT.to_owned(), id: String::new() };
    let hold = v1::PlaceHold { target: Some(target), matter: "case 12".to_owned(), authority: "court".to_owned() };
    world.command(&["rita"], Action::PlaceHold(hold)).await.unwrap();
    let request = v1::GetRetentionRequest { tenant_id: TENANT.to_owned() };
    let report = payloads(&world, 0, "auditor").get_retention(request).await.unwrap().into_inner();
    assert_eq!((report.floor_days, report.days, report.set_by_index), (183, 200, set_by_index));
    assert_eq!((report.payloads, report.bytes, report.oldest_index), (1, 8, given.index));
    assert!(report.oldest_unix_ns > 0 && report.holds.len() == 1 && report.holds[0].matter == "case 12", "{report:?}");
}

/// Runs a program in the cluster's directory; returns its exit code, and what it said.
fn run(world: &World, program: &str, arguments: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(proofline_cluster::Binaries::beside_current().unwrap().path(program));
    let output = command.current_dir(&world.plan().root).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(said).unwrap())
}

fn proofline(world: &World, identity: &str, arguments: &[&str]) -> (i32, String) {
    let profile = world.plan().profile(identity).to_str().unwrap().to_owned();
    run(world, "proofline", &[&["--profile", &profile], arguments].concat())
}

/// Exports what the session holds, once a commitment vouches for its entry at `index`.
async fn export(world: &World, index: u64, out: &str) {
    lineage::answered(world, 0, index + 1).await;
    let arguments = ["evidence", "export", "--session", "s", "--tenant", TENANT, "--depth", "0", "--payloads", "--out", out];
    let (code, said) = proofline(world, "auditor", &arguments);
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn from_a_commitment_to_the_proof_that_it_was_erased_with_the_programs_alone() {
    let world = World::committing_every(200, 1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let root = world.plan().root.clone();
    fs::write(root.join("prompt.txt"), "refund the last order of customer 7").unwrap();
    let commit = ["payload", "commit", "prompt.txt", "--name", "prompt", "--keep", "kept.jsonl", "--output", "json"];
    let (code, said) = run(&world, "proofline", &commit);
    assert_eq!(code, 0, "{said}");
    let printed: serde_json::Value = serde_json::from_str(&said).unwrap();
    let digest = hex::decode(printed["commitment"]["digest"].as_str().unwrap()).unwrap();
    let (encoded, _) = committing("s", b"", "");
    let mut committed = v1::Event::decode(&encoded[..]).unwrap();
    committed.payloads[0].digest = digest;
    committed.payloads[0].size_bytes = 35;
    let entry = world.ingest(0, "gateway").append(gateway.sign(vec![committed.encode_to_vec()])).await.unwrap().into_inner().first_index;
    world.published(0, entry + 1).await;
    let index = entry.to_string();

    let (code, said) = proofline(&world, "gateway", &["payload", "put", "kept.jsonl", "--index", &index, "--collector", "gateway"]);
    assert!(code == 0 && said.contains("1 of 1 voters"), "{said}");
    let (code, said) = proofline(&world, "auditor", &["payload", "get", &index, "--out", "got.txt", "--purpose", "case-7"]);
    assert!(code == 0, "{said}");
    assert_eq!(fs::read(root.join("got.txt")).unwrap(), fs::read(root.join("prompt.txt")).unwrap());
    export(&world, entry, "before.evidence.zip").await;

    let keys = ["alice", "bob"].map(|name| format!("{name}={}", world.plan().operator_key(name).display()));
    let erase = ["payload", "erase", "--tenant", TENANT, "--subject", "u-1", "--ground", "request 7", "--signer", &keys[0]];
    let (code, said) = proofline(&world, "admin", &erase);
    assert!(code != 0 && said.contains("SECOND_OPERATOR_NEEDED"), "{said}");
    let (code, said) = proofline(&world, "admin", &[&erase[..], &["--signer", &keys[1]]].concat());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("proven in the tree of"), "{said}");
    let by = said.split_once("committed as entry ").and_then(|(_, rest)| rest.split_once(',')).unwrap().0.parse::<u64>().unwrap();
    world.published(0, by + 1).await;
    destroyed_everywhere(&world, by).await;
    let (code, said) = proofline(&world, "auditor", &["payload", "erasure", "--tenant", TENANT, "--subject", "u-1"]);
    assert!(code == 0 && said.contains(&format!("erased at index {by}")) && said.contains("destroyed at"), "{said}");
    let (code, said) = proofline(&world, "auditor", &["payload", "get", &index, "--out", "again.txt"]);
    assert!(code == 1 && said.contains(&format!("payload erased at index {by}")) && !root.join("again.txt").exists(), "{said}");
    export(&world, entry, "after.evidence.zip").await;
    for (file, says) in
        [("before.evidence.zip", "35 bytes as committed".to_owned()), ("after.evidence.zip", format!("payload erased at index {by}"))]
    {
        let (code, said) = run(&world, "proofline-verify", &[file, "--policy", "policy.txt"]);
        assert!(code == 0 && said.contains(&says), "{file}: {said}");
    }

    let set = ["retention", "set", "30", "--tenant", TENANT, "--reason", "a law", "--signer", &keys[0], "--signer", &keys[1]];
    let (code, said) = proofline(&world, "admin", &set);
    assert!(code != 0 && said.contains("BELOW_RETENTION_FLOOR"), "{said}");
    let (code, said) = proofline(&world, "auditor", &["retention", "show", "--tenant", TENANT]);
    assert!(code == 0 && said.contains("183 days") && said.contains("nothing is deleted by age"), "{said}");
}
