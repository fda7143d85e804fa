//! The writes of one apply, readable before they are committed, and the part of them that each entry's digest covers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message;

use crate::key;
use crate::row;
use crate::store::{Change, Changes, Direction, KeyRange, Store, StoreFault, Table};

/// Reads through to the store; holds everything written since the apply began.
pub(crate) struct Writes<'a, S> {
    store: &'a S,
    staged: HashMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    of_entry: Vec<(Table, Vec<u8>)>,
}

impl<'a, S: Store> Writes<'a, S> {
    pub(crate) fn new(store: &'a S) -> Self {
        Self { store, staged: HashMap::new(), of_entry: Vec::new() }
    }

    pub(crate) fn store(&self) -> &'a S {
        self.store
    }

    /// Returns the row under `key`, as the writes so far leave it.
    pub(crate) fn read<T: Message + Default>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreFault> {
        self.bytes(table, key)?.map(|value| row::decode(table, key, &value)).transpose()
    }

    /// Returns the exact value under `key`, as the writes so far leave it.
    pub(crate) fn bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        match self.staged.get(&(table, key.to_vec())) {
            Some(staged) => Ok(staged.clone()),
            None => self.store.get(table, key),
        }
    }

    /// Returns every row of a small table, as the writes so far leave it, in key order.
    pub(crate) fn whole(&self, table: Table, limit: usize) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreFault> {
        let range = KeyRange { from: &[], to: &key::behind(&[]) };
        let committed = self.store.scan(table, range, Direction::Ascending, limit)?;
        let mut rows: BTreeMap<_, _> = committed.into_iter().map(|row| (row.key, row.value)).collect();
        for ((_, key), value) in self.staged.iter().filter(|((of, _), _)| *of == table) {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows)
    }

    /// Returns the keys of a small table that were removed since the apply began.
    pub(crate) fn removed(&self, table: Table) -> BTreeSet<Vec<u8>> {
        let rows = self.staged.iter().filter(|((of, _), value)| *of == table && value.is_none());
        rows.map(|((_, key), _)| key.clone()).collect()
    }

    /// Writes a row that later decisions read: part of the state digest.
    pub(crate) fn put(&mut self, table: Table, key: Vec<u8>, row: &impl Message) {
        self.put_bytes(table, key, row.encode_to_vec());
    }

    pub(crate) fn put_bytes(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.of_entry.push((table, key.clone()));
        self.staged.insert((table, key), Some(value));
    }

    /// Removes a row that later decisions read: part of the state digest.
    pub(crate) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.of_entry.push((table, key.clone()));
        self.staged.insert((table, key), None);
    }

    /// Writes a row that the entries alone determine, or that no decision reads: not part of the state digest.
    pub(crate) fn keep(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.staged.insert((table, key), Some(value));
    }

    /// Feeds the entry's sorted write set into `digest` and starts the next entry's.
    pub(crate) fn digest_entry(&mut self, digest: &mut blake3::Hasher) {
        let mut written = std::mem::take(&mut self.of_entry);
        written.sort_unstable();
        written.dedup();
        for (table, key) in written {
            digest.update(&[table as u8]);
            feed(digest, &key);
            match self.staged.get(&(table, key)) {
                Some(Some(value)) => {
                    digest.update(&[1]);
                    feed(digest, value);
                }
                Some(None) | None => {
                    digest.update(&[0]);
                }
            }
        }
    }

    pub(crate) fn finish(self) -> Changes {
        debug_assert!(self.of_entry.is_empty(), "every digested write belongs to an entry");
        Changes { rows: self.staged.into_iter().map(|((table, key), value)| Change { table, key, value }).collect() }
    }
}

fn feed(digest: &mut blake3::Hasher, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}
