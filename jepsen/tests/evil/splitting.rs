//! One leader, two histories: each half of the cluster cosigns its own, and both have two cosignatures of three.

use std::{collections::BTreeMap, time::Duration};

use ed25519_dalek::SigningKey;
use proofline_client::{Client, Comparison, HeldCheckpoints, HeldError, Profile, RetryPolicy};
use proofline_cluster::witness::{NotCosigned, Witness};
use proofline_proto::v1;
use proofline_verifier::Policy;

use crate::world::{EVIL, HONEST, World};

const PATIENCE: Duration = Duration::from_secs(30);
const TRIES: usize = 3;

/// Collects what a node publishes, by size, until it ends.
async fn published_by(world: &World, place: usize) -> tokio::task::JoinHandle<BTreeMap<u64, Vec<u8>>> {
    let client = Client::connect(&Profile::load(&world.profile(place)).unwrap(), RetryPolicy::default()).unwrap();
    let mut notes = client.audit().watch_checkpoints(v1::WatchCheckpointsRequest {}).await.unwrap().into_inner();
    tokio::spawn(async move {
        let mut seen = BTreeMap::new();
        while let Ok(Some(note)) = notes.message().await {
            let size = std::str::from_utf8(&note.checkpoint).unwrap().lines().nth(1).unwrap().parse().unwrap();
            seen.insert(size, note.checkpoint);
        }
        seen
    })
}

/// What each half was shown, by size, until it ended.
struct Halves {
    world: World,
    here: BTreeMap<u64, Vec<u8>>,
    there: BTreeMap<u64, Vec<u8>>,
}

/// Has a leader show two histories until a half finds out. `None` when chance had it that there was less to find: a half found out
/// before it had published its own history, or the evil node lost the lead, or the halves published no size in common.
async fn split() -> Option<Halves> {
    let mut world = World::found("evil-forked-followers").await;
    world.lead().await;
    let (shown_here, shown_there) = (published_by(&world, HONEST).await, published_by(&world, 2).await);
    let (mut one, mut other) = (world.cluster.take(HONEST).unwrap(), world.cluster.take(2).unwrap());
    let works_on = async {
        // Work goes on, so that both histories are published.
        for run in 1.. {
            world.suspend(EVIL, &format!("run-{run}"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let both = async { tokio::join!(one.ended(PATIENCE), other.ended(PATIENCE)) };
    let (one, other) = tokio::select! {
        ended = both => ended,
        () = works_on => unreachable!(),
    };
    let log = || format!("{}\n{}", world.log(HONEST), world.log(2));
    assert!(one.is_ok() || other.is_ok(), "nobody found out:\n{}", log());
    for status in [&one, &other].into_iter().flatten() {
        assert_eq!(status.code(), Some(14), "{}", log());
    }
    let found_out = |place| world.log(place).contains("and more than half of the registered nodes cosigned it");
    if one.is_err() || other.is_err() || !found_out(HONEST) || !found_out(2) {
        return None;
    }
    let (here, there) = (shown_here.await.unwrap(), shown_there.await.unwrap());
    let contradicts = |(size, note): (&u64, &Vec<u8>)| there.get(size).is_some_and(|other| text(other) != text(note));
    let contradicted = here.iter().any(contradicts);
    contradicted.then_some(Halves { world, here, there })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_shows_two_histories_is_found_out_by_both_halves() {
    let mut halves = None;
    for _ in 0..TRIES {
        if halves.is_none() {
            halves = split().await;
        }
    }
    let Halves { world, here, there } = halves.expect("both halves find out");

    // Each history alone satisfies a policy of two in three; together they are the proof that somebody signed both.
    let policy = Policy::parse(&std::fs::read(world.plan().policy()).unwrap()).unwrap();
    let contradicts = |(size, note): &(&u64, &Vec<u8>)| there.get(*size).is_some_and(|other| text(other) != text(note));
    let (size, note) = here.iter().find(contradicts).expect("both published some size");
    for shown in [note, &there[size]] {
        let cosigners: Vec<_> = policy.verify_checkpoint(shown).unwrap().cosigners.into_iter().map(|it| it.name).collect();
        assert!(cosigners.contains(&"proofline.local/node-1".to_owned()), "{cosigners:?}");
    }
    // Whoever remembers one of them does not take the other.
    let client = Client::connect(&Profile::load(&world.profile(EVIL)).unwrap(), RetryPolicy::default()).unwrap();
    let held = HeldCheckpoints::at(&world.path("kept.json"));
    assert_eq!(held.compare(&client, &policy, note).await.unwrap().1, Comparison::First);
    let refused = held.compare(&client, &policy, &there[size]).await.unwrap_err();
    assert!(matches!(refused, HeldError::Rewritten { .. }) && refused.to_string().starts_with("THE LOG WAS REWRITTEN"), "{refused}");

    // A witness that cosigned one cosigns the other never, whatever proof comes with it.
    let log = String::from_utf8(std::fs::read(world.plan().policy()).unwrap()).unwrap();
    let log = log.lines().find(|line| line.starts_with("log ")).unwrap().to_owned() + "\nquorum none\n";
    let memory = world.path("witness");
    let witness = Witness::open(log.as_bytes(), "witness.example/w1", SigningKey::from_bytes(&[2; 32]), &memory).unwrap();
    let request = |old: u64, note: &[u8]| format!("old {old}\n\n{}", std::str::from_utf8(note).unwrap());
    witness.add_checkpoint(request(0, note).as_bytes()).await.unwrap();
    let refused = witness.add_checkpoint(request(*size, &there[size]).as_bytes()).await.unwrap_err();
    assert!(matches!(refused, NotCosigned::Inconsistent(_)), "{refused:?}");
}

/// The text of a checkpoint: size and root, without who signed when.
fn text(note: &[u8]) -> &str {
    std::str::from_utf8(note).unwrap().split("\n\n").next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_nodes_accuse_nobody_while_they_compare() {
    let mut world = World::found("none").await;
    world.lead().await;
    for run in 0..5 {
        world.suspend(run % 3, &format!("run-{run}")).expect(0, "proven in the tree");
    }
    world.cluster.kill(HONEST).unwrap();
    world.suspend(2, "run-6").expect(0, "proven in the tree");
    world.cluster.start(HONEST).unwrap();
    world.cluster.ready(HONEST).await.unwrap();
    world.suspend(HONEST, "run-7").expect(0, "proven in the tree");
    world.ask_all(&["status"]).expect(0, "ok");
    world.accuses_nobody();
}
