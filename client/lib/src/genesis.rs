//! What auditors hold of a ledger from its first entry on: whose signatures make a checkpoint.

use proofline_proto::v1;
use proofline_verifier::{KeyError, KeyName, Policy, PolicyLineError, SignatureType, Threshold, VerifierKey};
use thiserror::Error;

/// Why keys give no policy.
#[derive(Debug, Error)]
pub enum GenesisPolicyError {
    /// A name is no key name, or a key is malformed or weak.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Names or keys stand in the way of each other.
    #[error(transparent)]
    Line(#[from] PolicyLineError),
}

/// Makes the trust policy of a ledger that begins so: the log key, and a majority of its nodes.
///
/// # Errors
/// [`GenesisPolicyError`].
pub fn policy_of(genesis: &v1::Genesis) -> Result<Policy, GenesisPolicyError> {
    policy_of_nodes(genesis, &genesis.nodes)
}

/// The same with other nodes than those of the beginning.
pub(crate) fn policy_of_nodes<'a>(
    genesis: &v1::Genesis,
    nodes: impl IntoIterator<Item = &'a v1::NodeKey>,
) -> Result<Policy, GenesisPolicyError> {
    let log = VerifierKey::new(KeyName::parse(&genesis.origin)?, SignatureType::Ed25519, &genesis.log_public_key)?;
    let key = |node: &v1::NodeKey| Ok(VerifierKey::new(KeyName::parse(&node.name)?, SignatureType::CosignatureV1, &node.public_key)?);
    let nodes = nodes.into_iter().map(key).collect::<Result<Vec<_>, GenesisPolicyError>>()?;
    let majority = Threshold::Of(nodes.len() / 2 + 1);
    Ok(Policy::of_cluster(log, nodes, majority)?)
}
