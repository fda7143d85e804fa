//! The part of a file that says whose keys count: genesis, and the commands that registered and revoked.

use proofline_proto::v1;
use thiserror::Error;
use v1::entry_core::Body;

use crate::completeness::{SetProofError, fold_set};
use crate::coordinate::{EntryIndex, LeafIndex};
use crate::entry::{EntryError, LogEntry};
use crate::evidence::verify_proven;
use crate::hash::{LogHash, TreeHash};
use crate::registry::{CommandError, Registry};
use crate::report::{Outcome, Refusal};
use crate::tree::{TreeError, parse_path};
use crate::trust::VerifiedCheckpoint;

/// Why the registrations of a file do not say whose keys count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum RegistrationError {
    #[error("entry {index}: {source}")]
    NotIncluded { index: EntryIndex, source: TreeError },
    #[error("the registrations: {0}")]
    SetNotIncluded(#[source] SetProofError),
    #[error("entry {index}: {source}")]
    Entry { index: EntryIndex, source: EntryError },
    #[error("entry {index} stands behind entry {previous}")]
    IndexFalls { previous: EntryIndex, index: EntryIndex },
    #[error("the registrations do not begin with the genesis entry")]
    NoGenesis,
    #[error("the genesis entry is of {named:?}")]
    OtherOrigin { named: String },
    #[error("the genesis entry names another log key than the one of the policy that signed the checkpoint")]
    OtherLogKey,
    #[error("entry {index} is no command")]
    NoCommand { index: EntryIndex },
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl Refusal for RegistrationError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Entry { source, .. } => source.outcome(),
            Self::Command(error) => error.outcome(),
            Self::NoGenesis => Outcome::NotChecked,
            Self::NotIncluded { .. }
            | Self::SetNotIncluded(_)
            | Self::IndexFalls { .. }
            | Self::OtherOrigin { .. }
            | Self::OtherLogKey
            | Self::NoCommand { .. } => Outcome::Failed,
        }
    }
}

/// Checks that each registration stands in the log at its index, and parses it. Indexes rise.
pub(super) fn verify(of: &[v1::ProvenEntry], checkpoint: &VerifiedCheckpoint) -> Result<Vec<LogEntry>, RegistrationError> {
    let mut proven: Vec<LogEntry> = Vec::with_capacity(of.len());
    for one in of {
        let index = EntryIndex(one.index);
        verify_proven(one, checkpoint).map_err(|source| RegistrationError::NotIncluded { index, source })?;
        if let Some(previous) = proven.last().map(|entry| entry.index).filter(|previous| *previous >= index) {
            return Err(RegistrationError::IndexFalls { previous, index });
        }
        proven.push(LogEntry::parse_at(&one.entry, index).map_err(|source| RegistrationError::Entry { index, source })?);
    }
    Ok(proven)
}

/// Checks the registrations of a file of evidence: they stand in the log under one set proof, and their indexes rise.
pub(super) fn verify_set(of: &v1::Registrations, checkpoint: &VerifiedCheckpoint) -> Result<Vec<LogEntry>, RegistrationError> {
    let leaves: Vec<_> = of.entries.iter().map(|one| (LeafIndex(one.index), LogHash::leaf(&one.entry))).collect();
    let computed = parse_path::<LogHash>(&of.log_path).map_err(Into::into).and_then(|path| fold_set(checkpoint.size, &leaves, &path));
    let computed = computed.map_err(RegistrationError::SetNotIncluded)?;
    if computed != checkpoint.root {
        let mismatch = TreeError::RootMismatch { computed: computed.to_string(), expected: checkpoint.root.to_string() };
        return Err(RegistrationError::SetNotIncluded(mismatch.into()));
    }
    let parse = |one: &v1::IndexedEntry| {
        let index = EntryIndex(one.index);
        LogEntry::parse_at(&one.entry, index).map_err(|source| RegistrationError::Entry { index, source })
    };
    of.entries.iter().map(parse).collect()
}

/// Finds the genesis entry, and checks that it is of this ledger and names the log key that the policy trusts.
pub(super) fn genesis<'a>(proven: &'a [LogEntry], checkpoint: &VerifiedCheckpoint) -> Result<&'a v1::Genesis, RegistrationError> {
    let Some(LogEntry { index: EntryIndex(0), body: Body::Genesis(genesis), .. }) = proven.first() else {
        return Err(RegistrationError::NoGenesis);
    };
    if genesis.origin != checkpoint.origin.as_str() {
        return Err(RegistrationError::OtherOrigin { named: genesis.origin.clone() });
    }
    if genesis.log_public_key != checkpoint.log_key.public_key() {
        return Err(RegistrationError::OtherLogKey);
    }
    Ok(genesis)
}

/// Carries out the commands behind the genesis entry, each checked against what the ones before it registered.
pub(super) fn replay(genesis: &v1::Genesis, proven: &[LogEntry]) -> Result<Registry, RegistrationError> {
    let mut registry = Registry::begin(genesis);
    for entry in proven.iter().skip(1) {
        match &entry.body {
            Body::Command(command) => registry.admit(entry, command)?,
            Body::Event(_)
            | Body::Genesis(_)
            | Body::Rejection(_)
            | Body::Equivocation(_)
            | Body::LaneOpened(_)
            | Body::LaneClosed(_)
            | Body::Containment(_)
            | Body::OutletDelivery(_)
            | Body::StateCommitment(_)
            | Body::AccessRecorded(_)
            | Body::ErasureDeferred(_) => {
                return Err(RegistrationError::NoCommand { index: entry.index });
            }
        }
    }
    Ok(registry)
}
