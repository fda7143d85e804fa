//! The text of a consistency proof: that a newer checkpoint continues an older one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::checkpoint::{parse_base64_hash, parse_decimal};
use crate::coordinate::TreeSize;
use crate::hash::{LogHash, TreeHash};
use crate::key::KeyName;
use crate::policy::Policy;
use crate::report::{Outcome, Refusal};
use crate::tree::{self, TreeError, TreeHead};
use crate::trust::{TrustError, VerifiedCheckpoint};

/// First line of a consistency proof of this version.
pub const CONSISTENCY_PROOF_HEADER: &str = "proofline/consistency-proof/v1";
/// Longest consistency proof that is parsed.
pub const CONSISTENCY_PROOF_BYTES_MAX: usize = 16 * 1024;

/// Why two checkpoints are not shown to be of one growing log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConsistencyError {
    /// The proof is not in the form of this version.
    #[error("the consistency proof is malformed: it is the line {CONSISTENCY_PROOF_HEADER}, old SIZE, new SIZE, and base64 hashes")]
    Form,
    /// The other checkpoint is not trusted under the policy.
    #[error("the other checkpoint: {0}")]
    OtherCheckpoint(#[source] TrustError),
    /// The checkpoints are of two logs.
    #[error("the other checkpoint is of {other}, this one of {origin}")]
    OtherOrigin {
        /// Origin of this checkpoint.
        origin: KeyName,
        /// Origin of the other.
        other: KeyName,
    },
    /// The sizes differ and no proof was given.
    #[error("from size {older} to size {newer} a consistency proof is needed")]
    NoProof {
        /// Size of the older checkpoint.
        older: TreeSize,
        /// Size of the newer checkpoint.
        newer: TreeSize,
    },
    /// The proof is about other sizes.
    #[error("the proof leads from size {from} to {to}, the checkpoints have {older} and {newer}")]
    OtherSizes {
        /// Older size in the proof.
        from: TreeSize,
        /// Newer size in the proof.
        to: TreeSize,
        /// Size of the older checkpoint.
        older: TreeSize,
        /// Size of the newer checkpoint.
        newer: TreeSize,
    },
    /// The proof does not lead to the roots.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Refusal for ConsistencyError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Form | Self::NoProof { .. } | Self::OtherSizes { .. } | Self::OtherOrigin { .. } => Outcome::NotChecked,
            Self::OtherCheckpoint(error) => error.outcome(),
            Self::Tree(error) => error.outcome(),
        }
    }
}

/// A path from one tree size to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// Size of the older tree.
    pub older: TreeSize,
    /// Size of the newer tree.
    pub newer: TreeSize,
    /// The path of RFC 9162 section 2.1.4.
    pub path: Vec<LogHash>,
}

impl ConsistencyProof {
    /// Parses a consistency proof strictly.
    ///
    /// # Errors
    /// [`ConsistencyError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConsistencyError> {
        if bytes.len() > CONSISTENCY_PROOF_BYTES_MAX {
            return Err(ConsistencyError::Form);
        }
        Self::parse_text(bytes).ok_or(ConsistencyError::Form)
    }

    fn parse_text(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split('\n');
        lines.next().filter(|&line| line == CONSISTENCY_PROOF_HEADER)?;
        let older = parse_decimal(lines.next()?.strip_prefix("old ")?)?;
        let newer = parse_decimal(lines.next()?.strip_prefix("new ")?)?;
        let path = lines.map(parse_base64_hash).collect::<Option<_>>()?;
        Some(Self { older: TreeSize(older), newer: TreeSize(newer), path })
    }

    /// Returns the text of the proof.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{CONSISTENCY_PROOF_HEADER}\nold {}\nnew {}\n", self.older, self.newer);
        for hash in &self.path {
            text.push_str(&format!("{}\n", STANDARD.encode(hash.as_bytes())));
        }
        text
    }
}

/// A checkpoint that the reader held before, and a proof that it and the one in a file are of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldCheckpoint {
    /// The signed note.
    pub checkpoint: Vec<u8>,
    /// The path between the two sizes; not needed when they are equal.
    pub proof: Option<ConsistencyProof>,
}

impl HeldCheckpoint {
    /// Checks that this checkpoint and a verified one are of one log that only grew, whichever of them is the older.
    ///
    /// # Errors
    /// [`ConsistencyError`].
    pub fn verify_with(&self, other: &VerifiedCheckpoint, policy: &Policy) -> Result<TreeSize, ConsistencyError> {
        self.verify_with_head(&other.origin, other.head(), policy)
    }

    /// As [`HeldCheckpoint::verify_with`], for a tree head that the log key signed; returns the size of this checkpoint.
    pub(crate) fn verify_with_head(
        &self,
        origin: &KeyName,
        other: TreeHead<LogHash>,
        policy: &Policy,
    ) -> Result<TreeSize, ConsistencyError> {
        let held = policy.verify_checkpoint(&self.checkpoint).map_err(ConsistencyError::OtherCheckpoint)?;
        if &held.origin != origin {
            return Err(ConsistencyError::OtherOrigin { origin: origin.clone(), other: held.origin });
        }
        let (older, newer) = if held.size <= other.size { (held.head(), other) } else { (other, held.head()) };
        let path = match &self.proof {
            _ if older.size == newer.size => &[][..],
            None => return Err(ConsistencyError::NoProof { older: older.size, newer: newer.size }),
            Some(proof) if (proof.older, proof.newer) != (older.size, newer.size) => {
                return Err(ConsistencyError::OtherSizes { from: proof.older, to: proof.newer, older: older.size, newer: newer.size });
            }
            Some(proof) => &proof.path[..],
        };
        tree::verify_consistency(older, newer, path)?;
        Ok(held.size)
    }
}
