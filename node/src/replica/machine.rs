use std::{sync::Arc, thread::JoinHandle};

use futures::future::join_all;
use openraft::{
    AnyError, Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError, StorageIOError,
    StoredMembership, storage::RaftStateMachine,
};
use proofline_ledger::RecentKeys;
use tokio::{
    sync::{broadcast, watch},
    task::{self, JoinError},
};

use super::{
    Applies, ApplyError, Member, Outcomes, Progress, StateAt, TypeConfig,
    applier::{Applier, ApplierHandle, Command},
    start_preparing,
};
use crate::{
    failure::FailureReporter,
    store::{Position, SnapshotFiles, StateStore, StateWriter, StoreError, StoredSnapshot},
};

/// The state machine that Raft drives: hands committed entries to the apply thread, and snapshots to and from the store.
///
/// Parsing and signature checks of an apply's groups run in parallel before the entries go, in order, to the one thread
/// that applies. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Machine {
    store: StateStore,
    applier: ApplierHandle,
    progress: watch::Receiver<Progress>,
    states: broadcast::Sender<StateAt>,
    keys: RecentKeys,
    origin: Arc<str>,
}

/// Builds one snapshot of the state as it is when the build begins or shortly after.
#[derive(Debug)]
pub struct SnapshotBuilder {
    store: StateStore,
    applier: ApplierHandle,
}

impl Machine {
    /// Starts the apply thread over an opened store, for the ledger `origin`.
    ///
    /// # Errors
    /// [`ApplyError`] when the state cannot be read or the thread cannot be started.
    pub fn start(
        store: StateStore,
        writer: StateWriter,
        origin: &str,
        failures: FailureReporter,
    ) -> Result<(Self, JoinHandle<()>), ApplyError> {
        let origin: Arc<str> = Arc::from(origin);
        let applier = Applier::new(writer, Arc::clone(&origin), failures)?;
        let (progress, states, keys) = (applier.progress(), applier.states(), applier.keys());
        let (applier, thread) = applier.start()?;
        Ok((Self { store, applier, progress, states, keys, origin }, thread))
    }

    /// Returns how far this node has applied, now and as it changes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Returns what applies tell from now on.
    #[must_use]
    pub fn applies(&self) -> Applies {
        Applies { states: self.states.subscribe(), keys: self.keys.clone() }
    }

    /// Applies committed entries, which follow what was applied before. One element of the answer per entry.
    pub(super) async fn apply_entries(&self, entries: Vec<Entry<TypeConfig>>) -> Result<Vec<Outcomes>, ApplyError> {
        prepare(&entries, &self.origin).await.map_err(|_| ApplyError::Stopped)?;
        self.applier.run(Command::Apply(entries)).await
    }

    /// Reads how far the state was applied.
    pub(super) fn position(&self) -> Result<Position, StoreError> {
        self.store.view().position()
    }
}

async fn prepare(entries: &[Entry<TypeConfig>], origin: &Arc<str>) -> Result<(), JoinError> {
    let groups = entries.iter().filter_map(|entry| match &entry.payload {
        EntryPayload::Normal(group) => Some(group.clone()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    });
    join_all(start_preparing(groups, origin)).await.into_iter().collect()
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Member>), StorageError<u64>> {
        let Position { applied, membership } =
            self.position().map_err(|error| StorageIOError::read_state_machine(AnyError::new(&error)))?;
        Ok((applied, membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let applied = self.apply_entries(entries.into_iter().collect()).await;
        applied.map_err(|error| StorageIOError::write_state_machine(AnyError::new(&error)).into())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { store: self.store.clone(), applier: self.applier.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFiles>, StorageError<u64>> {
        let incoming = self.store.incoming();
        incoming.map(Box::new).map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)).into())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta<u64, Member>, files: Box<SnapshotFiles>) -> Result<(), StorageError<u64>> {
        let installed = self.applier.run(Command::Install(meta.clone(), *files)).await;
        installed.map(drop).map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error)).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        Ok(self.store.lend_snapshot().map(|stored| raft_snapshot(&stored)))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        self.build().await.map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)).into())
    }
}

impl SnapshotBuilder {
    async fn build(&self) -> Result<Snapshot<TypeConfig>, ApplyError> {
        let store = self.store.clone();
        let built = task::spawn_blocking(move || store.build_snapshot()).await.map_err(|_| ApplyError::Stopped)??;
        let snapshot = raft_snapshot(&built);
        self.applier.run(Command::Adopt(built)).await?;
        Ok(snapshot)
    }
}

fn raft_snapshot(stored: &StoredSnapshot) -> Snapshot<TypeConfig> {
    Snapshot { meta: stored.meta.clone(), snapshot: Box::new(stored.files.clone()) }
}
