//! A node whose clock is a year ahead, from its start on and all at once.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, UNIX_EPOCH},
};

use proofline_cluster::Tls;
use proofline_proto::v1;
use prost::Message as _;
use tonic_types::StatusExt as _;

use crate::world::{World, append_through, event, repeat_through};

const RIGHT: &str = "+0";
const YEAR_AHEAD: &str = "+365d";
const WITHIN: Duration = Duration::from_secs(30);

/// The wall clocks of a cluster's nodes: `faketime` reads each from a file of its own, so that it can be set while the node runs.
struct WallClocks {
    library: String,
    directory: PathBuf,
}

impl WallClocks {
    fn new(directory: &Path) -> Self {
        let found = std::process::Command::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketime.so.1"]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        let library = found.lines().next().expect("libfaketime is installed by make setup").to_owned();
        Self { library, directory: directory.to_owned() }
    }

    fn set(&self, place: usize, offset: &str) {
        std::fs::write(self.file(place), format!("{offset}\n")).unwrap();
    }

    fn file(&self, place: usize) -> PathBuf {
        self.directory.join(format!("clock-{place}"))
    }

    fn start(&self, world: &mut World, place: usize) {
        let file = self.file(place);
        let environment = [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        world.cluster.start_with(place, &environment).unwrap();
    }
}

/// Founds a cluster whose nodes run by clocks that the test sets, with one batch in it.
async fn clocked(offsets: [&str; 3]) -> (World, crate::world::Collector, WallClocks) {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    append_through(&world, &mut gateway, &[0, 1, 2]).await;
    let clocks = WallClocks::new(world._root.path());
    world.cluster.stop_all().await.unwrap();
    for (place, offset) in offsets.into_iter().enumerate() {
        clocks.set(place, offset);
    }
    (world, gateway, clocks)
}

/// Waits until a node says that its clock is not to be trusted.
async fn distrusted(world: &World, place: usize) {
    let until = Instant::now() + WITHIN;
    loop {
        let answer = proofline_cluster::http::get(world.plan(), world.node(place), "/readyz").await;
        if answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.body).contains("clock")) {
            return;
        }
        assert!(Instant::now() < until, "node {place} trusts its clock");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn of_two_nodes_whose_clocks_are_a_year_apart_neither_accepts_anything() {
    let (mut world, mut gateway, clocks) = clocked([YEAR_AHEAD, RIGHT, RIGHT]).await;
    clocks.start(&mut world, 0);
    clocks.start(&mut world, 1);
    for place in [0, 1] {
        distrusted(&world, place).await;
    }
    // Nobody knows which of the two clocks is right.
    let request = gateway.sign(vec![event("s")]);
    for place in [0, 1, 0, 1] {
        let status = world.ingest(place, "gateway").append(request.clone()).await.expect_err("no clock is to be trusted");
        let reason = status.get_error_details().error_info().map_or_else(String::new, |info| info.reason.clone());
        assert!(["CLOCK_NOT_TRUSTED", "NO_LEADER", "FATE_UNKNOWN"].contains(&reason.as_str()), "{status:?}");
    }
    // Under a right clock the same batch goes through: nothing of it was appended before.
    clocks.set(0, RIGHT);
    repeat_through(&world, "gateway", request, &[0, 1]).await;
}

#[tokio::test]
async fn a_leader_whose_clock_jumps_a_year_ahead_accepts_nothing_and_gives_up_the_lead() {
    let (mut world, mut gateway, clocks) = clocked([RIGHT; 3]).await;
    for place in 0..3 {
        clocks.start(&mut world, place);
    }
    append_through(&world, &mut gateway, &[0, 1, 2]).await;
    let led = leader(&world, None).await;
    clocks.set(led, YEAR_AHEAD);
    // Batches keep coming through the jump: each is refused, or dated by a clock that is right.
    let mut last = 0;
    let until = Instant::now() + WITHIN;
    while leader(&world, Some((led + 1) % 3)).await == led {
        assert!(Instant::now() < until, "the node whose clock jumped kept the lead");
        last = append_through(&world, &mut gateway, &[0, 1, 2]).await;
    }
    last = last.max(append_through(&world, &mut gateway, &[0, 1, 2]).await);
    let around = (led + 1) % 3;
    world.published(around, last + 1).await;
    let entry = world.audit(around, "auditor").get_entry(v1::GetEntryRequest { index: last }).await;
    let entry = v1::Entry::decode(entry.unwrap().into_inner().entry.as_slice()).unwrap();
    let committed = Duration::from_nanos(v1::EntryCore::decode(entry.core).unwrap().committed_unix_ns);
    let now = UNIX_EPOCH.elapsed().unwrap();
    assert!(committed.abs_diff(now) < Duration::from_secs(60), "committed at {committed:?}, now {now:?}");
}

/// Waits until a node, asked at `through` or at each of the three, knows who leads.
async fn leader(world: &World, through: Option<usize>) -> usize {
    let until = Instant::now() + WITHIN;
    let places: Vec<usize> = through.map_or_else(|| (0..3).collect(), |place| vec![place]);
    for place in places.iter().cycle() {
        let answer = world.control(*place, "admin").cluster_status(v1::ClusterStatusRequest {}).await;
        let led = answer.ok().and_then(|answer| {
            let leader_id = answer.into_inner().leader_id;
            world.plan().nodes.iter().position(|node| node.node_id == leader_id)
        });
        match led {
            Some(led) => return led,
            None => assert!(Instant::now() < until, "no leader is known"),
        }
    }
    unreachable!("there is a node to ask")
}
