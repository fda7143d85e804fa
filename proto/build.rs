//! Compiles the contract with protox, so that no system protoc is needed.
use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proofline");
    let public = [
        "proofline/v1/event.proto",
        "proofline/v1/containment.proto",
        "proofline/v1/outlet.proto",
        "proofline/v1/payload.proto",
        "proofline/v1/entry.proto",
        "proofline/v1/facts.proto",
        "proofline/v1/completeness.proto",
        "proofline/v1/api.proto",
        "proofline/v1/payload_service.proto",
    ];
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // What nodes say to each other is nobody else's contract.
    std::fs::write(out.join("descriptors.bin"), prost_bytes(&protox::compile(public, ["."])?))?;
    let descriptors = protox::compile(public.into_iter().chain(["proofline/peer/v1/peer.proto"]), ["."])?;

    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .bytes(".proofline.v1.Batch.events")
        .bytes(".proofline.v1.Entry.core")
        .bytes(".proofline.v1.RecordedEvent.event")
        .bytes(".proofline.v1.IndexedEntry.entry")
        .bytes(".proofline.v1.ReadEntriesResponse.entries")
        .bytes(".proofline.peer.v1.LogEntry.group")
        .bytes(".proofline.peer.v1.SnapshotChunk.bytes")
        .compile_fds(descriptors)?;
    Ok(())
}

fn prost_bytes(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
