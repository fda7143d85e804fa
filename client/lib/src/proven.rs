//! Entries with their proof: what a node says is in the log is believed under a checkpoint that the policy trusts.

use proofline_proto::v1::{self, entry_core::Body};
use proofline_verifier::{
    EntryError, EntryIndex, LogEntry, LogHash, Outcome, Policy, Refusal as _, TreeError, TreeSize, TrustError, VerifiedCheckpoint,
    parse_path,
};
use thiserror::Error;

use crate::{
    call::CallError,
    client::{Client, Link},
    command::Committed,
    refusal::Refusal,
};

/// Why an entry is not believed to be in the log.
#[derive(Debug, Error)]
pub enum ProofError {
    /// No node gave the entry or its proof; also when no published checkpoint covers it yet.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The caller may not read the entry, so nothing speaks for it or against it.
    #[error("entry {index} could not be checked: this certificate may not read entries ({refusal})")]
    NotAllowed {
        /// Which was asked for.
        index: EntryIndex,
        /// What the node said.
        refusal: Refusal,
    },
    /// The checkpoint of the proof is not trusted under the policy.
    #[error("the checkpoint of {node} is not trusted: {source}")]
    Untrusted {
        /// Who gave it.
        node: String,
        /// Why.
        source: TrustError,
    },
    /// What was given is no entry of that index.
    #[error("{node} gave no entry {index}: {source}")]
    Entry {
        /// Who gave it.
        node: String,
        /// Which was asked for.
        index: EntryIndex,
        /// What is wrong.
        source: EntryError,
    },
    /// The path has hashes of another length.
    #[error("the proof is malformed: {0}")]
    Path(#[from] TreeError),
    /// What was given is not in the tree that the checkpoint is about.
    #[error("NOT IN THE LOG: entry {index} as {node} gave it is not in the tree of {size} entries: {source}")]
    NotIncluded {
        /// Who gave it.
        node: String,
        /// Which was asked for.
        index: EntryIndex,
        /// Entries that the checkpoint covers.
        size: TreeSize,
        /// What does not fit.
        source: TreeError,
    },
    /// The entry is something else than the command that was acknowledged as it.
    #[error("NOT IN THE LOG: {node} acknowledged the command as entry {index}, and entry {index} is something else")]
    OtherEntry {
        /// Who gave the entry.
        node: String,
        /// Which.
        index: EntryIndex,
    },
}

impl ProofError {
    /// Returns whether this proves a node wrong, or leaves the matter undecided.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Untrusted { source, .. } => source.outcome(),
            Self::Entry { source, .. } => source.outcome(),
            Self::NotIncluded { .. } | Self::OtherEntry { .. } => Outcome::Failed,
            Self::Call(_) | Self::NotAllowed { .. } | Self::Path(_) => Outcome::NotChecked,
        }
    }
}

/// An entry that is in the log under a checkpoint that the policy trusts.
#[derive(Clone, Debug)]
pub struct ProvenEntry {
    /// Its exact bytes.
    pub exact: Vec<u8>,
    /// The same, read.
    pub entry: LogEntry,
    /// The tree that it is in.
    pub checkpoint: VerifiedCheckpoint,
    /// The signed note of that tree, to be compared with what is held.
    pub note: Vec<u8>,
}

impl Client {
    /// Fetches an entry and proves that it is in the log; waits a little for one that was committed just now.
    ///
    /// # Errors
    /// [`ProofError`].
    pub async fn proven_entry(&self, policy: &Policy, index: EntryIndex) -> Result<ProvenEntry, ProofError> {
        let exact = self.entry(index).await?;
        self.prove(policy, index, exact).await
    }

    /// Proves that a command is in the log as the entry that a node said it became. Until then its acknowledgement is that
    /// node's word: a node that lies could give one and do nothing.
    ///
    /// # Errors
    /// [`ProofError`]; [`ProofError::OtherEntry`] and [`ProofError::NotIncluded`] are proof that a node lied.
    pub async fn prove_command(
        &self,
        policy: &Policy,
        command: &v1::SignedCommand,
        committed: &Committed,
    ) -> Result<ProvenEntry, ProofError> {
        let index = committed.index;
        // Not everybody who may give commands may read entries; the answer to a command has its own.
        let exact = match &committed.entry {
            Some(exact) => exact.clone(),
            None => self.entry(index).await.map_err(|error| unread(index, error))?,
        };
        let proven = self.prove(policy, index, exact).await?;
        match &proven.entry.body {
            Body::Command(found) if found == command => Ok(proven),
            _ => Err(ProofError::OtherEntry { node: self.link().endpoint().to_owned(), index }),
        }
    }

    async fn prove(&self, policy: &Policy, index: EntryIndex, exact: Vec<u8>) -> Result<ProvenEntry, ProofError> {
        let call = |link: Link| async move { link.audit().get_inclusion_proof(v1::GetInclusionProofRequest { index: index.0 }).await };
        let v1::GetInclusionProofResponse { log_path, checkpoint: note, .. } = self.published(call).await?;
        let node = || self.link().endpoint().to_owned();
        let checkpoint = policy.verify_checkpoint(&note).map_err(|source| ProofError::Untrusted { node: node(), source })?;
        checkpoint.verify_inclusion(&exact, index, &parse_path::<LogHash>(&log_path)?).map_err(|source| ProofError::NotIncluded {
            node: node(),
            index,
            size: checkpoint.size,
            source,
        })?;
        let entry = LogEntry::parse_at(&exact, index).map_err(|source| ProofError::Entry { node: node(), index, source })?;
        Ok(ProvenEntry { exact, entry, checkpoint, note })
    }
}

fn unread(index: EntryIndex, error: CallError) -> ProofError {
    match error {
        CallError::Refused(refusal) if refusal.is_denial() => ProofError::NotAllowed { index, refusal },
        CallError::Refused(_) | CallError::GaveUp { .. } => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::Reason;

    #[test]
    fn what_a_certificate_may_not_read_is_neither_proven_nor_refuted() {
        let refusal = |code, reason| {
            CallError::Refused(Refusal { code, reason, message: String::new(), values: Default::default(), retry_after: None })
        };
        let denied = unread(EntryIndex(4), refusal(Code::PermissionDenied, Reason::LacksRole));
        assert!(matches!(&denied, ProofError::NotAllowed { index: EntryIndex(4), .. }), "{denied}");
        assert_eq!(denied.outcome(), Outcome::NotChecked);
        let missing = unread(EntryIndex(4), refusal(Code::OutOfRange, Reason::BeyondCheckpoint));
        assert!(matches!(missing, ProofError::Call(_)), "{missing}");
    }
}
