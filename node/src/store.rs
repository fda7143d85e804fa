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
mod lending;
mod pointer;
mod position;
mod snapshot;
mod writer;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use self::{
    database::Caches,
    directory::Directory,
    lending::Lending,
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

/// How long a snapshot may take to be installed after Raft decided on it.
const INSTALLED_WITHIN: Duration = Duration::from_secs(120);

/// Shares the state with readers. Clones are cheap; a view taken before a snapshot was installed stays valid after it.
#[derive(Clone, Debug)]
pub struct StateStore {
    current: Arc<ArcSwap<StateDb>>,
    snapshot: Arc<ArcSwapOption<StoredSnapshot>>,
    numbers: Arc<Numbers>,
    caches: Caches,
    /// Woken when a snapshot was installed.
    installed: Arc<(Mutex<()>, Condvar)>,
    lending: Arc<Lending>,
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
            installed: Arc::default(),
            lending: Arc::default(),
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

    /// Returns the newest snapshot for somebody who sends it to another node: until its files are dropped, it is on its way.
    #[must_use]
    pub fn lend_snapshot(&self) -> Option<StoredSnapshot> {
        let stored = self.snapshot()?;
        let end = stored.meta.last_log_id.map_or(0, |last| last.index);
        Some(StoredSnapshot { files: stored.files.lent(self.lending.lend(end)), ..StoredSnapshot::clone(&stored) })
    }

    /// Returns the Raft entry at which the oldest snapshot ends that is on its way to another node.
    #[must_use]
    pub fn oldest_lent(&self) -> Option<u64> {
        self.lending.oldest()
    }

    /// Tells of the first damage that any reader of the state found, in this process.
    #[must_use]
    pub fn damage(&self) -> watch::Receiver<Option<String>> {
        self.caches.damage.subscribe()
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

    /// Waits until the state holds everything up to the Raft entry `index`, which it does unless a snapshot that brings it is
    /// still being installed, and makes that durable.
    ///
    /// On return: what led to it is needed no more, after any crash.
    ///
    /// # Errors
    /// [`StoreError`] when the flush fails, or nothing was installed for two minutes.
    pub fn flush_through(&self, index: u64) -> Result<(), StoreError> {
        let (installs, installed) = &*self.installed;
        let until = Instant::now() + INSTALLED_WITHIN;
        let mut held = installs.lock().unwrap_or_else(PoisonError::into_inner);
        while self.view().position()?.applied.is_none_or(|at| at.index < index) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(StoreError::File { action: "waiting for a snapshot in", path: self.root.clone(), source });
            }
            held = installed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(held);
        self.flush_durably()
    }

    /// Wakes whoever waits for a snapshot.
    fn announce_installed(&self) {
        let (installs, installed) = &*self.installed;
        drop(installs.lock().unwrap_or_else(PoisonError::into_inner));
        installed.notify_all();
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
