//! Rows that are not written yet, over a store that holds the rows before them.

use std::collections::{BTreeMap, HashMap};

use crate::store::{Change, Store, StoreFault, Table};

/// New rows, by table and key. None is ever removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    tables: BTreeMap<Table, HashMap<Vec<u8>, Vec<u8>>>,
    bytes: usize,
}

impl Pending {
    pub(crate) fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        if let Some(former) = self.tables.entry(table).or_default().insert(key, value) {
            self.bytes = self.bytes.saturating_sub(former.len());
        }
    }

    pub(crate) fn get(&self, store: &impl Store, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        match self.tables.get(&table).and_then(|rows| rows.get(key)) {
            Some(value) => Ok(Some(value.clone())),
            None => store.get(table, key),
        }
    }

    /// About how much memory the rows take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes all rows, in the order of their keys within each table.
    pub(crate) fn take(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.bytes = 0;
        for (table, rows) in std::mem::take(&mut self.tables) {
            let mut rows: Vec<_> = rows.into_iter().collect();
            rows.sort_unstable();
            changes.extend(rows.into_iter().map(|(key, value)| Change { table, key, value: Some(value) }));
        }
        changes
    }
}
