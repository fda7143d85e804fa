//! What any node answers about the published log, over gRPC and as tiles over HTTP.

use proofline_cluster::{TENANT, Tls, http};
use proofline_proto::v1;
use proofline_verifier::{Policy, TreeHash as _};
use tonic::Code;

use crate::world::{World, event};

#[tokio::test]
async fn every_node_serves_the_same_checkpoint_and_proofs_that_verify() {
    let world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let events: Vec<_> = (0..700).map(|n| event(&format!("s{}", n % 5))).collect();
    let first = world.ingest(1, "gateway").append(gateway.sign(events)).await.unwrap().into_inner().first_index;
    let policy = Policy::parse(&std::fs::read(world.plan().policy()).unwrap()).unwrap();
    for place in 0..3 {
        world.published(place, first + 700).await;
        let mut audit = world.audit(place, "auditor");
        for index in [0, first, first + 255, first + 699] {
            let proof = audit.get_inclusion_proof(v1::GetInclusionProofRequest { index }).await.unwrap().into_inner();
            let entry = audit.get_entry(v1::GetEntryRequest { index }).await.unwrap().into_inner().entry;
            let checkpoint = policy.verify_checkpoint(&proof.checkpoint).unwrap();
            let path: Vec<_> =
                proof.log_path.iter().map(|hash| proofline_verifier::LogHash::from_bytes(hash.as_slice().try_into().unwrap())).collect();
            checkpoint.verify_inclusion(&entry, proofline_verifier::EntryIndex(index), &path).unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_not_published_is_out_of_range() {
    let world = World::found(1, Tls::Mutual).await;
    world.published(0, 1).await;
    let mut audit = world.audit(0, "auditor");
    let beyond = audit.get_inclusion_proof(v1::GetInclusionProofRequest { index: 10_000 }).await.unwrap_err();
    assert_eq!(beyond.code(), Code::OutOfRange);
    let unknown = v1::GetSessionProofRequest { tenant_id: TENANT.to_owned(), session_id: "nope".to_owned(), position: 0 };
    assert_eq!(audit.get_session_proof(unknown).await.unwrap_err().code(), Code::NotFound);
    let large = v1::ListSessionsRequest { tenant_id: TENANT.to_owned(), page_size: 1_001, ..Default::default() };
    assert_eq!(audit.list_sessions(large).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn tiles_are_open_and_entry_bundles_are_not() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    world.ingest(0, "gateway").append(gateway.sign(vec![event("s"); 600])).await.unwrap();
    world.published(0, 603).await;
    let (plan, node) = (world.plan(), world.node(0));
    for (path, status, bytes) in [
        ("/tile/0/000", 200, 8192),
        ("/tile/0/001", 200, 8192),
        ("/tile/0/002.p/91", 200, 91 * 32),
        ("/tile/1/000.p/2", 200, 64),
        ("/tile/0/002", 404, 0),
        ("/tile/0/002.p/92", 404, 0),
        ("/tile/1/000.p/3", 404, 0),
        ("/tile/64/000", 400, 0),
        ("/tile/0/0", 400, 0),
        ("/tile/entries/000", 401, 0),
    ] {
        let response = http::get(plan, node, path).await.unwrap();
        assert_eq!(response.status, status, "{path}");
        assert!(status != 200 || response.body.len() == bytes, "{path} has {} bytes", response.body.len());
    }
    let kept = async |path| http::get(plan, node, path).await.unwrap().cache_control.unwrap_or_default();
    assert!(kept("/tile/0/000").await.contains("immutable"), "what never changes");
    assert!(kept("/tile/0/002.p/91").await.contains("immutable"), "a part is named by its width");
    assert!(kept("/checkpoint").await.ends_with("max-age=1"), "what changes every moment");
    assert_eq!(http::get(plan, node, "/tile/0/002").await.unwrap().cache_control, None, "what is not there yet");

    // Bundles hold what was signed, for those who may read all of it.
    plan.add_client("stranger").unwrap();
    let bundle = async |client| http::get_as(plan, node, "/tile/entries/000", Some(client)).await.unwrap();
    assert_eq!(bundle("stranger").await.status, 403);
    let whole = bundle("auditor").await;
    assert_eq!(whole.status, 200);
    assert!(whole.cache_control.is_some_and(|kept| kept.contains("private")));

    let first = http::get(plan, node, "/tile/0/000").await.unwrap().body;
    let entry = world.audit(0, "auditor").get_entry(v1::GetEntryRequest { index: 7 }).await.unwrap().into_inner().entry;
    assert_eq!(first[7 * 32..8 * 32], *proofline_verifier::LogHash::leaf(&entry).as_bytes());
    assert!(String::from_utf8(http::get(plan, node, "/metrics").await.unwrap().body).unwrap().contains("proofline_tree_size_entries 603"));
}

#[tokio::test]
async fn a_checkpoint_is_published_with_news_and_not_without() {
    let world = World::found(3, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    world.published(0, 3).await;
    let mut checkpoints = world.audit(0, "auditor").watch_checkpoints(v1::WatchCheckpointsRequest {}).await.unwrap().into_inner();
    checkpoints.message().await.unwrap().expect("the newest one comes at once");
    // Five times as long as it takes where there is news.
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(1), checkpoints.message()).await;
    assert!(quiet.is_err(), "nothing was appended: {quiet:?}");
    world.ingest(0, "gateway").append(gateway.sign(vec![event("s")])).await.unwrap();
    checkpoints.message().await.unwrap().expect("news is published");
}
