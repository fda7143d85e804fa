//! What nodes owe each other of payloads: what one does not know yet, has damaged, or takes with it when it leaves.

use proofline_cluster::Tls;
use proofline_proto::peer;
use tonic::Code;

use crate::{
    forgetting::{commit, reason},
    membership::peer_at,
    world::World,
};

#[tokio::test]
async fn a_node_says_of_an_entry_that_it_has_not_applied_that_it_does_not_know() {
    let world = World::found(1, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let given = commit(&world, &mut gateway, b"a prompt", &[0]).await;
    let mut node = peer_at(&world, 0, "node-1");
    let place = |index| peer::PayloadPlace { index, digest: given.digest.clone() };
    let behind = node.fetch_payload(place(given.index + 1_000)).await.unwrap_err();
    assert_eq!((behind.code(), reason(&behind).as_str()), (Code::Unavailable, "ENTRY_NOT_APPLIED"), "{behind:?}");
    let never = node.fetch_payload(place(given.index)).await.unwrap_err();
    assert_eq!((never.code(), reason(&never).as_str()), (Code::NotFound, "PAYLOAD_NOT_UPLOADED"), "{never:?}");
}
