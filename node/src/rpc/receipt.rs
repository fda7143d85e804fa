//! COSE receipts: what the log key says of one entry, under the newest published checkpoint.
//!
//! Only roots that are published are signed: a majority cosigned them before.

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_ledger::EntryIndex;
use proofline_proto::v1::GetReceiptResponse;
use proofline_verifier::{CoseReceipt, KeyName, LogHash, ReceiptAlgorithm, SignatureType, TreeHash as _, TreeSize, VerifierKey};
use tonic::Status;

use super::{
    reading::{View, fault},
    status::{again, beyond},
};

/// Signs a receipt for an entry that is published.
pub(super) fn receipt(view: &View, index: EntryIndex, origin: &str, log_key: &SigningKey) -> Result<GetReceiptResponse, Status> {
    let mut tree = view.tree();
    let path = tree.inclusion_path(index).map_err(fault)?.ok_or_else(|| beyond(view.size().0))?;
    if path.is_empty() {
        return Err(again("NOT_PUBLISHED", "a log of one entry has no path, which a receipt cannot say; the next entry ends that"));
    }
    let root = LogHash::from_bytes(tree.root().map_err(fault)?.0);
    let origin = KeyName::parse(origin).map_err(|error| Status::internal(error.to_string()))?;
    let key = VerifierKey::new(origin.clone(), SignatureType::Ed25519, log_key.verifying_key().as_bytes());
    let key = key.map_err(|error| Status::internal(error.to_string()))?;
    let mut receipt = CoseReceipt {
        algorithm: ReceiptAlgorithm::Ed25519,
        key_id: key.id(),
        origin,
        subject: proofline_verifier::EntryIndex(index.0),
        size: TreeSize(view.size().0),
        index: proofline_verifier::EntryIndex(index.0),
        path: path.iter().map(|hash| LogHash::from_bytes(hash.0)).collect(),
        signature: [0; 64],
    };
    receipt.signature = log_key.sign(&receipt.signed_bytes(&root)).to_bytes();
    Ok(GetReceiptResponse { receipt: receipt.encode(), checkpoint: view.published.note.clone() })
}
