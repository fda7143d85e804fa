//! The replicated state on the disk: what a restart, a snapshot and an interrupted installation leave.

use std::fs;

use openraft::{Entry, EntryPayload, Membership, RaftSnapshotBuilder as _, storage::RaftStateMachine as _};
use proofline_ledger::{Change, Changes, Direction, KeyRange, Row, Store as _, StoreFault, Table};
use proofline_node::{
    exit::ExitCode,
    failure,
    replica::{Machine, TypeConfig},
    store::{StateStore, StateWriter, StoreError},
};

use crate::world::{ORIGIN, World, log_id};

fn open(world: &World) -> (StateStore, StateWriter) {
    StateStore::open(&world.dir()).unwrap()
}

fn machine(world: &World) -> (Machine, StateStore, std::thread::JoinHandle<()>) {
    let (store, writer) = open(world);
    let (reporter, _) = failure::channel();
    let (machine, thread) = Machine::start(store.clone(), writer, ORIGIN, reporter).unwrap();
    (machine, store, thread)
}

fn blank(index: u64) -> Entry<TypeConfig> {
    Entry { log_id: log_id(1, index), payload: EntryPayload::Blank }
}

fn membership(index: u64) -> Entry<TypeConfig> {
    let membership = Membership::new(vec![std::iter::once(1).collect()], None);
    Entry { log_id: log_id(1, index), payload: EntryPayload::Membership(membership) }
}

fn rows(of: &[(&[u8], &[u8])]) -> Changes {
    let change = |(key, value): &(&[u8], &[u8])| Change { table: Table::Entries, key: key.to_vec(), value: Some(value.to_vec()) };
    Changes { rows: of.iter().map(change).collect() }
}

fn names_in(world: &World) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(world.dir().state()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_commit_is_read_back_with_its_position() {
    let world = World::new();
    let (store, writer) = open(&world);
    writer.commit(&rows(&[(b"key", b"value")]), &log_id(1, 7), None).unwrap();
    assert_eq!(store.view().get(Table::Entries, b"key").unwrap(), Some(b"value".to_vec()));
    assert_eq!(store.view().get(Table::Statements, b"key").unwrap(), None);
    assert_eq!(store.view().position().unwrap().applied, Some(log_id(1, 7)));
}

#[test]
fn a_scan_walks_its_range_both_ways_and_stops_at_its_limit() {
    let world = World::new();
    let (store, writer) = open(&world);
    writer.commit(&rows(&[(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")]), &log_id(1, 1), None).unwrap();
    let scan = |range: KeyRange<'_>, direction, limit| -> Vec<Vec<u8>> {
        let rows = store.view().scan(Table::Entries, range, direction, limit).unwrap();
        rows.into_iter().map(|Row { key, .. }| key).collect()
    };
    let range = || KeyRange { from: b"a", to: b"d" };
    assert_eq!(scan(range(), Direction::Ascending, 9), [b"a", b"b", b"c"]);
    assert_eq!(scan(range(), Direction::Descending, 9), [b"c", b"b", b"a"]);
    assert_eq!(scan(range(), Direction::Descending, 2), [b"c", b"b"]);
    assert!(scan(KeyRange { from: b"d", to: b"a" }, Direction::Ascending, 9).is_empty());
}

#[test]
fn what_was_flushed_survives_and_what_was_not_is_missing_as_a_whole() {
    let world = World::new();
    let copy = world.root.path().join("copy");
    {
        let (store, writer) = open(&world);
        writer.commit(&rows(&[(b"a", b"1")]), &log_id(1, 1), None).unwrap();
        store.flush_durably().unwrap();
        writer.commit(&rows(&[(b"b", b"2")]), &log_id(1, 2), None).unwrap();
        // The power fails: what the disk holds now is what the next start finds.
        copy_directory(&world.dir().state(), &copy);
    }
    fs::remove_dir_all(world.dir().state()).unwrap();
    fs::rename(&copy, world.dir().state()).unwrap();
    let (store, _) = open(&world);
    assert_eq!(store.view().position().unwrap().applied, Some(log_id(1, 1)));
    assert_eq!(store.view().get(Table::Entries, b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.view().get(Table::Entries, b"b").unwrap(), None);
}

#[test]
fn the_log_may_go_only_when_the_snapshot_in_its_place_is_installed() {
    let (from, to) = (World::new(), World::new());
    let (store, writer) = open(&from);
    writer.commit(&rows(&[(b"key", b"value")]), &log_id(2, 12), None).unwrap();
    let snapshot = store.build_snapshot().unwrap();
    let (reader, mut receiver) = open(&to);
    receiver.commit(&rows(&[(b"key", b"older")]), &log_id(1, 5), None).unwrap();
    reader.flush_through(5).unwrap();
    let (said, says) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || said.send(reader.flush_through(12)).unwrap());
    let early = says.recv_timeout(std::time::Duration::from_millis(300));
    assert!(early.is_err(), "Raft has the log cut while the snapshot is on its way: {early:?}");
    receiver.install(&snapshot.meta, &snapshot.files).unwrap();
    says.recv_timeout(std::time::Duration::from_secs(20)).unwrap().unwrap();
    waiting.join().unwrap();
}

#[test]
fn damage_that_a_reader_finds_is_announced_and_does_not_go_out_in_a_snapshot() {
    let world = World::new();
    {
        let (store, writer) = open(&world);
        for index in 0..2_000_u64 {
            writer.commit(&rows(&[(&index.to_be_bytes(), &[7; 300])]), &log_id(1, index), None).unwrap();
        }
        store.flush_durably().unwrap();
        store.build_snapshot().unwrap().files.verify().unwrap();
    }
    let tables = walk(&world.dir().state()).into_iter().filter(|path| path.extension().is_some_and(|it| it == "sst"));
    let largest = tables.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();

    let (store, _) = open(&world);
    let snapshot = store.build_snapshot().unwrap();
    let refused = snapshot.files.verify().unwrap_err();
    assert!(matches!(refused, StoreError::Corrupted { .. }), "{refused}");
    assert_eq!(*store.damage().borrow(), None, "nobody has read it here");
    let found = (0..2_000_u64).find_map(|index| store.view().get(Table::Entries, &index.to_be_bytes()).err());
    assert!(matches!(found, Some(StoreFault::Corrupted { .. })), "{found:?}");
    assert!(store.damage().borrow().as_ref().is_some_and(|known| known.contains("checksum")));
}

fn walk(under: &std::path::Path) -> Vec<std::path::PathBuf> {
    let (files, directories): (Vec<_>, Vec<_>) = fs::read_dir(under).unwrap().map(|it| it.unwrap().path()).partition(|it| it.is_file());
    files.into_iter().chain(directories.iter().flat_map(|it| walk(it))).collect()
}

#[test]
fn a_snapshot_made_while_entries_are_applied_holds_exactly_what_it_says() {
    let (from, to) = (World::new(), World::new());
    let (store, writer) = open(&from);
    let (reader, mut receiver) = open(&to);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let applying = std::thread::spawn(move || {
        let mut index = 0_u64;
        while stopped.try_recv().is_err() {
            writer.commit(&rows(&[(&index.to_be_bytes(), b"row")]), &log_id(1, index), None).unwrap();
            index += 1;
        }
    });
    for _ in 0..5 {
        let snapshot = store.build_snapshot().unwrap();
        receiver.install(&snapshot.meta, &snapshot.files).unwrap();
        let all = KeyRange { from: &[0], to: &[0xff] };
        let found = reader.view().scan(Table::Entries, all, Direction::Ascending, usize::MAX).unwrap().len() as u64;
        assert_eq!(found, snapshot.meta.last_log_id.map_or(0, |at| at.index + 1));
    }
    stop.send(()).unwrap();
    applying.join().unwrap();
}

#[tokio::test]
async fn applied_entries_move_the_position_and_are_announced() {
    let world = World::new();
    let (mut machine, store, _) = machine(&world);
    let mut progress = machine.progress();
    machine.apply([blank(0), membership(1), blank(2)]).await.unwrap();
    let position = store.view().position().unwrap();
    assert_eq!(position.applied, Some(log_id(1, 2)));
    assert_eq!(*position.membership.log_id(), Some(log_id(1, 1)));
    assert_eq!(progress.borrow_and_update().applied.map(|at| at.0), Some(2));
}

#[tokio::test]
async fn a_built_snapshot_is_found_again_after_a_restart() {
    let world = World::new();
    let (mut built, store, thread) = machine(&world);
    built.apply([membership(0), blank(1)]).await.unwrap();
    let meta = built.get_snapshot_builder().await.build_snapshot().await.unwrap().meta;
    drop((built, store));
    thread.join().unwrap();
    let (mut restarted, _, _) = machine(&world);
    let found = restarted.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(found.meta, meta);
    assert_eq!(names_in(&world), ["CURRENT", "db-1", "snapshot-2"]);
}

#[tokio::test]
async fn a_newer_snapshot_replaces_the_older_one() {
    let world = World::new();
    let (mut machine, _store, _) = machine(&world);
    for index in 0..3 {
        machine.apply([blank(index)]).await.unwrap();
        machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    }
    assert_eq!(names_in(&world), ["CURRENT", "db-1", "snapshot-4"]);
}

#[tokio::test]
async fn a_snapshot_on_its_way_keeps_its_files_when_a_newer_one_is_made() {
    let world = World::new();
    let (mut machine, _store, _) = machine(&world);
    machine.apply([blank(0)]).await.unwrap();
    let sending = machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    machine.apply([blank(1)]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(names_in(&world), ["CURRENT", "db-1", "snapshot-2", "snapshot-3"]);
    drop(sending);
    assert_eq!(names_in(&world), ["CURRENT", "db-1", "snapshot-3"]);
}

#[tokio::test]
async fn the_store_knows_where_the_snapshots_end_that_are_on_their_way() {
    let world = World::new();
    let (mut machine, store, _) = machine(&world);
    machine.apply([blank(0), blank(1)]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(store.oldest_lent(), None);
    let sending = machine.get_current_snapshot().await.unwrap().unwrap();
    machine.apply([blank(2)]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let newer = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(store.oldest_lent(), Some(1));
    drop(sending);
    assert_eq!(store.oldest_lent(), Some(2));
    drop(newer);
    assert_eq!(store.oldest_lent(), None);
}

#[tokio::test]
async fn an_installed_snapshot_replaces_the_state_while_old_readers_keep_theirs() {
    let (from, to) = (World::new(), World::new());
    let (mut leader, _leader_store, _) = machine(&from);
    leader.apply([membership(0), blank(1), blank(2)]).await.unwrap();
    let snapshot = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();

    let (mut follower, store, _) = machine(&to);
    follower.apply([blank(0)]).await.unwrap();
    let old_reader = store.view();
    follower.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();

    assert_eq!(old_reader.position().unwrap().applied, Some(log_id(1, 0)));
    assert_eq!(store.view().position().unwrap().applied, Some(log_id(1, 2)));
    assert_eq!(names_in(&to), ["CURRENT", "db-1", "db-2", "snapshot-2"]);
    drop(old_reader);
    assert_eq!(names_in(&to), ["CURRENT", "db-2", "snapshot-2"]);
}

#[tokio::test]
async fn an_installed_state_survives_a_restart_and_goes_on() {
    let (from, to) = (World::new(), World::new());
    let (mut leader, _leader_store, _) = machine(&from);
    leader.apply([membership(0), blank(1), blank(2)]).await.unwrap();
    let snapshot = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();
    {
        let (mut follower, _store, thread) = machine(&to);
        follower.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
        drop((follower, _store));
        thread.join().unwrap();
    }
    let (mut restarted, store, _) = machine(&to);
    assert_eq!(restarted.applied_state().await.unwrap().0, Some(log_id(1, 2)));
    assert_eq!(restarted.get_current_snapshot().await.unwrap().unwrap().meta, snapshot.meta);
    restarted.apply([blank(3)]).await.unwrap();
    assert_eq!(store.view().position().unwrap().applied, Some(log_id(1, 3)));
}

#[tokio::test]
async fn a_snapshot_that_holds_something_else_than_announced_changes_nothing() {
    let (from, to) = (World::new(), World::new());
    let (mut leader, _leader_store, _) = machine(&from);
    leader.apply([membership(0), blank(1)]).await.unwrap();
    let mut snapshot = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();
    snapshot.meta.last_log_id = Some(log_id(1, 9));
    let (mut follower, store, _) = machine(&to);
    follower.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap_err();
    assert_eq!(store.view().position().unwrap().applied, None);
    assert_eq!(names_in(&to), ["CURRENT", "db-1"]);
}

#[test]
fn what_an_interrupted_installation_left_is_removed_at_the_next_start() {
    let world = World::new();
    drop(open(&world));
    for rubbish in ["db-7", "snapshot-7", "incoming-8"] {
        fs::create_dir(world.dir().state().join(rubbish)).unwrap();
        fs::write(world.dir().state().join(rubbish).join("000012.sst"), b"half a file").unwrap();
    }
    fs::write(world.dir().state().join("CURRENT.new"), b"{").unwrap();
    drop(open(&world));
    assert_eq!(names_in(&world), ["CURRENT", "db-1"]);
}

#[tokio::test]
async fn a_state_whose_pointer_is_gone_is_refused_and_left_as_it_is() {
    let world = World::new();
    let (mut machine, store, thread) = machine(&world);
    machine.apply([blank(0)]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    drop((machine, store));
    thread.join().unwrap();
    fs::remove_file(world.dir().state().join("CURRENT")).unwrap();
    let error = StateStore::open(&world.dir()).unwrap_err();
    assert_eq!(ExitCode::from(&error), ExitCode::StorageDamaged, "{error}");
    assert_eq!(names_in(&world), ["db-1", "snapshot-2"]);
}

#[test]
fn a_first_start_that_was_interrupted_is_begun_again() {
    let world = World::new();
    fs::create_dir(world.dir().state().join("db-1")).unwrap();
    drop(open(&world));
    assert_eq!(names_in(&world), ["CURRENT", "db-1"]);
}

pub(crate) fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), target) {
                // The database removes what it no longer needs while it is copied.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
                copied => drop(copied.unwrap()),
            }
        }
    }
}
