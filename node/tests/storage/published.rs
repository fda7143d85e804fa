//! What a node serves of the notes that were replicated to it.

use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_ledger::{Change, Changes, LogTree, Table, TreeSize, UnixNanos};
use proofline_node::{
    publisher::{Diverged, follow_published},
    replica::{LogIndex, Progress},
    store::{StateStore, StateWriter},
};
use proofline_verifier::{Checkpoint, KeyName, LogHash, NoteSignature, SignatureType, SignedNote, TreeHash as _, VerifierKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::world::{ORIGIN, World, log_id};

/// A note over the empty tree, or over one that this node does not have.
fn note(root: LogHash) -> Vec<u8> {
    let origin = KeyName::parse(ORIGIN).unwrap();
    let text = Checkpoint { origin: origin.clone(), size: proofline_verifier::TreeSize(0), root }.note_text();
    let key = SigningKey::from_bytes(&[7; 32]);
    let log = VerifierKey::new(origin, SignatureType::Ed25519, key.verifying_key().as_bytes()).unwrap();
    let line = NoteSignature::of_log(&log, &key.sign(text.as_bytes()).to_bytes());
    SignedNote::new(text, vec![line]).unwrap().encode().into_bytes()
}

fn own_root(store: &StateStore) -> LogHash {
    LogHash::from_bytes(LogTree::new(&*store.view(), TreeSize(0)).root().unwrap().0)
}

fn replicate(writer: &StateWriter, progress: &watch::Sender<Progress>, at: u64, note: Vec<u8>) {
    let change = Change { table: Table::Checkpoint, key: Vec::new(), value: Some(note) };
    writer.commit(&Changes { rows: vec![change] }, &log_id(1, at), None).unwrap();
    progress.send_replace(Progress {
        applied: Some(LogIndex(at)),
        tree_size: TreeSize(0),
        last_committed: UnixNanos(0),
        installed: 0,
        taken: TreeSize(0),
        committed: TreeSize(0),
        containment_generation: 0,
        outlet_generation: 0,
        erasures: 0,
    });
}

#[tokio::test]
async fn a_note_that_cannot_be_read_is_passed_over_and_one_of_another_tree_ends_the_node() {
    let world = World::new();
    let (store, writer) = StateStore::open(&world.dir()).unwrap();
    let (progress, follows) = watch::channel(Progress {
        applied: None,
        tree_size: TreeSize(0),
        last_committed: UnixNanos(0),
        installed: 0,
        taken: TreeSize(0),
        committed: TreeSize(0),
        containment_generation: 0,
        outlet_generation: 0,
        erasures: 0,
    });
    let (published, mut served) = watch::channel(None);
    let good = note(own_root(&store));
    let mut twice = good.clone();
    let line = String::from_utf8(good.clone()).unwrap().lines().last().unwrap().to_owned();
    twice.extend_from_slice(format!("{line}\n").as_bytes());
    replicate(&writer, &progress, 1, twice);
    let following = tokio::spawn(follow_published(store.clone(), follows, published, CancellationToken::new()));
    // The runtime of a test has one thread: the task runs until it waits.
    tokio::task::yield_now().await;
    assert!(served.borrow().is_none() && !following.is_finished());
    replicate(&writer, &progress, 2, good.clone());
    let within = Duration::from_secs(20);
    let seen = tokio::time::timeout(within, served.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!(seen.note, good);
    replicate(&writer, &progress, 3, note(LogHash::from_bytes([9; 32])));
    let ended = tokio::time::timeout(within, following).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Diverged::OtherTree { .. })), "{ended:?}");
}
