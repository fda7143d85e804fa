//! What nodes owe each other of payloads: what one does not know yet, has damaged, or takes with it when it leaves.

use std::{fs, path::Path};

use proofline_cluster::Tls;
use proofline_proto::{
    peer,
    v1::{self, command::Action},
};
use tonic::Code;

use crate::{
    forgetting::{Given, commit, committing, directory, files, get, holds, noise, put, reason},
    membership::{leader, member, peer_at},
    world::{World, repeat_through},
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

/// Flips a bit of a sealed payload in a table of a stopped node.
fn damage(database: &Path, given: &Given) {
    for table in files(database).into_iter().filter(|path| path.extension().is_some_and(|it| it == "sst")) {
        let mut bytes = fs::read(&table).unwrap();
        let mut places = bytes.windows(32).enumerate().filter(|(_, window)| *window == given.digest).map(|(at, _)| at + 1_000);
        if let Some(at) = places.rfind(|at| at + given.content.len() / 2 < bytes.len()) {
            bytes[at] ^= 1;
            return fs::write(table, bytes).unwrap();
        }
    }
    panic!("no table has the payload");
}

#[tokio::test]
async fn a_damaged_payload_keeps_nobody_from_the_others_and_is_fetched_by_whoever_has_it_damaged() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    world.cluster.kill(0).unwrap();
    let mut given = Vec::new();
    for n in 0..3 {
        let one = commit(&world, &mut gateway, &noise(n, 50_000), &[1, 2]).await;
        put(&world, 1, &one).await.unwrap();
        given.push(one);
    }
    for place in [1, 2] {
        holds(&world, place, 3).await;
    }
    // Opened once more, it has the rows in a table.
    world.cluster.kill(1).unwrap();
    start(&mut world, 1).await;
    world.cluster.kill(1).unwrap();
    world.cluster.kill(2).unwrap();
    damage(&directory(&world, 1, "db"), &given[0]);
    start(&mut world, 1).await;
    start(&mut world, 0).await;
    holds(&world, 0, 2).await;
    start(&mut world, 2).await;
    holds(&world, 0, 3).await;
    assert_eq!(get(&world, 1, &given[0]).await.unwrap().content, given[0].content, "another node has it whole");
    let place = peer::PayloadPlace { index: given[0].index, digest: given[0].digest.clone() };
    let own = peer_at(&world, 1, "node-1").fetch_payload(place).await.unwrap().into_inner();
    assert_eq!(own.content, given[0].content, "and it is mended");
}

/// Starts a node without waiting for a leader: the others may be down.
async fn start(world: &mut World, place: usize) {
    world.cluster.start(place).unwrap();
    world.cluster.alive(place).await.unwrap();
}

#[tokio::test]
async fn two_of_three_nodes_are_replaced_at_once_and_what_the_third_slept_through_is_not_lost() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    world.cluster.kill(2).unwrap();
    let contents: Vec<_> = (0..200).map(|n| noise(n, 2_000)).collect();
    let (events, digests): (Vec<_>, Vec<_>) = contents.iter().map(|content| committing("s", content, "")).unzip();
    let first = repeat_through(&world, "gateway", gateway.sign(events), &[0, 1]).await;
    let of = (first..).zip(digests).zip(contents);
    let given: Vec<_> = of.map(|((index, digest), content)| Given { index, digest, content }).collect();
    for one in &given {
        assert_eq!(put(&world, 0, one).await.unwrap().voters_holding, 2);
    }
    let mut add = Vec::new();
    for place in [3, 4] {
        let (node, key) = world.cluster.add_node().unwrap();
        world.command(&["alice", "bob"], Action::RegisterNode(v1::RegisterNode { node: Some(key) })).await.unwrap();
        add.push(member(node.node_id, &node.peer.to_string(), &node.client.to_string()));
        start(&mut world, place).await;
    }
    start(&mut world, 2).await;
    let change = v1::ChangeMembershipRequest { add, remove: vec![1, 2], ..Default::default() };
    let leads = leader(&world, 0).await;
    let changed = world.control(leads, "admin").change_membership(change).await.unwrap().into_inner();
    assert_eq!(changed.voters, [3, 4, 5]);
    world.cluster.kill(0).unwrap();
    world.cluster.kill(1).unwrap();
    for one in &given {
        assert_eq!(get(&world, 2, one).await.unwrap().content, one.content, "of entry {}", one.index);
    }
}

#[tokio::test]
async fn a_voter_stays_while_others_do_not_have_its_payloads_unless_their_loss_is_accepted() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    world.cluster.kill(2).unwrap();
    let given = commit(&world, &mut gateway, b"on two of three", &[0, 1]).await;
    put(&world, 0, &given).await.unwrap();
    let leads = leader(&world, 0).await;
    let leaving = world.node(1 - leads).node_id;
    // The node that sleeps is to stay, and its word is missing.
    let change = v1::ChangeMembershipRequest { remove: vec![leaving], catch_up_within_s: 1, ..Default::default() };
    let refused = world.control(leads, "admin").change_membership(change.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "PAYLOADS_NOT_REPAIRED"), "{refused:?}");
    assert!(refused.message().contains("node {3}"), "the one that is silent is named: {refused:?}");
    start(&mut world, 2).await;
    let change = v1::ChangeMembershipRequest { catch_up_within_s: 0, ..change };
    let voters = world.control(leads, "admin").change_membership(change).await.unwrap().into_inner().voters;
    assert!(voters.len() == 2 && !voters.contains(&leaving), "{voters:?}");
    let forced = v1::ChangeMembershipRequest { remove: vec![3], lose_payloads: true, ..Default::default() };
    assert_eq!(world.control(leads, "admin").change_membership(forced).await.unwrap().into_inner().voters.len(), 1);
}
