//! Facts: what the ledger itself knows when it decides on an event.
//!
//! Everything here follows from the log: counters, sets and first sights, committed times, and what was registered. What a
//! rule sees is one [`v1::Facts`], whose digest stands in the entry, so that whoever has the facts can decide again.

pub(crate) mod act;
mod authority;
mod row;
mod sets;
mod touching;

use proofline_proto::v1;
use prost::Message as _;
use v1::event::Body;

pub(crate) use authority::is_owned;
pub(crate) use row::{AgentCounts, Intended};
use row::{Held, RefusedTool, SessionCounts, SessionTraits};
use sets::Set;

use crate::entry;
use crate::event::is_identifier;
use crate::hash::{Hash, facts_digest};
use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::ledger::Ledger;
use crate::limits::{COUNT_MAX, MEMBERS_PER_EVENT_MAX, SESSION_DEPTH_MAX, SESSION_LIST_MAX};
use crate::row::{SessionRow, SpawnsRow};
use crate::session::Claim;
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;
use act::Act;

const HOUR_NS: u64 = 3_600 * SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;

/// An event, its facts, and the rows that it changes once its verdict is known.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) facts: v1::Facts,
    event: &'a v1::Event,
    session: Option<SessionState>,
    agent: Option<Held<AgentCounts>>,
    /// What the session may yet be asked about this event: tool and resources of what it is about.
    tool: String,
    is_intent: bool,
    amount: u64,
    learns: Vec<(Set, String)>,
    has_failed: bool,
    ends_turn: bool,
    resolves: Option<EntryIndex>,
}

/// A session's rows, and its sessions above, the nearest first.
#[derive(Debug)]
struct SessionState {
    key: Vec<u8>,
    counts: Held<SessionCounts>,
    traits: Held<SessionTraits>,
    above: Vec<Above>,
    now: UnixNanos,
}

#[derive(Debug)]
struct Above {
    id: String,
    key: Vec<u8>,
    tainted: bool,
    classification: u64,
    /// The session below was spawned from here by the ledger's own record, or is the same agent's: not only its word.
    is_vouched: bool,
}

/// Finds out what is to be known of an event that is recorded next.
pub(crate) fn observe<'a, S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    event: &'a v1::Event,
    agent: &str,
) -> Result<Observed<'a>, StoreFault> {
    let now = ledger.log.now();
    let intended = intended(writes, event)?;
    let act = Act::of(event, intended.as_ref().map(|it| &it.action));
    let mut facts = of_event(event, &act, agent, now);
    of_outcome(&mut facts, event, intended.as_ref());
    let mut session = SessionState::open(ledger, writes, event)?;
    let mut agent_row = None;
    if !agent.is_empty() {
        agent_row = Some(AgentCounts::open(writes, &event.tenant_id, agent, now)?);
    }
    let mut touching = touching::Touching {
        writes,
        event,
        act: &act,
        agent,
        now,
        session: session.as_mut(),
        row: agent_row.as_mut(),
        learns: Vec::new(),
        room: MEMBERS_PER_EVENT_MAX,
    };
    touching.sets(&mut facts)?;
    touching.owners(&mut facts)?;
    touching.memory(&mut facts)?;
    touching.tools(&mut facts)?;
    touching.credential(&mut facts)?;
    let learns = touching.learns;
    authority::purpose(writes, event, &act, &mut facts, now)?;
    authority::agent(writes, event, agent, session.as_ref().map_or(&[], |it| &it.above), &mut facts)?;
    if let Some(session) = &mut session {
        session.count(writes, event, &act, &mut facts)?;
    }
    if let Some(row) = &mut agent_row {
        row.now.count(&act, &mut facts);
    }
    Ok(Observed {
        tool: facts.tool.clone(),
        facts,
        event,
        session,
        agent: agent_row,
        is_intent: act.is_intent(),
        amount: act.amount,
        learns,
        has_failed: act.has_failed(),
        ends_turn: act.ends_turn,
        resolves: intended.map(|it| it.index),
    })
}

impl Observed<'_> {
    /// Returns the digest of the facts.
    pub(crate) fn digest(&self) -> Hash {
        facts_digest(&self.facts.encode_to_vec())
    }

    /// Writes what the event changes, with its verdict, as part of its entry.
    ///
    /// What waits for a yes is not denied, and what a containment denies says nothing new of the agent.
    pub(crate) fn settle<S: Store>(
        mut self,
        writes: &mut Writes<'_, S>,
        agent: &str,
        verdict: v1::Verdict,
        contained: Contained,
        index: EntryIndex,
    ) -> Result<(), StoreFault> {
        let is_allowed = verdict == v1::Verdict::Allow;
        let is_denied = self.is_intent && verdict == v1::Verdict::Deny && contained == Contained::No;
        if is_allowed {
            self.learn(writes, agent)?;
        }
        if let Some(session) = &mut self.session {
            session.counts.now.denied = add(session.counts.now.denied, u64::from(is_denied));
            if self.is_intent && is_allowed {
                session.counts.now.asked = add(session.counts.now.asked, self.amount);
            }
            if self.has_failed || is_denied {
                session.refuse(&self.tool, &self.facts.resources, is_denied);
            }
            if self.ends_turn {
                let counts = &mut session.counts.now;
                (counts.turn, counts.turn_calls, counts.turn_writes) = (add(counts.turn, 1), 0, 0);
            }
        }
        if let Some(row) = &mut self.agent {
            row.now.denied = add(row.now.denied, u64::from(is_denied));
        }
        if self.is_intent {
            let key = sets::intent(&self.event.tenant_id, &self.facts.session, &self.event.event_id);
            // Under one id in one session the strictest stays: nothing that comes later makes good what was not allowed.
            if !is_allowed || writes.bytes(Table::Intents, &key)?.is_none() {
                writes.put_bytes(Table::Intents, key, index.0.to_be_bytes().to_vec());
            }
            if is_allowed {
                writes.keep(Table::Unresolved, sets::unresolved(index), Vec::new());
            }
        }
        if let Some(intent) = self.resolves {
            writes.forget(Table::Unresolved, sets::unresolved(intent));
        }
        if let Some(session) = self.session {
            session.counts.write(writes);
            session.traits.write(writes);
        }
        if let Some(row) = self.agent {
            row.write(writes);
        }
        Ok(())
    }

    /// Remembers what the agent was allowed to touch. What it asked for in vain, or reports of itself, stays new to it.
    fn learn<S: Store>(&mut self, writes: &mut Writes<'_, S>, agent: &str) -> Result<(), StoreFault> {
        let scope = key::scoped(&self.event.tenant_id, agent);
        let Some(row) = self.agent.as_mut().filter(|_| self.event.vantage() != v1::Vantage::SelfReported) else { return Ok(()) };
        for (set, name) in &self.learns {
            let entered = sets::enter(writes, *set, &scope, name, row.now.seen)?;
            row.now.seen = add(row.now.seen, u64::from(entered == sets::Entered::New));
        }
        Ok(())
    }
}

/// Whether what denied an event was a containment that held already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contained {
    Yes,
    No,
}

/// Reads the intent that an outcome names, from its entry.
fn intended<S: Store>(writes: &Writes<'_, S>, event: &v1::Event) -> Result<Option<Intended>, StoreFault> {
    let Some(Body::ActionOutcome(outcome)) = &event.body else { return Ok(None) };
    let session = event.session.as_ref().map_or("", |it| it.session_id.as_str());
    let key = sets::intent(&event.tenant_id, session, &outcome.intent_event_id);
    let Some(index) = writes.bytes(Table::Intents, &key)? else { return Ok(None) };
    let index = index.try_into().map(u64::from_be_bytes).map_err(|_| StoreFault::Damaged { table: Table::Intents, key })?;
    let entry_key = key::entry(EntryIndex(index));
    let Some(exact) = writes.bytes(Table::Entries, &entry_key)? else { return Ok(None) };
    let damaged = || StoreFault::Damaged { table: Table::Entries, key: entry_key.to_vec() };
    let (_, core) = entry::parse(&exact).ok_or_else(damaged)?;
    let verdict = core.decision.as_ref().map(v1::Decision::verdict).unwrap_or_default();
    let Some(v1::entry_core::Body::Event(recorded)) = core.body else { return Err(damaged()) };
    match v1::Event::decode(recorded.event).map_err(|_| damaged())?.body {
        Some(Body::ActionIntent(action)) => Ok(Some(Intended { index: EntryIndex(index), verdict, action })),
        _ => Err(damaged()),
    }
}

fn of_event(event: &v1::Event, act: &Act<'_>, agent: &str, now: UnixNanos) -> v1::Facts {
    let attribution = event.attribution.as_ref();
    let hops = attribution.map_or(&[][..], |it| &it.delegation);
    let most_exposed = act.resources.iter().map(|it| it.environment()).max().unwrap_or_default();
    v1::Facts {
        action: act.action.to_owned(),
        tenant: event.tenant_id.clone(),
        agent: agent.to_owned(),
        session: event.session.as_ref().map(|it| it.session_id.clone()).unwrap_or_default(),
        vantage: act::vantage_name(event.vantage()).to_owned(),
        tool: act.tool_name().to_owned(),
        server: act.server.to_owned(),
        status: act::status_name(act.status).to_owned(),
        error_type: act.error_type.to_owned(),
        resources: distinct(act.resources.iter().map(|it| it.uri.as_str())),
        systems: distinct(act.resources.iter().map(|it| it.system.as_str())),
        tags: distinct(act.resources.iter().flat_map(|it| it.tags.iter().map(String::as_str))),
        regions: distinct(act.resources.iter().map(|it| it.region.as_str())),
        environment: act::environment_name(most_exposed).to_owned(),
        classification: number(act.resources.iter().map(|it| it.classification).max().unwrap_or_default()),
        egress: act.egress,
        risk_tier: number(act.tier().into()),
        records: act.records.min(COUNT_MAX),
        bytes_read: act.bytes_read.min(COUNT_MAX),
        bytes_out: act.bytes_out.min(COUNT_MAX),
        amount: act.amount.min(COUNT_MAX),
        tokens: act.tokens.min(COUNT_MAX),
        unattributed: attribution.is_some_and(|it| it.unattributed() != v1::UnattributedReason::Unspecified),
        asserted_delegation: hops.iter().any(|hop| hop.proof() == v1::HopProof::Asserted),
        writes: act.writes(),
        hour: hour(now.0),
        weekday: weekday(now.0),
        observed_hour: hour(event.observed_unix_ns),
        observed_weekday: weekday(event.observed_unix_ns),
        observed_gap_s: event.observed_unix_ns.abs_diff(now.0) / SECOND_NS,
        step_up_age_s: COUNT_MAX,
        ..Default::default()
    }
}

fn of_outcome(facts: &mut v1::Facts, event: &v1::Event, intended: Option<&Intended>) {
    if matches!(event.body, Some(Body::ActionOutcome(_))) {
        facts.intent_unknown = intended.is_none();
        facts.outcome_of_denied = facts.status == "succeeded" && intended.is_some_and(|it| it.verdict == v1::Verdict::Deny);
    }
}

impl SessionState {
    fn open<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, event: &v1::Event) -> Result<Option<Self>, StoreFault> {
        let Some(claim) = Claim::of(event) else { return Ok(None) };
        let key = key::scoped(claim.tenant, claim.id);
        let Some(session) = ledger.sessions.find(writes, &key)? else { return Ok(None) };
        let agent = session.agent().to_owned();
        let counts = Held::<SessionCounts>::read(writes, Table::SessionCounts, key.clone())?;
        let mut traits = Held::<SessionTraits>::read(writes, Table::SessionTraits, key.clone())?;
        let was_alone = traits.now.above.is_empty();
        if was_alone {
            // A spawn may be recorded when what it spawned is long under way.
            traits.now.above = above_of(writes, claim, &agent)?;
        }
        let above = sessions_above(writes, claim, &agent, &traits.now.above)?;
        if was_alone && !above.is_empty() {
            touching::reach_from_below(writes, &key, &above)?;
        }
        Ok(Some(Self { key, counts, traits, above, now: ledger.log.now() }))
    }

    fn count<S: Store>(
        &mut self,
        writes: &mut Writes<'_, S>,
        event: &v1::Event,
        act: &Act<'_>,
        facts: &mut v1::Facts,
    ) -> Result<(), StoreFault> {
        self.turn(writes, act, facts)?;
        self.refusals(facts);
        facts.session_tool_names.clone_from(&self.traits.now.tools);
        facts.session_tags.clone_from(&self.traits.now.tags);
        self.note(writes, event, act, facts)?;
        let counts = &mut self.counts.now;
        counts.calls = add(counts.calls, u64::from(act.is_intent()));
        counts.turn_calls = add(counts.turn_calls, u64::from(act.is_intent()));
        if !act.is_intent() {
            counts.records = add(counts.records, act.records);
            counts.bytes_read = add(counts.bytes_read, act.bytes_read);
            counts.bytes_out = add(counts.bytes_out, act.bytes_out);
            counts.amount = add(counts.amount, act.amount);
        }
        counts.tokens = add(counts.tokens, act.tokens);
        counts.failed = add(counts.failed, u64::from(act.has_failed()));
        counts.writes = add(counts.writes, u64::from(act.has_written()));
        counts.turn_writes = add(counts.turn_writes, u64::from(act.has_written()));
        let has_deleted = act.has_written() && act.verb == v1::ActionVerb::ResourceDelete;
        counts.deletes = add(counts.deletes, u64::from(has_deleted));
        counts.egress = add(counts.egress, u64::from(act.egress && act.is_intent()));
        counts.spawned = add(counts.spawned, u64::from(matches!(event.body, Some(Body::SubAgentSpawned(_)))));
        if act.has_read() && facts.classification > counts.classification {
            counts.classification = facts.classification;
            for above in self.above.iter().take_while(|it| it.is_vouched) {
                let mut row = Held::<SessionCounts>::read(writes, Table::SessionCounts, above.key.clone())?;
                row.now.classification = row.now.classification.max(facts.classification);
                row.write(writes);
            }
        }
        self.tell(facts);
        if act.is_intent() {
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
        if self.traits.now.refusals.is_empty() {
            return;
        }
        let resources: Vec<String> = facts.resources.iter().map(|uri| sets::short(uri)).collect();
        let tool = sets::short(&facts.tool);
        let is_here = |it: &RefusedTool| it.resource.is_empty() && resources.is_empty() || resources.contains(&it.resource);
        let here = || self.traits.now.refusals.iter().filter(|it| is_here(it));
        facts.refusals_here = here().filter(|it| it.tool == tool).fold(0, |sum, it| add(sum, it.times));
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
        let traits = &mut self.traits.now;
        let mut is_full = remember(&mut traits.tools, &facts.tool);
        is_full |= remember(&mut traits.servers, &facts.server);
        if act.has_read() {
            // Whose data it was is another fact.
            for tag in facts.tags.iter().filter(|tag| !tag.starts_with("owner:")) {
                is_full |= remember(&mut traits.tags, tag);
            }
            for uri in &facts.resources {
                sets::note_read(writes, &self.key, uri, self.counts.now.turn)?;
            }
        }
        if !traits.tainted && (act.has_read_untrusted() || facts.memory_tainted) {
            traits.tainted = true;
            for above in self.above.iter().take_while(|it| it.is_vouched) {
                let mut row = Held::<SessionTraits>::read(writes, Table::SessionTraits, above.key.clone())?;
                row.now.tainted = true;
                row.write(writes);
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
        let (counts, traits) = (&self.counts.now, &self.traits.now);
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
        facts.tainted = traits.tainted || self.above.iter().any(|it| it.tainted);
        facts.step_up_acr.clone_from(&traits.step_up_acr);
        if traits.stepped_up_unix_ns != 0 {
            facts.step_up_age_s = self.now.0.saturating_sub(traits.stepped_up_unix_ns) / SECOND_NS;
        }
    }

    fn refuse(&mut self, tool: &str, resources: &[String], denied: bool) {
        let none = [String::new()];
        for resource in if resources.is_empty() { &none } else { resources } {
            let refusals = &mut self.traits.now.refusals;
            let (tool, resource) = (sets::short(tool), sets::short(resource));
            if let Some(known) = refusals.iter_mut().find(|it| it.tool == tool && it.resource == resource) {
                known.times = add(known.times, 1);
                known.denied |= denied;
            } else if refusals.len() < SESSION_LIST_MAX {
                refusals.push(RefusedTool { tool, resource, times: 1, denied });
            } else {
                self.counts.now.overflow = true;
            }
        }
    }
}

impl AgentCounts {
    fn open<S: Store>(writes: &Writes<'_, S>, tenant: &str, agent: &str, now: UnixNanos) -> Result<Held<Self>, StoreFault> {
        let mut row = Held::<Self>::read(writes, Table::AgentCounts, key::scoped(tenant, agent))?;
        let hour = now.0 / HOUR_NS;
        if row.now.hour != hour {
            row.now = Self { hour, seen: row.now.seen, ..Self::default() };
        }
        Ok(row)
    }

    fn count(&mut self, act: &Act<'_>, facts: &mut v1::Facts) {
        self.calls = add(self.calls, u64::from(act.is_intent()));
        self.tokens = add(self.tokens, act.tokens);
        facts.agent_calls_hour = self.calls;
        facts.agent_tokens_hour = self.tokens;
        facts.agent_denied_hour = self.denied;
        facts.agent_new_tools_hour = self.new_tools;
        facts.agent_new_resources_hour = self.new_resources;
        facts.agent_new_credentials_hour = self.new_credentials;
    }
}

/// Returns the session above one that begins: the parent that it names, or the session that said it spawned it.
fn above_of<S: Store>(writes: &Writes<'_, S>, claim: Claim<'_>, agent: &str) -> Result<String, StoreFault> {
    if !claim.parent.is_empty() {
        return Ok(claim.parent.to_owned());
    }
    let spawns = writes.read::<SpawnsRow>(Table::Spawns, &key::scoped(claim.tenant, claim.id))?.unwrap_or_default();
    Ok(spawns.spawners.into_iter().find(|it| it.child_agent == agent).map(|it| it.session_id).unwrap_or_default())
}

fn sessions_above<S: Store>(writes: &Writes<'_, S>, claim: Claim<'_>, agent: &str, first: &str) -> Result<Vec<Above>, StoreFault> {
    let tenant = claim.tenant;
    let mut found: Vec<Above> = Vec::new();
    let (mut next, mut below, mut agent) = (first.to_owned(), claim.id.to_owned(), agent.to_owned());
    // Spawns may contradict what sessions say of their parents: the walk ends where it would go round.
    while is_identifier(&next) && found.len() < SESSION_DEPTH_MAX as usize && found.iter().all(|it| it.id != next) {
        let key = key::scoped(tenant, &next);
        let traits: SessionTraits = writes.read(Table::SessionTraits, &key)?.unwrap_or_default();
        let counts: SessionCounts = writes.read(Table::SessionCounts, &key)?.unwrap_or_default();
        let bound = writes.read::<SessionRow>(Table::Sessions, &key)?.map(|row| row.agent_id).unwrap_or_default();
        let is_vouched = found.last().is_none_or(|it| it.is_vouched)
            && (bound == agent && !agent.is_empty() || is_spawned(writes, tenant, &next, &below, &agent)?);
        (below, agent) = (next.clone(), bound);
        found.push(Above { id: next, key, tainted: traits.tainted, classification: counts.classification, is_vouched });
        next = traits.above;
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

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(str::to_owned).collect()
}

/// Adds to a counter, which stops where sums of it in a rule could overflow.
fn add(count: u64, more: u64) -> u64 {
    count.saturating_add(more).min(COUNT_MAX)
}

fn number(value: i32) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn hour(unix_ns: u64) -> u64 {
    unix_ns / HOUR_NS % 24
}

/// The first of January 1970 was a Thursday, the fourth day of the week.
fn weekday(unix_ns: u64) -> u64 {
    (unix_ns / HOUR_NS / 24 + 3) % 7 + 1
}
