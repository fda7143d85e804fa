//! What collectors and operators sign: fixed layouts, and their one check, Ed25519 `verify_strict`.
//!
//! Layouts: strings with a 16-bit length before them, integers big-endian, keys and hashes as they are.

use ed25519_dalek::Signature;
use proofline_proto::v1;
use thiserror::Error;

use crate::hash::{BatchDigest, ContentHash, TreeHash};
use crate::key::parse_public_key;
use crate::report::{Outcome, Refusal};
use crate::tree::Frontier;

/// Label of the bytes that a batch signature covers.
pub const BATCH_LABEL: &str = "proofline/batch/v1";
/// Label of the bytes that the signature of a lane's opening covers.
pub const OPEN_LANE_LABEL: &str = "proofline/open-lane/v1";
/// Label of the bytes that a command signature covers.
pub const COMMAND_LABEL: &str = "proofline/command/v1";

/// Label of the bytes that a node's signature of a delivery covers.
pub const OUTLET_DELIVERY_LABEL: &str = "proofline/outlet-delivery/v1";

/// Why signed bytes or their signature are refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignedError {
    /// A field has another length than the layout gives it.
    #[error("{field} has {bytes} bytes, the signed layout takes {expected}")]
    FieldLength {
        /// Name of the field.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// What the layout takes.
        expected: &'static str,
    },
    /// The public key is no canonical point, or of small order.
    #[error("the Ed25519 key of {signer:?} is malformed or weak")]
    Key {
        /// Who is said to have signed.
        signer: String,
    },
    /// The key did not sign these bytes.
    #[error("the signature of {signer:?} does not verify")]
    Forged {
        /// Who is said to have signed.
        signer: String,
    },
}

impl Refusal for SignedError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// Signed bytes under construction.
struct Layout(Vec<u8>);

impl Layout {
    fn new(label: &str, origin: &str) -> Result<Self, SignedError> {
        Self(Vec::with_capacity(256)).text("label", label)?.text("origin", origin)
    }

    fn text(mut self, field: &'static str, text: &str) -> Result<Self, SignedError> {
        let wrong = |_| SignedError::FieldLength { field, bytes: text.len(), expected: "at most 65535" };
        let length = u16::try_from(text.len()).map_err(wrong)?;
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
        Ok(self)
    }

    fn exactly<const N: usize>(mut self, field: &'static str, bytes: &[u8]) -> Result<Self, SignedError> {
        let expected = if N == 16 { "exactly 16" } else { "exactly 32" };
        let exact: &[u8; N] = bytes.try_into().map_err(|_| SignedError::FieldLength { field, bytes: bytes.len(), expected })?;
        self.0.extend_from_slice(exact);
        Ok(self)
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
}

/// Returns the bytes that a batch signature covers.
///
/// # Errors
/// [`SignedError::FieldLength`].
pub fn batch_signed_bytes(origin: &str, of: &v1::BatchStatement) -> Result<Vec<u8>, SignedError> {
    Layout::new(BATCH_LABEL, origin)?
        .exactly::<32>("public_key", &of.public_key)?
        .text("collector_id", &of.collector_id)?
        .u32(of.lane)
        .u64(of.epoch)
        .u64(of.sequence)
        .exactly::<32>("previous", &of.previous)?
        .u32(of.event_count)
        .exactly::<32>("events_root", &of.events_root)
        .map(|layout| layout.0)
}

/// Returns the bytes that the signature of a lane's opening covers.
///
/// # Errors
/// [`SignedError::FieldLength`].
pub fn open_lane_signed_bytes(origin: &str, of: &v1::SignedOpenLane) -> Result<Vec<u8>, SignedError> {
    Layout::new(OPEN_LANE_LABEL, origin)?
        .exactly::<32>("public_key", &of.public_key)?
        .text("collector_id", &of.collector_id)?
        .u32(of.lane)
        .exactly::<16>("nonce", &of.nonce)
        .map(|layout| layout.0)
}

/// Returns the bytes that each signature of a command covers; the origin is the one that the command names.
///
/// # Errors
/// [`SignedError::FieldLength`].
pub fn command_signed_bytes(of: &v1::SignedCommand) -> Result<Vec<u8>, SignedError> {
    let wrong = |_| SignedError::FieldLength { field: "command", bytes: of.command.len(), expected: "at most 4294967295" };
    let length = u32::try_from(of.command.len()).map_err(wrong)?;
    let mut layout = Layout::new(COMMAND_LABEL, &of.origin)?.exactly::<16>("nonce", &of.nonce)?.u64(of.expires_unix_ns).u32(length);
    layout.0.extend_from_slice(&of.command);
    Ok(layout.0)
}

/// Returns the bytes that a node's signature of a delivery covers.
///
/// # Errors
/// [`SignedError::FieldLength`].
pub fn outlet_delivery_signed_bytes(origin: &str, of: &v1::OutletDelivery) -> Result<Vec<u8>, SignedError> {
    let layout = Layout::new(OUTLET_DELIVERY_LABEL, origin)?
        .exactly::<32>("public_key", &of.public_key)?
        .text("outlet_id", &of.outlet_id)?
        .u64(of.containment_id)
        .u64(of.entry_index)
        .u32(of.ordinal)
        .text("jti", &of.jti)?
        .u32(of.result.cast_unsigned())
        .u32(of.http_status)
        .text("error", &of.error)?
        .u32(of.attempts)
        .u64(of.first_attempt_unix_ns)
        .u64(of.answered_unix_ns)
        .u64(of.node_id);
    Ok(layout.0)
}

/// Returns the root of the tree over the exact bytes of a batch's events.
#[must_use]
pub fn events_root(events: &[impl AsRef<[u8]>]) -> ContentHash {
    let mut tree = Frontier::default();
    for event in events {
        tree.push(ContentHash::leaf(event.as_ref()));
    }
    tree.root()
}

/// Checks the signature of a batch statement and returns the digest that the next batch of the lane names.
///
/// # Errors
/// [`SignedError`].
pub fn verify_statement(origin: &str, of: &v1::BatchStatement) -> Result<BatchDigest, SignedError> {
    let signed = batch_signed_bytes(origin, of)?;
    verify_signature(&of.collector_id, &of.public_key, &signed, &of.signature)?;
    Ok(BatchDigest::of(&signed))
}

/// Checks the signature of a lane's opening.
///
/// # Errors
/// [`SignedError`].
pub fn verify_open_lane(origin: &str, of: &v1::SignedOpenLane) -> Result<(), SignedError> {
    verify_signature(&of.collector_id, &of.public_key, &open_lane_signed_bytes(origin, of)?, &of.signature)
}

/// Checks one signature of a command. Says nothing of who may sign it.
///
/// # Errors
/// [`SignedError`].
pub fn verify_command_signature(of: &v1::SignedCommand, by: &v1::CommandSignature) -> Result<(), SignedError> {
    verify_signature(&by.operator_id, &by.public_key, &command_signed_bytes(of)?, &by.signature)
}

/// Checks the signature of a delivery. Says nothing of whose key it is.
///
/// # Errors
/// [`SignedError`].
pub fn verify_outlet_delivery(origin: &str, of: &v1::OutletDelivery) -> Result<(), SignedError> {
    verify_signature(&format!("node {}", of.node_id), &of.public_key, &outlet_delivery_signed_bytes(origin, of)?, &of.signature)
}

fn verify_signature(signer: &str, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), SignedError> {
    let key = parse_public_key(public_key).ok_or_else(|| SignedError::Key { signer: signer.to_owned() })?;
    let forged = || SignedError::Forged { signer: signer.to_owned() };
    let signature = Signature::from_slice(signature).map_err(|_| forged())?;
    key.verify_strict(message, &signature).map_err(|_| forged())
}
