//! The database of the journal: records by index, and a few meta rows in a column family of their own, because one odd key
//! among ordered ones makes every file overlap and costs compactions.
//!
//! Always true: writes that Raft relies on return after an fsync, the one exception says so; recovery stops at the first damaged
//! record that is not the tail, it never skips one. What it does not do: it knows nothing of the mark, and does not notice a lost tail.

use std::path::Path;

use openraft::{LogId, Vote};
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::{
    JournalError,
    layout::{Cursor, put_log_id, put_vote},
    record::ChainHash,
};

const RECORDS: &str = "records";
const META: &str = "meta";
const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";
const WRITE_BUFFER_BYTES: usize = 24 << 20;
const FILE_BYTES: u64 = 64 << 20;
const WAL_BYTES: u64 = 96 << 20;
/// Of the database's own notes, per file.
const NOTES_BYTES: usize = 8 << 20;

/// The last record that was removed from the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purged {
    pub(super) log_id: LogId<u64>,
    pub(super) chain: ChainHash,
}

impl Purged {
    /// Makes a purge point whose record was never here: the chain begins anew behind it.
    pub(super) fn anchored(log_id: LogId<u64>) -> Self {
        Self { log_id, chain: ChainHash::anchor(&log_id) }
    }
}

/// The open database.
pub(super) struct Records {
    db: DB,
    synced: WriteOptions,
}

impl Records {
    /// Returns whether a database was ever created in `path`.
    pub(super) fn exist(path: &Path) -> bool {
        path.join("CURRENT").exists()
    }

    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_recycle_log_file_num(0);
        options.set_max_total_wal_size(WAL_BYTES);
        options.set_max_open_files(64);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(NOTES_BYTES);
        let families = [RECORDS, META].map(|name| ColumnFamilyDescriptor::new(name, family_options()));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|error| JournalError::database("opening", error))?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(Self { db, synced })
    }

    /// Appends records.
    ///
    /// On return: all of them are on the disk. A crash inside leaves a prefix of earlier appends, and of this one all or nothing.
    pub(super) fn append(&self, records: impl Iterator<Item = (u64, Vec<u8>)>) -> Result<(), JournalError> {
        let family = self.family(RECORDS)?;
        let mut batch = WriteBatch::default();
        for (index, record) in records {
            batch.put_cf(family, index.to_be_bytes(), record);
        }
        self.commit(batch)
    }

    /// Removes the record `since` and everything behind it.
    ///
    /// On return: they are gone for good. A crash inside leaves all of them or none.
    pub(super) fn truncate(&self, since: u64) -> Result<(), JournalError> {
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(self.family(RECORDS)?, since.to_be_bytes(), u64::MAX.to_be_bytes());
        self.commit(batch)
    }

    /// Removes everything up to `purged`, and remembers its place in the chain.
    ///
    /// On return: they are gone for good. A crash inside leaves all of them or none.
    pub(super) fn purge(&self, purged: &Purged) -> Result<(), JournalError> {
        let (start, last, end) =
            (0_u64.to_be_bytes(), purged.log_id.index.to_be_bytes(), purged.log_id.index.saturating_add(1).to_be_bytes());
        let mut row = Vec::with_capacity(56);
        put_log_id(&mut row, &purged.log_id);
        row.extend_from_slice(&purged.chain.0);
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META)?, PURGED, row);
        batch.delete_range_cf(self.family(RECORDS)?, start, end);
        self.commit(batch)?;
        // Frees whole files at once; what stays is covered by the range above. Here the end belongs to the range: with the end of
        // the other one, a file that ends with the first record behind the purge would go, and that record with it.
        self.db
            .delete_file_in_range_cf(self.family(RECORDS)?, start, last)
            .map_err(|error| JournalError::database("freeing files of", error))
    }

    /// Saves the vote.
    ///
    /// On return: it is on the disk.
    pub(super) fn save_vote(&self, vote: &Vote<u64>) -> Result<(), JournalError> {
        let mut row = Vec::with_capacity(17);
        put_vote(&mut row, vote);
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(META)?, VOTE, row);
        self.commit(batch)
    }

    /// Saves how far the log is committed, without an fsync: it only saves a restarted node some waiting.
    pub(super) fn save_committed(&self, committed: &LogId<u64>) -> Result<(), JournalError> {
        let mut row = Vec::with_capacity(24);
        put_log_id(&mut row, committed);
        self.db.put_cf(self.family(META)?, COMMITTED, row).map_err(|error| JournalError::database("writing", error))
    }

    pub(super) fn vote(&self) -> Result<Option<Vote<u64>>, JournalError> {
        self.meta(VOTE, |cursor| cursor.vote())
    }

    pub(super) fn committed(&self) -> Result<Option<LogId<u64>>, JournalError> {
        self.meta(COMMITTED, |cursor| cursor.log_id())
    }

    pub(super) fn purged(&self) -> Result<Option<Purged>, JournalError> {
        self.meta(PURGED, |cursor| Some(Purged { log_id: cursor.log_id()?, chain: ChainHash(cursor.array()?) }))
    }

    pub(super) fn record(&self, index: u64) -> Result<Option<Vec<u8>>, JournalError> {
        self.db.get_cf(self.family(RECORDS)?, index.to_be_bytes()).map_err(|error| JournalError::database("reading", error))
    }

    /// Calls `visit` with every record from `from` on, in order of index.
    pub(super) fn walk(&self, from: u64, mut visit: impl FnMut(u64, &[u8]) -> Result<(), JournalError>) -> Result<(), JournalError> {
        let mut reading = ReadOptions::default();
        reading.fill_cache(false);
        reading.set_readahead_size(4 << 20);
        let start = from.to_be_bytes();
        let records = self.db.iterator_cf_opt(self.family(RECORDS)?, reading, IteratorMode::From(&start, Direction::Forward));
        for row in records {
            let (key, record) = row.map_err(|error| JournalError::database("reading", error))?;
            visit(index_of(&key)?, &record)?;
        }
        Ok(())
    }

    fn meta<T>(&self, key: &'static [u8], read: impl Fn(&mut Cursor<'_>) -> Option<T>) -> Result<Option<T>, JournalError> {
        let row = self.db.get_cf(self.family(META)?, key).map_err(|error| JournalError::database("reading", error))?;
        let Some(row) = row else { return Ok(None) };
        let mut cursor = Cursor(&row);
        let value = read(&mut cursor).filter(|_| cursor.end().is_some());
        value.map(Some).ok_or_else(|| JournalError::Corrupted { reason: format!("meta row {}", key.escape_ascii()) })
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), JournalError> {
        // Planted: an acknowledgement does not wait for the disk.
        let how = proofline_ledger::planted!(AcknowledgedBeforeFsync, &WriteOptions::default(), &self.synced);
        self.db.write_opt(batch, how).map_err(|error| JournalError::database("writing", error))
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, JournalError> {
        self.db.cf_handle(name).ok_or_else(|| JournalError::Corrupted { reason: format!("the column family {name} is missing") })
    }
}

fn family_options() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_target_file_size_base(FILE_BYTES);
    options
}

fn index_of(key: &[u8]) -> Result<u64, JournalError> {
    let bytes = key.try_into().map_err(|_| JournalError::Corrupted { reason: "a record's key is not 8 bytes".to_owned() })?;
    Ok(u64::from_be_bytes(bytes))
}
