use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::StoreError;
use crate::durable;

/// A directory that is in use by whoever holds this. Once it is retired, it is removed when the last holder lets go, so that
/// readers and transfers under way keep their files.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    retired: AtomicBool,
}

impl Directory {
    /// Takes a directory that stays until somebody retires it.
    pub(super) fn kept(path: PathBuf) -> Self {
        Self { path, retired: AtomicBool::new(false) }
    }

    /// Takes a directory that goes with its last holder, unless somebody keeps it.
    pub(super) fn passing(path: PathBuf) -> Self {
        Self { path, retired: AtomicBool::new(true) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keep(&self) {
        self.retired.store(false, Ordering::Release);
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub(super) fn create(&self) -> Result<(), StoreError> {
        durable::create_directory(&self.path).map_err(|source| self.failed("creating", source))
    }

    /// On return: all files in the directory, and their names, are durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        durable::sync_files(&self.path).map_err(|source| self.failed("syncing", source))
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> StoreError {
        StoreError::File { action, path: self.path.clone(), source }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.retired.load(Ordering::Acquire) || !self.path.exists() {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a directory that is not needed any more stays until the next start");
        }
    }
}
