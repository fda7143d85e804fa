//! The keys that entries carry: found by the apply that makes the entries, or out of the entries.
//!
//! Always true: both find the same. What an apply finds is held for whoever indexes soon after it, while there is room; whoever
//! comes later reads the entries.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::{HashMap, HashMapExt as _};
use proofline_proto::v1::{self, Dimension};
use prost::bytes::Bytes;

use super::keys::{Carrier, Value, carried_by};
use crate::hash::{Hash, map_keys, spell_map_key};
use crate::ids::{EntryIndex, TreeSize};
use crate::listing;
use crate::log::damaged;
use crate::store::{Store, StoreFault};

/// Entries that are gone through at once.
const STEP_ENTRIES: u64 = 20_000;
/// Keys of entries that are held at once, about: an entry can carry hundreds.
const STEP_POSTINGS: usize = 250_000;
/// Entries that are read at once.
const READ_ENTRIES: usize = 256;
/// Entries that are read at once where one with a key is looked for.
const LOOK_ENTRIES: u64 = 16;
/// About how much memory keys take that wait to be indexed; the oldest go first.
const WAITING_BYTES_MAX: usize = 12 << 20;
/// What a key takes beside its letters, and what an apply takes beside its keys.
const KEY_BYTES: usize = 96;
const APPLY_BYTES: usize = 192;

/// Which of consecutive entries carry which keys. A key is held as the bytes that its place in the map is the hash of.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    first: TreeSize,
    end: TreeSize,
    /// By key: how far behind `first` the entries are that carry it, which rises.
    lists: HashMap<Box<[u8]>, Vec<u32>>,
    spelled: Vec<u8>,
    postings: usize,
    bytes: usize,
}

impl Carried {
    fn from(first: TreeSize) -> Self {
        Self { first, end: first, bytes: APPLY_BYTES, ..Self::default() }
    }

    /// Takes note of what entry `core` carries, which follows those before.
    pub(crate) fn add(&mut self, core: &v1::EntryCore, event: Option<&v1::Event>) {
        if self.first == self.end {
            (self.first, self.end) = (TreeSize(core.index), TreeSize(core.index));
        }
        let behind = u32::try_from(core.index.saturating_sub(self.first.0)).unwrap_or(u32::MAX);
        carried_by(core, event, |dimension, tenant, value| self.post(dimension, tenant, value, behind));
        self.end = TreeSize(core.index + 1);
    }

    fn post(&mut self, dimension: Dimension, tenant: &str, value: Value<'_>, behind: u32) {
        self.spelled.clear();
        spell_map_key(dimension, tenant, value.pieces(), &mut self.spelled);
        match self.lists.get_mut(self.spelled.as_slice()) {
            // An entry may name a key more than once.
            Some(list) if list.last() == Some(&behind) => return,
            Some(list) => list.push(behind),
            None => {
                self.bytes += KEY_BYTES + self.spelled.len();
                self.lists.insert(self.spelled.as_slice().into(), vec![behind]);
            }
        }
        self.postings += 1;
        self.bytes += size_of::<u32>();
    }

    /// Takes what was found of the entries that came since, if any, and goes on behind them.
    pub(crate) fn take(&mut self) -> Option<Self> {
        if self.first == self.end {
            return None;
        }
        let next = Self::from(self.end);
        Some(std::mem::replace(self, next))
    }
}

/// What applies found and nobody has indexed yet. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RecentKeys(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of the log.
    found: VecDeque<Carried>,
    bytes: usize,
}

impl RecentKeys {
    /// Keeps what an apply found, while there is room for it.
    pub fn push(&self, found: Carried) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += found.bytes;
        waiting.found.push_back(found);
        while waiting.bytes > WAITING_BYTES_MAX {
            waiting.pop();
        }
    }

    /// Takes what begins at `next` and ends at `to` or before.
    fn take(&self, next: TreeSize, to: TreeSize) -> Option<Carried> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.found.front().is_some_and(|of| of.first < next) {
            waiting.pop();
        }
        if waiting.found.front().is_some_and(|of| of.first == next && of.end <= to) { waiting.pop() } else { None }
    }

    /// Returns where what waits begins, behind `next`.
    fn begins_behind(&self, next: TreeSize) -> Option<TreeSize> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.found.iter().map(|of| of.first).find(|first| *first > next)
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<Carried> {
        let oldest = self.found.pop_front()?;
        self.bytes = self.bytes.saturating_sub(oldest.bytes);
        Some(oldest)
    }
}

/// Places of keys in the map, each with the indexes of the entries that carry it, which rise.
pub(super) type Lists = Vec<(Hash, Vec<u64>)>;

/// Finds the keys of the entries from `from` on; and where it ended: at `to`, or where there were many.
pub(super) fn carried(store: &impl Store, recent: &RecentKeys, from: TreeSize, to: TreeSize) -> Result<(Lists, TreeSize), StoreFault> {
    let mut lists: HashMap<Box<[u8]>, Vec<u64>> = HashMap::new();
    let (mut next, mut postings) = (from, 0);
    while next < to && next.0 - from.0 < STEP_ENTRIES && postings < STEP_POSTINGS {
        let found = match recent.take(next, to) {
            Some(found) => found,
            None => read(store, next, recent.begins_behind(next).map_or(to, |begin| begin.min(to)))?,
        };
        for (key, list) in found.lists {
            lists.entry(key).or_default().extend(list.into_iter().map(|behind| found.first.0 + u64::from(behind)));
        }
        postings += found.postings;
        next = found.end;
    }
    let (keys, lists): (Vec<_>, Vec<_>) = lists.into_iter().unzip();
    Ok((map_keys(&keys).into_iter().zip(lists).collect(), next))
}

/// Finds the keys of some entries from `next` on in the entries themselves.
fn read(store: &impl Store, next: TreeSize, to: TreeSize) -> Result<Carried, StoreFault> {
    let mut found = Carried::from(next);
    for entry in listing::entries(store, EntryIndex(next.0), EntryIndex(to.0), READ_ENTRIES)? {
        let carrier = Carrier::parse(Bytes::from(entry)).filter(|carrier| carrier.core.index == found.end.0);
        let carrier = carrier.ok_or_else(|| damaged(EntryIndex(found.end.0)))?;
        found.add(&carrier.core, carrier.event.as_ref());
    }
    if found.end == next { Err(damaged(EntryIndex(next.0))) } else { Ok(found) }
}

/// Tells whether an entry between two sizes carries a key. Usually one of the first does, or none.
pub(super) fn carries_keys(store: &impl Store, from: TreeSize, to: TreeSize) -> Result<bool, StoreFault> {
    let mut next = from;
    while next < to {
        let found = read(store, next, TreeSize(to.0.min(next.0 + LOOK_ENTRIES)))?;
        if !found.lists.is_empty() {
            return Ok(true);
        }
        next = found.end;
    }
    Ok(false)
}
