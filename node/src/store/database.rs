use std::{path::Path, sync::Arc};

use openraft::{LogId, StoredMembership};
use proofline_ledger::{Change, Changes, Direction, KeyRange, Row, Store, StoreFault, Table};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, IteratorMode, Options,
    ReadOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint,
};
use tokio::sync::watch;

use super::{
    Position, StoreError,
    directory::Directory,
    position::{APPLIED, MEMBERSHIP, encode_applied},
};
use crate::{damage::is_damage, replica::Member};

/// Holds nothing but the position: one odd key among the ledger's would make every file overlap.
const POSITION: &str = "position";
/// Blocks, indexes and filters in memory, over all databases of this process.
const CACHE_BYTES: usize = 48 << 20;
/// Unflushed rows in memory, over all tables.
const WRITE_BUFFERS_BYTES: usize = 64 << 20;
const BLOCK_BYTES: usize = 16 << 10;
const OPEN_FILES_MAX: i32 = 512;
/// Of the database's own notes, per file.
const NOTES_BYTES: usize = 8 << 20;
/// Where everything is read.
const READ_AHEAD_BYTES: usize = 2 << 20;
const FILTER_BITS_PER_KEY: f64 = 10.0;
/// What a row takes in a batch beside its key and value: its kind, its column family and two lengths.
const ROW_FRAME_BYTES: usize = 12;
/// Behind every key of a table that begins with a hash or a depth.
const BEHIND_ALL: [u8; 64] = [u8::MAX; 64];

type RawRow = (Box<[u8]>, Box<[u8]>);

/// What the databases of one process share.
#[derive(Clone)]
pub(super) struct Caches {
    blocks: Cache,
    /// The first damage that any reader found.
    pub(super) damage: watch::Sender<Option<String>>,
}

impl Caches {
    pub(super) fn new() -> Self {
        Self { blocks: Cache::new_lru_cache(CACHE_BYTES), damage: watch::Sender::new(None) }
    }
}

/// How a table is mostly read.
#[derive(Clone, Copy)]
enum Lookups {
    /// Keys that are there: a filter would answer nothing.
    Present,
    /// Keys that often are not there.
    Absent,
}

const fn lookups(table: Table) -> Lookups {
    match table {
        Table::Head
        | Table::Entries
        | Table::LogTiles
        | Table::LogHashes
        | Table::Nodes
        | Table::Commands
        | Table::SessionHeads
        | Table::SessionLeaves
        | Table::SessionChunks
        | Table::ContainmentCases
        | Table::ContainmentLog
        | Table::Outlets
        | Table::AfterContainment
        | Table::Deliveries
        | Table::RuleSets
        | Table::Holds
        | Table::ErasureLog
        | Table::DecisionFacts
        | Table::Unresolved
        | Table::Listed
        | Table::StateCommitments
        | Table::KeyIndex
        | Table::KeyBlocks
        | Table::KeyHashes
        | Table::Checkpoint => Lookups::Present,
        Table::Statements
        | Table::Lanes
        | Table::LaneNonces
        | Table::Equivocations
        | Table::Collectors
        | Table::Quotas
        | Table::Agents
        | Table::Operators
        | Table::Grants
        | Table::CommandNonces
        | Table::Sessions
        | Table::SessionUses
        | Table::Spawns
        | Table::Contained
        | Table::Outbox
        | Table::SessionCounts
        | Table::SessionTraits
        | Table::Members
        | Table::AgentCounts
        | Table::ResourceOwners
        | Table::CredentialsSeen
        | Table::Servers
        | Table::ToolDefinitions
        | Table::MemoryRecords
        | Table::Intents
        | Table::Purposes
        | Table::Approvals
        | Table::Incidents
        | Table::HeldTargets
        | Table::SubjectTies
        | Table::Erasures
        | Table::Retention
        | Table::KeyHeads
        | Table::KeyMap
        | Table::AwaitedParents => Lookups::Absent,
    }
}

/// One database directory, open. It closes, and a retired directory goes, with the last holder.
pub struct StateDb {
    db: DB,
    unlogged: WriteOptions,
    damage: watch::Sender<Option<String>>,
    // After `db`: a field is dropped after those before it, and the files go only when the database is closed.
    directory: Arc<Directory>,
}

impl StateDb {
    pub(super) fn open(directory: Arc<Directory>, caches: &Caches) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
        options.set_max_background_jobs(2);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(NOTES_BYTES);
        let tables = Table::ALL.iter().map(|table| (table.name(), lookups(*table)));
        let families = tables
            .chain([(POSITION, Lookups::Present)])
            .map(|(name, lookups)| ColumnFamilyDescriptor::new(name, family_options(caches, lookups)));
        let db = DB::open_cf_descriptors(&options, directory.path(), families).map_err(|error| StoreError::database("opening", error))?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(Self { db, unlogged, damage: caches.damage.clone(), directory })
    }

    /// Commits what one Raft entry changed together with its place in the log, as a whole.
    ///
    /// On return: readers see it. It is not durable; the Raft log is.
    pub(super) fn commit(
        &self,
        changes: &Changes,
        applied: &LogId<u64>,
        membership: Option<&StoredMembership<u64, Member>>,
    ) -> Result<(), StoreError> {
        let mut batch = self.batch(changes)?;
        let family = self.family(POSITION)?;
        batch.put_cf(family, APPLIED, encode_applied(applied));
        if let Some(membership) = membership {
            let row = serde_json::to_vec(membership).map_err(|_| StoreError::PositionDamaged { what: "membership" })?;
            batch.put_cf(family, MEMBERSHIP, row);
        }
        self.db.write_opt(batch, &self.unlogged).map_err(|error| StoreError::database("writing", error))
    }

    /// Writes rows of the tables that this node makes for itself, as a whole.
    ///
    /// On return: readers see them. They are not durable: what a crash takes away is made again out of the entries.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub fn write_own(&self, changes: Changes) -> Result<(), StoreError> {
        debug_assert!(changes.rows.iter().all(|row| Table::OF_ONE_NODE.contains(&row.table)), "what is replicated is written by apply");
        let batch = self.batch(&changes)?;
        self.db.write_opt(batch, &self.unlogged).map_err(|error| StoreError::database("writing", error))
    }

    /// Forgets the tables that this node makes for itself.
    ///
    /// On return: readers see none of their rows. A crash may bring all of them back.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub fn forget_own(&self) -> Result<(), StoreError> {
        self.forget(&Table::OF_ONE_NODE)
    }

    /// Forgets tables, as [`Self::forget_own`] does.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub(crate) fn forget(&self, tables: &[Table]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for table in tables {
            batch.delete_range_cf(self.family(table.name())?, &[][..], &BEHIND_ALL[..]);
        }
        self.db.write_opt(batch, &self.unlogged).map_err(|error| StoreError::database("writing", error))
    }

    fn batch(&self, changes: &Changes) -> Result<WriteBatch, StoreError> {
        let row_bytes = |row: &Change| row.key.len() + row.value.as_ref().map_or(0, Vec::len) + ROW_FRAME_BYTES;
        let mut batch = WriteBatch::with_capacity_bytes(changes.rows.iter().map(row_bytes).sum());
        let mut of = None;
        for Change { table, key, value } in &changes.rows {
            // The rows of a table mostly stand together.
            let family = match of {
                Some((last, family)) if last == *table => family,
                Some(_) | None => self.family(table.name())?,
            };
            of = Some((*table, family));
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
        Ok(batch)
    }

    /// Returns the state as it is now, and as it stays for who holds the answer.
    #[must_use]
    pub fn frozen(&self) -> Frozen<'_> {
        Frozen { of: self, snapshot: self.db.snapshot() }
    }

    /// Returns how far the Raft log was applied.
    ///
    /// # Errors
    /// [`StoreError`] when the position cannot be read.
    pub fn position(&self) -> Result<Position, StoreError> {
        position_in(&self.db)
    }

    pub(super) fn flush_durably(&self) -> Result<(), StoreError> {
        let names = Table::ALL.iter().map(|table| table.name()).chain([POSITION]);
        let families = names.map(|name| self.family(name)).collect::<Result<Vec<_>, _>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(|error| StoreError::database("flushing", error))
    }

    /// Links the state as it is now into the new directory `path`: one consistent position over all tables.
    pub(super) fn checkpoint(&self, path: &Path) -> Result<(), StoreError> {
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(path))
            .map_err(|error| StoreError::database("snapshotting", error))
    }

    /// Lets the directory go with the last reader.
    pub(super) fn retire(&self) {
        self.directory.retire();
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, StoreError> {
        family_of(&self.db, name)
    }

    fn table(&self, table: Table) -> Result<&ColumnFamily, StoreFault> {
        self.family(table.name()).map_err(|error| StoreFault::Unreadable { table, reason: error.to_string() })
    }

    /// Says what an error of a read means. Damage is announced, whoever reads: a node that knows of it must not go on.
    fn unreadable(&self, table: Table, error: rocksdb::Error) -> StoreFault {
        let is_damaged = is_damage(&error);
        let reason = error.into_string();
        if !is_damaged {
            return StoreFault::Unreadable { table, reason };
        }
        let fault = StoreFault::Corrupted { table, reason };
        self.damage.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert_with(|| fault.to_string());
            is_first
        });
        fault
    }

    fn collect(&self, table: Table, rows: impl Iterator<Item = Result<RawRow, rocksdb::Error>>) -> Result<Vec<Row>, StoreFault> {
        rows.map(|row| {
            let (key, value) = row.map_err(|error| self.unreadable(table, error))?;
            Ok(Row { key: key.into_vec(), value: value.into_vec() })
        })
        .collect()
    }
}

/// The state at one moment: nothing that is written later shows in it.
pub struct Frozen<'a> {
    of: &'a StateDb,
    snapshot: rocksdb::Snapshot<'a>,
}

impl Store for Frozen<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.snapshot.get_cf(self.of.table(table)?, key).map_err(|error| self.of.unreadable(table, error))
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreFault> {
        let Some((reading, mode)) = reading(range, direction) else { return Ok(Vec::new()) };
        self.of.collect(table, self.snapshot.iterator_cf_opt(self.of.table(table)?, reading, mode).take(limit))
    }
}

impl Store for StateDb {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.db.get_cf(self.table(table)?, key).map_err(|error| self.unreadable(table, error))
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreFault> {
        let Some((reading, mode)) = reading(range, direction) else { return Ok(Vec::new()) };
        self.collect(table, self.db.iterator_cf_opt(self.table(table)?, reading, mode).take(limit))
    }
}

/// How to walk a range; `None` when it is empty.
fn reading(range: KeyRange<'_>, direction: Direction) -> Option<(ReadOptions, IteratorMode<'static>)> {
    let mut reading = ReadOptions::default();
    reading.set_iterate_lower_bound(range.from);
    reading.set_iterate_upper_bound(range.to);
    let mode = match direction {
        Direction::Ascending => IteratorMode::Start,
        Direction::Descending => IteratorMode::End,
    };
    (range.from < range.to).then_some((reading, mode))
}

/// Reads how far the state in the database directory `path` was applied, without opening it for writing.
pub(super) fn position_at(path: &Path) -> Result<Position, StoreError> {
    let mut options = Options::default();
    options.set_keep_log_file_num(1);
    let db = DB::open_cf_for_read_only(&options, path, [POSITION], false)
        .map_err(|error| StoreError::database("opening a snapshot of", error))?;
    position_in(&db)
}

/// Reads every row in the database directory `path`, and with it every checksum, without opening it for writing.
pub(super) fn read_all_at(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::database("reading a snapshot of", error);
    let mut options = Options::default();
    options.set_keep_log_file_num(1);
    let names: Vec<&str> = Table::ALL.iter().map(|table| table.name()).chain([POSITION]).collect();
    let db = DB::open_cf_for_read_only(&options, path, &names, false).map_err(failed)?;
    for name in names {
        let mut reading = ReadOptions::default();
        reading.fill_cache(false);
        reading.set_readahead_size(READ_AHEAD_BYTES);
        let mut rows = db.raw_iterator_cf_opt(family_of(&db, name)?, reading);
        rows.seek_to_first();
        while rows.valid() {
            rows.next();
        }
        rows.status().map_err(failed)?;
    }
    Ok(())
}

fn position_in(db: &DB) -> Result<Position, StoreError> {
    let family = family_of(db, POSITION)?;
    let row = |key| db.get_cf(family, key).map_err(|error| StoreError::database("reading", error));
    Position::decode(row(APPLIED)?.as_deref(), row(MEMBERSHIP)?.as_deref())
}

fn family_of<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name).ok_or_else(|| StoreError::Corrupted { reason: format!("the column family {name} is missing") })
}

fn family_options(caches: &Caches, lookups: Lookups) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&caches.blocks);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    match lookups {
        Lookups::Absent => blocks.set_bloom_filter(FILTER_BITS_PER_KEY, false),
        Lookups::Present => {}
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

impl std::fmt::Debug for StateDb {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("StateDb").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Caches").finish_non_exhaustive()
    }
}
