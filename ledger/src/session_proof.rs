//! Reads session trees and batch trees: paths by `rs_merkle`, inside one stored chunk and over the chunk roots.
//!
//! Of `rs_merkle` only the building is used. Its `verify` accepts forged proofs; verification is the verifier's own.

use proofline_proto::v1;
use prost::Message as _;
use prost::bytes::Bytes;
use rs_merkle::{Hasher, MerkleTree};
use v1::entry_core::Body;

use crate::completeness::set_proof::{Subtree, root_over, set_proof};
use crate::hash::{ContentHash, Hash, TreeHash};
use crate::ids::{EntryIndex, Epoch, Lane, Position, Sequence, SessionOrdinal, TreeSize};
use crate::key;
use crate::limits::SESSION_CHUNK_LEAVES;
use crate::row::{self, SessionHeadRow, SessionRow, StatementRow};
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};

/// Our hashes in the shape that `rs_merkle` wants.
#[derive(Clone)]
struct Content;

impl Hasher for Content {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        ContentHash::leaf(data).0
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        // A lone last node is promoted, as in RFC 6962.
        right.map_or(*left, |right| ContentHash::node(&Hash(*left), &Hash(*right)).0)
    }
}

fn tree(leaves: &[Hash]) -> MerkleTree<Content> {
    MerkleTree::from_leaves(&leaves.iter().map(|leaf| leaf.0).collect::<Vec<_>>())
}

fn root(leaves: &[Hash]) -> Hash {
    tree(leaves).root().map_or_else(ContentHash::empty, Hash)
}

/// Returns the path of one leaf, leaf side first, or `None` beyond the leaves.
fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    (index < leaves.len()).then(|| tree(leaves).proof(&[index]).proof_hashes().iter().map(|hash| Hash(*hash)).collect())
}

/// A session as far as one tree size covers it.
#[derive(Clone, Debug)]
pub struct SessionAt {
    /// Tenant and id of the session.
    pub tenant_id: String,
    /// Id within the tenant.
    pub session_id: String,
    /// Number of its entries below the tree size; never 0.
    pub size: u64,
    /// Its last entry below the tree size.
    pub last: EntryIndex,
    /// Whether that last entry seals it.
    pub sealed: bool,
    pub(crate) binding: SessionRow,
}

impl SessionAt {
    /// Describes the session for a listing.
    #[must_use]
    pub fn summary(&self) -> v1::SessionSummary {
        v1::SessionSummary {
            tenant_id: self.tenant_id.clone(),
            session_id: self.session_id.clone(),
            parent_session_id: self.binding.parent.clone(),
            agent_id: self.binding.agent_id.clone(),
            initiator: self.binding.initiator.clone(),
            entries: self.size,
            first_index: self.binding.first_index,
            last_index: self.last.0,
            sealed: self.sealed,
        }
    }

    fn ordinal(&self) -> SessionOrdinal {
        SessionOrdinal(self.binding.ordinal)
    }
}

/// Finds a session as of `size`, or `None` when it has no entry below it.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn session_at(store: &impl Store, tenant: &str, session: &str, size: TreeSize) -> Result<Option<SessionAt>, StoreFault> {
    let key = key::scoped(tenant, session);
    let Some(binding) = row::read::<SessionRow>(store, Table::Sessions, &key)? else { return Ok(None) };
    covered(store, binding, tenant, session, size)
}

pub(crate) fn covered(
    store: &impl Store,
    binding: SessionRow,
    tenant: &str,
    session: &str,
    size: TreeSize,
) -> Result<Option<SessionAt>, StoreFault> {
    let ordinal = SessionOrdinal(binding.ordinal);
    let head: SessionHeadRow = row::read(store, Table::SessionHeads, &key::session_head(ordinal))?.unwrap_or_default();
    let entries = if head.last_index < size.0 { head.size } else { entries_below(store, ordinal, head.size, size)? };
    let Some(last) = entries.checked_sub(1) else { return Ok(None) };
    let (last, _) = leaf(store, ordinal, Position(last))?;
    let (tenant_id, session_id) = (tenant.to_owned(), session.to_owned());
    Ok(Some(SessionAt { tenant_id, session_id, size: entries, last, sealed: head.sealed_at.is_some_and(|at| at < size.0), binding }))
}

/// Counts the session's entries below `size`, by bisection over their indexes.
fn entries_below(store: &impl Store, ordinal: SessionOrdinal, entries: u64, size: TreeSize) -> Result<u64, StoreFault> {
    let (mut low, mut high) = (0, entries);
    while low < high {
        let middle = low + (high - low) / 2;
        if leaf(store, ordinal, Position(middle))?.0.0 < size.0 {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn leaf(store: &impl Store, ordinal: SessionOrdinal, position: Position) -> Result<(EntryIndex, Hash), StoreFault> {
    let key = key::session_leaf(ordinal, position);
    let value = store.get(Table::SessionLeaves, &key)?.unwrap_or_default();
    parse_leaf(&value).ok_or_else(|| StoreFault::Damaged { table: Table::SessionLeaves, key: key.to_vec() })
}

fn parse_leaf(value: &[u8]) -> Option<(EntryIndex, Hash)> {
    let (index, leaf) = value.split_first_chunk::<8>()?;
    Some((EntryIndex(u64::from_be_bytes(*index)), Hash::from_slice(leaf)?))
}

/// Returns index and leaf of the session's entries from position `from`, at most `limit` of them.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn session_entries(
    store: &impl Store,
    session: &SessionAt,
    from: Position,
    limit: usize,
) -> Result<Vec<(EntryIndex, Hash)>, StoreFault> {
    leaves(store, session.ordinal(), from.0, session.size, limit)
}

fn leaves(store: &impl Store, ordinal: SessionOrdinal, from: u64, to: u64, limit: usize) -> Result<Vec<(EntryIndex, Hash)>, StoreFault> {
    let (first, behind) = (key::session_leaf(ordinal, Position(from)), key::session_leaf(ordinal, Position(to)));
    let rows = store.scan(Table::SessionLeaves, KeyRange { from: &first, to: &behind }, Direction::Ascending, limit)?;
    let damaged = |key: &[u8]| StoreFault::Damaged { table: Table::SessionLeaves, key: key.to_vec() };
    rows.iter().map(|row| parse_leaf(&row.value).ok_or_else(|| damaged(&row.key))).collect()
}

/// Returns the path of one position to the session's root, leaf side first, or `None` beyond the session.
///
/// Reads one chunk of leaves and the chunk roots: 2,000 hashes for a session of a million entries.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn session_path(store: &impl Store, session: &SessionAt, position: Position) -> Result<Option<Vec<Hash>>, StoreFault> {
    if position.0 >= session.size {
        return Ok(None);
    }
    let chunk = position.0 / SESSION_CHUNK_LEAVES;
    let mut joined = chunk_path(store, session, chunk, position.0 % SESSION_CHUNK_LEAVES)?;
    if session.size > SESSION_CHUNK_LEAVES {
        let roots = chunk_roots(store, session)?;
        let upper = usize::try_from(chunk).ok().and_then(|chunk| path(&roots, chunk));
        joined.extend(upper.unwrap_or_default());
    }
    Ok(Some(joined))
}

fn chunk_path(store: &impl Store, session: &SessionAt, chunk: u64, offset: u64) -> Result<Vec<Hash>, StoreFault> {
    let leaves = chunk_leaves(store, session, chunk)?;
    Ok(usize::try_from(offset).ok().and_then(|offset| path(&leaves, offset)).unwrap_or_default())
}

fn chunk_leaves(store: &impl Store, session: &SessionAt, chunk: u64) -> Result<Vec<Hash>, StoreFault> {
    let from = chunk * SESSION_CHUNK_LEAVES;
    let to = session.size.min(from + SESSION_CHUNK_LEAVES);
    let rows = leaves(store, session.ordinal(), from, to, usize::MAX)?;
    Ok(rows.into_iter().map(|(_, leaf)| leaf).collect())
}

fn chunk_roots(store: &impl Store, session: &SessionAt) -> Result<Vec<Hash>, StoreFault> {
    let full = session.size / SESSION_CHUNK_LEAVES;
    let (from, to) = (key::session_chunk(session.ordinal(), 0), key::session_chunk(session.ordinal(), full));
    let rows = store.scan(Table::SessionChunks, KeyRange { from: &from, to: &to }, Direction::Ascending, usize::MAX)?;
    let mut roots: Vec<Hash> = rows.iter().filter_map(|row| Hash::from_slice(&row.value)).collect();
    if roots.len() as u64 != full {
        return Err(StoreFault::Damaged { table: Table::SessionChunks, key: from.to_vec() });
    }
    if !session.size.is_multiple_of(SESSION_CHUNK_LEAVES) {
        roots.push(root(&chunk_leaves(store, session, full)?));
    }
    Ok(roots)
}

/// What a collector signed about a batch, with the leaves of its events.
#[derive(Clone, Debug)]
pub struct SignedBatch {
    /// What the signature covers.
    pub statement: v1::BatchStatement,
    leaves: Vec<Hash>,
}

impl SignedBatch {
    /// Finds the batch of a recorded event.
    ///
    /// # Errors
    /// [`StoreFault`] when the store fails, or lacks the statement of a batch whose events it has.
    pub fn find(store: &impl Store, at: &v1::BatchPosition) -> Result<Self, StoreFault> {
        let key = key::statement(&at.collector_id, Lane(at.lane), Epoch(at.epoch), Sequence(at.sequence));
        let damaged = || StoreFault::Damaged { table: Table::Statements, key: key.to_vec() };
        let row: StatementRow = row::read(store, Table::Statements, &key)?.ok_or_else(damaged)?;
        let statement = row.statement.ok_or_else(damaged)?;
        let (from, to) = (row.first_index, row.first_index + u64::from(statement.event_count));
        let range = KeyRange { from: &key::entry(EntryIndex(from)), to: &key::entry(EntryIndex(to)) };
        let entries = store.scan(Table::Entries, range, Direction::Ascending, usize::MAX)?;
        let leaves = entries.into_iter().map(|row| event_leaf(row.value.into())).collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
        Ok(Self { statement, leaves })
    }

    /// Returns the path of one event to the root that the collector signed, or `None` beyond the batch.
    #[must_use]
    pub fn path(&self, offset: u32) -> Option<Vec<Hash>> {
        path(&self.leaves, usize::try_from(offset).ok()?)
    }

    /// Returns the hashes that, with those of the events at `offsets`, which rise, make the root that the collector signed.
    ///
    /// # Errors
    /// [`StoreFault`] when the batch has fewer events than its statement says.
    pub fn set_path(&self, offsets: &[u64]) -> Result<Vec<Hash>, StoreFault> {
        let damaged = || StoreFault::Damaged { table: Table::Statements, key: self.statement.collector_id.as_bytes().to_vec() };
        set_proof(self.leaves.len() as u64, offsets, &mut |of: Subtree| {
            let (first, count) = (usize::try_from(of.first).ok(), usize::try_from(of.count).ok());
            let leaves = first.zip(count).and_then(|(first, count)| self.leaves.get(first..first.checked_add(count)?));
            leaves.and_then(root_over).ok_or_else(damaged)
        })
    }
}

/// Returns the batch leaf of an entry that came in a batch.
fn event_leaf(entry: Bytes) -> Option<Hash> {
    // Without a copy of the event: a page may need the leaves of many thousands.
    match v1::EntryCore::decode(v1::Entry::decode(entry).ok()?.core).ok()?.body? {
        Body::Event(event) => Some(ContentHash::leaf(&event.event)),
        Body::Rejection(rejection) => Hash::from_slice(&rejection.event_leaf),
        Body::Genesis(_)
        | Body::Command(_)
        | Body::Equivocation(_)
        | Body::LaneOpened(_)
        | Body::LaneClosed(_)
        | Body::Containment(_)
        | Body::OutletDelivery(_)
        | Body::StateCommitment(_)
        | Body::AccessRecorded(_)
        | Body::ErasureDeferred(_) => None,
    }
}
