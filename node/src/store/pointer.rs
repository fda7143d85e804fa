//! Which directories are in use.
//!
//! One small file names the database and the newest snapshot. It is replaced by a rename, so a crash leaves the old pair or
//! the new pair, and never a database with the wrong snapshot beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::durable;

/// The content of `CURRENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pointer {
    pub(super) database: u64,
    pub(super) snapshot: Option<u64>,
}

/// Returns whether a state was opened below `root` before.
pub(super) fn exists(root: &Path) -> bool {
    file(root).exists()
}

impl Pointer {
    /// Where a state begins.
    const FIRST: Self = Self { database: 1, snapshot: None };

    /// Reads the pointer; a state that was never opened to the end begins anew.
    pub(super) fn read(root: &Path) -> Result<Self, StoreError> {
        let path = file(root);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| StoreError::PointerDamaged { path, reason: error.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::first(root),
            Err(source) => Err(StoreError::File { action: "reading", path, source }),
        }
    }

    /// The pointer is written when the first database is open. Whatever else lies here was named by one that is gone, and
    /// must not be taken for rubbish.
    fn first(root: &Path) -> Result<Self, StoreError> {
        let first = Self::FIRST.database_path(root);
        for entry in fs::read_dir(root).map_err(|source| StoreError::File { action: "reading", path: root.to_owned(), source })? {
            let path = entry.map_err(|source| StoreError::File { action: "reading", path: root.to_owned(), source })?.path();
            if path.is_dir() && path != first {
                return Err(StoreError::PointerDamaged { path: file(root), reason: format!("missing, but {} is there", path.display()) });
            }
        }
        Ok(Self::FIRST)
    }

    /// Replaces the pointer.
    ///
    /// On return: the next start opens these directories. A crash before leaves the former ones.
    pub(super) fn write(&self, root: &Path) -> Result<(), StoreError> {
        let path = file(root);
        let written = serde_json::to_vec(self).map_err(io::Error::from).and_then(|bytes| durable::replace(&path, &bytes));
        written.map_err(|source| StoreError::File { action: "writing", path, source })
    }

    pub(super) fn database_path(&self, root: &Path) -> PathBuf {
        Self::database_name(root, self.database)
    }

    pub(super) fn database_name(root: &Path, number: u64) -> PathBuf {
        root.join(format!("db-{number}"))
    }

    pub(super) fn snapshot_name(root: &Path, number: u64) -> PathBuf {
        root.join(format!("snapshot-{number}"))
    }

    fn names(&self, root: &Path, path: &Path) -> bool {
        path == file(root)
            || path == self.database_path(root)
            || self.snapshot.is_some_and(|number| path == Self::snapshot_name(root, number))
    }
}

/// Numbers for new directories, never used twice.
#[derive(Debug)]
pub(super) struct Numbers(AtomicU64);

impl Numbers {
    /// Removes everything that `pointer` does not name, and continues behind its numbers.
    pub(super) fn clean(root: &Path, pointer: &Pointer) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File { action: "cleaning", path: root.to_owned(), source };
        for entry in fs::read_dir(root).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if pointer.names(root, &path) {
                continue;
            }
            tracing::info!(path = %path.display(), "removing what interrupted work left behind");
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(failed)?;
        }
        Ok(Self(AtomicU64::new(pointer.database.max(pointer.snapshot.unwrap_or(0)))))
    }

    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

fn file(root: &Path) -> PathBuf {
    root.join("CURRENT")
}
