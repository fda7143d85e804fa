//! A leader whose followers stand still, so that nothing is committed: what it takes is bounded, what it refuses is not in the
//! log, and all of it goes on afterwards.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use proofline_cluster::{Binaries, TENANT, Tls, http};
use proofline_proto::v1;
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    archive::{expect, told},
    containment::leader,
    forgetting::reason,
    world::{Collector, World, append_through, event, repeat_through},
};

const IN_TIME: Duration = Duration::from_secs(20);

/// Processes that stand still until this is dropped.
struct Standstill(Vec<u32>);

impl Standstill {
    /// Returns when no thread of these nodes runs any more.
    async fn of(world: &World, places: impl Iterator<Item = usize>) -> Self {
        let processes: Vec<u32> = places.map(|place| world.cluster.process_id(place).unwrap()).collect();
        signal("-STOP", &processes);
        let stopped = Self(processes);
        let until = Instant::now() + IN_TIME;
        while !stopped.0.iter().all(|process| stands_still(*process)) {
            assert!(Instant::now() < until, "the followers still run");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stopped
    }

    /// Has everybody but the leader stand still.
    async fn of_followers(world: &World, leader: usize) -> Self {
        Self::of(world, (0..world.plan().nodes.len()).filter(|place| *place != leader)).await
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(kind: &str, processes: &[u32]) {
    let signalled = Command::new("kill").arg(kind).args(processes.iter().map(u32::to_string)).status();
    assert!(signalled.is_ok_and(|status| status.success()) || std::thread::panicking());
}

fn stands_still(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.filter_map(Result::ok).all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state stands behind the name of the program, which is in brackets.
        stat.rsplit(") ").next().is_some_and(|behind| behind.starts_with('T'))
    })
}

/// Events of a large batch.
const EVENTS: usize = 20;

/// Somewhat more than a mebibyte, in a session that is named after its collector: a group of its own, and fourteen fill the inbox.
fn large(collector: &mut Collector) -> v1::AppendRequest {
    let mut event = v1::Event::decode(&event(&collector.id)[..]).unwrap();
    event.body = Some(v1::event::Body::RunStarted(v1::RunStarted { workflow: "x".repeat(57_000), ..Default::default() }));
    collector.sign(vec![event.encode_to_vec(); EVENTS])
}

const SENDERS: usize = 24;
/// Large batches that 16 MiB hold.
const ADMITTED: usize = 14;

/// Returns the number of the last batch of a collector, 0 before the first.
async fn last_batch(world: &World, place: usize, collector: &str) -> u64 {
    let asked = v1::GetCollectorHeadRequest { collector_id: collector.to_owned(), lane: 0 };
    world.ingest(place, collector).get_collector_head(asked).await.unwrap().into_inner().last.map_or(0, |last| last.sequence)
}

async fn entries_of_session(world: &World, place: usize, session: &str) -> u64 {
    let asked = v1::ListSessionRequest { tenant_id: TENANT.to_owned(), session_id: session.to_owned(), from_position: 0, page_size: 1 };
    world.audit(place, "auditor").list_session(asked).await.unwrap().into_inner().session.unwrap().entries
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_inbox_refuses_is_not_in_the_log_and_is_taken_when_it_is_sent_again() {
    let world = World::found(3, Tls::Off).await;
    let mut marker = world.collector("marker").await;
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        senders.push(world.collector(&format!("sender-{n}")).await);
    }
    let requests: Vec<_> = senders.iter_mut().map(|sender| (sender.id.clone(), large(sender))).collect();
    let led = leader(&world).await;
    let standstill = Standstill::of_followers(&world, led).await;
    let mut answers = JoinSet::new();
    for (sender, request) in requests.clone() {
        let mut ingest = world.ingest(led, &sender);
        answers.spawn(async move { (sender, ingest.append(request).await) });
    }
    let mut refused = BTreeSet::new();
    while refused.len() < SENDERS - ADMITTED {
        let (sender, answer) = tokio::time::timeout(IN_TIME, answers.join_next()).await.expect("refused at once").unwrap().unwrap();
        let status = answer.expect_err("nothing is committed while a majority stands still");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "INBOX_FULL"), "{status:?}");
        assert!(status.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{status:?}");
        refused.insert(sender);
    }
    drop(standstill);
    for (sender, answer) in answers.join_all().await {
        // What was taken is acknowledged now, or its fate is unknown where somebody else came to lead.
        assert!(answer.is_ok() || answer.as_ref().is_err_and(|it| reason(it) != "INBOX_FULL"), "{sender} was let in: {answer:?}");
    }
    // Behind this entry nothing of the above is on its way any more.
    let marked = append_through(&world, &mut marker, &[0, 1, 2]).await;
    for sender in &refused {
        assert_eq!(last_batch(&world, led, sender).await, 0, "{sender} was told that nothing was appended");
    }
    for (sender, request) in requests {
        let first = repeat_through(&world, &sender, request, &[0, 1, 2]).await;
        assert!(first > marked || !refused.contains(&sender), "{sender} was refused, and is at {first}, before {marked}");
    }
    let end = append_through(&world, &mut marker, &[led]).await;
    world.published(led, end + 1).await;
    for sender in &senders {
        assert_eq!(last_batch(&world, led, &sender.id).await, 1);
        assert_eq!(entries_of_session(&world, led, &sender.id).await, EVENTS as u64, "{} is there once", sender.id);
    }
}

/// Batches of one stream that may be under way.
const STREAM_WINDOW: u64 = 128;
/// Of the stream, one whose answer is waited for, and one that waits for a place in the window; and of the leader itself, a
/// checkpoint and a commitment.
const BESIDE_WINDOW: u64 = 4;
/// Batches of the stream: some windows full, and together less than the connection takes unread.
const STREAMED: usize = 400;

/// How many submissions wait in the inbox of a node.
async fn waiting(world: &World, place: usize) -> u64 {
    let metrics = http::get(world.plan(), world.node(place), "/metrics").await.unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix("proofline_inbox_depth_submissions ")).unwrap();
    value.parse().unwrap()
}

async fn until_waiting(world: &World, place: usize, at_least: u64) {
    let until = Instant::now() + IN_TIME;
    loop {
        let now = waiting(world, place).await;
        if now >= at_least {
            return;
        }
        assert!(Instant::now() < until, "{now} submissions wait, not {at_least}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_no_more_under_way_than_its_window_and_goes_on_behind_it() {
    let world = World::found(3, Tls::Off).await;
    let mut streaming = world.collector("streaming").await;
    let batches: Vec<_> = (0..STREAMED).map(|_| streaming.sign(vec![event("s")])).collect();
    let mut first = Vec::new();
    for n in 0..4 {
        first.push(world.collector(&format!("first-{n}")).await);
    }
    let led = leader(&world).await;
    let standstill = Standstill::of_followers(&world, led).await;
    // Two groups may be under way. These are a group each: two wait, and the stream behind them.
    let mut before = JoinSet::new();
    for sender in &mut first {
        let (mut ingest, request) = (world.ingest(led, &sender.id), large(sender));
        before.spawn(async move { ingest.append(request).await });
    }
    until_waiting(&world, led, 2).await;
    let mut ingest = world.ingest(led, "streaming");
    let mut receipts = ingest.append_stream(tokio_stream::iter(batches.clone())).await.unwrap().into_inner();
    until_waiting(&world, led, 2 + STREAM_WINDOW).await;
    for _ in 0..50 {
        let now = waiting(&world, led).await;
        assert!(now <= 2 + STREAM_WINDOW + BESIDE_WINDOW, "{now} submissions wait: two large batches, and more than a window");
    }
    drop(standstill);
    let mut received = 0;
    let ended = loop {
        match receipts.message().await {
            Ok(Some(receipt)) => assert_eq!(receipt.sequence, received + 1, "receipts come in the order of the batches"),
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
        received += 1;
    };
    // Somebody else may have come to lead meanwhile. Whoever sends the rest again loses nothing.
    assert!(ended.is_ok() == (received == STREAMED as u64), "{received} receipts, then {ended:?}");
    for request in batches.into_iter().skip(received as usize) {
        repeat_through(&world, "streaming", request, &[0, 1, 2]).await;
    }
    assert_eq!(last_batch(&world, led, "streaming").await, STREAMED as u64);
}

/// Batches of a mebibyte that a node misses: many small events, which take longer to apply than to send.
const MISSED: usize = 200;
/// What it may hold beyond what it held, while it catches up.
const CATCH_UP_MIB: u64 = 280;

fn many_small(collector: &mut Collector) -> v1::AppendRequest {
    let mut event = v1::Event::decode(&event(&collector.id)[..]).unwrap();
    event.body = Some(v1::event::Body::RunStarted(v1::RunStarted { workflow: "x".repeat(850), ..Default::default() }));
    collector.sign(vec![event.encode_to_vec(); 1_000])
}

fn resident_mib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_catches_up_without_holding_all_of_it_at_once() {
    let world = World::found(3, Tls::Off).await;
    let mut sender = world.collector("sender").await;
    let led = leader(&world).await;
    let away = (0..3).find(|place| *place != led).unwrap();
    let process = world.cluster.process_id(away).unwrap();
    let before = resident_mib(process);
    let standstill = Standstill::of(&world, [away].into_iter()).await;
    let mut ingest = world.ingest(led, "sender");
    for _ in 0..MISSED {
        ingest.append(many_small(&mut sender)).await.unwrap();
    }
    let size = world.control(led, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    let size = size.nodes.iter().map(|node| node.tree_size).max().unwrap();
    drop(standstill);
    let (mut most, until) = (0, Instant::now() + Duration::from_secs(120));
    loop {
        most = most.max(resident_mib(process));
        let status = world.control(led, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
        let node = status.nodes.iter().find(|node| node.node_id == away as u64 + 1).unwrap();
        if node.error.is_empty() && node.tree_size >= size {
            break;
        }
        assert!(Instant::now() < until, "the node does not catch up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("resident: {before} MiB before, {most} MiB at most, {MISSED} MiB behind");
    assert!(most < before + CATCH_UP_MIB, "{before} MiB became {most} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_a_majority_says_so_while_it_goes_on() {
    let world = World::found(3, Tls::Off).await;
    let led = leader(&world).await;
    let _standstill = Standstill::of_followers(&world, led).await;
    let plan = world.plan();
    let mut contain = Command::new(Binaries::beside_current().unwrap().path("proofline"));
    contain.arg("--profile").arg(plan.profile("admin")).args([
        "--timeout",
        "5",
        "contain",
        "halt",
        "--tenant",
        TENANT,
        "--reason",
        "a test",
    ]);
    contain.arg("--signer").arg(format!("rita={}", plan.operator_key("rita").display()));
    let answer = tokio::task::spawn_blocking(move || contain.output().unwrap()).await.unwrap();
    let said = String::from_utf8(answer.stderr).unwrap();
    let (waiting, failed) = (said.find("no answer for 3 s, trying for 2 s more"), said.find("nobody said what became of it"));
    assert!(waiting.is_some() && waiting < failed, "{said}");
    assert_eq!(answer.status.code(), Some(5), "{said}");
}

/// Lines that `proofline append` signs as one batch.
const SIGNED_TOGETHER: usize = 256;

#[tokio::test(flavor = "multi_thread")]
async fn events_that_had_to_wait_are_told_of_when_they_are_in_the_log() {
    let world = World::found(3, Tls::Off).await;
    let root = world.plan().root.clone();
    let key = root.join("gateway.key.pem");
    proofline_client::write_key(&key, &world.collector("gateway").await.key).unwrap();
    let led = leader(&world).await;
    let node = world.node(led).client.to_string();
    let append = |file: &str, seconds: &str| {
        let mut command = Command::new(Binaries::beside_current().unwrap().path("proofline"));
        command.current_dir(&root).arg("--profile").arg(world.plan().profile("admin")).args([
            "--node",
            &node,
            "--timeout",
            seconds,
            "append",
            file,
        ]);
        command.args(["--collector", "gateway", "--tenant", TENANT, "--vantage", "gateway-observed", "--key"]).arg(&key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (good, bare) = (
        r#"{"session": {"session_id": "s"}, "attribution": {"initiator": {"kind": "human", "subject": "u"}, "agent": {"agent_id": "a"}}, "run_started": {}}"#,
        r#"{"session": {"session_id": "s"}, "run_started": {}}"#,
    );
    fs::write(root.join("broken"), format!("{good}\n{{oops")).unwrap();
    fs::write(root.join("none"), "").unwrap();
    fs::write(root.join("first"), good).unwrap();
    expect(&append("broken", "30").wait_with_output().unwrap(), 1, "line 2; nothing was appended");
    fs::write(root.join("malformed"), good.replace(r#""s""#, &format!("{:?}", "s".repeat(300)))).unwrap();
    expect(&append("malformed", "30").wait_with_output().unwrap(), 1, "line 1; nothing was appended: the event is malformed: session: ids");

    let mut feed = append("-", "6");
    let mut lines = feed.stdin.take().unwrap();
    lines.write_all(format!("{good}\n").repeat(SIGNED_TOGETHER).as_bytes()).unwrap();
    lines.flush().unwrap();
    world.published(led, SIGNED_TOGETHER as u64).await;
    let standstill = Standstill::of_followers(&world, led).await;
    lines.write_all(format!("{bare}\n{good}\n").as_bytes()).unwrap();
    drop(lines);
    let waiting = tokio::task::spawn_blocking(move || feed.wait_with_output().unwrap()).await.unwrap();
    expect(&waiting, 5, "up to line 258 all is in the log, or among the 2 events that wait in the journal");
    // Nothing that comes behind them gets into the journal, and nobody is told that it did.
    expect(&append("first", "4").wait_with_output().unwrap(), 5, "nothing of this was appended; 2 events of earlier runs wait");
    expect(&append("none", "4").wait_with_output().unwrap(), 5, "2 events of earlier runs wait");
    drop(standstill);
    let then = append("none", "30").wait_with_output().unwrap();
    expect(&then, 1, "1 appended, among them what had waited in the journal");
    assert!(told(&then).contains("rejected: unattributed"), "{}", told(&then));
}
