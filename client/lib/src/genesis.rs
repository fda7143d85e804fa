//! What auditors hold of a ledger from its first entry on.

use proofline_proto::v1;
use proofline_verifier::{KeyError, KeyName, Policy, PolicyLineError, SignatureType, Threshold, VerifierKey};
use thiserror::Error;

/// Why a genesis gives no policy.
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
    let log = VerifierKey::new(KeyName::parse(&genesis.origin)?, SignatureType::Ed25519, &genesis.log_public_key)?;
    let key = |node: &v1::NodeKey| Ok(VerifierKey::new(KeyName::parse(&node.name)?, SignatureType::CosignatureV1, &node.public_key)?);
    let nodes = genesis.nodes.iter().map(key).collect::<Result<Vec<_>, GenesisPolicyError>>()?;
    let majority = Threshold::Of(nodes.len() / 2 + 1);
    Ok(Policy::of_cluster(log, nodes, majority)?)
}
