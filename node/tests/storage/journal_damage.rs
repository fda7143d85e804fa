//! What a crash, a forgetful disk or a careless hand does to a journal, and what the node makes of it.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
};

use openraft::{Vote, storage::RaftLogStorage as _};
use proofline_node::{
    data_dir::{DataDir, DataDirError, Identity},
    exit::ExitCode,
    journal::JournalError,
};

use crate::{
    state::copy_directory,
    world::{ORIGIN, World, append, entry, indexes, last, log_id},
};

async fn with_ten_entries() -> World {
    let world = World::new();
    world.run(async |journal| append(journal, 1, 0..10).await).await;
    world
}

fn refusal(world: &World) -> (JournalError, ExitCode) {
    let error = world.open().err().expect("the journal must be refused");
    let code = ExitCode::from(&error);
    (error, code)
}

fn cut(path: &std::path::Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - bytes).unwrap();
}

fn flip(path: &std::path::Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[tokio::test]
async fn an_undamaged_journal_comes_back_as_it_was() {
    let world = with_ten_entries().await;
    let found = world.run(async |journal| (indexes(journal).await, last(journal).await)).await;
    assert_eq!(found, ((0..10).collect(), Some(log_id(1, 9))));
}

#[tokio::test]
async fn entries_are_read_back_from_the_disk_as_they_were_written() {
    use openraft::RaftLogReader as _;
    let world = with_ten_entries().await;
    let found = world.run(async |journal| journal.try_get_log_entries(3..6).await.unwrap()).await;
    assert_eq!(found, vec![entry(1, 3), entry(1, 4), entry(1, 5)]);
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_is_refused() {
    let world = with_ten_entries().await;
    let wal = world.wal();
    flip(&wal, fs::metadata(&wal).unwrap().len() / 2);
    let (error, code) = refusal(&world);
    assert_eq!(code, ExitCode::StorageDamaged, "{error}");
}

#[tokio::test]
async fn a_flipped_bit_in_the_last_record_is_refused() {
    let world = with_ten_entries().await;
    let wal = world.wal();
    flip(&wal, fs::metadata(&wal).unwrap().len() - 20);
    let (error, code) = refusal(&world);
    assert_eq!(code, ExitCode::StorageDamaged, "{error}");
}

#[tokio::test]
async fn a_last_record_lost_as_a_torn_tail_is_refused() {
    let world = with_ten_entries().await;
    cut(&world.wal(), 20);
    let (error, code) = refusal(&world);
    assert!(matches!(error, JournalError::Regressed { mark, last: Some(last) } if mark == log_id(1, 9) && last == log_id(1, 8)), "{error}");
    assert_eq!(code, ExitCode::StorageRegressed);
}

#[tokio::test]
async fn a_tail_lost_below_the_mark_is_refused() {
    let world = with_ten_entries().await;
    cut(&world.wal(), 1000);
    let (error, code) = refusal(&world);
    assert!(matches!(error, JournalError::Regressed { last: Some(last), .. } if last < log_id(1, 9)), "{error}");
    assert_eq!(code, ExitCode::StorageRegressed);
}

#[tokio::test]
async fn a_journal_that_is_gone_is_refused() {
    let world = with_ten_entries().await;
    fs::remove_dir_all(world.dir().journal()).unwrap();
    let (error, code) = refusal(&world);
    assert!(matches!(error, JournalError::Regressed { last: None, .. }), "{error}");
    assert_eq!(code, ExitCode::StorageRegressed);
}

#[tokio::test]
async fn a_tail_above_the_mark_is_kept() {
    // The crash between the log's fsync and the mark: the mark is one append behind.
    let world = with_ten_entries().await;
    let mark = fs::read(world.dir().high_water()).unwrap();
    world.run(async |journal| append(journal, 1, 10..11).await).await;
    fs::write(world.dir().high_water(), mark).unwrap();
    assert_eq!(world.run(async |journal| last(journal).await).await, Some(log_id(1, 10)));
}

#[tokio::test]
async fn a_deleted_mark_is_refused() {
    let world = with_ten_entries().await;
    fs::remove_file(world.dir().high_water()).unwrap();
    let (error, code) = refusal(&world);
    assert!(matches!(error, JournalError::MarkMissing { .. }), "{error}");
    assert_eq!(code, ExitCode::StorageDamaged);
}

#[tokio::test]
async fn one_bad_slot_of_the_mark_is_survived() {
    for slot in [0, 4096] {
        let world = with_ten_entries().await;
        flip(&world.dir().high_water(), slot + 30);
        assert_eq!(world.run(async |journal| last(journal).await).await, Some(log_id(1, 9)));
    }
}

#[tokio::test]
async fn two_bad_slots_of_the_mark_are_refused() {
    let world = with_ten_entries().await;
    flip(&world.dir().high_water(), 30);
    flip(&world.dir().high_water(), 4096 + 30);
    let (error, code) = refusal(&world);
    assert!(matches!(error, JournalError::MarkDamaged { .. }), "{error}");
    assert_eq!(code, ExitCode::StorageDamaged);
}

#[tokio::test]
async fn a_directory_of_another_cluster_is_refused_before_anything_is_opened() {
    let world = with_ten_entries().await;
    for (origin, node_id) in [("example.org/other", 1), (ORIGIN, 2)] {
        let identity = Identity { origin: origin.to_owned(), node_id };
        let error = DataDir::open(&world.data(), identity).unwrap_err();
        assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
        assert_eq!(ExitCode::from(&error), ExitCode::ForeignDataDirectory);
    }
}

#[tokio::test]
async fn the_journal_of_another_node_under_this_mark_is_refused() {
    let (ours, theirs) = (with_ten_entries().await, World::new());
    theirs.run(async |journal| append(journal, 2, 0..10).await).await;
    fs::copy(ours.dir().high_water(), theirs.dir().high_water()).unwrap();
    let (error, code) = refusal(&theirs);
    assert!(matches!(error, JournalError::MarkContradicted { .. }), "{error}");
    assert_eq!(code, ExitCode::StorageDamaged);
}

#[tokio::test]
async fn a_legal_truncation_leaves_a_journal_that_opens() {
    let world = with_ten_entries().await;
    world.run(async |journal| journal.truncate(log_id(1, 6)).await.unwrap()).await;
    assert_eq!(world.run(async |journal| last(journal).await).await, Some(log_id(1, 5)));
}

#[tokio::test]
async fn a_crash_after_the_mark_was_lowered_for_a_truncation_leaves_the_longer_log() {
    let world = with_ten_entries().await;
    let database = world.root.path().join("copy");
    copy_directory(&world.dir().journal(), &database);
    world.run(async |journal| journal.truncate(log_id(1, 6)).await.unwrap()).await;
    fs::remove_dir_all(world.dir().journal()).unwrap();
    fs::rename(&database, world.dir().journal()).unwrap();
    assert_eq!(world.run(async |journal| last(journal).await).await, Some(log_id(1, 9)));
}

#[tokio::test]
async fn entries_after_a_truncation_are_chained_to_what_stayed() {
    let world = with_ten_entries().await;
    world
        .run(async |journal| {
            journal.truncate(log_id(1, 6)).await.unwrap();
            append(journal, 2, 6..8).await;
        })
        .await;
    assert_eq!(world.run(async |journal| last(journal).await).await, Some(log_id(2, 7)));
}

#[tokio::test]
async fn a_purged_journal_opens_from_its_purge_point() {
    let world = with_ten_entries().await;
    world.run(async |journal| journal.purge(log_id(1, 6)).await.unwrap()).await;
    assert_eq!(world.run(async |journal| indexes(journal).await).await, vec![7, 8, 9]);
}

#[tokio::test]
async fn a_purge_beyond_the_end_leaves_an_empty_journal_that_goes_on_behind_it() {
    let world = with_ten_entries().await;
    world
        .run(async |journal| {
            journal.purge(log_id(3, 100)).await.unwrap();
            append(journal, 3, 101..103).await;
        })
        .await;
    assert_eq!(world.run(async |journal| indexes(journal).await).await, vec![101, 102]);
}

#[tokio::test]
async fn a_state_that_contradicts_the_end_of_the_log_replaces_it() {
    // A snapshot was installed, and the crash came before the purge. The log's last term is the higher one.
    let world = World::new();
    world.run(async |journal| append(journal, 5, 0..11).await).await;
    let found = world
        .run(async |journal| {
            journal.follow_state(Some(log_id(4, 7))).await.unwrap();
            append(journal, 6, 8..9).await;
            indexes(journal).await
        })
        .await;
    assert_eq!(found, vec![8]);
    assert_eq!(world.run(async |journal| indexes(journal).await).await, vec![8]);
}

#[tokio::test]
async fn a_state_behind_the_purge_point_is_refused() {
    let world = with_ten_entries().await;
    let error = world
        .run(async |journal| {
            journal.purge(log_id(1, 6)).await.unwrap();
            journal.follow_state(Some(log_id(1, 3))).await.unwrap_err()
        })
        .await;
    assert!(matches!(error, JournalError::StateBehind { .. }), "{error}");
    assert_eq!(ExitCode::from(&error), ExitCode::StorageRegressed);
}

#[tokio::test]
async fn a_vote_for_another_node_survives_a_restart() {
    let world = World::new();
    world.run(async |journal| journal.save_vote(&Vote::new_committed(7, 3)).await.unwrap()).await;
    let vote = world.run(async |journal| journal.read_vote().await.unwrap()).await;
    assert_eq!(vote, Some(Vote::new_committed(7, 3)));
}

#[tokio::test]
async fn an_own_leadership_comes_back_as_a_candidacy_of_the_same_term() {
    let world = World::new();
    world.run(async |journal| journal.save_vote(&Vote::new_committed(7, 1)).await.unwrap()).await;
    let vote = world.run(async |journal| journal.read_vote().await.unwrap()).await;
    assert_eq!(vote, Some(Vote::new(7, 1)));
}

#[tokio::test]
async fn a_lost_vote_is_refused() {
    let world = World::new();
    world.run(async |journal| journal.save_vote(&Vote::new(1, 2)).await.unwrap()).await;
    let database = world.root.path().join("copy");
    copy_directory(&world.dir().journal(), &database);
    world.run(async |journal| journal.save_vote(&Vote::new(2, 3)).await.unwrap()).await;
    fs::remove_dir_all(world.dir().journal()).unwrap();
    fs::rename(&database, world.dir().journal()).unwrap();
    let (error, code) = refusal(&world);
    assert!(matches!(error, JournalError::VoteRegressed { .. }), "{error}");
    assert_eq!(code, ExitCode::StorageRegressed);
}

#[tokio::test]
async fn the_committed_log_id_survives_an_orderly_restart() {
    let world = with_ten_entries().await;
    world.run(async |journal| journal.save_committed(Some(log_id(1, 8))).await.unwrap()).await;
    assert_eq!(world.run(async |journal| journal.read_committed().await.unwrap()).await, Some(log_id(1, 8)));
}

#[tokio::test]
async fn a_hole_is_never_appended() {
    use openraft::storage::RaftLogStorageExt as _;
    let world = with_ten_entries().await;
    world
        .run(async |journal| {
            journal.blocking_append([entry(1, 11)]).await.unwrap_err();
            assert_eq!(last(journal).await, Some(log_id(1, 9)));
        })
        .await;
}
