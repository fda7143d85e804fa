//! The log itself: gives each entry its index, its place in the trees, and its share of the state digest.
//!
//! What an entry says is known when it is appended. Its bytes and its hashes are made with those of all others that were appended
//! since: BLAKE3 hashes many side by side in little more than the time of one, and no decision waits for a hash.

use std::borrow::Cow;
use std::ops::Range;

use proofline_proto::v1;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::completeness::Carried;
use crate::entry;
use crate::frontier::Frontier;
use crate::hash::{ContentHash, Hash, LogHash, TreeHash, facts_digests, state_digest};
use crate::ids::{EntryIndex, TreeSize, UnixNanos};
use crate::key;
use crate::limits::APPLY_VERSION;
use crate::row::{self, HeadRow};
use crate::session::{OpenSession, Sessions, Slot};
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};
use crate::writes::Writes;

/// Hashes in a tile row: C2SP tlog-tiles.
pub(crate) const TILE_HASHES: u64 = 256;

/// Bytes of room that are kept from one completion to the next.
const ROOM_BYTES_MAX: usize = 1 << 20;

/// What the encoding of an entry takes beside its core: two keys, the length of the core, a root and its length.
const FRAME_BYTES: usize = 40;

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
    appended: Vec<Appended>,
    /// The writes of the entries that were appended, one behind the other.
    written: Vec<u8>,
    /// Their exact facts, too.
    facts: Vec<u8>,
    /// Which keys entries carry, for who asks for that.
    pub(crate) keys: Option<Carried>,
}

/// An entry that has its index, without its bytes and hashes.
#[derive(Clone, Debug)]
struct Appended {
    core: v1::EntryCore,
    /// Where its facts end.
    facts: usize,
    session: Option<Slot>,
    next_session: u64,
    /// Where its writes end.
    written: usize,
}

/// An entry before it has a place.
pub(crate) struct Draft<'a> {
    /// The event that the body has the exact bytes of.
    pub(crate) event: Option<&'a v1::Event>,
    pub(crate) body: v1::entry_core::Body,
    pub(crate) decision: Option<Decided<'a>>,
    pub(crate) session: Option<InSession<'a>>,
}

impl Draft<'_> {
    /// An entry that is no event, and of no session.
    pub(crate) fn of(body: v1::entry_core::Body) -> Self {
        Self { event: None, body, decision: None, session: None }
    }
}

/// A decision without the digest of its facts, and the facts.
pub(crate) struct Decided<'a> {
    pub(crate) decision: v1::Decision,
    pub(crate) facts: &'a v1::Facts,
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
            appended: Vec::new(),
            written: Vec::new(),
            facts: Vec::new(),
            keys: None,
        })
    }

    pub(crate) fn size(&self) -> TreeSize {
        TreeSize(self.tree.size() + self.appended.len() as u64)
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
        EntryIndex(self.size().0)
    }

    /// Committed time never goes backwards, whatever a leader proposes.
    pub(crate) fn advance(&mut self, proposed: UnixNanos) {
        // Planted: each replica asks its own clock.
        self.now = self.now.max(crate::planted!(TimeOfLocalClock, crate::planted::local_time(), proposed));
    }

    /// Appends one entry. It can be read once [`Self::complete`] made its bytes.
    pub(crate) fn append<S: Store>(&mut self, writes: &mut Writes<'_, S>, draft: Draft<'_>) -> EntryIndex {
        let index = self.next();
        let decision = draft.decision.map(|of| {
            of.facts.encode_raw(&mut self.facts);
            of.decision
        });
        let (session, slot) = draft.session.map(|of| of.enter(index)).unzip();
        let core = v1::EntryCore { index: index.0, committed_unix_ns: self.now.0, session, decision, body: Some(draft.body) };
        if let Some(keys) = &mut self.keys {
            keys.add(&core, draft.event);
        }
        writes.end_entry(&mut self.written);
        let (facts, written) = (self.facts.len(), self.written.len());
        self.appended.push(Appended { core, facts, session: slot, next_session: self.next_session, written });
        index
    }

    /// Returns what an entry says, complete or not.
    pub(crate) fn core<S: Store>(&self, writes: &Writes<'_, S>, index: EntryIndex) -> Result<Option<Cow<'_, v1::EntryCore>>, StoreFault> {
        let at = index.0.checked_sub(self.tree.size()).and_then(|at| usize::try_from(at).ok());
        if let Some(of) = at.and_then(|at| self.appended.get(at)) {
            return Ok(Some(Cow::Borrowed(&of.core)));
        }
        let Some(exact) = writes.bytes(Table::Entries, &key::entry(index))? else { return Ok(None) };
        entry::parse(&exact).map(|(_, core)| Some(Cow::Owned(core))).ok_or_else(|| damaged(index))
    }

    /// Returns how many entries were appended and not completed.
    pub(crate) fn incomplete(&self) -> usize {
        self.appended.len()
    }

    /// Makes the bytes, the leaves and the digests of what was appended.
    pub(crate) fn complete<S: Store>(&mut self, writes: &mut Writes<'_, S>, sessions: &mut Sessions) {
        let mut appended = std::mem::take(&mut self.appended);
        let digests = facts_digests(&between(&self.facts, appended.iter().map(|of| of.facts)));
        for (of, digest) in appended.iter_mut().zip(digests) {
            of.core.decision.iter_mut().for_each(|decision| decision.facts_digest = digest.0.to_vec());
        }
        let entries: Vec<Unfinished> = appended.iter().map(|of| Unfinished::new(&of.core)).collect();
        let leaves = ContentHash::leaves(&entries);
        let places = appended.iter().zip(leaves).map(|(of, leaf)| (of.session, EntryIndex(of.core.index), leaf));
        let roots = sessions.extend(writes, places);
        let mut began = 0;
        for ((of, entry), root) in appended.iter().zip(entries).zip(roots) {
            let (index, entry) = (EntryIndex(of.core.index), entry.finish(root));
            let leaf = LogHash::leaf(&entry);
            writes.keep(Table::Entries, key::entry(index), entry);
            self.grow(writes, leaf);
            let written = self.written.get(began..of.written).unwrap_or_default();
            self.digest = state_digest(&self.digest, index, &leaf, of.next_session, written);
            began = of.written;
        }
        empty(&mut self.written);
        empty(&mut self.facts);
        appended.clear();
        self.appended = appended;
    }

    fn grow<S: Store>(&mut self, writes: &mut Writes<'_, S>, leaf: Hash) {
        let size = self.tree.size() + 1;
        self.edge.push(leaf);
        self.tree.push(leaf, |height, root| {
            if let (Ok(level @ 1..), 0) = (u8::try_from(height / 8), height % 8) {
                let number = (size >> height) - 1;
                writes.add(Table::LogHashes, key::log_hash(level, number), root.0.to_vec());
            }
        });
        if size.is_multiple_of(TILE_HASHES) {
            let tile = size / TILE_HASHES - 1;
            writes.add(Table::LogTiles, tile.to_be_bytes(), row::join(&self.edge));
            self.edge.clear();
        }
    }

    /// Writes the head row; once per apply, of entries that are complete.
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
        writes.keep(Table::Head, key::SINGLE, head.encode_to_vec());
    }
}

/// The encoding of a [`v1::Entry`] up to its session root, so that what an entry says is laid down once.
struct Unfinished {
    bytes: Vec<u8>,
    core: Range<usize>,
}

impl Unfinished {
    fn new(core: &v1::EntryCore) -> Self {
        let length = core.encoded_len();
        let mut bytes = Vec::with_capacity(length + FRAME_BYTES);
        encode_key(1, WireType::LengthDelimited, &mut bytes);
        encode_varint(length as u64, &mut bytes);
        let begin = bytes.len();
        core.encode_raw(&mut bytes);
        Self { core: begin..bytes.len(), bytes }
    }

    fn finish(self, session_root: Option<Hash>) -> Vec<u8> {
        let mut bytes = self.bytes;
        if let Some(root) = session_root {
            encode_key(2, WireType::LengthDelimited, &mut bytes);
            encode_varint(root.0.len() as u64, &mut bytes);
            bytes.extend_from_slice(&root.0);
        }
        bytes
    }
}

impl AsRef<[u8]> for Unfinished {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.core.clone()).unwrap_or_default()
    }
}

impl InSession<'_> {
    fn enter(self, index: EntryIndex) -> (v1::SessionPosition, Slot) {
        let (position, slot) = self.session.enter(index);
        (v1::SessionPosition { tenant_id: self.tenant.to_owned(), session_id: self.id.to_owned(), position: position.0 }, slot)
    }
}

/// Empties room that is used again; what was unusually large is given back.
fn empty(room: &mut Vec<u8>) {
    room.clear();
    room.shrink_to(ROOM_BYTES_MAX);
}

/// Cuts what lies one behind the other, by where each ends.
fn between(bytes: &[u8], ends: impl Iterator<Item = usize>) -> Vec<&[u8]> {
    let mut began = 0;
    ends.map(|end| bytes.get(std::mem::replace(&mut began, end)..end).unwrap_or_default()).collect()
}

/// What a store is that has another row where an entry belongs.
pub(crate) fn damaged(index: EntryIndex) -> StoreFault {
    StoreFault::Damaged { table: Table::Entries, key: key::entry(index).to_vec() }
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
        return Err(damaged(from));
    }
    Ok(rows.iter().map(|row| LogHash::leaf(&row.value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_encoded_as_its_message_is() {
        for (length, root) in [(0, None), (1, Some(Hash([7; 32]))), (200, None), (20_000, Some(Hash::ZERO))] {
            let core = v1::EntryCore {
                index: length as u64,
                body: Some(v1::entry_core::Body::Genesis(v1::Genesis { origin: "o".repeat(length), ..Default::default() })),
                ..Default::default()
            };
            let session_root = root.map(|root: Hash| root.0.to_vec()).unwrap_or_default();
            let unfinished = Unfinished::new(&core);
            assert_eq!(unfinished.as_ref(), core.encode_to_vec());
            let entry = v1::Entry { core: core.encode_to_vec().into(), session_root };
            assert_eq!(unfinished.finish(root), entry.encode_to_vec());
        }
    }
}
