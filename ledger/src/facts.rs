//! Facts: what the ledger itself knows when it decides on an event.
//!
//! Everything here follows from the log: counters, sets and first sights, committed times, and what was registered. What a
//! rule sees is one [`v1::Facts`], whose digest stands in the entry, so that whoever has the facts can decide again.

pub(crate) mod act;
mod authority;
mod row;
mod session;
pub(crate) mod sets;
mod tools;
mod touching;

use proofline_proto::v1;
use prost::Message as _;
use smallvec::SmallVec;
use v1::event::Body;

pub(crate) use authority::is_owned;
pub(crate) use row::{AgentCounts, Intended, ToolRow};
use row::{Held, RefusedTool};
pub(crate) use session::KnownTraits;
use session::{Above, SessionState};
use sets::{Granted, Member, Set};
pub(crate) use tools::pin;

use crate::ids::{EntryIndex, UnixNanos};
use crate::key::{self, RowKey};
use crate::ledger::Ledger;
use crate::limits::{COUNT_MAX, MEMBERS_PER_EVENT_MAX};
use crate::log::damaged;
use crate::session::Slot;
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;
use act::Act;

const HOUR_NS: u64 = 3_600 * SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;

/// An event, its facts, and the rows that it changes once its verdict is known.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) facts: Box<v1::Facts>,
    event: &'a v1::Event,
    session: Option<SessionState>,
    agent: Option<Held<AgentCounts>>,
    is_intent: bool,
    amount: u64,
    learns: Vec<(Set, Member)>,
    /// The agent within its tenant.
    pub(crate) scope: RowKey,
    has_failed: bool,
    ends_turn: bool,
    resolves: Option<EntryIndex>,
    now: UnixNanos,
}

/// Finds out what is to be known of an event that is recorded next.
pub(crate) fn observe<'a, S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    event: &'a v1::Event,
    agent: &str,
    session: Option<Slot>,
) -> Result<Observed<'a>, StoreFault> {
    let now = ledger.log.now();
    let intended = intended(ledger, writes, event)?;
    let act = Act::of(event, intended.as_ref().map(|it| &it.action));
    let mut facts = room(ledger);
    of_event(&mut facts, event, &act, agent, now);
    of_outcome(&mut facts, event, intended.as_ref());
    let mut session = SessionState::open(ledger, writes, event, agent, session)?;
    let scope = key::scoped(&event.tenant_id, agent);
    let mut agent_row = None;
    if !agent.is_empty() {
        agent_row = Some(AgentCounts::open(writes, scope.clone(), now)?);
    }
    let mut touching = touching::Touching {
        writes,
        event,
        act: &act,
        agent,
        scope: &scope,
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
    authority::agent(writes, event, agent, &scope, session.as_ref().map_or(&[], |it| &it.above), &mut facts)?;
    match &mut session {
        Some(session) => session.count(writes, event, &act, &mut facts)?,
        None => {
            facts.session_tool_names.clear();
            facts.session_tags.clear();
        }
    }
    if let Some(row) = &mut agent_row {
        row.now.count(&act, &learns, &mut facts);
    }
    Ok(Observed {
        facts,
        event,
        session,
        agent: agent_row,
        is_intent: act.is_intent,
        amount: act.amount,
        learns,
        scope,
        has_failed: act.has_failed(),
        ends_turn: act.ends_turn,
        resolves: intended.map(|it| it.index),
        now,
    })
}

impl Observed<'_> {
    /// Returns the exact facts.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        self.facts.encode_to_vec()
    }

    /// Writes what the event changes, with its verdict, as part of its entry, and returns the facts.
    ///
    /// What waits for a yes is not denied, and what a containment denies says nothing new of the agent.
    pub(crate) fn settle<S: Store>(
        mut self,
        ledger: &mut Ledger,
        writes: &mut Writes<'_, S>,
        verdict: v1::Verdict,
        contained: Contained,
    ) -> Result<Box<v1::Facts>, StoreFault> {
        let index = ledger.log.next();
        let is_allowed = verdict == v1::Verdict::Allow;
        let is_denied = self.is_intent && verdict == v1::Verdict::Deny && contained == Contained::No;
        if is_allowed {
            self.learn(writes)?;
        }
        if let Some(session) = &mut self.session {
            session.counts.now.denied = add(session.counts.now.denied, u64::from(is_denied));
            if self.is_intent && is_allowed {
                session.counts.now.asked = add(session.counts.now.asked, self.amount);
            }
            if self.has_failed || is_denied {
                let refused = RefusedTool { times: 1, failures: u64::from(self.has_failed), denied: is_denied, ..Default::default() };
                session.refuse(&refused, &self.facts.tool, &self.facts.resources);
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
            let granted = if is_allowed { Granted::Yes } else { Granted::No };
            let key = sets::intent(&self.event.tenant_id, &self.facts.session, &self.event.event_id, granted);
            writes.put_bytes(Table::Intents, key, index.0.to_be_bytes().to_vec());
            if is_allowed {
                writes.keep(Table::Unresolved, sets::unresolved(&self.event.tenant_id, index), self.now.0.to_be_bytes().to_vec());
            }
        }
        if let Some(intent) = self.resolves {
            writes.forget(Table::Unresolved, sets::unresolved(&self.event.tenant_id, intent));
        }
        if let Some(session) = self.session {
            session.write(ledger, writes)?;
        }
        if let Some(row) = self.agent {
            row.write(writes)?;
        }
        Ok(self.facts)
    }

    /// Remembers what the agent was allowed to touch. What it asked for in vain, or reports of itself, stays new to it.
    fn learn<S: Store>(&mut self, writes: &mut Writes<'_, S>) -> Result<(), StoreFault> {
        let Some(row) = self.agent.as_mut().filter(|_| self.event.vantage() != v1::Vantage::SelfReported) else { return Ok(()) };
        for (set, member) in &self.learns {
            let entered = sets::enter(writes, *set, &self.scope, *member, row.now.seen)?;
            let is_new = u64::from(entered == sets::Entered::New);
            row.now.seen = add(row.now.seen, is_new);
            match set {
                Set::AgentTools => row.now.new_tools = add(row.now.new_tools, is_new),
                Set::AgentResources => row.now.new_resources = add(row.now.new_resources, is_new),
                Set::AgentCredentials => row.now.new_credentials = add(row.now.new_credentials, is_new),
                Set::AgentServers
                | Set::SessionResources
                | Set::SessionSystems
                | Set::SessionCredentials
                | Set::SessionScopes
                | Set::SessionReads => (),
            }
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
fn intended<S: Store>(ledger: &Ledger, writes: &Writes<'_, S>, event: &v1::Event) -> Result<Option<Intended>, StoreFault> {
    let Some(Body::ActionOutcome(outcome)) = &event.body else { return Ok(None) };
    let session = event.session.as_ref().map_or("", |it| it.session_id.as_str());
    let Some(index) = intent_at(writes, &event.tenant_id, session, &outcome.intent_event_id)?.map(EntryIndex) else { return Ok(None) };
    let Some(core) = ledger.log.core(writes, index)? else { return Ok(None) };
    let verdict = core.decision.as_ref().map(v1::Decision::verdict).unwrap_or_default();
    let Some(v1::entry_core::Body::Event(recorded)) = &core.body else { return Err(damaged(index)) };
    match v1::Event::decode(recorded.event.clone()).map_err(|_| damaged(index))?.body {
        Some(Body::ActionIntent(action)) => Ok(Some(Intended { index, verdict, action })),
        _ => Err(damaged(index)),
    }
}

/// Finds the entry of an intent. Under one id in one session the strictest counts: nothing that comes later makes good what was
/// not allowed.
fn intent_at<S: Store>(writes: &Writes<'_, S>, tenant: &str, session: &str, event_id: &[u8]) -> Result<Option<u64>, StoreFault> {
    for granted in [Granted::No, Granted::Yes] {
        let key = sets::intent(tenant, session, event_id, granted);
        if let Some(index) = writes.bytes(Table::Intents, &key)? {
            let index = index.try_into().map(u64::from_be_bytes);
            return index.map(Some).map_err(|_| StoreFault::Damaged { table: Table::Intents, key: key.to_vec() });
        }
    }
    Ok(None)
}

/// What is made for every event, and whose memory the next one uses again.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) facts: Option<Box<v1::Facts>>,
    row: Vec<u8>,
}

/// Returns facts that say nothing, in the room of earlier ones: their texts are of nearly the same lengths.
fn room(ledger: &mut Ledger) -> Box<v1::Facts> {
    let mut facts = ledger.room.facts.take().unwrap_or_default();
    let lists = (std::mem::take(&mut facts.session_tool_names), std::mem::take(&mut facts.session_tags));
    facts.clear();
    (facts.session_tool_names, facts.session_tags) = lists;
    facts
}

fn of_event(facts: &mut v1::Facts, event: &v1::Event, act: &Act<'_>, agent: &str, now: UnixNanos) {
    let attribution = event.attribution.as_ref();
    let hops = attribution.map_or(&[][..], |it| &it.delegation);
    let most_exposed = act.resources.iter().map(|it| it.environment()).max().unwrap_or_default();
    facts.action.push_str(act.action);
    facts.tenant.push_str(&event.tenant_id);
    facts.agent.push_str(agent);
    facts.session.push_str(event.session.as_ref().map_or("", |it| &it.session_id));
    facts.vantage.push_str(act::vantage_name(event.vantage()));
    facts.tool.push_str(act.tool_name());
    facts.server.push_str(act.server);
    facts.status.push_str(act::status_name(act.status));
    facts.error_type.push_str(act.error_type);
    facts.resources = distinct(act.resources.iter().map(|it| it.uri.as_str()));
    facts.systems = distinct(act.resources.iter().map(|it| it.system.as_str()));
    facts.tags = distinct(act.resources.iter().flat_map(|it| it.tags.iter().map(String::as_str)));
    facts.regions = distinct(act.resources.iter().map(|it| it.region.as_str()));
    facts.environment.push_str(act::environment_name(most_exposed));
    facts.classification = number(act.resources.iter().map(|it| it.classification).max().unwrap_or_default());
    facts.egress = act.egress;
    facts.risk_tier = number(act.tier().into());
    facts.records = act.records.min(COUNT_MAX);
    facts.bytes_read = act.bytes_read.min(COUNT_MAX);
    facts.bytes_out = act.bytes_out.min(COUNT_MAX);
    facts.amount = act.amount.min(COUNT_MAX);
    facts.tokens = act.tokens.min(COUNT_MAX);
    facts.unattributed = attribution.is_some_and(|it| it.unattributed() != v1::UnattributedReason::Unspecified);
    facts.asserted_delegation = hops.iter().any(|hop| hop.proof() == v1::HopProof::Asserted);
    facts.writes = act.writes();
    facts.hour = hour(now.0);
    facts.weekday = weekday(now.0);
    facts.observed_hour = hour(event.observed_unix_ns);
    facts.observed_weekday = weekday(event.observed_unix_ns);
    facts.observed_gap_s = event.observed_unix_ns.abs_diff(now.0) / SECOND_NS;
    facts.step_up_age_s = COUNT_MAX;
}

fn of_outcome(facts: &mut v1::Facts, event: &v1::Event, intended: Option<&Intended>) {
    if matches!(event.body, Some(Body::ActionOutcome(_))) {
        facts.intent_unknown = intended.is_none();
        facts.outcome_of_denied = facts.status == "succeeded" && intended.is_some_and(|it| it.verdict == v1::Verdict::Deny);
    }
}

impl AgentCounts {
    fn open<S: Store>(writes: &Writes<'_, S>, scope: RowKey, now: UnixNanos) -> Result<Held<Self>, StoreFault> {
        let mut row = Held::<Self>::read(writes, Table::AgentCounts, scope)?;
        let hour = now.0 / HOUR_NS;
        if row.now.hour != hour {
            row.now = Self { hour, seen: row.now.seen, ..Self::default() };
        }
        Ok(row)
    }

    fn count(&mut self, act: &Act<'_>, learns: &[(Set, Member)], facts: &mut v1::Facts) {
        let new = |set: Set| learns.iter().filter(|(of, _)| *of == set).count() as u64;
        self.calls = add(self.calls, u64::from(act.is_intent));
        self.tokens = add(self.tokens, act.tokens);
        facts.agent_calls_hour = self.calls;
        facts.agent_tokens_hour = self.tokens;
        facts.agent_denied_hour = self.denied;
        facts.agent_new_tools_hour = add(self.new_tools, new(Set::AgentTools));
        facts.agent_new_resources_hour = add(self.new_resources, new(Set::AgentResources));
        facts.agent_new_credentials_hour = add(self.new_credentials, new(Set::AgentCredentials));
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: SmallVec<[&str; 8]> = names.filter(|name| !name.is_empty()).collect();
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
