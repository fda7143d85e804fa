//! Outlets of a real cluster, a receiver over TLS, and somebody else's code that checks what came.

mod outside;
mod receiver;
mod verification;

use std::time::Duration;

use proofline_cluster::{Binaries, Cluster, ISSUER, OutletKeyKind, Plan, TENANT, Tls};
use proofline_proto::v1::{self, command::Action, entry_core::Body, outlet::Kind};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::receiver::{Receiver, Reply};
use crate::world::{Collector, World, event};

const WITHIN: Duration = Duration::from_secs(60);
const AUDIENCE: &str = "https://idp.example.com/ssf";
/// Quick: a first pause of 40 ms, and half a second for an attempt.
const QUICK: &str =
    "keys = \"outlets\"\nissuer = \"https://ledger.proofline.local\"\nroots = \"tls/clients-root.pem\"\nretry_first_ms = 40\n";

/// A cluster with keys for outlets.
async fn found(nodes: u64, settings: &str) -> World {
    let root = tempfile::tempdir().unwrap();
    let plan = Plan::create(&root.path().join("cluster"), nodes, Tls::Mutual).unwrap();
    plan.configure_outlets(&format!("{QUICK}{settings}")).unwrap();
    plan.add_outlet_key("ssf-rsa", OutletKeyKind::Rsa).unwrap();
    plan.add_outlet_key("ssf-ed", OutletKeyKind::Ed25519).unwrap();
    plan.add_outlet_key("hook", OutletKeyKind::Ed25519).unwrap();
    let cluster = Cluster::found(plan, Binaries::beside_current().unwrap()).await.unwrap();
    World { cluster, _root: root }
}

fn stream(id: &str, endpoint: String, algorithm: v1::SigningAlgorithm) -> v1::Outlet {
    let key_id = if algorithm == v1::SigningAlgorithm::Rs256 { "ssf-rsa" } else { "ssf-ed" };
    let stream = v1::SharedSignals {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        endpoint,
        algorithm: algorithm.into(),
        key_id: key_id.to_owned(),
        subject_form: v1::SubjectForm::Simple.into(),
        authorization: v1::ReceiverAuthorization::None.into(),
    };
    v1::Outlet { outlet_id: id.to_owned(), tenant_id: TENANT.to_owned(), kind: Some(Kind::SharedSignals(stream)), ..Default::default() }
}

fn webhook(id: &str, endpoint: String) -> v1::Outlet {
    let webhook = v1::Webhook { endpoint, key_id: "hook".to_owned() };
    v1::Outlet { outlet_id: id.to_owned(), tenant_id: TENANT.to_owned(), kind: Some(Kind::Webhook(webhook)), ..Default::default() }
}

async fn register(world: &World, outlet: v1::Outlet) {
    world.command(&["alice", "bob"], Action::RegisterOutlet(v1::RegisterOutlet { outlet: Some(outlet) })).await.unwrap();
}

/// An event in a session of a person whom an identity provider knows.
fn of_person(session: &str) -> Vec<u8> {
    let mut event = v1::Event::decode(event(session).as_slice()).unwrap();
    let attribution = event.attribution.as_mut().unwrap();
    attribution.initiator.as_mut().unwrap().issuer = "https://idp.example.com".to_owned();
    event.encode_to_vec()
}

async fn append(world: &World, gateway: &mut Collector, session: &str) -> v1::AppendResponse {
    let request = gateway.sign(vec![of_person(session)]);
    world.ingest(0, &gateway.id).append(request).await.unwrap().into_inner()
}

/// Revokes a session, and returns the entry of the change.
async fn revoke(world: &World, session: &str) -> u64 {
    let target = v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: session.to_owned() };
    let action = v1::ContainmentAction::RevokeSession.into();
    let contain = v1::Contain { target: Some(target), action, reason: "reads the payroll".to_owned(), incident_id: "4711".to_owned() };
    world.command(&["rita"], Action::Contain(contain)).await.unwrap() + 1
}

/// Follows the log at a node until as many deliveries are in it as `enough` asks for.
async fn deliveries(world: &World, place: usize, enough: impl Fn(&[v1::OutletDelivery]) -> bool) -> Vec<v1::OutletDelivery> {
    let request = v1::ReadEntriesRequest { from_index: 0, limit: 0, follow: true };
    let mut entries = world.audit(place, "auditor").read_entries(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    let follow = async {
        while !enough(&found) {
            for exact in entries.message().await.unwrap().unwrap().entries {
                let core = v1::EntryCore::decode(v1::Entry::decode(exact).unwrap().core).unwrap();
                if let Some(Body::OutletDelivery(delivery)) = core.body {
                    found.push(delivery);
                }
            }
        }
    };
    let followed = tokio::time::timeout(WITHIN, follow).await;
    assert!(followed.is_ok(), "in time; so far {found:?}");
    found
}

fn of<'a>(deliveries: &'a [v1::OutletDelivery], outlet: &str) -> Vec<&'a v1::OutletDelivery> {
    deliveries.iter().filter(|it| it.outlet_id == outlet).collect()
}

async fn leader(world: &World) -> usize {
    let status = world.control(0, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    world.plan().nodes.iter().position(|node| node.node_id == status.leader_id).unwrap()
}

fn cli(world: &World, arguments: &[&str]) -> Value {
    let mut command = std::process::Command::new(Binaries::beside_current().unwrap().path("proofline"));
    command.arg("--profile").arg(world.plan().profile("admin")).args(arguments).args(["--output", "json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_revoked_session_is_told_to_the_identity_provider_and_the_log_says_so() {
    let world = found(3, "").await;
    let receiver = Receiver::start(world.plan(), |got, _| Reply::status(if got.path == "hook" { 200 } else { 202 })).await;
    register(&world, stream("idp", receiver.url("idp"), v1::SigningAlgorithm::Rs256)).await;
    register(&world, stream("idp-ed", receiver.url("idp-ed"), v1::SigningAlgorithm::Eddsa)).await;
    register(&world, webhook("hook", receiver.url("hook"))).await;
    let mut gateway = world.collector("gateway").await;
    append(&world, &mut gateway, "run-42").await;
    let change = revoke(&world, "run-42").await;

    let keys = outside::key_set(world.plan(), world.node(1)).await;
    let mut ids = std::collections::BTreeSet::new();
    for (path, algorithm) in [("idp", "RS256"), ("idp-ed", "EdDSA")] {
        let got = receiver.received(path, 1).await.remove(0);
        assert_eq!(
            (got.headers["content-type"].as_str(), got.headers["accept"].as_str()),
            ("application/secevent+jwt", "application/json")
        );
        let (header, claims) = outside::security_event(&keys, &got, algorithm, AUDIENCE);
        let kid = if algorithm == "RS256" { "ssf-rsa" } else { "ssf-ed" };
        assert_eq!(header, json!({ "typ": "secevent+jwt", "alg": algorithm, "kid": kid }));
        let at = claims["iat"].as_u64().unwrap();
        let event = json!({
            "event_timestamp": at,
            "initiating_entity": "admin",
            "reason_admin": { "en": format!("reads the payroll (containment 1, entry {change})") },
        });
        let expected = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": at, "jti": claims["jti"], "txn": "ctn-000000000001",
            "sub_id": { "format": "iss_sub", "iss": "https://idp.example.com", "sub": "u-1" },
            "events": { "https://schemas.openid.net/secevent/caep/event-type/session-revoked": event },
        });
        assert_eq!(claims, expected);
        ids.insert(claims["jti"].as_str().unwrap().to_owned());
    }
    let payload = outside::webhook(&keys, &receiver.received("hook", 1).await[0], "hook");
    assert_eq!((&payload["type"], &payload["data"]["entry_index"]), (&json!("containment.began"), &json!(change.to_string())));

    let recorded = deliveries(&world, 2, |found| found.len() == 3).await;
    for id in ["idp", "idp-ed", "hook"] {
        let [delivery] = of(&recorded, id)[..] else { panic!("one delivery to {id}") };
        assert_eq!((delivery.result(), delivery.entry_index, delivery.attempts), (v1::DeliveryResult::Delivered, change, 1));
        assert!(delivery.first_attempt_unix_ns <= delivery.answered_unix_ns);
        ids.insert(delivery.jti.clone());
    }
    assert_eq!(ids.len(), 3, "an id for each message, and the one that is recorded is the one that was sent");
    assert_eq!(["idp", "idp-ed", "hook"].map(|path| receiver.so_far(path)), [1, 1, 1]);
}

#[tokio::test]
async fn a_leader_that_dies_before_the_answer_is_followed_by_the_same_message() {
    let mut world = found(3, "").await;
    let (release, held) = watch::channel(false);
    let receiver = Receiver::start(world.plan(), move |_, earlier| match earlier {
        0 => Reply::Hold(held.clone()),
        _ => Reply::status(202),
    })
    .await;
    register(&world, stream("idp", receiver.url("idp"), v1::SigningAlgorithm::Rs256)).await;
    let mut gateway = world.collector("gateway").await;
    append(&world, &mut gateway, "run-42").await;
    let led = leader(&world).await;
    let change = revoke(&world, "run-42").await;
    receiver.received("idp", 1).await;
    // Committed and sent, and nobody knows whether it arrived.
    world.cluster.kill(led).unwrap();
    let got = receiver.received("idp", 2).await;
    release.send_replace(true);
    assert_eq!(got[0].body, got[1].body, "the same token, to the last byte");
    let keys = outside::key_set(world.plan(), world.node((led + 1) % 3)).await;
    let (_, claims) = outside::security_event(&keys, &got[1], "RS256", AUDIENCE);
    let recorded = deliveries(&world, (led + 1) % 3, |found| !found.is_empty()).await;
    assert_eq!((recorded.len(), recorded[0].entry_index, recorded[0].result()), (1, change, v1::DeliveryResult::Delivered));
    assert_eq!(claims["jti"], json!(recorded[0].jti));
    assert_ne!(recorded[0].node_id, world.node(led).node_id);
}

/// One stream of a receiver that misbehaves, and what becomes of a message to it.
struct Bad {
    path: &'static str,
    reply: fn(usize) -> Reply,
    result: v1::DeliveryResult,
    error: &'static str,
    attempts: u32,
}

fn refused(code: &str) -> Reply {
    Reply::Answer(400, "Content-Type: application/json\r\n", json!({ "err": code, "description": "why" }).to_string())
}

const BAD: &[Bad] = &[
    Bad { path: "passing", reply: passing, result: v1::DeliveryResult::Delivered, error: "", attempts: 6 },
    Bad {
        path: "request",
        reply: |_| refused("invalid_request"),
        result: v1::DeliveryResult::DeadLetter,
        error: "invalid_request",
        attempts: 1,
    },
    Bad {
        path: "audience",
        reply: |_| refused("invalid_audience"),
        result: v1::DeliveryResult::DeadLetter,
        error: "invalid_audience",
        attempts: 1,
    },
    Bad { path: "key", reply: |_| refused("invalid_key"), result: v1::DeliveryResult::DeadLetter, error: "invalid_key", attempts: 3 },
    Bad {
        path: "who",
        reply: |_| refused("authentication_failed"),
        result: v1::DeliveryResult::Paused,
        error: "authentication_failed",
        attempts: 1,
    },
    Bad { path: "denied", reply: |_| Reply::status(403), result: v1::DeliveryResult::Paused, error: "access_denied", attempts: 1 },
    Bad { path: "gone", reply: |_| Reply::status(410), result: v1::DeliveryResult::Disabled, error: "gone", attempts: 1 },
    Bad {
        path: "moved",
        reply: |_| Reply::Answer(307, "Location: /elsewhere\r\n", String::new()),
        result: v1::DeliveryResult::DeadLetter,
        error: "redirect",
        attempts: 1,
    },
    Bad {
        path: "talks",
        reply: |_| Reply::Answer(400, "", "x".repeat(1 << 20)),
        result: v1::DeliveryResult::DeadLetter,
        error: "unreadable_error",
        attempts: 1,
    },
    Bad {
        path: "talks-well",
        reply: |_| Reply::Answer(202, "", "x".repeat(1 << 20)),
        result: v1::DeliveryResult::Delivered,
        error: "",
        attempts: 1,
    },
];

/// Every kind of trouble that passes.
fn passing(earlier: usize) -> Reply {
    match earlier {
        0 => Reply::HangUp,
        1 => Reply::status(500),
        2 => Reply::Answer(429, "Retry-After: 0\r\n", String::new()),
        3 => Reply::status(503),
        4 => Reply::status(200),
        _ => Reply::status(202),
    }
}

#[tokio::test]
async fn each_answer_does_what_is_written_and_a_slow_receiver_delays_nobody() {
    let world = found(1, "timeout_ms = 1500\n").await;
    let (release, held) = watch::channel(false);
    let receiver = Receiver::start(world.plan(), move |got, earlier| match BAD.iter().find(|bad| bad.path == got.path) {
        Some(bad) => (bad.reply)(earlier),
        // Nothing comes within the time of an attempt.
        None => Reply::Hold(held.clone()),
    })
    .await;
    register(&world, stream("a-slow", receiver.url("slow"), v1::SigningAlgorithm::Eddsa)).await;
    for bad in BAD {
        register(&world, stream(&format!("b-{}", bad.path), receiver.url(bad.path), v1::SigningAlgorithm::Eddsa)).await;
    }
    let mut gateway = world.collector("gateway").await;
    append(&world, &mut gateway, "run-42").await;
    revoke(&world, "run-42").await;

    let recorded = deliveries(&world, 0, |found| found.len() == BAD.len()).await;
    for bad in BAD {
        let [delivery] = of(&recorded, &format!("b-{}", bad.path))[..] else { panic!("one delivery to {}", bad.path) };
        assert_eq!((delivery.result(), delivery.error.as_str(), delivery.attempts), (bad.result, bad.error, bad.attempts), "{}", bad.path);
        assert_eq!(receiver.so_far(bad.path), bad.attempts as usize, "{}", bad.path);
    }
    assert_eq!(receiver.so_far("elsewhere"), 0, "a redirect is not followed");
    // The slow one is tried again, each attempt for its time only.
    receiver.received("slow", 2).await;
    release.send_replace(true);

    let list = v1::ListOutletsRequest { tenant_id: TENANT.to_owned(), ..Default::default() };
    let listed = world.control(0, "auditor").list_outlets(list).await.unwrap().into_inner().outlets;
    let state = |id: &str| listed.iter().find(|it| it.outlet.as_ref().unwrap().outlet_id == id).unwrap();
    assert_eq!((state("b-who").state(), state("b-who").pending), (v1::OutletState::Paused, 1));
    assert_eq!((state("b-gone").state(), state("b-gone").pending), (v1::OutletState::Disabled, 1));
    assert_eq!((state("b-moved").state(), state("b-moved").pending), (v1::OutletState::Active, 0));
    assert_eq!((state("a-slow").state(), state("a-slow").pending), (v1::OutletState::Active, 1));
    assert!(listed.iter().all(|it| it.nodes.len() == 1 && it.nodes[0].problem.is_empty()), "{listed:?}");
    let metrics = proofline_cluster::http::get(world.plan(), world.node(0), "/metrics").await.unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("proofline_outlet_pending_messages 4"), "{metrics}");
    assert!(metrics.contains("proofline_outlet_alarms_total 8"), "{metrics}");
}

#[tokio::test]
async fn a_paused_stream_goes_on_when_it_is_resumed_and_a_missing_key_when_it_is_there() {
    let world = found(1, "").await;
    let receiver = Receiver::start(world.plan(), |got, earlier| match (got.headers.get("authorization").map(String::as_str), earlier) {
        (Some("Bearer second"), _) => Reply::status(202),
        _ => Reply::status(401),
    })
    .await;
    let mut outlet = stream("idp", receiver.url("idp"), v1::SigningAlgorithm::Rs256);
    if let Some(Kind::SharedSignals(stream)) = &mut outlet.kind {
        stream.authorization = v1::ReceiverAuthorization::BearerToken.into();
    }
    register(&world, outlet).await;
    let problem = async || {
        let list = v1::ListOutletsRequest { tenant_id: TENANT.to_owned(), ..Default::default() };
        let listed = world.control(0, "auditor").list_outlets(list).await.unwrap().into_inner().outlets;
        listed[0].nodes[0].problem.clone()
    };
    assert!(problem().await.contains("idp.token cannot be read"), "{}", problem().await);
    let mut gateway = world.collector("gateway").await;
    append(&world, &mut gateway, "run-42").await;
    let change = revoke(&world, "run-42").await;
    // Nothing is sent without the token; the node looks for it again and again.
    let token = world.plan().outlet_keys().join("idp.token");
    std::fs::write(&token, "first\n").unwrap();
    assert_eq!(problem().await, "");
    let paused = deliveries(&world, 0, |found| !found.is_empty()).await.remove(0);
    assert_eq!((paused.result(), paused.http_status), (v1::DeliveryResult::Paused, 401));
    std::fs::write(&token, "second\n").unwrap();
    let resume = v1::ResumeOutlet { outlet_id: "idp".to_owned(), reason: "a new token".to_owned() };
    world.command(&["alice"], Action::ResumeOutlet(resume)).await.unwrap();
    let both = deliveries(&world, 0, |found| found.len() == 2).await;
    assert_eq!((both[1].result(), both[1].entry_index, &both[1].jti), (v1::DeliveryResult::Delivered, change, &paused.jti));
}

#[tokio::test]
async fn a_receiver_that_comes_back_gets_everything_and_the_newest_soon() {
    const SESSIONS: usize = 300;
    let world = found(1, "").await;
    let (up, is_up) = watch::channel(false);
    let receiver = Receiver::start(world.plan(), move |_, _| if *is_up.borrow() { Reply::status(200) } else { Reply::HangUp }).await;
    register(&world, webhook("hook", receiver.url("hook"))).await;
    for session in 0..SESSIONS {
        revoke(&world, &format!("run-{session}")).await;
    }
    let down = receiver.so_far("hook");
    up.send_replace(true);
    let recorded = deliveries(&world, 0, |found| found.len() == SESSIONS).await;
    assert!(recorded.iter().all(|it| it.result() == v1::DeliveryResult::Delivered));
    let ids: std::collections::BTreeSet<&str> = recorded.iter().map(|it| it.jti.as_str()).collect();
    assert_eq!(ids.len(), SESSIONS);
    // Once it is there, each message comes once; one or the other may have been on its way just then.
    let after = receiver.so_far("hook") - down;
    assert!((SESSIONS..SESSIONS + 5).contains(&after), "{after}");
}

#[tokio::test]
async fn each_of_many_messages_is_escalated_when_none_is_acknowledged() {
    const SESSIONS: usize = 300;
    let world = found(1, "").await;
    let receiver = Receiver::start(world.plan(), |got, _| if got.path == "gateway" { Reply::status(200) } else { Reply::HangUp }).await;
    register(&world, v1::Outlet { escalations_only: true, ..webhook("gateway", receiver.url("gateway")) }).await;
    let hook = webhook("hook", receiver.url("hook"));
    register(&world, v1::Outlet { escalate_to: "gateway".to_owned(), escalate_after_s: 1, ..hook }).await;
    for session in 0..SESSIONS {
        revoke(&world, &format!("run-{session}")).await;
    }
    let delivered = |found: &[v1::OutletDelivery]| found.iter().filter(|it| it.result() == v1::DeliveryResult::Delivered).count();
    let recorded = deliveries(&world, 0, |found| delivered(found) == SESSIONS).await;
    let of_first = of(&recorded, "hook");
    assert_eq!(of_first.len(), SESSIONS);
    assert!(of_first.iter().all(|it| it.result() == v1::DeliveryResult::Escalated));
    assert_eq!(receiver.so_far("gateway"), SESSIONS);
}

#[tokio::test]
async fn what_the_identity_provider_does_not_acknowledge_goes_to_the_gateway() {
    let world = found(1, "").await;
    let receiver = Receiver::start(world.plan(), |got, _| Reply::status(if got.path == "gateway" { 204 } else { 503 })).await;
    register(&world, v1::Outlet { escalations_only: true, ..webhook("gateway", receiver.url("gateway")) }).await;
    let idp = stream("idp", receiver.url("idp"), v1::SigningAlgorithm::Rs256);
    register(&world, v1::Outlet { escalate_to: "gateway".to_owned(), escalate_after_s: 1, ..idp }).await;
    let mut gateway = world.collector("gateway").await;
    append(&world, &mut gateway, "run-42").await;
    let change = revoke(&world, "run-42").await;
    let recorded = deliveries(&world, 0, |found| found.len() == 2).await;
    let what: Vec<_> = recorded.iter().map(|it| (it.outlet_id.as_str(), it.result(), it.entry_index)).collect();
    assert_eq!(what, [("idp", v1::DeliveryResult::Escalated, change), ("gateway", v1::DeliveryResult::Delivered, change)]);
    let keys = outside::key_set(world.plan(), world.node(0)).await;
    let payload = outside::webhook(&keys, &receiver.received("gateway", 1).await[0], "hook");
    assert_eq!(payload["data"]["escalated_from"], "idp");
    assert_eq!(payload["data"]["targets"], json!([{ "kind": "session", "tenant_id": TENANT, "id": "run-42" }]));
    // The first one goes on being tried.
    let tried = receiver.so_far("idp");
    receiver.received("idp", tried + 1).await;
}

#[tokio::test]
async fn the_effect_of_a_containment_is_what_it_denied_and_who_was_told() {
    let world = found(3, "").await;
    let receiver = Receiver::start(world.plan(), |_, _| Reply::status(202)).await;
    register(&world, stream("idp", receiver.url("idp"), v1::SigningAlgorithm::Rs256)).await;
    let mut gateway = world.collector("gateway").await;
    append(&world, &mut gateway, "run-42").await;
    append(&world, &mut gateway, "another").await;
    revoke(&world, "run-42").await;
    deliveries(&world, 0, |found| found.len() == 1).await;
    let mut denied = Vec::new();
    for session in ["run-42", "another", "run-42"] {
        let receipt = append(&world, &mut gateway, session).await;
        if session == "run-42" {
            denied.push(receipt.first_index);
        }
    }
    let effect = cli(&world, &["containment", "effect", "1", "--tenant", TENANT]);
    assert_eq!((&effect["verdicts"], &effect["allowed"]), (&json!({ "DENY": "2" }), &json!([])));
    assert_eq!(effect["last_event"]["index"], json!(denied[1].to_string()));
    let delays: Vec<u64> =
        effect["entries"].as_array().unwrap().iter().map(|it| it["delay_ns"].as_str().unwrap().parse().unwrap()).collect();
    assert!(delays.len() == 3 && delays.is_sorted(), "{delays:?}");
    assert_eq!(effect["entries"][0]["entry"]["core"]["outlet_delivery"]["result"], "delivered");

    let outlets = cli(&world, &["outlet", "list", "--tenant", TENANT]);
    assert_eq!(outlets["outlets"][0]["last"]["outlet_id"], "idp");
    assert_eq!(outlets["outlets"][0]["nodes"].as_array().unwrap().len(), 3);
    for selection in [["idp", "--tenant"], ["--containment=1", "--tenant"]] {
        let listed = cli(&world, &["outlet", "deliveries", selection[0], selection[1], TENANT]);
        assert_eq!(listed["deliveries"].as_array().unwrap().len(), 1, "{listed}");
    }
    // A whole page at a time, from where the last one ended.
    let page = |after_index| v1::AfterContainmentRequest { tenant_id: TENANT.to_owned(), containment_id: 1, after_index, page_size: 2 };
    let first = world.control(1, "auditor").after_containment(page(0)).await.unwrap().into_inner();
    let second = world.control(1, "auditor").after_containment(page(first.next_after)).await.unwrap().into_inner();
    assert_eq!((first.entries.len(), second.entries.len(), second.next_after), (2, 1, 0));
    let other = v1::AfterContainmentRequest { tenant_id: "other".to_owned(), ..page(0) };
    let status = world.control(1, "auditor").after_containment(other).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound, "{status:?}");

    let metadata = proofline_cluster::http::get(world.plan(), world.node(2), "/.well-known/ssf-configuration").await.unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.body).unwrap();
    assert_eq!((&metadata["issuer"], &metadata["jwks_uri"]), (&json!(ISSUER), &json!(format!("{ISSUER}/jwks.json"))));
}
