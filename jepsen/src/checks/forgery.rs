//! Signs checkpoints with the keys of a cluster: true ones for made-up runs, and false ones that only the log gives away.

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_verifier::{
    Checkpoint, KeyName, LogHash, NoteSignature, Policy, SignatureType, SignedNote, Threshold, TreeHash as _, TreeSize, VerifierKey,
    cosignature_signed_bytes,
};

use crate::history::{CheckpointSeen, Digest};

/// The keys of a log and of its nodes.
#[derive(Clone)]
pub struct Forgery {
    origin: String,
    log: SigningKey,
    nodes: Vec<(String, SigningKey)>,
}

impl Forgery {
    /// Takes the log's key and each node's name and key.
    #[must_use]
    pub fn new(origin: &str, log: SigningKey, nodes: Vec<(String, SigningKey)>) -> Self {
        Self { origin: origin.to_owned(), log, nodes }
    }

    /// Returns the policy that these keys meet: the log, and two of the nodes. None when a name is none.
    #[must_use]
    pub fn policy(&self) -> Option<Policy> {
        let nodes =
            self.nodes.iter().map(|(name, key)| verifier_key(name, SignatureType::CosignatureV1, key)).collect::<Option<Vec<_>>>()?;
        Policy::of_cluster(verifier_key(&self.origin, SignatureType::Ed25519, &self.log)?, nodes, Threshold::Of(2)).ok()
    }

    /// Signs a size and a root with every key.
    #[must_use]
    pub fn sign(&self, size: u64, root: Digest) -> Option<CheckpointSeen> {
        let origin = KeyName::parse(&self.origin).ok()?;
        let text = Checkpoint { origin, size: TreeSize(size), root: LogHash::from_bytes(root.0) }.note_text();
        let log = verifier_key(&self.origin, SignatureType::Ed25519, &self.log)?;
        let mut signatures = vec![NoteSignature::of_log(&log, &self.log.sign(text.as_bytes()).to_bytes())];
        for (name, key) in &self.nodes {
            let signature = key.sign(&cosignature_signed_bytes(1_700_000_000, &text)).to_bytes();
            signatures.push(NoteSignature::of_cosigner(&verifier_key(name, SignatureType::CosignatureV1, key)?, 1_700_000_000, &signature));
        }
        Some(CheckpointSeen { size, root, note: SignedNote::new(text, signatures).ok()?.encode() })
    }
}

fn verifier_key(name: &str, kind: SignatureType, key: &SigningKey) -> Option<VerifierKey> {
    VerifierKey::new(KeyName::parse(name).ok()?, kind, key.verifying_key().as_bytes()).ok()
}
