//! Content behind commitments: whose it is, and whether given bytes are what an entry promised. docs/FORMATS.md, section 20.

use proofline_proto::v1;
use thiserror::Error;

/// What a reference begins with that names a subject.
const SUBJECT_PREFIX: &str = "subject:";

/// A principal whose payloads an erasure destroys together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSubject {
    /// Tenant.
    pub tenant_id: String,
    /// Issuer of the pseudonym; may be empty.
    pub issuer: String,
    /// The pseudonym.
    pub subject: String,
}

impl DataSubject {
    /// Reads whose the content behind a commitment of an event is; `None` where the event does not say.
    #[must_use]
    pub fn of(event: &v1::Event, commitment: &v1::Commitment) -> Option<Self> {
        let (issuer, subject) = match commitment.key_ref.strip_prefix(SUBJECT_PREFIX) {
            Some(named) => named.split_once(' ')?,
            None => {
                let initiator = event.attribution.as_ref()?.initiator.as_ref()?;
                (initiator.issuer.as_str(), initiator.subject.as_str())
            }
        };
        let is_named = !subject.is_empty();
        is_named.then(|| Self { tenant_id: event.tenant_id.clone(), issuer: issuer.to_owned(), subject: subject.to_owned() })
    }

    /// Reads whom an erasure is about.
    #[must_use]
    pub fn erased_by(command: &v1::EraseSubject) -> Self {
        Self { tenant_id: command.tenant_id.clone(), issuer: command.issuer.clone(), subject: command.subject.clone() }
    }
}

/// Why given bytes are not what an entry promised.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PayloadMismatch {
    /// Another length.
    #[error("the content has {actual} bytes, the commitment says {committed}")]
    Size {
        /// Given.
        actual: u64,
        /// Promised.
        committed: u64,
    },
    /// No salt of the algorithm.
    #[error("the salt is not 32 bytes")]
    Salt,
    /// Another content or another salt.
    #[error("content and salt do not give the committed digest")]
    Digest,
    /// The algorithm is not one of this version.
    #[error("the commitment names an algorithm that this version does not know")]
    Algorithm,
}

/// Checks that content and salt are what a commitment promised.
///
/// # Errors
/// [`PayloadMismatch`].
pub fn verify_payload(commitment: &v1::Commitment, salt: &[u8], content: &[u8]) -> Result<(), PayloadMismatch> {
    if commitment.algorithm() != v1::CommitmentAlgorithm::Blake3Keyed {
        return Err(PayloadMismatch::Algorithm);
    }
    let (actual, committed) = (content.len() as u64, commitment.size_bytes);
    if actual != committed {
        return Err(PayloadMismatch::Size { actual, committed });
    }
    let salt: &[u8; 32] = salt.try_into().map_err(|_| PayloadMismatch::Salt)?;
    let computed = blake3::keyed_hash(salt, content);
    if computed.as_bytes()[..] == commitment.digest[..] { Ok(()) } else { Err(PayloadMismatch::Digest) }
}
