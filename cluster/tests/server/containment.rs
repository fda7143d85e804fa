//! Containment through a real cluster: what was acknowledged holds at once, everywhere, through a leader that dies.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proofline_cluster::{TENANT, Tls};
use proofline_proto::v1::{self, command::Action};
use prost::Message as _;
use tokio::sync::watch;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{Collector, World, append_through, event};

const WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn contain(action: v1::ContainmentAction, kind: v1::TargetKind, id: &str) -> Action {
    let target = v1::Target { kind: kind.into(), tenant_id: TENANT.to_owned(), id: id.to_owned() };
    Action::Contain(v1::Contain { target: Some(target), action: action.into(), reason: "a test".to_owned(), incident_id: String::new() })
}

fn revoke(session: &str) -> Action {
    contain(v1::ContainmentAction::RevokeSession, v1::TargetKind::Session, session)
}

fn release(containment_id: u64) -> Action {
    Action::Release(v1::Release { containment_id, reason: "a test".to_owned(), incident_id: String::new() })
}

/// An event of a session below another.
fn below(parent: &str, session: &str) -> Vec<u8> {
    let mut event = v1::Event::decode(event(session).as_slice()).unwrap();
    event.session.as_mut().unwrap().parent_session_id = parent.to_owned();
    event.encode_to_vec()
}

/// Submits the same signed command through one node after the other until one answers.
pub(crate) async fn command_through(world: &World, operators: &[&str], action: Action) -> u64 {
    let command = world.signed(operators, action);
    let until = Instant::now() + WITHIN;
    for place in (0..3).cycle() {
        let request = v1::SubmitCommandRequest { command: Some(command.clone()) };
        match world.control(place, "admin").submit_command(request).await {
            Ok(answer) => return answer.into_inner().index,
            Err(status) => match taken_before(&status) {
                Some(index) => return index,
                None => pause(&status, until).await,
            },
        }
    }
    unreachable!("there is a node to ask")
}

/// Returns the entry of a command that was taken the first time, when the answer was lost with a leader.
fn taken_before(status: &Status) -> Option<u64> {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.reason == "COMMAND_REPLAYED")?;
    info.metadata.get("entry")?.parse().ok()
}

/// Waits as long as the node asks before the same is sent again; panics at an answer that will not change.
pub(crate) async fn pause(status: &Status, until: Instant) {
    let passes = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown);
    assert!(passes && Instant::now() < until, "{status:?}");
    let asked = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
    tokio::time::sleep(asked.unwrap_or(Duration::from_millis(50))).await;
}

/// How many appends of one writer were allowed, and how many denied.
type Counts = (u64, u64);

/// Writes to its own session below "root" through one node until told to stop.
///
/// Panics when an append that was first sent after the revocation was acknowledged is allowed.
async fn write(world: Arc<World>, mut collector: Collector, place: usize, revoked: watch::Receiver<bool>, counts: watch::Sender<Counts>) {
    let session = format!("child-{place}");
    let mut ingest = world.ingest(place, &collector.id);
    while !counts.is_closed() {
        let request = collector.sign(vec![below("root", &session)]);
        let is_after = *revoked.borrow();
        while !counts.is_closed() {
            let status = match ingest.append(request.clone()).await {
                Ok(receipt) => {
                    let verdict = receipt.into_inner().events[0].verdict();
                    assert!(!is_after || verdict == v1::Verdict::Deny, "{verdict:?} through node {place} after the revocation");
                    counts.send_modify(|counts| if verdict == v1::Verdict::Deny { counts.1 += 1 } else { counts.0 += 1 });
                    break;
                }
                Err(status) => status,
            };
            pause(&status, Instant::now() + WITHIN).await;
        }
    }
}

/// Waits until each of these writers has counted as much.
async fn counted(writers: &mut [watch::Receiver<Counts>], enough: impl Fn(&Counts) -> bool + Copy) {
    for writer in writers {
        tokio::time::timeout(WITHIN, writer.wait_for(enough)).await.expect("in time").unwrap();
    }
}

#[tokio::test]
async fn nothing_that_is_sent_after_an_acknowledged_revocation_is_allowed_through_any_node() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut root = world.collector("gateway-root").await;
    append_through(&world, &mut root, &[0, 1, 2]).await;
    let mut collectors = Vec::new();
    for place in 0..3 {
        collectors.push(world.collector(&format!("gateway-{place}")).await);
    }
    let led = leader(&world).await;
    let mut process = world.cluster.take(led).unwrap();
    let world = Arc::new(world);
    let (revoke_now, revoked) = watch::channel(false);
    let (mut writers, mut tasks) = (Vec::new(), tokio::task::JoinSet::new());
    for (place, collector) in collectors.into_iter().enumerate() {
        let (counts, counted) = watch::channel((0, 0));
        writers.push(counted);
        tasks.spawn(write(Arc::clone(&world), collector, place, revoked.clone(), counts));
    }
    counted(&mut writers, |counts| counts.0 >= 5).await;
    command_through(&world, &["rita"], revoke("root")).await;
    revoke_now.send_replace(true);
    counted(&mut writers, |counts| counts.1 >= 5).await;

    let before: Vec<u64> = writers.iter().map(|writer| writer.borrow().1).collect();
    assert!(process.status().unwrap().is_none());
    process.kill().unwrap();
    for (place, writer) in writers.iter_mut().enumerate().filter(|(place, _)| *place != led) {
        counted(std::slice::from_mut(writer), |counts| counts.1 >= before[place] + 5).await;
    }
    drop(writers);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn a_watcher_gets_every_change_once_through_a_change_of_leader_and_node() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    append_through(&world, &mut gateway, &[0, 1, 2]).await;
    let mut expected = Vec::new();
    for session in ["s-1", "s-2"] {
        expected.push(command_through(&world, &["rita"], revoke(session)).await + 1);
    }
    let led = leader(&world).await;
    let mut watched = watch_through(&world, led, 0).await;
    let (mut seen, mut next) = (Vec::new(), 0);
    while seen.len() < 2 {
        let change = watched.message().await.unwrap().unwrap();
        seen.extend(change.containment.map(|_| change.index));
        next = change.next_index;
    }
    world.cluster.kill(led).unwrap();
    expected.push(command_through(&world, &["rita"], revoke("s-3")).await + 1);
    expected.push(command_through(&world, &["rita", "sam"], release(1)).await + 1);
    // Taken up at another node, where the stream broke off.
    let mut watched = watch_through(&world, (led + 1) % 3, next).await;
    while seen.len() < 4 {
        let change = tokio::time::timeout(WITHIN, watched.message()).await.expect("in time").unwrap().unwrap();
        seen.extend(change.containment.map(|_| change.index));
    }
    assert_eq!(seen, expected);
    // Nothing more is contained, but the heartbeat comes, also while the log grows all the time.
    let growing = async {
        loop {
            append_through(&world, &mut gateway, &[(led + 1) % 3]).await;
        }
    };
    let beat = tokio::select! {
        () = growing => unreachable!("the log grows until the beat"),
        beat = tokio::time::timeout(WITHIN, watched.message()) => beat.expect("in time").unwrap().unwrap(),
    };
    assert!(beat.containment.is_none() && beat.next_index > *expected.last().unwrap(), "{beat:?}");

    let beyond = v1::WatchContainmentRequest { tenant_id: TENANT.to_owned(), from_index: beat.next_index + 1_000_000 };
    let status = world.control((led + 1) % 3, "auditor").watch_containment(beyond).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let request = v1::ListContainmentsRequest { tenant_id: TENANT.to_owned(), ..Default::default() };
    let listed = world.control((led + 1) % 3, "auditor").list_containments(request).await.unwrap().into_inner().containments;
    assert_eq!(listed.iter().map(|it| it.containment_id).collect::<Vec<_>>(), [2, 3], "the first was released");
}

async fn watch_through(world: &World, place: usize, from_index: u64) -> tonic::Streaming<v1::WatchContainmentResponse> {
    let request = v1::WatchContainmentRequest { tenant_id: TENANT.to_owned(), from_index };
    let until = Instant::now() + WITHIN;
    loop {
        match world.control(place, "auditor").watch_containment(request.clone()).await {
            Ok(answer) => return answer.into_inner(),
            // A node that lags has not heard of the index yet.
            Err(status) => assert!(status.code() == Code::OutOfRange && Instant::now() < until, "{status:?}"),
        }
    }
}

pub(crate) async fn leader(world: &World) -> usize {
    let status = world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    world.plan().nodes.iter().position(|node| node.node_id == status.leader_id).unwrap()
}
