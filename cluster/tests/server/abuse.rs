//! Callers that send too much, read too little, or make no sense: definite answers, and honest callers go on.

use std::time::Duration;

use proofline_cluster::Tls;
use proofline_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{World, event};

#[tokio::test]
async fn too_large_a_message_is_refused_and_the_connection_lives() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let mut ingest = world.ingest(0, "gateway");
    let huge = v1::Batch { events: vec![vec![0_u8; 6 << 20].into()], collector_id: "gateway".to_owned(), ..Default::default() };
    let status = ingest.append(v1::AppendRequest { batch: Some(huge) }).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    ingest.append(gateway.sign(vec![event("s")])).await.unwrap();
}

#[tokio::test]
async fn an_oversize_event_is_rejected_and_its_position_consumed() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let receipt = world.ingest(0, "gateway").append(gateway.sign(vec![vec![1; 60_001], event("s")])).await.unwrap().into_inner();
    let reasons: Vec<_> = receipt.events.iter().map(v1::EventReceipt::rejection).collect();
    assert_eq!(reasons, [v1::RejectionReason::Oversize, v1::RejectionReason::Unspecified]);
}

#[tokio::test]
async fn an_oversize_header_is_refused() {
    let world = World::found(1, Tls::Mutual).await;
    let mut request = tonic::Request::new(v1::ClusterStatusRequest {});
    request.metadata_mut().insert("x-filler", "a".repeat(64 << 10).parse().unwrap());
    assert!(world.control(0, "admin").cluster_status(request).await.is_err());
    world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_protobuf_and_no_http2_are_turned_away() {
    let world = World::found(1, Tls::Off).await;
    let mut raw = tokio::net::TcpStream::connect(world.node(0).client).await.unwrap();
    raw.write_all(b"\x00\x01\x02 this is no HTTP/2 preface, and never will be\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), raw.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the node keeps a connection open that speaks nothing");

    let mut grpc = tonic::client::Grpc::new(world.channel_plain(0));
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/proofline.v1.Control/ClusterStatus");
    // A length-delimited field that is longer than the message.
    let garbage = prost_types::Any { type_url: String::new(), value: vec![0xff; 3] };
    let codec = tonic_prost::ProstCodec::<prost_types::Any, v1::ClusterStatusResponse>::default();
    let answer = grpc.unary(tonic::Request::new(garbage), path, codec).await;
    assert!(answer.is_ok() || answer.is_err_and(|status| status.code() != Code::Unavailable), "unknown fields do no harm");
}

#[tokio::test]
async fn a_refusal_says_what_to_do_in_details_that_a_program_reads() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let mut ingest = world.ingest(0, "gateway");
    let first = gateway.sign(vec![event("s")]);
    ingest.append(first.clone()).await.unwrap();
    gateway.sequence += 1;
    let status = ingest.append(gateway.sign(vec![event("s")])).await.unwrap_err();
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((status.code(), info.reason.as_str()), (Code::Aborted, "WRONG_SEQUENCE"));
    assert_eq!(info.metadata["expected_sequence"], "2");
    ingest.append(first).await.expect("a repeated batch is answered again");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_hold_up_others() {
    let world = World::found(1, Tls::Mutual).await;
    let (mut lazy, mut honest) = (world.collector("lazy").await, world.collector("honest").await);
    let batches: Vec<_> = (0..2_000).map(|n| lazy.sign(vec![event(&format!("lazy-{n}")); 20])).collect();
    let _unread = world.ingest(0, "lazy").append_stream(tokio_stream::iter(batches)).await.unwrap();
    let mut ingest = world.ingest(0, "honest");
    for _ in 0..20 {
        let appended = ingest.append(honest.sign(vec![event("honest")]));
        tokio::time::timeout(Duration::from_secs(10), appended).await.expect("answered in time").unwrap();
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_first_refusal_after_every_receipt_before_it() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let mut batches: Vec<_> = (0..5).map(|_| gateway.sign(vec![event("s")])).collect();
    batches.remove(3);
    let mut receipts = world.ingest(0, "gateway").append_stream(tokio_stream::iter(batches)).await.unwrap().into_inner();
    for sequence in 1..=3 {
        assert_eq!(receipts.message().await.unwrap().unwrap().sequence, sequence);
    }
    assert_eq!(receipts.message().await.unwrap_err().code(), Code::Aborted);
}

impl World {
    fn channel_plain(&self, place: usize) -> tonic::transport::Channel {
        crate::world::channel(self.plan(), self.node(place), None)
    }
}
