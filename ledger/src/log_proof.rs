//! Reads the log tree out of its tiles: roots, paths and tiles of any size that was ever reached.
//!
//! A full level-0 tile is one row, the hashes of higher levels are a row each, and the tile that is not full is hashed
//! from its entries: so a proof reads a handful of rows, and an append adds a 256th of a row.

use std::collections::HashMap;

use crate::completeness::set_proof::{Subtree, set_proof};
use crate::hash::{Hash, LogHash, TreeHash};
use crate::ids::{EntryIndex, TreeSize};
use crate::key;
use crate::log::{TILE_HASHES, leaf_hashes};
use crate::row;
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};

/// The log tree as it was at one size, not greater than the store's.
#[derive(Debug)]
pub struct LogTree<'a, S> {
    store: &'a S,
    size: u64,
    tiles: HashMap<(u8, u64), Vec<Hash>>,
}

/// A run of leaves, `begin` included and `end` not.
#[derive(Clone, Copy)]
struct Leaves {
    begin: u64,
    end: u64,
}

impl Leaves {
    fn count(self) -> u64 {
        self.end - self.begin
    }

    /// Splits at the largest power of two below the count: RFC 6962 section 2.1. Only for two leaves and more.
    fn split(self) -> (Self, Self) {
        let middle = self.begin + (1 << (self.count() - 1).ilog2());
        (Self { end: middle, ..self }, Self { begin: middle, ..self })
    }
}

impl<'a, S: Store> LogTree<'a, S> {
    /// Looks at the first `size` entries of `store`. The caller has made sure that there are as many.
    pub fn new(store: &'a S, size: TreeSize) -> Self {
        Self { store, size: size.0, tiles: HashMap::new() }
    }

    /// Returns the root: RFC 6962 section 2.1.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails or lacks rows below this size.
    pub fn root(&mut self) -> Result<Hash, StoreFault> {
        if self.size == 0 { Ok(LogHash::empty()) } else { self.subtree(Leaves { begin: 0, end: self.size }) }
    }

    /// Returns the hash of one leaf, or `None` beyond the size.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub fn leaf(&mut self, index: EntryIndex) -> Result<Option<Hash>, StoreFault> {
        if index.0 < self.size { self.full_subtree(0, index.0).map(Some) } else { Ok(None) }
    }

    /// Returns the inclusion path of an entry, leaf side first (RFC 6962 section 2.1.1), or `None` beyond the size.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub fn inclusion_path(&mut self, index: EntryIndex) -> Result<Option<Vec<Hash>>, StoreFault> {
        if index.0 >= self.size {
            return Ok(None);
        }
        let mut path = Vec::new();
        let mut leaves = Leaves { begin: 0, end: self.size };
        while leaves.count() > 1 {
            let (left, right) = leaves.split();
            let (here, there) = if index.0 < left.end { (left, right) } else { (right, left) };
            path.push(self.subtree(there)?);
            leaves = here;
        }
        path.reverse();
        Ok(Some(path))
    }

    /// Returns the hashes that, with those of the listed leaves, make the root; nothing when none is listed. `indexes` rise
    /// strictly, all below the size.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub fn set_path(&mut self, indexes: &[EntryIndex]) -> Result<Vec<Hash>, StoreFault> {
        let listed: Vec<u64> = indexes.iter().map(|index| index.0).collect();
        set_proof(self.size, &listed, &mut |of: Subtree| self.subtree(Leaves { begin: of.first, end: of.first + of.count }))
    }

    /// Returns the proof that the tree of `first` leaves is a prefix of this one (RFC 6962 section 2.1.2), or `None` when
    /// `first` is 0 or greater than the size.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub fn consistency_path(&mut self, first: TreeSize) -> Result<Option<Vec<Hash>>, StoreFault> {
        let first = first.0;
        if first == 0 || first > self.size {
            return Ok(None);
        }
        let mut path = Vec::new();
        let mut leaves = Leaves { begin: 0, end: self.size };
        while leaves.end != first {
            let (left, right) = leaves.split();
            let (here, there) = if first <= left.end { (left, right) } else { (right, left) };
            path.push(self.subtree(there)?);
            leaves = here;
        }
        // The old tree's own root is known to the verifier only when it is the whole left side.
        if leaves.begin != 0 {
            path.push(self.subtree(leaves)?);
        }
        path.reverse();
        Ok(Some(path))
    }

    /// Returns the hashes of a tile as far as they are complete at this size: at most 256, none beyond the edge.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub fn tile(&mut self, level: u8, number: u64) -> Result<&[Hash], StoreFault> {
        if !self.tiles.contains_key(&(level, number)) {
            let tile = self.load(level, number)?;
            self.tiles.insert((level, number), tile);
        }
        Ok(self.tiles.get(&(level, number)).map_or(&[], Vec::as_slice))
    }

    fn load(&self, level: u8, number: u64) -> Result<Vec<Hash>, StoreFault> {
        let complete = self.size.checked_shr(u32::from(level) * 8).unwrap_or(0);
        let Some(from) = number.checked_mul(TILE_HASHES).filter(|from| *from < complete) else { return Ok(Vec::new()) };
        let to = complete.min(from + TILE_HASHES);
        let tile = match level {
            0 => self.load_leaves(number, from, to)?,
            _ => self.load_nodes(level, from, to)?,
        };
        let damaged = || StoreFault::Damaged { table: Table::LogTiles, key: key::log_hash(level, number).to_vec() };
        if tile.len() as u64 == to - from { Ok(tile) } else { Err(damaged()) }
    }

    fn load_leaves(&self, number: u64, from: u64, to: u64) -> Result<Vec<Hash>, StoreFault> {
        if to - from == TILE_HASHES {
            let tile = self.store.get(Table::LogTiles, &number.to_be_bytes())?.unwrap_or_default();
            return Ok(row::split(&tile).unwrap_or_default());
        }
        leaf_hashes(self.store, EntryIndex(from), EntryIndex(to))
    }

    fn load_nodes(&self, level: u8, from: u64, to: u64) -> Result<Vec<Hash>, StoreFault> {
        let range = KeyRange { from: &key::log_hash(level, from), to: &key::log_hash(level, to) };
        let limit = usize::try_from(to - from).unwrap_or(usize::MAX);
        let rows = self.store.scan(Table::LogHashes, range, Direction::Ascending, limit)?;
        Ok(rows.iter().filter_map(|row| Hash::from_slice(&row.value)).collect())
    }

    fn subtree(&mut self, leaves: Leaves) -> Result<Hash, StoreFault> {
        if leaves.count().is_power_of_two() {
            return self.full_subtree(leaves.count().ilog2(), leaves.begin / leaves.count());
        }
        let (left, right) = leaves.split();
        let left = self.full_subtree(left.count().ilog2(), left.begin / left.count())?;
        Ok(LogHash::node(&left, &self.subtree(right)?))
    }

    /// Returns the root of the `number`th full subtree of 2^`height` leaves.
    fn full_subtree(&mut self, height: u32, number: u64) -> Result<Hash, StoreFault> {
        let level = u8::try_from(height / 8).unwrap_or(u8::MAX);
        let within = height % 8;
        let first = number << within;
        let tile = self.tile(level, first / TILE_HASHES)?;
        let from = usize::try_from(first % TILE_HASHES).unwrap_or(usize::MAX);
        let hashes = tile.get(from..from + (1 << within)).unwrap_or_default();
        fold(hashes).ok_or_else(|| StoreFault::Damaged { table: Table::LogTiles, key: key::log_hash(level, first / TILE_HASHES).to_vec() })
    }
}

/// Hashes a power-of-two number of nodes up to one.
fn fold(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            Some(LogHash::node(&fold(left)?, &fold(right)?))
        }
    }
}
