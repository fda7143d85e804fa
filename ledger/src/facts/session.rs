//! What is known of one session, and of those above it.

use proofline_proto::v1;
use prost::Message as _;
use v1::event::Body;

use super::act::Act;
use super::row::{Held, RefusedTool, SessionCounts, SessionTraits};
use super::{SECOND_NS, add, sets, touching};
use crate::event::is_identifier;
use crate::ids::UnixNanos;
use crate::key::{self, RowKey};
use crate::ledger::Ledger;
use crate::limits::{SESSION_DEPTH_MAX, SESSION_LIST_MAX};
use crate::row::{self, SessionRow, SpawnsRow};
use crate::session::{Claim, Slot};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// A session's rows, and its sessions above, the nearest first.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) key: RowKey,
    pub(super) counts: Held<SessionCounts>,
    pub(super) traits: SessionTraits,
    pub(super) above: Vec<Above>,
    pub(super) now: UnixNanos,
    slot: Slot,
    /// The row of the traits.
    row: Vec<u8>,
}

/// What a text takes beside its letters.
const TEXT_BYTES: usize = 48;

/// Traits as they were known last: few events change them, so that they are seldom read out of their row again.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownTraits {
    traits: SessionTraits,
    row: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Above {
    pub(super) id: String,
    pub(super) key: RowKey,
    pub(super) tainted: bool,
    pub(super) classification: u64,
    /// The session below is known to belong here: this one recorded the spawn, or has the same agent, or is yet to begin. A
    /// parent is otherwise only what a child says.
    pub(super) is_vouched: bool,
}

impl SessionState {
    /// Opens the session in a slot for an event of `agent`.
    pub(super) fn open<S: Store>(
        ledger: &mut Ledger,
        writes: &mut Writes<'_, S>,
        event: &v1::Event,
        agent: &str,
        slot: Option<Slot>,
    ) -> Result<Option<Self>, StoreFault> {
        let Some((claim, slot)) = Claim::of(event).zip(slot) else { return Ok(None) };
        let key = key::scoped(claim.tenant, claim.id);
        let KnownTraits { mut traits, row } = ledger.sessions.take_traits(slot).of(writes, &key)?;
        let counts = Held::<SessionCounts>::read(writes, Table::SessionCounts, key.clone())?;
        let was_alone = traits.above.is_empty();
        if was_alone {
            // A spawn may be recorded when what it spawned is long under way.
            traits.above = above_of(writes, claim, &key, agent)?;
        }
        let above = sessions_above(writes, claim, agent, &traits.above)?;
        if was_alone && !above.is_empty() {
            touching::reach_from_below(writes, &key, &above)?;
        }
        Ok(Some(Self { key, counts, traits, above, now: ledger.log.now(), slot, row }))
    }

    /// Writes the rows that changed.
    pub(super) fn write<S: Store>(self, ledger: &mut Ledger, writes: &mut Writes<'_, S>) -> Result<(), StoreFault> {
        let Self { key, counts, traits, slot, mut row, .. } = self;
        counts.write(writes)?;
        let now = &mut ledger.room.row;
        now.clear();
        traits.encode_raw(now);
        if *now != row {
            writes.put_bytes(Table::SessionTraits, key, now.clone());
            row.clone_from(now);
        }
        ledger.sessions.keep_traits(slot, KnownTraits { traits, row });
        Ok(())
    }

    pub(super) fn count<S: Store>(
        &mut self,
        writes: &mut Writes<'_, S>,
        event: &v1::Event,
        act: &Act<'_>,
        facts: &mut v1::Facts,
    ) -> Result<(), StoreFault> {
        self.turn(writes, act, facts)?;
        self.refusals(facts);
        facts.session_tool_names.clone_from(&self.traits.tools);
        facts.session_tags.clone_from(&self.traits.tags);
        self.note(writes, event, act, facts)?;
        let counts = &mut self.counts.now;
        counts.calls = add(counts.calls, u64::from(act.is_intent));
        counts.turn_calls = add(counts.turn_calls, u64::from(act.is_intent));
        if !act.is_intent {
            counts.records = add(counts.records, act.records);
            counts.bytes_read = add(counts.bytes_read, act.bytes_read);
            counts.bytes_out = add(counts.bytes_out, act.bytes_out);
            counts.amount = add(counts.amount, act.amount);
        }
        counts.tokens = add(counts.tokens, act.tokens);
        counts.failed = add(counts.failed, u64::from(act.has_failed()));
        counts.writes = add(counts.writes, u64::from(act.has_written()));
        counts.writes_failed = add(counts.writes_failed, u64::from(act.has_failed() && act.writes()));
        counts.turn_writes = add(counts.turn_writes, u64::from(act.has_written()));
        let has_deleted = act.has_written() && act.verb == v1::ActionVerb::ResourceDelete;
        counts.deletes = add(counts.deletes, u64::from(has_deleted));
        counts.egress = add(counts.egress, u64::from(act.egress && act.is_intent));
        counts.spawned = add(counts.spawned, u64::from(matches!(event.body, Some(Body::SubAgentSpawned(_)))));
        if act.has_read() && facts.classification > counts.classification {
            counts.classification = facts.classification;
            for above in self.above.iter().take_while(|it| it.is_vouched) {
                let mut row = Held::<SessionCounts>::read(writes, Table::SessionCounts, above.key.clone())?;
                row.now.classification = row.now.classification.max(facts.classification);
                row.write(writes)?;
            }
        }
        self.tell(facts);
        if act.is_intent {
            let asked = add(self.counts.now.asked, act.amount);
            facts.session_amount = self.counts.now.amount.max(asked);
        }
        Ok(())
    }

    /// Says what a write means in its turn: whether what it writes was ever read, and whether anybody had the time to look.
    fn turn<S: Store>(&self, writes: &Writes<'_, S>, act: &Act<'_>, facts: &mut v1::Facts) -> Result<(), StoreFault> {
        if act.writes() {
            for uri in &facts.resources {
                match sets::turn_of_read(writes, &self.key, uri)? {
                    None => facts.resource_unread = true,
                    Some(turn) => facts.turn_first_read |= turn == self.counts.now.turn,
                }
            }
        }
        Ok(())
    }

    fn refusals(&self, facts: &mut v1::Facts) {
        if self.traits.refusals.is_empty() {
            return;
        }
        let resources: Vec<String> = facts.resources.iter().map(|uri| sets::short(uri)).collect();
        let tool = sets::short(&facts.tool);
        let is_here = |it: &RefusedTool| it.resource.is_empty() && resources.is_empty() || resources.contains(&it.resource);
        let here = || self.traits.refusals.iter().filter(|it| is_here(it));
        let by_this_tool = || here().filter(|it| it.tool == tool);
        facts.refusals_here = by_this_tool().fold(0, |sum, it| add(sum, it.times));
        facts.failures_here = by_this_tool().fold(0, |sum, it| add(sum, it.failures));
        facts.denied_by_other_tool = here().any(|it| it.denied && it.tool != tool && !it.resource.is_empty());
    }

    /// Remembers what the session shows of itself by this event.
    fn note<S: Store>(
        &mut self,
        writes: &mut Writes<'_, S>,
        event: &v1::Event,
        act: &Act<'_>,
        facts: &v1::Facts,
    ) -> Result<(), StoreFault> {
        let traits = &mut self.traits;
        if traits.purpose.is_empty() && !facts.purpose.is_empty() {
            traits.purpose = sets::short(&facts.purpose);
        }
        let mut is_full = remember(&mut traits.tools, &facts.tool);
        is_full |= remember(&mut traits.servers, &facts.server);
        if act.has_read() {
            // Whose data it was is another fact.
            for tag in facts.tags.iter().filter(|tag| !tag.starts_with("owner:")) {
                is_full |= remember(&mut traits.tags, tag);
            }
            for resource in act.resources.iter().filter(|it| !it.uri.is_empty()) {
                if sets::note_read(writes, &self.key, &resource.uri, self.counts.now.turn)? {
                    is_full |= !traits.count_read(&resource.system);
                }
            }
        }
        if let Some(Body::ActionOutcome(it)) = &event.body
            && act.has_written()
        {
            for shown in it.accesses.iter().filter_map(|access| access.resource.as_ref()).filter(|it| !it.uri.is_empty()) {
                sets::note_shown(writes, &self.key, &shown.uri)?;
            }
        }
        if !traits.tainted && (act.has_read_untrusted() || facts.memory_tainted) {
            traits.tainted = true;
            for above in self.above.iter().take_while(|it| it.is_vouched) {
                let mut row = Held::<SessionTraits>::read(writes, Table::SessionTraits, above.key.clone())?;
                row.now.tainted = true;
                row.write(writes)?;
            }
        }
        // Whoever can say that somebody authenticated is the identity provider, not the agent.
        if let Some(Body::StepUpCleared(it)) = &event.body
            && event.vantage() == v1::Vantage::IdpObserved
            && it.authenticated_unix_ns > traits.stepped_up_unix_ns
        {
            traits.stepped_up_unix_ns = it.authenticated_unix_ns.min(self.now.0);
            traits.step_up_acr = it.acr.chars().take(64).collect();
        }
        self.counts.now.overflow |= is_full;
        Ok(())
    }

    fn tell(&self, facts: &mut v1::Facts) {
        let (counts, traits) = (&self.counts.now, &self.traits);
        facts.session_calls = counts.calls;
        facts.session_tools = traits.tools.len() as u64;
        facts.session_servers = traits.servers.len() as u64;
        facts.session_resources = counts.resources;
        facts.session_systems = counts.systems;
        facts.session_records = counts.records;
        facts.session_bytes_read = counts.bytes_read;
        facts.session_bytes_out = counts.bytes_out;
        facts.session_amount = counts.amount;
        facts.session_tokens = counts.tokens;
        facts.session_denied = counts.denied;
        facts.session_failed = counts.failed;
        facts.session_writes = counts.writes;
        facts.session_writes_failed = counts.writes_failed;
        facts.session_deletes = counts.deletes;
        facts.session_credentials = counts.credentials;
        facts.session_scopes = counts.scopes;
        facts.session_spawned = counts.spawned;
        facts.session_classification = self.above.iter().map(|it| it.classification).max().unwrap_or(0).max(counts.classification);
        facts.session_egress = counts.egress;
        facts.turn_calls = counts.turn_calls;
        facts.turn_writes = counts.turn_writes;
        facts.reach_resources = counts.reach_resources;
        facts.reach_systems = counts.reach_systems;
        facts.overflow = counts.overflow;
        facts.depth = self.above.len() as u64;
        let reads_here = traits.reads.iter().filter(|it| facts.systems.contains(&it.system)).map(|it| it.resources).max();
        facts.reads_here = reads_here.unwrap_or_default();
        facts.tainted = traits.tainted || self.above.iter().any(|it| it.tainted);
        facts.session_purpose.clone_from(&traits.purpose);
        facts.purpose_changed = !facts.purpose.is_empty() && sets::short(&facts.purpose) != traits.purpose;
        facts.step_up_acr.clone_from(&traits.step_up_acr);
        if traits.stepped_up_unix_ns != 0 {
            facts.step_up_age_s = self.now.0.saturating_sub(traits.stepped_up_unix_ns) / SECOND_NS;
        }
    }

    pub(super) fn refuse(&mut self, refused: &RefusedTool, tool: &str, resources: &[String]) {
        let none = [String::new()];
        for resource in if resources.is_empty() { &none } else { resources } {
            let refusals = &mut self.traits.refusals;
            let (tool, resource) = (sets::short(tool), sets::short(resource));
            if let Some(known) = refusals.iter_mut().find(|it| it.tool == tool && it.resource == resource) {
                known.times = add(known.times, refused.times);
                known.failures = add(known.failures, refused.failures);
                known.denied |= refused.denied;
            } else if refusals.len() < SESSION_LIST_MAX {
                refusals.push(RefusedTool { tool, resource, ..refused.clone() });
            } else {
                self.counts.now.overflow = true;
            }
        }
    }
}

impl KnownTraits {
    #[cfg(test)]
    pub(crate) fn of_row(row: Vec<u8>) -> Self {
        Self { row, ..Self::default() }
    }

    /// Returns about how much memory they take.
    pub(crate) fn bytes(&self) -> usize {
        let of = &self.traits;
        let texts = of.tools.len() + of.servers.len() + of.tags.len() + 2 * of.refusals.len() + of.reads.len();
        size_of::<Self>() + 2 * self.row.len() + TEXT_BYTES * texts
    }

    /// Returns the traits as the row under `key` has them; these, where it is still the same row.
    fn of<S: Store>(self, writes: &Writes<'_, S>, key: &[u8]) -> Result<Self, StoreFault> {
        writes.look(Table::SessionTraits, key, |row| {
            // A row that is missing reads like one of nothing but defaults.
            let row = row.unwrap_or_default();
            if row == self.row {
                return Ok(self);
            }
            Ok(Self { traits: row::decode(Table::SessionTraits, key, row)?, row: row.to_vec() })
        })
    }
}

/// Returns the session above one that begins: the parent that it names, or the session that said it spawned it.
fn above_of<S: Store>(writes: &Writes<'_, S>, claim: Claim<'_>, key: &[u8], agent: &str) -> Result<String, StoreFault> {
    if !claim.parent.is_empty() {
        return Ok(claim.parent.to_owned());
    }
    let spawns = writes.read::<SpawnsRow>(Table::Spawns, key)?.unwrap_or_default();
    Ok(spawns.spawners.into_iter().find(|it| it.child_agent == agent).map(|it| it.session_id).unwrap_or_default())
}

fn sessions_above<S: Store>(writes: &Writes<'_, S>, claim: Claim<'_>, agent: &str, first: &str) -> Result<Vec<Above>, StoreFault> {
    let tenant = claim.tenant;
    let mut found: Vec<Above> = Vec::new();
    if first.is_empty() {
        return Ok(found);
    }
    let (mut next, mut below, mut agent) = (first.to_owned(), claim.id.to_owned(), agent.to_owned());
    // Spawns may contradict what sessions say of their parents: the walk ends where it would go round.
    while is_identifier(&next) && found.len() < SESSION_DEPTH_MAX as usize && found.iter().all(|it| it.id != next) {
        let key = key::scoped(tenant, &next);
        let traits: SessionTraits = writes.read(Table::SessionTraits, &key)?.unwrap_or_default();
        let counts: SessionCounts = writes.read(Table::SessionCounts, &key)?.unwrap_or_default();
        let bound = writes.read::<SessionRow>(Table::Sessions, &key)?.map(|row| row.agent_id);
        let is_vouched = found.last().is_none_or(|it| it.is_vouched)
            && (bound.as_ref().is_none_or(|bound| *bound == agent && !agent.is_empty())
                || is_spawned(writes, tenant, &next, &below, &agent)?);
        // One that was spawned and has not begun hides nothing of what is above it.
        let above = match &bound {
            Some(_) => traits.above,
            None => writes.read::<SpawnsRow>(Table::Spawns, &key)?.and_then(|row| row.above(None).next()).unwrap_or_default(),
        };
        (below, agent) = (next.clone(), bound.unwrap_or_default());
        found.push(Above { id: next, key, tainted: traits.tainted, classification: counts.classification, is_vouched });
        next = above;
    }
    Ok(found)
}

/// Tells whether a session recorded that it spawned another for its agent.
fn is_spawned<S: Store>(writes: &Writes<'_, S>, tenant: &str, above: &str, below: &str, agent: &str) -> Result<bool, StoreFault> {
    let spawns = writes.read::<SpawnsRow>(Table::Spawns, &key::scoped(tenant, below))?.unwrap_or_default();
    Ok(spawns.spawners.iter().any(|it| it.session_id == above && it.child_agent == agent))
}

/// Adds to a short sorted list, and tells whether there was no room.
fn remember(list: &mut Vec<String>, name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    match list.binary_search_by(|known| known.as_str().cmp(name)) {
        Ok(_) => false,
        Err(_) if list.len() >= SESSION_LIST_MAX || name.len() > 256 => true,
        Err(at) => {
            list.insert(at, name.to_owned());
            false
        }
    }
}
