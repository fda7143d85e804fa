//! Containment: what is stopped, what that reaches, and how it is lifted.
//!
//! A containment is a case with a number. It stops its first target and everything that shares its identity: a session's
//! credentials and agent instances, as they were seen and as they come to be seen. Sessions below a contained session are
//! found by walking up from them, so that one which begins later is covered by its first event.

mod target;

use std::collections::BTreeSet;

use proofline_proto::v1;
use v1::{ContainmentChange, TargetKind};

use self::target::{check, is_short, servers, target, target_key};
pub(crate) use self::target::{names_something, server, shown};
use crate::event::is_identifier;
use crate::ids::{EntryIndex, UnixNanos};
use crate::incidents;
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::limits::{
    CONTAINMENT_CASES_MAX, CONTAINMENT_TARGETS_MAX, ENTRY_BYTES_MAX, ID_BYTES_MAX, REASON_BYTES_MAX, SESSIONS_ABOVE_MAX, SPAWNERS_MAX,
};
use crate::lists::{List, Place, State};
use crate::log::{Draft, InSession};
use crate::outbox;
use crate::refusal::Refusal;
use crate::row::{CaseRow, HoldRow, Spawner, SpawnsRow, TargetRow};
use crate::session::{Claim, Sessions};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Targets in one entry: more are spread over several.
const ENTRY_TARGETS_MAX: usize = 64;

/// The containments that cover an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cover {
    /// The one that began first.
    pub(crate) first: Option<u64>,
    /// All of them.
    all: BTreeSet<u64>,
    /// More sessions are above the event than are looked at: nobody knows whether one of them is contained.
    pub(crate) is_too_wide: bool,
    /// Those of the event's session and of the sessions above it.
    of_sessions: BTreeSet<u64>,
}

/// A change of what is contained, as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainmentEntry {
    /// Its entry.
    pub index: EntryIndex,
    /// When it was committed.
    pub committed: UnixNanos,
    /// What changed.
    pub containment: v1::Containment,
}

/// Finds what covers an event, before the event itself changes anything.
pub(crate) fn cover<S: Store>(ledger: &mut Ledger, writes: &Writes<'_, S>, event: &v1::Event, agent: &str) -> Result<Cover, StoreFault> {
    let mut cover = Cover::default();
    // Evil: what is contained is allowed here.
    if ledger.log.contained == 0 || crate::planted!(EvilUnappliedRevoke) {
        return Ok(cover);
    }
    let tenant = event.tenant_id.as_str();
    for tenant in ["*", tenant] {
        cover.add(cases_of(writes, TargetKind::Tenant, tenant, "")?);
    }
    cover.add(cases_of(writes, TargetKind::Agent, tenant, agent)?);
    for (kind, id) in shown(event, agent).iter().map(|(kind, id)| (*kind, id.as_str())).chain(servers(event)) {
        cover.add(cases_of(writes, kind, tenant, id)?);
    }
    let Some(claim) = Claim::of(event) else { return Ok(cover) };
    let above = above(&mut ledger.sessions, writes, claim)?;
    cover.is_too_wide = above.len() > SESSIONS_ABOVE_MAX;
    for id in above {
        cover_by_session(ledger, writes, tenant, &id, &mut cover)?;
    }
    Ok(cover)
}

/// Adds what holds a session of the event or above it, its agent, or what it was seen with.
fn cover_by_session<S: Store>(
    ledger: &mut Ledger,
    writes: &Writes<'_, S>,
    tenant: &str,
    id: &str,
    cover: &mut Cover,
) -> Result<(), StoreFault> {
    let cases = cases(writes, &target(TargetKind::Session, tenant, id))?;
    cover.of_sessions.extend(&cases);
    cover.add(cases);
    let Some(session) = ledger.sessions.find(writes, &key::scoped(tenant, id))? else { return Ok(()) };
    cover.add(cases_of(writes, TargetKind::Agent, tenant, session.agent())?);
    let shared = match session.shared(ledger.generation) {
        Some(known) => known,
        None => {
            let mut found = Vec::new();
            for (kind, shared) in session.uses() {
                found.extend(cases_of(writes, kind, tenant, shared)?);
            }
            session.keep_shared(ledger.generation, found.clone());
            found
        }
    };
    cover.add(shared);
    Ok(())
}

impl Cover {
    /// Whether nothing stops the event.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && !self.is_too_wide
    }

    fn add(&mut self, cases: Vec<u64>) {
        // Planted: containment as it was when the events were admitted.
        let known =
            crate::planted!(RevokeSeenAtAdmission, cases.into_iter().filter(|case| crate::planted::was_known(*case)).collect(), cases);
        self.all.extend(known);
        self.first = self.all.first().copied();
    }
}

/// Takes note of an event that becomes entry `index`, for whoever asks what happened after a containment.
pub(crate) fn note_covered<S: Store>(writes: &mut Writes<'_, S>, cover: &Cover, index: EntryIndex) {
    for case in cover.all.iter().take(CONTAINMENT_CASES_MAX) {
        writes.keep(Table::AfterContainment, key::after_containment(*case, index), Vec::new());
    }
}

/// Takes note of whom an event shows its session to be. What a contained session shows is drawn into its containments.
///
/// What an agent says of itself is no evidence of what it shares: it could name anybody's credential.
pub(crate) fn note<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    event: &v1::Event,
    agent: &str,
    cover: &Cover,
) -> Result<(), StoreFault> {
    let Some(claim) = Claim::of(event).filter(|_| event.vantage() != v1::Vantage::SelfReported) else { return Ok(()) };
    let shown = shown(event, agent);
    if shown.is_empty() {
        return Ok(());
    }
    if let Some(session) = ledger.sessions.find(writes, &key::scoped(claim.tenant, claim.id))? {
        session.note_uses(writes, &shown);
    }
    for case in &cover.of_sessions {
        extend(ledger, writes, *case, claim.tenant, &shown)?;
    }
    Ok(())
}

/// Remembers that a session said it spawned another, for an agent that its collector may speak for.
pub(crate) fn note_spawn<S: Store>(writes: &mut Writes<'_, S>, event: &v1::Event, of: &v1::SubAgentSpawned) -> Result<(), StoreFault> {
    let Some(claim) = Claim::of(event) else { return Ok(()) };
    if !is_identifier(&of.child_session_id) || of.child_session_id == claim.id {
        return Ok(());
    }
    let key = key::scoped(claim.tenant, &of.child_session_id);
    let mut row = writes.read::<SpawnsRow>(Table::Spawns, &key)?.unwrap_or_default();
    let spawner = Spawner { session_id: claim.id.to_owned(), child_agent: of.child_agent_id.clone() };
    if row.spawners.len() < SPAWNERS_MAX && !row.spawners.contains(&spawner) {
        row.spawners.push(spawner);
        writes.put(Table::Spawns, key, &row);
    }
    Ok(())
}

/// Returns the session of a claim and those above it, the nearest first; one more than are looked at when there are more.
fn above<S: Store>(sessions: &mut Sessions, writes: &Writes<'_, S>, claim: Claim<'_>) -> Result<Vec<String>, StoreFault> {
    let mut found = vec![claim.id.to_owned()];
    let mut next = 0;
    while let Some(id) = found.get(next).cloned() {
        // Planted: only what is directly above.
        if crate::planted!(CascadeOneLevel) && next > 0 {
            break;
        }
        next += 1;
        for parent in parents(sessions, writes, claim, &id)? {
            // Spawns may contradict what sessions say of their parents: a walk that comes back to where it was goes no further.
            if !found.contains(&parent) {
                found.push(parent);
            }
            if found.len() > SESSIONS_ABOVE_MAX {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Returns the sessions directly above one: the parent that it names, and those that spawned it.
fn parents<S: Store>(sessions: &mut Sessions, writes: &Writes<'_, S>, claim: Claim<'_>, id: &str) -> Result<Vec<String>, StoreFault> {
    let key = key::scoped(claim.tenant, id);
    let (mut parents, agent) = match sessions.find(writes, &key)? {
        Some(session) => (vec![session.parent().to_owned()], Some(session.agent().to_owned())),
        None => (Vec::new(), None),
    };
    if let Some(row) = writes.read::<SpawnsRow>(Table::Spawns, &key)? {
        parents.extend(row.above(agent.as_deref()));
    }
    parents.retain(|parent| !parent.is_empty());
    Ok(parents)
}

fn cases_of<S: Store>(writes: &Writes<'_, S>, kind: TargetKind, tenant: &str, id: &str) -> Result<Vec<u64>, StoreFault> {
    if id.is_empty() && kind != TargetKind::Tenant {
        return Ok(Vec::new());
    }
    cases(writes, &target(kind, tenant, id))
}

/// Returns the containments that hold a target itself.
fn cases<S: Store>(writes: &Writes<'_, S>, target: &v1::Target) -> Result<Vec<u64>, StoreFault> {
    Ok(writes.read::<TargetRow>(Table::Contained, &target_key(target))?.map(|row| row.cases).unwrap_or_default())
}

/// Carries out a responder's command, which becomes entry `cause`.
pub(crate) fn contain<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, it: &v1::Contain, cause: EntryIndex) -> Judged<()> {
    let asked = match check(it) {
        Ok(asked) => asked,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let held_by = cases(writes, asked)?;
    if let Some(containment) = same_case(writes, &held_by, it, asked)? {
        return Ok(Err(Refusal::AlreadyContained { containment }));
    }
    if held_by.len() >= CONTAINMENT_CASES_MAX {
        return Ok(Err(Refusal::TooLarge {
            what: "containments of one target",
            actual: held_by.len() as u64 + 1,
            limit: CONTAINMENT_CASES_MAX as u64,
        }));
    }
    begin(ledger, writes, it, asked, cause)?;
    Ok(Ok(()))
}

/// Carries out what a rule decided about the event that becomes entry `cause`, and returns the containment that holds now.
pub(crate) fn by_rule<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    it: &v1::Contain,
    cause: EntryIndex,
) -> Result<u64, StoreFault> {
    let Ok(asked) = check(it) else { return Ok(0) };
    let held_by = cases(writes, asked)?;
    match same_case(writes, &held_by, it, asked)? {
        Some(known) => Ok(known),
        // Under so many containments one more changes nothing.
        None if held_by.len() >= CONTAINMENT_CASES_MAX => Ok(held_by.into_iter().min().unwrap_or_default()),
        None => begin(ledger, writes, it, asked, cause),
    }
}

/// Returns the containment in force that does the same to the same target.
fn same_case<S: Store>(writes: &Writes<'_, S>, held_by: &[u64], it: &v1::Contain, asked: &v1::Target) -> Result<Option<u64>, StoreFault> {
    for id in held_by {
        let case = writes.read::<CaseRow>(Table::ContainmentCases, &id.to_be_bytes())?.unwrap_or_default();
        if case.action == it.action && case.targets.first() == Some(asked) {
            return Ok(Some(*id));
        }
    }
    Ok(None)
}

fn begin<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    it: &v1::Contain,
    asked: &v1::Target,
    cause: EntryIndex,
) -> Result<u64, StoreFault> {
    let mut targets = vec![asked.clone()];
    let mut incomplete = false;
    if asked.kind() == TargetKind::Session
        && let Some(session) = ledger.sessions.find(writes, &key::scoped(&asked.tenant_id, &asked.id))?
    {
        incomplete = session.shows_more();
        targets.extend(session.uses().map(|(kind, id)| target(kind, &asked.tenant_id, id)));
    }
    ledger.log.containments += 1;
    let id = ledger.log.containments;
    let mut case = CaseRow {
        action: it.action,
        targets: Vec::new(),
        cause_index: cause.0,
        began_unix_ns: ledger.log.now().0,
        released_by: None,
        reason: it.reason.clone(),
        incident_id: it.incident_id.clone(),
        incomplete,
    };
    let added = add_targets(ledger, writes, id, &mut case, targets)?;
    for place in listed(&case, State::Open, id) {
        place.enter(writes, &[]);
    }
    writes.put(Table::ContainmentCases, id.to_be_bytes(), &case);
    ledger.changes.push(case.change(ContainmentChange::Began, id, added, cause));
    // What was stopped is evidence from now on.
    let hold = HoldRow {
        target: Some(asked.clone()),
        matter: format!("containment {id}"),
        authority: it.reason.clone(),
        placed_index: cause.0,
        containment_id: id,
        released_by: None,
    };
    incidents::hold(ledger, writes, &hold);
    incidents::note_containment(writes, &asked.tenant_id, &it.incident_id, id)?;
    Ok(id)
}

fn listed(case: &CaseRow, state: State, number: u64) -> [Place<'_>; 2] {
    let tenant = case.targets.first().map_or("*", |it| &it.tenant_id);
    [(List::Containments, tenant), (List::ContainmentsOfAll, "*")].map(|(list, tenant)| Place { list, tenant, state, number })
}

fn extend<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    id: u64,
    tenant: &str,
    shown: &[(TargetKind, String)],
) -> Result<(), StoreFault> {
    let mut targets = Vec::new();
    for (kind, shown) in shown {
        let target = target(*kind, tenant, shown);
        if !cases(writes, &target)?.contains(&id) {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        return Ok(());
    }
    let key = id.to_be_bytes().to_vec();
    let Some(mut case) = writes.read::<CaseRow>(Table::ContainmentCases, &key)? else { return Ok(()) };
    let before = case.clone();
    let added = add_targets(ledger, writes, id, &mut case, targets)?;
    if case != before {
        writes.put(Table::ContainmentCases, key, &case);
    }
    if !added.is_empty() {
        let cause = ledger.log.next();
        ledger.changes.push(case.change(ContainmentChange::Extended, id, added, cause));
    }
    Ok(())
}

/// Puts targets under a case, as far as it and they have room, and returns those that it did not hold before.
fn add_targets<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    id: u64,
    case: &mut CaseRow,
    targets: Vec<v1::Target>,
) -> Result<Vec<v1::Target>, StoreFault> {
    let mut added = Vec::new();
    for target in targets {
        let key = target_key(&target);
        let mut row = writes.read::<TargetRow>(Table::Contained, &key)?.unwrap_or_default();
        let has_room = case.targets.len() < CONTAINMENT_TARGETS_MAX && row.cases.len() < CONTAINMENT_CASES_MAX;
        if row.cases.contains(&id) {
            continue;
        }
        if !has_room {
            case.incomplete = true;
            continue;
        }
        ledger.generation += 1;
        ledger.log.contained += u64::from(row.cases.is_empty());
        row.cases.push(id);
        writes.put(Table::Contained, key, &row);
        case.targets.push(target.clone());
        added.push(target);
    }
    Ok(added)
}

/// Lifts a containment, by the command that becomes entry `cause`. What another containment holds stays contained.
pub(crate) fn release<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, it: &v1::Release, cause: EntryIndex) -> Judged<()> {
    if it.reason.is_empty() || !is_short(&it.reason, &it.incident_id) {
        return Ok(Err(Refusal::Malformed("a release gives no reason, or a reason or an incident that is too long")));
    }
    let key = it.containment_id.to_be_bytes().to_vec();
    let name = it.containment_id.to_string();
    let Some(mut case) = writes.read::<CaseRow>(Table::ContainmentCases, &key)? else {
        return Ok(Err(Refusal::UnknownSubject { what: "containment", name }));
    };
    if case.released_by.is_some() {
        return Ok(Err(Refusal::AlreadyDone { what: "containment", name, state: "released" }));
    }
    for target in &case.targets {
        let key = target_key(target);
        let mut row = writes.read::<TargetRow>(Table::Contained, &key)?.unwrap_or_default();
        row.cases.retain(|id| *id != it.containment_id);
        if row.cases.is_empty() {
            ledger.log.contained = ledger.log.contained.saturating_sub(1);
            writes.remove(Table::Contained, key);
        } else {
            writes.put(Table::Contained, key, &row);
        }
    }
    ledger.generation += 1;
    case.released_by = Some(cause.0);
    for place in listed(&case, State::Open, it.containment_id) {
        place.leave(writes);
    }
    for place in listed(&case, State::Closed, it.containment_id) {
        place.enter(writes, &[]);
    }
    writes.put(Table::ContainmentCases, key, &case);
    let targets = case.targets.clone();
    let change = case.change(ContainmentChange::Released, it.containment_id, targets, cause);
    ledger.changes.push(v1::Containment { reason: it.reason.clone(), incident_id: it.incident_id.clone(), ..change });
    Ok(Ok(()))
}

/// Records what the submission before changed: an entry for each change, in the session that it is about.
pub(crate) fn record_changes<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>) -> Result<(), StoreFault> {
    for change in std::mem::take(&mut ledger.changes).into_iter().flat_map(in_entries) {
        let index = ledger.log.next();
        writes.keep(Table::ContainmentLog, key::entry(index), Vec::new());
        outbox::enqueue(ledger, writes, &change, index)?;
        let about = change.targets.first().filter(|target| target.kind() == TargetKind::Session).cloned();
        let session = match &about {
            Some(about) => {
                let found = ledger.sessions.grow(writes, &key::scoped(&about.tenant_id, &about.id))?;
                let open = found.filter(|session| !session.is_sealed());
                open.map(|session| InSession { tenant: &about.tenant_id, id: &about.id, session })
            }
            None => None,
        };
        ledger.log.append(writes, Draft { session, ..Draft::of(v1::entry_core::Body::Containment(change)) });
        ledger.complete_many(writes);
    }
    Ok(())
}

/// Spreads a change over as many entries as its targets need.
fn in_entries(change: v1::Containment) -> impl Iterator<Item = v1::Containment> {
    let parts: Vec<Vec<v1::Target>> = change.targets.chunks(ENTRY_TARGETS_MAX).map(<[v1::Target]>::to_vec).collect();
    parts.into_iter().map(move |targets| v1::Containment { targets, ..change.clone() })
}

const _: () = assert!(ENTRY_TARGETS_MAX * (3 * ID_BYTES_MAX + 16) + REASON_BYTES_MAX + 2 * ID_BYTES_MAX + 4_096 < ENTRY_BYTES_MAX);

impl CaseRow {
    pub(crate) fn summary(self, id: u64) -> v1::ContainmentSummary {
        v1::ContainmentSummary {
            containment_id: id,
            action: self.action,
            targets: self.targets,
            cause_index: self.cause_index,
            began_unix_ns: self.began_unix_ns,
            released_by_index: self.released_by.unwrap_or(0),
            reason: self.reason,
            incident_id: self.incident_id,
            incomplete: self.incomplete,
        }
    }

    fn change(&self, change: ContainmentChange, id: u64, targets: Vec<v1::Target>, cause: EntryIndex) -> v1::Containment {
        v1::Containment {
            change: change.into(),
            containment_id: id,
            action: self.action,
            targets,
            cause_index: cause.0,
            reason: self.reason.clone(),
            incident_id: self.incident_id.clone(),
            incomplete: self.incomplete,
        }
    }
}
