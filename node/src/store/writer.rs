use std::sync::Arc;

use openraft::{LogId, SnapshotMeta, StoredMembership};
use proofline_ledger::Changes;

use super::{SnapshotFiles, StateDb, StateStore, StoreError, StoredSnapshot, directory::Directory, pointer::Pointer};
use crate::replica::Member;

/// The one writer of the replicated state: commits applied entries, and says which snapshot is the newest. It belongs to the
/// apply thread. What a node makes for itself out of the entries is written by its indexer.
#[derive(Debug)]
pub struct StateWriter {
    store: StateStore,
    pointer: Pointer,
}

impl StateWriter {
    pub(super) fn new(store: StateStore, pointer: Pointer) -> Self {
        Self { store, pointer }
    }

    /// Returns the state that is written now.
    #[must_use]
    pub fn database(&self) -> Arc<StateDb> {
        self.store.view()
    }

    /// Commits what one Raft entry changed, as a whole.
    ///
    /// On return: readers see it. It is not durable; the Raft log is.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub fn commit(
        &self,
        changes: &Changes,
        applied: &LogId<u64>,
        membership: Option<&StoredMembership<u64, Member>>,
    ) -> Result<(), StoreError> {
        self.store.view().commit(changes, applied, membership)
    }

    /// Makes a snapshot that was built here the newest one, unless a newer one came meanwhile.
    ///
    /// On return: a restart finds it. A crash before leaves the former one.
    ///
    /// # Errors
    /// [`StoreError`] when the pointer cannot be written.
    pub fn adopt(&mut self, built: StoredSnapshot) -> Result<(), StoreError> {
        if !built.is_newer_than(self.store.snapshot().as_deref()) {
            return Ok(());
        }
        self.point(Pointer { snapshot: Some(built.number), ..self.pointer })?;
        self.replace_snapshot(built);
        Ok(())
    }

    /// Replaces the state by a snapshot that came from the leader as `announced`.
    ///
    /// On return: the state and the newest snapshot are this one, after any crash. A crash before leaves the former state and
    /// rubbish. Readers that hold a view of the former state keep it.
    ///
    /// # Errors
    /// [`StoreError::SnapshotUnlike`] when the files hold something else; otherwise when the disk fails.
    pub fn install(&mut self, announced: &SnapshotMeta<u64, Member>, received: &SnapshotFiles) -> Result<(), StoreError> {
        let number = self.store.numbers.next();
        let root = self.store.root.clone();
        let kept = Directory::passing(Pointer::snapshot_name(&root, number));
        received.link_into(&kept)?;
        let files = SnapshotFiles::new(Arc::new(kept));
        files.check(announced)?;
        let stored = StoredSnapshot { meta: announced.clone(), files, number };

        let live = Directory::passing(Pointer::database_name(&root, number));
        received.link_into(&live)?;
        let live = Arc::new(live);
        let database = StateDb::open(Arc::clone(&live), &self.store.caches)?;
        // What the sender made for itself nobody vouches for; durably gone before this state can be found by a restart.
        database.forget_own()?;
        database.flush_durably()?;
        self.point(Pointer { database: number, snapshot: Some(number) })?;
        live.keep();
        self.store.current.swap(Arc::new(database)).retire();
        self.replace_snapshot(stored);
        self.store.announce_installed();
        Ok(())
    }

    fn point(&mut self, pointer: Pointer) -> Result<(), StoreError> {
        pointer.write(&self.store.root)?;
        self.pointer = pointer;
        Ok(())
    }

    fn replace_snapshot(&self, stored: StoredSnapshot) {
        stored.files.directory().keep();
        if let Some(former) = self.store.snapshot.swap(Some(Arc::new(stored))) {
            former.files.directory().retire();
        }
    }
}
