//! The client of a Proofline ledger.
//!
//! It holds what every user of a ledger would otherwise write again: connections to several nodes, retries that are safe,
//! a collector's durable chain, signed commands, checkpoints that are compared with those seen before, and files of evidence.
//! Always true: nothing that a node says about the past is believed without its proof; nothing is sent twice with different
//! content; every error says whether trying again can help.
//! It does not print, ask, or keep anything outside the files that it is given.
//!
//! # Where to begin
//! - [`Profile::load`], then [`Client::connect`]; [`Client::call`] goes from node to node until one answers.
//! - To append: [`Collector`], with a durable journal. [`VolatileLane`] signs without one, for load generators.
//! - To govern: [`sign_command`], [`Signatory::sign`] and [`Client::submit`]; [`Client::prove_command`] proves that what was
//!   acknowledged is in the log; [`Client::change_membership`].
//! - To ask: [`Client::trace`] verifies an answer as it comes, [`Client::export_evidence`] writes it to a file.
//! - To check: [`HeldCheckpoints::compare`], [`EntryReader`], [`Client::session_evidence`], [`Client::tlog_proof`];
//!   [`Client::registered_policy`] says whose signatures make a checkpoint now.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, clippy::indexing_slicing))]

mod archive;
mod call;
mod client;
mod collector;
mod command;
mod entries;
mod evidence_export;
mod export;
mod gathering;
mod genesis;
mod held;
mod journal;
mod key;
mod lane;
mod lineage;
mod log_set;
mod membership;
mod payload;
mod profile;
mod proven;
mod questions;
mod refusal;
mod registered;
mod slow;
mod source;
mod tile;
mod tile_archive;
mod transport;
mod whole_file;

pub use call::{CallError, Fault, RetryPolicy};
pub use client::{Client, Link};
pub use collector::{AppendError, Appended, Collector};
pub use command::{CommandError, Committed, Signatory, sign_command};
pub use entries::{EntryReader, EntryRun, Reading};
pub use evidence_export::{EvidenceExportError, EvidenceOrder, Exported, PayloadsWanted};
pub use export::{ExportError, Receipt, SessionName, SessionView};
pub use gathering::Gathering;
pub use genesis::{GenesisPolicyError, policy_of};
pub use held::{Comparison, HeldCheckpoints, HeldError};
pub use journal::JournalError;
pub use key::{KeyFileError, generate_key, generate_rsa_key, read_key, write_key, write_pem};
pub use lane::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, ChainPosition, EVENT_BYTES_MAX, Epoch, LaneError, LaneName, LaneSigner, Sequence, VolatileLane,
};
pub use lineage::{Lineage, LineageError, TracedPage};
pub use membership::MembershipError;
pub use payload::{PayloadError, PayloadRead, commit_to};
pub use profile::{Endpoint, Profile, ProfileError, TlsFiles};
pub use proven::{ProofError, ProvenEntry};
pub use questions::{
    AccessReview, Authority, Coverage, CredentialHeld, Declared, EpochNumbering, Explanation, LinkFound, LinkName, NotAnAction, Numbering,
    SILENCE_MAX_NS, Use, authority_of, coverage_of, explain, numbering_of, review_access,
};
pub use refusal::{Reason, Refusal};
pub use registered::RegisteredError;
pub use slow::Slow;
pub use source::{SourceEvent, SourceKey};
pub use tile_archive::{ArchiveFinding, Archived, TileArchive, TileArchiveError};
pub use transport::TlsError;
pub use whole_file::{Existing, write_file};
