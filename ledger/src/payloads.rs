//! What the log says about payloads, for whoever keeps them: what was committed to, what is erased, what is past its time, what is held.

use proofline_proto::v1;
use prost::Message as _;
use thiserror::Error;
use v1::entry_core::Body;

use crate::entry;
use crate::holding;
use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::listing;
use crate::row::{self, ErasureRow, HoldRow, RetentionRow, decode};
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};
use crate::subject::Subject;
use crate::writes::{Memory, Writes};

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// A commitment in an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedPayload {
    /// The entry.
    pub index: EntryIndex,
    /// When it was committed.
    pub committed: UnixNanos,
    /// Whose event it is.
    pub collector: String,
    /// Tenant of the event.
    pub tenant: String,
    /// Whose the content is; `None` where the entry does not say.
    pub subject: Option<Subject>,
    /// What was promised.
    pub commitment: v1::Commitment,
    event: v1::Event,
}

/// Why some bytes are not what was committed to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WrongPayload {
    /// Another length.
    #[error("the content has {actual} bytes, the commitment says {committed}")]
    Size {
        /// What came.
        actual: u64,
        /// What was promised.
        committed: u64,
    },
    /// Not 32 bytes.
    #[error("the salt has {0} bytes, and must have 32")]
    Salt(usize),
    /// Another content, or another salt.
    #[error("content and salt do not give the digest of the commitment")]
    Digest,
}

impl CommittedPayload {
    /// Finds the commitment with a digest in an event; `None` when the entry is no event, or does not have it.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails.
    pub fn find(store: &impl Store, index: EntryIndex, digest: &[u8]) -> Result<Option<Self>, StoreFault> {
        let entry = listing::entry(store, index)?;
        Ok(entry.and_then(|entry| Self::of(&entry, digest)))
    }

    fn of(entry: &[u8], digest: &[u8]) -> Option<Self> {
        let (_, core) = entry::parse(entry)?;
        let Some(Body::Event(recorded)) = core.body else { return None };
        let event = v1::Event::decode(recorded.event).ok()?;
        let commitment = event.payloads.iter().find(|it| it.digest == digest)?.clone();
        Some(Self {
            index: EntryIndex(core.index),
            committed: UnixNanos(core.committed_unix_ns),
            collector: recorded.at.unwrap_or_default().collector_id,
            tenant: event.tenant_id.clone(),
            subject: Subject::of(&event, &commitment),
            commitment,
            event,
        })
    }

    /// Checks that content and salt are what was committed to.
    ///
    /// # Errors
    /// [`WrongPayload`].
    pub fn check(&self, salt: &[u8], content: &[u8]) -> Result<(), WrongPayload> {
        let (actual, committed) = (content.len() as u64, self.commitment.size_bytes);
        if actual != committed {
            return Err(WrongPayload::Size { actual, committed });
        }
        let salt: &[u8; 32] = salt.try_into().map_err(|_| WrongPayload::Salt(salt.len()))?;
        let is_promised = blake3::keyed_hash(salt, content).as_bytes()[..] == self.commitment.digest[..];
        if is_promised { Ok(()) } else { Err(WrongPayload::Digest) }
    }

    /// Returns a hold in force that covers it.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails.
    pub fn held(&self, store: &impl Store) -> Result<Option<u64>, StoreFault> {
        let mut memory = Memory::default();
        holding::on_event(&Writes::new(store, &mut memory), &self.event)
    }

    /// Returns the erasure that covers it.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails.
    pub fn erased(&self, store: &impl Store) -> Result<Option<Erasure>, StoreFault> {
        let erasure = self.subject.as_ref().map(|subject| erasure(store, subject)).transpose()?.flatten();
        Ok(erasure.filter(|erasure| erasure.index > self.index))
    }

    /// Tells whether its tenant's retention lets it go: it is past its time, and nothing holds it.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails.
    pub fn standing(&self, store: &impl Store) -> Result<Standing, StoreFault> {
        let Some(retention) = retention(store, &self.tenant)? else { return Ok(Standing::InTime) };
        if self.committed >= retention.cutoff(listing::last_committed(store)?) {
            return Ok(Standing::InTime);
        }
        Ok(self.held(store)?.map_or(Standing::Past, |_| Standing::Held))
    }
}

/// What retention says of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is kept.
    InTime,
    /// It would go, and a hold keeps it.
    Held,
    /// It goes.
    Past,
}

/// An erasure that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Which one of all, from 1.
    pub ordinal: u64,
    /// Its entry: what entries before it committed to is gone.
    pub index: EntryIndex,
    /// When it was committed.
    pub committed: UnixNanos,
    /// Who was forgotten.
    pub subject: Subject,
}

impl Erasure {
    fn of(ordinal: u64, row: ErasureRow) -> Self {
        let subject = Subject { tenant: row.tenant_id, issuer: row.issuer, subject: row.subject };
        Self { ordinal, index: EntryIndex(row.index), committed: UnixNanos(row.at_unix_ns), subject }
    }
}

/// Returns the newest erasure of a subject; its ordinal is not looked up, and 0.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn erasure(store: &impl Store, subject: &Subject) -> Result<Option<Erasure>, StoreFault> {
    Ok(row::read::<ErasureRow>(store, Table::Erasures, &subject.key())?.map(|row| Erasure::of(0, row)))
}

/// Returns erasures behind the one with the ordinal `after`, in the order of the log.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn erasures(store: &impl Store, after: u64, limit: usize) -> Result<Vec<Erasure>, StoreFault> {
    let range = KeyRange { from: &after.saturating_add(1).to_be_bytes(), to: &key::behind(&[]) };
    let rows = store.scan(Table::ErasureLog, range, Direction::Ascending, limit)?;
    rows.iter()
        .map(|row| {
            let ordinal = row.key.as_slice().try_into().map(u64::from_be_bytes);
            let ordinal = ordinal.map_err(|_| StoreFault::Damaged { table: Table::ErasureLog, key: row.key.clone() })?;
            Ok(Erasure::of(ordinal, decode(Table::ErasureLog, &row.key, &row.value)?))
        })
        .collect()
}

/// How long payloads of a tenant are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Tenant.
    pub tenant: String,
    /// Days.
    pub days: u32,
    /// The entry that set it.
    pub set_by: EntryIndex,
}

impl Retention {
    /// Returns the time before which payloads are past theirs, counted from the newest committed time.
    #[must_use]
    pub fn cutoff(&self, now: UnixNanos) -> UnixNanos {
        UnixNanos(now.0.saturating_sub(u64::from(self.days).saturating_mul(DAY_NS)))
    }

    fn of(row: RetentionRow) -> Self {
        Self { tenant: row.tenant_id, days: row.days, set_by: EntryIndex(row.set_by) }
    }
}

/// Returns the retention of a tenant; `None` while nothing is set, and then nothing is deleted by age.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn retention(store: &impl Store, tenant: &str) -> Result<Option<Retention>, StoreFault> {
    Ok(row::read::<RetentionRow>(store, Table::Retention, &key::text(tenant))?.map(Retention::of))
}

/// Lists the retention of tenants behind one, in the order of their keys.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn retentions(store: &impl Store, after: &str, limit: usize) -> Result<Vec<Retention>, StoreFault> {
    let from = if after.is_empty() { Vec::new() } else { [&key::text(after)[..], &[0]].concat() };
    let rows = store.scan(Table::Retention, KeyRange { from: &from, to: &key::behind(&[]) }, Direction::Ascending, limit)?;
    rows.iter().map(|row| Ok(Retention::of(decode(Table::Retention, &row.key, &row.value)?))).collect()
}

/// Returns holds in force on a tenant's things, and on every tenant, at most `limit` of each.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn holds(store: &impl Store, tenant: &str, limit: usize) -> Result<Vec<v1::HoldSummary>, StoreFault> {
    let mut found = Vec::new();
    for tenant in ["*", tenant] {
        let from = key::text(tenant);
        let rows = store.scan(Table::HeldTargets, KeyRange { from: &from, to: &key::behind(&from) }, Direction::Ascending, limit)?;
        for id in rows.iter().filter_map(|row| row.key.last_chunk::<8>()) {
            let row: HoldRow = row::read(store, Table::Holds, id)?.unwrap_or_default();
            found.push(row.summary(u64::from_be_bytes(*id)));
        }
    }
    Ok(found)
}
