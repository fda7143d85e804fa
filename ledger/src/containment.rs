//! Containment: what is stopped, what that reaches, and how it is lifted.
//!
//! A containment is a case with a number. It stops its first target and everything that shares its identity: a session's
//! credentials and agent instances, as they were seen and as they come to be seen. Sessions below a contained session are
//! found by walking up from them, so that one which begins later is covered by its first event.

use proofline_proto::v1;
use v1::{ContainmentAction, ContainmentChange, TargetKind};

use crate::event::is_identifier;
use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::limits::{CONTAINMENT_CASES_MAX, CONTAINMENT_TARGETS_MAX, ENTRY_BYTES_MAX, ID_BYTES_MAX, REASON_BYTES_MAX, SESSION_DEPTH_MAX};
use crate::log::{Draft, InSession};
use crate::refusal::Refusal;
use crate::row::{CaseRow, TargetRow};
use crate::session::{Claim, Sessions};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Targets in one entry: more are spread over several.
const ENTRY_TARGETS_MAX: usize = 64;

/// The containments that cover an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cover {
    /// The one that began first.
    pub(crate) first: Option<u64>,
    /// The first one of the event's session, or of a session above it.
    of_session: Option<u64>,
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
    if ledger.log.contained == 0 {
        return Ok(cover);
    }
    let tenant = event.tenant_id.as_str();
    for tenant in ["*", tenant] {
        cover.add(first_case(writes, TargetKind::Tenant, tenant, "")?);
    }
    cover.add(first_case(writes, TargetKind::Agent, tenant, agent)?);
    for (kind, id) in Identities::of(event).all().chain(servers(event)) {
        cover.add(first_case(writes, kind, tenant, id)?);
    }
    if let Some(claim) = Claim::of(event) {
        for id in above(&mut ledger.sessions, writes, claim)? {
            let case = first_case(writes, TargetKind::Session, tenant, &id)?;
            cover.add(case);
            cover.of_session = earlier(cover.of_session, case);
            let Some(session) = ledger.sessions.find(writes, &key::scoped(tenant, &id))? else { continue };
            for (kind, shared) in session.uses() {
                cover.add(first_case(writes, kind, tenant, shared)?);
            }
        }
    }
    Ok(cover)
}

impl Cover {
    fn add(&mut self, case: Option<u64>) {
        self.first = earlier(self.first, case);
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// Takes note of whom an event shows its session to be, and of the sessions that it spawned. A contained session draws what
/// it newly shows into its containment.
pub(crate) fn note<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, event: &v1::Event, cover: Cover) -> Result<(), StoreFault> {
    let Some(claim) = Claim::of(event) else { return Ok(()) };
    note_spawn(writes, event, claim)?;
    let Some(session) = ledger.sessions.find(writes, &key::scoped(claim.tenant, claim.id))? else { return Ok(()) };
    let shown = Identities::of(event);
    let new: Vec<(TargetKind, &str)> = shown.all().filter(|(kind, id)| !session.uses().any(|known| known == (*kind, *id))).collect();
    if new.is_empty() {
        return Ok(());
    }
    for (kind, id) in &new {
        session.note_use(*kind, id);
    }
    session.save_uses(writes);
    let Some(case) = cover.of_session else { return Ok(()) };
    let targets = new.into_iter().map(|(kind, id)| target(kind, claim.tenant, id)).collect();
    extend(ledger, writes, case, targets)
}

/// The first session to name a child in a spawn is above it, when the child itself names no parent.
fn note_spawn<S: Store>(writes: &mut Writes<'_, S>, event: &v1::Event, claim: Claim<'_>) -> Result<(), StoreFault> {
    let Some(v1::event::Body::SubAgentSpawned(spawned)) = &event.body else { return Ok(()) };
    if !is_identifier(&spawned.child_session_id) || spawned.child_session_id == claim.id {
        return Ok(());
    }
    let key = key::scoped(claim.tenant, &spawned.child_session_id);
    if writes.bytes(Table::Spawns, &key)?.is_none() {
        writes.put_bytes(Table::Spawns, key, claim.id.as_bytes().to_vec());
    }
    Ok(())
}

/// Returns the session of a claim and those above it, the nearest first.
fn above<S: Store>(sessions: &mut Sessions, writes: &Writes<'_, S>, claim: Claim<'_>) -> Result<Vec<String>, StoreFault> {
    let mut chain = vec![claim.id.to_owned()];
    let mut parent = parent_of(sessions, writes, claim.tenant, claim.id)?;
    if parent.is_empty() {
        claim.parent.clone_into(&mut parent);
    }
    // A spawn may contradict what sessions say of their parents; a walk that comes back to where it was ends.
    while !parent.is_empty() && !chain.contains(&parent) && chain.len() < SESSION_DEPTH_MAX as usize {
        let next = parent_of(sessions, writes, claim.tenant, &parent)?;
        chain.push(std::mem::replace(&mut parent, next));
    }
    Ok(chain)
}

fn parent_of<S: Store>(sessions: &mut Sessions, writes: &Writes<'_, S>, tenant: &str, id: &str) -> Result<String, StoreFault> {
    let key = key::scoped(tenant, id);
    if let Some(session) = sessions.find(writes, &key)?
        && !session.parent().is_empty()
    {
        return Ok(session.parent().to_owned());
    }
    let spawned_by = writes.bytes(Table::Spawns, &key)?.unwrap_or_default();
    String::from_utf8(spawned_by).map_err(|_| StoreFault::Damaged { table: Table::Spawns, key })
}

/// What an event says of whom it was done as: what a session may share with others.
struct Identities<'a> {
    credentials: Vec<&'a str>,
    instance: &'a str,
}

impl<'a> Identities<'a> {
    fn of(event: &'a v1::Event) -> Self {
        use v1::event::Body;
        let attribution = event.attribution.as_ref();
        let used = match &event.body {
            Some(Body::CredentialUsed(it)) => it.credential.as_ref(),
            Some(Body::CredentialIssued(it)) => it.credential.as_ref(),
            _ => None,
        };
        let credentials = attribution.and_then(|it| it.credential.as_ref()).into_iter().chain(used);
        Self {
            credentials: credentials.map(|it| it.credential_id.as_str()).collect(),
            instance: attribution.and_then(|it| it.agent.as_ref()).map_or("", |agent| &agent.instance_id),
        }
    }

    fn all(&self) -> impl Iterator<Item = (TargetKind, &'a str)> {
        let credentials = self.credentials.iter().map(|id| (TargetKind::Credential, *id));
        let all = credentials.chain([(TargetKind::AgentInstance, self.instance)]);
        all.filter(|(_, id)| is_identifier(id)).collect::<std::collections::BTreeSet<_>>().into_iter()
    }
}

fn servers(event: &v1::Event) -> impl Iterator<Item = (TargetKind, &str)> {
    use v1::event::Body;
    let server = match &event.body {
        Some(Body::ActionIntent(it)) => it.tool.as_ref().map(|tool| tool.server_id.as_str()),
        Some(Body::McpConnected(it)) => Some(it.server_id.as_str()),
        Some(Body::ToolDefined(it)) => Some(it.server_id.as_str()),
        _ => None,
    };
    server.filter(|id| !id.is_empty()).map(|id| (TargetKind::Server, id)).into_iter()
}

fn first_case<S: Store>(writes: &Writes<'_, S>, kind: TargetKind, tenant: &str, id: &str) -> Result<Option<u64>, StoreFault> {
    if id.is_empty() && kind != TargetKind::Tenant {
        return Ok(None);
    }
    let row = writes.read::<TargetRow>(Table::Contained, &target_key(&target(kind, tenant, id)))?;
    Ok(row.and_then(|row| row.cases.into_iter().min()))
}

/// Carries out a responder's command, which becomes entry `cause`.
pub(crate) fn contain<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, it: &v1::Contain, cause: EntryIndex) -> Judged<()> {
    let asked = match check(it) {
        Ok(asked) => asked,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let row = writes.read::<TargetRow>(Table::Contained, &target_key(asked))?.unwrap_or_default();
    for id in &row.cases {
        let case = writes.read::<CaseRow>(Table::ContainmentCases, &id.to_be_bytes())?.unwrap_or_default();
        if case.action == it.action && case.targets.first() == Some(asked) {
            return Ok(Err(Refusal::AlreadyContained { containment: *id }));
        }
    }
    if row.cases.len() >= CONTAINMENT_CASES_MAX {
        return Ok(Err(Refusal::TooLarge {
            what: "containments of one target",
            actual: row.cases.len() as u64 + 1,
            limit: CONTAINMENT_CASES_MAX as u64,
        }));
    }
    begin(ledger, writes, it, asked, cause)?;
    Ok(Ok(()))
}

fn begin<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    it: &v1::Contain,
    asked: &v1::Target,
    cause: EntryIndex,
) -> Result<(), StoreFault> {
    let mut targets = vec![asked.clone()];
    if asked.kind() == TargetKind::Session
        && let Some(session) = ledger.sessions.find(writes, &key::scoped(&asked.tenant_id, &asked.id))?
    {
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
    };
    let added = add_targets(ledger, writes, id, &mut case, targets)?;
    writes.put(Table::ContainmentCases, id.to_be_bytes().to_vec(), &case);
    ledger.changes.push(case.change(ContainmentChange::Began, id, added, cause));
    Ok(())
}

fn extend<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, id: u64, targets: Vec<v1::Target>) -> Result<(), StoreFault> {
    let key = id.to_be_bytes().to_vec();
    let Some(mut case) = writes.read::<CaseRow>(Table::ContainmentCases, &key)? else { return Ok(()) };
    let added = add_targets(ledger, writes, id, &mut case, targets)?;
    if !added.is_empty() {
        writes.put(Table::ContainmentCases, key, &case);
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
        if row.cases.contains(&id) || !has_room {
            continue;
        }
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
    case.released_by = Some(cause.0);
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
        writes.keep(Table::ContainmentLog, key::entry(index).to_vec(), Vec::new());
        let about = change.targets.first().filter(|target| target.kind() == TargetKind::Session).cloned();
        let session = match &about {
            Some(about) => {
                let found = ledger.sessions.find(writes, &key::scoped(&about.tenant_id, &about.id))?;
                let open = found.filter(|session| !session.is_sealed());
                open.map(|session| InSession { tenant: &about.tenant_id, id: &about.id, session })
            }
            None => None,
        };
        ledger.log.append(writes, Draft { body: v1::entry_core::Body::Containment(change), decision: None, session });
    }
    Ok(())
}

/// Spreads a change over as many entries as its targets need.
fn in_entries(change: v1::Containment) -> impl Iterator<Item = v1::Containment> {
    let parts: Vec<Vec<v1::Target>> = change.targets.chunks(ENTRY_TARGETS_MAX).map(<[v1::Target]>::to_vec).collect();
    parts.into_iter().map(move |targets| v1::Containment { targets, ..change.clone() })
}

const _: () = assert!(ENTRY_TARGETS_MAX * (2 * ID_BYTES_MAX + 16) + REASON_BYTES_MAX + 2 * ID_BYTES_MAX + 4_096 < ENTRY_BYTES_MAX);

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
        }
    }
}

fn target(kind: TargetKind, tenant: &str, id: &str) -> v1::Target {
    v1::Target { kind: kind.into(), tenant_id: tenant.to_owned(), id: id.to_owned() }
}

fn target_key(of: &v1::Target) -> Vec<u8> {
    let mut key = of.kind.to_be_bytes().to_vec();
    key.extend(key::scoped(&of.tenant_id, &of.id));
    key
}

fn is_short(reason: &str, incident: &str) -> bool {
    reason.len() <= REASON_BYTES_MAX && (incident.is_empty() || is_identifier(incident))
}

/// Checks that a command names a target that its action can stop.
fn check(it: &v1::Contain) -> Result<&v1::Target, Refusal> {
    let target = it.target.as_ref().ok_or(Refusal::Malformed("the containment names no target"))?;
    if it.reason.is_empty() || !is_short(&it.reason, &it.incident_id) {
        return Err(Refusal::Malformed("a containment gives no reason, or a reason or an incident that is too long"));
    }
    let fits = match it.action() {
        ContainmentAction::SuspendSession | ContainmentAction::RevokeSession => target.kind() == TargetKind::Session,
        ContainmentAction::RevokeCredential => target.kind() == TargetKind::Credential,
        ContainmentAction::QuarantineAgent => matches!(target.kind(), TargetKind::Agent | TargetKind::AgentInstance),
        ContainmentAction::BlockServer => target.kind() == TargetKind::Server,
        ContainmentAction::HaltAgents => target.kind() == TargetKind::Tenant,
        ContainmentAction::Unspecified => false,
    };
    if !fits {
        return Err(Refusal::Malformed("the action of the containment does not fit its target"));
    }
    let is_tenant = target.kind() == TargetKind::Tenant;
    let is_named = if is_tenant { target.id.is_empty() } else { is_identifier(&target.id) && target.tenant_id != "*" };
    if is_named && is_identifier(&target.tenant_id) { Ok(target) } else { Err(Refusal::Malformed("the containment names no target")) }
}
