//! The fixed layouts that keys sign, and the one way in which signatures are checked: `verify_strict`.

use ed25519_dalek::{Signature, VerifyingKey};
use proofline_proto::v1;

use crate::hash::Hash;

const BATCH_LABEL: &str = "proofline/batch/v1";
const OPEN_LANE_LABEL: &str = "proofline/open-lane/v1";
const COMMAND_LABEL: &str = "proofline/command/v1";

/// A signed layout under construction: strings length-prefixed, integers big-endian.
struct Layout(Vec<u8>);

impl Layout {
    fn new(label: &str, origin: &str) -> Self {
        Self(Vec::with_capacity(256)).text(label).text(origin)
    }

    fn text(mut self, text: &str) -> Self {
        crate::key::push_text(&mut self.0, text);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// What a collector signs about a batch.
#[derive(Clone, Debug)]
pub struct StatementFields<'a> {
    /// Ed25519 key of the collector.
    pub public_key: &'a [u8],
    /// Registered id.
    pub collector_id: &'a str,
    /// Chain of the collector.
    pub lane: u32,
    /// Opening of the lane.
    pub epoch: u64,
    /// Place in the epoch.
    pub sequence: u64,
    /// Digest of the batch before it in the lane.
    pub previous: &'a [u8],
    /// Number of events.
    pub event_count: u32,
    /// Root of the tree over the exact event bytes.
    pub events_root: Hash,
}

/// Returns the bytes that a batch signature covers.
#[must_use]
pub fn batch(origin: &str, of: &StatementFields<'_>) -> Vec<u8> {
    Layout::new(BATCH_LABEL, origin)
        .bytes(of.public_key)
        .text(of.collector_id)
        .bytes(&of.lane.to_be_bytes())
        .bytes(&of.epoch.to_be_bytes())
        .bytes(&of.sequence.to_be_bytes())
        .bytes(of.previous)
        .bytes(&of.event_count.to_be_bytes())
        .bytes(&of.events_root.0)
        .0
}

/// Returns the bytes that an `OpenLane` signature covers.
#[must_use]
pub fn open_lane(origin: &str, of: &v1::SignedOpenLane) -> Vec<u8> {
    Layout::new(OPEN_LANE_LABEL, origin).bytes(&of.public_key).text(&of.collector_id).bytes(&of.lane.to_be_bytes()).bytes(&of.nonce).0
}

/// Returns the bytes that each signature of a command covers.
#[must_use]
pub fn command(of: &v1::SignedCommand) -> Vec<u8> {
    let length = u32::try_from(of.command.len()).unwrap_or(u32::MAX);
    Layout::new(COMMAND_LABEL, &of.origin)
        .bytes(&of.nonce)
        .bytes(&of.expires_unix_ns.to_be_bytes())
        .bytes(&length.to_be_bytes())
        .bytes(&of.command)
        .0
}

/// What a signature check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// The key signed these bytes.
    Authentic,
    /// It did not, or the key or the signature is malformed or weak.
    Forged,
}

/// Checks one Ed25519 signature with `verify_strict`. A pure function of its arguments.
#[must_use]
pub fn check(public_key: &[u8], message: &[u8], signature: &[u8]) -> Signed {
    let key = public_key.try_into().ok().and_then(|bytes| VerifyingKey::from_bytes(bytes).ok());
    let signature = Signature::from_slice(signature).ok();
    match (key, signature) {
        (Some(key), Some(signature)) if key.verify_strict(message, &signature).is_ok() => Signed::Authentic,
        _ => Signed::Forged,
    }
}

/// Tells whether a key may be registered: a canonical point that is not of small order.
#[must_use]
pub fn is_strong_key(public_key: &[u8]) -> bool {
    public_key
        .try_into()
        .ok()
        .and_then(|bytes| VerifyingKey::from_bytes(bytes).ok())
        .is_some_and(|key| !key.is_weak() && key.to_edwards().compress().as_bytes() == public_key)
}
