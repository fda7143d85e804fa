//! Callers that come in crowds, and callers that never finish or never read: memory stays bounded, and honest callers go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use proofline_cluster::{TENANT, Tls};
use proofline_proto::v1::{self, ingest_client::IngestClient};
use prost::Message as _;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Mutex, task::JoinSet};
use tonic::{Code, transport::Channel};

use crate::{
    containment::contain,
    flood::{END_HEADERS, HEADERS, call_to, check_growth, connect, frame, honest, resident},
    world::{Collector, World, event},
};

const DATA: u8 = 0;
const CROWD: usize = 10_000;
/// Connections of clients that a node holds unless its configuration says otherwise.
const CONNECTIONS_MAX: usize = 2_048;

/// Lets this process, and the nodes that it starts, open as many files as a crowd needs.
fn may_open_many_files() {
    let this = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &this, "--nofile=16384:"]).status().unwrap();
    assert!(raised.success(), "this test needs 16,384 open files: raise the hard limit");
}

/// Tells whether the other end has closed a connection, without waiting.
fn is_closed(stream: &TcpStream) -> bool {
    let mut bytes = [0; 4_096];
    loop {
        match stream.try_read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => (),
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Waits until at most so many of a crowd are still connected.
async fn thinned_out(crowd: &[TcpStream], to: usize) {
    let thinned = async {
        while crowd.iter().filter(|stream| !is_closed(stream)).count() > to {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), thinned).await.expect("whoever is beyond the bound is closed on");
}

/// Has ten thousand callers come while honest ones go on, who make a new connection each time.
async fn crowded(tls: Tls, caller: impl AsyncFn(&World) -> TcpStream) {
    // Each takes ten thousand of the files that this process may open.
    static ONE_CROWD: Mutex<()> = Mutex::const_new(());
    let _alone = ONE_CROWD.lock().await;
    may_open_many_files();
    let world = World::found(1, tls).await;
    let mut gateway = world.collector("gateway").await;
    honest(&world, &mut gateway).await;
    let before = resident(&world);
    let mut crowd = Vec::with_capacity(CROWD);
    for n in 0..CROWD {
        crowd.push(caller(&world).await);
        if n % 1_000 == 999 {
            honest(&world, &mut gateway).await;
        }
    }
    thinned_out(&crowd, CONNECTIONS_MAX).await;
    honest(&world, &mut gateway).await;
    check_growth(&world, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_strangers_who_say_nothing_keep_nobody_out() {
    crowded(Tls::Mutual, async |world| TcpStream::connect(world.node(0).client).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_are_held_as_far_as_there_is_room() {
    crowded(Tls::Off, connect).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_certificate_holds_a_quarter_of_the_room_and_others_stay() {
    let world = World::found_with("client_connections_max = 16", Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let mut kept = world.ingest(0, "gateway");
    kept.append(gateway.sign(vec![event("kept")])).await.unwrap();
    let before = sockets(&world);
    // Each channel is a connection of its own, under the same certificate.
    let mut crowd = Vec::new();
    for _ in 0..40 {
        let mut control = world.control(0, "admin");
        control.cluster_status(v1::ClusterStatusRequest {}).await.unwrap();
        crowd.push(control);
    }
    let thinned = async {
        while sockets(&world) > before + 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), thinned).await.expect("a quarter of sixteen stay");
    kept.append(gateway.sign(vec![event("kept")])).await.unwrap();
}

/// Counts the sockets that the node holds.
fn sockets(world: &World) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", world.cluster.process_id(0).unwrap())).unwrap();
    let is_socket = |file: &std::fs::DirEntry| std::fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
    files.filter_map(Result::ok).filter(is_socket).count()
}

/// A call whose message comes a byte at a time, or whose headers do.
async fn slow_calls(world: &World, connections: usize) -> Vec<TcpStream> {
    let mut slow = Vec::new();
    for n in 0..connections {
        let mut stream = connect(world).await;
        if n % 2 == 0 {
            stream.write_all(&frame(HEADERS, 0, 1, &call_to("/proofline.v1.Ingest/Append")[..9])).await.unwrap();
        } else {
            stream.write_all(&frame(HEADERS, END_HEADERS, 1, &call_to("/proofline.v1.Ingest/Append"))).await.unwrap();
            // A message of four megabytes is announced.
            stream.write_all(&frame(DATA, 0, 1, &[0, 0, 0x40, 0, 0])).await.unwrap();
        }
        slow.push(stream);
    }
    slow
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_messages_that_trickle_hold_up_nobody() {
    let world = World::found(1, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    honest(&world, &mut gateway).await;
    let before = resident(&world);
    let mut slow = slow_calls(&world, 400).await;
    for round in 0..20_u8 {
        for (n, stream) in slow.iter_mut().enumerate() {
            let more = if n % 2 == 0 { frame(9, 0, 1, &[round]) } else { frame(DATA, 0, 1, &[round]) };
            // A node that closes such a connection does what it should.
            let _ = stream.write_all(&more).await;
        }
        honest(&world, &mut gateway).await;
    }
    check_growth(&world, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_end_are_bounded_together() {
    let world = World::found(1, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    honest(&world, &mut gateway).await;
    let before = resident(&world);
    // 8 connections of 100 calls, each of which announces four megabytes, sends 48 KiB and then nothing: within what the node
    // lets a connection send unread.
    let mut crowd = Vec::new();
    for _ in 0..8 {
        let mut stream = connect(&world).await;
        for call in 0..100 {
            let id = 2 * call + 1;
            let mut begun = frame(HEADERS, END_HEADERS, id, &call_to("/proofline.v1.Ingest/Append"));
            begun.extend(frame(DATA, 0, id, &[0, 0, 0x40, 0, 0]));
            begun.extend((0..3).flat_map(|_| frame(DATA, 0, id, &[7; 16_384])));
            // A call that was refused takes no more; a connection may be closed for it.
            let _ = stream.write_all(&begun).await;
        }
        crowd.push(stream);
        honest(&world, &mut gateway).await;
        println!("resident: {} MiB", resident(&world) >> 20);
    }
    assert!(resident(&world) < before + (224 << 20), "128 MiB of unfinished messages, and the buffers around them");
    honest(&world, &mut gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_reads_are_bounded() {
    let world = World::found(1, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    // Enough entries to fill several messages.
    for _ in 0..40 {
        let mut long = v1::Event::decode(&event("long")[..]).unwrap();
        long.body = Some(v1::event::Body::RunStarted(v1::RunStarted { workflow: "x".repeat(8_000), ..Default::default() }));
        let events = vec![long.encode_to_vec(); 16];
        world.ingest(0, "gateway").append(gateway.sign(events)).await.unwrap();
    }
    world.published(0, 600).await;
    let before = resident(&world);
    let (mut unread, mut refused) = (Vec::new(), 0);
    for _ in 0..4 {
        let mut audit = world.audit(0, "auditor");
        for _ in 0..60 {
            match audit.read_entries(v1::ReadEntriesRequest { from_index: 0, limit: 0, follow: true }).await {
                Ok(stream) => unread.push(stream),
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                    refused += 1;
                }
            }
        }
        honest(&world, &mut gateway).await;
    }
    println!("{} readers, {refused} refused", unread.len());
    assert!(!unread.is_empty() && refused > 0, "{refused} of 240 readers were refused");
    let now = resident(&world);
    println!("resident: {} MiB before, {} MiB now", before >> 20, now >> 20);
    assert!(now < before + (128 << 20), "16 readers, and of each some messages of a megabyte: read, encoded, and on their way");
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_of_containment_hold_little_and_each_hears_of_a_change() {
    let world = World::found(1, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    honest(&world, &mut gateway).await;
    let before = resident(&world);
    let mut watching = Vec::new();
    for _ in 0..4 {
        let mut control = world.control(0, "admin");
        for _ in 0..250 {
            let asked = v1::WatchContainmentRequest { tenant_id: "*".to_owned(), from_index: 0 };
            watching.push(control.watch_containment(asked).await.expect("a watcher is let in").into_inner());
        }
        honest(&world, &mut gateway).await;
    }
    check_growth(&world, before);
    let revoke = contain(v1::ContainmentAction::RevokeSession, v1::TargetKind::Session, "honest");
    let cause = world.command(&["rita"], revoke).await.unwrap();
    assert_eq!(watching.len(), 1_000);
    for watcher in &mut watching {
        let heard = async { while watcher.message().await.unwrap().unwrap().index < cause {} };
        tokio::time::timeout(Duration::from_secs(10), heard).await.expect("a watcher is told in time");
    }
    let now = resident(&world);
    println!("resident: {} MiB before, {} MiB now", before >> 20, now >> 20);
    assert!(now < before + (224 << 20), "the watchers hold little; each reads the change on one of 512 threads");
}

/// Collectors that begin sessions at once, and what each sends on its stream.
const SENDERS: usize = 50;
const BATCHES: usize = 4;
const EVENTS: usize = 50;

/// Sends batches whose events each begin a session, and returns the entry of each session.
async fn begin_sessions(mut ingest: IngestClient<Channel>, sender: String, batches: Vec<v1::AppendRequest>) -> BTreeMap<String, u64> {
    let mut receipts = ingest.append_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let mut begun = BTreeMap::new();
    for batch in 0..BATCHES {
        let receipt = receipts.message().await.unwrap().expect("a receipt for each batch");
        assert_eq!(receipt.events.len(), EVENTS);
        for (of, (event, index)) in receipt.events.iter().zip(receipt.first_index..).enumerate() {
            let got = (event.rejection(), event.verdict(), event.session_position);
            assert_eq!(got, (v1::RejectionReason::Unspecified, v1::Verdict::Allow, 0), "{event:?}");
            begun.insert(format!("{sender}/{batch}/{of}"), index);
        }
    }
    assert!(receipts.message().await.unwrap().is_none(), "no more receipts than batches");
    begun
}

fn beginning(sender: &mut Collector) -> Vec<v1::AppendRequest> {
    let id = sender.id.clone();
    (0..BATCHES).map(|batch| sender.sign((0..EVENTS).map(|of| event(&format!("{id}/{batch}/{of}"))).collect())).collect()
}

/// Reads the list of sessions to its end, and returns where each begins.
async fn listed(world: &World) -> BTreeMap<String, u64> {
    let (mut audit, mut found, mut after) = (world.audit(0, "auditor"), BTreeMap::new(), String::new());
    loop {
        let asked = v1::ListSessionsRequest { tenant_id: TENANT.to_owned(), after_session_id: after, page_size: 1_000 };
        let page = audit.list_sessions(asked).await.unwrap().into_inner();
        assert!(page.sessions.iter().all(|session| session.entries == 1), "{:?}", page.sessions);
        found.extend(page.sessions.into_iter().map(|session| (session.session_id, session.first_index)));
        if page.next_after.is_empty() {
            return found;
        }
        after = page.next_after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_sessions_that_begin_at_once_each_have_their_one_entry() {
    let world = World::committing_every(200, 1, Tls::Off).await;
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        senders.push(world.collector(&format!("sender-{n}")).await);
    }
    let before = resident(&world);
    let mut beginnings = JoinSet::new();
    for sender in &mut senders {
        beginnings.spawn(begin_sessions(world.ingest(0, &sender.id), sender.id.clone(), beginning(sender)));
    }
    let begun: BTreeMap<String, u64> = beginnings.join_all().await.into_iter().flatten().collect();
    check_growth(&world, before);
    let indexes: BTreeSet<u64> = begun.values().copied().collect();
    assert_eq!((begun.len(), indexes.len()), (CROWD, CROWD), "every session was acknowledged, with an entry of its own");

    world.published(0, indexes.last().unwrap() + 1).await;
    assert!(listed(&world).await == begun, "the list of sessions has them all, with the entries of their receipts");
    let mut audit = world.audit(0, "auditor");
    for (session, index) in begun.iter().step_by(500) {
        let asked = |position| v1::GetSessionProofRequest { tenant_id: TENANT.to_owned(), session_id: session.clone(), position };
        let proof = audit.get_session_proof(asked(0)).await.unwrap().into_inner().proof.unwrap();
        let core = v1::EntryCore::decode(v1::Entry::decode(&proof.entry[..]).unwrap().core).unwrap();
        assert_eq!((proof.session_size, core.index), (1, *index), "{session}");
        assert_eq!(&core.session.unwrap().session_id, session);
        assert_eq!(audit.get_session_proof(asked(1)).await.unwrap_err().code(), Code::OutOfRange, "{session} has one entry");
    }
    check_growth(&world, before);
}

fn arenas(world: &World) -> Vec<String> {
    let environment = std::fs::read(format!("/proc/{}/environ", world.cluster.process_id(0).unwrap())).unwrap();
    let variables = environment.split(|byte| *byte == 0).map(|variable| String::from_utf8_lossy(variable).into_owned());
    variables.filter_map(|variable| variable.strip_prefix("MALLOC_ARENA_MAX=").map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_keeps_the_heap_of_the_c_library_in_one_arena_unless_its_operator_says_otherwise() {
    let mut world = World::found(1, Tls::Off).await;
    assert_eq!(arenas(&world), ["1"]);
    world.cluster.stop(0).await.unwrap();
    world.cluster.start_with(0, &[("MALLOC_ARENA_MAX", "3")]).unwrap();
    world.cluster.ready(0).await.unwrap();
    assert_eq!(arenas(&world), ["3"]);
}
