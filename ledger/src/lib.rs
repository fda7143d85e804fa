//! The replicated state machine of Proofline and its proof builder.
//!
//! What it holds: collectors' chains, the registry, sessions, and two kinds of Merkle trees over what was committed.
//! What is always true: the same submissions in the same order at the same times give the same bytes everywhere; every
//! change of state that can influence a later entry is itself an entry, so the entries alone re-derive everything.
//! What it does not do: no I/O, no clock, no randomness, no threads. The store it reads through is a [`Store`].

mod activation;
mod approvals;
mod batch;
mod command;
mod completeness;
mod containment;
mod decision;
mod endpoint;
pub mod entry;
mod erasure;
mod event;
mod facts;
mod frontier;
mod hash;
mod holding;
mod ids;
mod incidents;
mod key;
mod ledger;
mod lifecycle;
pub mod limits;
pub mod listing;
mod lists;
mod log;
mod log_proof;
mod note;
mod outbox;
mod outlet;
pub mod outlets;
pub mod payloads;
#[doc(hidden)]
pub mod planted;
mod prepare;
mod quota;
mod refusal;
mod registry;
mod rehearsal;
mod replay;
mod row;
mod rules;
mod session;
mod session_proof;
pub mod signed;
mod simulation;
mod store;
mod subject;
mod writes;

pub use command::check_genesis;
pub use completeness::{
    Carried, CommitmentAt, KeyIndex, Lineage, LineageFault, QuestionProblem, Reach, RecentKeys, Under, confirmed_commitment,
    indexed_commitment, newest_commitment, next_commitment, reach,
};
pub use containment::ContainmentEntry;
pub use endpoint::{Endpoint, Scheme};
pub use event::misformed;
pub use frontier::Frontier;
pub use hash::{ContentHash, Hash, LogHash, TreeHash, batch_digest, facts_digest};
pub use ids::{EntryIndex, Epoch, Lane, Position, Sequence, SessionOrdinal, TreeSize, UnixNanos};
pub use ledger::{Applied, Ledger, Outcome, note_size};
pub use lists::Wanted;
pub use log_proof::LogTree;
pub use outbox::message_id;
pub use outlets::{OutletAt, Waiting};
pub use payloads::{CommittedPayload, Erasure, Retention, Standing, WrongPayload};
pub use prepare::{
    PreparedAccess, PreparedBatch, PreparedCommand, PreparedCommitment, PreparedDelivery, PreparedGroup, PreparedItem, PreparedOpenLane,
};
pub use refusal::Refusal;
pub use registry::cosigners;
pub use rehearsal::Rehearsal;
pub use replay::{Divergence, Replay};
pub use rules::{Consequence, ENGINE, Mode, Rule, RuleFault, RuleProblem, RuleSet};
pub use session_proof::{SessionAt, SignedBatch, session_at, session_entries, session_path};
pub use simulation::{RuleDifference, Simulation};
pub use store::{Change, Changes, Direction, KeyRange, MapStore, Row, Store, StoreFault, Table};
pub use subject::Subject;
