//! What nodes owe each other of payloads: what one does not know yet, has damaged, or takes with it when it leaves.

use std::{fs, path::Path};

use proofline_cluster::Tls;
use proofline_proto::peer;
use tonic::Code;

use crate::{
    forgetting::{Given, commit, directory, files, get, holds, noise, put, reason},
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

/// Flips a bit of a sealed payload in a table of a stopped node.
fn damage(database: &Path, given: &Given) {
    for table in files(database).into_iter().filter(|path| path.extension().is_some_and(|it| it == "sst")) {
        let mut bytes = fs::read(&table).unwrap();
        let places = bytes.windows(32).enumerate().filter(|(_, window)| *window == given.digest).map(|(at, _)| at + 1_000);
        if let Some(at) = places.filter(|at| at + given.content.len() / 2 < bytes.len()).last() {
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
