//! One page of an answer, while it is filled and when it is proven.

use std::collections::BTreeMap;

use proofline_proto::v1;
use prost::bytes::Bytes;
use v1::entry_core::Body;

use super::keys::Key;
use super::list::List;
use super::map;
use crate::entry;
use crate::hash::Hash;
use crate::ids::{EntryIndex, TreeSize};
use crate::log_proof::LogTree;
use crate::session_proof::SignedBatch;
use crate::store::{Store, StoreFault};

/// Bytes of a page, about: what stands on it and what proves it.
const BYTES_MAX: usize = 1 << 20;
/// What an entry, a range and an index cost beside their bytes: paths, statements, frames.
const ENTRY_FRAME: usize = 1_024;
const RANGE_FRAME: usize = 2_048;
const INDEX_BYTES: usize = 8;

/// A key's list, as the map has it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) key: Key,
    pub(super) hash: Hash,
    pub(super) count: u64,
    pub(super) root: Hash,
}

/// A page that is being filled.
pub(super) struct Draft {
    entries: BTreeMap<u64, Bytes>,
    ranges: Vec<v1::KeyRange>,
    open: Option<v1::KeyRange>,
    counted: usize,
    counted_max: usize,
    bytes: usize,
}

impl Draft {
    pub(super) fn new(entries: usize) -> Self {
        Self { entries: BTreeMap::new(), ranges: Vec::new(), open: None, counted: 0, counted_max: entries.max(1), bytes: 0 }
    }

    /// Tells whether nothing that counts has room. A page that holds nothing is never full.
    pub(super) fn is_full(&self) -> bool {
        self.counted >= self.counted_max || self.bytes >= BYTES_MAX
    }

    /// Puts an entry onto the page.
    pub(super) fn add(&mut self, index: u64, entry: Bytes) {
        self.bytes += entry.len() + ENTRY_FRAME;
        self.entries.insert(index, entry);
    }

    /// Counts an entry that the answer consists of.
    pub(super) fn count_entry(&mut self) {
        self.counted += 1;
    }

    /// Begins a range of a list at a position, and proves what the map says of its key.
    pub(super) fn begin_range(&mut self, store: &impl Store, of: &Listed, from: u64) -> Result<(), StoreFault> {
        let proof = map::prove(store, &of.hash)?;
        let other = proof.leaf.filter(|leaf| leaf.key != of.hash);
        self.bytes += RANGE_FRAME;
        self.open = Some(v1::KeyRange {
            key: Some(of.key.message()),
            count: of.count,
            root: if of.count == 0 { Vec::new() } else { of.root.0.to_vec() },
            map_path: proof.path.iter().map(|hash| hash.0.to_vec()).collect(),
            other_key: other.map(|leaf| leaf.key.0.to_vec()).unwrap_or_default(),
            other_value: other.map(|leaf| [&leaf.count.to_be_bytes()[..], &leaf.root.0].concat()).unwrap_or_default(),
            from,
            indexes: Vec::new(),
            range_path: Vec::new(),
        });
        Ok(())
    }

    /// Puts the next index of the list into the range.
    pub(super) fn list(&mut self, index: u64) {
        self.bytes += INDEX_BYTES;
        self.open.iter_mut().for_each(|range| range.indexes.push(index));
    }

    /// Ends the range, and proves it.
    pub(super) fn end_range(&mut self, list: &mut List<'_, impl Store>) -> Result<(), StoreFault> {
        let Some(mut range) = self.open.take() else { return Ok(()) };
        if !range.indexes.is_empty() {
            let path = list.range_path(range.from, range.indexes.len() as u64)?;
            range.range_path = path.iter().map(|hash| hash.0.to_vec()).collect();
        }
        self.ranges.push(range);
        Ok(())
    }

    /// Proves what stands on the page under a checkpoint of `size` entries, and puts it into `frame`.
    pub(super) fn finish(self, store: &impl Store, size: TreeSize, frame: v1::LineagePage) -> Result<v1::LineagePage, StoreFault> {
        let indexes: Vec<EntryIndex> = self.entries.keys().copied().map(EntryIndex).collect();
        let path = LogTree::new(store, size).set_path(&indexes)?;
        let statements = statements(store, &self.entries)?;
        let entries = self.entries.into_iter().map(|(index, entry)| v1::IndexedEntry { index, entry }).collect();
        let log_path = path.iter().map(|hash| hash.0.to_vec()).collect();
        Ok(v1::LineagePage { ranges: self.ranges, entries, log_path, statements, ..frame })
    }
}

/// Where a batch stands. Sorted by collector, lane, epoch and sequence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BatchPlace {
    collector: String,
    lane: u32,
    epoch: u64,
    sequence: u64,
}

/// Returns what collectors signed of the events among `entries`, in the order of the batches' places.
fn statements(store: &impl Store, entries: &BTreeMap<u64, Bytes>) -> Result<Vec<v1::StatementPart>, StoreFault> {
    let mut batches: BTreeMap<BatchPlace, Vec<u64>> = BTreeMap::new();
    for entry in entries.values() {
        let Some(Body::Event(event)) = entry::parse(entry).and_then(|(_, core)| core.body) else { continue };
        let Some(at) = event.at else { continue };
        let place = BatchPlace { collector: at.collector_id, lane: at.lane, epoch: at.epoch, sequence: at.sequence };
        batches.entry(place).or_default().push(at.offset.into());
    }
    let part = |(place, offsets): (BatchPlace, Vec<u64>)| {
        let BatchPlace { collector: collector_id, lane, epoch, sequence } = place;
        let batch = SignedBatch::find(store, &v1::BatchPosition { collector_id, lane, epoch, sequence, ..v1::BatchPosition::default() })?;
        let batch_path = batch.set_path(&offsets)?.iter().map(|hash| hash.0.to_vec()).collect();
        Ok(v1::StatementPart { statement: Some(batch.statement), batch_path })
    };
    batches.into_iter().map(part).collect()
}
