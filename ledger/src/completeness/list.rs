//! The list of one key: the indexes of the entries that carry it, as a tree that only grows.
//!
//! The head row has the count, the frontier and the indexes of the block that is not full; 64 indexes that are complete are
//! one row, and so is every root of 64^level leaves. An interval writes the head once, and what it completed.

use std::collections::HashMap;

use super::pending::Pending;
use super::set_proof::{Subtree, root_over, set_proof};
use crate::frontier::Frontier;
use crate::hash::{ContentHash, Hash, key_entry};
use crate::ids::TreeSize;
use crate::key;
use crate::row;
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};

/// Indexes of a full block: 2^6.
const BLOCK: u64 = BLOCK_INDEXES as u64;
const BLOCK_INDEXES: usize = 64;
const BLOCK_HEIGHT: u32 = 6;

/// The end of a key's list, to which indexes are added.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListHead {
    tree: Frontier<ContentHash>,
    /// Indexes of the block that is not full.
    tail: Vec<u64>,
}

impl ListHead {
    /// Reads the head of a list; empty for a key that no entry carries.
    pub(crate) fn read(pending: &Pending, store: &impl Store, of: &Hash) -> Result<Self, StoreFault> {
        match pending.get(store, Table::KeyHeads, &of.0)? {
            None => Ok(Self::default()),
            Some(row) => Self::decode(&row).ok_or_else(|| damaged(Table::KeyHeads, &of.0)),
        }
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let (count, rest) = row.split_first_chunk::<8>()?;
        let count = u64::from_be_bytes(*count);
        let (peaks, tail) = rest.split_at_checked(usize::try_from(count.count_ones()).ok()? * 32)?;
        let tail = numbers(tail)?;
        let tree = Frontier::restore(count, row::split(peaks)?)?;
        (tail.len() as u64 == count % BLOCK).then_some(Self { tree, tail })
    }

    fn encode(&self) -> Vec<u8> {
        let mut row = self.tree.size().to_be_bytes().to_vec();
        row.extend(row::join(self.tree.peaks()));
        row.extend(self.tail.iter().flat_map(|index| index.to_be_bytes()));
        row
    }

    pub(crate) fn count(&self) -> u64 {
        self.tree.size()
    }

    pub(crate) fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Adds indexes, which rise, behind those that the list has.
    pub(crate) fn append(&mut self, pending: &mut Pending, of: &Hash, indexes: &[u64], hashes: &Leaves) {
        let first_block = self.tree.size() / BLOCK;
        self.tree.extend(hashes.at(indexes), |height, number, root| {
            if let (Ok(level @ 1..), 0) = (u8::try_from(height / BLOCK_HEIGHT), height % BLOCK_HEIGHT) {
                pending.put(Table::KeyHashes, key::key_hash(of, level, number), root.0.to_vec());
            }
        });
        self.tail.extend(indexes);
        let (full, rest) = self.tail.as_chunks::<BLOCK_INDEXES>();
        for (number, block) in (first_block..).zip(full) {
            pending.put(Table::KeyBlocks, key::key_block(of, number), block.iter().copied().flat_map(u64::to_be_bytes).collect());
        }
        self.tail = rest.to_vec();
        pending.put(Table::KeyHeads, of.0.to_vec(), self.encode());
    }
}

/// The leaves of the entries of an interval.
pub(crate) struct Leaves {
    first: u64,
    hashes: Vec<Hash>,
}

impl Leaves {
    /// Hashes the indexes from `from` on, below `to`.
    pub(crate) fn of(from: TreeSize, to: TreeSize) -> Self {
        Self { first: from.0, hashes: (from.0..to.0).map(key_entry).collect() }
    }

    fn at(&self, indexes: &[u64]) -> Vec<Hash> {
        let at = |index: &u64| usize::try_from(index.checked_sub(self.first)?).ok().and_then(|at| self.hashes.get(at)).copied();
        indexes.iter().map(|index| at(index).unwrap_or_else(|| key_entry(*index))).collect()
    }
}

fn numbers(bytes: &[u8]) -> Option<Vec<u64>> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| chunks.iter().map(|chunk| u64::from_be_bytes(*chunk)).collect())
}

fn damaged(table: Table, key: &[u8]) -> StoreFault {
    StoreFault::Damaged { table, key: key.to_vec() }
}

/// A list to read from: any position, and proofs of them.
pub(crate) struct List<'a, S> {
    store: &'a S,
    of: Hash,
    head: ListHead,
    blocks: HashMap<u64, Vec<u64>>,
}

/// Blocks that are kept of one list while it is read.
const BLOCKS_HELD: usize = 256;

impl<'a, S: Store> List<'a, S> {
    pub(crate) fn open(store: &'a S, of: Hash) -> Result<Self, StoreFault> {
        let head = ListHead::read(&Pending::default(), store, &of)?;
        Ok(Self { store, of, head, blocks: HashMap::new() })
    }

    pub(crate) fn count(&self) -> u64 {
        self.head.count()
    }

    pub(crate) fn root(&self) -> Hash {
        self.head.root()
    }

    /// Returns the index at a position below the count.
    pub(crate) fn index(&mut self, position: u64) -> Result<u64, StoreFault> {
        let (number, of) = (position / BLOCK, self.of);
        let within = usize::try_from(position % BLOCK).unwrap_or(usize::MAX);
        let found = self.block(number)?.get(within).copied();
        found.ok_or_else(|| damaged(Table::KeyBlocks, &key::key_block(&of, number)))
    }

    /// Returns the first position whose index is not below `index`; the count when there is none.
    pub(crate) fn position_of(&mut self, index: u64) -> Result<u64, StoreFault> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.index(middle)? < index {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Returns the set proof of the positions `from..from + count`, at least one.
    pub(crate) fn range_path(&mut self, from: u64, count: u64) -> Result<Vec<Hash>, StoreFault> {
        let listed: Vec<u64> = (from..from + count).collect();
        set_proof(self.count(), &listed, &mut |of| self.subtree(of))
    }

    fn block(&mut self, number: u64) -> Result<&[u64], StoreFault> {
        if number == self.count() / BLOCK {
            return Ok(&self.head.tail);
        }
        if self.blocks.len() >= BLOCKS_HELD {
            self.blocks.clear();
        }
        if !self.blocks.contains_key(&number) {
            let at = key::key_block(&self.of, number);
            let row = self.store.get(Table::KeyBlocks, &at)?;
            let block = row.as_deref().and_then(numbers).ok_or_else(|| damaged(Table::KeyBlocks, &at))?;
            self.blocks.insert(number, block);
        }
        Ok(self.blocks.get(&number).map_or(&[], Vec::as_slice))
    }

    fn subtree(&mut self, of: Subtree) -> Result<Hash, StoreFault> {
        if !of.count.is_power_of_two() {
            let (left, right) = of.split();
            let (left, right) = (self.subtree(left)?, self.subtree(right)?);
            return Ok(<ContentHash as crate::hash::TreeHash>::node(&left, &right));
        }
        let height = of.count.ilog2();
        let level = u8::try_from(height / BLOCK_HEIGHT).unwrap_or(u8::MAX);
        let hashes = match level {
            0 => self.leaves(of)?,
            _ => self.roots(level, of.first >> (u32::from(level) * BLOCK_HEIGHT), 1 << (height % BLOCK_HEIGHT))?,
        };
        root_over(&hashes).ok_or_else(|| damaged(Table::KeyHashes, &self.of.0))
    }

    /// Hashes at most one block of indexes.
    fn leaves(&mut self, of: Subtree) -> Result<Vec<Hash>, StoreFault> {
        (of.first..of.first + of.count).map(|position| Ok(key_entry(self.index(position)?))).collect()
    }

    fn roots(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, StoreFault> {
        let (from, to) = (key::key_hash(&self.of, level, first), key::key_hash(&self.of, level, first + count));
        let range = KeyRange { from: &from, to: &to };
        let rows = self.store.scan(Table::KeyHashes, range, Direction::Ascending, usize::MAX)?;
        let roots: Vec<Hash> = rows.iter().filter_map(|row| Hash::from_slice(&row.value)).collect();
        if roots.len() as u64 == count { Ok(roots) } else { Err(damaged(Table::KeyHashes, &from)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::hash::TreeHash as _;
    use crate::store::{Changes, MapStore};

    /// The definition of section 3.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                ContentHash::node(&naive(left), &naive(right))
            }
        }
    }

    /// The definition of section 17.2.
    fn set_root(lo: u64, n: u64, listed: &[(u64, Hash)], path: &mut impl Iterator<Item = Hash>) -> Option<Hash> {
        let within: Vec<_> = listed.iter().copied().filter(|(at, _)| (lo..lo + n).contains(at)).collect();
        if within.is_empty() {
            return path.next();
        }
        if n == 1 {
            return Some(within[0].1);
        }
        let k = n.next_power_of_two() / 2;
        let left = set_root(lo, k, &within, path)?;
        Some(ContentHash::node(&left, &set_root(lo + k, n - k, &within, path)?))
    }

    fn stored(groups: &[Vec<u64>], of: &Hash) -> MapStore {
        let mut store = MapStore::default();
        for group in groups {
            let mut pending = Pending::default();
            let mut head = ListHead::read(&pending, &store, of).unwrap();
            let (from, to) = (group.first().unwrap(), group.last().unwrap() + 1);
            head.append(&mut pending, of, group, &Leaves::of(TreeSize(*from), TreeSize(to)));
            store.commit(Changes { rows: pending.take() });
        }
        store
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_list_is_the_tree_over_its_indexes_however_they_came(steps in prop::collection::vec((1..4_u64, 1..700_usize), 1..14), from in any::<prop::sample::Index>(), length in 1..300_usize, sought in 0..9_000_u64) {
            let of = Hash([7; 32]);
            let (mut next, mut groups) = (0, Vec::new());
            for (gap, count) in steps {
                let group: Vec<u64> = (0..count as u64).map(|number| next + gap * number).collect();
                next = group.last().unwrap() + 1;
                groups.push(group);
            }
            let all: Vec<u64> = groups.concat();
            let store = stored(&groups, &of);
            let mut list = List::open(&store, of).unwrap();
            let leaves: Vec<Hash> = all.iter().map(|index| key_entry(*index)).collect();
            prop_assert_eq!((list.count(), list.root()), (all.len() as u64, naive(&leaves)));
            prop_assert_eq!(list.position_of(sought).unwrap(), all.partition_point(|index| *index < sought) as u64);
            let from = from.index(all.len());
            let to = (from + length).min(all.len());
            let listed: Vec<(u64, Hash)> = (from..to).map(|at| (at as u64, leaves[at])).collect();
            for (at, _) in &listed {
                prop_assert_eq!(list.index(*at).unwrap(), all[usize::try_from(*at).unwrap()]);
            }
            let mut path = list.range_path(from as u64, (to - from) as u64).unwrap().into_iter();
            prop_assert_eq!(set_root(0, all.len() as u64, &listed, &mut path), Some(list.root()));
            prop_assert_eq!(path.next(), None, "no hash is left over");
        }
    }

    #[test]
    fn a_long_list_reads_from_every_level() {
        let of = Hash([9; 32]);
        let all: Vec<u64> = (0..300_000).collect();
        let store = stored(std::slice::from_ref(&all), &of);
        let mut list = List::open(&store, of).unwrap();
        for at in [0, 63, 64, 4_095, 4_096, 262_143, 262_144, 299_999] {
            let mut path = list.range_path(at, 1).unwrap().into_iter();
            assert_eq!(set_root(0, 300_000, &[(at, key_entry(at))], &mut path), Some(list.root()), "position {at}");
        }
    }

    #[test]
    fn a_list_that_lacks_a_row_is_damaged() {
        let of = Hash([9; 32]);
        let store = stored(&[(0..100).collect()], &of);
        let row = store.get(Table::KeyHeads, &of.0).unwrap().unwrap();
        assert!(ListHead::decode(&row[..row.len() - 8]).is_none() && ListHead::decode(&row[..7]).is_none());
        let mut without = MapStore::default();
        without.commit(Changes { rows: vec![crate::Change { table: Table::KeyHeads, key: of.0.to_vec(), value: Some(row) }] });
        List::open(&without, of).unwrap().index(3).unwrap_err();
    }
}
