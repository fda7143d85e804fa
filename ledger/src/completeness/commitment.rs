//! State commitments in the log: what a leader says the map and the state were, and where that stands.
//!
//! Apply records a claim. Whether it is true each node finds out by itself, before it cosigns a tree that covers it.

use proofline_proto::v1;
use prost::Message;
use v1::entry_core::Body;

use crate::hash::Hash;
use crate::ids::{EntryIndex, TreeSize};
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::log::Draft;
use crate::prepare::PreparedCommitment;
use crate::refusal::Refusal;
use crate::row;
use crate::store::{Direction, KeyRange, Row, Store, StoreFault, Table};
use crate::writes::Writes;

/// A state commitment and the entry that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitmentAt {
    /// The entry.
    pub index: EntryIndex,
    /// Entries that it covers.
    pub size: TreeSize,
    /// Root of the map over them.
    pub map_root: Hash,
    /// Digest of the state behind them.
    pub state_digest: Hash,
}

impl CommitmentAt {
    pub(crate) fn read(store: &impl Store, index: EntryIndex) -> Result<Option<Self>, StoreFault> {
        let at = key::entry(index).to_vec();
        store.get(Table::StateCommitments, &at)?.map(|value| Self::of(&Row { key: at, value })).transpose()
    }

    fn of(found: &Row) -> Result<Self, StoreFault> {
        let damaged = || StoreFault::Damaged { table: Table::StateCommitments, key: found.key.clone() };
        let index = found.key.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| damaged())?;
        let said: v1::StateCommitment = row::decode(Table::StateCommitments, &found.key, &found.value)?;
        let hash = |bytes: &[u8]| Hash::from_slice(bytes).ok_or_else(damaged);
        Ok(Self {
            index: EntryIndex(index),
            size: TreeSize(said.size),
            map_root: hash(&said.map_root)?,
            state_digest: hash(&said.state_digest)?,
        })
    }
}

/// Returns the newest state commitment among the first `size` entries.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn newest_commitment(store: &impl Store, size: TreeSize) -> Result<Option<CommitmentAt>, StoreFault> {
    within(store, EntryIndex(0), EntryIndex(size.0), Direction::Descending)
}

/// Returns the first state commitment at or behind an index.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn next_commitment(store: &impl Store, from: EntryIndex) -> Result<Option<CommitmentAt>, StoreFault> {
    within(store, from, EntryIndex(u64::MAX), Direction::Ascending)
}

fn within(store: &impl Store, from: EntryIndex, to: EntryIndex, direction: Direction) -> Result<Option<CommitmentAt>, StoreFault> {
    let range = KeyRange { from: &key::entry(from), to: &key::entry(to) };
    store.scan(Table::StateCommitments, range, direction, 1)?.first().map(CommitmentAt::of).transpose()
}

/// Records a commitment over entries that are there, behind the one before it.
pub(crate) fn commit<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, prepared: &PreparedCommitment) -> Judged<EntryIndex> {
    let (said, committed) = (&prepared.commitment, ledger.log.committed);
    if said.size <= committed || said.size > ledger.log.size().0 {
        return Ok(Err(Refusal::CommitmentOutOfPlace { size: said.size, committed, tree_size: ledger.log.size() }));
    }
    ledger.log.committed = said.size;
    writes.put_bytes(Table::StateCommitments, key::entry(ledger.log.next()), said.encode_to_vec());
    Ok(Ok(ledger.log.append(writes, Draft::of(Body::StateCommitment(said.clone())))))
}
