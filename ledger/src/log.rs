//! The log itself: gives each entry its index, its place in the trees, and its share of the state digest.

use proofline_proto::v1;
use prost::Message;

use crate::frontier::Frontier;
use crate::hash::{ContentHash, Hash, LogHash, TreeHash, state_hasher};
use crate::ids::{EntryIndex, TreeSize, UnixNanos};
use crate::key;
use crate::limits::APPLY_VERSION;
use crate::row::{self, HeadRow};
use crate::session::OpenSession;
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};
use crate::writes::Writes;

/// Hashes in a tile row: C2SP tlog-tiles.
pub(crate) const TILE_HASHES: u64 = 256;

/// What the log knows of itself between two applies.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) origin: String,
    pub(crate) next_session: u64,
    /// Targets that are contained now.
    pub(crate) contained: u64,
    /// Containments so far.
    pub(crate) containments: u64,
    /// Holds so far.
    pub(crate) holds: u64,
    /// Entries that the newest state commitment covers, 0 before the first.
    pub(crate) committed: u64,
    /// Erasures so far.
    pub(crate) erasures: u64,
    tree: Frontier<LogHash>,
    /// Leaf hashes of the level-0 tile that is not full yet.
    edge: Vec<Hash>,
    digest: Hash,
    now: UnixNanos,
}

/// An entry before it has a place.
pub(crate) struct Draft<'a> {
    pub(crate) body: v1::entry_core::Body,
    pub(crate) decision: Option<v1::Decision>,
    pub(crate) session: Option<InSession<'a>>,
}

/// The session that an entry belongs to, from `Sessions::grow`.
pub(crate) struct InSession<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) id: &'a str,
    pub(crate) session: &'a mut OpenSession,
}

impl Log {
    pub(crate) fn open(store: &impl Store) -> Result<Self, StoreFault> {
        let head: HeadRow = row::read(store, Table::Head, key::SINGLE)?.unwrap_or_default();
        let damaged = || StoreFault::Damaged { table: Table::Head, key: Vec::new() };
        let peaks = row::split(&head.peaks).ok_or_else(damaged)?;
        Ok(Self {
            origin: head.origin,
            next_session: head.next_session,
            contained: head.contained,
            containments: head.containments,
            holds: head.holds,
            committed: head.committed,
            erasures: head.erasures,
            edge: edge(store, head.size)?,
            tree: Frontier::restore(head.size, peaks).ok_or_else(damaged)?,
            digest: Hash::from_slice(&head.state_digest).unwrap_or_default(),
            now: UnixNanos(head.last_unix_ns),
        })
    }

    pub(crate) fn size(&self) -> TreeSize {
        TreeSize(self.tree.size())
    }

    pub(crate) fn root(&self) -> Hash {
        self.tree.root()
    }

    pub(crate) fn digest(&self) -> Hash {
        self.digest
    }

    /// Committed time of the newest entry: what the ledger takes for now.
    pub(crate) fn now(&self) -> UnixNanos {
        self.now
    }

    /// The index that the next entry will get.
    pub(crate) fn next(&self) -> EntryIndex {
        EntryIndex(self.tree.size())
    }

    /// Committed time never goes backwards, whatever a leader proposes.
    pub(crate) fn advance(&mut self, proposed: UnixNanos) {
        // Planted: each replica asks its own clock.
        self.now = self.now.max(crate::planted!(TimeOfLocalClock, crate::planted::local_time(), proposed));
    }

    /// Commits one entry: bytes, leaf, session leaf and digest.
    pub(crate) fn append<S: Store>(&mut self, writes: &mut Writes<'_, S>, draft: Draft<'_>) -> EntryIndex {
        let index = self.next();
        let core = v1::EntryCore {
            index: index.0,
            committed_unix_ns: self.now.0,
            session: draft.session.as_ref().map(|of| v1::SessionPosition {
                tenant_id: of.tenant.to_owned(),
                session_id: of.id.to_owned(),
                position: of.session.size(),
            }),
            decision: draft.decision,
            body: Some(draft.body),
        }
        .encode_to_vec();
        let session_root = match draft.session {
            Some(of) => of.session.append(writes, index, ContentHash::leaf(&core)).0.to_vec(),
            None => Vec::new(),
        };
        let entry = v1::Entry { core: core.into(), session_root }.encode_to_vec();
        let leaf = LogHash::leaf(&entry);
        writes.keep(Table::Entries, key::entry(index).to_vec(), entry);
        self.grow(writes, leaf);
        self.advance_digest(writes, index, leaf);
        index
    }

    fn grow<S: Store>(&mut self, writes: &mut Writes<'_, S>, leaf: Hash) {
        let size = self.tree.size() + 1;
        self.edge.push(leaf);
        self.tree.push(leaf, |height, root| {
            if let (Ok(level @ 1..), 0) = (u8::try_from(height / 8), height % 8) {
                let number = (size >> height) - 1;
                writes.keep(Table::LogHashes, key::log_hash(level, number).to_vec(), root.0.to_vec());
            }
        });
        if size.is_multiple_of(TILE_HASHES) {
            let tile = size / TILE_HASHES - 1;
            writes.keep(Table::LogTiles, tile.to_be_bytes().to_vec(), row::join(&self.edge));
            self.edge.clear();
        }
    }

    fn advance_digest<S: Store>(&mut self, writes: &mut Writes<'_, S>, index: EntryIndex, leaf: Hash) {
        let mut digest = state_hasher();
        digest.update(&self.digest.0);
        digest.update(&index.0.to_be_bytes());
        digest.update(&leaf.0);
        digest.update(&self.next_session.to_be_bytes());
        writes.digest_entry(&mut digest);
        self.digest = Hash(digest.finalize().into());
    }

    /// Writes the head row; once per apply.
    pub(crate) fn save<S: Store>(&self, writes: &mut Writes<'_, S>) {
        let head = HeadRow {
            origin: self.origin.clone(),
            apply_version: APPLY_VERSION,
            size: self.tree.size(),
            peaks: row::join(self.tree.peaks()),
            state_digest: self.digest.0.to_vec(),
            last_unix_ns: self.now.0,
            next_session: self.next_session,
            contained: self.contained,
            containments: self.containments,
            holds: self.holds,
            committed: self.committed,
            erasures: self.erasures,
        };
        writes.keep(Table::Head, key::SINGLE.to_vec(), head.encode_to_vec());
    }
}

/// Hashes the leaves of the level-0 tile that is not full at `size`.
fn edge(store: &impl Store, size: u64) -> Result<Vec<Hash>, StoreFault> {
    let from = size - size % TILE_HASHES;
    leaf_hashes(store, EntryIndex(from), EntryIndex(size))
}

/// Hashes the entries `from..to`, at most one tile of them.
pub(crate) fn leaf_hashes(store: &impl Store, from: EntryIndex, to: EntryIndex) -> Result<Vec<Hash>, StoreFault> {
    let range = KeyRange { from: &key::entry(from), to: &key::entry(to) };
    let limit = usize::try_from(to.0 - from.0).unwrap_or(usize::MAX);
    let rows = store.scan(Table::Entries, range, Direction::Ascending, limit)?;
    if rows.len() != limit {
        return Err(StoreFault::Damaged { table: Table::Entries, key: key::entry(from).to_vec() });
    }
    Ok(rows.iter().map(|row| LogHash::leaf(&row.value)).collect())
}
