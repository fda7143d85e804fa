//! Callers that send too much, read too little, or make no sense: definite answers, and honest callers go on.

use std::time::Duration;

use proofline_cluster::Tls;
use proofline_proto::v1;
use prost::{Message as _, bytes::BufMut as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};
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
async fn bytes_that_are_no_http2_are_turned_away() {
    let world = World::found(1, Tls::Off).await;
    let mut raw = tokio::net::TcpStream::connect(world.node(0).client).await.unwrap();
    raw.write_all(b"\x00\x01\x02 this is no HTTP/2 preface, and never will be\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), raw.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the node keeps a connection open that speaks nothing");
}

/// Sends bytes as they are in the place of a message.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = v1::AppendResponse;
    type Encoder = RawEncoder;
    type Decoder = ProstDecoder<v1::AppendResponse>;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<v1::AppendRequest, v1::AppendResponse>::default().decoder()
    }
}

struct RawEncoder;

impl Encoder for RawEncoder {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&bytes);
        Ok(())
    }
}

async fn append_bytes(world: &World, bytes: Vec<u8>) -> Result<v1::AppendResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(world.channel(0, "gateway"));
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/proofline.v1.Ingest/Append");
    grpc.unary(tonic::Request::new(bytes), path, RawCodec).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn bytes_that_are_no_protobuf_are_refused_and_nothing_is_appended() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let honest = gateway.sign(vec![event("s")]).encode_to_vec();
    // The batch is field 1; in it, the id of the collector is field 2.
    let unreadable = [
        ("a batch that is longer than the message", vec![0x0a, 0x05, 0x01]),
        ("a length that does not end", [&[0x0a][..], &[0xff; 11]].concat()),
        ("a key that does not end", vec![0xff; 11]),
        ("a field 0", vec![0x02, 0x00]),
        ("a kind of field that there is not", vec![0x0f]),
        ("a number for a batch", vec![0x08, 0x01]),
        ("a field in the batch that is longer than it", vec![0x0a, 0x03, 0x12, 0x7f, b'g']),
        ("an id that is no text", vec![0x0a, 0x03, 0x12, 0x01, 0xff]),
        ("an honest batch that lost its last byte", honest[..honest.len() - 1].to_vec()),
    ];
    for (what, bytes) in unreadable {
        let status = append_bytes(&world, bytes).await.unwrap_err();
        // INTERNAL is what gRPC says of a message that its server cannot parse.
        assert_eq!(status.code(), Code::Internal, "{what}: {status:?}");
        assert!(status.message().contains("failed to decode Protobuf message"), "{what}: {status:?}");
    }
    let asked = v1::GetCollectorHeadRequest { collector_id: "gateway".to_owned(), lane: 0 };
    let head = world.ingest(0, "gateway").get_collector_head(asked).await.unwrap().into_inner();
    assert_eq!((head.epoch, head.last), (1, None), "no batch was taken");
    let receipt = append_bytes(&world, honest).await.expect("whole, the same bytes are a batch");
    assert_eq!((receipt.sequence, receipt.first_index), (1, 3), "genesis, registration, opening, and nothing between");
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

#[tokio::test]
async fn a_message_of_a_stream_that_is_too_large_ends_that_stream_alone() {
    let world = World::found(3, Tls::Mutual).await;
    // At the leader, and at nodes that pass on what comes.
    for place in 0..3 {
        let (mut greedy, mut honest) =
            (world.collector(&format!("greedy-{place}")).await, world.collector(&format!("honest-{place}")).await);
        let (batches, coming) = mpsc::channel(1);
        let mut going_on = world.ingest(place, &honest.id).append_stream(ReceiverStream::new(coming)).await.unwrap().into_inner();
        batches.send(honest.sign(vec![event("honest")])).await.unwrap();
        assert_eq!(going_on.message().await.unwrap().unwrap().sequence, 1);

        let mut stream: Vec<_> = (0..3).map(|_| greedy.sign(vec![event("greedy")])).collect();
        let (sequence, previous) = (greedy.sequence, greedy.previous);
        stream.push(greedy.sign(vec![vec![0; 6 << 20]]));
        stream.push(greedy.sign(vec![event("greedy")]));
        let mut ingest = world.ingest(place, &greedy.id);
        let mut receipts = ingest.append_stream(tokio_stream::iter(stream)).await.unwrap().into_inner();
        for before in 1..=3 {
            assert_eq!(receipts.message().await.unwrap().unwrap().sequence, before);
        }
        let status = receipts.message().await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");

        let asked = v1::GetCollectorHeadRequest { collector_id: greedy.id.clone(), lane: 0 };
        let head = ingest.get_collector_head(asked).await.unwrap().into_inner();
        assert_eq!(head.last.unwrap().sequence, 3, "nothing of it was appended, nor what came behind it");
        batches.send(honest.sign(vec![event("honest")])).await.unwrap();
        assert_eq!(going_on.message().await.unwrap().unwrap().sequence, 2, "the other stream goes on");
        (greedy.sequence, greedy.previous) = (sequence, previous);
        let receipt = ingest.append(greedy.sign(vec![event("greedy")])).await.unwrap().into_inner();
        assert_eq!(receipt.sequence, 4, "so does this collector, with what is not too large");
    }
}
