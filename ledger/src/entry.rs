//! Reading entries back.

use proofline_proto::v1;
use prost::Message;
use v1::entry_core::Body;

/// Parses an entry and its core.
#[must_use]
pub fn parse(entry: &[u8]) -> Option<(v1::Entry, v1::EntryCore)> {
    let entry = v1::Entry::decode(entry).ok()?;
    let core = v1::EntryCore::decode(entry.core.clone()).ok()?;
    Some((entry, core))
}

/// Derives the receipt that an event got from the entry that it became.
pub(crate) fn receipt(entry: &[u8]) -> Option<v1::EventReceipt> {
    let (_, core) = parse(entry)?;
    match core.body? {
        Body::Event(_) => {
            let decision = core.decision?;
            Some(v1::EventReceipt {
                verdict: decision.verdict,
                session_position: core.session.map_or(0, |session| session.position),
                rejection: 0,
                findings: decision.findings,
                action_digest: decision.action_digest,
            })
        }
        Body::Rejection(rejection) => Some(v1::EventReceipt { rejection: rejection.reason, ..Default::default() }),
        Body::Genesis(_)
        | Body::Command(_)
        | Body::Equivocation(_)
        | Body::LaneOpened(_)
        | Body::LaneClosed(_)
        | Body::Containment(_)
        | Body::OutletDelivery(_)
        | Body::StateCommitment(_)
        | Body::AccessRecorded(_)
        | Body::ErasureDeferred(_) => None,
    }
}
