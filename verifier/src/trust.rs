//! Checkpoints under a policy: from a signed note to a tree head that may be relied on.

use std::collections::BTreeSet;

use ed25519_dalek::Signature;
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError, cosignature_signed_bytes};
use crate::coordinate::{LeafIndex, TreeSize};
use crate::hash::{LogHash, TreeHash};
use crate::key::{KeyId, KeyName, VerifierKey};
use crate::note::{NoteSignature, SignedNote};
use crate::policy::{Policy, Quorum};
use crate::report::{Outcome, Refusal};
use crate::tree::{self, TreeError, TreeHead};

/// Why a checkpoint is not trusted under a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The policy names no log with this origin.
    #[error("the policy names no log with origin {origin}")]
    UnknownOrigin {
        /// What the checkpoint says.
        origin: KeyName,
    },
    /// A key of the log's name signed, but not one that the policy holds.
    #[error("{origin} signed with key {id}, which the policy does not hold")]
    UnknownLogKey {
        /// The log.
        origin: KeyName,
        /// The key it signed with.
        id: KeyId,
    },
    /// The log did not sign.
    #[error("no signature of the log {origin}")]
    NotSignedByLog {
        /// The log.
        origin: KeyName,
    },
    /// A key of the policy signed, and the signature does not verify.
    #[error("the signature of {name} with key {id} does not verify")]
    Forged {
        /// Whose.
        name: KeyName,
        /// Which key.
        id: KeyId,
    },
    /// Too few witnesses of the policy cosigned.
    #[error("quorum {quorum:?} is not met by the cosignatures of {cosigned:?}")]
    QuorumNotMet {
        /// What the policy asks for.
        quorum: String,
        /// Who cosigned.
        cosigned: Vec<String>,
    },
    /// Too few witnesses of the policy cosigned, but keys that it does not hold signed too.
    #[error("quorum {quorum:?} is not met by the cosignatures of {cosigned:?}; the policy does not hold the keys of {unknown:?}")]
    QuorumNotKnown {
        /// What the policy asks for.
        quorum: String,
        /// Who cosigned.
        cosigned: Vec<String>,
        /// Who else signed, as far as their lines say.
        unknown: Vec<String>,
    },
}

impl Refusal for TrustError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Checkpoint(error) => error.outcome(),
            Self::UnknownOrigin { .. } | Self::UnknownLogKey { .. } | Self::QuorumNotKnown { .. } => Outcome::NotChecked,
            Self::NotSignedByLog { .. } | Self::Forged { .. } | Self::QuorumNotMet { .. } => Outcome::Failed,
        }
    }
}

/// A cosignature that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigner {
    /// Name of the witness in the policy.
    pub name: String,
    /// When it cosigned, in seconds since the Unix epoch, by its own clock.
    pub unix_s: u64,
}

/// A tree head that a policy vouches for. Made only by [`Policy::verify_checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedCheckpoint {
    /// The log.
    pub origin: KeyName,
    /// Entries in the log.
    pub size: TreeSize,
    /// Root of the log tree at that size.
    pub root: LogHash,
    /// The log key of the policy that signed.
    pub log_key: VerifierKey,
    /// The witnesses of the policy that cosigned.
    pub cosigners: Vec<Cosigner>,
}

impl VerifiedCheckpoint {
    /// Returns size and root.
    #[must_use]
    pub fn head(&self) -> TreeHead<LogHash> {
        TreeHead { size: self.size, root: self.root }
    }

    /// Checks that the exact bytes of an entry are in the log at an index.
    ///
    /// # Errors
    /// [`TreeError`], always a proof that they are not what the path says.
    pub fn verify_inclusion(&self, entry: &[u8], index: impl Into<LeafIndex>, path: &[LogHash]) -> Result<(), TreeError> {
        tree::verify_inclusion(LogHash::leaf(entry), index.into(), self.size, self.root, path)
    }
}

/// A note whose text is a checkpoint; nothing is verified yet.
pub(crate) struct UnverifiedCheckpoint {
    note: SignedNote,
    pub(crate) checkpoint: Checkpoint,
}

impl UnverifiedCheckpoint {
    pub(crate) fn parse(note: &[u8]) -> Result<Self, CheckpointError> {
        let note = SignedNote::parse(note)?;
        let checkpoint = Checkpoint::parse_text(note.text())?;
        Ok(Self { note, checkpoint })
    }

    /// Finds the signature of a log key of the policy. A wrong signature of any such key refuses the note.
    pub(crate) fn verify_log<'a>(&self, policy: &'a Policy) -> Result<&'a VerifierKey, TrustError> {
        let origin = &self.checkpoint.origin;
        let keys: Vec<_> = policy.logs().iter().map(|log| &log.key).filter(|key| key.name() == origin).collect();
        let mut signed_by = None;
        for &key in &keys {
            if let Some(line) = self.line_of(key) {
                verify(key, self.note.text().as_bytes(), line, &line.signature)?;
                signed_by = Some(key);
            }
        }
        let other_key = self.note.signatures().iter().find(|line| &line.name == origin);
        match (signed_by, other_key) {
            (Some(key), _) => Ok(key),
            (None, _) if keys.is_empty() => Err(TrustError::UnknownOrigin { origin: origin.clone() }),
            (None, Some(line)) => Err(TrustError::UnknownLogKey { origin: origin.clone(), id: line.id }),
            (None, None) => Err(TrustError::NotSignedByLog { origin: origin.clone() }),
        }
    }

    /// Collects the cosignatures of the policy's witnesses and asks whether they are enough. A wrong one refuses the note.
    pub(crate) fn verify_quorum(&self, policy: &Policy) -> Result<Vec<Cosigner>, TrustError> {
        let mut cosigners = Vec::new();
        for (name, witness) in policy.witnesses() {
            if let Some(line) = self.line_of(&witness.key) {
                let unix_s = self.verify_cosignature(&witness.key, line)?;
                cosigners.push(Cosigner { name: name.to_owned(), unix_s });
            }
        }
        let cosigned: BTreeSet<&str> = cosigners.iter().map(|it| it.name.as_str()).collect();
        match policy.quorum() {
            Quorum::Of(quorum) if !policy.is_met_by(&cosigned) => Err(self.quorum_error(policy, quorum, &cosigned)),
            Quorum::Of(_) | Quorum::NotAsked => Ok(cosigners),
        }
    }

    fn verify_cosignature(&self, key: &VerifierKey, line: &NoteSignature) -> Result<u64, TrustError> {
        let forged = || TrustError::Forged { name: line.name.clone(), id: line.id };
        let (time, signature) = line.signature.split_first_chunk::<8>().ok_or_else(forged)?;
        let unix_s = u64::from_be_bytes(*time);
        // C2SP: the time must fit a signed 64-bit number.
        i64::try_from(unix_s).map_err(|_| forged())?;
        verify(key, &cosignature_signed_bytes(unix_s, self.note.text()), line, signature)?;
        Ok(unix_s)
    }

    fn quorum_error(&self, policy: &Policy, quorum: &str, cosigned: &BTreeSet<&str>) -> TrustError {
        let cosigned = cosigned.iter().map(ToString::to_string).collect();
        let is_known = |line: &NoteSignature| {
            let mut keys = policy.logs().iter().chain(policy.witnesses().map(|(_, witness)| witness));
            keys.any(|it| line.is_by(&it.key)) || line.name == self.checkpoint.origin
        };
        let unknown: Vec<_> =
            self.note.signatures().iter().filter(|line| !is_known(line)).map(|line| format!("{}+{}", line.name, line.id)).collect();
        if unknown.is_empty() {
            TrustError::QuorumNotMet { quorum: quorum.to_owned(), cosigned }
        } else {
            TrustError::QuorumNotKnown { quorum: quorum.to_owned(), cosigned, unknown }
        }
    }

    fn line_of(&self, key: &VerifierKey) -> Option<&NoteSignature> {
        self.note.signatures().iter().find(|line| line.is_by(key))
    }

    pub(crate) fn verified(self, log_key: VerifierKey, cosigners: Vec<Cosigner>) -> VerifiedCheckpoint {
        let Checkpoint { origin, size, root } = self.checkpoint;
        VerifiedCheckpoint { origin, size, root, log_key, cosigners }
    }
}

impl Policy {
    /// Verifies a checkpoint: a log of the policy signed it, and the cosignatures meet the quorum.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn verify_checkpoint(&self, note: &[u8]) -> Result<VerifiedCheckpoint, TrustError> {
        let unverified = UnverifiedCheckpoint::parse(note)?;
        let log_key = unverified.verify_log(self)?.clone();
        let cosigners = unverified.verify_quorum(self)?;
        Ok(unverified.verified(log_key, cosigners))
    }
}

/// Checks one cosignature of one key on a checkpoint, whatever any policy says, and returns when it was made.
///
/// # Errors
/// [`TrustError`]; also when the key did not cosign.
pub fn verify_cosigned_by(note: &[u8], key: &VerifierKey) -> Result<u64, TrustError> {
    let unverified = UnverifiedCheckpoint::parse(note)?;
    let missing = || TrustError::QuorumNotMet { quorum: key.name().to_string(), cosigned: Vec::new() };
    unverified.verify_cosignature(key, unverified.line_of(key).ok_or_else(missing)?)
}

fn verify(key: &VerifierKey, message: &[u8], line: &NoteSignature, signature: &[u8]) -> Result<(), TrustError> {
    let forged = || TrustError::Forged { name: line.name.clone(), id: line.id };
    let signature = Signature::from_slice(signature).map_err(|_| forged())?;
    key.ed25519().verify_strict(message, &signature).map_err(|_| forged())
}
