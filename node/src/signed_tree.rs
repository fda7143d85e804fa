//! The greatest tree head that this node ever signed, on the disk before any signature leaves.
//!
//! A node that forgot what it signed could sign a fork. So the file is written first, and a file that cannot be read ends
//! the node instead of starting from nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use proofline_ledger::{Hash, LogHash, TreeHash as _, TreeSize};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{damage::REPLACE, durable};

/// A size and the root that was signed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedTree {
    /// Entries covered.
    pub size: TreeSize,
    /// Root of the log tree at that size.
    pub root: Hash,
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub enum SignedTreeError {
    /// It does not say what was signed.
    #[error("{path} is damaged; this node can no longer tell what it signed: {REPLACE}")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It is not there, though the node was initialised with one.
    #[error("{path} is missing; this node can no longer tell what it signed: {REPLACE}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    size: u64,
    root: String,
    check: String,
}

impl Record {
    fn of(tree: SignedTree) -> Self {
        let root = hex::encode(tree.root.0);
        Self { check: check(tree.size.0, &root), size: tree.size.0, root }
    }
}

fn check(size: u64, root: &str) -> String {
    blake3::hash(format!("{size}\n{root}").as_bytes()).to_hex().to_string()
}

/// The file.
#[derive(Debug)]
pub struct SignedTreeFile {
    path: PathBuf,
    newest: SignedTree,
}

impl SignedTreeFile {
    /// Makes the file of a node that never signed; one that is there stays.
    ///
    /// # Errors
    /// [`SignedTreeError::File`] when the disk failed.
    pub fn create(path: &Path) -> Result<(), SignedTreeError> {
        if path.exists() {
            return Ok(());
        }
        let newest = SignedTree { size: TreeSize(0), root: LogHash::empty() };
        Self { path: path.to_owned(), newest }.advance(newest)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`SignedTreeError`] when it is damaged or not accessible.
    pub fn open(path: &Path) -> Result<Self, SignedTreeError> {
        let newest = match fs::read(path) {
            Ok(bytes) => parse(&bytes).ok_or_else(|| SignedTreeError::Damaged { path: path.to_owned() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SignedTreeError::Missing { path: path.to_owned() }),
            Err(source) => return Err(SignedTreeError::File { path: path.to_owned(), source }),
        };
        Ok(Self { path: path.to_owned(), newest })
    }

    /// Returns what was signed last.
    #[must_use]
    pub fn newest(&self) -> SignedTree {
        self.newest
    }

    /// Notes that `tree` is about to be signed.
    ///
    /// On return: no crash forgets it. A crash inside leaves the record before, and nothing was signed yet.
    ///
    /// # Errors
    /// [`SignedTreeError::File`] when the disk failed.
    pub fn advance(&mut self, tree: SignedTree) -> Result<(), SignedTreeError> {
        let failed = |source| SignedTreeError::File { path: self.path.clone(), source };
        let bytes = serde_json::to_vec(&Record::of(tree)).map_err(|error| failed(error.into()))?;
        durable::replace(&self.path, &bytes).map_err(failed)?;
        self.newest = tree;
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Option<SignedTree> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let root = Hash::from_slice(&hex::decode(&record.root).ok()?)?;
    (record.check == check(record.size, &record.root)).then_some(SignedTree { size: TreeSize(record.size), root })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_survives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signed-tree");
        assert!(matches!(SignedTreeFile::open(&path), Err(SignedTreeError::Missing { .. })));
        SignedTreeFile::create(&path).unwrap();
        let mut file = SignedTreeFile::open(&path).unwrap();
        assert_eq!(file.newest().size, TreeSize(0));
        let tree = SignedTree { size: TreeSize(7), root: Hash([9; 32]) };
        file.advance(tree).unwrap();
        SignedTreeFile::create(&path).unwrap();
        assert_eq!(SignedTreeFile::open(&path).unwrap().newest(), tree);
    }

    #[test]
    fn any_altered_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signed-tree");
        SignedTreeFile::create(&path).unwrap();
        SignedTreeFile::open(&path).unwrap().advance(SignedTree { size: TreeSize(7), root: Hash([9; 32]) }).unwrap();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(matches!(SignedTreeFile::open(&path), Err(SignedTreeError::Damaged { .. })), "byte {at}");
        }
    }
}
