//! How much of what was recorded can be attributed: to a person or service, to an agent, over hops that are proven.

use std::collections::BTreeMap;

use proofline_proto::v1;
use proofline_verifier::LogEntry;

/// Counts over the events of a stretch of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Events.
    pub events: u64,
    /// Those that name who began it, and the agent.
    pub attributed: u64,
    /// Those that name a credential.
    pub with_credential: u64,
    /// Those that name a purpose.
    pub with_purpose: u64,
    /// Those whose every delegation hop is backed by a record of its own.
    pub delegation_verified: u64,
    /// Those with a hop that is only asserted.
    pub delegation_asserted: u64,
    /// Those that say why nobody is named, by reason.
    pub unattributed: BTreeMap<v1::UnattributedReason, u64>,
    /// By where they were seen from.
    pub vantages: BTreeMap<v1::Vantage, u64>,
    /// Rejected events: what they said is not in the log.
    pub rejected: u64,
}

/// Counts the events among entries.
pub fn coverage_of<'a>(entries: impl IntoIterator<Item = &'a LogEntry>) -> Coverage {
    let mut coverage = Coverage::default();
    for entry in entries {
        match &entry.event {
            Some(event) => coverage.count(event),
            None => coverage.rejected += u64::from(matches!(entry.body, v1::entry_core::Body::Rejection(_))),
        }
    }
    coverage
}

impl Coverage {
    fn count(&mut self, event: &v1::Event) {
        self.events += 1;
        *self.vantages.entry(event.vantage()).or_default() += 1;
        let Some(of) = &event.attribution else { return };
        let is_named = of.initiator.as_ref().is_some_and(|it| !it.subject.is_empty());
        self.attributed += u64::from(is_named && of.agent.as_ref().is_some_and(|it| !it.agent_id.is_empty()));
        self.with_credential += u64::from(of.credential.as_ref().is_some_and(|it| !it.credential_id.is_empty()));
        self.with_purpose += u64::from(!of.purpose_id.is_empty());
        let is_asserted = of.delegation.iter().any(|hop| hop.proof() != v1::HopProof::Verified);
        self.delegation_asserted += u64::from(is_asserted);
        self.delegation_verified += u64::from(!of.delegation.is_empty() && !is_asserted);
        if of.unattributed() != v1::UnattributedReason::Unspecified {
            *self.unattributed.entry(of.unattributed()).or_default() += 1;
        }
    }
}
