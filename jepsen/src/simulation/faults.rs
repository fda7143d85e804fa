//! What breaks a simulated cluster, and what heals it.

use std::{sync::Arc, time::Duration};

use super::{
    SimulatedFault as Fault,
    node::{crash, start},
    world::World,
};
use crate::random::Random;

/// Breaks the cluster again and again as long as the safety phase lasts. What is taken away later is taken away by itself.
pub(super) async fn break_it(world: &Arc<World>) {
    let lot = &mut Random::of(world.seed, "faults");
    let until = world.knobs.safety_ms * 1_000_000;
    while world.now_ns() < until {
        let every = world.knobs.fault_every_ms;
        tokio::time::sleep(Duration::from_millis(lot.between(every / 2, every * 3 / 2))).await;
        let Some(fault) = lot.one_of(&world.knobs.faults).copied() else { return };
        inject(world, fault, lot);
    }
}

fn inject(world: &Arc<World>, fault: Fault, lot: &mut Random) {
    let any = lot.between(1, world.knobs.nodes);
    let leader = world.leader().unwrap_or(any);
    let others = |node: u64| world.nodes().filter(move |other| *other != node);
    let long = Duration::from_millis(lot.between(100, 2_500));
    world.note(&format!("fault {fault:?}"));
    match fault {
        Fault::Crash => crash_for_a_while(world, any, long),
        Fault::CrashLeader => crash_for_a_while(world, leader, long),
        Fault::CrashAll => {
            for node in world.nodes() {
                crash_for_a_while(world, node, Duration::from_millis(lot.between(50, 1_000)));
            }
        }
        Fault::Stall => stall(world, any, long),
        Fault::Isolate => cut(world, others(any).flat_map(|other| [(any, other), (other, any)]).collect(), long),
        Fault::IsolateLeader => cut(world, others(leader).flat_map(|other| [(leader, other), (other, leader)]).collect(), long),
        Fault::Bridge => {
            let other = any % world.knobs.nodes + 1;
            cut(world, vec![(any, other), (other, any)], long);
        }
        Fault::Deaf => cut(world, others(any).map(|other| (any, other)).collect(), long),
        Fault::ClockSet => {
            let most = world.knobs.clock_off_ms_max;
            let off = i64::try_from(lot.between(0, most)).unwrap_or(0) - i64::try_from(most / 2).unwrap_or(0);
            world.shared().clocks_off.insert(any, off);
        }
    }
}

fn crash_for_a_while(world: &Arc<World>, node: u64, long: Duration) {
    crash(world, node);
    let world = Arc::clone(world);
    tokio::spawn(async move {
        tokio::time::sleep(long).await;
        start(&world, node).await;
    });
}

fn stall(world: &Arc<World>, node: u64, long: Duration) {
    let Some(running) = world.running(node) else { return };
    world.shared().counts.stalls += 1;
    running.stall.send_replace(true);
    tokio::spawn(async move {
        tokio::time::sleep(long).await;
        running.stall.send_replace(false);
    });
}

fn cut(world: &Arc<World>, links: Vec<(u64, u64)>, long: Duration) {
    let change = |world: &World, by: i64| {
        let mut shared = world.shared();
        for link in &links {
            let cuts = shared.cut.entry(*link).or_default();
            *cuts = cuts.saturating_add_signed(by);
        }
    };
    change(world, 1);
    world.shared().counts.partitions += 1;
    let (world, links) = (Arc::clone(world), links.clone());
    tokio::spawn(async move {
        tokio::time::sleep(long).await;
        let mut shared = world.shared();
        for link in links {
            let cuts = shared.cut.entry(link).or_default();
            *cuts = cuts.saturating_sub(1);
        }
    });
}

/// Ends all faults and starts every node that is not gone for good. With some seeds one node is.
pub(super) async fn heal(world: &Arc<World>) {
    world.note("healed");
    if world.knobs.leaves_one {
        let gone = Random::of(world.seed, "gone").between(1, world.knobs.nodes);
        crash(world, gone);
        world.shared().gone.insert(gone);
    }
    {
        let mut shared = world.shared();
        shared.is_broken = false;
        shared.cut.clear();
        for running in shared.running.values() {
            running.stall.send_replace(false);
        }
    }
    for node in world.nodes() {
        start(world, node).await;
    }
}
