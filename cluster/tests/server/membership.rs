//! Nodes that come, go, lag and crash, while a collector goes on.

use std::time::Duration;

use proofline_cluster::Tls;
use proofline_proto::v1::{self, command::Action};
use tonic::Code;

use crate::world::{World, append_through, event};

async fn leader(world: &World, asked: usize) -> usize {
    let status = world.control(asked, "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    world.plan().nodes.iter().position(|node| node.node_id == status.leader_id).expect("somebody leads")
}

/// Waits until the nodes at `places` have the same root, and returns the size.
async fn agree(world: &World, places: &[usize], size: u64) {
    for place in places {
        world.published(*place, size).await;
    }
    let status = world.control(places[0], "admin").cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    let ids: Vec<u64> = places.iter().map(|place| world.node(*place).node_id).collect();
    let states: Vec<_> =
        status.nodes.iter().filter(|node| ids.contains(&node.node_id)).map(|node| (&node.log_root, &node.state_digest)).collect();
    assert_eq!(states.len(), places.len());
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "{status:?}");
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_comes_back_with_everything() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let mut last = 0;
    for _ in 0..3 {
        last = append_through(&world, &mut gateway, &[0, 1, 2]).await;
        let killed = leader(&world, 0).await;
        world.cluster.kill(killed).unwrap();
        let left: Vec<usize> = (0..3).filter(|place| *place != killed).collect();
        for _ in 0..5 {
            let next = append_through(&world, &mut gateway, &left).await;
            assert!(next > last, "indexes only grow");
            last = next;
        }
        world.cluster.start_all().await.unwrap();
    }
    agree(&world, &[0, 1, 2], last + 1).await;
}

#[tokio::test]
async fn without_a_majority_nothing_is_acknowledged_and_nothing_is_lost() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    append_through(&world, &mut gateway, &[0, 1, 2]).await;
    world.cluster.kill(1).unwrap();
    world.cluster.kill(2).unwrap();
    let request = gateway.sign(vec![event("s")]);
    let answer = tokio::time::timeout(Duration::from_secs(5), world.ingest(0, "gateway").append(request.clone())).await;
    assert!(!matches!(answer, Ok(Ok(_))), "acknowledged by one node of three");
    world.cluster.start_all().await.unwrap();
    gateway.sequence -= 1;
    let receipt = world.ingest(1, "gateway").append(request).await.unwrap().into_inner();
    gateway.sequence += 1;
    agree(&world, &[0, 1, 2], receipt.first_index + 1).await;
}

#[tokio::test]
async fn a_new_node_joins_catches_up_and_cosigns_and_an_old_one_leaves() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    for _ in 0..50 {
        append_through(&world, &mut gateway, &[0, 1, 2]).await;
    }
    let (node, key) = world.cluster.add_node().unwrap();
    let register = Action::RegisterNode(v1::RegisterNode { node: Some(key.clone()) });
    let alone = world.command(&["alice"], register.clone()).await.unwrap_err();
    assert_eq!(alone.code(), Code::PermissionDenied, "one person registers no node: {alone:?}");
    world.command(&["alice", "bob"], register).await.unwrap();
    world.cluster.start(3).unwrap();
    let leads = leader(&world, 0).await;
    let member = v1::Member { node_id: node.node_id, peer_address: node.peer.to_string(), client_address: node.client.to_string() };
    let change = v1::ChangeMembershipRequest { add: vec![member], remove: vec![] };
    let elsewhere = world.control((leads + 1) % 3, "admin").change_membership(change.clone()).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::FailedPrecondition, "a follower says where to go: {elsewhere:?}");
    let voters = world.control(leads, "admin").change_membership(change).await.unwrap().into_inner().voters;
    assert_eq!(voters, [1, 2, 3, 4]);
    let last = append_through(&world, &mut gateway, &[3]).await;
    agree(&world, &[0, 1, 2, 3], last + 1).await;
    cosigned_by(&world, &key.name).await;

    let leaving = (0..3).find(|place| *place != leads).unwrap();
    let gone = world.node(leaving).node_id;
    let change = v1::ChangeMembershipRequest { add: vec![], remove: vec![gone] };
    let leads = leader(&world, 0).await;
    let voters = world.control(leads, "admin").change_membership(change).await.unwrap().into_inner().voters;
    assert!(!voters.contains(&gone) && voters.len() == 3, "{voters:?}");
    world.cluster.kill(leaving).unwrap();
    let left: Vec<usize> = (0..4).filter(|place| *place != leaving).collect();
    let last = append_through(&world, &mut gateway, &left).await;
    agree(&world, &left, last + 1).await;
}

async fn cosigned_by(world: &World, name: &str) {
    let mut notes = world.audit(0, "auditor").watch_checkpoints(v1::WatchCheckpointsRequest {}).await.unwrap().into_inner();
    let mut gateway = world.collector("late-gateway").await;
    for _ in 0..50 {
        append_through(world, &mut gateway, &[0]).await;
        let note = String::from_utf8(notes.message().await.unwrap().unwrap().checkpoint).unwrap();
        if note.contains(&format!("— {name} ")) {
            return;
        }
    }
    panic!("{name} never cosigned");
}
