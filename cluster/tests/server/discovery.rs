//! Health and reflection, as other people's tools ask for them.

use std::collections::{BTreeMap, BTreeSet};

use proofline_cluster::Tls;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use crate::world::{World, channel};

const SERVICES: [&str; 4] = ["proofline.v1.Audit", "proofline.v1.Control", "proofline.v1.Ingest", "proofline.v1.Payloads"];

async fn health(of: Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(of).check(request).await.unwrap().into_inner().status()
}

async fn reflected(of: Channel, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut answers = ServerReflectionClient::new(of).server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

async fn files(of: Channel, request: MessageRequest) -> Vec<FileDescriptorProto> {
    match reflected(of, request).await {
        MessageResponse::FileDescriptorResponse(files) => {
            files.file_descriptor_proto.iter().map(|file| FileDescriptorProto::decode(file.as_slice()).unwrap()).collect()
        }
        other => panic!("no files: {other:?}"),
    }
}

#[tokio::test]
async fn a_node_is_healthy_while_a_leader_is_known_and_reads_need_none() {
    let mut world = World::found(3, Tls::Mutual).await;
    for service in std::iter::once("").chain(SERVICES) {
        assert_eq!(health(world.channel(0, "admin"), service).await, ServingStatus::Serving, "{service:?}");
    }
    let mut ingest = HealthClient::new(world.channel(0, "admin")).watch(HealthCheckRequest { service: SERVICES[2].to_owned() }).await;
    let changes = ingest.as_mut().unwrap().get_mut();
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    world.cluster.kill(1).unwrap();
    world.cluster.kill(2).unwrap();
    let lost = async { while changes.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), lost).await.expect("the node notices that nobody leads");
    assert_eq!(health(world.channel(0, "admin"), SERVICES[0]).await, ServingStatus::Serving);
}

#[tokio::test]
async fn a_tool_finds_every_service_and_every_type_that_it_needs_to_call_it() {
    let world = World::found(1, Tls::Mutual).await;
    let MessageResponse::ListServicesResponse(listed) =
        reflected(world.channel(0, "admin"), MessageRequest::ListServices(String::new())).await
    else {
        panic!("no services are listed")
    };
    let ours: BTreeSet<&str> =
        listed.service.iter().map(|service| service.name.as_str()).filter(|name| !name.starts_with("grpc.")).collect();
    assert_eq!(ours, SERVICES.into(), "what is served here, and nothing that nodes have among themselves");

    // As a tool does it: the file of the service, then whatever is imported, until nothing is missing.
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        for file in files(world.channel(0, "admin"), MessageRequest::FileContainingSymbol(service.to_owned())).await {
            missing.extend(file.dependency.clone());
            found.insert(file.name().to_owned(), file);
        }
    }
    while let Some(name) = missing.pop() {
        if found.contains_key(&name) {
            continue;
        }
        for file in files(world.channel(0, "admin"), MessageRequest::FileByFilename(name.clone())).await {
            missing.extend(file.dependency.clone());
            found.insert(file.name().to_owned(), file);
        }
    }
    let messages: Vec<&str> = found.values().flat_map(|file| &file.message_type).map(|message| message.name()).collect();
    for name in ["ChangeMembershipRequest", "SignedCommand", "Event"] {
        assert!(messages.contains(&name), "{name} is missing from {messages:?}");
    }
}

#[tokio::test]
async fn nobody_without_a_certificate_asks_for_health_or_types() {
    let world = World::found(1, Tls::Mutual).await;
    let stranger = channel(world.plan(), world.node(0), None);
    let request = HealthCheckRequest { service: String::new() };
    assert!(HealthClient::new(stranger.clone()).check(request).await.is_err());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
    assert!(ServerReflectionClient::new(stranger).server_reflection_info(tokio_stream::iter([request])).await.is_err());
}
