//! Who held which key and role at which index, re-derived from genesis and the signed commands that follow it.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use thiserror::Error;
use v1::command::Action;

use crate::canonical::{CanonicalError, decode_canonical};
use crate::coordinate::EntryIndex;
use crate::entry::LogEntry;
use crate::policy::Policy;
use crate::report::{Outcome, Refusal};
use crate::signed::{SignedError, verify_command_signature};

/// Why a command in the log is not one that operators of this ledger gave.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Not a canonical command of this version.
    #[error("entry {index}: {source}")]
    Canonical {
        /// Entry of the command.
        index: EntryIndex,
        /// What is wrong.
        source: CanonicalError,
    },
    /// No action that this version knows.
    #[error("entry {index}: the command names no action of this version")]
    NoAction {
        /// Entry of the command.
        index: EntryIndex,
    },
    /// A signer whom nothing in the file registers.
    #[error("entry {index}: nothing in the file registers operator {operator:?}")]
    UnknownOperator {
        /// Entry of the command.
        index: EntryIndex,
        /// Who signed.
        operator: String,
    },
    /// Signed for another ledger.
    #[error("entry {index}: the command was signed for {named:?}")]
    OtherOrigin {
        /// Entry of the command.
        index: EntryIndex,
        /// What the command names.
        named: String,
    },
    /// Committed when it was no longer valid.
    #[error("entry {index}: the command expired before it was committed")]
    Expired {
        /// Entry of the command.
        index: EntryIndex,
    },
    /// A signature does not verify.
    #[error("entry {index}: {source}")]
    Signature {
        /// Entry of the command.
        index: EntryIndex,
        /// What is wrong.
        source: SignedError,
    },
    /// A signer whose registration had ended.
    #[error("entry {index}: operator {operator:?} was revoked by entry {at}")]
    OperatorRevoked {
        /// Entry of the command.
        index: EntryIndex,
        /// Who signed.
        operator: String,
        /// The revoking entry.
        at: EntryIndex,
    },
    /// A signer used a key that is not the registered one.
    #[error("entry {index}: the key is not the one registered for operator {operator:?}")]
    OtherKey {
        /// Entry of the command.
        index: EntryIndex,
        /// Who signed.
        operator: String,
    },
    /// A signer may not give this command.
    #[error("entry {index}: operator {operator:?} does not hold the role that the command needs")]
    RoleMissing {
        /// Entry of the command.
        index: EntryIndex,
        /// Who signed.
        operator: String,
    },
    /// Too few different keys signed.
    #[error("entry {index}: the command needs {needed} signers, it has {signers}")]
    TooFewSigners {
        /// Entry of the command.
        index: EntryIndex,
        /// Different keys that signed.
        signers: usize,
        /// Different keys that must.
        needed: usize,
    },
}

impl Refusal for CommandError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Canonical { .. } | Self::NoAction { .. } | Self::UnknownOperator { .. } => Outcome::NotChecked,
            Self::OtherOrigin { .. }
            | Self::Expired { .. }
            | Self::Signature { .. }
            | Self::OperatorRevoked { .. }
            | Self::OtherKey { .. }
            | Self::RoleMissing { .. }
            | Self::TooFewSigners { .. } => Outcome::Failed,
        }
    }
}

/// What a registry knows of a name at an index.
#[derive(Debug)]
pub enum Tenure<'a, T> {
    /// Nothing in the file registers it before the index.
    Unknown,
    /// Its registration was ended by this entry.
    Ended(EntryIndex),
    /// What is registered.
    Current(&'a T),
}

/// The registrations of one kind of name, each valid after its entry until the next one of the same name.
#[derive(Debug)]
struct Tenures<T>(BTreeMap<String, Vec<(EntryIndex, Option<T>)>>);

impl<T> Tenures<T> {
    fn change(&mut self, name: String, by: EntryIndex, to: Option<T>) {
        self.0.entry(name).or_default().push((by, to));
    }

    fn before(&self, name: &str, index: EntryIndex) -> Tenure<'_, T> {
        let latest = self.0.get(name).and_then(|changes| changes.iter().rev().find(|(by, _)| *by < index));
        match latest {
            None => Tenure::Unknown,
            Some((by, None)) => Tenure::Ended(*by),
            Some((_, Some(registered))) => Tenure::Current(registered),
        }
    }
}

/// Everybody that genesis and the commands given so far register.
#[derive(Debug)]
pub struct Registry {
    origin: String,
    operators: Tenures<v1::OperatorKey>,
    collectors: Tenures<v1::RegisterCollector>,
    nodes: BTreeMap<u64, v1::NodeKey>,
    retired: Vec<(EntryIndex, v1::NodeKey)>,
}

impl Registry {
    /// Starts with what the genesis entry names.
    #[must_use]
    pub fn begin(genesis: &v1::Genesis) -> Self {
        let mut registry = Self {
            origin: genesis.origin.clone(),
            operators: Tenures(BTreeMap::new()),
            collectors: Tenures(BTreeMap::new()),
            nodes: genesis.nodes.iter().map(|node| (node.node_id, node.clone())).collect(),
            retired: Vec::new(),
        };
        for operator in &genesis.operators {
            registry.operators.change(operator.operator_id.clone(), EntryIndex(0), Some(operator.clone()));
        }
        registry
    }

    /// Checks the command in an entry and carries it out. Entries come in the order of the log.
    ///
    /// # Errors
    /// [`CommandError`] when operators who could at that point of the log did not sign it.
    pub fn admit(&mut self, entry: &LogEntry, command: &v1::SignedCommand) -> Result<(), CommandError> {
        let index = entry.index;
        match self.authorised(entry, command)? {
            Action::RegisterCollector(it) => self.collectors.change(it.collector_id.clone(), index, Some(it)),
            Action::RevokeCollector(it) => self.collectors.change(it.collector_id, index, None),
            Action::RegisterOperator(v1::RegisterOperator { operator: Some(it) }) => {
                self.operators.change(it.operator_id.clone(), index, Some(it));
            }
            Action::RevokeOperator(it) => self.operators.change(it.operator_id, index, None),
            Action::RegisterNode(v1::RegisterNode { node: Some(it) }) => drop(self.nodes.insert(it.node_id, it)),
            Action::RetireNode(it) => self.retired.extend(self.nodes.remove(&it.node_id).map(|node| (index, node))),
            Action::RegisterOperator(v1::RegisterOperator { operator: None })
            | Action::RegisterNode(v1::RegisterNode { node: None })
            | Action::RegisterAgent(_)
            | Action::RevokeAgent(_)
            | Action::GrantRole(_)
            | Action::RevokeRole(_)
            | Action::SealSession(_)
            | Action::Contain(_)
            | Action::Release(_)
            | Action::RegisterOutlet(_)
            | Action::RemoveOutlet(_)
            | Action::ResumeOutlet(_)
            | Action::VerifyOutlet(_)
            | Action::ActivateRules(_)
            | Action::DeclarePurpose(_)
            | Action::RegisterServer(_)
            | Action::ResolveApproval(_)
            | Action::WithdrawApproval(_)
            | Action::PinTool(_)
            | Action::ChangeAgentState(_)
            | Action::OpenIncident(_)
            | Action::AdvanceIncident(_)
            | Action::PlaceHold(_)
            | Action::ReleaseHold(_)
            | Action::EraseSubject(_)
            | Action::SetRetention(_) => {}
        }
        Ok(())
    }

    /// Returns what a command does, if operators who could at that point of the log signed it.
    pub(crate) fn authorised(&self, entry: &LogEntry, command: &v1::SignedCommand) -> Result<Action, CommandError> {
        let index = entry.index;
        if command.origin != self.origin {
            return Err(CommandError::OtherOrigin { index, named: command.origin.clone() });
        }
        if command.expires_unix_ns <= entry.committed_unix_ns {
            return Err(CommandError::Expired { index });
        }
        let decoded: v1::Command =
            decode_canonical("Command", &command.command).map_err(|source| CommandError::Canonical { index, source })?;
        let action = decoded.action.ok_or(CommandError::NoAction { index })?;
        let (role, needed) = command_authority(&action);
        let mut signers = BTreeSet::new();
        for signature in &command.signatures {
            self.check_signer(index, signature, role)?;
            verify_command_signature(command, signature).map_err(|source| CommandError::Signature { index, source })?;
            signers.insert(&signature.public_key);
        }
        if signers.len() < needed {
            return Err(CommandError::TooFewSigners { index, signers: signers.len(), needed });
        }
        Ok(action)
    }

    fn check_signer(&self, index: EntryIndex, by: &v1::CommandSignature, role: v1::OperatorRole) -> Result<(), CommandError> {
        let operator = by.operator_id.clone();
        match self.operators.before(&operator, index) {
            Tenure::Unknown => Err(CommandError::UnknownOperator { index, operator }),
            Tenure::Ended(at) => Err(CommandError::OperatorRevoked { index, operator, at }),
            Tenure::Current(known) if known.public_key != by.public_key => Err(CommandError::OtherKey { index, operator }),
            Tenure::Current(known) if !known.roles.contains(&role.into()) => Err(CommandError::RoleMissing { index, operator }),
            Tenure::Current(_) => Ok(()),
        }
    }

    /// Looks up what was registered for a collector when an entry was committed.
    #[must_use]
    pub fn collector(&self, id: &str, at: EntryIndex) -> Tenure<'_, v1::RegisterCollector> {
        self.collectors.before(id, at)
    }

    /// Returns the key of a node that was registered and not retired as of the last command that was admitted.
    #[must_use]
    pub fn node(&self, id: u64) -> Option<&v1::NodeKey> {
        self.nodes.get(&id)
    }

    /// Returns the nodes that were registered and not retired as of the last command that was admitted, in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = &v1::NodeKey> {
        self.nodes.values()
    }

    /// Names the keys of the policy that belong to nodes which the file shows as retired.
    pub(crate) fn retired_keys_in(&self, policy: &Policy) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, witness) in policy.witnesses() {
            for (at, node) in self.retired.iter().filter(|(_, node)| node.public_key == witness.key.public_key()) {
                warnings.push(format!("the policy's witness {name} holds the key of node {}, which entry {at} retired", node.node_id));
            }
        }
        warnings
    }
}

/// Returns the role that a command needs, and from how many different keys.
#[must_use]
pub fn command_authority(action: &Action) -> (v1::OperatorRole, usize) {
    match action {
        Action::RegisterOperator(_)
        | Action::RevokeOperator(_)
        | Action::RegisterNode(_)
        | Action::RetireNode(_)
        | Action::RegisterOutlet(_)
        | Action::RemoveOutlet(_)
        | Action::ActivateRules(_)
        | Action::EraseSubject(_)
        | Action::SetRetention(_) => (v1::OperatorRole::Registrar, 2),
        Action::RegisterCollector(_)
        | Action::RevokeCollector(_)
        | Action::RegisterAgent(_)
        | Action::RevokeAgent(_)
        | Action::GrantRole(_)
        | Action::RevokeRole(_)
        | Action::DeclarePurpose(_)
        | Action::RegisterServer(_)
        | Action::PinTool(_)
        // Two for an agent that is suspended, which the command does not say: a replay of the log shows it.
        | Action::ChangeAgentState(_)
        | Action::ResumeOutlet(_)
        | Action::VerifyOutlet(_) => (v1::OperatorRole::Registrar, 1),
        Action::SealSession(_)
        | Action::Contain(_)
        | Action::ResolveApproval(_)
        | Action::WithdrawApproval(_)
        | Action::OpenIncident(_)
        | Action::AdvanceIncident(_)
        | Action::PlaceHold(_) => (v1::OperatorRole::Responder, 1),
        Action::Release(_) | Action::ReleaseHold(_) => (v1::OperatorRole::Responder, 2),
    }
}
