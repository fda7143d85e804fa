//! The data directory of one node: where things lie, and to whom they belong.
//!
//! ```text
//! identity      origin and node id, written once, before anything else
//! journal/      the Raft log
//! high-water    what the Raft log must at least hold
//! state/        the replicated state and its snapshots
//! signed-tree   the greatest tree that this node cosigned
//! contradiction why this node ended because it contradicts the others, if it did
//! payloads/     what the log does not hold, sealed, and the keys to it: of this node alone
//! ```
//! Always true: a directory that holds a journal or a state also holds the identity of the node that made them. A
//! directory of another cluster or another node is refused, because a node that votes with the log of another one breaks
//! consensus.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{damage::REPLACE, durable};

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Name of the log, the same on every node of the cluster.
    pub origin: String,
    /// Raft id of this node; never used again once its directory is wiped.
    pub node_id: u64,
}

/// A data directory that belongs to this node, and that no other process uses. Clones share the lock.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: Identity,
    _lock: Arc<File>,
}

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// It belongs to somebody else.
    #[error(
        "{path} belongs to node {} of {:?}, this node is {} of {:?}; point --data-dir at this node's own directory",
        found.node_id, found.origin, expected.node_id, expected.origin
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// To whom it belongs.
        found: Identity,
        /// Who asked.
        expected: Identity,
    },
    /// The identity file cannot be read as one.
    #[error("{path} is damaged ({reason}); {REPLACE}")]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is data, but nothing says whose it is.
    #[error("{path} holds data but no identity; {REPLACE}")]
    Unidentified {
        /// The directory.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("{path} is in use by another process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use the data directory {path}: {source}{}", whose(source))]
    File {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// A permission that is missing is no failing disk, though nobody but a person can tell which of the two it is.
fn whose(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; the disk may be sound: does the directory belong to the user of this node?",
        _ => "",
    }
}

impl DataDir {
    /// Opens the directory of `identity`, or makes an empty directory its own.
    ///
    /// On return: the identity is durable. A crash inside leaves an empty directory or a finished one.
    ///
    /// # Errors
    /// [`DataDirError`] when the directory is foreign, damaged or not accessible.
    pub fn open(root: &Path, identity: Identity) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::File { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        match fs::read(identity_file(root)) {
            Ok(bytes) => check(root, &identity, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => claim(root, &identity)?,
            Err(error) => return Err(failed(error)),
        }
        let dir = Self { root: root.to_owned(), identity, _lock: lock(root)? };
        durable::create_directory(&dir.journal()).map_err(failed)?;
        durable::create_directory(&dir.state()).map_err(failed)?;
        durable::create_directory(&dir.payloads()).map_err(failed)?;
        Ok(dir)
    }

    /// Tells whether a directory was made some node's own before.
    ///
    /// # Errors
    /// [`DataDirError::Unidentified`] when it holds data, and nothing says whose it is.
    pub fn is_initialised(root: &Path) -> Result<bool, DataDirError> {
        match identity_file(root).exists() {
            true => Ok(true),
            false if holds_data(root) => Err(DataDirError::Unidentified { path: root.to_owned() }),
            false => Ok(false),
        }
    }

    /// Returns the directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns who owns the directory.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the directory of the Raft log.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Returns the high-water file of the Raft log.
    #[must_use]
    pub fn high_water(&self) -> PathBuf {
        self.root.join("high-water")
    }

    /// Returns the directory of the replicated state and its snapshots.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }
}

impl DataDir {
    /// Returns the directory of payloads and their keys.
    #[must_use]
    pub fn payloads(&self) -> PathBuf {
        self.root.join("payloads")
    }
}

fn identity_file(root: &Path) -> PathBuf {
    root.join("identity")
}

fn holds_data(root: &Path) -> bool {
    ["journal", "high-water", "state", "payloads", "signed-tree"].iter().any(|name| root.join(name).exists())
}

fn check(root: &Path, expected: &Identity, bytes: &[u8]) -> Result<(), DataDirError> {
    let found: Identity =
        serde_json::from_slice(bytes).map_err(|error| DataDirError::Damaged { path: identity_file(root), reason: error.to_string() })?;
    if found == *expected {
        return Ok(());
    }
    Err(DataDirError::Foreign { path: root.to_owned(), found, expected: expected.clone() })
}

/// On return: the directory belongs to `identity`. A crash inside leaves it empty.
fn claim(root: &Path, identity: &Identity) -> Result<(), DataDirError> {
    if holds_data(root) {
        return Err(DataDirError::Unidentified { path: root.to_owned() });
    }
    let failed = |source| DataDirError::File { path: root.to_owned(), source };
    let bytes = serde_json::to_vec(identity).map_err(|error| failed(error.into()))?;
    durable::replace(&identity_file(root), &bytes).map_err(failed)
}

/// Locks the directory until the returned file is closed, by whatever end the process takes.
fn lock(root: &Path) -> Result<Arc<File>, DataDirError> {
    let failed = |source| DataDirError::File { path: root.to_owned(), source };
    let file = File::open(identity_file(root)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Arc::new(file)),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(origin: &str, node_id: u64) -> Identity {
        Identity { origin: origin.to_owned(), node_id }
    }

    #[test]
    fn a_directory_keeps_its_owner() {
        let root = tempfile::tempdir().unwrap();
        DataDir::open(root.path(), identity("example.org/log", 1)).unwrap();
        DataDir::open(root.path(), identity("example.org/log", 1)).unwrap();
    }

    #[test]
    fn a_directory_of_another_cluster_or_node_is_refused() {
        for other in [identity("example.org/other", 1), identity("example.org/log", 2)] {
            let root = tempfile::tempdir().unwrap();
            DataDir::open(root.path(), identity("example.org/log", 1)).unwrap();
            let error = DataDir::open(root.path(), other).unwrap_err();
            assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
        }
    }

    #[test]
    fn a_directory_serves_one_process_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::open(root.path(), identity("example.org/log", 1)).unwrap();
        let error = DataDir::open(root.path(), identity("example.org/log", 1)).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        drop(first);
        DataDir::open(root.path(), identity("example.org/log", 1)).unwrap();
    }

    #[test]
    fn data_without_an_identity_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), identity("example.org/log", 1)).unwrap();
        assert!(DataDir::is_initialised(root.path()).unwrap());
        fs::remove_file(identity_file(root.path())).unwrap();
        drop(dir);
        let error = DataDir::is_initialised(root.path()).unwrap_err();
        assert!(matches!(error, DataDirError::Unidentified { .. }), "a node that is started is told so: {error}");
        assert!(!DataDir::is_initialised(&root.path().join("nothing")).unwrap());
        let error = DataDir::open(root.path(), identity("example.org/log", 1)).unwrap_err();
        assert!(matches!(error, DataDirError::Unidentified { .. }), "{error}");
    }

    #[test]
    fn a_damaged_identity_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), identity("example.org/log", 1)).unwrap();
        fs::write(identity_file(root.path()), b"{\"origin\":").unwrap();
        drop(dir);
        let error = DataDir::open(root.path(), identity("example.org/log", 1)).unwrap_err();
        assert!(matches!(error, DataDirError::Damaged { .. }), "{error}");
    }
}
