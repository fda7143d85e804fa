//! Brings the lists and the map from one size of the log to another.
//!
//! Always true: what [`KeyIndex`] says is a function of the entries below its size alone, however many steps led there. What
//! it found out and did not write yet, it holds.

use prost::Message;

use super::carried::{RecentKeys, carried};
use super::commitment::CommitmentAt;
use super::list::{Leaves, ListHead};
use super::map::{self, Leaf};
use super::pending::Pending;
use crate::hash::Hash;
use crate::ids::{EntryIndex, TreeSize};
use crate::key;
use crate::row;
use crate::store::{Change, Changes, Store, StoreFault, Table};

/// The one row of [`Table::KeyIndex`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyIndexRow {
    #[prost(uint64, tag = "1")]
    size: u64,
    #[prost(uint64, tag = "2")]
    keys: u64,
    /// The newest commitment that was found to be true. The rows are its map when it covers as many entries as they do.
    #[prost(uint64, optional, tag = "3")]
    confirmed: Option<u64>,
}

/// The lists of all keys and the map over them, at one size of the log.
#[derive(Clone, Debug)]
pub struct KeyIndex {
    size: TreeSize,
    stored: TreeSize,
    keys: u64,
    root: Hash,
    pending: Pending,
}

impl KeyIndex {
    /// Takes up what a store holds, which is nothing at first.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails or holds damaged rows.
    pub fn open(store: &impl Store) -> Result<Self, StoreFault> {
        let row = stored(store)?;
        let pending = Pending::default();
        let (size, root) = (TreeSize(row.size), map::root(&pending, store)?);
        Ok(Self { size, stored: size, keys: row.keys, root, pending })
    }

    /// Returns how many entries it covers.
    #[must_use]
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// Returns how many entries the rows cover that were written.
    #[must_use]
    pub fn stored(&self) -> TreeSize {
        self.stored
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Returns the root of the map.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Returns about how many bytes it holds that are not written.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// Goes on towards `to`, over no more entries at once than memory should hold the keys of, as the entries have them. Nothing
    /// behind its size is ever taken back. Where the steps end changes nothing of the map.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails, or lacks entries below `to`.
    pub fn advance(&mut self, store: &impl Store, to: TreeSize) -> Result<(), StoreFault> {
        self.advance_with(store, &RecentKeys::default(), to)
    }

    /// Goes on as [`Self::advance`] does, with the keys that applies found where they are still held: those entries are not read.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails, or lacks entries that have to be read.
    pub fn advance_with(&mut self, store: &impl Store, recent: &RecentKeys, to: TreeSize) -> Result<(), StoreFault> {
        if to <= self.size {
            return Ok(());
        }
        let mut leaves = Vec::new();
        let (found, to) = carried(store, recent, self.size, to)?;
        // An entry has one leaf, in however many lists it is.
        let hashes = Leaves::of(self.size, to);
        for (of, indexes) in found {
            let mut list = ListHead::read(&self.pending, store, &of)?;
            self.keys += u64::from(list.count() == 0);
            list.append(&mut self.pending, &of, &indexes, &hashes);
            leaves.push(Leaf { key: of, count: list.count(), root: list.root() });
        }
        leaves.sort_unstable_by_key(|leaf| leaf.key);
        if !leaves.is_empty() {
            self.root = map::update(&mut self.pending, store, &leaves)?;
        }
        self.size = to;
        Ok(())
    }

    /// Takes everything that is not written, to be committed as a whole, with the newest commitment that was found to be true.
    /// Questions are answered from the rows while that one covers as many entries as they do.
    #[must_use]
    pub fn take_changes(&mut self, confirmed: Option<EntryIndex>) -> Changes {
        let row = KeyIndexRow { size: self.size.0, keys: self.keys, confirmed: confirmed.map(|index| index.0) };
        let mut rows = self.pending.take();
        rows.push(Change { table: Table::KeyIndex, key: key::SINGLE.to_vec(), value: Some(row.encode_to_vec()) });
        self.stored = self.size;
        Changes { rows }
    }
}

/// Returns the newest commitment that was found to be true when the rows were written.
///
/// # Errors
/// [`StoreFault`] when the store fails or holds damaged rows.
pub fn confirmed_commitment(store: &impl Store) -> Result<Option<CommitmentAt>, StoreFault> {
    let Some(index) = stored(store)?.confirmed else { return Ok(None) };
    let damaged = || StoreFault::Damaged { table: Table::KeyIndex, key: Vec::new() };
    CommitmentAt::read(store, EntryIndex(index))?.ok_or_else(damaged).map(Some)
}

/// Returns the state commitment whose map the rows of a store are; `None` while they are on the way to one.
///
/// # Errors
/// [`StoreFault`] when the store fails or holds damaged rows.
pub fn indexed_commitment(store: &impl Store) -> Result<Option<CommitmentAt>, StoreFault> {
    let size = stored(store)?.size;
    Ok(confirmed_commitment(store)?.filter(|confirmed| confirmed.size.0 == size))
}

fn stored(store: &impl Store) -> Result<KeyIndexRow, StoreFault> {
    Ok(row::read(store, Table::KeyIndex, key::SINGLE)?.unwrap_or_default())
}
