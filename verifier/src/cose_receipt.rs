//! The bytes of a COSE receipt (RFC 9942): that one entry is in the log, signed by the log key alone.
//!
//! The signature covers the root and not the size of the tree, and the subject covers the index.

use ed25519_dalek::Signature;
use thiserror::Error;

use crate::cbor::{CborReader, CborWriter, Major};
use crate::checkpoint::parse_decimal;
use crate::coordinate::{EntryIndex, TreeSize};
use crate::hash::{LogHash, TreeHash};
use crate::key::{KeyId, KeyName, VerifierKey};
use crate::policy::Policy;
use crate::report::{Outcome, Refusal};
use crate::tree::{TreeError, fold_path};
use crate::trust::TrustError;

/// Longest receipt that is parsed.
pub const COSE_RECEIPT_BYTES_MAX: usize = 4096;

/// What every receipt begins with: the tag and the array of `COSE_Sign1`.
pub(crate) const PREFIX: &[u8] = &[0xD2, 0x84];

const PATH_HASHES_MAX: u64 = 64;
const TAG_SIGN1: u64 = 18;
const HEADER_ALGORITHM: i64 = 1;
const HEADER_KEY_ID: i64 = 4;
const HEADER_CLAIMS: i64 = 15;
const HEADER_STRUCTURE: i64 = 395;
const HEADER_PROOFS: i64 = 396;
const CLAIM_ISSUER: i64 = 1;
const CLAIM_SUBJECT: i64 = 2;
const INCLUSION_PROOFS: i64 = -1;
const RFC9162_SHA256: i64 = 1;

/// Why bytes are no receipt that can be decided, or contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CoseReceiptError {
    /// Longer than [`COSE_RECEIPT_BYTES_MAX`].
    #[error("the receipt has {bytes} bytes, at most {COSE_RECEIPT_BYTES_MAX} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the items of a receipt of inclusion, in their order.
    #[error("the file is not a receipt of inclusion with exactly the headers of this format")]
    Form,
    /// Another encoding of the same items.
    #[error("the encoding is not the deterministic one, or bytes stand behind it")]
    NotDeterministic,
    /// Another algorithm than Ed25519.
    #[error("the algorithm is {0}, only -19 and -8 (Ed25519) are known")]
    Algorithm(i64),
    /// Another kind of log tree.
    #[error("the verifiable data structure is {0}, only 1 (RFC9162_SHA256) is known")]
    Structure(i64),
    /// The path has no hash: RFC 9942 cannot say that of a tree of one entry.
    #[error("the path is empty")]
    EmptyPath,
    /// The entry was not given.
    #[error("a receipt does not hold its entry: give the entry's bytes too (--entry)")]
    NoEntry,
    /// The signed subject is about another entry than the proof.
    #[error("the signed subject is entry {subject}, the proof is about entry {index}")]
    OtherSubject {
        /// In the protected header.
        subject: EntryIndex,
        /// In the proof.
        index: EntryIndex,
    },
    /// The path does not fit index and size.
    #[error(transparent)]
    Path(#[from] TreeError),
}

impl Refusal for CoseReceiptError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::OtherSubject { .. } => Outcome::Failed,
            Self::Path(error) => error.outcome(),
            Self::TooLong { .. }
            | Self::Form
            | Self::NotDeterministic
            | Self::Algorithm(_)
            | Self::Structure(_)
            | Self::EmptyPath
            | Self::NoEntry => Outcome::NotChecked,
        }
    }
}

/// The identifiers under which COSE knows Ed25519.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptAlgorithm {
    /// -19: fully specified (RFC 9864). What a ledger writes.
    Ed25519,
    /// -8: deprecated, also accepted.
    EdDsa,
}

impl ReceiptAlgorithm {
    fn number(self) -> i64 {
        match self {
            Self::Ed25519 => -19,
            Self::EdDsa => -8,
        }
    }

    fn of(number: i64) -> Result<Self, CoseReceiptError> {
        match number {
            -19 => Ok(Self::Ed25519),
            -8 => Ok(Self::EdDsa),
            other => Err(CoseReceiptError::Algorithm(other)),
        }
    }
}

/// A receipt as its items say it. [`CoseReceipt::parse`] and [`CoseReceipt::encode`] are inverse to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoseReceipt {
    /// How it is signed.
    pub algorithm: ReceiptAlgorithm,
    /// The key that signed, as in the log's vkey.
    pub key_id: KeyId,
    /// The log; signed.
    pub origin: KeyName,
    /// The entry; signed.
    pub subject: EntryIndex,
    /// Entries in the tree; not signed.
    pub size: TreeSize,
    /// The entry; not signed.
    pub index: EntryIndex,
    /// Siblings, leaf side first.
    pub path: Vec<LogHash>,
    /// Ed25519 over [`CoseReceipt::signed_bytes`].
    pub signature: [u8; 64],
}

impl CoseReceipt {
    /// Parses a receipt strictly. Nothing is verified.
    ///
    /// # Errors
    /// [`CoseReceiptError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CoseReceiptError> {
        if bytes.len() > COSE_RECEIPT_BYTES_MAX {
            return Err(CoseReceiptError::TooLong { bytes: bytes.len() });
        }
        let outer = Outer::read(bytes).ok_or(CoseReceiptError::Form)?;
        let signed = Protected::read(outer.protected).ok_or(CoseReceiptError::Form)?;
        let proof = Proof::read(outer.proof).ok_or(CoseReceiptError::Form)?;
        let algorithm = ReceiptAlgorithm::of(signed.algorithm)?;
        if signed.structure != RFC9162_SHA256 {
            return Err(CoseReceiptError::Structure(signed.structure));
        }
        if proof.path.is_empty() {
            return Err(CoseReceiptError::EmptyPath);
        }
        let Protected { key_id, origin, subject, .. } = signed;
        let Proof { size, index, path } = proof;
        let receipt = Self { algorithm, key_id, origin, subject, size, index, path, signature: outer.signature };
        if receipt.encode() == bytes { Ok(receipt) } else { Err(CoseReceiptError::NotDeterministic) }
    }

    /// Returns the bytes of the receipt.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let proof = CborWriter::default().head(Major::Array, 3).head(Major::Unsigned, self.size.0).head(Major::Unsigned, self.index.0);
        let proof = proof.head(Major::Array, self.path.len() as u64);
        let proof = self.path.iter().fold(proof, |proof, hash| proof.bytes(hash.as_bytes())).finish();
        CborWriter::default()
            .head(Major::Tag, TAG_SIGN1)
            .head(Major::Array, 4)
            .bytes(&self.protected())
            .head(Major::Map, 1)
            .integer(HEADER_PROOFS)
            .head(Major::Map, 1)
            .integer(INCLUSION_PROOFS)
            .head(Major::Array, 1)
            .bytes(&proof)
            .null()
            .bytes(&self.signature)
            .finish()
    }

    /// Returns what the signature covers: the `Sig_structure` of RFC 9052 over the protected header and the root.
    #[must_use]
    pub fn signed_bytes(&self, root: &LogHash) -> Vec<u8> {
        let head = CborWriter::default().head(Major::Array, 4).text("Signature1");
        head.bytes(&self.protected()).bytes(&[]).bytes(root.as_bytes()).finish()
    }

    fn protected(&self) -> Vec<u8> {
        CborWriter::default()
            .head(Major::Map, 4)
            .integer(HEADER_ALGORITHM)
            .integer(self.algorithm.number())
            .integer(HEADER_KEY_ID)
            .bytes(&self.key_id.0)
            .integer(HEADER_CLAIMS)
            .head(Major::Map, 2)
            .integer(CLAIM_ISSUER)
            .text(self.origin.as_str())
            .integer(CLAIM_SUBJECT)
            .text(&self.subject.to_string())
            .integer(HEADER_STRUCTURE)
            .integer(RFC9162_SHA256)
            .finish()
    }

    /// Returns the root that the path leads to from the exact bytes of an entry.
    pub(crate) fn root_over(&self, entry: &[u8]) -> Result<LogHash, CoseReceiptError> {
        if self.subject != self.index {
            return Err(CoseReceiptError::OtherSubject { subject: self.subject, index: self.index });
        }
        Ok(fold_path(LogHash::leaf(entry), self.index.into(), self.size, &self.path)?.whole)
    }

    /// Checks that a log key of the policy signed this root.
    pub(crate) fn verify_signature<'a>(&self, root: &LogHash, policy: &'a Policy) -> Result<&'a VerifierKey, TrustError> {
        let mut keys = policy.logs().iter().map(|log| &log.key).filter(|key| key.name() == &self.origin).peekable();
        if keys.peek().is_none() {
            return Err(TrustError::UnknownOrigin { origin: self.origin.clone() });
        }
        let unknown = || TrustError::UnknownLogKey { origin: self.origin.clone(), id: self.key_id };
        let key = keys.find(|key| key.id() == self.key_id).ok_or_else(unknown)?;
        let forged = |_| TrustError::Forged { name: self.origin.clone(), id: self.key_id };
        key.ed25519().verify_strict(&self.signed_bytes(root), &Signature::from_bytes(&self.signature)).map_err(forged)?;
        Ok(key)
    }
}

/// The items of `COSE_Sign1`.
struct Outer<'a> {
    protected: &'a [u8],
    proof: &'a [u8],
    signature: [u8; 64],
}

impl<'a> Outer<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = CborReader::new(bytes);
        reader.expect(Major::Tag, TAG_SIGN1)?;
        reader.expect(Major::Array, 4)?;
        let protected = reader.bytes()?;
        reader.expect(Major::Map, 1)?;
        label(&mut reader, HEADER_PROOFS)?;
        reader.expect(Major::Map, 1)?;
        label(&mut reader, INCLUSION_PROOFS)?;
        reader.expect(Major::Array, 1)?;
        let proof = reader.bytes()?;
        reader.null()?;
        // What stands behind the signature shows when the receipt is written again.
        Some(Self { protected, proof, signature: reader.bytes()?.try_into().ok()? })
    }
}

/// The protected header.
struct Protected {
    algorithm: i64,
    key_id: KeyId,
    origin: KeyName,
    subject: EntryIndex,
    structure: i64,
}

impl Protected {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = CborReader::new(bytes);
        reader.expect(Major::Map, 4)?;
        label(&mut reader, HEADER_ALGORITHM)?;
        let algorithm = reader.integer()?;
        label(&mut reader, HEADER_KEY_ID)?;
        let key_id = KeyId(reader.bytes()?.try_into().ok()?);
        label(&mut reader, HEADER_CLAIMS)?;
        reader.expect(Major::Map, 2)?;
        label(&mut reader, CLAIM_ISSUER)?;
        let origin = KeyName::parse(reader.text()?).ok()?;
        label(&mut reader, CLAIM_SUBJECT)?;
        let subject = EntryIndex(parse_decimal(reader.text()?)?);
        label(&mut reader, HEADER_STRUCTURE)?;
        let structure = reader.integer()?;
        reader.end()?;
        Some(Self { algorithm, key_id, origin, subject, structure })
    }
}

/// The proof of inclusion.
struct Proof {
    size: TreeSize,
    index: EntryIndex,
    path: Vec<LogHash>,
}

impl Proof {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = CborReader::new(bytes);
        reader.expect(Major::Array, 3)?;
        let size = TreeSize(reader.head(Major::Unsigned)?);
        let index = EntryIndex(reader.head(Major::Unsigned)?);
        let hashes = reader.head(Major::Array).filter(|hashes| *hashes <= PATH_HASHES_MAX)?;
        let path = (0..hashes).map(|_| reader.bytes()?.try_into().ok().map(LogHash::from_bytes)).collect::<Option<_>>()?;
        reader.end()?;
        Some(Self { size, index, path })
    }
}

fn label(reader: &mut CborReader<'_>, label: i64) -> Option<()> {
    (reader.integer()? == label).then_some(())
}
