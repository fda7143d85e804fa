//! The authority that a session gathers while it runs: each credential adds to it, and nothing takes it away but time.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use proofline_verifier::{EntryIndex, LogEntry};
use v1::event::Body;

/// A credential as a session had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialHeld {
    /// What kind it said it is.
    pub kind: v1::CredentialKind,
    /// Whom it is for.
    pub audience: String,
    /// What it allows.
    pub scopes: BTreeSet<String>,
    /// Its end, in nanoseconds since 1970; 0 when it names none.
    pub not_after_unix_ns: u64,
    /// The entry that issued it, when the session recorded that.
    pub issued: Option<EntryIndex>,
    /// First and last entry that was made with it.
    pub used: Option<(EntryIndex, EntryIndex)>,
}

/// What a session came to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// By credential id.
    pub credentials: BTreeMap<String, CredentialHeld>,
    /// Every scope of any of them.
    pub scopes: BTreeSet<String>,
    /// Every audience of any of them.
    pub audiences: BTreeSet<String>,
    /// Tools that it meant to call.
    pub tools: BTreeSet<String>,
    /// Systems of the resources that it named.
    pub systems: BTreeSet<String>,
    /// Resources that it named, by URI.
    pub resources: BTreeSet<String>,
    /// Sessions that it spawned or handed work to.
    pub spawned: BTreeSet<String>,
}

/// Adds up what the entries of a session show.
pub fn authority_of<'a>(entries: impl IntoIterator<Item = &'a LogEntry>) -> Authority {
    let mut authority = Authority::default();
    for entry in entries {
        let Some(event) = &entry.event else { continue };
        if let Some(credential) = event.attribution.as_ref().and_then(|it| it.credential.as_ref()) {
            authority.used(entry.index, credential);
        }
        match &event.body {
            Some(Body::CredentialIssued(it)) => {
                if let Some(held) = it.credential.as_ref().and_then(|it| authority.hold(it)) {
                    held.issued.get_or_insert(entry.index);
                }
            }
            Some(Body::CredentialUsed(it)) => {
                it.credential.iter().for_each(|it| authority.used(entry.index, it));
                it.target.iter().for_each(|it| authority.touch(it));
            }
            Some(Body::ActionIntent(it)) => {
                authority.tools.extend(it.tool.iter().map(|it| it.name.clone()).filter(|it| !it.is_empty()));
                it.resources.iter().for_each(|it| authority.touch(it));
            }
            Some(Body::ActionOutcome(it)) => it.accesses.iter().filter_map(|it| it.resource.as_ref()).for_each(|it| authority.touch(it)),
            Some(Body::DataAccess(it)) => it.resource.iter().for_each(|it| authority.touch(it)),
            Some(Body::SubAgentSpawned(it)) => authority.spawned.extend(Some(it.child_session_id.clone()).filter(|it| !it.is_empty())),
            Some(Body::HandedOff(it)) => authority.spawned.extend(Some(it.to_session_id.clone()).filter(|it| !it.is_empty())),
            Some(_) | None => (),
        }
    }
    authority
}

impl Authority {
    /// Takes in what a credential says of itself. One without an id cannot be told from others and is not held.
    fn hold(&mut self, of: &v1::Credential) -> Option<&mut CredentialHeld> {
        if of.credential_id.is_empty() {
            return None;
        }
        self.scopes.extend(of.scopes.iter().cloned());
        self.audiences.extend(Some(of.audience.clone()).filter(|it| !it.is_empty()));
        let held = self.credentials.entry(of.credential_id.clone()).or_default();
        held.kind = of.kind();
        held.scopes.extend(of.scopes.iter().cloned());
        if !of.audience.is_empty() {
            held.audience.clone_from(&of.audience);
        }
        held.not_after_unix_ns = held.not_after_unix_ns.max(of.not_after_unix_ns);
        Some(held)
    }

    fn used(&mut self, index: EntryIndex, credential: &v1::Credential) {
        if let Some(held) = self.hold(credential) {
            held.used = Some((held.used.map_or(index, |(first, _)| first), index));
        }
    }

    fn touch(&mut self, resource: &v1::Resource) {
        self.resources.extend(Some(resource.uri.clone()).filter(|it| !it.is_empty()));
        self.systems.extend(Some(resource.system.clone()).filter(|it| !it.is_empty()));
    }
}
