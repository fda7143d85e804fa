//! Every procedure against every role, and every kind of certificate that must not get in.

use proofline_cluster::{
    TENANT, Tls,
    authority::{Authority, Validity},
    spiffe,
};
use proofline_proto::v1::{self, Role};
use tonic::{Code, Status};

use crate::{
    forgetting,
    world::{World, channel, event},
};

/// What a call got, as far as access goes: past the door, or not.
fn door<T>(answer: Result<T, Status>) -> &'static str {
    match answer {
        Err(status) if status.code() == Code::PermissionDenied => "denied",
        Err(status) if status.code() == Code::Unauthenticated => "unauthenticated",
        Ok(_) | Err(_) => "in",
    }
}

fn lineage(tenant: &str) -> v1::TraceLineageRequest {
    let start = v1::Key { dimension: v1::Dimension::Session.into(), tenant_id: tenant.to_owned(), value: "s".to_owned() };
    let question = v1::LineageQuestion { starts: vec![start], ..Default::default() };
    v1::TraceLineageRequest { question: Some(question), kind: v1::AccessKind::Lineage.into(), ..Default::default() }
}

/// Calls every procedure as `identity`, with requests that are well-formed and about tenant acme.
async fn doors(world: &World, identity: &str) -> Vec<(&'static str, &'static str)> {
    let (mut ingest, mut audit, mut control) = (world.ingest(0, identity), world.audit(0, identity), world.control(0, identity));
    let tenant = TENANT.to_owned();
    let of_collector = v1::GetCollectorHeadRequest { collector_id: "gateway".to_owned(), lane: 0 };
    let open = v1::SignedOpenLane { collector_id: "gateway".to_owned(), ..Default::default() };
    let batch = v1::Batch { collector_id: "gateway".to_owned(), ..Default::default() };
    let append = v1::AppendRequest { batch: Some(batch) };
    let stream = ingest.append_stream(tokio_stream::iter([append.clone()])).await;
    let stream = match stream {
        Ok(mut receipts) => receipts.get_mut().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    let mut entries = audit.read_entries(v1::ReadEntriesRequest { from_index: 0, limit: 1, follow: false }).await;
    let entries = match &mut entries {
        Ok(entries) => entries.get_mut().message().await.map(|_| ()),
        Err(status) => Err(status.clone()),
    };
    let session = "s".to_owned();
    let mut payloads = forgetting::payloads(world, 0, identity);
    let put = v1::PutPayloadRequest { collector_id: "gateway".to_owned(), digest: vec![0; 32], ..Default::default() };
    let erasure = v1::GetErasureRequest { tenant_id: tenant.clone(), subject: "u-1".to_owned(), ..Default::default() };
    let elsewhere = v1::GetErasureRequest { tenant_id: "other".to_owned(), ..erasure.clone() };
    vec![
        ("OpenLane", door(ingest.open_lane(v1::OpenLaneRequest { open: Some(open) }).await)),
        ("Append", door(ingest.append(append.clone()).await)),
        ("Propose", door(ingest.propose(v1::ProposeRequest { batch: append.batch }).await)),
        ("AppendStream", door(stream)),
        ("GetCollectorHead", door(ingest.get_collector_head(of_collector).await)),
        ("GetCheckpoint", door(audit.get_checkpoint(v1::GetCheckpointRequest {}).await)),
        ("WatchCheckpoints", door(audit.watch_checkpoints(v1::WatchCheckpointsRequest {}).await)),
        ("GetEntry of the tenant", door(audit.get_entry(v1::GetEntryRequest { index: 3 }).await)),
        ("GetEntry of nobody", door(audit.get_entry(v1::GetEntryRequest { index: 0 }).await)),
        ("ReadEntries", door(entries)),
        ("ListSessions", door(audit.list_sessions(v1::ListSessionsRequest { tenant_id: tenant.clone(), ..Default::default() }).await)),
        (
            "ListSession",
            door(
                audit
                    .list_session(v1::ListSessionRequest { tenant_id: tenant.clone(), session_id: session.clone(), ..Default::default() })
                    .await,
            ),
        ),
        ("GetInclusionProof", door(audit.get_inclusion_proof(v1::GetInclusionProofRequest { index: 0 }).await)),
        ("GetReceipt", door(audit.get_receipt(v1::GetReceiptRequest { index: 0 }).await)),
        ("GetConsistencyProof", door(audit.get_consistency_proof(v1::GetConsistencyProofRequest { first_size: 1, second_size: 0 }).await)),
        (
            "GetSessionProof",
            door(audit.get_session_proof(v1::GetSessionProofRequest { tenant_id: tenant.clone(), session_id: session, position: 0 }).await),
        ),
        ("TraceLineage of the tenant", door(audit.trace_lineage(lineage(TENANT)).await)),
        ("TraceLineage of others", door(audit.trace_lineage(lineage("other")).await)),
        ("GetFacts of the tenant", door(audit.get_facts(v1::GetFactsRequest { index: 3 }).await)),
        (
            "GetRegistrations",
            door(audit.get_registrations(v1::GetRegistrationsRequest { collector_id: "gateway".to_owned(), ..Default::default() }).await),
        ),
        (
            "SubmitCommand",
            door(control.submit_command(v1::SubmitCommandRequest { command: Some(v1::SignedCommand::default()) }).await.map_err(
                |status| {
                    // The door is open when the command itself is what is refused.
                    if status.message().contains("does not verify") { Status::invalid_argument("a bad command") } else { status }
                },
            )),
        ),
        ("ListAgents", door(control.list_agents(v1::ListAgentsRequest { tenant_id: tenant.clone(), ..Default::default() }).await)),
        ("GetRules", door(control.get_rules(v1::GetRulesRequest::default()).await)),
        ("ListApprovals", door(control.list_approvals(v1::ListApprovalsRequest { tenant_id: tenant.clone(), ..Default::default() }).await)),
        (
            "ListUnresolved",
            door(control.list_unresolved(v1::ListUnresolvedRequest { tenant_id: tenant.clone(), ..Default::default() }).await),
        ),
        ("ListServers", door(control.list_servers(v1::ListServersRequest { tenant_id: tenant.clone(), ..Default::default() }).await)),
        ("ListTools", door(control.list_tools(v1::ListToolsRequest { tenant_id: tenant.clone(), ..Default::default() }).await)),
        ("ListPurposes", door(control.list_purposes(v1::ListPurposesRequest { tenant_id: tenant.clone(), ..Default::default() }).await)),
        ("ListIncidents", door(control.list_incidents(v1::ListIncidentsRequest { tenant_id: tenant.clone(), ..Default::default() }).await)),
        ("ListHolds", door(control.list_holds(v1::ListHoldsRequest { tenant_id: tenant.clone(), ..Default::default() }).await)),
        (
            "ListContainments",
            door(control.list_containments(v1::ListContainmentsRequest { tenant_id: tenant.clone(), ..Default::default() }).await),
        ),
        ("WatchContainment", door(control.watch_containment(v1::WatchContainmentRequest { tenant_id: tenant, from_index: 0 }).await)),
        ("ListOutlets", door(control.list_outlets(v1::ListOutletsRequest { tenant_id: TENANT.to_owned(), ..Default::default() }).await)),
        (
            "ListDeliveries",
            door(
                control
                    .list_deliveries(v1::ListDeliveriesRequest { tenant_id: TENANT.to_owned(), containment_id: 1, ..Default::default() })
                    .await,
            ),
        ),
        (
            "AfterContainment",
            door(
                control
                    .after_containment(v1::AfterContainmentRequest {
                        tenant_id: TENANT.to_owned(),
                        containment_id: 1,
                        ..Default::default()
                    })
                    .await,
            ),
        ),
        ("ListCollectors", door(control.list_collectors(v1::ListCollectorsRequest::default()).await)),
        ("ClusterStatus", door(control.cluster_status(v1::ClusterStatusRequest {}).await)),
        ("ChangeMembership", door(control.change_membership(v1::ChangeMembershipRequest::default()).await)),
        ("PutPayload", door(payloads.put_payload(put).await)),
        ("GetPayload of the tenant", door(payloads.get_payload(v1::GetPayloadRequest { index: 3, ..Default::default() }).await)),
        ("GetPayload of nobody", door(payloads.get_payload(v1::GetPayloadRequest::default()).await)),
        ("GetErasure", door(payloads.get_erasure(erasure).await)),
        ("GetErasure of others", door(payloads.get_erasure(elsewhere).await)),
        ("GetRetention", door(payloads.get_retention(v1::GetRetentionRequest { tenant_id: TENANT.to_owned() }).await)),
        ("GetRetention of others", door(payloads.get_retention(v1::GetRetentionRequest { tenant_id: "other".to_owned() }).await)),
    ]
}

/// Procedures behind which each identity gets; all others are denied.
const OPEN: [(&str, &[&str]); 7] = [
    ("nobody", HASHES),
    ("other-collector", HASHES),
    (
        "gateway",
        &[
            "OpenLane",
            "Append",
            "Propose",
            "AppendStream",
            "GetCollectorHead",
            "GetCheckpoint",
            "WatchCheckpoints",
            "GetInclusionProof",
            "GetReceipt",
            "GetConsistencyProof",
            "PutPayload",
        ],
    ),
    (
        "tenant-auditor",
        &[
            "GetCheckpoint",
            "WatchCheckpoints",
            "GetEntry of the tenant",
            "ListSessions",
            "ListSession",
            "GetInclusionProof",
            "GetReceipt",
            "GetConsistencyProof",
            "GetSessionProof",
            "TraceLineage of the tenant",
            "GetFacts of the tenant",
            "GetRegistrations",
            "ListAgents",
            "ListApprovals",
            "ListUnresolved",
            "ListServers",
            "ListTools",
            "ListPurposes",
            "ListIncidents",
            "ListHolds",
            "ListContainments",
            "WatchContainment",
            "ListOutlets",
            "ListDeliveries",
            "AfterContainment",
            "GetPayload of the tenant",
            "GetErasure",
            "GetRetention",
        ],
    ),
    (
        "auditor",
        &[
            "GetCheckpoint",
            "WatchCheckpoints",
            "GetEntry of the tenant",
            "GetEntry of nobody",
            "ReadEntries",
            "ListSessions",
            "ListSession",
            "GetInclusionProof",
            "GetReceipt",
            "GetConsistencyProof",
            "GetSessionProof",
            "TraceLineage of the tenant",
            "TraceLineage of others",
            "GetFacts of the tenant",
            "GetRegistrations",
            "ListAgents",
            "GetRules",
            "ListApprovals",
            "ListUnresolved",
            "ListServers",
            "ListTools",
            "ListPurposes",
            "ListIncidents",
            "ListHolds",
            "ListContainments",
            "WatchContainment",
            "ListOutlets",
            "ListDeliveries",
            "AfterContainment",
            "ListCollectors",
            "ClusterStatus",
            "GetPayload of the tenant",
            "GetPayload of nobody",
            "GetErasure",
            "GetErasure of others",
            "GetRetention",
            "GetRetention of others",
        ],
    ),
    (
        "responder",
        &[
            "GetCheckpoint",
            "WatchCheckpoints",
            "GetEntry of the tenant",
            "GetEntry of nobody",
            "ReadEntries",
            "ListSessions",
            "ListSession",
            "GetInclusionProof",
            "GetReceipt",
            "GetConsistencyProof",
            "GetSessionProof",
            "TraceLineage of the tenant",
            "TraceLineage of others",
            "GetFacts of the tenant",
            "SubmitCommand",
            "ListAgents",
            "GetRules",
            "ListApprovals",
            "ListUnresolved",
            "ListServers",
            "ListTools",
            "ListPurposes",
            "ListIncidents",
            "ListHolds",
            "ListContainments",
            "WatchContainment",
            "ListOutlets",
            "ListDeliveries",
            "AfterContainment",
            "ListCollectors",
            "ClusterStatus",
            "GetErasure",
            "GetErasure of others",
            "GetRetention",
            "GetRetention of others",
        ],
    ),
    (
        "operator",
        &[
            "GetCheckpoint",
            "WatchCheckpoints",
            "GetInclusionProof",
            "GetReceipt",
            "GetConsistencyProof",
            "SubmitCommand",
            "ListAgents",
            "GetRules",
            "ListApprovals",
            "ListUnresolved",
            "ListServers",
            "ListTools",
            "ListPurposes",
            "ListIncidents",
            "ListHolds",
            "ListContainments",
            "WatchContainment",
            "ListOutlets",
            "ListDeliveries",
            "ListCollectors",
            "ClusterStatus",
            "ChangeMembership",
            "GetErasure",
            "GetErasure of others",
            "GetRetention",
            "GetRetention of others",
        ],
    ),
];
const HASHES: &[&str] = &["GetCheckpoint", "WatchCheckpoints", "GetInclusionProof", "GetReceipt", "GetConsistencyProof"];

#[tokio::test]
async fn every_procedure_asks_for_its_role() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let receipt = world.ingest(0, "gateway").append(gateway.sign(vec![event("s")])).await.unwrap().into_inner();
    assert_eq!(receipt.first_index, 3, "genesis, registration, opening, event");
    world.collector("other-collector").await;
    for identity in ["nobody", "tenant-auditor", "responder", "operator"] {
        world.plan().add_client(identity).unwrap();
    }
    world.grant("tenant-auditor", Role::Auditor, TENANT).await;
    world.grant("responder", Role::Responder, "*").await;
    world.grant("operator", Role::Operator, "*").await;
    world.published(0, 4).await;
    let denied = world.audit(0, "nobody").get_entry(v1::GetEntryRequest { index: 3 }).await.unwrap_err();
    assert!(denied.message().contains("may not call") && !denied.message().contains(TENANT), "who owns an entry is no stranger's business");
    for (identity, open) in OPEN {
        for (procedure, got) in doors(&world, identity).await {
            let expected = if open.contains(&procedure) { "in" } else { "denied" };
            assert_eq!(got, expected, "{procedure} as {identity}");
        }
    }
}

#[tokio::test]
async fn a_revoked_role_is_gone_at_once() {
    let world = World::found(1, Tls::Mutual).await;
    world.plan().add_client("temp").unwrap();
    world.grant("temp", Role::Auditor, "*").await;
    let status = v1::ClusterStatusRequest {};
    world.control(0, "temp").cluster_status(status).await.unwrap();
    let grant = v1::RoleGrant { spiffe_id: spiffe("temp"), role: Role::Auditor.into(), tenant_id: "*".to_owned() };
    world.command(&["alice"], v1::command::Action::RevokeRole(v1::RevokeRole { grant: Some(grant) })).await.unwrap();
    assert_eq!(world.control(0, "temp").cluster_status(status).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_reader_that_follows_sees_nothing_after_its_role_is_gone() {
    let world = World::found(1, Tls::Mutual).await;
    world.plan().add_client("temp").unwrap();
    world.grant("temp", Role::Auditor, "*").await;
    let follow = v1::ReadEntriesRequest { follow: true, ..Default::default() };
    let mut entries = world.audit(0, "temp").read_entries(follow).await.unwrap().into_inner();
    entries.message().await.unwrap().expect("the entries so far");
    let grant = v1::RoleGrant { spiffe_id: spiffe("temp"), role: Role::Auditor.into(), tenant_id: "*".to_owned() };
    let revoked = world.command(&["alice"], v1::command::Action::RevokeRole(v1::RevokeRole { grant: Some(grant) })).await.unwrap();
    world.collector("gateway").await;
    world.published(0, revoked + 1).await;
    let status = loop {
        match entries.message().await {
            Ok(seen) => assert!(seen.unwrap().first_index < revoked, "nothing behind the revocation is shown"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}

#[tokio::test]
async fn certificates_that_prove_nothing_open_nothing() {
    let world = World::found(1, Tls::Mutual).await;
    let (peers, clients) = (world.plan().peer_authority().unwrap(), world.plan().client_authority().unwrap());
    let stranger = Authority::new("somebody else's root").unwrap();
    let admin = spiffe("admin");
    let bad = [
        ("expired", Some(clients.issue(&admin, Validity::expired()).unwrap())),
        ("another root", Some(stranger.issue(&admin, Validity::usual()).unwrap())),
        ("a peer's", Some(peers.issue(&admin, Validity::usual()).unwrap())),
        ("none", None),
    ];
    for (kind, issued) in bad {
        let identity = issued.map(|issued| (issued.certificate, issued.key));
        let mut control = v1::control_client::ControlClient::new(channel(world.plan(), world.node(0), identity));
        let status = control.cluster_status(v1::ClusterStatusRequest {}).await.unwrap_err();
        let is_cut = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown);
        assert!(is_cut, "{kind}: the connection itself is refused, not answered with {status:?}");
    }
    let good = clients.issue(&admin, Validity::usual()).unwrap();
    let mut control = v1::control_client::ControlClient::new(channel(world.plan(), world.node(0), Some((good.certificate, good.key))));
    control.cluster_status(v1::ClusterStatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn plaintext_is_never_answered_where_tls_is_on() {
    let world = World::found(1, Tls::Mutual).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", world.node(0).client)).unwrap();
    let mut control = v1::control_client::ControlClient::new(endpoint.connect_lazy());
    let status = control.cluster_status(v1::ClusterStatusRequest {}).await.unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal), "{status:?}");
}
