//! Whose a payload is: said by the entry alone, so that an erasure can be matched with what it destroyed without asking anybody.

use proofline_proto::v1;
use smallvec::SmallVec;

use crate::event::is_identifier;
use crate::key::{self, RowKey};
use crate::limits::SUBJECTS_PER_EVENT_MAX;

/// What the reference of a commitment begins with when it names a subject.
const PREFIX: &str = "subject:";

/// A principal within a tenant, as a pseudonym.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Tenant.
    pub tenant: String,
    /// Who issued the pseudonym; may be empty.
    pub issuer: String,
    /// The pseudonym.
    pub subject: String,
}

impl Subject {
    /// Takes a name; `None` when it is none that an event could have.
    #[must_use]
    pub fn new(tenant: &str, issuer: &str, subject: &str) -> Option<Self> {
        is_subject(tenant, issuer, subject).then(|| Self {
            tenant: tenant.to_owned(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        })
    }

    /// Returns whose the content behind a commitment of an event is: whom its reference names, else the event's initiator.
    /// `None` where neither is named, and for a subject beyond the first that an event may name.
    #[must_use]
    pub fn of(event: &v1::Event, commitment: &v1::Commitment) -> Option<Self> {
        let (issuer, subject) = names(event, commitment)?;
        let named = first_named(event).contains(&(issuer, subject));
        named.then(|| Self { tenant: event.tenant_id.clone(), issuer: issuer.to_owned(), subject: subject.to_owned() })
    }

    /// Returns the keys of rows about the first subjects that the commitments of an event name, each once.
    pub(crate) fn row_keys(event: &v1::Event) -> impl Iterator<Item = RowKey> {
        first_named(event).into_iter().map(|(issuer, subject)| row_key(&event.tenant_id, issuer, subject))
    }

    /// Returns the key of rows about the subject.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        row_key(&self.tenant, &self.issuer, &self.subject).into_vec()
    }
}

fn row_key(tenant: &str, issuer: &str, subject: &str) -> RowKey {
    let [one, two, three] = [tenant, issuer, subject].map(key::length);
    key::join(&[&one, tenant.as_bytes(), &two, issuer.as_bytes(), &three, subject.as_bytes()])
}

fn is_subject(tenant: &str, issuer: &str, subject: &str) -> bool {
    is_identifier(tenant) && tenant != "*" && is_identifier(subject) && (issuer.is_empty() || is_identifier(issuer))
}

/// Returns issuer and subject of the first subjects that the commitments of an event name, each once.
fn first_named(event: &v1::Event) -> SmallVec<[(&str, &str); 4]> {
    let mut found = SmallVec::new();
    for (issuer, subject) in event.payloads.iter().filter_map(|commitment| names(event, commitment)) {
        // Most events have payloads of one subject.
        let is_new = found.len() < SUBJECTS_PER_EVENT_MAX && !found.contains(&(issuer, subject));
        if is_new && is_subject(&event.tenant_id, issuer, subject) {
            found.push((issuer, subject));
        }
    }
    found
}

/// Returns issuer and subject as a commitment, or else the event, names them.
fn names<'e>(event: &'e v1::Event, commitment: &'e v1::Commitment) -> Option<(&'e str, &'e str)> {
    if let Some(named) = commitment.key_ref.strip_prefix(PREFIX) {
        return named.split_once(' ');
    }
    let initiator = event.attribution.as_ref()?.initiator.as_ref()?;
    Some((&initiator.issuer, &initiator.subject))
}
