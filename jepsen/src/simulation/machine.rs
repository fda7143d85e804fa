//! The state machine of a simulated node: the ledger's own apply over a map in memory.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use openraft::{
    AnyError, Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError, StorageIOError,
    StoredMembership, storage::RaftStateMachine,
};
use proofline_ledger::{Change, Changes, Direction, KeyRange, Ledger, MapStore, Outcome, Store as _, StoreFault, Table};
use proofline_node::{
    replica::{Member, Outcomes, TypeConfig},
    store::SnapshotFiles,
};
use tokio::sync::watch;

use super::{
    Planted,
    disk::{Disk, Kept, State},
    journal::dead,
    watch::{Behind, short},
    world::{Life, ORIGIN, World, open},
};

pub(super) struct SimulatedMachine {
    world: Arc<World>,
    life: Life,
    disk: Arc<Mutex<Disk>>,
    ledger: Ledger,
    applied: watch::Sender<Option<u64>>,
}

pub(super) struct SimulatedBuilder {
    world: Arc<World>,
    life: Life,
    disk: Arc<Mutex<Disk>>,
}

impl SimulatedMachine {
    /// Starts from what the disk holds.
    pub(super) fn open(world: &Arc<World>, life: &Life, applied: watch::Sender<Option<u64>>) -> Result<Self, String> {
        let disk = world.disk(life.node);
        let ledger = Ledger::open(&open(&disk).live.store).map_err(|fault| fault.to_string())?;
        Ok(Self { world: Arc::clone(world), life: life.clone(), disk, ledger, applied })
    }

    fn apply_one(&mut self, entry: &Entry<TypeConfig>) -> Result<Outcomes, StoreFault> {
        let mut disk = open(&self.disk);
        let live = &mut disk.live;
        let after = live.applied.map(|at| at.index);
        let mut outcomes = Vec::new();
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => live.membership = StoredMembership::new(Some(entry.log_id), membership.clone()),
            EntryPayload::Normal(group) => {
                let prepared = group.prepared(ORIGIN);
                let applied = self.ledger.apply(&live.store, &prepared)?;
                group.release_prepared();
                live.store.commit(applied.changes);
                outcomes = applied.outcomes;
            }
        }
        live.applied = Some(entry.log_id);
        let happens = {
            let mut shared = self.world.shared();
            shared.disks_lot.happens(self.world.knobs.flush)
        };
        if happens {
            disk.flush();
        }
        drop(disk);
        self.report(entry.log_id, after, &outcomes);
        Ok(Outcomes::new(outcomes))
    }

    fn report(&self, log_id: LogId<u64>, after: Option<u64>, outcomes: &[Outcome]) {
        let behind = Behind {
            log_id,
            size: self.ledger.tree_size().0,
            digest: hex::encode(self.ledger.state_digest().0),
            root: hex::encode(self.ledger.log_root().0),
            answers: short(&blake3::hash(format!("{outcomes:?}").as_bytes())),
        };
        let line = format!("node {} applies {log_id}: {} entries, {}", self.life.node, behind.size, behind.digest);
        self.world.note(&line);
        self.world.shared().watch.applied(self.life.node, after, behind);
        self.applied.send_replace(Some(log_id.index));
    }
}

impl RaftStateMachine<TypeConfig> for SimulatedMachine {
    type SnapshotBuilder = SimulatedBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Member>), StorageError<u64>> {
        let disk = open(&self.disk);
        Ok((disk.live.applied, disk.live.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            self.life.pass().await.map_err(|_| dead())?;
            outcomes.push(self.apply_one(&entry).map_err(|fault| broken(&fault.to_string()))?);
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> SimulatedBuilder {
        SimulatedBuilder { world: Arc::clone(&self.world), life: self.life.clone(), disk: Arc::clone(&self.disk) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFiles>, StorageError<u64>> {
        Ok(Box::new(SnapshotFiles::named(self.world.new_path(self.life.node))))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta<u64, Member>, files: Box<SnapshotFiles>) -> Result<(), StorageError<u64>> {
        self.life.pass().await.map_err(|_| dead())?;
        let received = self.world.shared().snapshots.get(files.path()).cloned();
        let received = received.ok_or_else(|| broken("a snapshot that nobody received"))?;
        let took_us = self.world.shared().disks_lot.between(1_000, 3_000_000);
        tokio::time::sleep(Duration::from_micros(took_us)).await;
        self.life.pass().await.map_err(|_| dead())?;
        self.world.note(&format!("node {} installs {meta}", self.life.node));
        let mut state = State::clone(&received);
        if self.world.planted == Some(Planted::SnapshotForgetsBatches) {
            forget(&mut state.store, Table::Statements).map_err(|fault| broken(&fault.to_string()))?;
        }
        let mut disk = open(&self.disk);
        if disk.live.applied.is_some_and(|applied| meta.last_log_id.is_none_or(|last| last.index < applied.index)) {
            self.world.find(format!("node {} goes back to an older snapshot {meta}", self.life.node));
        }
        self.ledger = Ledger::open(&state.store).map_err(|fault| broken(&fault.to_string()))?;
        disk.live = state;
        disk.flush();
        disk.snapshot = Some(Kept { meta: meta.clone(), path: files.path().to_owned() });
        self.applied.send_replace(meta.last_log_id.map(|at| at.index));
        self.world.shared().counts.installs += 1;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        Ok(open(&self.disk).snapshot.as_ref().map(raft_snapshot))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SimulatedBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        self.life.pass().await.map_err(|_| dead())?;
        let state = {
            let mut disk = open(&self.disk);
            disk.flush();
            Arc::new(disk.live.clone())
        };
        let took_us = self.world.shared().disks_lot.between(1_000, 50_000);
        tokio::time::sleep(Duration::from_micros(took_us)).await;
        self.life.pass().await.map_err(|_| dead())?;
        let path = self.world.new_path(self.life.node);
        self.world.shared().snapshots.insert(path.clone(), Arc::clone(&state));
        let snapshot_id = state.applied.map_or_else(|| "empty".to_owned(), |at| at.to_string());
        let meta = SnapshotMeta { last_log_id: state.applied, last_membership: state.membership.clone(), snapshot_id };
        self.world.note(&format!("node {} has a snapshot {meta}", self.life.node));
        let kept = Kept { meta, path };
        let snapshot = raft_snapshot(&kept);
        let mut disk = open(&self.disk);
        // One that was installed meanwhile may cover more.
        if disk.snapshot.as_ref().is_none_or(|held| held.meta.last_log_id < kept.meta.last_log_id) {
            disk.snapshot = Some(kept);
        }
        Ok(snapshot)
    }
}

fn raft_snapshot(kept: &Kept) -> Snapshot<TypeConfig> {
    Snapshot { meta: kept.meta.clone(), snapshot: Box::new(SnapshotFiles::named(kept.path.clone())) }
}

/// Removes all rows of a table.
fn forget(store: &mut MapStore, table: Table) -> Result<(), StoreFault> {
    let behind_all = [0xff; 64];
    let range = KeyRange { from: &[], to: &behind_all };
    let rows = store.scan(table, range, Direction::Ascending, usize::MAX)?;
    store.commit(Changes { rows: rows.into_iter().map(|row| Change { table, key: row.key, value: None }).collect() });
    Ok(())
}

fn broken(why: &str) -> StorageError<u64> {
    StorageIOError::write_state_machine(AnyError::error(why)).into()
}
