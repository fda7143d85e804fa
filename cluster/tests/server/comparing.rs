//! A node that was shown two histories finds out, and lets the others find out.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_client::read_key;
use proofline_cluster::{ORIGIN, TRUST_DOMAIN, Tls};
use proofline_proto::peer::{PublishedCheckpoint, peer_server::PeerServer};
use proofline_verifier::{
    Checkpoint, KeyName, LogHash, NoteSignature, SignatureType, SignedNote, TreeHash as _, TreeSize, VerifierKey, cosignature_signed_bytes,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use crate::{
    membership::{OnlyStatus, peer_at},
    world::{World, append_through},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Signs another tree of that size as node 2 and node 3, who together are more than half, could with a leader that lies.
fn of_another_history(world: &World, size: u64) -> Vec<u8> {
    let key = |name: &str| -> SigningKey { read_key(&world.plan().root.join("keys").join(format!("{name}.key.pem"))).unwrap() };
    let verifier = |name: &str, kind: SignatureType, key: &SigningKey| {
        VerifierKey::new(KeyName::parse(name).unwrap(), kind, key.verifying_key().as_bytes()).unwrap()
    };
    let (size, root) = (TreeSize(size), LogHash::from_bytes([7; 32]));
    let text = Checkpoint { origin: KeyName::parse(ORIGIN).unwrap(), size, root }.note_text();
    let log = key("log");
    let mut signatures =
        vec![NoteSignature::of_log(&verifier(ORIGIN, SignatureType::Ed25519, &log), &log.sign(text.as_bytes()).to_bytes())];
    for node in ["node-2", "node-3"] {
        let (key, unix_s) = (key(node), 1_800_000_000);
        let name = verifier(&format!("{TRUST_DOMAIN}/{node}"), SignatureType::CosignatureV1, &key);
        signatures.push(NoteSignature::of_cosigner(&name, unix_s, &key.sign(&cosignature_signed_bytes(unix_s, &text)).to_bytes()));
    }
    SignedNote::new(text, signatures).unwrap().encode().into_bytes()
}

#[tokio::test]
async fn what_covers_more_than_a_node_has_is_compared_once_it_has_as_much() {
    let mut world = World::found(3, Tls::Mutual).await;
    let mut gateway = world.collector("gateway").await;
    let size = append_through(&world, &mut gateway, &[0]).await + 1;
    world.published(0, size).await;
    // Shown once, and followed by larger ones: the small one must not be lost by that, nor by who sends it says that it is.
    let mut node_2 = peer_at(&world, 0, "node-2");
    for ahead in [size + 3, size + 1_000, size + 2_000] {
        let shown = PublishedCheckpoint { checkpoint: of_another_history(&world, ahead), node_id: 3 };
        node_2.exchange_checkpoint(shown).await.unwrap();
    }
    let mut shown = world.cluster.take(0).unwrap();
    while append_through(&world, &mut gateway, &[1, 2]).await + 1 < size + 3 {}
    assert_eq!(shown.ended(PATIENCE).await.unwrap().code(), Some(14));
    let log = fs::read_to_string(world.cluster.log(world.node(0))).unwrap();
    assert!(log.contains(&format!("at size {} the cluster published", size + 3)), "{log}");
    assert!(log.contains("node 2 shows it"), "the certificate says who shows it: {log}");
}

#[tokio::test]
async fn a_node_that_ends_shows_the_others_its_own_checkpoint_once_more() {
    let mut world = World::found(3, Tls::Off).await;
    let mut gateway = world.collector("gateway").await;
    let size = append_through(&world, &mut gateway, &[0]).await + 1;
    world.published(0, size).await;
    world.cluster.kill(2).unwrap();
    let other = OnlyStatus { shows: Some((1, of_another_history(&world, size))), ..Default::default() };
    let shown = Arc::clone(&other.shown);
    let listener = TcpListener::bind(world.node(2).peer).await.unwrap();
    let service = tonic::transport::Server::builder().add_service(PeerServer::new(other));
    tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut node = world.cluster.take(0).unwrap();
    assert_eq!(node.ended(PATIENCE).await.unwrap().code(), Some(14));
    // Once before it knew, as each second, and once because it does: it ends long before a second is over.
    assert_eq!(shown.load(Ordering::SeqCst), 2);
}
