//! Starts over damaged, foreign or missing data, and a disk that fills up: each ends the node with its own exit code.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use proofline_cluster::Tls;
use proofline_proto::v1::Genesis;
use prost::Message as _;
use tonic::Code;

use crate::{
    forgetting::{commit, get, noise, payloads, reason},
    world::{World, event},
};

/// Starts the stopped node again and returns how it ended, and what it said last.
async fn exit(world: &mut World, place: usize) -> (i32, String) {
    world.cluster.start(place).unwrap();
    let mut process = world.cluster.take(place).unwrap();
    let status = process.ended(Duration::from_secs(20)).await.unwrap();
    let log = fs::read_to_string(world.cluster.log(world.node(place))).unwrap();
    (status.code().unwrap_or(-1), log.lines().last().unwrap_or_default().to_owned())
}

async fn stopped_with_data() -> (World, PathBuf) {
    let mut world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    for _ in 0..20 {
        world.ingest(0, "gateway").append(gateway.sign(vec![event("s"); 50])).await.unwrap();
    }
    world.cluster.kill(0).unwrap();
    let data = world.plan().root.join("node-1");
    (world, data)
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// A message of a node whose directory cannot be trusted says what its operator does now.
fn says_what_to_do(message: &str) -> bool {
    message.contains("with an empty") && message.contains("directory, a new node id and a new key")
}

fn largest(directory: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(ending)).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[tokio::test]
async fn a_flipped_bit_in_the_raft_log_is_storage_damaged() {
    let (mut world, data) = stopped_with_data().await;
    let log = largest(&data.join("journal"), ".log");
    flip(&log, fs::metadata(&log).unwrap().len() / 2);
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 10, "{message}");
    assert!(message.contains("the journal") && says_what_to_do(&message), "it says what is damaged, and what to do: {message}");
}

#[tokio::test]
async fn a_raft_log_that_lost_its_tail_is_storage_regressed() {
    let (mut world, data) = stopped_with_data().await;
    let log = largest(&data.join("journal"), ".log");
    let length = fs::metadata(&log).unwrap().len();
    fs::File::options().write(true).open(&log).unwrap().set_len(length * 2 / 3).unwrap();
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 11, "{message}");
    assert!(message.contains("the disk lost records") && says_what_to_do(&message), "{message}");
}

#[tokio::test]
async fn a_damaged_high_water_file_is_storage_damaged() {
    let (mut world, data) = stopped_with_data().await;
    let length = fs::metadata(data.join("high-water")).unwrap().len();
    (0..length).for_each(|at| flip(&data.join("high-water"), at));
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 10, "{message}");
    assert!(message.contains("high-water") && says_what_to_do(&message), "it says what is damaged, and what to do: {message}");
}

#[tokio::test]
async fn a_lost_record_of_signed_trees_is_storage_damaged() {
    let (mut world, data) = stopped_with_data().await;
    fs::remove_file(data.join("signed-tree")).unwrap();
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 10, "{message}");
    assert!(message.contains("signed-tree") && says_what_to_do(&message), "it says what is lost, and what to do: {message}");
}

#[tokio::test]
async fn init_makes_nothing_again_that_a_node_lost() {
    let (mut world, data) = stopped_with_data().await;
    let init = |world: &World| world.cluster.initialise(world.node(0), &[]).map_err(|error| error.to_string());
    init(&world).expect("a directory that is whole is left as it is");
    let signed = fs::read(data.join("signed-tree")).unwrap();
    fs::remove_file(data.join("signed-tree")).unwrap();
    let error = init(&world).unwrap_err();
    assert!(error.contains("new node id") && !data.join("signed-tree").exists(), "{error}");
    fs::write(data.join("signed-tree"), signed).unwrap();
    fs::remove_dir_all(data.join("journal")).unwrap();
    fs::remove_file(data.join("high-water")).unwrap();
    let error = init(&world).unwrap_err();
    assert!(error.contains("new node id") && !data.join("high-water").exists(), "{error}");
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 10, "a node without its log is not a new one: {message}");
    assert!(message.contains("new node id"), "{message}");
}

#[tokio::test]
async fn an_interrupted_init_is_finished_by_the_next() {
    let root = tempfile::tempdir().unwrap();
    let plan = proofline_cluster::Plan::create(&root.path().join("cluster"), 1, Tls::Mutual).unwrap();
    let cluster = proofline_cluster::Cluster::of(plan, proofline_cluster::Binaries::beside_current().unwrap());
    let (node, data) = (cluster.plan.nodes[0].clone(), cluster.plan.root.join("node-1"));
    cluster.initialise(&node, &["--bootstrap"]).unwrap();
    for lost in [&["signed-tree"][..], &["signed-tree", "high-water"], &["bootstrap"]] {
        lost.iter().for_each(|name| fs::remove_file(data.join(name)).unwrap());
        cluster.initialise(&node, &["--bootstrap"]).unwrap();
        assert!(["identity", "high-water", "signed-tree", "bootstrap"].iter().all(|name| data.join(name).exists()), "{lost:?}");
    }
}

#[tokio::test]
async fn a_damaged_state_is_noticed() {
    let (mut world, data) = stopped_with_data().await;
    let state = fs::read_dir(data.join("state")).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let manifest = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let manifest = manifest.filter(|path| path.to_string_lossy().contains("MANIFEST")).max().unwrap();
    flip(&manifest, fs::metadata(&manifest).unwrap().len() / 2);
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 10, "{message}");
    assert!(message.contains("the state") && says_what_to_do(&message), "it says what is damaged, and what to do: {message}");
}

#[tokio::test]
async fn a_node_that_contradicted_the_others_does_not_start_again() {
    let (mut world, data) = stopped_with_data().await;
    fs::write(data.join("contradiction"), br#"{"what":"state","reason":"at entry 7 it had another state"}"#).unwrap();
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 16, "{message}");
    assert!(message.contains("at entry 7"), "{message}");
}

#[tokio::test]
async fn a_table_of_the_state_that_holds_something_else_is_storage_damaged() {
    let mut world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    world.ingest(0, "gateway").append(gateway.sign(vec![event("s"); 50])).await.unwrap();
    world.cluster.stop(0).await.unwrap();
    let data = world.plan().root.join("node-1");
    let files = fs::read_dir(data.join("state/db-1")).unwrap().map(|entry| entry.unwrap().path());
    let tables: Vec<_> = files.filter(|path| path.extension().is_some_and(|kind| kind == "sst")).collect();
    assert!(!tables.is_empty(), "an orderly stop leaves tables");
    for table in tables {
        // The first block of rows: the table opens, and what is wrong with it shows when somebody reads there.
        flip(&table, 40);
    }
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 10, "a restart does not bring it back: {message}");
    assert!(message.contains("new node id"), "it says what to do: {message}");
}

#[tokio::test]
async fn a_database_that_lost_a_file_is_storage_damaged() {
    for database in ["state/db-1", "journal"] {
        let (mut world, data) = stopped_with_data().await;
        let files = fs::read_dir(data.join(database)).unwrap().map(|entry| entry.unwrap().path());
        let manifests = files.filter(|path| path.to_string_lossy().contains("MANIFEST"));
        manifests.for_each(|path| fs::remove_file(path).unwrap());
        let (code, message) = exit(&mut world, 0).await;
        assert_eq!(code, 10, "a restart does not bring it back: {message}");
        assert!(message.contains("new node id"), "it says what to do: {message}");
    }
}

#[tokio::test]
async fn the_data_directory_of_another_node_is_foreign() {
    let (mut world, data) = stopped_with_data().await;
    let identity = data.join("identity");
    let other = fs::read_to_string(&identity).unwrap().replace("proofline.local", "somebody.else");
    fs::write(&identity, other).unwrap();
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 12, "{message}");
    assert!(message.contains("somebody.else") && message.contains("point --data-dir at"), "it says whose it is, and what to do: {message}");
}

#[tokio::test]
async fn a_log_that_began_with_another_genesis_is_foreign() {
    let (mut world, _) = stopped_with_data().await;
    alter_genesis(&world, |genesis| genesis.grants.truncate(1));
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 12, "{message}");
    assert!(message.contains("genesis"), "{message}");
}

#[tokio::test]
async fn a_genesis_with_which_no_ledger_begins_is_refused_before_anything_starts() {
    let (mut world, _) = stopped_with_data().await;
    alter_genesis(&world, |genesis| genesis.operators.truncate(1));
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("two registrars"), "{message}");
}

fn alter_genesis(world: &World, alter: impl FnOnce(&mut Genesis)) {
    let path = world.plan().root.join("genesis.bin");
    let mut genesis = Genesis::decode(&fs::read(&path).unwrap()[..]).unwrap();
    alter(&mut genesis);
    fs::write(&path, genesis.encode_to_vec()).unwrap();
}

#[tokio::test]
async fn a_wiped_data_directory_is_not_started_again() {
    let (mut world, data) = stopped_with_data().await;
    fs::remove_dir_all(&data).unwrap();
    let (code, message) = exit(&mut world, 0).await;
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("new node id"), "{message}");
}

/// A file system of its own, removed with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, megabytes: u32) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status().unwrap();
        assert!(mounted.success(), "mounting a small file system needs root");
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_node_and_nothing_acknowledged_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let plan = proofline_cluster::Plan::create(&root.path().join("cluster"), 1, Tls::Mutual).unwrap();
    let _disk = SmallDisk::mount(&plan.root.join("node-1"), 24);
    let cluster = proofline_cluster::Cluster::found(plan, proofline_cluster::Binaries::beside_current().unwrap()).await.unwrap();
    let mut world = World { cluster, _root: root };
    let mut gateway = world.collector("gateway").await;
    let mut acknowledged = 0;
    let mut ingest = world.ingest(0, "gateway");
    loop {
        let request = gateway.sign((0..200).map(|n| noisy_event(acknowledged * 200 + n)).collect());
        match tokio::time::timeout(Duration::from_secs(30), ingest.append(request)).await.expect("an answer") {
            Ok(_) => acknowledged += 1,
            Err(_) => break,
        }
        assert!(acknowledged < 2_000, "the disk is never full");
    }
    let mut process = world.cluster.take(0).unwrap();
    let status = process.ended(Duration::from_secs(30)).await.unwrap();
    assert_eq!(status.code(), Some(13), "{}", fs::read_to_string(world.cluster.log(world.node(0))).unwrap());
    assert!(acknowledged > 0);
    // With room again, everything acknowledged is there.
    let data = world.plan().root.join("node-1");
    let grown = Command::new("mount").args(["-o", "remount,size=256m"]).arg(&data).status().unwrap();
    assert!(grown.success());
    world.cluster.start_all().await.unwrap();
    let size = 3 + acknowledged as u64 * 200;
    world.published(0, size).await;
}

#[tokio::test]
async fn payloads_stop_before_the_disk_is_full_and_the_log_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let plan = proofline_cluster::Plan::create(&root.path().join("cluster"), 1, Tls::Mutual).unwrap();
    // The databases set room aside for their logs before they write.
    let _disk = SmallDisk::mount(&plan.root.join("node-1"), 240);
    let cluster = proofline_cluster::Cluster::found(plan, proofline_cluster::Binaries::beside_current().unwrap()).await.unwrap();
    let world = World { cluster, _root: root };
    let mut gateway = world.collector("gateway").await;
    let mut kept = Vec::new();
    let refused = loop {
        let given = commit(&world, &mut gateway, &noise(kept.len() as u8, 1 << 20), &[0]).await;
        match payloads(&world, 0, "gateway").put_payload(given.request()).await {
            Ok(_) => kept.push(given),
            Err(status) => break status,
        }
        assert!(kept.len() < 240, "the disk is never full");
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "PAYLOAD_STORE_FULL"), "{refused:?}");
    for _ in 0..50 {
        world.ingest(0, "gateway").append(gateway.sign((0..200).map(noisy_event).collect())).await.unwrap();
    }
    assert_eq!(get(&world, 0, &kept[0]).await.unwrap().content, kept[0].content);
    let metrics = proofline_cluster::http::get(world.plan(), world.node(0), "/metrics").await.unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("proofline_payloads_refused_full_total 1\n"), "{metrics}");
}

/// An event that does not compress.
fn noisy_event(n: usize) -> Vec<u8> {
    let mut noise = vec![0; 400];
    getrandom::fill(&mut noise).unwrap();
    event(&format!("{n}-{}", noise.iter().map(|byte| char::from(b'a' + byte % 26)).take(200).collect::<String>()))
}
