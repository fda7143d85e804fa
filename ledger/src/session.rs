//! Sessions: what binds them, their trees, and the bounded cache of those in use.

use foldhash::{HashMap, HashMapExt as _};

use proofline_proto::v1;

use crate::facts::KnownTraits;
use crate::frontier::Frontier;
use crate::hash::{ContentHash, Hash};
use crate::ids::{EntryIndex, Position, SessionOrdinal};
use crate::key::{self, RowKey};
use crate::limits::{SESSION_CHUNK_LEAVES, SESSION_DEPTH_MAX, SESSION_USES_MAX};
use crate::row::{self, AwaitedRow, SessionHeadRow, SessionRow, UsesRow};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Sessions whose rows are held in memory; past this the cache starts again from nothing.
const CACHED_MAX: usize = 50_000;
/// About how much memory their known traits may take between two applies.
const TRAITS_BYTES_MAX: usize = 16 << 20;
/// Traits of a session that take more are not held.
const TRAITS_OF_ONE_MAX: usize = 4 << 10;

/// A session as its rows have it.
#[derive(Clone, Debug)]
pub(crate) struct OpenSession {
    binding: SessionRow,
    /// Over the entries whose hashes are made.
    tree: Frontier<ContentHash>,
    /// Entries that are not in the tree yet.
    entered: u64,
    last: EntryIndex,
    sealed_at: Option<u64>,
    uses: UsesRow,
    shared: Option<(u64, Vec<u64>)>,
    traits: Option<Box<KnownTraits>>,
    /// An entry was added since the head row was written.
    has_grown: bool,
    slot: Slot,
}

/// Where a session is among those in use, as long as an apply lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(usize);

impl OpenSession {
    fn new(binding: SessionRow) -> Self {
        Self {
            binding,
            tree: Frontier::default(),
            entered: 0,
            last: EntryIndex(0),
            sealed_at: None,
            uses: UsesRow::default(),
            shared: None,
            traits: None,
            has_grown: false,
            slot: Slot::default(),
        }
    }

    fn load<S: Store>(writes: &Writes<'_, S>, key: &[u8]) -> Result<Option<Self>, StoreFault> {
        let Some(binding) = writes.read::<SessionRow>(Table::Sessions, key)? else { return Ok(None) };
        let head_key = key::session_head(SessionOrdinal(binding.ordinal));
        let head: SessionHeadRow = writes.read(Table::SessionHeads, &head_key)?.unwrap_or_default();
        let tree = row::split(&head.peaks).and_then(|peaks| Frontier::restore(head.size, peaks));
        let tree = tree.ok_or_else(|| StoreFault::Damaged { table: Table::SessionHeads, key: head_key.to_vec() })?;
        let uses = writes.read(Table::SessionUses, &head_key)?.unwrap_or_default();
        Ok(Some(Self { tree, last: EntryIndex(head.last_index), sealed_at: head.sealed_at, uses, ..Self::new(binding) }))
    }

    pub(crate) fn size(&self) -> u64 {
        self.tree.size() + self.entered
    }

    /// Returns the agent that the session is bound to; empty while no entry has named one.
    pub(crate) fn agent(&self) -> &str {
        &self.binding.agent_id
    }

    /// Returns for whom the session is bound to have been begun, once an entry has said so.
    pub(crate) fn initiator(&self) -> Option<&v1::Principal> {
        self.binding.initiator.as_ref()
    }

    /// Returns the session above, as the session's first entry named it.
    pub(crate) fn parent(&self) -> &str {
        &self.binding.parent
    }

    /// Returns the credentials and agent instances that the session was seen with.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (v1::TargetKind, &str)> {
        let credentials = self.uses.credentials.iter().map(|id| (v1::TargetKind::Credential, id.as_str()));
        credentials.chain(self.uses.instances.iter().map(|id| (v1::TargetKind::AgentInstance, id.as_str())))
    }

    /// Remembers credentials and agent instances, while there is room.
    pub(crate) fn note_uses<S: Store>(&mut self, writes: &mut Writes<'_, S>, shown: &[(v1::TargetKind, String)]) {
        let mut is_new = false;
        for (kind, id) in shown {
            let known = if *kind == v1::TargetKind::Credential { &mut self.uses.credentials } else { &mut self.uses.instances };
            if known.contains(id) {
                continue;
            }
            if known.len() < SESSION_USES_MAX {
                known.push(id.clone());
                is_new = true;
            } else {
                is_new |= !self.uses.incomplete;
                self.uses.incomplete = true;
            }
        }
        if is_new {
            self.shared = None;
            writes.put(Table::SessionUses, key::session_head(SessionOrdinal(self.binding.ordinal)), &self.uses);
        }
    }

    /// Returns whether the session showed more than is remembered of it.
    pub(crate) fn shows_more(&self) -> bool {
        self.uses.incomplete
    }

    /// Returns the containments of what the session was seen with, if they were looked up since `generation` began.
    pub(crate) fn shared(&self, generation: u64) -> Option<Vec<u64>> {
        self.shared.as_ref().filter(|(at, _)| *at == generation).map(|(_, cases)| cases.clone())
    }

    /// Keeps what was looked up: it holds until what is contained changes, or what the session was seen with.
    pub(crate) fn keep_shared(&mut self, generation: u64, cases: Vec<u64>) {
        self.shared = Some((generation, cases));
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed_at.is_some()
    }

    /// Marks the session sealed by the entry that is appended next.
    pub(crate) fn seal(&mut self, by: EntryIndex) {
        self.sealed_at = Some(by.0);
    }

    /// Gives an entry its position. Its leaf comes with [`Sessions::extend`].
    pub(crate) fn enter(&mut self, index: EntryIndex) -> (Position, Slot) {
        let position = Position(self.size());
        self.entered += 1;
        self.last = index;
        (position, self.slot)
    }

    /// Adds the leaves of the entries that entered, and returns the root of the session after each.
    fn extend<S: Store>(&mut self, writes: &mut Writes<'_, S>, entries: &[(EntryIndex, Hash)]) -> Vec<Hash> {
        let ordinal = SessionOrdinal(self.binding.ordinal);
        for (position, (index, leaf)) in (self.tree.size()..).zip(entries) {
            let value = [&index.0.to_be_bytes()[..], &leaf.0].concat();
            writes.add(Table::SessionLeaves, key::session_leaf(ordinal, Position(position)), value);
        }
        // Planted: the root from before the entry.
        let before = crate::planted!(SessionRootLags).then(|| self.tree.root());
        let leaves = entries.iter().map(|(_, leaf)| *leaf).collect();
        let mut roots = self.tree.extend_with_roots(leaves, |height, number, root| {
            if 1 << height == SESSION_CHUNK_LEAVES {
                writes.add(Table::SessionChunks, key::session_chunk(ordinal, number), root.0.to_vec());
            }
        });
        if let Some(before) = before {
            roots.insert(0, before);
        }
        self.entered = 0;
        roots
    }

    /// Writes the head row, which the entries determine.
    fn save<S: Store>(&mut self, writes: &mut Writes<'_, S>) {
        self.has_grown = false;
        let head = SessionHeadRow {
            size: self.tree.size(),
            peaks: row::join(self.tree.peaks()),
            last_index: self.last.0,
            sealed_at: self.sealed_at,
        };
        let key = key::session_head(SessionOrdinal(self.binding.ordinal)).to_vec();
        writes.keep(Table::SessionHeads, key, prost::Message::encode_to_vec(&head));
    }
}

/// What an event says about the session that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) id: &'a str,
    pub(crate) parent: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) initiator: Option<&'a v1::Principal>,
}

impl<'a> Claim<'a> {
    /// Reads the claim of an event; `None` for an event without a session.
    pub(crate) fn of(event: &'a v1::Event) -> Option<Self> {
        let session = event.session.as_ref()?;
        let attribution = event.attribution.as_ref();
        Some(Self {
            tenant: &event.tenant_id,
            id: &session.session_id,
            parent: &session.parent_session_id,
            agent: attribution.and_then(|it| it.agent.as_ref()).map_or("", |agent| &agent.agent_id),
            initiator: attribution.and_then(|it| it.initiator.as_ref()),
        })
    }
}

/// The sessions in use.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slots: HashMap<Vec<u8>, Slot>,
    open: Vec<OpenSession>,
    /// Those that grew since their heads were written.
    grown: Vec<Slot>,
    /// About how much memory the known traits take.
    traits_bytes: usize,
}

impl Sessions {
    /// Bounds the cache; between two applies every cached session equals its rows.
    pub(crate) fn trim(&mut self) {
        if self.open.len() > CACHED_MAX {
            (self.slots, self.open, self.traits_bytes) = (HashMap::new(), Vec::new(), 0);
        }
        if self.traits_bytes > TRAITS_BYTES_MAX {
            self.open.iter_mut().for_each(|session| session.traits = None);
            self.traits_bytes = 0;
        }
    }

    /// Writes the heads of the sessions that grew; once per apply.
    pub(crate) fn save<S: Store>(&mut self, writes: &mut Writes<'_, S>) {
        for slot in std::mem::take(&mut self.grown) {
            self.open.get_mut(slot.0).into_iter().for_each(|session| session.save(writes));
        }
    }

    /// Returns a session that exists, to which an entry is added next.
    pub(crate) fn grow<S: Store>(&mut self, writes: &Writes<'_, S>, key: &[u8]) -> Result<Option<&mut OpenSession>, StoreFault> {
        Ok(self.slot(writes, key)?.and_then(|slot| self.grow_at(slot)))
    }

    /// Returns the session in a slot, to which an entry is added next.
    pub(crate) fn grow_at(&mut self, slot: Slot) -> Option<&mut OpenSession> {
        let session = self.open.get_mut(slot.0)?;
        if !session.has_grown {
            session.has_grown = true;
            self.grown.push(slot);
        }
        Some(session)
    }

    /// Returns the session in a slot.
    pub(crate) fn at(&self, slot: Slot) -> Option<&OpenSession> {
        self.open.get(slot.0)
    }

    /// Keeps what is known of the traits of the session in a slot, where that is little.
    pub(crate) fn keep_traits(&mut self, slot: Slot, known: KnownTraits) {
        let Some(session) = self.open.get_mut(slot.0) else { return };
        let bytes = known.bytes();
        if bytes > TRAITS_OF_ONE_MAX {
            session.traits = None;
            return;
        }
        self.traits_bytes += bytes;
        **session.traits.get_or_insert_default() = known;
    }

    /// Takes what is known of the traits of the session in a slot, to be given back.
    pub(crate) fn take_traits(&mut self, slot: Slot) -> KnownTraits {
        let held = self.open.get_mut(slot.0).and_then(|session| session.traits.as_deref_mut());
        // What is not held was not counted.
        let Some(known) = held.map(std::mem::take) else { return KnownTraits::default() };
        self.traits_bytes = self.traits_bytes.saturating_sub(known.bytes());
        known
    }

    /// Adds the leaves of entries to the sessions that they entered, and returns the root of its session after each that has one.
    pub(crate) fn extend<S: Store>(
        &mut self,
        writes: &mut Writes<'_, S>,
        entries: impl Iterator<Item = (Option<Slot>, EntryIndex, Hash)>,
    ) -> Vec<Option<Hash>> {
        let (mut roots, mut of_sessions) = (Vec::new(), Vec::new());
        for (at, (session, index, leaf)) in entries.enumerate() {
            roots.push(None);
            of_sessions.extend(session.map(|slot| (slot, at, (index, leaf))));
        }
        of_sessions.sort_unstable_by_key(|(slot, at, _)| (*slot, *at));
        for entries in of_sessions.chunk_by(|(one, ..), (other, ..)| one == other) {
            let Some(session) = entries.first().and_then(|(slot, ..)| self.open.get_mut(slot.0)) else { continue };
            let leaves: Vec<_> = entries.iter().map(|(_, _, leaf)| *leaf).collect();
            for ((_, at, _), root) in entries.iter().zip(session.extend(writes, &leaves)) {
                roots.get_mut(*at).into_iter().for_each(|place| *place = Some(root));
            }
        }
        roots
    }

    /// Returns a session that exists.
    pub(crate) fn find<S: Store>(&mut self, writes: &Writes<'_, S>, key: &[u8]) -> Result<Option<&mut OpenSession>, StoreFault> {
        Ok(self.slot(writes, key)?.and_then(|slot| self.open.get_mut(slot.0)))
    }

    fn slot<S: Store>(&mut self, writes: &Writes<'_, S>, key: &[u8]) -> Result<Option<Slot>, StoreFault> {
        if let Some(slot) = self.slots.get(key) {
            return Ok(Some(*slot));
        }
        Ok(OpenSession::load(writes, key)?.map(|session| self.hold(key, session)))
    }

    fn hold(&mut self, key: &[u8], session: OpenSession) -> Slot {
        let slot = Slot(self.open.len());
        self.open.push(OpenSession { slot, ..session });
        self.slots.insert(key.to_vec(), slot);
        slot
    }

    /// Returns the place of the session of a claim, creating it with its first entry, or the reason why the claim does not fit.
    pub(crate) fn enter<S: Store>(
        &mut self,
        writes: &mut Writes<'_, S>,
        claim: Claim<'_>,
        next: &mut NextSession<'_>,
    ) -> Result<Result<Slot, v1::RejectionReason>, StoreFault> {
        let key = key::scoped(claim.tenant, claim.id);
        let mut slot = self.slot(writes, &key)?;
        if slot.is_none() {
            if let Err(reason) = self.place_below_parent(writes, claim, &key)? {
                return Ok(Err(reason));
            }
            let binding = next.bind(claim);
            writes.put(Table::Sessions, &key, &binding);
            slot = Some(self.hold(&key, OpenSession::new(binding)));
        }
        let Some(session) = slot.and_then(|slot| self.open.get_mut(slot.0)) else {
            return Err(StoreFault::Damaged { table: Table::Sessions, key: key.to_vec() });
        };
        Ok(match session.admit(claim) {
            Ok(Rebound::Nothing) => Ok(session.slot),
            Ok(Rebound::Late) => {
                writes.put(Table::Sessions, key, &session.binding);
                Ok(session.slot)
            }
            Err(reason) => Err(reason),
        })
    }

    /// Checks the chain above a new session. A parent may arrive later than its children (other collectors, other
    /// clocks): then what hangs below it is remembered, so that its arrival can neither close a cycle nor exceed the depth.
    fn place_below_parent<S: Store>(
        &mut self,
        writes: &mut Writes<'_, S>,
        claim: Claim<'_>,
        key: &[u8],
    ) -> Result<Result<(), v1::RejectionReason>, StoreFault> {
        let below = writes.read::<AwaitedRow>(Table::AwaitedParents, key)?.map_or(0, |row| row.height);
        let mut depth = 1;
        let mut above = claim.parent.to_owned();
        while !above.is_empty() {
            if above == claim.id {
                return Ok(Err(v1::RejectionReason::SessionCycle));
            }
            depth += 1;
            if depth + below > SESSION_DEPTH_MAX {
                return Ok(Err(v1::RejectionReason::SessionTooDeep));
            }
            let above_key = key::scoped(claim.tenant, &above);
            match self.find(writes, &above_key)? {
                Some(session) => above.clone_from(&session.binding.parent),
                None => {
                    await_parent(writes, above_key, depth - 1 + below)?;
                    break;
                }
            }
        }
        if below > 0 {
            writes.remove(Table::AwaitedParents, key);
        }
        Ok(Ok(()))
    }
}

fn await_parent<S: Store>(writes: &mut Writes<'_, S>, key: RowKey, height: u32) -> Result<(), StoreFault> {
    let known = writes.read::<AwaitedRow>(Table::AwaitedParents, &key)?.map_or(0, |row| row.height);
    if height > known {
        writes.put(Table::AwaitedParents, key, &AwaitedRow { height });
    }
    Ok(())
}

enum Rebound {
    Nothing,
    Late,
}

impl OpenSession {
    /// Compares a claim with what binds the session. An agent or initiator that the first entry left open is bound by the
    /// first entry that names it; a parent is bound by the first entry alone.
    fn admit(&mut self, claim: Claim<'_>) -> Result<Rebound, v1::RejectionReason> {
        if self.is_sealed() {
            return Err(v1::RejectionReason::SessionSealed);
        }
        let is_other_agent = !claim.agent.is_empty() && !self.binding.agent_id.is_empty() && claim.agent != self.binding.agent_id;
        let is_other_initiator = claim.initiator.zip(self.binding.initiator.as_ref()).is_some_and(|(one, other)| !is_same(one, other));
        let is_other_parent = !claim.parent.is_empty() && claim.parent != self.binding.parent;
        if is_other_agent || is_other_initiator || is_other_parent {
            return Err(v1::RejectionReason::SessionMismatch);
        }
        Ok(self.bind_late(claim))
    }

    fn bind_late(&mut self, claim: Claim<'_>) -> Rebound {
        let mut rebound = Rebound::Nothing;
        if self.binding.agent_id.is_empty() && !claim.agent.is_empty() {
            claim.agent.clone_into(&mut self.binding.agent_id);
            rebound = Rebound::Late;
        }
        if self.binding.initiator.is_none() && claim.initiator.is_some() {
            self.binding.initiator = claim.initiator.cloned();
            rebound = Rebound::Late;
        }
        rebound
    }
}

fn is_same(one: &v1::Principal, other: &v1::Principal) -> bool {
    one.kind == other.kind && one.issuer == other.issuer && one.subject == other.subject
}

/// Gives new sessions their ordinals.
pub(crate) struct NextSession<'a> {
    pub(crate) ordinal: &'a mut u64,
    pub(crate) first_index: EntryIndex,
}

impl NextSession<'_> {
    fn bind(&mut self, claim: Claim<'_>) -> SessionRow {
        let ordinal = *self.ordinal;
        *self.ordinal += 1;
        SessionRow {
            ordinal,
            agent_id: claim.agent.to_owned(),
            initiator: claim.initiator.cloned(),
            parent: claim.parent.to_owned(),
            first_index: self.first_index.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(sessions: &mut Sessions, number: usize) -> Slot {
        sessions.hold(&number.to_be_bytes(), OpenSession::new(SessionRow::default()))
    }

    #[test]
    fn traits_are_counted_as_long_as_they_are_held() {
        let mut sessions = Sessions::default();
        let (one, other) = (hold(&mut sessions, 1), hold(&mut sessions, 2));
        sessions.keep_traits(one, KnownTraits::of_row(vec![1; 100]));
        let held = sessions.traits_bytes;
        assert_eq!(held, KnownTraits::of_row(vec![1; 100]).bytes());
        for _ in 0..9 {
            let unknown = sessions.take_traits(other);
            assert_eq!(unknown.bytes(), KnownTraits::default().bytes());
            sessions.keep_traits(other, KnownTraits::of_row(vec![1; TRAITS_OF_ONE_MAX]));
            assert_eq!(sessions.traits_bytes, held, "what is not held is not counted, in or out");
        }
        assert_eq!(sessions.take_traits(one).bytes(), held);
        assert_eq!(sessions.traits_bytes, 0);
    }

    #[test]
    fn too_much_of_traits_is_forgotten_between_two_applies() {
        let row = vec![1; TRAITS_OF_ONE_MAX / 2 - 512];
        let mut sessions = Sessions::default();
        for number in 0..TRAITS_BYTES_MAX / (2 * row.len()) {
            let slot = hold(&mut sessions, number);
            sessions.keep_traits(slot, KnownTraits::of_row(row.clone()));
        }
        assert!(sessions.traits_bytes > TRAITS_BYTES_MAX, "{}", sessions.traits_bytes);
        sessions.trim();
        assert_eq!(sessions.traits_bytes, 0);
        assert!(sessions.open.iter().all(|session| session.traits.is_none()));
    }
}
