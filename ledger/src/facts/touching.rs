//! What an event touches, and what is known of that: for the first time or not, whose it is, how far a session reaches.

use proofline_proto::v1;
use v1::event::Body;

use super::act::{self, Act};
use super::row::{AgentCounts, CredentialRow, Held, MemoryRow, SessionCounts, ToolRow};
use super::sets::{self, Entered, Member, Set, Touched};
use super::{Above, SECOND_NS, SessionState, add};
use crate::ids::UnixNanos;
use crate::key;
use crate::limits::{COUNT_MAX, SESSION_SET_MAX, STANDING_CREDENTIAL_S};
use crate::row::ServerRow;
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// One event on its way through what is known.
pub(super) struct Touching<'w, 's, 'e, S> {
    pub(super) writes: &'w mut Writes<'s, S>,
    pub(super) event: &'e v1::Event,
    pub(super) act: &'e Act<'e>,
    pub(super) agent: &'e str,
    /// The agent within its tenant.
    pub(super) scope: &'e [u8],
    pub(super) now: UnixNanos,
    pub(super) session: Option<&'e mut SessionState>,
    pub(super) row: Option<&'e mut Held<AgentCounts>>,
    /// What the agent will know once the event is allowed.
    pub(super) learns: Vec<(Set, Member)>,
    /// Members that the event may yet enter into sets of sessions.
    pub(super) room: usize,
}

impl<S: Store> Touching<'_, '_, '_, S> {
    /// Enters resources, systems, tool and server into the sets of the session, of those above it, and of the agent.
    pub(super) fn sets(&mut self, facts: &mut v1::Facts) -> Result<(), StoreFault> {
        for uri in &facts.resources {
            let member = self.writes.member(uri);
            self.reach(Set::SessionResources, member)?;
            let is_new = self.is_first(Set::AgentResources, member)?;
            facts.first_seen_resource |= is_new;
        }
        for system in &facts.systems {
            self.reach(Set::SessionSystems, self.writes.member(system))?;
        }
        if !facts.tool.is_empty() {
            let member = self.writes.member(&sets::joined(&facts.server, &facts.tool));
            facts.first_seen_tool = self.is_first(Set::AgentTools, member)?;
        }
        if !facts.server.is_empty() {
            facts.first_seen_server = self.is_first(Set::AgentServers, self.writes.member(&facts.server))?;
        }
        Ok(())
    }

    /// Tells whether the agent never had to do with a name. It learns it when the event is allowed: asking twice is no knowledge.
    fn is_first(&mut self, set: Set, member: Member) -> Result<bool, StoreFault> {
        if self.row.is_none() {
            return Ok(false);
        }
        let is_first = !sets::knows(self.writes, set, self.scope, member)?;
        if is_first {
            self.learns.push((set, member));
        }
        Ok(is_first)
    }

    /// Enters a resource or system into what the session and those above it reach. Above the first that has it, all have it.
    fn reach(&mut self, set: Set, member: Member) -> Result<Entered, StoreFault> {
        let Some(session) = &mut self.session else { return Ok(Entered::New) };
        let before = sets::touched(self.writes, set, &session.key, member)?;
        if before == Some(Touched::Here) {
            return Ok(Entered::Known);
        }
        let counts = &mut session.counts.now;
        let (own, reach) = counts.of(set);
        if *reach >= SESSION_SET_MAX || self.room == 0 {
            counts.overflow = true;
            return Ok(Entered::Full);
        }
        self.room -= 1;
        *own = add(*own, 1);
        *reach = add(*reach, u64::from(before.is_none()));
        sets::touch(self.writes, set, &session.key, member, Touched::Here);
        if before.is_none() {
            let spread = spread(self.writes, set, member, &session.above, self.room)?;
            session.counts.now.overflow |= spread.is_none();
            self.room = spread.unwrap_or(0);
        }
        Ok(Entered::New)
    }

    /// Finds out whose the resources are. Owners are learned from what came back, of a read or of a write, not from what an agent
    /// says of itself.
    pub(super) fn owners(&mut self, facts: &mut v1::Facts) -> Result<(), StoreFault> {
        let initiator = self.event.attribution.as_ref().and_then(|it| it.initiator.as_ref()).map(|it| it.subject.as_str());
        let learns = (self.act.has_read() || self.act.has_written()) && self.event.vantage() != v1::Vantage::SelfReported;
        for resource in &self.act.resources {
            let told = resource.tags.iter().find_map(|tag| tag.strip_prefix("owner:"));
            let key = sets::named(self.writes, &self.event.tenant_id, &resource.uri);
            let known = self.writes.look(Table::ResourceOwners, &key, |row| Ok(row.and_then(|it| String::from_utf8(it.to_vec()).ok())))?;
            // What an agent claims beforehand does not change whose it is known to be.
            let told = told.map(sets::short);
            let owner = if learns { told.clone().or_else(|| known.clone()) } else { known.clone().or_else(|| told.clone()) };
            let Some(owner) = owner else {
                facts.owner_unknown |= resource.kind() == v1::ResourceKind::Record;
                continue;
            };
            if learns && told.is_some() && known.as_ref() != Some(&owner) && !resource.uri.is_empty() {
                self.writes.put_bytes(Table::ResourceOwners, key, owner.clone().into_bytes());
            }
            facts.foreign_owner |= initiator.is_some_and(|it| it != owner);
            if let Some(session) = &mut self.session {
                let first = &mut session.traits.owner;
                if first.is_empty() {
                    first.clone_from(&owner);
                }
                facts.mixed_owner |= *first != owner;
            }
        }
        Ok(())
    }

    /// Follows what sessions write into memories for others to read.
    pub(super) fn memory(&mut self, facts: &mut v1::Facts) -> Result<(), StoreFault> {
        let Some(Body::MemoryAccess(it)) = &self.event.body else { return Ok(()) };
        // A search names no record: whatever tainted the store may come back.
        let key = sets::named(self.writes, &self.event.tenant_id, &sets::joined(&it.store_id, &it.record_id));
        let mut row = Held::<MemoryRow>::read(self.writes, Table::MemoryRecords, key)?;
        facts.memory_tainted = row.now.tainted;
        facts.memory_foreign = !row.now.agent.is_empty() && row.now.agent != self.agent;
        if matches!(it.verb(), v1::MemoryVerb::Create | v1::MemoryVerb::Update | v1::MemoryVerb::Upsert) {
            let above_tainted = |session: &SessionState| session.traits.tainted || session.above.iter().any(|it| it.tainted);
            row.now = MemoryRow { agent: self.agent.to_owned(), tainted: self.session.as_deref().is_some_and(above_tainted) };
            // What a session writes into a record itself does not taint it.
            facts.memory_tainted = false;
            if row.now.tainted && !it.record_id.is_empty() {
                let key = sets::named(self.writes, &self.event.tenant_id, &sets::joined(&it.store_id, ""));
                let mut store = Held::<MemoryRow>::read(self.writes, Table::MemoryRecords, key)?;
                store.now = row.now.clone();
                store.write(self.writes)?;
            }
        }
        row.write(self.writes)?;
        Ok(())
    }

    /// Knows servers and the definitions of their tools; a server that nobody registered is listed from now on.
    pub(super) fn tools(&mut self, facts: &mut v1::Facts) -> Result<(), StoreFault> {
        let tenant = &self.event.tenant_id;
        if !self.act.server.is_empty() {
            let key = key::scoped(tenant, self.act.server);
            match self.writes.read::<ServerRow>(Table::Servers, &key)? {
                Some(row) => facts.server_known = row.registration.is_some_and(|it| it.approved),
                None => {
                    let row = ServerRow { registration: None, first_seen_unix_ns: self.now.0 };
                    self.writes.put(Table::Servers, key, &row);
                }
            }
        }
        let (name, definition) = match &self.event.body {
            Some(Body::ToolDefined(it)) => (it.name.as_str(), it.definition_sha256.as_slice()),
            _ => (self.act.tool_name(), self.act.tool.map_or(&[][..], |tool| &tool.definition_sha256)),
        };
        if name.is_empty() {
            return Ok(());
        }
        let key = sets::named(self.writes, tenant, &sets::joined(self.act.server, name));
        let mut row = Held::<ToolRow>::read(self.writes, Table::ToolDefinitions, key)?;
        // A call that names no definition is one of the newest that was seen; what an agent reports of itself teaches nothing.
        if definition.is_empty() || definition.len() > 32 || self.event.vantage() == v1::Vantage::SelfReported {
            let asked = if definition.is_empty() { &row.now.newest } else { definition };
            facts.tool_drift = row.now.drifts(asked);
            return Ok(());
        }
        if row.now.first.is_empty() {
            row.now.first = definition.to_vec();
            row.now.call(self.act.server, name);
        }
        if row.now.newest != definition {
            row.now.newest = definition.to_vec();
            row.now.newest_unix_ns = self.now.0;
        }
        facts.tool_drift = row.now.drifts(definition);
        row.write(self.writes)?;
        Ok(())
    }

    pub(super) fn credential(&mut self, facts: &mut v1::Facts) -> Result<(), StoreFault> {
        if let Some(Body::CredentialIssued(it)) = &self.event.body
            && let Some(issued) = &it.credential
            && self.event.vantage() == v1::Vantage::IdpObserved
        {
            self.issue(&issued.credential_id)?;
        }
        if let Some(Body::SubAgentSpawned(it)) = &self.event.body {
            self.spawn(it, facts);
        }
        let Some(credential) = self.event.attribution.as_ref().and_then(|it| it.credential.as_ref()) else { return Ok(()) };
        facts.credential_kind = act::credential_kind_name(credential.kind()).to_owned();
        facts.credential_audience.clone_from(&credential.audience);
        facts.credential_scopes = super::distinct(credential.scopes.iter().map(String::as_str));
        facts.human_credential = credential.kind() == v1::CredentialKind::HumanDelegated;
        let first_seen = self.seen(credential, facts)?;
        let began = if credential.not_before_unix_ns == 0 { first_seen } else { credential.not_before_unix_ns };
        let ends = credential.not_after_unix_ns;
        facts.credential_age_s = self.now.0.saturating_sub(began) / SECOND_NS;
        facts.credential_ttl_s = if ends == 0 { COUNT_MAX } else { ends.saturating_sub(began) / SECOND_NS };
        facts.credential_expired = ends != 0 && self.now.0 > ends;
        facts.standing_credential = credential.kind() != v1::CredentialKind::None && facts.credential_ttl_s > STANDING_CREDENTIAL_S;
        Ok(())
    }

    fn issue(&mut self, id: &str) -> Result<(), StoreFault> {
        let Some(session) = self.event.session.as_ref().filter(|_| !id.is_empty()) else { return Ok(()) };
        let mut row =
            Held::<CredentialRow>::read(self.writes, Table::CredentialsSeen, sets::named(self.writes, &self.event.tenant_id, id))?;
        // Whom a credential was issued to is said once, by whoever issues it.
        if row.now.first_seen_unix_ns == 0 {
            row.now = CredentialRow { session: session.session_id.clone(), first_seen_unix_ns: self.now.0 };
        }
        row.write(self.writes)?;
        Ok(())
    }

    /// Takes note of a credential and returns when it was seen first.
    fn seen(&mut self, credential: &v1::Credential, facts: &mut v1::Facts) -> Result<u64, StoreFault> {
        if credential.credential_id.is_empty() {
            return Ok(self.now.0);
        }
        let key = sets::named(self.writes, &self.event.tenant_id, &credential.credential_id);
        let mut row = Held::<CredentialRow>::read(self.writes, Table::CredentialsSeen, key)?;
        let teaches = self.event.vantage() != v1::Vantage::SelfReported && !facts.session.is_empty();
        if row.now.first_seen_unix_ns == 0 && teaches {
            row.now = CredentialRow { session: facts.session.clone(), first_seen_unix_ns: self.now.0 };
        }
        let first_seen = if row.now.first_seen_unix_ns == 0 { self.now.0 } else { row.now.first_seen_unix_ns };
        let issued_to = row.now.session.clone();
        row.write(self.writes)?;
        let member = self.writes.member(&credential.credential_id);
        self.is_first(Set::AgentCredentials, member)?;
        if let Some(session) = &mut self.session {
            let is_above = session.above.iter().any(|it| it.is_vouched && it.id == issued_to);
            facts.credential_replayed = !issued_to.is_empty() && issued_to != facts.session && !is_above;
            let counts = &mut session.counts.now;
            let entered = sets::enter(self.writes, Set::SessionCredentials, &session.key, member, counts.credentials)?;
            counts.credentials = add(counts.credentials, u64::from(entered == Entered::New));
            for scope in &facts.credential_scopes {
                let entered = sets::enter(self.writes, Set::SessionScopes, &session.key, self.writes.member(scope), counts.scopes)?;
                counts.scopes = add(counts.scopes, u64::from(entered == Entered::New));
            }
        }
        Ok(first_seen)
    }

    fn spawn(&self, it: &v1::SubAgentSpawned, facts: &mut v1::Facts) {
        facts.child_agent.clone_from(&it.child_agent_id);
        let own = self.event.attribution.as_ref().and_then(|it| it.credential.as_ref()).map_or(&[][..], |it| &it.scopes);
        let given = it.child_credential.as_ref().map_or(&[][..], |it| &it.scopes);
        let is_shown = self.event.attribution.as_ref().is_some_and(|it| it.credential.is_some());
        facts.scopes_widened = is_shown && it.inherited_scopes.iter().chain(given).any(|scope| !own.contains(scope));
    }
}

impl SessionCounts {
    /// Returns how many of a set the session touched itself, and with those below it.
    fn of(&mut self, set: Set) -> (&mut u64, &mut u64) {
        if set == Set::SessionResources {
            (&mut self.resources, &mut self.reach_resources)
        } else {
            (&mut self.systems, &mut self.reach_systems)
        }
    }
}

/// Enters a member into the sets of the sessions above, up to the first that has it, as far as those below were spawned by
/// those above. Returns the room that is left; `None` when it was not enough.
fn spread<S: Store>(
    writes: &mut Writes<'_, S>,
    set: Set,
    member: Member,
    above: &[Above],
    mut room: usize,
) -> Result<Option<usize>, StoreFault> {
    for session in above.iter().take_while(|it| it.is_vouched) {
        if sets::touched(writes, set, &session.key, member)?.is_some() {
            break;
        }
        if room == 0 {
            return Ok(None);
        }
        room -= 1;
        let mut counts = Held::<SessionCounts>::read(writes, Table::SessionCounts, session.key.clone())?;
        let (_, reach) = counts.now.of(set);
        if *reach >= SESSION_SET_MAX {
            counts.now.overflow = true;
        } else {
            *reach = add(*reach, 1);
            sets::touch(writes, set, &session.key, member, Touched::Below);
        }
        counts.write(writes)?;
    }
    Ok(Some(room))
}

/// Carries what sessions below have touched to those above a session that begins only now.
pub(super) fn reach_from_below<S: Store>(writes: &mut Writes<'_, S>, key: &[u8], above: &[Above]) -> Result<(), StoreFault> {
    if above.is_empty() || !writes.has(Table::SessionCounts, key)? {
        return Ok(());
    }
    for set in [Set::SessionResources, Set::SessionSystems] {
        for member in sets::members(writes, set, key)? {
            spread(writes, set, member, above, above.len())?;
        }
    }
    Ok(())
}
