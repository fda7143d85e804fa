//! Readers beside a journal whose records go: as tasks that replicate do, also those of a lead that was just lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use openraft::{
    RaftLogReader as _,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _},
};
use proofline_node::journal::JournalReader;

use crate::world::{World, entry, indexes, log_id};

const RECORDS: u64 = 3_000;
/// Behind these, records are still in memory.
const PURGED: u64 = 1_900;
const READERS: u64 = 4;

/// Reads around the place where records go, until it is told to stop. Returns how often it got anything.
async fn read_around(mut reader: JournalReader, front: Arc<AtomicU64>, done: Arc<AtomicBool>, offset: u64) -> u64 {
    let mut got_some = 0;
    while !done.load(Ordering::Relaxed) {
        // What goes next, and what comes behind it.
        let start = (front.load(Ordering::Relaxed) + offset).saturating_sub(4);
        let got = reader.limited_get_log_entries(start, start + 20).await.unwrap();
        assert!(got.iter().zip(start..).all(|(entry, index)| entry.log_id.index == index), "a run from {start} on: {got:?}");
        got_some += u64::from(!got.is_empty());
    }
    got_some
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reads_while_records_go_gets_a_run_from_where_it_asked_or_nothing() {
    let world = World::new();
    world
        .run(async |journal| {
            for first in (0..RECORDS).step_by(100) {
                journal.blocking_append((first..first + 100).map(|index| entry(1, index))).await.unwrap();
            }
            let (front, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let mut readers = Vec::new();
            for number in 0..READERS {
                let reader = journal.get_log_reader().await;
                readers.push(tokio::spawn(read_around(reader, front.clone(), done.clone(), 2 * number)));
            }
            for upto in (0..PURGED).step_by(5) {
                front.store(upto, Ordering::Relaxed);
                journal.purge(log_id(1, upto)).await.unwrap();
            }
            for term in 2..60 {
                // The end is replaced, as a new leader does.
                front.store(RECORDS - 12, Ordering::Relaxed);
                journal.truncate(log_id(if term == 2 { 1 } else { term - 1 }, RECORDS - 10)).await.unwrap();
                journal.blocking_append((RECORDS - 10..RECORDS).map(|index| entry(term, index))).await.unwrap();
            }
            done.store(true, Ordering::Relaxed);
            for reader in readers {
                assert!(reader.await.unwrap() > 0, "something was read");
            }
        })
        .await;
}

#[tokio::test]
async fn who_asks_for_what_was_purged_gets_nothing_and_not_what_comes_behind() {
    let world = World::new();
    world
        .run(async |journal| {
            journal.blocking_append((0..10).map(|index| entry(1, index))).await.unwrap();
            journal.purge(log_id(1, 4)).await.unwrap();
            let mut reader = journal.get_log_reader().await;
            assert_eq!(reader.limited_get_log_entries(4, 8).await.unwrap().len(), 0);
            assert_eq!(reader.limited_get_log_entries(5, 8).await.unwrap().len(), 3);
        })
        .await;
}

/// Whoever opens a journal writes what the last one left into a file of its own, and a few of them become one.
#[tokio::test]
async fn a_purge_leaves_the_record_behind_it_wherever_a_file_ends() {
    const EACH: u64 = 5;
    const TIMES: u64 = 14;
    let world = World::new();
    for first in (0..TIMES).map(|time| time * EACH) {
        world.run(async |journal| journal.blocking_append((first..first + EACH).map(|index| entry(1, index))).await.unwrap()).await;
    }
    world
        .run(async |journal| {
            for upto in 0..TIMES * EACH - 1 {
                journal.purge(log_id(1, upto)).await.unwrap();
                assert_eq!(indexes(journal).await.first(), Some(&(upto + 1)));
            }
        })
        .await;
}
