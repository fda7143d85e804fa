//! Checks Proofline evidence offline. It trusts neither the agent nor the ledger: only a policy file and mathematics.
//!
//! It holds the verification of everything that leaves a ledger, and the bytes that signatures cover. It opens no file,
//! reads no clock, uses no network and shares no code with the ledger beyond the message types; formats and algorithms are
//! those of `docs/FORMATS.md`.
//!
//! Always true: what cannot be read, or needs a key or version that is not at hand, is *undecided*; what was read and
//! contradicts itself, a signature or a root is *proven wrong* ([`Refusal::outcome`]). Sizes come from signed checkpoints
//! alone. Every format has one encoding, and nothing unauthenticated in a file changes what is reported.
//!
//! # Files
//! [`verify`] recognises and checks a `.tlog-proof`, `.session-proof` or `.session-evidence` file; the [`Report`] lists each
//! check by name, the two verdicts [`Integrity`] and [`Completeness`], and what is not proven. The same for parsed messages:
//! [`verify_tlog_proof`], [`verify_session_proof`], [`verify_session_evidence`]. [`verify_cose_receipt`] takes the entry beside the file.
//!
//! [`HtmlReport`] makes a page for people of verified evidence. [`verify_evidence`] shows pages as they are verified.
//!
//! # Pieces, for clients and nodes
//! - Trust: [`Policy::parse`], [`Policy::of_cluster`], [`Policy::encode`]; [`Policy::verify_checkpoint`] gives a
//!   [`VerifiedCheckpoint`], whose [`VerifiedCheckpoint::verify_inclusion`] takes an entry; [`HeldCheckpoint::verify_with`]
//!   compares two checkpoints.
//! - Trees: [`verify_inclusion`], [`verify_consistency`], [`fold_path`] over [`LogHash`] (SHA-256) or [`ContentHash`] (BLAKE3);
//!   [`Frontier`] and [`events_root`] give roots.
//! - Notes: [`SignedNote`], [`NoteSignature`], [`Checkpoint::note_text`], [`cosignature_signed_bytes`],
//!   [`VerifierKey`] (vkeys), [`TlogProof::encode`], [`ConsistencyProof::encode`].
//! - Completeness: [`AnswerVerifier`] takes the pages of an answer; [`EntryKeys`] are what entries are found by; [`fold_set`].
//! - Registrations: [`Registry::begin`], [`Registry::admit`], [`Registry::collector`].
//! - Signed bytes: [`batch_signed_bytes`], [`open_lane_signed_bytes`], [`command_signed_bytes`], [`BatchDigest::of`], and their
//!   checks [`verify_statement`], [`verify_open_lane`], [`verify_command_signature`].

mod canonical;
mod cbor;
mod checkpoint;
mod completeness;
mod consistency;
mod control;
mod coordinate;
mod cose_receipt;
mod entry;
mod evidence;
mod hash;
mod html;
mod json;
mod key;
mod note;
mod payload;
mod policy;
mod registry;
mod report;
mod reports;
mod rfc3339;
mod signed;
mod terminal;
mod tlog_proof;
mod tree;
mod trust;

pub use canonical::{CanonicalError, decode_canonical};
pub use checkpoint::{Checkpoint, CheckpointError, cosignature_signed_bytes};
pub use completeness::{
    AnswerError, AnswerFault, AnswerSummary, AnswerVerifier, BatchPartError, CommitmentError, DEPTH_MAX, Direction, EntryKey, EntryKeys,
    Extent, FoundEntry, KEY_ENTRY_CONTEXT, KeyHash, LineageEdge, LineageNode, MAP_KEY_CONTEXT, MAP_LEAF_CONTEXT, MAP_NODE_CONTEXT,
    MapError, PageEntryError, Question, QuestionError, RangeError, STARTS_MAX, SetProofError, VerifiedPage, WalkError, WindowError,
    dimension_name, fold_set,
};
pub use consistency::{CONSISTENCY_PROOF_BYTES_MAX, CONSISTENCY_PROOF_HEADER, ConsistencyError, ConsistencyProof, HeldCheckpoint};
pub use control::{Control, ControlRules, controls, shipped_rules};
pub use coordinate::{EntryIndex, LeafIndex, SessionPosition, TreeSize};
pub use cose_receipt::{COSE_RECEIPT_BYTES_MAX, CoseReceipt, CoseReceiptError, ReceiptAlgorithm};
pub use entry::{ENTRY_BYTES_MAX, EntryError, LogEntry, SessionPlace};
pub use evidence::{
    EVIDENCE_FORMAT, Manifest, ManifestError, ManifestMember, SESSION_EVIDENCE_FORMAT, verify, verify_cose_receipt, verify_evidence,
    verify_session_evidence, verify_session_proof, verify_tlog_proof,
};
pub use hash::{
    BATCH_STATEMENT_CONTEXT, BatchDigest, ContentHash, FACTS_CONTEXT, LogHash, TREE_LEAF_CONTEXT, TREE_NODE_CONTEXT, TreeHash, facts_digest,
};
pub use html::HtmlReport;
pub use json::VERIFY_SCHEMA;
pub use key::{KeyError, KeyId, KeyName, SignatureType, VerifierKey};
pub use note::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX, NoteError, NoteSignature, SignedNote};
pub use payload::{DataSubject, PayloadMismatch, verify_payload};
pub use policy::{POLICY_BYTES_MAX, Policy, PolicyDraft, PolicyError, PolicyKey, PolicyLineError, Quorum, Threshold};
pub use registry::{CommandError, Registry, Tenure, command_authority};
pub use report::{Check, CheckName, Completeness, EvidenceKind, Fact, Integrity, NotProven, Outcome, Refusal, Report};
pub use reports::{FileReport, FileReports};
pub use rfc3339::of_nanoseconds as rfc3339_of_nanoseconds;
pub use signed::{
    BATCH_LABEL, COMMAND_LABEL, OPEN_LANE_LABEL, OUTLET_DELIVERY_LABEL, SignedError, batch_signed_bytes, command_signed_bytes, events_root,
    open_lane_signed_bytes, outlet_delivery_signed_bytes, verify_command_signature, verify_open_lane, verify_outlet_delivery,
    verify_statement,
};
pub use terminal::{escape, escape_json};
pub use tlog_proof::{TLOG_PROOF_BYTES_MAX, TLOG_PROOF_HEADER, TlogProof, TlogProofError};
pub use tree::{Frontier, PathRoots, TreeError, TreeHead, fold_path, parse_hash, parse_path, verify_consistency, verify_inclusion};
pub use trust::{Cosigner, TrustError, VerifiedCheckpoint, verify_cosigned_by};
