//! The replicated state on the disk, and its snapshots.
//!
//! ```text
//! state/CURRENT        which of the directories below are in use
//! state/db-N           the database
//! state/snapshot-N     the newest snapshot: a database directory that nobody writes
//! state/incoming-N     a snapshot on its way in
//! ```
//! The database has no write-ahead log: what a crash takes away, the Raft log gives back, and it keeps everything that the
//! state has not flushed. Always true: each apply is one batch together with its place in the log, flushes are atomic over
//! all column families, so after a crash the state is one that the ledger once had. The tables that a node makes for itself are
//! written beside apply, as a whole, and never name entries that the state does not have. `CURRENT` is replaced as a whole; a
//! directory that it does not name is rubbish, and the next start removes it.

mod database;
mod directory;
mod error;
mod pointer;
mod position;
mod snapshot;
mod writer;

use std::{path::PathBuf, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};

use self::{
    database::Caches,
    directory::Directory,
    pointer::{Numbers, Pointer},
};
pub use self::{
    database::{Frozen, StateDb},
    error::StoreError,
    position::Position,
    snapshot::{SnapshotFile, SnapshotFiles, StoredSnapshot},
    writer::StateWriter,
};
use crate::data_dir::DataDir;

/// Shares the state with readers. Clones are cheap; a view taken before a snapshot was installed stays valid after it.
#[derive(Clone, Debug)]
pub struct StateStore {
    current: Arc<ArcSwap<StateDb>>,
    snapshot: Arc<ArcSwapOption<StoredSnapshot>>,
    numbers: Arc<Numbers>,
    caches: Caches,
    root: PathBuf,
}

impl StateStore {
    /// Opens the state of `dir`, or creates an empty one, and removes what interrupted work left behind. Returns the one
    /// writer too.
    ///
    /// # Errors
    /// [`StoreError`] when the state is damaged or not accessible.
    pub fn open(dir: &DataDir) -> Result<(Self, StateWriter), StoreError> {
        let root = dir.state();
        let pointer = Pointer::read(&root)?;
        let numbers = Numbers::clean(&root, &pointer)?;
        let caches = Caches::new();
        let directory = Arc::new(Directory::kept(pointer.database_path(&root)));
        let current = Arc::new(StateDb::open(directory, &caches)?);
        let snapshot = match pointer.snapshot {
            Some(number) => {
                let directory = Arc::new(Directory::kept(Pointer::snapshot_name(&root, number)));
                Some(Arc::new(StoredSnapshot::load(number, directory)?))
            }
            None => None,
        };
        pointer.write(&root)?;
        let store = Self {
            current: Arc::new(ArcSwap::new(current)),
            snapshot: Arc::new(ArcSwapOption::new(snapshot)),
            numbers: Arc::new(numbers),
            caches,
            root,
        };
        Ok((store.clone(), StateWriter::new(store, pointer)))
    }

    /// Returns whether `dir` holds a state that was opened before.
    #[must_use]
    pub fn exists(dir: &DataDir) -> bool {
        pointer::exists(&dir.state())
    }

    /// Returns the state as it is now and, through the returned handle, as it goes on until a snapshot replaces it.
    #[must_use]
    pub fn view(&self) -> Arc<StateDb> {
        self.current.load_full()
    }

    /// Returns the newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<StoredSnapshot>> {
        self.snapshot.load_full()
    }

    /// Makes everything applied so far durable.
    ///
    /// On return: a crash does not take the state back behind this call.
    ///
    /// # Errors
    /// [`StoreError`] when the flush fails.
    pub fn flush_durably(&self) -> Result<(), StoreError> {
        self.view().flush_durably()
    }

    /// Makes an empty directory for a snapshot on its way in. It is removed when the last handle is dropped.
    ///
    /// # Errors
    /// [`StoreError`] when the directory cannot be created.
    pub fn incoming(&self) -> Result<SnapshotFiles, StoreError> {
        let directory = Directory::passing(self.root.join(format!("incoming-{}", self.numbers.next())));
        directory.create()?;
        Ok(SnapshotFiles::new(Arc::new(directory)))
    }

    /// Writes a snapshot of the state as it is now. Applying goes on meanwhile; the snapshot says itself what it covers.
    ///
    /// On return: the snapshot's files are durable, but it is not yet the newest: [`StateWriter::adopt`] makes it so. A
    /// crash before leaves rubbish.
    ///
    /// # Errors
    /// [`StoreError`] when the files cannot be written.
    pub fn build_snapshot(&self) -> Result<StoredSnapshot, StoreError> {
        let number = self.numbers.next();
        let directory = Directory::passing(Pointer::snapshot_name(&self.root, number));
        self.view().checkpoint(directory.path())?;
        directory.sync()?;
        StoredSnapshot::load(number, Arc::new(directory))
    }
}
