//! A leader whose clock is a year ahead.

use proofline_cluster::Tls;
use proofline_proto::v1;

use crate::world::{World, append_through, event, repeat_through};

/// Where Debian keeps the library of `faketime`; the set-up installs it.
fn faketime() -> String {
    let found = std::process::Command::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketime.so.1"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().next().expect("libfaketime is installed by make setup").to_owned()
}

#[tokio::test]
async fn a_leader_whose_clock_is_a_year_ahead_accepts_nothing() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    append_through(&world, &mut gateway, &[0, 1, 2]).await;
    let library = faketime();
    let shifted = [("LD_PRELOAD", library.as_str()), ("FAKETIME", "+365d"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    for _ in 0..20 {
        world.cluster.stop_all().await.unwrap();
        world.cluster.start_with(0, &shifted).unwrap();
        // It asks for votes before the others have waited for their timeouts.
        world.cluster.alive(0).await.unwrap();
        world.cluster.start_all().await.unwrap();
        if leader(&world).await == Some(0) {
            let request = gateway.sign(vec![event("s")]);
            let status = world.ingest(1, "gateway").append(request.clone()).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
            assert!(status.message().contains("clock"), "{status:?}");
            // Under a right clock the same batch goes through: nothing of it was appended before.
            world.cluster.stop_all().await.unwrap();
            world.cluster.start_all().await.unwrap();
            repeat_through(&world, "gateway", request, &[0, 1, 2]).await;
            return;
        }
    }
    panic!("the first node, whose election timeout is the shortest, was never elected");
}

async fn leader(world: &World) -> Option<usize> {
    let status = world.control(1, "admin").cluster_status(v1::ClusterStatusRequest {}).await.ok()?.into_inner();
    world.plan().nodes.iter().position(|node| node.node_id == status.leader_id)
}
