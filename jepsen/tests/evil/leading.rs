//! Lies of a leader: in what it proposes, and in what it acknowledges.

use crate::world::{EVIL, HONEST, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_drops_a_revocation_cannot_prove_it_and_no_follower_passes_its_word_on() {
    let mut world = World::found("evil-dropped-revoke").await;
    world.lead().await;
    world.append(HONEST, "run-1", &["look"]).expect(0, "ALLOW");
    let dropped = world.suspend(EVIL, "run-3");
    // Proven wrong where another entry has taken the place by now, else without a proof.
    assert!([3, 4].contains(&dropped.code) && dropped.out.contains("NOT PROVEN: do not rely on it"), "{dropped:?}");
    world.suspend(HONEST, "run-4").expect(5, "acknowledged what is not in this node's log");
    world.logged(HONEST, "the leader acknowledged what is not in this node's log").await;
    // Without the liar the same commands are taken and proven.
    world.cluster.kill(EVIL).unwrap();
    world.suspend(HONEST, "run-3").expect(0, "proven in the tree");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_drops_events_is_found_out_by_the_collector_at_its_next_start() {
    let mut world = World::found("evil-dropped-batch").await;
    world.lead().await;
    // The liar gives receipts; the lane is opened by the ledger, and says where it ends.
    world.append(EVIL, "run-1", &["pay"]).expect(0, "ALLOW");
    let lost = "LOST: batch 2 of epoch 1 was acknowledged, and the lane ends with batch 0 of epoch 0";
    world.append(HONEST, "run-1", &["read"]).expect(3, lost);
    // Said once. No honest follower passes the lie on.
    world.append(HONEST, "run-1", &["read"]).expect(5, "acknowledged what is not in this node's log");
    world.cluster.kill(EVIL).unwrap();
    world.append(HONEST, "run-1", &["leave"]).expect(0, "ALLOW");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_does_not_apply_a_revocation_is_contradicted_by_every_follower() {
    let mut world = World::found("evil-unapplied-revoke").await;
    world.lead().await;
    world.append(EVIL, "run-1", &["look"]).expect(0, "ALLOW");
    world.suspend(EVIL, "run-1").expect(0, "proven in the tree");
    // The word of one node; nobody cosigns it.
    world.append(EVIL, "run-1", &["pay"]).expect(0, "ALLOW");
    world.logged(HONEST, "this node and the leader do not agree on the log").await;
    world.ask(HONEST, &["status"]).expect(3, "DIVERGED");
    world.append(HONEST, "run-1", &["pay again"]).expect(5, "acknowledged what is not in this node's log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_alters_or_reorders_what_was_signed_is_refused_by_every_follower() {
    for behaviour in ["evil-forged-event", "evil-swapped-events"] {
        let mut world = World::found(behaviour).await;
        world.lead().await;
        // An acknowledgement that no follower passes on: the batch is in nobody's log but the leader's.
        world.append(HONEST, "run-1", &["look", "pay"]).expect(5, "acknowledged what is not in this node's log");
        for place in [HONEST, 2] {
            world.logged(place, "the leader proposed what nobody signed; it was refused here").await;
        }
        // Whatever comes behind it has another root there, and nobody cosigns that.
        let command = world.suspend(EVIL, "run-2");
        assert_eq!(command.code, 4, "{command:?}");
        world.logged(HONEST, "this node and the leader do not agree on the log").await;
        // Without the liar the collector appends what it signed.
        world.cluster.kill(EVIL).unwrap();
        world.append(HONEST, "run-1", &["leave"]).expect(0, "");
    }
}
