//! A stream is tried out: an operator has a verification event sent, and sees what became of it.

use std::{net::TcpListener, time::Instant};

use super::*;

fn signer(world: &World, operator: &str) -> String {
    format!("{operator}={}", world.plan().operator_key(operator).display())
}

#[tokio::test]
async fn an_operator_has_a_stream_verified_and_the_receiver_finds_the_state_in_a_signed_event() {
    let world = found(3, "").await;
    let receiver = Receiver::start(world.plan(), |_, _| Reply::status(202)).await;
    register(&world, stream("idp", receiver.url("idp"), v1::SigningAlgorithm::Rs256)).await;
    register(&world, stream("other", receiver.url("other"), v1::SigningAlgorithm::Rs256)).await;
    let signer = signer(&world, "alice");
    let asked = cli(&world, &["outlet", "verify", "idp", "--state", "try \"1\"", "--reason", "a new receiver", "--signer", &signer]);
    let index: u64 = asked["index"].as_str().unwrap().parse().unwrap();

    let got = receiver.received("idp", 1).await.remove(0);
    let keys = outside::key_set(world.plan(), world.node(0)).await;
    let (header, claims) = outside::security_event(&keys, &got, "RS256", AUDIENCE);
    assert_eq!(header, json!({ "typ": "secevent+jwt", "alg": "RS256", "kid": "ssf-rsa" }));
    let expected = json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": claims["iat"], "jti": claims["jti"],
        "sub_id": { "format": "opaque", "id": "idp" },
        "events": { "https://schemas.openid.net/secevent/ssf/event-type/verification": { "state": "try \"1\"" } },
    });
    assert_eq!(claims, expected);
    assert!(claims["iat"].is_u64());
    let delivery = deliveries(&world, 2, |found| found.len() == 1).await.remove(0);
    assert_eq!((delivery.result(), delivery.entry_index, delivery.containment_id), (v1::DeliveryResult::Delivered, index, 0));
    assert_eq!(claims["jti"], json!(delivery.jti));
    assert_eq!(receiver.so_far("other"), 0, "one stream is verified, not all");
    let listed = cli(&world, &["outlet", "deliveries", "idp", "--tenant", TENANT]);
    assert_eq!(listed["deliveries"][0]["delivery"]["jti"], json!(delivery.jti));
    // Without a state of the operator's there is a fresh one each time.
    for _ in 0..2 {
        cli(&world, &["outlet", "verify", "idp", "--reason", "again", "--signer", &signer]);
    }
    let states: std::collections::BTreeSet<String> = receiver.received("idp", 3).await[1..]
        .iter()
        .map(|got| outside::security_event(&keys, got, "RS256", AUDIENCE).1["events"].to_string())
        .collect();
    assert_eq!(states.len(), 2, "{states:?}");
}

#[tokio::test]
async fn a_verification_waits_for_a_receiver_that_is_down_and_delays_nobody_else() {
    let world = found(1, "").await;
    let receiver = Receiver::start(world.plan(), |_, _| Reply::status(202)).await;
    // Nobody listens where somebody did.
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    register(&world, stream("down", format!("https://localhost:{down}/down"), v1::SigningAlgorithm::Eddsa)).await;
    register(&world, stream("up", receiver.url("up"), v1::SigningAlgorithm::Eddsa)).await;
    let verify = |id: &str| {
        let (outlet_id, state, reason) = (id.to_owned(), "s".to_owned(), "a test".to_owned());
        Action::VerifyOutlet(v1::VerifyOutlet { outlet_id, state, reason })
    };
    world.command(&["alice"], verify("down")).await.unwrap();
    let until = Instant::now() + WITHIN;
    while attempts_failed(&world).await < 2 {
        assert!(Instant::now() < until, "it is tried, and tried again");
    }
    world.command(&["alice"], verify("up")).await.unwrap();
    receiver.received("up", 1).await;
    let delivered = deliveries(&world, 0, |found| !found.is_empty()).await;
    assert_eq!((delivered.len(), delivered[0].outlet_id.as_str()), (1, "up"));
    let list = v1::ListOutletsRequest { tenant_id: TENANT.to_owned(), ..Default::default() };
    let listed = world.control(0, "auditor").list_outlets(list).await.unwrap().into_inner().outlets;
    let down = listed.iter().find(|it| it.outlet.as_ref().unwrap().outlet_id == "down").unwrap();
    assert_eq!((down.state(), down.pending), (v1::OutletState::Active, 1));
}

async fn attempts_failed(world: &World) -> u64 {
    let metrics = proofline_cluster::http::get(world.plan(), world.node(0), "/metrics").await.unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("proofline_outlet_attempts_failed_total ")).unwrap();
    line.parse().unwrap()
}

#[tokio::test]
async fn the_metadata_of_the_transmitter_names_only_what_is_served() {
    let world = found(1, "").await;
    let metadata = proofline_cluster::http::get(world.plan(), world.node(0), "/.well-known/ssf-configuration").await.unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.body).unwrap();
    let mut served = Vec::new();
    for (name, value) in metadata.as_object().unwrap() {
        assert!(!name.ends_with("_endpoint"), "streams are registered and verified by operators: {name}");
        if let Some(path) = value.as_str().and_then(|url| url.strip_prefix(ISSUER)).filter(|path| !path.is_empty()) {
            let answer = proofline_cluster::http::get(world.plan(), world.node(0), path).await.unwrap();
            assert_eq!(answer.status, 200, "{name} {path}");
            served.push(name.as_str());
        }
    }
    assert_eq!(served, ["jwks_uri"]);
}
