use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use openraft::{LogId, SnapshotMeta};

use super::{Position, StoreError, database, directory::Directory, lending::Loan};
use crate::replica::Member;

/// A directory of snapshot files. Raft hands it around; it is never read into memory.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    directory: Arc<Directory>,
    /// Counts for as long as somebody holds the files.
    _loan: Option<Arc<Loan>>,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name within the snapshot.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// Where it lies.
    pub path: PathBuf,
}

/// A snapshot that is complete, and what it covers.
#[derive(Clone, Debug)]
pub struct StoredSnapshot {
    /// What it covers, as Raft speaks of it.
    pub meta: SnapshotMeta<u64, Member>,
    /// Its files.
    pub files: SnapshotFiles,
    pub(super) number: u64,
}

impl SnapshotFiles {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, _loan: None }
    }

    /// The same files, given to somebody who sends them.
    pub(super) fn lent(&self, loan: Loan) -> Self {
        Self { directory: Arc::clone(&self.directory), _loan: Some(Arc::new(loan)) }
    }

    /// Names files below a path that belong to somebody else: nothing is made, looked at or removed there.
    #[must_use]
    pub fn named(path: PathBuf) -> Self {
        Self::new(Arc::new(Directory::kept(path)))
    }

    /// Returns where the files lie.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Returns the files, sorted by name.
    ///
    /// # Errors
    /// [`StoreError::File`] when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<SnapshotFile>, StoreError> {
        let failed = |source| StoreError::File { action: "listing", path: self.directory.path().to_owned(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(self.directory.path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let size_bytes = entry.metadata().map_err(failed)?.len();
            match entry.file_name().into_string() {
                Ok(name) if is_snapshot_file(&name) => files.push(SnapshotFile { name, size_bytes, path: entry.path() }),
                // The database's own notes and locks.
                Ok(_) | Err(_) => {}
            }
        }
        files.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(files)
    }

    /// Returns where a file of that name lies or will lie; `None` when no snapshot has a file of that name.
    #[must_use]
    pub fn path_of(&self, name: &str) -> Option<PathBuf> {
        is_snapshot_file(name).then(|| self.directory.path().join(name))
    }

    /// Makes the received files durable.
    ///
    /// On return: they and their names are on the disk.
    ///
    /// # Errors
    /// [`StoreError::File`] when the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.directory.sync()
    }

    /// Opens the files as the database that they must be, and compares what they cover with what was announced.
    ///
    /// # Errors
    /// [`StoreError::SnapshotUnlike`] when they cover something else, another one when they are no database.
    pub fn check(&self, announced: &SnapshotMeta<u64, Member>) -> Result<(), StoreError> {
        let found = meta(database::position_at(self.directory.path())?);
        if announced.last_log_id == found.last_log_id && announced.last_membership == found.last_membership {
            return Ok(());
        }
        Err(StoreError::SnapshotUnlike { announced: announced.to_string(), found: found.to_string() })
    }

    /// Reads all of it, and with it every checksum: what is damaged at the sender must not come in.
    ///
    /// # Errors
    /// [`StoreError::Corrupted`] when the files do not hold what was written to them, another one when they cannot be read.
    pub fn verify(&self) -> Result<(), StoreError> {
        database::read_all_at(self.directory.path())
    }

    /// Fills the new directory `to` with the same content: files that are never written again are shared, the others copied.
    ///
    /// On return: the new directory is durable. A crash before leaves rubbish in it.
    pub(super) fn link_into(&self, to: &Directory) -> Result<(), StoreError> {
        to.create()?;
        for file in self.list()? {
            let target = to.path().join(&file.name);
            let linked = if is_table(&file.name) { fs::hard_link(&file.path, &target) } else { fs::copy(&file.path, &target).map(drop) };
            linked.map_err(|source| StoreError::File { action: "linking", path: target, source })?;
        }
        to.sync()
    }
}

impl StoredSnapshot {
    /// Reads what the snapshot in `directory` covers.
    pub(super) fn load(number: u64, directory: Arc<Directory>) -> Result<Self, StoreError> {
        let position = database::position_at(directory.path())?;
        Ok(Self { meta: meta(position), files: SnapshotFiles::new(directory), number })
    }

    /// Returns whether this one covers more than `other`.
    pub(super) fn is_newer_than(&self, other: Option<&Self>) -> bool {
        other.is_none_or(|other| index(self.meta.last_log_id) > index(other.meta.last_log_id))
    }
}

/// Describes a snapshot of `position`. The same position gives the same description, on every node.
fn meta(position: Position) -> SnapshotMeta<u64, Member> {
    let Position { applied, membership } = position;
    let snapshot_id = applied.map_or_else(|| "empty".to_owned(), |at| at.to_string());
    SnapshotMeta { last_log_id: applied, last_membership: membership, snapshot_id }
}

fn index(log_id: Option<LogId<u64>>) -> Option<u64> {
    log_id.map(|at| at.index)
}

/// Accepts exactly the names that a database directory needs; nothing that could lead out of the directory.
fn is_snapshot_file(name: &str) -> bool {
    let numbered = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    name == "CURRENT"
        || name.strip_prefix("MANIFEST-").is_some_and(numbered)
        || name.strip_prefix("OPTIONS-").is_some_and(numbered)
        || name.strip_suffix(".sst").is_some_and(numbered)
}

fn is_table(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "sst")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_database_files_are_snapshot_files() {
        for name in ["CURRENT", "MANIFEST-000005", "OPTIONS-000007", "000012.sst"] {
            assert!(is_snapshot_file(name), "{name}");
        }
        for name in ["", ".", "..", "LOCK", "LOG", "IDENTITY", "../CURRENT", "/CURRENT", "MANIFEST-", ".sst", "a/1.sst", "1.sst/.."] {
            assert!(!is_snapshot_file(name), "{name}");
        }
    }
}
