//! What takes payloads off this disk: erasures, and age.
//!
//! An erasure has three steps, and the disk says which of them are done. Keys are destroyed first, many at once: from then on nothing
//! of the subject opens. Then the rows go, a bounded step at a time. Then files that had them are written again, all ranges at once,
//! by another thread: nobody who puts waits for that. A note of what is to be written again stays until no older file is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use proofline_ledger::{CommittedPayload, EntryIndex, Erasure, Retention, Store, Subject, UnixNanos, payloads};
use prost::Message as _;
use rocksdb::{BottommostLevelCompaction, CompactOptions, Direction, FlushOptions, IteratorMode, WriteBatch};

use super::{
    Vault, VaultError,
    rows::{
        ARRIVALS, ERASED, ErasedRow, FAMILIES, PAYLOADS, PLACES, PlaceRow, REWRITES, RewriteRow, THROUGH, TOTALS, TotalsRow, Waiting,
        entry_of, generation, payload_key, place_key, rewrite_key, subject_id, subject_of_rewrite, tenant_prefix,
    },
};

/// Subjects whose keys one step destroys: each is a few fsyncs, for which whoever puts waits.
const SUBJECTS_AT_ONCE: usize = 32;
/// Rows that one step removes.
const ROWS_AT_ONCE: usize = 256;
/// Bytes of sealed payloads that one step reads: they lie beside their keys.
const BYTES_AT_ONCE: usize = 16 << 20;
/// How long the database may take to remove a file that it replaced,
const REMOVED_WITHIN: Duration = Duration::from_secs(2);
/// and how often that is looked at.
const LOOKED_AGAIN: Duration = Duration::from_millis(20);

/// What a sweep found among a tenant's payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Payloads that were deleted.
    pub deleted: u64,
    /// Payloads past their time that a hold keeps.
    pub held: u64,
    /// Where to go on; `None` when all that is past its time was looked at.
    pub next: Option<Vec<u8>>,
}

/// What this node did about an erasure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// The newest erasure whose keys were destroyed; 0: none.
    pub by: u64,
    /// When.
    pub unix_ns: u64,
    /// Keys of the subject that are here now.
    pub keys: u64,
    /// Nothing that those keys sealed is in a file any more.
    pub is_rewritten: bool,
}

impl Vault {
    /// Destroys the keys of the next erasures that the state has and this store has not; returns of how many. To be called by the
    /// thread that puts, until it is none.
    ///
    /// On return: no key of the subjects from before their erasures is on the disk, and it is noted what they sealed. A crash inside
    /// leaves erasures that are carried out again.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn destroy_keys(&self, state: &impl Store, now_unix_ns: u64) -> Result<u64, VaultError> {
        let waiting = payloads::erasures(state, self.through()?, SUBJECTS_AT_ONCE)?;
        let Some(last) = waiting.last() else { return Ok(0) };
        let mut subjects = BTreeMap::<[u8; 32], &Erasure>::new();
        for erasure in &waiting {
            // In the order of the log: the newest counts.
            subjects.insert(subject_id(&erasure.subject), erasure);
        }
        let mut noted = WriteBatch::default();
        let mut destroyed = WriteBatch::default();
        for (id, erasure) in &subjects {
            let done = self.erased(id)?;
            let index = erasure.index.0.max(done.index);
            if done.index < index || done.destroyed_unix_ns == 0 {
                self.note_erasure(&mut noted, id, index, &erasure.subject.tenant)?;
                let row = ErasedRow { index, destroyed_unix_ns: now_unix_ns };
                destroyed.put_cf(self.family(ERASED)?, id, row.encode_to_vec());
            }
        }
        self.write(noted)?;
        for (id, erasure) in &subjects {
            self.keys.destroy_before(id, erasure.index.0.max(self.erased(id)?.index))?;
        }
        destroyed.put_cf(self.family(ERASED)?, THROUGH, last.ordinal.to_be_bytes());
        self.write(destroyed)?;
        Ok(waiting.len() as u64)
    }

    fn note_erasure(&self, batch: &mut WriteBatch, id: &[u8; 32], index: u64, tenant: &str) -> Result<(), VaultError> {
        batch.put_cf(self.family(ERASED)?, id, ErasedRow { index, destroyed_unix_ns: 0 }.encode_to_vec());
        let row = RewriteRow { tenant: tenant.to_owned(), index };
        batch.put_cf(self.family(REWRITES)?, rewrite_key(Waiting::ForRows, id, 0), row.encode_to_vec());
        Ok(())
    }

    /// Removes rows of a subject whose keys were destroyed: a bounded step. Returns whether there was anything to do. To be called by
    /// the thread that puts.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn remove_erased(&self) -> Result<bool, VaultError> {
        let Some((key, row)) = self.rewrites(Waiting::ForRows, 1)?.pop() else { return Ok(false) };
        let Some(id) = subject_of_rewrite(&key) else { return Err(VaultError::Damaged { what: REWRITES }) };
        let (found, is_all) = self.sealed_in(&(generation(&id, 0)..generation(&id, row.index)))?;
        let mut batch = WriteBatch::default();
        let mut of = Vec::new();
        for sealed in &found {
            batch.delete_cf(self.family(PAYLOADS)?, sealed);
            of.push(entry_of(sealed).ok_or(VaultError::Damaged { what: "the place of a payload" })?);
        }
        self.remove(&mut batch, &row.tenant, &of)?;
        if is_all {
            // Also where there was none: what age took before may still be in files.
            batch.delete_cf(self.family(REWRITES)?, &key);
            batch.put_cf(self.family(REWRITES)?, rewrite_key(Waiting::ForFiles, &id, row.index), row.encode_to_vec());
        }
        self.write(batch)?;
        Ok(true)
    }

    /// Writes the files again that have what erasures removed, once for all of them. To be called by one thread, beside the one that
    /// puts. Returns whether nothing waits any more: else files from before are still there, and it is to be tried again.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn rewrite(&self) -> Result<bool, VaultError> {
        let waiting = self.rewrites(Waiting::ForFiles, usize::MAX)?;
        let Some((key, row)) = waiting.first() else { return Ok(true) };
        // Written once more, so that there is something to flush, and the database's own log ends with that.
        let mut again = WriteBatch::default();
        again.put_cf(self.family(REWRITES)?, key, row.encode_to_vec());
        self.write(again)?;
        let subjects = waiting.iter().filter_map(|(key, row)| Some((subject_of_rewrite(key)?, row.index)));
        let ranges: Vec<_> = subjects.map(|(id, index)| generation(&id, 0)..generation(&id, index)).collect();
        let mut old = self.files("log")?;
        let families = FAMILIES.iter().map(|name| self.family(name)).collect::<Result<Vec<_>, _>>()?;
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        self.db.flush_cfs_opt(&families, &flush).map_err(|error| VaultError::database("flushing", error))?;
        let tables = self.tables()?;
        let has_any = |table: &&Table| ranges.iter().any(|range| table.meets(&range.start, &range.end));
        old.extend(tables.iter().filter(has_any).map(|table| table.path.clone()));
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(false);
        for range in joined(&ranges, &tables) {
            self.db.compact_range_cf_opt(self.family(PAYLOADS)?, Some(range.start), Some(range.end), &options);
        }
        // The database does not say whether it did, and removes what it replaced a little later.
        let until = Instant::now() + REMOVED_WITHIN;
        while old.iter().any(|path| path.exists()) {
            if Instant::now() > until {
                return Ok(false);
            }
            thread::sleep(LOOKED_AGAIN);
        }
        let mut batch = WriteBatch::default();
        for (key, _) in &waiting {
            batch.delete_cf(self.family(REWRITES)?, key);
        }
        self.write(batch)?;
        Ok(true)
    }

    /// Ends what [`Self::rewrite`] has under way, and with it every other work of the database behind the back of who writes.
    pub fn stop_rewriting(&self) {
        self.db.cancel_all_background_work(false);
    }

    /// Deletes payloads of a tenant that are past their time and that nothing holds: a bounded step, from where the last one ended.
    /// To be called by the thread that puts.
    ///
    /// # Errors
    /// [`VaultError`] when the disk or the state fails.
    pub fn sweep(&self, state: &impl Store, retention: &Retention, now: UnixNanos, from: Option<&[u8]>) -> Result<Swept, VaultError> {
        let tenant = &retention.tenant;
        let first = tenant_prefix(tenant);
        let last = [&first[..], &[u8::MAX; 41]].concat();
        let keys = self.keys_in(PLACES, from.unwrap_or(&first), &last, ROWS_AT_ONCE)?;
        let mut swept = Swept::default();
        let mut past = Vec::new();
        let mut is_over = keys.len() < ROWS_AT_ONCE;
        for key in &keys {
            let (index, digest) = entry_of(key).ok_or(VaultError::Damaged { what: "the place of a payload" })?;
            // A state that a crash took back does not have the entry yet.
            let of = CommittedPayload::find(state, index, &digest)?.filter(|of| of.committed < retention.cutoff(now));
            let Some(of) = of else {
                is_over = true;
                break;
            };
            match of.held(state)? {
                Some(_) => swept.held += 1,
                None => past.push((index, digest)),
            }
        }
        if !past.is_empty() {
            let mut batch = WriteBatch::default();
            self.remove(&mut batch, tenant, &past)?;
            self.write(batch)?;
        }
        swept.deleted = past.len() as u64;
        swept.next = keys.last().filter(|_| !is_over).map(|last| [&last[..], &[0]].concat());
        Ok(swept)
    }

    /// Returns what this node did about the newest erasure of a subject.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn destroyed(&self, subject: &Subject) -> Result<Destroyed, VaultError> {
        let id = subject_id(subject);
        let keys = self.keys.count(&id)?;
        let row = self.erased(&id)?;
        if row.destroyed_unix_ns == 0 {
            return Ok(Destroyed { keys, ..Destroyed::default() });
        }
        let has_rows = self.row::<RewriteRow>(REWRITES, &rewrite_key(Waiting::ForRows, &id, 0))?.is_some();
        let (from, to) = (rewrite_key(Waiting::ForFiles, &id, 0), rewrite_key(Waiting::ForFiles, &id, u64::MAX));
        let is_rewritten = !has_rows && self.keys_in(REWRITES, &from, &to, 1)?.is_empty();
        Ok(Destroyed { by: row.index, unix_ns: row.destroyed_unix_ns, keys, is_rewritten })
    }

    pub(super) fn erased(&self, id: &[u8; 32]) -> Result<ErasedRow, VaultError> {
        Ok(self.row(ERASED, id)?.unwrap_or_default())
    }

    fn through(&self) -> Result<u64, VaultError> {
        let row = self.db.get_cf(self.family(ERASED)?, THROUGH).map_err(|error| VaultError::database("reading", error))?;
        Ok(row.and_then(|row| row.as_slice().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0))
    }

    /// Adds to a batch that removes the rows of payloads of one tenant, as a whole.
    pub(super) fn remove(&self, batch: &mut WriteBatch, tenant: &str, of: &[(EntryIndex, [u8; 32])]) -> Result<(), VaultError> {
        let mut totals = self.totals_row(tenant)?;
        for (index, digest) in of {
            let place_key = place_key(tenant, *index, digest);
            let Some(place) = self.row::<PlaceRow>(PLACES, &place_key)? else { continue };
            batch.delete_cf(self.family(PAYLOADS)?, payload_key(&place.subject, place.since, *index, digest));
            batch.delete_cf(self.family(ARRIVALS)?, place.number.to_be_bytes());
            batch.delete_cf(self.family(PLACES)?, &place_key);
            let TotalsRow { payloads, bytes } = totals;
            totals = TotalsRow { payloads: payloads.saturating_sub(1), bytes: bytes.saturating_sub(place.bytes) };
        }
        batch.put_cf(self.family(TOTALS)?, tenant_prefix(tenant), totals.encode_to_vec());
        Ok(())
    }

    fn rewrites(&self, of: Waiting, limit: usize) -> Result<Vec<(Vec<u8>, RewriteRow)>, VaultError> {
        let (from, to) = (rewrite_key(of, &[0; 32], 0), rewrite_key(of, &[u8::MAX; 32], u64::MAX));
        let mut found = Vec::new();
        for key in self.keys_in(REWRITES, &from, &to, limit)? {
            let row = self.row(REWRITES, &key)?.unwrap_or_default();
            found.push((key, row));
        }
        Ok(found)
    }

    /// Returns the first keys of sealed payloads in a range, and whether they are all.
    fn sealed_in(&self, range: &Range<Vec<u8>>) -> Result<(Vec<Vec<u8>>, bool), VaultError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for row in self.db.iterator_cf(self.family(PAYLOADS)?, IteratorMode::From(&range.start, Direction::Forward)) {
            let (key, sealed) = row.map_err(|error| VaultError::database("reading", error))?;
            if key[..] >= range.end[..] {
                break;
            }
            if found.len() == ROWS_AT_ONCE || bytes > BYTES_AT_ONCE {
                return Ok((found, false));
            }
            bytes += sealed.len();
            found.push(key.into_vec());
        }
        Ok((found, true))
    }

    /// Returns the tables of sealed payloads.
    fn tables(&self) -> Result<Vec<Table>, VaultError> {
        let live = self.db.live_files().map_err(|error| VaultError::database("listing the files of", error))?;
        let sealed = live.into_iter().filter(|file| file.column_family_name == PAYLOADS);
        let of = |file: rocksdb::LiveFile| Table {
            path: self.database().join(file.name.trim_start_matches('/')),
            first: file.start_key.unwrap_or_default(),
            last: file.end_key.unwrap_or_default(),
        };
        Ok(sealed.map(of).collect())
    }

    fn files(&self, ending: &str) -> Result<BTreeSet<PathBuf>, VaultError> {
        let failed = |source| VaultError::File { action: "listing", path: self.database(), source };
        let paths = fs::read_dir(self.database()).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()).map_err(failed));
        let is_one = |path: &PathBuf| path.extension().is_some_and(|it| it == ending);
        paths.filter(|path| path.as_ref().map_or(true, is_one)).collect()
    }
}

/// A file of sealed payloads, and the first and the last key in it.
struct Table {
    path: PathBuf,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Table {
    /// Tells whether it may have anything of a range.
    fn meets(&self, from: &[u8], to: &[u8]) -> bool {
        self.first.as_slice() < to && from <= self.last.as_slice()
    }
}

/// Joins neighbouring ranges that meet the same table: it is written again once, not once for each. They come in their order.
fn joined<'a>(ranges: &'a [Range<Vec<u8>>], tables: &[Table]) -> Vec<Range<&'a [u8]>> {
    let mut joined = Vec::<Range<&[u8]>>::new();
    for range in ranges {
        let meets_both = |last: &Range<&[u8]>| {
            let mut near = tables.iter().filter(|table| table.meets(&range.start, &range.end));
            near.any(|table| table.meets(last.start, last.end))
        };
        match joined.last_mut().filter(|last| meets_both(last)) {
            Some(last) => last.end = &range.end,
            None => joined.push(range.start.as_slice()..range.end.as_slice()),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u8, to: u8) -> Range<Vec<u8>> {
        vec![from]..vec![to]
    }

    #[test]
    fn ranges_that_meet_one_table_are_written_again_together() {
        let table = |first, last| Table { path: PathBuf::new(), first: vec![first], last: vec![last] };
        let tables = [table(0, 30), table(40, 60)];
        let ranges = [range(1, 2), range(5, 6), range(41, 42), range(90, 91)];
        let together: Vec<_> = joined(&ranges, &tables).into_iter().map(|it| it.start[0]..it.end[0]).collect();
        assert_eq!(together, [1..6, 41..42, 90..91]);
        assert_eq!(joined(&ranges, &[table(0, 99)]).len(), 1);
        assert!(tables[0].meets(&[30], &[31]) && !tables[0].meets(&[31], &[32]), "the last key is in the table");
    }
}
