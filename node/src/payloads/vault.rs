//! Payloads on this node's disk, sealed under the keys of their subjects.
//!
//! Always true: a payload is written only when its key is durable; a key that an erasure destroyed is not drawn again; of an erased
//! subject nothing is taken that an entry before the erasure committed to, whatever the state of this node knows by then.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use proofline_ledger::{CommittedPayload, EntryIndex, Standing, Store, payloads};
use prost::Message;
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Reserve, VaultError,
    keys::{KeyFiles, KeyId, SubjectKey},
    rows::{
        ARRIVALS, ArrivalRow, FAMILIES, PAYLOADS, PLACES, PlaceRow, PlainRow, TOTALS, TotalsRow, entry_of, payload_key, place_key,
        seal_context, subject_id, tenant_prefix,
    },
};

/// The database's directory.
const DATABASE: &str = "db";
/// Unflushed rows in memory, over all families.
const WRITE_BUFFERS_BYTES: usize = 16 << 20;
const OPEN_FILES_MAX: i32 = 128;
/// What one compaction reads, and so what it writes beside that until it is done: less than any usual reserve.
const COMPACTION_BYTES_MAX: u64 = 256 << 20;
/// Files that may wait to be merged before whoever puts is slowed down, and stopped: a rewrite may keep them waiting.
const WAITING_FILES: [i32; 2] = [200, 400];
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

/// The store. Written by one thread; read by any.
pub struct Vault {
    pub(super) db: DB,
    pub(super) keys: KeyFiles,
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
        let db =
            DB::open_cf_descriptors(&options, root.join(DATABASE), families).map_err(|error| VaultError::database("opening", error))?;
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
                Ok(None) => self.clear(of)?,
                Err(error) if error.is_damage() => self.clear(of)?,
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

    /// Removes what is left of a payload that does not open.
    fn clear(&self, of: &CommittedPayload) -> Result<(), VaultError> {
        let digest = of.commitment.digest.as_slice().try_into();
        let mut batch = WriteBatch::default();
        self.remove(&mut batch, &of.tenant, &[(of.index, digest.map_err(|_| VaultError::Damaged { what: PLACES })?)])?;
        self.write(batch)
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

    pub(super) fn database(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    pub(super) fn totals_row(&self, tenant: &str) -> Result<TotalsRow, VaultError> {
        Ok(self.row(TOTALS, &tenant_prefix(tenant))?.unwrap_or_default())
    }

    pub(super) fn row<T: Message + Default>(&self, family: &'static str, key: &[u8]) -> Result<Option<T>, VaultError> {
        let row = self.db.get_pinned_cf(self.family(family)?, key).map_err(|error| VaultError::database("reading", error))?;
        row.map(|row| T::decode(&row[..])).transpose().map_err(|_| VaultError::Damaged { what: family })
    }

    pub(super) fn keys_in(&self, family: &'static str, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, VaultError> {
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

    pub(super) fn write(&self, batch: WriteBatch) -> Result<(), VaultError> {
        self.db.write_opt(batch, &self.synced).map_err(|error| VaultError::database("writing", error))
    }

    pub(super) fn family(&self, name: &'static str) -> Result<&ColumnFamily, VaultError> {
        self.db.cf_handle(name).ok_or(VaultError::Damaged { what: name })
    }
}

fn family_options(name: &str) -> Options {
    let mut options = Options::default();
    options.set_periodic_compaction_seconds(REWRITTEN_WITHIN_S);
    options.set_max_compaction_bytes(COMPACTION_BYTES_MAX);
    let [slowed_down, stopped] = WAITING_FILES;
    options.set_level_zero_slowdown_writes_trigger(slowed_down);
    options.set_level_zero_stop_writes_trigger(stopped);
    // What is sealed cannot be packed.
    options.set_compression_type(if name == PAYLOADS { DBCompressionType::None } else { DBCompressionType::Lz4 });
    options
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Vault").field("keys", &self.keys).finish_non_exhaustive()
    }
}
