//! Payloads on this node's disk, sealed under the keys of their subjects.
//!
//! Always true: a payload is written only when its key is durable; a key that an erasure destroyed is not drawn again; of an erased
//! subject nothing is taken that an entry before the erasure committed to, whatever the state of this node knows by then.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use proofline_ledger::{CommittedPayload, EntryIndex, Erasure, Retention, Standing, Store, Subject, UnixNanos, payloads};
use prost::Message;
use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType, Direction, FlushOptions,
    IteratorMode, Options, WriteBatch, WriteOptions,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Reserve, VaultError,
    keys::{KeyFiles, KeyId, SubjectKey},
    rows::{
        ARRIVALS, ArrivalRow, ERASED, ErasedRow, FAMILIES, PAYLOADS, PLACES, PlaceRow, PlainRow, THROUGH, TOTALS, TotalsRow, entry_of,
        generation, payload_key, place_key, seal_context, subject_id, tenant_prefix,
    },
};

/// Rows that one step of an erasure or of a sweep removes.
const STEP: usize = 256;
/// Unflushed rows in memory, over all families.
const WRITE_BUFFERS_BYTES: usize = 16 << 20;
const OPEN_FILES_MAX: i32 = 128;
/// What one compaction reads, and so what it writes beside that until it is done: less than any usual reserve.
const COMPACTION_BYTES_MAX: u64 = 256 << 20;
/// What retention deleted leaves the files within this.
const REWRITTEN_WITHIN_S: u64 = 7 * 86_400;

/// What became of a payload that was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is on the disk now, or was before.
    Kept,
    /// Its subject was erased by a later entry.
    Erased(EntryIndex),
    /// It is past its tenant's retention.
    Expired,
    /// Its entry does not say whose it is.
    NoSubject,
    /// The disk has no room for it beyond what is left to the rest of the node.
    Full,
}

/// A payload, opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// What its digest was salted with.
    pub salt: Vec<u8>,
    /// The content. Wiped when it is dropped.
    pub content: Zeroizing<Vec<u8>>,
}

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

/// What is here of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Payloads.
    pub payloads: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// Entry of the oldest.
    pub oldest: Option<EntryIndex>,
}

/// What this node did about an erasure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// The newest erasure that was carried out; 0: none.
    pub by: u64,
    /// When.
    pub unix_ns: u64,
    /// Keys of the subject that are here now.
    pub keys: u64,
}

/// The store. Written by one thread; read by any.
pub struct Vault {
    db: DB,
    keys: KeyFiles,
    last_number: AtomicU64,
    synced: WriteOptions,
    root: PathBuf,
    reserve: Reserve,
}

impl Vault {
    /// Opens the store in a directory, or makes an empty one. It leaves `reserve` of the disk free.
    ///
    /// # Errors
    /// [`VaultError`] when it is damaged or not accessible.
    pub fn open(root: &Path, reserve: Reserve) -> Result<Self, VaultError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_keep_log_file_num(4);
        let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, family_options(name)));
        let db = DB::open_cf_descriptors(&options, root.join("db"), families).map_err(|error| VaultError::database("opening", error))?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let (keys, root) = (KeyFiles::open(root.join("keys"))?, root.to_owned());
        let vault = Self { db, keys, last_number: AtomicU64::new(0), synced, root, reserve };
        let last = vault.db.iterator_cf(vault.family(ARRIVALS)?, IteratorMode::End).next().transpose();
        let last = last.map_err(|error| VaultError::database("reading", error))?;
        let last = last.and_then(|(key, _)| Some(u64::from_be_bytes(key.first_chunk().copied()?)));
        vault.last_number.store(last.unwrap_or(0), Ordering::Release);
        Ok(vault)
    }

    /// Takes a payload that was checked against its commitment. To be called by one thread only.
    ///
    /// On return of [`Put::Kept`]: it is durable.
    ///
    /// # Errors
    /// [`VaultError`] when the disk or the state fails.
    pub fn put(&self, state: &impl Store, of: &CommittedPayload, salt: &[u8], content: &[u8]) -> Result<Put, VaultError> {
        let Some(subject) = &of.subject else { return Ok(Put::NoSubject) };
        let id = subject_id(subject);
        let known = payloads::erasure(state, subject)?.map_or(0, |erasure| erasure.index.0);
        let since = known.max(self.erased(&id)?.index);
        if since > of.index.0 {
            return Ok(Put::Erased(EntryIndex(since)));
        }
        if of.standing(state)? == Standing::Past {
            return Ok(Put::Expired);
        }
        let place = place_key(&of.tenant, of.index, &of.commitment.digest);
        if self.row::<PlaceRow>(PLACES, &place)?.is_some() {
            match self.get(of) {
                Ok(Some(_)) => return Ok(Put::Kept),
                // Its key is gone, or its bytes are: what was brought takes its place.
                Ok(None) => self.remove(&of.tenant, of.index, &of.commitment.digest, None)?,
                Err(error) if error.is_damage() => self.remove(&of.tenant, of.index, &of.commitment.digest, None)?,
                Err(error) => return Err(error),
            }
        }
        if self.room()? <= content.len() as u64 {
            return Ok(Put::Full);
        }
        let key_id = KeyId { subject: id, since };
        let key = match self.keys.load(key_id)? {
            Some(key) => key,
            None => self.keys.draw(key_id)?,
        };
        let mut row = PlainRow { salt: salt.to_vec(), content: content.to_vec() };
        let mut plain = Zeroizing::new(row.encode_to_vec());
        row.content.zeroize();
        let sealed = key.seal(&seal_context(of, &id), &mut plain)?;
        let number = self.last_number() + 1;
        let digest = &of.commitment.digest;
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(PAYLOADS)?, payload_key(&id, since, of.index, digest), sealed);
        let row = PlaceRow { subject: id.to_vec(), since, number, bytes: content.len() as u64, key_mark: key.mark().to_vec() };
        batch.put_cf(self.family(PLACES)?, &place, row.encode_to_vec());
        let arrival = ArrivalRow { index: of.index.0, digest: digest.clone() };
        batch.put_cf(self.family(ARRIVALS)?, number.to_be_bytes(), arrival.encode_to_vec());
        let totals = self.totals_row(&of.tenant)?;
        let totals = TotalsRow { payloads: totals.payloads + 1, bytes: totals.bytes + row.bytes };
        batch.put_cf(self.family(TOTALS)?, tenant_prefix(&of.tenant), totals.encode_to_vec());
        self.write(batch)?;
        // Only now: whoever looks through the list up to this number finds the payload there.
        self.last_number.store(number, Ordering::Release);
        Ok(Put::Kept)
    }

    /// Returns how many bytes of payloads the disk has room for.
    ///
    /// # Errors
    /// [`VaultError`] when the file system does not say.
    pub fn room(&self) -> Result<u64, VaultError> {
        self.reserve.room(&self.root)
    }

    /// Opens a payload; `None` when it is not here, or the key that sealed it is not.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails, or what is there does not open.
    pub fn get(&self, of: &CommittedPayload) -> Result<Option<Opened>, VaultError> {
        let Some((place, key)) = self.place(of)? else { return Ok(None) };
        let damaged = VaultError::Damaged { what: "a payload" };
        let row = payload_key(&place.subject, place.since, of.index, &of.commitment.digest);
        let sealed = self.db.get_cf(self.family(PAYLOADS)?, row).map_err(|error| VaultError::database("reading", error))?;
        let Some(sealed) = sealed else { return Ok(None) };
        let Ok(subject) = <[u8; 32]>::try_from(place.subject.as_slice()) else { return Err(damaged) };
        let plain = key.open(&seal_context(of, &subject), &sealed).and_then(|plain| PlainRow::decode(&plain[..]).ok());
        let PlainRow { salt, content } = plain.ok_or(damaged)?;
        Ok(Some(Opened { salt, content: Zeroizing::new(content) }))
    }

    /// Tells whether a payload is here, and the key that sealed it. The sealed bytes are not read.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn has(&self, of: &CommittedPayload) -> Result<bool, VaultError> {
        Ok(self.place(of)?.is_some())
    }

    /// Finds the place of a payload with the key that sealed it. Without that key there is no payload, whatever else is left of it;
    /// nor with another one, drawn when the first was lost.
    fn place(&self, of: &CommittedPayload) -> Result<Option<(PlaceRow, SubjectKey)>, VaultError> {
        let Some(place) = self.row::<PlaceRow>(PLACES, &place_key(&of.tenant, of.index, &of.commitment.digest))? else { return Ok(None) };
        let Ok(subject) = place.subject.as_slice().try_into() else { return Err(VaultError::Damaged { what: PLACES }) };
        let key = self.keys.load(KeyId { subject, since: place.since })?;
        // Rows of an earlier version have no mark: whether the key opens them shows when they are read.
        let is_its_own = |key: &SubjectKey| place.key_mark.is_empty() || key.mark() == place.key_mark;
        Ok(key.filter(is_its_own).map(|key| (place, key)))
    }

    /// Carries out an erasure: its subject's keys are destroyed, then what they sealed is removed from the files. To be called by
    /// the thread that puts.
    ///
    /// On return: no key and no sealed payload of the subject from before the erasure is on the disk. A crash inside leaves an
    /// erasure that is carried out again.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn erase(&self, of: &Erasure, now_unix_ns: u64) -> Result<(), VaultError> {
        let id = subject_id(&of.subject);
        let done = self.erased(&id)?;
        if done.index >= of.index.0 && done.destroyed_unix_ns != 0 {
            return self.advance(of.ordinal);
        }
        let index = of.index.0.max(done.index);
        self.set_erased(&id, ErasedRow { index, destroyed_unix_ns: 0 })?;
        self.keys.destroy_before(&id, index)?;
        let range = generation(&id, 0)..generation(&id, index);
        let mut removed = 0;
        loop {
            let found = self.keys_in(PAYLOADS, &range.start, &range.end, STEP)?;
            for key in &found {
                let (index, digest) = entry_of(key).ok_or(VaultError::Damaged { what: "the place of a payload" })?;
                self.remove(&of.subject.tenant, index, &digest, Some(key))?;
            }
            removed += found.len();
            if found.len() < STEP {
                break;
            }
        }
        if removed > 0 {
            self.rewrite(&range.start, &range.end)?;
        }
        self.set_erased(&id, ErasedRow { index, destroyed_unix_ns: now_unix_ns })?;
        self.advance(of.ordinal)
    }

    /// Carries out every erasure that the state has and this store has not; returns how many there were.
    ///
    /// # Errors
    /// As [`Self::erase`].
    pub fn catch_up(&self, state: &impl Store, now_unix_ns: u64) -> Result<u64, VaultError> {
        let mut count = 0;
        loop {
            let waiting = payloads::erasures(state, self.through()?, STEP)?;
            for erasure in &waiting {
                self.erase(erasure, now_unix_ns)?;
                count += 1;
            }
            if waiting.is_empty() {
                return Ok(count);
            }
        }
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
        let mut swept = Swept::default();
        let keys = self.keys_in(PLACES, from.unwrap_or(&first), &last, STEP)?;
        for key in &keys {
            let (index, digest) = entry_of(key).ok_or(VaultError::Damaged { what: "the place of a payload" })?;
            // A state that a crash took back does not have the entry yet.
            let Some(of) = CommittedPayload::find(state, index, &digest)? else { return Ok(swept) };
            if of.committed >= retention.cutoff(now) {
                return Ok(swept);
            }
            match of.held(state)? {
                Some(_) => swept.held += 1,
                None => {
                    self.remove(tenant, index, &digest, None)?;
                    swept.deleted += 1;
                }
            }
        }
        if keys.len() == STEP {
            swept.next = keys.last().map(|last| [&last[..], &[0]].concat());
        }
        Ok(swept)
    }

    /// Returns the number of the newest payload.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.last_number.load(Ordering::Acquire)
    }

    /// Lists payloads in the order in which they came, behind a number.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn taken(&self, after: u64, limit: usize) -> Result<Vec<(u64, EntryIndex, Vec<u8>)>, VaultError> {
        let from = after.saturating_add(1).to_be_bytes();
        let rows = self.db.iterator_cf(self.family(ARRIVALS)?, IteratorMode::From(&from, Direction::Forward)).take(limit);
        rows.map(|row| {
            let (key, value) = row.map_err(|error| VaultError::database("reading", error))?;
            let damaged = VaultError::Damaged { what: "the order of payloads" };
            let (Some(number), Ok(row)) = (key.first_chunk(), ArrivalRow::decode(&value[..])) else { return Err(damaged) };
            Ok((u64::from_be_bytes(*number), EntryIndex(row.index), row.digest))
        })
        .collect()
    }

    /// Returns what is here of a tenant.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn totals(&self, tenant: &str) -> Result<Totals, VaultError> {
        let TotalsRow { payloads, bytes } = self.totals_row(tenant)?;
        let first = tenant_prefix(tenant);
        let last = [&first[..], &[u8::MAX; 41]].concat();
        let oldest = self.keys_in(PLACES, &first, &last, 1)?.first().and_then(|key| entry_of(key)).map(|(index, _)| index);
        Ok(Totals { payloads, bytes, oldest })
    }

    /// Returns what this node did about the newest erasure of a subject.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn destroyed(&self, subject: &Subject) -> Result<Destroyed, VaultError> {
        let id = subject_id(subject);
        let keys = self.keys.count(&id)?;
        let row = self.erased(&id)?;
        let is_done = row.destroyed_unix_ns != 0;
        Ok(if is_done {
            Destroyed { by: row.index, unix_ns: row.destroyed_unix_ns, keys }
        } else {
            Destroyed { keys, ..Destroyed::default() }
        })
    }

    fn erased(&self, id: &[u8; 32]) -> Result<ErasedRow, VaultError> {
        Ok(self.row(ERASED, id)?.unwrap_or_default())
    }

    fn set_erased(&self, id: &[u8; 32], row: ErasedRow) -> Result<(), VaultError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(ERASED)?, id, row.encode_to_vec());
        self.write(batch)
    }

    fn through(&self) -> Result<u64, VaultError> {
        let row = self.db.get_cf(self.family(ERASED)?, THROUGH).map_err(|error| VaultError::database("reading", error))?;
        Ok(row.and_then(|row| row.as_slice().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0))
    }

    fn advance(&self, ordinal: u64) -> Result<(), VaultError> {
        if ordinal <= self.through()? {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(ERASED)?, THROUGH, ordinal.to_be_bytes());
        self.write(batch)
    }

    /// Removes the rows of one payload, as a whole; `sealed` is the key of its row where that is known.
    fn remove(&self, tenant: &str, index: EntryIndex, digest: &[u8], sealed: Option<&[u8]>) -> Result<(), VaultError> {
        let place_key = place_key(tenant, index, digest);
        let mut batch = WriteBatch::default();
        if let Some(sealed) = sealed {
            batch.delete_cf(self.family(PAYLOADS)?, sealed);
        }
        if let Some(place) = self.row::<PlaceRow>(PLACES, &place_key)? {
            batch.delete_cf(self.family(PAYLOADS)?, payload_key(&place.subject, place.since, index, digest));
            batch.delete_cf(self.family(ARRIVALS)?, place.number.to_be_bytes());
            batch.delete_cf(self.family(PLACES)?, &place_key);
            let totals = self.totals_row(tenant)?;
            let totals = TotalsRow { payloads: totals.payloads.saturating_sub(1), bytes: totals.bytes.saturating_sub(place.bytes) };
            batch.put_cf(self.family(TOTALS)?, tenant_prefix(tenant), totals.encode_to_vec());
        }
        self.write(batch)
    }

    /// Writes the files of a range of sealed payloads again, so that what was removed is in none of them, nor in the database's log.
    fn rewrite(&self, from: &[u8], to: &[u8]) -> Result<(), VaultError> {
        let families = FAMILIES.iter().map(|name| self.family(name)).collect::<Result<Vec<_>, _>>()?;
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        self.db.flush_cfs_opt(&families, &flush).map_err(|error| VaultError::database("flushing", error))?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.family(PAYLOADS)?, Some(from), Some(to), &options);
        Ok(())
    }

    fn totals_row(&self, tenant: &str) -> Result<TotalsRow, VaultError> {
        Ok(self.row(TOTALS, &tenant_prefix(tenant))?.unwrap_or_default())
    }

    fn row<T: Message + Default>(&self, family: &'static str, key: &[u8]) -> Result<Option<T>, VaultError> {
        let row = self.db.get_pinned_cf(self.family(family)?, key).map_err(|error| VaultError::database("reading", error))?;
        row.map(|row| T::decode(&row[..])).transpose().map_err(|_| VaultError::Damaged { what: family })
    }

    fn keys_in(&self, family: &'static str, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, VaultError> {
        let rows = self.db.iterator_cf(self.family(family)?, IteratorMode::From(from, Direction::Forward)).take(limit);
        let mut found = Vec::new();
        for row in rows {
            let (key, _) = row.map_err(|error| VaultError::database("reading", error))?;
            if &key[..] >= to {
                break;
            }
            found.push(key.into_vec());
        }
        Ok(found)
    }

    fn write(&self, batch: WriteBatch) -> Result<(), VaultError> {
        self.db.write_opt(batch, &self.synced).map_err(|error| VaultError::database("writing", error))
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily, VaultError> {
        self.db.cf_handle(name).ok_or(VaultError::Damaged { what: name })
    }
}

fn family_options(name: &str) -> Options {
    let mut options = Options::default();
    options.set_periodic_compaction_seconds(REWRITTEN_WITHIN_S);
    options.set_max_compaction_bytes(COMPACTION_BYTES_MAX);
    // What is sealed cannot be packed.
    options.set_compression_type(if name == PAYLOADS { DBCompressionType::None } else { DBCompressionType::Lz4 });
    options
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Vault").field("keys", &self.keys).finish_non_exhaustive()
    }
}
