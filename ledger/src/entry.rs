//! Reading entries back.

use proofline_proto::v1;
use prost::Message;
use v1::entry_core::Body;

use crate::{
    ids::EntryIndex,
    listing,
    store::{Store, StoreFault},
};

/// Events of a receipt that are compared with their entries: what a gateway waits for is a batch of one.
const COMPARED_MAX: usize = 16;

/// Parses an entry and its core.
#[must_use]
pub fn parse(entry: &[u8]) -> Option<(v1::Entry, v1::EntryCore)> {
    let entry = v1::Entry::decode(entry).ok()?;
    let core = v1::EntryCore::decode(entry.core.clone()).ok()?;
    Some((entry, core))
}

/// Tells whether a receipt says what this log says: the first entries of the batch are where the receipt places them, and
/// their verdicts are the receipt's. Looks at 16 events at most.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn is_receipt_of(store: &impl Store, said: &v1::AppendResponse) -> Result<bool, StoreFault> {
    let (first, compared) = (EntryIndex(said.first_index), said.events.len().clamp(1, COMPARED_MAX));
    let entries = listing::entries(store, first, EntryIndex(first.0.saturating_add(compared as u64)), compared)?;
    let is_there = entries.len() == compared && entries.first().is_some_and(|entry| is_of(entry, said));
    Ok(is_there && said.events.iter().zip(&entries).all(|(event, entry)| receipt(entry).as_ref() == Some(event)))
}

fn is_of(entry: &[u8], said: &v1::AppendResponse) -> bool {
    let at = match parse(entry).and_then(|(_, core)| core.body) {
        Some(Body::Event(it)) => it.at,
        Some(Body::Rejection(it)) => it.at,
        Some(Body::LaneClosed(it)) => it.at,
        _ => None,
    };
    at.is_some_and(|at| (at.epoch, at.sequence) == (said.epoch, said.sequence))
}

/// Tells whether an entry of this log is this command.
///
/// # Errors
/// [`StoreFault`] when the store fails.
pub fn is_command_at(store: &impl Store, index: EntryIndex, command: &v1::SignedCommand) -> Result<bool, StoreFault> {
    let entry = listing::entry(store, index)?;
    let body = entry.as_deref().and_then(parse).and_then(|(_, core)| core.body);
    Ok(matches!(body, Some(Body::Command(found)) if found == *command))
}

/// Derives the receipt that an event got from the entry that it became.
pub(crate) fn receipt(entry: &[u8]) -> Option<v1::EventReceipt> {
    parse(entry).and_then(|(_, core)| receipt_of(core))
}

/// The same from what the entry says.
pub(crate) fn receipt_of(core: v1::EntryCore) -> Option<v1::EventReceipt> {
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
