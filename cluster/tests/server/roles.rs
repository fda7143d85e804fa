//! Every procedure against every role, inside the tenant of the grant and beyond it.

use std::collections::{BTreeMap, BTreeSet};

use proofline_cluster::{TENANT, Tls};
use proofline_node::access::Rpc;
use proofline_proto::v1::{self, Role};
use tonic::{Response, Status, Streaming};

use crate::{
    forgetting::{self, reason},
    lineage,
    world::{World, event},
};

/// Who calls, in the order of the columns below, and what each is granted. The first three are granted nothing; "gateway" is
/// the collector that requests name.
const CALLERS: [(&str, Option<(Role, &str)>); 10] = [
    ("nobody", None),
    ("other-collector", None),
    ("gateway", None),
    ("watcher", Some((Role::Collector, TENANT))),
    ("tenant-auditor", Some((Role::Auditor, TENANT))),
    ("every-auditor", Some((Role::Auditor, "*"))),
    ("tenant-responder", Some((Role::Responder, TENANT))),
    ("every-responder", Some((Role::Responder, "*"))),
    ("tenant-operator", Some((Role::Operator, TENANT))),
    ("every-operator", Some((Role::Operator, "*"))),
];

/// Where each caller gets in: `-` nowhere, `t` where its tenant is asked about, `*` everywhere.
const DOORS: &str = "
    procedure            nobody other gateway  watcher  auditor responder operator
    OpenLane             -      -     *        -        - -     - -       - -
    Append               -      -     *        -        - -     - -       - -
    Propose              -      -     *        -        - -     - -       - -
    AppendStream         -      -     *        -        - -     - -       - -
    GetCollectorHead     -      -     *        -        - -     - -       - -
    PutPayload           -      -     *        -        - -     - -       - -
    GetCheckpoint        *      *     *        *        * *     * *       * *
    WatchCheckpoints     *      *     *        *        * *     * *       * *
    GetInclusionProof    *      *     *        *        * *     * *       * *
    GetReceipt           *      *     *        *        * *     * *       * *
    GetConsistencyProof  *      *     *        *        * *     * *       * *
    GetEntry             -      -     -        -        t *     t *       - -
    ReadEntries          -      -     -        -        - *     - *       - -
    ListSessions         -      -     -        -        t *     t *       - -
    ListSession          -      -     -        -        t *     t *       - -
    GetSessionProof      -      -     -        -        t *     t *       - -
    TraceLineage         -      -     -        -        t *     t *       - -
    GetFacts             -      -     -        -        t *     t *       - -
    GetRegistrations     -      -     -        -        t *     - -       - -
    GetPayload           -      -     -        -        t *     - -       - -
    AfterContainment     -      -     -        -        t *     t *       - -
    WatchContainment     -      -     -        t        t *     t *       t *
    SubmitCommand        -      -     -        -        - -     - *       - *
    ListAgents           -      -     -        -        t *     t *       t *
    ListApprovals        -      -     -        -        t *     t *       t *
    ListUnresolved       -      -     -        -        t *     t *       t *
    ListServers          -      -     -        -        t *     t *       t *
    ListTools            -      -     -        -        t *     t *       t *
    ListPurposes         -      -     -        -        t *     t *       t *
    ListIncidents        -      -     -        -        t *     t *       t *
    ListHolds            -      -     -        -        t *     t *       t *
    ListContainments     -      -     -        -        t *     t *       t *
    ListOutlets          -      -     -        -        t *     t *       t *
    ListDeliveries       -      -     -        -        t *     t *       t *
    GetErasure           -      -     -        -        t *     t *       t *
    GetRetention         -      -     -        -        t *     t *       t *
    ListCollectors       -      -     -        -        - *     - *       - *
    ClusterStatus        -      -     -        -        - *     - *       - *
    GetRules             -      -     -        -        - *     - *       - *
    ChangeMembership     -      -     -        -        - -     - -       - *
";

/// What is asked for only in the name of a collector.
const OF_COLLECTORS: [&str; 6] = ["OpenLane", "Append", "Propose", "AppendStream", "GetCollectorHead", "PutPayload"];

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// The tenant that callers are granted roles for.
    Tenant,
    /// Another tenant, all of them, or what belongs to none.
    Beyond,
}

impl About {
    fn of(tenant: &str) -> Self {
        if tenant == TENANT { Self::Tenant } else { Self::Beyond }
    }

    fn is_open(self, cell: &str) -> bool {
        match (cell, self) {
            ("*", _) | ("t", Self::Tenant) => true,
            ("-", _) | ("t", Self::Beyond) => false,
            _ => panic!("{cell} is no cell of the table"),
        }
    }
}

/// A call that was answered.
struct Called {
    procedure: &'static str,
    about: About,
    /// What such a request gets from a node when somebody sends it who may.
    earns: &'static str,
    got: String,
}

fn called<T>(procedure: &'static str, about: About, earns: &'static str, answer: Result<T, Status>) -> Called {
    let got = answer.map_or_else(|status| format!("{:?} {}", status.code(), reason(&status)), |_| "Ok".to_owned());
    Called { procedure, about, earns, got }
}

/// Reads what is streamed to its end, or to its error.
async fn whole<T>(stream: Result<Response<Streaming<T>>, Status>) -> Result<(), Status> {
    let mut stream = stream?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// Calls in the name of "gateway", with requests that have no effect.
async fn in_the_name_of_a_collector(world: &World, identity: &str) -> Vec<Called> {
    let (mut ingest, mut payloads) = (world.ingest(0, identity), forgetting::payloads(world, 0, identity));
    let id = || "gateway".to_owned();
    let open = v1::SignedOpenLane { collector_id: id(), ..Default::default() };
    let batch = v1::Batch { collector_id: id(), ..Default::default() };
    let append = v1::AppendRequest { batch: Some(batch.clone()) };
    let propose = v1::ProposeRequest { batch: Some(batch) };
    let put = v1::PutPayloadRequest { collector_id: id(), digest: vec![0; 32], ..Default::default() };
    let head = v1::GetCollectorHeadRequest { collector_id: id(), lane: 0 };
    let about = About::Tenant;
    vec![
        called("OpenLane", about, "InvalidArgument MALFORMED", ingest.open_lane(v1::OpenLaneRequest { open: Some(open) }).await),
        called("Append", about, "InvalidArgument MALFORMED", ingest.append(append.clone()).await),
        called("Propose", about, "InvalidArgument NOT_A_PROPOSAL", ingest.propose(propose).await),
        called("AppendStream", about, "InvalidArgument MALFORMED", whole(ingest.append_stream(tokio_stream::iter([append])).await).await),
        called("GetCollectorHead", about, "Ok", ingest.get_collector_head(head).await),
        called("PutPayload", about, "NotFound UNKNOWN_COMMITMENT", payloads.put_payload(put).await),
    ]
}

/// Calls what is about the whole log, or about its members.
async fn about_everything(world: &World, identity: &str) -> Vec<Called> {
    let (mut audit, mut control) = (world.audit(0, identity), world.control(0, identity));
    let entries = v1::ReadEntriesRequest { from_index: 0, limit: 1, follow: false };
    let consistency = v1::GetConsistencyProofRequest { first_size: 1, second_size: 0 };
    let command = v1::SubmitCommandRequest { command: Some(v1::SignedCommand::default()) };
    let about = About::Beyond;
    vec![
        called("GetCheckpoint", about, "Ok", audit.get_checkpoint(v1::GetCheckpointRequest {}).await),
        called("WatchCheckpoints", about, "Ok", audit.watch_checkpoints(v1::WatchCheckpointsRequest {}).await),
        called("GetInclusionProof", about, "Ok", audit.get_inclusion_proof(v1::GetInclusionProofRequest { index: 0 }).await),
        called("GetReceipt", about, "Ok", audit.get_receipt(v1::GetReceiptRequest { index: 0 }).await),
        called("GetConsistencyProof", about, "Ok", audit.get_consistency_proof(consistency).await),
        called("ReadEntries", about, "Ok", whole(audit.read_entries(entries).await).await),
        called("SubmitCommand", about, "PermissionDenied SIGNATURE_DOES_NOT_VERIFY", control.submit_command(command).await),
        called("ListCollectors", about, "Ok", control.list_collectors(v1::ListCollectorsRequest::default()).await),
        called("ClusterStatus", about, "Ok", control.cluster_status(v1::ClusterStatusRequest {}).await),
        called("GetRules", about, "Ok", control.get_rules(v1::GetRulesRequest::default()).await),
        called("ChangeMembership", about, "Ok", control.change_membership(v1::ChangeMembershipRequest::default()).await),
    ]
}

/// Calls what is about one entry: that of an event of the tenant, or the genesis.
async fn about_an_entry(world: &World, identity: &str, index: u64, about: About) -> Vec<Called> {
    let (mut audit, mut payloads) = (world.audit(0, identity), forgetting::payloads(world, 0, identity));
    let payload = v1::GetPayloadRequest { index, ..Default::default() };
    vec![
        called("GetEntry", about, "Ok", audit.get_entry(v1::GetEntryRequest { index }).await),
        called("GetFacts", about, "NotFound NO_FACTS", audit.get_facts(v1::GetFactsRequest { index }).await),
        called("GetPayload", about, "NotFound UNKNOWN_COMMITMENT", payloads.get_payload(payload).await),
    ]
}

/// Calls what reads the entries of one tenant.
async fn about_entries_of(world: &World, identity: &str, tenant: &str) -> Vec<Called> {
    let mut audit = world.audit(0, identity);
    let (about, tenant_id, session_id) = (About::of(tenant), tenant.to_owned(), "s".to_owned());
    let earns = if about == About::Tenant { "Ok" } else { "NotFound UNKNOWN_SESSION" };
    let start = v1::Key { dimension: v1::Dimension::Session.into(), tenant_id: tenant_id.clone(), value: session_id.clone() };
    let question = Some(v1::LineageQuestion { starts: vec![start], ..Default::default() });
    let lineage = v1::TraceLineageRequest { question, kind: v1::AccessKind::Lineage.into(), ..Default::default() };
    let sessions = v1::ListSessionsRequest { tenant_id: tenant_id.clone(), ..Default::default() };
    let session = v1::ListSessionRequest { tenant_id: tenant_id.clone(), session_id: session_id.clone(), ..Default::default() };
    let proof = v1::GetSessionProofRequest { tenant_id: tenant_id.clone(), session_id, position: 0 };
    // The tenant of a collector, or the one that is named.
    let collector_id = if about == About::Tenant { "gateway".to_owned() } else { String::new() };
    let registrations = v1::GetRegistrationsRequest { collector_id, tenant_id };
    vec![
        called("ListSessions", about, "Ok", audit.list_sessions(sessions).await),
        called("ListSession", about, earns, audit.list_session(session).await),
        called("GetSessionProof", about, earns, audit.get_session_proof(proof).await),
        called("TraceLineage", about, "Ok", whole(audit.trace_lineage(lineage).await).await),
        called("GetRegistrations", about, "Ok", audit.get_registrations(registrations).await),
    ]
}

/// Calls what says how things stand with one tenant.
async fn about_the_state_of(world: &World, identity: &str, tenant: &str) -> Vec<Called> {
    let (mut control, mut payloads) = (world.control(0, identity), forgetting::payloads(world, 0, identity));
    let (about, of) = (About::of(tenant), || tenant.to_owned());
    let none = "NotFound UNKNOWN_SUBJECT";
    // Nobody is a subject of all tenants.
    let of_subject = if tenant == "*" { "InvalidArgument MALFORMED" } else { "Ok" };
    let deliveries = v1::ListDeliveriesRequest { tenant_id: of(), containment_id: 1, ..Default::default() };
    let after = v1::AfterContainmentRequest { tenant_id: of(), containment_id: 1, ..Default::default() };
    let watch = v1::WatchContainmentRequest { tenant_id: of(), from_index: 0 };
    let erasure = v1::GetErasureRequest { tenant_id: of(), subject: "u-1".to_owned(), ..Default::default() };
    vec![
        called("ListAgents", about, "Ok", control.list_agents(v1::ListAgentsRequest { tenant_id: of(), ..Default::default() }).await),
        called(
            "ListApprovals",
            about,
            "Ok",
            control.list_approvals(v1::ListApprovalsRequest { tenant_id: of(), ..Default::default() }).await,
        ),
        called(
            "ListUnresolved",
            about,
            "Ok",
            control.list_unresolved(v1::ListUnresolvedRequest { tenant_id: of(), ..Default::default() }).await,
        ),
        called("ListServers", about, "Ok", control.list_servers(v1::ListServersRequest { tenant_id: of(), ..Default::default() }).await),
        called("ListTools", about, "Ok", control.list_tools(v1::ListToolsRequest { tenant_id: of(), ..Default::default() }).await),
        called("ListPurposes", about, "Ok", control.list_purposes(v1::ListPurposesRequest { tenant_id: of(), ..Default::default() }).await),
        called(
            "ListIncidents",
            about,
            "Ok",
            control.list_incidents(v1::ListIncidentsRequest { tenant_id: of(), ..Default::default() }).await,
        ),
        called("ListHolds", about, "Ok", control.list_holds(v1::ListHoldsRequest { tenant_id: of(), ..Default::default() }).await),
        called(
            "ListContainments",
            about,
            "Ok",
            control.list_containments(v1::ListContainmentsRequest { tenant_id: of(), ..Default::default() }).await,
        ),
        called("ListOutlets", about, "Ok", control.list_outlets(v1::ListOutletsRequest { tenant_id: of(), ..Default::default() }).await),
        called("ListDeliveries", about, none, control.list_deliveries(deliveries).await),
        called("AfterContainment", about, none, control.after_containment(after).await),
        called("WatchContainment", about, "Ok", control.watch_containment(watch).await),
        called("GetErasure", about, of_subject, payloads.get_erasure(erasure).await),
        called("GetRetention", about, "Ok", payloads.get_retention(v1::GetRetentionRequest { tenant_id: of() }).await),
    ]
}

/// Calls every procedure as `identity`, with requests that are well-formed. Entry `event` is one of the tenant.
async fn calls(world: &World, identity: &str, event: u64) -> Vec<Called> {
    let mut calls = in_the_name_of_a_collector(world, identity).await;
    calls.extend(about_everything(world, identity).await);
    calls.extend(about_an_entry(world, identity, event, About::Tenant).await);
    calls.extend(about_an_entry(world, identity, 0, About::Beyond).await);
    for tenant in [TENANT, "other", "*"] {
        calls.extend(about_entries_of(world, identity, tenant).await);
        calls.extend(about_the_state_of(world, identity, tenant).await);
    }
    calls
}

/// Reads the table: the cells of each procedure, in the order of the callers.
fn doors() -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows = DOORS.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|cells| !cells.is_empty());
    rows.skip(1).map(|cells| (cells[0], cells[1..].to_vec())).collect()
}

/// A ledger with one event, in which everybody holds what they are granted. Returns the entry of the event, too.
async fn granted() -> (World, u64) {
    let world = World::committing_every(200, 1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let event = world.ingest(0, "gateway").append(gateway.sign(vec![event("s")])).await.unwrap().into_inner().first_index;
    world.collector("other-collector").await;
    for (identity, grant) in CALLERS {
        if let Some((role, tenant)) = grant {
            world.plan().add_client(identity).unwrap();
            world.grant(identity, role, tenant).await;
        }
    }
    world.plan().add_client("nobody").unwrap();
    // Questions about lineage are answered from here on.
    lineage::answered(&world, 0, event + 1).await;
    (world, event)
}

#[tokio::test]
async fn every_procedure_asks_for_its_role_and_for_its_tenant() {
    let (world, event) = granted().await;
    let doors = doors();
    for (place, (identity, _)) in CALLERS.into_iter().enumerate() {
        let calls = calls(&world, identity, event).await;
        let procedures: BTreeSet<&str> = calls.iter().map(|call| call.procedure).collect();
        assert!(procedures.iter().eq(doors.keys()), "every row of the table is called");
        for Called { procedure, about, earns, got } in calls {
            let shut = if OF_COLLECTORS.contains(&procedure) { "PermissionDenied OTHER_COLLECTOR" } else { "PermissionDenied LACKS_ROLE" };
            let expected = if about.is_open(doors[procedure][place]) { earns } else { shut };
            assert_eq!(got, expected, "{procedure} as {identity}, about {about:?}");
        }
    }
}

#[test]
fn the_table_names_every_procedure_and_every_caller() {
    let doors = doors();
    // Over HTTP, with the tiles.
    let procedures = Rpc::ALL.into_iter().filter(|procedure| *procedure != Rpc::EntryBundle).map(|procedure| format!("{procedure:?}"));
    assert_eq!(doors.keys().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), procedures.collect());
    for (procedure, cells) in doors {
        assert_eq!(cells.len(), CALLERS.len(), "{procedure}");
    }
}

#[tokio::test]
async fn whoever_may_not_read_an_entry_is_not_told_whose_it_is() {
    let (world, index) = granted().await;
    let denied = world.audit(0, "nobody").get_entry(v1::GetEntryRequest { index }).await.unwrap_err();
    assert!(denied.message().contains("may not call") && !denied.message().contains(TENANT), "{denied:?}");
}
