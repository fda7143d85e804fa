//! The policy of a ledger as it stands now: its log key, and a majority of the nodes that are registered and not retired.
//!
//! The whole log is read, and must be the tree of a checkpoint that a policy trusts already; every command in it must be one
//! that operators of this ledger could give. What a node says of the registry by itself is not asked for.

use proofline_proto::v1::{self, entry_core::Body};
use proofline_verifier::{
    CommandError, EntryError, EntryIndex, Frontier, LogEntry, LogHash, Outcome, Policy, Refusal as _, Registry, TreeHash as _, TreeHead,
    TreeSize, VerifiedCheckpoint,
};
use thiserror::Error;

use crate::{
    call::CallError,
    client::Client,
    entries::{EntryReader, Reading},
    genesis::{GenesisPolicyError, policy_of_nodes},
};

/// Why the log gives no policy.
#[derive(Debug, Error)]
pub enum RegisteredError {
    /// No node gave the entries.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What was given is no entry of that index.
    #[error("entry {index} as it was given is none: {source}")]
    Entry {
        /// Which.
        index: EntryIndex,
        /// What is wrong with it.
        source: EntryError,
    },
    /// The first entry is not the genesis.
    #[error("the first entry is no genesis")]
    NoGenesis,
    /// A command in the log is not one that operators of this ledger could give.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What was given is another tree than the one of the checkpoint.
    #[error("NOT THE LOG: the {size} entries that were given are not those of the checkpoint")]
    OtherTree {
        /// Entries that were given.
        size: TreeSize,
    },
    /// The nodes make no policy.
    #[error(transparent)]
    Policy(#[from] GenesisPolicyError),
}

impl RegisteredError {
    /// Returns whether this proves the ledger, or the node that was asked, wrong.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Entry { source, .. } => source.outcome(),
            Self::Command(error) => error.outcome(),
            Self::NoGenesis | Self::OtherTree { .. } => Outcome::Failed,
            Self::Call(_) | Self::Policy(_) => Outcome::NotChecked,
        }
    }
}

impl Client {
    /// Reads the log up to a checkpoint and returns the policy of the nodes that are registered there. Tells how many entries
    /// came.
    ///
    /// # Errors
    /// [`RegisteredError`].
    pub async fn registered_policy(&self, checkpoint: &VerifiedCheckpoint, read: impl Fn(u64)) -> Result<Policy, RegisteredError> {
        let mut entries = EntryReader::new(self.clone(), EntryIndex(0), Reading::Until(EntryIndex(checkpoint.size.0)));
        let mut registrations = Registrations::default();
        while let Some(run) = entries.next().await? {
            run.entries.iter().try_for_each(|entry| registrations.take(entry))?;
            read(run.entries.len() as u64);
        }
        registrations.policy(checkpoint)
    }
}

/// What the entries so far say of nodes.
#[derive(Debug, Default)]
struct Registrations {
    tree: Frontier<LogHash>,
    known: Option<(v1::Genesis, Registry)>,
}

impl Registrations {
    fn take(&mut self, exact: &[u8]) -> Result<(), RegisteredError> {
        let index = EntryIndex(self.tree.size().0);
        self.tree.push(LogHash::leaf(exact));
        let entry = LogEntry::parse_at(exact, index).map_err(|source| RegisteredError::Entry { index, source })?;
        match (&mut self.known, &entry.body) {
            (None, Body::Genesis(genesis)) => self.known = Some((genesis.clone(), Registry::begin(genesis))),
            (None, _) => return Err(RegisteredError::NoGenesis),
            (Some((_, registry)), Body::Command(command)) => registry.admit(&entry, command)?,
            // Nothing else registers anybody.
            (Some(_), _) => (),
        }
        Ok(())
    }

    fn policy(&self, checkpoint: &VerifiedCheckpoint) -> Result<Policy, RegisteredError> {
        let read = TreeHead { size: self.tree.size(), root: self.tree.root() };
        if read != checkpoint.head() {
            return Err(RegisteredError::OtherTree { size: read.size });
        }
        let (genesis, registry) = self.known.as_ref().ok_or(RegisteredError::NoGenesis)?;
        Ok(policy_of_nodes(genesis, registry.nodes())?)
    }
}

#[cfg(test)]
mod tests;
