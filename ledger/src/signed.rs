//! The fixed layouts that keys sign, and how signatures are checked: with `verify_strict`, and many at once where
//! somebody else has done so already.

use std::cell::RefCell;
use std::collections::HashMap;

use ed25519_dalek::{Signature, VerifyingKey};
use proofline_proto::v1;

use crate::hash::Hash;

const BATCH_LABEL: &str = "proofline/batch/v1";
const OPEN_LANE_LABEL: &str = "proofline/open-lane/v1";
const COMMAND_LABEL: &str = "proofline/command/v1";
const OUTLET_DELIVERY_LABEL: &str = "proofline/outlet-delivery/v1";
const ACCESS_LABEL: &str = "proofline/access/v1";

/// A signed layout under construction: strings length-prefixed, integers big-endian.
struct Layout(Vec<u8>);

impl Layout {
    fn new(label: &str, origin: &str) -> Self {
        Self(Vec::with_capacity(256)).text(label).text(origin)
    }

    fn text(self, text: &str) -> Self {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.bytes(&length.to_be_bytes()).bytes(text.as_bytes())
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

/// Returns the bytes that a node's signature of a delivery covers.
#[must_use]
pub fn outlet_delivery(origin: &str, of: &v1::OutletDelivery) -> Vec<u8> {
    Layout::new(OUTLET_DELIVERY_LABEL, origin)
        .bytes(&of.public_key)
        .text(&of.outlet_id)
        .bytes(&of.containment_id.to_be_bytes())
        .bytes(&of.entry_index.to_be_bytes())
        .bytes(&of.ordinal.to_be_bytes())
        .text(&of.jti)
        .bytes(&of.result.to_be_bytes())
        .bytes(&of.http_status.to_be_bytes())
        .text(&of.error)
        .bytes(&of.attempts.to_be_bytes())
        .bytes(&of.first_attempt_unix_ns.to_be_bytes())
        .bytes(&of.answered_unix_ns.to_be_bytes())
        .bytes(&of.node_id.to_be_bytes())
        .0
}

/// Returns the bytes that a node's signature of an access covers.
#[must_use]
pub fn access(origin: &str, of: &v1::AccessRecorded) -> Vec<u8> {
    let length = u32::try_from(of.question.len()).unwrap_or(u32::MAX);
    Layout::new(ACCESS_LABEL, origin)
        .bytes(&of.public_key)
        .bytes(&of.kind.to_be_bytes())
        .text(&of.reader)
        .bytes(&length.to_be_bytes())
        .bytes(&of.question)
        .text(&of.purpose)
        .bytes(&of.node_id.to_be_bytes())
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

/// That the holder of a key signed a message.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Ed25519 key.
    pub public_key: &'a [u8],
    /// What was signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

impl Claim<'_> {
    /// Checks the signature with `verify_strict`. A pure function of the claim.
    #[must_use]
    pub fn check(&self) -> Signed {
        match self.parse() {
            Some((key, signature)) if key.verify_strict(self.message, &signature).is_ok() => Signed::Authentic,
            _ => Signed::Forged,
        }
    }

    fn parse(&self) -> Option<(VerifyingKey, Signature)> {
        Some((decompressed(self.public_key.try_into().ok()?)?, Signature::from_slice(self.signature).ok()?))
    }
}

/// Keys whose points are kept; past this they are computed again.
const KEYS_MAX: usize = 1_024;

thread_local! {
    static KEYS: RefCell<HashMap<[u8; 32], VerifyingKey>> = RefCell::default();
}

/// Returns the point that a key encodes: a square root, which takes a seventh of a check and is the same for each batch of a collector.
fn decompressed(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    KEYS.with_borrow_mut(|keys| {
        if let Some(key) = keys.get(bytes) {
            return Some(*key);
        }
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(*bytes, key);
        Some(key)
    })
}

/// Checks one Ed25519 signature with `verify_strict`. A pure function of its arguments.
#[must_use]
pub fn check(public_key: &[u8], message: &[u8], signature: &[u8]) -> Signed {
    Claim { public_key, message, signature }.check()
}

/// Claims below which checking each is as fast.
const TOGETHER_MIN: usize = 4;

/// Checks that every claim holds, by one random combination of all their equations, at less than half the price of checking
/// each. The coefficients are derived from the claims, so this is a pure function of them.
///
/// `Forged` says that the claims do not hold *together*, or are too few: check each. That can happen to claims of which each
/// holds, if a key has a part of small order. What holds together holds each, with one exception, which only the holder of a
/// key can make: a signature that differs from a valid one by a point of small order. So this may repeat a check that somebody
/// made strictly, and not replace it.
#[must_use]
pub fn check_together(claims: &[Claim<'_>]) -> Signed {
    if claims.len() < TOGETHER_MIN {
        return Signed::Forged;
    }
    let parsed = claims.iter().map(|claim| claim.parse().filter(|(key, _)| !key.is_weak()));
    let Some((keys, signatures)) = parsed.collect::<Option<(Vec<_>, Vec<_>)>>() else { return Signed::Forged };
    let messages: Vec<&[u8]> = claims.iter().map(|claim| claim.message).collect();
    match ed25519_dalek::verify_batch(&messages, &signatures, &keys) {
        Ok(()) => Signed::Authentic,
        Err(_) => Signed::Forged,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    /// A key that signs anything: the point of order 1.
    const WEAK_KEY: [u8; 32] = {
        let mut key = [0; 32];
        key[0] = 1;
        key
    };

    struct Made {
        public_key: [u8; 32],
        message: Vec<u8>,
        signature: [u8; 64],
    }

    fn made(count: u8) -> Vec<Made> {
        let make = |n: u8| {
            let (key, message) = (SigningKey::from_bytes(&[n + 1; 32]), vec![n; 200]);
            Made { public_key: key.verifying_key().to_bytes(), signature: key.sign(&message).to_bytes(), message }
        };
        (0..count).map(make).collect()
    }

    fn together(made: &[Made]) -> Signed {
        let claims = made.iter().map(|of| Claim { public_key: &of.public_key, message: &of.message, signature: &of.signature });
        check_together(&claims.collect::<Vec<_>>())
    }

    #[test]
    fn claims_that_hold_each_hold_together() {
        for count in 4..=70 {
            assert_eq!(together(&made(count)), Signed::Authentic, "{count}");
        }
    }

    #[test]
    fn one_false_claim_among_many_is_found_wherever_it_stands() {
        for place in 0..9 {
            for byte in [0, 31, 32, 63] {
                let mut claims = made(9);
                claims[place].signature[byte] ^= 1;
                assert_eq!(together(&claims), Signed::Forged, "signature {place}, byte {byte}");
            }
            let mut claims = made(9);
            claims[place].message[7] ^= 1;
            assert_eq!(together(&claims), Signed::Forged, "message {place}");
            let mut claims = made(9);
            claims[place].public_key = claims[(place + 1) % 9].public_key;
            assert_eq!(together(&claims), Signed::Forged, "key {place}");
        }
    }

    #[test]
    fn a_weak_key_never_holds_together() {
        let mut claims = made(9);
        // Under a key of small order this signature, the identity and zero, fits every message.
        let mut signature = [0; 64];
        signature[0] = 1;
        claims[4] = Made { public_key: WEAK_KEY, message: b"anything".to_vec(), signature };
        assert_eq!(together(&claims), Signed::Forged);
    }
}
