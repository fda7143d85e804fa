//! What a hold in force covers: whether a payload may go, and whether a subject may be erased.
//!
//! A hold is about a tenant, a session, an agent, an instance, a credential or a server. It covers what stands in an event of
//! that; a session's also what stands in the sessions below it. Two kinds of rows answer that without a walk over the log:
//! targets with a hold on them, and for each subject the targets that its payloads stand under.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use v1::TargetKind;

use crate::containment::{server, shown};
use crate::key::{self, RowKey};
use crate::limits::{HOLDS_LOOKED_AT_MAX, SESSIONS_ABOVE_MAX, SUBJECT_TIES_MAX};
use crate::row::{SessionRow, SpawnsRow};
use crate::store::{Store, StoreFault, Table};
use crate::subject::Subject;
use crate::writes::Writes;

/// A kind of target and its id, within a tenant.
type Named = (TargetKind, String);

/// Takes note that a hold is on a target now.
pub(crate) fn begin<S: Store>(writes: &mut Writes<'_, S>, target: &v1::Target, hold: u64) {
    writes.put_bytes(Table::HeldTargets, row_key(target, hold), Vec::new());
}

/// Takes note that a hold is on a target no longer.
pub(crate) fn end<S: Store>(writes: &mut Writes<'_, S>, target: &v1::Target, hold: u64) {
    writes.remove(Table::HeldTargets, row_key(target, hold));
}

/// Takes note of what the payloads of an event stand under, for each subject that they are of.
pub(crate) fn note<S: Store>(writes: &mut Writes<'_, S>, event: &v1::Event, agent: &str) -> Result<(), StoreFault> {
    for mut key in Subject::row_keys(event) {
        let of_subject = key.len();
        // By the tenant the subject is known even where an event names nothing else.
        for (kind, id) in direct(event, agent).chain([(TargetKind::Tenant, Cow::Borrowed(""))]) {
            key.truncate(of_subject);
            push_named(&mut key, kind, &id);
            if !writes.has(Table::SubjectTies, &key)? {
                writes.put_bytes(Table::SubjectTies, key.clone(), Vec::new());
            }
        }
    }
    Ok(())
}

/// Tells whether an event ever committed to a payload of a subject.
pub(crate) fn is_known<S: Store>(writes: &Writes<'_, S>, subject: &Subject) -> Result<bool, StoreFault> {
    Ok(!writes.below(Table::SubjectTies, &subject.key(), 1)?.is_empty())
}

/// Returns a hold that covers an event's payloads.
pub(crate) fn on_event<S: Store>(writes: &Writes<'_, S>, event: &v1::Event) -> Result<Option<u64>, StoreFault> {
    let tenant = &event.tenant_id;
    let session = event.session.as_ref().map(|session| session.session_id.as_str()).unwrap_or_default();
    let bound = writes.read::<SessionRow>(Table::Sessions, &key::scoped(tenant, session))?.map(|row| row.agent_id);
    let named = event.attribution.as_ref().and_then(|it| it.agent.as_ref()).map(|agent| agent.agent_id.clone());
    let agent = bound.filter(|bound| !bound.is_empty()).or(named).unwrap_or_default();
    if let Some(hold) = on_tenant(writes, tenant)? {
        return Ok(Some(hold));
    }
    let targets = direct(event, &agent).map(|(kind, id)| (kind, id.into_owned())).collect();
    match on_any(writes, tenant, targets, SESSIONS_ABOVE_MAX)? {
        Looked::Free => Ok(None),
        Looked::Held(hold) => Ok(Some(hold)),
        Looked::TooWide => Ok(held_under(writes, &key::text(tenant), 1)?.keys().next().and_then(|key| hold_of(key))),
    }
}

/// Returns a hold that covers anything of a subject. Where there is too much to look through, the first hold of the tenant counts.
pub(crate) fn on_subject<S: Store>(writes: &Writes<'_, S>, subject: &Subject) -> Result<Option<u64>, StoreFault> {
    let tenant = subject.tenant.as_str();
    if let Some(hold) = on_tenant(writes, tenant)? {
        return Ok(Some(hold));
    }
    let held = held_under(writes, &key::text(tenant), HOLDS_LOOKED_AT_MAX + 1)?;
    let Some(first) = held.keys().next().and_then(|key| hold_of(key)) else { return Ok(None) };
    let ties = writes.below(Table::SubjectTies, &subject.key(), SUBJECT_TIES_MAX + 1)?;
    if held.len() > HOLDS_LOOKED_AT_MAX || ties.len() > SUBJECT_TIES_MAX {
        return Ok(Some(first));
    }
    let ties: Vec<Named> = ties.keys().filter_map(|key| tied(key, subject)).collect();
    match on_any(writes, tenant, ties, SUBJECT_TIES_MAX)? {
        Looked::Free => {}
        Looked::Held(hold) => return Ok(Some(hold)),
        Looked::TooWide => return Ok(Some(first)),
    }
    // A session that was begun for the subject is held as a whole, payloads or not.
    for key in held.keys() {
        let Some((TargetKind::Session, id)) = target_of(key, tenant) else { continue };
        let row = writes.read::<SessionRow>(Table::Sessions, &key::scoped(tenant, &id))?;
        let is_of = |it: &v1::Principal| it.issuer == subject.issuer && it.subject == subject.subject;
        if row.and_then(|row| row.initiator).is_some_and(|it| is_of(&it)) {
            return Ok(hold_of(key));
        }
    }
    Ok(None)
}

fn on_tenant<S: Store>(writes: &Writes<'_, S>, tenant: &str) -> Result<Option<u64>, StoreFault> {
    for tenant in ["*", tenant] {
        if let Some(hold) = on(writes, tenant, TargetKind::Tenant, "")? {
            return Ok(Some(hold));
        }
    }
    Ok(None)
}

/// What a look for holds found.
enum Looked {
    Free,
    Held(u64),
    /// More sessions are above than are looked at: nobody knows.
    TooWide,
}

/// Looks for a hold on one of these targets, on a session above one of them, or on the agent of such a session.
fn on_any<S: Store>(writes: &Writes<'_, S>, tenant: &str, targets: Vec<Named>, sessions_max: usize) -> Result<Looked, StoreFault> {
    let (mut sessions, mut seen) = (Vec::new(), BTreeSet::new());
    for (kind, id) in targets {
        if let Some(hold) = on(writes, tenant, kind, &id)? {
            return Ok(Looked::Held(hold));
        }
        if kind == TargetKind::Session && seen.insert(id.clone()) {
            sessions.push(id);
        }
    }
    while let Some(id) = sessions.pop() {
        let (agent, above) = agent_and_above(writes, tenant, &id)?;
        for (kind, id) in above.iter().map(|id| (TargetKind::Session, id)).chain([(TargetKind::Agent, &agent)]) {
            if let Some(hold) = on(writes, tenant, kind, id)? {
                return Ok(Looked::Held(hold));
            }
        }
        sessions.extend(above.into_iter().filter(|id| seen.insert(id.clone())));
        if seen.len() > sessions_max {
            return Ok(Looked::TooWide);
        }
    }
    Ok(Looked::Free)
}

/// Returns the first hold on a target itself.
fn on<S: Store>(writes: &Writes<'_, S>, tenant: &str, kind: TargetKind, id: &str) -> Result<Option<u64>, StoreFault> {
    let rows = held_under(writes, &target_key(tenant, kind, id), 1)?;
    Ok(rows.keys().next().and_then(|key| hold_of(key)))
}

/// Returns at least `wanted` of the rows under a prefix, or all.
fn held_under<S: Store>(writes: &Writes<'_, S>, prefix: &[u8], wanted: usize) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreFault> {
    writes.below(Table::HeldTargets, prefix, wanted + writes.removed(Table::HeldTargets).len())
}

/// Returns the agent of a session, and the sessions directly above it: the parent that it names, and those that spawned it.
fn agent_and_above<S: Store>(writes: &Writes<'_, S>, tenant: &str, session: &str) -> Result<(String, Vec<String>), StoreFault> {
    let key = key::scoped(tenant, session);
    let begun = writes.read::<SessionRow>(Table::Sessions, &key)?;
    let spawns = writes.read::<SpawnsRow>(Table::Spawns, &key)?.unwrap_or_default();
    let spawners = spawns.above(begun.as_ref().map(|of| of.agent_id.as_str()));
    let parent = begun.as_ref().map(|of| of.parent.clone());
    let above = spawners.chain(parent).filter(|above| !above.is_empty()).collect();
    Ok((begun.map(|of| of.agent_id).unwrap_or_default(), above))
}

/// Returns what the payloads of an event stand under themselves.
fn direct<'e>(event: &'e v1::Event, agent: &'e str) -> impl Iterator<Item = (TargetKind, Cow<'e, str>)> {
    let session = event.session.as_ref().map(|session| (TargetKind::Session, session.session_id.as_str()));
    let agent_itself = Some((TargetKind::Agent, agent)).filter(|_| !agent.is_empty());
    let server = server(event).map(|id| (TargetKind::Server, id));
    let named = session.into_iter().chain(agent_itself).chain(server).map(|(kind, id)| (kind, Cow::Borrowed(id)));
    named.chain(shown(event, agent).into_iter().map(|(kind, id)| (kind, Cow::Owned(id))))
}

fn target_key(tenant: &str, kind: TargetKind, id: &str) -> RowKey {
    let mut key = key::text(tenant);
    push_named(&mut key, kind, id);
    key
}

fn push_named(key: &mut RowKey, kind: TargetKind, id: &str) {
    key.push(kind_byte(kind));
    key::push_text(key, id);
}

fn row_key(target: &v1::Target, hold: u64) -> RowKey {
    let mut key = target_key(&target.tenant_id, target.kind(), &target.id);
    key.extend_from_slice(&hold.to_be_bytes());
    key
}

fn hold_of(row_key: &[u8]) -> Option<u64> {
    row_key.last_chunk().map(|id| u64::from_be_bytes(*id))
}

fn tied(key: &[u8], subject: &Subject) -> Option<Named> {
    named(key.strip_prefix(&subject.key()[..])?)
}

fn target_of(row_key: &[u8], tenant: &str) -> Option<Named> {
    let (target, _) = row_key.split_last_chunk::<8>()?;
    named(target.strip_prefix(&key::text(tenant)[..])?)
}

/// Reads a kind and an id.
fn named(bytes: &[u8]) -> Option<Named> {
    let (kind, text) = bytes.split_first()?;
    let (_, id) = text.split_first_chunk::<2>()?;
    Some((TargetKind::try_from(i32::from(*kind)).ok()?, String::from_utf8(id.to_vec()).ok()?))
}

fn kind_byte(kind: TargetKind) -> u8 {
    u8::try_from(i32::from(kind)).unwrap_or_default()
}
