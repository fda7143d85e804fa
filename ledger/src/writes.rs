//! The writes of one apply, readable before they are committed, and the part of them that each entry's digest covers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use foldhash::HashMap;
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use prost::Message;

use crate::facts::sets::Member;
use crate::key;
use crate::row;
use crate::store::{Change, Changes, Direction, KeyRange, Store, StoreFault, Table};

/// Rows of one table by key; `None` is a row that is not there.
type Rows = HashMap<Vec<u8>, Option<Vec<u8>>>;
/// The same in the order in which they came: keys of most tables rise.
type Staged = IndexMap<Vec<u8>, Option<Vec<u8>>, RandomState>;

/// Bytes of rows that are held in memory between applies; past this they are read again.
const HELD_BYTES_MAX: usize = 64 << 20;
/// What a row that is held takes beside its key and value.
const HELD_ROW_BYTES: usize = 96;

/// Names whose digests are remembered; past this the memory of them begins again.
const NAMES_MAX: usize = 8_192;
/// Longer ones are digested each time.
const NAME_BYTES_MAX: usize = 256;

/// Room for rows that is kept from one apply to the next; what a larger group took is given back.
const ROOM_MAX: usize = 65_536;

/// The rows that nearly every batch reads again, as the store has them: registrations and heads of lanes, not content.
#[derive(Debug, Default)]
pub(crate) struct HeldRows {
    tables: [Rows; 15],
    bytes: usize,
}

/// What lasts from one apply to the next: rows that are read again, and the room in which rows were staged. Room is
/// memory alone: the next group needs as much, and pages that are given back come again one fault at a time.
#[derive(Debug)]
pub(crate) struct Memory {
    held: HeldRows,
    staged: [Staged; Table::ALL.len()],
    of_entry: OfEntry,
    spare: Vec<Change>,
    names: Names,
}

/// Digests of names that came lately: the same few tools, resources and servers come again and again, and a look costs a tenth of a
/// digest.
#[derive(Debug, Default)]
struct Names(HashMap<Box<str>, Member>);

impl Names {
    fn member(&mut self, name: &str) -> Member {
        if let Some(known) = self.0.get(name) {
            return *known;
        }
        let member = Member::of(name);
        if name.len() <= NAME_BYTES_MAX {
            if self.0.len() >= NAMES_MAX {
                self.0.clear();
            }
            self.0.insert(name.into(), member);
        }
        member
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            held: HeldRows::default(),
            staged: std::array::from_fn(|_| Staged::default()),
            of_entry: OfEntry::default(),
            spare: Vec::new(),
            names: Names::default(),
        }
    }
}

impl Memory {
    /// Bounds the memory.
    pub(crate) fn trim(&mut self) {
        self.held.trim();
        self.staged.iter_mut().filter(|rows| rows.capacity() > ROOM_MAX).for_each(|rows| *rows = Staged::default());
        // An apply that failed may have left rows that were never committed.
        self.staged.iter_mut().for_each(IndexMap::clear);
        self.of_entry.clear();
    }

    /// Takes the room of changes that were committed.
    pub(crate) fn recycle(&mut self, changes: Changes) {
        let mut rows = changes.rows;
        rows.clear();
        if rows.capacity() <= ROOM_MAX {
            self.spare = rows;
        }
    }
}

/// The rows that the entry under way changed, by their keys one behind the other.
#[derive(Debug, Default)]
struct OfEntry {
    keys: Vec<u8>,
    rows: Vec<(Table, Range<usize>)>,
}

impl OfEntry {
    fn push(&mut self, table: Table, key: &[u8]) {
        let from = self.keys.len();
        self.keys.extend_from_slice(key);
        self.rows.push((table, from..self.keys.len()));
    }

    /// Returns each row once, in the order of tables and keys.
    fn sorted(&mut self) -> impl Iterator<Item = (Table, &[u8])> {
        let Self { keys, rows } = self;
        let keys = keys.as_slice();
        let key = |range: &Range<usize>| keys.get(range.clone()).unwrap_or_default();
        rows.sort_unstable_by(|(table, one), (other_table, other)| (table, key(one)).cmp(&(other_table, key(other))));
        rows.dedup_by(|(table, one), (other_table, other)| table == other_table && key(one) == key(other));
        rows.iter().map(move |(table, range)| (*table, keys.get(range.clone()).unwrap_or_default()))
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.rows.clear();
    }
}

impl HeldRows {
    fn trim(&mut self) {
        if self.bytes > HELD_BYTES_MAX {
            *self = Self::default();
        }
    }

    /// Holds a row as the store has it.
    fn hold(&mut self, table: Table, key: &[u8], value: &Option<Vec<u8>>) {
        let Some(rows) = self.of(table) else { return };
        let before = match rows.get_mut(key) {
            Some(before) => {
                let bytes = before.as_ref().map_or(0, Vec::len);
                before.clone_from(value);
                bytes
            }
            None => {
                rows.insert(key.to_vec(), value.clone());
                self.bytes += key.len() + HELD_ROW_BYTES;
                0
            }
        };
        self.bytes = self.bytes + value.as_ref().map_or(0, Vec::len) - before;
    }

    fn of(&mut self, table: Table) -> Option<&mut Rows> {
        let [
            collectors,
            lanes,
            quotas,
            agents,
            contained,
            spawns,
            counts,
            traits,
            members,
            agent_counts,
            owners,
            credentials,
            servers,
            tools,
            ties,
        ] = &mut self.tables;
        match table {
            Table::Collectors => Some(collectors),
            Table::Lanes => Some(lanes),
            Table::Quotas => Some(quotas),
            Table::Agents => Some(agents),
            Table::Contained => Some(contained),
            Table::Spawns => Some(spawns),
            Table::SessionCounts => Some(counts),
            Table::SessionTraits => Some(traits),
            Table::Members => Some(members),
            Table::AgentCounts => Some(agent_counts),
            Table::ResourceOwners => Some(owners),
            Table::CredentialsSeen => Some(credentials),
            Table::Servers => Some(servers),
            Table::ToolDefinitions => Some(tools),
            Table::SubjectTies => Some(ties),
            _ => None,
        }
    }
}

/// Reads through to the store; holds everything written since the apply began.
pub(crate) struct Writes<'a, S> {
    store: &'a S,
    held: RefCell<&'a mut HeldRows>,
    staged: &'a mut [Staged; Table::ALL.len()],
    of_entry: &'a mut OfEntry,
    /// Rows that nobody looks up before they are committed.
    added: Vec<Change>,
    names: RefCell<&'a mut Names>,
    /// Keys of [`Table::Members`] that are staged, in their order.
    members: BTreeSet<Vec<u8>>,
}

impl<'a, S: Store> Writes<'a, S> {
    pub(crate) fn new(store: &'a S, memory: &'a mut Memory) -> Self {
        memory.trim();
        let Memory { held, staged, of_entry, spare, names } = memory;
        let (held, names, added) = (RefCell::new(held), RefCell::new(names), std::mem::take(spare));
        Self { store, held, staged, of_entry, added, names, members: BTreeSet::new() }
    }

    #[allow(clippy::indexing_slicing, reason = "there is one place for each table")]
    fn staged(&self, table: Table) -> &Staged {
        &self.staged[table as usize]
    }

    #[allow(clippy::indexing_slicing, reason = "there is one place for each table")]
    fn stage(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) {
        let rows = &mut self.staged[table as usize];
        if let Some(staged) = rows.get_mut(key) {
            *staged = value;
            return;
        }
        if table == Table::Members {
            self.members.insert(key.to_vec());
        }
        rows.insert(key.to_vec(), value);
    }

    pub(crate) fn store(&self) -> &'a S {
        self.store
    }

    /// Returns the row under `key`, as the writes so far leave it.
    pub(crate) fn read<T: Message + Default>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreFault> {
        self.look(table, key, |value| value.map(|value| row::decode(table, key, value)).transpose())
    }

    /// Returns the exact value under `key`, as the writes so far leave it.
    pub(crate) fn bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.look(table, key, |value| Ok(value.map(<[u8]>::to_vec)))
    }

    /// Tells whether there is a row under `key`.
    pub(crate) fn has(&self, table: Table, key: &[u8]) -> Result<bool, StoreFault> {
        self.look(table, key, |value| Ok(value.is_some()))
    }

    /// Shows the value under `key` to `see`, where it lies. `see` looks nothing up itself.
    pub(crate) fn look<T>(
        &self,
        table: Table,
        key: &[u8],
        see: impl FnOnce(Option<&[u8]>) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        if let Some(staged) = self.staged(table).get(key) {
            return see(staged.as_deref());
        }
        let mut held = self.held.borrow_mut();
        let Some(rows) = held.of(table) else { return see(self.store.get(table, key)?.as_deref()) };
        if let Some(row) = rows.get(key) {
            return see(row.as_deref());
        }
        let row = self.store.get(table, key)?;
        held.hold(table, key, &row);
        see(row.as_deref())
    }

    /// Returns every row of a small table, as the writes so far leave it, in key order.
    pub(crate) fn whole(&self, table: Table, limit: usize) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreFault> {
        self.below(table, &[], limit)
    }

    /// Returns the rows whose keys begin with `prefix`, as the writes so far leave them, in key order. `limit` is no less than
    /// their number.
    pub(crate) fn below(&self, table: Table, prefix: &[u8], limit: usize) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreFault> {
        let range = KeyRange { from: prefix, to: &key::behind(prefix) };
        let committed = self.store.scan(table, range, Direction::Ascending, limit)?;
        let mut rows: BTreeMap<_, _> = committed.into_iter().map(|row| (row.key, row.value)).collect();
        for (key, value) in self.staged(table).iter().filter(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows)
    }

    /// Returns the keys of members under a prefix, as the writes so far leave them, in their order. Members are never removed.
    pub(crate) fn members_under(&self, prefix: &[u8], limit: usize) -> Result<BTreeSet<Vec<u8>>, StoreFault> {
        let range = KeyRange { from: prefix, to: &key::behind(prefix) };
        let committed = self.store.scan(Table::Members, range, Direction::Ascending, limit)?;
        let staged = self.members.range(prefix.to_vec()..key::behind(prefix).into_vec()).cloned();
        Ok(committed.into_iter().map(|row| row.key).chain(staged).collect())
    }

    /// Returns the keys of a small table that were removed since the apply began.
    pub(crate) fn removed(&self, table: Table) -> BTreeSet<Vec<u8>> {
        let rows = self.staged(table).iter().filter(|(_, value)| value.is_none());
        rows.map(|(key, _)| key.clone()).collect()
    }

    /// Writes a row that later decisions read: part of the state digest.
    pub(crate) fn put(&mut self, table: Table, key: impl AsRef<[u8]>, row: &impl Message) {
        self.put_bytes(table, key, row.encode_to_vec());
    }

    pub(crate) fn put_bytes(&mut self, table: Table, key: impl AsRef<[u8]>, value: Vec<u8>) {
        let key = key.as_ref();
        self.of_entry.push(table, key);
        self.stage(table, key, Some(value));
    }

    /// Removes a row that later decisions read: part of the state digest.
    pub(crate) fn remove(&mut self, table: Table, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        self.of_entry.push(table, key);
        self.stage(table, key, None);
    }

    /// Writes a row that the entries alone determine, or that no decision reads: not part of the state digest.
    pub(crate) fn keep(&mut self, table: Table, key: impl AsRef<[u8]>, value: Vec<u8>) {
        self.stage(table, key.as_ref(), Some(value));
    }

    /// Writes a row that the entries alone determine, once, and that no apply looks up before it is committed.
    pub(crate) fn add(&mut self, table: Table, key: impl AsRef<[u8]>, value: Vec<u8>) {
        self.added.push(Change { table, key: key.as_ref().to_vec(), value: Some(value) });
    }

    /// Returns the digest of a name, which is known where the name came lately.
    pub(crate) fn member(&self, name: &str) -> Member {
        self.names.borrow_mut().member(name)
    }

    /// Removes a row that was kept.
    pub(crate) fn forget(&mut self, table: Table, key: impl AsRef<[u8]>) {
        self.stage(table, key.as_ref(), None);
    }

    /// Adds the entry's sorted write set to `written`, as the state digest covers it, and starts the next entry's.
    #[allow(clippy::indexing_slicing, reason = "there is one place for each table")]
    pub(crate) fn end_entry(&mut self, written: &mut Vec<u8>) {
        for (table, key) in self.of_entry.sorted() {
            written.push(table as u8);
            push(written, key);
            match self.staged[table as usize].get(key) {
                Some(Some(value)) => {
                    written.push(1);
                    push(written, value);
                }
                Some(None) | None => written.push(0),
            }
        }
        self.of_entry.clear();
    }

    pub(crate) fn finish(self) -> Changes {
        debug_assert!(self.of_entry.rows.is_empty(), "every digested write belongs to an entry");
        let held = self.held.into_inner();
        let mut changes = self.added;
        changes.reserve(self.staged.iter().map(IndexMap::len).sum());
        for (table, rows) in Table::ALL.into_iter().zip(self.staged) {
            if held.of(table).is_some() {
                rows.iter().for_each(|(key, value)| held.hold(table, key, value));
            }
            let first = changes.len();
            changes.extend(rows.drain(..).map(|(key, value)| Change { table, key, value }));
            // In the order of keys a store's sorted memory finds the place of each row beside the last one's.
            if let Some(of_table) = changes.get_mut(first..) {
                of_table.sort_unstable_by(|one: &Change, other| one.key.cmp(&other.key));
            }
        }
        Changes { rows: changes }
    }
}

fn push(written: &mut Vec<u8>, bytes: &[u8]) {
    written.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    written.extend_from_slice(bytes);
}
