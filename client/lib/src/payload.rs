//! Payloads: committed to with a salt, handed over, read back and checked.

use proofline_proto::v1;
use proofline_verifier::{EntryIndex, PayloadMismatch, verify_payload};
use thiserror::Error;

use crate::{
    call::CallError,
    client::{Client, Link},
    refusal::Reason,
};

/// Why a payload is not believed, or does not come.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// The ledger refused, or could not be reached in time.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The node gave something else than the entry commits to.
    #[error("the node gave something else than entry {index} commits to: {source}")]
    Wrong {
        /// The entry.
        index: EntryIndex,
        /// What is wrong.
        source: PayloadMismatch,
    },
}

/// What became of a payload that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadRead {
    /// Here it is, checked against the commitment.
    Given {
        /// What its digest was salted with.
        salt: Vec<u8>,
        /// The content.
        content: Vec<u8>,
    },
    /// Its subject was erased.
    Erased {
        /// By which entry.
        by: EntryIndex,
    },
    /// The ledger does not have it, any more or ever.
    NotHeld(Reason),
}

/// Commits to a content: the digest that an event may carry. The salt must be drawn at random, and be kept with the content.
#[must_use]
pub fn commit_to(name: &str, media_type: &str, salt: &[u8; 32], content: &[u8]) -> v1::Commitment {
    v1::Commitment {
        name: name.to_owned(),
        algorithm: v1::CommitmentAlgorithm::Blake3Keyed.into(),
        digest: blake3::keyed_hash(salt, content).as_bytes().to_vec(),
        size_bytes: content.len() as u64,
        media_type: media_type.to_owned(),
        ..Default::default()
    }
}

impl Client {
    /// Hands over what an event of a collector commits to. Again is safe.
    ///
    /// On return: more than half of the voters have it on their disks.
    ///
    /// # Errors
    /// [`CallError`]; a payload that does not fit its commitment is refused with [`Reason::WrongPayload`].
    pub async fn put_payload(&self, request: v1::PutPayloadRequest) -> Result<v1::PutPayloadResponse, CallError> {
        let call = |link: Link| {
            let request = request.clone();
            async move { link.payloads().put_payload(request).await }
        };
        self.call(call).await
    }

    /// Reads a payload and checks it against the commitment that a verified entry carries. It is recorded who asked.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub async fn payload(&self, index: EntryIndex, commitment: &v1::Commitment, purpose: &str) -> Result<PayloadRead, PayloadError> {
        let request = v1::GetPayloadRequest { index: index.0, digest: commitment.digest.clone(), purpose: purpose.to_owned() };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.payloads().get_payload(request).await }
        };
        let error = match self.call(call).await {
            Ok(v1::GetPayloadResponse { salt, content, .. }) => {
                verify_payload(commitment, &salt, &content).map_err(|source| PayloadError::Wrong { index, source })?;
                return Ok(PayloadRead::Given { salt, content });
            }
            Err(error) => error,
        };
        let CallError::Refused(refusal) = &error else { return Err(error.into()) };
        match (refusal.reason, refusal.number("entry")) {
            (Reason::PayloadErased, Some(by)) => Ok(PayloadRead::Erased { by: EntryIndex(by) }),
            (reason @ (Reason::PayloadNotUploaded | Reason::PayloadExpired), _) => Ok(PayloadRead::NotHeld(reason)),
            _ => Err(error.into()),
        }
    }

    /// Asks what became of the erasure of a subject, on every node.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn erasure(&self, request: v1::GetErasureRequest) -> Result<v1::GetErasureResponse, CallError> {
        let call = |link: Link| {
            let request = request.clone();
            async move { link.payloads().get_erasure(request).await }
        };
        self.call(call).await
    }

    /// Asks how long payloads of a tenant are kept.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn retention(&self, tenant_id: &str) -> Result<v1::RetentionReport, CallError> {
        let request = v1::GetRetentionRequest { tenant_id: tenant_id.to_owned() };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.payloads().get_retention(request).await }
        };
        self.call(call).await
    }
}
