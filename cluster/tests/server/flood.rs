//! Callers that speak HTTP/2 against its purpose: memory stays bounded, and honest callers go on.

use std::time::Duration;

use proofline_cluster::Tls;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::world::{Collector, World, event};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames, and flags.
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
pub(crate) const END_HEADERS: u8 = 4;
/// What a node may hold more than before.
const GROWTH_MAX: u64 = 96 << 20;
const IN_TIME: Duration = Duration::from_secs(10);

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A gRPC call without its message, in HPACK that indexes nothing.
fn call() -> Vec<u8> {
    call_to("/proofline.v1.Control/ClusterStatus")
}

pub(crate) fn call_to(path: &str) -> Vec<u8> {
    let text = |of: &str| [&[of.len() as u8], of.as_bytes()].concat();
    let path = [&[0x04][..], &text(path)].concat();
    let kind = [&[0x0f, 0x10][..], &text("application/grpc")].concat();
    [&[0x83, 0x86][..], &path, &[0x01], &text("node"), &kind, &[0x00], &text("te"), &text("trailers")].concat()
}

pub(crate) async fn connect(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.node(0).client).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    stream
}

pub(crate) fn resident(world: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.cluster.process_id(0).unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

pub(crate) async fn honest(world: &World, gateway: &mut Collector) {
    let mut ingest = world.ingest(0, "gateway");
    let appended = ingest.append(gateway.sign(vec![event("honest")]));
    tokio::time::timeout(IN_TIME, appended).await.expect("answered in time").unwrap();
}

pub(crate) fn check_growth(world: &World, before: u64) {
    let now = resident(world);
    println!("resident: {} MiB before, {} MiB now", before >> 20, now >> 20);
    assert!(now < before + GROWTH_MAX, "{} MiB became {} MiB", before >> 20, now >> 20);
}

/// Writes what the node takes of it; tells whether it closed the connection.
async fn is_turned_away(mut stream: TcpStream, flood: &[u8]) -> bool {
    let (mut reading, mut writing) = stream.split();
    let writes = async {
        // A node that closes early makes this fail, which is what it should do.
        let _ = writing.write_all(flood).await;
        std::future::pending::<()>().await;
    };
    let mut heard = Vec::new();
    let closed = async { reading.read_to_end(&mut heard).await };
    tokio::select! {
        () = writes => false,
        _ = closed => true,
        () = tokio::time::sleep(IN_TIME) => false,
    }
}

#[tokio::test]
async fn calls_that_are_reset_at_once_end_their_connection() {
    let world = World::found(1, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    honest(&world, &mut gateway).await;
    let before = resident(&world);
    let reset = |stream| [frame(HEADERS, END_HEADERS, stream, &call()), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    let flood: Vec<u8> = (0..20_000).flat_map(|n| reset(2 * n + 1)).collect();
    for _ in 0..10 {
        let (away, ()) = tokio::join!(is_turned_away(connect(&world).await, &flood), honest(&world, &mut gateway));
        assert!(away, "20,000 calls were begun and reset on one connection");
    }
    check_growth(&world, before);
}

#[tokio::test]
async fn headers_without_end_are_bounded() {
    let world = World::found(1, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    honest(&world, &mut gateway).await;
    let before = resident(&world);
    let filler = [&[0x00, 0x01, b'x', 0x7f, 0x80, 0x7e][..], &[b'a'; 16_255]].concat();
    let endless: Vec<u8> =
        std::iter::once(frame(HEADERS, 0, 1, &call())).chain((0..2_000).map(|_| frame(CONTINUATION, 0, 1, &filler))).flatten().collect();
    for _ in 0..5 {
        let (away, ()) = tokio::join!(is_turned_away(connect(&world).await, &endless), honest(&world, &mut gateway));
        assert!(away, "32 MiB of one header list were taken");
    }
    check_growth(&world, before);
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_a_call_hold_up_nobody() {
    let world = World::found(1, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    honest(&world, &mut gateway).await;
    let before = resident(&world);
    let mut held = Vec::new();
    for n in 0..1_200 {
        let mut stream = connect(&world).await;
        // Every other one begins a call and never ends its headers.
        if n % 2 == 0 {
            stream.write_all(&frame(HEADERS, 0, 1, &call()[..20])).await.unwrap();
        }
        held.push(stream);
        if n % 200 == 199 {
            honest(&world, &mut gateway).await;
        }
    }
    honest(&world, &mut gateway).await;
    check_growth(&world, before);
}
