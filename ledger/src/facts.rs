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

use crate::entry;
use crate::event::is_identifier;
use crate::hash::{Hash, facts_digest};
use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::ledger::Ledger;
use crate::limits::{COUNT_MAX, SESSION_DEPTH_MAX, SESSION_LIST_MAX};
use crate::row::SpawnsRow;
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
    let mut touching = touching::Touching { writes, event, act: &act, agent, now, session: session.as_mut(), row: agent_row.as_mut() };
    touching.sets(&mut facts)?;
    touching.owners(&mut facts)?;
    touching.memory(&mut facts)?;
    touching.tools(&mut facts)?;
    touching.credential(&mut facts)?;
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
    pub(crate) fn settle<S: Store>(mut self, writes: &mut Writes<'_, S>, index: EntryIndex, verdict: v1::Verdict) {
        let is_denied = verdict != v1::Verdict::Allow;
        if let Some(session) = &mut self.session {
            session.counts.now.denied = add(session.counts.now.denied, u64::from(is_denied));
            if self.has_failed || (self.is_intent && is_denied) {
                let refused = RefusedTool { times: 1, failures: u64::from(self.has_failed), denied: is_denied, ..Default::default() };
                session.refuse(&refused, &self.tool, &self.facts.resources);
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
            writes.put_bytes(Table::Intents, sets::intent(&self.event.tenant_id, &self.event.event_id), index.0.to_be_bytes().to_vec());
            if !is_denied {
                writes.keep(Table::Unresolved, sets::unresolved(index), self.event.event_id.clone());
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
    }
}

/// Reads the intent that an outcome names, from its entry.
fn intended<S: Store>(writes: &Writes<'_, S>, event: &v1::Event) -> Result<Option<Intended>, StoreFault> {
    let Some(Body::ActionOutcome(outcome)) = &event.body else { return Ok(None) };
    let key = sets::intent(&event.tenant_id, &outcome.intent_event_id);
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
        let happened = matches!(facts.status.as_str(), "succeeded" | "failed" | "timed_out" | "unknown");
        facts.outcome_of_denied = happened && intended.is_some_and(|it| it.verdict != v1::Verdict::Allow);
    }
}

impl SessionState {
    fn open<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, event: &v1::Event) -> Result<Option<Self>, StoreFault> {
        let Some(claim) = Claim::of(event) else { return Ok(None) };
        let key = key::scoped(claim.tenant, claim.id);
        let Some(session) = ledger.sessions.find(writes, &key)? else { return Ok(None) };
        let begins = session.size() == 0;
        let agent = session.agent().to_owned();
        let counts = Held::<SessionCounts>::read(writes, Table::SessionCounts, key.clone())?;
        let mut traits = Held::<SessionTraits>::read(writes, Table::SessionTraits, key.clone())?;
        if begins {
            traits.now.above = above_of(writes, claim, &agent)?;
        }
        let above = sessions_above(writes, claim.tenant, &traits.now.above)?;
        if begins {
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
        counts.writes_failed = add(counts.writes_failed, u64::from(act.has_failed() && act.writes()));
        counts.turn_writes = add(counts.turn_writes, u64::from(act.has_written()));
        let has_deleted = act.has_written() && act.verb == v1::ActionVerb::ResourceDelete;
        counts.deletes = add(counts.deletes, u64::from(has_deleted));
        counts.egress = add(counts.egress, u64::from(act.egress && act.is_intent()));
        counts.spawned = add(counts.spawned, u64::from(matches!(event.body, Some(Body::SubAgentSpawned(_)))));
        if act.has_read() {
            counts.classification = counts.classification.max(facts.classification);
        }
        self.tell(facts);
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
        let is_here = |it: &RefusedTool| it.resource.is_empty() && facts.resources.is_empty() || facts.resources.contains(&it.resource);
        let here = || self.traits.now.refusals.iter().filter(|it| is_here(it));
        let by_this_tool = || here().filter(|it| it.tool == facts.tool);
        facts.refusals_here = by_this_tool().fold(0, |sum, it| add(sum, it.times));
        facts.failures_here = by_this_tool().fold(0, |sum, it| add(sum, it.failures));
        facts.denied_by_other_tool = here().any(|it| it.denied && it.tool != facts.tool && !it.resource.is_empty());
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
            for tag in &facts.tags {
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
        traits.tainted |= act.has_read_untrusted() || facts.memory_tainted;
        // Whoever can say that somebody authenticated is the identity provider, not the agent.
        if let Some(Body::StepUpCleared(it)) = &event.body
            && event.vantage() == v1::Vantage::IdpObserved
            && it.authenticated_unix_ns > traits.stepped_up_unix_ns
        {
            traits.stepped_up_unix_ns = it.authenticated_unix_ns;
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
        facts.session_writes_failed = counts.writes_failed;
        facts.session_deletes = counts.deletes;
        facts.session_credentials = counts.credentials;
        facts.session_scopes = counts.scopes;
        facts.session_spawned = counts.spawned;
        facts.session_classification = counts.classification;
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
        facts.step_up_acr.clone_from(&traits.step_up_acr);
        if traits.stepped_up_unix_ns != 0 {
            facts.step_up_age_s = self.now.0.saturating_sub(traits.stepped_up_unix_ns) / SECOND_NS;
        }
    }

    fn refuse(&mut self, refused: &RefusedTool, tool: &str, resources: &[String]) {
        let none = [String::new()];
        for resource in if resources.is_empty() { &none } else { resources } {
            let refusals = &mut self.traits.now.refusals;
            if let Some(known) = refusals.iter_mut().find(|it| it.tool == tool && it.resource == *resource) {
                known.times = add(known.times, refused.times);
                known.failures = add(known.failures, refused.failures);
                known.denied |= refused.denied;
            } else if refusals.len() < SESSION_LIST_MAX && resource.len() <= 1_024 {
                refusals.push(RefusedTool { tool: tool.to_owned(), resource: resource.clone(), ..refused.clone() });
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

fn sessions_above<S: Store>(writes: &Writes<'_, S>, tenant: &str, first: &str) -> Result<Vec<Above>, StoreFault> {
    let mut found: Vec<Above> = Vec::new();
    let mut next = first.to_owned();
    // Spawns may contradict what sessions say of their parents: the walk ends where it would go round.
    while is_identifier(&next) && found.len() < SESSION_DEPTH_MAX as usize && found.iter().all(|it| it.id != next) {
        let key = key::scoped(tenant, &next);
        let traits: SessionTraits = writes.read(Table::SessionTraits, &key)?.unwrap_or_default();
        found.push(Above { id: next, key, tainted: traits.tainted });
        next = traits.above;
    }
    Ok(found)
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
