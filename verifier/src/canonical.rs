//! The canonical encoding: fields in number order, defaults omitted, nothing unknown, nothing after the end.

use prost::Message;
use thiserror::Error;

use crate::report::{Outcome, Refusal};

/// Why bytes are not a message of this contract.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CanonicalError {
    /// The bytes cannot be parsed: truncated, or another format.
    #[error("{message} cannot be parsed: {reason}")]
    Unreadable {
        /// Name of the message type.
        message: &'static str,
        /// What the parser met.
        reason: String,
    },
    /// The bytes parse, but a writer of this version would have written others: an unknown field, or a second encoding.
    #[error("{message} has {bytes} bytes, its canonical encoding in this version {canonical}, and they differ")]
    NotCanonical {
        /// Name of the message type.
        message: &'static str,
        /// Bytes given.
        bytes: usize,
        /// Bytes of the canonical encoding.
        canonical: usize,
    },
}

impl Refusal for CanonicalError {
    fn outcome(&self) -> Outcome {
        Outcome::NotChecked
    }
}

/// Decodes a message and compares its re-encoding with the bytes, so that one message has one encoding.
///
/// # Errors
/// [`CanonicalError`]; a message that is not canonical has no agreed meaning and is undecided.
pub fn decode_canonical<M: Message + Default>(message: &'static str, bytes: &[u8]) -> Result<M, CanonicalError> {
    let decoded = M::decode(bytes).map_err(|error| CanonicalError::Unreadable { message, reason: error.to_string() })?;
    let canonical = decoded.encode_to_vec();
    if canonical == bytes {
        Ok(decoded)
    } else {
        Err(CanonicalError::NotCanonical { message, bytes: bytes.len(), canonical: canonical.len() })
    }
}
